//! Lines in, batches out: change JSON and Debezium's envelope, and what their errors say.

use proptest::prelude::*;
use rowbridge_api::{Cell, Column, Item, TableName, Type};

use super::*;

const NOTE: &str = r#"{"op":"insert","table":"note","after":{"id":1,"body":"x"}}"#;

fn column(name: &str, ty: &str) -> Column {
    Column {
        name: name.to_owned(),
        ty: Type::parse(ty),
        key: name == "id",
    }
}

fn tables(columns: &[(&str, &str)]) -> Arc<Tables> {
    let columns = columns.iter().map(|(name, ty)| column(name, ty)).collect();
    let name = TableName::new("public", "notes");
    Arc::new(Tables::new([("note".to_owned(), name, columns)]))
}

fn notes() -> Arc<Tables> {
    tables(&[("id", "int8"), ("body", "text"), ("fare", "numeric(10,2)")])
}

fn days() -> Arc<Tables> {
    tables(&[("id", "int8"), ("fare", "numeric"), ("day", "date")])
}

fn read_all(tables: &Arc<Tables>, lines: &[&str]) -> Result<Batch, LineError> {
    let mut reader = ChangeReader::new(Arc::clone(tables));
    let mut batch = Batch::default();
    for line in lines {
        reader.line(line, &mut batch)?;
    }
    reader.end(&mut batch);
    Ok(batch)
}

