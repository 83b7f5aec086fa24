//! The compiled mapping: tables, rules, and everything a rule does, resolved to numbers.

use rowbridge_api::{OpSet, TableName, Type};

use super::Envelope;
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
#[derive(Debug)]
pub(super) struct Table {
    pub(super) short: String,
    pub(super) source: TableName,
    /// Slots: a column is named by its number here.
    pub(super) columns: Vec<ColumnDecl>,
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
}

/// One `[[event]]`.
#[derive(Debug)]
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

/// `each`: one event for every element of an array.
#[derive(Clone, Debug)]
pub(super) struct Each {
    /// Where the array is: a whole cell, or steps inside one.
    pub(super) cell: CellPath,
    /// What its elements are, where the column's type says it.
    pub(super) element: Option<Type>,
}

/// `changed`, by numbers of [`Table::watched`].
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) quantifier: Quantifier,
    pub(super) watched: Box<[u16]>,
}

/// `only`: the column's value is in a parameter's list.
#[derive(Debug)]
pub(super) struct Only {
    pub(super) place: Place,
    pub(super) values: Box<[Literal]>,
    pub(super) column: String,
    pub(super) param: String,
}

/// One `when`, with its text for explanations.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) condition: Condition,
    pub(super) text: String,
}

/// One `[[event.check]]`.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) condition: Condition,
    pub(super) message: String,
}

/// How a record is keyed.
#[derive(Debug)]
pub(super) enum Key {
    Template(Template),
    /// The table's key, its parts joined by `/`.
    OfTable,
    /// No key: the record goes to every partition.
    Broadcast,
}

/// A header of the rule's own.
#[derive(Debug)]
pub(super) struct OwnHeader {
    pub(super) id: HeaderId,
    pub(super) value: HeaderValue,
    /// Protects all of a template's text.
    pub(super) class: Option<Class>,
}

#[derive(Debug)]
pub(super) enum HeaderValue {
    Const(Box<[u8]>),
    Place(Place),
    Template(Template),
}

/// What the record's value is.
#[derive(Debug)]
pub(super) enum Body {
    /// No value.
    Tombstone,
    Data(Box<[Field]>),
}

/// One field of a JSON object.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// `"name":`, with a comma before it but in the first field.
    pub(super) prefix: Box<[u8]>,
    pub(super) value: FieldValue,
    pub(super) required: bool,
}

/// How a field's value is made.
#[derive(Debug)]
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
        with: Box<[(Literal, Box<[u8]>)]>,
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

/// What a map gives for a value that it does not list.
#[derive(Debug)]
pub(super) enum Otherwise {
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
