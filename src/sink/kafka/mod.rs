//! The Kafka sink: events, quarantine and position in one transaction.
//!
//! Blocking, on one thread: [`KafkaSink::open`] refuses strangers, fences
//! earlier producers and reads the position; [`KafkaSink::write`] queues records; [`KafkaSink::commit`]
//! waits until they are on the brokers, commits, and says honestly if the outcome is open.
//!
//! - [`properties`]: librdkafka's properties, the user's and ours
//! - `producer`: one transactional producer; `turns`: the two of them that take turns
//! - [`position`]: the position record and the client that reads it back
//! - `state`: what rules remember, read back from its changelog; `reseed`: what of it a changed mapping lacks
//! - `published_mapping`: the files of the mapping that publishes, beside the position
//! - `topics`: what topics should be; creating and comparing them
//! - `check`: rights and settings, without writing anything
//! - [`operator`]: what people do by hand: show or set the position, delete topics
//! - `verdict`, `admission`, `commands`, `alarms`: what an error means, who is not let in and why, what to do about
//!   it, what clients say aside
//!
//! What is deliberately absent: retries (any error ends the sink's life and the pipeline opens a new one),
//! a consumer group, and per-record acknowledgements.

mod admission;
mod alarms;
mod check;
mod commands;
pub mod operator;
pub mod position;
mod producer;
pub mod properties;
mod published_mapping;
mod reseed;
mod state;
mod topics;
mod turns;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rowbridge_api::{Finding, Identity, State};

pub use self::admission::LetIn;
use self::position::{PositionRecord, Reader, Recorded, StateRecord};
use self::producer::Names;
use self::properties::Properties;
pub use self::published_mapping::PublishedMapping;
pub use self::reseed::{Reseeded, Unread, unread};
use self::turns::Turns;
use crate::event::EncodedBatch;
use crate::mapping::{Kept, Mapping, Pack, Topic};
use crate::sink::{
    Checkpoint, Committed, EachRecord, LastCommit, Opened, Progress, Sink, SinkError,
};
use crate::state::Changelog;

/// Longest record by default, in bytes; brokers take one of this size unless told otherwise.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Where a pipeline publishes.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// The pipeline's name, which names the transactional ids and the topics of its own.
    pub pipeline: String,
    /// Names this process among the instances of the pipeline.
    pub instance: String,
    /// `host:port`, comma separated.
    pub brokers: String,
    pub properties: Properties,
    /// Whether missing topics are created, or refused with the command that does.
    pub create_topics: bool,
    /// Replicas of topics that are created; overrides the mapping.
    pub replication: Option<u16>,
    /// Longest record (key, value and headers) that the mapper lets through.
    pub max_record_bytes: usize,
    pub limits: KafkaLimits,
    /// Shared by all that is made of this configuration and its clones.
    pub let_in: LetIn,
}

/// How long the sink waits for the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KafkaLimits {
    /// Longest wait for one step of opening: a first answer, the position, the transactional ids.
    pub open_timeout_ms: u64,
    /// A commit slower than this counts as ambiguous whatever it returned.
    pub commit_suspect_ms: u64,
    /// After this the brokers abort a transaction, and records that were not taken are given up.
    pub transaction_timeout_ms: u64,
}

impl Default for KafkaLimits {
    fn default() -> Self {
        Self {
            open_timeout_ms: 10_000,
            commit_suspect_ms: 5_000,
            transaction_timeout_ms: 60_000,
        }
    }
}

impl KafkaLimits {
    fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }

    fn commit_suspect(&self) -> Duration {
        Duration::from_millis(self.commit_suspect_ms)
    }
}

impl KafkaConfig {
    /// Everything but the two by default; a new instance.
    #[must_use]
    pub fn new(pipeline: impl Into<String>, brokers: impl Into<String>) -> Self {
        Self {
            pipeline: pipeline.into(),
            instance: uuid::Uuid::new_v4().to_string(),
            brokers: brokers.into(),
            properties: Properties::default(),
            create_topics: true,
            replication: None,
            max_record_bytes: MAX_RECORD_BYTES,
            limits: KafkaLimits::default(),
            let_in: LetIn::default(),
        }
    }

