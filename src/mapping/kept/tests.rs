//! Rows that are looked up, and events that are taken back, told as cases.

use std::sync::Arc;

use rowbridge_api::Op;

use crate::mapping::cases::{Body, Case, Published};
use crate::mapping::change_json::Tables;
use crate::mapping::{Mapping, Pack, SourceFile, Stop};

const MAPPING: &str = r#"
[mapping]
name = "t"
version = 1
on_error = "quarantine"
[tables]
seat = "public.seats"
flight = { name = "public.flights", index = [["number", "day"]] }
plane = "public.planes"
[topics.seats]
name = "seats"
[defaults.seat]
topic = "seats"
[defaults.seat.lookup.flight]
table = "flight"
where = { number = "$.row.number", day = "$.row.day" }
[defaults.seat.lookup.plane]
table = "plane"
where = { tail = "$.flight.tail" }
missing = "null"
[defaults.seat.data]
gate = "$.flight.gate"
model = "$.plane.model"
place = { template = "{seat_no} at {$.flight.gate}" }
[[event]]
type = "Taken"
table = "seat"
on = "insert"
when = "$.flight.gate != 'closed'"
[[event]]
type = "Moved"
table = "seat"
changed = "seat_no"
[[event]]
type = "Freed"
table = "seat"
on = "delete"
"#;

const SCHEMA: &str = r#"
[seat]
key = ["id"]
[seat.columns]
id = "int8"
number = "varchar(8)"
day = "date"
seat_no = "text"
[flight]
key = ["id"]
[flight.columns]
id = "int8"
number = "text"
day = "date"
gate = "text"
tail = "text"
notes = "text"
[plane]
key = ["tail"]
[plane.columns]
tail = "text"
model = "text"
"#;

const SEEDS: &str = r#"
[[seed]]
table = "flight"
row = { id = 1, number = "BA117", day = "2026-12-01", gate = "B32", tail = "G-STBA", notes = "x" }
[[seed]]
table = "plane"
row = { tail = "G-STBA", model = "777" }
"#;

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

pub(in crate::mapping) fn run(
    mapping: &str,
    schema: &str,
    case: &str,
) -> Result<Vec<Published>, Stop> {
    let pack = Pack {
        mapping: file("mapping.toml", mapping),
        schema: file("schema.toml", schema),
        params: toml::Table::new(),
    };
    let (mapping, _) = Mapping::compile(&pack)
        .unwrap_or_else(|all| panic!("{}", all.render(crate::paint::Look::PLAIN)));
    let tables = Tables::of(&mapping);
    let case = format!("name = \"x\"\nsilent = true\n{case}");
    let case = Case::parse(&file("case.toml", &case), &tables).unwrap();
    case.published(&Arc::new(mapping), &tables)
}

/// Type, key and data of each event.
fn told(case: &str) -> Vec<String> {
    let published = run(MAPPING, SCHEMA, &format!("{SEEDS}{case}")).unwrap();
    published.iter().map(line).collect()
}

pub(in crate::mapping) fn line(event: &Published) -> String {
    let data = match &event.body {
        Body::Data(data) => data.to_string(),
        Body::Quarantined { error, .. } => error.clone(),
        other => format!("{other:?}"),
    };
    let key = event.key.as_deref().unwrap_or_default();
    format!("{} {key} {data}", event.event_type)
}

const SEAT: &str = "id = 7, number = \"BA117\", day = \"2026-12-01\"";

fn insert() -> String {
    format!(
        "[[given]]\ntx = \"a\"\ntable = \"seat\"\nop = \"insert\"\nafter = {{ {SEAT}, seat_no = \"12A\" }}\n"
    )
}

