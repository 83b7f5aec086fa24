//! Types, decoding of a cell when a rule reads it, and values as JSON.
//!
//! The text form of a value is PostgreSQL's text output with `DateStyle ISO`, `IntervalStyle iso_8601`,
//! `TimeZone UTC`, `bytea_output hex`. Cases and captures use the same form, so one decoder serves all.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A column's type: its name as the source prints it and how to read its text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// As `format_type` prints it, shortened: `int8`, `numeric(10,2)`, `timestamptz`, `text[]`.
    pub name: String,
    pub kind: Kind,
}

/// How a type's text form reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// int2, int4, int8, oid.
    Int,
    /// numeric, money: exact.
    Decimal,
    /// float4, float8.
    Float,
    /// text, varchar, name, citext, uuid, inet, enums, and every type without a form of its own.
    Text,
    /// char(n): trailing blanks do not count in comparisons.
    Char,
    Bytes,
    /// json, jsonb.
    Json,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Array(Box<Kind>),
}

/// A decoded cell. Borrows from the batch where the text form is the value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    /// Digits exactly as stored, or `NaN`, `Infinity`, `-Infinity`.
    Decimal(Cow<'a, str>),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// A JSON document, numbers untouched.
    Json(Cow<'a, str>),
    /// Days since 1970-01-01; `i32::MAX` and `i32::MIN` are the infinities.
    Date(i32),
    /// Microseconds since midnight; 24:00:00 is kept.
    Time(i64),
    /// Microseconds since midnight and the offset east of UTC in seconds.
    TimeTz {
        micros: i64,
        offset_seconds: i32,
    },
    /// Microseconds since 1970-01-01 00:00 without a zone; `i64::MAX` and `i64::MIN` are the infinities.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00 UTC; `i64::MAX` and `i64::MIN` are the infinities.
    TimestampTz(i64),
    /// An ISO 8601 duration.
    Interval(Cow<'a, str>),
    /// `None` elements are nulls; nested arrays nest.
    Array(Vec<Option<Value<'a>>>),
}

/// The cell's bytes are not a value of its type. Never carries the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {ty}: {problem}")]
pub struct ValueError {
    pub ty: String,
    pub problem: &'static str,
}

impl Type {
    /// Reads a type's name as schema.toml or the catalogue writes it (`int8` and `bigint` alike).
    /// A name that is not known is [`Kind::Text`]: its text form is published.
    #[must_use]
    pub fn parse(_name: &str) -> Self {
        unreachable!("skeleton")
    }

    /// Decodes a cell's text form.
    ///
    /// # Errors
    /// The bytes are not a value of this type, or are not UTF-8.
    pub fn decode<'a>(&self, _raw: &'a [u8]) -> Result<Value<'a>, ValueError> {
        unreachable!("skeleton")
    }

    /// Appends the JSON form of a cell's text form, as mapping-language.md section 5 has it. Equal to
    /// decoding and [`Value::write_json`], without the detour. On an error `out` is as it was.
    ///
    /// # Errors
    /// As [`Type::decode`].
    pub fn write_json(&self, _raw: &[u8], _out: &mut Vec<u8>) -> Result<(), ValueError> {
        unreachable!("skeleton")
    }
}

impl Value<'_> {
    /// Appends the JSON form.
    pub fn write_json(&self, _out: &mut Vec<u8>) {
        unreachable!("skeleton")
    }

    /// Appends the text that a template or key shows: the JSON form without the quotes.
    pub fn write_text(&self, _out: &mut Vec<u8>) {
        unreachable!("skeleton")
    }

    /// Compares as the source would: numbers exactly across integer, decimal and float; NaN equals NaN and
    /// is greatest; text by code point. `None` where the kinds do not compare.
    #[must_use]
    pub fn compare(&self, _other: &Value<'_>) -> Option<Ordering> {
        unreachable!("skeleton")
    }
}
