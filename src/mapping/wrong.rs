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
    not_yet_each: "each = \"$.after.tags\"",
    an_event_that_takes_back_what_never_comes: "reverts = \"CheckdOut\"",
    several_rows_and_a_table: "key = \"a\"\n[event.transaction]\nby = \"pnr\"\nparts.new = { table = \"segment\", on = \"insert\" }",
    not_yet_field_privacy: "[event.data]\nemail = { path = \"$.row.pnr\", privacy = \"hash\" }",
    warning_before_on_inserts: "when = \"$.before.status != 'A'\"",
    warning_existence_of_a_column: "when = \"$.row.seat_no\"",
    warning_constant_key: "key = \"all\"",
}

wrong_files! {
    toml_syntax: format!("{HEAD}[[event]\ntype = \"E\""),
    unknown_table: format!("{HEAD}{}", EVENT.replace("\"segment\"", "\"segmnt\"")),
    unknown_topic: format!("{HEAD}{}", EVENT.replace("\"inventory\"", "\"travel.inventory\"")),
    no_topic: format!("{HEAD}{}", EVENT.replace("topic = \"inventory\"\n", "")),
    no_type: format!("{HEAD}{}", EVENT.replace("type = \"E\"\n", "")),
    one_pair_of_brackets: format!("{HEAD}{}", EVENT.replace("[[event]]", "[event]")),
    no_mapping_table: EVENT,
    two_names_for_one_table: HEAD.replace("[topics.", "other = \"public.segments\"\n[topics."),
    a_table_without_schema: HEAD.replace("segment = ", "segmant = "),
    a_bad_retention: format!("{HEAD}retention = \"7 days\"\ncleanup = \"compacted\""),
    not_yet_privacy: format!("{HEAD}[privacy]\ndefault = \"deny\""),
    an_index_that_is_no_list_of_lists: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", index = [\"pnr\"] }"),
    an_index_with_an_unknown_column: HEAD.replace("\"public.segments\"", "{ name = \"public.segments\", index = [[\"pnrr\"]] }"),
    several_rows_without_parts: joined("[event.transaction]\nby = \"pnr\""),
    several_rows_none_of_which_has_to_be_there: joined("[event.transaction]\nby = \"pnr\"\nparts.new = { table = \"segment\", on = \"insert\", optional = true }"),
    several_rows_without_a_key: joined(PARTS).replace("key = \"{$.new.row.pnr}\"\n", ""),
    several_rows_and_a_row: joined(PARTS).replace("{$.new.row.pnr}", "{pnr}-{$.row.pnr}-{$.op}"),
    a_part_without_an_image: joined(PARTS).replace("$.new.row.pnr", "$.new.pnr"),
    a_part_without_the_column: joined(PARTS).replace("by = \"pnr\"", "by = \"pnrs\""),
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
