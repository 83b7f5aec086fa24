//! The airline's cases hold every one of its rules: without any one of them some case fails.

use std::sync::Arc;

use rowbridge::mapping::cases::Case;
use rowbridge::mapping::change_json::Tables;
use rowbridge::mapping::{Colour, Mapping, Pack, SourceFile};

use super::root;

fn source(path: &str) -> SourceFile {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    SourceFile {
        name: path.to_owned(),
        text,
    }
}

fn case_files() -> Vec<SourceFile> {
    let folder = std::fs::read_dir(root().join("mappings/airline/cases")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| source(&format!("mappings/airline/cases/{name}")))
        .collect()
}

/// The text before the first `[[event]]`, and each `[[event]]` with all that belongs to it.
fn split_events(mapping: &str) -> (String, Vec<String>) {
    let mut head = String::new();
    let mut events: Vec<String> = Vec::new();
    let mut inside = false;
    for line in mapping.split_inclusive('\n') {
        if line.starts_with("[[event]]") {
            events.push(String::new());
            inside = true;
        } else if line.starts_with('[')
            && !line.starts_with("[event.")
            && !line.starts_with("[[event.")
        {
            inside = false;
        }
        match events.last_mut() {
            Some(event) if inside => event.push_str(line),
            // Defaults between events: their order among the tables of a file means nothing.
            _ => head.push_str(line),
        }
    }
    (head, events)
}

/// Names of the cases that fail under `mapping`.
fn failing(mapping: String, cases: &[SourceFile]) -> Vec<String> {
    let pack = Pack {
        mapping: SourceFile {
            name: "mapping.toml".to_owned(),
            text: mapping,
        },
        schema: source("mappings/airline/schema.toml"),
        params: toml::Table::new(),
    };
    let (mapping, _) = Mapping::compile(&pack)
        .unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(Colour::Never)));
    let mapping = Arc::new(mapping);
    let tables = Tables::of(&mapping);
    let cases = cases.iter().map(|file| Case::parse(file, &tables).unwrap());
    cases
        .filter(|case| !case.run(&mapping, &tables).passed())
        .map(|case| case.name)
        .collect()
}

#[test]
fn deleting_any_one_rule_fails_some_case() {
    let cases = case_files();
    let (head, events) = split_events(&source("mappings/airline/mapping.toml").text);
    assert!(events.len() > 20);
    assert_eq!(
        failing(head.clone() + &events.concat(), &cases),
        Vec::<String>::new()
    );
    for (index, event) in events.iter().enumerate() {
        let mut rest = events.clone();
        rest.remove(index);
        let failed = failing(head.clone() + &rest.concat(), &cases);
        assert!(
            !failed.is_empty(),
            "no case misses rule {}:\n{event}",
            index + 1
        );
    }
}
