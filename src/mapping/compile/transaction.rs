//! Events from several rows of a transaction: the parts, and what `$.<part>.row` means from then on.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rowbridge_api::{Op, OpSet};

use super::event::{PartReads, guard, op_named};
use super::{Known, ResolvedParam, ResolvedTable, only, unknown_table};
use crate::mapping::diagnostic::Diagnostic;
use crate::mapping::expression::path::{PARTS, Place};
use crate::mapping::expression::{Other, OtherKind, Reads, Scope, column};
use crate::mapping::file::reader::Text;
use crate::mapping::file::transaction::{PartDecl, TransactionDecl};
use crate::mapping::rule::{Joining, Part, RowImage, Side, Table};
use crate::mapping::schema::unknown_column;

/// A part's table, what it is read by, and what of it is read.
pub(super) struct ResolvedPart<'a> {
    decl: &'a PartDecl,
    number: usize,
    table: &'a Table,
    ops: OpSet,
    reads: RefCell<Reads>,
}

/// Finds the parts' tables; what is wrong is reported.
pub(super) fn resolve<'a>(
    report: &crate::mapping::diagnostic::Report,
    tables: &'a [ResolvedTable],
    decl: &'a TransactionDecl,
) -> Option<Vec<ResolvedPart<'a>>> {
    let shorts: Vec<&str> = tables
        .iter()
        .map(|table| table.table.short.as_str())
        .collect();
    let parts = decl.parts.iter().map(|part| {
        let short = part.table.as_ref()?;
        if PARTS.contains(&part.name.value.as_str()) {
            let problem = format!(
                "a part called `{}` hides a part of the change",
                part.name.value
            );
            report
                .push(Diagnostic::error(part.name.at, problem).hint("old = { .. }, new = { .. }"));
        }
        let Some(number) = shorts.iter().position(|known| *known == short.value) else {
            report.push(unknown_table(short, &shorts));
            return None;
        };
        let ops = part.on.as_ref()?.iter().map(|word| {
            let op = op_named(report, word)?;
            if op == Op::Truncate {
                report.push(
                    Diagnostic::error(word.at, "a truncate has no row to be part of an event")
                        .hint("on = \"delete\""),
                );
            }
            Some(op)
        });
        let ops = ops.collect::<Option<OpSet>>()?;
        (tables[number].known == Known::Yes).then(|| ResolvedPart {
            decl: part,
            number,
            table: &tables[number].table,
            ops,
            reads: RefCell::default(),
        })
    });
    // All of them, so that all problems are reported.
    let parts: Vec<Option<ResolvedPart<'a>>> = parts.collect();
    let parts: Vec<ResolvedPart<'a>> = parts.into_iter().collect::<Option<_>>()?;
    if parts.is_empty() || parts.iter().all(|part| part.decl.optional) {
        report.push(
            Diagnostic::error(decl.at, "no part of this event has to be there")
                .label("at least one part is not optional")
                .hint("new = { table = \"segment\", on = \"insert\" }"),
        );
        return None;
    }
    Some(parts)
}

/// The parts as rows that an expression may read.
pub(super) fn others<'a>(parts: &'a [ResolvedPart<'a>]) -> Vec<Other<'a>> {
    let others = parts.iter().map(|part| Other {
        name: &part.decl.name.value,
        number: part.number,
        table: part.table,
        kind: OtherKind::Part {
            ops: part.ops,
            reads: &part.reads,
        },
    });
    others.collect()
}

/// Compiles what makes the event.
pub(super) fn compile(
    scope: &Scope<'_>,
    params: &BTreeMap<String, ResolvedParam>,
    decl: &TransactionDecl,
    parts: &[ResolvedPart<'_>],
) -> Option<Joining> {
    let by = decl.by.as_ref()?;
    let parts: Vec<Option<Part>> = parts
        .iter()
        .map(|part| one(scope, params, by, part))
        .collect();
    Some(Joining {
        consume: decl.consume,
        parts: parts.into_iter().collect::<Option<_>>()?,
    })
}

fn one(
    scope: &Scope<'_>,
    params: &BTreeMap<String, ResolvedParam>,
    by: &Text,
    part: &ResolvedPart<'_>,
) -> Option<Part> {
    let own = Scope {
        report: scope.report,
        table: part.table,
        ops: part.ops,
        image: RowImage::Current,
        reads: &part.reads,
        others: &[],
        rows: crate::mapping::expression::Rows::Own,
        item: crate::mapping::expression::ItemScope::No,
    };
    let when = part.decl.when.as_ref().map(|when| guard(&own, when));
    let only = only::compile(&own, params, &part.decl.only);
    if !by.value.contains('.') && part.table.slot(&by.value).is_none() {
        scope.error(
            unknown_column(by.at, &by.value, &part.table.short, &part.table.columns).label(
                format!("part `{}` has no such column", part.decl.name.value),
            ),
        );
        return None;
    }
    let column = column::compile(&own, by)?;
    own.reads(column.slot, Side::Row);
    Some(Part {
        name: part.decl.name.value.as_str().into(),
        table: part.number,
        ops: part.ops,
        by: Place::Cell(column.on(Side::Row)),
        only: only.into_iter().collect::<Option<_>>()?,
        when: match when {
            Some(when) => Some(when?),
            None => None,
        },
        is_required: !part.decl.optional,
    })
}

/// What is read of each part's table.
pub(super) fn reads(event_type: &str, parts: Vec<ResolvedPart<'_>>) -> Vec<PartReads> {
    let reads = parts.into_iter().map(|part| PartReads {
        event_type: event_type.to_owned(),
        table: part.number,
        ops: part.ops,
        reads: part.reads.into_inner(),
    });
    reads.collect()
}
