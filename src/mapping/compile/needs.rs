//! What the rules together read of each table.

use rowbridge_api::{ColumnNeed, Op, OpSet, TableNeeds};

use super::ResolvedTable;
use super::event::CompiledEvents;
use crate::mapping::expression::{BeforeRead, Reads};
use crate::mapping::rule::{BeforeFrom, Rule, Table};

pub(super) fn of(tables: &[ResolvedTable], compiled: &CompiledEvents) -> Vec<TableNeeds> {
    tables
        .iter()
        .enumerate()
        .filter_map(|(number, table)| {
            let readers = readers(number, &table.table, compiled);
            (!readers.is_empty()).then(|| of_table(&table.table, &readers))
        })
        .collect()
}

/// A rule or lifecycle that reads one table.
pub(super) struct Reader<'a> {
    name: &'a str,
    ops: OpSet,
    /// Slot, and whether the before image is read.
    pub(super) columns: Vec<(u16, BeforeRead)>,
}

pub(super) fn readers<'a>(
    number: usize,
    table: &Table,
    compiled: &'a CompiledEvents,
) -> Vec<Reader<'a>> {
    let rules = compiled.rules.iter().zip(&compiled.reads);
    let own = rules
        .clone()
        .filter(|(rule, _)| rule.table == number && rule.joining.is_none());
    let own = own.map(|(rule, reads)| Reader {
        name: &rule.event_type,
        ops: match rule.is_reverted {
            // The end of an entity is the end of what is remembered of it.
            true => rule.ops.union(ends()),
            false => rule.ops,
        },
        columns: reads.columns.clone(),
    });
    let lifecycles = compiled.lifecycles.iter();
    let lifecycles = lifecycles
        .filter(|compiled| compiled.table == number)
        .map(|compiled| Reader {
            name: &compiled.lifecycle.rule,
            ops: [Op::Insert, Op::Update].into_iter().collect(),
            columns: compiled.reads.columns.clone(),
        });
    let lookups = rules.filter_map(|(rule, reads)| looking(number, table, rule, reads));
    let parts = compiled.part_reads.iter();
    let parts = parts
        .filter(|part| part.table == number)
        .map(|part| Reader {
            name: &part.event_type,
            ops: part.ops,
            columns: part.reads.columns.clone(),
        });
    own.chain(lifecycles).chain(lookups).chain(parts).collect()
}

/// A rule as the reader of a table that it looks into: its rows are kept from the first one on, by their key.
fn looking<'a>(number: usize, table: &Table, rule: &'a Rule, reads: &Reads) -> Option<Reader<'a>> {
    let read = reads.others.iter().filter(|(table, _)| *table == number);
    let slots: Vec<u16> = read.map(|(_, slot)| *slot).collect();
    if slots.is_empty() {
        return None;
    }
    let slots = slots
        .into_iter()
        .chain(table.indexes.iter().flatten().copied());
    let with_before = |slot: u16| match table.key.contains(&slot) {
        true => (slot, BeforeRead::Yes),
        false => (slot, BeforeRead::No),
    };
    Some(Reader {
        name: &rule.event_type,
        ops: every_op(),
        columns: slots.map(with_before).collect(),
    })
}

/// What ends entities: an update may give a row another key.
fn ends() -> OpSet {
    [Op::Update, Op::Delete, Op::Truncate].into_iter().collect()
}

/// What has to be seen of a table whose rows are kept.
fn every_op() -> OpSet {
    let all = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];
    all.into_iter().collect()
}

fn of_table(table: &Table, readers: &[Reader<'_>]) -> TableNeeds {
    let mut columns = Vec::new();
    for (slot, column) in (0_u16..).zip(&table.columns) {
        let mut need = ColumnNeed {
            name: column.name.clone(),
            ty: column.ty.clone(),
            labels: column.labels.clone(),
            before: false,
            rules: Vec::new(),
        };
        for reader in readers {
            let of_column = reader.columns.iter().filter(|(read, _)| *read == slot);
            let before = of_column
                .clone()
                .any(|(_, before)| *before == BeforeRead::Yes);
            if of_column.count() > 0 && !need.rules.iter().any(|rule| rule == reader.name) {
                need.rules.push(reader.name.to_owned());
            }
            // What is kept need not be sent, but for the key by which it is found.
            let is_kept = table.before == BeforeFrom::State && !table.key.contains(&slot);
            need.before |= before && !is_kept;
        }
        if !need.rules.is_empty() || table.key.contains(&slot) {
            columns.push(need);
        }
    }
    let ops = readers
        .iter()
        .fold(OpSet::default(), |ops, reader| ops.union(reader.ops));
    TableNeeds {
        table: table.source.clone(),
        key: table
            .key
            .iter()
            .map(|slot| table.columns[usize::from(*slot)].name.clone())
            .collect(),
        columns,
        ops: match table.before {
            BeforeFrom::Source => ops,
            BeforeFrom::State => ops.union(every_op()),
        },
    }
}
