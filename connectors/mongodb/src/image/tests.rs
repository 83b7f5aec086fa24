use bson::{RawDocumentBuf, doc, rawdoc};
use rowbridge_api::{Change as RowChange, Image, Op, OpSet, ShapeId, TableName};

use super::*;

fn columns(names: &[(&str, &str)]) -> Columns {
    let column = |(name, ty): &(&str, &str)| ColumnNeed {
        name: (*name).to_owned(),
        ty: Type::parse(ty),
        before: true,
        labels: Vec::new(),
        rules: Vec::new(),
    };
    Columns::of(&TableNeeds {
        table: TableName::new("hotel", "reservations"),
        key: vec!["_id".to_owned()],
        columns: names.iter().map(column).collect(),
        ops: OpSet::default().with(Op::Update),
    })
}

/// The cells of an image as a reader sees them.
fn shown(columns: &Columns, first_cell: u32, batch: &Batch) -> Vec<String> {
    let change = RowChange {
        shape: ShapeId(0),
        op: Op::Update,
        before: Image::Absent,
        after: Image::Row { first_cell },
        width: u16::try_from(columns.len()).unwrap(),
        ordinal: 0,
    };
    let row = batch.after(&change).unwrap();
    (0..columns.len())
        .map(|index| match row.cell(index) {
            rowbridge_api::Cell::Null => "null".to_owned(),
            rowbridge_api::Cell::Unavailable => "unavailable".to_owned(),
            rowbridge_api::Cell::Value(UNREADABLE) => "unreadable".to_owned(),
            rowbridge_api::Cell::Value(text) => String::from_utf8(text.to_vec()).unwrap(),
        })
        .collect()
}

fn after(names: &[(&str, &str)], before: Option<Document>, description: Document) -> Vec<String> {
    let columns = columns(names);
    let mut batch = Batch::default();
    let before = before.map(|before| RawDocumentBuf::try_from(&before).unwrap());
    let before = before
        .as_ref()
        .map(|before| (&**before, columns.whole(before, &mut batch).unwrap()));
    let event = RawDocumentBuf::try_from(&doc! {
        "_id": {}, "operationType": "update", "updateDescription": description,
    })
    .unwrap();
    let event = crate::event::Event::read(&event).unwrap();
    let key = rawdoc! { "_id": 7 };
    let first = columns
        .updated(before, Some(&key), &event.update.unwrap(), &mut batch)
        .unwrap();
    shown(&columns, first, &batch)
}

#[test]
fn what_an_update_does_not_touch_is_as_before() {
    let before =
        doc! { "_id": 7, "status": "Arrived", "room": 12, "guest": { "name": "Ann" }, "unread": 1 };
    let read = [
        ("status", "text"),
        ("room", "int4"),
        ("guest", "json"),
        ("note", "text"),
    ];
    let update = doc! { "updatedFields": { "room": 14, "unread": 2 }, "removedFields": [] };
    assert_eq!(
        after(&read, Some(before), update.clone()),
        ["Arrived", "14", r#"{"name":"Ann"}"#, "null", "7"]
    );
    assert_eq!(
        after(&read, None, update),
        ["unavailable", "14", "unavailable", "unavailable", "7"]
    );
}

#[test]
fn a_removed_field_is_null() {
    let before = doc! { "a": 1, "b": { "c": 2, "d": 3 } };
    let update = doc! { "updatedFields": {}, "removedFields": ["a", "b.c"] };
    assert_eq!(
        after(&[("a", "int4"), ("b", "json")], Some(before), update)[..2],
        ["null", r#"{"d":3}"#]
    );
}

#[test]
fn paths_lead_into_documents_and_arrays() {
    let before = doc! {
        "guest": { "name": "Ann", "address": { "city": "Bath" } },
        "nights": [ { "rate": 100 }, { "rate": 110 }, { "rate": 120 } ],
        "codes": { "0": "x" },
    };
    let update = doc! {
        "updatedFields": {
            "guest.address.city": "Bonn", "guest.tier": "gold", "nights.1.rate": 90, "codes.0": "y", "extra.deep.er": 1,
        },
        "removedFields": [],
        "truncatedArrays": [ { "field": "nights", "newSize": 2 } ],
    };
    let read = [
        ("guest", "json"),
        ("nights", "json"),
        ("codes", "json"),
        ("extra", "json"),
    ];
    assert_eq!(
        after(&read, Some(before), update.clone())[..4],
        [
            r#"{"name":"Ann","address":{"city":"Bonn"},"tier":"gold"}"#,
            r#"[{"rate":100},{"rate":90}]"#,
            r#"{"0":"y"}"#,
            r#"{"deep":{"er":1}}"#,
        ]
    );
    // Without the document before, what they are now cannot be told, and must not look unchanged.
    assert_eq!(after(&read, None, update)[..4], ["unreadable"; 4]);
}

#[test]
fn an_array_grows_and_an_unset_element_leaves_a_hole() {
    let before = doc! { "a": [1, 2], "b": [1, 2, 3] };
    let update = doc! { "updatedFields": { "a.3": 9 }, "removedFields": ["b.1"] };
    assert_eq!(
        after(&[("a", "json"), ("b", "json")], Some(before), update)[..2],
        ["[1,2,null,9]", "[1,null,3]"]
    );
}

#[test]
fn a_path_that_can_be_read_in_two_ways_is_never_guessed() {
    let before = doc! { "a": { "b": 1 }, "a.b": 2, "c": { "d": 5 } };
    let update = doc! { "updatedFields": { "a.b": 3 }, "removedFields": [] };
    let read = [("a", "json"), ("a.b", "int4"), ("c", "json")];
    assert_eq!(
        after(&read, Some(before.clone()), update)[..3],
        ["unreadable", "unreadable", r#"{"d":5}"#]
    );
    // Newer servers say which.
    let update = doc! {
        "updatedFields": { "a.b": 3 }, "removedFields": [], "disambiguatedPaths": { "a.b": ["a", "b"] },
    };
    assert_eq!(
        after(&read, Some(before), update)[..3],
        [r#"{"b":3}"#, "2", r#"{"d":5}"#]
    );
    // Deeper inside, too.
    let before = doc! { "a": { "x.y": 1, "x": { "y": 2 } } };
    let update = doc! { "updatedFields": { "a.x.y": 3 }, "removedFields": [] };
    assert_eq!(after(&read, Some(before), update)[..1], ["unreadable"]);
}

#[test]
fn a_value_of_another_type_is_never_another_value() {
    let update = doc! { "updatedFields": { "room": "twelve" }, "removedFields": [] };
    assert_eq!(
        after(&[("room", "int4")], Some(doc! { "room": 12 }), update)[..1],
        ["unreadable"]
    );
}
