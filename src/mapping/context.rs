//! One change as the rules read it: places to cells, decoded only when read.

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::query::js_path_process;
use rowbridge_api::{Cell, Change, Op, Row, Transaction, Type, Value, ValueError};

use super::bind::Bound;
use super::expression::path::{CellPath, Fact, Inner, Place, Step};
use super::fault::Fault;
use super::item::Item;
use super::others::Others;
use super::privacy::{Form, HashKey};
use super::rule::{RowImage, Side, Table};
use super::{Mapping, Stamp};

/// A change, its images and what it is read with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) table: &'a Table,
    pub(super) bound: &'a Bound,
    pub(super) change: &'a Change,
    pub(super) tx: &'a Transaction,
    pub(super) stamp: &'a Stamp,
    /// Hashes what the mapping hashes.
    pub(super) key: Option<&'a HashKey>,
    pub(super) before: Option<Row<'a>>,
    pub(super) after: Option<Row<'a>>,
    /// Which image `$.row` is.
    pub(super) row: Side,
    /// The other rows that the rule at hand reads.
    pub(super) others: Option<&'a Others>,
    /// What `$.item` is, in a rule with `each`.
    pub(super) item: Option<Item<'a>>,
}

/// What a place holds.
#[derive(Clone, Debug)]
pub(super) enum Found<'a> {
    /// There is no such node (RFC 9535's *Nothing*).
    Nothing,
    Null,
    /// A cell's text form.
    Cell(&'a Type, &'a [u8]),
    Value(Value<'a>),
    /// A literal of the mapping.
    Literal(&'a Value<'static>),
    /// A node of a document.
    Json(serde_json::Value),
}

/// What a place holds, as it lies in the batch or the mapping: nothing decoded, nothing owned.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    Nothing,
    Null,
    Cell(&'a Type, &'a [u8]),
    Literal(&'a Value<'static>),
}

impl Found<'_> {
    pub(super) fn plain(&self) -> Option<Plain<'_>> {
        match self {
            Self::Nothing => Some(Plain::Nothing),
            Self::Null => Some(Plain::Null),
            Self::Cell(ty, raw) => Some(Plain::Cell(ty, raw)),
            Self::Literal(value) => Some(Plain::Literal(value)),
            Self::Value(_) | Self::Json(_) => None,
        }
    }
}

impl<'a> Context<'a> {
    /// The same change as a rule sees it that may speak of the old row.
    pub(super) fn with_image(self, image: RowImage) -> Self {
        let row = match (image, self.change.op) {
            (RowImage::Before, _) | (RowImage::Current, Op::Delete) => Side::Before,
            (RowImage::Current, _) => Side::After,
        };
        Self { row, ..self }
    }

