//! How Debezium and Kafka Connect write values, back into the source's text form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Span};
use rowbridge_api::{Kind, Type};

use super::super::cell;
use super::super::node::{Node, Problem};
use super::super::row_change::OwnedCell;

/// `unavailable.value.placeholder` by default. Binary columns have it in base64, number arrays as its
/// bytes, uuid arrays as `UUID.nameUUIDFromBytes` of it.
const PLACEHOLDER: &str = "__debezium_unavailable_value";
const PLACEHOLDER_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

const DAY_MICROS: i64 = 86_400_000_000;

/// One field of a Connect schema: what decides how its value reads.
#[derive(Clone, Debug)]
pub(super) struct FieldSchema<'a> {
    pub(super) name: String,
    /// The logical type, empty where the field has none.
    logical: String,
    scale: Option<i64>,
    /// Of an array's elements.
    items: Option<Node<'a>>,
}

impl<'a> FieldSchema<'a> {
    fn read(schema: Node<'a>) -> Result<Self, Problem> {
        let object = schema.object()?;
        let text = |name: &str| {
            let member = object.get(name);
            member.map_or(Ok(String::new()), Node::string)
        };
        let scale = match object.get("parameters").map(Node::object).transpose()? {
            Some(parameters) => parameters.get("scale").map(Node::integer).transpose()?,
            None => None,
        };
        Ok(Self {
            name: text("field")?,
            logical: text("name")?,
            scale,
            items: object.get("items"),
        })
    }
}

/// The fields of image `name` (`before`, `after`) in an envelope's schema.
pub(super) fn image_fields<'a>(
    schema: Node<'a>,
    name: &str,
) -> Result<Vec<FieldSchema<'a>>, Problem> {
    for field in schema.object()?.require("fields")?.array()? {
        let object = field.object()?;
        if object
            .get("field")
            .map(Node::string)
            .transpose()?
            .as_deref()
            == Some(name)
        {
            let fields = object.require("fields")?.array()?;
            return fields.into_iter().map(FieldSchema::read).collect();
        }
    }
    Err(schema.problem(format!("the schema has no field `{name}`")))
}

/// Reads `value` as a cell of `ty`; `field` is its schema, if the envelope has one.
pub(super) fn cell(
    ty: &Type,
    field: Option<&FieldSchema<'_>>,
    value: Node<'_>,
) -> Result<OwnedCell, String> {
    if value.is_null() {
        return Ok(OwnedCell::Null);
    }
    if is_placeholder(value) {
        return Ok(OwnedCell::Unavailable);
    }
    if let Some(element) = ty.element()
        && value.text().starts_with('[')
    {
        return array(ty, &element, field, value);
    }
    let text = match field {
        Some(field) => by_schema(ty, field, value)?,
        None => by_type(ty, value)?,
    };
    match text {
        Some(text) => cell::checked(ty, text),
        None => cell::from_json(ty, value.text()),
    }
}

/// Whether the connector wrote its placeholder for an unchanged TOAST value.
fn is_placeholder(value: Node<'_>) -> bool {
    if let Ok(text) = value.string() {
        return text == PLACEHOLDER
            || text == STANDARD.encode(PLACEHOLDER)
            || text == PLACEHOLDER_UUID;
    }
    if let Ok(object) = value.object() {
        return matches!(object.members.as_slice(), [(name, _)] if name == PLACEHOLDER);
    }
    let Ok(elements) = value.array() else {
        return false;
    };
    match elements.as_slice() {
        [] => false,
        [element] => is_placeholder(*element),
        bytes => {
            bytes.len() == PLACEHOLDER.len()
                && bytes
                    .iter()
                    .zip(PLACEHOLDER.bytes())
                    .all(|(element, byte)| element.text() == byte.to_string())
        }
    }
}

