//! The suite's table, what is written to it, and what a reader makes of it.

use std::collections::BTreeMap;

use super::Violation;
use crate::batch::{Batch, Cell, Change, Op, Row as CellRow, Transaction};
use crate::position::Position;
use crate::shape::Shape;

/// A row of the suite's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub name: Option<String>,
    /// May be large.
    pub notes: Option<String>,
}

impl Row {
    /// A small row.
    #[must_use]
    pub fn new(id: i64) -> Self {
        Self {
            id,
            name: Some(format!("name {id}")),
            notes: Some(format!("notes {id}")),
        }
    }
}

/// One statement of a transaction on the suite's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Insert(Row),
    /// `UPDATE .. SET name = .. WHERE id = ..`
    Rename {
        id: i64,
        name: Option<String>,
    },
    /// `UPDATE .. SET id = to WHERE id = from`
    Rekey {
        from: i64,
        to: i64,
    },
    Delete {
        id: i64,
    },
}

impl Write {
    pub(super) fn insert(id: i64) -> Self {
        Self::Insert(Row::new(id))
    }

    pub(super) fn rename(id: i64, name: &str) -> Self {
        Self::Rename {
            id,
            name: Some(name.to_owned()),
        }
    }

    /// The operation, and the key before and after it, as a source must report them.
    fn effect(&self) -> (Op, Option<i64>, Option<i64>) {
        match self {
            Self::Insert(row) => (Op::Insert, None, Some(row.id)),
            Self::Rename { id, .. } => (Op::Update, Some(*id), Some(*id)),
            Self::Rekey { from, to } => (Op::Update, Some(*from), Some(*to)),
            Self::Delete { id } => (Op::Delete, Some(*id), None),
        }
    }
}

/// A cell as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Value(String),
    Null,
    Unavailable,
}

impl From<Option<String>> for Read {
    fn from(cell: Option<String>) -> Self {
        cell.map_or(Self::Null, Self::Value)
    }
}

/// A row image as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) id: Read,
    pub(super) name: Read,
    pub(super) notes: Read,
}

impl From<Row> for Image {
    fn from(row: Row) -> Self {
        Self {
            id: Read::Value(row.id.to_string()),
            name: row.name.into(),
            notes: row.notes.into(),
        }
    }
}

impl Image {
    fn read(shape: &Shape, row: &CellRow<'_>) -> Result<Self, Violation> {
        let cell = |name: &str| {
            let index = shape.columns.iter().position(|column| column.name == name);
            let index = index.ok_or_else(|| {
                Violation::new(format!("column {name} is missing from the shape"))
            })?;
            Ok::<_, Violation>(match row.cell(index) {
                Cell::Value(bytes) => Read::Value(String::from_utf8_lossy(bytes).into_owned()),
                Cell::Null => Read::Null,
                Cell::Unavailable => Read::Unavailable,
            })
        };
        Ok(Self {
            id: cell("id")?,
            name: cell("name")?,
            notes: cell("notes")?,
        })
    }

    pub(super) fn key(&self) -> Option<i64> {
        match &self.id {
            Read::Value(text) => text.parse().ok(),
            Read::Null | Read::Unavailable => None,
        }
    }
}

/// A change as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) transaction: Transaction,
    pub(super) ordinal: u64,
    pub(super) op: Op,
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
}

impl Seen {
    pub(super) fn read(
        transaction: &Transaction,
        shape: &Shape,
        batch: &Batch,
        change: &Change,
    ) -> Result<Self, Violation> {
        let image = |row: Option<CellRow<'_>>| row.map(|row| Image::read(shape, &row)).transpose();
        Ok(Self {
            transaction: transaction.clone(),
            ordinal: change.ordinal,
            op: change.op,
            before: image(batch.before(change))?,
            after: image(batch.after(change))?,
        })
    }

    fn effect(&self) -> (Op, Option<i64>, Option<i64>) {
        let key = |image: &Option<Image>| image.as_ref().and_then(Image::key);
        (self.op, key(&self.before), key(&self.after))
    }
}

/// What a source sent, one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Begin(Transaction),
    Change(Seen),
    Commit(Position),
    /// A position with no transaction before it: may come or not.
    Idle(Position),
    SnapshotEnd(Position),
}

/// The changes of a stream, in order.
pub(super) fn changes(messages: &[Message]) -> Vec<&Seen> {
    let changes = messages.iter().filter_map(|message| match message {
        Message::Change(seen) => Some(seen),
        _ => None,
    });
    changes.collect()
}

/// Holds what was read of a stream against what was written, in order, nothing missing or repeated.
pub(super) fn compare_with_writes(
    messages: &[Message],
    writes: &[Vec<Write>],
) -> Result<(), Violation> {
    let read: Vec<_> = changes(messages).into_iter().map(Seen::effect).collect();
    let written: Vec<_> = writes.iter().flatten().map(Write::effect).collect();
    match read
        .iter()
        .zip(&written)
        .position(|(read, written)| read != written)
    {
        Some(at) => Err(Violation::new(format!(
            "change {at} of the stream is {:?}, written was {:?}",
            read[at], written[at]
        ))),
        None if read.len() != written.len() => Err(Violation::new(format!(
            "{} changes were read, {} written",
            read.len(),
            written.len()
        ))),
        None => Ok(()),
    }
}

/// The table as the writes leave it.
pub(super) fn table_after(writes: &[Vec<Write>]) -> BTreeMap<i64, Image> {
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    for write in writes.iter().flatten() {
        match write {
            Write::Insert(row) => drop(rows.insert(row.id, row.clone())),
            Write::Rename { id, name } => {
                if let Some(row) = rows.get_mut(id) {
                    row.name.clone_from(name);
                }
            }
            Write::Rekey { from, to } => {
                if let Some(row) = rows.remove(from) {
                    rows.insert(*to, Row { id: *to, ..row });
                }
            }
            Write::Delete { id } => drop(rows.remove(id)),
        }
    }
    rows.into_iter().map(|(id, row)| (id, row.into())).collect()
}

/// The table as a consumer rebuilds it from the changes: the last image of each key, unavailable cells
/// being those of the image before.
pub(super) fn fold(messages: &[Message]) -> BTreeMap<i64, Image> {
    let mut rows: BTreeMap<i64, Image> = BTreeMap::new();
    for seen in changes(messages) {
        let (_, old_key, new_key) = seen.effect();
        let old = old_key.or(new_key).and_then(|key| rows.remove(&key));
        if let (Some(key), Some(mut image)) = (new_key, seen.after.clone()) {
            // A snapshot may have read the row under the key that it only gets here.
            if let Some(old) = old.or_else(|| rows.remove(&key)) {
                let keep = |new: &mut Read, old: Read| {
                    if *new == Read::Unavailable {
                        *new = old;
                    }
                };
                keep(&mut image.name, old.name);
                keep(&mut image.notes, old.notes);
            }
            rows.insert(key, image);
        }
    }
    rows
}
