//! The last event of each type of each row, until the row is gone.

use std::collections::BTreeMap;

use rowbridge_api::Op;

use super::super::rules::Rules;
use super::super::story::{Change, Values, of_row};

/// What names an event: its transaction, its change, its type, and the how many-eth of that type it is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pipeline::histories) struct Id {
    pub(super) place: (usize, usize, String),
    pub(super) nth: usize,
}

/// By table, type and key of the row.
#[derive(Default)]
pub(super) struct Entities(BTreeMap<(usize, String, Values), Id>);

impl Entities {
    pub(super) fn last(&self, table: usize, event: &str, key: &Values) -> Option<Id> {
        self.0.get(&(table, event.to_owned(), key.clone())).cloned()
    }

    pub(super) fn remember(&mut self, table: usize, event: &str, key: Values, id: Id) {
        self.0.insert((table, event.to_owned(), key), id);
    }

    /// A row that is gone, or has another key by now, has ended.
    pub(super) fn after(&mut self, rules: &Rules, change: &Change) {
        let key = &rules.tables[change.table].key;
        let old = change.before.map(|row| of_row(&row, key));
        let new = change.after.map(|row| of_row(&row, key));
        self.0.retain(|(table, _, entity), _| {
            let has_ended = match change.op {
                Op::Truncate => true,
                _ => old.as_ref() == Some(entity) && new.as_ref() != Some(entity),
            };
            *table != change.table || !has_ended
        });
    }
}
