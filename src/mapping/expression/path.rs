//! Paths: `$.after.seat_no` compiled to an image, a column and what follows inside a document cell.

use std::cell::RefCell;

use jsonpath_rust::parser::model::{JpQuery, Segment, Selector, SingularQuerySegment};
use rowbridge_api::{Kind, OpSet, Type};

use super::tokens::{PathPlace, scan_path};
use super::{ItemScope, Other, OtherKind, Reads, Rows, Scope, parse_path};
use crate::mapping::diagnostic::{At, Diagnostic, one_of};
use crate::mapping::file::reader::Text;
use crate::mapping::privacy::Shield;
use crate::mapping::rule::{RowImage, Side, Table};
use crate::mapping::schema::unknown_column;

/// Where a path leads.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Place {
    Cell(CellPath),
    /// A cell whose value leaves, and is protected then.
    Shielded(Box<Shielded>),
    /// The element that `each` is at.
    Item(Box<ItemPath>),
    /// A whole image; only its existence can be asked for.
    Image(Side),
    Fact(Fact),
    /// A cell of another row, by the row's number.
    Other(u16, CellPath),
    /// The whole of another row; only its existence can be asked for.
    OtherRow(u16),
}

/// What is known of a change beside its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Fact {
    Op,
    Table,
    TxId,
    TxTime,
    TxOrdinal,
    SourceName,
    SourcePosition,
}

/// What is protected where it leaves.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct Shielded {
    pub(in crate::mapping) cell: CellPath,
    pub(in crate::mapping) shield: Shield,
}

/// What is read of an element.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct ItemPath {
    pub(in crate::mapping) inner: Inner,
    /// What protects it where it leaves; places inside are counted from the element on.
    pub(in crate::mapping) shield: Shield,
}

/// A column's cell on one side, and what is read inside it.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct CellPath {
    pub(in crate::mapping) side: Side,
    /// Number of the column in its table's declaration.
    pub(in crate::mapping) slot: u16,
    pub(in crate::mapping) inner: Inner,
}

/// What is read inside a cell.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Inner {
    /// The cell itself.
    Whole,
    /// One node of a document or array.
    Steps(Box<[Step]>),
    /// Any number of nodes of a document or array.
    Query(Box<JpQuery>),
}

/// One step inside a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Step {
    Name(String),
    Index(i64),
}

/// What a place gives, as far as it is known at load time.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::mapping) enum PlaceType {
    Column(Type),
    /// Something inside a document: known only when it is read.
    Document,
    /// Any number of nodes.
    Nodes,
    Image,
}

impl Place {
    /// What it gives.
    pub(in crate::mapping) fn ty(&self, scope: &Scope<'_>) -> PlaceType {
        match self {
            Self::Cell(cell) => cell.ty(scope.table),
            Self::Shielded(shielded) => shielded.cell.ty(scope.table),
            Self::Other(other, cell) => cell.ty(scope.others[usize::from(*other)].table),
            Self::Item(item) => match (&item.inner, scope.item) {
                (Inner::Whole, ItemScope::Of(each)) => match &each.element {
                    Some(ty) => PlaceType::Column(ty.clone()),
                    None => PlaceType::Document,
                },
                (Inner::Query(_), _) => PlaceType::Nodes,
                _ => PlaceType::Document,
            },
            Self::Image(_) | Self::OtherRow(_) => PlaceType::Image,
            Self::Fact(fact) => PlaceType::Column(fact.ty()),
        }
    }

    /// What protects it where it leaves.
    pub(in crate::mapping) fn shield(&self) -> Option<&Shield> {
        match self {
            Self::Shielded(shielded) => Some(&shielded.shield),
            Self::Item(item) => Some(&item.shield).filter(|shield| !shield.is_empty()),
            Self::Cell(_)
            | Self::Image(_)
            | Self::Fact(_)
            | Self::Other(..)
            | Self::OtherRow(_) => None,
        }
    }
}

impl CellPath {
    fn ty(&self, table: &Table) -> PlaceType {
        match self.inner {
            Inner::Whole => PlaceType::Column(table.columns[usize::from(self.slot)].ty.clone()),
            Inner::Steps(_) => PlaceType::Document,
            Inner::Query(_) => PlaceType::Nodes,
        }
    }
}

impl Fact {
    /// Whether it is the same for all rows of a transaction.
    const fn is_of_transaction(self) -> bool {
        matches!(
            self,
            Self::TxId | Self::TxTime | Self::SourceName | Self::SourcePosition
        )
    }

    pub(in crate::mapping) fn ty(self) -> Type {
        Type::parse(match self {
            Self::Op | Self::Table | Self::SourceName | Self::SourcePosition => "text",
            Self::TxId | Self::TxOrdinal => "int8",
            Self::TxTime => "timestamptz",
        })
    }
}