    /// `rowbridge.<pipeline>.position`.
    #[must_use]
    pub fn position_topic(&self) -> String {
        format!("rowbridge.{}.position", self.pipeline)
    }

    /// `rowbridge.<pipeline>.quarantine`.
    #[must_use]
    pub fn quarantine_topic(&self) -> String {
        format!("rowbridge.{}.quarantine", self.pipeline)
    }

    /// `rowbridge.<pipeline>` and `rowbridge.<pipeline>.2`, which take turns.
    #[must_use]
    pub fn transactional_ids(&self) -> [String; 2] {
        let first = format!("rowbridge.{}", self.pipeline);
        let second = format!("{first}.2");
        [first, second]
    }

    /// `rowbridge.<pipeline>.state`.
    #[must_use]
    pub fn state_topic(&self) -> String {
        format!("rowbridge.{}.state", self.pipeline)
    }

    fn topics_of_its_own(&self) -> [String; 3] {
        [
            self.position_topic(),
            self.quarantine_topic(),
            self.state_topic(),
        ]
    }
}

/// What is published, as the mapping declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// [`Mapping::topics`].
    pub topics: Vec<Topic>,
    /// [`Mapping::header_names`].
    pub header_names: Vec<String>,
    /// [`Mapping::hash`].
    pub mapping_hash: String,
    /// [`Mapping::kept`].
    pub kept: Option<Kept>,
    /// Its files, to be recorded.
    pub files: Option<PublishedMapping>,
}

impl Published {
    #[must_use]
    pub fn of(mapping: &Mapping) -> Self {
        Self {
            topics: mapping.topics().to_vec(),
            header_names: mapping.header_names().to_vec(),
            mapping_hash: mapping.hash().to_owned(),
            kept: mapping.kept(),
            files: None,
        }
    }

    /// The same, which records the files that the mapping was compiled from beside the position.
    #[must_use]
    pub fn of_files(mapping: &Mapping, pack: &Pack) -> Self {
        let files = PublishedMapping::new(mapping, pack);
        if files.is_none() {
            tracing::warn!(
                "the mapping's files are too long to be recorded, so that no `run --reseed` can take over from it"
            );
        }
        Self {
            files,
            ..Self::of(mapping)
        }
    }

    /// The same, which has a changelog though it may remember nothing itself.
    #[must_use]
    pub fn with_changelog(mut self) -> Self {
        self.kept.get_or_insert_default();
        self
    }

    /// Without a mapping: only the topics of the pipeline itself.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            topics: Vec::new(),
            header_names: Vec::new(),
            mapping_hash: String::new(),
            kept: None,
            files: None,
        }
    }

    fn names(&self, config: &KafkaConfig) -> Names {
        Names::new(
            self.topics.iter().map(|topic| topic.name.clone()),
            config.quarantine_topic(),
            config.position_topic(),
            self.kept.as_ref().map(|_| config.state_topic()),
            &self.header_names,
        )
    }
}

/// Publishes a pipeline's events and its position in Kafka transactions.
///
/// Its methods block, and must not be called where a tokio task runs.
pub struct KafkaSink {
    config: Arc<KafkaConfig>,
    published: Published,
    names: Arc<Names>,
    /// Rows that were read for this mapping.
    reseeded: Option<Reseeded>,
    life: Option<Life>,
}

/// From open to the first error.
struct Life {
    transactions: Turns,
    source: Identity,
    kafka_cluster: String,
    partitions_of_topics: BTreeMap<String, u32>,
    /// From where what rules remember is recorded, and what that is.
    state: Option<StateRecord>,
    /// What the state begins with, until it is written.
    mark: Option<EncodedBatch>,
    /// Whether the mapping's files are recorded, or will be with the next commit.
    has_mapping: bool,
    /// The mapping's files, until they are written.
    files: Option<PublishedMapping>,
}

impl KafkaSink {
    #[must_use]
    pub fn new(config: KafkaConfig, published: Published) -> Self {
        let names = Arc::new(published.names(&config));
        Self {
            config: Arc::new(config),
            published,
            names,
            reseeded: None,
            life: None,
        }
    }

