//! `[[event]]` and `[defaults.<table>]`, which share their keys.

use super::lifecycle::TransitionDecl;
use super::lookup::{LookupDecl, read_lookups};
use super::reader::{Flag, Node, Table, Text};
use super::transaction::TransactionDecl;
use super::value::{FieldDecl, read_fields};
use crate::mapping::diagnostic::{At, Diagnostic};

/// How many of several columns must have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Quantifier {
    Any,
    All,
}

/// `changed = [..]` or `changed = { all = [..] }`.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct ChangedDecl {
    pub(in crate::mapping) quantifier: Quantifier,
    pub(in crate::mapping) columns: Vec<Text>,
    pub(in crate::mapping) at: At,
}

/// `[[event.check]]`.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct CheckDecl {
    pub(in crate::mapping) assert: Text,
    pub(in crate::mapping) message: String,
}

/// What defaults and events have in common: an event starts from its table's.
#[derive(Clone, Debug, Default)]
pub(in crate::mapping) struct Clauses {
    pub(in crate::mapping) on: Option<Vec<Text>>,
    pub(in crate::mapping) changed: Option<ChangedDecl>,
    pub(in crate::mapping) topic: Option<Text>,
    pub(in crate::mapping) key: Option<Text>,
    pub(in crate::mapping) subject: Option<Text>,
    pub(in crate::mapping) correlation: Option<Text>,
    pub(in crate::mapping) time: Option<Text>,
    pub(in crate::mapping) image: Option<Text>,
    pub(in crate::mapping) tombstone: Option<Flag>,
    pub(in crate::mapping) broadcast: Option<Flag>,
    /// Every condition: the defaults' first, then the event's own.
    pub(in crate::mapping) when: Vec<Text>,
    /// Column and parameter.
    pub(in crate::mapping) only: Option<Vec<(Text, Text)>>,
    pub(in crate::mapping) headers: Vec<FieldDecl>,
    pub(in crate::mapping) data: Vec<FieldDecl>,
    /// The place of the `data` key, where there is one.
    pub(in crate::mapping) data_at: Option<At>,
    pub(in crate::mapping) checks: Vec<CheckDecl>,
    pub(in crate::mapping) lookups: Vec<LookupDecl>,
}

/// `[[event]]`.
#[derive(Debug)]
pub(in crate::mapping) struct EventDecl {
    pub(in crate::mapping) at: At,
    pub(in crate::mapping) event_type: Option<Text>,
    pub(in crate::mapping) doc: String,
    pub(in crate::mapping) table: Option<Text>,
    pub(in crate::mapping) transition: Option<TransitionDecl>,
    /// The event type that this one takes back.
    pub(in crate::mapping) reverts: Option<Text>,
    pub(in crate::mapping) joined: Option<TransactionDecl>,
    pub(in crate::mapping) each: Option<Text>,
    pub(in crate::mapping) clauses: Clauses,
}

/// The keys an event may have.
pub(super) const EVENT_KEYS: &[&str] = &[
    "type",
    "doc",
    "table",
    "on",
    "changed",
    "transition",
    "each",
    "when",
    "only",
    "time",
    "headers",
    "image",
    "topic",
    "key",
    "subject",
    "correlation",
    "tombstone",
    "broadcast",
    "data",
    "check",
    "lookup",
    "reverts",
    "transaction",
];
/// The keys that defaults may have.
pub(super) const DEFAULTS_KEYS: &[&str] = &[
    "on",
    "changed",
    "when",
    "only",
    "time",
    "headers",
    "image",
    "topic",
    "key",
    "subject",
    "correlation",
    "tombstone",
    "broadcast",
    "data",
    "check",
    "lookup",
];
/// The keys of an event that this version knows by name only.
pub(super) const LATER_KEYS: &[&str] = &[];

impl EventDecl {
    pub(super) fn read(table: &Table<'_>) -> Self {
        table.only_keys("[[event]]", EVENT_KEYS, LATER_KEYS);
        let transaction = table.has("transaction");
        for (key, example) in [("type", "SeatReassigned"), ("table", "segment")] {
            let implied = key == "table" && transaction;
            if !table.has(key) && !implied {
                table.report().push(
                    Diagnostic::error(table.at, format!("this event needs `{key}`"))
                        .hint(format!("{key} = \"{example}\"")),
                );
            }
        }
        let event_type = table.text("type");
        if let Some(name) = event_type.as_ref().filter(|name| name.value.is_empty()) {
            table
                .report()
                .push(Diagnostic::error(name.at, "an event's type is not empty"));
        }
        Self {
            at: table.at,
            event_type,
            doc: table.text("doc").map(|doc| doc.value).unwrap_or_default(),
            table: table.text("table"),
            transition: table
                .get("transition")
                .and_then(|node| TransitionDecl::read(&node)),
            reverts: table.text("reverts"),
            joined: table
                .get("transaction")
                .and_then(|node| TransactionDecl::read(&node)),
            each: table.text("each"),
            clauses: Clauses::read(table),
        }
    }
}

