//! Mappings that are wrong, one mistake each, and what people read about it (see `snapshots/`).

use super::tests::{HEAD, pack};
use super::{Mapping, Pack};
use crate::paint::Look;

/// What compiling says.
fn said(pack: &Pack) -> String {
    match Mapping::compile(pack) {
        Ok((_, warnings)) => warnings.render(Look::PLAIN),
        Err(all) => all.render(Look::PLAIN),
    }
}

/// An event that is right but for what follows.
const EVENT: &str = "[[event]]\ntype = \"E\"\ntable = \"segment\"\ntopic = \"inventory\"\n";

macro_rules! wrong_events {
    ($($name:ident: $rest:expr,)*) => {$(
        #[test]
        fn $name() {
            let pack = pack(&format!("{HEAD}{EVENT}{}", $rest));
            insta::assert_snapshot!(said(&pack));
        }
    )*};
}

/// A lifecycle that is right but for what follows.
const LIFECYCLE: &str =
    "[lifecycle.trip]\ntable = \"segment\"\nstate = \"status\"\nstart = [\"OPEN\"]\n";

/// Mappings that are as they should be, however much they look like one that is not.
#[test]
fn what_is_meant_raises_no_warning() {
    let compacted = HEAD.replace("partitions = 24", "partitions = 24\ncleanup = \"compact\"");
    let twin = |first: &str, second: &str| format!("{HEAD}{EVENT}{first}\n{EVENT}{second}\n");
    let changed = "changed = [\"fare\"]\n";
    for text in [
        // Not the same event.
        twin(
            changed,
            &format!("{changed}data = {{ fare = \"$.row.fare\" }}"),
        ),
        twin(changed, &format!("{changed}key = \"{{pnr}}\"")),
        twin(changed, &format!("{changed}image = \"before\"")),
        twin(
            changed,
            &format!("{changed}headers = {{ a = {{ const = 1 }} }}"),
        ),
        twin("on = \"insert\"\neach = \"$.row.tags\"", "on = \"insert\""),
        // Not whenever the first fires.
        twin(&format!("{changed}when = \"$.row.fare > 5\""), changed),
        twin(changed, "changed = [\"fare\", \"seat_no\"]"),
        twin(changed, "on = \"update\""),
        twin("on = \"insert\"", "on = [\"insert\", \"delete\"]"),
        twin(
            "on = \"insert\"\nonly = { status = \"channels\" }",
            "on = \"insert\"",
        ),
        // Keys of many values.
        format!("{HEAD}{EVENT}key = \"{{status}}\""),
        format!("{HEAD}{LIFECYCLE}{EVENT}transition = {TO_FLOWN}\nkey = \"{{status}}/{{id}}\""),
        format!("{HEAD}{LIFECYCLE}{EVENT}transition = {TO_FLOWN}\nkey = \"{{status}}/{{pnr}}\""),
        // Keys that do not change, or are buried, or never change again.
        format!("{compacted}{EVENT}key = \"{{id}}\""),
        format!("{compacted}{EVENT}on = \"insert\"\nkey = \"{{pnr}}\""),
        format!(
            "{compacted}{EVENT}key = \"{{pnr}}\"\n{}image = \"before\"\nkey = \"{{pnr}}\"\nchanged = [\"pnr\"]\ntombstone = true",
            EVENT.replace("\"E\"", "\"Gone\"")
        ),
        format!(
            "{compacted}{}each = \"$.before.tags\"\nkey = \"{{id}}/{{$.item}}\"\nchanged = [\"tags\"]\ntombstone = true\n{EVENT}each = \"$.row.tags\"\nkey = \"{{id}}/{{$.item}}\"",
            EVENT.replace("\"E\"", "\"Gone\"")
        ),
        // Somebody decided, or it only looks so.
        classed(
            "segment.address",
            "clear",
            "data = { city = \"$.row.address.city\" }",
        ),
        classed(
            "segment.address",
            "hash",
            "data = { city = \"$.row.address.city\" }",
        ),
        format!(
            "{HEAD}{EVENT}data = {{ city = {{ path = \"$.row.address.city\", privacy = \"truncate(3)\" }} }}"
        ),
        format!("{HEAD}{EVENT}when = \"$.row.address.city == 'Paris'\""),
        format!("{HEAD}{EVENT}data = {{ sent = \"$.row.attrs.email_count\" }}"),
    ] {
        assert_eq!(said(&pack(&text)), "", "{text}");
    }
}

