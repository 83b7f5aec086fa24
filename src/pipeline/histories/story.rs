//! What happens to the rows: the whole history, each change as it was, and as its source tells it.

use std::collections::BTreeMap;

use rowbridge_api::Op;

use super::table::{CODE, COLUMNS, Col, ID, Identity, PART, PRICE, Table, Value, values};
use super::tape::Tape;

/// One row, by column; columns that its table does not have are null.
pub(super) type Row = [Value; COLUMNS.len()];

/// The values of some of a row's columns.
pub(super) type Values = Vec<Value>;

/// The rows of a table, by key.
pub(super) type Rows = BTreeMap<Values, Row>;

/// A cell as the source sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Sent(Value),
    LeftOut,
}

/// A row as the source sends it.
pub(super) type Image = [Cell; COLUMNS.len()];

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) table: usize,
    pub(super) op: Op,
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    pub(super) sent_before: Option<Image>,
    pub(super) sent_after: Option<Image>,
}

/// What became visible at one moment.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) changes: Vec<Change>,
    /// Every table's rows when it had committed.
    pub(super) rows: Vec<Rows>,
}

/// The whole history: first the rows that exist, as if they were read in one transaction.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) transactions: Vec<Transaction>,
}

pub(super) fn of_row(row: &Row, columns: &[Col]) -> Values {
    columns.iter().map(|column| row[*column]).collect()
}

impl Story {
    /// What tapes make happen to empty tables; `seeds` before the story begins.
    pub(super) fn tell(tables: &[Table], seeds: &[Vec<u8>], transactions: &[Vec<Vec<u8>>]) -> Self {
        let mut telling = Telling {
            tables,
            rows: vec![Rows::new(); tables.len()],
            changes: Vec::new(),
        };
        for seed in seeds {
            let mut tape = Tape::new(seed);
            let table = tape.pick(tables.len());
            telling.insert(table, &mut tape);
        }
        telling.keep_indexes();
        let exist = telling.rows.iter().enumerate();
        let read = exist.flat_map(|(table, rows)| rows.values().map(move |row| read(table, *row)));
        telling.changes = read.collect();
        let mut told = vec![telling.commit()];
        for transaction in transactions {
            for change in transaction {
                telling.happen(&mut Tape::new(change));
            }
            telling.keep_indexes();
            told.push(telling.commit());
        }
        Self { transactions: told }
    }
}

fn read(table: usize, row: Row) -> Change {
    Change {
        table,
        op: Op::Read,
        before: None,
        after: Some(row),
        sent_before: None,
        sent_after: Some(row.map(Cell::Sent)),
    }
}

struct Telling<'a> {
    tables: &'a [Table],
    rows: Vec<Rows>,
    changes: Vec<Change>,
}

