//! A cell written as JSON, turned into the text form that `Type::decode` reads.
//!
//! Accepted are the JSON forms of mapping-language.md section 5 and the text form itself as a string;
//! `Type::decode` has the last word on both, so a cell that no rule could read is refused here.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_api::{Element, Field, Kind, Type};
use serde_json::{Map, Value};

use super::row_change::OwnedCell;

/// Reads `json`, the text of one JSON value, as a cell of type `ty`.
///
/// A JSON null is a null of the source, also in a `json` column, where the value `null` cannot be told
/// from it.
///
/// # Errors
/// What is wrong, without the value.
pub(crate) fn from_json(ty: &Type, json: &str) -> Result<OwnedCell, String> {
    if json == "null" {
        return Ok(OwnedCell::Null);
    }
    let text = match &ty.kind {
        Kind::Json => json.to_owned(),
        kind => text_form(kind, &parse(json)?)?.into_owned(),
    };
    checked(ty, text)
}

/// A cell that is in text form already, once `Type::decode` agrees.
pub(crate) fn checked(ty: &Type, text: String) -> Result<OwnedCell, String> {
    // Only rules decide whether a value that PostgreSQL can store and nobody can compute with is bad, so
    // the check is the one that publishing makes.
    ty.write_json(text.as_bytes(), &mut Vec::new())
        .map_err(|error| error.to_string())?;
    Ok(OwnedCell::Value(text.into_bytes()))
}

fn parse(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|_| "not JSON".to_owned())
}

fn text_form<'a>(kind: &Kind, value: &'a Value) -> Result<Cow<'a, str>, String> {
    match (kind, value) {
        (Kind::Array(element), Value::Array(elements)) => array(element, elements).map(Cow::Owned),
        (Kind::Composite(fields), Value::Object(members)) => {
            composite(fields, members).map(Cow::Owned)
        }
        (Kind::Hstore, Value::Object(members)) => hstore(members).map(Cow::Owned),
        (Kind::Json, value) => Ok(Cow::Owned(value.to_string())),
        (Kind::Bytes, Value::String(text)) if !text.starts_with("\\x") => STANDARD
            .decode(text)
            .map(|bytes| Cow::Owned(hex(&bytes)))
            .map_err(|_| "expected base64, or `\\x` and hexadecimal digits".to_owned()),
        (_, Value::String(text)) => Ok(Cow::Borrowed(text)),
        (Kind::Int | Kind::Decimal | Kind::Float, Value::Number(number)) => {
            Ok(Cow::Owned(number.to_string()))
        }
        (Kind::Bool, Value::Bool(value)) => Ok(Cow::Borrowed(if *value { "t" } else { "f" })),
        (kind, value) => Err(format!("expected {}, found {}", wanted(kind), found(value))),
    }
}

/// PostgreSQL's array literal: "Array Input and Output Syntax" in its manual.
fn array(element: &Element, elements: &[Value]) -> Result<String, String> {
    let mut literal = String::from("{");
    for (index, value) in elements.iter().enumerate() {
        if index > 0 {
            literal.push(char::from(element.delimiter));
        }
        match value {
            Value::Null => literal.push_str("NULL"),
            // PostgreSQL does not tell text[] from text[][]: what nests in the value nests in the literal,
            // but for elements that are documents or (a domain over an array) arrays themselves.
            Value::Array(nested) if !matches!(element.kind, Kind::Json | Kind::Array(_)) => {
                literal.push_str(&array(element, nested)?);
            }
            value => push_quoted(&text_form(&element.kind, value)?, &mut literal),
        }
    }
    literal.push('}');
    Ok(literal)
}

/// An array from its elements' text forms.
///
/// # Errors
/// What is wrong, without the value.
pub(crate) fn array_of_texts(ty: &Type, elements: &[Option<Vec<u8>>]) -> Result<OwnedCell, String> {
    let Kind::Array(element) = &ty.kind else {
        return Err(format!("{} is not an array", ty.name));
    };
    let mut literal = String::from("{");
    for (index, text) in elements.iter().enumerate() {
        if index > 0 {
            literal.push(char::from(element.delimiter));
        }
        match text {
            Some(text) => {
                let text = str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
                push_quoted(text, &mut literal);
            }
            None => literal.push_str("NULL"),
        }
    }
    literal.push('}');
    checked(ty, literal)
}

/// "Composite Type Input and Output Syntax". Every field is named: one that is left out would be made up.
fn composite(fields: &[Field], members: &Map<String, Value>) -> Result<String, String> {
    let known = |name: &String| fields.iter().any(|field| *field.name == **name);
    if let Some(name) = members.keys().find(|name| !known(name)) {
        return Err(format!("the type has no field `{name}`"));
    }
    let mut literal = String::from("(");
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        let value = members.get(&*field.name);
        match value.ok_or_else(|| format!("field `{}` is missing", field.name))? {
            Value::Null => {}
            value => push_quoted(&text_form(&field.kind, value)?, &mut literal),
        }
    }
    literal.push(')');
    Ok(literal)
}

fn hstore(members: &Map<String, Value>) -> Result<String, String> {
    let mut literal = String::new();
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            literal.push_str(", ");
        }
        push_quoted(key, &mut literal);
        literal.push_str("=>");
        match value {
            Value::Null => literal.push_str("NULL"),
            Value::String(text) => push_quoted(text, &mut literal),
            value => return Err(format!("expected text or null, found {}", found(value))),
        }
    }
    Ok(literal)
}

fn push_quoted(text: &str, literal: &mut String) {
    literal.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal.push('"');
}

/// `bytea` as the server prints it with `bytea_output = hex`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Int | Kind::Float => "a number",
        Kind::Decimal => "a decimal in quotes, or a number",
        Kind::Array(_) => "an array, or its text form",
        Kind::Composite(_) | Kind::Hstore => "an object, or its text form",
        Kind::Bytes => "base64 in quotes",
        _ => "a string",
    }
}

const fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
