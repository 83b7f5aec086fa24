//! The committer: owns the sink, groups encoded batches into commits, and reports what is committed.
//!
//! Synchronous and on its own thread, because a transactional producer's calls block. The next commit
//! starts when the last one ended: load makes commits bigger by itself, and no timer adds latency.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Instant;

use rowbridge_api::{Claim, Position, Start, State};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::meter::CommitMeter;
use super::{Limits, backoff, planted};
use crate::event::EncodedBatch;
use crate::sink::{Opened, Progress, Sink, SinkError};

/// How a session begins, once the sink said what is published.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub(super) start: Start,
    pub(super) progress: Progress,
    /// The mapping that published last, if any did.
    pub(super) mapping_hash: Option<String>,
}

/// What the committer sits between.
pub(super) struct Channels {
    pub(super) encoded: Receiver<EncodedBatch>,
    pub(super) emptied: SyncSender<EncodedBatch>,
    pub(super) begin: oneshot::Sender<Begin>,
    pub(super) acked: watch::Sender<Option<Position>>,
}

/// Opens the sink (again and again while it cannot be reached), then commits until the mapper hangs up.
pub(super) fn run<S: Sink>(
    make_sink: &(dyn Fn() -> Result<S, SinkError> + Send + Sync),
    claim: &Claim,
    channels: Channels,
    limits: &Limits,
    stop: &CancellationToken,
    meter: &mut CommitMeter,
) -> Result<(), SinkError> {
    let Some((mut sink, opened)) = open(make_sink, claim, limits, stop, meter)? else {
        return Ok(());
    };
    let begin = decide(claim, opened)?;
    if begin.start == Start::First {
        // The intent is on record before slot and publication exist: a lost position is never taken for a
        // first start.
        sink.commit(&Progress::Creating)?;
    }
    if let Progress::At { position, .. } = &begin.progress {
        channels.acked.send_replace(Some(position.clone()));
    }
    let Channels {
        encoded,
        emptied,
        begin: begins,
        acked,
    } = channels;
    if begins.send(begin).is_err() {
        return Ok(());
    }
    let mut group = Group {
        sink,
        last_end: Instant::now(),
        limits,
        meter,
        encoded: &encoded,
        emptied: &emptied,
        acked: &acked,
    };
    while let Ok(first) = encoded.recv() {
        group.commit(first)?;
    }
    Ok(())
}

/// One sink and the pace of its commits.
struct Group<'a, S> {
    sink: S,
    last_end: Instant,
    limits: &'a Limits,
    meter: &'a mut CommitMeter,
    encoded: &'a Receiver<EncodedBatch>,
    emptied: &'a SyncSender<EncodedBatch>,
    acked: &'a watch::Sender<Option<Position>>,
}

impl<S: Sink> Group<'_, S> {
    /// Commits `first` and whatever else is ready, as one.
    fn commit(&mut self, first: EncodedBatch) -> Result<(), SinkError> {
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
        while let Some(batch) = next {
            self.sink.write(&batch)?;
            records += batch.records.len();
            self.meter.written(&batch);
            progress = batch.progress.clone().or(progress);
            // Nobody may be waiting for it: then its memory is freed.
            let _ = self.emptied.try_send(batch);
            next = self.next(records, started);
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
        Ok(())
    }

    /// Another batch for this commit, if one is ready and the commit is not full.
    fn next(&self, records: usize, started: Instant) -> Option<EncodedBatch> {
        if records >= self.limits.commit_max_records
            || started.elapsed() >= self.limits.commit_max_age
        {
            return None;
        }
        match self.encoded.try_recv() {
            Ok(batch) => Some(batch),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
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
    claim: &Claim,
    limits: &Limits,
    stop: &CancellationToken,
    meter: &mut CommitMeter,
) -> Result<Option<(S, Opened)>, SinkError> {
    let (Claim::Owned(identity) | Claim::Fresh(identity)) = claim else {
        return Ok(None);
    };
    let mut delays = backoff::delays(limits);
    while !stop.is_cancelled() {
        let attempt =
            make_sink().and_then(|mut sink| sink.open(identity).map(|opened| (sink, opened)));
        match attempt {
            Ok(opened) => return Ok(Some(opened)),
            Err(refused @ SinkError::Refused { .. }) => return Err(refused),
            Err(error) => {
                let pause = delays.next().unwrap_or(limits.backoff_max);
                meter.open_failed(&error, pause);
                backoff::block_unless(stop, pause);
            }
        }
    }
    Ok(None)
}

/// From where to start, given what the source and the sink remember of the pipeline.
fn decide(claim: &Claim, opened: Opened) -> Result<Begin, SinkError> {
    let first = |progress, mapping_hash| Begin {
        start: Start::First,
        progress,
        mapping_hash,
    };
    match (claim, opened) {
        (Claim::Fresh(_), Opened::First) => Ok(first(Progress::Creating, None)),
        (_, Opened::Resume(checkpoint)) if checkpoint.progress == Progress::Creating => {
            Ok(first(Progress::Creating, Some(checkpoint.mapping_hash)))
        }
        (_, Opened::Resume(checkpoint)) => {
            let Progress::At { position, .. } = &checkpoint.progress else {
                unreachable!("creating was matched above")
            };
            let start = Start::Resume {
                position: position.clone(),
                recorded: checkpoint.source,
            };
            Ok(Begin {
                start,
                progress: checkpoint.progress,
                mapping_hash: Some(checkpoint.mapping_hash),
            })
        }
        (_, Opened::First) => Err(position_lost()),
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
