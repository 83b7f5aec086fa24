//! Images of documents: what the connector makes of an update is what the server made of the document.

use bson::{Bson, Document, doc};
use mongodb::{Client, Collection};
use rowbridge_api::Start;
use rowbridge_testbed::Mongo;

use crate::follower::{Follower, needs, settings};
use crate::generated::Dice;

/// Columns whose values are JSON, so that any document can be compared.
const COLUMNS: [(&str, &str); 4] = [("_id", "int4"), ("a", "json"), ("b", "json"), ("c", "json")];

struct Bed {
    updated: Collection<Document>,
    copied: Collection<Document>,
    follower: Follower,
}

async fn bed(name: &str) -> Bed {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = mongo.database(name);
    for collection in ["updated", "copied"] {
        let create =
            doc! { "create": collection, "changeStreamPreAndPostImages": { "enabled": true } };
        client
            .database(&database)
            .run_command(create)
            .await
            .unwrap();
    }
    let tables = ["updated", "copied"].map(|collection| needs(&database, collection, &COLUMNS));
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables.to_vec()).await;
    follower.snapshot().await;
    let database = client.database(&database);
    Bed {
        updated: database.collection("updated"),
        copied: database.collection("copied"),
        follower,
    }
}

impl Bed {
    /// Updates `document`, copies what the server made of it, and compares the two images.
    async fn compare(
        &mut self,
        id: i32,
        mut document: Document,
        update: impl Into<mongodb::options::UpdateModifications>,
    ) {
        document.insert("_id", id);
        self.updated.insert_one(&document).await.unwrap();
        let update = update.into();
        let said = format!("{update:?} of {document:?}");
        self.updated
            .update_one(doc! { "_id": id }, update)
            .await
            .unwrap();
        let after = self
            .updated
            .find_one(doc! { "_id": id })
            .await
            .unwrap()
            .unwrap();
        self.copied.insert_one(&after).await.unwrap();
        let inserted = self.follower.change().await;
        let mut updated = self.follower.change().await;
        if updated.starts_with("insert") {
            return; // The server found nothing to change.
        }
        let copied = self.follower.change().await;
        let image = |change: &str| change.split_once("->").unwrap().1.to_owned();
        assert!(updated.starts_with("update"), "{updated}");
        let before = updated
            .split_once(" ->")
            .unwrap()
            .0
            .replacen("update", "", 1);
        assert_eq!(before, image(&inserted), "before {said}");
        updated = image(&updated);
        for (ours, servers) in updated.split(' ').zip(image(&copied).split(' ')) {
            let (Some((column, ours)), Some((_, servers))) =
                (ours.split_once('='), servers.split_once('='))
            else {
                assert_eq!(ours, servers);
                continue;
            };
            // The order of fields that are new is the server's choice.
            let parsed = |text: &str| {
                serde_json::from_str::<serde_json::Value>(text)
                    .unwrap_or_else(|_| panic!("{column}: {text}, {said}"))
            };
            assert_eq!(parsed(ours), parsed(servers), "{column} after {said}");
        }
    }
}

#[tokio::test]
async fn every_kind_of_update_gives_the_servers_image() {
    let mut bed = bed("images").await;
    let document = doc! {
        "a": { "x": 1, "y": { "z": [1, 2, { "w": "deep" }] }, "0": "zero" },
        "b": [ { "n": 1 }, { "n": 2 }, 3, [4, 5] ],
        "c": "text",
    };
    let updates = [
        doc! { "$set": { "c": "other" } },
        doc! { "$set": { "a.x": 2 } },
        doc! { "$set": { "a.y.z.2.w": "deeper" } },
        doc! { "$set": { "a.0": "one" } },
        doc! { "$set": { "a.new.very.deep": 1 } },
        doc! { "$set": { "b.1.n": 9 } },
        doc! { "$set": { "b.7": "far" } },
        doc! { "$set": { "b.3.1": 6 } },
        doc! { "$set": { "c": Bson::Null } },
        doc! { "$unset": { "a": "" } },
        doc! { "$unset": { "a.y": "" } },
        doc! { "$unset": { "b.1": "" } },
        doc! { "$unset": { "b.0.n": "", "c": "" } },
        doc! { "$push": { "b": "last" } },
        doc! { "$push": { "b": { "$each": [7, 8], "$position": 0 } } },
        doc! { "$pop": { "b": 1 } },
        doc! { "$pop": { "b": -1 } },
        doc! { "$pull": { "b": 3 } },
        doc! { "$push": { "b": { "$each": [1], "$slice": 2 } } },
        doc! { "$inc": { "a.x": 5 }, "$rename": { "c": "unread" } },
        doc! { "$set": { "a": { "whole": true } }, "$unset": { "b": "" } },
    ];
    let mut id = 0;
    for update in updates {
        id += 1;
        bed.compare(id, document.clone(), update).await;
    }
    // Updates by a pipeline are told by their difference, too.
    for stages in [
        vec![doc! { "$set": { "a.x": { "$add": ["$a.x", 1] }, "b": { "$slice": ["$b", 2] } } }],
        vec![doc! { "$unset": ["a.y.z", "c"] }],
        vec![doc! { "$set": { "a.y.z": [1], "b": { "$concatArrays": ["$b", [1, 2]] } } }],
    ] {
        id += 1;
        bed.compare(id, document.clone(), stages).await;
    }
    bed.follower.stop().await;
}