    /// The same, for a mapping whose rows were read where the pipeline stands.
    #[must_use]
    pub fn reseeded(self, reseeded: Option<Reseeded>) -> Self {
        Self { reseeded, ..self }
    }

    /// What would keep the sink from working, all at once. Writes nothing and fences nobody.
    ///
    /// # Errors
    /// The brokers cannot be reached, or stopped answering.
    pub fn check(&self) -> Result<Vec<Finding>, SinkError> {
        check::check(&self.config, &self.published)
    }

    fn begin_life(&mut self, source: &Identity) -> Result<(Life, Option<Recorded>), SinkError> {
        let config = &self.config;
        let reader = Reader::connect(config)?;
        let kafka_cluster = reader.cluster_id()?;
        let before = reader.position()?;
        compare(config, &reader, before.as_ref(), source, &kafka_cluster)?;
        let partitions_of_topics = topics::ensure(&reader, config, &self.published)?;
        let transactions = Turns::fence(config, &self.names)?;
        // Only now nobody else writes: what was read before may be old, or another's.
        let recorded = reader.position()?;
        compare(config, &reader, recorded.as_ref(), source, &kafka_cluster)?;
        let state = match &self.published.kept {
            Some(kept) => {
                let reseeded = self.reseeded.as_ref();
                Some(state::of(&reader, recorded.as_ref(), kept, reseeded)?)
            }
            None => None,
        };
        let (state, mark) = match state {
            Some(state::StateOfLife { record, mark }) => (Some(record), mark),
            None => (None, None),
        };
        let is_recorded = recorded.as_ref().is_some_and(|recorded| {
            let hash = &recorded.checkpoint.mapping_hash;
            recorded.record.has_mapping && *hash == self.published.mapping_hash
        });
        let files = self.published.files.clone().filter(|_| !is_recorded);
        let life = Life {
            state,
            mark,
            has_mapping: is_recorded || files.is_some(),
            files,
            transactions,
            source: source.clone(),
            kafka_cluster,
            partitions_of_topics,
        };
        config.let_in.note();
        Ok((life, recorded))
    }
}

fn not_open() -> SinkError {
    SinkError::Transient {
        problem: "the Kafka sink is not open".to_owned(),
    }
}

impl Sink for KafkaSink {
    fn last_commit(&mut self) -> Result<Option<LastCommit>, SinkError> {
        let reader = Reader::connect(&self.config)?;
        reader.cluster_id()?;
        let Some(Recorded { record, .. }) = reader.position()? else {
            return Ok(None);
        };
        let written: Option<Timestamp> = record.written_at.parse().ok();
        // A clock that is ahead of ours makes it no older than now.
        let age = written
            .and_then(|written| Duration::try_from(Timestamp::now().duration_since(written)).ok())
            .unwrap_or_default();
        let by = match record.instance {
            None => Committed::Left,
            Some(instance) if instance == self.config.instance => Committed::ByUs,
            Some(instance) => Committed::By(format!("instance {instance}")),
        };
        Ok(Some(LastCommit {
            by,
            age,
            mark: record.written_at,
        }))
    }

    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError> {
        self.life = None;
        let (life, recorded) = self.begin_life(source)?;
        self.life = Some(life);
        Ok(match recorded {
            None => Opened::First,
            Some(recorded) => Opened::Resume(recorded.checkpoint),
        })
    }

    fn changelog(&mut self) -> Result<Option<Changelog>, SinkError> {
        let life = self.life.as_ref().ok_or_else(not_open)?;
        let changelog =
            |state: &StateRecord| state::changelog(&self.config, &life.kafka_cluster, state);
        life.state.as_ref().map(changelog).transpose()
    }

    fn shows_forgotten(&mut self) -> Result<Duration, SinkError> {
        state::shows_forgotten(&self.config)
    }

    fn remembered(&mut self, from: i64, each: &mut EachRecord<'_>) -> Result<(), SinkError> {
        let life = self.life.as_ref().ok_or_else(not_open)?;
        match &life.state {
            // It begins with this life.
            Some(_) if life.mark.is_some() => Ok(()),
            Some(state) => state::read(&self.config, state, from, each),
            None => Ok(()),
        }
    }

