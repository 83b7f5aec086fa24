//! Every shipped pack is whole, and its cases hold every one of its rules: without any one of them some case fails.

use std::sync::Arc;

use rowbridge::mapping::cases::Case;
use rowbridge::mapping::change_json::Tables;
use rowbridge::mapping::{Diagnostics, HashKey, Mapping, Pack, SourceFile};
use rowbridge::paint::Look;

use super::{packs, root, rowbridge, stderr, stdout};

fn source(path: &str) -> SourceFile {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    SourceFile {
        name: path.to_owned(),
        text,
    }
}

fn case_files(pack: &str) -> Vec<SourceFile> {
    let folder = std::fs::read_dir(root().join(pack).join("cases")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| source(&format!("{pack}/cases/{name}")))
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

/// Names of the cases of `pack` that fail under `mapping`.
fn failing(pack: &str, mapping: String, cases: &[SourceFile]) -> Vec<String> {
    failing_if_compiled(pack, mapping, cases)
        .unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(Look::PLAIN)))
}

/// As [`failing`], or why the mapping does not compile.
fn failing_if_compiled(
    pack: &str,
    mapping: String,
    cases: &[SourceFile],
) -> Result<Vec<String>, Diagnostics> {
    let pack = Pack {
        mapping: SourceFile {
            name: "mapping.toml".to_owned(),
            text: mapping,
        },
        schema: source(&format!("{pack}/schema.toml")),
        params: toml::Table::new(),
    };
    let (mapping, _) = Mapping::compile(&pack)?;
    let mapping = Arc::new(mapping.with_hash_key(HashKey::published()));
    let tables = Tables::of(&mapping);
    let cases = cases.iter().map(|file| Case::parse(file, &tables).unwrap());
    let failing = cases.filter(|case| !case.run(&mapping, &tables).passed());
    Ok(failing.map(|case| case.name).collect())
}

/// The mapping with each part of its lifecycles missing in turn, and what is missing.
fn without_parts_of_lifecycles(mapping: &str) -> Vec<(String, String)> {
    let whole: toml::Table = mapping.parse().unwrap();
    let lifecycles = whole.get("lifecycle").and_then(toml::Value::as_table);
    let mut spoilt = Vec::new();
    for (name, lifecycle) in lifecycles.into_iter().flatten() {
        let mut without = |what: String, change: &dyn Fn(&mut toml::Table)| {
            let mut copy = whole.clone();
            change(copy["lifecycle"][name].as_table_mut().unwrap());
            spoilt.push((what, copy.to_string()));
        };
        for list in ["start", "silent"] {
            let entries = lifecycle.get(list).and_then(toml::Value::as_array);
            for number in 0..entries.map_or(0, Vec::len) {
                let entry = lifecycle[list][number].to_string();
                without(format!("{list} of {name}: {entry}"), &|lifecycle| {
                    lifecycle[list].as_array_mut().unwrap().remove(number);
                });
            }
        }
        if lifecycle.get("only").is_some() {
            without(format!("only of {name}"), &|lifecycle| {
                lifecycle.remove("only");
            });
        }
        without(format!("illegal of {name}"), &|lifecycle| {
            lifecycle.insert("illegal".to_owned(), "ignore".into());
        });
    }
    spoilt
}

#[test]
fn every_part_of_a_lifecycle_is_held_by_some_case() {
    let mut parts = 0;
    for pack in packs() {
        let cases = case_files(&pack);
        let mapping = source(&format!("{pack}/mapping.toml")).text;
        for (what, spoilt) in without_parts_of_lifecycles(&mapping) {
            let failed = failing_if_compiled(&pack, spoilt, &cases);
            let is_missed_by_none = failed.is_ok_and(|failed| failed.is_empty());
            assert!(!is_missed_by_none, "no case of {pack} misses {what}");
            parts += 1;
        }
    }
    assert!(parts >= 18, "{parts} parts of lifecycles in all packs");
}

