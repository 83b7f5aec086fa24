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
/// The server nests documents no deeper than 100.
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
        RawBsonRef::DbPointer(_) => write_json_string("DbPointer", out),
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
mod tests {
    use bson::{Bson, RawDocumentBuf, doc, rawdoc};
    use rowbridge_api::Type;

    use super::*;

    fn written(value: impl Into<Bson>, ty: &str) -> Option<String> {
        let document = RawDocumentBuf::try_from(&doc! { "v": value.into() }).unwrap();
        let value = document.get("v").unwrap().unwrap();
        let mut out = Vec::new();
        match write(value, &Type::parse(ty).kind, &mut out) {
            Written::Null => None,
            Written::Value if out == UNREADABLE => Some("unreadable".to_owned()),
            Written::Value => Some(String::from_utf8(out).unwrap()),
        }
    }

    #[test]
    fn values_of_a_columns_type_have_its_text_form() {
        let date = bson::DateTime::from_millis(1_796_119_200_123);
        let id = bson::oid::ObjectId::from_bytes([0xAB; 12]);
        let decimal = |text: &str| text.parse::<Decimal128>().unwrap();
        for (value, ty, text) in [
            (Bson::Int32(-5), "int4", "-5"),
            (Bson::Int64(i64::MAX), "int8", "9223372036854775807"),
            (Bson::Double(5.0), "int8", "5"),
            (Bson::Double(5.5), "int8", "unreadable"),
            (Bson::String("5".into()), "int8", "unreadable"),
            (Bson::Double(0.1), "float8", "0.1"),
            (Bson::Double(f64::NAN), "float8", "NaN"),
            (Bson::Int32(7), "float8", "7"),
            (Bson::Int64(i64::MAX), "float8", "unreadable"),
            (Bson::Boolean(true), "bool", "t"),
            (Bson::String("é".into()), "text", "é"),
            (Bson::Int32(1), "text", "unreadable"),
            (Bson::ObjectId(id), "text", "abababababababababababab"),
            (
                Bson::DateTime(date),
                "timestamptz",
                "2026-12-01 10:00:00.123+00",
            ),
            (
                Bson::DateTime(bson::DateTime::MAX),
                "timestamptz",
                "unreadable",
            ),
            (Bson::Decimal128(decimal("1.50")), "numeric", "1.50"),
            (Bson::Decimal128(decimal("-1.5E+3")), "numeric", "-1500"),
            (Bson::Decimal128(decimal("1E-9")), "numeric", "0.000000001"),
            (Bson::Decimal128(decimal("0E+3")), "numeric", "0"),
            (Bson::Decimal128(decimal("NaN")), "numeric", "NaN"),
            (Bson::Int32(3), "numeric", "3"),
            (Bson::Double(3.0), "numeric", "unreadable"),
        ] {
            assert_eq!(
                written(value.clone(), ty).as_deref(),
                Some(text),
                "{value:?} as {ty}"
            );
        }
        assert_eq!(written(Bson::Null, "int8"), None);
        assert_eq!(written(Bson::Undefined, "json"), None);
    }

    #[test]
    fn what_is_written_reads_as_the_columns_type() {
        let date = bson::DateTime::from_millis(-62_135_596_800_001);
        for (value, ty, json) in [
            (
                Bson::DateTime(date),
                "timestamptz",
                "\"0000-12-31T23:59:59.999Z\"",
            ),
            (
                Bson::Binary(bson::Binary {
                    subtype: bson::spec::BinarySubtype::Generic,
                    bytes: vec![0, 255],
                }),
                "bytea",
                "\"AP8=\"",
            ),
        ] {
            let document = RawDocumentBuf::try_from(&doc! { "v": value }).unwrap();
            let mut out = Vec::new();
            write(
                document.get("v").unwrap().unwrap(),
                &Type::parse(ty).kind,
                &mut out,
            );
            let mut read = Vec::new();
            Type::parse(ty).write_json(&out, &mut read).unwrap();
            assert_eq!(String::from_utf8(read).unwrap(), json);
        }
    }

    #[test]
    fn documents_are_json() {
        let document = rawdoc! {
            "a": { "b": [1_i32, 2_i64, null, "x\"y", { "c": 1.5 }], "d": true },
            "id": bson::oid::ObjectId::from_bytes([1; 12]),
            "at": bson::DateTime::from_millis(0),
            "n": "1.10".parse::<Decimal128>().unwrap(),
            "ts": Timestamp { time: 7, increment: 2 },
        };
        let mut out = Vec::new();
        write(RawBsonRef::Document(&document), &Kind::Json, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"a":{"b":[1,2,null,"x\"y",{"c":1.5}],"d":true},"id":"010101010101010101010101","at":"1970-01-01T00:00:00Z","n":"1.10","ts":"7:2"}"#
        );
    }

    #[test]
    fn nothing_reads_what_is_unreadable() {
        for ty in [
            "bool",
            "int8",
            "numeric",
            "float8",
            "text",
            "bytea",
            "json",
            "timestamptz",
        ] {
            assert!(Type::parse(ty).decode(UNREADABLE).is_err(), "{ty}");
        }
    }
}
