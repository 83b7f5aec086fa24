//! The built binary: exit codes, and what goes to which stream.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const MAPPINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mappings");

/// A configuration whose servers answer on no port, so that everything fails fast.
fn configuration(more: &str) -> String {
    format!(
        "pipeline = \"airline\"\nmapping = \"{MAPPINGS}/airline\"\n\
         [source.postgres]\nurl = \"postgres://me:hunter2@127.0.0.1:1/x\"\ntls = \"disable\"\nconnect_timeout_ms = 1000\n\
         [sink.kafka]\nbrokers = \"127.0.0.1:1\"\n[limits]\nsink_open_timeout_ms = 1000\n{more}"
    )
}

/// Runs `rowbridge` in a folder that holds `rowbridge.toml` with this text.
fn rowbridge(configuration: Option<&str>, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = TempDir::new().unwrap();
    if let Some(text) = configuration {
        std::fs::write(folder.path().join("rowbridge.toml"), text).unwrap();
    }
    let Output {
        status,
        stdout,
        stderr,
    } = run_in(folder.path(), arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn help_and_version_are_no_errors() {
    for argument in ["--help", "--version"] {
        let (code, out, err) = rowbridge(None, &[argument]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("owbridge"), "{out}");
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    for arguments in [&["fly"][..], &["run", "--fast"], &["position", "set"], &[]] {
        let (code, out, err) = rowbridge(None, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
    }
}

#[test]
fn a_missing_configuration_says_where_it_was_looked_for() {
    let (code, out, err) = rowbridge(None, &["run"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error: no configuration file: neither ./rowbridge.toml nor /etc/rowbridge/rowbridge.toml exists"), "{err}");
    assert!(
        err.ends_with("hint: name one with -c FILE; docs/configuration.md describes it\n"),
        "{err}"
    );
}

#[test]
fn an_unreadable_configuration_names_file_and_cause() {
    let (code, _, err) = rowbridge(None, &["run", "-c", "missing.toml"]);
    assert_eq!(code, Some(2));
    assert!(
        err.starts_with("error: cannot read missing.toml\n  caused by: "),
        "{err}"
    );
}

#[test]
fn a_wrong_configuration_exits_with_2_and_tells_everything_but_secrets() {
    let text = configuration("batch_byte = 1\n[http]\nlisten = \"everywhere\"\n");
    let (code, out, err) = rowbridge(Some(&text), &["run"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(
        err.contains("rowbridge.toml:11:1") && err.contains("did you mean `batch_bytes`?"),
        "{err}"
    );
    assert!(err.contains("`http.listen` is not valid"), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn check_offline_passes_the_shipped_packs() {
    for pack in ["airline", "bus"] {
        let text = configuration("").replace("/airline\"", &format!("/{pack}\""));
        let (code, out, err) = rowbridge(Some(&text), &["check", "--offline"]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(
            out.contains("not looked at: source and sink: --offline\n0 errors, "),
            "{out}"
        );
    }
}

#[test]
fn check_reports_configuration_errors_on_standard_output() {
    let (code, out, err) = rowbridge(Some("pipeline = 7\n"), &["check", "--json"]);
    assert_eq!((code, err.as_str()), (Some(2), ""));
    assert!(
        out.starts_with("{\"severity\":\"error\",\"area\":\"configuration\""),
        "{out}"
    );
}

#[test]
fn check_tells_of_source_and_sink_at_once() {
    let (code, out, err) = rowbridge(Some(&configuration("")), &["check"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        out.contains("error in the source:") && out.contains("error in the sink:"),
        "{out}"
    );
    assert!(!out.contains("hunter2"), "{out}");
}

#[test]
fn init_says_how_to_name_a_database() {
    let (code, out, err) = rowbridge(None, &["init"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.ends_with("hint: --url postgres://user@host:5432/database, --url mongodb://user@host:27017/database, or -c FILE\n"),
        "{err}"
    );
}

#[test]
fn init_overwrites_nothing_and_keeps_passwords_to_itself() {
    const URL: &str = "postgres://me:hunter2@127.0.0.1:1/x";
    let folder = TempDir::new().unwrap();
    let arguments = [
        "init", "--url", URL, "--tls", "disable", "--table", "t", "--out", "pack",
    ];
    // There is no such server: what comes first is told.
    let unreachable = run_in(folder.path(), &arguments);
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(!folder.path().join("pack").exists());

    std::fs::create_dir(folder.path().join("pack")).unwrap();
    std::fs::write(folder.path().join("pack/mapping.toml"), "mine").unwrap();
    let refused = run_in(folder.path(), &arguments);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("pack/mapping.toml exists, and nothing is overwritten"),
        "{said}"
    );
    let kept = std::fs::read_to_string(folder.path().join("pack/mapping.toml")).unwrap();
    assert_eq!(kept, "mine");
    for text in [said, String::from_utf8(unreachable.stderr).unwrap()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn drop_does_nothing_without_yes() {
    let (code, out, err) = rowbridge(Some(&configuration("")), &["drop"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        out.starts_with("would remove slot rowbridge_airline and publication rowbridge_airline"),
        "{out}"
    );
    assert!(
        out.ends_with("nothing was done; repeat it with --yes\n"),
        "{out}"
    );
}

#[test]
fn a_source_that_cannot_be_reached_fails_with_1() {
    let (code, _, err) = rowbridge(Some(&configuration("")), &["drop", "--yes"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.starts_with("error: ") && !err.contains("hunter2"),
        "{err}"
    );
}

#[test]
fn health_says_who_does_not_answer_and_exits_with_1() {
    // Nobody listens on port 1 of loopback.
    let text = configuration("[http]\nlisten = \"0.0.0.0:1\"\n");
    let (code, out, err) = rowbridge(Some(&text), &["health"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.starts_with("error: no answer from http://127.0.0.1:1/readyz\n  caused by: "),
        "{err}"
    );

    let text = configuration("[http]\nlisten = \"127.0.0.1:0\"\n");
    let (code, _, err) = rowbridge(Some(&text), &["health"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.ends_with("hint: give http.listen a port\n"), "{err}");
}
