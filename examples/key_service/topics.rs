//! The topics of a group, made where they are missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::effects::Group;
use crate::partition::REMEMBERED;

/// How long a broker may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks at whether a topic that was created is known to the broker.
const CREATED_PAUSE: Duration = Duration::from_millis(20);
/// An event waits for minutes at most; this is for a service that is down meanwhile.
const RETRY_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(crate) struct Topics {
    /// What Rowbridge publishes.
    pub(crate) stays: String,
    pub(crate) retry: String,
    pub(crate) done: String,
    /// For people: never read by the service, never emptied by the brokers.
    pub(crate) failed: String,
}

impl Topics {
    pub(crate) fn of(group: Group) -> Self {
        let name = group.name();
        Self {
            stays: "hotel.stays".to_owned(),
            retry: format!("{name}.retry"),
            done: format!("{name}.done"),
            failed: format!("{name}.failed"),
        }
    }

    /// Makes those of the group as `hotel.stays` is.
    ///
    /// # Errors
    /// `hotel.stays` does not exist, or one of the group's has another number of partitions.
    pub(crate) async fn ensure(&self, brokers: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()?;
        let partitions = partitions(&admin, &self.stays)?;
        ensure!(partitions > 0, "{} does not exist", self.stays);
        let wanted = [
            (&self.retry, RETRY_KEPT.as_millis().to_string()),
            (&self.done, REMEMBERED.as_millis().to_string()),
            (&self.failed, "-1".to_owned()),
        ];
        let new = wanted.iter().map(|(name, retention_ms)| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(-1))
                .set("retention.ms", retention_ms)
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN));
        for created in admin.create_topics(&new, &options).await? {
            match created {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, error)) => bail!("{name} cannot be made: {error}"),
            }
        }
        for (name, _) in wanted {
            let has = known(&admin, name).await?;
            ensure!(
                has == partitions,
                "{name} has {has} partitions, {} has {partitions}",
                self.stays
            );
        }
        Ok(())
    }
}

/// The number of partitions of a topic that exists, if only for a moment.
async fn known(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<i32> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        match partitions(admin, topic)? {
            0 if Instant::now() < deadline => tokio::time::sleep(CREATED_PAUSE).await,
            found => return Ok(found),
        }
    }
}

fn partitions(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<i32> {
    let metadata = admin.inner().fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let found = metadata
        .topics()
        .first()
        .context("no answer for the topic")?;
    Ok(i32::try_from(found.partitions().len())?)
}