/// Few names and short values: updates meet what is there.
impl Dice {
    fn name(&mut self) -> String {
        ["a", "b", "c", "0", "1"][usize::try_from(self.roll(5)).unwrap()].to_owned()
    }

    fn value(&mut self, depth: u32) -> Bson {
        match self.roll(if depth == 0 { 3 } else { 5 }) {
            0 => Bson::Int32(i32::try_from(self.roll(9)).unwrap()),
            1 => Bson::String("text".to_owned()),
            2 => Bson::Null,
            3 => Bson::Array((0..self.roll(4)).map(|_| self.value(depth - 1)).collect()),
            _ => Bson::Document(self.fields(depth - 1)),
        }
    }

    fn fields(&mut self, depth: u32) -> Document {
        (0..self.roll(4))
            .map(|_| (self.name(), self.value(depth)))
            .collect()
    }

    fn path(&mut self) -> String {
        let column = ["a", "b", "c"][usize::try_from(self.roll(3)).unwrap()];
        (0..self.roll(4)).fold(column.to_owned(), |path, _| {
            format!("{path}.{}", self.name())
        })
    }
}

#[tokio::test]
async fn generated_updates_give_the_servers_image() {
    let mut bed = bed("generated").await;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut tried = 0;
    for id in 0..400 {
        let mut document = Document::new();
        for column in ["a", "b", "c"] {
            if dice.roll(5) > 0 {
                document.insert(column, dice.value(3));
            }
        }
        let (one, other) = (dice.path(), dice.path());
        let update = match dice.roll(3) {
            0 => doc! { "$set": { one: dice.value(2) } },
            1 => doc! { "$unset": { one: "" } },
            _ => doc! { "$set": { one: dice.value(2) }, "$unset": { other: "" } },
        };
        // Whether the server takes it is tried on a copy first: paths that meet a number, say, are errors.
        let trial = bed.copied.clone_with_type::<Document>();
        let number = 1_000_000 + id;
        let mut copy = document.clone();
        copy.insert("_id", number);
        trial.insert_one(&copy).await.unwrap();
        bed.follower.change().await;
        let taken = trial
            .update_one(doc! { "_id": number }, update.clone())
            .await;
        let changed = taken
            .as_ref()
            .is_ok_and(|result| result.modified_count == 1);
        if changed {
            bed.follower.change().await;
            bed.compare(id, document, update).await;
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} updates were taken");
    bed.follower.stop().await;
}

#[tokio::test]
async fn without_images_before_only_what_an_update_set_is_known() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = mongo.database("no_images");
    let tables = vec![needs(&database, "plain", &COLUMNS)];
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables).await;
    follower.snapshot().await;
    let plain = client.database(&database).collection::<Document>("plain");
    plain
        .insert_one(doc! { "_id": 1, "a": 1, "b": { "x": 1 } })
        .await
        .unwrap();
    plain
        .update_one(doc! { "_id": 1 }, doc! { "$set": { "a": 2, "b.x": 2 } })
        .await
        .unwrap();
    plain
        .replace_one(doc! { "_id": 1 }, doc! { "a": 3 })
        .await
        .unwrap();
    plain.delete_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(
        follower.change().await,
        r#"insert -> _id=1 a=1 b={"x":1} c=null"#
    );
    assert_eq!(
        follower.change().await,
        "update _id=1 a=? b=? c=? -> _id=1 a=2 b=\u{fffd} c=?"
    );
    assert_eq!(
        follower.change().await,
        "update _id=1 a=? b=? c=? -> _id=1 a=3 b=null c=null"
    );
    assert_eq!(follower.change().await, "delete _id=1 a=? b=? c=?");
    follower.stop().await;
}