/// Compiles a string that is one path.
pub(in crate::mapping) fn compile(scope: &Scope<'_>, text: &Text) -> Option<Place> {
    compile_part(scope, text, 0..text.value.len())
}

/// Compiles the path in `range` of `text`.
pub(super) fn compile_part(
    scope: &Scope<'_>,
    text: &Text,
    range: std::ops::Range<usize>,
) -> Option<Place> {
    let start = range.start;
    if !text.value[range.clone()].starts_with('$') {
        let word = &text.value[range.clone()];
        scope.error(
            Diagnostic::error(text.part(range), format!("`{word}` is not a path"))
                .label("a path starts with `$`")
                .hint(format!("did you mean `$.row.{word}`?")),
        );
        return None;
    }
    let query = parse_path(scope, text, range)?;
    let place = scan_path(&text.value, start);
    resolve(scope, text, &query.segments, &place)
}

/// Compiles a path that must give at most one value: no wildcards, filters or whole images.
pub(in crate::mapping) fn compile_value(scope: &Scope<'_>, text: &Text) -> Option<Place> {
    let place = compile(scope, text)?;
    if place.ty(scope) == PlaceType::Image {
        scope.error(image_is_no_value(super::whole(text), &text.value));
        return None;
    }
    Some(place)
}

/// A message for a whole image where a value is wanted.
pub(super) fn image_is_no_value(at: At, path: &str) -> Diagnostic {
    Diagnostic::error(at, format!("`{path}` is a whole row, not a value"))
        .label("name one of its columns")
        .hint("a nested object is { object = { pnr = \"$.row.pnr\" } }")
}

/// The segments of a singular query in the form of a query's.
pub(super) fn segments_of(singular: &[SingularQuerySegment]) -> Vec<Segment> {
    singular
        .iter()
        .map(|segment| {
            Segment::Selector(match segment {
                SingularQuerySegment::Index(index) => Selector::Index(*index),
                SingularQuerySegment::Name(name) => Selector::Name(name.clone()),
            })
        })
        .collect()
}

/// Resolves a parsed path against the document of one change.
pub(super) fn resolve(
    scope: &Scope<'_>,
    text: &Text,
    segments: &[Segment],
    place: &PathPlace,
) -> Option<Place> {
    let at = |index: usize| {
        let range = place.names.get(index).unwrap_or(&place.whole);
        text.part(range.clone())
    };
    let names: Vec<Option<&str>> = segments.iter().map(name_of).collect();
    if let Some(index) = misread(text, &names, place) {
        scope.error(
            Diagnostic::error(at(index), "a name has no blanks in it")
                .label("an operator may be missing")
                .hint(super::condition_hint(&text.value)),
        );
        return None;
    }
    let Some(Some(first)) = names.first().copied() else {
        scope.error(
            Diagnostic::error(
                text.part(place.whole.clone()),
                "a path starts with a part of the change",
            )
            .hint(format!("`$.row.…`; one of: {}", PARTS.join(", "))),
        );
        return None;
    };
    let second = names.get(1).copied().flatten();
    let fact = fact(first, second, segments.len());
    if let Some(fact) = fact.filter(|fact| scope.rows == Rows::Own || fact.is_of_transaction()) {
        return Some(Place::Fact(fact));
    }
    if let Some(other) = scope.others.iter().position(|other| other.name == first) {
        return resolve_other(scope, other, &segments[1..], second, at);
    }
    if scope.rows == Rows::OnlyParts && !matches!(first, "tx" | "source") {
        scope.error(no_row_of_its_own(
            scope,
            at(0),
            segments.get(1).and_then(name_of),
        ));
        return None;
    }
    if first == "item" {
        return item(scope, &segments[1..], at);
    }
    let side = match first {
        "before" => Side::Before,
        "after" => Side::After,
        "row" | "key" => Side::Row,
        "op" | "table" | "tx" | "source" => {
            scope.error(unknown_fact(at(segments.len().min(2) - 1), first));
            return None;
        }
        other => {
            scope.error(unknown_part(scope, at(0), other));
            return None;
        }
    };
    if segments.len() == 1 {
        return Some(Place::Image(side));
    }
    let slot = column(scope, first, second, at(1))?;
    let inner = inner(scope, slot, &segments[2..], || at(2))?;
    scope.reads(slot, side);
    Some(Place::Cell(CellPath { side, slot, inner }))
}