/// One word per item, and per cell its text, `null` or `?`.
fn shown(batch: &Batch) -> Vec<String> {
    let row = |row: rowbridge_api::Row<'_>| {
        let cells = (0..row.width()).map(|index| match row.cell(index) {
            Cell::Value(text) => String::from_utf8_lossy(text).into_owned(),
            Cell::Null => "null".to_owned(),
            Cell::Unavailable => "?".to_owned(),
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    let items = batch.items.iter().map(|item| match item {
        Item::Shape(shape) => format!("shape {}", shape.table),
        Item::Begin(begun) => {
            format!(
                "begin {} {} {}",
                begun.id, begun.position, begun.commit_micros
            )
        }
        Item::Change(change) => {
            let before = batch.before(change).map_or(String::new(), row);
            let after = batch.after(change).map_or(String::new(), row);
            format!(
                "{} {} [{before}] [{after}]",
                change.ordinal,
                change.op.as_str()
            )
        }
        Item::Commit(commit) => format!("commit {}", commit.position),
        Item::SnapshotEnd(position) => format!("snapshot end {position}"),
    });
    items.collect()
}

fn changes(tables: &Arc<Tables>, line: &str) -> String {
    let batch = read_all(tables, &[line]).unwrap();
    shown(&batch)[2].clone()
}

fn error(line: &str) -> String {
    read_all(&notes(), &[line]).unwrap_err().to_string()
}

#[test]
fn changes_with_one_transaction_id_are_one_transaction() {
    let batch = read_all(
        &notes(),
        &[
            r#"{"op":"insert","table":"note","after":{"id":1},"tx":{"id":"77","time":"1970-01-01T00:00:01Z"},"source":{"position":"0/10"}}"#,
            "",
            r#"{"op":"delete","table":"public.notes","key":{"id":1},"tx":{"id":77}}"#,
            r#"{"commit":{"position":"0/20"}}"#,
            NOTE,
            NOTE,
        ],
    );
    assert_eq!(
        shown(&batch.unwrap()),
        [
            "shape public.notes",
            "begin 77 0/10 1000000",
            "0 insert [] [1 ? ?]",
            "1 delete [1 ? ?] []",
            "commit 0/20",
            "begin 33 0/21 0",
            "0 insert [] [1 x ?]",
            "commit 0/22",
            "begin 35 0/23 0",
            "0 insert [] [1 x ?]",
            "commit 0/24",
        ]
    );
}

#[test]
fn what_is_not_there_is_unavailable_and_never_null() {
    let tables = notes();
    let update = r#"{"op":"update","table":"note","before":null,"after":{"id":1,"body":null,"fare":"1.50"},"unavailable":["after.fare"]}"#;
    assert_eq!(changes(&tables, update), "0 update [1 ? ?] [1 null ?]");
    let extra = r#"{"op":"read","table":"note","after":{"id":1,"internal":{"a":[1]}}}"#;
    assert_eq!(changes(&tables, extra), "0 read [] [1 ? ?]");
    let truncate = r#"{"op":"truncate","table":"note"}"#;
    assert_eq!(changes(&tables, truncate), "0 truncate [] []");
}

#[test]
fn a_quarantine_record_reads_as_the_change_it_sets_aside() {
    let record = r#"{"op":"insert","table":"note","after":{"id":1,"fare":"-1.00"},"error":"negative fare","rule":"Noted","position":"0/30"}"#;
    let batch = read_all(&notes(), &[record]).unwrap();
    assert_eq!(
        shown(&batch)[1..3],
        ["begin 48 0/30 0", "0 insert [] [1 ? -1.00]"]
    );
}

#[test]
fn errors_name_line_and_column_and_no_value() {
    insta::assert_snapshot!(
        [
            r#"{"op":"insert","table":"note","after":{"id":"seven"}}"#,
            r#"{"op":"insert","table":"note","after":{"body":42}}"#,
            r#"{"op":"upsert","table":"note"}"#,
            r#"{"op":"insert","table":"memo","after":{}}"#,
            r#"{"op":"insert","table":"note"}"#,
            r#"{"op":"insert","table":"note","before":{"id":1},"after":{"id":1}}"#,
            r#"{"op":"insert","table":"note","after":{"id":1},"tx":{"time":"noon"}}"#,
            r#"{"op":"insert","table":"note","after":{"id":1},"unavailable":["body"]}"#,
            r#"{"op":"insert","table":"note","after":{"id":1}"#,
            r#"["op"]"#,
            r#"{"id":1,"body":"flattened"}"#,
            r#"{"payload":{"id":1,"body":"flattened"}}"#,
        ]
        .map(error)
        .join("\n"),
        @r"
    line 1, column 45: `id`: not a valid int8: not an integer of 64 bits
    line 1, column 47: `body`: expected a string, found a number
    line 1, column 7: `op` is one of insert, update, delete, read, truncate
    line 1, column 24: the mapping declares no table `memo`; it has note
    line 1, column 1: `insert` needs `after` (the quarantine record of an oversize event carries no row)
    line 1, column 1: `insert` has no `before`
    line 1, column 61: expected a time as in 2026-12-01T10:15:00Z
    line 1, column 63: expected an image and a column, as in `before.notes`
    line 1, column 46: EOF while parsing an object
    line 1, column 1: expected an object
    line 1, column 1: `op` is missing
    line 1, column 12: no `op`: rows flattened by ExtractNewRecordState have lost their old image; read the topic before it
    "
    );
}

#[test]
fn what_no_server_can_say_is_refused_and_not_counted_on_from() {
    for (line, problem) in [
        (
            r#"{"op":"insert","table":"note","after":{},"position":"FFFFFFFF/FFFFFFFF"}"#,
            "a position past all that a server can reach",
        ),
        (
            r#"{"commit":{"position":"80000000/0"}}"#,
            "a position past all that a server can reach",
        ),
        (
            r#"{"op":"insert","table":"note","after":{},"tx":{"ordinal":18446744073709551615}}"#,
            "more changes than a transaction can have",
        ),
        (
            r#"{"op":"c","after":{},"source":{"table":"notes","lsn":18446744073709551615}}"#,
            "a position past all that a server can reach",
        ),
        (
            r#"{"op":"c","after":{},"source":{"table":"notes","ts_us":9223372036854775807}}"#,
            "a time of commit out of range",
        ),
        (
            r#"{"op":"c","after":{"fare":{"scale":-2147483648,"value":"AQ=="}},"source":{"table":"notes"}}"#,
            "`fare`: a scale that no decimal has",
        ),
        (
            r#"{"op":"c","after":{"day":20100500},"source":{"table":"notes"}}"#,
            "`day`: a date out of range",
        ),
        (
            r#"{"op":"c","after":{"day":9223372036854775807},"source":{"table":"notes"}}"#,
            "`day`: a date out of range",
        ),
    ] {
        let error = read_all(&days(), &[line]).unwrap_err().to_string();
        assert!(error.ends_with(problem), "{error}");
    }
}

#[test]
fn a_document_that_spreads_over_lines_is_written_on_one() {
    let tables = tables(&[("id", "int8"), ("doc", "json")]);
    let mut batch = read_all(
        &tables,
        &[r#"{"op":"read","table":"note","after":{"id":1,"doc":{"a": 1}}}"#],
    )
    .unwrap();
    let blank = batch.bytes.iter().position(|byte| *byte == b' ').unwrap();
    batch.bytes[blank] = b'\n';
    let [Item::Shape(shape), Item::Begin(tx), Item::Change(change), _] = &batch.items[..] else {
        panic!("{:?}", batch.items);
    };
    let mut line = Vec::new();
    let document = crate::mapping::change_document::ChangeDocument {
        table: "note",
        shape,
        batch: &batch,
        tx,
        change,
        identity: &rowbridge_api::Identity {
            source: "s".to_owned(),
            history: "1".to_owned(),
        },
        protection: crate::mapping::change_document::Protection::NONE,
    };
    document.write(&mut line);
    let line = String::from_utf8(line).unwrap();
    assert!(!line.contains('\n'), "{line}");
    assert_eq!(changes(&tables, &line), r#"0 read [] [1 {"a": 1}]"#);
}

#[test]
fn debezium_without_schema_follows_the_declared_types() {
    let tables = tables(&[
        ("id", "int8"),
        ("exact", "numeric(10,2)"),
        ("whole", "numeric(10)"),
        ("any", "numeric"),
        ("day", "date"),
        ("at", "timestamptz"),
        ("local", "timestamp"),
        ("coarse", "timestamp(3)"),
        ("clock", "time"),
        ("span", "interval"),
        ("raw", "bytea"),
        ("doc", "jsonb"),
        ("tags", "text[]"),
        ("days", "date[]"),
        ("flag", "bool"),
        ("extras", "hstore"),
    ]);
    let line = r#"{"op":"c","after":{"id":1,"exact":"MDk=","whole":"1234","any":{"scale":3,"value":"BNI="},"day":20788,
        "at":"2026-12-01T10:15:00.5Z","local":1796120100500000,"coarse":1796120100500,"clock":36900000000,
        "span":90000000,"raw":"3q2+7w==","doc":"{\"a\": 1.10}","tags":["a","b \"c\"",null],"days":[20788],"flag":true,
        "extras":"{\"a\":\"1\",\"b\":null}"},
        "source":{"schema":"public","table":"notes","txId":9,"lsn":33,"ts_ms":5},"ts_ms":6}"#
        .replace('\n', "");
    let batch = read_all(&tables, &[&line]).unwrap();
    assert_eq!(
        shown(&batch)[1..],
        [
            "begin 9 0/21 5000".to_owned(),
            "0 insert [] [1 123.45 1234 1.234 2026-12-01 2026-12-01T10:15:00.5Z 2026-12-01 10:15:00.5 \
             2026-12-01 10:15:00.5 10:15:00 PT90.000000S \\xdeadbeef {\"a\": 1.10} \
             {\"a\",\"b \\\"c\\\"\",NULL} {\"2026-12-01\"} t \"a\"=>\"1\", \"b\"=>NULL]"
                .to_owned(),
            "commit 0/22".to_owned(),
        ]
    );
}

#[test]
fn debezium_schema_decides_over_the_declared_type() {
    let field = |name: &str, logical: &str, parameters: &str| {
        format!(r#"{{"field":"{name}","type":"x","name":"{logical}"{parameters}}}"#)
    };
    let fields = [
        field("id", "", ""),
        field(
            "fare",
            "org.apache.kafka.connect.data.Decimal",
            r#","parameters":{"scale":"2"}"#,
        ),
        field("at", "io.debezium.time.NanoTimestamp", ""),
        field("local", "org.apache.kafka.connect.data.Timestamp", ""),
        field("clock", "io.debezium.time.Time", ""),
    ]
    .join(",");
    let line = format!(
        r#"{{"schema":{{"fields":[{{"field":"before","fields":[{fields}]}},{{"field":"after","fields":[{fields}]}}]}},
        "payload":{{"op":"r","before":null,"after":{{"id":1,"fare":"8f0=","at":1796120100500000000,"local":1796120100500,"clock":36900000}},
        "source":{{"schema":"public","table":"notes"}}}}}}"#
    )
    .replace('\n', "");
    let tables = tables(&[
        ("id", "int8"),
        ("fare", "numeric"),
        ("at", "timestamp"),
        ("local", "timestamp"),
        ("clock", "time"),
    ]);
    assert_eq!(
        changes(&tables, &line),
        "0 read [] [1 -35.87 2026-12-01 10:15:00.5 2026-12-01 10:15:00.5 10:15:00]"
    );
}

#[test]
fn debezium_placeholders_are_unavailable_in_all_their_disguises() {
    let tables = tables(&[
        ("id", "int8"),
        ("body", "text"),
        ("raw", "bytea"),
        ("tags", "text[]"),
        ("counts", "int4[]"),
        ("ids", "uuid[]"),
        ("doc", "jsonb"),
    ]);
    let bytes: Vec<u8> = "__debezium_unavailable_value".bytes().collect();
    let line = format!(
        r#"{{"op":"u","before":null,"after":{{"id":1,"body":"__debezium_unavailable_value",
        "raw":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==","tags":["__debezium_unavailable_value"],"counts":{bytes:?},
        "ids":["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],"doc":"__debezium_unavailable_value"}},
        "source":{{"schema":"public","table":"notes"}}}}"#
    )
    .replace('\n', "");
    assert_eq!(
        changes(&tables, &line),
        "0 update [1 ? ? ? ? ? ?] [1 ? ? ? ? ? ?]"
    );
}

