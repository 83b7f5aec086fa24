//! Events of several rows, told as cases.

use super::super::kept::tests::{line, run};

const MAPPING: &str = r#"
[mapping]
name = "t"
version = 1
on_error = "quarantine"
[params]
offices = ["city", "airport"]
[tables]
segment = "public.segments"
booking = "public.bookings"
[topics.all]
name = "all"
[defaults.segment]
topic = "all"
[[event]]
type = "Cancelled"
table = "segment"
on = "delete"
[event.data]
seat = "$.row.seat"
[[event]]
type = "Booked"
table = "segment"
on = "insert"
[event.data]
seat = "$.row.seat"
[[event]]
type = "Rebooked"
topic = "all"
key = "{$.new.row.pnr}"
when = "$.old.row.seat != $.new.row.seat"
[event.transaction]
by = "pnr"
consume = true
[event.transaction.parts]
old = { table = "segment", on = "delete" }
new = { table = "segment", on = "insert", when = "$.row.seat != 'none'" }
booking = { table = "booking", on = "update", only = { office = "offices" }, optional = true }
[event.data]
from = "$.old.before.seat"
to = "$.new.after.seat"
agent = { path = "$.booking.row.agent" }
was = "$.booking.before.agent"
"#;

const SCHEMA: &str = r#"
[segment]
key = ["id"]
[segment.columns]
id = "int8"
pnr = "text"
seat = "text"
[booking]
key = ["pnr"]
[booking.columns]
pnr = "text"
agent = "text"
office = "text"
"#;

fn told(changes: &[String]) -> Vec<String> {
    let published = run(MAPPING, SCHEMA, &changes.concat()).unwrap();
    published.iter().map(line).collect()
}

fn change(tx: &str, table: &str, op: &str, images: &str) -> String {
    format!("[[given]]\ntx = \"{tx}\"\ntable = \"{table}\"\nop = \"{op}\"\n{images}\n")
}

fn delete(tx: &str, id: u8, pnr: &str, seat: &str) -> String {
    let row = format!("before = {{ id = {id}, pnr = \"{pnr}\", seat = \"{seat}\" }}");
    change(tx, "segment", "delete", &row)
}

fn insert(tx: &str, id: u8, pnr: &str, seat: &str) -> String {
    let row = format!("after = {{ id = {id}, pnr = \"{pnr}\", seat = \"{seat}\" }}");
    change(tx, "segment", "insert", &row)
}

fn agent(tx: &str, pnr: &str, from: &str, to: &str) -> String {
    agent_of(tx, pnr, from, to, "city")
}

fn agent_of(tx: &str, pnr: &str, from: &str, to: &str, office: &str) -> String {
    let row =
        |agent: &str| format!("{{ pnr = \"{pnr}\", agent = \"{agent}\", office = \"{office}\" }}");
    let images = format!("before = {}\nafter = {}", row(from), row(to));
    change(tx, "booking", "update", &images)
}

#[test]
fn rows_that_agree_make_one_event_where_the_last_of_them_is_and_none_of_their_own() {
    assert_eq!(
        told(&[
            delete("a", 1, "QX", "12A"),
            insert("a", 3, "ZZ", "1A"),
            agent("a", "QX", "ann", "bob"),
            insert("a", 2, "QX", "14C"),
            insert("a", 4, "ZZ", "1B"),
        ]),
        [
            r#"Booked 3 {"seat":"1A"}"#,
            r#"Rebooked QX {"from":"12A","to":"14C","agent":"bob","was":"ann"}"#,
            r#"Booked 4 {"seat":"1B"}"#,
        ]
    );
}

#[test]
fn rows_of_another_transaction_are_no_partners() {
    assert_eq!(
        told(&[delete("a", 1, "QX", "12A"), insert("b", 2, "QX", "14C")]),
        [
            r#"Cancelled 1 {"seat":"12A"}"#,
            r#"Booked 2 {"seat":"14C"}"#
        ]
    );
}

#[test]
fn pairs_are_made_in_row_order_share_what_is_optional_and_leave_what_is_over() {
    assert_eq!(
        told(&[
            delete("a", 1, "QX", "1"),
            delete("a", 2, "QX", "2"),
            delete("a", 3, "QX", "3"),
            agent("a", "QX", "ann", "bob"),
            insert("a", 4, "QX", "4"),
            insert("a", 5, "QX", "5"),
        ]),
        [
            r#"Cancelled 3 {"seat":"3"}"#,
            r#"Rebooked QX {"from":"1","to":"4","agent":"bob","was":"ann"}"#,
            r#"Rebooked QX {"from":"2","to":"5","agent":"bob","was":"ann"}"#,
        ]
    );
}

#[test]
fn a_part_that_does_not_meet_its_condition_is_none_and_an_absent_one_reads_as_null() {
    assert_eq!(
        told(&[
            delete("a", 1, "QX", "1"),
            insert("a", 2, "QX", "none"),
            insert("a", 3, "QX", "3"),
        ]),
        [
            r#"Booked 2 {"seat":"none"}"#,
            r#"Rebooked QX {"from":"1","to":"3","agent":null,"was":null}"#,
        ]
    );
}

#[test]
fn a_part_whose_column_is_not_in_the_list_is_none() {
    assert_eq!(
        told(&[
            delete("a", 1, "QX", "1"),
            agent_of("a", "QX", "ann", "bob", "test"),
            agent_of("a", "QX", "bob", "cat", "airport"),
            insert("a", 3, "QX", "3"),
        ]),
        [r#"Rebooked QX {"from":"1","to":"3","agent":"cat","was":"bob"}"#]
    );
}

#[test]
fn null_never_groups_and_what_is_unavailable_is_set_aside() {
    let row = |id: u8, pnr: &str| format!("before = {{ id = {id}, {pnr}seat = \"1\" }}");
    assert_eq!(
        told(&[
            change("a", "segment", "delete", &row(1, "pnr = { null = true }, ")),
            change("a", "segment", "delete", &row(2, "")),
            insert("a", 3, "QX", "3"),
        ]),
        [
            r#"Cancelled 1 {"seat":"1"}"#,
            r#"Cancelled 2 {"seat":"1"}"#,
            "Rebooked 2 before.pnr is unavailable: the source did not send it",
            r#"Booked 3 {"seat":"3"}"#,
        ]
    );
}

#[test]
fn rows_whose_event_is_not_made_are_told_by_their_own_rules() {
    assert_eq!(
        told(&[delete("a", 1, "QX", "12A"), insert("a", 2, "QX", "12A")]),
        [
            r#"Cancelled 1 {"seat":"12A"}"#,
            r#"Booked 2 {"seat":"12A"}"#
        ]
    );
}
