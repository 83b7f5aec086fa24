//! The commands that need no server, run as people run them: arguments, streams and exit codes.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod captures;
mod deployment;
mod documentation;
mod dry_run;
mod image;
mod linter;
mod manual;
mod packs;
mod privacy;
mod test_command;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the binary in the repository's root with `input` on its standard input.
fn rowbridge(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of the shipped packs, as seen from the repository's root.
fn packs() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("mappings")).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut packs: Vec<String> = names.map(|name| format!("mappings/{name}")).collect();
    packs.sort();
    for known in [
        "airline",
        "booking-platform",
        "bus",
        "hotel",
        "marketplace",
        "marketplace-prices",
    ] {
        let known = format!("mappings/{known}");
        assert!(packs.contains(&known), "{packs:?}");
    }
    packs
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A copy of the airline pack that a test may spoil.
struct SpoiltPack {
    folder: tempfile::TempDir,
}

impl SpoiltPack {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let airline = root().join("mappings/airline");
        std::fs::create_dir(folder.path().join("cases")).unwrap();
        for file in [
            "mapping.toml",
            "schema.toml",
            "cases/fare-lowered.toml",
            "cases/seat-reassigned.toml",
        ] {
            std::fs::copy(airline.join(file), folder.path().join(file)).unwrap();
        }
        Self { folder }
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces text that must be there.
    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.file(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}
