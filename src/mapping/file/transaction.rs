//! `[event.transaction]`: one event from several rows of a transaction.

use super::reader::{Node, Table, Text};
use crate::mapping::diagnostic::{At, Diagnostic};

/// `[event.transaction]`.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct TransactionDecl {
    /// The column that the parts agree on.
    pub(in crate::mapping) by: Option<Text>,
    /// Whether rows that became part of the event fire no rule of their own.
    pub(in crate::mapping) consume: bool,
    pub(in crate::mapping) parts: Vec<PartDecl>,
    pub(in crate::mapping) at: At,
}

/// One of `[event.transaction.parts]`.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct PartDecl {
    pub(in crate::mapping) name: Text,
    pub(in crate::mapping) table: Option<Text>,
    pub(in crate::mapping) on: Option<Vec<Text>>,
    pub(in crate::mapping) when: Option<Text>,
    pub(in crate::mapping) only: Vec<(Text, Text)>,
    pub(in crate::mapping) optional: bool,
}

const EXAMPLE: &str = "[event.transaction]\nby = \"pnr\"\n[event.transaction.parts]\n\
    old = { table = \"segment\", on = \"delete\" }\nnew = { table = \"segment\", on = \"insert\" }";

impl TransactionDecl {
    pub(super) fn read(node: &Node<'_>) -> Option<Self> {
        let table = node.table()?;
        table.only_keys("[event.transaction]", &["by", "consume", "parts"], &[]);
        for key in ["by", "parts"] {
            if !table.has(key) {
                let problem = format!("this event's [event.transaction] needs `{key}`");
                table
                    .report()
                    .push(Diagnostic::error(node.at, problem).hint(EXAMPLE));
            }
        }
        Some(Self {
            by: table.text("by"),
            consume: table.flag("consume").is_some_and(|flag| flag.on),
            parts: table
                .table("parts")
                .map(|parts| read_parts(&parts))
                .unwrap_or_default(),
            at: node.at,
        })
    }
}

fn read_parts(table: &Table<'_>) -> Vec<PartDecl> {
    table
        .entries()
        .filter_map(|(name, node)| Some(read_part(name, &node.table()?)))
        .collect()
}

fn read_part(name: Text, table: &Table<'_>) -> PartDecl {
    let place = format!("part `{}`", name.value);
    table.only_keys(&place, &["table", "on", "when", "only", "optional"], &[]);
    for (key, example) in [("table", "segment"), ("on", "insert")] {
        if !table.has(key) {
            table.report().push(
                Diagnostic::error(name.at, format!("{place} needs `{key}`"))
                    .hint(format!("{key} = \"{example}\"")),
            );
        }
    }
    PartDecl {
        table: table.text("table"),
        on: table.get("on").and_then(|node| node.text_or_texts()),
        when: table.text("when"),
        only: table
            .table("only")
            .map(|only| super::event::read_only(&only))
            .unwrap_or_default(),
        optional: table.flag("optional").is_some_and(|flag| flag.on),
        name,
    }
}
