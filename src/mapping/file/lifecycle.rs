//! `[lifecycle.<name>]`, and the `transition` of an event.

use super::reader::{Node, Table, Text};
use crate::mapping::diagnostic::{At, Diagnostic, one_of};
use crate::mapping::lifecycle::Illegal;
use toml::de::DeValue;

/// `[lifecycle.<name>]`.
#[derive(Debug)]
pub(in crate::mapping) struct LifecycleDecl {
    pub(in crate::mapping) name: Text,
    pub(in crate::mapping) table: Option<Text>,
    pub(in crate::mapping) state: Option<Text>,
    pub(in crate::mapping) start: Vec<Text>,
    /// From and to.
    pub(in crate::mapping) silent: Vec<[Text; 2]>,
    pub(in crate::mapping) illegal: Illegal,
    /// Column and parameter.
    pub(in crate::mapping) only: Vec<(Text, Text)>,
}

/// `transition = { of = .., from = .., to = .. }`.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct TransitionDecl {
    pub(in crate::mapping) of: Text,
    /// Absent: the rule fires on creation.
    pub(in crate::mapping) from: Option<Vec<Text>>,
    pub(in crate::mapping) to: Vec<Text>,
    pub(in crate::mapping) at: At,
}

const LIFECYCLE_KEYS: &[&str] = &["table", "state", "start", "silent", "illegal", "only"];
/// What a lifecycle cannot do without, each with an example.
const NEEDED: [(&str, &str); 3] = [
    ("table", "table = \"reservation\""),
    ("state", "state = \"status\""),
    ("start", "start = [\"BOOKED\"]"),
];
const EXAMPLE: &str = "transition = { of = \"stay\", from = \"BOOKED\", to = \"ARRIVED\" }";

pub(super) fn read_lifecycles(table: &Table<'_>) -> Vec<LifecycleDecl> {
    table
        .entries()
        .filter_map(|(name, node)| Some(read_lifecycle(name, &node.table()?)))
        .collect()
}

fn read_lifecycle(name: Text, table: &Table<'_>) -> LifecycleDecl {
    let place = format!("[lifecycle.{}]", name.value);
    table.only_keys(&place, LIFECYCLE_KEYS, &[]);
    for (key, example) in NEEDED {
        if !table.has(key) {
            table
                .report()
                .push(Diagnostic::error(name.at, format!("{place} needs `{key}`")).hint(example));
        }
    }
    LifecycleDecl {
        table: table.text("table"),
        state: table.text("state"),
        start: states_of(table, "start").unwrap_or_default(),
        silent: table
            .get("silent")
            .map(|node| read_silent(&node))
            .unwrap_or_default(),
        illegal: table
            .text("illegal")
            .map(|text| read_illegal(&text, table))
            .unwrap_or_default(),
        only: table
            .table("only")
            .map(|only| super::event::read_only(&only))
            .unwrap_or_default(),
        name,
    }
}

fn read_illegal(text: &Text, table: &Table<'_>) -> Illegal {
    const WORDS: [(&str, Illegal); 3] = [
        ("quarantine", Illegal::Quarantine),
        ("stop", Illegal::Stop),
        ("ignore", Illegal::Ignore),
    ];
    let found = WORDS.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        table.report().push(
            Diagnostic::error(text.at, format!("unknown `illegal`: `{}`", text.value))
                .maybe_hint(one_of(&text.value, &WORDS.map(|(word, _)| word))),
        );
    }
    found.map(|(_, illegal)| *illegal).unwrap_or_default()
}

fn read_silent(node: &Node<'_>) -> Vec<[Text; 2]> {
    let Some(pairs) = node.as_array() else {
        node.expected("a list of pairs");
        return Vec::new();
    };
    pairs.filter_map(|pair| read_pair(&pair)).collect()
}

fn read_pair(node: &Node<'_>) -> Option<[Text; 2]> {
    let states: Option<Vec<Text>> = node
        .as_array()
        .and_then(|states| states.map(|state| as_state(&state)).collect());
    let pair = states.and_then(|states| <[Text; 2]>::try_from(states).ok());
    if pair.is_none() {
        node.report().push(
            Diagnostic::error(node.at, "`silent` lists pairs of states")
                .label("from and to")
                .hint("silent = [[\"ARRIVED\", \"IN_HOUSE\"]]"),
        );
    }
    pair
}

impl TransitionDecl {
    pub(super) fn read(node: &Node<'_>) -> Option<Self> {
        let table = node.table()?;
        table.only_keys("`transition`", &["of", "from", "to"], &[]);
        for key in ["of", "to"] {
            if !table.has(key) {
                node.report().push(
                    Diagnostic::error(node.at, format!("this transition needs `{key}`"))
                        .hint(EXAMPLE),
                );
            }
        }
        let (of, to) = (table.text("of"), states_of(&table, "to"));
        let from = match table.has("from") {
            true => Some(states_of(&table, "from")?),
            false => None,
        };
        Some(Self {
            of: of?,
            from,
            to: to?,
            at: node.at,
        })
    }
}

/// One state or a list of them under `key`; states are text, or the numbers and booleans of a column of those.
fn states_of(table: &Table<'_>, key: &str) -> Option<Vec<Text>> {
    let node = table.get(key)?;
    let states: Vec<Text> = match node.as_array() {
        Some(elements) => elements.filter_map(|state| read_state(&state)).collect(),
        None => vec![read_state(&node)?],
    };
    if states.is_empty() {
        node.report().push(
            Diagnostic::error(node.at, format!("`{key}` names no state"))
                .hint(format!("{key} = [\"BOOKED\"]")),
        );
        return None;
    }
    Some(states)
}

fn read_state(node: &Node<'_>) -> Option<Text> {
    let state = as_state(node);
    if state.is_none() {
        node.expected("a state such as \"BOOKED\"");
    }
    state
}

fn as_state(node: &Node<'_>) -> Option<Text> {
    let value = match node.value {
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        _ => return node.as_text(),
    };
    Some(Text {
        value,
        at: node.at,
        content: None,
    })
}
