//! Tables of the fake database, and the images of a change as the server would send them.

use std::collections::BTreeMap;

use crate::batch::Op;
use crate::shape::{Column, Shape, ShapeId, TableName};
use crate::value::Type;

/// What the server sends of a row's old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// Only the key, and of an update only where the key changed.
    Default,
    /// All columns.
    Full,
}

/// A table to be created.
#[derive(Clone, Debug)]
pub struct FakeTable {
    pub name: TableName,
    /// Name and type of each column.
    pub columns: Vec<(String, String)>,
    /// Columns of the primary key.
    pub key: Vec<String>,
    /// Columns whose values the server leaves out of an update that did not touch them.
    pub toasted: Vec<String>,
    pub identity: ReplicaIdentity,
}

impl FakeTable {
    /// A table in schema `public` whose first column is its key, with replica identity full.
    #[must_use]
    pub fn new(name: &str, columns: &[(&str, &str)]) -> Self {
        let columns: Vec<_> = columns
            .iter()
            .map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned()))
            .collect();
        Self {
            name: TableName::new("public", name),
            key: columns
                .iter()
                .take(1)
                .map(|(name, _)| name.clone())
                .collect(),
            columns,
            toasted: Vec::new(),
            identity: ReplicaIdentity::Full,
        }
    }
}

/// A cell of a row: its text form or null.
pub(super) type Stored = Option<String>;

/// One change of a transaction to be committed. Tables go by their name without the schema, cells by
/// position in the table, keys by the text of their columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeChange {
    Insert {
        table: String,
        row: Vec<Option<String>>,
    },
    /// Sets some cells of the row with this key.
    Update {
        table: String,
        key: Vec<String>,
        set: Vec<(String, Option<String>)>,
    },
    Delete {
        table: String,
        key: Vec<String>,
    },
    Truncate {
        table: String,
    },
}

impl FakeChange {
    /// Inserts a row; one text per column.
    #[must_use]
    pub fn insert(table: &str, row: &[Option<&str>]) -> Self {
        Self::Insert {
            table: table.to_owned(),
            row: row.iter().map(|cell| cell.map(str::to_owned)).collect(),
        }
    }

    /// Sets columns of the row whose key is the single column `key`.
    #[must_use]
    pub fn update(table: &str, key: &str, set: &[(&str, Option<&str>)]) -> Self {
        Self::Update {
            table: table.to_owned(),
            key: vec![key.to_owned()],
            set: set
                .iter()
                .map(|(column, cell)| ((*column).to_owned(), cell.map(str::to_owned)))
                .collect(),
        }
    }

    /// Deletes the row whose key is the single column `key`.
    #[must_use]
    pub fn delete(table: &str, key: &str) -> Self {
        Self::Delete {
            table: table.to_owned(),
            key: vec![key.to_owned()],
        }
    }

    pub(super) fn table(&self) -> &str {
        match self {
            Self::Insert { table, .. }
            | Self::Update { table, .. }
            | Self::Delete { table, .. }
            | Self::Truncate { table } => table,
        }
    }
}

/// A cell as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Value(String),
    Null,
    Unavailable,
}

impl From<Stored> for Sent {
    fn from(stored: Stored) -> Self {
        stored.map_or(Self::Null, Self::Value)
    }
}

/// A change as it is sent.
#[derive(Clone, Debug)]
pub(super) struct SentChange {
    /// Index of the table in its database.
    pub(super) table: usize,
    pub(super) op: Op,
    pub(super) before: Option<Vec<Sent>>,
    pub(super) after: Option<Vec<Sent>>,
}

/// A table and its rows, in the order of their keys' text.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) definition: FakeTable,
    pub(super) rows: BTreeMap<Vec<Stored>, Vec<Stored>>,
}

impl Table {
    pub(super) fn new(definition: FakeTable) -> Self {
        Self {
            definition,
            rows: BTreeMap::new(),
        }
    }

    pub(super) fn shape(&self, id: ShapeId) -> Shape {
        let column = |(name, ty): &(String, String)| Column {
            name: name.clone(),
            ty: Type::parse(ty),
            key: self.definition.key.contains(name),
        };
        Shape {
            id,
            table: self.definition.name.clone(),
            table_id: None,
            columns: self.definition.columns.iter().map(column).collect(),
        }
    }

    /// Changes the rows and says what the server sends of it.
    ///
    /// # Panics
    /// Where a server would refuse the statement: the test is wrong.
    pub(super) fn apply(&mut self, table: usize, change: FakeChange) -> SentChange {
        match change {
            FakeChange::Insert { row, .. } => {
                assert_eq!(
                    row.len(),
                    self.definition.columns.len(),
                    "a cell for each column"
                );
                let clash = self.rows.insert(self.key_of(&row), row.clone());
                assert!(clash.is_none(), "the key is unique");
                let after = Some(row.into_iter().map(Sent::from).collect());
                SentChange {
                    table,
                    op: Op::Insert,
                    before: None,
                    after,
                }
            }
            FakeChange::Update { key, set, .. } => {
                let old = self.take(key);
                let mut new = old.clone();
                for (column, cell) in set {
                    new[self.index(&column)] = cell;
                }
                let clash = self.rows.insert(self.key_of(&new), new.clone());
                assert!(clash.is_none(), "the key is unique");
                let before = Some(self.old_image(&old));
                SentChange {
                    table,
                    op: Op::Update,
                    before,
                    after: Some(self.new_image(&old, &new)),
                }
            }
            FakeChange::Delete { key, .. } => {
                let old = self.take(key);
                let before = Some(self.old_image(&old));
                SentChange {
                    table,
                    op: Op::Delete,
                    before,
                    after: None,
                }
            }
            FakeChange::Truncate { .. } => {
                self.rows.clear();
                SentChange {
                    table,
                    op: Op::Truncate,
                    before: None,
                    after: None,
                }
            }
        }
    }

    fn take(&mut self, key: Vec<String>) -> Vec<Stored> {
        let key: Vec<Stored> = key.into_iter().map(Some).collect();
        self.rows.remove(&key).expect("the row is there")
    }

    fn index(&self, column: &str) -> usize {
        let columns = &self.definition.columns;
        columns
            .iter()
            .position(|(name, _)| name == column)
            .expect("the column is there")
    }

    fn key_of(&self, row: &[Stored]) -> Vec<Stored> {
        self.definition
            .key
            .iter()
            .map(|column| row[self.index(column)].clone())
            .collect()
    }

    /// An update that leaves the key alone sends no old tuple under identity default; the contract asks for
    /// the key all the same, and a source takes it from the new one.
    fn old_image(&self, old: &[Stored]) -> Vec<Sent> {
        let columns = self.definition.columns.iter().zip(old);
        columns
            .map(|((name, _), cell)| match self.definition.identity {
                ReplicaIdentity::Default if !self.definition.key.contains(name) => {
                    Sent::Unavailable
                }
                _ => cell.clone().into(),
            })
            .collect()
    }

    fn new_image(&self, old: &[Stored], new: &[Stored]) -> Vec<Sent> {
        let columns = self.definition.columns.iter().zip(old.iter().zip(new));
        columns
            .map(|((name, _), (old, new))| {
                let toasted = new.is_some() && self.definition.toasted.contains(name);
                if toasted && old == new {
                    Sent::Unavailable
                } else {
                    new.clone().into()
                }
            })
            .collect()
    }
}
