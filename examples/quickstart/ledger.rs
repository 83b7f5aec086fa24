//! What should have arrived, what did, and the count at the end.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use anyhow::{Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};

use crate::story::{Expected, Statement};

const EVENT_TOPICS: [&str; 3] = ["travel.bookings", "travel.inventory", "travel.prices"];

/// Longest part of a body that is printed, in characters.
const SHOWN_BODY: usize = 150;

/// Longest list of events that is printed for one statement.
const SHOWN_EVENTS: usize = 5;

pub(crate) struct Ledger {
    brokers: String,
    quarantine: String,
    expected: BTreeMap<Expected, usize>,
    /// How many events of each topic and partition were printed already.
    told: BTreeMap<(String, i32), usize>,
}

/// The count at the end.
pub(crate) struct Count {
    events: usize,
    duplicates: usize,
    lost: usize,
}

impl Count {
    pub(crate) const fn is_clean(&self) -> bool {
        self.duplicates == 0 && self.lost == 0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "events {} duplicates {} lost {}",
            self.events, self.duplicates, self.lost
        )
    }
}

impl Ledger {
    pub(crate) fn new(brokers: &str, pipeline: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            quarantine: format!("rowbridge.{pipeline}.quarantine"),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// The rows that exist at first start.
    pub(crate) fn first_start(&mut self, statement: &Statement) -> Result<()> {
        println!("\n     {}", statement.say);
        self.tell(statement)
    }

    /// Prints the events that came since the last call, and fails if they are not the statement's.
    pub(crate) fn tell(&mut self, statement: &Statement) -> Result<()> {
        let mut seen = BTreeMap::new();
        let mut shown = 0;
        for event in self.read()? {
            let told = self
                .told
                .entry((event.topic.clone(), event.partition))
                .or_default();
            let number = seen
                .entry((event.topic.clone(), event.partition))
                .or_insert(0_usize);
            *number += 1;
            if *number <= *told {
                continue;
            }
            *told = *number;
            shown += 1;
            if shown <= SHOWN_EVENTS {
                println!("     {}", self.line(&event));
            }
        }
        match shown {
            0 => println!("     -> nothing"),
            _ if shown > SHOWN_EVENTS => println!("     -> and {} more", shown - SHOWN_EVENTS),
            _ => {}
        }
        for event in &statement.events {
            *self.expected.entry(event.clone()).or_default() += 1;
        }
        ensure!(
            shown == statement.events.len(),
            "{:?} should have given {} events and gave {shown}",
            statement.say,
            statement.events.len()
        );
        Ok(())
    }

    /// Reads everything from the beginning with a fresh consumer and counts.
    pub(crate) fn count(&self) -> Result<Count> {
        let events = self.read()?;
        let mut missing = self.expected.clone();
        let mut ids = HashSet::new();
        let mut duplicates = 0;
        for event in &events {
            if !ids.insert(self.id(event)) {
                duplicates += 1;
            }
            if let Some(count) = missing.get_mut(&self.as_expected(event)) {
                *count = count.saturating_sub(1);
            }
        }
        Ok(Count {
            events: events.len(),
            duplicates,
            lost: missing.values().sum(),
        })
    }

    fn read(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for topic in EVENT_TOPICS.into_iter().chain([self.quarantine.as_str()]) {
            events.extend(read_all(&self.brokers, topic)?);
        }
        Ok(events)
    }

    /// What makes a record one of a kind; a quarantine record has no event id.
    fn id(&self, event: &Event) -> (String, String) {
        let id = if event.topic == self.quarantine {
            ["position", "tx", "rule"]
                .map(|name| event.field(name))
                .join(" ")
        } else {
            event.id().to_owned()
        };
        (event.topic.clone(), id)
    }

    /// The type of an event, or of what a quarantine record would have been.
    fn kind(&self, event: &Event) -> String {
        if event.topic == self.quarantine {
            event.field("rule")
        } else {
            event.kind().to_owned()
        }
    }

    fn as_expected(&self, event: &Event) -> Expected {
        let quarantined = event.topic == self.quarantine;
        Expected {
            topic: if quarantined {
                topic_of(&self.kind(event))
            } else {
                event.topic.clone()
            },
            event_type: self.kind(event),
            key: event.key.clone(),
            quarantined,
            tombstone: event.value.is_none(),
        }
    }

    fn line(&self, event: &Event) -> String {
        let body = event
            .value
            .as_ref()
            .map_or_else(|| "tombstone".to_owned(), ToString::to_string);
        let body = match body.char_indices().nth(SHOWN_BODY) {
            Some((end, _)) => format!("{}…", &body[..end]),
            None => body,
        };
        let arrow = if event.topic == self.quarantine {
            "-x"
        } else {
            "->"
        };
        format!(
            "{arrow} {:<20} {}  {}\n        {body}",
            self.kind(event),
            event.topic,
            event.key
        )
    }
}

/// The topic that a quarantined event would have gone to; the record itself tells type and key.
fn topic_of(event_type: &str) -> String {
    match event_type {
        "SeatSold" | "InventoryReleased" | "SeatAssigned" | "SeatReassigned" | "SeatReleased" => {
            "travel.inventory"
        }
        "PriceChanged" => "travel.prices",
        _ => "travel.bookings",
    }
    .to_owned()
}
