//! A model of Kafka as the committer sees it: a log of committed transactions, fencing, and commits whose
//! outcome is open until the next producer settles it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowbridge_api::testkit::fake::FakeDatabase;
use rowbridge_api::{Identity, Position};

use super::faults::{Fault, Faults};
use crate::event::{EVENT_HEADERS, EncodedBatch, TopicId};
use crate::mapping::Generations;
use crate::sink::{Checkpoint, EachRecord, Opened, Progress, Sink, SinkError};
use crate::state::Changelog;

/// One committed event, reduced to what the tests compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) data: String,
    /// The event that it takes back.
    pub(super) reverts: Option<String>,
}

#[derive(Default)]
struct Log {
    epoch: u64,
    events: Vec<Event>,
    /// What the rules remember: entries since the existing rows were last begun to be read.
    state: Vec<Entry>,
    /// How often that was.
    beginnings: u64,
    /// Which of the rows in it count.
    generations: Generations,
    checkpoint: Option<Checkpoint>,
    /// A transaction whose EndTxn is on its way and whose producer stopped waiting.
    on_its_way: Option<(Written, Checkpoint)>,
}

/// A key, and what is remembered under it from now on.
type Entry = (Vec<u8>, Option<Vec<u8>>);

/// What a transaction makes visible.
#[derive(Default)]
struct Written {
    events: Vec<Event>,
    state: Vec<Entry>,
    generations: Generations,
}

/// The position and the generations of rows that were read for another mapping.
pub(super) type Read = (Position, Generations);

/// The broker; survives every crash of the pipeline.
#[derive(Clone)]
pub(super) struct ModelKafka {
    log: Arc<Mutex<Log>>,
    /// Told what is committed, so that it notices an acknowledgement past that.
    database: FakeDatabase,
}

impl ModelKafka {
    pub(super) fn new(database: FakeDatabase) -> Self {
        Self {
            log: Arc::default(),
            database,
        }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.log.lock().unwrap().events.clone()
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.log
            .lock()
            .unwrap()
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.progress.clone())
    }

    /// A transaction lands: events and checkpoint become visible together.
    fn append(&self, log: &mut Log, written: Written, checkpoint: Checkpoint) {
        if let Progress::At { position, .. } = &checkpoint.progress {
            self.database.consumer_committed(position.clone());
        }
        log.events.extend(written.events);
        log.state.extend(written.state);
        log.generations = written.generations;
        log.checkpoint = Some(checkpoint);
    }

    /// The hash of the mapping that published last.
    pub(super) fn mapping_hash(&self) -> Option<String> {
        let log = self.log.lock().unwrap();
        let checkpoint = log.checkpoint.as_ref();
        checkpoint.map(|checkpoint| checkpoint.mapping_hash.clone())
    }

    /// A sink of the mapping with this hash, for which rows may have been read.
    pub(super) fn sink(&self, faults: &Faults, hash: &str, read: Option<Read>) -> ModelSink {
        ModelSink {
            kafka: self.clone(),
            hash: hash.to_owned(),
            read,
            generations: Generations::new(),
            faults: faults.clone(),
            epoch: 0,
            source: None,
            written: Written::default(),
        }
    }
}

pub(super) struct ModelSink {
    kafka: ModelKafka,
    hash: String,
    read: Option<Read>,
    /// Of the rows that count in this life.
    generations: Generations,
    faults: Faults,
    epoch: u64,
    source: Option<Identity>,
    written: Written,
}

impl Sink for ModelSink {
    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError> {
        self.fail("open")?;
        let mut log = self.kafka.log.lock().unwrap();
        log.epoch += 1;
        // Initialising the transactional id settles what was open: it landed, or it never will.
        if let Some((written, checkpoint)) = log.on_its_way.take()
            && self.faults.coin()
        {
            self.kafka.append(&mut log, written, checkpoint);
        }
        let progress = log.checkpoint.as_ref().map(|last| &last.progress);
        if !matches!(progress, Some(Progress::At { .. })) {
            log.state.clear();
            log.beginnings += 1;
        }
        self.generations = log.generations.clone();
        let last = log.checkpoint.as_ref();
        if let (Some((position, generations)), Some(last)) = (&self.read, last)
            && last.mapping_hash != self.hash
        {
            let here = Progress::At {
                position: position.clone(),
                cursor: None,
            };
            assert_eq!(last.progress, here, "the rows were read somewhere else");
            self.generations = generations.clone();
        }
        self.epoch = log.epoch;
        self.source = Some(source.clone());
        Ok(log.checkpoint.clone().map_or(Opened::First, Opened::Resume))
    }