    pub(super) fn image(&self, side: Side) -> Option<Row<'a>> {
        match (side, self.row) {
            (Side::Before, _) | (Side::Row, Side::Before) => self.before,
            (Side::After, _) | (Side::Row, _) => self.after,
        }
    }

    /// A whole cell, which is what most places are, without the detour over [`Context::read`]. `None` for
    /// all else, and for what is an error to read.
    #[inline]
    pub(super) fn plain_cell(&self, place: &Place) -> Option<Plain<'a>> {
        let Place::Cell(CellPath {
            side,
            slot,
            inner: Inner::Whole,
        }) = place
        else {
            return None;
        };
        let Some(row) = self.image(*side) else {
            return Some(Plain::Nothing);
        };
        let (ty, index) = self.bound.column(*slot)?;
        match row.cell(index) {
            Cell::Value(raw) => Some(Plain::Cell(ty, raw)),
            Cell::Null => Some(Plain::Null),
            Cell::Unavailable => None,
        }
    }

    /// Reads a place.
    ///
    /// # Errors
    /// It is unavailable, or is not a value of its type.
    pub(super) fn read(&self, place: &Place) -> Result<Found<'a>, Fault> {
        match place {
            Place::Cell(path) => self.cell(path.side, path.slot, &path.inner),
            Place::Shielded(shielded) => {
                let mut json = Vec::new();
                Ok(
                    match self.write_shielded(shielded, Form::Json, &mut json)? {
                        Written::Nothing => Found::Nothing,
                        Written::Value => {
                            serde_json::from_slice(&json).map_or(Found::Nothing, found_json)
                        }
                    },
                )
            }
            Place::Item(item) => self.item(&item.inner),
            Place::Other(number, path) => self.other_cell(place, *number, path),
            Place::Fact(fact) => Ok(self.fact(*fact)),
            // The compiler lets a row stand only where its existence is asked for.
            Place::Image(_) | Place::OtherRow(_) => Ok(Found::Nothing),
        }
    }

    /// Reads a cell of another row; nothing where there is no such row.
    fn other_cell(&self, place: &Place, number: u16, path: &CellPath) -> Result<Found<'a>, Fault> {
        let Some(other) = self.others.and_then(|others| others.get(number)) else {
            let fault = self.others.and_then(|others| others.fault(number));
            return fault.map_or(Ok(Found::Nothing), |fault| Err(fault.clone()));
        };
        let Some(row) = other.image(path.side) else {
            return Ok(Found::Nothing);
        };
        let Some((ty, index)) = other.bound.column(path.slot) else {
            return Err(Fault::new(format!(
                "{} is unavailable: it was not kept when the row was last seen",
                self.name_of(place)
            )));
        };
        let name = || self.name_of(place);
        match row.cell(index) {
            Cell::Unavailable => Err(unavailable(&name())),
            Cell::Null => Ok(of_null(&path.inner)),
            Cell::Value(raw) => of_value(ty, raw, &path.inner, name),
        }
    }

    /// The type of the column that a place is the whole of.
    pub(super) fn type_of(&self, place: &Place) -> Option<&'a Type> {
        match place {
            Place::Cell(CellPath {
                slot,
                inner: Inner::Whole,
                ..
            }) => Some(self.bound.column(*slot)?.0),
            Place::Other(
                number,
                CellPath {
                    slot,
                    inner: Inner::Whole,
                    ..
                },
            ) => Some(self.others?.get(*number)?.bound.column(*slot)?.0),
            _ => None,
        }
    }

    /// Whether there is another row under this number.
    ///
    /// # Errors
    /// It should be there and is not, or nobody knows which one it is.
    pub(super) fn other_exists(&self, number: u16) -> Result<bool, Fault> {
        let Some(others) = self.others else {
            return Ok(false);
        };
        match others.fault(number) {
            Some(fault) => Err(fault.clone()),
            None => Ok(others.get(number).is_some()),
        }
    }

    fn fact(&self, fact: Fact) -> Found<'a> {
        let number = |number: u64| {
            i64::try_from(number)
                .map_or_else(|_| Value::Decimal(number.to_string().into()), Value::Int)
        };
        Found::Value(match fact {
            Fact::Op => Value::Text(self.change.op.as_str().into()),
            Fact::Table => Value::Text(self.table.short.as_str().into()),
            Fact::TxId => number(self.tx.id),
            Fact::TxTime => Value::TimestampTz(self.tx.commit_micros),
            Fact::TxOrdinal => number(self.change.ordinal),
            Fact::SourceName => Value::Text(self.stamp.identity.source.as_str().into()),
            Fact::SourcePosition => Value::Text(self.tx.position.to_string().into()),
        })
    }

    /// Reads what `inner` names inside one cell.
    pub(super) fn cell(&self, side: Side, slot: u16, inner: &Inner) -> Result<Found<'a>, Fault> {
        let Some(row) = self.image(side) else {
            return Ok(Found::Nothing);
        };
        let Some((ty, index)) = self.bound.column(slot) else {
            return Err(Fault::new(format!(
                "{} is not a column of the table any more",
                self.name(side, slot)
            )));
        };
        match row.cell(index) {
            Cell::Unavailable => Err(unavailable(&self.name(side, slot))),
            Cell::Null => Ok(of_null(inner)),
            Cell::Value(raw) => of_value(ty, raw, inner, || self.name(side, slot)),
        }
    }

    /// All nodes of a document that a query gives, as an array.
    pub(super) fn query(
        &self,
        nodes: &JpQuery,
        document: &serde_json::Value,
        side: Side,
        slot: u16,
    ) -> Result<serde_json::Value, Fault> {
        query(nodes, document)
            .ok_or_else(|| Fault::new(format!("{} cannot be queried", self.name(side, slot))))
    }

    /// A document or array cell as JSON.
    pub(super) fn document(
        &self,
        ty: &Type,
        raw: &[u8],
        side: Side,
        slot: u16,
    ) -> Result<serde_json::Value, Fault> {
        document(ty, raw, || self.name(side, slot))
    }

    /// Which change it is, for messages: `update of public.segments number 3 in transaction 0/16B374D848`.
    pub(super) fn place(&self) -> String {
        format!(
            "{} of {} number {} in transaction {}",
            self.change.op.as_str(),
            self.bound.shape.table,
            self.change.ordinal,
            self.tx.position
        )
    }

    /// A cell's name for messages: `before.seat_no`.
    pub(super) fn name(&self, side: Side, slot: u16) -> String {
        let side = match (side, self.row) {
            (Side::Before, _) | (Side::Row, Side::Before) => "before",
            _ => "after",
        };
        let column = &self.table.columns[usize::from(slot)].name;
        format!("{side}.{column}")
    }

    /// A place's name for messages.
    pub(super) fn name_of(&self, place: &Place) -> String {
        match place {
            Place::Cell(CellPath { side, slot, .. }) => self.name(*side, *slot),
            Place::Shielded(shielded) => self.name(shielded.cell.side, shielded.cell.slot),
            Place::Item(_) => "item".to_owned(),
            Place::Image(Side::Before) => "before".to_owned(),
            Place::Image(_) => "after".to_owned(),
            Place::OtherRow(other) => self.other_name(*other).to_owned(),
            Place::Other(other, CellPath { slot, .. }) => {
                let (name, column) = (self.other_name(*other), self.other_column(*other, *slot));
                format!("{name}.{column}")
            }
            Place::Fact(fact) => match fact {
                Fact::Op => "op",
                Fact::Table => "table",
                Fact::TxId => "tx.id",
                Fact::TxTime => "tx.time",
                Fact::TxOrdinal => "tx.ordinal",
                Fact::SourceName => "source.name",
                Fact::SourcePosition => "source.position",
            }
            .to_owned(),
        }
    }

    fn other_name(&self, other: u16) -> &str {
        let named = self.others.and_then(|others| others.named(other));
        named.map_or("another row", |(name, _)| name)
    }

    fn other_column(&self, other: u16, slot: u16) -> &str {
        let named = self.others.and_then(|others| others.named(other));
        named.map_or("column", |(_, table)| {
            &self.mapping.tables[table].columns[usize::from(slot)].name
        })
    }

    /// Appends the text form of what a place holds, as templates, keys and headers show it.
    ///
    /// # Errors
    /// As [`Context::read`]. `Ok(Written::Nothing)` if there is no value.
    pub(super) fn write_text(&self, place: &Place, out: &mut Vec<u8>) -> Result<Written, Fault> {
        if let Some(Plain::Cell(ty, raw)) = self.plain_cell(place) {
            return self.written(place, ty.write_text(raw, out));
        }
        if place.shield().is_some() {
            return self.write_protected(place, Form::Text, out);
        }
        match self.read(place)? {
            Found::Nothing | Found::Null => return Ok(Written::Nothing),
            Found::Cell(ty, raw) => return self.written(place, ty.write_text(raw, out)),
            Found::Value(value) => value.write_text(out),
            Found::Literal(value) => value.write_text(out),
            Found::Json(serde_json::Value::String(text)) => out.extend_from_slice(text.as_bytes()),
            Found::Json(json) => write_json(&json, out),
        }
        Ok(Written::Value)
    }

    /// What writing a cell came to, with the place's name in an error.
    pub(super) fn written(
        &self,
        place: &Place,
        outcome: Result<(), ValueError>,
    ) -> Result<Written, Fault> {
        outcome.map_err(|error| Fault::value(&self.name_of(place), &error))?;
        Ok(Written::Value)
    }
}

