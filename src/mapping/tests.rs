//! Rules at work: a small table, its changes, and the records that come out.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Identity, Image, Op, Position, Shape, ShapeId, Transaction};

use super::*;
use crate::event::{EncodedBatch, TopicId};
use crate::paint::Look;

pub(super) const SCHEMA: &str = r#"
[segment]
key = ["id"]
[segment.columns]
id = "int8"
pnr = "text"
flight_no = "text"
departure_date = "date"
cabin = "char(3)"
seat_no = "text"
fare = "numeric(10,2)"
status = "text"
attrs = "jsonb"
tags = "text[]"
updated_at = "timestamptz"
address = "row(city text, zip int4, lines text[])"
extras = "hstore"
"#;

pub(super) const HEAD: &str = r#"
[mapping]
name = "t"
version = 1
on_error = "quarantine"
[params]
channels = ["web", "app"]
[tables]
segment = "public.segments"
[topics.inventory]
name = "travel.inventory"
partitions = 24
"#;

pub(super) fn pack(mapping: &str) -> Pack {
    Pack {
        mapping: SourceFile {
            name: "mapping.toml".to_owned(),
            text: mapping.to_owned(),
        },
        schema: SourceFile {
            name: "schema.toml".to_owned(),
            text: SCHEMA.to_owned(),
        },
        params: toml::Table::new(),
    }
}

/// One cell of a test row.
#[derive(Clone, Copy)]
pub(super) enum C<'a> {
    V(&'a str),
    Null,
    Gone,
}

pub(super) struct Bench {
    pub(super) evaluator: Evaluator,
    shape: Shape,
    limit: usize,
}

impl Bench {
    pub(super) fn new(rules: &str) -> Self {
        Self::with_limit(rules, 1_000_000)
    }

    fn with_limit(rules: &str, limit: usize) -> Self {
        Self::of_text(&format!("{HEAD}{rules}"), limit)
    }

    /// Of a whole `mapping.toml`.
    pub(super) fn of(mapping: &str) -> Self {
        Self::of_text(mapping, 1_000_000)
    }

    fn of_text(mapping: &str, limit: usize) -> Self {
        let pack = pack(mapping);
        let (mapping, _) =
            Mapping::compile(&pack).unwrap_or_else(|all| panic!("{}", all.render(Look::PLAIN)));
        let mapping = mapping.with_hash_key(HashKey::published());
        let shape = mapping.shape("segment").unwrap();
        let stamp = Stamp {
            pipeline: "airline".to_owned(),
            identity: Identity {
                source: "postgres/1/db".to_owned(),
                history: "1".to_owned(),
            },
            max_record_bytes: limit,
        };
        let mut evaluator = Evaluator::new(Arc::new(mapping), stamp);
        evaluator
            .bind(&Arc::new(shape.clone()), &Position::new(1))
            .unwrap();
        Self {
            evaluator,
            shape,
            limit,
        }
    }