#[test]
fn deleting_any_one_rule_fails_some_case() {
    for pack in packs() {
        let cases = case_files(&pack);
        let mapping = source(&format!("{pack}/mapping.toml")).text;
        let (head, events) = split_events(&mapping);
        assert_eq!(events.len(), mapping.matches("\n[[event]]\n").count());
        assert_eq!(
            failing(&pack, head.clone() + &events.concat(), &cases),
            Vec::<String>::new()
        );
        for (index, event) in events.iter().enumerate() {
            let mut rest = events.clone();
            rest.remove(index);
            let spoilt = head.clone() + &rest.concat();
            // A rule that others name is missed before any case runs.
            let failed = failing_if_compiled(&pack, spoilt, &cases);
            assert!(
                failed.map_or(true, |failed| !failed.is_empty()),
                "no case of {pack} misses rule {}:\n{event}",
                index + 1
            );
        }
    }
}

#[test]
fn every_pack_passes_covers_itself_and_lists_its_cases_by_name() {
    for pack in packs() {
        let output = rowbridge(&["test", &pack, "--coverage", "--fail-under", "100"], b"");
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
        let cases = case_files(&pack);
        assert!(cases.len() >= 25, "{pack} has {} cases", cases.len());
        for case in &cases {
            let name: toml::Table = case.text.parse().unwrap();
            let line = format!("  ok      {}\n", name["name"].as_str().unwrap());
            assert!(text.contains(&line), "no {line:?} in {text}");
        }
        let closing = format!("{} passed, 0 failed\n", cases.len());
        assert!(text.contains(&closing), "{text}");
        assert!(!text.contains("a case needs"), "{text}");
    }
}

#[test]
fn the_packs_together_are_covered_and_the_last_line_adds_them_up() {
    let packs = packs();
    let packs = packs.iter().map(String::as_str);
    let arguments: Vec<&str> = ["test"]
        .into_iter()
        .chain(packs)
        .chain(["--coverage", "--fail-under", "100"])
        .collect();
    let output = rowbridge(&arguments, b"");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    let shares = |line: &str| -> Vec<(u32, u32)> {
        let (_, shares) = line.split_once(": ").unwrap();
        let shares = shares
            .split(", ")
            .map(|share| share.split_once(' ').unwrap().1);
        let halves = shares.map(|share| share.split_once('/').unwrap());
        halves
            .map(|(seen, all)| (seen.parse().unwrap(), all.parse().unwrap()))
            .collect()
    };
    let each = text.lines().filter(|line| line.starts_with("coverage of "));
    let sum = each.map(shares).reduce(|sum, pack| {
        sum.iter()
            .zip(&pack)
            .map(|(sum, pack)| (sum.0 + pack.0, sum.1 + pack.1))
            .collect()
    });
    let closing = text.lines().last().unwrap();
    assert!(closing.starts_with("coverage: rules "), "{closing}");
    let total = shares(closing);
    assert_eq!(Some(&total), sum.as_ref(), "{text}");
    assert!(
        total.iter().all(|(seen, all)| seen == all && *all > 0),
        "{closing}"
    );
}

#[test]
fn the_commands_of_every_packs_readme_run() {
    for pack in packs() {
        let readme = source(&format!("{pack}/README.md")).text;
        let mut ran = 0;
        for command in readme
            .lines()
            .filter_map(|line| line.strip_prefix("    rowbridge "))
        {
            let (arguments, input) = command.split_once(" < ").unwrap_or((command, ""));
            let input = match input {
                "" => Vec::new(),
                file => std::fs::read(root().join(file)).unwrap(),
            };
            let arguments: Vec<_> = arguments.split_whitespace().collect();
            let output = rowbridge(&arguments, &input);
            assert!(output.status.success(), "{command}: {}", stderr(&output));
            ran += 1;
        }
        assert!(ran >= 2, "{pack}/README.md shows `test` and `dry-run`");
    }
}
