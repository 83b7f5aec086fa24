//! Messages of the replication protocol: one, or behind a zero byte several, each behind its length in two bytes.

use rowbridge_api::{Batch, Cell, Image, Item, Row, TableName};
use rowbridge_postgres::offline::Stream;
use rowbridge_postgres::pgoutput;

/// Cells lie inside the messages, and what a stream of them gives is what a source may send.
pub fn one(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, messages)) => stream(messages),
        _ => pgoutput::exercise(bytes),
    }
}

/// Reads messages until one is refused.
fn stream(mut bytes: &[u8]) {
    let table = TableName::new("public", "t");
    let mut stream = Stream::new([(table, vec!["id".to_owned()])], 16);
    let mut batch = Batch::default();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (message, rest) = rest.split_at(length.min(rest.len()));
        bytes = rest;
        if stream.message(message, &mut batch).is_err() {
            break;
        }
    }
    if stream.is_whole() {
        check(&batch);
    }
}

/// Shapes come before their changes, changes in transactions, and rows have the width of their shape.
fn check(batch: &Batch) {
    let (mut shapes, mut open, mut last) = (Vec::new(), false, None);
    for item in &batch.items {
        match item {
            Item::Shape(shape) => shapes.push(shape),
            Item::Begin(_) => {
                assert!(!open, "a transaction in a transaction");
                (open, last) = (true, None);
            }
            Item::Change(change) => {
                assert!(open, "a change outside of a transaction");
                assert!(last < Some(change.ordinal), "ordinals rise");
                last = Some(change.ordinal);
                let shape = shapes.iter().rev().find(|shape| shape.id == change.shape);
                let shape = shape.expect("a shape is announced before its changes");
                assert_eq!(shape.columns.len(), usize::from(change.width));
                for image in [change.before, change.after] {
                    let row = batch.row(change, image);
                    assert_eq!(row.is_some(), image != Image::Absent);
                    row.iter().for_each(read);
                }
            }
            Item::Commit(_) => open = false,
            Item::SnapshotEnd(_) => panic!("a stream has no snapshot"),
        }
    }
}

fn read(row: &Row<'_>) {
    for index in 0..row.width() {
        if let Cell::Value(bytes) = row.cell(index) {
            std::hint::black_box(bytes);
        }
    }
}