impl Telling<'_> {
    fn commit(&mut self) -> Transaction {
        Transaction {
            changes: std::mem::take(&mut self.changes),
            rows: self.rows.clone(),
        }
    }

    fn happen(&mut self, tape: &mut Tape<'_>) {
        let table = tape.pick(self.tables.len());
        let choice = tape.pick(9);
        let rows = &self.rows[table];
        if rows.is_empty() || choice == 0 {
            self.insert(table, tape);
            return;
        }
        let number = tape.pick(rows.len());
        let Some(row) = rows.values().nth(number).copied() else {
            return;
        };
        match choice {
            1 | 2 => self.update(table, row, tape),
            3 | 4 => self.delete(table, row),
            5 => {
                let moved = self.with_key(table, row, tape);
                self.change(table, row, moved, tape);
            }
            6 => {
                self.delete(table, row);
                let again = self.another(table, row, tape);
                self.put(table, again);
            }
            7 => self.change(table, row, row, tape),
            _ if tape.once_in(2) => self.truncate(table),
            _ => self.update(table, row, tape),
        }
    }

    fn insert(&mut self, table: usize, tape: &mut Tape<'_>) {
        let empty = [None; COLUMNS.len()];
        let keyed = self.with_key(table, empty, tape);
        let row = self.another(table, keyed, tape);
        let key = of_row(&row, &self.tables[table].key);
        if key.contains(&None) || self.rows[table].contains_key(&key) {
            return;
        }
        self.put(table, row);
    }

    fn put(&mut self, table: usize, row: Row) {
        self.rows[table].insert(of_row(&row, &self.tables[table].key), row);
        self.changes.push(Change {
            table,
            op: Op::Insert,
            before: None,
            after: Some(row),
            sent_before: None,
            sent_after: Some(row.map(Cell::Sent)),
        });
    }

    /// The row under another key, if none is there.
    fn with_key(&self, table: usize, row: Row, tape: &mut Tape<'_>) -> Row {
        let mut moved = row;
        moved[ID] = Some(tape.one_of(values(COLUMNS[ID].2)));
        moved[PART] = Some(tape.one_of(values(COLUMNS[PART].2)));
        let key = of_row(&moved, &self.tables[table].key);
        match self.rows[table].contains_key(&key) {
            true => row,
            false => moved,
        }
    }

    /// The row with other values beside its key.
    fn another(&self, table: usize, row: Row, tape: &mut Tape<'_>) -> Row {
        let mut another = row;
        let table = &self.tables[table];
        for column in &table.columns {
            if !table.key.contains(column) {
                another[*column] = value(*column, tape);
            }
        }
        another
    }

    fn update(&mut self, table: usize, row: Row, tape: &mut Tape<'_>) {
        let known = &self.tables[table];
        let mut updated = row;
        for _ in 0..=tape.pick(2) {
            let column = tape.one_of(&known.columns);
            if !known.key.contains(&column) {
                updated[column] = value(column, tape);
            }
        }
        self.change(table, row, updated, tape);
    }

    fn change(&mut self, table: usize, before: Row, after: Row, tape: &mut Tape<'_>) {
        let known = &self.tables[table];
        let (old_key, new_key) = (of_row(&before, &known.key), of_row(&after, &known.key));
        self.rows[table].remove(&old_key);
        self.rows[table].insert(new_key, after);
        let mut sent_after = after.map(Cell::Sent);
        for column in known
            .columns
            .iter()
            .copied()
            .filter(|column| is_large(*column))
        {
            if before[column] == after[column] && tape.once_in(2) {
                sent_after[column] = Cell::LeftOut;
            }
        }
        self.changes.push(Change {
            table,
            op: Op::Update,
            before: Some(before),
            after: Some(after),
            sent_before: Some(known.old(&before)),
            sent_after: Some(sent_after),
        });
    }

    fn delete(&mut self, table: usize, row: Row) {
        let known = &self.tables[table];
        self.rows[table].remove(&of_row(&row, &known.key));
        self.changes.push(Change {
            table,
            op: Op::Delete,
            before: Some(row),
            after: None,
            sent_before: Some(known.old(&row)),
            sent_after: None,
        });
    }

    fn truncate(&mut self, table: usize) {
        self.rows[table].clear();
        self.changes.push(Change {
            table,
            op: Op::Truncate,
            before: None,
            after: None,
            sent_before: None,
            sent_after: None,
        });
    }

    /// An index finds one row: it is looked at when a transaction commits, as a deferred constraint is.
    fn keep_indexes(&mut self) {
        for table in 0..self.tables.len() {
            let Some(index) = &self.tables[table].index else {
                continue;
            };
            let mut seen = Vec::new();
            let mut twice = Vec::new();
            for row in self.rows[table].values() {
                let found = of_row(row, index);
                match seen.contains(&found) && !found.contains(&None) {
                    true => twice.push(*row),
                    false => seen.push(found),
                }
            }
            for row in twice {
                let mut lonely = row;
                lonely[CODE] = None;
                self.change(table, row, lonely, &mut Tape::new(&[]));
            }
        }
    }
}

/// A column's value; the last choice is null.
fn value(column: Col, tape: &mut Tape<'_>) -> Value {
    let values = values(COLUMNS[column].2);
    let number = tape.pick(values.len() + 1);
    values.get(number).copied()
}

/// Whether the values of a column may be so large that the source does not send them again.
fn is_large(column: Col) -> bool {
    column >= CODE && column != PRICE
}

impl Table {
    /// The old row of an update or a delete, as the source sends it: where it sends none, the key did not change.
    fn old(&self, row: &Row) -> Image {
        let mut image = row.map(Cell::Sent);
        for (column, cell) in image.iter_mut().enumerate() {
            if self.identity == Identity::Key && !self.key.contains(&column) {
                *cell = Cell::LeftOut;
            }
        }
        image
    }
}
