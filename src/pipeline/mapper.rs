//! The mapper: batches of changes in, encoded events out, and where the source stands after them.
//!
//! Synchronous and on its own thread. It holds the invariant that every encoded batch is a safe commit
//! point: its progress names the last finished transaction and, inside an unfinished one, how many source
//! changes are done.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use rowbridge_api::{Batch, Change, Frozen, Item, Position, Shape, State, TableNeeds, Transaction};
use tokio::sync::mpsc;

use super::meter::MapperMeter;
use super::outlet::{End, Outlet};
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

/// Why the mapper is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The source or the committer hung up, and says why.
    HungUp,
    /// Everything before the moment that was asked for is mapped.
    Reached,
}

/// Maps batches until the source or the committer hangs up, or until the moment that the mapper was given.
///
/// An encoded batch of `encoded_bytes` is sent on even if more input is ready. A bad record that stops the
/// pipeline is an error, sent after everything before it.
pub(super) fn run(
    mut mapper: Mapper,
    channels: Channels,
    encoded_bytes: usize,
    meter: &mut MapperMeter,
) -> Result<Done, Stop> {
    let Channels {
        mut batches,
        emptied_batches,
        encoded,
        emptied_encoded,
    } = channels;
    let mut outlet = Outlet::new(encoded_bytes, encoded, emptied_encoded);
    mapper.prepare()?;
    while let Some(first) = batches.blocking_recv() {
        let mut next = Some(first);
        let mut mapped = Ok(());
        while let Some(mut batch) = next {
            mapped = mapper.map(&batch, &mut outlet, meter);
            if matches!(mapped, Err(End::HungUp)) {
                return Ok(Done::HungUp);
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
            return Ok(Done::HungUp);
        }
        match mapped {
            Ok(()) => {}
            Err(End::Stop(stop)) => return Err(stop),
            Err(End::Reached) => return Ok(Done::Reached),
            Err(End::HungUp) => return Ok(Done::HungUp),
        }
    }
    Ok(Done::HungUp)
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
    mode: Mode,
    /// Where another mapping takes over.
    until: Option<Frozen>,
    /// Whether a transaction is evaluated when all of it is there.
    gathers: bool,
    /// Whether rules need to know what was before.
    remembers: bool,
}

/// What the changes are that arrive.
#[derive(Clone, Debug, PartialEq)]
enum Mode {
    /// The rows that exist at a first start, which have no transaction of their own.
    FirstRows,
    /// What is committed.
    Stream,
    /// Rows of these tables as of a position, to be kept and nothing else.
    Seed { tables: Vec<TableNeeds> },
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
        let mode = match finished {
            None => Mode::FirstRows,
            Some(_) => Mode::Stream,
        };
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
            mode,
            until: None,
        }
    }

    /// Ends where another mapping takes over.
    pub(super) fn until(self, moment: Frozen) -> Self {
        Self {
            until: Some(moment),
            ..self
        }
    }

    /// Keeps the rows of these tables as of `position`, which is where the stream stands.
    pub(super) fn seeding(
        evaluator: Evaluator,
        position: Position,
        tables: Vec<TableNeeds>,
    ) -> Self {
        let progress = Progress::At {
            position,
            cursor: None,
        };
        Self {
            mode: Mode::Seed { tables },
            ..Self::new(evaluator, progress)
        }
    }

    /// Forgets what does not count any more of rows that were kept.
    fn prepare(&mut self) -> Result<(), Stop> {
        match &self.mode {
            Mode::FirstRows => Ok(()),
            Mode::Stream => self.evaluator.retire(),
            Mode::Seed { tables } => self.evaluator.begin_anew(tables),
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
            Item::Begin(transaction) => self.begin(transaction, outlet),
            Item::Commit(commit) => self.commit(&commit.position, outlet),
            Item::Shape(shape) => Ok(self.bind(shape, meter)?),
            Item::SnapshotEnd(position) => {
                let mode = std::mem::replace(&mut self.mode, Mode::Stream);
                self.finish(position, outlet)?;
                match mode {
                    Mode::Seed { .. } => Err(End::Reached),
                    Mode::FirstRows | Mode::Stream => Ok(()),
                }
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
        match self.remembers && (!self.gathers || self.mode != Mode::Stream) {
            true => self.remember(outlet),
            false => Ok(()),
        }
    }

    fn begin(&mut self, transaction: &Transaction, outlet: &mut Outlet) -> Result<(), End> {
        match self.mode {
            Mode::FirstRows => {
                self.since
                    .get_or_insert_with(|| transaction.position.clone());
            }
            Mode::Stream => {
                if let Some(moment) = self.reached(&transaction.position) {
                    self.finish(&moment.position, outlet)?;
                    return Err(End::Reached);
                }
                self.replay.begin(&transaction.position)?;
            }
            Mode::Seed { .. } => {}
        }
        self.open = Some(Open {
            transaction: transaction.clone(),
            done: 0,
            last: None,
            witness: 0,
        });
        Ok(())
    }

    /// The moment at which another mapping takes over, if the stream has come to it.
    fn reached(&self, position: &Position) -> Option<Frozen> {
        let moment = self.until.as_ref();
        moment.filter(|moment| *position >= moment.next).cloned()
    }

    fn commit(&mut self, position: &Position, outlet: &mut Outlet) -> Result<(), End> {
        match self.reached(position) {
            None => self.finish(position, outlet),
            Some(moment) => {
                self.finish(&moment.position, outlet)?;
                Err(End::Reached)
            }
        }
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
        if let Mode::Seed { .. } = self.mode {
            self.evaluator.seed(batch, &open.transaction, change)?;
            out.changes += 1;
            meter.change(change.shape, change.op);
            return Ok(());
        }
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
        if self.gathers && self.mode == Mode::Stream {
            self.settle(outlet)?;
            self.remember(outlet)?;
        }
        if self.mode != Mode::FirstRows {
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
