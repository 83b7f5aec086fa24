//! The state topic under a broker that compacts it as fast as it can: what is forgotten leaves it, and what is left is all that
//! was remembered.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rowbridge_testbed::consumer::{read_all, read_bytes};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};

use crate::remembering::{Load, MAPPING, SCHEMA_TOML, eventually_told, seats};
use crate::rig::{Rig, SOON, eventually};

const NAME: &str = "compacted";
const STATE: &str = "rowbridge.compacted.state";

/// Each segment is compacted soon after it is full, which it is soon, and shows that a key is gone no longer than that.
async fn compact_at_once(rig: &Rig) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &rig.brokers)
        .create()?;
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(STATE));
    for (key, value) in [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "100"),
    ] {
        config = config.set(key, value);
    }
    let altered = admin.alter_configs(&[config], &AdminOptions::new()).await?;
    for result in altered {
        result.map_err(|(what, code)| anyhow::anyhow!("altering {what:?}: {code}"))?;
    }
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn what_a_compacted_topic_still_has_is_what_was_remembered() -> Result<()> {
    let postgres = Postgres::shared(PgVersion::V15).await?;
    let kafka = Kafka::builder()
        .property("log.cleaner.backoff.ms", "100")
        .start()
        .await?;
    let rig = Rig::on(NAME, &postgres.database(NAME).await?, &kafka.brokers()).await?;
    let rig = seats(rig).await?;
    let quarantining = MAPPING.replace("version = 1", "version = 1\non_error = \"quarantine\"");
    rig.write_pack_with(&quarantining, SCHEMA_TOML)?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    compact_at_once(&rig).await?;
    rig.sql("INSERT INTO flight VALUES (900, 'GONE-1', 'A', 1, 'x')")
        .await?;
    rig.sql("DELETE FROM flight WHERE number = 'GONE-1'")
        .await?;
    ensure!(contains(&read_bytes(&rig.brokers, STATE)?, b"GONE-1"));
    let load = Load::start(&rig).await?;
    eventually("the deleted flight to leave the topic", SOON, || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(!contains(&read_bytes(&rig.brokers, STATE)?, b"GONE-1"))
    })
    .await?;
    daemon.kill9().await?;
    std::fs::remove_dir_all(rig.state_folder())?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    load.stop().await?;
    eventually_told(&rig).await?;
    rig.sql("INSERT INTO seat VALUES (5000, 'GONE-1', 'P5000', 1)")
        .await?;
    eventually("the seat on the flight that is gone", SOON, || async {
        Ok(!read_all(&rig.brokers, "rowbridge.compacted.quarantine")?.is_empty())
    })
    .await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
