//! `rowbridge test`.

use super::{SpoiltPack, rowbridge, stderr, stdout};

#[test]
fn a_wrong_case_shows_the_difference_and_exits_with_1() {
    let pack = SpoiltPack::new();
    pack.replace("cases/seat-reassigned.toml", "SeatReassigned", "SeatMoved");
    pack.replace("mapping.toml", "{ delta = \"fare\" }", "\"$.after.fare\"");
    let output = rowbridge(&["test", pack.path()], b"");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output).replace(pack.path(), "PACK");
    insta::assert_snapshot!(text);
}

#[test]
fn what_does_not_compile_exits_with_2_and_shows_where() {
    let pack = SpoiltPack::new();
    pack.replace("cases/fare-lowered.toml", "table", "tabel");
    let output = rowbridge(&["test", pack.path()], b"");
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("unknown key `tabel`"),
        "{}",
        stderr(&output)
    );

    let pack = SpoiltPack::new();
    pack.replace("mapping.toml", "$.after.seat_no", "$.after.seat_number");
    let output = rowbridge(&["test", pack.path()], b"");
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("seat_number"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn coverage_names_the_rules_that_never_fire() {
    let pack = SpoiltPack::new();
    let output = rowbridge(
        &["test", pack.path(), "--coverage", "--fail-under", "90"],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("    1  FareChanged"), "{text}");
    assert!(text.contains("never  BookingCreated"), "{text}");
    assert!(stderr(&output).contains("of the rules fire, wanted are 90 %"));
}

#[test]
fn junit_tells_failures_to_machines() {
    let pack = SpoiltPack::new();
    pack.replace("cases/seat-reassigned.toml", "SeatReassigned", "SeatMoved");
    let report = pack.file("report.xml");
    let output = rowbridge(
        &["test", pack.path(), "--junit", report.to_str().unwrap()],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    let xml = std::fs::read_to_string(report).unwrap();
    assert!(
        xml.contains("tests=\"2\"") && xml.contains("failures=\"1\""),
        "{xml}"
    );
    assert!(
        xml.contains("SeatMoved: expected, and was not published"),
        "{xml}"
    );
}
