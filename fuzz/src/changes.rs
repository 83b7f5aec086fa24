//! Lines of change JSON, read, published, and written again.

use std::cell::OnceCell;
use std::sync::Arc;

use rowbridge::event::EncodedBatch;
use rowbridge::event_json::EventJson;
use rowbridge::mapping::Mapping;
use rowbridge::mapping::capture::{Header, Writer};
use rowbridge::mapping::change_document::{ChangeDocument, Protection};
use rowbridge::mapping::change_json::{ChangeReader, Replay, Tables};
use rowbridge::mapping::coverage::Seen;
use rowbridge_api::{Batch, Cell, Change, Item, Row, Shape, Transaction};
use serde_json::Value;

use super::pack;

thread_local! {
    static MAPPING: OnceCell<Arc<Mapping>> = const { OnceCell::new() };
}

/// Reads every line; what was read is published as JSON, and reads the same when it is written again.
pub(crate) fn check(text: &str) {
    let mapping = MAPPING.with(|mapping| Arc::clone(mapping.get_or_init(pack::everything)));
    let tables = Arc::new(Tables::of(&mapping));
    let batch = read(text, &tables);
    if text
        .lines()
        .next()
        .is_some_and(|line| Header::parse(line).is_some())
    {
        evaluate(&mapping, &batch);
        return;
    }
    publish(&mapping, &batch);
    record(&mapping, &tables, &batch);
    let mut transaction = None;
    for item in &batch.items {
        match item {
            Item::Begin(begun) => transaction = Some(begun),
            Item::Change(change) => {
                let tx = transaction.expect("a change is in a transaction");
                write_and_read(&tables, &batch, tx, change);
            }
            Item::Commit(commit) => {
                let tx = transaction.take().expect("a commit ends a transaction");
                assert!(
                    commit.position > tx.position,
                    "it ends after the place that names it"
                );
            }
            Item::Shape(_) | Item::SnapshotEnd(_) => {}
        }
    }
    assert!(transaction.is_none(), "the last transaction is ended");
}

/// A capture has tables of its own, which the mapping may not fit: that is said, and nothing else happens.
fn evaluate(mapping: &Arc<Mapping>, batch: &Batch) {
    let mut replay = Replay::new(Arc::clone(mapping), pack::stamp());
    for item in &batch.items {
        if replay
            .item(batch, item, &mut EncodedBatch::default())
            .is_err()
        {
            return;
        }
        if let Item::Change(change) = item {
            let covered = replay.cover(batch, change, &mut Seen::default());
            covered.expect("what was published can be covered");
        }
    }
}

/// What is recorded is read back as the same bytes.
fn record(mapping: &Arc<Mapping>, tables: &Arc<Tables>, batch: &Batch) {
    let header = Header::new(mapping, &pack::stamp(), String::new());
    let mut writer = Writer::new(mapping, header);
    let mut lines = Vec::new();
    for item in &batch.items {
        writer.item(batch, item, &mut lines);
    }
    writer.end(&mut lines);
    let mut reader = ChangeReader::new(Arc::clone(tables));
    let mut again = Batch::default();
    for line in String::from_utf8(lines).expect("a capture is text").lines() {
        reader
            .line(line, &mut again)
            .expect("what is recorded can be read");
    }
    reader.end(&mut again);
    reader.complete().expect("what is recorded is whole");
    assert_eq!(changes(batch), changes(&again));
}

/// Every change with its cells.
fn changes(batch: &Batch) -> Vec<String> {
    let changes = batch.items.iter().filter_map(|item| match item {
        Item::Change(change) => Some(change),
        _ => None,
    });
    changes
        .map(|change| {
            let shape = shape_of(batch, change);
            let rows = [batch.before(change), batch.after(change)];
            let cells = |row: Row<'_>| -> Vec<String> {
                let columns = shape.columns.iter().enumerate();
                columns
                    .map(|(index, column)| format!("{}: {:?}", column.name, row.cell(index)))
                    .collect()
            };
            format!(
                "{:?} {} {} {:?}",
                change.op,
                change.ordinal,
                shape.table,
                rows.map(|row| row.map(cells))
            )
        })
        .collect()
}