macro_rules! wrong_lifecycles {
    ($($name:ident: ($lifecycle:expr, $event:expr),)*) => {$(
        #[test]
        fn $name() {
            let pack = pack(&format!("{HEAD}{}{EVENT}{}", $lifecycle, $event));
            insta::assert_snapshot!(said(&pack));
        }
    )*};
}

/// A lifecycle whose `old` part is another.
fn lifecycle(old: &str, new: &str) -> String {
    assert!(LIFECYCLE.contains(old));
    LIFECYCLE.replace(old, new)
}

fn with_silent(silent: &str) -> String {
    format!("{LIFECYCLE}silent = {silent}\n")
}

/// A second event, all of it.
fn second(rest: &str) -> String {
    let event = EVENT.replace("\"E\"", "\"F\"");
    format!("transition = {TO_FLOWN}\n{event}{rest}")
}

const TO_FLOWN: &str = "{ of = \"trip\", from = \"OPEN\", to = \"FLOWN\" }";

/// An event of several rows that is right but for what follows.
fn joined(rest: &str) -> String {
    let event = EVENT.replace("table = \"segment\"", "key = \"{$.new.row.pnr}\"");
    format!("{HEAD}{event}{rest}")
}

const PARTS: &str = "[event.transaction]\nby = \"pnr\"\nparts.old = { table = \"segment\", on = \"delete\" }\nparts.new = { table = \"segment\", on = \"insert\" }";

macro_rules! wrong_files {
    ($($name:ident: $text:expr,)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(said(&pack(&$text)));
        }
    )*};
}

