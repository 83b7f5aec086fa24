//! JSON forms: mapping-language.md section 5.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::array::{self, Token, Tokens};
use super::decode::{boolean, duration, hex_byte, hex_digits, json, text};
use super::hstore::Pairs;
use super::time::{self, Bounded, DateTime};
use super::{Element, Field, Kind, Problem, Value, composite, number};

impl Value<'_> {
    /// Appends the JSON form.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Float(value) => write_float(*value, out),
            Self::Text(text) | Self::Char(text) => write_json_string(text, out),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_nullable(element.as_ref(), out, |value, out| value.write_json(out));
                }
                out.push(b']');
            }
            Self::Composite(fields) => {
                let mut object = Object::open(out);
                for (name, value) in fields {
                    object.name(name, out);
                    write_nullable(value.as_ref(), out, |value, out| value.write_json(out));
                }
                out.push(b'}');
            }
            Self::Hstore(pairs) => {
                let mut object = Object::open(out);
                for (key, value) in pairs {
                    object.name(key, out);
                    write_nullable(value.as_ref(), out, |text, out| {
                        write_json_string(text, out);
                    });
                }
                out.push(b'}');
            }
            Self::Bool(_) | Self::Int(_) | Self::Json(_) => self.write_text(out),
            Self::Decimal(_)
            | Self::Bytes(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::TimeTz { .. }
            | Self::Timestamp(_)
            | Self::TimestampTz(_)
            | Self::Interval(_) => quoted(out, |out| self.write_text(out)),
        }
    }

    /// Appends the text that a template or key shows: the JSON form without the quotes. Text is as it is,
    /// nothing escaped.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => write_bool(*value, out),
            Self::Int(value) => number::write_integer(*value, out),
            Self::Float(value) => number::write_float(*value, out),
            Self::Decimal(text)
            | Self::Text(text)
            | Self::Char(text)
            | Self::Json(text)
            | Self::Interval(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => write_base64(bytes, out),
            Self::Date(days) => time::write_date(date(*days), out),
            Self::Time(micros) => time::write_time(*micros, out),
            Self::TimeTz {
                micros,
                offset_seconds,
            } => time::write_timetz(*micros, *offset_seconds, out),
            Self::Timestamp(micros) => time::write_timestamp(timestamp(*micros), b"", out),
            Self::TimestampTz(micros) => time::write_timestamp(timestamp(*micros), b"Z", out),
            Self::Array(_) | Self::Composite(_) | Self::Hstore(_) => self.write_json(out),
        }
    }
}

/// Text form to JSON form. What it leaves in `out` on an error is for the caller to cut off.
pub(super) fn transcode(kind: &Kind, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    match kind {
        Kind::Bool => write_bool(boolean(raw)?, out),
        Kind::Int => {
            let value = number::integer(raw)?;
            if number::is_canonical_integer(raw) {
                out.extend_from_slice(raw);
            } else {
                number::write_integer(value, out);
            }
        }
        Kind::Decimal => {
            let digits = number::decimal(raw)?;
            quoted(out, |out| out.extend_from_slice(digits.as_bytes()));
        }
        Kind::Float => write_float(number::float(raw)?, out),
        Kind::Text | Kind::Char => write_json_string(text(raw)?, out),
        Kind::Bytes => transcode_bytes(raw, out)?,
        Kind::Json => out.extend_from_slice(json(raw)?.as_bytes()),
        Kind::Date if time::is_plain_date(raw) => quoted(out, |out| out.extend_from_slice(raw)),
        Kind::Date => {
            let date = time::parse_date(raw)?;
            quoted(out, |out| time::write_date(date, out));
        }
        Kind::Time if time::is_plain_time(raw) => quoted(out, |out| out.extend_from_slice(raw)),
        Kind::Time => {
            let micros = time::parse_time(raw)?;
            quoted(out, |out| time::write_time(micros, out));
        }
        Kind::TimeTz => {
            let (micros, offset_seconds) = time::parse_timetz(raw)?;
            quoted(out, |out| time::write_timetz(micros, offset_seconds, out));
        }
        Kind::Timestamp => match time::plain_timestamp(raw, b"") {
            Some(plain) => write_plain_timestamp(plain, b"", out),
            None => {
                let timestamp = time::parse_timestamp(raw)?;
                quoted(out, |out| time::write_timestamp(timestamp, b"", out));
            }
        },
        Kind::TimestampTz => match time::plain_timestamp(raw, b"+00") {
            Some(plain) => write_plain_timestamp(plain, b"Z", out),
            None => {
                let timestamp = time::parse_timestamptz(raw)?;
                quoted(out, |out| time::write_timestamp(timestamp, b"Z", out));
            }
        },
        Kind::Interval => {
            let duration = duration(raw)?;
            quoted(out, |out| out.extend_from_slice(duration.as_bytes()));
        }
        Kind::Array(_) if array::has_bounds(raw) => write_json_string(text(raw)?, out),
        Kind::Array(element) => transcode_array(element, raw, out)?,
        Kind::Composite(fields) => transcode_composite(fields, raw, out)?,
        Kind::Hstore => transcode_hstore(raw, out)?,
    }
    Ok(())
}

