//! The ledger as documents of MongoDB: the same events, the same oracles, other faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Bson, Decimal128, Document, doc};
use mongodb::{Client, Database};
use rowbridge_testbed::consumer::read_all;
use rowbridge_testbed::{Kafka, Mongo};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::oracle::{Account, Reads, verify_events};
use crate::rig::{LEDGER, Rig, SOON, eventually};
use crate::workload::Random;

/// A pipeline on a database of its own.
struct Documents {
    rig: Rig,
    database: Database,
}

impl Documents {
    async fn shared(name: &str) -> Result<Self> {
        Self::on(name, Mongo::shared().await?).await
    }

    async fn on(name: &str, mongo: &Mongo) -> Result<Self> {
        let kafka = Kafka::shared().await?;
        let rig = Rig::on_documents(name, mongo, &kafka.brokers())?;
        let database = Client::with_uri_str(mongo.url())
            .await?
            .database(&mongo.database(name));
        let create =
            doc! { "create": "account", "changeStreamPreAndPostImages": { "enabled": true } };
        database.run_command(create).await?;
        rig.write_pack(&LEDGER.replace("public.account", &format!("{}.account", database.name())))?;
        Ok(Self { rig, database })
    }

    async fn open_accounts(&self, accounts: i64) -> Result<()> {
        let account = |id: i64| doc! { "_id": id, "id": id, "ver": 1_i64, "owner": format!("owner {id}"), "balance": amount(1000, 0) };
        self.database
            .collection("account")
            .insert_many((1..=accounts).map(account))
            .await?;
        Ok(())
    }

    async fn stored(&self) -> Result<BTreeMap<i64, Account>> {
        use futures_util::TryStreamExt as _;
        let accounts: Vec<Document> = self
            .database
            .collection("account")
            .find(doc! {})
            .await?
            .try_collect()
            .await?;
        accounts
            .iter()
            .map(|account| {
                let balance = match account.get("balance") {
                    Some(Bson::Decimal128(balance)) => balance.to_string(),
                    other => anyhow::bail!("a balance {other:?}"),
                };
                let ver = account.get_i64("ver")?;
                Ok((account.get_i64("id")?, Account { ver, balance }))
            })
            .collect()
    }

