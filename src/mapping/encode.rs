//! One event to one record: key, CloudEvents attributes, data, in reused buffers.

use std::io::Write as _;

use rowbridge_api::Value;
use uuid::Uuid;

use super::Envelope;
use super::context::{Context, Written};
use super::convert;
use super::expression::path::Place;
use super::fault::{Fault, Sizes};
use super::rule::{Body, HeaderValue, Key, Rule};
use crate::event::{Delivery, EVENT_HEADERS, EncodedBatch, HeaderId, Record, Span};

/// The namespace of every event id: UUIDv5 of the name `rowbridge.event` in RFC 9562's URL namespace.
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0xc9f3_8a1a_9883_530a_a66b_17a1_921c_a4da);

/// What names one event beside its change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occurrence<'a> {
    pub(super) rule: &'a Rule,
    /// The rule's number.
    pub(super) number: u16,
    /// How many events of this type the change made before it.
    pub(super) nth: u16,
    /// How many events of any type the change made before it.
    pub(super) index: u16,
    /// The event that this one takes back, if it is known.
    pub(super) reverts: Option<Uuid>,
    /// `name@version` of the mapping.
    pub(super) mapping: &'a str,
    /// Namespace of this source's event ids.
    pub(super) namespace: Uuid,
    pub(super) header_names: &'a [String],
}

/// The namespace of one source's event ids.
pub(super) fn namespace(source: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, source.as_bytes())
}

/// The CloudEvents attributes by their number in [`EVENT_HEADERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    SpecVersion,
    Id,
    Type,
    Source,
    Time,
    ContentType,
    Subject,
    CorrelationId,
    Sequence,
    Mapping,
    Reverts,
}

const ATTRIBUTES: [Attribute; EVENT_HEADERS.len()] = [
    Attribute::SpecVersion,
    Attribute::Id,
    Attribute::Type,
    Attribute::Source,
    Attribute::Time,
    Attribute::ContentType,
    Attribute::Subject,
    Attribute::CorrelationId,
    Attribute::Sequence,
    Attribute::Mapping,
    Attribute::Reverts,
];

impl<'a> Context<'a> {
    /// Appends the record of one event.
    ///
    /// # Errors
    /// The event cannot be made; `out` may then hold a part of it.
    pub(super) fn encode(
        &self,
        event: &Occurrence<'a>,
        out: &mut EncodedBatch,
    ) -> Result<(), Fault> {
        let rule = event.rule;
        let start = out.buf.len();
        let key = match &rule.key {
            Key::Broadcast => None,
            key => {
                self.write_key(key, &mut out.buf)?;
                Some(out.span_since(start))
            }
        };
        let first_header = position(out.headers.len());
        let structured = rule.envelope == Envelope::Structured;
        let value = match &rule.body {
            Body::Tombstone => {
                self.write_binary_attributes(event, out)?;
                None
            }
            Body::Data(fields) if structured => {
                let start = out.buf.len();
                self.write_structured(event, fields, &mut out.buf)?;
                let value = out.span_since(start);
                let start = out.buf.len();
                out.buf
                    .extend_from_slice(b"application/cloudevents+json; charset=UTF-8");
                push_header(out, HeaderId(Attribute::ContentType as u16), start);
                Some(value)
            }
            Body::Data(fields) => {
                self.write_binary_attributes(event, out)?;
                let start = out.buf.len();
                self.write_object(fields, &mut out.buf)?;
                Some(out.span_since(start))
            }
        };
        self.write_own_headers(rule, out)?;
        let headers = first_header..position(out.headers.len());
        self.check_size(event, key, value, first_header, out)?;
        out.records.push(Record {
            topic: rule.topic,
            key,
            value,
            headers,
            rule: event.number,
            commit_micros: self.tx.commit_micros,
            delivery: match rule.key {
                Key::Broadcast => Delivery::EveryPartition,
                Key::Template(_) | Key::OfTable => Delivery::ByKey,
            },
        });
        Ok(())
    }

