//! The position record: its versioned JSON, and reading the last one back.
//!
//! A key in a compacted topic of one partition, written in the transaction of the events it covers. The
//! end of that topic is full of holes (each commit and each abort leaves a marker, compaction takes old
//! records), so it is read backwards in growing windows, each to the end of the partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use rowbridge_api::{Identity, Position, State};
use serde::{Deserialize, Serialize};

use super::alarms::Alarms;
use super::verdict::{self, Right};
use super::{KafkaConfig, admission, properties, published_mapping};
use crate::mapping::{Generations, Kept};
use crate::sink::{Checkpoint, Cursor, EachRecord, Progress, SinkError};

/// The record's key.
pub(super) const KEY: &[u8] = b"position";
/// The only partition of the position topic.
pub(super) const PARTITION: i32 = 0;
/// Version of the record this program writes, and the last one it reads.
const VERSION: u32 = 1;
/// First window read backwards, in offsets: more than a few commits with their markers.
const WINDOW_OFFSETS: i64 = 64;
/// Each further window is longer by this factor.
const WINDOW_GROWTH: i64 = 16;
/// Longest single wait for the consumer, so that a failed login is noticed soon.
const POLL: Duration = Duration::from_millis(100);
/// Pause between two questions to a partition whose leader is being elected.
const ELECTION_PAUSE: Duration = Duration::from_millis(20);

/// The value of a position record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRecord {
    version: u32,
    state: RecordedState,
    /// Where [`RecordedState::At`] is, or from where [`RecordedState::Creating`] has to stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    source: Identity,
    mapping_hash: String,
    partitions_of_topics: BTreeMap<String, u32>,
    /// The cluster it was written to: a copy of the topic in another cluster is not a position there.
    pub kafka_cluster: String,
    /// When it was written, RFC 3339.
    pub written_at: String,
    /// What rules remember beside it; nothing if they remember nothing, or if nobody knows what they should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remembered: Option<StateRecord>,
    /// The process that wrote it; nothing once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Whether the topic also holds the files of the mapping that published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_mapping: bool,
}

/// Where the state topic holds what rules remember at a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateRecord {
    /// Names this beginning, and is the value of the mark there: no other has the same, also where the topic was made
    /// anew.
    pub(super) id: String,
    /// The first offset that counts: what is before belongs to an earlier beginning.
    pub(super) since: i64,
    /// What is there of every row of these tables.
    pub(super) kept: Kept,
    /// Which of the rows count.
    #[serde(default, skip_serializing_if = "Generations::is_empty")]
    pub(super) generations: Generations,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedState {
    Creating,
    At,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum RecordError {
    #[error("it has version {0}, and this program reads up to {VERSION}")]
    Newer(u32),
    #[error("it is not a position record: {0}")]
    Malformed(String),
}

impl PositionRecord {
    /// The record for `checkpoint` in the cluster with this id.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        remembered: Option<StateRecord>,
        kafka_cluster: &str,
        written_at: String,
        instance: Option<String>,
    ) -> Self {
        let (state, position, cursor) = match &checkpoint.progress {
            Progress::Creating { since } => (
                RecordedState::Creating,
                since.as_ref().map(ToString::to_string),
                None,
            ),
            Progress::At { position, cursor } => (
                RecordedState::At,
                Some(position.to_string()),
                cursor.clone(),
            ),
        };
        Self {
            version: VERSION,
            state,
            position,
            cursor,
            source: checkpoint.source.clone(),
            mapping_hash: checkpoint.mapping_hash.clone(),
            partitions_of_topics: checkpoint.partitions_of_topics.clone(),
            kafka_cluster: kafka_cluster.to_owned(),
            written_at,
            remembered,
            instance,
            has_mapping: false,
        }
    }

    /// The checkpoint it stands for.
    fn checkpoint(&self) -> Result<Checkpoint, RecordError> {
        let position: Option<Position> = self
            .position
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| RecordError::Malformed(format!("{error}")))?;
        let progress = match (self.state, position) {
            (RecordedState::Creating, since) => Progress::Creating { since },
            (RecordedState::At, Some(position)) => Progress::At {
                position,
                cursor: self.cursor.clone(),
            },
            (RecordedState::At, None) => {
                return Err(RecordError::Malformed("it has no position".to_owned()));
            }
        };
        Ok(Checkpoint {
            progress,
            source: self.source.clone(),
            mapping_hash: self.mapping_hash.clone(),
            partitions_of_topics: self.partitions_of_topics.clone(),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }

    fn decode(value: &[u8]) -> Result<(Self, Checkpoint), RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
        let Versioned { version } = serde_json::from_slice(value).map_err(malformed)?;
        if version > VERSION {
            return Err(RecordError::Newer(version));
        }
        let record: Self = serde_json::from_slice(value).map_err(malformed)?;
        let checkpoint = record.checkpoint()?;
        Ok((record, checkpoint))
    }
}

