//! BSON values in the text form that cells have, typed by schema.toml, and BSON documents as JSON.
//!
//! The forms are those of mapping-language.md section 5. A value that is not of its column's type is written as
//! something that reads as no type at all: it is an error where a rule reads it, and never another value.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::raw::{RawArray, RawBsonRef, RawDocument};
use bson::{Decimal128, Timestamp};
use rowbridge_api::value::write_json_string;
use rowbridge_api::{Kind, Value};

/// Reads as a value of no type.
pub(crate) const UNREADABLE: &[u8] = &[0xFF];
/// Before a document's only value, which has no name: length, type, end of the name.
const DOCUMENT_HEAD: usize = 6;
/// Deeper than the server stores.
const MAX_DEPTH: usize = 200;
/// Integers up to here are the same as doubles.
const EXACT_IN_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Value,
    Null,
}

/// Appends the text form of `value` in a column of `kind`.
pub(crate) fn write(value: RawBsonRef<'_>, kind: &Kind, out: &mut Vec<u8>) -> Written {
    if matches!(value, RawBsonRef::Null | RawBsonRef::Undefined) {
        return Written::Null;
    }
    let start = out.len();
    if typed(value, kind, out).is_none() {
        out.truncate(start);
        out.extend_from_slice(UNREADABLE);
    }
    Written::Value
}

/// The text form, or nothing for a value that is not of this kind.
fn typed(value: RawBsonRef<'_>, kind: &Kind, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Json => return json(value, out, 0),
        Kind::Bool => out.push(if value.as_bool()? { b't' } else { b'f' }),
        Kind::Int => Value::Int(integer(value)?).write_text(out),
        Kind::Float => match value {
            RawBsonRef::Double(double) => Value::Float(double).write_text(out),
            _ => Value::Int(exact_integer(value)?).write_text(out),
        },
        Kind::Decimal => match value {
            RawBsonRef::Decimal128(decimal) => out.extend_from_slice(plain(decimal)?.as_bytes()),
            RawBsonRef::Int32(_) | RawBsonRef::Int64(_) => {
                Value::Int(integer(value)?).write_text(out);
            }
            _ => return None,
        },
        Kind::Text | Kind::Char => text(value, out)?,
        Kind::Bytes => {
            let RawBsonRef::Binary(binary) = value else {
                return None;
            };
            out.extend_from_slice(b"\\x");
            for byte in binary.bytes {
                out.extend_from_slice(&hex(*byte));
            }
        }
        Kind::TimestampTz => timestamp(value, out)?,
        _ => return None,
    }
    Some(())
}

fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(value) => Some(value.into()),
        RawBsonRef::Int64(value) => Some(value),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it has no fraction and is in range"
        )]
        RawBsonRef::Double(value) if value.fract() == 0.0 && value.abs() <= EXACT_IN_DOUBLE => {
            Some(value as i64)
        }
        _ => None,
    }
}

/// An integer that a double holds exactly.
fn exact_integer(value: RawBsonRef<'_>) -> Option<i64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "compared with the limit of what is exact"
    )]
    integer(value).filter(|value| (*value as f64).abs() <= EXACT_IN_DOUBLE)
}

