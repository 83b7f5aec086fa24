//! Which columns of which tables are kept, and that none of them is protected: what is kept stands in a topic.

use super::event::CompiledEvents;
use super::needs::readers;
use crate::mapping::diagnostic::{At, Diagnostic, Report};
use crate::mapping::expression::BeforeRead;
use crate::mapping::file::TableDecl;
use crate::mapping::rule::{BeforeFrom, KeptColumns, Table, UnchangedFrom};

/// Has the rows kept of tables that rules look into, and of those whose rows before a change come from there: the
/// columns that any rule reads, but for those that are protected. Reports those of them that could not do without.
pub(super) fn keep(
    report: &Report,
    decls: &[TableDecl],
    tables: &mut [Table],
    compiled: &CompiledEvents,
) {
    for (number, table) in tables.iter_mut().enumerate() {
        let wanted = Wanted::of(number, table, compiled);
        let decl = decls.iter().find(|decl| decl.short.value == table.short);
        if let Some(decl) = decl {
            wanted.check(report, decl.short.at, table);
        }
        table.kept = wanted.kept(table);
    }
}

/// The columns of one table, by what they are kept for.
struct Wanted {
    /// They find a row, or the last event of an entity.
    found_by: Vec<u16>,
    /// Rules of other rows read them.
    looked_up: Vec<u16>,
    /// Read of the row before a change, which the source does not send.
    before: Vec<u16>,
    /// Read of the row after it, which the source may send without a large value that did not change.
    after: Vec<u16>,
}

impl Wanted {
    fn of(number: usize, table: &Table, compiled: &CompiledEvents) -> Self {
        let others = compiled.reads.iter().flat_map(|reads| &reads.others);
        let looked_up: Vec<u16> = others
            .filter(|(table, _)| *table == number)
            .map(|(_, slot)| *slot)
            .collect();
        let mut rules = compiled.rules.iter().filter(|rule| rule.table == number);
        let is_kept = table.before == BeforeFrom::State;
        let readers = match is_kept {
            true => readers(number, table, compiled),
            false => Vec::new(),
        };
        let read = readers.iter().flat_map(|reader| &reader.columns);
        let (before, after): (Vec<_>, Vec<_>) =
            read.partition(|(_, before)| *before == BeforeRead::Yes);
        let slots = |columns: Vec<&(u16, BeforeRead)>| columns.iter().map(|read| read.0).collect();
        let mut found_by = Vec::new();
        if is_kept || !looked_up.is_empty() || rules.any(|rule| rule.is_reverted) {
            found_by.extend(table.key.iter().chain(table.indexes.iter().flatten()));
        }
        Self {
            found_by,
            looked_up,
            before: slots(before),
            after: match table.unchanged {
                UnchangedFrom::State => slots(after),
                UnchangedFrom::Nowhere => Vec::new(),
            },
        }
    }

    fn check(&self, report: &Report, at: At, table: &Table) {
        let mut said = Vec::new();
        for (slots, why, hint) in [
            (
                &self.found_by,
                "it finds the rows that are kept in the state topic",
                "name another `key` or index, or class it \"clear\" if it may leave",
            ),
            (
                &self.looked_up,
                "rules look it up: the rows are kept in the state topic",
                "leave it out of the lookups, or class it \"clear\" if it may leave",
            ),
            (
                &self.before,
                "rules read it of the row before a change: that row is kept in the state topic",
                "have the source send that row and leave out `before = \"state\"`, or class it \"clear\" if it may leave",
            ),
        ] {
            for slot in slots {
                if table.privacy.is_protected(*slot) && !said.contains(slot) {
                    said.push(*slot);
                    let column = &table.columns[usize::from(*slot)].name;
                    let what = format!(
                        "`{}.{column}` is protected and would be kept as it is",
                        table.short
                    );
                    report.push(Diagnostic::error(at, what).label(why).hint(hint));
                }
            }
        }
    }

    fn kept(&self, table: &Table) -> Option<KeptColumns> {
        if table.before == BeforeFrom::Source && self.looked_up.is_empty() {
            return None;
        }
        let all = [&self.looked_up, &self.before, &self.after];
        let mut slots: Vec<u16> = all.into_iter().flatten().copied().collect();
        slots.extend(table.indexes.iter().flatten());
        if table.before == BeforeFrom::State {
            slots.extend(&table.key);
        }
        slots.retain(|slot| !table.privacy.is_protected(*slot));
        slots.sort_unstable();
        slots.dedup();
        Some(KeptColumns(slots.into()))
    }
}
