//! One transactional producer: fence, publish, commit, and say honestly how a commit ended.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::KafkaConfig;
use super::alarms::Alarms;
use super::properties;
use super::verdict;
use crate::event::{Delivery, EncodedBatch, Record};
use crate::sink::SinkError;

/// Longest single wait inside `init_transactions`, so that a failed login is noticed soon. The call goes on
/// where it was when it is made again, and librdkafka then tries at once what it would have tried half a
/// second later: finding the coordinator while it connects, and taking over while the brokers still abort
/// what our predecessor left open.
const INIT_SLICE: Duration = Duration::from_millis(40);
/// Shortest and longest pause between two looks at the records in flight; in between an eighth of the time
/// waited so far. librdkafka's own wait takes steps of 100 ms, its shorter ones spin, and committing without
/// waiting first was measured to take 100 ms too.
const DRAIN_PAUSE_MIN: Duration = Duration::from_micros(200);
const DRAIN_PAUSE_MAX: Duration = Duration::from_millis(1);
/// Pause between two attempts to queue a record while the queue is full.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// How much longer than its own time-out a record may stay unreported before we give up on the client.
const REPORT_GRACE: Duration = Duration::from_secs(5);
/// Longest wait to end an open transaction when we leave, so that readers need not wait for its time-out.
const ABORT_LIMIT: Duration = Duration::from_millis(500);

/// Whether a transaction is open, and whether it may still be ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Open,
    /// A commit was asked for and its outcome is not ours to change, or another producer took over.
    Abandoned,
}

/// The names that numbers in a batch stand for.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) topics: Vec<String>,
    pub(super) quarantine: String,
    pub(super) headers: Vec<String>,
}

impl Names {
    fn topic(&self, record: &Record) -> &str {
        self.topics
            .get(usize::from(record.topic.0))
            .unwrap_or(&self.quarantine)
    }
}

/// Owns one transactional id from [`Transactions::fence`] until it is dropped or fenced.
pub(super) struct Transactions {
    producer: BaseProducer<Alarms>,
    config: Arc<KafkaConfig>,
    id: String,
    stage: Stage,
}

impl Transactions {
    /// Takes the id over: every earlier producer is fenced, and what it left open is settled.
    pub(super) fn fence(config: &Arc<KafkaConfig>, id: String) -> Result<Self, SinkError> {
        let producer: BaseProducer<Alarms> = properties::producer(config, &id)
            .create_with_context(Alarms::default())
            .map_err(|error| verdict::creation(&error))?;
        let transactions = Self {
            producer,
            config: Arc::clone(config),
            id,
            stage: Stage::Idle,
        };
        transactions.init()?;
        Ok(transactions)
    }

    fn init(&self) -> Result<(), SinkError> {
        let what = format!("taking over the transactional id {}", self.id);
        let deadline = Instant::now() + self.config.limits.open_timeout();
        loop {
            let Err(error) = self.producer.init_transactions(INIT_SLICE) else {
                return Ok(());
            };
            self.serve();
            if let Some(reason) = self.alarms().login() {
                return Err(verdict::login(&reason));
            }
            let retriable =
                matches!(&error, KafkaError::Transaction(e) if e.is_retriable() && !e.is_fatal());
            if !retriable || Instant::now() >= deadline {
                return Err(self.failed(&what, &error));
            }
        }
    }

    /// Queues the batch's records into the transaction, beginning one if none is open. Waits while the
    /// queue is full.
    pub(super) fn write(
        &mut self,
        batch: &EncodedBatch,
        names: &Names,
        recorded_time: &str,
    ) -> Result<(), SinkError> {
        if batch.records.is_empty() {
            return Ok(());
        }
        self.begin()?;
        for record in &batch.records {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
            for (name, value) in batch.headers_of(record) {
                headers = headers.insert(Header {
                    key: &names.headers[usize::from(name.0)],
                    value: Some(value),
                });
            }
            headers = headers.insert(Header {
                key: "ce_recordedtime",
                value: Some(recorded_time),
            });
            let topic = names.topic(record);
            match record.delivery {
                Delivery::ByKey => self.send(queued(batch, record, topic, headers))?,
                Delivery::EveryPartition => {
                    for partition in 0..self.partitions(topic)? {
                        let queued = queued(batch, record, topic, headers.clone());
                        self.send(queued.partition(partition))?;
                    }
                }
            }
        }
        self.serve();
        self.delivered()
    }

    /// Makes what was written, and the position record, visible at once.
    pub(super) fn commit(
        &mut self,
        topic: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), SinkError> {
        self.begin()?;
        let position = BaseRecord::to(topic)
            .partition(super::position::PARTITION)
            .key(key)
            .payload(value);
        self.send(position)?;
        self.drain()?;
        // Trouble up to here concerned records, which have arrived; from here on it concerns the commit.
        self.alarms().forget_link();
        let suspect = self.config.limits.commit_suspect();
        let started = Instant::now();
        let result = self.producer.commit_transaction(suspect);
        let took = started.elapsed();
        self.serve();
        self.settle(result, took)
    }

