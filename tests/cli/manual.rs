//! What a package installs beside the binary: completions and manual pages.

use std::collections::BTreeSet;
use std::process::Command;

use super::{rowbridge, stderr, stdout};

/// The commands that `--help` lists, without those that clap adds.
fn commands() -> BTreeSet<String> {
    let help = stdout(&rowbridge(&["--help"], b""));
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap().lines();
    let names = list.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let names: BTreeSet<_> = names
        .map(str::to_owned)
        .filter(|name| name != "help")
        .collect();
    assert!(
        names.contains("run") && names.contains("health"),
        "{names:?}"
    );
    names
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = rowbridge(&["completions", shell], b"");
        assert!(output.status.success(), "{shell}: {}", stderr(&output));
        let script = stdout(&output);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
    let output = rowbridge(&["completions", "tcsh"], b"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn bash_completes_a_command_and_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("rowbridge");
    std::fs::write(&script, rowbridge(&["completions", "bash"], b"").stdout).unwrap();
    for (line, wanted) in [
        ("rowbridge hea", "health"),
        ("rowbridge health --l", "--live"),
    ] {
        let asked: Vec<_> = line.split(' ').collect();
        let ask = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD={}; \
             _rowbridge rowbridge '{}' '{}'; echo \"${{COMPREPLY[*]}}\"",
            script.display(),
            asked.len() - 1,
            asked[asked.len() - 1],
            asked[asked.len() - 2],
        );
        let bash = Command::new("bash")
            .args(["--norc", "-c", &ask])
            .output()
            .unwrap();
        assert_eq!(stdout(&bash).trim(), wanted, "{}", stderr(&bash));
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = rowbridge(&["man", pages.to_str().unwrap()], b"");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let entries = std::fs::read_dir(&pages).unwrap();
    let names: BTreeSet<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut wanted: BTreeSet<_> = commands()
        .into_iter()
        .map(|command| format!("rowbridge-{command}.1"))
        .collect();
    wanted.extend(
        [
            "rowbridge",
            "rowbridge-position-set",
            "rowbridge-position-show",
        ]
        .map(|page| format!("{page}.1")),
    );
    assert_eq!(names, wanted);
    let run = std::fs::read_to_string(pages.join("rowbridge-run.1")).unwrap();
    assert!(run.contains(".TH") && run.contains("SIGTERM"), "{run}");

    let file = pages.join("rowbridge.1/below");
    let output = rowbridge(&["man", file.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: cannot write manual pages into "),
        "{}",
        stderr(&output)
    );
}
