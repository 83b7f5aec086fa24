//! Rolling the oplog: what was in it is gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, Timestamp, doc};
use mongodb::Client;

use super::Mongo;

const ROLL_DEADLINE: Duration = Duration::from_secs(120);

impl Mongo {
    /// Writes until the oplog has nothing left of what it has now; wants [`super::MongoBuilder::short_oplog`].
    ///
    /// # Errors
    /// Those of the server, and when it takes too long.
    pub async fn roll_oplog(&self) -> Result<()> {
        let client = Client::with_uri_str(self.url()).await?;
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        let end = async |order: i32| -> Result<Timestamp> {
            let entry = oplog.find_one(doc! {}).sort(doc! { "$natural": order });
            let entry = entry.await?.context("an empty oplog")?;
            Ok(entry.get_timestamp("ts")?)
        };
        let filler = client
            .database(&self.database("filler"))
            .collection::<Document>("filler");
        let large = doc! { "text": "x".repeat(20_000) };
        let present = end(-1).await?;
        let started = Instant::now();
        while end(1).await? <= present {
            ensure!(started.elapsed() < ROLL_DEADLINE, "the oplog never rolled");
            filler.insert_many(vec![large.clone(); 50]).await?;
        }
        Ok(())
    }
}
