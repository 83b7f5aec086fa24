//! Quarantine records: the change as JSON with what was wrong, so that `dry-run` takes it back.

use std::io::Write as _;

use rowbridge_api::Batch;

use super::change_document::{ChangeDocument, Protection, Rows};
use super::context::Context;
use super::fault::{Fault, FaultKind, Sizes};
use super::rule::{Key, Rule};
use crate::event::{Delivery, EncodedBatch, Record, Span, TopicId};

/// What is set aside: a rule, or a lifecycle, and why.
pub(super) struct Failed<'a> {
    /// The rule's name.
    pub(super) rule: &'a str,
    /// The rule's number.
    pub(super) number: u16,
    /// The event's key; `None`: the table's.
    pub(super) key: Option<&'a Key>,
    pub(super) kind: FaultKind,
    pub(super) error: &'a str,
}

impl Context<'_> {
    /// Appends the quarantine record of a rule whose event could not be made.
    pub(super) fn set_rule_aside(
        &self,
        rule: &Rule,
        number: u16,
        fault: &Fault,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) {
        let failed = Failed {
            rule: &rule.event_type,
            number,
            key: Some(&rule.key),
            kind: fault.kind,
            error: &fault.problem,
        };
        self.quarantine(&failed, batch, out);
    }

    /// Appends the quarantine record of one event that could not be made, or of an illegal transition.
    ///
    /// A change too long for a record is set aside without its row: key, sizes and position find it in the
    /// source.
    pub(super) fn quarantine(&self, failed: &Failed<'_>, batch: &Batch, out: &mut EncodedBatch) {
        let limit = self.stamp.max_record_bytes;
        let key = self.quarantine_key(failed.key, out);
        let key_bytes = key.map_or(0, |key| key.len as usize);
        let start = out.buf.len();
        match failed.kind {
            FaultKind::Oversize(sizes) => {
                self.write_record(failed, batch, Rows::Without, Some(sizes), &mut out.buf);
            }
            FaultKind::Record | FaultKind::Check => {
                self.write_record(failed, batch, Rows::With, None, &mut out.buf);
                let value = out.buf.len() - start;
                if key_bytes + value > limit {
                    out.buf.truncate(start);
                    let sizes = Sizes {
                        key: key_bytes,
                        value,
                        headers: 0,
                        limit,
                    };
                    self.write_record(failed, batch, Rows::Without, Some(sizes), &mut out.buf);
                }
            }
        }
        let value = out.span_since(start);
        // A key that alone fills a record has its size in the value.
        let key = key.filter(|_| key_bytes + value.len as usize <= limit);
        let no_headers = u32::try_from(out.headers.len()).expect("fewer than 2^32 headers");
        out.records.push(Record {
            topic: TopicId::QUARANTINE,
            key,
            value: Some(value),
            headers: no_headers..no_headers,
            rule: failed.number,
            commit_micros: self.tx.commit_micros,
            delivery: Delivery::ByKey,
        });
    }

    /// The event's key, or else the table's, if one of them can be computed.
    fn quarantine_key(&self, key: Option<&Key>, out: &mut EncodedBatch) -> Option<Span> {
        let start = out.buf.len();
        let own = match key {
            None | Some(Key::Broadcast) => false,
            Some(key) => self.write_key(key, &mut out.buf).is_ok(),
        };
        if !own {
            out.buf.truncate(start);
            if self.table.key.is_empty() || self.write_table_key(&mut out.buf).is_err() {
                out.buf.truncate(start);
                return None;
            }
        }
        Some(out.span_since(start))
    }

    fn write_record(
        &self,
        failed: &Failed<'_>,
        batch: &Batch,
        rows: Rows,
        sizes: Option<Sizes>,
        out: &mut Vec<u8>,
    ) {
        let document = ChangeDocument {
            table: &self.table.short,
            shape: &self.bound.shape,
            batch,
            tx: self.tx,
            change: self.change,
            identity: &self.stamp.identity,
            protection: Protection::of(self.table, self.key),
        };
        document.write_members(rows, out);
        let member = |name: &str, text: &str, out: &mut Vec<u8>| {
            write!(out, ",\"{name}\":{}", serde_json::Value::from(text))
                .expect("writing to memory cannot fail");
        };
        member("error", failed.error, out);
        member("rule", failed.rule, out);
        member("position", &self.tx.position.to_string(), out);
        if let Some(sizes) = sizes {
            write!(
                out,
                ",\"sizes\":{{\"key\":{},\"value\":{},\"headers\":{},\"limit\":{}}}",
                sizes.key, sizes.value, sizes.headers, sizes.limit
            )
            .expect("writing to memory cannot fail");
        }
        out.push(b'}');
    }
}
