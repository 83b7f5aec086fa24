//! `as`: a value as another JSON form, checked; nothing is rounded, cut or guessed.

use std::cmp::Ordering;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_api::{Type, Value};

use super::judge::plain_digits;
use super::rule::Conversion;

/// Why a value has no such form; never the value itself.
type Problem = &'static str;

const MICROS_PER_DAY: i64 = 86_400_000_000;
const MICROS_PER_MILLI: i64 = 1_000;
/// Decimal digits that every IEEE 754 double keeps.
const DOUBLE_DIGITS: usize = 15;

static DATE: LazyLock<Type> = LazyLock::new(|| Type::parse("date"));
static TIMESTAMP: LazyLock<Type> = LazyLock::new(|| Type::parse("timestamp"));
static TIMESTAMPTZ: LazyLock<Type> = LazyLock::new(|| Type::parse("timestamptz"));

/// Appends the converted JSON form.
///
/// # Errors
/// The value has no such form; `out` may then hold a part of it.
pub(super) fn write(
    conversion: Conversion,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    match conversion {
        Conversion::String => {
            write_string(value, out);
            Ok(())
        }
        Conversion::Integer => write_integer(value, out),
        Conversion::Number => write_number(value, out),
        Conversion::Boolean => write_boolean(value, out),
        Conversion::Decimal { precision, scale } => match value {
            Value::Decimal(digits) => write_decimal(digits, precision, scale, out),
            Value::Int(number) => write_decimal(&number.to_string(), precision, scale, out),
            Value::Float(number) => {
                write_decimal(&plain_digits(&number.to_string()), precision, scale, out)
            }
            Value::Text(text) | Value::Char(text) => {
                write_decimal(&plain_digits(text.trim()), precision, scale, out)
            }
            _ => Err("not a number"),
        },
        Conversion::Date => {
            date(value)?.write_json(out);
            Ok(())
        }
        Conversion::Timestamp => {
            timestamp(value)?.write_json(out);
            Ok(())
        }
        Conversion::EpochMillis => match timestamp(value)? {
            Value::Timestamp(micros) | Value::TimestampTz(micros)
                if micros != i64::MAX && micros != i64::MIN =>
            {
                Value::Int(micros.div_euclid(MICROS_PER_MILLI)).write_json(out);
                Ok(())
            }
            _ => Err("infinite"),
        },
        Conversion::Json => write_document(value, out),
        Conversion::Base64 => {
            write_quoted(&STANDARD.encode(bytes(value)?), out);
            Ok(())
        }
        Conversion::Hex => {
            let digits: String = bytes(value)?
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            write_quoted(&digits, out);
            Ok(())
        }
    }
}

/// Appends text that needs no escapes.
fn write_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn write_string(value: &Value<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    value.write_text(out);
    quote_since(start, out);
}

/// Makes everything appended since `start` one JSON string.
pub(super) fn quote_since(start: usize, out: &mut Vec<u8>) {
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    if out[start..].iter().all(plain) {
        out.insert(start, b'"');
        out.push(b'"');
        return;
    }
    let text = String::from_utf8_lossy(&out[start..]).into_owned();
    out.truncate(start);
    serde_json::to_writer(out, &text).expect("writing JSON to memory cannot fail");
}

fn write_integer(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    match value {
        Value::Int(_) => value.write_json(out),
        Value::Decimal(digits) => write_integral(digits, out)?,
        Value::Float(number) => write_integral(&plain_digits(&number.to_string()), out)?,
        Value::Text(text) | Value::Char(text) => write_integral(&plain_digits(text.trim()), out)?,
        _ => return Err("not a number"),
    }
    Ok(())
}

fn write_integral(digits: &str, out: &mut Vec<u8>) -> Result<(), Problem> {
    let digits = Digits::parse(digits)?;
    if digits.fraction.bytes().any(|digit| digit != b'0') {
        return Err("not a whole number");
    }
    let is_zero = digits.whole.bytes().all(|digit| digit == b'0');
    let negative = digits.negative && !is_zero;
    Digits { negative, ..digits }.write_whole(out);
    Ok(())
}

fn write_number(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    match value {
        Value::Int(_) => value.write_json(out),
        Value::Float(number) if number.is_finite() => value.write_json(out),
        Value::Float(_) => return Err("not a finite number"),
        Value::Decimal(digits) => write_exact(digits, out)?,
        Value::Text(text) | Value::Char(text) => write_exact(&plain_digits(text.trim()), out)?,
        _ => return Err("not a number"),
    }
    Ok(())
}