#[test]
fn a_row_is_found_by_an_index_and_the_next_one_by_what_it_holds() {
    assert_eq!(
        told(&insert()),
        [r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#]
    );
}

#[test]
fn what_is_looked_up_is_as_of_the_commit_also_what_changes_later_in_the_transaction() {
    let moved = "[[given]]\ntx = \"a\"\ntable = \"flight\"\nop = \"update\"\nbefore = { id = 1 }\nafter = { id = 1, number = \"BA117\", day = \"2026-12-01\", gate = \"C7\", tail = \"G-NONE\" }\n";
    assert_eq!(
        told(&format!("{}{moved}", insert())),
        [r#"Taken 7 {"gate":"C7","model":null,"place":"12A at C7"}"#]
    );
}

#[test]
fn a_condition_may_be_about_what_is_looked_up() {
    let closed = "[[given]]\ntable = \"flight\"\nop = \"update\"\nbefore = { id = 1 }\nafter = { id = 1, number = \"BA117\", day = \"2026-12-01\", gate = \"closed\", tail = \"G-STBA\" }\n";
    assert!(told(&format!("{closed}{}", insert())).is_empty());
}

#[test]
fn a_row_that_is_not_there_is_no_matter_to_a_rule_that_does_not_fire() {
    let unknown = insert().replace("BA117", "BA999");
    let quiet = MAPPING.replace(
        "$.flight.gate != 'closed'",
        "$.row.seat_no != '12A' && $.flight.gate != 'closed'",
    );
    let published = run(&quiet, SCHEMA, &format!("{SEEDS}{unknown}")).unwrap();
    assert!(published.is_empty());
    assert_eq!(
        told(&unknown),
        ["Taken 7 lookup `flight` found no row of flight by number, day"]
    );
}

#[test]
fn a_row_that_the_transaction_deleted_is_found_as_it_was_and_later_not() {
    let gone = "[[given]]\ntx = \"a\"\ntable = \"flight\"\nop = \"delete\"\nbefore = { id = 1 }\n";
    let later = format!(
        "[[given]]\ntx = \"b\"\ntable = \"seat\"\nop = \"delete\"\nbefore = {{ {SEAT}, seat_no = \"12A\" }}\n"
    );
    assert_eq!(
        told(&format!("{gone}{}{later}", insert())),
        [
            r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#,
            "Freed 7 lookup `flight` found no row of flight by number, day",
        ]
    );
}

#[test]
fn a_row_is_found_under_its_new_key_and_its_new_index_only() {
    let renumbered = "[[given]]\ntable = \"flight\"\nop = \"update\"\nbefore = { id = 1 }\nafter = { id = 2, number = \"BA118\", day = \"2026-12-01\", gate = \"C7\", tail = \"G-STBA\" }\n";
    let again = insert().replace("BA117", "BA118").replace("\"a\"", "\"b\"");
    assert_eq!(
        told(&format!("{renumbered}{}{again}", insert())),
        [
            "Taken 7 lookup `flight` found no row of flight by number, day",
            r#"Taken 7 {"gate":"C7","model":"777","place":"12A at C7"}"#,
        ]
    );
}

#[test]
fn a_cell_that_the_source_left_out_is_still_known_from_before() {
    let same = "[[given]]\ntable = \"flight\"\nop = \"update\"\nbefore = { id = 1 }\nafter = { id = 1, gate = \"C7\" }\n";
    assert_eq!(
        told(&format!("{same}{}", insert())),
        [r#"Taken 7 {"gate":"C7","model":"777","place":"12A at C7"}"#]
    );
}

#[test]
fn after_a_truncate_nothing_is_found() {
    let truncated = "[[given]]\ntable = \"plane\"\nop = \"truncate\"\n";
    assert_eq!(
        told(&format!("{truncated}{}", insert())),
        [r#"Taken 7 {"gate":"B32","model":null,"place":"12A at B32"}"#]
    );
}

/// The same table without and with a source that sends the row before.
#[test]
fn the_row_before_comes_from_what_is_kept_where_the_source_sends_none() {
    let mapping = STAY.replace(
        "stay = \"public.stays\"",
        "stay = { name = \"public.stays\", before = \"state\" }",
    );
    let mapping = format!(
        "{mapping}note = \"$.row.note\"\n[[event]]\ntype = \"Gone\"\ntable = \"stay\"\non = \"delete\"\ndata.status = \"$.before.status\"\ndata.note = \"$.before.note\"\n"
    );
    let schema = format!("{STAY_SCHEMA}note = \"text\"\n");
    let case = "
[[seed]]
table = \"stay\"
row = { id = 1, status = \"in\", note = \"long\" }
[[given]]
table = \"stay\"
op = \"update\"
before = { id = 1 }
after = { id = 1, status = \"out\" }
[[given]]
table = \"stay\"
op = \"update\"
before = { id = 1 }
after = { id = 2, status = \"in\" }
[[given]]
table = \"stay\"
op = \"delete\"
before = { id = 2 }
[[given]]
table = \"stay\"
op = \"delete\"
before = { id = 3 }
";
    let mapping = mapping.replace("version = 1", "version = 1\non_error = \"quarantine\"");
    let published = run(&mapping, &schema, case).unwrap();
    let told: Vec<String> = published.iter().map(line).collect();
    assert_eq!(
        told,
        [
            r#"CheckedOut 1 {"status":"out"}"#,
            r#"CheckOutReverted 2 {"status":"in","note":"long"}"#,
            r#"Gone 2 {"status":"in","note":"long"}"#,
            "Gone 3 field `status`: before.status is unavailable: the source did not send it",
        ]
    );
}

/// `note` is read before and after a change, `photo` after it only.
#[test]
fn an_unchanged_cell_is_a_bad_record_where_the_mapping_wants_none_of_what_is_kept() {
    let told = |toast: &str| {
        let mapping = STAY
            .replace("version = 1", "version = 1\non_error = \"quarantine\"")
            .replace(
                "stay = \"public.stays\"",
                &format!("stay = {{ name = \"public.stays\", before = \"state\"{toast} }}"),
            );
        let mapping = format!(
            "{mapping}[[event]]\ntype = \"Noted\"\ntable = \"stay\"\non = \"update\"\ndata.was = \"$.before.note\"\ndata.note = \"$.after.note\"\n\
             [[event]]\ntype = \"Pictured\"\ntable = \"stay\"\non = \"update\"\ndata.photo = \"$.after.photo\"\n"
        );
        let schema = format!("{STAY_SCHEMA}note = \"text\"\nphoto = \"text\"\n");
        let update = |cells: &str| {
            format!(
                "[[given]]\ntable = \"stay\"\nop = \"update\"\nbefore = {{ id = 1 }}\nafter = {{ id = 1, status = \"in\"{cells} }}\n"
            )
        };
        let seed = "[[seed]]\ntable = \"stay\"\nrow = { id = 1, status = \"in\", note = \"a\", photo = \"p\" }\n";
        let case = [seed, &update(""), &update(", note = \"b\", photo = \"q\"")].concat();
        let published = run(&mapping, &schema, &case).unwrap();
        published.iter().map(line).collect::<Vec<String>>()
    };
    let changed = [
        r#"Noted 1 {"was":"a","note":"b"}"#,
        r#"Pictured 1 {"photo":"q"}"#,
    ];
    let kept = [
        r#"Noted 1 {"was":"a","note":"a"}"#,
        r#"Pictured 1 {"photo":"p"}"#,
    ];
    assert_eq!(told(""), [kept, changed].concat());
    assert_eq!(told(", toast = \"state\""), told(""));
    let left_out = [
        "Noted 1 field `note`: after.note is unavailable: the source did not send it",
        "Pictured 1 field `photo`: after.photo is unavailable: the source did not send it",
    ];
    assert_eq!(
        told(", toast = \"error\""),
        [left_out, changed].concat(),
        "and what a row was before is still known"
    );
}

const STAY: &str = r#"
[mapping]
name = "t"
version = 1
[tables]
stay = "public.stays"
[topics.stays]
name = "stays"
[lifecycle.stay]
table = "stay"
state = "status"
start = ["in"]
[defaults.stay]
topic = "stays"
[[event]]
type = "CheckedOut"
table = "stay"
transition = { of = "stay", from = "in", to = "out" }
[event.data]
status = "$.row.status"
[[event]]
type = "CheckOutReverted"
table = "stay"
transition = { of = "stay", from = "out", to = "in" }
reverts = "CheckedOut"
[event.data]
status = "$.row.status"
"#;

const STAY_SCHEMA: &str =
    "[stay]\nkey = [\"id\"]\n[stay.columns]\nid = \"int4\"\nstatus = \"text\"\n";

fn header<'e>(event: &'e Published, name: &str) -> Option<&'e str> {
    let found = event.headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| value.as_str())
}

fn step(id: u8, from: &str, to: &str) -> String {
    format!(
        "[[given]]\ntable = \"stay\"\nop = \"update\"\nbefore = {{ id = {id}, status = \"{from}\" }}\nafter = {{ id = {id}, status = \"{to}\" }}\n"
    )
}

#[test]
fn an_event_names_the_last_one_of_its_entity_that_it_takes_back() {
    let gone =
        "[[given]]\ntable = \"stay\"\nop = \"delete\"\nbefore = { id = 1, status = \"in\" }\n";
    let case = [
        step(1, "in", "out"),
        step(2, "in", "out"),
        step(1, "out", "in"),
        step(1, "in", "out"),
        step(1, "out", "in"),
        gone.to_owned(),
        step(1, "out", "in"),
    ];
    let published = run(STAY, STAY_SCHEMA, &case.concat()).unwrap();
    let ids: Vec<_> = published
        .iter()
        .map(|event| header(event, "ce_id"))
        .collect();
    let reverts: Vec<_> = published
        .iter()
        .map(|event| header(event, "ce_reverts"))
        .collect();
    assert_eq!(reverts, [None, None, ids[0], None, ids[3], None]);
}

#[test]
fn whether_a_row_is_there_is_a_condition_of_its_own() {
    let when = |condition: &str| {
        let mapping = MAPPING.replace("$.flight.gate != 'closed'", condition);
        let unknown = insert().replace("BA117", "BA999");
        let case = format!("{SEEDS}{}{unknown}", insert());
        let published = run(&mapping, SCHEMA, &case).unwrap();
        published.iter().map(line).collect::<Vec<_>>()
    };
    let no_row = "Taken 7 lookup `flight` found no row of flight by number, day";
    let taken = r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#;
    assert_eq!(when("$.flight"), [taken, no_row]);
    // One that may be missing is none, and no error.
    assert_eq!(when("$.plane"), [taken, no_row]);
    assert_eq!(when("!($.plane)"), [no_row]);
}

/// Every change of these is in one transaction, which the seat's lookup sees as a whole.
fn seen_by_a_seat(changes: &[String]) -> Vec<String> {
    told(&format!("{}{}", changes.concat(), insert()))
}

fn flight(op: &str, before: &str, after: &str) -> String {
    let image = |name: &str, cells: &str| match cells {
        "" => String::new(),
        cells => format!("{name} = {{ {cells} }}\n"),
    };
    format!(
        "[[given]]\ntx = \"a\"\ntable = \"flight\"\nop = \"{op}\"\n{}{}",
        image("before", before),
        image("after", after)
    )
}

const OF_117: &str = "number = \"BA117\", day = \"2026-12-01\", tail = \"G-STBA\"";
const OF_118: &str = "number = \"BA118\", day = \"2026-12-01\", tail = \"G-STBA\"";

#[test]
fn a_row_that_left_an_index_in_the_transaction_is_not_found_by_it() {
    let left = flight(
        "update",
        "id = 1",
        &format!("id = 1, {OF_118}, gate = \"C7\""),
    );
    assert_eq!(
        seen_by_a_seat(&[left]),
        ["Taken 7 lookup `flight` found no row of flight by number, day"]
    );
}

#[test]
fn a_deleted_row_is_found_as_it_was_though_its_key_has_another_row() {
    let deleted = flight("delete", "id = 1", "");
    let again = flight("insert", "", &format!("id = 1, {OF_118}, gate = \"C7\""));
    assert_eq!(
        seen_by_a_seat(&[deleted, again]),
        [r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#]
    );
}

/// As a deferred constraint allows.
#[test]
fn two_rows_that_pass_through_one_index_value_do_not_hide_each_other() {
    let second = flight("insert", "", &format!("id = 2, {OF_117}, gate = \"C7\""));
    let gone = flight("delete", "id = 2", "");
    let later = insert().replace("\"a\"", "\"b\"");
    let before = r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#;
    assert_eq!(
        told(&format!("{second}{gone}{}{later}", insert())),
        [before, before]
    );
}

#[test]
fn the_blanks_of_a_char_are_no_part_of_what_it_is_found_by() {
    for (looked_up, sought) in [("char(8)", "varchar(8)"), ("text", "char(8)")] {
        let schema = SCHEMA.replace("number = \"text\"", &format!("number = \"{looked_up}\""));
        let schema = schema.replace("varchar(8)", sought);
        let blanks = |ty: &str| if ty == "char(8)" { "BA117   " } else { "BA117" };
        let seeds = SEEDS.replace("BA117", blanks(looked_up));
        let case = format!("{seeds}{}", insert().replace("BA117", blanks(sought)));
        let published = run(MAPPING, &schema, &case).unwrap();
        let told: Vec<String> = published.iter().map(line).collect();
        assert_eq!(
            told,
            [r#"Taken 7 {"gate":"B32","model":"777","place":"12A at B32"}"#]
        );
    }
}

/// What an event took back of a row that was under its key before is not the next row's.
#[test]
fn an_entity_ends_with_another_key_and_with_a_truncate() {
    let out = |id: u8| step(id, "in", "out");
    let back = |id: u8| step(id, "out", "in");
    let moved = "[[given]]\ntable = \"stay\"\nop = \"update\"\nbefore = { id = 1, status = \"out\" }\nafter = { id = 2, status = \"out\" }\n";
    let truncated = "[[given]]\ntable = \"stay\"\nop = \"truncate\"\n";
    for end in [moved, truncated] {
        let case = [out(1), end.to_owned(), back(1)].concat();
        let published = run(STAY, STAY_SCHEMA, &case).unwrap();
        assert_eq!(published.len(), 2);
        assert_eq!(header(&published[1], "ce_reverts"), None, "{end}");
    }
}

#[test]
fn a_truncate_is_told_though_others_take_back_events_of_its_type() {
    let mapping = format!(
        "{STAY}[[event]]\ntype = \"CheckedOut\"\ntable = \"stay\"\non = \"truncate\"\nkey = \"all\"\n"
    );
    let truncated = "[[given]]\ntable = \"stay\"\nop = \"truncate\"\n";
    let published = run(&mapping, STAY_SCHEMA, truncated).unwrap();
    assert_eq!(
        published.iter().map(line).collect::<Vec<_>>(),
        ["CheckedOut all {}"]
    );
}

/// Nothing looks it up, and no end of a transaction would forget it.
#[test]
fn a_deleted_row_is_gone_at_once_where_transactions_are_not_gathered() {
    use crate::mapping::tests::{Bench, C, HEAD};
    let table = "segment = \"public.segments\"";
    let kept = "segment = { name = \"public.segments\", before = \"state\" }";
    let rule = "[[event]]\ntype = \"Gone\"\ntable = \"segment\"\non = \"delete\"\ntopic = \"inventory\"\ndata.pnr = \"$.before.pnr\"\n";
    let mut bench = Bench::of(&format!("{}{rule}", HEAD.replace(table, kept)));
    bench.run(
        Op::Insert,
        None,
        Some(&[("id", C::V("1")), ("pnr", C::V("ABC"))]),
    );
    let gone = bench.run(Op::Delete, Some(&[("id", C::V("1"))]), None);
    assert!(gone.concat().contains("\"pnr\":\"ABC\""), "{gone:?}");
    let (_, work, _) = bench.evaluator.parts();
    assert!(work.keeper.deleted.is_empty());
}
