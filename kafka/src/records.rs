//! Record batches, version 2: written once, sent from where they were written.
//!
//! Layout: Kafka protocol guide, "Record Batch" and "Record". The header of a batch says how long it is and what
//! its checksum is, so room for it is left at the front and filled in when the batch is closed.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor as _, Gzip, Lz4, Snappy, Zstd};

use crate::settings::Compression;

/// Length of a batch's header.
const HEADER_BYTES: usize = 61;
/// `baseOffset` and `batchLength`, which the length does not count.
const PREFIX_BYTES: usize = 12;
/// Where the part begins that the checksum covers: at the attributes.
const CHECKED_FROM: usize = 21;
/// The bit that marks a batch of a transaction.
const TRANSACTIONAL: i16 = 0x10;
/// Version of the format.
const MAGIC: i8 = 2;

/// A header's name as it is sent, made once.
#[derive(Clone, Debug)]
pub struct HeaderName(Box<[u8]>);

impl HeaderName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut encoded = Vec::with_capacity(name.len() + 2);
        put_bytes(name.as_bytes(), &mut encoded);
        Self(encoded.into())
    }
}

/// One record as the caller has it. Nothing prints it.
#[derive(Clone, Copy)]
pub struct Fields<'a, H> {
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order.
    pub headers: H,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
}

impl<'a, H> Fields<'_, H>
where
    H: Iterator<Item = (&'a HeaderName, &'a [u8])> + Clone,
{
    /// At most so many bytes in a batch.
    pub(crate) fn len_max(&self) -> usize {
        /// Attributes and the numbers of a record, and the lengths of its parts, at their longest.
        const NUMBERS: usize = 64;
        const LENGTH: usize = 5;
        let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.clone();
        let headers: usize = headers
            .map(|(name, value)| name.0.len() + LENGTH + value.len())
            .sum();
        NUMBERS + part(self.key) + part(self.value) + headers
    }
}

/// Who writes, and where in the order of its batches for a partition this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

/// The batch that is being written for one partition. Nothing prints it.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: BytesMut,
    count: i32,
    first_ms: i64,
    last_ms: i64,
}

impl Batch {
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records in it.
    pub(crate) const fn count(&self) -> i32 {
        self.count
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record; `scratch` is memory to reuse. Returns by how many bytes the batch grew.
    pub(crate) fn push<'a, H>(&mut self, fields: Fields<'_, H>, scratch: &mut Vec<u8>) -> usize
    where
        H: Iterator<Item = (&'a HeaderName, &'a [u8])> + Clone,
    {
        let before = self.bytes.len();
        if self.is_empty() {
            self.bytes.put_bytes(0, HEADER_BYTES);
            self.first_ms = fields.timestamp_ms;
            self.last_ms = fields.timestamp_ms;
        }
        self.last_ms = self.last_ms.max(fields.timestamp_ms);
        scratch.clear();
        scratch.push(0); // Attributes: none are defined.
        put_varint(fields.timestamp_ms - self.first_ms, scratch);
        put_varint(i64::from(self.count), scratch);
        put_optional(fields.key, scratch);
        put_optional(fields.value, scratch);
        put_length(fields.headers.clone().count(), scratch);
        for (name, value) in fields.headers {
            scratch.extend_from_slice(&name.0);
            put_bytes(value, scratch);
        }
        put_length(scratch.len(), &mut self.bytes);
        self.bytes.put_slice(scratch);
        self.count += 1;
        self.bytes.len() - before
    }

