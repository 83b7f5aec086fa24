//! What the documentation shows works as it stands there.

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
    let [mapping, schema, shipped, lifecycle, returned] = &blocks[..] else {
        panic!("docs/mapping.md shows a pack, a lifecycle and its case");
    };
    for (file, text) in [
        ("mapping.toml", &format!("{mapping}\n{lifecycle}")),
        ("schema.toml", schema),
        ("cases/shipped.toml", shipped),
        ("cases/returned.toml", returned),
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
        stdout(&output).contains("2 passed, 0 failed"),
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
    let text = text.replace(
        "\"mappings/airline\"",
        &format!("{:?}", pack.to_str().unwrap()),
    );
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
