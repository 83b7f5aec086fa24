//! A pipeline of its own per test on one shared broker, batches to write, and a reader of what is visible.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rowbridge::event::{Delivery, EVENT_HEADERS, EncodedBatch, HeaderId, Record, Span, TopicId};
use rowbridge::mapping::{Envelope, Topic};
use rowbridge::sink::Progress;
use rowbridge::sink::kafka::properties::Properties;
use rowbridge::sink::kafka::{KafkaConfig, KafkaLimits, KafkaSink, LetIn, Published};
use rowbridge_api::{Identity, Position};
use rowbridge_testbed::Kafka;
use tokio::runtime::Handle;

const READ_LIMIT: Duration = Duration::from_secs(30);

/// The runtime that brokers and proxies live in, on a thread of its own.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Runs what a test asks of the testbed.
pub(crate) fn wait<T>(future: impl Future<Output = anyhow::Result<T>>) -> T {
    RUNTIME.block_on(future).unwrap()
}

/// The broker that tests without faults share.
fn brokers() -> String {
    wait(Kafka::shared()).brokers()
}

/// A broker behind a proxy, for one test at a time.
pub(crate) fn proxied() -> MutexGuard<'static, Kafka> {
    static PROXIED: LazyLock<Mutex<Kafka>> =
        LazyLock::new(|| Mutex::new(wait(Kafka::builder().proxied().start())));
    PROXIED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn topic(name: &str, partitions: u32) -> Topic {
    Topic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication: None,
        retention_ms: None,
        max_bytes_per_partition: None,
        cleanup: None,
        envelope: Envelope::Binary,
    }
}

pub(crate) fn source(name: &str) -> Identity {
    Identity {
        source: format!("postgres/7000/{name}"),
        history: "1".to_owned(),
    }
}

pub(crate) fn at(lsn: u64) -> Progress {
    Progress::At {
        position: Position::new(lsn),
        cursor: None,
    }
}

/// A pipeline with one event topic of its own, `<pipeline>.events`.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) config: KafkaConfig,
    pub(crate) published: Published,
}

impl Bed {
    pub(crate) fn new(pipeline: &str, partitions: u32) -> Self {
        Self::at(&brokers(), pipeline, partitions)
    }

    pub(crate) fn at(brokers: &str, pipeline: &str, partitions: u32) -> Self {
        let unique = format!("{pipeline}_{}", &uuid()[..8]);
        Self {
            published: Published {
                topics: vec![topic(&format!("{unique}.events"), partitions)],
                header_names: EVENT_HEADERS.map(str::to_owned).to_vec(),
                mapping_hash: "0123abcd".to_owned(),
                kept: None,
                files: None,
            },
            config: KafkaConfig {
                pipeline: unique,
                instance: uuid(),
                brokers: brokers.to_owned(),
                properties: Properties::checked(&BTreeMap::new()).unwrap(),
                create_topics: true,
                replication: None,
                max_record_bytes: 960 * 1024,
                limits: KafkaLimits::default(),
                let_in: LetIn::default(),
            },
        }
    }

    pub(crate) fn sink(&self) -> KafkaSink {
        KafkaSink::new(self.config.clone(), self.published.clone())
    }

    pub(crate) fn events_topic(&self) -> &str {
        &self.published.topics[0].name
    }

    /// What a read_committed consumer that starts now sees of the event topic.
    pub(crate) fn visible(&self) -> Vec<Seen> {
        read_all(&self.config.brokers, self.events_topic(), "read_committed")
    }
}

fn uuid() -> String {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    // The low digits differ most.
    format!("{:08x}", (nanos / 100) & 0xffff_ffff)
}

/// A batch of `count` events whose keys and values are numbered from `first`.
pub(crate) fn batch(first: usize, count: usize) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    for number in first..first + count {
        let key = format!("BA{number}/2026-12-01/Y");
        let value = format!(
            "{{\"n\":{number},\"seat\":\"14C\",\"previous_seat\":\"12A\",\"pnr\":\"QX4RTZ\"}}"
        );
        push(&mut batch, TopicId(0), Some(&key), Some(&value));
    }
    batch
}

pub(crate) fn push(
    batch: &mut EncodedBatch,
    topic: TopicId,
    key: Option<&str>,
    value: Option<&str>,
) {
    let key = key.map(|key| append(batch, key));
    let value = value.map(|value| append(batch, value));
    let first = u32::try_from(batch.headers.len()).unwrap();
    for (index, name) in EVENT_HEADERS.iter().enumerate() {
        let span = append(batch, &format!("value of {name}, of usual length"));
        batch
            .headers
            .push((HeaderId(u16::try_from(index).unwrap()), span));
    }
    batch.records.push(Record {
        topic,
        key,
        value,
        headers: first..first + 10,
        rule: 0,
        commit_micros: 0,
        delivery: Delivery::ByKey,
    });
}

fn append(batch: &mut EncodedBatch, text: &str) -> Span {
    let start = batch.buf.len();
    batch.buf.extend_from_slice(text.as_bytes());
    batch.span_since(start)
}

/// One record as a consumer got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// Every record of `topic` from the beginning to the end of each partition, as `isolation` shows it.
pub(crate) fn read_all(brokers: &str, topic: &str, isolation: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "kafka-sink-tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), READ_LIMIT).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap() {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + READ_LIMIT;
    let mut ended = std::collections::BTreeSet::new();
    let mut seen = Vec::new();
    while ended.len() < partitions {
        assert!(Instant::now() < deadline, "reading {topic} to its end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => panic!("reading {topic}: {error}"),
            Some(Ok(record)) => seen.push(Seen {
                partition: record.partition(),
                key: record.key().map(text),
                value: record.payload().map(text),
                headers: record
                    .headers()
                    .map(|headers| {
                        headers
                            .iter()
                            .map(|header| {
                                (header.key.to_owned(), text(header.value.unwrap_or(b"")))
                            })
                            .collect()
                    })
                    .unwrap_or_default(),
            }),
        }
    }
    seen
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
