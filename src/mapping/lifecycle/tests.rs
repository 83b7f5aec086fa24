//! Lifecycles at work on the small table of [`crate::mapping::tests`].

use rowbridge_api::{Op, OpSet};

use crate::mapping::tests::C::{Gone, Null, V};
use crate::mapping::tests::{Bench, C, HEAD, pack, with};
use crate::mapping::{Mapping, Outcome};

const TRIP: &str = r#"
[lifecycle.trip]
table  = "segment"
state  = "status"
start  = ["OPEN", "HELD"]
silent = [["BOARDED", "CHECKED_IN"]]
"#;

const EVENTS: &str = r#"
[defaults.segment]
topic = "inventory"
[[event]]
type = "Opened"
table = "segment"
transition = { of = "trip", to = "OPEN" }
[[event]]
type = "CheckedIn"
table = "segment"
when = "$.after.seat_no != null"
transition = { of = "trip", from = "OPEN", to = "CHECKED_IN" }
[[event]]
type = "Left"
table = "segment"
transition = { of = "trip", from = ["OPEN", "CHECKED_IN"], to = ["BOARDED", "FLOWN"] }
[[event]]
type = "FareChanged"
table = "segment"
changed = ["fare"]
"#;

const NOTHING: &[&str] = &[];

fn bench() -> Bench {
    Bench::new(&format!("{TRIP}{EVENTS}"))
}

fn status<'a>(state: C<'a>) -> Vec<(&'a str, C<'a>)> {
    with(&[("status", state)])
}

fn update(bench: &mut Bench, before: C<'_>, after: C<'_>) -> Vec<String> {
    bench.run(Op::Update, Some(&status(before)), Some(&status(after)))
}

fn insert(bench: &mut Bench, state: C<'_>) -> Vec<String> {
    bench.run(Op::Insert, None, Some(&status(state)))
}

#[test]
fn a_declared_transition_fires_its_event_and_no_other() {
    let bench = &mut bench();
    assert_eq!(insert(bench, V("OPEN")), ["Opened 7 {}"]);
    assert_eq!(insert(bench, V("HELD")), NOTHING);
    assert_eq!(
        update(bench, V("OPEN"), V("CHECKED_IN")),
        ["CheckedIn 7 {}"]
    );
    for (from, to) in [
        ("OPEN", "BOARDED"),
        ("OPEN", "FLOWN"),
        ("CHECKED_IN", "BOARDED"),
        ("CHECKED_IN", "FLOWN"),
    ] {
        assert_eq!(update(bench, V(from), V(to)), ["Left 7 {}"], "{from} {to}");
    }
}

#[test]
fn silent_transitions_and_those_whose_when_is_false_give_nothing() {
    let bench = &mut bench();
    assert_eq!(update(bench, V("BOARDED"), V("CHECKED_IN")), NOTHING);
    let seatless = with(&[("status", V("CHECKED_IN")), ("seat_no", Null)]);
    let before = status(V("OPEN"));
    assert_eq!(
        bench.run(Op::Update, Some(&before), Some(&seatless)),
        NOTHING
    );
}

#[test]
fn an_illegal_transition_is_set_aside_once_and_the_other_events_go_out() {
    let bench = &mut bench();
    let before = status(V("FLOWN"));
    let after = with(&[("status", V("OPEN")), ("fare", V("5.00"))]);
    assert_eq!(
        bench.run(Op::Update, Some(&before), Some(&after)),
        [
            "quarantine 7: lifecycle trip: FLOWN to OPEN is not declared",
            "FareChanged 7 {}"
        ]
    );
    assert_eq!(
        insert(bench, V("FLOWN")),
        ["quarantine 7: lifecycle trip: created as FLOWN, which is not in `start`"]
    );
    assert_eq!(
        update(bench, V("OPEN"), V("LOST")),
        ["quarantine 7: lifecycle trip: OPEN to LOST is not declared"]
    );
    assert_eq!(
        update(bench, V("LOST"), V("OPEN")),
        ["quarantine 7: lifecycle trip: LOST to OPEN is not declared"]
    );
    let long = "é".repeat(70);
    let cut = "é".repeat(60);
    assert_eq!(
        insert(bench, V(&long)),
        [format!(
            "quarantine 7: lifecycle trip: created as {cut}…, which is not in `start`"
        )]
    );
}

#[test]
fn the_quarantine_record_names_the_lifecycle_as_its_rule() {
    let mut bench = bench();
    let before = status(V("FLOWN"));
    let (batch, change, tx) = bench.change(Op::Update, Some(&before), Some(&status(V("OPEN"))));
    let mut out = crate::event::EncodedBatch::default();
    bench
        .evaluator
        .change(&batch, &tx, &change, &mut out)
        .unwrap();
    let [record] = &out.records[..] else {
        panic!("one record");
    };
    let rules = bench.evaluator.mapping().rules();
    assert_eq!(rules[usize::from(record.rule)], "lifecycle trip");
    let json: serde_json::Value = serde_json::from_slice(out.bytes(record.value.unwrap())).unwrap();
    assert_eq!(json["rule"], "lifecycle trip");
    assert_eq!(json["after"]["status"], "OPEN");
}