/// A position record and the checkpoint in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub record: PositionRecord,
    pub checkpoint: Checkpoint,
}

/// A client that only reads: the position, and what the cluster says of itself and its topics.
pub(super) struct Reader<'a> {
    consumer: BaseConsumer<Alarms>,
    config: &'a KafkaConfig,
}

impl<'a> Reader<'a> {
    /// Asks first with a link of our own, which can say what keeps us out.
    pub(super) fn connect(config: &'a KafkaConfig) -> Result<Self, SinkError> {
        let settings = properties::publisher(config)?;
        rowbridge_kafka::greet(&settings, config.limits.open_timeout())
            .map_err(|error| verdict::of_greeting(config, &error))?;
        let consumer = properties::consumer(config)?
            .create_with_context(Alarms::default())
            .map_err(|error| verdict::creation(&error))?;
        Ok(Self { consumer, config })
    }

    pub(super) const fn config(&self) -> &KafkaConfig {
        self.config
    }

    /// The cluster's id; waits until a broker answers.
    pub(super) fn cluster_id(&self) -> Result<String, SinkError> {
        let deadline = Instant::now() + self.config.limits.open_timeout();
        let topic = self.config.position_topic();
        while Instant::now() < deadline {
            // The id comes with metadata. librdkafka asks for some by itself only a second after it connected.
            let _ = self.consumer.fetch_metadata(Some(&topic), POLL);
            if let Some(id) = self.consumer.client().fetch_cluster_id(POLL) {
                return Ok(id);
            }
            self.serve()?;
        }
        Err(self.unreachable("no broker answered"))
    }

