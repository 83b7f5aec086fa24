//! `each`: the elements of an array, and what `$.item` holds.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use jsonpath_rust::parser::model::JpQuery;
use rowbridge_api::{Kind, Type, Value};

use super::context::{Context, Found, found_json, query};
use super::expression::path::{Inner, Step};
use super::fault::Fault;
use super::rule::Each;

/// The elements of one array, decoded once for all that reads them.
#[derive(Debug)]
pub(super) enum Elements {
    /// Of a column whose type says what they are.
    Values(Vec<Option<Value<'static>>>),
    /// Of a document, or documents themselves.
    Json(Vec<serde_json::Value>),
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    Null,
    Value(&'a Value<'static>),
    Json(&'a serde_json::Value),
}

impl Elements {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Json(nodes) => nodes.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let (values, nodes) = match self {
            Self::Values(values) => (values.as_slice(), &[][..]),
            Self::Json(nodes) => (&[][..], nodes.as_slice()),
        };
        let values = values.iter().map(|value| match value {
            Some(value) => Item::Value(value),
            None => Item::Null,
        });
        values.chain(nodes.iter().map(Item::Json))
    }
}

impl<'a> Context<'a> {
    /// The same change as a rule sees it at one element.
    pub(super) fn at_item(self, item: Item<'a>) -> Self {
        Self {
            item: Some(item),
            ..self
        }
    }

    /// The elements of an array; none where there is no array.
    ///
    /// # Errors
    /// It is unavailable, or is something else than an array.
    pub(super) fn elements(&self, each: &Each) -> Result<Elements, Fault> {
        let cell = &each.cell;
        let name = || self.name(cell.side, cell.slot);
        let no_array = || Fault::new(format!("{} is not an array, and `each` wants one", name()));
        let node = match self.cell(cell.side, cell.slot, &cell.inner)? {
            Found::Nothing | Found::Null => return Ok(Elements::Json(Vec::new())),
            Found::Json(node) => node,
            Found::Cell(ty, raw) if each.element.is_some() && is_array(ty) => {
                let decoded = ty
                    .decode(raw)
                    .map_err(|error| Fault::value(&name(), &error))?;
                let Value::Array(elements) = decoded else {
                    let problem = "is an array with lower bounds of its own";
                    return Err(Fault::new(format!("{} {problem}", name())));
                };
                let owned = elements.into_iter();
                let owned = owned.map(|value| value.map(Value::into_owned));
                return Ok(Elements::Values(owned.collect()));
            }
            Found::Cell(ty, raw) => self.document(ty, raw, cell.side, cell.slot)?,
            Found::Value(_) | Found::Literal(_) => return Err(no_array()),
        };
        match node {
            serde_json::Value::Array(elements) => Ok(Elements::Json(elements)),
            // A document that is the value null has no elements either.
            serde_json::Value::Null => Ok(Elements::Json(Vec::new())),
            _ => Err(no_array()),
        }
    }

    /// What is read of the element.
    pub(super) fn item(&self, inner: &Inner) -> Result<Found<'a>, Fault> {
        Ok(match (self.item, inner) {
            (None, _) | (Some(Item::Null | Item::Value(_)), Inner::Steps(_) | Inner::Query(_)) => {
                Found::Nothing
            }
            (Some(Item::Null), Inner::Whole) => Found::Null,
            (Some(Item::Value(value)), Inner::Whole) => Found::Literal(value),
            (Some(Item::Json(node)), Inner::Whole) => found_json(node.clone()),
            (Some(Item::Json(node)), Inner::Steps(steps)) => {
                walk(node, steps).map_or(Found::Nothing, |node| found_json(node.clone()))
            }
            (Some(Item::Json(node)), Inner::Query(query)) => {
                Found::Json(self.query_item(query, node)?)
            }
        })
    }

    /// All nodes of an element that a query gives, as an array.
    pub(super) fn query_item(
        &self,
        nodes: &JpQuery,
        element: &serde_json::Value,
    ) -> Result<serde_json::Value, Fault> {
        query(nodes, element).ok_or_else(|| Fault::new("item cannot be queried"))
    }
}

fn is_array(ty: &Type) -> bool {
    matches!(ty.kind, Kind::Array(_))
}

/// Where steps lead from a node.
fn walk<'n>(node: &'n serde_json::Value, steps: &[Step]) -> Option<&'n serde_json::Value> {
    let mut node = node;
    for step in steps {
        node = match (step, node) {
            (Step::Name(name), serde_json::Value::Object(members)) => members.get(name.as_str())?,
            (Step::Index(index), serde_json::Value::Array(elements)) => {
                let length = i64::try_from(elements.len()).ok()?;
                let index = if *index < 0 { length + index } else { *index };
                elements.get(usize::try_from(index).ok()?)?
            }
            _ => return None,
        };
    }
    Some(node)
}
