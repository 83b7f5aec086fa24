//! What compiles and probably does not mean what was meant: keys that gather everything in one partition, events that
//! are made twice, compacted topics that keep what is gone, personal columns that leave as they are.
//!
//! A finding is one that a second look confirms: where it cannot be sure, nothing is said.

use rowbridge_api::{Kind, Op};

use super::ResolvedTable;
use super::event::CompiledEvents;
use crate::mapping::Cleanup;
use crate::mapping::diagnostic::{Diagnostic, Report};
use crate::mapping::expression::path::{CellPath, Fact, Inner, Place};
use crate::mapping::expression::template::Template;
use crate::mapping::file::TopicDecl;
use crate::mapping::lifecycle::Lifecycle;
use crate::mapping::rule::{Body, Key, RowImage, Rule, Table};
use crate::personal::is_surely_personal;

pub(super) fn lint(
    report: &Report,
    topics: &[TopicDecl],
    tables: &[ResolvedTable],
    compiled: &CompiledEvents,
) {
    for (number, table) in tables.iter().enumerate() {
        personal(report, number, &table.table, compiled);
    }
    for (number, rule) in compiled.rules.iter().enumerate() {
        let table = &tables[rule.table].table;
        if let Key::Template(key) = &rule.key {
            let lifecycles = compiled.lifecycles.iter();
            let lifecycles = lifecycles.filter(|compiled| compiled.table == rule.table);
            let lifecycles: Vec<_> = lifecycles.map(|compiled| &compiled.lifecycle).collect();
            few_keys(report, number, table, key, &lifecycles, compiled);
            keys_that_stay(report, number, table, key, topics, compiled);
        }
        made_twice(report, number, compiled);
    }
}

/// A personal column leaves in the clear, and nobody said that it may. Said once for each, where it first does.
fn personal(report: &Report, number: usize, table: &Table, compiled: &CompiledEvents) {
    let mut said: Vec<(u16, &[String])> = Vec::new();
    let rules = compiled.rules.iter().zip(&compiled.reads);
    let leaving = rules
        .filter(|(rule, _)| rule.table == number)
        .flat_map(|(_, reads)| &reads.undecided);
    for leaving in leaving {
        let column = &table.columns[usize::from(leaving.slot)];
        let mut path = vec![column.name.as_str()];
        path.extend(leaving.inside.iter().map(String::as_str));
        let kind = match leaving.inside.is_empty() {
            true => &column.ty.kind,
            false => &Kind::Text,
        };
        if said.contains(&(leaving.slot, &leaving.inside))
            || !is_surely_personal(&table.short, &path, kind)
        {
            continue;
        }
        said.push((leaving.slot, &leaving.inside));
        let name = format!("{}.{}", table.short, path.join("."));
        report.push(
            Diagnostic::warning(leaving.at, format!("`{name}` looks personal and leaves as it is"))
                .label("nothing in [privacy] speaks of it")
                .hint(format!(
                    "[privacy]\ncolumns = {{ \"{name}\" = \"hash\" }}, or drop, mask, truncate(n); \"clear\" if it is meant to leave"
                )),
        );
    }
}

/// A key made only of what has few values: a partition for each, and the others empty.
fn few_keys(
    report: &Report,
    number: usize,
    table: &Table,
    key: &Template,
    lifecycles: &[&Lifecycle],
    compiled: &CompiledEvents,
) {
    let slots: Vec<u16> = key
        .places()
        .filter_map(cell)
        .map(|cell| cell.slot)
        .collect();
    // The key of the table names one row each, whatever it is made of.
    let names_a_row = !table.key.is_empty() && table.key.iter().all(|slot| slots.contains(slot));
    let has_few = |place| few_values(place, table, lifecycles).is_some();
    let Some(at) = compiled.sites[number].key else {
        return;
    };
    if key.is_constant() || names_a_row || !key.places().all(has_few) {
        return;
    }
    let why: Vec<String> = key
        .places()
        .filter_map(|place| few_values(place, table, lifecycles))
        .collect();
    let own = table
        .key
        .iter()
        .map(|slot| &table.columns[usize::from(*slot)].name);
    let own: Vec<String> = own.map(|name| format!("{{{name}}}")).collect();
    let own = match own.is_empty() {
        true => "{id}".to_owned(),
        false => own.join("/"),
    };
    report.push(
        Diagnostic::warning(at, "this key has few values: most partitions stay empty")
            .label(why.join(", "))
            .hint(format!("key = \"{own}\", or with it behind what is there")),
    );
}

