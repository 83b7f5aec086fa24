//! Conditions: comparing what places hold, with RFC 9535's rules for what is missing.

use std::borrow::Cow;
use std::cmp::Ordering;

use rowbridge_api::{Cell, Kind, Type, Value};

use super::context::{Context, Found, Plain};
use super::expression::column::ColumnPath;
use super::expression::condition::{Condition, Operand, Relation};
use super::expression::literal::Literal;
use super::expression::path::{Inner, Place};
use super::fault::Fault;
use super::rule::Side;

impl<'a> Context<'a> {
    /// Whether a condition holds. Left to right, and only as far as needed.
    ///
    /// # Errors
    /// An evaluated place is unavailable or is not a value of its type.
    pub(super) fn holds(&self, condition: &'a Condition) -> Result<bool, Fault> {
        match condition {
            Condition::And(parts) => {
                for part in parts {
                    if !self.holds(part)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Or(parts) => {
                for part in parts {
                    if self.holds(part)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(part) => Ok(!self.holds(part)?),
            Condition::Compare {
                left,
                relation,
                right,
            } => {
                if let (Some(left), Some(right)) = (self.plain(left), self.plain(right))
                    && let Some(order) = plain_order(left, right)
                {
                    return Ok(relation.holds(order));
                }
                let (left, right) = (self.operand(left)?, self.operand(right)?);
                Ok(relation.holds(order(&left, &right)?))
            }
            Condition::Exists(place) => self.exists(place),
            Condition::Matches { subject, pattern } => Ok(self
                .text(subject)?
                .is_some_and(|text| pattern.is_match(&text))),
        }
    }

    /// An operand that can be compared where it lies: what most conditions are made of.
    fn plain(&self, operand: &'a Operand) -> Option<Plain<'a>> {
        match operand {
            Operand::Literal(Literal::Null) => Some(Plain::Null),
            Operand::Literal(Literal::Value(value)) => Some(Plain::Literal(value)),
            Operand::Place(place) => self.plain_cell(place),
            Operand::Length(_) | Operand::Count(_) | Operand::OnlyNode(_) => None,
        }
    }

    fn operand(&self, operand: &'a Operand) -> Result<Found<'a>, Fault> {
        match operand {
            Operand::Literal(literal) => Ok(literal.found()),
            Operand::Place(place) => self.read(place),
            Operand::Length(place) => self.length(place),
            Operand::Count(place) => self.count(place),
            Operand::OnlyNode(place) => match (self.read(place)?, nodes(place)) {
                (Found::Json(serde_json::Value::Array(mut nodes)), Nodes::Many) => {
                    match (nodes.pop(), nodes.is_empty()) {
                        (Some(node), true) => Ok(Found::Json(node)),
                        _ => Ok(Found::Nothing),
                    }
                }
                (found, _) => Ok(found),
            },
        }
    }

    /// RFC 9535, 2.4.4: characters of text, elements of an array, members of an object; else nothing.
    fn length(&self, place: &Place) -> Result<Found<'a>, Fault> {
        let length = match self.read(place)? {
            Found::Cell(ty, raw) => match ty.kind {
                Kind::Json | Kind::Array(_) | Kind::Composite(_) | Kind::Hstore => {
                    json_length(&self.parse(ty, raw, place)?)
                }
                Kind::Text | Kind::Char => self.text(place)?.map(|text| text.chars().count()),
                _ => None,
            },
            Found::Json(json) => json_length(&json),
            Found::Value(Value::Text(text)) => Some(text.chars().count()),
            Found::Literal(Value::Text(text) | Value::Char(text)) => Some(text.chars().count()),
            _ => None,
        };
        Ok(count_value(length))
    }

    fn parse(&self, ty: &Type, raw: &[u8], place: &Place) -> Result<serde_json::Value, Fault> {
        let mut json = Vec::new();
        ty.write_json(raw, &mut json)
            .map_err(|error| Fault::value(&self.name_of(place), &error))?;
        serde_json::from_slice(&json)
            .map_err(|_| Fault::new(format!("{} is not valid JSON", self.name_of(place))))
    }

    fn count(&self, place: &Place) -> Result<Found<'a>, Fault> {
        let count = match (nodes(place), self.exists(place)?) {
            (_, false) => 0,
            (Nodes::One, true) => 1,
            (Nodes::Many, true) => match self.read(place)? {
                Found::Json(serde_json::Value::Array(nodes)) => nodes.len(),
                _ => 0,
            },
        };
        Ok(count_value(Some(count)))
    }

    /// Whether there is a node. A column of an image that is there exists, whatever it holds.
    fn exists(&self, place: &Place) -> Result<bool, Fault> {
        match place {
            Place::Image(side) => Ok(self.image(*side).is_some()),
            Place::OtherRow(other) => self.other_exists(*other),
            Place::Fact(_) => Ok(true),
            Place::Shielded(shielded) => self.exists(&Place::Cell(shielded.cell.clone())),
            Place::Item(item) => match (self.item(&item.inner)?, &item.inner) {
                (Found::Json(serde_json::Value::Array(nodes)), Inner::Query(_)) => {
                    Ok(!nodes.is_empty())
                }
                (found, _) => Ok(!matches!(found, Found::Nothing)),
            },
            Place::Cell(path) | Place::Other(_, path) => match path.inner {
                Inner::Whole => Ok(match place {
                    Place::Other(other, _) => self.other_exists(*other)?,
                    _ => self.image(path.side).is_some(),
                }),
                Inner::Steps(_) => Ok(!matches!(self.read(place)?, Found::Nothing)),
                Inner::Query(_) => match self.read(place)? {
                    Found::Json(serde_json::Value::Array(nodes)) => Ok(!nodes.is_empty()),
                    _ => Ok(false),
                },
            },
        }
    }

    /// The text a pattern is matched against, if it is text.
    fn text(&self, place: &Place) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.read(place)? {
            Found::Cell(ty, raw) => match ty.decode(raw) {
                Ok(Value::Text(text) | Value::Char(text)) => Ok(Some(text)),
                Ok(Value::Json(text)) => {
                    Ok(serde_json::from_str::<String>(&text).ok().map(Cow::Owned))
                }
                Ok(_) => Ok(None),
                Err(error) => Err(Fault::value(&self.name_of(place), &error)),
            },
            Found::Value(Value::Text(text)) => Ok(Some(text)),
            Found::Literal(Value::Text(text) | Value::Char(text)) => {
                Ok(Some(Cow::Borrowed(text.as_ref())))
            }
            Found::Json(serde_json::Value::String(text)) => Ok(Some(Cow::Owned(text))),
            _ => Ok(None),
        }
    }

    /// Whether an update changed a column. Null equals null; a cell that the source left out of the after
    /// image did not change.
    ///
    /// # Errors
    /// The before image of it is unavailable.
    pub(super) fn changed(&self, column: &ColumnPath) -> Result<bool, Fault> {
        if let (Inner::Whole, Some(before), Some(after), Some((ty, index))) = (
            &column.inner,
            self.before,
            self.after,
            self.bound.column(column.slot),
        ) {
            match (before.cell(index), after.cell(index)) {
                (_, Cell::Unavailable) | (Cell::Null, Cell::Null) => return Ok(false),
                (Cell::Value(before), Cell::Value(after)) if before == after => return Ok(false),
                (Cell::Value(_), Cell::Value(_)) if ty.kind == Kind::Text => return Ok(true),
                (Cell::Value(_), Cell::Null) | (Cell::Null, Cell::Value(_)) => return Ok(true),
                _ => {}
            }
        }
        if self.unchanged_inside(column) {
            return Ok(false);
        }
        let before = self.cell(Side::Before, column.slot, &column.inner)?;
        if matches!(before, Found::Nothing) && self.before.is_none() {
            return Err(Fault::new(format!(
                "{} is unavailable: the source sent no before image",
                self.name(Side::Before, column.slot)
            )));
        }
        let after = self.cell(Side::After, column.slot, &column.inner)?;
        Ok(order(&before, &after)? != Some(Ordering::Equal))
    }

    /// The whole cell was left out of the after image, so nothing inside it changed.
    fn unchanged_inside(&self, column: &ColumnPath) -> bool {
        let cell = self.after.zip(self.bound.column(column.slot));
        cell.is_some_and(|(row, (_, index))| row.cell(index) == Cell::Unavailable)
    }
}

/// How many nodes a place can give.
enum Nodes {
    One,
    Many,
}

const fn nodes(place: &Place) -> Nodes {
    match place {
        Place::Cell(path) | Place::Other(_, path) => match path.inner {
            Inner::Query(_) => Nodes::Many,
            Inner::Whole | Inner::Steps(_) => Nodes::One,
        },
        Place::Item(item) if matches!(item.inner, Inner::Query(_)) => Nodes::Many,
        Place::Item(_)
        | Place::Image(_)
        | Place::OtherRow(_)
        | Place::Fact(_)
        | Place::Shielded(_) => Nodes::One,
    }
}

fn count_value<'a>(count: Option<usize>) -> Found<'a> {
    count
        .and_then(|count| i64::try_from(count).ok())
        .map_or(Found::Nothing, |count| Found::Value(Value::Int(count)))
}

fn json_length(json: &serde_json::Value) -> Option<usize> {
    match json {
        serde_json::Value::String(text) => Some(text.chars().count()),
        serde_json::Value::Array(elements) => Some(elements.len()),
        serde_json::Value::Object(members) => Some(members.len()),
        _ => None,
    }
}

impl Literal {
    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Self::Null => Found::Null,
            Self::Value(value) => Found::Literal(value),
        }
    }
}

impl Relation {
    /// RFC 9535, 2.3.5.2.2: two missing nodes are equal, a missing one differs from any value; what does
    /// not compare is neither less nor greater.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
        }
    }
}

