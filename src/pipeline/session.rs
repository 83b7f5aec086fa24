//! One life: from owning the source to the end of the stream.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use rowbridge_api::{
    Claim, Identity, Ownership, Position, Source, SourceError, SourceIo, SourceStatus, Start,
    TableNeeds, batch_channel,
};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::committer::{self, Begin};
use super::mapper::{self, Done, Mapper};
use super::{Plan, spool};
use crate::event::EncodedBatch;
use crate::health::Peer;
use crate::mapping::memory::InMemory;
use crate::mapping::{Evaluator, Generations, Mapping, Stamp, Stop};
use crate::refusal::Refusal;
use crate::sink::{Sink, SinkError};
use crate::state;

/// How a session ended without being asked to.
pub(super) enum Ended {
    Refused(Refusal),
    Transient { peer: Peer, problem: String },
    Standby { holder: String },
}

/// The source is ours, the sink is open, what is published is known; nothing is read yet.
pub(super) struct Session {
    pub(super) begin: Begin,
    identity: Identity,
    committer: JoinHandle<Result<(), committer::End>>,
    encoded: SyncSender<EncodedBatch>,
    emptied_encoded: Receiver<EncodedBatch>,
    acks: watch::Receiver<Option<Position>>,
    _stop_when_dropped: DropGuard,
}

impl Session {
    /// Owns the source and opens the sink meanwhile; nothing if shutdown comes first.
    pub(super) async fn begin<D, S, M>(
        source: &mut D,
        plan: &Plan<M>,
    ) -> Result<Option<Self>, Ended>
    where
        D: Source,
        S: Sink,
        M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
    {
        let Some(owned) = own(source, plan).await? else {
            return Ok(None);
        };
        let identity = owned.identity.clone();
        let stop = plan.shutdown.child_token();
        let _stop_when_dropped = stop.clone().drop_guard();
        let (encoded, received_encoded) =
            std::sync::mpsc::sync_channel(plan.limits.encoded_batches);
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
                Err(_hung_up) => {
                    join(committer).await?;
                    return Ok(None);
                }
            },
            lost = source.hold() => {
                stop.cancel();
                let _ = join(committer).await;
                return Err(lost.map_or_else(Ended::from, |never| match never {}));
            }
        };
        Ok(Some(Self {
            begin,
            identity,
            committer,
            encoded,
            emptied_encoded,
            acks,
            _stop_when_dropped,
        }))
    }

    /// The rules of `mapping` with what is remembered, which is taken out of the session.
    pub(super) fn evaluator<M>(
        &mut self,
        plan: &Plan<M>,
        mapping: &Arc<Mapping>,
        generations: &Generations,
    ) -> Evaluator {
        let stamp = Stamp {
            pipeline: plan.pipeline.clone(),
            identity: self.identity.clone(),
            max_record_bytes: plan.limits.max_record_bytes,
        };
        let memory = std::mem::replace(&mut self.begin.memory, Box::new(InMemory::default()));
        let mapping = mapping.of_generations(generations);
        Evaluator::with_memory(mapping, stamp, memory).spooling(
            Box::<spool::FileSpool>::default(),
            plan.limits.transaction_rows,
        )
    }

    /// Reads from `start` on what concerns `tables`, and maps and commits it, until shutdown or until the mapper has
    /// reached the moment that it was given.
    pub(super) async fn run<D: Source, M>(
        self,
        source: &mut D,
        plan: &Plan<M>,
        start: Start,
        tables: Vec<TableNeeds>,
        mapper: Mapper,
    ) -> Result<Done, Ended> {
        let (out, batches, recycle) = batch_channel(plan.limits.channel_batches);
        let channels = mapper::Channels {
            batches,
            emptied_batches: recycle,
            encoded: self.encoded,
            emptied_encoded: self.emptied_encoded,
        };
        // Not the plan's own: it also ends when the mapper is done.
        let shutdown = plan.shutdown.child_token();
        let mapper = spawn_mapper(plan, mapper, channels, shutdown.clone());
        let (status, statuses) = watch::channel(SourceStatus::default());
        let io = SourceIo {
            start,
            tables,
            out,
            acked: self.acks,
            status,
            shutdown,
        };
        // Each ends when its input hangs up, so all three are waited for; the first cause is the furthest one.
        let (sourced, ()) = tokio::join!(source.run(io), plan.meters.follow(statuses));
        let mapped = join(mapper).await;
        join(self.committer).await?;
        match mapped? {
            Done::Reached => Ok(Done::Reached),
            Done::HungUp => sourced.map(|()| Done::HungUp).map_err(Ended::from),
        }
    }
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

/// Starts the mapper, which tells the source by `shutdown` when it has reached its moment.
fn spawn_mapper<M>(
    plan: &Plan<M>,
    mapper: Mapper,
    channels: mapper::Channels,
    shutdown: CancellationToken,
) -> JoinHandle<Result<Done, Stop>> {
    let mut meter = plan.meters.mapper();
    let encoded_bytes = plan.limits.encoded_bytes;
    tokio::task::spawn_blocking(move || {
        let done = mapper::run(mapper, channels, encoded_bytes, &mut meter);
        if matches!(done, Ok(Done::Reached)) {
            shutdown.cancel();
        }
        done
    })
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
