//! The compiled mapping: tables, rules, and everything a rule does, resolved to numbers.

use std::sync::Arc;

use rowbridge_api::{OpSet, TableName, Type};

use super::Envelope;
use super::diagnostic::At;
use super::expression::column::ColumnPath;
use super::expression::condition::Condition;
use super::expression::literal::Literal;
use super::expression::path::{CellPath, Place};
use super::expression::template::Template;
use super::file::event::Quantifier;
use super::lifecycle::{Lifecycle, Transition};
use super::privacy::{Class, TablePrivacy};
use super::schema::ColumnDecl;
use crate::event::{HeaderId, TopicId};

/// Which image a place is read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    /// The current image: after; before for a delete or with `image = "before"`.
    Row,
}

/// Which image `$.row`, key and subject speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RowImage {
    #[default]
    Current,
    Before,
}

/// A table that rules read.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) short: String,
    pub(super) source: TableName,
    /// Slots: a column is named by its number here.
    pub(super) columns: Vec<ColumnDecl>,
    /// Slots of the columns that find one row together.
    pub(super) indexes: Vec<Box<[u16]>>,
    /// What is kept of its rows, so that others can look them up, or to know what they were.
    pub(super) kept: Option<KeptColumns>,
    /// How often its rows were read anew: what is kept of an earlier reading does not count. See [`super::Generations`].
    pub(super) generation: u32,
    pub(super) before: BeforeFrom,
    pub(super) unchanged: UnchangedFrom,
    /// Event types that others take back: the last of each is remembered by the row's key.
    pub(super) reverted: Vec<String>,
    /// Slots of the key's parts.
    pub(super) key: Vec<u16>,
    /// The key's parts as they leave.
    pub(super) key_places: Box<[Place]>,
    /// Places that some rule's `changed` watches.
    pub(super) watched: Vec<ColumnPath>,
    pub(super) lifecycles: Vec<Lifecycle>,
    pub(super) privacy: TablePrivacy,
}

impl Table {
    pub(super) fn slot(&self, column: &str) -> Option<u16> {
        let index = self.columns.iter().position(|known| known.name == column)?;
        u16::try_from(index).ok()
    }

    /// The names of columns in their order: `number, day`.
    pub(super) fn names_of(&self, slots: &[u16]) -> String {
        let name = |slot: &u16| self.columns[usize::from(*slot)].name.as_str();
        slots.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// One `[[event]]`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) event_type: String,
    /// Number of the event type among the mapping's distinct types.
    pub(super) type_number: u16,
    pub(super) doc: String,
    pub(super) line: usize,
    /// Number of the table in [`super::Mapping`].
    pub(super) table: usize,
    pub(super) ops: OpSet,
    pub(super) image: RowImage,
    pub(super) changed: Option<Changed>,
    pub(super) transition: Option<Transition>,
    /// The event type that this one takes back.
    pub(super) reverts: Option<String>,
    /// Whether another event takes this one back.
    pub(super) is_reverted: bool,
    /// The rows of a transaction that make the event, where it is made of several.
    pub(super) joining: Option<Joining>,
    pub(super) lookups: Box<[Lookup]>,
    /// Whether a `when` reads what was looked up.
    pub(super) judges: Judges,
    pub(super) each: Option<Each>,
    pub(super) only: Box<[Only]>,
    pub(super) when: Box<[Guard]>,
    pub(super) checks: Box<[Check]>,
    pub(super) topic: TopicId,
    pub(super) envelope: Envelope,
    pub(super) key: Key,
    pub(super) subject: Option<Template>,
    pub(super) correlation: Option<Template>,
    pub(super) time: Option<Place>,
    pub(super) headers: Box<[OwnHeader]>,
    pub(super) body: Body,
}

/// Where the row before a change comes from, and cells that did not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BeforeFrom {
    /// The source sends it (PostgreSQL: replica identity; MongoDB: pre-images).
    #[default]
    Source,
    /// Every row is kept, and what the source does not send is taken from there.
    State,
}

/// What a cell is that the source left out of the row after a change because it did not change (PostgreSQL: TOAST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnchangedFrom {
    /// What is kept of the row.
    State,
    /// Unavailable: to read it is an error.
    Nowhere,
}

/// Slots of the columns of a table whose rows are kept, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptColumns(pub(super) Box<[u16]>);

