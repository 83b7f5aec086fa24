//! Batches to the lines of a capture.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_api::{Batch, Change, Item, Position, Shape, ShapeId, TableName, Transaction};
use serde::Serialize;

use super::{ColumnLine, End, Header, TableLine, delimiters};
use crate::mapping::Mapping;
use crate::mapping::change_document::{ChangeDocument, Protection};

/// How much was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub changes: u64,
    pub transactions: u64,
}

/// Writes what a source sends as lines. Changes of tables that no rule reads are left out.
#[derive(Debug)]
pub struct Writer {
    mapping: Arc<Mapping>,
    header: Header,
    is_begun: bool,
    start: Option<Position>,
    /// What rules read, per table.
    tables: Vec<Read>,
    /// Nothing for a table that no rule reads.
    shapes: HashMap<ShapeId, Option<Leaving>>,
    transaction: Option<Transaction>,
    /// Some change of the open transaction was written.
    has_changes: bool,
    position: Option<Position>,
    counts: Counts,
}

/// A table that rules read.
#[derive(Debug)]
struct Read {
    /// Number of the table in the mapping.
    number: usize,
    short: String,
    source: TableName,
    columns: Vec<String>,
    /// The shape line that holds, and which shape was last found to have it.
    announced: Vec<u8>,
    current: Option<ShapeId>,
}

/// What of a shape's columns leaves the source.
#[derive(Debug)]
struct Leaving {
    shape: Arc<Shape>,
    /// Number of the table among those that rules read.
    table: usize,
    columns: Vec<usize>,
}

impl Writer {
    /// Writes `header` before everything else.
    #[must_use]
    pub fn new(mapping: &Arc<Mapping>, header: Header) -> Self {
        let read = |(number, (short, source)): (usize, (&str, &TableName))| {
            let needs = mapping
                .needs()
                .iter()
                .find(|needs| needs.table == *source)?;
            Some(Read {
                number,
                short: short.to_owned(),
                source: source.clone(),
                columns: needs.columns.iter().map(|need| need.name.clone()).collect(),
                announced: Vec::new(),
                current: None,
            })
        };
        Self {
            header,
            is_begun: false,
            start: None,
            tables: mapping.tables().enumerate().filter_map(read).collect(),
            mapping: Arc::clone(mapping),
            shapes: HashMap::new(),
            transaction: None,
            has_changes: false,
            position: None,
            counts: Counts::default(),
        }
    }

    /// Appends the lines of the next item of `batch`.
    pub fn item(&mut self, batch: &Batch, item: &Item, out: &mut Vec<u8>) {
        match item {
            Item::Shape(shape) => {
                let leaving = self.leaving(shape);
                if let Some(leaving) = &leaving {
                    self.tables[leaving.table].current = None;
                }
                self.shapes.insert(shape.id, leaving);
            }
            Item::Begin(transaction) => {
                self.begin(&transaction.position, out);
                self.transaction = Some(transaction.clone());
            }
            Item::Change(change) => self.change(batch, change, out),
            Item::Commit(commit) => {
                self.begin(&commit.position, out);
                if std::mem::take(&mut self.has_changes) {
                    self.counts.transactions += 1;
                    let position = &commit.position;
                    line(
                        &serde_json::json!({ "commit": { "position": position.to_string() } }),
                        out,
                    );
                }
                self.transaction = None;
                self.position = Some(commit.position.clone());
            }
            Item::SnapshotEnd(position) => self.begin(position, out),
        }
    }

    /// Appends the last line, and the header if nothing came.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.write_header(out);
        let end = End {
            changes: self.counts.changes,
            transactions: self.counts.transactions,
            position: self.position.as_ref().map(Position::to_string),
            whole: !self.has_changes,
        };
        line(&serde_json::json!({ "end": end }), out);
    }

    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Where it began, once that is known.
    #[must_use]
    pub const fn start(&self) -> Option<&Position> {
        self.start.as_ref()
    }

    /// Where the last transaction ended.
    #[must_use]
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether a transaction of which something was written is open.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        self.has_changes
    }

    fn begin(&mut self, position: &Position, out: &mut Vec<u8>) {
        if !self.is_begun {
            self.header.begin_at(position);
            self.start = Some(position.clone());
            self.write_header(out);
        }
    }

    fn write_header(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_begun, true) {
            line(&self.header, out);
        }
    }

    /// What leaves the source: of the tables that rules read, the columns that rules read and the key, but for those
    /// that are dropped. The one place that decides it.
    fn leaving(&self, shape: &Arc<Shape>) -> Option<Leaving> {
        let mut tables = self.tables.iter();
        let table = tables.position(|read| read.source == shape.table)?;
        let is_read = |name: &String| self.tables[table].columns.contains(name);
        let columns = shape.columns.iter().enumerate();
        let columns = columns.filter(|(_, column)| column.key || is_read(&column.name));
        let protection = self.protection(table);
        let columns = columns.filter(|(_, column)| protection.lets_out(&column.name));
        Some(Leaving {
            shape: Arc::clone(shape),
            table,
            columns: columns.map(|(index, _)| index).collect(),
        })
    }

    /// How the columns of a table leave.
    fn protection(&self, table: usize) -> Protection<'_> {
        let table = &self.mapping.tables[self.tables[table].number];
        Protection::of(table, self.mapping.hash_key.as_ref())
    }

    fn change(&mut self, batch: &Batch, change: &Change, out: &mut Vec<u8>) {
        let Some(Some(leaving)) = self.shapes.get(&change.shape) else {
            return;
        };
        let Some(transaction) = &self.transaction else {
            return;
        };
        let read = &mut self.tables[leaving.table];
        if read.current != Some(change.shape) {
            read.current = Some(change.shape);
            let mut shape = Vec::new();
            line(
                &serde_json::json!({ "shape": leaving.line(&read.short) }),
                &mut shape,
            );
            if shape != read.announced {
                out.extend_from_slice(&shape);
                read.announced = shape;
            }
        }
        let document = ChangeDocument {
            table: &read.short,
            shape: &leaving.shape,
            batch,
            tx: transaction,
            change,
            identity: &self.header.identity,
            protection: Protection::of(
                &self.mapping.tables[read.number],
                self.mapping.hash_key.as_ref(),
            ),
        };
        document.write_exact(&leaving.columns, out);
        out.push(b'\n');
        self.has_changes = true;
        self.counts.changes += 1;
    }
}

impl Leaving {
    fn line(&self, short: &str) -> TableLine {
        let columns = self.columns.iter().map(|index| &self.shape.columns[*index]);
        TableLine {
            table: short.to_owned(),
            schema: self.shape.table.schema.clone(),
            name: self.shape.table.name.clone(),
            columns: columns
                .map(|column| ColumnLine {
                    name: column.name.clone(),
                    ty: column.ty.name.clone(),
                    delimiters: delimiters::untold(&column.ty),
                    key: column.key,
                })
                .collect(),
        }
    }
}

fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value).expect("writing JSON to memory cannot fail");
    out.push(b'\n');
}
