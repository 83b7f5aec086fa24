//! What is known of one partition: which reservations have events in the retry topic, and what is done already.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use crate::event::Event;

/// How long it is remembered that an event is done: longer than `hotel.stays` keeps it.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(48 * 60 * 60);

#[derive(Default)]
pub(crate) struct Partition {
    /// Offsets in `hotel.stays` of what lies in the retry topic, by reservation.
    parked: BTreeMap<String, BTreeSet<i64>>,
    done: HashSet<String>,
    /// The same, oldest first, with the time in milliseconds since 1970-01-01 UTC.
    done_at: VecDeque<(i64, String)>,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It was done or given up before.
    Over,
    /// An earlier one of its reservation waits.
    Behind,
    Now,
}

impl Partition {
    pub(crate) fn turn(&self, event: &Event) -> Turn {
        let first = self.parked.get(event.key()).and_then(BTreeSet::first);
        if self.done.contains(event.id()) {
            Turn::Over
        } else if first.is_some_and(|first| *first < event.origin) {
            Turn::Behind
        } else {
            Turn::Now
        }
    }

    /// The event is in the retry topic, perhaps again.
    pub(crate) fn park(&mut self, event: &Event) {
        let parked = self.parked.entry(event.key().to_owned()).or_default();
        parked.insert(event.origin);
    }

    /// The event is over and no longer in the retry topic, if it ever was.
    pub(crate) fn let_go(&mut self, event: &Event) {
        if let Some(parked) = self.parked.get_mut(event.key()) {
            parked.remove(&event.origin);
            if parked.is_empty() {
                self.parked.remove(event.key());
            }
        }
    }

    /// The event with this id is done, or given up.
    pub(crate) fn remember(&mut self, id: &str, at: i64) {
        if self.done.insert(id.to_owned()) {
            self.done_at.push_back((at, id.to_owned()));
        }
        let oldest = at - i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
        while let Some((_, id)) = self.done_at.pop_front_if(|(at, _)| *at < oldest) {
            self.done.remove(&id);
        }
    }
}