#[test]
fn the_same_state_and_the_end_of_a_row_are_no_transition() {
    let bench = &mut bench();
    assert_eq!(update(bench, V("FLOWN"), V("FLOWN")), NOTHING);
    assert_eq!(update(bench, V("LOST"), V("LOST")), NOTHING);
    assert_eq!(update(bench, V("FLOWN"), Gone), NOTHING, "unchanged TOAST");
    let row = status(V("CHECKED_IN"));
    assert_eq!(bench.run(Op::Delete, Some(&row), None), NOTHING);
    assert_eq!(bench.run(Op::Truncate, None, None), NOTHING);
}

#[test]
fn null_is_no_state() {
    let bench = &mut bench();
    assert_eq!(insert(bench, Null), NOTHING);
    assert_eq!(update(bench, Null, Null), NOTHING);
    assert_eq!(update(bench, Null, V("OPEN")), ["Opened 7 {}"]);
    assert_eq!(
        update(bench, Null, V("FLOWN")),
        ["quarantine 7: lifecycle trip: created as FLOWN, which is not in `start`"]
    );
    assert_eq!(update(bench, V("CHECKED_IN"), Null), NOTHING);
}

#[test]
fn a_state_that_the_source_did_not_send_is_an_error() {
    let bench = &mut bench();
    let error = "quarantine 7: before.status is unavailable: the source did not send it";
    // The lifecycle, and the two rules that wait for a transition from some state, and the one for creation.
    assert_eq!(update(bench, Gone, V("OPEN")), [error; 4]);
    let stopping = HEAD.replace("\"quarantine\"", "\"stop\"");
    let bench = &mut Bench::of(&format!("{stopping}{TRIP}{EVENTS}"));
    assert_eq!(
        update(bench, Gone, V("OPEN")),
        [
            "stop: lifecycle trip (mapping.toml line 14) cannot follow update of public.segments number 3 in \
             transaction 16/B374D848: before.status is unavailable: the source did not send it"
        ]
    );
}

#[test]
fn rows_that_were_there_take_their_state_unchecked() {
    let bench = &mut bench();
    for state in ["OPEN", "FLOWN", "LOST"] {
        let row = status(V(state));
        assert_eq!(bench.run(Op::Read, None, Some(&row)), NOTHING, "{state}");
    }
    let reading = EVENTS.replacen("transition", "on = [\"insert\", \"read\"]\ntransition", 1);
    let bench = &mut Bench::new(&format!("{TRIP}{reading}"));
    let row = status(V("OPEN"));
    assert_eq!(bench.run(Op::Read, None, Some(&row)), ["Opened 7 {}"]);
    let row = status(V("FLOWN"));
    assert_eq!(bench.run(Op::Read, None, Some(&row)), NOTHING);
}

#[test]
fn illegal_transitions_may_stop_or_be_ignored() {
    let rules = |illegal: &str| format!("{TRIP}illegal = \"{illegal}\"\n{EVENTS}");
    let bench = &mut Bench::new(&rules("ignore"));
    assert_eq!(update(bench, V("FLOWN"), V("OPEN")), NOTHING);
    let bench = &mut Bench::new(&rules("stop"));
    let place = "lifecycle trip (mapping.toml line 14) forbids update of public.segments number 3 in transaction \
                 16/B374D848";
    assert_eq!(
        update(bench, V("FLOWN"), V("OPEN")),
        [format!("stop: {place}: FLOWN to OPEN is not declared")]
    );
    // What goes to the log never holds a value of the row.
    assert_eq!(
        update(bench, V("OPEN"), V("secret")),
        [format!(
            "stop: {place}: OPEN to a state that the mapping does not name is not declared"
        )]
    );
}

#[test]
fn only_says_whose_transitions_are_checked() {
    let only = TRIP.replace("silent", "only = { pnr = \"channels\" }\nsilent");
    let bench = &mut Bench::new(&format!("{only}{EVENTS}"));
    assert_eq!(update(bench, V("FLOWN"), V("OPEN")), NOTHING);
    let row = |state| with(&[("status", V(state)), ("pnr", V("web"))]);
    assert_eq!(
        bench.run(Op::Update, Some(&row("FLOWN")), Some(&row("OPEN"))),
        ["quarantine 7: lifecycle trip: FLOWN to OPEN is not declared"]
    );
}

