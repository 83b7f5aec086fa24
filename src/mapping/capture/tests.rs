//! What a source sends, written and read back: the same, to the byte. And what is no whole capture.

use std::sync::Arc;

use proptest::prelude::*;
use rowbridge_api::{
    Batch, Cell, CellRange, Change, Column, Commit, Image, Item, Op, Row, Shape, ShapeId,
    Transaction, Type,
};

use super::*;
use crate::mapping::change_json::{ChangeReader, LineError, Tables};
use crate::mapping::{Mapping, Pack, SourceFile};
use crate::paint::Look;

/// Columns that rules read, each with a type and values as the source prints them.
const CELLS: [(&str, &str, &[&str]); 12] = [
    (
        "id",
        "int8",
        &["7", "-9223372036854775808", "9223372036854775807"],
    ),
    ("oid", "oid", &["4294967295"]),
    (
        "name",
        "text",
        &[
            "",
            "t",
            "null",
            "\"quoted\"\\",
            "line\nbreak\r\u{1}",
            "日本",
        ],
    ),
    (
        "fare",
        "numeric",
        &[
            "120.00",
            "NaN",
            "-Infinity",
            "0.10",
            "1000000000000000000000000.5",
        ],
    ),
    ("ratio", "float8", &["1e+20", "0.1", "NaN", "-0"]),
    (
        "doc",
        "json",
        &[
            "{\"a\" : 1.10,\n \"b\":[1, 2]}",
            " 1 ",
            "null",
            "\"null\"",
            "{\"z\":1,\"a\":2}",
        ],
    ),
    ("binary", "jsonb", &["{\"a\": 1}", "null", "[]"]),
    ("bytes", "bytea", &["\\x", "\\x00ff"]),
    ("flag", "bool", &["t", "f"]),
    (
        "at",
        "timestamptz",
        &[
            "2026-12-01 10:15:00.1+00",
            "infinity",
            "0044-03-15 00:00:00+00 BC",
        ],
    ),
    (
        "tags",
        "text[]",
        &["{}", "{\"a,b\",NULL,\"\\\"\"}", "[2:3]={1,2}"],
    ),
    (
        "address",
        "row(city text, lines text[])",
        &["(\"St. John's\",\"{a,b}\")", "(,)"],
    ),
];

fn mapping() -> Mapping {
    let mut data = String::new();
    let mut columns = String::new();
    for (name, ty, _) in CELLS {
        data.push_str(&format!("{name} = \"$.row.{name}\"\n"));
        columns.push_str(&format!("{name} = \"{ty}\"\n"));
    }
    let mapping = format!(
        "[mapping]\nname = \"notes\"\nversion = 3\n[tables]\nnote = \"public.notes\"\n\
         [topics.notes]\nname = \"notes\"\n[[event]]\ntype = \"Noted\"\ntable = \"note\"\ntopic = \"notes\"\n\
         [event.data]\n{data}"
    );
    let schema = format!("[note]\nkey = [\"id\"]\n[note.columns]\n{columns}secret = \"text\"\n");
    let file = |name: &str, text| SourceFile {
        name: name.to_owned(),
        text,
    };
    let pack = Pack {
        mapping: file("mapping.toml", mapping),
        schema: file("schema.toml", schema),
        params: toml::Table::new(),
    };
    let compiled = Mapping::compile(&pack);
    compiled
        .unwrap_or_else(|wrong| panic!("{}", wrong.render(Look::PLAIN)))
        .0
}

