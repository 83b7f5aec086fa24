//! Looking rows up as of the commit.

use rowbridge_api::Op;

use super::super::story::{Row, Values, of_row};
use super::super::table::{COLUMNS, Col};
use super::reading::{Found, View};
use super::value::compare;
use super::{Unreadable, World};

impl View<'_> {
    /// The row of a lookup of this rule, or nothing where that may be.
    pub(super) fn look_up(&self, number: usize) -> Result<Option<Row>, Unreadable> {
        let lookup = &self.lookups[number];
        let mut values = Values::new();
        for (_, place) in &lookup.by {
            match self.read(*place)? {
                Found::Is(Some(value)) => values.push(Some(value)),
                // Nothing equals null, whatever the others are.
                Found::Is(None) | Found::Nothing => break,
            }
        }
        let columns: Vec<Col> = lookup.by.iter().map(|(column, _)| *column).collect();
        let found = match values.len() == columns.len() {
            true => self
                .world
                .find(self.transaction, lookup.table, &columns, &values),
            false => None,
        };
        match (found, lookup.may_miss) {
            (None, false) => Err(Unreadable),
            (found, _) => Ok(found),
        }
    }
}

impl World<'_> {
    /// The row with these values when the transaction had committed, or else the last one of it that the transaction
    /// deleted, as it was.
    fn find(
        self,
        transaction: usize,
        table: usize,
        columns: &[Col],
        values: &Values,
    ) -> Option<Row> {
        let transaction = &self.story.transactions[transaction];
        let is_it = |row: &&Row| {
            let cells = of_row(row, columns).into_iter().zip(columns).zip(values);
            let mut cells = cells.map(|((cell, column), value)| match (cell, value) {
                (Some(cell), Some(value)) => compare(COLUMNS[*column].2, cell, value).is_eq(),
                _ => false,
            });
            cells.all(|is_equal| is_equal)
        };
        let there = transaction.rows[table].values().find(is_it);
        there.copied().or_else(|| {
            let changes = transaction.changes.iter().rev();
            let deleted = changes.filter(|change| change.table == table && change.op == Op::Delete);
            deleted
                .filter_map(|change| change.before)
                .find(|row| is_it(&row))
        })
    }
}