fn text(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Option<()> {
    match value {
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) | RawBsonRef::JavaScriptCode(text) => {
            out.extend_from_slice(text.as_bytes());
        }
        RawBsonRef::ObjectId(id) => {
            for byte in id.bytes() {
                out.extend_from_slice(&hex(byte));
            }
        }
        RawBsonRef::RegularExpression(regex) => {
            out.push(b'/');
            out.extend_from_slice(regex.pattern.as_str().as_bytes());
            out.push(b'/');
            out.extend_from_slice(regex.options.as_str().as_bytes());
        }
        RawBsonRef::MinKey => out.extend_from_slice(b"MinKey"),
        RawBsonRef::MaxKey => out.extend_from_slice(b"MaxKey"),
        RawBsonRef::Timestamp(Timestamp { time, increment }) => {
            let mut text = String::new();
            write!(text, "{time}:{increment}").ok()?;
            out.extend_from_slice(text.as_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// As the server of another source prints a moment in UTC, where that is the shorter way to read it; else in
/// ISO 8601.
fn timestamp(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    Value::TimestampTz(micros(value)?).write_text(out);
    let written = &mut out[start..];
    let is_plain = written.get(10) == Some(&b'T') && written[..4] != *b"0000";
    if is_plain && written.last() == Some(&b'Z') {
        written[10] = b' ';
        out.pop();
        out.extend_from_slice(b"+00");
    }
    Some(())
}

/// Microseconds since 1970, where they fit.
fn micros(value: RawBsonRef<'_>) -> Option<i64> {
    let micros = match value {
        RawBsonRef::DateTime(date) => date.timestamp_millis().checked_mul(1_000)?,
        _ => return None,
    };
    // The ends of the range stand for the infinities, which BSON does not have.
    (micros != i64::MAX && micros != i64::MIN).then_some(micros)
}

/// All digits, without an exponent.
fn plain(decimal: Decimal128) -> Option<String> {
    let printed = decimal.to_string();
    if matches!(printed.as_str(), "NaN" | "Infinity" | "-Infinity") {
        return Some(printed);
    }
    let (sign, number) = match printed.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", printed.as_str()),
    };
    let (digits, exponent) = match number.split_once(['E', 'e']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let length = i32::try_from(all.len()).ok()?;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let shown = if point <= 0 {
        format!("0.{}{all}", zeros(-point))
    } else if point >= length {
        format!("{all}{}", zeros(point - length))
    } else {
        let (whole, fraction) = all.split_at(usize::try_from(point).ok()?);
        format!("{whole}.{fraction}")
    };
    let (whole, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    })
}

/// The JSON form; nothing if it is nested too deep or damaged.
fn json(value: RawBsonRef<'_>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    match value {
        RawBsonRef::Null | RawBsonRef::Undefined => out.extend_from_slice(b"null"),
        RawBsonRef::Document(document) => object(document, out, depth)?,
        RawBsonRef::Array(array) => list(array, out, depth)?,
        RawBsonRef::Boolean(value) => Value::Bool(value).write_json(out),
        RawBsonRef::Int32(value) => Value::Int(value.into()).write_json(out),
        RawBsonRef::Int64(value) => Value::Int(value).write_json(out),
        RawBsonRef::Double(value) => Value::Float(value).write_json(out),
        RawBsonRef::Decimal128(decimal) => {
            Value::Decimal(plain(decimal)?.into()).write_json(out);
        }
        RawBsonRef::String(text) => write_json_string(text, out),
        RawBsonRef::DateTime(_) => match micros(value) {
            Some(micros) => Value::TimestampTz(micros).write_json(out),
            None => return None,
        },
        RawBsonRef::Binary(binary) => {
            write_json_string(&BASE64.encode(binary.bytes), out);
        }
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            out.extend_from_slice(b"{\"code\":");
            write_json_string(code.code, out);
            out.extend_from_slice(b",\"scope\":");
            object(code.scope, out, depth)?;
            out.push(b'}');
        }
        RawBsonRef::DbPointer(_) => db_pointer(value, out)?,
        RawBsonRef::Symbol(_)
        | RawBsonRef::JavaScriptCode(_)
        | RawBsonRef::ObjectId(_)
        | RawBsonRef::RegularExpression(_)
        | RawBsonRef::Timestamp(_)
        | RawBsonRef::MinKey
        | RawBsonRef::MaxKey => {
            let mut plain = Vec::new();
            text(value, &mut plain)?;
            write_json_string(std::str::from_utf8(&plain).ok()?, out);
        }
    }
    Some(())
}

/// Its collection and its id. The library shows neither, but writes both: a length, the name with a zero, twelve bytes.
fn db_pointer(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut holder = bson::RawDocumentBuf::new();
    holder.append(bson::cstr!(""), bson::RawBson::from(value));
    let (_, pointer) = holder.as_bytes().get(DOCUMENT_HEAD..)?.split_last()?;
    let (name, id) = pointer.split_at_checked(pointer.len().checked_sub(12)?)?;
    let (_, name) = name.split_first_chunk::<4>()?;
    let (_, name) = name.split_last()?;
    out.extend_from_slice(b"{\"collection\":");
    write_json_string(std::str::from_utf8(name).ok()?, out);
    out.extend_from_slice(b",\"id\":\"");
    for byte in id {
        out.extend_from_slice(&hex(*byte));
    }
    out.extend_from_slice(b"\"}");
    Some(())
}

fn object(document: &RawDocument, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    out.push(b'{');
    for (at, field) in document.iter().enumerate() {
        let (name, value) = field.ok()?;
        if at > 0 {
            out.push(b',');
        }
        write_json_string(name.as_str(), out);
        out.push(b':');
        json(value, out, depth + 1)?;
    }
    out.push(b'}');
    Some(())
}

fn list(array: &RawArray, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    out.push(b'[');
    for (at, value) in array.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json(value.ok()?, out, depth + 1)?;
    }
    out.push(b']');
    Some(())
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 0xF)],
    ]
}

#[cfg(test)]
mod tests;
