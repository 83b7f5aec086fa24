//! What is remembered, when the tables that it is of are altered under a running daemon, or when its topic is gone.

use anyhow::{Result, ensure};
use rowbridge_testbed::consumer::read_all;

use super::{eventually_told, rig};
use crate::rig::{Daemon, Rig};
use crate::states::delete_topic;

/// Refused with the state, and nothing published any more.
async fn is_stale(rig: &Rig, daemon: &mut Daemon, says: &str) -> Result<()> {
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("STATE_STALE") && log.contains(says), "{log}");
    assert!(log.contains("rowbridge position set --snapshot"), "{log}");
    // Nor does it by starting again.
    let before = read_all(&rig.brokers, &rig.topic)?.len();
    let mut again = rig.daemon().await?;
    assert_eq!(again.exit_code().await?, 2, "{}", again.log());
    assert!(again.log().contains("STATE_STALE"), "{}", again.log());
    assert_eq!(read_all(&rig.brokers, &rig.topic)?.len(), before);
    Ok(())
}

/// Does what the state's hint says, and has a change looked up that comes after it.
async fn reads_again(rig: &Rig, gate: &str) -> Result<()> {
    let said = rig.command(&["position", "set", "--snapshot"]).await?;
    assert!(said.status.success(), "{said:?}");
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let before = read_all(&rig.brokers, &rig.topic)?.len();
    rig.sql(&format!(
        "UPDATE flight SET gate = '{gate}', ver = ver + 100 WHERE number = 'F8'; SELECT step('P7', false)"
    ))
    .await?;
    crate::rig::eventually("the step to be told", crate::rig::SOON, || async {
        Ok(read_all(&rig.brokers, &rig.topic)?.len() > before)
    })
    .await?;
    let ver = rig
        .query_text("SELECT ver FROM flight WHERE number = 'F8'")
        .await?;
    let events = read_all(&rig.brokers, &rig.topic)?;
    let last = events
        .iter()
        .rfind(|event| event.key == "7")
        .map(|event| event.field("flight_ver"));
    ensure!(last == ver, "looked up {last:?}, and it is {ver:?}");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn columns_that_are_added_and_widened_do_not_make_what_is_remembered_doubtful() -> Result<()>
{
    let rig = rig("altered_looked_up").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P7', true); SELECT step('P8', false)")
        .await?;
    rig.sql(
        "ALTER TABLE flight ADD COLUMN terminal text DEFAULT 'T1', ALTER gate TYPE varchar(80);
         ALTER TABLE seat ADD COLUMN meal text",
    )
    .await?;
    // The flights of the first have changed since, those of the second have not.
    rig.sql("SELECT step('P7', true); SELECT step('P9', false); SELECT step('P10', true)")
        .await?;
    eventually_told(&rig).await?;
    daemon.kill9().await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P8', false); SELECT step('P11', false)")
        .await?;
    eventually_told(&rig).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// In a publication of all tables nothing else shows that it is another one.
#[tokio::test]
async fn a_looked_up_table_that_is_made_again_is_state_stale() -> Result<()> {
    let rig = rig("looked_up_made_again").await?;
    rig.sql("CREATE PUBLICATION rowbridge_looked_up_made_again FOR ALL TABLES WITH (publish_via_partition_root = true)")
        .await?;
    rig.write_config_source("create_publication = false")?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P7', true)").await?;
    eventually_told(&rig).await?;
    rig.sql(
        "CREATE TABLE kept AS TABLE flight;
         DROP TABLE flight;
         CREATE TABLE flight (id int8 PRIMARY KEY, number text NOT NULL UNIQUE, gate text, ver int8 NOT NULL, notes text);
         INSERT INTO flight SELECT * FROM kept",
    )
    .await?;
    is_stale(
        &rig,
        &mut daemon,
        "public.flight was dropped and made again",
    )
    .await?;
    reads_again(&rig, "C1").await
}

/// Rows are found by their key: an update that does not say the old one loses them.
#[tokio::test]
async fn a_looked_up_table_whose_identity_is_taken_away_is_state_stale() -> Result<()> {
    let rig = rig("identity_taken").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("ALTER TABLE flight REPLICA IDENTITY USING INDEX flight_number_key")
        .await?;
    rig.sql("UPDATE flight SET id = id + 1000 WHERE number = 'F8'")
        .await?;
    is_stale(&rig, &mut daemon, "does not say the key (id)").await?;
    rig.sql("ALTER TABLE flight REPLICA IDENTITY DEFAULT")
        .await?;
    reads_again(&rig, "C2").await
}

#[tokio::test]
async fn a_deleted_state_topic_is_state_stale() -> Result<()> {
    let rig = rig("state_deleted").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P7', true)").await?;
    eventually_told(&rig).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    delete_topic(&rig, "rowbridge.state_deleted.state").await?;
    rig.sql("SELECT step('P7', false)").await?;
    let mut daemon = rig.daemon().await?;
    is_stale(
        &rig,
        &mut daemon,
        "rowbridge.state_deleted.state does not hold",
    )
    .await?;
    reads_again(&rig, "C3").await
}
