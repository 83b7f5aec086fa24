use bson::{Document, RawDocumentBuf, doc};
use rowbridge_api::{ColumnNeed, OpSet, Type};

use super::*;

/// A token of cluster time `time`, and of the event's number in it, which is below 128.
fn raw_token(time: u32, number: u8) -> Document {
    let place = match number {
        0 => "29".to_owned(),
        number => format!("2B{:02X}", number << 1),
    };
    doc! { "_data": format!("82{time:08X}{:08X}2B042C0100{place}6E5A1004", 1) }
}

fn event(time: u32, number: u8, more: Document) -> RawDocumentBuf {
    let mut event = doc! {
        "_id": raw_token(time, number),
        "clusterTime": bson::Timestamp { time, increment: 1 },
        "ns": { "db": "hotel", "coll": "reservations" },
    };
    event.extend(more);
    RawDocumentBuf::try_from(&event).unwrap()
}

fn insert(time: u32, number: u8, id: i32) -> RawDocumentBuf {
    event(
        time,
        number,
        doc! { "operationType": "insert", "documentKey": { "_id": id }, "fullDocument": { "_id": id } },
    )
}

fn position(time: u32, number: u8) -> Position {
    let document = RawDocumentBuf::try_from(&raw_token(time, number)).unwrap();
    token::position(&document).unwrap()
}

fn assembler(on_drop: OnDrop, resume: Position) -> Assembler {
    assembler_of(OpSet::default().with(Op::Insert), on_drop, resume)
}

fn assembler_of(ops: OpSet, on_drop: OnDrop, resume: Position) -> Assembler {
    let needs = TableNeeds {
        table: TableName::new("hotel", "reservations"),
        key: vec!["_id".to_owned()],
        columns: vec![ColumnNeed {
            name: "_id".to_owned(),
            ty: Type::parse("int4"),
            before: false,
            labels: Vec::new(),
            rules: Vec::new(),
        }],
        ops,
    };
    Assembler::new(&[needs], on_drop, resume, 0)
}

/// The items as a reader of this test wants to see them.
fn shown(batch: &Batch) -> Vec<String> {
    let item = |item: &Item| match item {
        Item::Shape(shape) => format!("shape {}", shape.table),
        Item::Begin(transaction) => format!("begin {}", transaction.position.order() >> 32),
        Item::Change(change) => format!("{} {}", change.op.as_str(), change.ordinal),
        Item::Commit(commit) => format!("commit {}", commit.position.order() >> 32),
        Item::SnapshotEnd(_) => "end".to_owned(),
    };
    batch.items.iter().map(item).collect()
}

#[test]
fn an_update_outside_a_transaction_is_complete_by_itself_on_one_replica_set() {
    let update = |time, number, transaction: Option<i64>| {
        let mut more = doc! {
            "operationType": "replace", "documentKey": { "_id": 1 }, "fullDocument": { "_id": 1 },
        };
        more.extend(transaction.map(|number| ("txnNumber".to_owned(), number.into())));
        event(time, number, more)
    };
    let mut batch = Batch::default();
    let mut of_one = assembler(OnDrop::Stop, Position::new(0)).of_one_replica_set(true);
    for event in [
        update(5, 0, None),
        update(6, 0, Some(1)),
        update(6, 1, Some(1)),
        insert(7, 0, 2),
    ] {
        of_one.apply(&event, &mut batch).unwrap();
    }
    let alone = [
        "shape hotel.reservations",
        "begin 5",
        "update 0",
        "commit 5",
    ];
    let together = ["begin 6", "update 0", "update 1", "commit 6"];
    let open = ["begin 7", "insert 0"];
    let expected = [&alone[..], &together[..], &open[..]].concat();
    assert_eq!(shown(&batch), expected);

    batch.clear();
    let mut of_shards = assembler(OnDrop::Stop, Position::new(0)).of_one_replica_set(false);
    of_shards.apply(&update(5, 0, None), &mut batch).unwrap();
    assert_eq!(shown(&batch), alone[..3]);
}

#[test]
fn a_transaction_is_complete_when_the_stream_has_passed_its_time() {
    let mut assembler = assembler(OnDrop::Stop, Position::new(0));
    let mut batch = Batch::default();
    for event in [insert(5, 0, 1), insert(5, 1, 2), insert(6, 0, 3)] {
        assembler.apply(&event, &mut batch).unwrap();
    }
    let begun = [
        "shape hotel.reservations",
        "begin 5",
        "insert 0",
        "insert 1",
        "commit 5",
        "begin 6",
        "insert 0",
    ];
    assert_eq!(shown(&batch), begun);
    // What the server says between events ends it too, but not what it says of the same time.
    assembler.passed(position(6, 9), &mut batch);
    assembler.send_idle(&mut batch);
    assert_eq!(shown(&batch).len(), begun.len());
    assembler.passed(position(7, 0), &mut batch);
    assert_eq!(shown(&batch)[begun.len()..], ["commit 6"]);
    assembler.send_idle(&mut batch);
    assert_eq!(shown(&batch)[begun.len()..], ["commit 6", "commit 7"]);
    assert_eq!(*assembler.last_position(), position(7, 0));
}