fn array(
    ty: &Type,
    element: &Type,
    field: Option<&FieldSchema<'_>>,
    value: Node<'_>,
) -> Result<OwnedCell, String> {
    let wrong = |problem: Problem| problem.message;
    let items = field.and_then(|field| field.items);
    let items = items.map(FieldSchema::read).transpose().map_err(wrong)?;
    let mut elements = Vec::new();
    for value in value.array().map_err(wrong)? {
        elements.push(match cell(element, items.as_ref(), value)? {
            OwnedCell::Value(text) => Some(text),
            OwnedCell::Null => None,
            OwnedCell::Unavailable => return Ok(OwnedCell::Unavailable),
        });
    }
    cell::array_of_texts(ty, &elements)
}

/// The text form by the field's logical type; `None` where its JSON reads like change JSON.
fn by_schema(
    ty: &Type,
    field: &FieldSchema<'_>,
    value: Node<'_>,
) -> Result<Option<String>, String> {
    let number = || value.integer::<i64>().map_err(|problem| problem.message);
    let text = match field.logical.as_str() {
        "org.apache.kafka.connect.data.Decimal" => {
            let scale = field
                .scale
                .ok_or("the schema gives this decimal no scale")?;
            unscaled(&string(value)?, scale)?
        }
        "io.debezium.data.VariableScaleDecimal" => variable_scale(value)?,
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => date(number()?)?,
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => {
            date_time(ty, i128::from(number()?) * 1_000_000)?
        }
        "io.debezium.time.MicroTimestamp" => date_time(ty, i128::from(number()?) * 1_000)?,
        "io.debezium.time.NanoTimestamp" => date_time(ty, i128::from(number()?))?,
        "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time" => {
            time_of_day(number()?.saturating_mul(1_000))?
        }
        "io.debezium.time.MicroTime" => time_of_day(number()?)?,
        "io.debezium.time.NanoTime" => time_of_day(number()? / 1_000)?,
        "io.debezium.time.MicroDuration" => duration(number()?),
        _ => return without_logical_type(ty, value),
    };
    Ok(Some(text))
}

/// The text form by the column's type, under the connector's default settings.
fn by_type(ty: &Type, value: Node<'_>) -> Result<Option<String>, String> {
    let is_number = !value.is_string() && !value.is_object();
    let number = || value.integer::<i64>().map_err(|problem| problem.message);
    // "adaptive": milliseconds up to three digits of fraction, else microseconds.
    let unit_micros = if matches!(fraction_digits(&ty.name), Some(0..=3)) {
        1_000
    } else {
        1
    };
    let text = match ty.kind {
        Kind::Decimal if value.is_object() => variable_scale(value)?,
        Kind::Decimal if value.is_string() => decimal(&string(value)?, declared_scale(&ty.name))?,
        Kind::Date if is_number => date(number()?)?,
        Kind::Timestamp | Kind::TimestampTz if is_number => {
            date_time(ty, i128::from(number()?) * i128::from(unit_micros) * 1_000)?
        }
        Kind::Time if is_number => time_of_day(number()?.saturating_mul(unit_micros))?,
        Kind::Interval if is_number => duration(number()?),
        _ => return without_logical_type(ty, value),
    };
    Ok(Some(text))
}