    fn row(&self, batch: &mut Batch, cells: Option<&[(&str, C<'_>)]>) -> Image {
        let Some(cells) = cells else {
            return Image::Absent;
        };
        let first_cell = u32::try_from(batch.cells.len()).unwrap();
        for column in &self.shape.columns {
            match cells.iter().find(|(name, _)| *name == column.name) {
                Some((_, V(value))) => batch.push_value(value.as_bytes()),
                Some((_, Null)) => batch.cells.push(rowbridge_api::CellRange::NULL),
                Some((_, Gone)) | None => batch.cells.push(rowbridge_api::CellRange::UNAVAILABLE),
            }
        }
        Image::Row { first_cell }
    }

    pub(super) fn change(
        &self,
        op: Op,
        before: Option<&[(&str, C<'_>)]>,
        after: Option<&[(&str, C<'_>)]>,
    ) -> (Batch, Change, Transaction) {
        let mut batch = Batch::default();
        let before = self.row(&mut batch, before);
        let after = self.row(&mut batch, after);
        let change = Change {
            shape: ShapeId(0),
            op,
            before,
            after,
            width: u16::try_from(self.shape.columns.len()).unwrap(),
            ordinal: 3,
        };
        let tx = Transaction {
            id: 77,
            position: Position::new(0x16_B374_D848),
            commit_micros: 1_800_000_000_000_000,
        };
        (batch, change, tx)
    }

    /// Every byte that one change publishes: keys, headers and values, of events and quarantine records.
    pub(super) fn published(
        &mut self,
        op: Op,
        before: Option<&[(&str, C<'_>)]>,
        after: Option<&[(&str, C<'_>)]>,
    ) -> String {
        let (batch, change, tx) = self.change(op, before, after);
        let mut out = EncodedBatch::default();
        self.evaluator
            .change(&batch, &tx, &change, &mut out)
            .unwrap();
        String::from_utf8(out.buf).unwrap()
    }

    pub(super) fn run(
        &mut self,
        op: Op,
        before: Option<&[(&str, C<'_>)]>,
        after: Option<&[(&str, C<'_>)]>,
    ) -> Vec<String> {
        let (batch, change, tx) = self.change(op, before, after);
        let mut out = EncodedBatch::default();
        if let Err(stop) = self.evaluator.change(&batch, &tx, &change, &mut out) {
            return vec![format!("stop: {}", stop.problem)];
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        out.records
            .iter()
            .map(|record| {
                let key = record
                    .key
                    .map_or("-".to_owned(), |key| text(out.bytes(key)));
                let value = record
                    .value
                    .map_or("-".to_owned(), |value| text(out.bytes(value)));
                assert!(
                    record
                        .value
                        .is_none_or(|value| value.len as usize <= self.limit)
                );
                match record.topic {
                    TopicId::QUARANTINE => {
                        let json: serde_json::Value = serde_json::from_str(&value).unwrap();
                        format!("quarantine {key}: {}", json["error"].as_str().unwrap())
                    }
                    _ => {
                        let rule = &self.evaluator.mapping().rules()[usize::from(record.rule)];
                        format!("{rule} {key} {value}")
                    }
                }
            })
            .collect()
    }
}

use C::{Gone, Null, V};

const ROW: &[(&str, C<'_>)] = &[
    ("id", V("7")),
    ("pnr", V("QX4RTZ")),
    ("flight_no", V("BA117")),
    ("departure_date", V("2026-12-01")),
    ("cabin", V("Y  ")),
    ("seat_no", V("12A")),
    ("fare", V("120.00")),
    ("status", V("OPEN")),
    ("attrs", V(r#"{"loyalty": ["gold", "silver"], "n": 1.50}"#)),
    ("tags", V("{a,b}")),
    ("updated_at", V("2026-11-20 10:15:00+00")),
    ("address", Gone),
    ("extras", Gone),
];

pub(super) fn with<'a>(changes: &[(&'a str, C<'a>)]) -> Vec<(&'a str, C<'a>)> {
    ROW.iter()
        .map(|(name, cell)| {
            let changed = changes.iter().find(|(changed, _)| changed == name);
            (*name, changed.map_or(*cell, |(_, cell)| *cell))
        })
        .collect()
}

const TOPIC: &str = "table = \"segment\"\ntopic = \"inventory\"\n";

fn rule(rest: &str) -> String {
    format!("[[event]]\ntype = \"E\"\n{TOPIC}{rest}")
}

fn update(rules: &str, before: &[(&str, C<'_>)], after: &[(&str, C<'_>)]) -> Vec<String> {
    Bench::new(rules).run(Op::Update, Some(&with(before)), Some(&with(after)))
}

#[test]
fn a_seat_change_fires_with_its_key_and_data() {
    let rules = rule(
        r#"changed = ["seat_no"]
key = "{flight_no}/{departure_date}/{cabin}"
[event.data]
previous = "$.before.seat_no"
seat = "$.after.seat_no"
delta = { delta = "fare" }
fare = { path = "$.after.fare", as = "number" }
"#,
    );
    assert_eq!(
        update(&rules, &[], &[("seat_no", V("14C")), ("fare", V("99.5"))]),
        [r#"E BA117/2026-12-01/Y   {"previous":"12A","seat":"14C","delta":"-20.50","fare":99.5}"#]
    );
    assert_eq!(
        update(&rules, &[], &[("fare", V("1.00"))]),
        Vec::<String>::new()
    );
}

#[test]
fn changed_is_false_on_unchanged_toast_and_an_error_on_a_missing_before() {
    let rules = rule("changed = [\"seat_no\"]\n");
    assert_eq!(
        update(&rules, &[], &[("seat_no", Gone)]),
        Vec::<String>::new()
    );
    assert_eq!(
        update(&rules, &[("seat_no", Null)], &[("seat_no", Null)]),
        Vec::<String>::new()
    );
    assert_eq!(update(&rules, &[("seat_no", Null)], &[]), ["E 7 {}"]);
    assert_eq!(
        update(&rules, &[("seat_no", Gone)], &[]),
        ["quarantine 7: before.seat_no is unavailable: the source did not send it"]
    );
}

#[test]
fn changed_compares_as_the_source_does() {
    let rules = rule("changed = [\"fare\", \"attrs.n\"]\n");
    assert_eq!(
        update(&rules, &[], &[("fare", V("120.000"))]),
        Vec::<String>::new()
    );
    assert_eq!(
        update(&rules, &[], &[("attrs", V(r#"{"n": 1.5}"#))]),
        Vec::<String>::new()
    );
    assert_eq!(update(&rules, &[], &[("attrs", V("{}"))]), ["E 7 {}"]);
    let all = rule("changed = { all = [\"fare\", \"seat_no\"] }\n");
    assert_eq!(update(&all, &[], &[("fare", V("1"))]), Vec::<String>::new());
    assert_eq!(
        update(&all, &[], &[("fare", V("1")), ("seat_no", Null)]),
        ["E 7 {}"]
    );
}

#[test]
fn conditions_short_circuit_before_what_is_unavailable() {
    let rules =
        rule("on = \"update\"\nwhen = \"$.after.status == 'X' && $.before.seat_no == '1'\"\n");
    assert_eq!(
        update(&rules, &[("seat_no", Gone)], &[]),
        Vec::<String>::new()
    );
    assert_eq!(
        update(&rules, &[("seat_no", Gone)], &[("status", V("X"))]),
        ["quarantine 7: before.seat_no is unavailable: the source did not send it"]
    );
}

/// Whether a condition holds for an insert of the standard row.
fn on_insert(condition: &str) -> bool {
    let rules = rule(&format!("on = \"insert\"\nwhen = '''{condition}'''\n"));
    let fired = Bench::new(&rules).run(Op::Insert, None, Some(ROW));
    assert!(
        fired.iter().all(|event| event.starts_with("E ")),
        "{fired:?}"
    );
    !fired.is_empty()
}

#[test]
fn conditions_follow_rfc_9535_where_nodes_are_missing() {
    assert!(on_insert("$.before.seat_no == $.before.pnr"));
    assert!(!on_insert("$.before.seat_no == $.after.seat_no"));
    assert!(on_insert("$.before.seat_no != null"));
    assert!(!on_insert("$.before"));
    assert!(on_insert("!$.before && $.after"));
    assert!(!on_insert("$.before.fare < 5 || $.before.fare >= 5"));
    assert!(on_insert("$.before.fare <= $.before.fare"));
    assert!(!on_insert("$.after.attrs.unknown == null"));
    assert!(!on_insert("$.after.attrs.unknown"));
}

#[test]
fn conditions_compare_by_the_column_s_type() {
    assert!(on_insert(
        "$.after.fare == 120 && $.after.fare > 119.99 && $.after.fare < '120.01'"
    ));
    assert!(on_insert("$.after.cabin == 'Y' && @.after.cabin == 'Y   '"));
    assert!(on_insert("$.after.departure_date > '2026-11-30'"));
    assert!(on_insert("$.after.updated_at == '2026-11-20T11:15:00+01'"));
    assert!(on_insert("$.after.updated_at < '2026-11-20T10:15:01Z'"));
    assert!(on_insert(
        "$.after.attrs.n == 1.5 && $.after.attrs.loyalty[-1] == 'silver'"
    ));
    assert!(on_insert(
        "$.after.tags[1] == 'b' && length($.after.tags) == 2"
    ));
    assert!(on_insert(
        "match($.after.seat_no, '[0-9]+[A-K]') && !match($.after.seat_no, '12')"
    ));
    assert!(on_insert(
        "search($.after.seat_no, '2') && length($.after.seat_no) == 3"
    ));
    assert!(on_insert(
        "count($.after.attrs.loyalty[*]) == 2 && $.after.attrs.loyalty[?@ == 'gold']"
    ));
    assert!(on_insert(
        "$.op == 'insert' && $.tx.id == 77 && $.table == 'segment' && $.key.id == 7"
    ));
}

#[test]
fn data_has_every_form() {
    let rules = rule(
        r#"on = "insert"
[event.data]
id = "$.row.id"
loyalty = "$.after.attrs.loyalty[0]"
all = "$.after.attrs.loyalty[*]"
none = "$.before.seat_no"
web = { const = "web" }
cabin = { map = "$.row.cabin", with = { Y = "economy", J = "business" }, else = "error" }
first = { coalesce = ["$.before.seat_no", "$.row.seat_no"], default = "none" }
route = { template = "{pnr}-{$.tx.id}{{}" }
nested = { object = { tags = "$.row.tags", deeper = { object = { fare = { path = "$.row.fare", as = "decimal(10,3)" } } } } }
"#,
    );
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(ROW)),
        [concat!(
            r#"E 7 {"id":7,"loyalty":"gold","all":["gold","silver"],"none":null,"web":"web","#,
            r#""cabin":"economy","first":"12A","route":"QX4RTZ-77{}","#,
            r#""nested":{"tags":["a","b"],"deeper":{"fare":"120.000"}}}"#
        )]
    );
}

#[test]
fn rules_read_inside_composites_and_hstores() {
    let row = with(&[
        ("address", V(r#"("New York",,"{a,""b c""}")"#)),
        ("extras", V(r#""a"=>"1", "b"=>NULL"#)),
    ]);
    let rules = rule(
        r#"on = "insert"
key = "{$.row.address.city}"
when = "$.row.address.city == 'New York' && length($.row.extras) == 2 && $.row.extras.b == null"
[event.data]
address = "$.row.address"
city = "$.row.address.city"
zip = "$.row.address.zip"
line = "$.row.address.lines[1]"
a = { path = "$.row.extras.a", as = "integer" }
text = { path = "$.row.extras", as = "string" }
"#,
    );
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(&row)),
        [concat!(
            r#"E New York {"address":{"city":"New York","zip":null,"lines":["a","b c"]},"#,
            r#""city":"New York","zip":null,"line":"b c","a":1,"#,
            r#""text":"{\"a\":\"1\",\"b\":null}"}"#
        )]
    );
    let rules = rule("changed = [\"address.city\", \"extras\"]\n");
    let moved = with(&[
        ("address", V("(Boston,,{})")),
        ("extras", V(r#""b"=>NULL,"a"=>"1""#)),
    ]);
    let same = with(&[
        ("address", V("(\"New York\",5,{})")),
        ("extras", V(r#""b"=>NULL,"a"=>"1""#)),
    ]);
    assert_eq!(update(&rules, &row, &moved), ["E 7 {}"]);
    assert_eq!(update(&rules, &row, &same), [""; 0]);
}

#[test]
fn a_number_that_no_column_holds_is_compared_without_writing_it_out() {
    let row = with(&[("attrs", V(r#"{"n": 1e999999999}"#))]);
    let rules = rule("on = \"insert\"\nwhen = \"$.row.attrs.n == 5\"\n");
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(&row)),
        [""; 0]
    );
}

#[test]
fn the_servers_last_timestamp_can_be_a_key() {
    let row = with(&[("updated_at", V("294276-12-31 23:59:59.999999+00"))]);
    let rules = rule(
        "on = \"insert\"\nkey = \"{updated_at}\"\n[event.data]\nat = { path = \"$.row.updated_at\", as = \"string\" }\n",
    );
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(&row)),
        [r#"E +294276-12-31T23:59:59.999999Z {"at":"+294276-12-31T23:59:59.999999Z"}"#]
    );
}

#[test]
fn a_template_may_have_any_letter_anywhere() {
    let rules = rule("on = \"insert\"\nkey = \"ü{id}é}ß\"\n");
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(ROW)),
        ["E ü7é}ß {}"]
    );
}

#[test]
fn a_mistake_at_a_letter_of_two_bytes_is_shown() {
    let wrong = rule("on = \"insert\"\nwhen = \"ü\"\n[event.data]\na = \"$.row.extras[ü]\"\n");
    let all = Mapping::compile(&pack(&format!("{HEAD}{wrong}"))).unwrap_err();
    assert!(all.count(Severity::Error) == 2, "{all:?}");
    assert!(all.render(Look::PLAIN).contains("$.row.extras[ü]"));
}

#[test]
fn a_bad_event_is_quarantined_and_the_others_go_out() {
    let rules = [
        rule("on = \"insert\"\n[event.data]\nseat = { path = \"$.row.seat_no\", required = true }\n"),
        rule("on = \"insert\"\n[[event.check]]\nassert = \"$.row.fare >= 0\"\nmessage = \"negative fare\"\n"),
        rule("on = \"insert\"\nkey = \"{seat_no}\"\n"),
        rule("on = \"insert\"\n"),
    ]
    .concat();
    let row = with(&[("seat_no", Null), ("fare", V("-1"))]);
    assert_eq!(
        Bench::new(&rules).run(Op::Insert, None, Some(&row)),
        [
            "quarantine 7: field `seat` is required and has no value",
            "quarantine 7: check failed: negative fare",
            "quarantine 7: after.seat_no has no value and stands in a template",
            "E 7 {}",
        ]
    );
}

#[test]
fn stop_stops_but_a_failed_check_is_still_quarantined() {
    let head = HEAD.replace("\"quarantine\"", "\"stop\"");
    let rules = rule(
        "on = \"insert\"\n[[event.check]]\nassert = \"$.row.fare >= 0\"\n[event.data]\nn = { path = \"$.row.pnr\", as = \"integer\" }\n",
    );
    let pack = pack(&format!("{head}{rules}"));
    let mapping = Arc::new(Mapping::compile(&pack).unwrap().0);
    let mut bench = Bench::new(&rules);
    let stamp = bench.evaluator.parts().0.stamp().clone();
    bench.evaluator = Evaluator::new(mapping, stamp);
    bench
        .evaluator
        .bind(&Arc::new(bench.shape.clone()), &Position::new(1))
        .unwrap();
    let negative = with(&[("fare", V("-1"))]);
    assert_eq!(
        bench.run(Op::Insert, None, Some(&negative)),
        ["quarantine 7: check failed: $.row.fare >= 0"]
    );
    assert_eq!(
        bench.run(Op::Insert, None, Some(ROW)),
        [
            "stop: rule E (mapping.toml line 13) cannot make its event from insert of public.segments number 3 in transaction 16/B374D848: field `n`: after.pnr cannot be converted: not a finite number"
        ]
    );
}

#[test]
fn an_oversize_event_is_set_aside_without_its_row() {
    let rules = rule("on = \"insert\"\n[event.data]\nseat = \"$.row.seat_no\"\n");
    let long = "x".repeat(2_000);
    let row = with(&[("seat_no", V(&long))]);
    let mut bench = Bench::with_limit(&rules, 1_500);
    let events = bench.run(Op::Insert, None, Some(&row));
    assert_eq!(events.len(), 1);
    assert!(
        events[0].starts_with("quarantine 7: the record has "),
        "{events:?}"
    );
    let (batch, change, tx) = bench.change(Op::Insert, None, Some(&row));
    let mut out = EncodedBatch::default();
    bench
        .evaluator
        .change(&batch, &tx, &change, &mut out)
        .unwrap();
    let value: serde_json::Value =
        serde_json::from_slice(out.bytes(out.records[0].value.unwrap())).unwrap();
    assert_eq!(value["position"], "16/B374D848");
    assert_eq!(value["key"]["id"], 7);
    assert_eq!(value["sizes"]["value"], 2_011);
    assert!(value.get("after").is_none());
}

#[test]
fn deletes_tombstones_and_truncates() {
    let rules = [
        rule("on = \"delete\"\ntombstone = true\n"),
        rule("on = \"delete\"\nkey = \"{pnr}\"\n"),
        rule("on = \"truncate\"\nkey = \"all\"\n"),
        rule("on = \"truncate\"\nbroadcast = true\n"),
    ]
    .concat();
    let mut bench = Bench::new(&rules);
    assert_eq!(
        bench.run(Op::Delete, Some(ROW), None),
        ["E 7 -", "E QX4RTZ {}"]
    );
    assert_eq!(bench.run(Op::Truncate, None, None), ["E all {}", "E - {}"]);
}

#[test]
fn a_key_move_speaks_of_the_old_row_on_the_old_key() {
    let rules = [
        rule("changed = [\"flight_no\"]\nimage = \"before\"\nkey = \"{flight_no}\"\n[event.data]\nf = \"$.row.flight_no\"\n"),
        rule("changed = [\"flight_no\"]\nkey = \"{flight_no}\"\n"),
    ]
    .concat();
    assert_eq!(
        update(&rules, &[], &[("flight_no", V("BA119"))]),
        [r#"E BA117 {"f":"BA117"}"#, "E BA119 {}"]
    );
}

#[test]
fn defaults_are_merged_and_only_filters() {
    let rules = format!(
        "[defaults.segment]\ntopic = \"inventory\"\nkey = \"{{pnr}}\"\nonly = {{ status = \"channels\" }}\nwhen = \"$.row.fare > 100\"\n[defaults.segment.data]\na = \"$.row.id\"\nb = \"$.row.pnr\"\n{}",
        "[[event]]\ntype = \"E\"\ntable = \"segment\"\non = \"insert\"\nwhen = \"$.row.fare < 200\"\n[event.data]\nc = \"$.row.id\"\na = { const = 1 }\n"
    );
    let mut bench = Bench::new(&rules);
    assert_eq!(bench.run(Op::Insert, None, Some(ROW)), Vec::<String>::new());
    let web = with(&[("status", V("web"))]);
    assert_eq!(
        bench.run(Op::Insert, None, Some(&web)),
        [r#"E QX4RTZ {"a":1,"b":"QX4RTZ","c":7}"#]
    );
    let dear = with(&[("status", V("web")), ("fare", V("200"))]);
    assert_eq!(
        bench.run(Op::Insert, None, Some(&dear)),
        Vec::<String>::new()
    );
    let (batch, change, tx) = bench.change(Op::Insert, None, Some(&dear));
    let outcomes = bench.evaluator.explain(&batch, &tx, &change).unwrap();
    assert_eq!(
        outcomes[0].outcome,
        Outcome::NotFired("when is false: $.row.fare < 200".to_owned())
    );
}

#[test]
fn every_header_of_an_event() {
    let rules = rule(
        "on = \"insert\"\nsubject = \"{pnr}\"\ntime = \"$.after.updated_at\"\nheaders = { channel = \"$.row.status\", none = \"$.before.pnr\", fixed = { const = \"x\" } }\n",
    );
    let mut bench = Bench::new(&rules);
    let (batch, change, tx) = bench.change(Op::Insert, None, Some(ROW));
    let mut out = EncodedBatch::default();
    bench
        .evaluator
        .change(&batch, &tx, &change, &mut out)
        .unwrap();
    let mapping = Arc::clone(bench.evaluator.mapping());
    let headers: Vec<String> = out
        .headers_of(&out.records[0])
        .map(|(id, value)| {
            let name = &mapping.header_names()[usize::from(id.0)];
            format!("{name}: {}", String::from_utf8_lossy(value))
        })
        .collect();
    insta::assert_snapshot!(headers.join("\n"));
}

#[test]
fn a_structured_envelope_holds_everything_in_its_value() {
    let rules = rule("on = \"insert\"\n[event.data]\nseat = \"$.row.seat_no\"\n");
    let mapping = format!("{HEAD}envelope = \"structured\"\n{rules}");
    let mapping = Arc::new(Mapping::compile(&pack(&mapping)).unwrap().0);
    let mut bench = Bench::new(&rules);
    let stamp = bench.evaluator.parts().0.stamp().clone();
    bench.evaluator = Evaluator::new(mapping, stamp);
    bench
        .evaluator
        .bind(&Arc::new(bench.shape.clone()), &Position::new(1))
        .unwrap();
    insta::assert_snapshot!(bench.run(Op::Insert, None, Some(ROW)).join("\n"));
}

#[test]
fn event_ids_do_not_depend_on_other_rules() {
    let id = |rules: &str| {
        let mut bench = Bench::new(rules);
        let (batch, change, tx) = bench.change(Op::Insert, None, Some(ROW));
        let mut out = EncodedBatch::default();
        bench
            .evaluator
            .change(&batch, &tx, &change, &mut out)
            .unwrap();
        let last = out.records.last().unwrap();
        let id = out.headers_of(last).nth(1).unwrap().1.to_vec();
        String::from_utf8(id).unwrap()
    };
    let other = rule("on = \"insert\"\n").replace("\"E\"", "\"Other\"");
    let alone = id(&rule("on = \"insert\"\n"));
    assert_eq!(alone, id(&format!("{other}{}", rule("on = \"insert\"\n"))));
    assert_ne!(
        alone,
        id(&[rule("on = \"insert\"\n"), rule("on = \"insert\"\n")].concat())
    );
}

/// The shipped packs compile without a word.
#[test]
fn the_shipped_packs_compile() {
    let mappings = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings");
    for (name, topics) in [
        ("airline", 3),
        ("booking-platform", 3),
        ("bus", 4),
        ("hotel", 2),
        ("marketplace", 3),
        ("marketplace-prices", 2),
    ] {
        let root = mappings.join(name);
        let file = |name: &str| SourceFile {
            name: name.to_owned(),
            text: std::fs::read_to_string(root.join(name)).unwrap(),
        };
        let pack = Pack {
            mapping: file("mapping.toml"),
            schema: file("schema.toml"),
            params: toml::Table::new(),
        };
        let (mapping, warnings) =
            Mapping::compile(&pack).unwrap_or_else(|all| panic!("{}", all.render(Look::PLAIN)));
        assert_eq!(warnings.render(Look::PLAIN), "");
        assert_eq!(mapping.topics().len(), topics);
    }
}

/// Any cell: right, wrong, null or not there.
fn any_cell() -> impl proptest::strategy::Strategy<Value = Option<Option<Vec<u8>>>> {
    use proptest::prelude::*;
    let value = prop_oneof![
        any::<Vec<u8>>(),
        "[0-9]{1,3}(\\.[0-9]{1,2})?".prop_map(String::into_bytes),
        Just(b"2026-12-01".to_vec()),
        Just(br#"{"loyalty": ["gold"], "n": 1}"#.to_vec()),
        Just(b"{a,b}".to_vec()),
    ];
    proptest::option::of(proptest::option::of(value))
}

/// Columns of [`SCHEMA`].
const WIDTH: u32 = 13;

proptest::proptest! {
    /// Whatever the cells hold, evaluation ends with records or quarantine, twice the same.
    #[test]
    fn evaluation_never_panics_and_is_deterministic(
        cells in proptest::collection::vec(any_cell(), 2 * WIDTH as usize),
        op in 0..5_usize,
    ) {
        let op = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate][op];
        let mut bench = Bench::new(&[
            rule("changed = [\"seat_no\", \"fare\", \"attrs.n\", \"cabin\"]\n[event.data]\nd = { delta = \"fare\" }\n"),
            rule("on = [\"insert\", \"update\", \"delete\", \"read\"]\nkey = \"{departure_date}/{cabin}\"\ntime = \"$.row.updated_at\"\nwhen = \"$.before.fare != $.after.fare || $.row.attrs.n >= 1 || count($.row.attrs.loyalty[*]) > 0\"\n[event.data]\nt = \"$.row.tags[0]\"\na = \"$.row.attrs\"\nn = { path = \"$.row.pnr\", as = \"epoch_millis\" }\n"),
        ].concat());
        let mut batch = Batch::default();
        for cell in &cells {
            match cell {
                Some(Some(value)) => batch.push_value(value),
                Some(None) => batch.cells.push(rowbridge_api::CellRange::NULL),
                None => batch.cells.push(rowbridge_api::CellRange::UNAVAILABLE),
            }
        }
        let (old, new) = (Image::Row { first_cell: 0 }, Image::Row { first_cell: WIDTH });
        let (_, mut change, tx) = bench.change(op, None, None);
        (change.before, change.after) = match op {
            Op::Insert | Op::Read => (Image::Absent, new),
            Op::Update => (old, new),
            Op::Delete => (old, Image::Absent),
            Op::Truncate => (Image::Absent, Image::Absent),
        };
        let mut once = EncodedBatch::default();
        bench.evaluator.change(&batch, &tx, &change, &mut once).unwrap();
        let mut twice = EncodedBatch::default();
        bench.evaluator.change(&batch, &tx, &change, &mut twice).unwrap();
        proptest::prop_assert_eq!(&once.buf, &twice.buf);
        for record in &once.records {
            let value = once.bytes(record.value.unwrap());
            proptest::prop_assert!(serde_json::from_slice::<serde_json::Value>(value).is_ok());
        }
    }
}
