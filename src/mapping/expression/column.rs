//! Columns: a bare name read in both images, dotted inside documents. Used by `changed`, `delta`, `only`.

use super::path::{self, CellPath, Inner, Step};
use super::{Rows, Scope, whole};
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::file::reader::Text;
use crate::mapping::rule::Side;
use jsonpath_rust::parser::model::Segment;

/// A column, or a place inside one, without a side.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct ColumnPath {
    pub(in crate::mapping) slot: u16,
    pub(in crate::mapping) inner: Inner,
}

impl ColumnPath {
    /// The same place in one image.
    pub(in crate::mapping) fn on(&self, side: Side) -> CellPath {
        CellPath {
            side,
            slot: self.slot,
            inner: self.inner.clone(),
        }
    }

    /// Whether it is one and the same place.
    pub(in crate::mapping) fn same_as(&self, other: &Self) -> bool {
        let steps = |inner: &Inner| match inner {
            Inner::Steps(steps) => Some(steps.clone()),
            Inner::Whole | Inner::Query(_) => None,
        };
        self.slot == other.slot && steps(&self.inner) == steps(&other.inner)
    }
}

/// Compiles a column name; reads are noted by the caller, who knows the side.
pub(in crate::mapping) fn compile(scope: &Scope<'_>, text: &Text) -> Option<ColumnPath> {
    if let Some(rest) = text.value.strip_prefix('$') {
        let column = rest.rsplit('.').next().unwrap_or_default();
        scope.error(
            Diagnostic::error(
                whole(text),
                format!("`{}` is a path, not a column", text.value),
            )
            .label("a bare name, read in both images")
            .hint(format!("did you mean `{column}`?")),
        );
        return None;
    }
    // A column whose own name has dots is taken whole.
    let own = (scope.rows == Rows::Own).then(|| scope.table.slot(&text.value));
    if let Some(slot) = own.flatten() {
        return Some(ColumnPath {
            slot,
            inner: Inner::Whole,
        });
    }
    let (column, rest) = match text.value.split_once('.') {
        Some((column, rest)) => (column, Some(rest)),
        None => (text.value.as_str(), None),
    };
    let slot = path::find_column(scope, column, text.part(0..column.len()))?;
    let segments: Vec<Segment> = rest
        .map(|rest| rest.split('.').map(Segment::name).collect())
        .unwrap_or_default();
    let inner = path::inner(scope, slot, &segments, || {
        text.part(column.len() + 1..text.value.len())
    })?;
    debug_assert!(matches!(&inner, Inner::Whole | Inner::Steps(_)));
    let inner = match inner {
        Inner::Steps(steps) => Inner::Steps(steps.into_iter().map(index_if_number).collect()),
        other => other,
    };
    Some(ColumnPath { slot, inner })
}

/// `tags.0` is an element, as in most dotted notations.
fn index_if_number(step: Step) -> Step {
    match step {
        Step::Name(name) => match name.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Name(name),
        },
        index => index,
    }
}
