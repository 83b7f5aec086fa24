//! `[privacy]`: which columns are protected, and what of a row that is set aside is shown.

use rowbridge_api::Kind;

use super::event::CompiledEvents;
use super::{Known, ResolvedTable};
use crate::mapping::diagnostic::{At, Diagnostic, Report, one_of};
use crate::mapping::expression::path::{CellPath, Inner, Place, Shielded};
use crate::mapping::file::privacy::{PrivacyDecl, Unread};
use crate::mapping::file::reader::Text;
use crate::mapping::privacy::{Class, Classed, ShownColumns};
use crate::mapping::rule::{Side, Table};
use crate::mapping::schema::unknown_column;

/// Classes the columns, and prepares the keys of the tables, which leave too.
pub(super) fn resolve(report: &Report, decl: Option<&PrivacyDecl>, tables: &mut [ResolvedTable]) {
    for (name, class) in decl.iter().flat_map(|decl| &decl.columns) {
        if let Some((table, classed)) = resolve_column(report, name, *class, tables) {
            tables[table].table.privacy.classes.push(classed);
        }
    }
    for table in tables {
        let table = &mut table.table;
        table.key_places = table
            .key
            .iter()
            .map(|slot| key_place(table, *slot))
            .collect();
    }
}

fn key_place(table: &Table, slot: u16) -> Place {
    let cell = CellPath {
        side: Side::Row,
        slot,
        inner: Inner::Whole,
    };
    let shield = table.privacy.shield(slot, &cell.inner);
    match shield.is_empty() {
        true => Place::Cell(cell),
        false => Place::Shielded(Box::new(Shielded { cell, shield })),
    }
}

fn resolve_column(
    report: &Report,
    name: &Text,
    class: Class,
    tables: &[ResolvedTable],
) -> Option<(usize, Classed)> {
    let written = name.value.as_str();
    let of_table = |table: &ResolvedTable| {
        let rest = written.strip_prefix(table.table.short.as_str())?;
        rest.strip_prefix('.').map(str::len)
    };
    // A table's short name may have dots itself: the longest that fits is meant.
    let found = (0..tables.len())
        .filter_map(|number| Some((number, of_table(&tables[number])?)))
        .min_by_key(|(_, rest)| *rest);
    let Some((number, rest)) = found else {
        report.push(no_table(name, tables));
        return None;
    };
    let ResolvedTable { table, known } = &tables[number];
    if *known == Known::No {
        return None;
    }
    let rest = &written[written.len() - rest..];
    let (column, inside) = match rest.split_once('.') {
        _ if table.slot(rest).is_some() => (rest, None),
        Some((column, inside)) => (column, Some(inside)),
        None => (rest, None),
    };
    let Some(slot) = table.slot(column) else {
        report.push(unknown_column(
            name.at,
            column,
            &table.short,
            &table.columns,
        ));
        return None;
    };
    let inside: Box<[String]> = inside
        .map(|inside| inside.split('.').map(str::to_owned).collect())
        .unwrap_or_default();
    check_inside(report, name, table, slot, &inside)?;
    Some((
        number,
        Classed {
            slot,
            inside,
            class,
        },
    ))
}

fn no_table(name: &Text, tables: &[ResolvedTable]) -> Diagnostic {
    let shorts: Vec<&str> = tables
        .iter()
        .map(|table| table.table.short.as_str())
        .collect();
    match name.value.split_once('.') {
        Some((table, _)) => Diagnostic::error(name.at, format!("unknown table `{table}`"))
            .label("not in [tables]")
            .maybe_hint(one_of(table, &shorts)),
        None => {
            let table = shorts.first().copied().unwrap_or("booking");
            Diagnostic::error(name.at, format!("`{}` does not name a column", name.value))
                .label("a table, a dot and a column")
                .hint(format!("\"{table}.{}\" = \"hash\"", name.value))
        }
    }
}

