//! Which rows of a gathered transaction make events together.

use xxhash_rust::xxh3::xxh3_128;

use super::Stop;
use super::context::{Context, Written};
use super::fault::Fault;
use super::file::OnError;
use super::gathered::Gathered;
use super::kept::canonical;
use super::rule::{Joining, Part, RowImage};
use super::rules::{Rules, bad_record, context};
use super::work::Work;

/// The events of several rows of the transaction at hand, and what kept rows from being part of one.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// By the number of the change at which it is made, ascending.
    events: Vec<JoinedEvent>,
    /// Rows that could not be read, by the number of the change, ascending.
    unreadable: Vec<(usize, u16, Fault)>,
    /// By the number of the change: whether it fires no rule of its own.
    consumed: Vec<bool>,
}

/// One event of several rows.
#[derive(Debug)]
pub(super) struct JoinedEvent {
    /// The last of its required parts: the number of the change.
    pub(super) at: usize,
    /// The rule's number.
    pub(super) rule: u16,
    /// The change of each part, if it is there.
    pub(super) parts: Box<[Option<usize>]>,
}

/// A row that may be a part of an event. A transaction may have very many of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Hash of the value that it shares with the other parts, of 128 bits, so that no two values of a transaction have one.
    value: [u8; 16],
    part: u16,
    /// The number of the change.
    at: u32,
}

impl Joins {
    /// Matches the rows of a transaction.
    ///
    /// # Errors
    /// A row whose part cannot be decided, under `on_error = "stop"`; a change that does not fit its shape.
    pub(super) fn of(
        rules: &Rules,
        gathered: &mut Gathered,
        work: &mut Work,
    ) -> Result<Self, Stop> {
        let mut joins = Self {
            consumed: vec![false; gathered.len()],
            ..Self::default()
        };
        for (number, rule) in (0_u16..).zip(&rules.mapping().rules) {
            if let Some(joining) = &rule.joining {
                let first = joins.events.len();
                joins.rule(rules, gathered, number, joining)?;
                if joining.consume {
                    joins.consume(first, rules, gathered, work)?;
                }
            }
        }
        joins.events.sort_by_key(|event| (event.at, event.rule));
        joins.unreadable.sort_by_key(|(at, rule, _)| (*at, *rule));
        Ok(joins)
    }

    fn rule(
        &mut self,
        rules: &Rules,
        gathered: &mut Gathered,
        number: u16,
        joining: &Joining,
    ) -> Result<(), Stop> {
        let mut candidates = Vec::new();
        let mut value = Vec::new();
        for at in 0..gathered.len() {
            let part = self.part_of(rules, gathered, number, joining, at, &mut value)?;
            candidates.extend(part.map(|part| Candidate {
                value: xxh3_128(&value).to_be_bytes(),
                part,
                at: u32::try_from(at).expect("a transaction has fewer changes"),
            }));
        }
        candidates.sort_unstable();
        for group in candidates.chunk_by(|one, other| one.value == other.value) {
            self.group(number, joining, group);
        }
        Ok(())
    }

    /// Takes the rows of events, from one on, from the rules of their own; but not where the event's condition says
    /// that there is none: a change is not lost by finding a partner.
    fn consume(
        &mut self,
        first: usize,
        rules: &Rules,
        gathered: &mut Gathered,
        work: &mut Work,
    ) -> Result<(), Stop> {
        for event in &self.events[first..] {
            if rules.is_wanted(gathered, event, work)? {
                for row in event.parts.iter().flatten() {
                    self.consumed[*row] = true;
                }
            }
        }
        Ok(())
    }

