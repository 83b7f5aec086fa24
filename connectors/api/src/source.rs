//! The contract of a source: own, hold, run, check.
//!
//! The pipeline drives a source through one life: [`Source::own`] until it is the only reader,
//! [`Source::hold`] while the sink opens, [`Source::run`] until shutdown or error. Any error ends the life
//! and the next one starts from the committed checkpoint, so there is no other way to recover.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Op};
use crate::position::Position;
use crate::shape::TableName;
use crate::value::Type;

/// A database whose changes can be followed.
pub trait Source: Send {
    /// Everything that would keep the pipeline from running or endanger the source, all at once. Reads
    /// only; changes nothing in the source.
    fn check(
        &mut self,
        needs: &[TableNeeds],
    ) -> impl Future<Output = Result<Vec<Finding>, SourceError>> + Send;

    /// Tries once to become the only reader (PostgreSQL: holds the slot's walsender).
    fn own(&mut self) -> impl Future<Output = Result<Claim, SourceError>> + Send;

    /// Keeps what [`Source::own`] took, reading no change and acknowledging nothing new. Cancel safe;
    /// returns only when ownership was lost.
    fn hold(&mut self) -> impl Future<Output = Result<Infallible, SourceError>> + Send;

    /// Fixes a moment at which [`Start::Frozen`] reads rows, once this source is owned. What changes in `tables` after it is
    /// in the stream of every later run, whichever was in it before. A moment that was fixed before is let go of.
    ///
    /// # Errors
    /// As [`Source::own`]; a source that cannot read the past refuses.
    fn freeze(
        &mut self,
        tables: &[TableNeeds],
    ) -> impl Future<Output = Result<Frozen, SourceError>> + Send {
        let _ = tables;
        async {
            Err(SourceError::refused(
                State::MappingNeedsState,
                "this source cannot read its rows as of a moment of its stream",
                "go back to the mapping that published last, or read everything again",
            ))
        }
    }

    /// Sends changes from `io.start` on until `io.shutdown` or an error. On shutdown it waits until
    /// `io.acked` reports the last commit sent or is closed, acknowledges that, and returns.
    fn run(&mut self, io: SourceIo) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// What [`Source::own`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// We are the only reader.
    Owned(Ownership),
    /// Another instance reads; `holder` says who, for people.
    Standby { holder: String },
}

/// A source that is ours to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub identity: Identity,
    pub remembers: Remembers,
    /// Whether the source keeps everybody else from reading (PostgreSQL: the slot does). If not, instances
    /// find out about each other through the sink, and the source sends a position every [`HEARTBEAT`].
    pub exclusive: bool,
}

/// At least so often a source that is not exclusive sends a position, be it the last one again.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// What a source itself knows of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembers {
    /// It never started, or was dropped.
    Nothing,
    /// It started earlier (PostgreSQL: its slot exists), and the source would go on from `position` by itself,
    /// if it keeps one (PostgreSQL: the slot's `confirmed_flush_lsn`).
    Start { position: Option<Position> },
}

/// Which history a source's positions belong to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Differs between any two databases (PostgreSQL: `postgres/<system identifier>/<database>`). Part of
    /// every event id.
    pub source: String,
    /// Differs between two histories of one database (PostgreSQL: the timeline).
    pub history: String,
}

/// A moment that is fixed in a source: what [`Source::freeze`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// From here a run resumes whose rows are those of the moment.
    pub position: Position,
    /// A transaction whose [`crate::Transaction::position`] is this or later is not in the rows, every other is; once the
    /// stream has passed it, all of those came.
    pub next: Position,
}

