//! Kafka at its worst moments: around a transaction's end, slow, and away.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::consumer::read_all;
use rowbridge_testbed::{HoldPoint, KAFKA_END_TXN, Kafka, Mongo};

use super::stage::{Documents, Load};
use crate::oracle::Reads;
use crate::rig::SOON;

/// How long the brokers are away.
const AWAY: Duration = Duration::from_secs(20);

/// Documents on shared servers, events to brokers behind a proxy.
async fn proxied(name: &str, kafka: &Kafka) -> Result<Documents> {
    let brokers = kafka.proxied_brokers().context("a proxied broker")?;
    let mut documents = Documents::between(name, Mongo::shared().await?, &brokers).await?;
    // The oracle reads without the proxy, which this thread serves.
    documents.rig.brokers = kafka.brokers();
    Ok(documents)
}

/// The position is old where the broker has not seen the daemon's EndTxn, and new where it has committed and the daemon
/// does not know. No slot tells which: the position in Kafka alone decides.
#[tokio::test]
async fn a_daemon_killed_around_the_end_of_a_kafka_transaction_repeats_no_document() -> Result<()> {
    let kafka = Kafka::builder().proxied().start().await?;
    let documents = proxied("documents_at_commit", &kafka).await?;
    let proxy = kafka.proxy().context("a proxied broker")?;
    documents.open_accounts(50).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 50);
    for point in [HoldPoint::Request, HoldPoint::Response].repeat(3) {
        load.more(20).await?;
        let hold = proxy.hold(KAFKA_END_TXN, point);
        hold.caught(SOON).await?;
        println!("killed with the {point:?} of EndTxn on its way");
        daemon.kill9().await?;
        hold.release();
        daemon = documents.rig.daemon().await?;
        daemon.ready().await?;
    }
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn documents_wait_for_slow_and_for_stopped_brokers() -> Result<()> {
    let mut kafka = Kafka::builder().proxied().start().await?;
    let documents = proxied("documents_slow_kafka", &kafka).await?;
    documents.open_accounts(20).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 20);
    let published = || anyhow::Ok(read_all(&documents.rig.brokers, &documents.rig.topic)?.len());
    let proxy = kafka.proxy().context("a proxied broker")?;
    proxy.latency(Duration::from_millis(300));
    let before = published()?;
    load.more(100).await?;
    documents.visible_since(20, Instant::now()).await?;
    let slow = published()? - before;
    ensure!(slow > 0, "nothing went through slow brokers");
    ensure!(daemon.is_ready().await, "{}", daemon.log());
    kafka
        .proxy()
        .context("a proxied broker")?
        .latency(Duration::ZERO);

    kafka.stop().await?;
    let away = Instant::now();
    load.more(100).await?;
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;
    ensure!(!daemon.has_ended()?, "{}", daemon.log());
    ensure!(!daemon.is_ready().await, "ready without brokers");
    kafka.start_again().await?;
    let again = Instant::now();
    daemon.ready().await?;
    let ready = again.elapsed();
    let visible = documents.visible_since(20, again).await?;
    println!(
        "{slow} events through slow brokers; ready {ready:?} and streaming {visible:?} after they were back"
    );
    load.more(50).await?;
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