    fn recorded_to(&self) -> Option<i64> {
        self.life.as_ref()?.transactions.state_reached()
    }

    fn write(&mut self, batch: &EncodedBatch) -> Result<(), SinkError> {
        let life = self.life.as_mut().ok_or_else(not_open)?;
        life.transactions.write(batch, Timestamp::now())
    }

    fn commit(&mut self, progress: &Progress) -> Result<(), SinkError> {
        let instance = self.config.instance.clone();
        self.commit_as(Some(instance), progress)
    }

    fn leave(&mut self, progress: &Progress) -> Result<(), SinkError> {
        self.commit_as(None, progress)
    }
}

impl KafkaSink {
    /// Commits in the name of an instance, or of one that has ended.
    fn commit_as(
        &mut self,
        instance: Option<String>,
        progress: &Progress,
    ) -> Result<(), SinkError> {
        let life = self.life.as_mut().ok_or_else(not_open)?;
        let checkpoint = Checkpoint {
            progress: progress.clone(),
            source: life.source.clone(),
            mapping_hash: self.published.mapping_hash.clone(),
            partitions_of_topics: life.partitions_of_topics.clone(),
        };
        let now = Timestamp::now();
        if let Some(mark) = life.mark.take() {
            life.transactions.write(&mark, now)?;
        }
        if let Some(files) = life.files.take() {
            life.transactions
                .note(published_mapping::KEY, files.bytes(), now)?;
        }
        let written_at = RecordedTime(now).to_string();
        let mut record = PositionRecord::new(
            &checkpoint,
            life.state.clone(),
            &life.kafka_cluster,
            written_at,
            instance,
        );
        record.has_mapping = life.has_mapping;
        life.transactions
            .commit(position::KEY, &record.encode(), now)
    }
}

/// Processing time as records show it: RFC 3339 with microseconds, UTC.
struct RecordedTime(Timestamp);

impl fmt::Display for RecordedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

/// Whether the recorded position may be gone on from here: same source, same cluster, same placement of keys.
fn compare(
    config: &KafkaConfig,
    reader: &Reader<'_>,
    recorded: Option<&Recorded>,
    source: &Identity,
    kafka_cluster: &str,
) -> Result<(), SinkError> {
    let Some(Recorded { record, checkpoint }) = recorded else {
        return Ok(());
    };
    let topic = config.position_topic();
    let refused = |state, problem, hint| {
        Err(SinkError::Refused {
            state,
            problem,
            hint,
        })
    };
    let (ours, theirs) = (&source.source, &checkpoint.source.source);
    if ours != theirs {
        return refused(
            State::WrongSource,
            format!(
                "the pipeline {} publishes {theirs}, and this is {ours}; nothing was touched",
                config.pipeline
            ),
            "give this pipeline another name, or correct the source's url; if the old source is \
             gone for good, `rowbridge drop --topics` removes what is left of it"
                .to_owned(),
        );
    }
    if record.kafka_cluster != kafka_cluster {
        return refused(
            State::PositionLost,
            format!(
                "the position in {topic} was written in the Kafka cluster {}, and this is {kafka_cluster}: \
                 a copied topic does not tell which events this cluster has",
                record.kafka_cluster
            ),
            "correct sink.kafka.brokers, or adopt the cluster: `rowbridge position set LSN` with the \
             position whose events are all here, or `rowbridge position set --snapshot`"
                .to_owned(),
        );
    }
    let mut changed = Vec::new();
    for (topic, recorded) in &checkpoint.partitions_of_topics {
        let actual = reader.partitions(topic)?.unwrap_or(0);
        if actual != *recorded {
            changed.push(format!("{topic} from {recorded} to {actual}"));
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    refused(
        State::PartitionsChanged,
        format!(
            "the number of partitions changed: {}; events of one key would be split over two partitions, \
             without order between them",
            changed.join(", ")
        ),
        "restore the topic, or, once its consumers have read what is there, accept the new placement \
         with `rowbridge position set` and the position that `rowbridge position show` prints"
            .to_owned(),
    )
}
