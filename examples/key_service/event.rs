//! One event with what the service adds to it: where it came from, and how often it was tried.

use anyhow::{Context, Result};
use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders};

use crate::topics::Topics;

/// The event's offset in `hotel.stays`.
const OFFSET: &str = "retry-offset";
const ATTEMPTS: &str = "retry-attempts";
/// What the last attempt said.
const ERROR: &str = "retry-error";

/// A record of `hotel.stays`, read from there or from the retry topic.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    key: String,
    value: Vec<u8>,
    /// As they were published.
    headers: Vec<(String, Vec<u8>)>,
    pub(crate) partition: i32,
    /// In `hotel.stays`: a reservation's events are in this order, wherever they were meanwhile.
    pub(crate) origin: i64,
    /// Attempts that failed.
    pub(crate) attempts: u32,
    /// When it was put into the retry topic, in milliseconds since 1970-01-01 UTC; `None` if it was not read from there.
    pub(crate) parked_at: Option<i64>,
    /// In the topic that it was read from.
    pub(crate) offset: i64,
}

impl Event {
    /// # Errors
    /// A record of the retry topic is not one that this service wrote.
    pub(crate) fn read(message: &impl Message, topics: &Topics) -> Result<Self> {
        let mut event = Self {
            key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: Vec::new(),
            partition: message.partition(),
            origin: message.offset(),
            attempts: 0,
            parked_at: None,
            offset: message.offset(),
        };
        let retried = message.topic() == topics.retry;
        let mut ours = [None, None];
        for header in message.headers().iter().flat_map(|headers| headers.iter()) {
            let value = header.value.unwrap_or_default();
            match header.key {
                OFFSET if retried => ours[0] = number(value),
                ATTEMPTS if retried => ours[1] = number(value),
                ERROR if retried => {}
                name => event.headers.push((name.to_owned(), value.to_vec())),
            }
        }
        if retried {
            let foreign = "a record of the retry topic without its headers";
            event.origin = ours[0].context(foreign)?;
            event.attempts = u32::try_from(ours[1].context(foreign)?)?;
            event.parked_at = Some(message.timestamp().to_millis().unwrap_or_default());
        }
        Ok(event)
    }

    /// The reservation.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(crate) fn kind(&self) -> &str {
        self.header("ce_type")
    }

    pub(crate) fn id(&self) -> &str {
        self.header("ce_id")
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| str::from_utf8(value).unwrap_or_default())
    }

    /// The event after one more attempt.
    pub(crate) fn tried(&self) -> Self {
        Self {
            attempts: self.attempts + 1,
            ..self.clone()
        }
    }

    /// As the retry topic keeps it.
    pub(crate) fn parked(&self, topics: &Topics, why: &str) -> Record {
        let ours = [
            (OFFSET, self.origin.to_string()),
            (ATTEMPTS, self.attempts.to_string()),
            (ERROR, why.to_owned()),
        ];
        self.record(&topics.retry, &ours)
    }

    /// As the failed topic tells of it.
    pub(crate) fn failed(&self, topics: &Topics, error: &str) -> Record {
        let ours = [
            ("failed-error", error.to_owned()),
            ("failed-attempts", self.attempts.to_string()),
            ("failed-topic", topics.stays.clone()),
            ("failed-partition", self.partition.to_string()),
            ("failed-offset", self.origin.to_string()),
        ];
        self.record(&topics.failed, &ours)
    }

    /// As it is remembered.
    pub(crate) fn over(&self, topics: &Topics, how: &str) -> Record {
        Record {
            topic: topics.done.clone(),
            partition: self.partition,
            key: self.id().to_owned(),
            value: how.as_bytes().to_vec(),
            headers: OwnedHeaders::new(),
        }
    }

    fn record(&self, topic: &str, ours: &[(&str, String)]) -> Record {
        let theirs = self.headers.iter();
        let theirs = theirs.map(|(key, value)| (key.as_str(), value.as_slice()));
        let ours = ours.iter().map(|(key, value)| (*key, value.as_bytes()));
        let headers = theirs.chain(ours).map(|(key, value)| Header {
            key,
            value: Some(value),
        });
        Record {
            topic: topic.to_owned(),
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: headers.fold(OwnedHeaders::new(), OwnedHeaders::insert),
        }
    }
}

/// A record to be written.
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: OwnedHeaders,
}

fn number(value: &[u8]) -> Option<i64> {
    str::from_utf8(value).ok()?.parse().ok()
}
