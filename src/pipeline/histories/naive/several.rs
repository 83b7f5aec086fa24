//! Events of several rows of one transaction.

use std::collections::BTreeSet;

use super::super::condition::{Place, Side};
use super::super::rules::{Event, Of, OfRows};
use super::super::story::Change;
use super::super::table::Value;
use super::reading::Found;
use super::{Unreadable, World};

/// Which rows of one transaction belong together.
#[derive(Default)]
pub(super) struct Several {
    made: Vec<MadeOf>,
    /// Change and rule.
    unreadable: Vec<(usize, usize)>,
    /// Changes that fire no rule of their own.
    pub(super) consumed: BTreeSet<usize>,
}

/// One event of several rows.
struct MadeOf {
    /// The change at which it is made: the last of its required parts.
    at: usize,
    rule: usize,
    parts: Vec<Option<usize>>,
}

pub(super) struct Made<'s> {
    pub(super) rule: usize,
    pub(super) parts: &'s [Option<usize>],
}

impl Several {
    pub(super) fn unreadable_at(&self, at: usize) -> impl Iterator<Item = usize> {
        let here = self
            .unreadable
            .iter()
            .filter(move |(change, _)| *change == at);
        here.map(|(_, rule)| *rule)
    }

    pub(super) fn made_at(&self, at: usize) -> impl Iterator<Item = Made<'_>> {
        let here = self.made.iter().filter(move |made| made.at == at);
        here.map(|made| Made {
            rule: made.rule,
            parts: &made.parts,
        })
    }
}

pub(super) fn of(world: World<'_>, transaction: usize) -> Several {
    let mut several = Several::default();
    for (rule, event) in world.rules.events.iter().enumerate() {
        if let Of::Rows(rows) = &event.of {
            several.rule(world, transaction, (rule, event), rows);
        }
    }
    several
}

impl Several {
    fn rule(
        &mut self,
        world: World<'_>,
        transaction: usize,
        (rule, event): (usize, &Event),
        rows: &OfRows,
    ) {
        // By part and value, the changes in their order.
        let mut matched: Vec<(usize, Value, usize)> = Vec::new();
        for (at, change) in world.story.transactions[transaction]
            .changes
            .iter()
            .enumerate()
        {
            match part_of(world, transaction, rows, change) {
                Ok(Some((part, value))) => matched.push((part, value, at)),
                Ok(None) => {}
                Err(Unreadable) => self.unreadable.push((at, rule)),
            }
        }
        let mut values: Vec<Value> = matched.iter().map(|(_, value, _)| *value).collect();
        values.sort_unstable();
        values.dedup();
        for value in values {
            let of_part = |number: usize| -> Vec<usize> {
                let of_value = matched
                    .iter()
                    .filter(|(part, known, _)| *part == number && *known == value);
                of_value.map(|(_, _, at)| *at).collect()
            };
            for nth in 0.. {
                let parts = rows.parts.iter().enumerate();
                let parts: Vec<Option<usize>> = parts
                    .map(|(number, part)| match part.optional {
                        true => of_part(number).first().copied(),
                        false => of_part(number).get(nth).copied(),
                    })
                    .collect();
                let required = || {
                    parts
                        .iter()
                        .zip(&rows.parts)
                        .filter(|(_, part)| !part.optional)
                };
                if required().any(|(at, _)| at.is_none()) {
                    break;
                }
                let at = required().filter_map(|(at, _)| *at).max().unwrap();
                // Where the condition does not hold there is no event, and its rows are on their own.
                if world.of_parts(transaction, &parts).is_wanted(event) == Ok(false) {
                    continue;
                }
                if rows.consume {
                    self.consumed.extend(parts.iter().flatten());
                }
                self.made.push(MadeOf { at, rule, parts });
            }
        }
    }
}

/// The number of the part that a change is, and the value that it shares with the others; null is shared by nobody.
fn part_of(
    world: World<'_>,
    transaction: usize,
    rows: &OfRows,
    change: &Change,
) -> Result<Option<(usize, Value)>, Unreadable> {
    let view = world.of_change(transaction, change, false);
    for (number, part) in rows.parts.iter().enumerate() {
        if part.table != change.table || !part.ops.contains(&change.op) {
            continue;
        }
        if let Some(when) = &part.when
            && !view.holds(when)?
        {
            continue;
        }
        return Ok(match view.read(Place::Own(Side::Row, rows.by))? {
            Found::Is(Some(value)) => Some((number, Some(value))),
            Found::Is(None) | Found::Nothing => None,
        });
    }
    Ok(None)
}
