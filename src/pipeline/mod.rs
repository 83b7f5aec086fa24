//! The pipeline: one source, one mapping, one sink, exactly once.
//!
//! [`run`] is the whole protocol of ARCHITECTURE.md in one function: own the source, open the sink while
//! the source is held, stream until something ends, start again from the committed checkpoint. There is
//! no other way to recover, so it is always exercised.
//!
//! Three threads work on a session: the source reads and frames (async, on the runtime), the [`mapper`]
//! turns batches into encoded events, the [`committer`] owns the sink. They are connected by two short
//! channels whose buffers are recycled; hanging up a channel is how the end of one ends the others.

mod backoff;
mod committer;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod histories;
mod mapper;
mod meter;
mod outlet;
mod planted;
mod remembered;
mod replay;
mod reseed;
mod session;
mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{HEARTBEAT, Source};
use tokio_util::sync::CancellationToken;

use self::backoff::Recovery;
use self::mapper::Mapper;
use self::session::{Ended, Session};
use crate::mapping::Mapping;
use crate::refusal::Refusal;
use crate::sink::{Sink, SinkError};
use crate::state;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
pub(crate) use committer::wait_for_the_last;
pub use meter::Meters;
pub use reseed::{Reseed, Reseeded, reseed};

/// The bounds of a pipeline.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Batches between the source and the mapper; with the connector's batch size this bounds the bytes.
    pub channel_batches: usize,
    /// Encoded batches between the mapper and the committer. Enough for what trickles in during one commit, so
    /// that all of it is at hand when the next one begins.
    pub encoded_batches: usize,
    /// An encoded batch takes in no further batch once it is so long.
    pub encoded_bytes: usize,
    /// Least time from the end of one commit to the next.
    pub commit_min_interval: Duration,
    /// A commit takes no further batch once it holds so many records.
    pub commit_max_records: usize,
    /// A commit takes no further batch once it is so old.
    pub commit_max_age: Duration,
    /// A transaction that is gathered has so many changes in memory, and no more.
    pub transaction_rows: usize,
    /// Longest record in bytes.
    pub max_record_bytes: usize,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// How often a standby looks whether the source is free.
    pub standby_poll: Duration,
    /// After so long without a commit another instance is taken for gone, where the source cannot tell.
    pub gone_after: Duration,
    /// After so long it is not even looked at again: no two clocks differ by so much.
    pub certainly_gone_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channel_batches: 4,
            encoded_batches: 16,
            encoded_bytes: 64 << 10,
            commit_min_interval: Duration::ZERO,
            commit_max_records: 20_000,
            commit_max_age: Duration::from_millis(500),
            transaction_rows: 10_000,
            max_record_bytes: 1 << 20,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            standby_poll: Duration::from_millis(500),
            gone_after: HEARTBEAT * 3,
            certainly_gone_after: Duration::from_secs(60),
        }
    }
}

/// What a pipeline runs.
pub struct Plan<M> {
    /// Its name: slot, publication, topics and transactional ids derive from it.
    pub pipeline: String,
    pub mapping: Arc<Mapping>,
    pub limits: Limits,
    /// Makes a sink; called for every session, because a sink does not survive an error.
    pub make_sink: Arc<M>,
    /// Where working copies of what rules remember are; without it they are in memory, read whole at each start.
    pub state: Option<state::Settings>,
    pub meters: Meters,
    pub shutdown: CancellationToken,
}

/// Runs the pipeline until `plan.shutdown`, through any number of sessions.
///
/// # Errors
/// A state that does not pass by itself. Everything before it is published and acknowledged.
pub async fn run<D, S, M>(source: &mut D, plan: &Plan<M>) -> Result<(), Refusal>
where
    D: Source,
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let mut recovery = Recovery::new(plan);
    while !plan.shutdown.is_cancelled() {
        match session(source, plan).await {
            Ok(()) => plan.meters.stopping(),
            Err(ended) => recovery.after(ended).await?,
        }
    }
    Ok(())
}

/// One life from owning the source to the end of the stream.
async fn session<D, S, M>(source: &mut D, plan: &Plan<M>) -> Result<(), Ended>
where
    D: Source,
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let Some(mut session) = Session::begin(source, plan).await? else {
        return Ok(());
    };
    plan.meters.begun(&session.begin, plan.mapping.hash());
    let generations = std::mem::take(&mut session.begin.generations);
    let evaluator = session.evaluator(plan, &plan.mapping, &generations);
    let mapper = Mapper::new(evaluator, session.begin.progress.clone());
    let (start, tables) = (session.begin.start.clone(), plan.mapping.needs().to_vec());
    session.run(source, plan, start, tables, mapper).await?;
    Ok(())
}