/// What a rule's conditions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judges {
    /// The change alone.
    TheChange,
    /// Also rows that are looked up.
    LookedUp,
}

/// `[event.transaction]`.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    /// Whether its rows fire no rule of their own.
    pub(super) consume: bool,
    pub(super) parts: Box<[Part]>,
}

/// One of `[event.transaction.parts]`.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: Arc<str>,
    pub(super) table: usize,
    pub(super) ops: OpSet,
    /// What the parts agree on, in the current image.
    pub(super) by: Place,
    pub(super) only: Box<[Only]>,
    pub(super) when: Option<Guard>,
    pub(super) is_required: bool,
}

/// One `[event.lookup.<name>]`.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) name: Arc<str>,
    /// Number of the table that is looked into.
    pub(super) table: usize,
    pub(super) by: By,
    /// One value for each column of the key or index, in its order.
    pub(super) values: Box<[Place]>,
    pub(super) missing: Missing,
}

/// What finds a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Key,
    /// Number in [`Table::indexes`].
    Index(usize),
}

/// What a lookup that finds no row gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Missing {
    #[default]
    Error,
    Null,
}

/// `each`: one event for every element of an array.
#[derive(Clone, Debug)]
pub(super) struct Each {
    /// Where the array is: a whole cell, or steps inside one.
    pub(super) cell: CellPath,
    /// What its elements are, where the column's type says it.
    pub(super) element: Option<Type>,
}

/// `changed`, by numbers of [`Table::watched`].
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) at: At,
    pub(super) quantifier: Quantifier,
    pub(super) watched: Box<[u16]>,
}

/// `only`: the column's value is in a parameter's list.
#[derive(Clone, Debug)]
pub(super) struct Only {
    pub(super) at: At,
    pub(super) place: Place,
    pub(super) values: Box<[Literal]>,
    pub(super) column: String,
    pub(super) param: String,
}

/// One `when`, with its text for explanations.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) at: At,
    pub(super) condition: Condition,
    pub(super) text: String,
}

/// One `[[event.check]]`.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) at: At,
    pub(super) condition: Condition,
    pub(super) message: String,
}

/// How a record is keyed.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Template(Template),
    /// The table's key, its parts joined by `/`.
    OfTable,
    /// No key: the record goes to every partition.
    Broadcast,
}

/// A header of the rule's own.
#[derive(Clone, Debug)]
pub(super) struct OwnHeader {
    pub(super) id: HeaderId,
    pub(super) value: HeaderValue,
    /// Protects all of a template's text.
    pub(super) class: Option<Class>,
}

#[derive(Clone, Debug)]
pub(super) enum HeaderValue {
    Const(Box<[u8]>),
    Place(Place),
    Template(Template),
}

/// What the record's value is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// No value.
    Tombstone,
    Data(Box<[Field]>),
}

/// One field of a JSON object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) at: At,
    pub(super) name: String,
    /// `"name":`, with a comma before it but in the first field.
    pub(super) prefix: Box<[u8]>,
    pub(super) value: FieldValue,
    pub(super) required: bool,
}

/// How a field's value is made.
#[derive(Clone, Debug)]
pub(super) enum FieldValue {
    Const(Box<[u8]>),
    Place {
        place: Place,
        convert: Option<Conversion>,
        default: Option<Box<[u8]>>,
    },
    Coalesce {
        places: Box<[Place]>,
        convert: Option<Conversion>,
        default: Option<Box<[u8]>>,
    },
    Delta {
        before: Place,
        after: Place,
        convert: Option<Conversion>,
    },
    Map {
        place: Place,
        with: Box<[Arm]>,
        otherwise: Otherwise,
    },
    Template(Template),
    Object(Box<[Field]>),
    /// What the event itself protects, where it is not the value of one place.
    Protected {
        value: Box<FieldValue>,
        class: Class,
    },
}

/// One pair of a map: a value, and what it gives.
pub(super) type Arm = (Literal, Box<[u8]>);

/// What a map gives for a value that it does not list.
#[derive(Clone, Debug)]
pub(super) enum Otherwise {
    /// No `else`: an error.
    Unsaid,
    Error,
    Json(Box<[u8]>),
}

/// `as`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    String,
    Integer,
    Number,
    Boolean,
    Decimal { precision: u32, scale: u32 },
    Date,
    Timestamp,
    EpochMillis,
    Json,
    Base64,
    Hex,
}