/// Resolves what follows the name of another row.
fn resolve_other(
    scope: &Scope<'_>,
    number: usize,
    segments: &[Segment],
    column: Option<&str>,
    at: impl Fn(usize) -> At,
) -> Option<Place> {
    let other = scope.others[number];
    let place = u16::try_from(number).ok()?;
    if segments.is_empty() {
        if matches!(other.kind, OtherKind::LookedUp) {
            // Whether there is one is read of the row, too.
            let finders = other.table.key.iter();
            let finders = finders.chain(other.table.indexes.iter().flatten());
            let mut reads = scope.reads.borrow_mut();
            reads
                .others
                .extend(finders.map(|slot| (other.number, *slot)));
        }
        return Some(Place::OtherRow(place));
    }
    if let OtherKind::Part { ops, reads } = other.kind {
        return resolve_part(scope, place, other, ops, reads, segments, at);
    }
    let there = Scope {
        table: other.table,
        others: &[],
        rows: Rows::Own,
        ..*scope
    };
    let slot = self::column(&there, other.name, column, at(1))?;
    let inner = inner(&there, slot, &segments[1..], || at(2))?;
    let mut reads = scope.reads.borrow_mut();
    reads.others.push((other.number, slot));
    let side = Side::Row;
    Some(Place::Other(place, CellPath { side, slot, inner }))
}

/// Resolves what follows the name of a part: an image of it, then a column.
fn resolve_part(
    scope: &Scope<'_>,
    number: u16,
    other: Other<'_>,
    ops: OpSet,
    reads: &RefCell<Reads>,
    segments: &[Segment],
    at: impl Fn(usize) -> At,
) -> Option<Place> {
    let image = segments.first().and_then(name_of).unwrap_or_default();
    let side = match image {
        "before" => Side::Before,
        "after" => Side::After,
        "row" | "key" => Side::Row,
        column => {
            scope.error(
                Diagnostic::error(
                    at(1),
                    format!("part `{}` has no image `{column}`", other.name),
                )
                .hint(format!("did you mean `$.{}.row.{column}`?", other.name)),
            );
            return None;
        }
    };
    let there = Scope {
        report: scope.report,
        table: other.table,
        ops,
        image: RowImage::Current,
        reads,
        others: &[],
        rows: Rows::Own,
        item: ItemScope::No,
    };
    let column = segments.get(1).and_then(name_of);
    let slot = self::column(&there, image, column, at(2))?;
    let inner = inner(&there, slot, &segments[2..], || at(3))?;
    there.reads(slot, side);
    Some(Place::Other(number, CellPath { side, slot, inner }))
}

/// A message for `$.row` and its like in an event of several rows.
pub(super) fn no_row_of_its_own(scope: &Scope<'_>, at: At, column: Option<&str>) -> Diagnostic {
    let first = scope.others.first().map_or("new", |other| other.name);
    let column = column.unwrap_or("pnr");
    Diagnostic::error(at, "an event of several rows has no row of its own")
        .label("which of them?")
        .hint(format!("name the part: `$.{first}.row.{column}`"))
}

/// The fact that a path of `length` segments means, where it is one.
fn fact(first: &str, second: Option<&str>, length: usize) -> Option<Fact> {
    match (first, second, length) {
        ("op", None, 1) => Some(Fact::Op),
        ("table", None, 1) => Some(Fact::Table),
        ("tx", Some("id"), 2) => Some(Fact::TxId),
        ("tx", Some("time"), 2) => Some(Fact::TxTime),
        ("tx", Some("ordinal"), 2) => Some(Fact::TxOrdinal),
        ("source", Some("name"), 2) => Some(Fact::SourceName),
        ("source", Some("position"), 2) => Some(Fact::SourcePosition),
        _ => None,
    }
}

/// What follows `$.item`.
fn item(scope: &Scope<'_>, segments: &[Segment], at: impl Fn(usize) -> At) -> Option<Place> {
    let each = match scope.item {
        ItemScope::Of(each) => each,
        ItemScope::Broken => return None,
        ItemScope::No => {
            scope.error(
                Diagnostic::error(at(0), "`$.item` is an element of what `each` names")
                    .label("this rule has no `each`")
                    .hint("each = \"$.after.tags\": one event for every element"),
            );
            return None;
        }
    };
    let inner = match (segments, &each.element) {
        ([], _) => Inner::Whole,
        (_, Some(ty)) => {
            scope.error(
                Diagnostic::error(at(1), format!("`$.item` is {}, not a document", ty.name))
                    .label("nothing to read inside"),
            );
            return None;
        }
        (segments, None) => inside(scope, segments, || at(1))?,
    };
    Some(Place::Item(Box::new(ItemPath {
        inner,
        shield: Shield::default(),
    })))
}

