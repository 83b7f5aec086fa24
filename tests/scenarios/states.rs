//! The source or Kafka lost what the pipeline needs: the right state, zero events after it, and exit 2.

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::read_all;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Daemon, Rig};
use crate::workload::open_accounts;

/// A pipeline that published ten accounts and was stopped.
async fn stopped_pipeline(name: &str) -> Result<Rig> {
    let rig = Rig::shared(name).await?;
    open_accounts(&rig, 10).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(rig)
}

/// Starts a daemon and expects it to refuse with `state`, a hint, exit 2, and not one more event.
async fn refuses(rig: &Rig, state: &str) -> Result<()> {
    let before = read_all(&rig.brokers, &rig.topic)?.len();
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    let mut daemon: Daemon = rig.daemon().await?;
    let code = daemon.exit_code().await?;
    let log = daemon.log();
    assert_eq!(code, 2, "{log}");
    assert!(log.contains(state), "expected {state}:\n{log}");
    assert!(
        log.contains("hint:"),
        "a state comes with the commands to choose from:\n{log}"
    );
    assert_eq!(
        read_all(&rig.brokers, &rig.topic)?.len(),
        before,
        "events after {state}"
    );
    Ok(())
}

#[tokio::test]
async fn a_dropped_slot_is_slot_lost() -> Result<()> {
    let rig = stopped_pipeline("slot_dropped").await?;
    rig.sql("SELECT pg_drop_replication_slot('rowbridge_slot_dropped')")
        .await?;
    refuses(&rig, "SLOT_LOST").await
}

#[tokio::test]
async fn a_slot_created_again_is_a_gap() -> Result<()> {
    let rig = stopped_pipeline("slot_recreated").await?;
    rig.sql("SELECT pg_drop_replication_slot('rowbridge_slot_recreated')")
        .await?;
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    rig.sql("SELECT pg_create_logical_replication_slot('rowbridge_slot_recreated', 'pgoutput')")
        .await?;
    refuses(&rig, "GAP").await
}

#[tokio::test]
async fn a_slot_that_somebody_else_advanced_is_a_gap() -> Result<()> {
    let rig = stopped_pipeline("slot_advanced").await?;
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    rig.sql("SELECT pg_replication_slot_advance('rowbridge_slot_advanced', pg_current_wal_lsn())")
        .await?;
    refuses(&rig, "GAP").await
}

#[tokio::test]
async fn a_deleted_position_topic_is_position_lost() -> Result<()> {
    let rig = stopped_pipeline("position_deleted").await?;
    delete_topic(&rig, "rowbridge.position_deleted.position").await?;
    refuses(&rig, "POSITION_LOST").await
}

#[tokio::test]
async fn another_database_under_the_same_name_is_wrong_source_and_the_owner_goes_on() -> Result<()>
{
    let rig = Rig::shared("wrong_source").await?;
    open_accounts(&rig, 10).await?;
    let mut owner = rig.daemon().await?;
    owner.ready().await?;
    let stranger = rig.sibling("wrong_source_stranger").await?;
    open_accounts(&stranger, 10).await?;
    refuses(&stranger, "WRONG_SOURCE").await?;
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    settled(&rig, Reads::Once)
        .await
        .context("the owner was left alone")?;
    assert!(!owner.log().contains("fenced"), "{}", owner.log());
    assert_eq!(owner.terminate().await?, 0);
    Ok(())
}

pub(crate) async fn delete_topic(rig: &Rig, topic: &str) -> Result<()> {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &rig.brokers)
        .create()?;
    let results = admin.delete_topics(&[topic], &AdminOptions::new()).await?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("deleting {topic}: {code}"))?;
    }
    crate::rig::eventually("the topic to be gone", crate::rig::SOON, || {
        let rows = read_all(&rig.brokers, topic);
        async move { Ok(rows?.is_empty()) }
    })
    .await
}
