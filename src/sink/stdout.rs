//! The sink that prints events: pipelines with `[sink.stdout]`, to look at and to pipe on.
//!
//! It keeps its position as long as the process lives and no longer: the next process goes on where the source
//! was acknowledged. Lines appear with their commit, never before: what a reader saw is what the source was
//! acknowledged for.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use rowbridge_api::{Identity, State};

use crate::event::EncodedBatch;
use crate::event_json::EventJson;
use crate::mapping::Mapping;
use crate::sink::{Checkpoint, Opened, Progress, Sink, SinkError};

/// Prints one JSON object per event, see [`EventJson`].
#[derive(Debug)]
pub struct StdoutSink<W> {
    mapping: Arc<Mapping>,
    quarantine: String,
    /// Lines written since the last commit.
    pending: Vec<u8>,
    /// Whose changes arrive, since `open`.
    source: Option<Identity>,
    committed: Option<Checkpoint>,
    out: W,
}

impl<W: Write> StdoutSink<W> {
    /// Prints to `out` the events of `pipeline`.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, pipeline: &str, out: W) -> Self {
        Self {
            mapping,
            quarantine: format!("rowbridge.{pipeline}.quarantine"),
            pending: Vec::new(),
            source: None,
            committed: None,
            out,
        }
    }
}

impl<W: Write> Sink for StdoutSink<W> {
    fn open(&mut self, source: &Identity) -> Result<Opened, SinkError> {
        self.pending.clear();
        self.source = Some(source.clone());
        let committed = self.committed.clone();
        Ok(committed.map_or(Opened::Unrecorded, Opened::Resume))
    }

    fn write(&mut self, batch: &EncodedBatch) -> Result<(), SinkError> {
        let json = EventJson::of(&self.mapping, &self.quarantine);
        for record in &batch.records {
            json.write(batch, record, &mut self.pending);
            self.pending.push(b'\n');
        }
        Ok(())
    }

    fn commit(&mut self, progress: &Progress) -> Result<(), SinkError> {
        let printed = self
            .out
            .write_all(&self.pending)
            .and_then(|()| self.out.flush());
        self.pending.clear();
        // Some lines may be out and cannot be taken back: going on would repeat them.
        printed.map_err(|error| SinkError::Refused {
            state: State::Invalid,
            problem: format!("events could not be printed: {error}"),
            hint: "keep whatever reads standard output open, or use [sink.kafka]".to_owned(),
        })?;
        self.committed = self.source.clone().map(|source| Checkpoint {
            progress: progress.clone(),
            source,
            mapping_hash: self.mapping.hash().to_owned(),
            partitions_of_topics: BTreeMap::new(),
        });
        Ok(())
    }
}