#[cold]
fn unavailable(name: &str) -> Fault {
    Fault::new(format!("{name} is unavailable: the source did not send it"))
}

/// What `inner` finds in a cell that is null.
const fn of_null<'a>(inner: &Inner) -> Found<'a> {
    match inner {
        Inner::Whole => Found::Null,
        Inner::Steps(_) | Inner::Query(_) => Found::Nothing,
    }
}

/// What `inner` finds in a cell that holds a value; `name` is the cell's, for messages.
fn of_value<'a>(
    ty: &'a Type,
    raw: &'a [u8],
    inner: &Inner,
    name: impl Fn() -> String,
) -> Result<Found<'a>, Fault> {
    match inner {
        Inner::Whole => Ok(Found::Cell(ty, raw)),
        Inner::Steps(steps) => {
            let document = document(ty, raw, name)?;
            Ok(step_into(document, steps).map_or(Found::Nothing, found_json))
        }
        Inner::Query(query) => {
            let document = document(ty, raw, &name)?;
            let nodes = js_path_process(query, &document)
                .map_err(|_| Fault::new(format!("{} cannot be queried", name())))?;
            Ok(Found::Json(
                nodes.into_iter().map(|node| node.val().clone()).collect(),
            ))
        }
    }
}

/// A document or array cell as JSON.
fn document(ty: &Type, raw: &[u8], name: impl Fn() -> String) -> Result<serde_json::Value, Fault> {
    let mut json = Vec::new();
    ty.write_json(raw, &mut json)
        .map_err(|error| Fault::value(&name(), &error))?;
    serde_json::from_slice(&json).map_err(|_| Fault::new(format!("{} is not valid JSON", name())))
}

/// Whether there was a value to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Value,
    Nothing,
}

/// Appends a JSON value.
pub(super) fn write_json(json: &serde_json::Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, json).expect("writing JSON to memory cannot fail");
}

/// All nodes of a document that a query gives, as an array; `None` where it cannot be evaluated.
pub(super) fn query(nodes: &JpQuery, document: &serde_json::Value) -> Option<serde_json::Value> {
    let nodes = js_path_process(nodes, document).ok()?;
    Some(nodes.into_iter().map(|node| node.val().clone()).collect())
}

pub(super) fn step_into(document: serde_json::Value, steps: &[Step]) -> Option<serde_json::Value> {
    let mut node = document;
    for step in steps {
        node = match (step, node) {
            (Step::Name(name), serde_json::Value::Object(mut members)) => {
                members.swap_remove(name.as_str())?
            }
            (Step::Index(index), serde_json::Value::Array(mut elements)) => {
                let length = i64::try_from(elements.len()).ok()?;
                let index = if *index < 0 { length + index } else { *index };
                let index = usize::try_from(index).ok()?;
                if index >= elements.len() {
                    return None;
                }
                elements.swap_remove(index)
            }
            _ => return None,
        };
    }
    Some(node)
}

pub(super) fn found_json<'a>(json: serde_json::Value) -> Found<'a> {
    match json {
        serde_json::Value::Null => Found::Null,
        other => Found::Json(other),
    }
}
