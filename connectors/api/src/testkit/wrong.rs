//! Sources that break one promise each, so that the suite can prove that it would notice.
//!
//! Each is the [`FakeSource`] with something done to what goes in or comes out of it.

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;

use super::fake::{COMMIT_BYTES, FakeDatabase, FakeSource};
use crate::batch::{Batch, CellRange, Commit, Item};
use crate::position::Position;
use crate::source::{
    BatchSender, Claim, ConsumerGone, Finding, Frozen, Source, SourceError, SourceIo, Start,
    TableNeeds, batch_channel,
};

/// What is wrong with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Tells the server what it sent, not what the consumer committed.
    AcknowledgesWhatItSent,
    /// Loses a change that a full batch ends with.
    LosesAChangeAtBatchEnds,
    /// Resumes after the transaction that it should resume with.
    ResumesOneTransactionLate,
    /// Resumes with the transaction before.
    RepeatsTheLastTransaction,
    /// Sends null for a value that it does not have.
    TakesUnavailableForNull,
    /// Its positions fall.
    CountsBackwards,
    /// Goes on after the shutdown.
    IgnoresShutdown,
    /// Resumes from a position of any database.
    IgnoresTheIdentity,
    /// Does not answer its server while the consumer stalls.
    FallsSilentWhileStalled,
    /// Reads rows as of now where a moment was fixed.
    ForgetsTheMoment,
    /// Streams from where the history is when the snapshot ends, not from where it was taken.
    StreamsFromTheSnapshotsEnd,
}

/// A source with a [`Fault`].
#[derive(Debug)]
pub struct WrongSource {
    inner: FakeSource,
    fault: Fault,
}

impl WrongSource {
    #[must_use]
    pub const fn new(mut inner: FakeSource, fault: Fault) -> Self {
        if matches!(fault, Fault::FallsSilentWhileStalled) {
            inner.answers_per_timeout = 0;
        }
        Self { inner, fault }
    }

    /// From where it starts when told to start at `start`.
    fn start(&self, start: Start) -> Start {
        let database = self.inner.database();
        match (start, self.fault) {
            (Start::Resume { position, .. }, Fault::IgnoresTheIdentity) => Start::Resume {
                position,
                recorded: database.identity(),
            },
            (Start::Resume { position, recorded }, Fault::RepeatsTheLastTransaction) => {
                // No earlier than the slot, which the honest source inside would refuse.
                let slot = database.acked().map_or(0, |acked| acked.order());
                let position = Position::new(slot.max(position.order() - COMMIT_BYTES));
                Start::Resume { position, recorded }
            }
            (start, _) => start,
        }
    }
}

impl Source for WrongSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        self.inner.check(needs).await
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        self.inner.own().await
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        self.inner.hold().await
    }

    async fn freeze(&mut self, tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        self.inner.freeze(tables).await
    }

    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        if self.fault == Fault::ForgetsTheMoment && io.start == Start::Frozen {
            self.inner.freeze(&io.tables).await?;
        }
        io.start = self.start(io.start);
        if self.fault == Fault::IgnoresShutdown {
            io.shutdown = CancellationToken::new();
        }
        let (out, mut batches, _emptied) = batch_channel(1);
        let mut corruption = Corruption {
            database: self.inner.database().clone(),
            fault: self.fault,
            late: self.fault == Fault::ResumesOneTransactionLate
                && !matches!(io.start, Start::First { .. }),
            lost_before: 0,
            losing: false,
            out: std::mem::replace(&mut io.out, out),
        };
        let corrupt = async move {
            while let Some(batch) = batches.recv().await {
                if corruption.pass(batch).await.is_err() {
                    return; // Hanging up ends the source inside.
                }
            }
        };
        let (result, ()) = tokio::join!(self.inner.run(io), corrupt);
        result
    }
}

/// What happens to batches on their way out.
struct Corruption {
    database: FakeDatabase,
    fault: Fault,
    /// Whether the next transaction is lost.
    late: bool,
    /// Transactions that committed before are lost.
    lost_before: u64,
    /// Whether the transaction that is passing is lost.
    losing: bool,
    out: BatchSender,
}

impl Corruption {
    async fn pass(&mut self, mut batch: Batch) -> Result<(), ConsumerGone> {
        match self.fault {
            Fault::LosesAChangeAtBatchEnds => {
                batch.items.pop_if(|last| matches!(last, Item::Change(_)));
            }
            Fault::TakesUnavailableForNull => {
                for cell in &mut batch.cells {
                    if *cell == CellRange::UNAVAILABLE {
                        *cell = CellRange::NULL;
                    }
                }
            }
            Fault::CountsBackwards => {
                for item in &mut batch.items {
                    if let Item::Commit(Commit { position }) = item {
                        *position = Position::new(u64::MAX - position.order());
                    }
                }
            }
            Fault::ResumesOneTransactionLate | Fault::StreamsFromTheSnapshotsEnd => {
                batch.items.retain(|item| self.keeps(item));
            }
            _ => {}
        }
        let sent = batch.items.iter().rev().find_map(|item| match item {
            Item::Commit(commit) => Some(commit.position.clone()),
            _ => None,
        });
        if !batch.is_empty() {
            self.out.send(batch).await?;
        }
        if let (Fault::AcknowledgesWhatItSent, Some(sent)) = (self.fault, sent) {
            self.database.acknowledge(&sent);
        }
        Ok(())
    }

    fn keeps(&mut self, item: &Item) -> bool {
        match item {
            Item::Shape(_) => true,
            Item::SnapshotEnd(_) => {
                if self.fault == Fault::StreamsFromTheSnapshotsEnd {
                    self.lost_before = self.database.end().order();
                }
                true
            }
            Item::Begin(begin) => {
                self.losing =
                    begin.id != 0 && (self.late || begin.position.order() < self.lost_before);
                self.late = false;
                !self.losing
            }
            Item::Change(_) => !self.losing,
            Item::Commit(_) => !std::mem::take(&mut self.losing),
        }
    }
}

#[cfg(test)]
mod tests;
