//! The suite that every source passes, on a real replica set.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{Client, ClientSession};
use rowbridge_api::TableName;
use rowbridge_api::testkit::conformance::{
    Acknowledged, Row, Subject, Violation, Write, violations,
};
use rowbridge_mongodb::MongoSource;
use rowbridge_testbed::Mongo;

use crate::follower::settings;

#[tokio::test]
async fn keeps_every_promise_of_a_source() {
    let mongo = Mongo::shared().await.unwrap();
    let mut subject = Real {
        mongo,
        client: Client::with_uri_str(mongo.url()).await.unwrap(),
        database: String::new(),
    };
    let broken = violations(&mut subject).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

struct Real {
    mongo: &'static Mongo,
    client: Client,
    database: String,
}

fn failed(error: impl std::fmt::Display) -> Violation {
    Violation::new(error.to_string())
}

fn text(text: Option<&String>) -> Bson {
    text.map_or(Bson::Null, |text| Bson::String(text.clone()))
}

impl Real {
    async fn write(
        &self,
        write: &Write,
        session: &mut ClientSession,
    ) -> mongodb::error::Result<()> {
        let collection = self
            .client
            .database(&self.database)
            .collection::<Document>("conformance");
        match write {
            Write::Insert(Row { id, name, notes }) => {
                let row =
                    doc! { "id": id, "name": text(name.as_ref()), "notes": text(notes.as_ref()) };
                collection.insert_one(row).session(session).await?;
            }
            Write::Rename { id, name } => {
                let set = doc! { "$set": { "name": text(name.as_ref()) } };
                collection
                    .update_one(doc! { "id": id }, set)
                    .session(session)
                    .await?;
            }
            Write::Rekey { from, to } => {
                let set = doc! { "$set": { "id": to } };
                collection
                    .update_one(doc! { "id": from }, set)
                    .session(session)
                    .await?;
            }
            Write::Delete { id } => {
                collection
                    .delete_one(doc! { "id": id })
                    .session(session)
                    .await?;
            }
        }
        Ok(())
    }
}

impl Subject for Real {
    type Source = MongoSource;

    async fn reset(&mut self) -> Result<(), Violation> {
        self.database = self.mongo.database("conformance");
        let database = self.client.database(&self.database);
        let create =
            doc! { "create": "conformance", "changeStreamPreAndPostImages": { "enabled": true } };
        database.run_command(create).await.map_err(failed)?;
        let index = doc! {
            "createIndexes": "conformance", "indexes": [{ "key": { "id": 1 }, "name": "id", "unique": true }],
        };
        database.run_command(index).await.map_err(failed)?;
        Ok(())
    }

    fn table(&self) -> TableName {
        TableName::new(&self.database, "conformance")
    }

    fn source(&self) -> MongoSource {
        MongoSource::new(settings(&self.mongo.url()))
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), Violation> {
        let mut session = self.client.start_session().await.map_err(failed)?;
        session.start_transaction().await.map_err(failed)?;
        for write in writes {
            self.write(write, &mut session).await.map_err(failed)?;
        }
        session.commit_transaction().await.map_err(failed)?;
        // Something that is not mapped: the stream passes the transaction's time.
        let other = self.client.database(&self.database).collection("other");
        other.insert_one(doc! {}).await.map_err(failed)?;
        Ok(())
    }

    async fn acknowledged(&self) -> Result<Acknowledged, Violation> {
        Ok(Acknowledged::Never)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}
