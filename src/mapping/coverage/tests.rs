//! Every kind of point, what comes by it, and what does not.

use std::sync::Arc;

use super::*;
use crate::mapping::SourceFile;
use crate::mapping::cases::Case;
use crate::mapping::change_json::Tables;
use crate::paint::Look;

const MAPPING: &str = r#"[mapping]
name = "t"
version = 1
on_error = "quarantine"
[params]
channels = ["web"]
[tables]
ticket = "public.tickets"
[topics.tickets]
name = "tickets"
[lifecycle.sale]
table = "ticket"
state = "status"
start = ["HELD"]
silent = [["PAID", "HELD"]]
only = { channel = "channels" }
[defaults.ticket]
topic = "tickets"
when = "$.row.fare != 0"
[[event]]
type = "Sold"
table = "ticket"
transition = { of = "sale", from = "HELD", to = "PAID" }
[event.data]
class = { map = "$.row.class", with = { Y = "economy", J = "business" }, else = "error" }
[[event]]
type = "Changed"
table = "ticket"
changed = ["fare", "class"]
only = { channel = "channels" }
when = "$.before.fare != 5"
subject = "{class}"
[event.data]
fare = { path = "$.row.fare", default = 0 }
name = { coalesce = ["$.after.class", "$.before.class"], default = "none" }
kind = { map = "$.op", with = { update = "u" } }
[[event.check]]
assert = "$.after.fare > 0"
message = "no fare"
"#;

const SCHEMA: &str = r#"[ticket]
key = ["id"]
[ticket.columns]
id = "int8"
fare = "int4"
class = "text"
status = "text"
channel = "text"
note = "text"
"#;

/// What the cases, each with these changes, leave out: line and what is missing.
fn missing(cases: &[&str]) -> Vec<(usize, String)> {
    let coverage = coverage(cases);
    let missing = coverage.missing();
    missing
        .map(|point| (point.line, point.missing.clone()))
        .collect()
}

fn coverage(cases: &[&str]) -> Coverage {
    let file = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let pack = Pack {
        mapping: file("mapping.toml", MAPPING),
        schema: file("schema.toml", SCHEMA),
        params: toml::Table::new(),
    };
    let (mapping, _) =
        Mapping::compile(&pack).unwrap_or_else(|wrong| panic!("{}", wrong.render(Look::PLAIN)));
    let mapping = Arc::new(mapping);
    let tables = Tables::of(&mapping);
    let mut seen = Seen::default();
    for given in cases {
        let case = file(
            "case.toml",
            &format!("name = \"c\"\nsilent = true\n{given}"),
        );
        let case = Case::parse(&case, &tables).unwrap();
        case.cover(&mapping, &tables, &mut seen);
    }
    Coverage::of(&mapping, &pack, seen)
}

fn row(fare: i32, class: &str, status: &str, channel: &str) -> String {
    let class = match class {
        "null" => "{ null = true }".to_owned(),
        class => format!("\"{class}\""),
    };
    format!(
        "{{ id = 1, fare = {fare}, class = {class}, status = \"{status}\", channel = \"{channel}\" }}"
    )
}

fn update(before: &str, after: &str) -> String {
    format!("[[given]]\ntable = \"ticket\"\nop = \"update\"\nbefore = {before}\nafter = {after}\n")
}

fn insert(after: &str) -> String {
    format!("[[given]]\ntable = \"ticket\"\nop = \"insert\"\nafter = {after}\n")
}

/// The points that one case comes by.
fn seen(case: &str) -> Vec<String> {
    let left = missing(&[case]);
    let all = missing(&[])
        .into_iter()
        .filter(|point| !left.contains(point));
    all.map(|(_, what)| what)
        .filter(|what| !what.ends_with("never has a value"))
        .collect()
}

#[test]
fn without_cases_every_point_is_missing_at_its_place() {
    let coverage = coverage(&[]);
    let lines = coverage.missing().map(|point| {
        format!(
            "{}:{} {}\n    {}",
            point.file, point.line, point.missing, point.wanted
        )
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    let share = |kind| coverage.share(kind).to_string();
    assert_eq!(
        [Kind::Rule, Kind::Branch, Kind::Transition, Kind::Column].map(share),
        ["0/2", "0/19", "0/4", "0/8"]
    );
}

#[test]
fn a_case_comes_by_what_its_changes_decide_and_nothing_else() {
    let (web, desk) = (row(7, "Y", "HELD", "web"), row(7, "Y", "HELD", "desk"));
    assert_eq!(
        seen(&update(&web, &row(7, "Y", "PAID", "web"))),
        [
            "Sold: `when` is never true",
            "Sold: never published",
            "lifecycle sale: HELD to PAID is never made",
            "Sold: field `class`: `map` never meets `Y`"
        ]
        .map(str::to_owned)
    );
    assert_eq!(
        seen(&update(&desk, &row(8, "Y", "HELD", "desk"))),
        [
            "Changed: `changed` never sees `fare` change",
            "Changed: `channel` is always in `channels`"
        ]
        .map(str::to_owned)
    );
}

#[test]
fn an_event_that_cannot_be_made_is_not_published_but_shows_its_branch() {
    let unlisted = update(&row(7, "F", "HELD", "web"), &row(7, "F", "PAID", "web"));
    assert!(
        seen(&unlisted)
            .iter()
            .any(|what| what == "Sold: field `class`: `map` never comes to `else`")
    );
    assert!(
        !seen(&unlisted)
            .iter()
            .any(|what| what == "Sold: never published")
    );
}

#[test]
fn an_event_whose_subject_is_missing_is_not_published_though_its_data_are_made() {
    let published = "Changed: never published".to_owned();
    let none = "Changed: field `name`: never takes its default".to_owned();
    let changed = |class| update(&row(7, class, "HELD", "web"), &row(8, class, "HELD", "web"));
    assert!(seen(&changed("Y")).contains(&published));
    let seen = seen(&changed("null"));
    assert!(
        seen.contains(&none) && !seen.contains(&published),
        "{seen:?}"
    );
}

#[test]
fn rows_of_the_first_start_are_not_created() {
    let created = "lifecycle sale: nothing is created as HELD".to_owned();
    let inserted = insert(&row(7, "Y", "HELD", "web"));
    assert!(seen(&inserted).contains(&created));
    assert!(!seen(&inserted.replace("insert", "read")).contains(&created));
}

#[test]
fn a_column_is_exercised_by_a_value_and_not_by_null() {
    let note = (11, "ticket.note: never has a value".to_owned());
    let null = insert("{ id = 1, note = { null = true } }");
    let value = insert("{ id = 1, note = \"x\" }");
    let line = |cases: &[&str]| missing(cases).into_iter().find(|(_, what)| *what == note.1);
    assert!(line(&[&null]).is_some());
    assert_eq!(line(&[&value]), None);
}
