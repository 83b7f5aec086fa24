//! Order and equality of values, as the source has them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use super::{Value, interval, number};

impl Value<'_> {
    /// Compares as the source would: numbers exactly across integer, decimal and float; NaN equals NaN and
    /// is greatest; text by code point, the trailing blanks of a `char(n)` aside; a date is its midnight,
    /// a timestamp without a zone is in UTC; intervals by length, a month being 30 days; arrays element
    /// by element and composites field by field, a null being greatest; hstores by their pairs, whatever
    /// their order; JSON by its text. `None` where the kinds do not compare.
    #[must_use]
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Self::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Self::Float(left), Value::Float(right)) => Some(number::compare_floats(*left, *right)),
            (Self::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
            (Self::Json(left), Value::Json(right)) => Some(left.cmp(right)),
            (Self::Time(left), Value::Time(right)) => Some(left.cmp(right)),
            (Self::TimeTz { .. }, Value::TimeTz { .. }) => {
                Some(self.time_in_utc().cmp(&other.time_in_utc()))
            }
            (Self::Interval(left), Value::Interval(right)) => {
                let left = interval::span_micros(left).ok()?;
                Some(left.cmp(&interval::span_micros(right).ok()?))
            }
            (Self::Array(left), Value::Array(right)) => compare_arrays(left, right),
            (Self::Composite(left), Value::Composite(right)) => compare_composites(left, right),
            (Self::Hstore(left), Value::Hstore(right)) => {
                Some(in_order(left).cmp(&in_order(right)))
            }
            _ => self
                .compare_texts(other)
                .or_else(|| self.compare_instants(other))
                .or_else(|| self.compare_numbers(other)),
        }
    }

    /// Across text and `char(n)`.
    fn compare_texts(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(self.comparable_text()?.cmp(other.comparable_text()?))
    }

    fn comparable_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Char(text) => Some(text.trim_end_matches(' ')),
            _ => None,
        }
    }

    /// Across dates and timestamps.
    fn compare_instants(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(self.instant()?.cmp(&other.instant()?))
    }

    /// Microseconds since 1970; the infinities are the ends of the range.
    fn instant(&self) -> Option<i128> {
        match self {
            Self::Date(i32::MIN) | Self::Timestamp(i64::MIN) | Self::TimestampTz(i64::MIN) => {
                Some(i128::MIN)
            }
            Self::Date(i32::MAX) | Self::Timestamp(i64::MAX) | Self::TimestampTz(i64::MAX) => {
                Some(i128::MAX)
            }
            Self::Date(days) => Some(i128::from(*days) * i128::from(MICROS_PER_DAY)),
            Self::Timestamp(micros) | Self::TimestampTz(micros) => Some(i128::from(*micros)),
            _ => None,
        }
    }

    /// The server orders by the time in UTC, then the westernmost zone last (`timetz_cmp_internal`).
    fn time_in_utc(&self) -> Option<(i64, i32)> {
        match self {
            Self::TimeTz {
                micros,
                offset_seconds,
            } => {
                let offset = i64::from(*offset_seconds) * MICROS_PER_SECOND;
                Some((micros - offset, -offset_seconds))
            }
            _ => None,
        }
    }

    /// Across integers, decimals and floats. Written out in full: only mixed kinds come here.
    fn compare_numbers(&self, other: &Value<'_>) -> Option<Ordering> {
        if let (Self::Decimal(left), Value::Decimal(right)) = (self, other) {
            return Some(number::compare_decimals(left, right));
        }
        let (left, right) = (self.exact_digits()?, other.exact_digits()?);
        Some(number::compare_decimals(&left, &right))
    }

    fn exact_digits(&self) -> Option<String> {
        match self {
            Self::Int(value) => Some(value.to_string()),
            Self::Decimal(digits) => Some(digits.to_string()),
            Self::Float(value) => Some(number::exact(*value)),
            _ => None,
        }
    }
}

fn compare_arrays(left: &[Option<Value<'_>>], right: &[Option<Value<'_>>]) -> Option<Ordering> {
    for (left, right) in left.iter().zip(right) {
        let order = compare_nullable(left.as_ref(), right.as_ref())?;
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(left.len().cmp(&right.len()))
}

/// A null is greatest.
fn compare_nullable(left: Option<&Value<'_>>, right: Option<&Value<'_>>) -> Option<Ordering> {
    match (left, right) {
        (None, None) => Some(Ordering::Equal),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(_), None) => Some(Ordering::Less),
        (Some(left), Some(right)) => left.compare(right),
    }
}

type Member<'a> = (Arc<str>, Option<Value<'a>>);

/// By position, as the server; names do not count.
fn compare_composites(left: &[Member<'_>], right: &[Member<'_>]) -> Option<Ordering> {
    if left.len() != right.len() {
        return None;
    }
    for ((_, left), (_, right)) in left.iter().zip(right) {
        let order = compare_nullable(left.as_ref(), right.as_ref())?;
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(Ordering::Equal)
}

type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// Sorted by key.
fn in_order<'a>(pairs: &'a [Pair<'a>]) -> Vec<&'a Pair<'a>> {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_unstable();
    sorted
}
