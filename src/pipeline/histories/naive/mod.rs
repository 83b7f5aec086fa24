//! The model: what a mapping makes of a history, computed from docs/mapping.md in the slow, obvious way.
//!
//! It sees the whole history at once: every version of every row and every table as it was when each transaction had
//! committed. It shares nothing with the evaluator but the meaning.

mod entities;
mod lifecycle;
mod lookup;
mod reading;
mod several;
mod value;
mod writing;

use rowbridge_api::Op;

use self::entities::{Entities, Id};
use self::reading::View;
use super::rules::{Event, Of, OfRow, Rules};
use super::story::{Change, Story};

/// Something that cannot be read, or is not there and should be: the event is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What is expected to be published, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Event {
        topic: &'static str,
        rule: String,
        key: String,
        /// Nothing: a tombstone.
        value: Option<String>,
        id: Id,
        reverts: Option<Id>,
    },
    /// Set aside, under the event's type or the lifecycle's name.
    Aside { rule: String },
}

/// Everything that is known: the rules and the whole history.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) rules: &'a Rules,
    pub(super) story: &'a Story,
}

/// What becomes of one rule at one change.
enum Outcome {
    Nothing,
    Aside,
    Published { key: String, value: Option<String> },
}

/// What the mapping makes of the whole history.
pub(super) fn expected(world: World<'_>) -> Vec<Expected> {
    let mut telling = Telling {
        world,
        entities: Entities::default(),
        expected: Vec::new(),
    };
    for number in 0..world.story.transactions.len() {
        telling.transaction(number);
    }
    telling.expected
}

struct Telling<'a> {
    world: World<'a>,
    entities: Entities,
    expected: Vec<Expected>,
}

impl<'a> Telling<'a> {
    fn transaction(&mut self, number: usize) {
        let world = self.world;
        let several = several::of(world, number);
        for (ordinal, change) in world.story.transactions[number].changes.iter().enumerate() {
            let at = (number, ordinal);
            if let Some(aside) = lifecycle::set_aside(world, change) {
                self.expected.push(Expected::Aside { rule: aside });
            }
            if !several.consumed.contains(&ordinal) {
                for event in &world.rules.events {
                    if let Of::Row(row) = &event.of {
                        self.event_of_row(at, change, event, row);
                    }
                }
            }
            for rule in several.unreadable_at(ordinal) {
                let rule = world.rules.events[rule].name.clone();
                self.expected.push(Expected::Aside { rule });
            }
            for made in several.made_at(ordinal) {
                let event = &world.rules.events[made.rule];
                let outcome = world.of_parts(number, made.parts).outcome(event);
                self.push(at, event, outcome, None);
            }
            self.entities.after(world.rules, change);
        }
    }

    /// The event, or the events, of one row's change.
    fn event_of_row(
        &mut self,
        at: (usize, usize),
        change: &'a Change,
        event: &'a Event,
        row: &'a OfRow,
    ) {
        if row.table != change.table || !row.ops.contains(&change.op) {
            return;
        }
        let view = self.world.of_change(at.0, change, row.image_before);
        let elements = view
            .is_about(row)
            .and_then(|is_about| match (is_about, row.each) {
                (false, _) => Ok(Vec::new()),
                (true, None) => Ok(vec![view.clone()]),
                (true, Some(column)) => {
                    let elements = view.elements(column)?.into_iter();
                    Ok(elements.map(|element| view.at_item(element)).collect())
                }
            });
        match elements {
            Ok(views) => views
                .iter()
                .for_each(|view| self.push_one(at, event, row, view)),
            Err(Unreadable) => {
                self.push(at, event, Outcome::Aside, None);
            }
        }
    }

    fn push_one(&mut self, at: (usize, usize), event: &Event, row: &OfRow, view: &View<'a>) {
        let entity = view.entity(row.table);
        let reverts = row.reverts.as_ref().and_then(|reverted| {
            let entity = entity.as_ref()?;
            self.entities.last(row.table, reverted, entity)
        });
        let outcome = view.outcome(event);
        let is_published = matches!(outcome, Outcome::Published { .. });
        let id = self.push(at, event, outcome, reverts);
        if let (true, Some(entity)) = (is_published && row.ops != [Op::Truncate], entity) {
            self.entities.remember(row.table, &event.name, entity, id);
        }
    }

    fn push(
        &mut self,
        (transaction, ordinal): (usize, usize),
        event: &Event,
        outcome: Outcome,
        reverts: Option<Id>,
    ) -> Id {
        let place = (transaction, ordinal, event.name.clone());
        let is_here = |expected: &&Expected| match expected {
            Expected::Event { id, .. } => id.place == place,
            Expected::Aside { .. } => false,
        };
        let id = Id {
            nth: self.expected.iter().filter(is_here).count(),
            place: place.clone(),
        };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Aside => self.expected.push(Expected::Aside {
                rule: event.name.clone(),
            }),
            Outcome::Published { key, value } => self.expected.push(Expected::Event {
                topic: event.topic,
                rule: event.name.clone(),
                key,
                value,
                id: id.clone(),
                reverts,
            }),
        }
        id
    }
}