/// An error leaves the batch as it was and points into its line.
fn read(text: &str, tables: &Arc<Tables>) -> Batch {
    let mut reader = ChangeReader::new(Arc::clone(tables));
    let mut batch = Batch::default();
    let sizes = |batch: &Batch| (batch.bytes.len(), batch.cells.len(), batch.items.len());
    for (number, line) in (1..).zip(text.split('\n')) {
        let before = sizes(&batch);
        if let Err(error) = reader.line(line, &mut batch) {
            assert_eq!(sizes(&batch), before, "an error leaves the batch as it was");
            assert_eq!(error.line, number);
            assert!(
                error.column <= line.chars().count() + 1,
                "{error}: no such column"
            );
        }
    }
    reader.end(&mut batch);
    batch
}

/// Every event and every quarantine record is JSON, and one line of it for people.
pub(crate) fn publish(mapping: &Arc<Mapping>, batch: &Batch) {
    let mut replay = Replay::new(Arc::clone(mapping), pack::stamp());
    let mut out = EncodedBatch::default();
    for item in &batch.items {
        replay
            .item(batch, item, &mut out)
            .expect("a mapping that quarantines goes on");
        replay
            .explain(batch, item)
            .expect("what was published can be explained");
    }
    let printer = EventJson::of(mapping, "quarantine");
    for record in &out.records {
        let value = record.value.map(|span| out.bytes(span));
        if let Some(value) = value {
            serde_json::from_slice::<serde::de::IgnoredAny>(value).expect("an event is JSON");
        }
        let mut line = Vec::new();
        printer.write(&out, record, &mut line);
        serde_json::from_slice::<serde::de::IgnoredAny>(&line).expect("a printed event is JSON");
        assert!(!line.contains(&b'\n'), "a printed event is one line");
    }
}

fn write_and_read(tables: &Arc<Tables>, batch: &Batch, tx: &Transaction, change: &Change) {
    let shape = shape_of(batch, change);
    let mut line = Vec::new();
    let document = ChangeDocument {
        table: &shape.table.to_string(),
        shape,
        batch,
        tx,
        change,
        identity: &pack::identity(),
        protection: Protection::NONE,
    };
    document.write(&mut line);
    let line = String::from_utf8(line).expect("a document is text");
    assert!(!line.contains('\n'), "a document is one line: {line}");
    let again = {
        let mut reader = ChangeReader::new(Arc::clone(tables));
        let mut batch = Batch::default();
        let read = reader.line(&line, &mut batch);
        read.unwrap_or_else(|error| panic!("{error}: {line}"));
        batch
    };
    let [
        Item::Shape(_),
        Item::Begin(tx_again),
        Item::Change(change_again),
    ] = &again.items[..]
    else {
        panic!("{:?}: {line}", again.items);
    };
    assert_eq!(tx_again, tx, "{line}");
    assert_eq!(
        (change_again.op, change_again.ordinal),
        (change.op, change.ordinal),
        "{line}"
    );
    same(
        shape,
        batch.before(change),
        again.before(change_again),
        &line,
    );
    same(shape, batch.after(change), again.after(change_again), &line);
}

fn shape_of<'b>(batch: &'b Batch, change: &Change) -> &'b Shape {
    let mut shapes = batch.items.iter().filter_map(|item| match item {
        Item::Shape(shape) if shape.id == change.shape => Some(shape),
        _ => None,
    });
    shapes
        .next_back()
        .expect("a shape is announced before its changes")
}

/// The rows publish the same, blanks between the parts of a document aside. A cell `null` of type json cannot be told from a null in JSON.
fn same(shape: &Shape, row: Option<Row<'_>>, again: Option<Row<'_>>, line: &str) {
    assert_eq!(row.is_some(), again.is_some(), "{line}");
    let Some((row, again)) = row.zip(again) else {
        return;
    };
    for (index, column) in shape.columns.iter().enumerate() {
        let published = |row: Row<'_>| match row.cell(index) {
            Cell::Unavailable => Err("unavailable".to_owned()),
            Cell::Null => Ok(Value::Null),
            Cell::Value(raw) => {
                let mut json = Vec::new();
                let written = column.ty.write_json(raw, &mut json);
                written.map_err(|_| format!("invalid {raw:?}"))?;
                // What is nested too deep for a tree is compared as it is.
                serde_json::from_slice(&json)
                    .map_err(|_| String::from_utf8_lossy(&json).into_owned())
            }
        };
        assert_eq!(published(again), published(row), "{}: {line}", column.name);
    }
}
