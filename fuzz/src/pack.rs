//! Mapping packs in memory, and what holds for everything that is said about one.

use std::sync::Arc;

use rowbridge::mapping::{Diagnostics, Mapping, Pack, SourceFile, Stamp};
use rowbridge::paint::{Look, Paint};
use rowbridge_api::Identity;

/// Compiles a pack and checks what is said of it.
pub(crate) fn compile(mapping: &str, schema: &str) -> Option<Mapping> {
    let file = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let pack = Pack {
        mapping: file("mapping.toml", mapping),
        schema: file("schema.toml", schema),
        params: toml::Table::new(),
    };
    match Mapping::compile(&pack) {
        Ok((compiled, warnings)) => {
            check(&warnings, &pack);
            Some(compiled)
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a word");
            check(&errors, &pack);
            None
        }
    }
}

/// Every diagnostic points at a line and a column that its file has, and is printed with them.
fn check(diagnostics: &Diagnostics, pack: &Pack) {
    let rendered = diagnostics.render(Look::PLAIN);
    assert!(
        diagnostics.is_empty()
            || !diagnostics
                .render(Look {
                    paint: Paint::Ansi,
                    columns: 80
                })
                .is_empty()
    );
    for (_, said) in diagnostics.lines() {
        let mut parts = said.splitn(4, ':');
        let file = match parts.next() {
            Some("mapping.toml") => &pack.mapping,
            Some("schema.toml") => &pack.schema,
            other => panic!("{other:?} is no file of the pack"),
        };
        let mut number = || {
            parts
                .next()
                .and_then(|word| word.parse::<usize>().ok())
                .expect("a number")
        };
        let (line, column) = (number(), number());
        let text = file
            .text
            .split('\n')
            .nth(line - 1)
            .expect("a line of the file");
        assert!(
            column <= text.chars().count() + 1,
            "{said}: the line has no such column"
        );
        // The end of the file is shown behind its last line.
        let is_end = text.is_empty() && line == file.text.split('\n').count();
        let lines = if is_end { line - 1..=line } else { line..=line };
        let mut places = lines.map(|line| format!("--> {}:{line}:", file.name));
        assert!(
            places.any(|place| rendered.contains(&place)),
            "{said}: not in\n{rendered}"
        );
    }
}

/// What events are stamped with.
pub(crate) fn stamp() -> Stamp {
    Stamp {
        pipeline: "fuzz".to_owned(),
        identity: identity(),
        max_record_bytes: 100_000,
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        source: "postgres/1/fuzz".to_owned(),
        history: "1".to_owned(),
    }
}

/// A table with a column of every kind.
pub(crate) const SCHEMA: &str = r#"
[note]
key = ["id"]
[note.columns]
id = "int8"
n = "int4"
fare = "numeric(10,2)"
any = "numeric"
ratio = "float8"
body = "text"
code = "char(3)"
flag = "bool"
raw = "bytea"
doc = "jsonb"
day = "date"
clock = "time"
zoned = "timetz"
local = "timestamp"
coarse = "timestamp(3)"
at = "timestamptz"
span = "interval"
tags = "text[]"
days = "date[]"
docs = "jsonb[]"
home = "row(street text, zip int4, tags text[])"
extras = "hstore"
[line]
key = ["order", "Line No"]
[line.columns]
order = "int8"
"Line No" = "int4"
text = "text"
"#;

/// A mapping of [`SCHEMA`] up to its events, which `events` are.
pub(crate) fn with_events(events: &str) -> String {
    format!(
        "[mapping]\nname = \"fuzz\"\nversion = 1\non_error = \"quarantine\"\n\
         [params]\nwords = [\"a\", \"b\"]\n\
         [tables]\nnote = \"public.notes\"\nline = '\"my.schema\".\"Order Lines\"'\n\
         [topics.notes]\nname = \"notes\"\n{events}"
    )
}

/// [`SCHEMA`] with rules that publish every column as it was and as it is.
pub(crate) fn everything() -> Arc<Mapping> {
    let columns = SCHEMA
        .split_once("[line]")
        .map_or("", |(note, _)| note)
        .lines()
        .skip(4);
    let names: Vec<&str> = columns
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    let data = |image: &str| {
        names
            .iter()
            .map(|name| format!("{name} = \"$.{image}.{name}\"\n"))
            .collect::<String>()
    };
    let event = |ops: &str, image: &str| {
        format!(
            "[[event]]\ntype = \"Note\"\ntable = \"note\"\ntopic = \"notes\"\non = [{ops}]\n[event.data]\n{}",
            data(image)
        )
    };
    let events = [
        event("\"insert\", \"update\", \"read\"", "after"),
        event("\"update\", \"delete\"", "before"),
        "[[event]]\ntype = \"Line\"\ntable = \"line\"\ntopic = \"notes\"\n[event.data]\ntext = \"$.row.text\"\n".to_owned(),
    ];
    Arc::new(compile(&with_events(&events.concat()), SCHEMA).expect("the mapping compiles"))
}
