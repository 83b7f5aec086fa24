//! The contract of a sink, and what a checkpoint says.
//!
//! A sink is synchronous and lives on its own thread: open, then write and commit in turns. The position
//! travels inside the commit, so events and position become visible together or not at all.

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod stdout;

use std::collections::BTreeMap;
use std::time::Duration;

use rowbridge_api::{Identity, Position, State};

use crate::event::EncodedBatch;
use crate::state::Changelog;

/// Where a pipeline stands in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A first start was begun: what it needs in the source may or may not exist, the existing rows are not all
    /// read.
    Creating {
        /// Where the first attempt that published a row began; see [`rowbridge_api::Start::First`].
        since: Option<Position>,
    },
    /// Every transaction that ended at or before `position` is published, and of the next one the part
    /// that `cursor` says.
    At {
        position: Position,
        cursor: Option<Cursor>,
    },
}

/// A point inside a source transaction that had to be split over several sink commits.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// [`rowbridge_api::Transaction::position`] of the transaction, printed.
    pub transaction: String,
    /// Source changes of it that were received and are done; counts changes, not events, so that rules
    /// may change without shifting it.
    pub skip: u64,
    /// Hash of the last change that is done: a replay that finds another one there has diverged.
    pub witness: u64,
}

/// What is committed with every group of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub progress: Progress,
    pub source: Identity,
    pub mapping_hash: String,
    /// Partition count of every topic that events go to, by topic name, as it was when keys were placed.
    pub partitions_of_topics: BTreeMap<String, u32>,
}

impl Progress {
    /// Nothing is published yet.
    pub const CREATING: Self = Self::Creating { since: None };
}

/// Who committed last for a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCommit {
    pub by: Committed,
    /// How long ago, by the two processes' clocks.
    pub age: Duration,
    /// Differs between any two commits.
    pub mark: String,
}

/// Which process a commit is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    ByUs,
    /// The other one, for people.
    By(String),
    /// One that has ended and commits no more.
    Left,
}

/// What a sink remembers of the pipeline when it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: no checkpoint was ever committed.
    First,
    /// This sink keeps no checkpoint beyond its process: what the source remembers is all there is.
    Unrecorded,
    /// The last checkpoint (its progress may be [`Progress::Creating`]).
    Resume(Checkpoint),
}

/// Why a sink's life ended.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// May pass by itself; what was not committed is not visible and must be sent again.
    #[error("{problem}")]
    Transient { problem: String },
    /// The outcome of a commit is open: only opening again, which settles it, tells where the pipeline is.
    #[error("the outcome of a commit is open: {problem}")]
    Ambiguous { problem: String },
    /// Another producer took a transactional id of ours, or the broker timed our transaction out.
    #[error("fenced: {problem}")]
    Fenced { problem: String },
    /// Another instance publishes for this pipeline: wait for its end.
    #[error("another instance publishes: {holder}")]
    Standby { holder: String },
    /// Will not pass by itself.
    #[error("{state}: {problem}")]
    Refused {
        state: State,
        problem: String,
        hint: String,
    },
}

/// Takes entries of a changelog: the offset, the key, and what is remembered under it from then on, if anything.
pub type EachRecord<'a> = dyn FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), SinkError> + 'a;

/// Where events and positions go.
///
/// Dropping a sink abandons what was written since the last commit. After any error only dropping it and
/// opening a new one is allowed.
pub trait Sink {
    /// Who committed last, where instances have to find out about each other through the sink. Takes nothing
    /// over. A sink that only its own process knows has nothing to tell.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn last_commit(&mut self) -> Result<Option<LastCommit>, SinkError> {
        Ok(None)
    }

    /// Takes the pipeline over from any earlier producer and reads its last checkpoint.
    ///
    /// # Errors
    /// `Refused` with [`State::WrongSource`], before anything is touched, if the checkpoint belongs to
    /// another source than `source`.
    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError>;

    /// The changelog of what the pipeline's rules remember; nothing where they remember nothing, or where no checkpoint
    /// is kept.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn changelog(&mut self) -> Result<Option<Changelog>, SinkError> {
        Ok(None)
    }

    /// How long the changelog shows at least that an entry was forgotten.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn shows_forgotten(&mut self) -> Result<Duration, SinkError> {
        Ok(Duration::ZERO)
    }

    /// Hands over the changelog's entries from offset `from` to its end, in the order of their changes.
    ///
    /// # Errors
    /// See [`SinkError`], or what `each` says.
    fn remembered(&mut self, _from: i64, _each: &mut EachRecord<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    /// An offset of the changelog before which every entry is committed; none before the first one of this sink.
    fn recorded_to(&self) -> Option<i64> {
        None
    }

    /// Takes the batch's records into the current transaction. Returns as soon as they are queued; the
    /// batch may be recycled.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, batch: &EncodedBatch) -> Result<(), SinkError>;

    /// Makes everything written since the last commit, and `progress`, visible at once.
    ///
    /// # Errors
    /// `Ambiguous` unless it is certain that nothing of it became visible.
    fn commit(&mut self, progress: &Progress) -> Result<(), SinkError>;

    /// Says that this process commits no more, so that another one need not find out by waiting; `progress` is what it
    /// committed last. Only where instances find out about each other through the sink.
    ///
    /// # Errors
    /// See [`SinkError`]. Nothing depends on it.
    fn leave(&mut self, _progress: &Progress) -> Result<(), SinkError> {
        Ok(())
    }
}