    /// The number of the part that a change is, and the value that it shares with the others.
    fn part_of(
        &mut self,
        rules: &Rules,
        gathered: &mut Gathered,
        number: u16,
        joining: &Joining,
        at: usize,
        value: &mut Vec<u8>,
    ) -> Result<Option<u16>, Stop> {
        let row = gathered.row(at)?;
        let (batch, change) = (row.batch(), row.change());
        let tx = gathered.transaction(&row);
        let Some((table, bound)) = rules.bound_table(change, tx)? else {
            return Ok(None);
        };
        let is_it = |part: &Part| part.table == table && part.ops.contains(change.op);
        let mut parts = (0_u16..).zip(&joining.parts);
        let context = context(
            rules.mapping(),
            table,
            bound,
            rules.stamp(),
            batch,
            tx,
            change,
        );
        let context = context.with_image(RowImage::Current);
        let found = parts.find_map(|(part, known)| {
            if !is_it(known) {
                return None;
            }
            match context.is_part(known) {
                Ok(false) => None,
                Ok(true) => Some(Ok((part, known))),
                Err(fault) => Some(Err(fault)),
            }
        });
        value.clear();
        let written = match found {
            None => return Ok(None),
            Some(Err(fault)) => Err(fault),
            Some(Ok((part, known))) => context.write_text(&known.by, value).map(|written| {
                if let Some(ty) = context.type_of(&known.by) {
                    canonical(ty, value);
                }
                (written == Written::Value).then_some(part)
            }),
        };
        match written {
            Ok(part) => Ok(part),
            Err(fault) if rules.mapping().on_error == OnError::Stop => {
                let rule = &rules.mapping().rules[usize::from(number)];
                Err(bad_record(&context, rule, &fault))
            }
            Err(fault) => {
                self.unreadable.push((at, number, fault));
                Ok(None)
            }
        }
    }

    /// Pairs the rows that share a value in their order; one that finds no partner stays on its own.
    fn group(&mut self, number: u16, joining: &Joining, group: &[Candidate]) {
        let rows_of = |number: u16| {
            let from = group.partition_point(|row| row.part < number);
            let to = group.partition_point(|row| row.part <= number);
            &group[from..to]
        };
        let parts = || {
            (0..)
                .zip(&joining.parts)
                .map(|(at, part)| (part, rows_of(at)))
        };
        let required = || {
            let required = parts().filter(|(part, _)| part.is_required);
            required.map(|(_, rows)| rows)
        };
        let events = required().map(<[_]>::len).min().unwrap_or(0);
        let change = |row: &Candidate| row.at as usize;
        for event in 0..events {
            let parts: Box<[Option<usize>]> = parts()
                .map(|(part, rows)| match part.is_required {
                    true => Some(change(&rows[event])),
                    // One for all pairs.
                    false => rows.first().map(change),
                })
                .collect();
            let at = required().map(|rows| change(&rows[event])).max();
            let at = at.unwrap_or_default();
            self.events.push(JoinedEvent {
                at,
                rule: number,
                parts,
            });
        }
    }

    /// Whether a change fires no rule of its own.
    pub(super) fn consumes(&self, at: usize) -> bool {
        self.consumed.get(at).copied().unwrap_or(false)
    }

    /// The events that are made at a change, in file order.
    pub(super) fn events_at(&self, at: usize) -> &[JoinedEvent] {
        let start = self.events.partition_point(|event| event.at < at);
        let end = self.events.partition_point(|event| event.at <= at);
        &self.events[start..end]
    }

    /// The rules that a change may be part of and cannot be read for.
    pub(super) fn unreadable_at(&self, at: usize) -> impl Iterator<Item = (u16, &Fault)> {
        let found = self.unreadable.iter().filter(move |(row, _, _)| *row == at);
        found.map(|(_, rule, fault)| (*rule, fault))
    }

    /// The events that a rule makes and the rows it has consumed, of a change: whether it is a part of any.
    pub(super) fn is_part(&self, rule: u16, at: usize) -> bool {
        let mut events = self.events.iter().filter(|event| event.rule == rule);
        events.any(|event| event.parts.contains(&Some(at)))
    }
}

impl<'a> Context<'a> {
    /// Whether a row of the part's table and operation is what the part is after.
    fn is_part(&self, part: &'a Part) -> Result<bool, Fault> {
        if self.not_in(&part.only)?.is_some() {
            return Ok(false);
        }
        part.when
            .as_ref()
            .map_or(Ok(true), |when| self.holds(&when.condition))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
