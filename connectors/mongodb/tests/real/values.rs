//! Every value: stored by the server, read by snapshot, stream and update, published, and converted back.

use bson::{Bson, Document, doc};
use mongodb::Client;
use rowbridge_api::{Start, Type};
use rowbridge_testbed::Mongo;

use crate::follower::{Follower, needs, settings};
use crate::generated::{Dice, says};

const COLUMNS: [(&str, &str); 2] = [("_id", "int4"), ("v", "bson")];
/// The server stores documents nested this deep.
const DEEP: usize = 150;

/// The value's published JSON, of a change as the follower shows it.
fn published(change: &str) -> String {
    let (_, cell) = change.rsplit_once(" -> _id=").unwrap();
    let (_, cell) = cell.split_once(" v=").unwrap();
    let mut out = Vec::new();
    Type::parse("bson")
        .write_json(cell.as_bytes(), &mut out)
        .unwrap_or_else(|error| panic!("{error}: {change}"));
    String::from_utf8(out).unwrap()
}

fn compare(json: &str, stored: &Bson) {
    let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
    assert!(says(&parsed, stored), "{json} is not {stored:?}");
}

fn nested(depth: usize) -> Bson {
    (0..depth).fold(Bson::Int32(1), |inner, _| {
        Bson::Document(doc! { "d": inner })
    })
}

#[tokio::test]
async fn every_value_comes_back_from_what_is_published_by_snapshot_and_by_stream() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("values"));
    for collection in ["existing", "inserted", "updated"] {
        let create =
            doc! { "create": collection, "changeStreamPreAndPostImages": { "enabled": true } };
        database.run_command(create).await.unwrap();
    }
    let collection = |name: &str| database.collection::<Document>(name);
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let values: Vec<Bson> = (0..400).map(|_| dice.any(4)).collect();
    let rows = |wrap: fn(&Bson) -> Bson| -> Vec<Document> {
        let row = |(id, value)| doc! { "_id": id, "v": wrap(value) };
        (0..).zip(&values).map(row).collect()
    };
    let mut existing = rows(Bson::clone);
    existing.push(doc! { "_id": 400, "v": nested(DEEP) });
    collection("existing").insert_many(&existing).await.unwrap();
    let stored: Vec<Document> = {
        use futures_util::TryStreamExt as _;
        let existing = collection("existing");
        let found = existing.find(doc! {}).sort(doc! { "_id": 1 }).await;
        found.unwrap().try_collect().await.unwrap()
    };
    assert_eq!(stored.len(), existing.len());

    let tables = ["existing", "inserted", "updated"]
        .map(|collection| needs(database.name(), collection, &COLUMNS))
        .to_vec();
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables).await;
    let (read, _) = follower.snapshot().await;
    let read: Vec<String> = read.iter().map(|change| published(change)).collect();
    assert_eq!(read.len(), stored.len());
    for (json, stored) in read.iter().zip(&stored[..400]) {
        compare(json, &stored["v"]);
    }
    let deepest = &read[400];
    assert_eq!(deepest.matches("{\"d\":").count(), DEEP, "{deepest}");

    collection("inserted").insert_many(&stored).await.unwrap();
    for snapshot in &read {
        assert_eq!(&published(&follower.change().await), snapshot);
    }
    // What an update leaves alone inside a column is made anew with the rest of it.
    let around = rows(|value| Bson::Document(doc! { "kept": value, "n": 1 }));
    collection("updated").insert_many(around).await.unwrap();
    let every = doc! { "$set": { "v.n": 2 } };
    collection("updated")
        .update_many(doc! {}, every)
        .await
        .unwrap();
    for n in [1, 2]
        .map(|n| std::iter::repeat_n(n, values.len()))
        .into_iter()
        .flatten()
    {
        let change = follower.change().await;
        let json: serde_json::Value = serde_json::from_str(&published(&change)).unwrap();
        assert_eq!(json["n"], n, "{change}");
        let id: usize = change
            .rsplit_once(" -> _id=")
            .and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok())
            .unwrap();
        let kept: serde_json::Value = serde_json::from_str(&read[id]).unwrap();
        assert_eq!(json["kept"], kept, "{change}");
    }
    follower.stop().await;
}
