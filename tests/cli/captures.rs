//! Captures: evaluated again by `dry-run` and `test`, and what is wrong with a file that is none.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::{root, rowbridge, stderr, stdout};

const PACK: &str = "mappings/airline";
const HEADER: &str = r#"{"capture":1,"rowbridge":"0.1.0","pipeline":"fleet","identity":{"source":"postgres/7/air","history":"1"},"mapping":{"name":"airline","version":1,"hash":"0"},"max_record_bytes":1048576,"recorded":"2026-11-20T10:00:00Z","start":"0/10","tables":[]}"#;
const SHAPE: &str = r#"{"shape":{"table":"segment","schema":"public","name":"segments","columns":[{"name":"id","type":"int8","key":true},{"name":"pnr","type":"text"},{"name":"passenger_id","type":"int8"},{"name":"flight_no","type":"text"},{"name":"departure_date","type":"date"},{"name":"cabin","type":"text"},{"name":"fare_class","type":"text"},{"name":"seat_no","type":"text"},{"name":"fare","type":"numeric(10,2)"},{"name":"status","type":"text"},{"name":"sales_channel","type":"text"},{"name":"updated_at","type":"timestamptz"}]}}"#;

fn row(passenger: u32, seat: &str, fare: &str, channel: &str) -> String {
    format!(
        r#"{{"id":7,"pnr":"QX4RTZ","passenger_id":{passenger},"flight_no":"BA117","departure_date":"2026-12-01","cabin":"Y","fare_class":"M","seat_no":"{seat}","fare":"{fare}","status":"OPEN","sales_channel":"{channel}","updated_at":"2026-11-20 10:15:00+00"}}"#
    )
}

fn update(number: u32, before: &str, after: &str) -> String {
    format!(
        r#"{{"op":"update","table":"segment","before":{before},"after":{after},"tx":{{"id":{number},"time":"2026-11-20T10:15:00Z","ordinal":0}},"source":{{"name":"postgres/7/air","position":"0/{number}0"}}}}"#
    )
}

/// Six changes: two events, two corrections and a change of nothing that no rule explains, and one of a row that is
/// no business.
fn lines() -> Vec<String> {
    let web = |passenger, seat, fare| row(passenger, seat, fare, "web");
    let changes = [
        (web(1, "12A", "310.00"), web(1, "12A", "275.00")),
        (web(1, "12A", "275.00"), web(1, "14C", "275.00")),
        (web(1, "14C", "275.00"), web(2, "14C", "275.00")),
        (web(2, "14C", "275.00"), web(3, "14C", "275.00")),
        (web(3, "14C", "275.00"), web(3, "14C", "275.00")),
        (row(4, "1A", "1.00", "test"), row(4, "1B", "1.00", "test")),
    ];
    let mut lines = vec![HEADER.to_owned(), SHAPE.to_owned()];
    for (number, (before, after)) in (2..).zip(&changes) {
        lines.push(update(number, before, after));
        lines.push(format!(r#"{{"commit":{{"position":"0/{number}8"}}}}"#));
    }
    lines.push(
        r#"{"end":{"changes":6,"transactions":6,"position":"0/78","whole":true}}"#.to_owned(),
    );
    lines
}

/// The commands that operations.md shows on a capture, where it says that they are run.
#[test]
fn the_documented_commands_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "pipeline = \"fleet\"\nmapping = \"{PACK}\"\n[source.postgres]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n\
         tls = \"disable\"\n[sink.kafka]\nbrokers = \"127.0.0.1:1\"\n"
    );
    fs::write(folder.path().join("rowbridge.toml"), config).unwrap();
    let capture = compressed(&lines().join("\n"));
    fs::write(folder.path().join("airline.capture"), capture).unwrap();
    std::os::unix::fs::symlink(root().join("mappings"), folder.path().join("mappings")).unwrap();
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = text.split("\n## Captures\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let commands = section
        .lines()
        .filter_map(|line| line.strip_prefix("    rowbridge "));
    let mut ran = 0;
    for command in commands {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_rowbridge"))
            .args(command.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        assert!(!output.stdout.is_empty(), "{command}");
        ran += 1;
    }
    assert_eq!(ran, 2, "`dry-run` and `test`");
}

/// A folder with files that are captures, or not.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn compressed(text: &str) -> Vec<u8> {
    zstd::stream::encode_all(text.as_bytes(), 3).unwrap()
}

fn dry_run(capture: &str) -> Output {
    rowbridge(
        &["dry-run", "--mapping", PACK, "--json", "--capture", capture],
        b"",
    )
}

#[test]
fn a_capture_gives_the_same_bytes_each_time_under_the_identity_that_it_was_recorded_with() {
    let files = Files::new();
    let text = lines().join("\n");
    let capture = files.write("air.capture", &compressed(&text));
    let output = dry_run(&capture);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events = stdout(&output);
    assert_eq!(events, stdout(&dry_run(&capture)));
    // As `zstd -d` leaves it.
    assert_eq!(
        events,
        stdout(&dry_run(&files.write("air.json", text.as_bytes())))
    );
    let piped = rowbridge(&["dry-run", "--mapping", PACK, "--json"], text.as_bytes());
    assert_eq!(events, stdout(&piped));
    let events: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["FareChanged", "SeatReassigned"]);
    let headers = &events[0]["headers"];
    assert_eq!(headers["ce_source"], "rowbridge://fleet/public.segments");
    assert_eq!(headers["ce_sequence"], "0000000000000020-000000000000-0000");
    let other = text.replace("postgres/7/air\",\"history", "postgres/8/air\",\"history");
    let other = dry_run(&files.write("other.json", other.as_bytes()));
    let other: serde_json::Value =
        serde_json::from_str(stdout(&other).lines().next().unwrap()).unwrap();
    assert_ne!(
        headers["ce_id"], other["headers"]["ce_id"],
        "another database, other events"
    );
}

