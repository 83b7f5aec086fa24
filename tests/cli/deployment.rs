//! The examples of running it beside a database: what they claim, and that their configurations are valid.

use std::collections::BTreeSet;

use rowbridge_testbed::certificates::Authority;
use saphyr::{LoadableYamlNode as _, YamlOwned};

use super::image::{packs_of_the_image, understood};
use super::{root, rowbridge, stderr, stdout};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The documents of a YAML file.
fn documents(path: &str) -> Vec<YamlOwned> {
    let text = read(path);
    YamlOwned::load_from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What lies at `path`, names separated by slashes; nothing if one is missing.
fn at<'a>(node: &'a YamlOwned, path: &str) -> Option<&'a YamlOwned> {
    path.split('/')
        .try_fold(node, |node, name| node.as_mapping_get(name))
}

pub(super) fn text<'a>(node: &'a YamlOwned, path: &str) -> &'a str {
    let found = at(node, path).and_then(YamlOwned::as_str);
    found.unwrap_or_else(|| panic!("no text at {path}"))
}

pub(super) fn list<'a>(node: &'a YamlOwned, path: &str) -> &'a [YamlOwned] {
    let found = at(node, path).and_then(YamlOwned::as_sequence);
    found.unwrap_or_else(|| panic!("no list at {path}"))
}

fn texts(node: &YamlOwned, path: &str) -> Vec<String> {
    let items = list(node, path).iter();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn flag(node: &YamlOwned, path: &str) -> bool {
    let found = at(node, path).and_then(YamlOwned::as_bool);
    found.unwrap_or_else(|| panic!("neither true nor false at {path}"))
}

fn number(node: &YamlOwned, path: &str) -> i64 {
    let found = at(node, path).and_then(YamlOwned::as_integer);
    found.unwrap_or_else(|| panic!("no number at {path}"))
}

/// `check --offline` passes the configuration, with the image's packs taken from the repository and a file in the place
/// of each secret; the configuration as it stands.
fn valid(text: &str) -> toml::Table {
    let configuration: toml::Table = text.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (packs, here) = packs_of_the_image();
    assert!(text.contains(&packs), "{text}");
    // Any text is a password, but not a certificate.
    let certificate = Authority::new("a file").unwrap().pem().to_owned();
    let mut here = text.replace(&packs, here.join("mappings").to_str().unwrap());
    for (number, secret) in files(&configuration).iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, &certificate).unwrap();
        here = here.replace(&format!("\"{secret}\""), &format!("{file:?}"));
    }
    let file = folder.path().join("rowbridge.toml");
    std::fs::write(&file, here).unwrap();
    let output = rowbridge(&["check", "--offline", "-c", file.to_str().unwrap()], b"");
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    configuration
}

/// `limits.grace_period_seconds` of a configuration.
fn grace(configuration: &toml::Table) -> i64 {
    let limits = configuration.get("limits");
    let given = limits.and_then(|limits| limits.get("grace_period_seconds")?.as_integer());
    given.unwrap_or(25)
}

/// Every file that a configuration names, but for the mapping.
fn files(configuration: &toml::Table) -> Vec<String> {
    fn walk(value: &toml::Value, into: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(_, value)| walk(value, into)),
            toml::Value::String(path) if path.starts_with('/') => into.push(path.clone()),
            _ => {}
        }
    }
    let mut files = Vec::new();
    for part in ["source", "sink"] {
        walk(&configuration[part], &mut files);
    }
    files
}

/// No key holds a secret itself.
fn secrets_are_files(configuration: &str) {
    for line in configuration.lines() {
        let key = line.split('=').next().unwrap().trim().trim_matches('"');
        assert!(!key.ends_with("password"), "a secret in the text: {line}");
    }
    assert!(!configuration.contains(":hunter2@"));
}

