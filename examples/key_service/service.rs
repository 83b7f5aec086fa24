//! The loop: one event at a time, each in a transaction of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::consumer::{
    BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::downstream::{Downstream, Failure};
use crate::effects::Group;
use crate::event::{Event, Record};
use crate::memory::Memory;
use crate::partition::{Partition, Turn};
use crate::topics::{ANSWER_WITHIN, Topics};

/// How often the downstream is asked for one effect.
const ATTEMPTS: u32 = 3;
/// Longest wait for an event. Short, as due retries are looked for in between.
const POLL: Duration = Duration::from_millis(100);
/// Offsets of events that ask for nothing are committed with the next one that does, or after so long.
const PASSED_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without a sign the group takes an instance for gone. One that comes back sooner keeps its partitions.
const SESSION_MS: u32 = 6_000;
/// After so long the broker aborts what a vanished instance began.
const TRANSACTION_MS: u32 = 10_000;

pub(crate) struct Settings {
    pub(crate) group: Group,
    pub(crate) brokers: String,
    pub(crate) instance: String,
    pub(crate) delay: Duration,
}

pub(crate) struct Service {
    settings: Settings,
    topics: Topics,
    downstream: Downstream,
    consumer: BaseConsumer<Assignment>,
    producer: BaseProducer,
    memory: Memory,
    /// The round of the group's agreement in which the partitions became ours.
    generation: Option<ConsumerGroupMetadata>,
    partitions: HashMap<i32, Partition>,
    /// The head of each partition of the retry topic that is not due; that partition is paused.
    waiting: BTreeMap<i32, Event>,
    /// Offsets that are done with and not committed, by topic and partition.
    passed: BTreeMap<(String, i32), i64>,
    committed: Instant,
}

/// What the group gave this instance, until the loop has seen it.
#[derive(Default)]
struct Assignment(Mutex<Option<Vec<(String, i32)>>>);

impl ClientContext for Assignment {}

impl ConsumerContext for Assignment {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let now = match rebalance {
            Rebalance::Assign(list) => list.elements(),
            Rebalance::Revoke(_) => Vec::new(),
            Rebalance::Error(error) => {
                return tracing::warn!(%error, "the group could not agree; it tries again");
            }
        };
        let now = now
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.collect());
    }
}

impl Service {
    /// Joins the group. What an instance of the same name left unfinished is aborted first.
    pub(crate) fn start(settings: Settings, downstream: Downstream) -> Result<Self> {
        let Settings {
            group,
            brokers,
            instance,
            ..
        } = &settings;
        let topics = Topics::of(*group);
        downstream.block_on(topics.ensure(brokers))?;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", format!("{}.{instance}", group.name()))
            .set("transaction.timeout.ms", TRANSACTION_MS.to_string())
            .set("linger.ms", "0")
            // The broker finishes a transaction after it answered, and turns away the next one until then.
            .set("retry.backoff.ms", "5")
            .create()?;
        producer.init_transactions(ANSWER_WITHIN)?;
        let consumer: BaseConsumer<Assignment> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", group.name())
            .set("group.instance.id", instance)
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", SESSION_MS.to_string())
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create_with_context(Assignment::default())?;
        consumer.subscribe(&[&topics.stays, &topics.retry])?;
        Ok(Self {
            memory: Memory::new(brokers, *group)?,
            settings,
            topics,
            downstream,
            consumer,
            producer,
            generation: None,
            partitions: HashMap::new(),
            waiting: BTreeMap::new(),
            passed: BTreeMap::new(),
            committed: Instant::now(),
        })
    }

    /// Until an error. It may be killed at any time: all it knows is in Kafka.
    pub(crate) fn run(mut self) -> Result<()> {
        loop {
            match self.next()? {
                Some(event) => self.handle(&event)?,
                None if self.committed.elapsed() > PASSED_COMMIT_INTERVAL => {
                    self.commit(Vec::new())?;
                }
                None => {}
            }
        }
    }

    /// An event whose time has come, if there is one.
    fn next(&mut self) -> Result<Option<Event>> {
        let due = self
            .waiting
            .iter()
            .find(|(_, event)| self.time_left(event).is_zero());
        if let Some(number) = due.map(|(number, _)| *number) {
            self.consumer.resume(&self.retry_partition(number))?;
            return Ok(self.waiting.remove(&number));
        }
        let left = self.waiting.values().map(|event| self.time_left(event));
        let message = self.consumer.poll(left.min().unwrap_or(POLL).min(POLL));
        let event = match message {
            None => None,
            Some(Ok(message)) => Some(Event::read(&message, &self.topics)?),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => bail!(error),
            Some(Err(error)) => {
                tracing::warn!(%error, "reading events; the client goes on");
                None
            }
        };
        let assigned = &self.consumer.context().0;
        let assigned = assigned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(assigned) = assigned {
            self.adopt(&assigned)?;
        }
        match event {
            Some(event) if !self.time_left(&event).is_zero() => {
                self.consumer
                    .pause(&self.retry_partition(event.partition))?;
                self.waiting.insert(event.partition, event);
                Ok(None)
            }
            event => Ok(event),
        }
    }

