//! Binding: a shape's columns to the slots that rules read, when the shape arrives.

use std::sync::Arc;

use rowbridge_api::{Position, Shape, State, Type};

use super::expression::condition::family;
use super::kept::KeptShape;
use super::{Mapping, Stamp, Stop};

/// A table's rules bound to one shape.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) shape: Arc<Shape>,
    /// Number of the mapping's table; `None` for a table that the mapping does not know.
    pub(super) table: Option<usize>,
    /// Per slot: index in the shape; `None` where the shape has no such column.
    columns: Box<[Option<u16>]>,
    /// `ce_source` of its events.
    pub(super) source: String,
    /// How its rows are kept, where they are.
    pub(super) kept: Option<KeptShape>,
}

impl Bound {
    /// How kept rows are read: the columns of `shape` by slot.
    pub(super) fn of_kept(shape: Arc<Shape>, table: usize, columns: Box<[Option<u16>]>) -> Self {
        Self {
            shape,
            table: Some(table),
            columns,
            source: String::new(),
            kept: None,
        }
    }

    /// The type and index of a slot's column.
    #[inline]
    pub(super) fn column(&self, slot: u16) -> Option<(&Type, usize)> {
        let index = usize::from(self.columns[usize::from(slot)]?);
        Some((&self.shape.columns[index].ty, index))
    }
}

/// Binds a mapping to a shape.
///
/// # Errors
/// A column that a rule reads is not in the shape, or has a type that the rule cannot read.
pub(super) fn bind(
    mapping: &Mapping,
    stamp: &Stamp,
    shape: &Arc<Shape>,
    at: &Position,
) -> Result<Bound, Stop> {
    let number = mapping
        .tables
        .iter()
        .position(|table| table.source == shape.table);
    let source = format!("rowbridge://{}/{}", stamp.pipeline, shape.table);
    let Some(number) = number else {
        return Ok(Bound {
            shape: Arc::clone(shape),
            table: None,
            columns: Box::default(),
            source,
            kept: None,
        });
    };
    let columns: Box<[Option<u16>]> = mapping.tables[number]
        .columns
        .iter()
        .map(|column| {
            let index = shape
                .columns
                .iter()
                .position(|known| known.name == column.name)?;
            u16::try_from(index).ok()
        })
        .collect();
    let needs = mapping
        .needs
        .iter()
        .find(|needs| needs.table == shape.table);
    for need in needs.into_iter().flat_map(|needs| &needs.columns) {
        match shape.columns.iter().find(|column| column.name == need.name) {
            Some(column) if readable(&need.ty, &column.ty) => {}
            Some(column) => {
                return Err(changed_type(
                    shape,
                    &need.name,
                    &need.ty,
                    &column.ty,
                    &need.rules,
                    at,
                ));
            }
            None => return Err(vanished(shape, &need.name, &need.rules, at)),
        }
    }
    Ok(Bound {
        shape: Arc::clone(shape),
        table: Some(number),
        kept: KeptShape::of(&mapping.tables[number], shape, &columns),
        columns,
        source,
    })
}

/// Whether what was compiled for one type can read another: literals keep their meaning within a family.
fn readable(declared: &Type, found: &Type) -> bool {
    use rowbridge_api::Kind::{Array, Composite, Date, Timestamp, TimestampTz};
    match (&declared.kind, &found.kind) {
        (declared, found) if declared == found => true,
        // They compare, but a consumer reads another point in time.
        (Date | Timestamp | TimestampTz, _) => false,
        // Inside, a rule reads by name and by number: what is there must be what was declared.
        (Array(_) | Composite(_), _) => false,
        (declared, found) => family(declared) == family(found),
    }
}

fn readers(rules: &[String]) -> String {
    match rules {
        [] => "the table's key".to_owned(),
        [rule] => format!("rule {rule}"),
        rules => format!("rules {}", rules.join(", ")),
    }
}

fn vanished(shape: &Shape, column: &str, rules: &[String], at: &Position) -> Stop {
    Stop {
        state: State::Invalid,
        problem: format!(
            "column `{column}` of {} is gone at {at}; it is read by {}",
            shape.table,
            readers(rules)
        ),
        hint: format!(
            "change mapping.toml and schema.toml so that nothing reads `{column}`, or put it back (also into the publication's column list); then start again: nothing was published past {at}"
        ),
    }
}

fn changed_type(
    shape: &Shape,
    column: &str,
    declared: &Type,
    found: &Type,
    rules: &[String],
    at: &Position,
) -> Stop {
    Stop {
        state: State::Invalid,
        problem: format!(
            "column `{column}` of {} is {} at {at}, schema.toml says {}; it is read by {}",
            shape.table,
            found.name,
            declared.name,
            readers(rules)
        ),
        hint: format!(
            "write `{column} = \"{}\"` in schema.toml, see that the rules still mean what they say, and start again",
            found.name
        ),
    }
}