/// Why a place has few values; `None` if it may have many.
fn few_values(place: &Place, table: &Table, lifecycles: &[&Lifecycle]) -> Option<String> {
    let cell = match place {
        Place::Fact(Fact::Op | Fact::Table | Fact::SourceName) => {
            return Some("the same for most changes".to_owned());
        }
        Place::Fact(_)
        | Place::Image(_)
        | Place::Item(_)
        | Place::Other(..)
        | Place::OtherRow(_) => return None,
        Place::Cell(cell) => cell,
        Place::Shielded(shielded) => &shielded.cell,
    };
    if !matches!(cell.inner, Inner::Whole) {
        return None;
    }
    let column = &table.columns[usize::from(cell.slot)];
    let is_state = lifecycles.iter().any(|lifecycle| {
        lifecycle.state.slot == cell.slot && matches!(lifecycle.state.inner, Inner::Whole)
    });
    if column.ty.kind == Kind::Bool {
        Some(format!("`{}` is true or false", column.name))
    } else if !column.labels.is_empty() {
        Some(format!(
            "`{}` has {} labels",
            column.name,
            column.labels.len()
        ))
    } else if is_state {
        Some(format!("`{}` is the state of a lifecycle", column.name))
    } else {
        None
    }
}

fn cell(place: &Place) -> Option<&CellPath> {
    match place {
        Place::Cell(cell) => Some(cell),
        Place::Shielded(shielded) => Some(&shielded.cell),
        Place::Image(_)
        | Place::Fact(_)
        | Place::Item(_)
        | Place::Other(..)
        | Place::OtherRow(_) => None,
    }
}

/// On a compacted topic a key stays until a tombstone takes it away; one that is made of what may change is left
/// behind by every change of it.
fn keys_that_stay(
    report: &Report,
    number: usize,
    table: &Table,
    key: &Template,
    topics: &[TopicDecl],
    compiled: &CompiledEvents,
) {
    let rule = &compiled.rules[number];
    let cleanup = topics[usize::from(rule.topic.0)].topic.cleanup;
    let is_compacted = matches!(cleanup, Some(Cleanup::Compact | Cleanup::CompactDelete));
    let buries = |other: &Rule| {
        other.table == rule.table
            && other.topic == rule.topic
            && matches!(other.body, Body::Tombstone)
            && (other.image == RowImage::Before
                || other.ops.contains(Op::Delete)
                || other.each.is_some())
    };
    // An element may go while its row stays.
    let elements = |place: &Place| match (place, &rule.each) {
        (Place::Item(_), Some(each)) => Some(each.cell.slot),
        _ => None,
    };
    let changeable = key.places().find_map(|place| {
        let of_row = cell(place).map(|cell| cell.slot);
        let of_row = of_row.filter(|slot| !table.key.contains(slot));
        of_row.or_else(|| elements(place))
    });
    let (Some(slot), Some(at)) = (changeable, compiled.sites[number].key) else {
        return;
    };
    if !is_compacted
        || matches!(rule.body, Body::Tombstone)
        || !rule.ops.contains(Op::Update)
        || compiled.rules.iter().any(buries)
    {
        return;
    }
    let column = &table.columns[usize::from(slot)].name;
    let old = match key.places().any(|place| elements(place).is_some()) {
        true => format!("each = \"$.before.{column}\""),
        false => "image = \"before\"".to_owned(),
    };
    report.push(
        Diagnostic::warning(at, "a compacted topic keeps keys that are no more")
            .label(format!("when `{column}` changes, the old key stays for good"))
            .hint(format!(
                "add a rule of this table before it, with {old}, changed = [\"{column}\"] and tombstone = true"
            )),
    );
}

/// Two rules make the same event of the same change.
fn made_twice(report: &Report, number: usize, compiled: &CompiledEvents) {
    let rule = &compiled.rules[number];
    let Some(first) = compiled.rules[..number]
        .iter()
        .find(|first| covers(first, rule))
    else {
        return;
    };
    report.push(
        Diagnostic::warning(
            compiled.sites[number].event_type,
            format!("`{}` is published twice", rule.event_type),
        )
        .label(format!(
            "whatever fires this rule fires the one on line {} too, with the same event",
            first.line
        ))
        .hint("remove one of the two, or narrow one with `when`"),
    );
}

/// Whether `first` fires whenever `rule` does, with the same event. Conditions are compared as they are written:
/// what only means the same is not found.
fn covers(first: &Rule, rule: &Rule) -> bool {
    let same = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        format!("{one:?}") == format!("{other:?}")
    };
    let ops = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];
    first.table == rule.table
        && first.event_type == rule.event_type
        && first.topic == rule.topic
        && first.image == rule.image
        && ops
            .iter()
            .all(|op| first.ops.contains(*op) || !rule.ops.contains(*op))
        && (first.changed.is_none() || same(&first.changed, &rule.changed))
        && (first.transition.is_none() || same(&first.transition, &rule.transition))
        && (first.only.is_empty() || same(&first.only, &rule.only))
        && first
            .when
            .iter()
            .all(|guard| rule.when.iter().any(|other| other.text == guard.text))
        && same(&first.each, &rule.each)
        && same(&first.joining, &rule.joining)
        && same(&first.lookups, &rule.lookups)
        && same(&first.key, &rule.key)
        && same(&first.headers, &rule.headers)
        && same(&first.body, &rule.body)
}
