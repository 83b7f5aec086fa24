//! What every source must do: one check for each promise of the contract.
//!
//! A connector implements [`Subject`] for its real server and requires [`violations`] to be empty. Each
//! check starts from a fresh database, so that they can run in any order or alone.
//!
//! - `model`: the one table, what is written to it, and what a reader makes of it
//! - `reader`: a consumer that reads a source message by message
//! - `checks`: the checks

mod checks;
mod model;
mod reader;

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub use model::{Row, Write};

use crate::shape::TableName;
use crate::source::{Source, SourceError};

/// A source under test together with its database.
///
/// The database has one table with the key `id int8` and the columns `name text` and `notes text`. Where the
/// source can omit large values that did not change (PostgreSQL's TOAST), `notes` is such a column. Of old rows at
/// least the key is sent (PostgreSQL: `REPLICA IDENTITY DEFAULT`). Where a transaction is only complete once the
/// database went on (MongoDB), [`Subject::commit`] makes it go on.
pub trait Subject: Send {
    type Source: Source + 'static;

    /// Forgets everything earlier: the table is empty and the source was never started.
    fn reset(&mut self) -> impl Future<Output = Result<(), Violation>> + Send;

    /// Where the table is.
    fn table(&self) -> TableName;

    /// A source as a starting process makes it. An earlier one may just have been dropped.
    fn source(&self) -> Self::Source;

    /// Commits one transaction.
    fn commit(&self, writes: &[Write]) -> impl Future<Output = Result<(), Violation>> + Send;

    /// Up to where the database believes us to be, and so what it may forget.
    fn acknowledged(&self) -> impl Future<Output = Result<Acknowledged, Violation>> + Send;

    /// After how long the database cuts off a silent reader; seconds, please.
    fn timeout(&self) -> Duration;
}

/// What a database was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It keeps its history by itself and is told nothing (MongoDB: the oplog).
    Never,
    /// Nothing so far.
    Nothing,
    /// In the order of positions (PostgreSQL: `confirmed_flush_lsn`).
    UpTo(u64),
}

/// A promise that was broken, or a subject that could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

impl Violation {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<SourceError> for Violation {
    fn from(error: SourceError) -> Self {
        Self(format!("the source failed: {error}"))
    }
}

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Resuming from any position gives exactly what followed it.
    ResumesFromEveryPosition,
    /// Positions rise, and print and parse to themselves.
    PositionsRiseAndRoundTrip,
    /// Cut after any message and resumed, a consumer has read everything exactly once.
    SurvivesACutAtEveryMessage,
    /// A consumer that stalls for longer than the server waits loses neither link nor changes.
    KeepsTheLinkWhileStalled,
    /// The database is told what the consumer committed, and never more, if it is told at all.
    NeverAcknowledgesAhead,
    /// On shutdown it acknowledges what was committed and returns in time.
    ShutsDownInTime,
    /// Positions of another database are refused.
    RefusesAnotherDatabase,
    /// Rows read at first start and the changes made meanwhile add up to the table.
    HandsOverFromSnapshotToStream,
    /// The rows of a moment that was fixed are those of before it, and the stream has the rest.
    FixesAMoment,
    /// A cell that was not sent is unavailable, a null is null.
    UnavailableIsNeverNull,
}

impl Check {
    pub const ALL: [Self; 10] = [
        Self::ResumesFromEveryPosition,
        Self::PositionsRiseAndRoundTrip,
        Self::SurvivesACutAtEveryMessage,
        Self::KeepsTheLinkWhileStalled,
        Self::NeverAcknowledgesAhead,
        Self::ShutsDownInTime,
        Self::RefusesAnotherDatabase,
        Self::HandsOverFromSnapshotToStream,
        Self::FixesAMoment,
        Self::UnavailableIsNeverNull,
    ];

    /// Resets the subject and puts it to this check.
    ///
    /// # Errors
    /// What the source did instead of what it promised.
    pub async fn run<S: Subject>(self, subject: &mut S) -> Result<(), Violation> {
        subject.reset().await?;
        match self {
            Self::ResumesFromEveryPosition => checks::resumes_from_every_position(subject).await,
            Self::PositionsRiseAndRoundTrip => checks::positions_rise_and_round_trip(subject).await,
            Self::SurvivesACutAtEveryMessage => {
                checks::survives_a_cut_at_every_message(subject).await
            }
            Self::KeepsTheLinkWhileStalled => checks::keeps_the_link_while_stalled(subject).await,
            Self::NeverAcknowledgesAhead => checks::never_acknowledges_ahead(subject).await,
            Self::ShutsDownInTime => checks::shuts_down_in_time(subject).await,
            Self::RefusesAnotherDatabase => checks::refuses_another_database(subject).await,
            Self::HandsOverFromSnapshotToStream => {
                checks::hands_over_from_snapshot_to_stream(subject).await
            }
            Self::FixesAMoment => checks::fixes_a_moment(subject).await,
            Self::UnavailableIsNeverNull => checks::unavailable_is_never_null(subject).await,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Runs all checks, one after the other, and returns those that failed.
pub async fn violations<S: Subject>(subject: &mut S) -> Vec<(Check, Violation)> {
    let mut violations = Vec::new();
    for check in Check::ALL {
        if let Err(violation) = check.run(subject).await {
            violations.push((check, violation));
        }
    }
    violations
}
