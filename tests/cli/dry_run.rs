//! `rowbridge dry-run` on change JSON.

use serde_json::Value;

use super::{SpoiltPack, root, rowbridge, stderr, stdout};

const DRY_RUN: [&str; 3] = ["dry-run", "--mapping", "mappings/airline"];

fn example(name: &str) -> Vec<u8> {
    std::fs::read(root().join("mappings/airline/examples").join(name)).unwrap()
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&DRY_RUN, more].concat()
}

#[test]
fn one_update_is_three_events_from_change_json_and_from_debezium() {
    let mut runs = Vec::new();
    for file in ["one-update.json", "one-update.debezium.json"] {
        let output = rowbridge(&with(&["--json"]), &example(file));
        assert_eq!(output.status.code(), Some(0), "{file}: {}", stderr(&output));
        let events: Vec<Value> = stdout(&output)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let types: Vec<_> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            types,
            ["FareChanged", "SeatReassigned", "ServiceClassChanged"],
            "{file}"
        );
        assert_eq!(events[0]["data"]["fare_delta"], "-35.00", "{file}");
        assert_eq!(events[1]["topic"], "travel.inventory");
        assert_eq!(events[1]["key"], "BA117/2026-12-01/Y");
        assert_eq!(events[1]["headers"]["ce_correlationid"], "QX4RTZ");
        let closing = stderr(&output);
        assert_eq!(
            closing.lines().last(),
            Some("1 change, 3 events, 0 quarantined")
        );
        let data: Vec<Value> = events.iter().map(|event| event["data"].clone()).collect();
        runs.push(data);
    }
    assert_eq!(runs[0], runs[1], "both encodings say the same");
}

#[test]
fn a_cancelled_departure_reaches_each_topic_of_the_bus() {
    let capture = "mappings/bus/examples/departure-cancelled.json";
    let arguments = ["dry-run", "--mapping", "mappings/bus", "--json"];
    let output = rowbridge(&[&arguments[..], &["--capture", capture]].concat(), b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap();
            (text("topic"), text("key"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("bus.schedule.updated", "507"),
            ("bus.tickets.cancelled", "507"),
            ("bus.tickets.cancelled", "507"),
            ("bus.tickets.booked", "509"),
            ("bus.tickets.refunded", "8001"),
        ]
    );

    let capture = "mappings/bus/examples/refunded-too-much.json";
    let output = rowbridge(&[&arguments[..], &["--capture", capture]].concat(), b"");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.lines().count() == 1 && text.contains("refunded more than was paid"),
        "{text}"
    );
}

#[test]
fn an_accidental_check_out_is_told_from_an_arrival_and_explained() {
    let examples = "mappings/hotel/examples";
    let arguments = ["dry-run", "--mapping", "mappings/hotel", "--explain"];
    let run = |arguments: &[&str], capture: &str| {
        let capture = format!("{examples}/{capture}");
        rowbridge(&[arguments, &["--capture", &capture]].concat(), b"")
    };
    let output = run(&arguments, "accidental-check-out.json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));

    let output = run(&arguments, "never-arrived.json");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    let told =
        "lifecycle stay  quarantined\n    lifecycle stay: Not Arrived to Departure is not declared";
    assert!(text.contains(told), "{text}");
    let explained =
        "quarantined  lifecycle stay (line 32): Not Arrived to Departure is not declared";
    assert!(text.contains(explained), "{text}");
}

#[test]
fn people_get_type_topic_key_and_data() {
    let output = rowbridge(&DRY_RUN, &example("one-update.json"));
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn a_capture_is_read_from_its_file_and_the_limit_ends_it() {
    let capture = "mappings/airline/examples/one-update.json";
    let output = rowbridge(
        &with(&["--json", "--limit", "2", "--capture", capture]),
        b"",
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 2);
}

#[test]
fn time_ends_the_wait_for_an_input_that_says_nothing() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let mut child = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(with(&["--for", "100ms"]))
        .current_dir(root())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let silent = child.stdin.take();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("it still waits for its first line");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    drop(silent);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "0 changes, 0 events, 0 quarantined\n");
}

#[test]
fn what_would_be_quarantined_exits_with_1_and_can_be_tried_again() {
    let bad = String::from_utf8(example("one-update.json")).unwrap();
    let bad = bad.replace("\"275.00\"", "\"-275.00\"");
    let output = rowbridge(&with(&["--json"]), bad.as_bytes());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let record = records
        .iter()
        .find(|record| record["topic"] == "rowbridge.airline.quarantine");
    let record = &record.unwrap()["data"];
    assert!(
        record["error"]
            .as_str()
            .unwrap()
            .contains("impossible fare"),
        "{record}"
    );

    let fixed = record.to_string().replace("\"-275.00\"", "\"275.00\"");
    let output = rowbridge(&with(&["--json"]), fixed.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
}

#[test]
fn input_that_is_not_change_json_names_line_and_column() {
    let output = rowbridge(&DRY_RUN, b"\n{\"op\":\"insert\",\"table\":\"segmnet\"}\n");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("standard input, line 2, column 24: the mapping declares no table `segmnet`"),
        "{text}"
    );
}

#[test]
fn a_mapping_that_does_not_compile_shows_where_and_exits_with_2() {
    let pack = SpoiltPack::new();
    pack.replace("mapping.toml", "$.after.seat_no", "$.after.seat_number");
    let output = rowbridge(&["dry-run", "--mapping", pack.path()], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("seat_number"),
        "{}",
        stderr(&output)
    );
}
