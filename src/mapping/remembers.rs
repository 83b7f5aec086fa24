//! What a mapping has to know of the rows of a table beside the change at hand: for people, and what it costs them.

use rowbridge_api::{TableName, TableNeeds};

use super::Mapping;
use super::rule::{BeforeFrom, Table};

/// What is known of the rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembers {
    pub table: TableName,
    /// Event types of the rules that look into it.
    pub looked_up_by: Vec<String>,
    pub before: Before,
    /// The columns that are kept of every row; empty if none is kept.
    pub kept: Vec<String>,
    /// How many columns schema.toml declares.
    pub columns: usize,
    /// How many keys and indexes a kept row is found by.
    pub finders: usize,
    /// Event types whose last event of each row is remembered, since others take it back.
    pub taken_back: Vec<String>,
}

/// Where rules have the row before a change from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    NotRead,
    /// The source sends these columns of it, beside the key.
    Source(Vec<String>),
    /// It is kept.
    State,
}

impl Mapping {
    /// The tables of whose rows more has to be known than a change says, in file order.
    #[must_use]
    pub fn remembers(&self) -> Vec<Remembers> {
        let tables = self.tables.iter().enumerate();
        let all = tables.map(|(number, table)| self.remembers_of(number, table));
        all.filter(|table| {
            !table.kept.is_empty()
                || !table.taken_back.is_empty()
                || table.before != Before::NotRead
        })
        .collect()
    }

    fn remembers_of(&self, number: usize, table: &Table) -> Remembers {
        let into = self.rules.iter().filter(|rule| {
            let mut lookups = rule.lookups.iter();
            lookups.any(|lookup| lookup.table == number)
        });
        let mut looked_up_by: Vec<String> = into.map(|rule| rule.event_type.clone()).collect();
        looked_up_by.dedup();
        let slots = table.kept.iter().flat_map(|kept| kept.0.iter());
        let name = |slot: &u16| table.columns[usize::from(*slot)].name.clone();
        let needs = self.needs.iter().find(|needs| needs.table == table.source);
        Remembers {
            table: table.source.clone(),
            looked_up_by,
            before: match table.before {
                BeforeFrom::State => Before::State,
                BeforeFrom::Source => needs.map_or(Before::NotRead, before_of_source),
            },
            kept: slots.map(name).collect(),
            columns: table.columns.len(),
            finders: usize::from(!table.key.is_empty()) + table.indexes.len(),
            taken_back: table.reverted.clone(),
        }
    }
}

fn before_of_source(needs: &TableNeeds) -> Before {
    let read = needs.columns.iter().filter(|column| column.before);
    let read = read.filter(|column| !needs.key.contains(&column.name));
    let read: Vec<String> = read.map(|column| column.name.clone()).collect();
    match read.is_empty() {
        true => Before::NotRead,
        false => Before::Source(read),
    }
}
