//! Events to the record batch that is sent.

use std::hint::black_box;

use anyhow::{Result, ensure};
use rowbridge_kafka::offline::Partition;
use rowbridge_kafka::{Fields, HeaderName};

use crate::map::Events;

/// When the sink says it published them.
const RECORDED: &str = "2026-11-20T10:15:00.123456Z";
const RECORDED_MS: i64 = 1_763_633_700_123;

pub(crate) struct Step<'a> {
    events: Events<'a>,
    names: Vec<HeaderName>,
    recorded_time: HeaderName,
    with_headers: Headers,
    partition: Partition,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Headers {
    All,
    None,
}

impl<'a> Step<'a> {
    pub(crate) fn new(events: Events<'a>) -> Self {
        Self {
            names: events
                .header_names
                .iter()
                .map(|name| HeaderName::new(name))
                .collect(),
            events,
            recorded_time: HeaderName::new("ce_recordedtime"),
            with_headers: Headers::All,
            partition: Partition::default(),
        }
    }

    pub(crate) fn without_headers(events: Events<'a>) -> Self {
        Self {
            with_headers: Headers::None,
            ..Self::new(events)
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.events.batch.records.len()
    }

    /// Writes the events of one batch as the Kafka sink does.
    pub(crate) fn batch(&mut self) -> Result<()> {
        let batch = self.events.batch;
        let taken = match self.with_headers {
            Headers::All => usize::MAX,
            Headers::None => 0,
        };
        for record in &batch.records {
            let own = batch.headers_of(record);
            let own = own.map(|(name, value)| (&self.names[usize::from(name.0)], value));
            let headers = own.chain([(&self.recorded_time, RECORDED.as_bytes())]);
            self.partition.push(Fields {
                key: record.key.map(|key| batch.bytes(key)),
                value: record.value.map(|value| batch.bytes(value)),
                headers: headers.take(taken),
                timestamp_ms: RECORDED_MS,
            });
        }
        ensure!(
            !black_box(self.partition.close()).is_empty(),
            "an empty batch"
        );
        Ok(())
    }
}