/// What reads the same with and without schema: documents and hstores come as strings of JSON.
fn without_logical_type(ty: &Type, value: Node<'_>) -> Result<Option<String>, String> {
    match ty.kind {
        Kind::Json if value.is_string() => string(value).map(Some),
        // `hstore.handling.mode = json`, the default; the text form of an hstore never begins so.
        Kind::Hstore if value.is_string() => {
            let text = string(value)?;
            if !text.starts_with('{') {
                return Ok(Some(text));
            }
            match cell::from_json(ty, &text)? {
                OwnedCell::Value(text) => Ok(String::from_utf8(text).ok()),
                OwnedCell::Null | OwnedCell::Unavailable => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn string(value: Node<'_>) -> Result<String, String> {
    value.string().map_err(|problem| problem.message)
}

/// A decimal of unknown handling mode: `precise` writes base64, `string` digits. Digits alone are the
/// value where the type has no fraction, base64 where it has one (`string` would show it).
fn decimal(text: &str, scale: Option<i64>) -> Result<String, String> {
    let word = matches!(text, "NaN" | "Infinity" | "-Infinity");
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let shows_fraction = text.contains(['.', '-']);
    if word || shows_fraction || (is_digits && scale.unwrap_or(0) == 0) {
        return Ok(text.to_owned());
    }
    let scale = scale.ok_or(
        "a decimal in base64 needs its scale: from the schema, or as numeric(p,s) in schema.toml",
    )?;
    unscaled(text, scale)
}

/// Digits before the point that PostgreSQL stores at most; after it are fewer ("Numeric Types" in its manual). A scale
/// is written out as zeros.
const MAX_SCALE: u64 = 131_072;

/// A big-endian two's complement integer in base64, divided by 10^scale.
fn unscaled(base64: &str, scale: i64) -> Result<String, String> {
    if scale.unsigned_abs() > MAX_SCALE {
        return Err("a scale that no decimal has".to_owned());
    }
    let bytes = STANDARD
        .decode(base64)
        .map_err(|_| "expected a decimal in base64")?;
    let number = BigDecimal::new(BigInt::from_signed_bytes_be(&bytes), scale);
    Ok(number.to_plain_string())
}

fn variable_scale(value: Node<'_>) -> Result<String, String> {
    let wrong = |problem: Problem| problem.message;
    let object = value.object().map_err(wrong)?;
    let scale = object
        .require("scale")
        .and_then(Node::integer)
        .map_err(wrong)?;
    let digits = object
        .require("value")
        .and_then(Node::string)
        .map_err(wrong)?;
    unscaled(&digits, scale)
}

/// `2` of `numeric(10,2)`; `0` of `numeric(10)`.
fn declared_scale(name: &str) -> Option<i64> {
    let (_, modifiers) = name.split_once('(')?;
    let modifiers = modifiers.trim_end_matches(')');
    match modifiers.split_once(',') {
        Some((_, scale)) => scale.trim().parse().ok(),
        None => Some(0),
    }
}

/// `3` of `timestamp(3)`.
fn fraction_digits(name: &str) -> Option<u8> {
    let (_, rest) = name.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

fn date(days: i64) -> Result<String, String> {
    let since_epoch = Span::new().try_days(days);
    let date = since_epoch.and_then(|since| Date::constant(1970, 1, 1).checked_add(since));
    date.map(|date| date.to_string())
        .map_err(|_| "a date out of range".to_owned())
}

fn date_time(ty: &Type, nanos: i128) -> Result<String, String> {
    let since_epoch = SignedDuration::try_from_nanos_i128(nanos);
    let moment = since_epoch
        .and_then(|since| {
            DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
                .checked_add(since)
                .ok()
        })
        .ok_or("a timestamp out of range")?;
    let zone = if ty.kind == Kind::TimestampTz {
        "+00"
    } else {
        ""
    };
    Ok(format!("{} {}{zone}", moment.date(), moment.time()))
}

fn time_of_day(micros: i64) -> Result<String, String> {
    if micros == DAY_MICROS {
        return Ok("24:00:00".to_owned());
    }
    let time = Time::midnight().checked_add(SignedDuration::from_micros(micros));
    match time {
        Ok(time) if (0..DAY_MICROS).contains(&micros) => Ok(time.to_string()),
        _ => Err("a time of day out of range".to_owned()),
    }
}

/// Microseconds as an ISO 8601 duration. The connector has already approximated months and years.
fn duration(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let magnitude = micros.unsigned_abs();
    format!(
        "PT{sign}{}.{:06}S",
        magnitude / 1_000_000,
        magnitude % 1_000_000
    )
}