    /// The finished batch; what is left is empty and keeps its memory once the batch was sent.
    pub(crate) fn close(&mut self, stamp: Stamp, compression: Compression) -> Bytes {
        let mut batch = compressed(self.bytes.split(), compression);
        let length = i32::try_from(batch.len() - PREFIX_BYTES).unwrap_or(i32::MAX);
        let mut header = &mut batch[..HEADER_BYTES];
        header.put_i64(0); // The broker gives the base offset.
        header.put_i32(length);
        header.put_i32(-1); // The leader's epoch is the broker's to say.
        header.put_i8(MAGIC);
        header.put_u32(0); // The checksum, below.
        header.put_i16(TRANSACTIONAL | compression.attribute());
        header.put_i32(self.count - 1);
        header.put_i64(self.first_ms);
        header.put_i64(self.last_ms);
        header.put_i64(stamp.producer);
        header.put_i16(stamp.epoch);
        header.put_i32(stamp.sequence);
        header.put_i32(self.count);
        let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
        batch[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
        self.count = 0;
        batch.freeze()
    }

    /// Forgets what was written and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// The batch with its records compressed; its header stays as it is.
fn compressed(batch: BytesMut, compression: Compression) -> BytesMut {
    if compression == Compression::None {
        return batch;
    }
    let mut out = BytesMut::with_capacity(batch.len() / 2);
    out.put_slice(&batch[..HEADER_BYTES]);
    let write = |buffer: &mut BytesMut| {
        buffer.put_slice(&batch[HEADER_BYTES..]);
        Ok(())
    };
    let done = match compression {
        Compression::None => Ok(()),
        Compression::Gzip => Gzip::compress(&mut out, write),
        Compression::Snappy => Snappy::compress(&mut out, write),
        Compression::Lz4 => Lz4::compress(&mut out, write),
        Compression::Zstd => Zstd::compress(&mut out, write),
    };
    done.expect("compressing from memory to memory cannot fail");
    out
}

fn put_optional(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => put_bytes(bytes, out),
        None => put_varint(-1, out),
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_length(length: usize, out: &mut impl BufMut) {
    put_varint(length.cast_signed() as i64, out);
}

/// A number in the zigzag form of protocol buffers, as records have all their numbers.
fn put_varint(number: i64, out: &mut impl BufMut) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    use super::*;

    type Headers = Vec<(String, Vec<u8>)>;

    fn record() -> impl Strategy<Value = (Option<Vec<u8>>, Option<Vec<u8>>, Headers, i64)> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
        (
            proptest::option::of(bytes()),
            proptest::option::of(bytes()),
            proptest::collection::btree_map("[a-z_]{1,20}", bytes(), 0..14)
                .prop_map(|headers| headers.into_iter().collect()),
            0..2_000_000_000_000_i64,
        )
    }

    fn compressions() -> impl Strategy<Value = Compression> {
        prop_oneof![
            Just(Compression::None),
            Just(Compression::Gzip),
            Just(Compression::Snappy),
            Just(Compression::Lz4),
            Just(Compression::Zstd),
        ]
    }

    proptest! {
        #[test]
        fn another_implementation_reads_what_was_written(
            records in proptest::collection::vec(record(), 1..20),
            compression in compressions(),
        ) {
            let stamp = Stamp { producer: 7, epoch: 3, sequence: 42 };
            let mut batch = Batch::default();
            let mut scratch = Vec::new();
            for (key, value, headers, timestamp_ms) in &records {
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (HeaderName::new(name), value.as_slice()))
                    .collect();
                let before = batch.len();
                let grown = batch.push(
                    Fields {
                        key: key.as_deref(),
                        value: value.as_deref(),
                        headers: headers.iter().map(|(name, value)| (name, *value)),
                        timestamp_ms: *timestamp_ms,
                    },
                    &mut scratch,
                );
                prop_assert_eq!(batch.len(), before + grown);
            }
            let mut bytes = batch.close(stamp, compression);
            prop_assert!(batch.is_empty());
            // Checks the checksum too.
            let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
            prop_assert_eq!(set.records.len(), records.len());
            for (index, (read, (key, value, headers, timestamp_ms))) in set.records.iter().zip(&records).enumerate() {
                prop_assert_eq!(read.key.as_deref(), key.as_deref());
                prop_assert_eq!(read.value.as_deref(), value.as_deref());
                prop_assert_eq!(read.timestamp, *timestamp_ms);
                prop_assert!(read.transactional && !read.control);
                prop_assert_eq!((read.producer_id, read.producer_epoch), (7, 3));
                prop_assert_eq!(read.sequence, 42 + i32::try_from(index).unwrap());
                let read: Headers = read
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_deref().unwrap().to_vec()))
                    .collect();
                prop_assert_eq!(&read, headers);
            }
        }
    }
}