/// Text form to the JSON form without its quotes, nothing escaped. What it leaves in `out` on an error is
/// for the caller to cut off.
pub(super) fn transcode_text(kind: &Kind, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    match kind {
        Kind::Text | Kind::Char => out.extend_from_slice(text(raw)?.as_bytes()),
        Kind::Array(_) if array::has_bounds(raw) => out.extend_from_slice(text(raw)?.as_bytes()),
        Kind::Date if time::is_plain_date(raw) => out.extend_from_slice(raw),
        _ => {
            let start = out.len();
            transcode(kind, raw, out)?;
            // What is in quotes here are digits, names and base64, which need no escapes.
            let is_document = matches!(kind, Kind::Json);
            if !is_document && out.get(start) == Some(&b'"') {
                out.remove(start);
                out.pop();
            }
        }
    }
    Ok(())
}

fn transcode_array(element: &Element, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut tokens = Tokens::new(raw, element.delimiter);
    let mut separate = false;
    loop {
        let token = tokens.next()?;
        if separate && !matches!(token, Token::Close | Token::End) {
            out.push(b',');
        }
        separate = !matches!(token, Token::Open);
        match token {
            Token::Open => out.push(b'['),
            Token::Close => out.push(b']'),
            Token::Null => out.extend_from_slice(b"null"),
            Token::Element(raw) => transcode(&element.kind, &raw, out)?,
            Token::End => return Ok(()),
        }
    }
}

fn transcode_composite(fields: &[Field], raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut object = Object::open(out);
    composite::read(raw, fields.len(), |number, value| {
        let Field { name, kind } = &fields[number];
        object.name(name, out);
        match value {
            Some(raw) => transcode(kind, &raw, out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    })?;
    out.push(b'}');
    Ok(())
}

fn transcode_hstore(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut pairs = Pairs::new(raw);
    let mut object = Object::open(out);
    while let Some((key, value)) = pairs.next()? {
        object.name(text(&key)?, out);
        match value {
            Some(raw) => write_json_string(text(&raw)?, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

/// An object that is being written member by member.
struct Object {
    is_empty: bool,
}

impl Object {
    fn open(out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { is_empty: true }
    }

    /// Appends a member's name; its value follows.
    fn name(&mut self, name: &str, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_empty) {
            out.push(b',');
        }
        write_json_string(name, out);
        out.push(b':');
    }
}

fn write_nullable<T>(value: Option<&T>, out: &mut Vec<u8>, write: impl FnOnce(&T, &mut Vec<u8>)) {
    match value {
        Some(value) => write(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Bytes of `bytea` per step of the way from hexadecimal to base64: a multiple of 3, so that only the
/// last step pads.
const BYTES_PER_STEP: usize = 384;

fn transcode_bytes(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let pairs = hex_digits(raw)?;
    out.push(b'"');
    let mut bytes = [0; BYTES_PER_STEP];
    for step in pairs.chunks(BYTES_PER_STEP) {
        for (byte, pair) in bytes.iter_mut().zip(step) {
            *byte = hex_byte(*pair)?;
        }
        write_base64(&bytes[..step.len()], out);
    }
    out.push(b'"');
    Ok(())
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(bytes, &mut out[start..])
        .expect("room was made for all of it");
    out.truncate(start + written);
}

fn write_plain_timestamp((date, time): (&[u8], &[u8]), zone: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(time);
    out.extend_from_slice(zone);
    out.push(b'"');
}

fn write_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// JSON has no numbers for what is not finite: those are strings.
fn write_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        number::write_float(value, out);
    } else {
        quoted(out, |out| number::write_float(value, out));
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends `text` as a JSON string (RFC 8259 section 7): quotes, backslashes and control characters are
/// escaped, all else is as it is. Runs that need no escape are copied whole.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && !matches!(byte, b'"' | b'\\') {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        let escape = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0xF));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escape]);
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

const fn date(days: i32) -> Bounded<i32> {
    match days {
        i32::MIN => Bounded::NegativeInfinity,
        i32::MAX => Bounded::Infinity,
        _ => Bounded::Finite(days),
    }
}

const fn timestamp(micros: i64) -> Bounded<DateTime> {
    match micros {
        i64::MIN => Bounded::NegativeInfinity,
        i64::MAX => Bounded::Infinity,
        _ => Bounded::Finite(DateTime::from_micros(micros)),
    }
}
