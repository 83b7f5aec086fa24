//! A change event as the server sends it, read in one pass, and large ones put together again.
//!
//! Source: MongoDB manual, "Change Events". Fields that are not known are passed over, and so are operations: later
//! versions add both.

use std::borrow::Cow;

use bson::raw::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{RawBson, Timestamp};

/// An event that does not have what every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    #[error("an event without `{0}`")]
    Missing(&'static str),
    #[error("an event that is not valid BSON")]
    Damaged,
    #[error("fragments of a large event that do not follow each other")]
    Fragments,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Insert,
    Update,
    Replace,
    Delete,
    Drop,
    Rename,
    DropDatabase,
    Invalidate,
    /// Nothing that this program knows.
    Other,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) token: &'a RawDocument,
    pub(crate) operation: Operation,
    pub(crate) time: Timestamp,
    /// The server's clock in milliseconds, from 6.0 on.
    pub(crate) wall_millis: Option<i64>,
    pub(crate) place: Option<Place<'a>>,
    /// What a collection is renamed to.
    pub(crate) target: Option<Place<'a>>,
    pub(crate) key: Option<&'a RawDocument>,
    pub(crate) full: Option<&'a RawDocument>,
    pub(crate) before: Option<&'a RawDocument>,
    pub(crate) update: Option<Update<'a>>,
    /// Number of its transaction in its session.
    pub(crate) transaction: Option<i64>,
}

/// A database and a collection; the latter is empty for what concerns the whole database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) database: &'a str,
    pub(crate) collection: &'a str,
}

/// What an update did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update<'a> {
    pub(crate) updated: &'a RawDocument,
    pub(crate) removed: &'a RawArray,
    pub(crate) truncated: Option<&'a RawArray>,
    /// Paths that could be read in two ways, step by step (6.1 and later).
    pub(crate) disambiguated: Option<&'a RawDocument>,
}

impl<'a> Event<'a> {
    pub(crate) fn read(document: &'a RawDocument) -> Result<Self, EventError> {
        let (mut token, mut operation, mut time) = (None, None, None);
        let mut event = Fields::default();
        for field in document {
            let (name, value) = field.map_err(|_| EventError::Damaged)?;
            match (name.as_str(), value) {
                ("_id", RawBsonRef::Document(value)) => token = Some(value),
                ("operationType", RawBsonRef::String(name)) => {
                    operation = Some(self::operation(name));
                }
                ("clusterTime", RawBsonRef::Timestamp(value)) => time = Some(value),
                ("wallTime", RawBsonRef::DateTime(value)) => {
                    event.wall_millis = Some(value.timestamp_millis());
                }
                ("ns", RawBsonRef::Document(value)) => event.place = place(value)?,
                ("to", RawBsonRef::Document(value)) => event.target = place(value)?,
                ("documentKey", RawBsonRef::Document(value)) => event.key = Some(value),
                ("fullDocument", RawBsonRef::Document(value)) => event.full = Some(value),
                ("fullDocumentBeforeChange", RawBsonRef::Document(value)) => {
                    event.before = Some(value);
                }
                ("updateDescription", RawBsonRef::Document(value)) => {
                    event.update = Some(update(value)?);
                }
                ("txnNumber", RawBsonRef::Int64(value)) => event.transaction = Some(value),
                _ => {}
            }
        }
        Ok(Self {
            token: token.ok_or(EventError::Missing("_id"))?,
            operation: operation.ok_or(EventError::Missing("operationType"))?,
            // An invalidate of older servers has none of its own.
            time: time.unwrap_or(Timestamp {
                time: 0,
                increment: 0,
            }),
            wall_millis: event.wall_millis,
            place: event.place,
            target: event.target,
            key: event.key,
            full: event.full,
            before: event.before,
            update: event.update,
            transaction: event.transaction,
        })
    }
}

/// What not every event has.
#[derive(Default)]
struct Fields<'a> {
    wall_millis: Option<i64>,
    place: Option<Place<'a>>,
    target: Option<Place<'a>>,
    key: Option<&'a RawDocument>,
    full: Option<&'a RawDocument>,
    before: Option<&'a RawDocument>,
    update: Option<Update<'a>>,
    transaction: Option<i64>,
}

fn operation(name: &str) -> Operation {
    match name {
        "insert" => Operation::Insert,
        "update" => Operation::Update,
        "replace" => Operation::Replace,
        "delete" => Operation::Delete,
        "drop" => Operation::Drop,
        "rename" => Operation::Rename,
        "dropDatabase" => Operation::DropDatabase,
        "invalidate" => Operation::Invalidate,
        _ => Operation::Other,
    }
}

fn place(document: &RawDocument) -> Result<Option<Place<'_>>, EventError> {
    let (mut database, mut collection) = (None, "");
    for field in document {
        let (name, value) = field.map_err(|_| EventError::Damaged)?;
        match (name.as_str(), value) {
            ("db", RawBsonRef::String(name)) => database = Some(name),
            ("coll", RawBsonRef::String(name)) => collection = name,
            _ => {}
        }
    }
    Ok(database.map(|database| Place {
        database,
        collection,
    }))
}

