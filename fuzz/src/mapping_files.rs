//! A pack: `mapping.toml`, and behind lines that name them `schema.toml` and a case.

use std::sync::Arc;

use rowbridge::mapping::cases::{Case, Problems};
use rowbridge::mapping::change_json::Tables;
use rowbridge::mapping::{Mapping, SourceFile};
use rowbridge::paint::Look;

use super::pack;

/// What is said points into the files. What compiles compiles again to the same, and runs its case.
pub fn one(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (mapping, rest) = text
        .split_once("\n### schema.toml\n")
        .unwrap_or((text, pack::SCHEMA));
    let (schema, case) = rest.split_once("\n### case.toml\n").unwrap_or((rest, ""));
    let Some(compiled) = pack::compile(mapping, schema) else {
        return;
    };
    let again = pack::compile(mapping, schema).expect("it compiled before");
    assert_eq!(again.hash(), compiled.hash());
    assert_eq!(compiled.rules().len(), compiled.rule_infos().count());
    for (table, _) in compiled.tables() {
        assert!(compiled.shape(table).is_some());
    }
    if !case.is_empty() {
        run(&Arc::new(compiled), case);
    }
}

fn run(mapping: &Arc<Mapping>, text: &str) {
    let tables = Tables::of(mapping);
    let file = SourceFile {
        name: "case.toml".to_owned(),
        text: text.to_owned(),
    };
    match Case::parse(&file, &tables) {
        Ok(case) => {
            let (once, twice) = (case.run(mapping, &tables), case.run(mapping, &tables));
            assert_eq!(once.passed(), twice.passed(), "a case gives the same twice");
        }
        Err(list) => {
            for problem in &list {
                let span = problem.span.clone();
                assert!(
                    text.get(span).is_some(),
                    "{problem:?} points outside of the file"
                );
            }
            let shown = Problems { file, list }.render(Look::PLAIN);
            assert!(shown.contains("--> case.toml:"), "no place in {shown}");
        }
    }
}
