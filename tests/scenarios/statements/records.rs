//! What a pipeline published, as cases see it, and in what it may differ from what a case gives without a server.

use std::collections::HashSet;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use rowbridge::mapping::cases::{Body, Published};
use rowbridge_testbed::consumer::{Event, read_all};

/// Headers that are of the source, the position or the clock.
const OF_THIS_RUN: [&str; 4] = ["ce_id", "ce_source", "ce_sequence", "ce_recordedtime"];

/// Instead of a time that is the commit's.
const OF_THE_COMMIT: &str = "of the commit";

/// Takes the event's time out if it is the commit's.
pub(super) fn without_commit_time(event: &mut Published, commits_at: impl Fn(&str) -> bool) {
    for (name, value) in &mut event.headers {
        if name == "ce_time" && commits_at(value) {
            OF_THE_COMMIT.clone_into(value);
        }
    }
}

/// Instead of a key that is the transaction's number.
const OF_THE_TRANSACTION: &str = "of the transaction";

/// Takes the key out of an event that is keyed by its transaction, as those of a table without a key are.
pub(super) fn without_transaction_key(event: &mut Published, keyed_so: &HashSet<String>) {
    if keyed_so.contains(&event.event_type) {
        event.key = Some(OF_THE_TRANSACTION.to_owned());
    }
}

/// The types of events that are keyed by their transaction, in a mapping's text.
pub(super) fn keyed_by_transaction(mapping: &str) -> Result<HashSet<String>> {
    let mapping: toml::Table = mapping.parse()?;
    let text = |table: Option<&toml::Value>, key: &str| {
        let value = table?.get(key)?.as_str()?;
        Some(value.to_owned())
    };
    let events = mapping.get("event").and_then(toml::Value::as_array);
    let mut types = HashSet::new();
    for event in events.into_iter().flatten() {
        let of_table = || {
            let table = text(Some(event), "table")?;
            text(mapping.get("defaults")?.get(&table), "key")
        };
        let key = text(Some(event), "key").or_else(of_table);
        if key.as_deref() == Some("{$.tx.id}") {
            types.extend(text(Some(event), "type"));
        }
    }
    Ok(types)
}

/// A record with its place in the source.
#[derive(Clone)]
pub(super) struct Record {
    /// Position of its transaction, and what orders it inside.
    place: (u64, String, i64),
    published: Published,
}

/// Everything that a pipeline published so far, in the order of the source.
pub(super) fn read(brokers: &str, topics: &[String], quarantine: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for topic in topics {
        for event in read_all(brokers, topic)? {
            records.push(of_event(event)?);
        }
    }
    for event in read_all(brokers, quarantine)? {
        records.push(of_quarantine(&event)?);
    }
    records.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(records)
}

fn of_event(event: Event) -> Result<Record> {
    let sequence = event.header("ce_sequence").to_owned();
    let (position, inside) = sequence.split_once('-').context("a sequence")?;
    Ok(Record {
        place: (
            u64::from_str_radix(position, 16)?,
            inside.to_owned(),
            event.offset,
        ),
        published: Published {
            event_type: event.kind().to_owned(),
            topic: Some(event.topic.clone()),
            key: Some(event.key.clone()),
            headers: event.headers.clone().into_iter().collect(),
            body: match event.value {
                Some(data) => Body::Data(data),
                None => Body::Tombstone,
            },
        },
    })
}

fn of_quarantine(event: &Event) -> Result<Record> {
    let position = event.field("position");
    let (high, low) = position.split_once('/').context("a position")?;
    let low = low.split(':').next().unwrap_or_default();
    let position = u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?;
    let change = event.value.as_ref().context("the change")?;
    let ordinal = change["tx"]["ordinal"].as_u64().context("its place")?;
    Ok(Record {
        place: (position, format!("{ordinal:012x}"), event.offset),
        published: Published {
            event_type: event.field("rule"),
            topic: None,
            key: Some(event.key.clone()),
            headers: Vec::new(),
            body: Body::Quarantined {
                error: event.field("error"),
            },
        },
    })
}

