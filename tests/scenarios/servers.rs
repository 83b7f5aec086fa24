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

/// The session that carries the stream ends in the middle of a rotation: nobody is let in again until our file follows.
#[tokio::test]
async fn a_password_that_is_rotated_while_the_stream_is_cut_is_waited_for() -> Result<()> {
    const NAME: &str = "rotated_under_load";
    let postgres = impatient_postgres().await?;
    let kafka = Kafka::shared().await?;
    postgres
        .let_in(&["host all,replication app all scram-sha-256"])
        .await?;
    let url = postgres.database(NAME).await?;
    let owner = Rig::on(NAME, &url, &kafka.brokers()).await?;
    owner
        .sql(
            "CREATE ROLE app LOGIN REPLICATION PASSWORD 'first-s3cret'; \
             GRANT app TO CURRENT_USER; \
             DO $$ DECLARE t text; BEGIN \
                 EXECUTE format('GRANT CREATE ON DATABASE %I TO app', current_database()); \
                 FOR t IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public' \
                 LOOP EXECUTE 'ALTER TABLE ' || t || ' OWNER TO app'; END LOOP; END $$",
        )
        .await?;
    open_accounts(&owner, 50).await?;
    let rig = owner.moved(NAME, &url.replace("postgres@", "app@"), &kafka.brokers())?;
    std::fs::write(rig.path("pg.password"), "first-s3cret")?;
    rig.write_config_source("password_file = \"pg.password\"")?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&owner, 2, 50, Duration::from_millis(1));
    load.more(200).await?;

    owner
        .sql(
            "ALTER ROLE app PASSWORD 'second-s3cret'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        )
        .await?;
    daemon
        .says("/readyz", "password authentication failed")
        .await?;
    load.more(200).await?;
    assert!(!daemon.is_ready().await);
    std::fs::write(rig.path("pg.password"), "second-s3cret\n")?;
    daemon.ready().await?;
    load.more(200).await?;
    load.stop().await;
    settled(&owner, Reads::Once).await?;
    assert!(!daemon.log().contains("s3cret"));
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
