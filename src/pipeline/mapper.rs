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
use crate::mapping::{Evaluator, Stop};
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
    mut channels: Channels,
    encoded_bytes: usize,
    meter: &mut MapperMeter,
) -> Result<(), Stop> {
    while let Some(first) = channels.batches.blocking_recv() {
        let mut out = channels.emptied_encoded.try_recv().unwrap_or_default();
        out.clear();
        let mut next = Some(first);
        let mut mapped = Ok(());
        while let Some(mut batch) = next {
            mapped = mapper.map(&batch, &mut out, meter);
            out.progress = Some(mapper.progress(&batch));
            meter.flush(channels.batches.len() * batch.bytes.len());
            batch.clear();
            // Nobody may be waiting for it: then its memory is freed.
            let _ = channels.emptied_batches.try_send(batch);
            // Small batches that came while the committer was busy go on together.
            let more = mapped.is_ok() && out.buf.len() < encoded_bytes;
            next = more.then(|| channels.batches.try_recv().ok()).flatten();
        }
        if channels.encoded.send(out).is_err() {
            return Ok(()); // The committer says why.
        }
        mapped?;
    }
    Ok(())
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
        Self {
            evaluator,
            shapes: Vec::new(),
            replay: Replay::new(cursor),
            finished,
            since,
            open: None,
            snapshot,
        }
    }

    /// Appends the events of `batch` to `out`.
    fn map(
        &mut self,
        batch: &Batch,
        out: &mut EncodedBatch,
        meter: &mut MapperMeter,
    ) -> Result<(), Stop> {
        for item in &batch.items {
            match item {
                Item::Change(change) => self.change(batch, change, out, meter)?,
                Item::Begin(transaction) => self.begin(transaction)?,
                Item::Commit(commit) => self.finish(&commit.position)?,
                Item::Shape(shape) => self.bind(shape, meter)?,
                Item::SnapshotEnd(position) => {
                    self.snapshot = false;
                    self.finish(position)?;
                }
            }
        }
        Ok(())
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
    ) -> Result<(), Stop> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| protocol_violation("a change outside a transaction"))?;
        let shape = self
            .shapes
            .get(change.shape.0 as usize)
            .ok_or_else(|| protocol_violation("a change before its shape"))?;
        if self.replay.skips(shape, batch, change)? {
            open.done = change.ordinal + 1;
            open.last = Some(*change);
            return Ok(());
        }
        let records_before = out.records.len();
        // A bad record that stops the pipeline takes the other events of its change with it: they come
        // again when the change is read again.
        let headers_before = out.headers.len();
        if let Err(stop) = self.evaluator.change(batch, &open.transaction, change, out) {
            out.records.truncate(records_before);
            out.headers.truncate(headers_before);
            return Err(stop);
        }
        open.done = change.ordinal + 1;
        open.last = Some(*change);
        out.changes += 1;
        meter.change(change.shape, change.op);
        Ok(())
    }

    fn finish(&mut self, position: &Position) -> Result<(), Stop> {
        self.replay.finish(position)?;
        if !self.snapshot {
            self.finished = Some(position.clone());
        }
        self.open = None;
        Ok(())
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

    /// Where the pipeline stands once everything mapped so far is published.
    fn progress(&mut self, batch: &Batch) -> Progress {
        let Some(position) = self.finished.clone() else {
            return Progress::Creating {
                since: self.since.clone(),
            };
        };
        let cursor = self.open.as_mut().and_then(|open| {
            if let Some(last) = open.last.take() {
                open.witness = witness(&self.shapes[last.shape.0 as usize], batch, &last);
            }
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