wrong_events! {
    unknown_key: "chnaged = [\"seat_no\"]",
    unknown_column_in_changed: "changed = [\"seat_nr\"]",
    unknown_column_in_a_path: "[event.data]\nseat = \"$.row.seat\"",
    unknown_column_in_a_condition: "when = \"$.row.status == 'A' && $.row.farre > 5\"",
    unknown_column_in_a_template: "key = \"{flight}/{cabin}\"",
    unknown_part_of_a_change: "[event.data]\nseat = \"$.now.seat_no\"",
    unknown_parameter: "only = { status = \"chanels\" }",
    unknown_operation: "on = \"updated\"",
    unknown_conversion: "[event.data]\nfare = { path = \"$.row.fare\", as = \"int\" }",
    unknown_image: "on = \"update\"\nimage = \"old\"",
    wrong_type_of_a_value: "changed = 5\ntombstone = \"yes\"",
    bad_path: "[event.data]\nseat = \"$.row.seat-no\"",
    bad_condition_single_equals: "when = \"$.row.status = 'OPEN'\"",
    bad_condition_words: "when = \"$.row.status == 'A' and $.row.fare > 5\"",
    bad_condition_is_null: "when = \"$.row.status is null\"",
    bad_regular_expression: "when = \"match($.row.status, '[A')\"",
    unclosed_template: "key = \"{flight_no/{cabin}\"",
    a_column_where_a_path_is_wanted: "[event.data]\nseat = \"seat_no\"",
    a_bare_literal: "[event.data]\nn = 5",
    misplaced_keys: "[event.data]\nseat = \"$.row.seat_no\"\nkey = \"{pnr}\"\ntombstone = true",
    literal_of_another_type: "when = \"$.row.fare > 'cheap' && $.row.status == 5\"",
    columns_that_do_not_compare: "when = \"$.row.fare == $.row.status\"",
    a_document_path_into_text: "[event.data]\ncity = \"$.row.status.city\"",
    a_whole_image_as_a_value: "[event.data]\nrow = \"$.after\"",
    a_delta_of_text: "changed = [\"status\"]\n[event.data]\nd = { delta = \"status\" }",
    an_impossible_conversion: "[event.data]\nd = { path = \"$.row.departure_date\", as = \"boolean\" }",
    changed_with_insert: "on = [\"insert\", \"update\"]\nchanged = [\"seat_no\"]",
    before_image_on_insert: "on = \"insert\"\nimage = \"before\"",
    truncate_without_a_key: "on = \"truncate\"",
    tombstone_with_data: "on = \"delete\"\ntombstone = true\n[event.data]\nseat = \"$.row.seat_no\"",
    a_header_of_cloud_events: "headers = { ce_id = \"$.row.pnr\" }",
    a_time_that_is_none: "time = \"$.row.pnr\"",
    a_lookup_of_nothing: "[event.lookup.flight]\n",
    a_lookup_in_an_unknown_table: "[event.lookup.flight]\ntable = \"flihgt\"\nwhere = { id = \"$.row.id\" }",
    a_lookup_by_neither_key_nor_index: "[event.lookup.twin]\ntable = \"segment\"\nwhere = { pnr = \"$.row.pnr\" }",
    a_lookup_by_another_type: "[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.pnr\" }",
    a_lookup_by_an_unknown_column: "[event.lookup.twin]\ntable = \"segment\"\nwhere = { ids = \"$.row.id\" }",
    a_lookup_that_hides_a_part: "[event.lookup.row]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }",
    an_unknown_missing: "[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }\nmissing = \"nul\"",
    an_unknown_column_of_a_lookup: "data.seat = \"$.twin.seatno\"\n[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }",
    an_unknown_lookup: "data.seat = \"$.twn.seat_no\"\n[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }",
    a_whole_looked_up_row: "data.seat = \"$.twin\"\n[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }",
    an_event_that_takes_back_what_never_comes: "reverts = \"CheckdOut\"",
    several_rows_and_a_table: "key = \"a\"\n[event.transaction]\nby = \"pnr\"\nparts.new = { table = \"segment\", on = \"insert\" }",
    each_in_an_event_of_several_rows: "each = \"$.after.tags\"\n[event.transaction]\nby = \"pnr\"\nparts.new = { table = \"segment\", on = \"insert\" }",
    warning_before_on_inserts: "when = \"$.before.status != 'A'\"",
    warning_existence_of_a_column: "when = \"$.row.seat_no\"",
    each_of_text: "each = \"$.after.status\"\ndata = { a = \"$.item\", b = \"$.item.name\" }",
    each_of_several_nodes: "each = \"$.after.attrs.parts[*]\"",
    each_of_a_fact: "each = \"$.op\"",
    an_item_without_each: "data = { name = \"$.item.name\" }",
    a_document_path_into_an_item: "each = \"$.after.tags\"\nkey = \"{$.item.name}\"",
    an_item_of_another_type: "each = \"$.after.tags\"\nwhen = \"$.item > 5\"",
    warning_constant_key: "key = \"all\"",
    warning_event_made_twice: "changed = [\"fare\"]\n[[event]]\ntype = \"E\"\ntable = \"segment\"\ntopic = \"inventory\"\nchanged = [\"fare\"]\nwhen = \"$.after.fare > 5\"",
}

/// A class for one column, before an event that is right but for what follows.
fn classed(column: &str, class: &str, rest: &str) -> String {
    format!("{HEAD}[privacy]\ncolumns = {{ \"{column}\" = \"{class}\" }}\n{EVENT}{rest}")
}

/// The rows before changes of segments come from what is kept.
fn keeping(mapping: &str) -> String {
    mapping.replace(
        "\"public.segments\"",
        "{ name = \"public.segments\", before = \"state\" }",
    )
}