/// A decimal as a JSON number, if a reader with doubles gets the same number.
fn write_exact(text: &str, out: &mut Vec<u8>) -> Result<(), Problem> {
    let digits = Digits::parse(text)?;
    if digits.whole.len() + digits.fraction.len() > DOUBLE_DIGITS {
        let double: f64 = text.parse().map_err(|_| "not a number")?;
        let back = Value::Decimal(plain_digits(&double.to_string()).into());
        if back.compare(&Value::Decimal(text.into())) != Some(Ordering::Equal) {
            return Err("more digits than a JSON number keeps; publish it as a string");
        }
    }
    digits.write_whole(out);
    if !digits.fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(digits.fraction.as_bytes());
    }
    Ok(())
}

fn write_boolean(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let truth = match value {
        Value::Bool(truth) => Some(*truth),
        Value::Int(0) => Some(false),
        Value::Int(1) => Some(true),
        Value::Text(text) | Value::Char(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    Value::Bool(truth.ok_or("neither true nor false")?).write_json(out);
    Ok(())
}

fn write_decimal(text: &str, precision: u32, scale: u32, out: &mut Vec<u8>) -> Result<(), Problem> {
    let digits = Digits::parse(text)?;
    let scale = usize::try_from(scale).map_err(|_| "the scale is too large")?;
    let (kept, cut) = digits.fraction.split_at(scale.min(digits.fraction.len()));
    if cut.bytes().any(|digit| digit != b'0') {
        return Err("more digits after the point than the scale");
    }
    let room = usize::try_from(precision)
        .unwrap_or(usize::MAX)
        .saturating_sub(scale);
    if digits.whole.trim_start_matches('0').len() > room {
        return Err("more digits than the precision");
    }
    out.push(b'"');
    digits.write_whole(out);
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(kept.as_bytes());
        out.resize(out.len() + scale - kept.len(), b'0');
    }
    out.push(b'"');
    Ok(())
}

/// The digits of a decimal number.
struct Digits<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Digits<'a> {
    fn parse(text: &'a str) -> Result<Self, Problem> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
            return Err("not a finite number");
        }
        Ok(Self {
            negative,
            whole,
            fraction,
        })
    }

    /// Appends sign and whole part, without leading zeros.
    fn write_whole(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        let whole = self.whole.trim_start_matches('0');
        out.extend_from_slice(if whole.is_empty() { "0" } else { whole }.as_bytes());
    }
}