    fn check_size(
        &self,
        event: &Occurrence<'_>,
        key: Option<Span>,
        value: Option<Span>,
        first_header: u32,
        out: &EncodedBatch,
    ) -> Result<(), Fault> {
        let length = |span: Option<Span>| span.map_or(0, |span| span.len as usize);
        let headers: usize = out.headers[first_header as usize..]
            .iter()
            .map(|(id, value)| event.header_names[usize::from(id.0)].len() + value.len as usize)
            .sum();
        let sizes = Sizes {
            key: length(key),
            value: length(value),
            headers,
            limit: self.stamp.max_record_bytes,
        };
        match sizes.total() > sizes.limit {
            true => Err(Fault::oversize(sizes)),
            false => Ok(()),
        }
    }

    /// Appends the key's text.
    ///
    /// # Errors
    /// A part of it has no value.
    pub(super) fn write_key(&self, key: &Key, out: &mut Vec<u8>) -> Result<(), Fault> {
        match key {
            Key::Template(template) => self.write_template(template, out),
            Key::OfTable => self.write_table_key(out),
            Key::Broadcast => Ok(()),
        }
    }

    /// Appends the table's key, its parts joined by `/`.
    pub(super) fn write_table_key(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        for (index, place) in self.table.key_places.iter().enumerate() {
            if index > 0 {
                out.push(b'/');
            }
            if self.write_text(place, out)? == Written::Nothing {
                let name = self.name_of(place);
                return Err(Fault::new(format!(
                    "{name} is part of the key and has no value"
                )));
            }
        }
        Ok(())
    }

    fn write_binary_attributes(
        &self,
        event: &Occurrence<'_>,
        out: &mut EncodedBatch,
    ) -> Result<(), Fault> {
        for attribute in ATTRIBUTES {
            let start = out.buf.len();
            if self.write_attribute(attribute, event, &mut out.buf)? == Written::Value {
                push_header(out, HeaderId(attribute as u16), start);
            }
        }
        Ok(())
    }