/// The column named after the image `part`; after `key` it has to be of the key.
fn column(scope: &Scope<'_>, part: &str, name: Option<&str>, at: At) -> Option<u16> {
    let Some(name) = name else {
        scope.error(
            Diagnostic::error(at, "a row is read one column at a time")
                .label("expected a column's name"),
        );
        return None;
    };
    let slot = find_column(scope, name, at)?;
    if part == "key" && !scope.table.key.contains(&slot) {
        scope.error(
            Diagnostic::error(
                at,
                format!("`{name}` is not part of the key of `{}`", scope.table.short),
            )
            .hint(format!("did you mean `$.row.{name}`?")),
        );
        return None;
    }
    Some(slot)
}

/// The name that the parser read over blanks: its grammar allows them inside a name, RFC 9535 does not.
fn misread(text: &Text, names: &[Option<&str>], place: &PathPlace) -> Option<usize> {
    names.iter().zip(&place.names).position(|(name, range)| {
        let written = text.value.get(range.clone()).unwrap_or_default();
        let quoted = written.trim_start().starts_with(['\'', '"']);
        !quoted && name.is_some_and(|name| name != written)
    })
}

/// The parts of a change document.
pub(in crate::mapping) const PARTS: &[&str] = &[
    "row", "before", "after", "key", "item", "op", "table", "tx", "source",
];

fn unknown_part(scope: &Scope<'_>, at: At, part: &str) -> Diagnostic {
    let error = Diagnostic::error(at, format!("a change has no part `{part}`"));
    let others = scope.others.iter().map(|other| other.name);
    let known: Vec<&str> = PARTS.iter().copied().chain(others).collect();
    if scope.table.slot(part).is_some() {
        return error.hint(format!("did you mean `$.row.{part}`?"));
    }
    error.maybe_hint(one_of(part, &known))
}

fn unknown_fact(at: At, part: &str) -> Diagnostic {
    let known = match part {
        "tx" => "`$.tx.id`, `$.tx.time` and `$.tx.ordinal`",
        "source" => "`$.source.name` and `$.source.position`",
        "op" => "`$.op`",
        _ => "`$.table`",
    };
    Diagnostic::error(at, format!("no such value in `$.{part}`")).hint(format!("there is {known}"))
}

/// The slot of a column, or a diagnostic.
pub(super) fn find_column(scope: &Scope<'_>, column: &str, at: At) -> Option<u16> {
    if scope.rows == Rows::OnlyParts {
        scope.error(no_row_of_its_own(scope, at, Some(column)));
        return None;
    }
    let slot = scope.table.slot(column);
    if slot.is_none() {
        scope.error(unknown_column(
            at,
            column,
            &scope.table.short,
            &scope.table.columns,
        ));
    }
    slot
}

/// Compiles what follows a column.
pub(super) fn inner(
    scope: &Scope<'_>,
    slot: u16,
    segments: &[Segment],
    at: impl Fn() -> At,
) -> Option<Inner> {
    if segments.is_empty() {
        return Some(Inner::Whole);
    }
    let column = &scope.table.columns[usize::from(slot)];
    let is_document = matches!(
        column.ty.kind,
        Kind::Json | Kind::Array(_) | Kind::Composite(_) | Kind::Hstore
    );
    if !is_document {
        scope.error(
            Diagnostic::error(
                at(),
                format!("`{}` is {}, not a document", column.name, column.ty.name),
            )
            .label("nothing to read inside"),
        );
        return None;
    }
    inside(scope, segments, at)
}

/// Compiles what is read inside a document.
fn inside(scope: &Scope<'_>, segments: &[Segment], at: impl Fn() -> At) -> Option<Inner> {
    let steps: Option<Box<[Step]>> = segments.iter().map(step_of).collect();
    if let Some(steps) = steps {
        return Some(Inner::Steps(steps));
    }
    if mentions_root(segments) {
        scope.error(
            Diagnostic::error(
                at(),
                "a filter inside a document cannot read the rest of the change",
            )
            .label("`$` here")
            .hint("inside a nested filter, `@` is the element"),
        );
        return None;
    }
    Some(Inner::Query(Box::new(JpQuery::new(segments.to_vec()))))
}

fn name_of(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Selector(Selector::Name(name)) => Some(name),
        _ => None,
    }
}

fn step_of(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Selector(Selector::Name(name)) => Some(Step::Name(name.clone())),
        Segment::Selector(Selector::Index(index)) => Some(Step::Index(*index)),
        _ => None,
    }
}

/// Whether a nested filter uses `$`, which jsonpath-rust would take for the cell.
fn mentions_root(segments: &[Segment]) -> bool {
    // The tree's debug form names the two node kinds that hold an absolute query; walking six types for
    // a refusal is not worth its code.
    let tree = format!("{segments:?}");
    tree.contains("AbsQuery(") || tree.contains("Root(")
}