fn date(value: &Value<'_>) -> Result<Value<'static>, Problem> {
    match value {
        Value::Date(days) => Ok(Value::Date(*days)),
        Value::Timestamp(i64::MAX) | Value::TimestampTz(i64::MAX) => Ok(Value::Date(i32::MAX)),
        Value::Timestamp(i64::MIN) | Value::TimestampTz(i64::MIN) => Ok(Value::Date(i32::MIN)),
        Value::Timestamp(micros) | Value::TimestampTz(micros) => {
            let days = micros.div_euclid(MICROS_PER_DAY);
            i32::try_from(days)
                .map(Value::Date)
                .map_err(|_| "out of range")
        }
        Value::Text(text) | Value::Char(text) => {
            let text = text.trim();
            let value = DATE.decode(text.as_bytes()).map_err(|_| "not a date")?;
            Ok(value.into_owned())
        }
        _ => Err("not a date"),
    }
}

/// A point in time: with a zone where the value has one.
pub(super) fn timestamp(value: &Value<'_>) -> Result<Value<'static>, Problem> {
    match value {
        Value::Timestamp(micros) => Ok(Value::Timestamp(*micros)),
        Value::TimestampTz(micros) => Ok(Value::TimestampTz(*micros)),
        Value::Date(i32::MAX) => Ok(Value::Timestamp(i64::MAX)),
        Value::Date(i32::MIN) => Ok(Value::Timestamp(i64::MIN)),
        Value::Date(days) => Ok(Value::Timestamp(i64::from(*days) * MICROS_PER_DAY)),
        Value::Text(text) | Value::Char(text) => parse_timestamp(text.trim()),
        _ => Err("not a timestamp"),
    }
}

/// ISO 8601 or the source's own form.
fn parse_timestamp(text: &str) -> Result<Value<'static>, Problem> {
    let spaced = text.replacen('T', " ", 1);
    let spaced = match spaced.strip_suffix('Z') {
        Some(utc) => format!("{utc}+00"),
        None => spaced,
    };
    [&*TIMESTAMPTZ, &*TIMESTAMP]
        .into_iter()
        .find_map(|ty| ty.decode(spaced.as_bytes()).ok().map(Value::into_owned))
        .ok_or("not a timestamp")
}

fn write_document(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    match value {
        Value::Text(text) | Value::Char(text) => {
            let document: &serde_json::value::RawValue =
                serde_json::from_str(text).map_err(|_| "not valid JSON")?;
            out.extend_from_slice(document.get().as_bytes());
        }
        other => other.write_json(out),
    }
    Ok(())
}

fn bytes<'a>(value: &'a Value<'_>) -> Result<&'a [u8], Problem> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Text(text) | Value::Char(text) => Ok(text.as_bytes()),
        _ => Err("neither bytes nor text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(conversion: Conversion, ty: &str, raw: &str) -> Result<String, Problem> {
        let mut out = Vec::new();
        let ty = Type::parse(ty);
        write(conversion, &ty.decode(raw.as_bytes()).unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_decimal_is_padded_and_never_rounded() {
        let two = Conversion::Decimal {
            precision: 5,
            scale: 2,
        };
        assert_eq!(convert(two, "numeric", "120").unwrap(), "\"120.00\"");
        assert_eq!(convert(two, "numeric", "-0.5").unwrap(), "\"-0.50\"");
        assert_eq!(convert(two, "int8", "7").unwrap(), "\"7.00\"");
        assert_eq!(convert(two, "text", " 1e2 ").unwrap(), "\"100.00\"");
        assert_eq!(convert(two, "numeric", "1.230").unwrap(), "\"1.23\"");
        assert!(convert(two, "numeric", "1.234").is_err());
        assert!(convert(two, "numeric", "1234.00").is_err());
        assert!(convert(two, "numeric", "NaN").is_err());
    }

    #[test]
    fn numbers_are_numbers_only_where_a_double_keeps_them() {
        assert_eq!(
            convert(Conversion::Number, "numeric", "120.00").unwrap(),
            "120.00"
        );
        assert_eq!(
            convert(Conversion::Number, "numeric", "0.1").unwrap(),
            "0.1"
        );
        assert!(convert(Conversion::Number, "numeric", "12345678901234567.89").is_err());
        assert_eq!(
            convert(Conversion::Integer, "numeric", "00042.000").unwrap(),
            "42"
        );
        assert!(convert(Conversion::Integer, "numeric", "42.5").is_err());
        assert!(convert(Conversion::Integer, "text", "forty").is_err());
        assert_eq!(convert(Conversion::Integer, "float8", "-0").unwrap(), "0");
        assert_eq!(convert(Conversion::Integer, "text", "1e3").unwrap(), "1000");
        for text in ["1e999999999", "1e-999999999", "1e99999999999999999999"] {
            for conversion in [Conversion::Integer, Conversion::Number] {
                assert!(convert(conversion, "text", text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn points_in_time() {
        assert_eq!(
            convert(
                Conversion::EpochMillis,
                "timestamptz",
                "1969-12-31 23:59:59.9995+00"
            )
            .unwrap(),
            "-1"
        );
        assert_eq!(
            convert(Conversion::Date, "timestamptz", "2026-11-20 23:30:00+00").unwrap(),
            "\"2026-11-20\""
        );
        assert_eq!(
            convert(Conversion::Timestamp, "text", "2026-11-20T10:15:00Z").unwrap(),
            "\"2026-11-20T10:15:00Z\""
        );
        assert!(convert(Conversion::EpochMillis, "timestamptz", "infinity").is_err());
    }

    #[test]
    fn texts_bytes_and_documents() {
        assert_eq!(convert(Conversion::String, "int8", "5").unwrap(), "\"5\"");
        assert_eq!(
            convert(Conversion::String, "jsonb", r#"{"a": "b"}"#).unwrap(),
            r#""{\"a\": \"b\"}""#
        );
        assert_eq!(
            convert(Conversion::Json, "text", "[1, 2]").unwrap(),
            "[1, 2]"
        );
        for (ty, raw, object) in [
            (
                "row(a int4, b numeric)",
                "(1,2.50)",
                r#"{"a":1,"b":"2.50"}"#,
            ),
            ("hstore", "\"a\"=>\"1\"", r#"{"a":"1"}"#),
        ] {
            assert_eq!(convert(Conversion::Json, ty, raw).unwrap(), object);
            let text = convert(Conversion::String, ty, raw).unwrap();
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), object);
        }
        assert!(convert(Conversion::Json, "text", "[1, 2").is_err());
        assert_eq!(
            convert(Conversion::Hex, "bytea", "\\xDEADbeef").unwrap(),
            "\"deadbeef\""
        );
        assert_eq!(
            convert(Conversion::Base64, "text", "hé").unwrap(),
            "\"aMOp\""
        );
        assert_eq!(convert(Conversion::Boolean, "text", "Yes").unwrap(), "true");
        assert!(convert(Conversion::Boolean, "int8", "2").is_err());
    }
}