const EVERY_WAY_OUT: &str = r#"key = "{flight_no}/{pnr}"
subject = "{$.row.pnr}"
correlation = "{pnr}"
headers = { pnr = "$.row.pnr" }
[event.data]
plain = "$.row.pnr"
first = { coalesce = ["$.row.seat_no", "$.before.pnr"] }
text = { template = "{seat_no} {pnr}" }
kind = { map = "$.row.pnr", with = { A = "a" } }
nested = { object = { pnr = "$.row.pnr" } }
"#;

wrong_files! {
    a_dropped_column_that_leaves: classed("segment.pnr", "drop", EVERY_WAY_OUT),
    a_dropped_place_in_a_document: classed("segment.attrs.passport", "drop", "[event.data]\nno = \"$.row.attrs.passport.number\"\nall = \"$.row.attrs\""),
    a_dropped_place_in_an_item: classed("segment.attrs.guests.passport", "drop", "each = \"$.after.attrs.guests\"\ndata = { no = \"$.item.passport\", all = \"$.item\" }"),
    a_dropped_key_of_the_table: classed("segment.id", "drop", ""),
    a_protected_value_converted: classed("segment.fare", "hash", "[event.data]\nfare = { path = \"$.row.fare\", as = \"number\" }"),
    a_protected_value_mapped: classed("segment.status", "mask", "[event.data]\nopen = { map = \"$.row.status\", with = { OPEN = true }, else = false }"),
    a_delta_of_protected_values: classed("segment.fare", "truncate(1)", "on = \"update\"\n[event.data]\nfare = { delta = \"fare\" }"),
    a_protected_time: classed("segment.updated_at", "hash", "time = \"$.row.updated_at\""),
    a_looser_class_of_an_event: classed("segment.pnr", "hash", "[event.data]\npnr = { path = \"$.row.pnr\", privacy = \"mask\" }"),
    a_class_on_a_constant: classed("segment.pnr", "hash", "[event.data]\na = { template = \"x\", privacy = \"mask\" }\nb = { const = 1, privacy = \"mask\" }\nc = { path = \"$.op\", privacy = \"hash\" }"),
    a_class_of_an_unknown_table: classed("segmnt.pnr", "hash", ""),
    a_class_of_an_unknown_column: classed("segment.prn", "hash", ""),
    a_class_of_no_column: classed("pnr", "hash", ""),
    a_class_inside_text: classed("segment.pnr.first", "hash", ""),
    a_class_of_one_element: classed("segment.tags.0", "hash", ""),
    a_class_of_an_unknown_field: classed("segment.address.ctiy", "hash", ""),
    a_protected_column_of_a_kept_row: keeping(&classed("segment.pnr", "hash", "when = \"$.before.pnr != $.after.pnr\"")),
    a_kept_row_whose_event_protects: keeping(&format!("{HEAD}{EVENT}image = \"before\"\ndata = {{ pnr = {{ path = \"$.row.pnr\", privacy = \"mask\" }} }}")),
    a_protected_key_of_kept_rows: keeping(&classed("segment.id", "hash", "key = \"{flight_no}\"")),
    a_protected_place_in_a_column_that_is_looked_up: classed("segment.attrs.passport", "drop", "when = \"$.twin.attrs.level == 'gold'\"\n[event.lookup.twin]\ntable = \"segment\"\nwhere = { id = \"$.row.id\" }"),
    a_protected_column_that_is_only_read_after_a_change: keeping(&classed("segment.pnr", "hash", "data = { pnr = \"$.after.pnr\" }")),
    an_unknown_class: classed("segment.pnr", "hashed", ""),
    a_truncation_to_nothing: classed("segment.pnr", "truncate(0)", ""),
    unknown_privacy_default: format!("{HEAD}[privacy]\ndefault = \"denied\"\ncolumn = {{}}\n"),
    warning_key_of_a_state: format!("{HEAD}{LIFECYCLE}{EVENT}transition = {TO_FLOWN}\nkey = \"{{status}}\""),
    warning_personal_column: format!("{HEAD}{EVENT}[event.data]\nemail = \"$.row.attrs.contact.email\"\ncity = {{ path = \"$.row.address.city\", privacy = \"clear\" }}"),
    warning_key_that_stays: format!("{}{EVENT}key = \"{{flight_no}}/{{id}}\"", HEAD.replace("partitions = 24", "partitions = 24\ncleanup = \"compact\"")),
    warning_key_of_an_element_that_stays: format!("{}{EVENT}each = \"$.row.tags\"\nkey = \"{{id}}/{{$.item}}\"", HEAD.replace("partitions = 24", "partitions = 24\ncleanup = \"compact\"")),
    warning_masked_key: classed("segment.pnr", "mask", "key = \"{pnr}\""),
    toml_syntax: format!("{HEAD}[[event]\ntype = \"E\""),
    unknown_table: format!("{HEAD}{}", EVENT.replace("\"segment\"", "\"segmnt\"")),
    unknown_table_beside_other_mistakes: format!("{HEAD}{}on = \"upsert\"", EVENT.replace("\"segment\"", "\"segmnt\"").replace("\"inventory\"", "\"inventry\"")),
    unknown_topic: format!("{HEAD}{}", EVENT.replace("\"inventory\"", "\"travel.inventory\"")),
    no_topic: format!("{HEAD}{}", EVENT.replace("topic = \"inventory\"\n", "")),
    no_type: format!("{HEAD}{}", EVENT.replace("type = \"E\"\n", "")),
    one_pair_of_brackets: format!("{HEAD}{}", EVENT.replace("[[event]]", "[event]")),
    no_mapping_table: EVENT,
    two_names_for_one_table: HEAD.replace("[topics.", "other = \"public.segments\"\n[topics."),
    a_table_without_schema: HEAD.replace("segment = ", "segmant = "),
    a_bad_retention: format!("{HEAD}retention = \"7 days\"\ncleanup = \"compacted\""),
    an_index_that_is_no_list_of_lists: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", index = [\"pnr\"] }"),
    an_index_with_an_unknown_column: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", index = [[\"pnrr\"]] }"),
    toast_of_rows_that_are_not_kept: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", toast = \"state\" }"),
    unknown_toast: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", before = \"state\", toast = \"eror\" }"),
    several_rows_without_parts: joined("[event.transaction]\nby = \"pnr\""),
    several_rows_none_of_which_has_to_be_there: joined("[event.transaction]\nby = \"pnr\"\nparts.new = { table = \"segment\", on = \"insert\", optional = true }"),
    several_rows_without_a_key: joined(PARTS).replace("key = \"{$.new.row.pnr}\"\n", ""),
    several_rows_and_a_row: joined(PARTS).replace("{$.new.row.pnr}", "{pnr}-{$.row.pnr}-{$.op}"),
    a_part_without_an_image: joined(PARTS).replace("$.new.row.pnr", "$.new.pnr"),
    a_part_without_the_column: joined(PARTS).replace("by = \"pnr\"", "by = \"pnrs\""),
    a_part_of_an_unknown_list: joined(PARTS).replace("on = \"insert\"", "on = \"insert\", only = { status = \"chanels\" }"),
    a_part_of_an_unknown_operation: joined(PARTS).replace("\"insert\"", "\"insrt\""),
    defaults_of_no_table: format!("{HEAD}[defaults.segmant]\nkey = \"{{pnr}}\""),
}

