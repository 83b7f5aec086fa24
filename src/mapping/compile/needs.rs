//! What the rules together read of each table.

use rowbridge_api::{ColumnNeed, Op, OpSet, TableNeeds};

use super::ResolvedTable;
use super::event::CompiledEvents;
use crate::mapping::expression::{BeforeRead, Reads};
use crate::mapping::rule::Table;

pub(super) fn of(tables: &[ResolvedTable], compiled: &CompiledEvents) -> Vec<TableNeeds> {
    tables
        .iter()
        .enumerate()
        .filter_map(|(number, table)| {
            let readers = readers(number, compiled);
            (!readers.is_empty()).then(|| of_table(&table.table, &readers))
        })
        .collect()
}

/// A rule or lifecycle of one table.
struct Reader<'a> {
    name: &'a str,
    ops: OpSet,
    reads: &'a Reads,
}

fn readers(table: usize, compiled: &CompiledEvents) -> Vec<Reader<'_>> {
    let rules = compiled.rules.iter().zip(&compiled.reads);
    let rules = rules
        .filter(|(rule, _)| rule.table == table)
        .map(|(rule, reads)| Reader {
            name: &rule.event_type,
            ops: rule.ops,
            reads,
        });
    let lifecycles = compiled.lifecycles.iter();
    let lifecycles = lifecycles
        .filter(|compiled| compiled.table == table)
        .map(|compiled| Reader {
            name: &compiled.lifecycle.rule,
            ops: [Op::Insert, Op::Update].into_iter().collect(),
            reads: &compiled.reads,
        });
    rules.chain(lifecycles).collect()
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
            let of_column = reader
                .reads
                .columns
                .iter()
                .filter(|(read, _)| *read == slot);
            let before = of_column
                .clone()
                .any(|(_, before)| *before == BeforeRead::Yes);
            if of_column.count() > 0 && !need.rules.iter().any(|rule| rule == reader.name) {
                need.rules.push(reader.name.to_owned());
            }
            need.before |= before;
        }
        if !need.rules.is_empty() || table.key.contains(&slot) {
            columns.push(need);
        }
    }
    TableNeeds {
        table: table.source.clone(),
        key: table
            .key
            .iter()
            .map(|slot| table.columns[usize::from(*slot)].name.clone())
            .collect(),
        columns,
        ops: readers
            .iter()
            .fold(OpSet::default(), |ops, reader| ops.union(reader.ops)),
    }
}
