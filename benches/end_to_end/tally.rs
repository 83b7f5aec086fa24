//! What came of a backlog: its events, counted against what each update was to give.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::{EndOffsets, Event, read_each};

use crate::Servers;
use crate::backlog::{Backlog, Expected};
use crate::pipeline::Pipeline;

/// Topics of the pack, by what follows the pipeline's name.
pub(crate) const TOPICS: [&str; 2] = ["inventory", "bookings"];

/// The last stable offsets of [`TOPICS`], by partition.
type Stable = [BTreeMap<i32, i64>; TOPICS.len()];

/// Watches how far readers can see, time and again; which sample covered the last event is known afterwards.
pub(crate) struct Watch {
    ends: [EndOffsets; TOPICS.len()],
    samples: Vec<(Duration, Stable)>,
}

impl Watch {
    pub(crate) fn new(servers: &Servers, pipeline: &Pipeline) -> Result<Self> {
        let [inventory, bookings] = TOPICS.map(|topic| {
            EndOffsets::committed(&servers.kafka.brokers(), &pipeline.topic_named(topic))
        });
        Ok(Self {
            ends: [inventory?, bookings?],
            samples: Vec::new(),
        })
    }

    pub(crate) fn sample(&mut self, elapsed: Duration) -> Result<()> {
        let [inventory, bookings] = &self.ends;
        let stable = [inventory.read()?, bookings.read()?];
        self.samples.push((elapsed, stable));
        Ok(())
    }

    /// When readers could first see all of `places`.
    fn covered(&self, places: &[Place]) -> Result<Duration> {
        let covers = |stable: &Stable| {
            let mut places = places.iter();
            places.all(|place| {
                let end = stable[place.topic].get(&place.partition);
                end.is_some_and(|end| *end > place.offset)
            })
        };
        let first = self.samples.iter().find(|(_, stable)| covers(stable));
        let (elapsed, _) =
            first.context("the last event was never covered by the last stable offset")?;
        Ok(*elapsed)
    }
}

/// Where an event is.
#[derive(Clone, Copy, Default)]
struct Place {
    topic: usize,
    partition: i32,
    offset: i64,
}

/// The events of one drain.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) lost: u64,
    /// Came before, or were not to come at all.
    pub(crate) duplicates: u64,
    /// From the start of the samples until readers could see the last update's events.
    pub(crate) took: Duration,
}

/// Which updates gave one of their events, and where the last one's is.
struct Column<'a> {
    expected: &'a Expected,
    seen: Vec<bool>,
    last: Place,
}

impl Column<'_> {
    /// Whether the event is one that was expected and did not come before.
    fn take(&mut self, event: &Event, place: Place) -> bool {
        let number = number_in(&event.field(self.expected.field));
        if number + 1 == self.seen.len() {
            self.last = place;
        }
        let seen = self.seen.get_mut(number).filter(|_| number > 0);
        seen.is_some_and(|seen| !std::mem::replace(seen, true))
    }

    fn lost(&self) -> u64 {
        self.seen.iter().skip(1).filter(|seen| !**seen).count() as u64
    }
}

/// Reads back what `pipeline` published of `backlog`.
pub(crate) fn count(
    servers: &Servers,
    pipeline: &Pipeline,
    backlog: &Backlog<'_>,
    watch: &Watch,
) -> Result<Tally> {
    let mut columns: Vec<Column<'_>> = backlog
        .update
        .gives
        .iter()
        .map(|expected| Column {
            expected,
            seen: vec![false; usize::try_from(backlog.rows).unwrap_or(usize::MAX) + 1],
            last: Place::default(),
        })
        .collect();
    let (mut events, mut duplicates) = (0, 0);
    for (topic, name) in TOPICS.iter().enumerate() {
        read_each(
            &servers.kafka.brokers(),
            &pipeline.topic_named(name),
            |event| {
                events += 1;
                let place = Place {
                    topic,
                    partition: event.partition,
                    offset: event.offset,
                };
                let column = columns.iter_mut().find(|column| {
                    column.expected.kind == event.kind() && column.expected.topic == *name
                });
                if !column.is_some_and(|column| column.take(&event, place)) {
                    duplicates += 1;
                }
            },
        )?;
    }
    let last: Vec<Place> = columns.iter().map(|column| column.last).collect();
    Ok(Tally {
        events,
        lost: columns.iter().map(Column::lost).sum(),
        duplicates,
        took: watch.covered(&last)?,
    })
}

/// The update's number in a value that was made of it: its digits.
fn number_in(text: &str) -> usize {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}