/// The order of two terms where nothing needs to be decoded to know it.
fn plain_order(left: Plain<'_>, right: Plain<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Plain::Nothing, Plain::Nothing) | (Plain::Null, Plain::Null) => Some(Ordering::Equal),
        (Plain::Nothing | Plain::Null, _) | (_, Plain::Nothing | Plain::Null) => None,
        (Plain::Cell(left_type, left), Plain::Cell(right_type, right))
            if left == right && left_type.kind == right_type.kind =>
        {
            Some(Ordering::Equal)
        }
        // Code points and their UTF-8 bytes have the same order.
        (Plain::Cell(ty, raw), Plain::Literal(Value::Text(text))) if ty.kind == Kind::Text => {
            Some(raw.cmp(text.as_bytes()))
        }
        (Plain::Literal(Value::Text(text)), Plain::Cell(ty, raw)) if ty.kind == Kind::Text => {
            Some(text.as_bytes().cmp(raw))
        }
        _ => return None,
    })
}

/// The order of two terms, or none where they do not compare.
pub(super) fn order(left: &Found<'_>, right: &Found<'_>) -> Result<Option<Ordering>, Fault> {
    if let (Some(left), Some(right)) = (left.plain(), right.plain())
        && let Some(order) = plain_order(left, right)
    {
        return Ok(order);
    }
    if matches!(left, Found::Nothing) || matches!(right, Found::Nothing) {
        return Ok(None);
    }
    match (term(left)?, term(right)?) {
        (Term::Value(left), Term::Value(right)) => Ok(left.compare(&right)),
        (Term::Json(left), Term::Json(right)) => {
            Ok(json_equal(&left, &right).then_some(Ordering::Equal))
        }
        _ => Ok(None),
    }
}