/// A place inside a column has to be one that values can be in: a class that meets nothing protects nothing.
fn check_inside(
    report: &Report,
    name: &Text,
    table: &Table,
    slot: u16,
    inside: &[String],
) -> Option<()> {
    let column = &table.columns[usize::from(slot)];
    let mut kind = &column.ty.kind;
    for step in inside {
        while let Kind::Array(element) = kind {
            kind = &element.kind;
        }
        let error = |problem: String| Diagnostic::error(name.at, problem);
        let wrong = match kind {
            _ if step.parse::<i64>().is_ok() => {
                let without: Vec<&str> = name
                    .value
                    .split('.')
                    .filter(|part| part.parse::<i64>().is_err())
                    .collect();
                error(format!("`{step}` is a place in an array"))
                    .label("a class holds for every element")
                    .hint(format!("\"{}\"", without.join(".")))
            }
            Kind::Json | Kind::Hstore => continue,
            Kind::Composite(fields) => {
                let field = fields.iter().find(|field| *field.name == **step);
                if let Some(field) = field {
                    kind = &field.kind;
                    continue;
                }
                let names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
                error(format!("`{}` has no field `{step}`", column.name))
                    .maybe_hint(one_of(step, &names))
            }
            _ => error(format!("`{}` has nothing inside", name.value))
                .label(format!("column `{}` is {}", column.name, column.ty.name))
                .hint(format!("\"{}.{}\"", table.short, column.name)),
        };
        report.push(wrong);
        return None;
    }
    Some(())
}

/// Settles what of each table's rows is shown where a row is set aside; what is hashed, by name.
pub(super) fn finish(
    decl: Option<&PrivacyDecl>,
    tables: &mut [ResolvedTable],
    compiled: &CompiledEvents,
) -> Vec<String> {
    let mut hashed = Vec::new();
    for (number, table) in tables.iter_mut().enumerate() {
        let table = &mut table.table;
        let rules = compiled.rules.iter().zip(&compiled.reads);
        let rules = rules.filter(|(rule, _)| rule.table == number);
        let lifecycles = compiled.lifecycles.iter();
        let lifecycles = lifecycles.filter(|compiled| compiled.table == number);
        let reads: Vec<_> = rules
            .map(|(_, reads)| reads)
            .chain(lifecycles.map(|compiled| &compiled.reads))
            .collect();
        let of_events = reads.iter().flat_map(|reads| reads.classed.iter().cloned());
        table.privacy.of_events = of_events.collect();
        if decl.is_some_and(|decl| decl.unread == Unread::Deny) {
            let read = reads.iter().flat_map(|reads| &reads.columns);
            let slots = read.map(|(slot, _)| *slot).chain(table.key.iter().copied());
            table.privacy.shown = ShownColumns::Only(slots.collect());
        }
        let classes = table.privacy.classes.iter().chain(&table.privacy.of_events);
        for classed in classes.filter(|classed| classed.class == Class::Hash) {
            let column = &table.columns[usize::from(classed.slot)].name;
            let inside: String = classed
                .inside
                .iter()
                .map(|name| format!(".{name}"))
                .collect();
            let name = format!("{}.{column}{inside}", table.short);
            if !hashed.contains(&name) {
                hashed.push(name);
            }
        }
    }
    hashed
}

/// The key of a table that is an event's: it must leave, and tell rows apart.
pub(super) fn check_key(report: &Report, table: &Table, at: At) -> Option<()> {
    for slot in &table.key {
        let class = table.privacy.shield(*slot, &Inner::Whole).whole;
        let column = &table.columns[usize::from(*slot)].name;
        let short = &table.short;
        match class {
            Some(Class::Drop) => {
                report.push(
                    Diagnostic::error(
                        at,
                        format!("this event's key would be `{short}.{column}`, which is dropped"),
                    )
                    .label("without `key`, the key of the table is the event's")
                    .hint(
                        "name another `key`, or class the column `hash`: equal values keep one key",
                    ),
                );
                return None;
            }
            Some(class @ (Class::Mask | Class::Truncate(_))) => {
                report.push(blurred_key(at, &format!("{short}.{column}"), class));
            }
            Some(Class::Hash | Class::Clear) | None => {}
        }
    }
    Some(())
}

/// Different rows with one key: their order is lost on the way, and compaction takes one for the other.
pub(super) fn blurred_key(at: At, name: &str, class: Class) -> Diagnostic {
    Diagnostic::warning(
        at,
        format!("rows that differ may get the same key: `{name}` is classed `{class}`"),
    )
    .label("part of the key")
    .hint("class it `hash`: equal values keep one key, different ones do not share it")
}
