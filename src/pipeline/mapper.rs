//! The mapper: batches of changes in, encoded events out, and where the source stands after them.
//!
//! Synchronous and on its own thread. It holds the invariant that every encoded batch is a safe commit
//! point: its progress names the last finished transaction and, inside an unfinished one, how many source
//! changes are done.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use rowbridge_api::{Batch, Change, Item, Position, Shape, State, Transaction};
use tokio::sync::mpsc;

use super::meter::MapperMeter;
use super::replay::{Replay, witness};
use crate::event::EncodedBatch;
use crate::mapping::{Arrival, Evaluated, Evaluator, Settled, Stop};
use crate::sink::{Cursor, Progress};

/// The ends of the channels that the mapper sits between.
pub(super) struct Channels {
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) emptied_batches: mpsc::Sender<Batch>,
    pub(super) encoded: SyncSender<EncodedBatch>,
    pub(super) emptied_encoded: Receiver<EncodedBatch>,
}

/// Maps batches until the source or the committer hangs up.
///
/// An encoded batch of `encoded_bytes` is sent on even if more input is ready. A bad record that stops the
/// pipeline is an error, sent after everything before it.
pub(super) fn run(
    mut mapper: Mapper,
    channels: Channels,
    encoded_bytes: usize,
    meter: &mut MapperMeter,
) -> Result<(), Stop> {
    let Channels {
        mut batches,
        emptied_batches,
        encoded,
        emptied_encoded,
    } = channels;
    let mut outlet = Outlet {
        out: EncodedBatch::default(),
        full: encoded_bytes,
        encoded,
        emptied: emptied_encoded,
    };
    while let Some(first) = batches.blocking_recv() {
        let mut next = Some(first);
        let mut mapped = Ok(());
        while let Some(mut batch) = next {
            mapped = mapper.map(&batch, &mut outlet, meter);
            if matches!(mapped, Err(End::HungUp)) {
                return Ok(()); // The committer says why.
            }
            outlet.out.progress = Some(mapper.progress(&batch));
            meter.flush(batches.len() * batch.bytes.len());
            if mapper.remembers {
                meter.remembered(mapper.evaluator.memory().size());
            }
            batch.clear();
            // Nobody may be waiting for it: then its memory is freed.
            let _ = emptied_batches.try_send(batch);
            // Small batches that came while the committer was busy go on together.
            let more = mapped.is_ok() && !outlet.is_full();
            next = more.then(|| batches.try_recv().ok()).flatten();
        }
        let progress = outlet.out.progress.take();
        if outlet.send(progress).is_err() {
            return Ok(());
        }
        if let Err(End::Stop(stop)) = mapped {
            return Err(stop);
        }
    }
    Ok(())
}

/// A source batch is cut where its events are so many times as long as an encoded batch that is full.
const OVERFULL: usize = 3;

/// Why a batch was not mapped to its end.
enum End {
    Stop(Stop),
    /// The committer is gone, and says why.
    HungUp,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What was encoded and not yet sent.
struct Outlet {
    out: EncodedBatch,
    /// An encoded batch of so many bytes is sent on.
    full: usize,
    encoded: SyncSender<EncodedBatch>,
    emptied: Receiver<EncodedBatch>,
}

impl Outlet {
    fn is_full(&self) -> bool {
        self.out.buf.len() >= self.full
    }

    /// Longer than what goes on together: it is kept for reuse, so its length is memory for good.
    fn is_overfull(&self) -> bool {
        self.out.buf.len() >= self.full * OVERFULL
    }

