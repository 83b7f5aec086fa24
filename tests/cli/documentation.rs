//! What the documentation shows works as it stands there.

use saphyr::{LoadableYamlNode as _, YamlOwned};

use super::deployment::{list, text};
use crate::{root, rowbridge, stderr, stdout};

/// The blocks of `language` in a Markdown file, in order.
fn blocks(file: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_mapping_of_the_language_guide_compiles_and_its_cases_pass() {
    let pack = tempfile::tempdir().unwrap();
    std::fs::create_dir(pack.path().join("cases")).unwrap();
    let blocks = blocks("docs/mapping.md", "toml");
    let [
        mapping,
        schema,
        shipped,
        lifecycle,
        returned,
        known,
        replaced,
        privacy,
    ] = &blocks[..]
    else {
        panic!("docs/mapping.md shows a pack, what is added to it, and their cases");
    };
    let tables = "order = \"public.orders\"\n";
    assert!(mapping.contains(tables), "{mapping}");
    let mapping = mapping.replace(
        tables,
        &format!("{tables}customer = \"public.customers\"\n"),
    );
    let customers = "[customer]\nkey = [\"id\"]\n[customer.columns]\nid = \"text\"\ntier = \"text\"\nblocked = \"bool\"\n";
    for (file, text) in [
        (
            "mapping.toml",
            &format!("{mapping}\n{lifecycle}\n{known}\n{privacy}"),
        ),
        ("schema.toml", &format!("{schema}\n{customers}")),
        ("cases/shipped.toml", shipped),
        ("cases/returned.toml", returned),
        ("cases/replaced.toml", replaced),
    ] {
        std::fs::write(pack.path().join(file), text).unwrap();
    }
    let output = rowbridge(&["test", pack.path().to_str().unwrap()], b"");
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("3 passed, 0 failed"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_configuration_of_the_readme_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rowbridge.toml");
    let text = blocks("README.md", "toml").remove(0);
    let pack = root().join("mappings/airline");
    let mapping = "mapping  = \"shop\"";
    assert!(text.contains(mapping), "{text}");
    let text = text.replace(mapping, &format!("mapping = {pack:?}"));
    std::fs::write(&config, text).unwrap();
    let output = rowbridge(&["check", "--offline", "-c", config.to_str().unwrap()], b"");
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
}

#[test]
fn the_configurations_of_operations_are_valid() {
    let blocks = blocks("docs/operations.md", "toml");
    let shown = blocks
        .iter()
        .filter(|block| block.contains("[source.mongodb]"));
    let mut checked = 0;
    for text in shown {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("rowbridge.toml");
        let pack = root().join("mappings/hotel");
        let mapping = "mapping  = \"hotel\"";
        assert!(text.contains(mapping), "{text}");
        std::fs::write(
            &config,
            text.replace(mapping, &format!("mapping = {pack:?}")),
        )
        .unwrap();
        let output = rowbridge(&["check", "--offline", "-c", config.to_str().unwrap()], b"");
        assert!(
            output.status.success(),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
        checked += 1;
    }
    assert_eq!(checked, 1);
}

#[test]
fn the_commands_of_the_readme_that_need_no_server_run() {
    let input = std::fs::read(root().join("mappings/airline/examples/one-update.json")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands = readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("cargo run -- "));
    let mut ran = 0;
    for command in commands {
        let command = command.split(" < ").next().unwrap();
        let arguments: Vec<_> = command.split_whitespace().collect();
        let output = rowbridge(&arguments, &input);
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        ran += 1;
    }
    assert_eq!(ran, 2, "README.md shows `test` and `dry-run`");
}

#[test]
fn the_metrics_that_operations_names_exist() {
    let metrics = every_metric();
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let word = |char: char| !(char.is_ascii_alphanumeric() || char == '_');
    let named = text
        .split(word)
        .filter(|word| word.starts_with("rowbridge_"));
    // Slots and publications are named alike.
    let named: Vec<_> = named
        .filter(|name| !name.starts_with("rowbridge_air"))
        .collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        let family = format!(
            "# TYPE {} ",
            name.trim_end_matches("_total").trim_end_matches("_info")
        );
        assert!(metrics.contains(&family), "no metric {name} in\n{metrics}");
    }
}

#[test]
fn the_alerts_of_operations_are_rules_on_metrics_with_such_labels() {
    let yaml = blocks("docs/operations.md", "yaml").concat();
    let document = YamlOwned::load_from_str(&yaml).unwrap().remove(0);
    let rules = list(&list(&document, "groups")[0], "rules");
    assert!(rules.len() >= 4);
    let metrics = every_metric();
    for rule in rules {
        assert!(text(rule, "alert").starts_with("Rowbridge"));
        let states = text(rule, "expr")
            .split("state=~\"")
            .nth(1)
            .map(|rest| rest.split('"').next().unwrap());
        for state in states.into_iter().flat_map(|states| states.split('|')) {
            let label = format!("rowbridge_pipeline_state{{state=\"{state}\"}}");
            assert!(metrics.contains(&label), "{label}");
        }
    }
}

/// Everything `/metrics` can show.
fn every_metric() -> String {
    use rowbridge::health::Health;
    use rowbridge::metrics::Metrics;
    use rowbridge_api::{Identity, Position, TableName};
    let health = Health::new(std::time::Duration::from_secs(60));
    let metrics = Metrics::new(&["SeatSold".to_owned()], health);
    let _ = metrics.table(&TableName::new("public", "segments"));
    let source = Identity {
        source: "postgres/7/reservations".to_owned(),
        history: "1".to_owned(),
    };
    metrics.position(&Position::new(1), &source);
    metrics.render()
}
