//! What the mapper makes of a story: in one run, or in several that end anywhere and go on from what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{Batch, Identity};
use tokio::sync::mpsc;

use super::source::StorySource;
use super::tape::Tape;
use crate::event::{EncodedBatch, Record as Encoded, TopicId};
use crate::health::Health;
use crate::mapping::memory::InMemory;
use crate::mapping::{Evaluator, Mapping, Stamp, Stop};
use crate::metrics::Metrics;
use crate::pipeline::Meters;
use crate::pipeline::mapper::{self, Mapper};
use crate::pipeline::spool::FileSpool;
use crate::sink::Progress;

/// One record, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Nothing: it is set aside.
    pub(super) topic: Option<String>,
    /// The event's type, or the lifecycle's name.
    pub(super) rule: String,
    pub(super) key: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) value: Option<String>,
}

/// What is committed.
struct Log {
    records: Vec<Record>,
    /// What the rules remember, entry by entry.
    state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    progress: Progress,
}

/// Bytes after which an encoded batch is full.
const FULL: [usize; 4] = [64 << 10, 1, 200, 1000];
/// Changes after which a transaction is put away, where that is tried.
const IN_MEMORY: usize = 2;
/// Most runs that end early.
const RUNS: usize = 4;

/// Everything in one run, in batches that are as long as they get.
pub(super) fn at_once(
    mapping: &Arc<Mapping>,
    source: &StorySource<'_>,
) -> Result<Vec<Record>, Stop> {
    let mut log = Log::new();
    let mut tape = Tape::new(&[]);
    for batch in log.map(mapping, source, &mut tape)? {
        log.append(mapping, &batch);
    }
    Ok(log.records)
}

/// In runs that end where the tape says, each from what the one before has committed; and how many of them began
/// inside a transaction.
pub(super) fn in_runs(
    mapping: &Arc<Mapping>,
    source: &StorySource<'_>,
    tape: &mut Tape<'_>,
) -> Result<(Vec<Record>, usize), Stop> {
    let mut log = Log::new();
    let mut begun_inside = 0;
    for _ in 0..RUNS {
        let encoded = log.map(mapping, source, tape)?;
        // Only such a batch may be the last of a commit.
        let ends: Vec<usize> = (0..encoded.len())
            .filter(|at| is_end(&encoded[*at]))
            .collect();
        let end = tape.pick(ends.len());
        let committed = ends.get(end).map_or(0, |last| last + 1);
        for batch in encoded.iter().take(committed) {
            log.append(mapping, batch);
        }
        let is_inside = matches!(
            log.progress,
            Progress::At {
                cursor: Some(_),
                ..
            }
        );
        begun_inside += usize::from(is_inside && committed > 0);
    }
    for batch in log.map(mapping, source, tape)? {
        log.append(mapping, &batch);
    }
    Ok((log.records, begun_inside))
}

fn is_end(batch: &EncodedBatch) -> bool {
    matches!(batch.progress, Some(Progress::At { .. }))
}

impl Log {
    const fn new() -> Self {
        Self {
            records: Vec::new(),
            state: Vec::new(),
            progress: Progress::CREATING,
        }
    }

    /// What a process that starts from here makes of the rest.
    fn map(
        &self,
        mapping: &Arc<Mapping>,
        source: &StorySource<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<Vec<EncodedBatch>, Stop> {
        let mut memory = InMemory::default();
        for (key, value) in &self.state {
            memory.restore(key, value.as_deref());
        }
        let stamp = Stamp {
            pipeline: "p".to_owned(),
            identity: Identity {
                source: "story".to_owned(),
                history: "1".to_owned(),
            },
            max_record_bytes: 1 << 20,
        };
        let mut evaluator = Evaluator::with_memory(Arc::clone(mapping), stamp, Box::new(memory));
        if tape.once_in(4) {
            evaluator = evaluator.spooling(Box::<FileSpool>::default(), IN_MEMORY);
        }
        let position = match &self.progress {
            Progress::At { position, .. } => Some(position),
            Progress::Creating { .. } => None,
        };
        let full = tape.one_of(&FULL);
        let batches = source.batches(position, tape);
        run(Mapper::new(evaluator, self.progress.clone()), batches, full)
    }

    fn append(&mut self, mapping: &Mapping, batch: &EncodedBatch) {
        for record in &batch.records {
            match record.topic {
                TopicId::STATE => {
                    let bytes = |span| batch.bytes(span).to_vec();
                    let key = record.key.map(bytes).unwrap_or_default();
                    self.state.push((key, record.value.map(bytes)));
                }
                _ => self.records.push(Record::of(mapping, batch, record)),
            }
        }
        if let Some(progress) = &batch.progress {
            self.progress = progress.clone();
        }
    }
}

/// Has batches mapped on this thread: the channels are long enough for all of them.
fn run(mapper: Mapper, batches: Vec<Batch>, full: usize) -> Result<Vec<EncodedBatch>, Stop> {
    /// More than a story gives.
    const ENCODED_BATCHES: usize = 4096;
    let (send, received) = mpsc::channel(batches.len().max(1));
    let (emptied_batches, _emptied) = mpsc::channel(1);
    let (encoded, received_encoded) = std::sync::mpsc::sync_channel(ENCODED_BATCHES);
    let (_recycle, emptied_encoded) = std::sync::mpsc::sync_channel(1);
    for batch in batches {
        send.try_send(batch).expect("there is room for all");
    }
    drop(send);
    let channels = mapper::Channels {
        batches: received,
        emptied_batches,
        encoded,
        emptied_encoded,
    };
    let health = Health::new(Duration::from_secs(60));
    let metrics = Metrics::new(&[], health.clone());
    let mut meter = Meters::new(metrics, health).mapper();
    mapper::run(mapper, channels, full, &mut meter)?;
    Ok(received_encoded.try_iter().collect())
}

impl Record {
    fn of(mapping: &Mapping, batch: &EncodedBatch, record: &Encoded) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let topic = (record.topic != TopicId::QUARANTINE)
            .then(|| mapping.topics()[usize::from(record.topic.0)].name.clone());
        let headers = batch.headers_of(record).map(|(name, value)| {
            (
                mapping.header_names()[usize::from(name.0)].clone(),
                text(value),
            )
        });
        Self {
            topic,
            rule: mapping.rules()[usize::from(record.rule)].clone(),
            key: record.key.map(|span| text(batch.bytes(span))),
            headers: headers.collect(),
            value: record.value.map(|span| text(batch.bytes(span))),
        }
    }
}
