//! `[tables]` and `[topics]`.

use rowbridge_api::TableName;

use super::reader::{Node, Table, Text};
use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::rule::{BeforeFrom, UnchangedFrom};
use crate::mapping::{Cleanup, Envelope, Topic};

/// One line of `[tables]`: a short name for a source table.
#[derive(Debug)]
pub(in crate::mapping) struct TableDecl {
    pub(in crate::mapping) short: Text,
    pub(in crate::mapping) source: Option<(TableName, Text)>,
    /// The entity's key where the source declares none.
    pub(in crate::mapping) key: Option<Vec<Text>>,
    /// Where the row before a change comes from.
    pub(in crate::mapping) before: BeforeFrom,
    /// Where cells come from that the source left out because they did not change.
    pub(in crate::mapping) unchanged: UnchangedFrom,
    /// Columns that find one row together, for lookups beside those by key.
    pub(in crate::mapping) indexes: Vec<Vec<Text>>,
}

/// One `[topics.<name>]`.
#[derive(Debug)]
pub(in crate::mapping) struct TopicDecl {
    pub(in crate::mapping) short: Text,
    pub(in crate::mapping) name: Option<Text>,
    pub(in crate::mapping) topic: Topic,
}

pub(super) fn read_tables(table: &Table<'_>) -> Vec<TableDecl> {
    table
        .entries()
        .map(|(short, node)| read_table(short, &node))
        .collect()
}

fn read_table(short: Text, node: &Node<'_>) -> TableDecl {
    let detailed = node.as_table();
    if let Some(detailed) = &detailed {
        detailed.only_keys("a table", &["name", "key", "index", "before", "toast"], &[]);
        if !detailed.has("name") {
            node.report().push(
                Diagnostic::error(
                    node.at,
                    format!(
                        "table `{}` needs the name it has in the source",
                        short.value
                    ),
                )
                .hint(format!(
                    "{} = {{ name = \"public.{}s\" }}",
                    short.value, short.value
                )),
            );
        }
    }
    let name = match &detailed {
        Some(detailed) => detailed.text("name"),
        None if node.as_text().is_some() => node.as_text(),
        None => {
            node.expected("a string such as \"public.segments\", or a table with `name`");
            None
        }
    };
    let key = detailed
        .as_ref()
        .and_then(|detailed| detailed.get("key")?.texts());
    let before = detailed
        .as_ref()
        .and_then(|detailed| detailed.text("before"))
        .map(|text| read_before(&text, node))
        .unwrap_or_default();
    let unchanged = detailed
        .as_ref()
        .and_then(|detailed| detailed.text("toast"))
        .and_then(|text| read_toast(&text, before, node))
        .unwrap_or(match before {
            BeforeFrom::State => UnchangedFrom::State,
            BeforeFrom::Source => UnchangedFrom::Nowhere,
        });
    let indexes = detailed.and_then(|detailed| read_indexes(&detailed.get("index")?));
    TableDecl {
        source: name.and_then(|name| {
            let parsed = parse_name(&name.value);
            if parsed.is_none() {
                node.report().push(
                    Diagnostic::error(
                        name.at,
                        format!("`{}` does not name a schema and a table", name.value),
                    )
                    .hint(format!("\"public.{}\"", name.value.trim_matches('.'))),
                );
            }
            Some((parsed?, name))
        }),
        short,
        key,
        before,
        unchanged,
        indexes: indexes.unwrap_or_default(),
    }
}

fn read_before(text: &Text, node: &Node<'_>) -> BeforeFrom {
    const WORDS: [(&str, BeforeFrom); 2] =
        [("source", BeforeFrom::Source), ("state", BeforeFrom::State)];
    let found = WORDS.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        node.report().push(
            Diagnostic::error(text.at, format!("unknown `before`: `{}`", text.value))
                .maybe_hint(one_of(&text.value, &WORDS.map(|(word, _)| word))),
        );
    }
    found.map(|(_, before)| *before).unwrap_or_default()
}

fn read_toast(text: &Text, before: BeforeFrom, node: &Node<'_>) -> Option<UnchangedFrom> {
    const WORDS: [(&str, UnchangedFrom); 2] = [
        ("state", UnchangedFrom::State),
        ("error", UnchangedFrom::Nowhere),
    ];
    let found = WORDS.iter().find(|(word, _)| *word == text.value);
    let error = |problem: String| Diagnostic::error(text.at, problem);
    match found {
        None => {
            let unknown = error(format!("unknown `toast`: `{}`", text.value));
            let hint = one_of(&text.value, &WORDS.map(|(word, _)| word));
            node.report().push(unknown.maybe_hint(hint));
        }
        Some((_, UnchangedFrom::State)) if before == BeforeFrom::Source => {
            let nothing =
                error("`toast = \"state\"` of a table whose rows are not kept".to_owned());
            let nothing = nothing.label("there is nothing to take a cell from");
            node.report().push(nothing.hint("before = \"state\""));
        }
        Some(_) => {}
    }
    found.map(|(_, unchanged)| *unchanged)
}

/// `index = [["flight_no", "departure_date"]]`
fn read_indexes(node: &Node<'_>) -> Option<Vec<Vec<Text>>> {
    let Some(indexes) = node.as_array() else {
        node.expected("a list of lists of columns, such as [[\"flight_no\", \"departure_date\"]]");
        return None;
    };
    indexes.map(|columns| columns.texts()).collect()
}

