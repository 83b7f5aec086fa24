//! docs/configuration.md, made from the schema.

use std::fmt::Write as _;

use super::schema::{KEYS, Kind, Presence};

const INTRODUCTION: &str = "\
<!-- Generated from src/config/schema.rs. Change it there, then: UPDATE_DOCS=1 cargo test --lib config -->

# Configuration

Every command takes `-c FILE`; without it `./rowbridge.toml` and then `/etc/rowbridge/rowbridge.toml` is read.
A key is taken from the environment if it is there, else from the file, else it has its default. The variable of
a key is its path in capitals with `__` for the dots, after `ROWBRIDGE_`: `source.postgres.url` is
`ROWBRIDGE_SOURCE__POSTGRES__URL`, `pipeline` is `ROWBRIDGE__PIPELINE`, and the librdkafka property
`sasl.password` is `ROWBRIDGE_SINK__KAFKA__PROPERTIES__SASL_PASSWORD`. Variables without `__` are not looked at.

`rowbridge check --offline` reports everything that is wrong, all at once, with line or variable. Sizes are
integers (bytes) or text with a unit: `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`. Paths are relative to the folder
of the file. Passwords never appear in messages or logs.
";

/// What the tables are for, in the order of the documentation.
const TABLES: &[(&str, &str)] = &[
    ("", "One file describes one pipeline, run by one process."),
    (
        "source.postgres",
        "The database whose changes are followed, by logical replication.",
    ),
    (
        "source.mongodb",
        "A MongoDB replica set or sharded cluster, from 6.0 on. Exactly one source must be given.",
    ),
    (
        "sink.kafka",
        "The Kafka cluster that gets the events. Exactly one sink must be given.",
    ),
    (
        "sink",
        "Instead of Kafka: events as JSON lines on standard output. It keeps no position of its own: the next start goes on where the source was acknowledged, or from the beginning where the source keeps no place either.",
    ),
    (
        "privacy",
        "What the mapping's `[privacy]` hashes with. Whoever has the key can try out values: keep it as a password. Under a new key equal values have other hashes than before.",
    ),
    (
        "state",
        "Where what rules remember is at hand: rows that others look up, rows before a change, the last events of an entity. The truth is in Kafka; this is a copy of it.",
    ),
    (
        "limits",
        "Every queue, buffer and time-out that has a say in memory or latency. The defaults are meant to be right.",
    ),
    (
        "http",
        "Probes and metrics: `/livez`, `/readyz`, `/metrics`.",
    ),
    ("log", "Logs go to standard error."),
];

/// The whole document.
fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (table, doc) in TABLES {
        let title = match *table {
            "" => "The file".to_owned(),
            "sink" => "`[sink.stdout]`".to_owned(),
            table => format!("`[{table}]`"),
        };
        let _ = write!(
            text,
            "\n## {title}\n\n{doc}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
        );
        for key in KEYS.iter().filter(|key| key.table() == *table) {
            let name = match key.kind {
                Kind::Params | Kind::Properties | Kind::Marker => format!("[{}]", key.path),
                _ => key.path.rsplit('.').next().unwrap_or(key.path).to_owned(),
            };
            let default = match key.presence {
                Presence::Required | Presence::RequiredInTable => "required".to_owned(),
                Presence::Optional => "none".to_owned(),
                Presence::Default(toml) => format!("`{toml}`"),
            };
            let _ = writeln!(
                text,
                "| `{name}` | {} | {default} | {} |",
                key.kind.describe(),
                key.doc
            );
        }
    }
    text
}

#[test]
fn the_document_is_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let wanted = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(&found, &wanted);
    assert!(
        found == wanted,
        "docs/configuration.md is not up to date; run `UPDATE_DOCS=1 cargo test --lib config`\n{}",
        diff.unified_diff()
    );
}

#[test]
fn every_key_stands_in_a_documented_table() {
    for key in KEYS {
        assert!(
            TABLES.iter().any(|(table, _)| *table == key.table()),
            "{}",
            key.path
        );
    }
}