/// From where a run starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Prepare the source (PostgreSQL: publication, then slot), read the existing rows, then stream. May follow
    /// an earlier first start that was interrupted: what exists is kept.
    First {
        /// Where the first of the interrupted ones began, if rows of it were published: what changed from
        /// there on has to come too, or a row that was published and then deleted would stay. A source that
        /// remembers this by itself (PostgreSQL: its slot) need not look.
        since: Option<Position>,
    },
    /// Stream the transactions that committed at or after `position`, having compared `recorded` and the
    /// source's own memory with what is there.
    Resume {
        position: Position,
        recorded: Identity,
    },
    /// Read the rows of `io.tables` as of the moment that [`Source::freeze`] fixed, end them with
    /// [`crate::Item::SnapshotEnd`], and return. Nothing is streamed.
    Frozen,
}

/// What a run works with.
pub struct SourceIo {
    pub start: Start,
    pub tables: Vec<TableNeeds>,
    pub out: BatchSender,
    /// The last position whose events are committed in the sink. The source acknowledges up to it and
    /// never past it.
    pub acked: watch::Receiver<Option<Position>>,
    pub status: watch::Sender<SourceStatus>,
    pub shutdown: CancellationToken,
}

/// What a running source tells about itself, for metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// How far the reading of the existing rows is; `None` when streaming.
    pub snapshot: Option<SnapshotProgress>,
    /// Bytes of history the source holds past the last acknowledged position.
    pub lag_bytes: Option<u64>,
    /// Bytes that may still be written before the source would drop our slot; `None` without a limit.
    pub safe_wal_bytes: Option<u64>,
    /// How far back the source's history reaches, where it forgets by itself, whoever still needs it (MongoDB: the oplog);
    /// `None` where it does not, or does not tell.
    pub history_seconds: Option<u64>,
}

/// How far the reading of the existing rows is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// The table that is being read.
    pub table: TableName,
    /// Its number among `tables`, from 1.
    pub number: usize,
    pub tables: usize,
    /// Rows read so far, of all tables.
    pub rows: u64,
    /// Rows of all tables as far as the source can guess without reading them: good enough for the time left.
    pub rows_about: Option<u64>,
}

/// The consumer of batches is gone: the run is over.
#[derive(Debug, thiserror::Error)]
#[error("the consumer of batches is gone")]
pub struct ConsumerGone;

/// Sends batches and gets emptied ones back.
pub struct BatchSender {
    filled: mpsc::Sender<Batch>,
    emptied: mpsc::Receiver<Batch>,
}

impl BatchSender {
    /// Waits until [`BatchSender::send`] would find room. Cancel safe, so that a source can answer its
    /// server while the consumer stalls.
    ///
    /// # Errors
    /// The consumer is gone.
    pub async fn ready(&self) -> Result<(), ConsumerGone> {
        self.filled
            .reserve()
            .await
            .map(drop)
            .map_err(|_| ConsumerGone)
    }

    /// Sends `batch`, waiting for room, and returns an empty one with recycled memory if there is one.
    ///
    /// # Errors
    /// The consumer is gone.
    pub async fn send(&mut self, batch: Batch) -> Result<Batch, ConsumerGone> {
        self.filled.send(batch).await.map_err(|_| ConsumerGone)?;
        Ok(self.emptied.try_recv().unwrap_or_default())
    }

    /// Whether the consumer is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.filled.is_closed()
    }
}

/// A channel of at most `depth` batches and the way back for emptied ones.
#[must_use]
pub fn batch_channel(depth: usize) -> (BatchSender, mpsc::Receiver<Batch>, mpsc::Sender<Batch>) {
    let (filled, received) = mpsc::channel(depth);
    let (recycle, emptied) = mpsc::channel(depth + 2);
    (BatchSender { filled, emptied }, received, recycle)
}

/// A set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpSet(u8);

impl OpSet {
    #[must_use]
    pub const fn with(self, op: Op) -> Self {
        Self(self.0 | 1 << op as u8)
    }

    #[must_use]
    pub const fn contains(self, op: Op) -> bool {
        self.0 & (1 << op as u8) != 0
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Op> for OpSet {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        ops.into_iter().fold(Self::default(), Self::with)
    }
}

/// What the mapping reads of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableNeeds {
    pub table: TableName,
    /// The columns that make the entity's key, as schema.toml or the mapping says.
    pub key: Vec<String>,
    pub columns: Vec<ColumnNeed>,
    /// The operations some rule fires on.
    pub ops: OpSet,
}

