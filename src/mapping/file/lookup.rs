//! `[event.lookup.<name>]`: a row of another captured table.

use super::reader::{Table, Text};
use crate::mapping::diagnostic::{At, Diagnostic, one_of};
use crate::mapping::rule::Missing;

/// One lookup of an event.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct LookupDecl {
    pub(in crate::mapping) name: Text,
    pub(in crate::mapping) table: Option<Text>,
    /// Column of the looked-up table, and the path of its value.
    pub(in crate::mapping) columns: Vec<(Text, Text)>,
    pub(in crate::mapping) columns_at: At,
    pub(in crate::mapping) missing: Missing,
}

const KEYS: &[&str] = &["table", "where", "missing"];
/// What a lookup cannot do without, each with an example.
const NEEDED: [(&str, &str); 2] = [
    ("table", "table = \"flight\""),
    ("where", "where = { flight_no = \"$.row.flight_no\" }"),
];

/// The lookups of an event or of a table's defaults, in file order.
pub(super) fn read_lookups(table: &Table<'_>) -> Vec<LookupDecl> {
    table
        .entries()
        .filter_map(|(name, node)| Some(read_lookup(name, &node.table()?)))
        .collect()
}

fn read_lookup(name: Text, table: &Table<'_>) -> LookupDecl {
    let place = format!("lookup `{}`", name.value);
    table.only_keys(&place, KEYS, &[]);
    for (key, example) in NEEDED {
        if !table.has(key) {
            table
                .report()
                .push(Diagnostic::error(name.at, format!("{place} needs `{key}`")).hint(example));
        }
    }
    let columns = table.table("where").map(|columns| {
        let pairs = columns.entries();
        pairs.filter_map(|(column, node)| Some((column, node.text()?)))
    });
    LookupDecl {
        table: table.text("table"),
        columns: columns.map(Iterator::collect).unwrap_or_default(),
        columns_at: table.key_at("where").unwrap_or(name.at),
        missing: table
            .text("missing")
            .map(|text| read_missing(&text, table))
            .unwrap_or_default(),
        name,
    }
}

fn read_missing(text: &Text, table: &Table<'_>) -> Missing {
    const WORDS: [(&str, Missing); 2] = [("error", Missing::Error), ("null", Missing::Null)];
    let found = WORDS.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        table.report().push(
            Diagnostic::error(text.at, format!("unknown `missing`: `{}`", text.value))
                .maybe_hint(one_of(&text.value, &WORDS.map(|(word, _)| word))),
        );
    }
    found.map(|(_, missing)| *missing).unwrap_or_default()
}