fn header(mapping: &Mapping) -> Header {
    let stamp = Stamp {
        pipeline: "p".to_owned(),
        identity: Identity {
            source: "postgres/7/db".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: 4096,
    };
    Header::new(mapping, &stamp, "2026-12-01T10:15:00Z".to_owned())
}

/// A shape as the source has it: with a column that no rule reads.
fn shape(id: u32) -> Arc<Shape> {
    let column = |name: &str, ty: &str| Column {
        name: name.to_owned(),
        ty: Type::parse(ty),
        key: name == "id",
    };
    let read = CELLS.iter().map(|(name, ty, _)| column(name, ty));
    let columns = [column("secret", "text")].into_iter().chain(read);
    Arc::new(Shape {
        id: ShapeId(id),
        table: TableName::new("public", "notes"),
        table_id: None,
        columns: columns.collect(),
    })
}

/// One cell of a test row.
#[derive(Clone, Debug)]
enum Given {
    Value(Vec<u8>),
    Null,
    Unavailable,
}

fn push_row(cells: &[Given], batch: &mut Batch) -> Image {
    let first_cell = u32::try_from(batch.cells.len()).unwrap();
    batch.push_value(b"hidden");
    for cell in cells {
        match cell {
            Given::Value(bytes) => batch.push_value(bytes),
            Given::Null => batch.cells.push(CellRange::NULL),
            Given::Unavailable => batch.cells.push(CellRange::UNAVAILABLE),
        }
    }
    Image::Row { first_cell }
}

fn begin(order: u64, batch: &mut Batch) {
    batch.items.push(Item::Begin(Transaction {
        id: 77,
        position: Position::with_token(order, b"token"),
        commit_micros: 1_796_120_100_123_456,
    }));
}

fn commit(order: u64, batch: &mut Batch) {
    batch.items.push(Item::Commit(Commit {
        position: Position::with_token(order, b"after"),
    }));
}

fn change(shape: &Shape, op: Op, [before, after]: [Image; 2], ordinal: u64) -> Item {
    Item::Change(Change {
        shape: shape.id,
        op,
        before,
        after,
        width: u16::try_from(shape.columns.len()).unwrap(),
        ordinal,
    })
}

/// One update from `before` to `after`, in a transaction with an ordinal of its own.
fn update(before: &[Given], after: &[Given]) -> Batch {
    let mut batch = Batch::default();
    let shape = shape(5);
    batch.items.push(Item::Shape(Arc::clone(&shape)));
    begin(40, &mut batch);
    let images = [push_row(before, &mut batch), push_row(after, &mut batch)];
    batch.items.push(change(&shape, Op::Update, images, 3));
    commit(50, &mut batch);
    batch
}

fn written(batches: &[Batch]) -> String {
    let mapping = Arc::new(mapping());
    let mut writer = Writer::new(&mapping, header(&mapping));
    let mut out = Vec::new();
    for batch in batches {
        for item in &batch.items {
            writer.item(batch, item, &mut out);
        }
    }
    writer.end(&mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Result<Batch, LineError> {
    let mut reader = ChangeReader::new(Arc::new(Tables::of(&mapping())));
    let mut batch = Batch::default();
    for line in text.lines() {
        reader.line(line, &mut batch)?;
    }
    reader.end(&mut batch);
    reader.complete()?;
    Ok(batch)
}

/// Everything that a rule or an event id is made from, but for columns that no rule reads.
fn flat(batch: &Batch) -> Vec<String> {
    let mut shapes: Vec<Arc<Shape>> = Vec::new();
    let mut lines = Vec::new();
    for item in &batch.items {
        match item {
            Item::Shape(shape) => shapes.push(Arc::clone(shape)),
            Item::Begin(begun) => lines.push(format!("{begun:?}")),
            Item::Change(change) => {
                let shape = shapes.iter().rfind(|shape| shape.id == change.shape);
                let shape = shape.unwrap();
                lines.push(format!(
                    "{:?} {} {}",
                    change.op, change.ordinal, shape.table
                ));
                let rows = [batch.before(change), batch.after(change)];
                for row in rows {
                    lines.push(format!("{:?}", row.map(|row| cells(shape, row))));
                }
            }
            Item::Commit(commit) => lines.push(format!("{commit:?}")),
            Item::SnapshotEnd(position) => lines.push(format!("{position:?}")),
        }
    }
    lines
}

fn cells(shape: &Shape, row: Row<'_>) -> Vec<String> {
    let columns = shape.columns.iter().enumerate();
    let columns = columns.filter(|(_, column)| column.name != "secret");
    columns
        .map(|(index, column)| {
            let cell = match row.cell(index) {
                Cell::Value(bytes) => format!("{bytes:x?}"),
                other => format!("{other:?}"),
            };
            format!("{column:?}: {cell}")
        })
        .collect()
}

fn row(number: usize) -> Vec<Given> {
    let value = |(_, _, values): &(&str, &str, &[&str])| {
        Given::Value(values[number % values.len()].as_bytes().to_vec())
    };
    CELLS.iter().map(value).collect()
}

#[test]
fn what_is_read_back_is_what_the_source_sent_to_the_byte() {
    for number in 0..6 {
        let sent = update(&row(number), &row(number + 1));
        let text = written(std::slice::from_ref(&sent));
        assert_eq!(flat(&read(&text).unwrap()), flat(&sent), "{text}");
    }
    let nothing = vec![Given::Unavailable; CELLS.len()];
    let mut nulls = vec![Given::Null; CELLS.len()];
    nulls[0] = Given::Value(b"7".to_vec());
    // What is no value of its type, and no text at all.
    let mut wrong = row(0);
    wrong[3] = Given::Value(b"much".to_vec());
    wrong[5] = Given::Value(b"{".to_vec());
    wrong[2] = Given::Value(vec![0xFF, 0xFE]);
    for sent in [update(&nothing, &nulls), update(&wrong, &wrong)] {
        let text = written(std::slice::from_ref(&sent));
        assert_eq!(flat(&read(&text).unwrap()), flat(&sent), "{text}");
    }
}

#[test]
fn inserts_deletes_and_truncates_keep_their_images_and_their_transactions() {
    let mut batch = Batch::default();
    let shape = shape(0);
    batch.items.push(Item::Shape(Arc::clone(&shape)));
    commit(10, &mut batch); // An idle position says nothing.
    begin(20, &mut batch);
    let inserted = push_row(&row(0), &mut batch);
    let insert = change(&shape, Op::Insert, [Image::Absent, inserted], 0);
    batch.items.push(insert);
    let deleted = push_row(&row(1), &mut batch);
    let delete = change(&shape, Op::Delete, [deleted, Image::Absent], 9);
    batch.items.push(delete);
    commit(30, &mut batch);
    begin(40, &mut batch);
    let truncate = change(&shape, Op::Truncate, [Image::Absent; 2], 0);
    batch.items.push(truncate);
    commit(50, &mut batch);
    let text = written(std::slice::from_ref(&batch));
    batch
        .items
        .retain(|item| !matches!(item, Item::Commit(commit) if commit.position.order() == 10));
    assert_eq!(flat(&read(&text).unwrap()), flat(&batch), "{text}");
    assert!(
        text.contains(r#"{"end":{"changes":3,"transactions":2,"#),
        "{text}"
    );
}

#[test]
fn a_transaction_that_is_not_there_to_its_end_is_told() {
    let mut sent = update(&row(0), &row(1));
    sent.items.pop();
    let text = written(std::slice::from_ref(&sent));
    assert!(
        text.ends_with("\"position\":null,\"whole\":false}}\n"),
        "{text}"
    );
    let read = flat(&read(&text).unwrap());
    assert_eq!(read[..read.len() - 1], flat(&sent), "the reader ends it");
}

#[test]
fn what_no_rule_reads_does_not_leave() {
    let text = written(&[update(&row(0), &row(1))]);
    assert!(
        !text.contains("secret") && !text.contains("hidden"),
        "{text}"
    );
    let mut other = Batch::default();
    let shape = Arc::new(Shape {
        id: ShapeId(9),
        table: TableName::new("public", "passports"),
        table_id: None,
        columns: shape(9).columns.clone(),
    });
    other.items.push(Item::Shape(Arc::clone(&shape)));
    begin(60, &mut other);
    let inserted = push_row(&row(0), &mut other);
    other
        .items
        .push(change(&shape, Op::Insert, [Image::Absent, inserted], 0));
    commit(70, &mut other);
    let text = written(&[other]);
    assert_eq!(text.lines().count(), 2, "header and end: {text}");
}

#[test]
fn a_table_that_changes_is_told_anew_where_it_changes() {
    let wider = {
        let mut shape = Shape::clone(&shape(6));
        shape.columns[1].ty = Type::parse("int4");
        Arc::new(shape)
    };
    let first = update(&row(0), &row(1));
    let mut second = update(&row(1), &row(2));
    second.items[0] = Item::Shape(Arc::clone(&wider));
    for item in &mut second.items {
        match item {
            Item::Change(change) => change.shape = wider.id,
            Item::Begin(begun) => begun.position = Position::new(60),
            Item::Commit(commit) => commit.position = Position::new(70),
            _ => {}
        }
    }
    let again = {
        let mut again = update(&row(0), &row(1));
        again.items.retain(|item| matches!(item, Item::Shape(_)));
        again
    };
    // Told once more without a difference, as servers do.
    let text = written(&[first, again, second]);
    assert_eq!(text.matches("{\"shape\":").count(), 2, "{text}");
    assert!(text.contains(r#""type":"int4","key":true"#), "{text}");
}

/// Only the catalogue knows what stands between the elements of an extension's type.
#[test]
fn arrays_keep_their_delimiters() {
    let colon = |name: &str| Type::array(Type::parse(name), b':');
    let nested = Type::composite([
        ("plain".to_owned(), Type::parse("int4[]")),
        ("odd".to_owned(), colon("public.colon")),
    ]);
    for (ty, told) in [
        (Type::parse("int4[]"), None),
        (Type::parse("box[]"), None),
        (colon("public.colon"), Some(":")),
        (nested.clone(), Some(",:")),
        (Type::array(nested, b','), Some(",,:")),
    ] {
        let untold = delimiters::untold(&ty);
        assert_eq!(untold.as_deref(), told, "{}", ty.name);
        let read = delimiters::typed(&ty.name, untold.as_deref()).unwrap();
        // Types are equal whatever stands between.
        assert_eq!(format!("{read:?}"), format!("{ty:?}"));
    }
}

#[test]
fn the_header_says_what_events_are_stamped_with() {
    let text = written(&[update(&row(0), &row(1))]);
    let header = Header::parse(text.lines().next().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(header.start.as_deref(), Some("0/28:746f6b656e"));
    assert_eq!(
        (header.mapping.name.as_str(), header.mapping.version),
        ("notes", 3)
    );
    let stamp = header.stamp();
    assert_eq!(
        (
            stamp.pipeline.as_str(),
            stamp.identity.source.as_str(),
            stamp.max_record_bytes
        ),
        ("p", "postgres/7/db", 4096)
    );
    assert!(Header::parse(r#"{"op":"insert"}"#).is_none());
}

#[test]
fn what_is_no_whole_capture_is_told() {
    let whole = written(&[update(&row(0), &row(1))]);
    let lines: Vec<&str> = whole.lines().collect();
    let wrong = |lines: &[&str]| read(&lines.join("\n")).unwrap_err().to_string();
    let cut = wrong(&lines[..lines.len() - 1]);
    assert_eq!(
        cut,
        "line 4, column 1: the capture has no last line: it was cut off, or is still being written"
    );
    let lost = wrong(&[&lines[..2], &lines[3..]].concat());
    assert!(
        lost.ends_with("the capture had 1 changes, and 0 are left"),
        "{lost}"
    );
    let more = wrong(&[&lines[..], &lines[2..3]].concat());
    assert!(
        more.ends_with("a line after the end of the capture"),
        "{more}"
    );
    let twice = wrong(&[&lines[..1], &lines[..]].concat());
    assert!(
        twice.ends_with("the header of a capture is its first line"),
        "{twice}"
    );
    let headless = wrong(&lines[1..]);
    assert!(
        headless.contains("the first line is no header"),
        "{headless}"
    );
    let newer = lines[0].replace("\"capture\":1", "\"capture\":2");
    let newer = wrong(&[&newer]);
    assert!(
        newer.contains("a capture of format 2 by Rowbridge"),
        "{newer}"
    );
    let wide = vec![r#"{"name":"c","type":"text"}"#; 65_536].join(",");
    let wide = format!(r#"{{"shape":{{"table":"t","schema":"s","name":"t","columns":[{wide}]}}}}"#);
    let wide = wrong(&[lines[0], &wide]);
    assert!(
        wide.ends_with("more columns than a table can have"),
        "{wide}"
    );
    let odd = lines[1].replace(
        "\"type\":\"text[]\"",
        "\"type\":\"text[]\",\"delimiters\":\"{\"",
    );
    let odd = wrong(&[lines[0], &odd]);
    assert!(odd.ends_with("a delimiter that no array has"), "{odd}");
    let less = lines[0].replace("\"max_record_bytes\"", "\"max_bytes\"");
    let less = wrong(&[&less]);
    assert!(
        less.contains("not the header of a capture: missing field"),
        "{less}"
    );
}

proptest! {
    #[test]
    fn any_bytes_in_any_column_come_back(column in 0..CELLS.len(), bytes: Vec<u8>, text: String) {
        for value in [bytes, text.into_bytes()] {
            let mut drawn = row(0);
            drawn[column] = Given::Value(value);
            let sent = update(&row(0), &drawn);
            let text = written(std::slice::from_ref(&sent));
            prop_assert_eq!(flat(&read(&text).unwrap()), flat(&sent));
        }
    }
}