wrong_lifecycles! {
    a_lifecycle_of_nothing: ("[lifecycle.trip]\n", ""),
    a_lifecycle_with_an_unknown_key: (lifecycle("start", "starts"), ""),
    a_lifecycle_of_an_unknown_table: (lifecycle("segment", "segmnet"), ""),
    a_lifecycle_of_an_unknown_column: (lifecycle("\"status\"", "\"sttaus\""), ""),
    a_lifecycle_without_start: (lifecycle("[\"OPEN\"]", "[]"), ""),
    a_state_made_from_a_decimal: (lifecycle("\"status\"", "\"fare\""), ""),
    a_state_of_another_type: (lifecycle("\"status\"", "\"id\""), ""),
    a_state_that_is_no_state: (lifecycle("\"OPEN\"", "1.5"), ""),
    unknown_illegal: (format!("{LIFECYCLE}illegal = \"quarantined\"\n"), ""),
    silent_without_pairs: (with_silent("[\"OPEN\", \"FLOWN\"]"), ""),
    silent_that_is_no_list: (with_silent("\"OPEN\""), ""),
    a_silent_pair_of_one_state: (with_silent("[[\"OPEN\", \"OPEN\"]]"), ""),
    a_state_that_nothing_leads_to: (with_silent("[[\"OPEN\", \"FLOWN\"], [\"HELD\", \"OPEN\"]]"), ""),
    a_silent_transition_with_an_event: (with_silent("[[\"OPEN\", \"FLOWN\"]]"), format!("transition = {TO_FLOWN}")),
    two_events_on_one_transition: (LIFECYCLE, second(&format!("transition = {TO_FLOWN}"))),
    two_events_on_one_transition_told_apart: (
        LIFECYCLE,
        second(&format!("transition = {TO_FLOWN}\nwhen = \"$.after.fare > 5\""))
    ),
    unknown_lifecycle: (LIFECYCLE, "transition = { of = \"tripp\", to = \"OPEN\" }"),
    a_transition_of_no_lifecycle: ("", "transition = { of = \"trip\", to = \"OPEN\" }"),
    a_transition_to_nowhere: (LIFECYCLE, "transition = { of = \"trip\", form = \"OPEN\" }"),
    a_transition_that_is_text: (LIFECYCLE, "transition = \"OPEN\""),
    a_transition_to_the_same_state: (LIFECYCLE, "transition = { of = \"trip\", from = \"OPEN\", to = \"OPEN\" }"),
    a_creation_outside_of_start: (LIFECYCLE, "transition = { of = \"trip\", to = [\"OPEN\", \"FLOWN\"] }"),
    a_transition_on_delete: (LIFECYCLE, format!("on = [\"update\", \"delete\"]\ntransition = {TO_FLOWN}")),
    a_transition_from_a_state_on_insert: (LIFECYCLE, format!("on = \"insert\"\ntransition = {TO_FLOWN}")),
    a_creation_on_truncate: (LIFECYCLE, "on = \"truncate\"\ntransition = { of = \"trip\", to = \"OPEN\" }"),
    a_misplaced_transition: (LIFECYCLE, format!("[event.data]\ntransition = {TO_FLOWN}")),
}

