//! Literals of conditions and parameters, converted once to the type of the column they meet.

use jsonpath_rust::parser::model::Literal as Parsed;
use rowbridge_api::{Kind, Type, Value};

/// A literal as the evaluator compares it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::mapping) enum Literal {
    Null,
    Value(Value<'static>),
}

/// A literal as it is written, before it meets a column.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::mapping) enum Written {
    Null,
    Bool(bool),
    /// A number's digits.
    Number(String),
    Text(String),
}

impl Written {
    /// A parsed literal; `source` is how it is written, which keeps digits that a float would lose.
    pub(super) fn parsed(literal: &Parsed, source: &str) -> Self {
        match literal {
            Parsed::Null => Self::Null,
            Parsed::Bool(value) => Self::Bool(*value),
            Parsed::Int(value) => Self::Number(value.to_string()),
            Parsed::Float(value) => Self::Number(match source.parse::<f64>() {
                Ok(_) => source.to_owned(),
                Err(_) => value.to_string(),
            }),
            Parsed::String(value) => Self::Text(value.clone()),
        }
    }

    /// A parameter's value, if it can be compared with a column.
    pub(in crate::mapping) fn of_toml(value: &toml::Value) -> Option<Self> {
        Some(match value {
            toml::Value::String(text) => Self::Text(text.clone()),
            toml::Value::Integer(number) => Self::Number(number.to_string()),
            toml::Value::Float(number) => Self::Number(number.to_string()),
            toml::Value::Boolean(value) => Self::Bool(*value),
            toml::Value::Datetime(datetime) => Self::Text(datetime.to_string()),
            toml::Value::Array(_) | toml::Value::Table(_) => return None,
        })
    }

    /// Without a column's type to meet: as JSON has it.
    pub(in crate::mapping) fn untyped(&self) -> Literal {
        match self {
            Self::Null => Literal::Null,
            Self::Bool(value) => Literal::Value(Value::Bool(*value)),
            Self::Number(digits) => Literal::Value(number(digits)),
            Self::Text(text) => Literal::Value(Value::Text(text.clone().into())),
        }
    }

    /// As the type of the column it is compared with.
    ///
    /// # Errors
    /// A hint: how a literal of this type is written.
    pub(in crate::mapping) fn typed(&self, ty: &Type) -> Result<Literal, &'static str> {
        let hint = how_to_write(&ty.kind);
        match (self, &ty.kind) {
            (Self::Null, _) => Ok(Literal::Null),
            (Self::Bool(value), Kind::Bool) => Ok(Literal::Value(Value::Bool(*value))),
            (Self::Number(digits), Kind::Int) => Ok(Literal::Value(number(digits))),
            (Self::Number(digits), Kind::Decimal) => {
                Ok(Literal::Value(Value::Decimal(digits.clone().into())))
            }
            (Self::Number(digits), Kind::Float) => digits
                .parse()
                .map(|number| Literal::Value(Value::Float(number)))
                .map_err(|_| hint),
            (Self::Text(text), Kind::Decimal | Kind::Float | Kind::Int) => {
                decode(ty, text).ok_or(hint).map(Literal::Value)
            }
            (Self::Text(text), Kind::Char) => {
                let text = text.trim_end_matches(' ').to_owned();
                Ok(Literal::Value(Value::Text(text.into())))
            }
            (Self::Text(_), Kind::Bool | Kind::Array(_) | Kind::Composite(_) | Kind::Hstore) => {
                Err(hint)
            }
            (_, Kind::Json) => Ok(self.untyped()),
            (Self::Text(text), _) => decode(ty, text).ok_or(hint).map(Literal::Value),
            _ => Err(hint),
        }
    }
}

fn number(digits: &str) -> Value<'static> {
    match digits.parse() {
        Ok(value) => Value::Int(value),
        Err(_) => Value::Decimal(digits.to_owned().into()),
    }
}

/// Reads a literal as the source would, and ISO 8601's `T` and `Z` as well.
fn decode(ty: &Type, text: &str) -> Option<Value<'static>> {
    if let Ok(value) = ty.decode(text.as_bytes()) {
        return Some(value.into_owned());
    }
    let iso = text.replacen('T', " ", 1);
    let iso = match iso.strip_suffix('Z') {
        Some(utc) => format!("{utc}+00"),
        None => iso,
    };
    ty.decode(iso.as_bytes()).ok().map(Value::into_owned)
}

/// How a literal of a type is written in a condition.
const fn how_to_write(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "write `true` or `false`",
        Kind::Int => "write a whole number, such as `5`",
        Kind::Decimal | Kind::Float => "write a number, such as `99.50`",
        Kind::Text | Kind::Char => "write text in quotes, such as `'OPEN'`",
        Kind::Bytes => "write bytes in hexadecimal, such as `'\\xDEADBEEF'`",
        Kind::Json => "write a JSON literal",
        Kind::Date => "write a date, such as `'2026-12-01'`",
        Kind::Time => "write a time, such as `'09:30:00'`",
        Kind::TimeTz => "write a time with its offset, such as `'09:30:00+00'`",
        Kind::Timestamp => "write a timestamp, such as `'2026-12-01T09:30:00'`",
        Kind::TimestampTz => "write a timestamp with its offset, such as `'2026-12-01T09:30:00Z'`",
        Kind::Interval => "write a duration, such as `'PT45M'`",
        Kind::Array(_) => "compare one element, such as `$.after.tags[0]`",
        Kind::Composite(_) | Kind::Hstore => "compare one member, such as `$.after.address.city`",
    }
}
