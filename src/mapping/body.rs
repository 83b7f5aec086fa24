//! The event's data: a pre-compiled JSON template filled from cells.

use rowbridge_api::Value;

use super::context::{Context, Found, Plain, Written, write_json};
use super::convert::{self, quote_since};
use super::delta::delta;
use super::expression::path::Place;
use super::expression::template::{Part, Template};
use super::fault::Fault;
use super::judge::{json_number, order};
use super::privacy::Form;
use super::rule::{Arm, Conversion, Field, FieldValue, Otherwise};

/// What a map makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// Absent or null.
    NoValue,
    /// Number of the arm.
    As(usize),
    Not,
}

impl<'a> Context<'a> {
    /// Appends the fields as one JSON object.
    ///
    /// # Errors
    /// A place is unavailable, a required value is missing, or a value has not the form it should have.
    pub(super) fn write_object(&self, fields: &'a [Field], out: &mut Vec<u8>) -> Result<(), Fault> {
        out.push(b'{');
        for field in fields {
            out.extend_from_slice(&field.prefix);
            let written = self
                .write_value(&field.value, out)
                .map_err(|fault| in_field(field, fault))?;
            if written == Written::Nothing {
                if field.required {
                    return Err(Fault::new(format!(
                        "field `{}` is required and has no value",
                        field.name
                    )));
                }
                out.extend_from_slice(b"null");
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn write_value(&self, value: &'a FieldValue, out: &mut Vec<u8>) -> Result<Written, Fault> {
        match value {
            FieldValue::Const(json) => out.extend_from_slice(json),
            FieldValue::Place {
                place,
                convert,
                default,
            } => {
                if self.write_place(place, *convert, out)? == Written::Nothing {
                    return Ok(write_default(default.as_deref(), out));
                }
            }
            FieldValue::Coalesce {
                places,
                convert,
                default,
            } => {
                for place in places {
                    if self.write_place(place, *convert, out)? == Written::Value {
                        return Ok(Written::Value);
                    }
                }
                return Ok(write_default(default.as_deref(), out));
            }
            FieldValue::Delta {
                before,
                after,
                convert,
            } => return self.write_delta(before, after, *convert, out),
            FieldValue::Map {
                place,
                with,
                otherwise,
            } => match (self.listed(place, with)?, otherwise) {
                (Listed::NoValue, _) => return Ok(Written::Nothing),
                (Listed::As(arm), _) => out.extend_from_slice(&with[arm].1),
                (Listed::Not, Otherwise::Json(json)) => out.extend_from_slice(json),
                (Listed::Not, Otherwise::Unsaid | Otherwise::Error) => {
                    return Err(Fault::new(format!(
                        "the value of {} is not in the map",
                        self.name_of(place)
                    )));
                }
            },
            FieldValue::Template(template) => {
                let start = out.len();
                self.write_template(template, out)?;
                quote_since(start, out);
            }
            FieldValue::Object(fields) => self.write_object(fields, out)?,
            FieldValue::Protected { value, class } => {
                let start = out.len();
                if self.write_value(value, out)? == Written::Nothing {
                    return Ok(Written::Nothing);
                }
                self.protect_json_since(*class, start, out)?;
            }
        }
        Ok(Written::Value)
    }

    /// Which arm of a map is taken.
    pub(super) fn listed(&self, place: &Place, with: &'a [Arm]) -> Result<Listed, Fault> {
        let found = self.read(place)?;
        if matches!(found, Found::Nothing | Found::Null) {
            return Ok(Listed::NoValue);
        }
        for (number, (from, _)) in with.iter().enumerate() {
            if order(&found, &from.found())?.is_some_and(std::cmp::Ordering::is_eq) {
                return Ok(Listed::As(number));
            }
        }
        Ok(Listed::Not)
    }

    pub(super) fn write_place(
        &self,
        place: &Place,
        convert: Option<Conversion>,
        out: &mut Vec<u8>,
    ) -> Result<Written, Fault> {
        if let Some(Plain::Cell(ty, raw)) = self.plain_cell(place) {
            match convert {
                None => return self.written(place, ty.write_json(raw, out)),
                Some(Conversion::String) => {
                    let start = out.len();
                    let written = self.written(place, ty.write_text(raw, out))?;
                    quote_since(start, out);
                    return Ok(written);
                }
                Some(_) => {}
            }
        }
        if place.shield().is_some() {
            return match convert {
                // Of the conversions, the compiler lets this one and `json` stand.
                Some(Conversion::String) => {
                    let start = out.len();
                    let written = self.write_protected(place, Form::Text, out)?;
                    if written == Written::Value {
                        quote_since(start, out);
                    }
                    Ok(written)
                }
                _ => self.write_protected(place, Form::Json, out),
            };
        }
        let found = self.read(place)?;
        match (&found, convert) {
            (Found::Nothing | Found::Null, _) => return Ok(Written::Nothing),
            (Found::Cell(ty, raw), None) => return self.written(place, ty.write_json(raw, out)),
            (Found::Value(value), None) => value.write_json(out),
            (Found::Literal(value), None) => value.write_json(out),
            (Found::Json(json), None) => write_json(json, out),
            (_, Some(conversion)) => {
                let value = self.value(place, &found)?;
                self.convert(place, conversion, &value, out)?;
            }
        }
        Ok(Written::Value)
    }

    fn convert(
        &self,
        place: &Place,
        conversion: Conversion,
        value: &Value<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        convert::write(conversion, value, out).map_err(|problem| {
            Fault::new(format!(
                "{} cannot be converted: {problem}",
                self.name_of(place)
            ))
        })
    }

    /// What was found as one decoded value; a document as its text.
    pub(super) fn value<'f>(
        &self,
        place: &Place,
        found: &'f Found<'_>,
    ) -> Result<Value<'f>, Fault> {
        Ok(match found {
            Found::Cell(ty, raw) => ty
                .decode(raw)
                .map_err(|error| Fault::value(&self.name_of(place), &error))?,
            Found::Value(value) => value.clone(),
            Found::Literal(value) => (*value).clone(),
            Found::Json(serde_json::Value::String(text)) => Value::Text(text.as_str().into()),
            Found::Json(serde_json::Value::Number(number)) => json_number(number),
            Found::Json(serde_json::Value::Bool(value)) => Value::Bool(*value),
            Found::Json(json) => Value::Json(json.to_string().into()),
            Found::Nothing | Found::Null => Value::Json("null".into()),
        })
    }

    fn write_delta(
        &self,
        before: &Place,
        after: &Place,
        convert: Option<Conversion>,
        out: &mut Vec<u8>,
    ) -> Result<Written, Fault> {
        let (old, new) = (self.read(before)?, self.read(after)?);
        let missing = |found: &Found<'_>| matches!(found, Found::Nothing | Found::Null);
        if missing(&old) || missing(&new) {
            return Ok(Written::Nothing);
        }
        let difference = delta(&self.value(before, &old)?, &self.value(after, &new)?)
            .ok_or_else(|| Fault::new(format!("{} is not a number", self.name_of(after))))?;
        match convert {
            None => difference.write_json(out),
            Some(conversion) => self.convert(after, conversion, &difference, out)?,
        }
        Ok(Written::Value)
    }

    /// Appends a template's text.
    ///
    /// # Errors
    /// A place in it is absent, null or unavailable.
    pub(super) fn write_template(
        &self,
        template: &Template,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        for part in &template.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Place(place) => {
                    if self.write_text(place, out)? == Written::Nothing {
                        return Err(Fault::new(format!(
                            "{} has no value and stands in a template",
                            self.name_of(place)
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_default(default: Option<&[u8]>, out: &mut Vec<u8>) -> Written {
    match default {
        Some(json) => {
            out.extend_from_slice(json);
            Written::Value
        }
        None => Written::Nothing,
    }
}

#[cold]
fn in_field(field: &Field, mut fault: Fault) -> Fault {
    fault.problem = format!("field `{}`: {}", field.name, fault.problem);
    fault
}
