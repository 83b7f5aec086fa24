//! What a `read_committed` consumer sees of a topic, for tests, examples and benches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
const READ_DEADLINE: Duration = Duration::from_secs(180);

/// One record.
#[derive(Clone, Debug)]
pub struct Event {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub headers: BTreeMap<String, String>,
    /// `None` is a tombstone.
    pub value: Option<serde_json::Value>,
}

impl Event {
    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.header("ce_type")
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("ce_id")
    }

    /// A header's value; empty without one.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A field of the data, as its JSON text without quotes; empty without one.
    #[must_use]
    pub fn field(&self, name: &str) -> String {
        match self.value.as_ref().and_then(|value| value.get(name)) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

/// Everything committed in `topic` now, partition by partition in offset order. A topic that does not exist
/// (yet) is empty.
///
/// # Errors
/// The broker does not answer in time, or a value is not JSON.
pub fn read_all(brokers: &str, topic: &str) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    read_each(brokers, topic, |event| events.push(event))?;
    Ok(events)
}

/// As [`read_all`], without keeping the events.
///
/// # Errors
/// As [`read_all`].
pub fn read_each(brokers: &str, topic: &str, mut each: impl FnMut(Event)) -> Result<()> {
    read_messages(brokers, topic, |message| {
        each(event(message)?);
        Ok(())
    })
}

/// Every byte of keys and values committed in `topic` now, whatever they mean.
///
/// # Errors
/// The broker does not answer in time.
pub fn read_bytes(brokers: &str, topic: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_messages(brokers, topic, |message| {
        for part in [message.key(), message.payload()] {
            bytes.extend_from_slice(part.unwrap_or_default());
            bytes.push(b'\n');
        }
        Ok(())
    })?;
    Ok(bytes)
}

fn read_messages(
    brokers: &str,
    topic: &str,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
) -> Result<()> {
    let Some(consumer) = assigned(brokers, topic, "read_committed")? else {
        return Ok(());
    };
    let mut open = consumer.assignment()?.count();
    let started = Instant::now();
    while open > 0 {
        match consumer.poll(Duration::from_millis(500)) {
            None => {}
            Some(Ok(message)) => each(&message)?,
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            // The client connects again by itself; a busy machine may part them for a moment.
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown))) => {}
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ))) => return Ok(()),
            Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
        }
        if started.elapsed() > READ_DEADLINE {
            bail!("{topic} was not read to its end within {READ_DEADLINE:?}");
        }
    }
    Ok(())
}

/// Hands over every event of `topic` as it becomes visible, until `done`.
///
/// # Errors
/// As [`read_all`]; also a topic that does not exist.
pub fn follow(
    brokers: &str,
    topic: &str,
    done: &AtomicBool,
    mut each: impl FnMut(Event),
) -> Result<()> {
    let consumer = assigned(brokers, topic, "read_committed")?
        .with_context(|| format!("{topic} does not exist"))?;
    while !done.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(50)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Ok(message)) => each(event(&message)?),
            Some(Err(error)) => return Err(error).with_context(|| format!("following {topic}")),
        }
    }
    Ok(())
}

/// A consumer that starts at the beginning of every partition; nothing without the topic.
fn assigned(brokers: &str, topic: &str, isolation: &str) -> Result<Option<BaseConsumer>> {
    let consumer = consumer(brokers, isolation)?;
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    if list.count() == 0 {
        return Ok(None);
    }
    consumer.assign(&list)?;
    Ok(Some(consumer))
}

fn consumer(brokers: &str, isolation: &str) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "rowbridge-testbed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("isolation.level", isolation)
        .create()?;
    Ok(consumer)
}

/// The partitions of `topic`; none without the topic.
fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_DEADLINE)?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    Ok(partitions.map(|partition| partition.id()).collect())
}

fn event(message: &BorrowedMessage<'_>) -> Result<Event> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers = BTreeMap::new();
    if let Some(list) = message.headers() {
        for header in list.iter() {
            headers.insert(
                header.key.to_owned(),
                header.value.map(text).unwrap_or_default(),
            );
        }
    }
    Ok(Event {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text).unwrap_or_default(),
        headers,
        value: message.payload().map(serde_json::from_slice).transpose()?,
    })
}

/// Asks for the offsets up to which a topic's partitions can be read.
pub struct EndOffsets {
    /// Dropped before the consumer: librdkafka waits for ever to destroy a client whose partitions are held.
    partitions: TopicPartitionList,
    consumer: BaseConsumer,
}

impl EndOffsets {
    /// Of `read_committed` readers: the last stable offsets.
    ///
    /// # Errors
    /// The broker does not answer, or the topic does not exist.
    pub fn committed(brokers: &str, topic: &str) -> Result<Self> {
        Self::new(brokers, topic, "read_committed")
    }

    /// Of `read_uncommitted` readers: the high watermarks.
    ///
    /// # Errors
    /// As [`EndOffsets::committed`].
    pub fn uncommitted(brokers: &str, topic: &str) -> Result<Self> {
        Self::new(brokers, topic, "read_uncommitted")
    }

    fn new(brokers: &str, topic: &str, isolation: &str) -> Result<Self> {
        let consumer = consumer(brokers, isolation)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions(&consumer, topic)? {
            // A timestamp of -1 asks for the end (Kafka protocol, ListOffsets).
            list.add_partition_offset(topic, partition, Offset::End)?;
        }
        ensure!(list.count() > 0, "{topic} does not exist");
        Ok(Self {
            partitions: list,
            consumer,
        })
    }

    /// The offsets now, by partition; one request for all of them.
    ///
    /// # Errors
    /// The broker does not answer in time.
    pub fn read(&self) -> Result<BTreeMap<i32, i64>> {
        let ends = self
            .consumer
            .offsets_for_times(self.partitions.clone(), REQUEST_DEADLINE)?;
        let raw = |end: Offset| end.to_raw().unwrap_or(-1);
        Ok(ends
            .elements()
            .iter()
            .map(|end| (end.partition(), raw(end.offset())))
            .collect())
    }
}

/// Proof that a transaction is open: records that `read_committed` readers do not see yet.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    pub partition: i32,
    pub last_stable_offset: i64,
    pub high_watermark: i64,
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            last_stable_offset,
            high_watermark,
        } = self;
        write!(
            f,
            "partition {partition}: last stable offset {last_stable_offset}, high watermark {high_watermark}"
        )
    }
}

/// An open transaction on a topic, if there is one.
///
/// # Errors
/// The broker does not answer in time.
pub fn open_transaction(stable: &EndOffsets, high: &EndOffsets) -> Result<Option<OpenTransaction>> {
    // High first: a transaction that ends in between makes the stable offset pass it, never the reverse.
    let (high, stable) = (high.read()?, stable.read()?);
    let open = stable.iter().find_map(|(partition, last_stable_offset)| {
        let high_watermark = *high.get(partition)?;
        (high_watermark > *last_stable_offset).then_some(OpenTransaction {
            partition: *partition,
            last_stable_offset: *last_stable_offset,
            high_watermark,
        })
    });
    Ok(open)
}
