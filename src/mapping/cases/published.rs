//! An event as a case, a report and a person see it: names instead of numbers, data as a tree.

use serde_json::Value;

use super::super::{Envelope, Mapping};
use crate::event::{EncodedBatch, Record, TopicId};

/// What an event carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Data(Value),
    Tombstone,
    /// Set aside instead of published; why.
    Quarantined {
        error: String,
    },
}

/// One encoded event, decoded again.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub event_type: String,
    /// `None` for the pipeline's quarantine topic.
    pub topic: Option<String>,
    pub key: Option<String>,
    /// In the order of the record.
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Published {
    /// Every record of `batch`, in order.
    #[must_use]
    pub fn all(mapping: &Mapping, batch: &EncodedBatch) -> Vec<Self> {
        let records = batch.records.iter();
        records
            .map(|record| Self::of(mapping, batch, record))
            .collect()
    }

    /// The event that `record` is.
    #[must_use]
    pub fn of(mapping: &Mapping, batch: &EncodedBatch, record: &Record) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers: Vec<(String, String)> = batch
            .headers_of(record)
            .map(|(name, value)| {
                let name = mapping.header_names()[usize::from(name.0)].clone();
                (name, text(value))
            })
            .collect();
        let value = record.value.map(|span| json(batch.bytes(span)));
        let topic = (record.topic != TopicId::QUARANTINE)
            .then(|| &mapping.topics()[usize::from(record.topic.0)]);
        let body = match (value, topic) {
            (None, _) => Body::Tombstone,
            (Some(value), None) => Body::Quarantined {
                error: value["error"].as_str().unwrap_or_default().to_owned(),
            },
            (Some(value), Some(topic)) if topic.envelope == Envelope::Structured => {
                Body::Data(unwrap_envelope(value, &mut headers))
            }
            (Some(value), Some(_)) => Body::Data(value),
        };
        Self {
            event_type: mapping.rules()[usize::from(record.rule)].clone(),
            topic: topic.map(|topic| topic.name.clone()),
            key: record.key.map(|span| text(batch.bytes(span))),
            headers,
            body,
        }
    }

    /// An attribute by the name that cases give it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "topic" => self.topic.as_deref(),
            "key" => self.key.as_deref(),
            "subject" => self.header("ce_subject"),
            "correlation" => self.header("ce_correlationid"),
            "time" => self.header("ce_time"),
            name => self.header(name.strip_prefix("header ")?),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(header, _)| header == name);
        header.map(|(_, value)| value.as_str())
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// Takes the data out of a structured CloudEvent and its attributes into `headers`, as binary mode has them.
fn unwrap_envelope(mut value: Value, headers: &mut Vec<(String, String)>) -> Value {
    let data = value["data"].take();
    if let Value::Object(attributes) = value {
        for (name, attribute) in attributes {
            if let Value::String(attribute) = attribute {
                headers.push((format!("ce_{name}"), attribute));
            }
        }
    }
    data
}
