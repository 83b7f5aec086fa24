//! Expressions: parsed by jsonpath-rust, compiled to our own form over cells.
//!
//! jsonpath-rust reads the text and gives its tree; [`path`], [`condition`], [`template`] and [`column`]
//! turn that into places in a change, resolved against one table. There is one semantics, that of cells
//! with exact decimals and *unavailable*; jsonpath-rust's own evaluator only ever runs inside one parsed
//! JSON cell.

pub(super) mod column;
pub(super) mod condition;
pub(super) mod leaving;
pub(super) mod literal;
pub(super) mod path;
pub(super) mod template;
mod tokens;

use std::cell::RefCell;
use std::ops::Range;

use jsonpath_rust::parser::errors::JsonPathError;
use jsonpath_rust::parser::model::{Filter, JpQuery, Segment, Selector};
use jsonpath_rust::parser::parse_json_path;
use rowbridge_api::{Op, OpSet};

use super::diagnostic::{At, Diagnostic, Report};
use super::file::reader::Text;
use super::privacy::Classed;
use super::rule::{Each, RowImage, Side, Table};

/// Where an expression is compiled: the table it reads and the operations it runs on.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) report: &'a Report,
    pub(super) table: &'a Table,
    pub(super) ops: OpSet,
    pub(super) image: RowImage,
    pub(super) reads: &'a RefCell<Reads>,
    /// Other rows that the expression may read, by their number.
    pub(super) others: &'a [Other<'a>],
    pub(super) rows: Rows,
    pub(super) item: ItemScope<'a>,
}

/// Whether an expression is about one row, or only about parts of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Own,
    OnlyParts,
}

/// A row beside the change's own, under a name of its own.
#[derive(Clone, Copy)]
pub(super) struct Other<'a> {
    pub(super) name: &'a str,
    /// Number of its table in [`super::Mapping`].
    pub(super) number: usize,
    pub(super) table: &'a Table,
    pub(super) kind: OtherKind<'a>,
}

/// Where another row comes from.
#[derive(Clone, Copy)]
pub(super) enum OtherKind<'a> {
    /// It is looked up: one image, and every column of it is kept.
    LookedUp,
    /// It changed in the same transaction.
    Part {
        ops: OpSet,
        reads: &'a RefCell<Reads>,
    },
}

/// What `$.item` is.
#[derive(Clone, Copy)]
pub(super) enum ItemScope<'a> {
    /// The rule has no `each`.
    No,
    /// Its `each` is broken, and reported.
    Broken,
    Of(&'a Each),
}

/// The columns that a rule reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Slot of the column, and whether its before image is read.
    pub(super) columns: Vec<(u16, BeforeRead)>,
    /// Table and slot of the columns of other rows.
    pub(super) others: Vec<(usize, u16)>,
    /// What the rule itself protects.
    pub(super) classed: Vec<Classed>,
    /// What leaves as it is, and nobody said that it may.
    pub(super) undecided: Vec<Undecided>,
}

/// A place whose value leaves as it is.
#[derive(Clone, Debug)]
pub(super) struct Undecided {
    pub(super) slot: u16,
    /// Names from the column on.
    pub(super) inside: Box<[String]>,
    pub(super) at: At,
}

/// Whether a column's before image is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeforeRead {
    No,
    Yes,
}

impl Scope<'_> {
    /// Notes that the rule reads a column on one side.
    pub(super) fn reads(&self, slot: u16, side: Side) {
        let on_old = self.ops.contains(Op::Update) || self.ops.contains(Op::Delete);
        let before = match (side, self.image) {
            (Side::Before, _) | (Side::Row, RowImage::Before) => on_old,
            (Side::Row, RowImage::Current) => self.ops.contains(Op::Delete),
            (Side::After, _) => false,
        };
        let before = if before {
            BeforeRead::Yes
        } else {
            BeforeRead::No
        };
        self.reads.borrow_mut().columns.push((slot, before));
    }

    pub(super) fn error(&self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }
}

/// Parses the path in `range` of `text`.
fn parse_path(scope: &Scope<'_>, text: &Text, range: Range<usize>) -> Option<JpQuery> {
    let source = &text.value[range.clone()];
    match parse_json_path(source) {
        Ok(query) => Some(query),
        Err(error) => {
            let place = error_place(&error, 0, source);
            let at = text.part(range.start + place.start..range.start + place.end);
            scope.error(
                Diagnostic::error(at, format!("`{source}` is not a JSONPath"))
                    .label(problem(&error))
                    .hint("a path looks like `$.after.seat_no` or `$.row['seat-no']` (RFC 9535)"),
            );
            None
        }
    }
}

/// What a condition is wrapped in to be a JSONPath.
const WRAP: (&str, &str) = ("$[?", "]");

/// Parses a whole string as a filter expression.
fn parse_condition(scope: &Scope<'_>, text: &Text) -> Option<Filter> {
    let wrapped = format!("{}{}{}", WRAP.0, text.value, WRAP.1);
    let problem = match parse_json_path(&wrapped) {
        Ok(query) => match <[Segment; 1]>::try_from(query.segments) {
            Ok([Segment::Selector(Selector::Filter(filter))]) => return Some(filter),
            _ => ("more than one condition".to_owned(), text.at),
        },
        Err(error) => {
            let place = error_place(&error, WRAP.0.len(), &text.value);
            (problem(&error), text.part(place))
        }
    };
    scope.error(
        Diagnostic::error(problem.1, "not a valid condition")
            .label(problem.0)
            .hint(condition_hint(&text.value)),
    );
    None
}

/// Where the parser stopped, as one character (or the end) of `text`, which starts `skip` bytes into what was
/// parsed.
fn error_place(error: &JsonPathError, skip: usize, text: &str) -> Range<usize> {
    let JsonPathError::PestError(error) = error else {
        return 0..text.len();
    };
    let start = match error.location {
        pest::error::InputLocation::Pos(start) | pest::error::InputLocation::Span((start, _)) => {
            start.saturating_sub(skip).min(text.len())
        }
    };
    let rest = text.get(start..).unwrap_or_default();
    start..start + rest.chars().next().map_or(0, char::len_utf8)
}

fn problem(error: &JsonPathError) -> String {
    match error {
        JsonPathError::PestError(_) => "cannot be read from here on".to_owned(),
        JsonPathError::InvalidJsonPath(problem) => problem.clone(),
        other => other.to_string(),
    }
}

/// What people write out of habit from other languages, and what it is here.
fn condition_hint(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let has = |word: &str| {
        lower
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| part == word)
    };
    let single_equals = {
        let bytes = text.as_bytes();
        (0..bytes.len()).any(|at| {
            bytes[at] == b'='
                && bytes.get(at + 1) != Some(&b'=')
                && !at
                    .checked_sub(1)
                    .is_some_and(|before| matches!(bytes[before], b'=' | b'!' | b'<' | b'>'))
        })
    };
    if has("is") && has("null") {
        "write `== null` or `!= null`".to_owned()
    } else if has("and") || has("or") || has("not") {
        "write `&&`, `||` and `!`".to_owned()
    } else if text.contains("<>") {
        "write `!=`".to_owned()
    } else if single_equals {
        "write `==`".to_owned()
    } else if !text.contains('$') {
        "a condition looks like `$.after.status == 'CANCELLED'`".to_owned()
    } else {
        "an RFC 9535 filter, such as `$.after.status == 'CANCELLED' && $.before.status != null`"
            .to_owned()
    }
}

/// The place of the whole of an expression.
fn whole(text: &Text) -> At {
    text.part(0..text.value.len())
}
