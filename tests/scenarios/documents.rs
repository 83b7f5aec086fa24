//! The ledger as documents of MongoDB: the same events, the same oracles, other faults.

mod brokers;
mod elections;
mod errors;
mod histories;
mod reseeding;
mod stage;
mod transactions;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use rowbridge_testbed::Mongo;
use rowbridge_testbed::consumer::read_all;

use self::stage::{Documents, Load};
use crate::oracle::Reads;
use crate::rig::{SOON, eventually};
use crate::workload::Random;

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

/// Documents change while they are read, and some go between two attempts: published perhaps, and not read again.
#[tokio::test]
async fn a_first_read_killed_three_times_under_writes_leaves_no_phantom_and_no_gap() -> Result<()> {
    let documents = Documents::shared("documents_snapshot").await?;
    documents.open_accounts(60_000).await?;
    let account = documents.database.collection::<Document>("account");
    let load = Load::start(&documents, 2, 60_000);
    let mut daemon = documents.rig.daemon().await?;
    let read = "rowbridge_events_total{type=\"AccountRead\"}";
    for gone in [1, 101, 201_i64] {
        eventually("some rows", SOON, || async {
            Ok(daemon.metric(read).await.is_ok_and(|rows| rows > 0.0))
        })
        .await?;
        ensure!(!daemon.is_ready().await, "all was read before the kill");
        daemon.kill9().await?;
        let range = doc! { "$gte": gone, "$lt": gone + 100 };
        account.delete_many(doc! { "_id": range }).await?;
        daemon = documents.rig.daemon().await?;
    }
    daemon.ready().await?;
    load.more(50).await?;
    load.stop().await;
    let events = documents.settled(Reads::MayRepeat).await?;
    println!("{events} events of 60000 documents and what became of them");
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

/// Nobody keeps a second instance from reading, so one that starts waits until it is sure that the last one is gone; but not
/// for one that said so.
#[tokio::test]
async fn a_daemon_that_was_stopped_makes_room_at_once() -> Result<()> {
    let documents = Documents::shared("documents_left").await?;
    documents.open_accounts(5).await?;
    let mut owner = documents.rig.daemon().await?;
    owner.ready().await?;
    for stands_by in [true, false] {
        let mut standby = None;
        if stands_by {
            let standby = standby.insert(documents.rig.daemon().await?);
            standby.says("/readyz", "STANDBY").await?;
        }
        let since = Instant::now();
        assert_eq!(owner.terminate().await?, 0, "{}", owner.log());
        let mut next = match standby {
            Some(standby) => standby,
            None => documents.rig.daemon().await?,
        };
        next.ready().await?;
        let took = since.elapsed();
        println!("taken over within {took:?}");
        ensure!(took < Duration::from_secs(4), "{took:?}:\n{}", next.log());
        owner = next;
    }
    documents.visible_since(1, Instant::now()).await?;
    documents.settled(Reads::Once).await?;
    assert_eq!(owner.terminate().await?, 0, "{}", owner.log());
    Ok(())
}
