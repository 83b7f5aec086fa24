//! What is classed leaves protected or not at all, by every way out of the small table of [`crate::mapping::tests`].

use rowbridge_api::{Batch, Item, Op};

use super::{Class, HashKey};
use crate::mapping::change_json::{ChangeReader, Tables};
use crate::mapping::tests::C::{Null, V};
use crate::mapping::tests::{Bench, C, HEAD, pack, with};
use crate::mapping::{Mapping, Outcome};

const EVENT: &str = "[[event]]\ntype = \"E\"\ntable = \"segment\"\ntopic = \"inventory\"\n";

/// HMAC-SHA-256 of `QX4RTZ` under the published key, as Python's `hmac` computes it.
const HASHED_PNR: &str = "test:8Sgvkazj6RAUNTDb21q0mZIB5gcpvgOinqWbTfeOxeo";

fn classes(columns: &str, rest: &str) -> String {
    format!("[privacy]\ncolumns = {{ {columns} }}\n{EVENT}{rest}\n")
}

fn insert(rules: &str, row: &[(&str, C<'_>)]) -> Vec<String> {
    Bench::new(rules).run(Op::Insert, None, Some(&with(row)))
}

#[test]
fn each_class_makes_text_of_a_value_and_null_stays_null() {
    let rules = classes(
        r#""segment.pnr" = "hash", "segment.flight_no" = "mask", "segment.fare" = "truncate(2)", "segment.status" = "clear", "segment.seat_no" = "hash""#,
        r#"data = { pnr = "$.row.pnr", flight = "$.row.flight_no", fare = { path = "$.row.fare", as = "string" }, status = "$.row.status", seat = { path = "$.row.seat_no", default = "none" } }"#,
    );
    assert_eq!(
        insert(&rules, &[("flight_no", V("Zür\"1")), ("seat_no", Null)]),
        [format!(
            r#"E 7 {{"pnr":"{HASHED_PNR}","flight":"*****","fare":"12","status":"OPEN","seat":"none"}}"#
        )]
    );
}

#[test]
fn a_truncation_keeps_whole_characters() {
    let mut text = "Zürich".as_bytes().to_vec();
    Class::Truncate(2)
        .protect_since(0, None, &mut text)
        .unwrap();
    assert_eq!(text, "Zü".as_bytes());
    Class::Truncate(9)
        .protect_since(0, None, &mut text)
        .unwrap();
    assert_eq!(text, "Zü".as_bytes());
}

#[test]
fn the_strictest_class_wins() {
    let in_order = [
        "clear",
        "truncate(9)",
        "truncate(2)",
        "mask",
        "hash",
        "drop",
    ];
    let in_order = in_order.map(|word| Class::parse(word).unwrap());
    for (index, stricter) in in_order.into_iter().enumerate() {
        for looser in &in_order[..index] {
            assert!(looser.is_looser_than(stricter), "{looser} {stricter}");
            assert_eq!(looser.or_stricter(stricter), stricter);
            assert_eq!(stricter.or_stricter(*looser), stricter);
        }
    }
}

#[test]
fn keys_subjects_and_headers_are_protected_too() {
    let rules = classes(
        r#""segment.pnr" = "hash", "segment.id" = "hash""#,
        "key = \"{pnr}\"\nsubject = \"{pnr}/{$.row.id}\"\ncorrelation = \"{pnr}\"\nheaders = { booking = \"$.row.pnr\", both = { template = \"p{pnr}\", privacy = \"mask\" } }",
    );
    let row = with(&[("pnr", V("QX4RTZ")), ("id", V("7700077"))]);
    let published = Bench::new(&rules).published(Op::Insert, None, Some(&row));
    assert!(published.starts_with(HASHED_PNR), "{published}");
    assert_eq!(published.matches(HASHED_PNR).count(), 4, "{published}");
    assert!(published.contains(&"*".repeat(49)), "{published}");
    assert!(!published.contains("QX4RTZ") && !published.contains("7700077"));
    // The table's own key, which is the default, and what it is in a structured event.
    let rules = classes(r#""segment.id" = "hash""#, "");
    assert!(insert(&rules, &[])[0].starts_with("E test:"));
}

#[test]
fn what_is_classed_inside_a_document_is_protected_there() {
    let attrs =
        V(r#"{"guests": [{"email": "ada@example.com", "n": 1}, {"email": null}], "email": "x"}"#);
    let rules = classes(
        r#""segment.attrs.guests.email" = "mask", "segment.attrs.email" = "drop", "segment.attrs.guests.n" = "truncate(1)""#,
        r#"data = { all = "$.row.attrs", guest = "$.row.attrs.guests[0]", one = "$.row.attrs.guests[0].email", no = "$.row.attrs.guests[1].email", every = "$.row.attrs..email", text = { template = "{attrs}" } }"#,
    );
    let guests = r#"[{"email":"***************","n":"1"},{"email":null}]"#;
    let text = format!("{{\"guests\":{guests}}}").replace('"', "\\\"");
    assert_eq!(
        insert(&rules, &[("attrs", attrs)]),
        [format!(
            r#"E 7 {{"all":{{"guests":{guests}}},"guest":{{"email":"***************","n":"1"}},"one":"***************","no":null,"every":["***************",null],"text":"{text}"}}"#
        )]
    );
}

#[test]
fn a_place_in_a_classed_document_has_the_strictest_class_of_both() {
    let rules = classes(
        r#""segment.attrs" = "truncate(3)", "segment.attrs.email" = "mask", "segment.address" = "mask""#,
        r#"data = { all = "$.row.attrs", n = "$.row.attrs.n", email = "$.row.attrs.email", city = "$.row.address.city" }"#,
    );
    let row = [
        ("attrs", V(r#"{"email": "ada", "n": 12345}"#)),
        ("address", V("(Paris,75001,)")),
    ];
    // What is inside is protected first: {"e.. and not more of it.
    assert_eq!(
        insert(&rules, &row),
        [r#"E 7 {"all":"{\"e","n":"123","email":"***","city":"*****"}"#]
    );
}

#[test]
fn an_event_tightens_what_it_publishes() {
    let rules = classes(
        r#""segment.pnr" = "truncate(4)""#,
        r#"data = { pnr = { path = "$.row.pnr", privacy = "hash" }, seat = { path = "$.row.seat_no", privacy = "truncate(1)" }, first = { coalesce = ["$.row.seat_no", "$.row.pnr"], privacy = "mask" }, both = { template = "{seat_no}-{pnr}", privacy = "mask" }, quoted = { template = "\"{seat_no}\"", privacy = "truncate(3)" }, change = { delta = "fare", privacy = "mask" }, fare = { path = "$.row.fare", privacy = "drop" }, kind = { map = "$.row.status", with = { OPEN = "open" }, privacy = "mask" } }"#,
    );
    assert_eq!(
        insert(&rules, &[]),
        [format!(
            r#"E 7 {{"pnr":"{HASHED_PNR}","seat":"1","first":"***","both":"********","quoted":"\"12","change":null,"kind":"****"}}"#
        )]
    );
}

#[test]
fn conditions_read_what_the_source_sent() {
    let rules = classes(
        r#""segment.pnr" = "hash", "segment.seat_no" = "drop""#,
        "changed = [\"seat_no\"]\nwhen = \"$.after.pnr == 'QX4RTZ' && $.after.seat_no == '14C'\"\n[[event.check]]\nassert = \"length($.after.pnr) == 6\"",
    );
    let (before, after) = (with(&[]), with(&[("seat_no", V("14C"))]));
    let made = Bench::new(&rules).run(Op::Update, Some(&before), Some(&after));
    assert_eq!(made, ["E 7 {}"]);
}

/// The canary: two marked values, and every way out.
#[test]
fn a_marked_value_is_found_nowhere() {
    let classes =
        r#""segment.seat_no" = "drop", "segment.pnr" = "hash", "segment.attrs.passport" = "drop""#;
    let events = r#"key = "{pnr}"
headers = { booking = "$.row.pnr" }
[event.data]
pnr = "$.row.pnr"
attrs = "$.row.attrs"
fare = { path = "$.row.fare", as = "integer" }
[[event.check]]
assert = "$.row.seat_no == 'nobody'"
[[event]]
type = "F"
table = "segment"
topic = "inventory"
data = { pnr = "$.row.pnr", tags = "$.row.tags" }
"#;
    let row = with(&[
        ("pnr", V("canary-email@example.com")),
        ("seat_no", V("canary-P4711")),
        ("attrs", V(r#"{"passport": "canary-P4711", "n": 1}"#)),
        ("flight_no", V("canary-unread")),
        ("fare", V("1.50")),
    ]);
    let mut bench = Bench::new(&self::classes(classes, events));
    for (op, before, after) in [
        (Op::Insert, None, Some(&row)),
        (Op::Update, Some(&row), Some(&row)),
        (Op::Delete, Some(&row), None),
    ] {
        let before = before.map(|row: &Vec<_>| row.as_slice());
        let after = after.map(|row: &Vec<_>| row.as_slice());
        let published = bench.published(op, before, after);
        assert!(published.contains("check failed"), "{published}");
        assert!(!published.contains("canary"), "{published}");
        assert!(published.contains("test:"), "{published}");
        let (batch, change, tx) = bench.change(op, before, after);
        let explained = bench.evaluator.explain(&batch, &tx, &change).unwrap();
        assert!(!format!("{explained:?}").contains("canary"));
    }
}

/// The one quarantine record that a change gives.
fn set_aside(rules: &str, row: &[(&str, C<'_>)]) -> serde_json::Value {
    let mut bench = Bench::new(rules);
    let published = bench.published(Op::Insert, None, Some(&with(row)));
    let start = published.find("{\"op\"").unwrap();
    serde_json::from_str(&published[start..]).unwrap()
}

fn failing(privacy: &str) -> String {
    let data = "data = { pnr = \"$.row.pnr\" }\n";
    format!("{privacy}{EVENT}{data}[[event.check]]\nassert = \"$.row.fare == 0\"\n")
}

#[test]
fn a_row_that_is_set_aside_shows_what_rules_read() {
    let hashed = "[privacy]\ncolumns = { \"segment.pnr\" = \"hash\" }\n";
    let record = set_aside(&failing(hashed), &[]);
    assert_eq!(
        record["after"],
        serde_json::json!({"id": 7, "pnr": HASHED_PNR, "fare": "120.00"})
    );
    assert_eq!(record["protected"], serde_json::json!(["after.pnr"]));
    assert_eq!(record["key"], serde_json::json!({"id": 7}));
    // `allow` shows the others too, and what is classed protected all the same.
    let allowed = hashed.replace("columns", "default = \"allow\"\ncolumns");
    let record = set_aside(&failing(&allowed), &[]);
    assert_eq!(record["after"]["seat_no"], "12A");
    assert_eq!(record["after"]["pnr"], HASHED_PNR);
    // Without [privacy] nothing is hidden, but what an event itself protects.
    let record = set_aside(&failing(""), &[]);
    assert_eq!(record["after"]["pnr"], "QX4RTZ");
    let own = failing("").replace(
        "\"$.row.pnr\"",
        "{ path = \"$.row.pnr\", privacy = \"mask\" }",
    );
    assert_eq!(set_aside(&own, &[])["after"]["pnr"], "******");
}

#[test]
fn a_broken_value_of_a_protected_column_is_left_out() {
    let privacy = "[privacy]\ncolumns = { \"segment.attrs.email\" = \"mask\", \"segment.updated_at\" = \"hash\" }\n";
    let rules = failing(privacy).replace(
        "pnr = ",
        "at = \"$.row.updated_at\", attrs = \"$.row.attrs\", pnr = ",
    );
    let row = [
        ("attrs", V("{\"email\": \"canary\"")),
        ("updated_at", V("canary")),
    ];
    let record = set_aside(&rules, &row);
    assert!(!record.to_string().contains("canary"), "{record}");
    assert_eq!(record.get("invalid"), None);
    let unavailable = record["unavailable"].to_string();
    assert!(unavailable.contains("after.attrs") && unavailable.contains("after.updated_at"));
}

#[test]
fn a_protected_record_is_read_again_and_not_hashed_twice() {
    let privacy = "[privacy]\ncolumns = { \"segment.pnr\" = \"hash\", \"segment.id\" = \"mask\", \"segment.attrs.n\" = \"mask\" }\n";
    let rules = failing(privacy).replace("pnr = ", "attrs = \"$.row.attrs\", pnr = ");
    let record = set_aside(&rules, &[]);
    assert_eq!(record["after"]["id"], "*");
    let text = format!("{HEAD}{rules}").replace("== 0", "> 0");
    let compiled = Mapping::compile(&pack(&text)).unwrap().0;
    let tables = std::sync::Arc::new(Tables::of(&compiled));
    let mut batch = Batch::default();
    let mut reader = ChangeReader::new(tables);
    reader.line(&record.to_string(), &mut batch).unwrap();
    reader.end(&mut batch);
    let change = batch.items.iter().find_map(|item| match item {
        Item::Change(change) => Some(*change),
        _ => None,
    });
    let row = batch.after(&change.unwrap()).unwrap();
    // A number cannot be `*`: what it was is not known any more.
    assert_eq!(row.cell(0), rowbridge_api::Cell::Unavailable);
    assert_eq!(
        row.cell(1),
        rowbridge_api::Cell::Value(HASHED_PNR.as_bytes())
    );
    for (key, hashed_again) in [
        (HashKey::published(), true),
        (HashKey::published().for_protected_input(), false),
    ] {
        let mut text = HASHED_PNR.as_bytes().to_vec();
        key.hash_since(0, &mut text);
        assert_eq!(text != HASHED_PNR.as_bytes(), hashed_again);
    }
}

#[test]
fn a_lifecycle_of_a_protected_state_names_none() {
    let lifecycle = "[lifecycle.trip]\ntable = \"segment\"\nstate = \"status\"\nstart = [\"OPEN\"]\nsilent = [[\"OPEN\", \"FLOWN\"]]\n";
    let rules = classes(r#""segment.status" = "drop""#, "changed = [\"fare\"]");
    let mut bench = Bench::new(&format!("{lifecycle}{rules}"));
    let (before, after) = (
        with(&[("status", V("FLOWN"))]),
        with(&[("status", V("canary"))]),
    );
    let published = bench.published(Op::Update, Some(&before), Some(&after));
    assert!(
        published.contains("a protected state to a protected state is not declared"),
        "{published}"
    );
    assert!(!published.contains("canary") && !published.contains("FLOWN"));
    let (batch, change, tx) = bench.change(Op::Update, Some(&before), Some(&after));
    let explained = bench.evaluator.explain(&batch, &tx, &change).unwrap();
    assert!(matches!(
        &explained[0].outcome,
        Outcome::Quarantined(why) if !why.contains("FLOWN")
    ));
}

#[test]
fn without_a_key_a_hash_is_a_bad_record_and_never_the_value() {
    let rules = classes(
        r#""segment.pnr" = "hash""#,
        "data = { pnr = \"$.row.pnr\" }",
    );
    let mapping = Mapping::compile(&pack(&format!("{HEAD}{rules}")))
        .unwrap()
        .0;
    assert_eq!(mapping.hashed(), ["segment.pnr"]);
    let mut bench = Bench::new(&rules);
    let stamp = bench.evaluator.parts().0.stamp().clone();
    let shape = std::sync::Arc::new(mapping.shape("segment").unwrap());
    bench.evaluator = crate::mapping::Evaluator::new(std::sync::Arc::new(mapping), stamp);
    bench
        .evaluator
        .bind(&shape, &rowbridge_api::Position::new(1))
        .unwrap();
    let published = bench.published(Op::Insert, None, Some(&with(&[])));
    assert!(
        published.contains("after.pnr is to be hashed, and there is no key"),
        "{published}"
    );
    assert!(!published.contains("QX4RTZ"), "{published}");
}

#[test]
fn a_key_prints_as_its_id_and_is_long_enough() {
    let secret = "0123456789abcdef0123456789abcdef";
    let key = HashKey::new("2026a", secret.as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "HashKey { id: \"2026a\", .. }");
    assert!(HashKey::new("2026a", b"too short").is_err());
    for id in ["", "a:b", "seventeen letters", "ü"] {
        assert!(HashKey::new(id, secret.as_bytes()).is_err(), "{id}");
    }
}
