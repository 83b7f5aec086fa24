//! The batch being filled: bytes are read from the socket straight into it and framed where they lie.
//!
//! Cells are ranges of the batch's buffer, so decoding copies nothing. Only the incomplete frame at the
//! end of a buffer moves to the next batch.

use std::ops::Range;

use rowbridge_api::{Batch, BatchSender, ConsumerGone, SourceError};

use crate::error::WireError;
use crate::wire::{Link, frame_bytes};

/// A recycled buffer is kept up to this multiple of the batch size: one huge row must not pin its size.
const MAX_KEPT_BATCHES: usize = 4;
/// The same for cells: a 256 KiB batch of one-byte cells has fewer.
const MAX_KEPT_CELLS: usize = 1 << 16;

/// See the module's documentation.
pub(crate) struct Intake {
    pub(crate) batch: Batch,
    /// Where the first byte that no frame has claimed lies.
    parsed: usize,
    /// The incomplete frame on its way from one batch to the next.
    tail: Vec<u8>,
    batch_bytes: usize,
    max_message_bytes: usize,
}

/// One complete frame in the batch's buffer.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    /// Tag and length included.
    pub(crate) whole: Range<usize>,
    pub(crate) body: Range<usize>,
}

impl Intake {
    /// Starts with what `link` has read already.
    pub(crate) fn new(link: &mut Link, batch_bytes: usize, max_message_bytes: usize) -> Self {
        let mut intake = Self {
            batch: Batch::default(),
            parsed: 0,
            tail: std::mem::take(&mut link.input),
            batch_bytes,
            max_message_bytes,
        };
        intake.renew(Batch::default());
        intake
    }

    /// Hands what was read and not framed to `link`, which goes on message by message.
    pub(crate) fn hand_over(&mut self, link: &mut Link) {
        link.input = self.batch.bytes.split_off(self.parsed);
    }

    /// Takes it back: a copy goes on here.
    pub(crate) fn take_over(&mut self, link: &mut Link) {
        self.batch.bytes.append(&mut link.input);
    }

    /// Waits for bytes and takes all that fit; how many. Cancel safe.
    pub(crate) async fn read(&mut self, link: &mut Link) -> Result<usize, WireError> {
        if self.batch.bytes.len() == self.batch.bytes.capacity() {
            // One message larger than a batch: the buffer grows with what has arrived, never by what a
            // length field promises.
            self.batch.bytes.reserve(self.batch_bytes);
        }
        link.read(&mut self.batch.bytes).await
    }

    /// The buffer is full: there is probably more to read.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.bytes.len() == self.batch.bytes.capacity()
    }

    /// The next complete frame.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, WireError> {
        let rest = &self.batch.bytes[self.parsed..];
        let Some(total) = frame_bytes(rest, self.max_message_bytes)? else {
            return Ok(None);
        };
        if rest.len() < total {
            return Ok(None);
        }
        let start = self.parsed;
        self.parsed += total;
        Ok(Some(Frame {
            tag: rest[0],
            whole: start..self.parsed,
            body: start + crate::wire::FRAME_HEADER_BYTES..self.parsed,
        }))
    }

    /// Nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Sends the batch, waiting for room, and goes on with an empty one.
    pub(crate) async fn send(&mut self, out: &mut BatchSender) -> Result<(), ConsumerGone> {
        let next = out.send(self.detach()).await?;
        self.renew(next);
        Ok(())
    }

    /// Forgets the framed bytes of a batch without items, once they take half of its buffer.
    pub(crate) fn compact_if_framed(&mut self) {
        if !self.batch.is_empty() || self.parsed < self.batch_bytes / 2 {
            return;
        }
        let batch = self.detach();
        self.renew(batch);
    }

    fn detach(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        self.tail.clear();
        self.tail.extend_from_slice(&batch.bytes[self.parsed..]);
        batch.bytes.truncate(self.parsed);
        batch
    }

    fn renew(&mut self, mut batch: Batch) {
        batch.clear();
        if batch.bytes.capacity() > MAX_KEPT_BATCHES * self.batch_bytes {
            batch.bytes = Vec::new();
        }
        if batch.cells.capacity() > MAX_KEPT_CELLS {
            batch.cells = Vec::new();
        }
        batch.bytes.reserve(self.batch_bytes.max(self.tail.len()));
        batch.bytes.append(&mut self.tail);
        if self.tail.capacity() > self.batch_bytes {
            self.tail = Vec::new();
        }
        self.batch = batch;
        self.parsed = 0;
    }
}

impl From<WireError> for SourceError {
    fn from(error: WireError) -> Self {
        error.while_doing("the replication session failed")
    }
}
