//! `[[given]]`: the changes of a case.

use std::sync::Arc;

use rowbridge_api::{Kind, Op};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::change_json::{
    DeclaredTable, OwnedCell, RowChange, Tables, TransactionFacts, cell_from_json, cell_from_text,
    micros, op_named,
};
use super::document::{CaseProblem, Fields, to_json};

/// When a case's transactions committed, where it does not say: 2026-01-01T00:00:00Z.
const COMMIT_MICROS: i64 = 1_767_225_600_000_000;

/// One change of a case.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) change: RowChange,
    pub(super) facts: TransactionFacts,
}

/// Reads the changes in file order; those with the same `tx` are one transaction and stand together.
pub(super) fn parse(
    given: Vec<Fields<'_>>,
    tables: &Tables,
    problems: &mut Vec<CaseProblem>,
) -> Vec<Given> {
    let mut ended: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    let mut changes = Vec::new();
    for fields in given {
        let span = fields.span.clone();
        let Some(given) = parse_one(fields, tables, problems) else {
            continue;
        };
        if given.facts.group != open {
            ended.extend(open.take());
            open.clone_from(&given.facts.group);
        }
        if let Some(name) = open.as_ref().filter(|name| ended.contains(name)) {
            let problem = CaseProblem::new(span, format!("transaction `{name}` has ended above"));
            problems.push(problem.hint("changes of one transaction stand together"));
        }
        changes.push(given);
    }
    changes
}

fn parse_one(
    mut fields: Fields<'_>,
    tables: &Tables,
    problems: &mut Vec<CaseProblem>,
) -> Option<Given> {
    let before = problems.len();
    let op = op(&mut fields, problems);
    let table = table(&mut fields, tables, problems);
    let group = fields.text("tx", problems);
    let commit_micros = commit_time(&mut fields, problems);
    let [old, new] = ["before", "after"].map(|name| {
        let image = fields.table(name, problems)?;
        table.and_then(|table| cells(image, table, problems))
    });
    let span = fields.span.clone();
    fields.finish(problems);
    let (op, table) = (op?, table?);
    if problems.len() > before {
        return None;
    }
    let mut change = RowChange {
        shape: Arc::clone(&table.shape),
        op,
        before: old,
        after: new,
    };
    if let Err(message) = change.complete() {
        problems.push(CaseProblem::new(span, message));
        return None;
    }
    let facts = TransactionFacts {
        group,
        commit_micros: Some(commit_micros),
        ..TransactionFacts::default()
    };
    Some(Given { change, facts })
}

/// Reads the rows that were there before the changes.
pub(super) fn parse_seeds(
    seeds: Vec<Fields<'_>>,
    tables: &Tables,
    problems: &mut Vec<CaseProblem>,
) -> Vec<RowChange> {
    let seeds = seeds.into_iter();
    seeds
        .filter_map(|fields| parse_seed(fields, tables, problems))
        .collect()
}

fn parse_seed(
    mut fields: Fields<'_>,
    tables: &Tables,
    problems: &mut Vec<CaseProblem>,
) -> Option<RowChange> {
    let table = table(&mut fields, tables, problems);
    if fields.take("row").is_none() {
        problems.push(
            CaseProblem::new(fields.span.clone(), "a seed has a `row`")
                .hint("row = { flight_no = \"BA117\", gate = \"B32\" }"),
        );
    }
    let row = fields.table("row", problems);
    let row = row.and_then(|row| table.and_then(|table| cells(row, table, problems)));
    fields.finish(problems);
    Some(RowChange {
        shape: Arc::clone(&table?.shape),
        op: Op::Read,
        before: None,
        after: Some(row?),
    })
}

fn op(fields: &mut Fields<'_>, problems: &mut Vec<CaseProblem>) -> Option<Op> {
    let span = fields.take("op").map_or(fields.span.clone(), Spanned::span);
    let word = fields.text("op", problems);
    let op = word.as_deref().and_then(op_named);
    if op.is_none() {
        problems.push(
            CaseProblem::new(span, "a change has an `op`")
                .hint("one of insert, update, delete, read, truncate"),
        );
    }
    op
}

fn table<'t>(
    fields: &mut Fields<'_>,
    tables: &'t Tables,
    problems: &mut Vec<CaseProblem>,
) -> Option<&'t DeclaredTable> {
    let span = fields
        .take("table")
        .map_or(fields.span.clone(), Spanned::span);
    let Some(name) = fields.text("table", problems) else {
        problems.push(CaseProblem::new(span, "a change has a `table`"));
        return None;
    };
    let table = tables.named(&name);
    if table.is_none() {
        problems.push(
            CaseProblem::new(span, format!("the mapping declares no table `{name}`"))
                .hint(format!("it has {}", tables.short_names())),
        );
    }
    table
}

fn commit_time(fields: &mut Fields<'_>, problems: &mut Vec<CaseProblem>) -> i64 {
    let Some(span) = fields.take("time").map(Spanned::span) else {
        return COMMIT_MICROS;
    };
    let Some(text) = fields.text("time", problems) else {
        return COMMIT_MICROS;
    };
    micros(&text).unwrap_or_else(|| {
        problems.push(
            CaseProblem::new(span, "`time` is when the transaction committed")
                .hint("write it as in 2026-12-01T10:15:00Z"),
        );
        COMMIT_MICROS
    })
}

/// The cells of an image; a column that is not there is unavailable.
fn cells(
    image: &DeTable<'_>,
    table: &DeclaredTable,
    problems: &mut Vec<CaseProblem>,
) -> Option<Vec<OwnedCell>> {
    let mut cells = RowChange::unavailable_row(&table.shape);
    let count = problems.len();
    for (name, value) in image.iter() {
        let Some(index) = table.column(name.get_ref()) else {
            let message = format!(
                "schema.toml has no column `{}` for `{}`",
                name.get_ref(),
                table.short
            );
            problems.push(CaseProblem::new(name.span(), message));
            continue;
        };
        match cell(table, index, value) {
            Ok(cell) => cells[index] = cell,
            Err(problem) => problems.push(problem),
        }
    }
    (problems.len() == count).then_some(cells)
}

fn cell(
    table: &DeclaredTable,
    index: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<OwnedCell, CaseProblem> {
    let column = &table.shape.columns[index];
    let cell = match (&column.ty.kind, to_json(value)?) {
        // In TOML a string is the text form, which for a document is its JSON.
        (Kind::Json, Value::String(text)) => cell_from_text(&column.ty, text),
        (_, json) => cell_from_json(&column.ty, &json.to_string()),
    };
    cell.map_err(|message| CaseProblem::new(value.span(), format!("`{}`: {message}", column.name)))
}
