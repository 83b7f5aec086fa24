//! Reads back from Kafka what an earlier owner of partitions knew: who waits, and what is done.

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::effects::Group;
use crate::event::Event;
use crate::partition::Partition;
use crate::topics::{ANSWER_WITHIN, Topics};

/// Far below `max.poll.interval.ms`, as nothing is polled meanwhile.
const RECALL_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Memory {
    /// Sees the ends of topics as they are.
    high: BaseConsumer<Quiet>,
    /// Sees them as far as all transactions before have ended.
    stable: BaseConsumer<Quiet>,
}

/// Does not log the end of a partition, which is asked for, as an error.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "the client goes on");
        }
    }
}

impl ConsumerContext for Quiet {}

impl Memory {
    pub(crate) fn new(brokers: &str, group: Group) -> Result<Self> {
        let consumer = |isolation: &str| {
            ClientConfig::new()
                .set("bootstrap.servers", brokers)
                // Assigning wants one; nothing is committed under it.
                .set("group.id", format!("{}.memory", group.name()))
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "earliest")
                .set("fetch.wait.max.ms", "10")
                .set("isolation.level", isolation)
                .create_with_context::<_, BaseConsumer<Quiet>>(Quiet)
        };
        Ok(Self {
            high: consumer("read_uncommitted")?,
            stable: consumer("read_committed")?,
        })
    }

    /// What is known of `numbers`, which `owner` was assigned just now.
    ///
    /// The committed offset first: the broker gives it out only when no transaction with one is open. What the same
    /// transactions wrote may become visible later, as each partition is told of the end by itself.
    pub(crate) fn recall<C: ConsumerContext>(
        &self,
        owner: &BaseConsumer<C>,
        numbers: &BTreeSet<i32>,
        topics: &Topics,
    ) -> Result<HashMap<i32, Partition>> {
        let retry = list(&topics.retry, numbers, Offset::Invalid)?;
        let retry = patiently(|| owner.committed_offsets(retry.clone(), ANSWER_WITHIN))?;
        for number in numbers {
            let mut element = retry
                .find_partition(&topics.retry, *number)
                .context("not asked for")?;
            if element.offset() == Offset::Invalid {
                element.set_offset(Offset::Beginning)?;
            }
        }
        let mut partitions: HashMap<i32, Partition> = HashMap::new();
        self.read(&retry, |message| {
            let event = Event::read(message, topics)?;
            partitions.entry(event.partition).or_default().park(&event);
            Ok(())
        })?;
        self.read(
            &list(&topics.done, numbers, Offset::Beginning)?,
            |message| {
                let id = String::from_utf8_lossy(message.key().unwrap_or_default());
                let at = message.timestamp().to_millis().unwrap_or_default();
                partitions
                    .entry(message.partition())
                    .or_default()
                    .remember(&id, at);
                Ok(())
            },
        )?;
        Ok(partitions)
    }

    /// Everything from the offsets in `from` to the ends.
    fn read(
        &self,
        from: &TopicPartitionList,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + RECALL_WITHIN;
        self.wait_until_settled(from, deadline)?;
        self.stable.assign(from)?;
        let mut ended = BTreeSet::new();
        while ended.len() < from.count() {
            match self.stable.poll(PAUSE) {
                None => {}
                Some(Ok(message)) => each(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "reading what is known; the client goes on");
                }
            }
            ensure!(
                Instant::now() < deadline,
                "not read to its end within {RECALL_WITHIN:?}: {from:?}"
            );
        }
        self.stable.unassign()?;
        Ok(())
    }

    /// Waits until what lies in these partitions now is visible, or was aborted.
    fn wait_until_settled(&self, partitions: &TopicPartitionList, deadline: Instant) -> Result<()> {
        let ends = |of: &BaseConsumer<Quiet>| -> Result<Vec<Option<i64>>> {
            let mut asked = partitions.clone();
            asked.set_all_offsets(Offset::End)?;
            let told = patiently(|| of.offsets_for_times(asked.clone(), ANSWER_WITHIN))?;
            let raw = told.elements();
            Ok(raw
                .iter()
                .map(|element| element.offset().to_raw())
                .collect())
        };
        let high = ends(&self.high)?;
        while ends(&self.stable)?
            .iter()
            .zip(&high)
            .any(|(stable, high)| stable < high)
        {
            ensure!(
                Instant::now() < deadline,
                "a transaction did not end within {RECALL_WITHIN:?}"
            );
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Asks again for a while: a broker may not lead yet what was made a moment ago.
fn patiently<T>(ask: impl Fn() -> KafkaResult<T>) -> Result<T> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        match ask() {
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            answer => return Ok(answer?),
        }
    }
}

fn list(topic: &str, numbers: &BTreeSet<i32>, offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for number in numbers {
        list.add_partition_offset(topic, *number, offset)?;
    }
    Ok(list)
}
