//! The mapper's way out: encoded batches that are filled, sent on and recycled.

use std::sync::mpsc::{Receiver, SyncSender};

use crate::event::EncodedBatch;
use crate::mapping::Stop;
use crate::sink::Progress;

/// A source batch is cut where its events are so many times as long as an encoded batch that is full.
const OVERFULL: usize = 3;

/// Why a batch was not mapped to its end.
pub(super) enum End {
    Stop(Stop),
    /// The committer is gone, and says why.
    HungUp,
    /// What follows is for another mapping.
    Reached,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What was encoded and not yet sent.
pub(super) struct Outlet {
    pub(super) out: EncodedBatch,
    /// An encoded batch of so many bytes is sent on.
    pub(super) full: usize,
    encoded: SyncSender<EncodedBatch>,
    emptied: Receiver<EncodedBatch>,
}

impl Outlet {
    pub(super) fn new(
        full: usize,
        encoded: SyncSender<EncodedBatch>,
        emptied: Receiver<EncodedBatch>,
    ) -> Self {
        Self {
            out: EncodedBatch::default(),
            full,
            encoded,
            emptied,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.buf.len() >= self.full
    }

    /// Longer than what goes on together: it is kept for reuse, so its length is memory for good.
    pub(super) fn is_overfull(&self) -> bool {
        self.out.buf.len() >= self.full * OVERFULL
    }

    /// Sends what there is, and takes an empty batch instead. Without progress it is not committed before what
    /// comes next.
    pub(super) fn send(&mut self, progress: Option<Progress>) -> Result<(), End> {
        let mut empty = self.emptied.try_recv().unwrap_or_default();
        empty.clear();
        let mut out = std::mem::replace(&mut self.out, empty);
        out.progress = progress;
        self.encoded.send(out).map_err(|_| End::HungUp)
    }
}
