//! The shape of `mapping.toml`: what is written where, with the place of every word.
//!
//! Nothing is resolved here: names of tables, topics, columns and expressions stay text until
//! [`super::compile`]. Keys that the language has and this version has not are refused by name.

pub(super) mod event;
pub(super) mod lifecycle;
pub(super) mod lookup;
pub(super) mod privacy;
pub(super) mod reader;
mod tables;
pub(super) mod transaction;
pub(super) mod value;

use toml::de::{DeTable, DeValue};

use self::event::{Clauses, EventDecl};
use self::lifecycle::LifecycleDecl;
use self::privacy::PrivacyDecl;
use self::reader::{Table, Text};
pub(super) use self::tables::{TableDecl, TopicDecl};
use super::diagnostic::{At, Diagnostic, FileId, Report, one_of};

/// What happens to a bad record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnError {
    #[default]
    Stop,
    Quarantine,
}

/// `[mapping]`.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) on_error: OnError,
}

/// One value of `[params]`.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: Text,
    pub(super) at: At,
    pub(super) value: toml::Value,
}

/// `mapping.toml`.
#[derive(Debug, Default)]
pub(super) struct MappingFile {
    pub(super) header: Header,
    pub(super) params: Vec<Param>,
    pub(super) tables: Vec<TableDecl>,
    pub(super) topics: Vec<TopicDecl>,
    pub(super) lifecycles: Vec<LifecycleDecl>,
    pub(super) privacy: Option<PrivacyDecl>,
    pub(super) defaults: Vec<(Text, Clauses)>,
    pub(super) events: Vec<EventDecl>,
}

const ROOT_KEYS: &[&str] = &[
    "mapping",
    "params",
    "tables",
    "topics",
    "lifecycle",
    "privacy",
    "defaults",
    "event",
];

/// Parses a file, reporting its syntax errors; what could be read is still returned.
pub(super) fn parse<'a>(
    file: FileId,
    text: &'a str,
    report: &Report,
) -> toml::Spanned<DeTable<'a>> {
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        report.push(
            Diagnostic::error(
                At::new(file, span),
                format!("TOML syntax: {}", error.message()),
            )
            .label("here"),
        );
    }
    parsed
}

impl MappingFile {
    pub(super) fn read(root: &Table<'_>) -> Self {
        root.only_keys("mapping.toml", ROOT_KEYS, &[]);
        Self {
            header: read_header(root),
            params: root
                .table("params")
                .map(|table| read_params(&table))
                .unwrap_or_default(),
            tables: root
                .table("tables")
                .map(|table| tables::read_tables(&table))
                .unwrap_or_default(),
            topics: root
                .table("topics")
                .map(|table| tables::read_topics(&table))
                .unwrap_or_default(),
            lifecycles: root
                .table("lifecycle")
                .map(|table| lifecycle::read_lifecycles(&table))
                .unwrap_or_default(),
            privacy: root.table("privacy").map(|table| privacy::read(&table)),
            defaults: root
                .table("defaults")
                .map(|table| read_defaults(&table))
                .unwrap_or_default(),
            events: read_events(root),
        }
    }
}

fn read_header(root: &Table<'_>) -> Header {
    let Some(table) = root.table("mapping") else {
        if !root.has("mapping") {
            root.report().push(
                Diagnostic::error(root.at, "no [mapping] table")
                    .hint("start the file with\n[mapping]\nname = \"airline\"\nversion = 1"),
            );
        }
        return Header::default();
    };
    table.only_keys("[mapping]", &["name", "version", "on_error"], &[]);
    for key in ["name", "version"] {
        if !table.has(key) {
            let at = root.key_at("mapping").unwrap_or(table.at);
            table.report().push(
                Diagnostic::error(at, format!("[mapping] needs `{key}`")).hint(if key == "name" {
                    "name = \"airline\""
                } else {
                    "version = 1"
                }),
            );
        }
    }
    Header {
        name: table
            .text("name")
            .map(read_name(&table))
            .unwrap_or_default(),
        version: table
            .number("version", "a version number from 0")
            .unwrap_or_default(),
        on_error: table
            .text("on_error")
            .map(|text| read_on_error(&text, table.report()))
            .unwrap_or_default(),
    }
}

/// The name goes into a header and into messages: a plain word.
fn read_name<'a>(table: &Table<'a>) -> impl Fn(Text) -> String + use<'a> {
    let report = table.report();
    move |name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.value.is_empty() || !name.value.chars().all(plain) {
            report.push(
                Diagnostic::error(name.at, "the mapping's name is not a plain word")
                    .label("letters, digits, `-`, `_` and `.`"),
            );
        }
        name.value
    }
}

fn read_on_error(text: &Text, report: &Report) -> OnError {
    match text.value.as_str() {
        "stop" => OnError::Stop,
        "quarantine" => OnError::Quarantine,
        other => {
            report.push(
                Diagnostic::error(text.at, format!("unknown `on_error`: `{other}`"))
                    .maybe_hint(one_of(other, &["stop", "quarantine"])),
            );
            OnError::Stop
        }
    }
}

fn read_params(table: &Table<'_>) -> Vec<Param> {
    table
        .entries()
        .map(|(name, node)| Param {
            at: node.at,
            value: plain(node.value),
            name,
        })
        .collect()
}

fn read_defaults(table: &Table<'_>) -> Vec<(Text, Clauses)> {
    table
        .entries()
        .filter_map(|(name, node)| {
            let defaults = node.table()?;
            let place = format!("[defaults.{}]", name.value);
            defaults.only_keys(&place, event::DEFAULTS_KEYS, event::LATER_KEYS);
            Some((name, Clauses::read(&defaults)))
        })
        .collect()
}

fn read_events(root: &Table<'_>) -> Vec<EventDecl> {
    let Some(node) = root.get("event") else {
        root.report().push(
            Diagnostic::warning(root.at, "the mapping has no events")
                .hint("[[event]]\ntype = \"SeatReassigned\"\ntable = \"segment\""),
        );
        return Vec::new();
    };
    let Some(elements) = node.as_array() else {
        let at = root.key_at("event").unwrap_or(node.at);
        root.report().push(
            Diagnostic::error(at, "events are a list")
                .label("one pair of brackets")
                .hint("[[event]], with two pairs of brackets"),
        );
        return Vec::new();
    };
    elements
        .filter_map(|element| element.table())
        .map(|table| EventDecl::read(&table))
        .collect()
}

/// A TOML value without its places.
pub(super) fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(
                |_| toml::Value::String(integer.to_string()),
                toml::Value::Integer,
            ),
        DeValue::Float(float) => float.as_str().parse().map_or_else(
            |_| toml::Value::String(float.to_string()),
            toml::Value::Float,
        ),
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
        DeValue::Array(elements) => toml::Value::Array(
            elements
                .iter()
                .map(|element| plain(element.get_ref()))
                .collect(),
        ),
        DeValue::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
                .collect(),
        ),
    }
}
