//! The committer: owns the sink, groups encoded batches into commits, and reports what is committed.
//!
//! Synchronous and on its own thread, because a transactional producer's calls block. The next commit
//! starts when the last one ended: load makes commits bigger by itself, and no timer adds latency.

use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use rowbridge_api::{HEARTBEAT, Ownership, Position, Remembers, Start, State};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::meter::CommitMeter;
use super::remembered::{Keeping, Remembered};
use super::{Limits, backoff, planted};
use crate::event::EncodedBatch;
use crate::mapping::Generations;
use crate::mapping::memory::Memory;
use crate::sink::{Committed, LastCommit, Opened, Progress, Sink, SinkError};
use crate::state;

/// How a session begins, once the sink said what is published.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) start: Start,
    pub(super) progress: Progress,
    /// The mapping that published last, if any did.
    pub(super) mapping_hash: Option<String>,
    /// What the rules remember.
    pub(super) memory: Box<dyn Memory>,
    /// Which of it counts.
    pub(super) generations: Generations,
}

/// Why the committer ended.
#[derive(Debug)]
pub(super) enum End {
    Sink(SinkError),
    State(state::Fault),
}

impl From<SinkError> for End {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<state::Fault> for End {
    fn from(fault: state::Fault) -> Self {
        Self::State(fault)
    }
}

/// What the committer sits between.
pub(super) struct Channels {
    pub(super) encoded: Receiver<EncodedBatch>,
    pub(super) emptied: SyncSender<EncodedBatch>,
    pub(super) begin: oneshot::Sender<Begin>,
    pub(super) acked: watch::Sender<Option<Position>>,
    /// Where what the rules remember is kept, if they remember anything.
    pub(super) place: Option<state::Place>,
}

/// Opens the sink (again and again while it cannot be reached), then commits until the mapper hangs up.
pub(super) fn run<S: Sink>(
    make_sink: &(dyn Fn() -> Result<S, SinkError> + Send + Sync),
    owned: &Ownership,
    channels: Channels,
    limits: &Limits,
    stop: &CancellationToken,
    meter: &mut CommitMeter,
) -> Result<(), End> {
    let Some((mut sink, opened)) = open(make_sink, owned, limits, stop, meter)? else {
        return Ok(());
    };
    let (start, progress, mapping_hash) = decide(owned, opened)?;
    let Some(Remembered {
        memory,
        generations,
        keeping,
    }) = super::remembered::read(&mut sink, channels.place.as_ref(), &progress, stop)?
    else {
        return Ok(());
    };
    let begin = Begin {
        start,
        progress,
        mapping_hash,
        memory,
        generations,
    };
    if matches!(begin.start, Start::First { .. }) {
        // The intent is on record before slot and publication exist: a lost position is never taken for a
        // first start.
        sink.commit(&begin.progress)?;
    }
    if let Progress::At { position, .. } = &begin.progress {
        channels.acked.send_replace(Some(position.clone()));
    }
    let Channels {
        encoded,
        emptied,
        begin: begins,
        acked,
        place: _,
    } = channels;
    let last = begin.progress.clone();
    if begins.send(begin).is_err() {
        return Ok(());
    }
    let mut group = Group {
        sink,
        keeping,
        last_end: Instant::now(),
        limits,
        meter,
        encoded: &encoded,
        emptied: &emptied,
        acked: &acked,
        last: Some(last),
    };
    while let Ok(first) = encoded.recv() {
        group.commit(first)?;
    }
    // The mapper's end may be the working copy's fault.
    group.keeping.check()?;
    if stop.is_cancelled()
        && !owned.exclusive
        && let Some(last) = &group.last
        && let Err(error) = group.sink.leave(last)
    {
        tracing::debug!(%error, "the next instance has to find out that this one has ended");
    }
    Ok(())
}

/// One sink and the pace of its commits.
struct Group<'a, S> {
    sink: S,
    keeping: Keeping,
    last_end: Instant,
    limits: &'a Limits,
    meter: &'a mut CommitMeter,
    encoded: &'a Receiver<EncodedBatch>,
    emptied: &'a SyncSender<EncodedBatch>,
    acked: &'a watch::Sender<Option<Position>>,
    /// What is committed; nothing while more is written.
    last: Option<Progress>,
}

impl<S: Sink> Group<'_, S> {
    /// Commits `first` and whatever else is ready, as one.
    fn commit(&mut self, first: EncodedBatch) -> Result<(), End> {
        let pause = self
            .limits
            .commit_min_interval
            .saturating_sub(self.last_end.elapsed());
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        let started = Instant::now();
        let mut progress = None;
        let mut next = Some(first);
        let mut records = 0;
        self.last = None;
        while let Some(batch) = next {
            self.sink.write(&batch)?;
            self.keeping.take(&batch)?;
            records += batch.records.len();
            self.meter.written(&batch);
            progress = batch.progress.clone().or(progress);
            let is_whole = batch.progress.is_some();
            // Nobody may be waiting for it: then its memory is freed.
            let _ = self.emptied.try_send(batch);
            next = match is_whole {
                true => self.next(records, started),
                // What belongs to it is on its way. If it never comes, nothing of both is committed.
                false => match self.encoded.recv() {
                    Ok(rest) => Some(rest),
                    Err(_hung_up) => return Ok(()),
                },
            };
        }
        let Some(progress) = progress else {
            return Ok(());
        };
        if planted::ack_before_commit() {
            acknowledge(self.acked, &progress);
        }
        match self.sink.commit(&progress) {
            Err(SinkError::Ambiguous { .. }) if planted::no_reinit_after_ambiguity() => {}
            committed => committed.inspect_err(|error| self.meter.failed(error))?,
        }
        self.last_end = Instant::now();
        self.meter.committed(&progress);
        acknowledge(self.acked, &progress);
        self.last = Some(progress);
        self.keeping.committed(self.sink.recorded_to())?;
        Ok(())
    }

    /// Another batch for this commit, if one is ready and the commit is not full.
    fn next(&self, records: usize, started: Instant) -> Option<EncodedBatch> {
        if records >= self.limits.commit_max_records
            || started.elapsed() >= self.limits.commit_max_age
        {
            return None;
        }
        self.encoded.try_recv().ok()
    }
}

