//! Templates: `{flight_no}/{departure_date}/{cabin}`.

use super::leaving::leaving;
use super::path::{self, Place, PlaceType};
use super::{Scope, whole};
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::expression::column;
use crate::mapping::file::reader::Text;
use crate::mapping::rule::Side;

/// One part of a template.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Part {
    Literal(Box<[u8]>),
    Place(Place),
}

/// A compiled template.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct Template {
    pub(in crate::mapping) parts: Box<[Part]>,
}

impl Template {
    /// The places that it is made from.
    pub(in crate::mapping) fn places(&self) -> impl Iterator<Item = &Place> + Clone {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(place),
            Part::Literal(_) => None,
        })
    }

    /// Whether it gives the same text for every row.
    pub(in crate::mapping) fn is_constant(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_)))
    }
}

/// Compiles a template. A bare name is `$.row.<name>`, `{{` a brace.
pub(in crate::mapping) fn compile(scope: &Scope<'_>, text: &Text) -> Option<Template> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut sound = true;
    let source = text.value.as_str();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push(rest.as_bytes()[0]);
            at += 2;
        } else if rest.starts_with('{') {
            let Some(end) = rest.find('}') else {
                scope.error(
                    Diagnostic::error(text.part(at..at + 1), "a brace is opened and not closed")
                        .label("no `}` follows")
                        .hint("a brace itself is written `{{`"),
                );
                return None;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            match compile_hole(scope, text, at + 1..at + end) {
                Some(place) => parts.push(Part::Place(place)),
                None => sound = false,
            }
            at += end + 1;
        } else {
            // A lone `}` is text, so the run may begin with one.
            let mut braces = rest.char_indices().skip(1);
            let end = braces.find(|(_, c)| matches!(c, '{' | '}'));
            let run = end.map_or(rest.len(), |(end, _)| end);
            literal.extend_from_slice(&rest.as_bytes()[..run]);
            at += run;
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    if source.is_empty() {
        scope.error(Diagnostic::error(whole(text), "an empty template").hint("\"{id}\""));
        return None;
    }
    sound.then(|| Template {
        parts: parts.into(),
    })
}

fn compile_hole(scope: &Scope<'_>, text: &Text, range: std::ops::Range<usize>) -> Option<Place> {
    let hole = &text.value[range.clone()];
    let at = text.part(range.clone());
    if hole.is_empty() {
        scope.error(
            Diagnostic::error(
                text.part(range.start - 1..range.end + 1),
                "an empty pair of braces",
            )
            .hint("a column's name, or a path; a brace itself is written `{{`"),
        );
        return None;
    }
    if !hole.starts_with('$') {
        let name = Text {
            value: hole.to_owned(),
            at,
            content: None,
        };
        let column = column::compile(scope, &name)?;
        scope.reads(column.slot, Side::Row);
        return leaving(scope, Place::Cell(column.on(Side::Row)), at, None);
    }
    let place = path::compile_part(scope, text, range)?;
    match place.ty(scope) {
        PlaceType::Image => scope.error(path::image_is_no_value(at, hole)),
        PlaceType::Nodes => scope.error(
            Diagnostic::error(at, format!("`{hole}` may give several values"))
                .label("a template wants one"),
        ),
        PlaceType::Column(_) | PlaceType::Document => return leaving(scope, place, at, None),
    }
    None
}