#[test]
fn what_no_rule_explains_is_ranked() {
    let files = Files::new();
    let capture = files.write("air.capture", &compressed(&lines().join("\n")));
    let output = rowbridge(&["test", PACK, "--capture", &capture, "--coverage"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output).replace(&capture, "CAPTURE");
    let told = "
CAPTURE: 6 changes, 2 events, 0 quarantined
  no rule explains 3 of 6 changes
           2  update of public.segments: passenger_id
           1  update of public.segments: none of the columns that rules read
           1  of rows that `only` leaves out

coverage of mappings/airline: ";
    assert!(text.contains(told), "{text}");
    assert!(
        text.lines().last().unwrap().starts_with("coverage: rules "),
        "{text}"
    );

    let plain = rowbridge(&["test", PACK, "--capture", &capture], b"");
    let text = stdout(&plain);
    assert!(
        text.contains("2 events, 0 quarantined\n") && !text.contains("no rule"),
        "{text}"
    );
    let two = rowbridge(&["test", PACK, "mappings/bus", "--capture", &capture], b"");
    assert_eq!(two.status.code(), Some(2));
    assert!(
        stderr(&two).contains("is evaluated with one pack"),
        "{}",
        stderr(&two)
    );
}

#[test]
fn a_file_that_is_no_whole_capture_says_what_is_wrong_with_it() {
    let files = Files::new();
    let lines = lines();
    let text = lines.join("\n");
    let packed = compressed(&text);
    let newer = text.replace("\"capture\":1", "\"capture\":9");
    let mut flipped = packed.clone();
    *flipped.last_mut().unwrap() ^= 0xFF;
    for (file, bytes, wanted) in [
        (
            "cut.zst",
            &packed[..packed.len() - 20],
            "is cut off: its compressed data has no end",
        ),
        ("flipped.zst", &flipped, "cannot read "),
        (
            "cut.json",
            lines[..6].join("\n").as_bytes(),
            "line 6, column 1: the capture has no last line",
        ),
        (
            "newer.zst",
            &compressed(&newer),
            "a capture of format 9 by Rowbridge 0.1.0; this is Rowbridge",
        ),
        (
            "packed.gz",
            b"\x1F\x8B\x08rest",
            "is no capture: it is neither Zstandard nor change JSON",
        ),
        (
            "other.zst",
            &compressed("{\"id\":1}"),
            "line 1, column 1: `op` is missing",
        ),
    ] {
        let path = files.write(file, bytes);
        for arguments in [
            vec!["dry-run", "--mapping", PACK, "--capture", &path],
            vec!["test", PACK, "--capture", &path],
        ] {
            let output = rowbridge(&arguments, b"");
            let said = stderr(&output);
            assert!(
                said.contains(wanted) && said.contains(file),
                "{arguments:?}: {said}"
            );
            let code = if file == "flipped.zst" { 1 } else { 2 };
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn rules_that_read_more_than_was_recorded_say_so() {
    let files = Files::new();
    let text = lines()
        .join("\n")
        .replace(r#"{"name":"fare_class","type":"text"},"#, "");
    let output = dry_run(&files.write("old.json", text.as_bytes()));
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    let said = stderr(&output);
    for wanted in [
        "column `fare_class` of public.segments is gone",
        "the capture has the columns that airline@1 read: record again",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn nothing_is_overwritten_and_no_server_is_asked_first() {
    let files = Files::new();
    let kept = files.write("kept.capture", b"kept");
    let pack = root().join(PACK);
    let config = format!(
        "pipeline = \"air\"\nmapping = {pack:?}\n[source.postgres]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n\
         tls = \"disable\"\n[sink.kafka]\nbrokers = \"127.0.0.1:1\"\n"
    );
    let config = files.write("rowbridge.toml", config.as_bytes());
    let record = |more: &[&str]| {
        let arguments = [&["record", "-c", &config, "--out", &kept], more].concat();
        let output = rowbridge(&arguments, b"");
        (output.status.code(), stderr(&output))
    };
    let (code, said) = record(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("kept.capture exists, and nothing is overwritten"),
        "{said}"
    );
    let (code, said) = record(&["--force"]);
    assert_eq!(code, Some(1), "nobody listens there: {said}");
    assert_eq!(
        fs::read(&kept).unwrap(),
        b"kept",
        "before there is something to write"
    );
}
