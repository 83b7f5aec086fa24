use rowbridge_api::{Position, State, TableName};

use super::*;
use crate::health::Peer;

fn status(phase: Phase) -> Status {
    Status {
        pipeline: "airline".to_owned(),
        phase,
        reading: Reading {
            events: 12_345_678,
            quarantined: 0,
            lag_seconds: 0.012,
            lag_bytes: 4_299_161,
            position: Some(Position::new(0x16_B374_D848)),
            snapshot: None,
        },
        events_per_second: 1234.5,
        rows_per_second: 45_210.0,
    }
}

fn reading_rows(table: TableName, rows: u64, rows_about: Option<u64>) -> Status {
    let mut status = status(Phase::Snapshot);
    status.reading.position = None;
    status.reading.snapshot = Some(SnapshotProgress {
        table,
        number: 2,
        tables: 5,
        rows,
        rows_about,
    });
    status
}

/// Every kind of line, ordinary and extreme.
fn statuses() -> Vec<Status> {
    let mut quarantined = status(Phase::Streaming);
    quarantined.reading.quarantined = 1234;
    let mut huge = status(Phase::Idle);
    huge.pipeline = "p".repeat(40);
    huge.reading = Reading {
        events: u64::MAX,
        quarantined: u64::MAX,
        lag_seconds: 4e8,
        lag_bytes: u64::MAX,
        position: Some(Position::new(u64::MAX)),
        snapshot: None,
    };
    huge.events_per_second = 1e19;
    let long_name = TableName::new(
        "a_schema_with_sixty_three_characters_as_postgresql_allows_them_",
        "réservations_裁判所_and_more_until_the_name_is_really_full",
    );
    vec![
        status(Phase::Starting),
        status(Phase::Standby {
            holder: "pid 4711 (10.0.0.7)".to_owned(),
        }),
        reading_rows(TableName::new("public", "segments"), 1_234_567, Some(2_000_000)),
        reading_rows(TableName::new("public", "segments"), 2_000_001, Some(2_000_000)),
        reading_rows(TableName::new("public", "segments"), 0, None),
        reading_rows(long_name, u64::MAX / 2, Some(u64::MAX)),
        status(Phase::Snapshot),
        status(Phase::Streaming),
        quarantined,
        huge,
        status(Phase::Retrying {
            peer: Peer::Sink,
            problem: "no broker of 127.0.0.1:9092 answered within 10000 ms:\n  connection\u{1b}[2J refused \
                      (os error 111), and this goes on and on so that it does not fit any terminal, not even a wide one"
                .to_owned(),
        }),
        status(Phase::Refused {
            state: State::PublicationChanged,
            problem: "the publication is gone".to_owned(),
        }),
        status(Phase::Stopping),
    ]
}

fn rendered(columns: usize) -> String {
    let lines = statuses();
    let lines = lines.iter().map(|status| {
        let line = render(status, columns, Paint::Plain);
        assert!(
            line.width() <= columns,
            "{} > {columns}: {line}",
            line.width()
        );
        line
    });
    // The right edge of the terminal, so that the snapshot shows what room is left.
    lines
        .map(|line| format!("{line}{}|", " ".repeat(columns - line.width())))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn at_eighty_columns() {
    insta::assert_snapshot!(rendered(79));
}

#[test]
fn at_a_hundred_and_sixty_columns() {
    insta::assert_snapshot!(rendered(159));
}

#[test]
fn it_fits_any_width_in_one_line_that_a_terminal_does_not_obey() {
    for status in statuses() {
        for columns in 0..200 {
            let line = render(&status, columns, Paint::Plain);
            assert!(line.width() <= columns.max(1), "{columns}: {line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn colour_changes_no_character() {
    for status in statuses() {
        let painted = render(&status, 79, Paint::Ansi);
        let stripped = anstream::adapter::strip_str(&painted).to_string();
        assert_eq!(stripped, render(&status, 79, Paint::Plain));
        assert_ne!(stripped, painted, "the state has a colour");
    }
}