    /// Forgets what was, and reads what is known of the partitions that are ours from now on.
    fn adopt(&mut self, assigned: &[(String, i32)]) -> Result<()> {
        // The client keeps a pause over assignments.
        for number in std::mem::take(&mut self.waiting).into_keys() {
            self.consumer.resume(&self.retry_partition(number))?;
        }
        self.passed.clear();
        self.generation = self.consumer.group_metadata();
        let of = |topic: &str| -> BTreeSet<i32> {
            let ours = assigned.iter().filter(|(assigned, _)| assigned == topic);
            ours.map(|(_, number)| *number).collect()
        };
        let numbers = of(&self.topics.stays);
        ensure!(
            numbers == of(&self.topics.retry),
            "events and their retries were assigned apart: {assigned:?}"
        );
        self.partitions = match numbers.is_empty() {
            true => HashMap::new(),
            false => self.memory.recall(&self.consumer, &numbers, &self.topics)?,
        };
        tracing::info!(partitions = ?numbers, "assigned");
        Ok(())
    }

    fn handle(&mut self, event: &Event) -> Result<()> {
        let topic = match event.parked_at {
            None => &self.topics.stays,
            Some(_) => &self.topics.retry,
        };
        self.passed
            .insert((topic.clone(), event.partition), event.offset + 1);
        let partition = self.partitions.entry(event.partition).or_default();
        let request = match (self.settings.group.request(event), partition.turn(event)) {
            (Ok(None), _) | (_, Turn::Over) => {
                partition.let_go(event);
                return Ok(());
            }
            (_, Turn::Behind) => {
                return self.park(event, "an earlier event of the reservation waits");
            }
            (request, Turn::Now) => request,
        };
        let outcome = match request {
            Ok(None) => Ok(()),
            Ok(Some(request)) => self.downstream.ask(&request, event.id()),
            Err(error) => Err(Failure::Final(format!("{error:#}"))),
        };
        let tried = event.tried();
        match outcome {
            Ok(()) => {
                let done = event.over(&self.topics, "done");
                self.end(event, vec![done])
            }
            Err(Failure::Passing(error)) if tried.attempts < ATTEMPTS => self.park(&tried, &error),
            Err(Failure::Passing(error) | Failure::Final(error)) => {
                tracing::error!(event = event.id(), error, "given up");
                let failed = tried.failed(&self.topics, &error);
                let over = event.over(&self.topics, "failed");
                self.end(event, vec![failed, over])
            }
        }
    }

    /// Puts the event at the end of the retry topic.
    fn park(&mut self, event: &Event, why: &str) -> Result<()> {
        self.commit(vec![event.parked(&self.topics, why)])?;
        self.partition(event).park(event);
        Ok(())
    }

    /// The event is done or given up; what waits behind it comes next.
    fn end(&mut self, event: &Event, records: Vec<Record>) -> Result<()> {
        self.commit(records)?;
        let partition = self.partition(event);
        partition.let_go(event);
        partition.remember(event.id(), now_ms());
        Ok(())
    }

    /// Writes the records, and that everything up to them is done with, or neither.
    fn commit(&mut self, records: Vec<Record>) -> Result<()> {
        self.committed = Instant::now();
        if self.passed.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, number), next) in std::mem::take(&mut self.passed) {
            offsets.add_partition_offset(&topic, number, Offset::Offset(next))?;
        }
        let generation = self.generation.as_ref().context("not in the group")?;
        self.producer.begin_transaction()?;
        for record in records {
            let sent = BaseRecord::to(&record.topic)
                .partition(record.partition)
                .key(&record.key)
                .payload(&record.value)
                .headers(record.headers);
            self.producer.send(sent).map_err(|(error, _)| error)?;
        }
        // The commit by itself would look for this every 100 ms only; after a while a delivery has failed.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
        }
        // Refused by the broker if the group has given the partitions to somebody else since.
        self.producer
            .send_offsets_to_transaction(&offsets, generation, ANSWER_WITHIN)?;
        self.producer.commit_transaction(ANSWER_WITHIN)?;
        Ok(())
    }

    fn partition(&mut self, event: &Event) -> &mut Partition {
        self.partitions.entry(event.partition).or_default()
    }

    fn time_left(&self, event: &Event) -> Duration {
        let Some(parked_at) = event.parked_at else {
            return Duration::ZERO;
        };
        let waited = u64::try_from(now_ms() - parked_at).unwrap_or_default();
        self.settings
            .delay
            .saturating_sub(Duration::from_millis(waited))
    }

    fn retry_partition(&self, number: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topics.retry, number);
        list
    }
}

/// Milliseconds since 1970-01-01 UTC, as records are stamped.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