    /// Sends what there is, and takes an empty batch instead. Without progress it is not committed before what
    /// comes next.
    fn send(&mut self, progress: Option<Progress>) -> Result<(), End> {
        let mut empty = self.emptied.try_recv().unwrap_or_default();
        empty.clear();
        let mut out = std::mem::replace(&mut self.out, empty);
        out.progress = progress;
        self.encoded.send(out).map_err(|_| End::HungUp)
    }
}

/// Where the mapper is in the source, and the rules it applies.
pub(super) struct Mapper {
    evaluator: Evaluator,
    shapes: Vec<Arc<Shape>>,
    replay: Replay,
    /// The last finished transaction, or nothing before the end of the first snapshot.
    finished: Option<Position>,
    /// Where the first snapshot began that published a row.
    since: Option<Position>,
    open: Option<Open>,
    /// Stamps the changes of a first snapshot, which have no transaction of their own.
    snapshot: bool,
    /// Whether a transaction is evaluated when all of it is there.
    gathers: bool,
    /// Whether rules need to know what was before.
    remembers: bool,
}

/// The transaction whose changes are arriving.
struct Open {
    transaction: Transaction,
    /// Changes of it that are done, by their ordinals: what the source does not send counts too.
    done: u64,
    /// The last of them, while it is in the batch at hand.
    last: Option<Change>,
    /// Witness of the last of them when it came in an earlier batch.
    witness: u64,
}

impl Mapper {
    pub(super) fn new(evaluator: Evaluator, progress: Progress) -> Self {
        let (finished, since, cursor) = match progress {
            Progress::Creating { since } => (None, since, None),
            Progress::At { position, cursor } => (Some(position), None, cursor),
        };
        let snapshot = finished.is_none();
        let mapping = evaluator.mapping();
        Self {
            gathers: mapping.gathers(),
            remembers: mapping.kept().is_some(),
            evaluator,
            shapes: Vec::new(),
            replay: Replay::new(cursor),
            finished,
            since,
            open: None,
            snapshot,
        }
    }

    /// Appends the events of `batch` to what is sent.
    fn map(
        &mut self,
        batch: &Batch,
        outlet: &mut Outlet,
        meter: &mut MapperMeter,
    ) -> Result<(), End> {
        let mapped = batch.items.iter().try_for_each(|item| match item {
            Item::Change(change) => {
                self.change(batch, change, &mut outlet.out, meter)?;
                match outlet.is_overfull() {
                    true => self.pass_on(batch, outlet),
                    false => Ok(()),
                }
            }
            Item::Begin(transaction) => Ok(self.begin(transaction)?),
            Item::Commit(commit) => self.finish(&commit.position, outlet),
            Item::Shape(shape) => Ok(self.bind(shape, meter)?),
            Item::SnapshotEnd(position) => {
                self.snapshot = false;
                self.finish(position, outlet)
            }
        });
        self.remember_at_once(outlet)?;
        mapped
    }

    /// Sends on what there is in the middle of a batch, which may give many times its own size.
    fn pass_on(&mut self, batch: &Batch, outlet: &mut Outlet) -> Result<(), End> {
        self.remember_at_once(outlet)?;
        let progress = self.progress(batch);
        outlet.send(Some(progress))
    }

    /// Has recorded what rules remember from change to change. What a gathered transaction makes us remember waits
    /// until all of it is published.
    fn remember_at_once(&mut self, outlet: &mut Outlet) -> Result<(), End> {
        match self.remembers && (!self.gathers || self.snapshot) {
            true => self.remember(outlet),
            false => Ok(()),
        }
    }

    fn begin(&mut self, transaction: &Transaction) -> Result<(), Stop> {
        if self.snapshot {
            self.since
                .get_or_insert_with(|| transaction.position.clone());
        } else {
            self.replay.begin(&transaction.position)?;
        }
        self.open = Some(Open {
            transaction: transaction.clone(),
            done: 0,
            last: None,
            witness: 0,
        });
        Ok(())
    }