#[test]
fn the_compose_file_runs_the_image_without_rights_and_with_its_secret_in_a_file() {
    let documents = documents("examples/compose/compose.yaml");
    let compose = &documents[0];
    let daemon = at(compose, "services/rowbridge").unwrap();
    assert_eq!(text(daemon, "build"), "../..");
    assert!(flag(daemon, "read_only"));
    assert_eq!(texts(daemon, "cap_drop"), ["ALL"]);
    assert_eq!(texts(daemon, "security_opt"), ["no-new-privileges:true"]);
    let state = format!("{STATE}:{STATE_DIRECTORY}");
    assert!(
        texts(daemon, "volumes").contains(&state),
        "the rest is read-only"
    );
    let probe = texts(daemon, "healthcheck/test");
    assert_eq!(probe[..2], ["CMD", "/usr/local/bin/rowbridge"]);
    understood(&probe[2..]);

    let configuration = read("examples/compose/rowbridge.toml");
    secrets_are_files(&configuration);
    let configuration = valid(&configuration);
    let stop = text(daemon, "stop_grace_period").trim_end_matches('s');
    assert!(stop.parse::<i64>().unwrap() > grace(&configuration));
    let secrets = texts(daemon, "secrets");
    for file in files(&configuration) {
        let name = file.strip_prefix("/run/secrets/").unwrap();
        assert!(secrets.iter().any(|secret| secret == name), "{file}");
        assert!(at(compose, &format!("secrets/{name}/file")).is_some());
        assert_eq!(read("examples/compose/.gitignore").trim(), name);
    }
    for service in ["legacy", "rowbridge"] {
        for mount in texts(
            at(compose, &format!("services/{service}")).unwrap(),
            "volumes",
        ) {
            let from = mount.split(':').next().unwrap();
            let named = at(compose, &format!("volumes/{from}")).is_some();
            let file = root().join("examples/compose").join(from);
            assert!(named || file.exists(), "{mount}");
        }
    }
}

/// The container called `rowbridge`, wherever it is in the pod.
fn container(pod: &YamlOwned) -> &YamlOwned {
    let kinds = ["containers", "initContainers"];
    let all = kinds.iter().filter_map(|kind| at(pod, kind)?.as_sequence());
    let mut ours = all.flatten().filter(|one| text(one, "name") == "rowbridge");
    let container = ours.next().unwrap();
    assert!(ours.next().is_none());
    container
}

/// The volume of the working copies, which are written to where they are without a configuration.
const STATE: &str = "state";
const STATE_DIRECTORY: &str = "/var/lib/rowbridge";

/// The files that a container finds below its mounts of secrets.
fn secret_files(pod: &YamlOwned, container: &YamlOwned, wanted: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for mount in list(container, "volumeMounts") {
        let name = text(mount, "name");
        if name == STATE {
            continue;
        }
        assert!(flag(mount, "readOnly"));
        let mut volumes = list(pod, "volumes").iter();
        let volume = volumes.find(|volume| text(volume, "name") == name).unwrap();
        let Some(secret) = at(volume, "secret") else {
            continue;
        };
        let folder = text(mount, "mountPath");
        match at(secret, "items") {
            Some(items) => found.extend(
                items
                    .as_sequence()
                    .unwrap()
                    .iter()
                    .map(|item| format!("{folder}/{}", text(item, "path"))),
            ),
            None => found.extend(
                wanted
                    .iter()
                    .filter(|file| file.starts_with(folder))
                    .cloned(),
            ),
        }
    }
    found
}