#[test]
fn a_change_has_its_place_in_the_transaction_whatever_else_is_mapped() {
    let mut assembler = assembler(OnDrop::Stop, Position::new(0));
    let mut batch = Batch::default();
    // The second and third change are of collections that are not mapped; the last comes from another shard.
    for event in [insert(5, 0, 1), insert(5, 3, 2), insert(5, 3, 3)] {
        assembler.apply(&event, &mut batch).unwrap();
    }
    assert_eq!(shown(&batch)[2..], ["insert 0", "insert 3", "insert 4"]);
}

#[test]
fn a_mark_ends_what_is_before_its_moment_and_leaves_that_open() {
    let mut assembler = assembler(OnDrop::Stop, Position::new(0));
    let mut batch = Batch::default();
    let mark = |time: u32| {
        let data = format!("82{time:08X}{:08X}2B0229296E04", 1);
        token::position(&bson::rawdoc! { "_data": data }).unwrap()
    };
    assembler.apply(&insert(5, 0, 1), &mut batch).unwrap();
    assembler.passed(mark(5), &mut batch);
    assembler.send_idle(&mut batch);
    assert_eq!(shown(&batch)[1..], ["begin 5", "insert 0"]);
    assembler.passed(mark(6), &mut batch);
    assembler.send_idle(&mut batch);
    assert_eq!(shown(&batch)[3..], ["commit 5", "commit 6"]);
    let before = assembler.last_position().clone();
    // Its own moment is behind what was committed, as the next transaction must be.
    assembler.apply(&insert(6, 0, 2), &mut batch).unwrap();
    let Some(Item::Begin(begun)) = batch.items.iter().rev().nth(1) else {
        panic!("{:?}", shown(&batch));
    };
    assert!(before < begun.position);
}

#[test]
fn what_was_delivered_is_not_delivered_again() {
    let mut batch = Batch::default();
    // After a snapshot, which is a cluster time alone.
    let mut after_snapshot = assembler(OnDrop::Stop, Position::new(position(5, 0).order()));
    for event in [insert(4, 0, 1), insert(5, 0, 2), insert(6, 0, 3)] {
        after_snapshot.apply(&event, &mut batch).unwrap();
    }
    assert_eq!(shown(&batch)[1..], ["begin 6", "insert 0"]);
    let mut batch = Batch::default();
    let mut after_event = assembler(OnDrop::Stop, position(5, 1));
    for event in [insert(5, 0, 1), insert(5, 1, 2), insert(5, 2, 3)] {
        after_event.apply(&event, &mut batch).unwrap();
    }
    assert_eq!(shown(&batch)[1..], ["begin 5", "insert 2"]);
}

#[test]
fn a_dropped_collection_stops_or_not_as_configured() {
    let drop = event(5, 0, doc! { "operationType": "drop" });
    let onto = event(
        6,
        0,
        doc! { "operationType": "rename", "ns": { "db": "hotel", "coll": "old" }, "to": { "db": "hotel", "coll": "reservations" } },
    );
    let database = event(
        7,
        0,
        doc! { "operationType": "dropDatabase", "ns": { "db": "hotel" } },
    );
    let other = event(
        8,
        0,
        doc! { "operationType": "drop", "ns": { "db": "hotel", "coll": "other" } },
    );
    let unknown = event(9, 0, doc! { "operationType": "refineCollectionShardKey" });
    let mut batch = Batch::default();
    for event in [&drop, &onto, &database] {
        let error = assembler(OnDrop::Stop, Position::new(0))
            .apply(event, &mut batch)
            .unwrap_err();
        let SourceError::Refused { hint, .. } = refusal(error) else {
            panic!("a drop is refused");
        };
        assert!(hint.contains("on_drop"), "{hint}");
    }
    let mut going_on = assembler(OnDrop::Continue, Position::new(0));
    for event in [&drop, &onto, &database, &other, &unknown] {
        assert_eq!(going_on.apply(event, &mut batch).unwrap(), Applied::Taken);
    }
    let invalidate = event(10, 0, doc! { "operationType": "invalidate" });
    assert_eq!(
        going_on.apply(&invalidate, &mut batch).unwrap(),
        Applied::Invalidated
    );
    going_on.send_idle(&mut batch);
    assert_eq!(shown(&batch), ["commit 10"]);
}

/// Where rows are remembered, or a rule fires on it, what was in a collection that is gone is gone, too.
#[test]
fn a_collection_that_is_dropped_while_the_pipeline_goes_on_is_emptied() {
    let ops = OpSet::default().with(Op::Insert).with(Op::Truncate);
    let mut assembler = assembler_of(ops, OnDrop::Continue, Position::new(0));
    let mut batch = Batch::default();
    let drop = event(2, 0, doc! { "operationType": "drop" });
    let onto = event(
        4,
        0,
        doc! { "operationType": "rename", "ns": { "db": "hotel", "coll": "old" }, "to": { "db": "hotel", "coll": "reservations" } },
    );
    for event in [&insert(1, 0, 7), &drop, &insert(3, 0, 8), &onto] {
        assembler.apply(event, &mut batch).unwrap();
    }
    assembler.passed(position(5, 0), &mut batch);
    assert_eq!(
        shown(&batch),
        [
            "shape hotel.reservations",
            "begin 1",
            "insert 0",
            "commit 1",
            "begin 2",
            "truncate 0",
            "commit 2",
            "begin 3",
            "insert 0",
            "commit 3",
            "begin 4",
            "truncate 0",
            "commit 4",
        ]
    );
}