    fn change(
        &mut self,
        batch: &Batch,
        change: &Change,
        out: &mut EncodedBatch,
        meter: &mut MapperMeter,
    ) -> Result<(), End> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| protocol_violation("a change outside a transaction"))?;
        let shape = self
            .shapes
            .get(change.shape.0 as usize)
            .ok_or_else(|| protocol_violation("a change before its shape"))?;
        let is_published = self.replay.skips(shape, batch, change)?;
        if self.gathers {
            let arrival = match is_published {
                true => Arrival::Published,
                false => Arrival::New {
                    witness: witness(shape, batch, change),
                },
            };
            self.evaluator
                .gather(batch, &open.transaction, change, arrival)?;
        } else if !is_published {
            self.evaluator
                .change(batch, &open.transaction, change, out)?;
        }
        if !is_published {
            out.changes += 1;
            meter.change(change.shape, change.op);
        }
        // What is gathered is done when it is settled.
        if is_published || !self.gathers {
            open.done = change.ordinal + 1;
            open.last = Some(*change);
        }
        Ok(())
    }

    /// A transaction ended, or the rows that existed are read, or time passed.
    fn finish(&mut self, position: &Position, outlet: &mut Outlet) -> Result<(), End> {
        self.replay.finish(position)?;
        // The rows that exist are looked up by each other, so they wait for the last of them.
        if self.gathers && !self.snapshot {
            self.settle(outlet)?;
            self.remember(outlet)?;
        }
        if !self.snapshot {
            self.finished = Some(position.clone());
        }
        self.open = None;
        Ok(())
    }

    /// Evaluates what was gathered, sending on as it goes.
    fn settle(&mut self, outlet: &mut Outlet) -> Result<(), End> {
        loop {
            let mut last = None;
            let settled = self
                .evaluator
                .settle(outlet.full, &mut last, &mut outlet.out);
            if let (Some(Evaluated { ordinal, witness }), Some(open)) = (last, &mut self.open) {
                open.done = ordinal + 1;
                open.last = None;
                open.witness = witness;
            }
            match settled? {
                Settled::Wholly => return Ok(()),
                Settled::Partly => {
                    let progress = self.progress_so_far();
                    outlet.send(Some(progress))?;
                }
            }
        }
    }

    /// Has what the rules remember from now on recorded, as one with what they made of it.
    fn remember(&mut self, outlet: &mut Outlet) -> Result<(), End> {
        let mut sent = Ok(());
        self.evaluator.memory().drain(&mut |key, value| {
            if sent.is_ok() && outlet.is_full() {
                sent = outlet.send(None);
            }
            outlet.out.push_entry(key, value);
        })?;
        sent
    }

    fn bind(&mut self, shape: &Arc<Shape>, meter: &mut MapperMeter) -> Result<(), Stop> {
        if shape.id.0 as usize != self.shapes.len() {
            return Err(protocol_violation("shapes are numbered in order"));
        }
        let at = self
            .open
            .as_ref()
            .map(|open| &open.transaction.position)
            .or(self.finished.as_ref());
        self.evaluator
            .bind(shape, at.unwrap_or(&Position::new(0)))?;
        meter.bind(shape);
        self.shapes.push(Arc::clone(shape));
        Ok(())
    }

    /// Where the pipeline stands once everything mapped so far is published; `batch` is mapped.
    fn progress(&mut self, batch: &Batch) -> Progress {
        if let Some(open) = &mut self.open
            && let Some(last) = open.last.take()
        {
            open.witness = witness(&self.shapes[last.shape.0 as usize], batch, &last);
        }
        self.progress_so_far()
    }

    fn progress_so_far(&self) -> Progress {
        let Some(position) = self.finished.clone() else {
            return Progress::Creating {
                since: self.since.clone(),
            };
        };
        let cursor = self.open.as_ref().and_then(|open| {
            (open.done > 0).then(|| Cursor {
                transaction: open.transaction.position.to_string(),
                skip: open.done,
                witness: open.witness,
            })
        });
        // A batch may end while published changes are still being skipped: the checkpoint must not fall back.
        let cursor = self.replay.pending().or(cursor);
        Progress::At { position, cursor }
    }
}

/// The source broke the contract of [`rowbridge_api::Batch`]: nothing after it can be trusted.
fn protocol_violation(what: &str) -> Stop {
    Stop {
        state: State::ReplayDiverged,
        problem: format!("the source broke its contract: {what}"),
        hint: "this is a bug in the connector; please report it with the log".to_owned(),
    }
}
