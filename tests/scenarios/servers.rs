//! The servers die, hang and come back under the daemon; nothing is lost, nothing comes twice.

use std::time::Duration;

use anyhow::Result;
use rowbridge_testbed::{Kafka, PgVersion, Postgres};

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

/// A PostgreSQL whose walsender gives up on a silent peer after two seconds.
async fn impatient_postgres() -> Result<Postgres> {
    // A crash must find on disk what was committed: fsync stays on.
    Postgres::builder(PgVersion::V15)
        .setting("wal_sender_timeout", "2s")
        .setting("fsync", "on")
        .start()
        .await
}

#[tokio::test]
async fn postgres_killed_and_restarted_under_load() -> Result<()> {
    let mut postgres = impatient_postgres().await?;
    let kafka = Kafka::shared().await?;
    let rig = Rig::on(
        "postgres_killed",
        &postgres.database("postgres_killed").await?,
        &kafka.brokers(),
    )
    .await?;
    open_accounts(&rig, 50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    for _ in 0..2 {
        load.more(200).await?;
        postgres.kill9().await?;
        postgres.start_again().await?;
    }
    load.more(200).await?;
    load.stop().await;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn kafka_killed_restarted_and_away_for_longer_than_the_walsender_waits() -> Result<()> {
    let postgres = impatient_postgres().await?;
    let mut kafka = Kafka::start().await?;
    let rig = Rig::on(
        "kafka_killed",
        &postgres.database("kafka_killed").await?,
        &kafka.brokers(),
    )
    .await?;
    open_accounts(&rig, 50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    load.more(200).await?;
    kafka.kill9().await?;
    kafka.start_again().await?;
    load.more(200).await?;

    kafka.stop().await?;
    // More than three times wal_sender_timeout: whoever does not answer keepalives is thrown out.
    load.more(500).await?;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let query =
        "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'rowbridge_kafka_killed'";
    eventually(
        "the owner to hold its slot while Kafka is away",
        SOON,
        || async { Ok(rig.query_text(query).await?.as_deref() == Some("true")) },
    )
    .await?;
    kafka.start_again().await?;
    load.more(200).await?;
    load.stop().await;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn an_idle_table_beside_a_busy_one_does_not_hold_the_slot_back() -> Result<()> {
    let rig = Rig::shared("idle_table").await?;
    open_accounts(&rig, 5).await?;
    rig.sql("CREATE TABLE busy (n int8)").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("INSERT INTO busy SELECT generate_series(1, 100000)")
        .await?;
    let written = rig
        .query_text("SELECT pg_current_wal_lsn()::text")
        .await?
        .unwrap_or_default();
    let query = format!(
        "SELECT (confirmed_flush_lsn >= '{written}')::text FROM pg_replication_slots WHERE slot_name = 'rowbridge_idle_table'"
    );
    eventually("the slot to pass the busy table's WAL", SOON, || async {
        Ok(rig.query_text(&query).await?.as_deref() == Some("true"))
    })
    .await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
