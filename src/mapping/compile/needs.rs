//! What the rules together read of each table.

use rowbridge_api::{ColumnNeed, OpSet, TableNeeds};

use super::ResolvedTable;
use super::event::CompiledEvents;
use crate::mapping::expression::BeforeRead;
use crate::mapping::rule::Table;

pub(super) fn of(tables: &[ResolvedTable], compiled: &CompiledEvents) -> Vec<TableNeeds> {
    tables
        .iter()
        .enumerate()
        .filter(|(number, _)| compiled.rules.iter().any(|rule| rule.table == *number))
        .map(|(number, table)| of_table(number, &table.table, compiled))
        .collect()
}

fn of_table(number: usize, table: &Table, compiled: &CompiledEvents) -> TableNeeds {
    let rules = compiled.rules.iter().zip(&compiled.reads);
    let rules: Vec<_> = rules.filter(|(rule, _)| rule.table == number).collect();
    let mut columns = Vec::new();
    for (slot, column) in (0_u16..).zip(&table.columns) {
        let mut need = ColumnNeed {
            name: column.name.clone(),
            ty: column.ty.clone(),
            before: false,
            rules: Vec::new(),
        };
        for (rule, reads) in &rules {
            let of_column = reads.columns.iter().filter(|(read, _)| *read == slot);
            let before = of_column
                .clone()
                .any(|(_, before)| *before == BeforeRead::Yes);
            if of_column.count() > 0 && !need.rules.contains(&rule.event_type) {
                need.rules.push(rule.event_type.clone());
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
        ops: rules
            .iter()
            .fold(OpSet::default(), |ops, (rule, _)| ops.union(rule.ops)),
    }
}