#[test]
fn the_kubernetes_manifests_keep_the_daemon_small_and_give_it_time_to_end() {
    for manifest in ["statefulset", "sidecar"] {
        let file = format!("examples/kubernetes/{manifest}.yaml");
        let documents = documents(&file);
        let kinds: Vec<_> = documents.iter().map(|one| text(one, "kind")).collect();
        assert_eq!(kinds, ["ConfigMap", "StatefulSet"], "{file}");
        let embedded = text(&documents[0], "data/rowbridge.toml");
        secrets_are_files(embedded);
        let configuration = valid(embedded);

        let set = &documents[1];
        let labels = at(set, "spec/template/metadata/labels");
        assert_eq!(at(set, "spec/selector/matchLabels"), labels);
        let pod = at(set, "spec/template/spec").unwrap();
        assert!(!flag(pod, "automountServiceAccountToken"));
        let given = number(pod, "terminationGracePeriodSeconds");
        assert!(given > grace(&configuration), "{file}: {given} s");

        let ours = container(pod);
        understood(&texts(ours, "args"));
        let context = at(ours, "securityContext").unwrap();
        assert!(!flag(context, "allowPrivilegeEscalation"));
        assert!(flag(context, "readOnlyRootFilesystem"));
        assert_eq!(texts(context, "capabilities/drop"), ["ALL"]);
        let pod_context = at(pod, "securityContext");
        let context = at(context, "runAsNonRoot").map(|_| context).or(pod_context);
        assert!(flag(context.unwrap(), "runAsNonRoot"));
        assert_eq!(number(context.unwrap(), "runAsUser"), 65532);
        assert_eq!(
            text(context.unwrap(), "seccompProfile/type"),
            "RuntimeDefault"
        );

        let wanted = files(&configuration);
        assert!(wanted.len() >= 3, "{wanted:?}");
        let found = secret_files(pod, ours, &wanted);
        for file in wanted {
            assert!(found.contains(&file), "{file} is not mounted");
        }
        let mut mounts = list(ours, "volumeMounts").iter();
        assert!(mounts.any(|mount| text(mount, "mountPath") == "/etc/rowbridge"));
        let mut mounts = list(ours, "volumeMounts").iter();
        let state = mounts.find(|mount| text(mount, "name") == STATE).unwrap();
        assert_eq!(text(state, "mountPath"), STATE_DIRECTORY);
        assert!(at(state, "readOnly").is_none());
        let mut volumes = list(pod, "volumes").iter();
        assert!(
            volumes.any(|volume| text(volume, "name") == STATE && at(volume, "emptyDir").is_some())
        );
    }
}

#[test]
fn the_probes_of_the_manifests_can_be_answered() {
    let alone = documents("examples/kubernetes/statefulset.yaml");
    let configuration: toml::Table = text(&alone[0], "data/rowbridge.toml").parse().unwrap();
    let listen: std::net::SocketAddr = configuration["http"]["listen"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        listen.ip().is_unspecified(),
        "the kubelet asks from outside the pod"
    );
    let ours = container(at(&alone[1], "spec/template/spec").unwrap());
    let port = &list(ours, "ports")[0];
    assert_eq!(number(port, "containerPort"), i64::from(listen.port()));
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(text(ours, &format!("{probe}/httpGet/path")), path);
        assert_eq!(
            text(ours, &format!("{probe}/httpGet/port")),
            text(port, "name")
        );
    }

    let beside = documents("examples/kubernetes/sidecar.yaml");
    let ours = container(at(&beside[1], "spec/template/spec").unwrap());
    let command = texts(ours, "livenessProbe/exec/command");
    assert_eq!(command[0], "/usr/local/bin/rowbridge");
    understood(&command[1..]);
    assert!(
        at(ours, "readinessProbe").is_none(),
        "the database is ready without its bridge"
    );
}

#[test]
fn the_unit_restarts_what_may_pass_and_not_what_was_refused() {
    let unit = read("examples/systemd/rowbridge.service");
    let value = |key: &str| {
        let lines = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let values: Vec<_> = lines.collect();
        assert_eq!(values.len(), 1, "{key}: {values:?}");
        values[0]
    };
    // It sends no notification.
    assert_eq!(value("Type"), "exec");
    assert_eq!(value("Restart"), "on-failure");
    assert_eq!(value("RestartPreventExitStatus"), "2");
    let seconds: i64 = value("TimeoutStopSec")
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(seconds > grace(&toml::Table::new()));
    let start = value("ExecStart").split_whitespace().map(str::to_owned);
    understood(&start.skip(1).collect::<Vec<_>>());

    // The folder of the service is where its working copies are, and nobody else's.
    assert_eq!(
        format!("/var/lib/{}", value("StateDirectory")),
        STATE_DIRECTORY
    );
    assert_eq!(value("StateDirectoryMode"), "0700");
    let credential = value("LoadCredential").split(':').next().unwrap();
    let (variable, file) = value("Environment").split_once('=').unwrap();
    assert_eq!(file, format!("%d/{credential}"));
    let reference = read("docs/configuration.md");
    assert!(reference.contains("| `password_file` |"));
    assert_eq!(variable, "ROWBRIDGE_SOURCE__POSTGRES__PASSWORD_FILE");
}
