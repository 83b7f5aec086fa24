//! One transactional id: fence, publish, commit, and say honestly how a commit ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rowbridge_kafka::{CommitError, Error, Fields, HeaderName, Placement, Producer, Settings};

use super::verdict::{self, Right};
use super::{KafkaConfig, RecordedTime};
use crate::event::{Delivery, EncodedBatch, TopicId};
use crate::sink::SinkError;

/// Longest wait to end an open transaction when we leave, so that readers need not wait for its time-out.
const ABORT_LIMIT: Duration = Duration::from_millis(500);

/// The names that numbers in a batch stand for, and the topics the producer is made with.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Each topic once: two of the mapping's may have one name.
    topics: Vec<String>,
    /// By number in the mapping, the number in `topics`; the last is the quarantine's.
    published: Vec<usize>,
    position: usize,
    state: Option<usize>,
    headers: Vec<HeaderName>,
    recorded_time: HeaderName,
}

impl Names {
    pub(super) fn new(
        published: impl Iterator<Item = String>,
        quarantine: String,
        position: String,
        state: Option<String>,
        headers: &[String],
    ) -> Self {
        let mut topics: Vec<String> = Vec::new();
        let mut number = |name: String| {
            let known = topics.iter().position(|topic| *topic == name);
            known.unwrap_or_else(|| {
                topics.push(name);
                topics.len() - 1
            })
        };
        let published = published.chain([quarantine]).map(&mut number).collect();
        let position = number(position);
        let state = state.map(number);
        Self {
            state,
            topics,
            published,
            position,
            headers: headers.iter().map(|name| HeaderName::new(name)).collect(),
            recorded_time: HeaderName::new("ce_recordedtime"),
        }
    }

    /// A topic's number in what the producer was made with.
    fn topic(&self, topic: TopicId) -> usize {
        if let (TopicId::STATE, Some(state)) = (topic, self.state) {
            return state;
        }
        let quarantine = self.published.len() - 1;
        self.published[usize::from(topic.0).min(quarantine)]
    }
}

/// Owns one transactional id from [`Transactions::fence`] until it is dropped or fenced.
pub(super) struct Transactions {
    producer: Producer,
    config: Arc<KafkaConfig>,
    names: Arc<Names>,
    id: String,
    stage: Stage,
}

/// Whether we may still end what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Usable,
    /// The link failed, a commit's outcome is not ours to change, or another producer took over.
    Abandoned,
}

impl Transactions {
    /// Takes the id over: every earlier producer is fenced, and what it left open is settled.
    pub(super) fn fence(
        config: &Arc<KafkaConfig>,
        names: &Arc<Names>,
        settings: &Arc<Settings>,
        id: String,
    ) -> Result<Self, SinkError> {
        let timeout = config.limits.open_timeout();
        let producer = Producer::fence(Arc::clone(settings), &id, &names.topics, timeout)
            .map_err(|error| verdict::of_publishing(config, &id, Right::See, &error))?;
        Ok(Self {
            producer,
            config: Arc::clone(config),
            names: Arc::clone(names),
            id,
            stage: Stage::Usable,
        })
    }

    /// Takes the batch's records into the transaction, beginning one if none is open. What is not enough for a
    /// request stays in memory until more comes or [`Transactions::commit`].
    pub(super) fn write(&mut self, batch: &EncodedBatch, now: Timestamp) -> Result<(), SinkError> {
        let recorded = RecordedTime(now).to_string();
        let names = Arc::clone(&self.names);
        for record in &batch.records {
            let own = batch.headers_of(record);
            let own = own.map(|(name, value)| (&names.headers[usize::from(name.0)], value));
            let recorded = (&names.recorded_time, recorded.as_bytes());
            let is_event = record.topic != TopicId::STATE;
            let fields = Fields {
                key: record.key.map(|key| batch.bytes(key)),
                value: record.value.map(|value| batch.bytes(value)),
                headers: own.chain(is_event.then_some(recorded)),
                timestamp_ms: now.as_millisecond(),
            };
            let topic = names.topic(record.topic);
            let appended = match record.delivery {
                Delivery::ByKey => self.producer.append(topic, Placement::ByKey, fields),
                Delivery::EveryPartition => {
                    (0..self.producer.partitions(topic)).try_for_each(|partition| {
                        let placement = Placement::Partition(partition);
                        self.producer.append(topic, placement, fields.clone())
                    })
                }
            };
            appended.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// Takes a record of the position topic into the transaction.
    pub(super) fn note(
        &mut self,
        key: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), SinkError> {
        let record = Fields {
            key: Some(key),
            value: Some(value),
            headers: std::iter::empty(),
            timestamp_ms: now.as_millisecond(),
        };
        let appended = self
            .producer
            .append(self.names.position, Placement::ByKey, record);
        appended.map_err(|error| self.failed(&error))
    }

    /// Makes what was written, and the position record, visible at once.
    pub(super) fn commit(
        &mut self,
        key: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), SinkError> {
        self.note(key, value, now)?;
        match self.producer.commit(self.config.limits.commit_suspect()) {
            Ok(()) => Ok(()),
            Err(CommitError::NotAsked(error)) => Err(self.failed(&error)),
            Err(CommitError::Open(error)) => {
                self.stage = Stage::Abandoned;
                Err(verdict::of_commit(&self.config, &self.id, &error))
            }
        }
    }

    /// Where the last entries begin that the state topic took of this producer.
    pub(super) fn state_reached(&self) -> Option<i64> {
        self.producer.reached(self.names.state?, 0)
    }

    fn failed(&mut self, error: &Error) -> SinkError {
        // Only a broker that answered will answer again.
        if !matches!(error, Error::Refused { .. }) {
            self.stage = Stage::Abandoned;
        }
        verdict::of_publishing(&self.config, &self.id, Right::Write, error)
    }
}

impl Drop for Transactions {
    /// Ends an open transaction if that can be done at once: nobody may come after us to do it.
    fn drop(&mut self) {
        if self.stage == Stage::Usable
            && let Err(error) = self.producer.abort(ABORT_LIMIT)
        {
            tracing::debug!(%error, "the open transaction is left to its time-out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_twice_is_one_topic() {
        let published = ["a", "b", "a"].map(str::to_owned).into_iter();
        let names = Names::new(published, "q".to_owned(), "p".to_owned(), None, &[]);
        assert_eq!(names.topics, ["a", "b", "q", "p"]);
        let numbers = [0, 1, 2, TopicId::QUARANTINE.0].map(|topic| names.topic(TopicId(topic)));
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(names.position, 3);
    }
}