/// `schema.table` as they are in the catalogue, each in double quotes if that is clearer, as SQL would have it. Up to
/// the first dot outside of quotes it is the schema; nothing is folded to lower case.
fn parse_name(name: &str) -> Option<TableName> {
    let (schema, table) = match unquote(name) {
        Some((schema, rest)) => (schema, rest.strip_prefix('.')?),
        None => {
            let (schema, rest) = name.split_once('.')?;
            (schema.to_owned(), rest)
        }
    };
    let table = match unquote(table) {
        Some((table, "")) => table,
        _ => table.to_owned(),
    };
    (!schema.is_empty() && !table.is_empty()).then(|| TableName::new(schema, table))
}

/// The name in double quotes that `text` begins with, and what follows; nothing if it begins with none.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

const TOPIC_KEYS: &[&str] = &[
    "name",
    "partitions",
    "retention",
    "max_bytes_per_partition",
    "cleanup",
    "replication",
    "envelope",
];

pub(super) fn read_topics(table: &Table<'_>) -> Vec<TopicDecl> {
    table
        .entries()
        .filter_map(|(short, node)| Some(read_topic(short, &node.table()?)))
        .collect()
}

fn read_topic(short: Text, table: &Table<'_>) -> TopicDecl {
    let place = format!("[topics.{}]", short.value);
    table.only_keys(&place, TOPIC_KEYS, &[]);
    let name = table.text("name");
    match &name {
        None if !table.has("name") => table.report().push(
            Diagnostic::error(
                short.at,
                format!("{place} needs `name`, the topic's name in Kafka"),
            )
            .hint(format!("name = \"travel.{}\"", short.value)),
        ),
        Some(name) if !is_topic_name(&name.value) => table.report().push(
            Diagnostic::error(
                name.at,
                format!("`{}` is not a Kafka topic name", name.value),
            )
            .label("letters, digits, `.`, `_` and `-`, at most 249"),
        ),
        _ => {}
    }
    let topic = Topic {
        name: name
            .as_ref()
            .map(|name| name.value.clone())
            .unwrap_or_default(),
        partitions: positive(table, "partitions"),
        replication: positive(table, "replication"),
        retention_ms: measure(
            table,
            "retention",
            &DURATIONS,
            "a duration such as \"7d\" or \"36h\"",
        ),
        max_bytes_per_partition: measure(
            table,
            "max_bytes_per_partition",
            &SIZES,
            "a size such as \"1GiB\"",
        ),
        cleanup: word(table, "cleanup", &CLEANUPS),
        envelope: word(table, "envelope", &ENVELOPES).unwrap_or_default(),
    };
    TopicDecl { short, name, topic }
}

/// Kafka's own rule (`Topic.validate`).
fn is_topic_name(name: &str) -> bool {
    /// Longest topic name in characters.
    const LONGEST: usize = 249;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=LONGEST).contains(&name.len()) && name != "." && name != ".." && name.chars().all(legal)
}

const CLEANUPS: [(&str, Cleanup); 3] = [
    ("delete", Cleanup::Delete),
    ("compact", Cleanup::Compact),
    ("compact,delete", Cleanup::CompactDelete),
];
const ENVELOPES: [(&str, Envelope); 2] = [
    ("binary", Envelope::Binary),
    ("structured", Envelope::Structured),
];

/// Units of a duration in milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
/// Units of a size in bytes.
const SIZES: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

fn positive<N: TryFrom<i64> + Default + PartialEq>(table: &Table<'_>, key: &str) -> Option<N> {
    let number: N = table.number(key, "a whole number above 0")?;
    if number == N::default() {
        table.get(key)?.expected("a whole number above 0");
        return None;
    }
    Some(number)
}

fn measure(table: &Table<'_>, key: &str, units: &[(&str, u64)], expected: &str) -> Option<u64> {
    let text = table.text(key)?;
    let parsed = parse_measure(&text.value, units);
    if parsed.is_none() {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        table.report().push(
            Diagnostic::error(text.at, format!("`{}` is not {expected}", text.value))
                .hint(format!("a number and one of: {}", names.join(", "))),
        );
    }
    parsed
}

fn parse_measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn word<T: Copy>(table: &Table<'_>, key: &str, words: &[(&str, T)]) -> Option<T> {
    let text = table.text(key)?;
    let found = words.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        table.report().push(
            Diagnostic::error(text.at, format!("unknown `{key}`: `{}`", text.value))
                .maybe_hint(one_of(&text.value, &names)),
        );
    }
    found.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_capitals_spaces_and_dots() {
        for (text, schema, table) in [
            ("public.orders", "public", "orders"),
            ("public.Order Lines.2019", "public", "Order Lines.2019"),
            ("\"public\".\"Order Lines\"", "public", "Order Lines"),
            ("\"my.schema\".t", "my.schema", "t"),
            ("\"a\"\".b\".t", "a\".b", "t"),
            ("\"\"\"\".a", "\"", "a"),
            ("Sales.\"a \"\"b\"\"\"", "Sales", "a \"b\""),
        ] {
            assert_eq!(
                parse_name(text),
                Some(TableName::new(schema, table)),
                "{text}"
            );
        }
        for text in ["orders", ".orders", "public.", "\"public\"", "public.\"\""] {
            assert_eq!(parse_name(text), None, "{text}");
        }
    }
}
