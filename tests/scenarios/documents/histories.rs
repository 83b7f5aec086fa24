//! What becomes of the history under the daemon: collections dropped, the oplog rolled, images expired, events too large.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use rowbridge_testbed::Mongo;
use rowbridge_testbed::consumer::{Event, read_all};

use super::stage::{Documents, amount, create};
use crate::oracle::{Reads, no_duplicates};
use crate::rig::{SOON, eventually};

impl Documents {
    async fn open(&self, ids: &[i64]) -> Result<()> {
        let account = |id: &i64| doc! { "_id": *id, "id": *id, "ver": 1_i64, "owner": "owner", "balance": amount(1, 0) };
        let accounts = self.database.collection::<Document>("account");
        accounts.insert_many(ids.iter().map(account)).await?;
        Ok(())
    }

    fn events(&self) -> Result<Vec<Event>> {
        read_all(&self.rig.brokers, &self.rig.topic)
    }

    /// Waits until exactly these accounts were opened or read, each once.
    async fn opened(&self, ids: &[i64]) -> Result<()> {
        eventually("the accounts", SOON, || async {
            Ok(self.events()?.len() >= ids.len())
        })
        .await?;
        let events = self.events()?;
        no_duplicates(&events, Reads::Once)?;
        let mut keys: Vec<i64> = events
            .iter()
            .map(|event| event.key.parse())
            .collect::<Result<_, _>>()?;
        keys.sort_unstable();
        ensure!(keys == ids, "{keys:?} were opened, not {ids:?}");
        Ok(())
    }

    /// Changes an account and deletes another, and waits until the server has forgotten what they were.
    async fn change_and_expire(&self) -> Result<()> {
        let account = self.database.collection::<Document>("account");
        let set = doc! { "$set": { "ver": 2_i64, "balance": amount(2, 0) } };
        account.update_one(doc! { "_id": 1_i64 }, set).await?;
        account.delete_one(doc! { "_id": 2_i64 }).await?;
        let config = self.database.client().database("config");
        let images = config.collection::<Document>("system.preimages");
        eventually("the images to expire", SOON, || async {
            Ok(images.find_one(doc! {}).await?.is_none())
        })
        .await
    }

    /// As last published, by account: its version.
    fn versions(&self) -> Result<BTreeMap<i64, String>> {
        self.events()?
            .iter()
            .map(|event| Ok((event.key.parse()?, event.field("ver"))))
            .collect()
    }
}