    fn write(&mut self, batch: &EncodedBatch) -> Result<(), SinkError> {
        self.fail("write")?;
        for record in &batch.records {
            match record.topic {
                TopicId::STATE => self.written.state.push(entry(batch, record)),
                _ => self.written.events.push(event(batch, record)),
            }
        }
        Ok(())
    }

    fn changelog(&mut self) -> Result<Option<Changelog>, SinkError> {
        self.fail("changelog")?;
        let log = self.kafka.log.lock().unwrap();
        Ok(Some(Changelog {
            beginning: format!("model/{}", log.beginnings),
            since: 0,
            end: offset(log.state.len()),
            generations: self.generations.clone(),
        }))
    }

    fn shows_forgotten(&mut self) -> Result<Duration, SinkError> {
        Ok(Duration::from_secs(60))
    }

    fn remembered(&mut self, from: i64, each: &mut EachRecord<'_>) -> Result<(), SinkError> {
        self.fail("remembered")?;
        let state = self.kafka.log.lock().unwrap().state.clone();
        for (at, (key, value)) in state.iter().enumerate() {
            if offset(at) >= from {
                each(offset(at), key, value.as_deref())?;
            }
        }
        Ok(())
    }

    fn recorded_to(&self) -> Option<i64> {
        // One less than it could say, as the real one.
        Some((offset(self.kafka.log.lock().unwrap().state.len()) - 1).max(0))
    }

    fn commit(&mut self, progress: &Progress) -> Result<(), SinkError> {
        self.fail("before commit")?;
        let checkpoint = Checkpoint {
            progress: progress.clone(),
            source: self.source.clone().expect("opened"),
            mapping_hash: self.hash.clone(),
            partitions_of_topics: std::collections::BTreeMap::new(),
        };
        let mut written = std::mem::take(&mut self.written);
        written.generations = self.generations.clone();
        let mut log = self.kafka.log.lock().unwrap();
        if self.epoch != log.epoch {
            return Err(SinkError::Fenced {
                problem: "a newer producer exists".to_owned(),
            });
        }
        // A producer that goes on after an open outcome aborts what was on its way.
        log.on_its_way = None;
        match self.faults.at_commit() {
            Some(Fault::OutcomeOpen) => {
                log.on_its_way = Some((written, checkpoint));
                return Err(SinkError::Ambiguous {
                    problem: "EndTxn was not answered".to_owned(),
                });
            }
            Some(Fault::OutcomeOpenThoughDone) => {
                self.kafka.append(&mut log, written, checkpoint);
                return Err(SinkError::Ambiguous {
                    problem: "EndTxn was not answered".to_owned(),
                });
            }
            Some(Fault::Error | Fault::Crash) | None => {}
        }
        self.kafka.append(&mut log, written, checkpoint);
        drop(log);
        self.fail("after commit").map_err(|_| SinkError::Ambiguous {
            problem: "the answer was lost".to_owned(),
        })
    }
}

impl ModelSink {
    fn fail(&self, step: &'static str) -> Result<(), SinkError> {
        self.faults
            .step(step)
            .map_err(|problem| SinkError::Transient { problem })
    }
}

fn offset(entries: usize) -> i64 {
    i64::try_from(entries).unwrap()
}

fn entry(batch: &EncodedBatch, record: &crate::event::Record) -> Entry {
    let bytes = |span| batch.bytes(span).to_vec();
    (
        record.key.map(bytes).unwrap_or_default(),
        record.value.map(bytes),
    )
}

fn event(batch: &EncodedBatch, record: &crate::event::Record) -> Event {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let header = |number: u16| {
        let mut headers = batch.headers_of(record);
        let found = headers.find(|(name, _)| name.0 == number);
        found.map(|(_, value)| text(value))
    };
    let number = |wanted: &str| {
        let number = EVENT_HEADERS.iter().position(|name| *name == wanted);
        u16::try_from(number.unwrap()).unwrap()
    };
    Event {
        id: header(number("ce_id")).unwrap(),
        reverts: header(number("ce_reverts")),
        key: record
            .key
            .map(|key| text(batch.bytes(key)))
            .unwrap_or_default(),
        data: record
            .value
            .map(|value| text(batch.bytes(value)))
            .unwrap_or_default(),
    }
}