    fn write_attribute(
        &self,
        attribute: Attribute,
        event: &Occurrence<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Written, Fault> {
        match attribute {
            Attribute::SpecVersion => out.extend_from_slice(b"1.0"),
            Attribute::Id => write_uuid(self.event_id(event), out),
            Attribute::Type => out.extend_from_slice(event.rule.event_type.as_bytes()),
            Attribute::Source => out.extend_from_slice(self.bound.source.as_bytes()),
            Attribute::Time => self.write_time(event.rule.time.as_ref(), out)?,
            Attribute::ContentType => out.extend_from_slice(b"application/json"),
            Attribute::Subject => match &event.rule.subject {
                Some(template) => self.write_template(template, out)?,
                None => return Ok(Written::Nothing),
            },
            Attribute::CorrelationId => match &event.rule.correlation {
                Some(template) => self.write_template(template, out)?,
                None => write_display(&self.tx.position, out),
            },
            Attribute::Sequence => {
                let (position, ordinal) = (self.tx.position.order(), self.change.ordinal);
                write_hex(position, 16, out);
                out.push(b'-');
                write_hex(ordinal, ORDINAL_DIGITS, out);
                out.push(b'-');
                write_hex(u64::from(event.index), 4, out);
            }
            Attribute::Mapping => out.extend_from_slice(event.mapping.as_bytes()),
            Attribute::Reverts => match event.reverts {
                Some(reverted) => write_uuid(reverted, out),
                None => return Ok(Written::Nothing),
            },
        }
        Ok(Written::Value)
    }

    /// UUIDv5 of position, ordinal, type and occurrence, in the namespace of the source.
    pub(super) fn event_id(&self, event: &Occurrence<'_>) -> Uuid {
        /// Room for a position, an ordinal, an occurrence and a type of common length.
        const NAME_BYTES: usize = 128;
        let mut name = [0_u8; NAME_BYTES];
        let token = self.tx.position.token().unwrap_or_default();
        let event_type = event.rule.event_type.as_bytes();
        let parts: [&[u8]; 5] = [
            &self.tx.position.order().to_be_bytes(),
            &self.change.ordinal.to_be_bytes(),
            &event.nth.to_be_bytes(),
            event_type,
            token,
        ];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > NAME_BYTES {
            return Uuid::new_v5(&event.namespace, &parts.concat());
        }
        let mut at = 0;
        for part in parts {
            name[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Uuid::new_v5(&event.namespace, &name[..at])
    }

    /// RFC 3339, as CloudEvents wants it: a timestamp without a zone is taken as UTC.
    fn write_time(&self, time: Option<&Place>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(place) = time else {
            Value::TimestampTz(self.tx.commit_micros).write_text(out);
            return Ok(());
        };
        let problem = |problem: &str| {
            Fault::new(format!(
                "{} is the event's time and {problem}",
                self.name_of(place)
            ))
        };
        let found = self.read(place)?;
        let value = match &found {
            super::context::Found::Nothing | super::context::Found::Null => {
                return Err(problem("has no value"));
            }
            found => self.value(place, found)?,
        };
        let micros = match convert::timestamp(&value).map_err(problem)? {
            Value::Timestamp(micros) | Value::TimestampTz(micros) => micros,
            _ => return Err(problem("is not a timestamp")),
        };
        if micros == i64::MAX || micros == i64::MIN {
            return Err(problem("is infinite"));
        }
        Value::TimestampTz(micros).write_text(out);
        Ok(())
    }

    fn write_own_headers(&self, rule: &Rule, out: &mut EncodedBatch) -> Result<(), Fault> {
        for header in &rule.headers {
            let start = out.buf.len();
            let written = match &header.value {
                HeaderValue::Const(text) => {
                    out.buf.extend_from_slice(text);
                    Written::Value
                }
                HeaderValue::Place(place) => self.write_text(place, &mut out.buf)?,
                HeaderValue::Template(template) => {
                    self.write_template(template, &mut out.buf)?;
                    if let Some(class) = header.class {
                        self.protect_text_since(class, start, &mut out.buf)?;
                    }
                    Written::Value
                }
            };
            if written == Written::Value {
                push_header(out, header.id, start);
            }
        }
        Ok(())
    }

    /// CloudEvents' JSON format: attributes and data in one object.
    fn write_structured(
        &self,
        event: &Occurrence<'a>,
        fields: &'a [super::rule::Field],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        out.push(b'{');
        for (attribute, header) in ATTRIBUTES.into_iter().zip(EVENT_HEADERS) {
            let name = match attribute {
                Attribute::ContentType => "datacontenttype",
                _ => header.trim_start_matches("ce_"),
            };
            let before = out.len();
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            let start = out.len();
            if self.write_attribute(attribute, event, out)? == Written::Nothing {
                out.truncate(before);
                continue;
            }
            convert::quote_since(start, out);
            out.push(b',');
        }
        out.extend_from_slice(b"\"data\":");
        self.write_object(fields, out)?;
        out.push(b'}');
        Ok(())
    }
}

/// Hexadecimal digits of an ordinal: 2^48 changes in one transaction.
const ORDINAL_DIGITS: usize = 12;

fn push_header(out: &mut EncodedBatch, id: HeaderId, start: usize) {
    let span = out.span_since(start);
    out.headers.push((id, span));
}

fn position(length: usize) -> u32 {
    u32::try_from(length).expect("an encoded batch has fewer than 2^32 headers")
}

fn write_uuid(id: Uuid, out: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut buffer);
    out.extend_from_slice(text.as_bytes());
}

fn write_display(value: &impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("writing to memory cannot fail");
}

/// Appends at least `digits` hexadecimal digits.
fn write_hex(number: u64, digits: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4) as usize;
    for digit in (0..digits.max(needed)).rev() {
        out.push(DIGITS[usize::from((number >> (digit * 4)).to_le_bytes()[0] & 0xF)]);
    }
}
