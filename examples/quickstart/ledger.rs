//! What should have arrived, what did, and the count at the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use anyhow::{Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};

use crate::story::{Expected, Story};

/// Longest part of a body that is printed, in characters.
const SHOWN_BODY: usize = 640;

/// Longest list of events that is printed for one statement.
const SHOWN_EVENTS: usize = 5;

pub(crate) struct Ledger {
    brokers: String,
    quarantine: String,
    /// By event type; a quarantine record does not tell where the event would have gone.
    topics: BTreeMap<String, String>,
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
    pub(crate) fn new<W>(brokers: &str, pipeline: &str, story: &Story<W>) -> Self {
        let topics = story
            .events()
            .map(|event| (event.event_type.clone(), event.topic.clone()));
        Self {
            topics: topics.collect(),
            brokers: brokers.to_owned(),
            quarantine: format!("rowbridge.{pipeline}.quarantine"),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Prints the events that came since the last call, and fails if they are not as many as expected.
    pub(crate) fn tell(&mut self, say: &str, events: &[Expected]) -> Result<()> {
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
        for event in events {
            *self.expected.entry(event.clone()).or_default() += 1;
        }
        ensure!(
            shown == events.len(),
            "{say:?} should have given {} events and gave {shown}",
            events.len()
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
        let topics: BTreeSet<&String> = self.topics.values().collect();
        for topic in topics.into_iter().chain([&self.quarantine]) {
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
                let topic = self.topics.get(&self.kind(event));
                topic.cloned().unwrap_or_default()
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
