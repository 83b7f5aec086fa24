//! Types, decoding of a cell when a rule reads it, and values as JSON.
//!
//! The text form of a value is PostgreSQL's text output with `DateStyle ISO`, `IntervalStyle iso_8601`,
//! `TimeZone UTC`, `bytea_output hex`, `lc_monetary C`. Cases and captures use the same form, where
//! timestamps may also be spelled as in ISO 8601 (`2026-12-01T10:00:00Z`), so one decoder serves all.
//!
//! - `type_name`: names and aliases to [`Type`]
//! - `decode`: text form to [`Value`], when a rule computes with it
//! - `json`: text form to JSON without a [`Value`] in between, and [`Value`] to JSON
//! - `compare`: order and equality as the source has them
//! - `array`, `composite`, `hstore`, `interval`, `number`, `time`: the forms that need a grammar

mod array;
mod compare;
mod composite;
mod decode;
mod hstore;
mod interval;
mod json;
#[cfg(test)]
mod laws;
mod number;
#[cfg(test)]
mod tests;
mod time;
mod type_name;

use std::borrow::Cow;
use std::sync::Arc;

pub use json::write_json_string;
pub use type_name::MAX_TYPE_DEPTH;

/// A column's type: its name as the source prints it and how to read its text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// As `format_type` prints it, shortened: `int8`, `numeric(10,2)`, `timestamptz`, `text[]`. A composite
    /// is named by its fields, `row(street text, zip text)`, so that a name tells how the type reads.
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
    Array(Box<Element>),
    /// A composite type's fields in their order.
    Composite(Arc<[Field]>),
    /// Text keys to text or null.
    Hstore,
}

/// What an array holds.
#[derive(Clone, Debug)]
pub struct Element {
    pub kind: Kind,
    /// What stands between two elements (`pg_type.typdelim` of the element's type): a comma, but for `box`
    /// and some types of extensions.
    pub delimiter: u8,
}

/// Equal where they give the same values: only the catalogue knows the delimiter of an extension's type.
impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Element {}

/// One field of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Arc<str>,
    pub kind: Kind,
}

/// A decoded cell. Borrows from the batch where the text form is the value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    /// Digits exactly as stored, or `NaN`, `Infinity`, `-Infinity`. Money has lost its `$` and commas.
    Decimal(Cow<'a, str>),
    Float(f64),
    Text(Cow<'a, str>),
    /// A `char(n)` with its trailing blanks, which do not count in [`Value::compare`].
    Char(Cow<'a, str>),
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
    /// An ISO 8601 duration; an infinite one is `infinity` or `-infinity`.
    Interval(Cow<'a, str>),
    /// `None` elements are nulls; nested arrays nest. An array with lower bounds of its own
    /// (`[2:3]={1,2}`) is a [`Value::Text`].
    Array(Vec<Option<Value<'a>>>),
    /// A composite's fields in the order of its type; `None` is a null.
    Composite(Vec<(Arc<str>, Option<Value<'a>>)>),
    /// The pairs in the order of the text form.
    Hstore(Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>),
}

/// The cell's bytes are not a value of its type. Never carries the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {ty}: {problem}")]
pub struct ValueError {
    pub ty: String,
    pub problem: &'static str,
}

/// What is wrong with a text form, in words that do not repeat it.
type Problem = &'static str;

const NOT_UTF8: Problem = "not UTF-8";

impl Type {
    /// Decodes a cell's text form.
    ///
    /// # Errors
    /// The bytes are not a value of this type, or are not UTF-8, or are a timestamp after the year
    /// 294246, which PostgreSQL can store and [`Value`] cannot ([`Type::write_json`] and
    /// [`Type::write_text`] can).
    pub fn decode<'a>(&self, raw: &'a [u8]) -> Result<Value<'a>, ValueError> {
        decode::decode(&self.kind, raw).map_err(|problem| self.error(problem))
    }

    /// Appends the JSON form of a cell's text form, as mapping-language.md section 5 has it. Equal to
    /// decoding and [`Value::write_json`], without the detour. On an error `out` is as it was.
    ///
    /// # Errors
    /// The bytes are not a value of this type, or are not UTF-8.
    pub fn write_json(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let length = out.len();
        json::transcode(&self.kind, raw, out).map_err(|problem| {
            out.truncate(length);
            self.error(problem)
        })
    }

    /// Appends the text that a template or key shows of a cell's text form: the JSON form without quotes.
    /// Equal to decoding and [`Value::write_text`], without the detour. On an error `out` is as it was.
    ///
    /// # Errors
    /// As [`Type::write_json`].
    pub fn write_text(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let length = out.len();
        json::transcode_text(&self.kind, raw, out).map_err(|problem| {
            out.truncate(length);
            self.error(problem)
        })
    }

    fn error(&self, problem: Problem) -> ValueError {
        ValueError {
            ty: self.name.clone(),
            problem,
        }
    }
}

impl Value<'_> {
    /// The same value, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        fn own(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Decimal(text) => Value::Decimal(own(text)),
            Self::Float(value) => Value::Float(value),
            Self::Text(text) => Value::Text(own(text)),
            Self::Char(text) => Value::Char(own(text)),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Json(text) => Value::Json(own(text)),
            Self::Date(days) => Value::Date(days),
            Self::Time(micros) => Value::Time(micros),
            Self::TimeTz {
                micros,
                offset_seconds,
            } => Value::TimeTz {
                micros,
                offset_seconds,
            },
            Self::Timestamp(micros) => Value::Timestamp(micros),
            Self::TimestampTz(micros) => Value::TimestampTz(micros),
            Self::Interval(text) => Value::Interval(own(text)),
            Self::Array(elements) => Value::Array(
                elements
                    .into_iter()
                    .map(|element| element.map(Value::into_owned))
                    .collect(),
            ),
            Self::Composite(fields) => Value::Composite(
                fields
                    .into_iter()
                    .map(|(name, value)| (name, value.map(Value::into_owned)))
                    .collect(),
            ),
            Self::Hstore(pairs) => Value::Hstore(
                pairs
                    .into_iter()
                    .map(|(key, value)| (own(key), value.map(own)))
                    .collect(),
            ),
        }
    }
}