#[test]
fn a_lifecycle_of_another_table() {
    let head = HEAD.replace("[topics.", "other = \"public.others\"\n[topics.");
    let lifecycle = lifecycle("segment", "other");
    let mut pack = pack(&format!("{head}{lifecycle}{EVENT}transition = {TO_FLOWN}"));
    let other = "[other]\nkey = [\"id\"]\n[other.columns]\nid = \"int8\"\nstatus = \"text\"\n";
    pack.schema.text.push_str(other);
    insta::assert_snapshot!(said(&pack));
}

#[test]
fn a_state_that_the_enum_does_not_have() {
    let mut pack = pack(&format!("{HEAD}{LIFECYCLE}{EVENT}transition = {TO_FLOWN}"));
    pack.schema
        .text
        .push_str("[segment.labels]\nstatus = [\"OPEN\", \"FLOWNN\"]\n");
    insta::assert_snapshot!(said(&pack));
}

#[test]
fn labels_of_what_is_no_enum() {
    let mut pack = pack(&format!("{HEAD}{EVENT}"));
    pack.schema
        .text
        .push_str("[segment.labels]\nfare = [\"1\"]\nstatsu = [\"OPEN\"]\n");
    insta::assert_snapshot!(said(&pack));
}

#[test]
fn everything_is_said_at_once() {
    let text = format!("{HEAD}{EVENT}chnaged = 1\nkey = \"{{pnnr}}\"\nwhen = \"$.row.fare > 'x'\"");
    let all = Mapping::compile(&pack(&text)).expect_err("three mistakes");
    assert_eq!(all.lines().count(), 3);
}
