//! What the histories of one test run came by: a test that never sees a thing does not test it.

use std::collections::BTreeMap;

use super::naive::Expected;
use super::rules::{Body, Event, Of, Rules};

/// How often what was expected.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, usize>);

/// What a run of some length sees of, and how often at least in a thousand histories.
const EVERYTHING: [(&str, usize); 14] = [
    ("event", 1000),
    ("event of several rows", 20),
    ("event of an element", 20),
    ("event of a transition", 10),
    ("event with a lookup", 200),
    ("event with two lookups", 20),
    ("event that takes none back, though its rule would", 20),
    ("event that takes one back", 10),
    ("event of a rule with before = state", 100),
    ("tombstone", 50),
    ("rule set aside", 100),
    ("event of several rows set aside", 5),
    ("lifecycle set aside", 20),
    ("run that began inside a transaction", 100),
];

/// Fewer histories than this are somebody's debugging.
const ENOUGH: u32 = 1000;

impl Tally {
    pub(super) fn add(&mut self, what: &'static str, count: usize) {
        *self.0.entry(what).or_default() += count;
    }

    pub(super) fn count(&mut self, rules: &Rules, expected: &[Expected]) {
        for expected in expected {
            match expected {
                Expected::Aside { rule } if rule.starts_with("lifecycle") => {
                    self.add("lifecycle set aside", 1);
                }
                Expected::Aside { rule } => match named(rules, rule).map(|event| &event.of) {
                    Some(Of::Rows(_)) => self.add("event of several rows set aside", 1),
                    _ => self.add("rule set aside", 1),
                },
                Expected::Event { rule, reverts, .. } => {
                    self.add("event", 1);
                    if let Some(event) = named(rules, rule) {
                        self.event(rules, event, reverts.is_some());
                    }
                }
            }
        }
    }

    fn event(&mut self, rules: &Rules, event: &Event, takes_back: bool) {
        let mut add_if = |is_one: bool, what| self.add(what, usize::from(is_one));
        add_if(!event.lookups.is_empty(), "event with a lookup");
        add_if(event.lookups.len() > 1, "event with two lookups");
        add_if(matches!(event.body, Body::Tombstone), "tombstone");
        add_if(takes_back, "event that takes one back");
        match &event.of {
            Of::Rows(_) => add_if(true, "event of several rows"),
            Of::Row(row) => {
                add_if(row.each.is_some(), "event of an element");
                add_if(row.transition.is_some(), "event of a transition");
                let takes_none = row.reverts.is_some() && !takes_back;
                add_if(
                    takes_none,
                    "event that takes none back, though its rule would",
                );
                let from_state = rules.tables[row.table].before_from_state;
                add_if(from_state, "event of a rule with before = state");
            }
        }
    }

    /// Holds the counts of a test run against what it has to see of.
    pub(super) fn is_of_everything(&self, histories: u32) {
        println!("{histories} histories: {:#?}", self.0);
        if histories < ENOUGH {
            return;
        }
        for (what, in_a_thousand) in EVERYTHING {
            let found = self.0.get(what).copied().unwrap_or(0);
            let least = in_a_thousand * histories as usize / 1000;
            assert!(found >= least, "{what}: {found} times, and not {least}");
        }
    }
}

/// The rule of a name; the first, where two give one type.
fn named<'r>(rules: &'r Rules, name: &str) -> Option<&'r Event> {
    rules.events.iter().find(|event| event.name == name)
}
