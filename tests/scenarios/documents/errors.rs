//! What the server answers instead of a result: passed over by trying again, or refused by name; nothing lost or twice.

use anyhow::{Context, Result};
use bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use rowbridge_testbed::Mongo;

use super::stage::{Documents, Load};
use crate::oracle::Reads;
use crate::rig::SOON;

/// A server that fails commands on demand.
struct Failing {
    mongo: Mongo,
    admin: Database,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    GoesOn,
    Refuses(&'static str),
}

use Outcome::{GoesOn, Refuses};

impl Failing {
    async fn start() -> Result<Self> {
        let mongo = Mongo::builder()
            .parameter("enableTestCommands", "1")
            .start()
            .await?;
        let admin = Client::with_uri_str(mongo.url()).await?.database("admin");
        Ok(Self { mongo, admin })
    }

    async fn documents(&self, name: &str) -> Result<Documents> {
        let documents = Documents::on(name, &self.mongo).await?;
        documents.open_accounts(20).await?;
        Ok(documents)
    }

    /// Lets the next `times` commands of this name fail, of the daemon alone.
    async fn arm(&self, command: &str, times: i64, failure: Document) -> Result<Armed> {
        let mut data = doc! { "failCommands": [command], "appName": "rowbridge" };
        data.extend(failure);
        let arm =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
        let before = self.admin.run_command(arm).await?;
        let before = before.get("count").and_then(number).context("a count")?;
        Ok(Armed(before + times))
    }

    /// Waits until all of them have failed.
    async fn hit(&self, Armed(entered): Armed) -> Result<()> {
        let deadline = i64::try_from(SOON.as_millis())?;
        let wait = doc! { "waitForFailPoint": "failCommand", "timesEntered": entered, "maxTimeMS": deadline };
        self.admin.run_command(wait).await.context("the failure")?;
        Ok(())
    }
}

/// How often commands have failed once the point has done its work.
struct Armed(i64);

fn number(value: &Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

fn code(code: i32) -> Document {
    doc! { "errorCode": code }
}

fn resumable(code: i32) -> Document {
    doc! { "errorCode": code, "errorLabels": ["ResumableChangeStreamError"] }
}

#[tokio::test]
async fn errors_of_a_running_stream_are_passed_over_or_refused_by_name() -> Result<()> {
    let failing = Failing::start().await?;
    let documents = failing.documents("documents_errors").await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 20);
    for (failure, outcome) in [
        (doc! { "closeConnection": true }, GoesOn),
        // NotWritablePrimary, as the server labels it and without.
        (resumable(10_107), GoesOn),
        (code(10_107), GoesOn),
        // ChangeStreamFatalError and ChangeStreamHistoryLost: the next opening finds them untrue.
        (code(280), GoesOn),
        (code(286), GoesOn),
        (code(13), Refuses("INVALID")),
    ] {
        let said = failure.to_string();
        let armed = failing.arm("getMore", 1, failure).await?;
        failing.hit(armed).await?;
        if let Refuses(state) = outcome {
            documents.refuses(&mut daemon, state).await?;
            daemon = documents.rig.daemon().await?;
        }
        load.more(20).await?;
        daemon.ready().await?;
        println!("getMore: {said}: {outcome:?}");
    }
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn errors_when_a_stream_is_opened_again_are_passed_over() -> Result<()> {
    let failing = Failing::start().await?;
    let documents = failing.documents("documents_opening").await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 20);
    for (times, failure) in [
        // Twice: the driver itself tries again once.
        (2, doc! { "closeConnection": true }),
        (2, code(10_107)),
        // Once for the token; its moment is then tried, too.
        (1, code(280)),
    ] {
        let said = failure.to_string();
        load.more(10).await?;
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
        let armed = failing.arm("aggregate", times, failure).await?;
        daemon = documents.rig.daemon().await?;
        failing.hit(armed).await?;
        daemon.ready().await?;
        println!("aggregate: {said}: {GoesOn:?}");
    }
    load.more(10).await?;
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn errors_of_a_first_start_are_passed_over_or_refused_by_name() -> Result<()> {
    let failing = Failing::start().await?;
    for (number, (command, times, failure, outcome)) in [
        ("find", 2, doc! { "closeConnection": true }, GoesOn),
        ("find", 2, code(11_600), GoesOn),
        // SnapshotUnavailable: read on at a later moment.
        ("find", 1, code(246), GoesOn),
        ("find", 1, code(13), Refuses("INVALID")),
        ("aggregate", 1, code(286), Refuses("HISTORY_LOST")),
        ("aggregate", 1, code(13), Refuses("INVALID")),
    ]
    .into_iter()
    .enumerate()
    {
        let documents = failing
            .documents(&format!("documents_first_{number}"))
            .await?;
        let said = format!("{command}: {failure}");
        let armed = failing.arm(command, times, failure).await?;
        let mut daemon = documents.rig.daemon().await?;
        failing.hit(armed).await?;
        if let Refuses(state) = outcome {
            documents.refuses(&mut daemon, state).await?;
            daemon = documents.rig.daemon().await?;
        }
        daemon.ready().await?;
        // Where the stream was refused, all was read before.
        let reads = match command {
            "find" => Reads::Once,
            _ => Reads::MayRepeat,
        };
        documents.settled(reads).await?;
        println!("{said}: {outcome:?}");
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    }
    Ok(())
}
