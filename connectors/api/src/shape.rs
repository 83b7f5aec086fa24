//! Table names, columns, and the shape that a change's cells follow.

use std::fmt;

use crate::value::Type;

/// A table's schema (namespace) and name as the source stores them, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    #[must_use]
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for TableName {
    /// `schema.name`; for people, not for SQL (it quotes nothing).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Names a [`Shape`] inside one run of a source; a changed table gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(pub u32);

/// One column of a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub ty: Type,
    /// Part of the entity's key: the primary key as read at start, or the key that the mapping names.
    /// Never what the replica identity flags.
    pub key: bool,
}

/// The columns of a table from one point of the source's history on.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub id: ShapeId,
    pub table: TableName,
    /// Tells a table from another one that had its name before (PostgreSQL: its oid). A source that says it lists the
    /// columns in the table's own order; nothing where the source does not know.
    pub table_id: Option<u64>,
    pub columns: Vec<Column>,
}