#[test]
fn a_state_may_be_a_number_or_inside_a_document() {
    let numbers =
        "[lifecycle.n]\ntable = \"segment\"\nstate = \"id\"\nstart = [1]\nsilent = [[1, 2]]\n";
    let bench = &mut Bench::new(numbers);
    let row = |id| with(&[("id", V(id))]);
    assert_eq!(
        bench.run(Op::Update, Some(&row("1")), Some(&row("02"))),
        NOTHING
    );
    assert_eq!(
        bench.run(Op::Update, Some(&row("2")), Some(&row("1"))),
        ["quarantine 1: lifecycle n: 2 to 1 is not declared"]
    );
    let inside = "[lifecycle.n]\ntable = \"segment\"\nstate = \"attrs.s\"\nstart = [\"a\"]\nsilent = [[\"a\", \"b\"]]\n";
    let bench = &mut Bench::new(inside);
    let row = |attrs| with(&[("attrs", V(attrs))]);
    let (a, b) = (row("{\"s\": \"a\"}"), row("{\"s\": \"b\"}"));
    assert_eq!(bench.run(Op::Update, Some(&a), Some(&b)), NOTHING);
    assert_eq!(
        bench.run(Op::Update, Some(&b), Some(&a)),
        ["quarantine 7: lifecycle n: b to a is not declared"]
    );
    assert_eq!(bench.run(Op::Update, Some(&b), Some(&row("{}"))), NOTHING);
}

#[test]
fn blanks_at_the_end_of_a_char_do_not_count() {
    let cabins = "[lifecycle.c]\ntable = \"segment\"\nstate = \"cabin\"\nstart = [\"Y\"]\nsilent = [[\"Y\", \"J\"]]\n";
    let bench = &mut Bench::new(cabins);
    let row = |cabin| with(&[("cabin", V(cabin))]);
    assert_eq!(
        bench.run(Op::Update, Some(&row("Y  ")), Some(&row("J  "))),
        NOTHING
    );
    assert_eq!(
        bench.run(Op::Update, Some(&row("J  ")), Some(&row("Y  "))),
        ["quarantine 7: lifecycle c: J   to Y   is not declared"]
    );
}

#[test]
fn the_source_is_asked_for_the_state_before() {
    let alone = format!("{HEAD}{TRIP}");
    let (mapping, _) = Mapping::compile(&pack(&alone)).unwrap();
    let [needs] = mapping.needs() else {
        panic!("one table");
    };
    let ops: OpSet = [Op::Insert, Op::Update].into_iter().collect();
    assert_eq!(needs.ops, ops);
    let state = needs.columns.iter().find(|need| need.name == "status");
    let state = state.unwrap();
    assert!(state.before);
    assert_eq!(state.rules, ["lifecycle trip"]);
    assert_eq!(mapping.line(0), Some(14));
}

#[test]
fn explanations_say_why_a_transition_fired_or_not() {
    let mut bench = bench();
    let mut explained = |before, after| {
        let (before, after) = (status(before), status(after));
        let (batch, change, tx) = bench.change(Op::Update, Some(&before), Some(&after));
        let outcomes = bench.evaluator.explain(&batch, &tx, &change).unwrap();
        let lines = outcomes.iter().map(|outcome| {
            let name = &outcome.event_type;
            match &outcome.outcome {
                Outcome::Fired(_) => format!("{name} fired"),
                Outcome::Passed(why) => format!("{name} passed: {why}"),
                Outcome::NotFired(why) => format!("{name} not: {why}"),
                Outcome::Quarantined(why) => format!("{name} quarantined: {why}"),
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(explained(V("OPEN"), V("CHECKED_IN")), @"
    lifecycle trip passed: OPEN to CHECKED_IN
    Opened not: transition: OPEN to CHECKED_IN, rule wants created as OPEN
    CheckedIn fired
    Left not: transition: OPEN to CHECKED_IN, rule wants OPEN or CHECKED_IN to BOARDED or FLOWN
    FareChanged not: changed: fare is the same
    ");
    insta::assert_snapshot!(explained(V("OPEN"), V("secret")), @"
    lifecycle trip quarantined: OPEN to a state that the mapping does not name is not declared
    Opened not: transition: OPEN to a state that the mapping does not name, rule wants created as OPEN
    CheckedIn not: transition: OPEN to a state that the mapping does not name, rule wants OPEN to CHECKED_IN
    Left not: transition: OPEN to a state that the mapping does not name, rule wants OPEN or CHECKED_IN to BOARDED or FLOWN
    FareChanged not: changed: fare is the same
    ");
    insta::assert_snapshot!(explained(V("OPEN"), V("OPEN")), @"
    lifecycle trip passed: status is the same
    Opened not: transition: status is the same, rule wants created as OPEN
    CheckedIn not: transition: status is the same, rule wants OPEN to CHECKED_IN
    Left not: transition: status is the same, rule wants OPEN or CHECKED_IN to BOARDED or FLOWN
    FareChanged not: changed: fare is the same
    ");
    insta::assert_snapshot!(explained(V("OPEN"), Null), @"
    lifecycle trip passed: status is null
    Opened not: transition: status is null, rule wants created as OPEN
    CheckedIn not: transition: status is null, rule wants OPEN to CHECKED_IN
    Left not: transition: status is null, rule wants OPEN or CHECKED_IN to BOARDED or FLOWN
    FareChanged not: changed: fare is the same
    ");
}