/// Tells the source what is committed. Only finished transactions count: the source keeps a split one.
fn acknowledge(acked: &watch::Sender<Option<Position>>, progress: &Progress) {
    if let Progress::At { position, .. } = progress {
        acked.send_if_modified(|current| {
            let moved = current.as_ref() != Some(position);
            if moved {
                *current = Some(position.clone());
            }
            moved
        });
    }
}

/// Opens a sink, trying again while it cannot be reached; nothing if `stop` came first.
fn open<S: Sink>(
    make_sink: &(dyn Fn() -> Result<S, SinkError> + Send + Sync),
    owned: &Ownership,
    limits: &Limits,
    stop: &CancellationToken,
    meter: &mut CommitMeter,
) -> Result<Option<(S, Opened)>, SinkError> {
    let mut delays = backoff::delays(limits);
    while !stop.is_cancelled() {
        let attempt = make_sink().and_then(|mut sink| {
            if !owned.exclusive {
                wait_for_the_last(&mut sink, limits, stop)?;
            }
            sink.open(&owned.identity).map(|opened| (sink, opened))
        });
        match attempt {
            Ok(opened) => return Ok(Some(opened)),
            Err(end @ (SinkError::Refused { .. } | SinkError::Standby { .. })) => return Err(end),
            Err(error) => {
                let pause = delays.next().unwrap_or(limits.backoff_max);
                meter.open_failed(&error, pause);
                backoff::block_unless(stop, pause);
            }
        }
    }
    Ok(None)
}

/// Makes sure that nobody else publishes, where the source does not: an instance that lives commits every
/// [`HEARTBEAT`], changes or none. [`SinkError::Standby`] if somebody does.
pub(crate) fn wait_for_the_last<S: Sink>(
    sink: &mut S,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<(), SinkError> {
    let Some(LastCommit {
        by: Committed::By(holder),
        age,
        mark,
    }) = sink.last_commit()?
    else {
        return Ok(());
    };
    if age > limits.certainly_gone_after {
        return Ok(());
    }
    // However old it looks: clocks differ.
    let patience = limits.gone_after.saturating_sub(age).max(HEARTBEAT * 2);
    let looked_at = Instant::now();
    while looked_at.elapsed() < patience && !stop.is_cancelled() {
        backoff::block_unless(stop, limits.standby_poll);
        match sink.last_commit()? {
            Some(LastCommit {
                by: Committed::Left,
                ..
            })
            | None => return Ok(()),
            Some(last) if last.mark != mark => return Err(SinkError::Standby { holder }),
            Some(_) => {}
        }
    }
    Ok(())
}

/// From where to start, given what the source and the sink remember of the pipeline, and the mapping that published
/// last.
fn decide(
    owned: &Ownership,
    opened: Opened,
) -> Result<(Start, Progress, Option<String>), SinkError> {
    let first = |since: Option<Position>, mapping_hash| {
        let start = Start::First {
            since: since.clone(),
        };
        (start, Progress::Creating { since }, mapping_hash)
    };
    let at = |position: &Position, recorded, progress, mapping_hash| {
        let start = Start::Resume {
            position: position.clone(),
            recorded,
        };
        (start, progress, mapping_hash)
    };
    match (opened, &owned.remembers) {
        (Opened::First | Opened::Unrecorded, Remembers::Nothing) => Ok(first(None, None)),
        (Opened::First, Remembers::Start { .. }) => Err(position_lost()),
        (Opened::Unrecorded, Remembers::Start { position: None }) => Ok(first(None, None)),
        (
            Opened::Unrecorded,
            Remembers::Start {
                position: Some(position),
            },
        ) => {
            let progress = Progress::At {
                position: position.clone(),
                cursor: None,
            };
            Ok(at(position, owned.identity.clone(), progress, None))
        }
        (Opened::Resume(checkpoint), _) => {
            let hash = Some(checkpoint.mapping_hash);
            Ok(match &checkpoint.progress {
                Progress::Creating { since } => first(since.clone(), hash),
                Progress::At { position, .. } => {
                    let progress = checkpoint.progress.clone();
                    at(position, checkpoint.source, progress, hash)
                }
            })
        }
    }
}

/// Our slot exists, so the pipeline ran before, and the sink has no record of it.
fn position_lost() -> SinkError {
    SinkError::Refused {
        state: State::PositionLost,
        problem: "the source remembers this pipeline, the position topic does not: what was published is unknown".to_owned(),
        hint: "was the position topic deleted, or is this another Kafka cluster? `rowbridge position set --snapshot` reads the \
               tables again and goes on from there; `rowbridge position set LSN` goes on from a place you know; \
               `rowbridge drop` forgets the pipeline"
            .to_owned(),
    }
}
