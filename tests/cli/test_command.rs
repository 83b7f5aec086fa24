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
fn coverage_lists_what_no_case_exercises_with_its_place_and_what_is_wanted() {
    let pack = SpoiltPack::new();
    let output = rowbridge(
        &["test", pack.path(), "--coverage", "--fail-under", "90"],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output).replace(pack.path(), "PACK");
    for wanted in [
        "2 passed, 0 failed\n\ncoverage of PACK: rules 2/28, branches ",
        "\n  PACK/mapping.toml:60 BookingCreated: never published\n      \
         a case needs an insert of `booking` that meets all its conditions and checks\n",
        "\n  PACK/schema.toml:7 booking.status: never has a value\n",
        "\n  PACK/mapping.toml:527 lifecycle travel: CHECKED_IN to OPEN is never made\n      \
         a case needs an update of `segment` from CHECKED_IN to OPEN\n",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    for covered in [
        "FareChanged: never published",
        "SeatReassigned: `when` is never true",
    ] {
        assert!(!text.contains(covered), "{text}");
    }
    let closing = text.lines().last().unwrap();
    assert!(
        closing.starts_with("coverage: rules 2/28, branches "),
        "{closing}"
    );
    assert!(
        stderr(&output).contains(" %), wanted are 90 %"),
        "{}",
        stderr(&output)
    );
    let junit = pack.file("report.xml");
    let junit = junit.to_str().unwrap();
    let output = rowbridge(
        &["test", pack.path(), "--fail-under", "1", "--junit", junit],
        b"",
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(
        xml.contains("tests=\"2\"") && !xml.contains("coverage"),
        "{xml}"
    );
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