/// The records of transactions in any of these windows: behind its start and up to its end.
pub(super) fn within(records: &[Record], windows: &[Range<u64>]) -> Vec<Published> {
    let inside = |record: &&Record| {
        let position = record.place.0;
        let mut windows = windows.iter();
        windows.any(|window| position > window.start && position <= window.end)
    };
    let inside = records.iter().filter(inside);
    inside.map(|record| record.published.clone()).collect()
}

/// Holds that the same was published as without a server: events among each other and what was set aside among each
/// other in order, and whole but for what is of the run.
pub(super) fn same(expected: &[Published], published: &[Published]) -> Result<()> {
    for side in [is_event, is_set_aside] {
        let expected: Vec<&Published> = expected.iter().filter(|event| side(event)).collect();
        let published: Vec<&Published> = published.iter().filter(|event| side(event)).collect();
        ensure!(
            expected.len() == published.len(),
            "{} expected, {} published: {}",
            names(&expected),
            names(&published),
            published.len()
        );
        for (number, event) in expected.iter().enumerate() {
            let told = told(event, &expected);
            let found = told_of_run(published[number], event, &published);
            ensure!(told == found, "expected\n  {told}\npublished\n  {found}");
        }
    }
    Ok(())
}

/// As [`same`], for rows whose order nobody promises.
pub(super) fn same_in_any_order(expected: &[Published], published: &[Published]) -> Result<()> {
    let sorted = |events: &[Published]| {
        let mut events = events.to_vec();
        events.sort_by_cached_key(|event| {
            format!("{:?} {:?} {}", event.topic, event.key, body(event))
        });
        events
    };
    same(&sorted(expected), &sorted(published))
}

const fn is_event(event: &Published) -> bool {
    event.topic.is_some()
}

const fn is_set_aside(event: &Published) -> bool {
    event.topic.is_none()
}

fn names(events: &[&Published]) -> String {
    let names = events.iter().map(|event| event.event_type.as_str());
    format!("[{}]", names.collect::<Vec<_>>().join(", "))
}

/// An event without what is of the run.
fn told(event: &Published, all: &[&Published]) -> String {
    told_of_run(event, event, all)
}

/// As [`told`]; what is of the run is where `expected` has it: times of commits, correlations by transaction.
fn told_of_run(event: &Published, expected: &Published, all: &[&Published]) -> String {
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in &event.headers {
        let value = match name.as_str() {
            name if OF_THIS_RUN.contains(&name) => continue,
            "ce_time" if expected.attribute("time") == Some(OF_THE_COMMIT) => OF_THE_COMMIT,
            "ce_correlationid" if is_position(expected) => "the transaction",
            "ce_reverts" => &reverted(value, all),
            _ => value,
        };
        headers.push(format!("{name}: {value}"));
    }
    headers.sort_unstable();
    let is_number = |key: &str| key.parse::<u64>().is_ok();
    let key = match &expected.key {
        Some(key) if key == OF_THE_TRANSACTION && event.key.as_deref().is_some_and(is_number) => {
            &expected.key
        }
        _ => &event.key,
    };
    format!(
        "{} to {:?} with key {:?}: {} [{}]",
        event.event_type,
        event.topic,
        key,
        body(event),
        headers.join(", ")
    )
}

fn body(event: &Published) -> String {
    match &event.body {
        Body::Data(data) => data.to_string(),
        Body::Tombstone => "tombstone".to_owned(),
        Body::Quarantined { error } => error.clone(),
    }
}

fn is_position(event: &Published) -> bool {
    let correlation = event.attribute("correlation").unwrap_or_default();
    let is_hex = |part: &str| !part.is_empty() && part.chars().all(|char| char.is_ascii_hexdigit());
    let halves = correlation.split_once('/');
    halves.is_some_and(|(high, low)| is_hex(high) && is_hex(low))
}

/// Which of a case's events has this id.
fn reverted(id: &str, all: &[&Published]) -> String {
    let place = all
        .iter()
        .position(|event| event.attribute("header ce_id") == Some(id));
    place.map_or_else(|| "unknown".to_owned(), |place| format!("event {place}"))
}
