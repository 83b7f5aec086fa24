//! What a source tells of a table (or collection) that no mapping names yet, so that one can be written.
//!
//! Plain data, the same from every source. Values are in their text form. Samples are bounded: a survey
//! never reads a whole table, and says in its remarks what it could not look at.

use crate::shape::TableName;
use crate::value::Type;

/// A table that could be captured, or why it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub table: TableName,
    /// How many rows it has, as the source last estimated; `None` if it never did.
    pub rows: Option<u64>,
    pub bytes: u64,
    /// Columns of its primary key.
    pub key: Vec<String>,
    pub before: BeforeImage,
    /// Why it cannot be captured.
    pub obstacle: Option<String>,
}

/// What the source sends of the old row of an update or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeforeImage {
    Whole,
    /// These columns only.
    Columns(Vec<String>),
    /// Nothing, and once the table is published the source refuses updates and deletes of it.
    Refused,
}

/// One table as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    pub table: TableName,
    /// As [`Candidate::rows`].
    pub rows: Option<u64>,
    /// What `columns` were read from.
    pub basis: Basis,
    pub columns: Vec<SurveyedColumn>,
    /// Columns of its primary key.
    pub key: Vec<String>,
    /// Columns that the source holds unique and never null, beside the primary key.
    pub unique: Vec<Vec<String>>,
    pub before: BeforeImage,
    /// What makes [`BeforeImage::Whole`] of it, where it is not.
    pub enabling: Option<Enabling>,
    /// Columns that refer to a row of another table.
    pub references: Vec<Vec<String>>,
    /// Some rows, each with one cell for each of `columns`; `None` is a null.
    pub samples: Vec<Vec<Option<String>>>,
    /// What to know of it, and what could not be looked at; sentences without a full stop.
    pub remarks: Vec<String>,
}

/// Where the columns of a table and their types are known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The source declares them: there are no others.
    Declared,
    /// So many rows that were looked at: rows that were not may have more columns, and values of other types.
    Rows { seen: usize, of: Seen },
}

/// Which rows were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All there were.
    All,
    /// Some of many, taken at random.
    AtRandom,
}

/// A statement for the source's owner, and its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enabling {
    pub statement: String,
    pub cost: String,
}

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct SurveyedColumn {
    pub name: String,
    pub ty: Type,
    /// What was seen of its values that its type does not tell: several types, the members of a document.
    pub note: Option<String>,
    pub nullability: Nullability,
    /// Why its values are never sent, where they are not: it is generated, say.
    pub hidden: Option<String>,
    pub length: Length,
    /// The values it can have, where they are few.
    pub values: Option<KnownValues>,
}

/// Whether a column can be null; where the source declares none, whether it was in any row that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nullability {
    NeverNull,
    MaybeNull,
}

/// Whether a source leaves a value out of an update that does not change it, unless it sends the whole old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    AlwaysSent,
    /// It may be long.
    MaybeLeftOut,
    /// However short it is.
    LeftOut,
}

/// The few values of a column, the most common first where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownValues {
    pub values: Vec<String>,
    pub origin: Origin,
}

/// Where [`KnownValues`] come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The schema lists them, by a type or a constraint: there can be no other.
    Declared(&'static str),
    /// The source's own statistics: there may be others.
    Statistics,
    /// So many rows that were looked at: there may be others.
    Sample { rows: usize },
}

/// What it takes to keep the rows of a table, or to have their old ones sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub table: TableName,
    /// As [`Candidate::rows`].
    pub rows: Option<u64>,
    /// How many bytes of a row are in the columns that were asked for, on average; `None` where the source has not
    /// counted. Of a document it is all of it.
    pub row_bytes: Option<u64>,
    pub before: BeforeImage,
    /// As [`Survey::enabling`].
    pub enabling: Option<Enabling>,
}
