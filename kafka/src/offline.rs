//! Record batches without a broker, for the micro benches.

use bytes::Bytes;

use crate::records::{Batch, Fields, HeaderName, Stamp};
use crate::settings::Compression;

/// One partition's batch, as a producer writes it.
#[derive(Default)]
pub struct Partition {
    batch: Batch,
    scratch: Vec<u8>,
}

impl Partition {
    /// Appends a record; returns by how many bytes the batch grew.
    pub fn push<'a, H>(&mut self, fields: Fields<'_, H>) -> usize
    where
        H: Iterator<Item = (&'a HeaderName, &'a [u8])> + Clone,
    {
        self.batch.push(fields, &mut self.scratch)
    }

    /// The batch as it would be sent, uncompressed; the next record begins another one.
    pub fn close(&mut self) -> Bytes {
        let stamp = Stamp {
            producer: 1,
            epoch: 0,
            sequence: 0,
        };
        self.batch.close(stamp, Compression::None)
    }
}