    /// Waits until the events rebuild exactly what is stored; how many there are.
    async fn settled(&self, reads: Reads) -> Result<usize> {
        let started = Instant::now();
        loop {
            let events = read_all(&self.rig.brokers, &self.rig.topic)?;
            match verify_events(&events, &self.stored().await?, reads) {
                Err(error) if started.elapsed() > SOON => {
                    return Err(error.context("the events never rebuilt the source"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                Ok(()) => return Ok(events.len()),
            }
        }
    }
}

fn amount(whole: u32, cents: u32) -> Decimal128 {
    format!("{whole}.{cents:02}").parse().expect("a decimal")
}

/// Writers of transfers: mostly in transactions of two documents, some aborted, some updates of one document alone.
struct Load {
    stop: CancellationToken,
    writers: JoinSet<()>,
    commits: Arc<AtomicU64>,
}

impl Load {
    fn start(documents: &Documents, writers: u64, accounts: u32) -> Self {
        let stop = CancellationToken::new();
        let commits = Arc::new(AtomicU64::new(0));
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let (database, stop, commits) = (
                documents.database.clone(),
                stop.clone(),
                Arc::clone(&commits),
            );
            set.spawn(async move {
                let mut random = Random(writer * 7919 + 17);
                while !stop.is_cancelled() {
                    // Conflicts and elections are the scenario's doing; the writer simply goes on.
                    match transfer(&database, &mut random, accounts).await {
                        Ok(()) => drop(commits.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
        Self {
            stop,
            writers: set,
            commits,
        }
    }

    async fn more(&self, transactions: u64) -> Result<()> {
        let written = self.commits.load(Ordering::Relaxed);
        eventually("load on the source", SOON, || {
            let enough = self.commits.load(Ordering::Relaxed) > written + transactions;
            async move { Ok(enough) }
        })
        .await
    }

    async fn stop(mut self) -> u64 {
        self.stop.cancel();
        while self.writers.join_next().await.is_some() {}
        self.commits.load(Ordering::Relaxed)
    }
}

async fn transfer(database: &Database, random: &mut Random, accounts: u32) -> Result<()> {
    let (from, to) = random.pair(accounts);
    let moved = amount(random.below(50), random.below(100));
    let account = database.collection::<Document>("account");
    let change = |sign: &str| -> Result<Document> {
        let moved: Decimal128 = format!("{sign}{moved}").parse()?;
        Ok(doc! { "$inc": { "ver": 1_i64, "balance": moved } })
    };
    if random.below(5) == 0 {
        account
            .update_one(doc! { "_id": i64::from(from) }, change("")?)
            .await?;
        return Ok(());
    }
    let mut session = database.client().start_session().await?;
    session.start_transaction().await?;
    account
        .update_one(doc! { "_id": i64::from(from) }, change("-")?)
        .session(&mut session)
        .await?;
    account
        .update_one(doc! { "_id": i64::from(to) }, change("")?)
        .session(&mut session)
        .await?;
    match random.below(20) {
        0 => session.abort_transaction().await?,
        _ => session.commit_transaction().await?,
    }
    Ok(())
}

#[tokio::test]
async fn every_document_change_arrives_once_when_the_daemon_is_killed_under_load() -> Result<()> {
    let documents = Documents::shared("documents_killed").await?;
    documents.open_accounts(100).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 100);
    let mut random = Random(4711);
    for round in 1..=crate::kills::rounds() {
        tokio::time::sleep(Duration::from_millis(u64::from(200 + random.below(600)))).await;
        daemon.kill9().await?;
        println!(
            "round {round}: {} transactions written",
            load.commits.load(Ordering::Relaxed)
        );
        daemon = documents.rig.daemon().await?;
        daemon.ready().await?;
    }
    load.more(20).await?;
    let written = load.stop().await;
    let events = documents.settled(Reads::Once).await?;
    println!("{written} transactions, {events} events, none lost, none twice");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn two_instances_without_a_slot_settle_and_one_takes_over() -> Result<()> {
    let documents = Documents::shared("documents_two").await?;
    documents.open_accounts(10).await?;
    let mut first = documents.rig.daemon().await?;
    first.ready().await?;
    let mut second = documents.rig.daemon().await?;
    second.says("/readyz", "STANDBY").await?;
    let load = Load::start(&documents, 1, 10);
    load.more(50).await?;
    ensure!(
        first.is_ready().await,
        "the one that runs is left alone:\n{}",
        first.log()
    );
    first.kill9().await?;
    let killed = Instant::now();
    second.ready().await?;
    let took_over = killed.elapsed();
    println!("took over after {took_over:?}");
    ensure!(
        took_over < Duration::from_secs(15),
        "took over after {took_over:?}"
    );
    load.more(50).await?;
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(second.terminate().await?, 0, "{}", second.log());
    Ok(())
}

#[tokio::test]
async fn a_new_primary_is_followed_and_nothing_is_lost() -> Result<()> {
    let mut mongo = Mongo::builder().nodes(3).start().await?;
    let documents = Documents::on("documents_elected", &mongo).await?;
    documents.open_accounts(20).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 20);
    load.more(100).await?;
    mongo.step_down().await?;
    load.more(100).await?;
    let primary = mongo.primary().await?;
    mongo.kill9(primary).await?;
    load.more(100).await?;
    mongo.start_again(primary).await?;
    load.more(50).await?;
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// The end of its transaction is only known when the server writes something else, and nothing does for seconds.
#[tokio::test]
async fn a_change_on_a_quiet_server_is_published_at_once() -> Result<()> {
    let mongo = Mongo::start().await?;
    let documents = Documents::on("documents_quiet", &mongo).await?;
    documents.open_accounts(1).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.settled(Reads::Once).await?;
    let account = documents.database.collection::<Document>("account");
    for ver in 2..=4_i64 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = Instant::now();
        account
            .update_one(doc! { "_id": 1_i64 }, doc! { "$inc": { "ver": 1_i64 } })
            .await?;
        eventually("the change", SOON, || async {
            let events = read_all(&documents.rig.brokers, &documents.rig.topic)?;
            Ok(events
                .iter()
                .any(|event| event.field("ver") == ver.to_string()))
        })
        .await?;
        println!("seen after {:?}", written.elapsed());
        ensure!(
            written.elapsed() < Duration::from_secs(3),
            "seen after {:?}",
            written.elapsed()
        );
    }
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn existing_documents_come_once_and_a_killed_snapshot_leaves_no_phantom() -> Result<()> {
    let documents = Documents::shared("documents_snapshot").await?;
    documents.open_accounts(20_000).await?;
    let mut daemon = documents.rig.daemon().await?;
    let topic = &documents.rig.topic;
    eventually("some rows", SOON, || async {
        Ok(read_all(&documents.rig.brokers, topic).is_ok_and(|events| !events.is_empty()))
    })
    .await?;
    daemon.kill9().await?;
    // Published perhaps, and gone before the next attempt reads.
    let account = documents.database.collection::<Document>("account");
    account
        .delete_many(doc! { "_id": { "$lte": 100_i64 } })
        .await?;
    let load = Load::start(&documents, 2, 20_000);
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    load.more(50).await?;
    load.stop().await;
    documents.settled(Reads::MayRepeat).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn commands_know_the_documents_source() -> Result<()> {
    let documents = Documents::shared("documents_commands").await?;
    documents.open_accounts(3).await?;
    let ran = |words: &'static [&'static str]| {
        let rig = &documents.rig;
        async move {
            let output = rig.command(words).await?;
            let said = [output.stdout, output.stderr].concat();
            anyhow::Ok((output.status.code(), String::from_utf8(said)?))
        }
    };
    let (code, said) = ran(&["check"]).await?;
    assert_eq!(code, Some(0), "{said}");
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.settled(Reads::Once).await?;
    eventually("the oplog's window", SOON, || async {
        Ok(daemon
            .metric("rowbridge_source_oplog_window_seconds")
            .await?
            >= 0.0)
    })
    .await?;
    let (code, said) = ran(&["position", "set", "--snapshot"]).await?;
    ensure!(
        code == Some(2) && said.contains("stop it first"),
        "{code:?} {said}"
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let (code, said) = ran(&["position", "show"]).await?;
    ensure!(
        code == Some(0) && said.contains("mongodb/") && said.contains("oplog:"),
        "{code:?} {said}"
    );
    let looking = documents
        .rig
        .command(&["dry-run", "--limit", "1", "--json"]);
    let working = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let account = documents.database.collection::<Document>("account");
            account
                .update_one(doc! { "_id": 1_i64 }, doc! { "$inc": { "ver": 1_i64 } })
                .await?;
        }
    };
    let looked = tokio::select! {
        looked = looking => looked?,
        stopped = working => return stopped,
    };
    let shown = String::from_utf8(looked.stdout)?;
    let event: serde_json::Value = serde_json::from_str(shown.lines().next().context("an event")?)?;
    assert_eq!(event["type"], "AccountChanged", "{shown}");
    let (code, said) = ran(&["drop", "--yes", "--topics"]).await?;
    ensure!(
        code == Some(0) && said.contains("nothing to remove"),
        "{code:?} {said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_capture_of_documents_gives_what_the_daemon_published() -> Result<()> {
    let documents = Documents::shared("documents_captured").await?;
    documents.open_accounts(20).await?;
    let rig = &documents.rig;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 1, 20);
    let capture = rig.path("ledger.capture");
    let path = capture.to_str().context("a path")?;
    let recorded = rig
        .command(&["record", "--out", path, "--limit", "100"])
        .await?;
    let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
    ensure!(recorded.status.success(), "{said}");
    let given = crate::captures::gives_what_was_published(rig, &capture).await?;
    println!("{given} records, each as the daemon published it");
    ensure!(given >= 100, "{given} records: {said}");
    load.stop().await;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
