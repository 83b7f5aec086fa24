//! What can be known of the container image without a container engine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{root, rowbridge, stderr, words};

/// Packages of every Debian image: the C library and the compiler's run-time library.
const IN_EVERY_DEBIAN: [&str; 2] = ["libc6", "libgcc-s1"];

/// Which Debian package brings a library.
const PACKAGE_OF: [(&str, &str); 8] = [
    ("ld-linux-x86-64.so.2", "libc6"),
    ("ld-linux-aarch64.so.1", "libc6"),
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1"),
    ("libcrypto.so.3", "libssl3"),
    ("libssl.so.3", "libssl3"),
    ("libz.so.1", "zlib1g"),
];

/// The Dockerfile's instructions, one a line, stage by stage.
fn stages() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let mut stages: Vec<Vec<String>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("FROM ") {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push(line.to_owned());
    }
    assert_eq!(stages.len(), 2, "a builder and what is shipped");
    stages
}

/// The arguments of an instruction that may be given many times.
fn all<'a>(stage: &'a [String], instruction: &str) -> Vec<&'a str> {
    stage
        .iter()
        .filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '))
        .map(str::trim)
        .collect()
}

/// What a stage installs.
fn packages(stage: &[String]) -> BTreeSet<String> {
    let run = all(stage, "RUN");
    let install = run.iter().find(|run| run.contains("apt-get install"));
    let install = install.unwrap().split("--no-install-recommends").nth(1);
    words(install.unwrap().split("&&").next().unwrap())
}

/// What a stage copies out of the repository.
fn copied(stage: &[String]) -> Vec<String> {
    let copies = all(stage, "COPY")
        .into_iter()
        .filter(|copy| !copy.starts_with("--from="));
    copies
        .flat_map(|copy| {
            let mut paths: Vec<_> = copy.split_whitespace().map(str::to_owned).collect();
            paths.pop();
            paths
        })
        .collect()
}

/// The words of an instruction in its exec form, which needs no shell.
fn exec(arguments: &str) -> Vec<String> {
    let list = arguments.find('[').map(|start| &arguments[start..]);
    serde_json::from_str(list.unwrap()).unwrap_or_else(|_| panic!("a shell form: {arguments}"))
}

#[test]
fn everything_that_is_copied_exists_and_is_not_ignored() {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    assert_eq!(ignored, "**/target\n.git\n");
    for stage in stages() {
        let paths = copied(&stage);
        assert!(!paths.is_empty());
        for path in paths {
            assert!(root().join(&path).exists(), "COPY {path}: it is not there");
        }
    }
}

/// Cargo reads every manifest of the workspace and looks for every target it names.
#[test]
fn the_builder_gets_everything_that_the_manifests_name() {
    let context = tempfile::tempdir().unwrap();
    for path in copied(&stages()[0]) {
        let to = context.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(root().join(&path)).arg(&to);
        assert!(copy.status().unwrap().success(), "{path}");
    }
    let cargo = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version=1",
        ])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", stderr(&cargo));
}

#[test]
fn the_builder_installs_what_ci_and_the_readme_do() {
    let builder = packages(&stages()[0]);
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let function = ci.split("missing_build_packages() {\n").nth(1).unwrap();
    let function = function.split("\n}").next().unwrap();
    let ci: BTreeSet<_> = function
        .lines()
        .filter_map(|line| line.split("|| echo ").nth(1))
        .map(str::to_owned)
        .collect();
    assert_eq!(builder, ci);

    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let install = readme.split("apt-get install ").nth(1).unwrap();
    assert_eq!(builder, words(install.split('`').next().unwrap()));
}

#[test]
fn the_builder_has_the_rust_that_the_manifest_asks_for() {
    let from = stages()[0][0].clone();
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    assert_eq!(from, format!("FROM rust:{rust}-slim-bookworm AS builder"));
}

#[test]
fn every_library_that_the_binary_links_is_in_the_image() {
    let read = Command::new("readelf")
        .args(["--dynamic", "--wide", env!("CARGO_BIN_EXE_rowbridge")])
        .output()
        .unwrap();
    let dynamic = String::from_utf8(read.stdout).unwrap();
    let libraries: Vec<_> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(libraries.contains(&"libssl.so.3"), "{libraries:?}");
    let image = packages(&stages()[1]);
    for library in libraries {
        let package = PACKAGE_OF.iter().find(|(name, _)| *name == library);
        let (_, package) = package.unwrap_or_else(|| panic!("which package brings {library}?"));
        assert!(
            image.contains(*package) || IN_EVERY_DEBIAN.contains(package),
            "{library} of {package} is not in the image"
        );
    }
}

#[test]
fn the_image_runs_the_daemon_as_nobody_and_asks_it_without_a_shell() {
    let stage = &stages()[1];
    let one = |instruction: &str| {
        let given = all(stage, instruction);
        assert_eq!(given.len(), 1, "{instruction}: {given:?}");
        given[0].to_owned()
    };
    let user = one("USER");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id > 0), "{user}");
    assert_eq!(one("WORKDIR"), "/etc/rowbridge");
    // Where working copies are without a configuration that says so, and its user may write there.
    assert_eq!(one("VOLUME"), "/var/lib/rowbridge");
    let owner = format!("-o {} -g {} /var/lib/rowbridge", ids[0], ids[1]);
    assert!(all(stage, "RUN").iter().any(|run| run.ends_with(&owner)));

    let binary = "/usr/local/bin/rowbridge";
    assert!(all(stage, "COPY").iter().any(|copy| copy.ends_with(binary)));
    assert_eq!(exec(&one("ENTRYPOINT")), [binary]);
    let probe = exec(&one("HEALTHCHECK"));
    assert_eq!(probe[0], binary);
    for arguments in [&exec(&one("CMD"))[..], &probe[1..]] {
        understood(arguments);
    }
}

/// The command line takes these arguments.
pub(crate) fn understood(arguments: &[String]) {
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(["--help"])
        .collect();
    let output = rowbridge(&arguments, b"");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
}

/// Where the image keeps the shipped packs, as a folder of this repository.
pub(crate) fn packs_of_the_image() -> (String, &'static Path) {
    let copies = stages()[1].clone();
    let copies = all(&copies, "COPY");
    let copy = copies
        .iter()
        .find_map(|copy| copy.strip_prefix("mappings "));
    (copy.unwrap().to_owned(), root())
}
