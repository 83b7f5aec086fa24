//! One encoded event as one line of JSON, for people and for tools that read standard output.
//!
//! `dry-run --json` and the `stdout` sink print the same object: `type key topic headers data`. The data is
//! spliced in as the mapping encoded it; nothing is parsed into a tree and written again, so numbers and
//! the order of members stay what Kafka would have got.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::event::{EncodedBatch, Record, TopicId};
use crate::mapping::{Mapping, Topic};

/// What the numbers in a record stand for, and the writer that needs them.
#[derive(Clone, Copy, Debug)]
pub struct EventJson<'a> {
    /// [`Mapping::topics`].
    pub topics: &'a [Topic],
    /// [`Mapping::header_names`].
    pub header_names: &'a [String],
    /// [`Mapping::rules`]: the event type of every rule.
    pub rules: &'a [String],
    /// Name of the pipeline's quarantine topic.
    pub quarantine: &'a str,
}

impl<'a> EventJson<'a> {
    /// The names of `mapping`, with `quarantine` as the topic of records that failed.
    #[must_use]
    pub fn of(mapping: &'a Mapping, quarantine: &'a str) -> Self {
        Self {
            topics: mapping.topics(),
            header_names: mapping.header_names(),
            rules: mapping.rules(),
            quarantine,
        }
    }

    /// The Kafka name of `topic`.
    ///
    /// # Panics
    /// If the batch was encoded by another mapping.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> &'a str {
        if topic == TopicId::QUARANTINE {
            self.quarantine
        } else {
            &self.topics[usize::from(topic.0)].name
        }
    }

    /// Appends `record` as one JSON object, without a line end.
    ///
    /// `key` and `data` are null where the record has none (a null `data` is a tombstone). A value that is
    /// not JSON appears as `data_base64`, as in the CloudEvents JSON format.
    ///
    /// # Panics
    /// If the batch was encoded by another mapping.
    pub fn write(&self, batch: &EncodedBatch, record: &Record, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":");
        string(self.rules[usize::from(record.rule)].as_bytes(), out);
        out.extend_from_slice(b",\"key\":");
        match record.key {
            Some(key) => string(batch.bytes(key), out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"topic\":");
        string(self.topic(record.topic).as_bytes(), out);
        out.extend_from_slice(b",\"headers\":{");
        for (index, (name, value)) in batch.headers_of(record).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(self.header_names[usize::from(name.0)].as_bytes(), out);
            out.push(b':');
            string(value, out);
        }
        out.push(b'}');
        match record.value {
            Some(value) => data(batch.bytes(value), out),
            None => out.extend_from_slice(b",\"data\":null"),
        }
        out.push(b'}');
    }
}

/// Appends the `data` member: JSON as it is, anything else in base64.
fn data(value: &[u8], out: &mut Vec<u8>) {
    // A raw line break inside would end the line early; compact JSON has none.
    let is_one_line = !value.contains(&b'\n') && !value.contains(&b'\r');
    if is_one_line && serde_json::from_slice::<&RawValue>(value).is_ok() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(value);
    } else {
        out.extend_from_slice(b",\"data_base64\":\"");
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
        out.push(b'"');
    }
}

/// Appends `bytes` as a JSON string. Keys and headers are UTF-8; what is not shows as replacement
/// characters, since this output is for reading.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(bytes);
    // Writing a string to memory cannot fail; the `Result` is serde's.
    if serde_json::to_writer(out.by_ref(), text.as_ref()).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::event::{HeaderId, Span};
    use crate::mapping::Envelope;

    fn names() -> (Vec<Topic>, Vec<String>, Vec<String>) {
        let topic = Topic {
            name: "travel.inventory".to_owned(),
            partitions: None,
            replication: None,
            retention_ms: None,
            max_bytes_per_partition: None,
            cleanup: None,
            envelope: Envelope::Binary,
        };
        let headers = vec!["ce_type".to_owned(), "channel".to_owned()];
        (vec![topic], headers, vec!["SeatReassigned".to_owned()])
    }

    fn append(batch: &mut EncodedBatch, bytes: &[u8]) -> Span {
        let start = batch.buf.len();
        batch.buf.extend_from_slice(bytes);
        batch.span_since(start)
    }

    fn line(topic: TopicId, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        let (topics, header_names, rules) = names();
        let mut batch = EncodedBatch::default();
        let key = key.map(|key| append(&mut batch, key));
        let value = value.map(|value| append(&mut batch, value));
        for (index, text) in [(0, "SeatReassigned"), (1, "say \"web\"")] {
            let span = append(&mut batch, text.as_bytes());
            batch.headers.push((HeaderId(index), span));
        }
        batch.records.push(Record {
            topic,
            key,
            value,
            headers: 0..2,
            rule: 0,
            commit_micros: 0,
            delivery: crate::event::Delivery::ByKey,
        });
        let mut out = Vec::new();
        EventJson {
            topics: &topics,
            header_names: &header_names,
            rules: &rules,
            quarantine: "rowbridge.airline.quarantine",
        }
        .write(&batch, &batch.records[0], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_object_with_its_data_untouched() {
        let line = line(
            TopicId(0),
            Some(b"BA117/2026-12-01/Y"),
            Some(br#"{"seat":"14C","big":12345678901234567890.10}"#),
        );
        assert_eq!(
            line,
            r#"{"type":"SeatReassigned","key":"BA117/2026-12-01/Y","topic":"travel.inventory","headers":{"ce_type":"SeatReassigned","channel":"say \"web\""},"data":{"seat":"14C","big":12345678901234567890.10}}"#
        );
    }

    #[test]
    fn a_tombstone_has_null_data_and_a_failed_record_its_topic() {
        let line = line(TopicId::QUARANTINE, None, None);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["topic"], "rowbridge.airline.quarantine");
        assert!(object["key"].is_null());
        assert!(object["data"].is_null());
    }

    #[test]
    fn a_value_that_would_break_the_line_is_base64() {
        for value in [&b"{\"a\":\n1}"[..], b"\x00\xff", b"not json"] {
            let line = line(TopicId(0), Some(b"\xffkey"), Some(value));
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = object["data_base64"].as_str().unwrap();
            assert_eq!(STANDARD.decode(text).unwrap(), value);
            assert!(object.get("data").is_none());
        }
    }
}
