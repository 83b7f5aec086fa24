//! The contract of a sink, and what a checkpoint says.
//!
//! A sink is synchronous and lives on its own thread: open, then write and commit in turns. The position
//! travels inside the commit, so events and position become visible together or not at all.

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod stdout;

use std::collections::BTreeMap;

use rowbridge_api::{Identity, Position, State};

use crate::event::EncodedBatch;

/// Where a pipeline stands in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A first start was begun: slot and publication may or may not exist, the existing rows are not all
    /// read.
    Creating,
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

/// What a sink remembers of the pipeline when it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: no checkpoint was ever committed.
    First,
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
    /// Will not pass by itself.
    #[error("{state}: {problem}")]
    Refused {
        state: State,
        problem: String,
        hint: String,
    },
}

/// Where events and positions go.
///
/// Dropping a sink abandons what was written since the last commit. After any error only dropping it and
/// opening a new one is allowed.
pub trait Sink {
    /// Takes the pipeline over from any earlier producer and reads its last checkpoint.
    ///
    /// # Errors
    /// `Refused` with [`State::WrongSource`], before anything is touched, if the checkpoint belongs to
    /// another source than `source`.
    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError>;

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
}
