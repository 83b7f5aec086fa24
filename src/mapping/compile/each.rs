//! `each`: the array that a rule makes one event of every element of.

use rowbridge_api::{Kind, Type};

use super::value;
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::expression::Scope;
use crate::mapping::expression::path::{Inner, Place};
use crate::mapping::file::reader::Text;
use crate::mapping::rule::Each;

pub(super) fn compile(scope: &Scope<'_>, text: &Text) -> Option<Each> {
    let place = value::single(scope, text)?;
    let no_array = |found: &str| {
        scope.error(
            Diagnostic::error(
                text.at,
                format!("`{}` is {found}, not an array", text.value),
            )
            .label("one event for every element")
            .hint("name a column that is an array, json or a document, or a place inside"),
        );
    };
    let Place::Cell(cell) = place else {
        no_array("one value");
        return None;
    };
    let column = &scope.table.columns[usize::from(cell.slot)];
    let element = match (&cell.inner, &column.ty.kind) {
        (Inner::Whole, Kind::Array(element)) => scalar(&column.ty, &element.kind),
        (Inner::Whole, Kind::Json) | (Inner::Steps(_) | Inner::Query(_), _) => None,
        (Inner::Whole, _) => {
            no_array(&column.ty.name);
            return None;
        }
    };
    Some(Each { cell, element })
}

/// The type of an array's elements, where they are single values.
fn scalar(array: &Type, kind: &Kind) -> Option<Type> {
    let is_document = matches!(
        kind,
        Kind::Json | Kind::Array(_) | Kind::Composite(_) | Kind::Hstore
    );
    (!is_document).then(|| Type {
        name: array.name.trim_end_matches("[]").to_owned(),
        kind: kind.clone(),
    })
}
