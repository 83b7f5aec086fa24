//! The encoded batch: CloudEvents records as ranges of one buffer.
//!
//! The mapper appends records, the sink reads them; both recycle the buffers. Nothing here allocates per
//! record. What a record means (topics, header names) is numbered by the compiled mapping, see
//! [`crate::mapping::Mapping`].

use std::fmt;
use std::ops::Range;

use crate::sink::Progress;

/// A range of [`EncodedBatch::buf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

/// A topic by its number in [`crate::mapping::Mapping::topics`], or the pipeline's quarantine topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub u16);

impl TopicId {
    /// `rowbridge.<pipeline>.quarantine`.
    pub const QUARANTINE: Self = Self(u16::MAX);
    /// `rowbridge.<pipeline>.state`: what rules remember, entry by entry.
    pub const STATE: Self = Self(u16::MAX - 1);
}

/// A header by its number in [`crate::mapping::Mapping::header_names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderId(pub u16);

/// The CloudEvents headers every mapping starts its header names with, in this order.
/// `ce_recordedtime` (processing time) is not among them: the sink adds it, so that everything else is the
/// same on every run.
pub const EVENT_HEADERS: [&str; 11] = [
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "content-type",
    "ce_subject",
    "ce_correlationid",
    "ce_sequence",
    "ce_mapping",
    "ce_reverts",
];

/// One record to publish.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: TopicId,
    pub key: Option<Span>,
    /// `None` is a tombstone.
    pub value: Option<Span>,
    /// Range of [`EncodedBatch::headers`].
    pub headers: Range<u32>,
    /// The rule by its number in [`crate::mapping::Mapping::rules`]; for a quarantine record the rule that failed.
    pub rule: u16,
    /// When the source committed it, in microseconds since 1970-01-01 UTC.
    pub commit_micros: i64,
    pub delivery: Delivery,
}

/// Where in its topic a record goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// To the partition of its key.
    #[default]
    ByKey,
    /// To every partition, once each, without a key (`broadcast = true`).
    EveryPartition,
}

/// Records of one source batch, in order, and where the source stands after them. Prints without them: they
/// are made of rows.
#[derive(Default)]
pub struct EncodedBatch {
    pub buf: Vec<u8>,
    pub records: Vec<Record>,
    pub headers: Vec<(HeaderId, Span)>,
    /// Where the pipeline stands once these records are committed; nothing where they may not be committed without
    /// those of the next batch.
    pub progress: Option<Progress>,
    /// Source changes that went into it, whether or not a rule fired.
    pub changes: u64,
}

impl fmt::Debug for EncodedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedBatch")
            .field("bytes", &self.buf.len())
            .field("records", &self.records.len())
            .field("progress", &self.progress)
            .field("changes", &self.changes)
            .finish()
    }
}

/// A recycled buffer is kept up to this size: one huge row must not pin its size.
const MAX_KEPT_BYTES: usize = 8 << 20;

impl EncodedBatch {
    /// Empties it and keeps its memory, within reason.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(MAX_KEPT_BYTES);
        self.records.clear();
        self.headers.clear();
        self.progress = None;
        self.changes = 0;
    }

    /// The bytes of `span`.
    #[must_use]
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.buf[span.start as usize..][..span.len as usize]
    }

    /// The headers of `record`, in order.
    pub fn headers_of(&self, record: &Record) -> impl Iterator<Item = (HeaderId, &[u8])> + Clone {
        let range = record.headers.start as usize..record.headers.end as usize;
        self.headers[range]
            .iter()
            .map(|(name, value)| (*name, self.bytes(*value)))
    }

    /// Appends an entry of what rules remember; without a value it is forgotten.
    pub fn push_entry(&mut self, key: &[u8], value: Option<&[u8]>) {
        let mut push = |bytes: &[u8]| {
            let start = self.buf.len();
            self.buf.extend_from_slice(bytes);
            self.span_since(start)
        };
        let key = Some(push(key));
        let value = value.map(push);
        let no_headers = u32::try_from(self.headers.len()).expect("fewer than 2^32 headers");
        self.records.push(Record {
            topic: TopicId::STATE,
            key,
            value,
            headers: no_headers..no_headers,
            rule: u16::MAX,
            commit_micros: 0,
            delivery: Delivery::ByKey,
        });
    }

    /// The span of everything appended to `buf` since it was `start` bytes long.
    ///
    /// # Panics
    /// Past 4 GiB in one batch; the mapper closes batches long before.
    #[must_use]
    pub fn span_since(&self, start: usize) -> Span {
        let len =
            u32::try_from(self.buf.len() - start).expect("an encoded batch stays below 4 GiB");
        Span {
            start: u32::try_from(start).expect("an encoded batch stays below 4 GiB"),
            len,
        }
    }
}
