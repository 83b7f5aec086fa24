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
mod planted;
mod remembered;
mod replay;
mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{
    Claim, HEARTBEAT, Identity, Ownership, Source, SourceError, SourceIo, SourceStatus,
    batch_channel,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::health::Peer;
use crate::mapping::memory::Memory;
use crate::mapping::{Evaluator, Mapping, Stamp, Stop};
use crate::refusal::Refusal;
use crate::sink::{Sink, SinkError};
use crate::state;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
pub(crate) use committer::wait_for_the_last;
pub use meter::Meters;

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

/// How a session ended without being asked to.
enum Ended {
    Refused(Refusal),
    Transient { peer: Peer, problem: String },
    Standby { holder: String },
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
    let mut delays = backoff::delays(&plan.limits);
    while !plan.shutdown.is_cancelled() {
        let commits_before = plan.meters.commits();
        match session(source, plan).await {
            Ok(()) => plan.meters.stopping(),
            Err(Ended::Refused(refusal)) => {
                plan.meters.refused(&refusal);
                return Err(refusal);
            }
            Err(Ended::Standby { holder }) => {
                plan.meters.standby(&holder);
                let pause = plan.limits.standby_poll;
                let _ = tokio::time::timeout(pause, plan.shutdown.cancelled()).await;
            }
            Err(Ended::Transient { peer, problem }) => {
                if plan.meters.commits() > commits_before {
                    delays = backoff::delays(&plan.limits); // It worked in between: a new row of failures.
                }
                let pause = delays.next().unwrap_or(plan.limits.backoff_max);
                plan.meters.retrying(peer, &problem, pause);
                let _ = tokio::time::timeout(pause, plan.shutdown.cancelled()).await;
            }
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
    let Some(owned) = own(source, plan).await? else {
        return Ok(());
    };
    let identity = owned.identity.clone();

    let stop = plan.shutdown.child_token();
    let _stop_when_dropped = stop.clone().drop_guard();
    let (encoded, received_encoded) = std::sync::mpsc::sync_channel(plan.limits.encoded_batches);
    let (recycle_encoded, emptied_encoded) =
        std::sync::mpsc::sync_channel(plan.limits.encoded_batches + 2);
    let (begin, begins) = oneshot::channel();
    let (acked, acks) = watch::channel(None);
    let channels = committer::Channels {
        encoded: received_encoded,
        emptied: recycle_encoded,
        begin,
        acked,
        place: plan
            .state
            .as_ref()
            .map(|settings| settings.of(&plan.pipeline)),
    };
    let committer = spawn_committer(plan, owned, channels, stop.clone());

    let begin = tokio::select! {
        begin = begins => match begin {
            Ok(begin) => begin,
            Err(_hung_up) => return join(committer).await.map_err(Ended::from),
        },
        lost = source.hold() => {
            stop.cancel();
            let _ = join(committer).await;
            return Err(lost.map_or_else(Ended::from, |never| match never {}));
        }
    };
    plan.meters.begun(&begin, plan.mapping.hash());

    let (out, batches, recycle) = batch_channel(plan.limits.channel_batches);
    let evaluator = evaluator(plan, identity, begin.memory);
    let channels = mapper::Channels {
        batches,
        emptied_batches: recycle,
        encoded,
        emptied_encoded,
    };
    let mapper = spawn_mapper(
        plan,
        mapper::Mapper::new(evaluator, begin.progress),
        channels,
    );

    let tables = plan.mapping.needs().to_vec();
    let (status, statuses) = watch::channel(SourceStatus::default());
    let io = SourceIo {
        start: begin.start,
        tables,
        out,
        acked: acks,
        status,
        shutdown: plan.shutdown.clone(),
    };
    // Each ends when its input hangs up, so all three are waited for; the first cause is the furthest one.
    let (sourced, ()) = tokio::join!(source.run(io), plan.meters.follow(statuses));
    let mapped = join(mapper).await;
    let committed = join(committer).await;
    committed?;
    mapped?;
    sourced.map_err(Ended::from)
}

fn evaluator<M>(plan: &Plan<M>, identity: Identity, memory: Box<dyn Memory>) -> Evaluator {
    let stamp = Stamp {
        pipeline: plan.pipeline.clone(),
        identity,
        max_record_bytes: plan.limits.max_record_bytes,
    };
    let evaluator = Evaluator::with_memory(Arc::clone(&plan.mapping), stamp, memory);
    evaluator.spooling(
        Box::<spool::FileSpool>::default(),
        plan.limits.transaction_rows,
    )
}

/// Waits until this instance is the only reader; nothing if shutdown comes first.
async fn own<D: Source, M>(source: &mut D, plan: &Plan<M>) -> Result<Option<Ownership>, Ended> {
    loop {
        let claim = tokio::select! {
            claim = source.own() => claim?,
            () = plan.shutdown.cancelled() => return Ok(None),
        };
        match claim {
            Claim::Owned(owned) => return Ok(Some(owned)),
            Claim::Standby { holder } => plan.meters.standby(&holder),
        }
        let _ = tokio::time::timeout(plan.limits.standby_poll, plan.shutdown.cancelled()).await;
    }
}

fn spawn_committer<S, M>(
    plan: &Plan<M>,
    owned: Ownership,
    channels: committer::Channels,
    stop: CancellationToken,
) -> JoinHandle<Result<(), committer::End>>
where
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let make_sink = Arc::clone(&plan.make_sink);
    let limits = plan.limits.clone();
    let mut meter = plan.meters.committer(owned.identity.clone());
    tokio::task::spawn_blocking(move || {
        committer::run(&*make_sink, &owned, channels, &limits, &stop, &mut meter)
    })
}

fn spawn_mapper<M>(
    plan: &Plan<M>,
    mapper: mapper::Mapper,
    channels: mapper::Channels,
) -> JoinHandle<Result<(), Stop>> {
    let mut meter = plan.meters.mapper();
    let encoded_bytes = plan.limits.encoded_bytes;
    tokio::task::spawn_blocking(move || mapper::run(mapper, channels, encoded_bytes, &mut meter))
}

/// The result of a session's thread; its panic is ours.
async fn join<T>(thread: JoinHandle<T>) -> T {
    match thread.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => unreachable!("a session's thread is never cancelled: {cancelled}"),
        },
    }
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Refused {
                state,
                problem,
                hint,
            } => Self::Refused(Refusal::new(state, problem, hint)),
            SourceError::Transient { problem, cause } => {
                let problem = cause.map_or(problem.clone(), |cause| format!("{problem}: {cause}"));
                Self::Transient {
                    peer: Peer::Source,
                    problem,
                }
            }
        }
    }
}

impl From<SinkError> for Ended {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Refused {
                state,
                problem,
                hint,
            } => Self::Refused(Refusal::new(state, problem, hint)),
            SinkError::Standby { holder } => Self::Standby { holder },
            other => Self::Transient {
                peer: Peer::Sink,
                problem: other.to_string(),
            },
        }
    }
}

impl From<committer::End> for Ended {
    fn from(end: committer::End) -> Self {
        match end {
            committer::End::Sink(error) => error.into(),
            committer::End::State(fault) => match fault.kind {
                state::Kind::Lasting => Self::Refused(fault.into()),
                state::Kind::Passing | state::Kind::Damaged => Self::Transient {
                    peer: Peer::State,
                    problem: fault.to_string(),
                },
            },
        }
    }
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        Self::Refused(stop.into())
    }
}