    /// How many partitions `topic` has; `None` if it does not exist or may not be seen.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<u32>, SinkError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), self.config.limits.open_timeout())
            .map_err(|error| self.failed(&format!("looking up topic {topic}"), &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(u32::try_from(found.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(verdict::of_topic(self.config, Right::See, code, topic)),
        }
    }

    /// The replication factor of `topic`'s first partition; `None` if there is none.
    pub(super) fn replication(&self, topic: &str) -> Result<Option<usize>, SinkError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), self.config.limits.open_timeout())
            .map_err(|error| self.failed(&format!("looking up topic {topic}"), &error))?;
        Ok(metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)
            .and_then(|found| found.partitions().first())
            .map(|partition| partition.replicas().len()))
    }

    /// The last committed position record; `None` if there never was one, or no topic for it.
    pub(super) fn position(&self) -> Result<Option<Recorded>, SinkError> {
        let topic = self.config.position_topic();
        if self.partitions(&topic)?.is_none() {
            return Ok(None);
        }
        let (low, high) = self.watermarks(&topic)?;
        let mut window = WINDOW_OFFSETS;
        loop {
            // An empty topic is read too: only that shows whether we may.
            let start = high.saturating_sub(window).max(low);
            window = window.saturating_mul(WINDOW_GROWTH);
            if let Some(value) = self.last_value(&topic, KEY, start)? {
                return self.recorded(&value).map(Some);
            }
            if start == low {
                return Ok(None);
            }
        }
    }

    /// First offset and end of a topic of one partition; waits for a leader while one is being elected.
    pub(super) fn watermarks(&self, topic: &str) -> Result<(i64, i64), SinkError> {
        use RDKafkaErrorCode as Code;
        let limit = self.config.limits.open_timeout();
        let deadline = Instant::now() + limit;
        loop {
            let error = match self.consumer.fetch_watermarks(topic, PARTITION, limit) {
                Ok(watermarks) => return Ok(watermarks),
                Err(error) => error,
            };
            let electing = matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::NotLeaderForPartition
                        | Code::LeaderNotAvailable
                        | Code::ReplicaNotAvailable
                )
            );
            if let Some(code @ Code::TopicAuthorizationFailed) = error.rdkafka_error_code() {
                return Err(verdict::of_topic(self.config, Right::See, code, topic));
            }
            if !electing || Instant::now() >= deadline {
                return Err(self.failed(&format!("reading topic {topic}"), &error));
            }
            std::thread::sleep(ELECTION_PAUSE);
        }
    }

    /// The value of the last record with the key of a mapping's files; nothing if none was written.
    pub(super) fn mapping(&self) -> Result<Option<Vec<u8>>, SinkError> {
        let topic = self.config.position_topic();
        let (first, _) = self.watermarks(&topic)?;
        self.last_value(&topic, published_mapping::KEY, first)
    }

    /// The value of the last record with a key from offset `start` to the end.
    fn last_value(
        &self,
        topic: &str,
        sought: &[u8],
        start: i64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        let mut last = None;
        self.each(topic, start, &mut |_, key, value| {
            if key == sought {
                last = value.map(<[u8]>::to_vec);
            }
            Ok(())
        })?;
        Ok(last)
    }

    /// Every committed record with a key of a topic of one partition, from offset `start` to the end.
    pub(super) fn each(
        &self,
        topic: &str,
        start: i64,
        each: &mut EachRecord<'_>,
    ) -> Result<(), SinkError> {
        let what = format!("reading topic {topic}");
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, PARTITION, Offset::Offset(start))
            .and_then(|()| self.consumer.assign(&assignment))
            .map_err(|error| self.failed(&what, &error))?;
        let limit = self.config.limits.open_timeout();
        let mut deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(record)) => {
                    if let Some(key) = record.key() {
                        each(record.offset(), key, record.payload())?;
                    }
                    // As long as records come, it gets there.
                    deadline = Instant::now() + limit;
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => self.tolerate(topic, &what, &error)?,
            }
            self.admitted()?;
        }
        Err(self.unreachable(&format!("{what} did not reach the end of the partition")))
    }

    fn recorded(&self, value: &[u8]) -> Result<Recorded, SinkError> {
        let topic = self.config.position_topic();
        match PositionRecord::decode(value) {
            Ok((record, checkpoint)) => Ok(Recorded { record, checkpoint }),
            Err(error @ RecordError::Newer(_)) => Err(SinkError::Refused {
                state: State::Invalid,
                problem: format!("the last record of {topic} was written by a newer rowbridge: {error}"),
                hint: "run the newer version again; the position cannot be read by this one".to_owned(),
            }),
            Err(error) => Err(SinkError::Refused {
                state: State::PositionLost,
                problem: format!("the last record of {topic} cannot be used: {error}"),
                hint: "find out who else writes to that topic; then `rowbridge position set LSN` with the position to go on from, or `rowbridge position set --snapshot` to begin anew".to_owned(),
            }),
        }
    }

    /// An error that the consumer polled up: passing ones are retried by librdkafka until the deadline.
    fn tolerate(&self, topic: &str, what: &str, error: &KafkaError) -> Result<(), SinkError> {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(code @ Code::TopicAuthorizationFailed) => {
                Err(verdict::of_topic(self.config, Right::Read, code, topic))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopic) => {
                Err(self.failed(what, error))
            }
            _ => Ok(()),
        }
    }

    /// Runs the callbacks that are due.
    fn serve(&self) -> Result<(), SinkError> {
        // Nothing is assigned yet, so that no record can be lost here.
        let _ = self.consumer.poll(Duration::ZERO);
        self.admitted()
    }

    /// Whether the brokers let us in so far.
    fn admitted(&self) -> Result<(), SinkError> {
        match self.consumer.context().login() {
            Some(reason) => Err(admission::reason(self.config, &reason)),
            None => Ok(()),
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> SinkError {
        if let Err(refused) = self.serve() {
            return refused;
        }
        verdict::of_call(self.config, what, error, self.consumer.context())
    }

    fn unreachable(&self, what: &str) -> SinkError {
        verdict::unreachable(self.config, what, self.consumer.context())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        let cursor =
            (".*", any::<u64>(), any::<u64>()).prop_map(|(transaction, skip, witness)| Cursor {
                transaction,
                skip,
                witness,
            });
        let token = proptest::collection::vec(any::<u8>(), 1..40);
        let progress = proptest::option::of((
            any::<u64>(),
            proptest::option::of(token),
            proptest::option::of(cursor),
        ))
        .prop_map(|at| {
            let position = |order, token: Option<Vec<u8>>| match token {
                None => Position::new(order),
                Some(token) => Position::with_token(order, &token),
            };
            match at {
                None => Progress::CREATING,
                Some((order, token, None)) if order % 2 == 0 => Progress::Creating {
                    since: Some(position(order, token)),
                },
                Some((order, token, cursor)) => Progress::At {
                    position: position(order, token),
                    cursor,
                },
            }
        });
        let partitions = proptest::collection::btree_map(".*", any::<u32>(), 0..4);
        (progress, ".*", ".*", ".*", partitions).prop_map(
            |(progress, source, history, mapping_hash, partitions_of_topics)| Checkpoint {
                progress,
                source: Identity { source, history },
                mapping_hash,
                partitions_of_topics,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read_back(checkpoint in checkpoints()) {
            let record = PositionRecord::new(&checkpoint, None, "cluster", "now".to_owned(), Some("instance".to_owned()));
            let (read, same) = PositionRecord::decode(&record.encode()).unwrap();
            prop_assert_eq!(read, record);
            prop_assert_eq!(same, checkpoint);
        }

        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PositionRecord::decode(&value);
        }
    }

    /// What version 1 wrote stays readable.
    #[test]
    fn the_record_of_version_1_is_this() {
        let value = br#"{"version":1,"state":"at","position":"16/B374D848","cursor":{"transaction":"16/B374D900","skip":7,"witness":18446744073709551615},"source":{"source":"postgres/7/db","history":"1"},"mapping_hash":"ab","partitions_of_topics":{"t":12},"kafka_cluster":"c","written_at":"2026-11-21T08:00:00.000000Z"}"#;
        let (record, checkpoint) = PositionRecord::decode(value).unwrap();
        assert_eq!(record.encode(), value);
        assert_eq!(checkpoint.partitions_of_topics["t"], 12);
    }

    #[test]
    fn a_newer_or_broken_record_is_told_apart() {
        assert_eq!(
            PositionRecord::decode(br#"{"version":2,"anything":[]}"#),
            Err(RecordError::Newer(2))
        );
        for broken in [
            &b"{}"[..],
            b"null",
            br#"{"version":1,"state":"at","source":{"source":"","history":""},"mapping_hash":"","partitions_of_topics":{},"kafka_cluster":"","written_at":""}"#,
        ] {
            let error = PositionRecord::decode(broken).unwrap_err();
            assert!(matches!(error, RecordError::Malformed(_)), "{error:?}");
        }
    }
}