#[test]
fn debezium_delete_under_default_identity_knows_only_the_key() {
    let delete = |before: &str| {
        format!(
            r#"{{"op":"d","before":{before},"after":null,"source":{{"schema":"public","table":"notes"}}}}"#
        )
    };
    let tables = notes();
    let key_only = delete(r#"{"id":1,"body":null,"fare":null}"#);
    assert_eq!(changes(&tables, &key_only), "0 delete [1 ? ?] []");
    let full = delete(r#"{"id":1,"body":null,"fare":2.5}"#);
    assert_eq!(changes(&tables, &full), "0 delete [1 null 2.5] []");
}

#[test]
fn debezium_transaction_metadata_ends_transactions_and_noise_is_skipped() {
    let create = |tx: u64, lsn: u64| {
        format!(
            r#"{{"op":"c","after":{{"id":1}},"source":{{"schema":"public","table":"notes","txId":{tx},"lsn":{lsn}}}}}"#
        )
    };
    let (one, two, three) = (create(5, 100), create(5, 101), create(6, 300));
    let batch = read_all(
        &notes(),
        &[
            r#"{"status":"BEGIN","id":"5","event_count":null}"#,
            &one,
            &two,
            "null",
            r#"{"ts_ms":1}"#,
            r#"{"payload":{"status":"END","id":"5","event_count":2}}"#,
            r#"{"op":"m","source":{},"message":{}}"#,
            &three,
        ],
    );
    let batch = batch.unwrap();
    let transactions = shown(&batch);
    assert_eq!(
        transactions[1..],
        [
            "begin 5 0/64 0",
            "0 insert [] [1 ? ?]",
            "1 insert [] [1 ? ?]",
            "commit 0/65",
            "begin 6 0/12C 0",
            "0 insert [] [1 ? ?]",
            "commit 0/12D",
        ]
    );
}

#[test]
fn a_composite_names_all_its_fields_and_no_others() {
    let tables = tables(&[("id", "int8"), ("home", "row(street text, zip int4)")]);
    let insert = |home: &str| {
        format!(r#"{{"op":"insert","table":"note","after":{{"id":1,"home":{home}}}}}"#)
    };
    let read =
        |home: &str| read_all(&tables, &[&insert(home)]).map(|batch| shown(&batch)[2].clone());
    assert_eq!(
        read(r#"{"zip":7,"street":null}"#).unwrap(),
        r#"0 insert [] [1 (,"7")]"#
    );
    for (home, problem) in [
        (r#"{"street":"a"}"#, "field `zip` is missing"),
        (
            r#"{"street":"a","zip":1,"city":"b"}"#,
            "the type has no field `city`",
        ),
        (
            r#"{"street":"a","zip":true}"#,
            "expected a number, found a boolean",
        ),
        (
            "[1]",
            "expected an object, or its text form, found an array",
        ),
    ] {
        let error = read(home).unwrap_err().to_string();
        assert!(error.ends_with(problem), "{error}");
    }
}

/// The cell that comes back when `text` is published as JSON and read again.
fn round_trip(ty: &Type, text: &str) -> String {
    let mut json = Vec::new();
    ty.write_json(text.as_bytes(), &mut json).unwrap();
    match cell_from_json(ty, std::str::from_utf8(&json).unwrap()).unwrap() {
        OwnedCell::Value(text) => String::from_utf8(text).unwrap(),
        other => panic!("{text} came back as {other:?}"),
    }
}

#[test]
fn every_kind_survives_publishing_and_reading_again() {
    for (ty, text) in [
        ("bool", "t"),
        ("bool", "f"),
        ("int8", "-9223372036854775808"),
        ("numeric(30,10)", "12345678901234567890.1000000000"),
        ("numeric", "NaN"),
        ("numeric", "-Infinity"),
        ("float8", "1.7976931348623157e+308"),
        ("float8", "-0"),
        ("float4", "Infinity"),
        ("text", "null"),
        ("text", "a \"quote\" \\ and\nmore \u{1F68C}"),
        ("char(5)", "ab   "),
        ("uuid", "b68a35a7-17ad-35b3-af2a-ae46edb4545a"),
        ("bytea", "\\x"),
        ("bytea", "\\xdeadbeef"),
        (
            "jsonb",
            "{\"b\": 1.10, \"a\": [null, 12345678901234567890]}",
        ),
        ("json", "\"text\""),
        ("date", "2026-12-01"),
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "12026-12-01"),
        ("time", "24:00:00"),
        ("timetz", "10:15:00.5-03:30"),
        ("timestamp", "2026-12-01 10:15:00.123456"),
        ("timestamptz", "2026-12-01 10:15:00+00"),
        ("timestamptz", "-infinity"),
        ("timestamptz", "0044-03-15 10:15:00+00 BC"),
        ("interval", "P1Y2M3DT4H5M6.5S"),
        ("text[]", "{a,NULL,\"NULL\",\"\",\"b \\\"c\\\" \\\\ {,}\"}"),
        ("int4[]", "{{1,2},{3,4}}"),
        ("int4[]", "[2:3]={1,2}"),
        ("int4[]", "{}"),
        ("timestamptz[]", "{\"2026-12-01 10:15:00+00\",infinity}"),
        ("jsonb[]", "{\"{\\\"a\\\":1}\",NULL}"),
        ("bytea[]", "{\"\\\\xdead\"}"),
        ("box[]", "{(1,1),(0,0);(3,3),(2,2)}"),
        ("(int4[])[]", "{\"{1,2}\",NULL,\"{}\"}"),
        (
            "row(a text, n numeric, at row(x float8))",
            r#"("a ""b"" \\",1.50,"(0.5)")"#,
        ),
        ("row(a text, n numeric)", "(\"\",)"),
        ("row()", "()"),
        ("row(a text)[]", r#"{"(\"b c\")",NULL,"()"}"#),
        ("hstore", r#""a"=>"1", "b"=>NULL, "q\"\\"=>"NULL""#),
        ("hstore", ""),
        ("hstore[]", r#"{"\"a\"=>\"1\"",""}"#),
    ] {
        let ty = Type::parse(ty);
        let again = round_trip(&ty, text);
        assert_eq!(
            ty.decode(again.as_bytes()),
            ty.decode(text.as_bytes()),
            "{} {text} came back as {again}",
            ty.name
        );
    }
}

proptest! {
    #[test]
    fn text_and_bytes_survive_publishing_and_reading_again(text in "\\PC*", bytes: Vec<u8>) {
        prop_assert_eq!(round_trip(&Type::parse("text"), &text), text);
        let hex = cell::hex(&bytes);
        prop_assert_eq!(round_trip(&Type::parse("bytea"), &hex), hex);
    }

    #[test]
    fn no_line_makes_the_reader_panic(line in "\\PC*") {
        let _ = read_all(&notes(), &[&line]);
    }

    #[test]
    fn no_cut_or_changed_envelope_makes_the_reader_panic(at in 0_usize..200, with in "[\\[\\]{}\",:0-9a-z]{0,3}") {
        let line = r#"{"op":"u","before":null,"after":{"id":1,"body":"x","fare":"MDk="},"source":{"schema":"public","table":"notes","lsn":5,"ts_ms":1}}"#;
        let at = at.min(line.len());
        let _ = read_all(&notes(), &[&line[..at]]);
        let _ = read_all(&notes(), &[&format!("{}{with}{}", &line[..at], &line[at..])]);
    }
}