/// One column that some rule reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnNeed {
    pub name: String,
    /// As schema.toml declares it.
    pub ty: Type,
    /// What an enum can hold, as schema.toml lists it; empty where it does not.
    pub labels: Vec<String>,
    /// Some rule reads it in the before image of an update or a delete, so that the source must send it.
    pub before: bool,
    /// The rules that read it, for messages.
    pub rules: Vec<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but the operator should know its cost.
    Warning,
    /// `run` would refuse or fail.
    Error,
}

/// One thing that `check` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// What is wrong and where.
    pub problem: String,
    /// The statement or command that fixes it, ready to paste; empty where there is none.
    pub fix: String,
    /// What the fix costs the source, if anything.
    pub cost: Option<String>,
}

/// Terminal states: the pipeline stops, says why, and does nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    WrongSource,
    Gap,
    SlotLost,
    PositionLost,
    TimelineDiverged,
    PublicationChanged,
    PartitionsChanged,
    HistoryLost,
    /// One change is larger than the source can send.
    EventTooLarge,
    ReplayDiverged,
    StateStale,
    /// Rules look up rows that were not kept so far.
    MappingNeedsState,
    /// Something must be set up or corrected first; `check` names it.
    Invalid,
    /// A bad record under `on_error = "stop"`.
    BadRecord,
}

impl State {
    pub const ALL: [Self; 14] = [
        Self::WrongSource,
        Self::Gap,
        Self::SlotLost,
        Self::PositionLost,
        Self::TimelineDiverged,
        Self::PublicationChanged,
        Self::PartitionsChanged,
        Self::HistoryLost,
        Self::EventTooLarge,
        Self::ReplayDiverged,
        Self::StateStale,
        Self::MappingNeedsState,
        Self::Invalid,
        Self::BadRecord,
    ];

    /// Its name in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongSource => "WRONG_SOURCE",
            Self::Gap => "GAP",
            Self::SlotLost => "SLOT_LOST",
            Self::PositionLost => "POSITION_LOST",
            Self::TimelineDiverged => "TIMELINE_DIVERGED",
            Self::PublicationChanged => "PUBLICATION_CHANGED",
            Self::PartitionsChanged => "PARTITIONS_CHANGED",
            Self::HistoryLost => "HISTORY_LOST",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::ReplayDiverged => "REPLAY_DIVERGED",
            Self::StateStale => "STATE_STALE",
            Self::MappingNeedsState => "MAPPING_NEEDS_STATE",
            Self::Invalid => "INVALID",
            Self::BadRecord => "BAD_RECORD",
        }
    }
}

impl Start {
    /// The first start ever.
    pub const FIRST: Self = Self::First { since: None };
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a source's life ended.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// May pass by itself: the pipeline starts again after a backoff.
    #[error("{problem}")]
    Transient {
        problem: String,
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Will not pass by itself.
    #[error("{state}: {problem}")]
    Refused {
        state: State,
        /// What happened, where, and what is lost (from where to where).
        problem: String,
        /// The commands to choose from.
        hint: String,
    },
}

impl SourceError {
    pub fn transient(problem: impl Into<String>) -> Self {
        Self::Transient {
            problem: problem.into(),
            cause: None,
        }
    }

    pub fn transient_from(
        problem: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Transient {
            problem: problem.into(),
            cause: Some(cause.into()),
        }
    }

    pub fn refused(state: State, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            state,
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

/// A file or a connection that fails may work again.
impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        Self::transient_from("the source cannot be read", error)
    }
}

impl From<ConsumerGone> for SourceError {
    fn from(gone: ConsumerGone) -> Self {
        Self::transient(gone.to_string())
    }
}