/// A term that is there: a plain value, or a document.
enum Term<'a> {
    Value(Cow<'a, Value<'a>>),
    Json(serde_json::Value),
}

fn term<'a>(found: &'a Found<'_>) -> Result<Term<'a>, Fault> {
    Ok(match found {
        Found::Cell(ty, raw) => {
            let value = ty
                .decode(raw)
                .map_err(|error| Fault::new(format!("a compared cell is {error}")))?;
            match value {
                Value::Json(text) => json_term(
                    serde_json::from_str(&text)
                        .map_err(|_| Fault::new("a compared cell is not valid JSON"))?,
                ),
                value => Term::Value(Cow::Owned(value)),
            }
        }
        Found::Value(value) => Term::Value(Cow::Borrowed(value)),
        Found::Literal(value) => Term::Value(Cow::Borrowed(*value)),
        Found::Json(json) => json_term(json.clone()),
        Found::Nothing | Found::Null => Term::Json(serde_json::Value::Null),
    })
}

fn json_term<'a>(json: serde_json::Value) -> Term<'a> {
    match json {
        serde_json::Value::Bool(value) => Term::Value(Cow::Owned(Value::Bool(value))),
        serde_json::Value::String(text) => Term::Value(Cow::Owned(Value::Text(text.into()))),
        serde_json::Value::Number(number) => Term::Value(Cow::Owned(json_number(&number))),
        other => Term::Json(other),
    }
}

/// A JSON number, exactly. One that no column of a database could hold is its text: it equals itself and
/// compares with no number.
pub(super) fn json_number(number: &serde_json::Number) -> Value<'static> {
    if let Some(number) = number.as_i64() {
        return Value::Int(number);
    }
    let digits = number.to_string();
    let plain = plain_digits(&digits);
    if plain.contains(['e', 'E']) {
        Value::Text(digits.into())
    } else {
        Value::Decimal(plain.into())
    }
}

/// The largest exponent that is written out, either way: numeric has up to 131,072 digits before the point
/// and 16,383 after it.
const MAX_EXPONENT: u32 = 131_072;

/// Digits without an exponent, unless it is one that no number of the source has: a few bytes of text must
/// not become a gigabyte of zeros.
pub(super) fn plain_digits(digits: &str) -> String {
    use std::str::FromStr as _;
    let exponent = digits.split_once(['e', 'E']).map(|(_, exponent)| exponent);
    let is_small = |exponent: &str| {
        let exponent = exponent.parse::<i32>();
        exponent.is_ok_and(|exponent| exponent.unsigned_abs() <= MAX_EXPONENT)
    };
    match exponent {
        Some(exponent) if is_small(exponent) => bigdecimal::BigDecimal::from_str(digits)
            .map_or_else(|_| digits.to_owned(), |number| number.to_plain_string()),
        _ => digits.to_owned(),
    }
}

/// Equality of documents: members in any order, numbers by value.
fn json_equal(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (left, right) {
        (Number(left), Number(right)) => {
            json_number(left).compare(&json_number(right)) == Some(Ordering::Equal)
        }
        (Array(left), Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| json_equal(left, right))
        }
        (Object(left), Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| {
                    right.get(name).is_some_and(|right| json_equal(left, right))
                })
        }
        _ => left == right,
    }
}
