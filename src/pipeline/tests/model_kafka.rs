//! A model of Kafka as the committer sees it: a log of committed transactions, fencing, and commits whose
//! outcome is open until the next producer settles it.

use std::sync::{Arc, Mutex};

use rowbridge_api::Identity;
use rowbridge_api::testkit::fake::FakeDatabase;

use super::faults::{Fault, Faults};
use crate::event::EncodedBatch;
use crate::sink::{Checkpoint, Opened, Progress, Sink, SinkError};

/// One committed event, reduced to what the tests compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) data: String,
}

#[derive(Default)]
struct Log {
    epoch: u64,
    events: Vec<Event>,
    checkpoint: Option<Checkpoint>,
    /// A transaction whose EndTxn is on its way and whose producer stopped waiting.
    on_its_way: Option<(Vec<Event>, Checkpoint)>,
}

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
    fn append(&self, log: &mut Log, events: Vec<Event>, checkpoint: Checkpoint) {
        if let Progress::At { position, .. } = &checkpoint.progress {
            self.database.consumer_committed(position.clone());
        }
        log.events.extend(events);
        log.checkpoint = Some(checkpoint);
    }

    pub(super) fn sink(&self, faults: &Faults) -> ModelSink {
        ModelSink {
            kafka: self.clone(),
            faults: faults.clone(),
            epoch: 0,
            source: None,
            written: Vec::new(),
        }
    }
}

pub(super) struct ModelSink {
    kafka: ModelKafka,
    faults: Faults,
    epoch: u64,
    source: Option<Identity>,
    written: Vec<Event>,
}

impl Sink for ModelSink {
    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError> {
        self.fail("open")?;
        let mut log = self.kafka.log.lock().unwrap();
        log.epoch += 1;
        // Initialising the transactional id settles what was open: it landed, or it never will.
        if let Some((events, checkpoint)) = log.on_its_way.take()
            && self.faults.coin()
        {
            self.kafka.append(&mut log, events, checkpoint);
        }
        self.epoch = log.epoch;
        self.source = Some(source.clone());
        Ok(log.checkpoint.clone().map_or(Opened::First, Opened::Resume))
    }

    fn write(&mut self, batch: &EncodedBatch) -> Result<(), SinkError> {
        self.fail("write")?;
        self.written
            .extend(batch.records.iter().map(|record| event(batch, record)));
        Ok(())
    }

    fn commit(&mut self, progress: &Progress) -> Result<(), SinkError> {
        self.fail("before commit")?;
        let checkpoint = Checkpoint {
            progress: progress.clone(),
            source: self.source.clone().expect("opened"),
            mapping_hash: String::new(),
            partitions_of_topics: std::collections::BTreeMap::new(),
        };
        let events = std::mem::take(&mut self.written);
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
                log.on_its_way = Some((events, checkpoint));
                return Err(SinkError::Ambiguous {
                    problem: "EndTxn was not answered".to_owned(),
                });
            }
            Some(Fault::OutcomeOpenThoughDone) => {
                self.kafka.append(&mut log, events, checkpoint);
                return Err(SinkError::Ambiguous {
                    problem: "EndTxn was not answered".to_owned(),
                });
            }
            Some(Fault::Error | Fault::Crash) | None => {}
        }
        self.kafka.append(&mut log, events, checkpoint);
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

fn event(batch: &EncodedBatch, record: &crate::event::Record) -> Event {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let id = batch
        .headers_of(record)
        .find(|(name, _)| name.0 == 1)
        .map(|(_, id)| text(id))
        .unwrap();
    Event {
        id,
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