    /// Decides how a commit that was asked for has ended.
    fn settle(&mut self, result: Result<(), KafkaError>, took: Duration) -> Result<(), SinkError> {
        self.stage = Stage::Abandoned;
        let ambiguous = |problem: String| Err(SinkError::Ambiguous { problem });
        let suspect = self.config.limits.commit_suspect();
        // librdkafka sends a commit again by itself and may report the retry's outcome (it lacks KIP-890).
        if let Some(link) = self.alarms().link() {
            return ambiguous(format!("the link failed while it ran: {link}"));
        }
        if took > suspect {
            return ambiguous(format!(
                "it took {} ms, more than limits.commit_suspect_ms = {}",
                took.as_millis(),
                suspect.as_millis()
            ));
        }
        match result {
            Ok(()) => {
                self.stage = Stage::Idle;
                Ok(())
            }
            Err(error) => match &error {
                KafkaError::Transaction(cause) if cause.is_fatal() => {
                    Err(self.failed("committing", &error))
                }
                KafkaError::Transaction(cause) if cause.txn_requires_abort() => {
                    self.stage = Stage::Open;
                    Err(self.failed("committing", &error))
                }
                // Nothing was asked of the broker yet.
                KafkaError::Flush(_) => {
                    self.stage = Stage::Open;
                    Err(self.failed("sending records", &error))
                }
                _ => ambiguous(error.to_string()),
            },
        }
    }

    /// How many partitions a topic has. Asks the brokers: only broadcasts need it, and they are rare.
    fn partitions(&self, topic: &str) -> Result<i32, SinkError> {
        let timeout = self.config.limits.open_timeout();
        let metadata = self.producer.client().fetch_metadata(Some(topic), timeout);
        let metadata = metadata.map_err(|error| self.failed("counting partitions", &error))?;
        let partitions = metadata
            .topics()
            .iter()
            .map(|topic| topic.partitions().len())
            .sum::<usize>();
        Ok(i32::try_from(partitions).unwrap_or(i32::MAX))
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        if self.stage == Stage::Open {
            return Ok(());
        }
        self.producer
            .begin_transaction()
            .map_err(|error| self.failed("beginning a transaction", &error))?;
        self.stage = Stage::Open;
        Ok(())
    }

    fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), SinkError> {
        let mut record = record;
        let mut give_up = None;
        loop {
            let (error, back) = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.rejected(&error, back.topic));
            }
            record = back;
            let give_up = *give_up.get_or_insert_with(|| self.report_deadline());
            self.serve();
            self.delivered()?;
            self.in_time(give_up)?;
            thread::sleep(ROOM_PAUSE);
        }
    }

    /// Waits until every record is on the brokers.
    fn drain(&self) -> Result<(), SinkError> {
        let give_up = self.report_deadline();
        let started = Instant::now();
        // Returns at once; what it does is to end any wait for fuller batches.
        let _ = self.producer.flush(Duration::ZERO);
        loop {
            self.serve();
            self.delivered()?;
            if self.producer.in_flight_count() == 0 {
                return Ok(());
            }
            self.in_time(give_up)?;
            let pause = started.elapsed() / 8;
            thread::sleep(pause.clamp(DRAIN_PAUSE_MIN, DRAIN_PAUSE_MAX));
        }
    }

    /// Runs the callbacks that are due.
    fn serve(&self) {
        loop {
            let before = self.producer.in_flight_count();
            if before == 0 {
                return;
            }
            // One event per call.
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() >= before {
                return;
            }
        }
    }

    /// Whether every record that was reported on has arrived.
    fn delivered(&self) -> Result<(), SinkError> {
        let Some(undelivered) = self.alarms().undelivered() else {
            return Ok(());
        };
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let error = KafkaError::Global(code);
            return Err(self.failed(&format!("publishing: {reason}"), &error));
        }
        if let Some(reason) = self.alarms().login() {
            return Err(verdict::login(&reason));
        }
        Err(verdict::of_topic(
            &self.config,
            undelivered.code,
            &undelivered.topic,
        ))
    }

    /// A record was not even queued.
    fn rejected(&self, error: &KafkaError, topic: &str) -> SinkError {
        self.serve();
        if let Err(cause) = self.delivered() {
            return cause;
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State) => {
                let fatal = self.producer.client().fatal_error();
                let error =
                    fatal.map_or_else(|| error.clone(), |(code, _)| KafkaError::Global(code));
                self.failed("publishing", &error)
            }
            Some(code) => verdict::of_topic(&self.config, code, topic),
            None => self.failed("publishing", error),
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> SinkError {
        verdict::of_transaction(&self.config, &self.id, what, error, self.alarms())
    }

    fn report_deadline(&self) -> Instant {
        let timeout_ms = self.config.limits.transaction_timeout_ms;
        Instant::now() + Duration::from_millis(timeout_ms) + REPORT_GRACE
    }

    fn in_time(&self, deadline: Instant) -> Result<(), SinkError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(verdict::unreachable(
            &self.config.brokers,
            "records were not taken",
            self.alarms(),
        ))
    }

    fn alarms(&self) -> &Alarms {
        self.producer.context()
    }
}

/// A record as the client queues it.
fn queued<'a>(
    batch: &'a EncodedBatch,
    record: &Record,
    topic: &'a str,
    headers: OwnedHeaders,
) -> BaseRecord<'a, [u8], [u8]> {
    let mut queued = BaseRecord::to(topic).headers(headers);
    if let Some(key) = record.key {
        queued = queued.key(batch.bytes(key));
    }
    if let Some(value) = record.value {
        queued = queued.payload(batch.bytes(value));
    }
    queued
}

impl Drop for Transactions {
    /// Ends an open transaction if that can be done at once: nobody may come after us to do it.
    fn drop(&mut self) {
        let purge = rdkafka::producer::PurgeConfig::default().queue().inflight();
        self.producer.purge(purge);
        self.serve();
        if self.stage == Stage::Open && self.alarms().link().is_none() {
            let aborted = self.producer.abort_transaction(ABORT_LIMIT);
            if let Err(error) = aborted {
                tracing::debug!(%error, "the open transaction is left to its time-out");
            }
        }
    }
}
