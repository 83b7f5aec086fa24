//! `each` at work on the small table of [`crate::mapping::tests`].

use rowbridge_api::Op;

use crate::mapping::Outcome;
use crate::mapping::tests::C::{Gone, Null, V};
use crate::mapping::tests::{Bench, C, with};

const NOTHING: &[&str] = &[];

fn rule(rest: &str) -> String {
    format!("[[event]]\ntype = \"E\"\ntable = \"segment\"\ntopic = \"inventory\"\n{rest}\n")
}

fn insert(rules: &str, row: &[(&str, C<'_>)]) -> Vec<String> {
    Bench::new(rules).run(Op::Insert, None, Some(&with(row)))
}

#[test]
fn each_element_of_a_document_is_an_event() {
    let rules = rule(
        "each = \"$.after.attrs.parts\"\nkey = \"{pnr}/{$.item.id}\"\nheaders = { part = \"$.item.id\" }\ndata = { id = \"$.item.id\", price = { path = \"$.item.price\", as = \"decimal(6,2)\" }, none = \"$.item.none\", tags = \"$.item.tags[*].t\", all = \"$.item\" }",
    );
    let attrs = V(
        r#"{"parts": [{"id": "a", "price": 1.50, "tags": [{"t": 1}, {"t": 2}]}, {"id": "b", "price": 2.00}]}"#,
    );
    assert_eq!(
        insert(&rules, &[("attrs", attrs)]),
        [
            r#"E QX4RTZ/a {"id":"a","price":"1.50","none":null,"tags":[1,2],"all":{"id":"a","price":1.50,"tags":[{"t":1},{"t":2}]}}"#,
            r#"E QX4RTZ/b {"id":"b","price":"2.00","none":null,"tags":[],"all":{"id":"b","price":2.00}}"#,
        ]
    );
}

#[test]
fn conditions_and_checks_are_asked_of_each_element() {
    let rules = rule(
        "each = \"$.row.tags\"\nwhen = \"$.item != 'b' && match($.item, '[a-d]') && length($.item) == 1\"\ndata = { tag = \"$.item\" }\n[[event.check]]\nassert = \"$.item < 'c'\"",
    );
    assert_eq!(
        insert(&rules, &[("tags", V("{a,b,NULL,c,\"d e\"}"))]),
        [
            r#"E 7 {"tag":"a"}"#,
            "quarantine 7: check failed: $.item < 'c'",
        ]
    );
    let all = rule("each = \"$.row.tags\"\ndata = { tag = \"$.item\" }");
    assert_eq!(
        insert(&all, &[("tags", V("{a,NULL}"))]),
        [r#"E 7 {"tag":"a"}"#, r#"E 7 {"tag":null}"#]
    );
}

#[test]
fn elements_compare_as_their_column_does() {
    let rules = rule(
        "each = \"$.row.address.lines\"\nwhen = \"$.item == 'x'\"\ndata = { line = \"$.item\" }",
    );
    let address = V(r#"(Paris,75001,"{x,y}")"#);
    assert_eq!(
        insert(&rules, &[("address", address)]),
        [r#"E 7 {"line":"x"}"#]
    );
}

#[test]
fn no_array_is_no_event_and_something_else_is_a_bad_record() {
    let rules = rule("each = \"$.after.attrs.parts\"");
    for attrs in [
        Null,
        V("{}"),
        V(r#"{"parts": null}"#),
        V(r#"{"parts": []}"#),
    ] {
        assert_eq!(insert(&rules, &[("attrs", attrs)]), NOTHING);
    }
    assert_eq!(
        insert(&rules, &[("attrs", V(r#"{"parts": {"id": 1}}"#))]),
        ["quarantine 7: after.attrs is not an array, and `each` wants one"]
    );
    assert_eq!(
        insert(&rules, &[("attrs", Gone)]),
        ["quarantine 7: after.attrs is unavailable: the source did not send it"]
    );
    let tags = rule("each = \"$.after.tags\"");
    assert_eq!(
        insert(&tags, &[("tags", V("[2:3]={a,b}"))]),
        ["quarantine 7: after.tags is an array with lower bounds of its own"]
    );
    // A delete has no image after.
    let row = with(&[]);
    assert_eq!(Bench::new(&tags).run(Op::Delete, Some(&row), None), NOTHING);
}

#[test]
fn an_array_is_not_read_where_the_row_keeps_the_rule_from_firing() {
    let rules = rule("each = \"$.after.attrs.parts\"\nchanged = [\"seat_no\"]");
    let broken = with(&[("attrs", V("{"))]);
    let made = Bench::new(&rules).run(Op::Update, Some(&broken), Some(&broken));
    assert_eq!(made, NOTHING);
}

#[test]
fn an_array_of_more_events_than_have_ids_is_a_bad_record() {
    let rules = rule("each = \"$.after.tags\"");
    let tags = |count: usize| format!("{{{}}}", vec!["a"; count].join(","));
    let most = usize::from(u16::MAX);
    let tags_of_one_more = tags(most + 1);
    let row = [("tags", V(&tags_of_one_more))];
    assert_eq!(
        insert(&rules, &row),
        ["quarantine 7: one change makes more than 65535 events"]
    );
    assert_eq!(insert(&rules, &[("tags", V(&tags(most)))]).len(), most);
}

#[test]
fn elements_have_ids_of_their_own_in_their_order() {
    let rules = rule("each = \"$.after.tags\"\ndata = { tag = \"$.item\" }");
    let row = with(&[]);
    let mut bench = Bench::new(&rules);
    let (batch, change, tx) = bench.change(Op::Insert, None, Some(&row));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut out = crate::event::EncodedBatch::default();
        bench
            .evaluator
            .change(&batch, &tx, &change, &mut out)
            .unwrap();
        for record in &out.records {
            // `ce_id` and `ce_sequence`, by their place in `EVENT_HEADERS`.
            let of_record =
                &out.headers[record.headers.start as usize..record.headers.end as usize];
            let header = |number: u16| {
                let found = of_record.iter().find(|(id, _)| id.0 == number).unwrap();
                String::from_utf8(out.bytes(found.1).to_vec()).unwrap()
            };
            ids.push((header(1), header(8)));
        }
    }
    assert_eq!(ids.len(), 4);
    assert_eq!(ids[..2], ids[2..], "the same on every run");
    assert_ne!(ids[0].0, ids[1].0);
    assert!(ids[0].1 < ids[1].1, "{ids:?}");
}

#[test]
fn elements_are_protected_as_the_column_they_are_in() {
    let classes = r#""segment.attrs.guests.email" = "hash", "segment.attrs.guests.passport" = "drop", "segment.tags" = "mask""#;
    let privacy = format!("[privacy]\ncolumns = {{ {classes} }}\n");
    let guests = rule(
        "each = \"$.after.attrs.guests\"\nkey = \"{$.item.email}\"\ndata = { all = \"$.item\", email = { path = \"$.item.email\", privacy = \"hash\" }, n = { path = \"$.item.n\", privacy = \"mask\" }, every = \"$.item..email\" }",
    );
    let tags = rule("each = \"$.after.tags\"\ndata = { tag = \"$.item\" }");
    let attrs = V(r#"{"guests": [{"email": "ada@example.com", "passport": "P123", "n": 12}]}"#);
    let hash = "test:xBdlytQ6XMQ15Q0l3g-xhrprbHxYsnvWvvmCfZxwMwA";
    assert_eq!(
        insert(&format!("{privacy}{guests}{tags}"), &[("attrs", attrs)]),
        [
            format!(
                r#"E {hash} {{"all":{{"email":"{hash}","n":12}},"email":"{hash}","n":"**","every":["{hash}"]}}"#
            ),
            r#"E 7 {"tag":"*"}"#.to_owned(),
            r#"E 7 {"tag":"*"}"#.to_owned(),
        ]
    );
}

#[test]
fn an_explanation_counts_the_elements() {
    let rules = rule("each = \"$.after.tags\"\nwhen = \"$.item != 'b'\"");
    let explain = |tags: C<'_>| {
        let mut bench = Bench::new(&rules);
        let row = with(&[("tags", tags)]);
        let (batch, change, tx) = bench.change(Op::Insert, None, Some(&row));
        let outcomes = bench.evaluator.explain(&batch, &tx, &change);
        outcomes.unwrap().remove(0).outcome
    };
    assert_eq!(explain(V("{a,b,c}")), Outcome::Fired(2));
    assert_eq!(
        explain(V("{b}")),
        Outcome::NotFired("when is false: $.item != 'b'".to_owned())
    );
    assert_eq!(
        explain(V("{}")),
        Outcome::NotFired("each: there are no elements".to_owned())
    );
}
