//! A mapping that compiles and does not mean what was meant: each mistake is told with its place and with what to write.

use super::{rowbridge, stdout};

const MAPPING: &str = r#"[mapping]
name = "clinic"
version = 1
[tables]
visit = "public.visits"
patient = "public.patients"
[topics.visits]
name = "clinic.visits"
[topics.board]
name = "clinic.board"
cleanup = "compact"

[[event]]
type = "VisitBooked"
table = "visit"
topic = "visits"
key = "visits"
on = "insert"
data.room = "$.row.room"

[[event]]
type = "VisitMoved"
table = "visit"
topic = "visits"
key = "{urgent}"
changed = "room"
data.room = "$.row.room"

[[event]]
type = "VisitEnded"
table = "visit"
topic = "visits"
on = "delete"
data.room = "$.before.room"

[[event]]
type = "VisitEnded"
table = "visit"
topic = "visits"
on = "delete"
when = "$.before.urgent == true"
data.room = "$.before.room"

[[event]]
type = "RoomTaken"
table = "visit"
topic = "board"
key = "{room}"
on = ["insert", "update"]
data.visit = "$.row.id"

[[event]]
type = "PatientAdded"
table = "patient"
topic = "visits"
on = "insert"
data.email = "$.row.email"

[[event]]
type = "PatientSeen"
table = "patient"
topic = "visits"
on = ["insert", "update"]
when = "$.before.seen == false"
"#;

const SCHEMA: &str = r#"[visit]
key = ["id"]
[visit.columns]
id = "int8"
room = "text"
urgent = "bool"
[patient]
key = ["id"]
[patient.columns]
id = "int8"
email = "text"
seen = "bool"
"#;

/// A constant key, one of two values, a rule that an earlier one covers, a compacted topic whose keys stay, a personal
/// column that leaves, and a condition on what an insert does not have.
#[test]
fn each_of_six_mistakes_is_told_with_its_place_and_its_fix() {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("mapping.toml", MAPPING);
    write("schema.toml", SCHEMA);
    write(
        "rowbridge.toml",
        "pipeline = \"clinic\"\nmapping = \".\"\n[source.postgres]\nurl = \"postgres://rowbridge@127.0.0.1:1/db\"\n[sink.stdout]\n",
    );
    let config = folder.path().join("rowbridge.toml");
    let output = rowbridge(&["check", "--offline", "-c", config.to_str().unwrap()], b"");
    let told = stdout(&output).replace(folder.path().to_str().unwrap(), "clinic");
    assert_eq!(output.status.code(), Some(0), "they are warnings: {told}");
    assert!(told.ends_with("0 errors, 6 warnings\n"), "{told}");
    insta::assert_snapshot!(told);
}