fn update(document: &RawDocument) -> Result<Update<'_>, EventError> {
    let (mut updated, mut removed, mut truncated, mut disambiguated) = (None, None, None, None);
    for field in document {
        let (name, value) = field.map_err(|_| EventError::Damaged)?;
        match (name.as_str(), value) {
            ("updatedFields", RawBsonRef::Document(value)) => updated = Some(value),
            ("removedFields", RawBsonRef::Array(value)) => removed = Some(value),
            ("truncatedArrays", RawBsonRef::Array(value)) => truncated = Some(value),
            ("disambiguatedPaths", RawBsonRef::Document(value)) => disambiguated = Some(value),
            _ => {}
        }
    }
    Ok(Update {
        updated: updated.ok_or(EventError::Missing("updateDescription.updatedFields"))?,
        removed: removed.ok_or(EventError::Missing("updateDescription.removedFields"))?,
        truncated,
        disambiguated,
    })
}

/// Puts together events that the server had to split (`$changeStreamSplitLargeEvent`).
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// The fields so far, and how many fragments they are of.
    begun: Option<(RawDocumentBuf, i32)>,
}

impl Fragments {
    /// The whole event, once its last fragment is there. Only that one's token may be resumed from.
    pub(crate) fn add<'a>(
        &mut self,
        document: &'a RawDocument,
    ) -> Result<Option<Cow<'a, RawDocument>>, EventError> {
        let damaged = |_| EventError::Damaged;
        let Some(split) = document.get("splitEvent").map_err(damaged)? else {
            let whole = self.begun.is_none().then_some(Cow::Borrowed(document));
            return whole.map(Some).ok_or(EventError::Fragments);
        };
        let RawBsonRef::Document(split) = split else {
            return Err(EventError::Damaged);
        };
        let number = |name| split.get_i32(name).map_err(|_| EventError::Damaged);
        let (fragment, of) = (number("fragment")?, number("of")?);
        let (mut fields, before) = self.begun.take().unwrap_or_default();
        if fragment != before + 1 || fragment > of {
            return Err(EventError::Fragments);
        }
        let mut token = None;
        for field in document {
            let (name, value) = field.map_err(damaged)?;
            match name.as_str() {
                "_id" => token = Some(RawBson::from(value)),
                "splitEvent" => {}
                _ => fields.append(name, RawBson::from(value)),
            }
        }
        if fragment < of {
            self.begun = Some((fields, fragment));
            return Ok(None);
        }
        fields.append(bson::cstr!("_id"), token.ok_or(EventError::Missing("_id"))?);
        Ok(Some(Cow::Owned(fields)))
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any division of an event's fields into fragments gives the event again.
        #[test]
        fn fragments_are_put_together(cuts in proptest::collection::btree_set(1_usize..5, 0..4)) {
            let whole = rawdoc! {
                "operationType": "update",
                "clusterTime": Timestamp { time: 1, increment: 2 },
                "ns": { "db": "hotel", "coll": "reservations" },
                "documentKey": { "_id": 1 },
                "updateDescription": { "updatedFields": { "a": 1 }, "removedFields": [] },
            };
            let fields: Vec<_> = whole.iter().map(Result::unwrap).collect();
            let mut bounds: Vec<usize> = cuts.into_iter().collect();
            bounds.push(fields.len());
            let of = i32::try_from(bounds.len()).unwrap();
            let mut fragments = Fragments::default();
            let mut start = 0;
            for (number, end) in (1..).zip(bounds) {
                let mut fragment = rawdoc! { "_id": { "_data": format!("82{number}") }, "splitEvent": { "fragment": number, "of": of } };
                for (name, value) in &fields[start..end] {
                    fragment.append(*name, RawBson::from(*value));
                }
                start = end;
                let event = fragments.add(&fragment).unwrap();
                prop_assert_eq!(event.is_some(), number == of);
                if let Some(event) = event {
                    let event = Event::read(&event).unwrap();
                    prop_assert_eq!(event.token.get_str("_data").unwrap(), format!("82{of}"));
                    prop_assert_eq!(event.operation, Operation::Update);
                    prop_assert!(event.update.is_some() && event.key.is_some());
                }
            }
        }
    }

    #[test]
    fn a_fragment_that_does_not_follow_is_told() {
        let fragment = |number: i32| rawdoc! { "_id": { "_data": "82" }, "splitEvent": { "fragment": number, "of": 3 } };
        let mut fragments = Fragments::default();
        assert_eq!(fragments.add(&fragment(2)), Err(EventError::Fragments));
        assert_eq!(fragments.add(&fragment(1)), Ok(None));
        assert_eq!(
            fragments.add(&rawdoc! { "_id": {} }),
            Err(EventError::Fragments)
        );
    }

    #[test]
    fn an_event_without_what_every_event_has_is_told() {
        assert_eq!(
            Event::read(&rawdoc! { "_id": {} }).unwrap_err(),
            EventError::Missing("operationType")
        );
        let event = rawdoc! { "_id": {}, "operationType": "endOfTransaction", "new": 1 };
        assert_eq!(Event::read(&event).unwrap().operation, Operation::Other);
    }
}