impl Clauses {
    pub(super) fn read(table: &Table<'_>) -> Self {
        Self {
            on: table.get("on").and_then(|node| node.text_or_texts()),
            changed: table.get("changed").and_then(|node| read_changed(&node)),
            topic: table.text("topic"),
            key: table.text("key"),
            subject: table.text("subject"),
            correlation: table.text("correlation"),
            time: table.text("time"),
            image: table.text("image"),
            tombstone: table.flag("tombstone"),
            broadcast: table.flag("broadcast"),
            when: table.text("when").into_iter().collect(),
            only: table.table("only").map(|only| read_only(&only)),
            headers: table
                .table("headers")
                .map(|headers| read_fields(&headers))
                .unwrap_or_default(),
            data: table
                .table("data")
                .map(|data| read_fields(&data))
                .unwrap_or_default(),
            data_at: table.key_at("data"),
            checks: table
                .get("check")
                .map(|node| read_checks(&node))
                .unwrap_or_default(),
            lookups: table
                .table("lookup")
                .map(|lookups| read_lookups(&lookups))
                .unwrap_or_default(),
        }
    }

    /// These clauses as the start of an event's own: the event overrides by naming; conditions and checks
    /// add up; fields and headers are merged by name, these first.
    pub(in crate::mapping) fn overridden_by(&self, own: &Self) -> Self {
        Self {
            on: own.on.clone().or_else(|| self.on.clone()),
            changed: own.changed.clone().or_else(|| self.changed.clone()),
            topic: own.topic.clone().or_else(|| self.topic.clone()),
            key: own.key.clone().or_else(|| self.key.clone()),
            subject: own.subject.clone().or_else(|| self.subject.clone()),
            correlation: own.correlation.clone().or_else(|| self.correlation.clone()),
            time: own.time.clone().or_else(|| self.time.clone()),
            image: own.image.clone().or_else(|| self.image.clone()),
            tombstone: own.tombstone.or(self.tombstone),
            broadcast: own.broadcast.or(self.broadcast),
            when: [self.when.as_slice(), &own.when].concat(),
            only: own.only.clone().or_else(|| self.only.clone()),
            headers: merged(&self.headers, &own.headers, |field| &field.name),
            data: merged(&self.data, &own.data, |field| &field.name),
            data_at: own.data_at,
            checks: [self.checks.as_slice(), &own.checks].concat(),
            lookups: merged(&self.lookups, &own.lookups, |lookup| &lookup.name),
        }
    }
}

fn merged<T: Clone>(defaults: &[T], own: &[T], name: impl Fn(&T) -> &Text) -> Vec<T> {
    let same = |one: &T, other: &T| name(one).value == name(other).value;
    let overridden = defaults.iter().map(|default| {
        let own = own.iter().find(|own| same(own, default));
        own.unwrap_or(default).clone()
    });
    let is_new = |own: &&T| !defaults.iter().any(|default| same(own, default));
    overridden
        .chain(own.iter().filter(is_new).cloned())
        .collect()
}

fn read_changed(node: &Node<'_>) -> Option<ChangedDecl> {
    let (quantifier, columns) = match node.as_table() {
        Some(table) => {
            table.only_keys("`changed`", &["all", "any"], &[]);
            match (table.get("all"), table.get("any")) {
                (Some(all), None) => (Quantifier::All, all.texts()?),
                (None, Some(any)) => (Quantifier::Any, any.texts()?),
                _ => {
                    node.report().push(
                        Diagnostic::error(node.at, "`changed` wants one list of columns")
                            .hint("changed = [\"seat_no\"], or { all = [\"fare\", \"cabin\"] }"),
                    );
                    return None;
                }
            }
        }
        None => (Quantifier::Any, node.text_or_texts()?),
    };
    if columns.is_empty() {
        node.report().push(
            Diagnostic::error(node.at, "`changed` names no column")
                .label("would never be true")
                .hint("changed = [\"seat_no\"]; leave it out for any change"),
        );
        return None;
    }
    Some(ChangedDecl {
        quantifier,
        columns,
        at: node.at,
    })
}

pub(super) fn read_only(table: &Table<'_>) -> Vec<(Text, Text)> {
    table
        .entries()
        .filter_map(|(column, node)| Some((column, node.text()?)))
        .collect()
}

fn read_checks(node: &Node<'_>) -> Vec<CheckDecl> {
    let Some(elements) = node.as_array() else {
        node.expected("a list, written [[event.check]]");
        return Vec::new();
    };
    elements
        .filter_map(|element| {
            let table = element.table()?;
            table.only_keys("[[event.check]]", &["assert", "message"], &[]);
            let assert = table.text("assert");
            if assert.is_none() && !table.has("assert") {
                table.report().push(
                    Diagnostic::error(table.at, "this check needs `assert`")
                        .hint("assert = \"$.after.fare >= 0\""),
                );
            }
            let assert = assert?;
            let message = table.text("message").map(|message| message.value);
            Some(CheckDecl {
                message: message.unwrap_or_else(|| assert.value.clone()),
                assert,
            })
        })
        .collect()
}
