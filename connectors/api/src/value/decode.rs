//! Text form to value.

use std::borrow::Cow;
use std::sync::Arc;

use super::array::{self, Token, Tokens};
use super::hstore::Pairs;
use super::time::{self, Bounded, DateTime};
use super::{Element, Field, Kind, NOT_UTF8, Problem, Value, composite, interval, number};

pub(super) fn decode<'a>(kind: &Kind, raw: &'a [u8]) -> Result<Value<'a>, Problem> {
    Ok(match kind {
        Kind::Bool => Value::Bool(boolean(raw)?),
        Kind::Int => Value::Int(number::integer(raw)?),
        Kind::Decimal => Value::Decimal(number::decimal(raw)?),
        Kind::Float => Value::Float(number::float(raw)?),
        Kind::Text => Value::Text(Cow::Borrowed(text(raw)?)),
        Kind::Char => Value::Char(Cow::Borrowed(text(raw)?)),
        Kind::Bytes => Value::Bytes(Cow::Owned(bytes(raw)?)),
        Kind::Json => Value::Json(Cow::Borrowed(json(raw)?)),
        Kind::Date => Value::Date(days(time::parse_date(raw)?)),
        Kind::Time => Value::Time(time::parse_time(raw)?),
        Kind::TimeTz => {
            let (micros, offset_seconds) = time::parse_timetz(raw)?;
            Value::TimeTz {
                micros,
                offset_seconds,
            }
        }
        Kind::Timestamp => Value::Timestamp(micros(time::parse_timestamp(raw)?)?),
        Kind::TimestampTz => Value::TimestampTz(micros(time::parse_timestamptz(raw)?)?),
        Kind::Interval => Value::Interval(Cow::Borrowed(duration(raw)?)),
        Kind::Array(_) if array::has_bounds(raw) => Value::Text(Cow::Borrowed(text(raw)?)),
        Kind::Array(element) => Value::Array(elements(element, raw)?),
        Kind::Composite(fields) => Value::Composite(members(fields, raw)?),
        Kind::Hstore => Value::Hstore(pairs(raw)?),
    })
}

pub(super) fn text(raw: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(raw).map_err(|_| NOT_UTF8)
}

/// `t` and `f` as the server prints them, or the words as cases write them.
pub(super) fn boolean(raw: &[u8]) -> Result<bool, Problem> {
    match raw {
        b"t" | b"true" => Ok(true),
        b"f" | b"false" => Ok(false),
        _ => Err("neither t nor f"),
    }
}

/// The two hexadecimal digits of each byte.
pub(super) fn hex_digits(raw: &[u8]) -> Result<&[[u8; 2]], Problem> {
    let digits = raw
        .strip_prefix(b"\\x")
        .ok_or("not \\x and hexadecimal digits")?;
    let (pairs, rest) = digits.as_chunks();
    if rest.is_empty() {
        Ok(pairs)
    } else {
        Err("half a byte at the end")
    }
}

pub(super) fn hex_byte([high, low]: [u8; 2]) -> Result<u8, Problem> {
    const PROBLEM: Problem = "not a hexadecimal digit";
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(PROBLEM),
    };
    Ok(digit(high)? << 4 | digit(low)?)
}

fn bytes(raw: &[u8]) -> Result<Vec<u8>, Problem> {
    hex_digits(raw)?
        .iter()
        .map(|pair| hex_byte(*pair))
        .collect()
}

/// A JSON document as it is. The server only stores valid ones; what a case or capture holds may be
/// anything, and a broken document would break the event around it.
pub(super) fn json(raw: &[u8]) -> Result<&str, Problem> {
    let text = text(raw)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| "not a JSON document")?;
    Ok(text)
}

pub(super) fn duration(raw: &[u8]) -> Result<&str, Problem> {
    let text = text(raw)?;
    interval::span_micros(text)?;
    Ok(text)
}

const fn days(date: Bounded<i32>) -> i32 {
    match date {
        Bounded::NegativeInfinity => i32::MIN,
        Bounded::Finite(days) => days,
        Bounded::Infinity => i32::MAX,
    }
}

fn micros(timestamp: Bounded<DateTime>) -> Result<i64, Problem> {
    match timestamp {
        Bounded::NegativeInfinity => Ok(i64::MIN),
        Bounded::Finite(timestamp) => timestamp.to_micros(),
        Bounded::Infinity => Ok(i64::MAX),
    }
}

fn elements<'a>(element: &Element, raw: &'a [u8]) -> Result<Vec<Option<Value<'a>>>, Problem> {
    let mut tokens = Tokens::new(raw, element.delimiter);
    // The arrays that are open, outermost first, below one that takes the whole.
    let mut open = vec![Vec::new()];
    loop {
        let value = match tokens.next()? {
            Token::Open => {
                open.push(Vec::new());
                continue;
            }
            Token::Close => open.pop().map(Value::Array),
            Token::Null => None,
            Token::Element(raw) => Some(decode_cow(&element.kind, raw)?),
            Token::End => break,
        };
        if let Some(innermost) = open.last_mut() {
            innermost.push(value);
        }
    }
    match open.pop().and_then(|mut whole| whole.pop()).flatten() {
        Some(Value::Array(elements)) => Ok(elements),
        _ => Err("not an array literal"),
    }
}

fn decode_cow<'a>(kind: &Kind, raw: Cow<'a, [u8]>) -> Result<Value<'a>, Problem> {
    match raw {
        Cow::Borrowed(raw) => decode(kind, raw),
        Cow::Owned(raw) => decode(kind, &raw).map(Value::into_owned),
    }
}

type Member<'a> = (Arc<str>, Option<Value<'a>>);

fn members<'a>(fields: &[Field], raw: &'a [u8]) -> Result<Vec<Member<'a>>, Problem> {
    let mut members = Vec::with_capacity(fields.len());
    composite::read(raw, fields.len(), |number, value| {
        let Field { name, kind } = &fields[number];
        let value = value.map(|raw| decode_cow(kind, raw)).transpose()?;
        members.push((Arc::clone(name), value));
        Ok(())
    })?;
    Ok(members)
}

type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

fn pairs(raw: &[u8]) -> Result<Vec<Pair<'_>>, Problem> {
    let mut pairs = Pairs::new(raw);
    let mut found = Vec::new();
    while let Some((key, value)) = pairs.next()? {
        found.push((text_cow(key)?, value.map(text_cow).transpose()?));
    }
    Ok(found)
}

fn text_cow(raw: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Problem> {
    match raw {
        Cow::Borrowed(raw) => text(raw).map(Cow::Borrowed),
        Cow::Owned(raw) => String::from_utf8(raw).map(Cow::Owned).map_err(|_| NOT_UTF8),
    }
}