#[tokio::test]
async fn a_dropped_collection_stops_the_daemon_and_the_printed_command_goes_on() -> Result<()> {
    let documents = Documents::shared("documents_dropped").await?;
    documents.open(&[1, 2]).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.opened(&[1, 2]).await?;
    documents
        .database
        .collection::<Document>("account")
        .drop()
        .await?;
    create(&documents.database, "account").await?;
    documents.open(&[11, 12]).await?;
    let commands = documents
        .refuses(&mut daemon, "PUBLICATION_CHANGED")
        .await?;
    documents.opened(&[1, 2]).await?;
    // It is not forgotten by starting again.
    let mut again = documents.rig.daemon().await?;
    let repeated = documents.refuses(&mut again, "PUBLICATION_CHANGED").await?;
    assert_eq!(commands, repeated);
    let [snapshot, go_on] = commands.as_slice() else {
        anyhow::bail!("two commands to choose from: {commands:?}");
    };
    assert_eq!(snapshot, "position set --snapshot");
    documents.printed(go_on).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.opened(&[1, 2, 11, 12]).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// By a drop, a rename, and with its whole database.
#[tokio::test]
async fn a_collection_that_goes_and_comes_again_is_followed_where_on_drop_says_so() -> Result<()> {
    let documents = Documents::shared("documents_come_again").await?;
    documents
        .rig
        .write_config_source("on_drop = \"continue\"")?;
    documents.open(&[1, 2]).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let database = &documents.database;
    let account = database.collection::<Document>("account");
    account.drop().await?;
    create(database, "account").await?;
    documents.open(&[11, 12]).await?;
    let names = ["account", "archived"].map(|name| format!("{}.{name}", database.name()));
    let rename = doc! { "renameCollection": &names[0], "to": &names[1] };
    database
        .client()
        .database("admin")
        .run_command(rename)
        .await?;
    create(database, "account").await?;
    documents.open(&[21, 22]).await?;
    documents.opened(&[1, 2, 11, 12, 21, 22]).await?;
    database.drop().await?;
    // The stream ends with its database; what there is to open again has to wait for the next collection.
    tokio::time::sleep(Duration::from_secs(2)).await;
    create(database, "account").await?;
    documents.open(&[31, 32]).await?;
    documents.opened(&[1, 2, 11, 12, 21, 22, 31, 32]).await?;
    ensure!(!daemon.has_ended()?, "{}", daemon.log());
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn an_oplog_that_rolled_meanwhile_is_history_lost_and_each_printed_command_goes_on()
-> Result<()> {
    let mongo = Mongo::builder().short_oplog().start().await?;
    let documents = Documents::on("documents_rolled", &mongo).await?;
    documents.open(&[1, 2]).await?;
    let account = documents.database.collection::<Document>("account");
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.opened(&[1, 2]).await?;
    for choice in ["--accept-gap", "--snapshot"] {
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
        account
            .update_one(doc! { "_id": 1_i64 }, doc! { "$inc": { "ver": 1_i64 } })
            .await?;
        mongo.roll_oplog().await?;
        let before = documents.events()?.len();
        let mut refused = documents.rig.daemon().await?;
        let commands = documents.refuses(&mut refused, "HISTORY_LOST").await?;
        assert_eq!(
            documents.events()?.len(),
            before,
            "events after HISTORY_LOST"
        );
        assert_eq!(commands.len(), 2, "{commands:?}");
        let command = commands.iter().find(|command| command.contains(choice));
        documents.printed(command.context("the command")?).await?;
        daemon = documents.rig.daemon().await?;
        daemon.ready().await?;
        documents.visible_since(2, Instant::now()).await?;
        let stored = documents.stored().await?;
        let versions = documents.versions()?;
        let same = |id: i64| versions[&id] == stored[&id].ver.to_string();
        // What the gap swallowed stays unknown; a snapshot tells it.
        ensure!(
            same(2) && same(1) == (choice == "--snapshot"),
            "{versions:?}"
        );
        println!("{choice}: {versions:?}");
    }
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Rules of which two need nothing but what the event itself has.
const IMAGES: &str = r#"
[mapping]
name     = "images"
version  = 1
on_error = "quarantine"

[tables]
thing = "@DATABASE@.account"

[topics.accounts]
name       = "@TOPIC@"
partitions = 1

[defaults.thing]
topic = "accounts"
key   = "{_id}"

[[event]]
type  = "VersionSet"
table = "thing"
on    = "update"
[event.data]
ver = "$.after.ver"

[[event]]
type  = "BalanceMoved"
table = "thing"
on    = "update"
[event.data]
previous = "$.before.balance"

[[event]]
type  = "AccountGone"
table = "thing"
on    = "delete"
[event.data]
id = "$.before._id"
"#;
const IMAGES_SCHEMA: &str = r#"
[thing]
key = ["_id"]
[thing.columns]
_id     = "int8"
ver     = "int8"
balance = "numeric"
"#;

#[tokio::test]
async fn an_image_that_expired_is_unavailable_and_only_the_rules_that_read_it_fail() -> Result<()> {
    let mongo = Mongo::builder()
        .parameter("expiredChangeStreamPreImageRemovalJobSleepSecs", "1")
        .start()
        .await?;
    let documents = Documents::on("documents_expired", &mongo).await?;
    let database = &documents.database;
    let mapping = IMAGES.replace("@DATABASE@", database.name());
    documents.rig.write_pack_with(&mapping, IMAGES_SCHEMA)?;
    documents.open(&[1, 2]).await?;
    let expire = doc! { "preAndPostImages": { "expireAfterSeconds": 1 } };
    database
        .client()
        .database("admin")
        .run_command(doc! { "setClusterParameter": { "changeStreamOptions": expire } })
        .await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let account = database.collection::<Document>("account");
    documents.change_and_expire().await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    eventually("what needs no image", SOON, || async {
        Ok(documents.events()?.len() >= 2)
    })
    .await?;
    let seen: Vec<_> = documents
        .events()?
        .iter()
        .map(|event| (event.kind().to_owned(), event.key.clone()))
        .collect();
    let whole = [("VersionSet", "1"), ("AccountGone", "2")];
    assert_eq!(
        seen,
        whole.map(|(kind, key)| (kind.to_owned(), key.to_owned()))
    );
    let quarantined = read_all(
        &documents.rig.brokers,
        "rowbridge.documents_expired.quarantine",
    )?;
    let [failed] = quarantined.as_slice() else {
        anyhow::bail!("one rule fails: {quarantined:?}");
    };
    let error = failed.field("error");
    println!("quarantined: {error}");
    ensure!(error.contains("balance") && failed.key == "1", "{failed:?}");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());

    // The same under a mapping that stops for what it cannot publish.
    let stops = mapping.replace("\"quarantine\"", "\"stop\"");
    documents.rig.write_pack_with(&stops, IMAGES_SCHEMA)?;
    account
        .insert_one(doc! { "_id": 2_i64, "ver": 1_i64, "balance": amount(1, 0) })
        .await?;
    account
        .update_one(doc! { "_id": 1_i64 }, doc! { "$set": { "ver": 1_i64 } })
        .await?;
    documents.change_and_expire().await?;
    let mut daemon = documents.rig.daemon().await?;
    documents.refuses(&mut daemon, "BAD_RECORD").await?;
    let log = daemon.log();
    ensure!(
        log.contains("BalanceMoved") && log.contains("balance"),
        "{log}"
    );
    Ok(())
}

/// This server cannot split events: 6.0.9 and later do.
#[tokio::test]
async fn an_event_too_large_stops_the_daemon_and_the_printed_command_passes_it_over() -> Result<()>
{
    let documents = Documents::shared("documents_too_large").await?;
    documents.open(&[1, 2]).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.opened(&[1, 2]).await?;
    let account = documents.database.collection::<Document>("account");
    for text in ["a", "b"] {
        let large = doc! { "$set": { "unmapped": text.repeat(9 << 20) } };
        account.update_one(doc! { "_id": 1_i64 }, large).await?;
    }
    let commands = documents.refuses(&mut daemon, "EVENT_TOO_LARGE").await?;
    let mut again = documents.rig.daemon().await?;
    documents.refuses(&mut again, "EVENT_TOO_LARGE").await?;
    let command = commands
        .iter()
        .find(|command| command.contains("--accept-gap"));
    documents.printed(command.context("the command")?).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.visible_since(2, Instant::now()).await?;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
