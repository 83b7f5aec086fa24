//! Whether a rule fires for a change, and what kept it.

use super::context::Context;
use super::fault::Fault;
use super::file::event::Quantifier;
use super::item::Elements;
use super::judge::order;
use super::lifecycle::Step;
use super::rule::{Changed, Each, Only, Rule, Table};

/// Whether a rule fires, or what kept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fires,
    /// `changed`: the first column that is the same (for *any of*: all are).
    Unchanged,
    /// `transition`: the change makes another one, or none.
    NoTransition,
    /// Number of the `only`.
    NotIn(usize),
    /// Number of the `when`.
    WhenFalse(usize),
}

/// What is known of the change at hand; memory kept from change to change.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Per watched place of the table: whether it changed, if asked before.
    changed: Vec<Option<bool>>,
    /// Per lifecycle of the table: what the change does to the state, if asked before.
    pub(super) steps: Vec<Option<Step>>,
    /// Type numbers of the events that fired and how many of each, for the n-th occurrence.
    types: Vec<(u16, u16)>,
    /// How many events fired.
    events: u16,
}

impl Scratch {
    /// Forgets the last change.
    pub(super) fn start(&mut self, table: &Table) {
        self.changed.clear();
        self.changed.resize(table.watched.len(), None);
        self.steps.clear();
        self.steps.resize(table.lifecycles.len(), None);
        self.types.clear();
        self.events = 0;
    }

    /// How many events of any type there were.
    pub(super) fn events(&self) -> u16 {
        self.events
    }

    /// Counts one more event of a type, and says how many there were.
    pub(super) fn occurrence(&mut self, type_number: u16) -> u16 {
        self.events = self.events.saturating_add(1);
        let mut types = self.types.iter_mut();
        let Some((_, fired)) = types.find(|(known, _)| *known == type_number) else {
            self.types.push((type_number, 1));
            return 0;
        };
        let before = *fired;
        *fired = before.saturating_add(1);
        before
    }
}

impl<'a> Context<'a> {
    /// Whether a rule of this table and operation fires.
    ///
    /// # Errors
    /// Something it has to read is unavailable or is not a value of its type.
    pub(super) fn verdict(&self, rule: &'a Rule, scratch: &mut Scratch) -> Result<Verdict, Fault> {
        match self.of_the_change(rule, scratch)? {
            Verdict::Fires => self.guarded(rule),
            other => Ok(other),
        }
    }

    /// What the change alone says, before any condition.
    pub(super) fn of_the_change(
        &self,
        rule: &'a Rule,
        scratch: &mut Scratch,
    ) -> Result<Verdict, Fault> {
        if let Some(changed) = &rule.changed
            && !self.any_or_all_changed(changed, scratch)?
        {
            return Ok(Verdict::Unchanged);
        }
        if let Some(transition) = &rule.transition
            && !transition.is(self.step(transition.lifecycle, scratch)?)
        {
            return Ok(Verdict::NoTransition);
        }
        if let Some(only) = self.not_in(&rule.only)? {
            return Ok(Verdict::NotIn(only));
        }
        Ok(Verdict::Fires)
    }

    /// The elements that a rule with `each` makes events of, unless the change alone keeps it from firing.
    ///
    /// # Errors
    /// Something it has to read is unavailable, or there is something else than an array.
    pub(super) fn elements_if(
        &self,
        rule: &'a Rule,
        each: &Each,
        scratch: &mut Scratch,
    ) -> Result<Option<Elements>, Fault> {
        match self.of_the_change(rule, scratch)? {
            Verdict::Fires => self.elements(each).map(Some),
            _ => Ok(None),
        }
    }

    /// What the conditions say.
    pub(super) fn guarded(&self, rule: &'a Rule) -> Result<Verdict, Fault> {
        for (number, guard) in rule.when.iter().enumerate() {
            if !self.holds(&guard.condition)? {
                return Ok(Verdict::WhenFalse(number));
            }
        }
        Ok(Verdict::Fires)
    }

    /// The number of the first `only` whose column is not in its list.
    pub(super) fn not_in(&self, only: &'a [Only]) -> Result<Option<usize>, Fault> {
        for (number, only) in only.iter().enumerate() {
            let found = self.read(&only.place)?;
            let mut listed = false;
            for value in &only.values {
                listed |= order(&found, &value.found())?.is_some_and(std::cmp::Ordering::is_eq);
            }
            if !listed {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn any_or_all_changed(&self, changed: &Changed, scratch: &mut Scratch) -> Result<bool, Fault> {
        let wanted = changed.quantifier == Quantifier::Any;
        for &watched in &changed.watched {
            if self.watched_changed(watched, scratch)? == wanted {
                return Ok(wanted);
            }
        }
        Ok(!wanted)
    }

    /// Whether a watched place changed, asked once per change.
    pub(super) fn watched_changed(
        &self,
        watched: u16,
        scratch: &mut Scratch,
    ) -> Result<bool, Fault> {
        let watched = usize::from(watched);
        if let Some(known) = scratch.changed[watched] {
            return Ok(known);
        }
        let changed = self.changed(&self.table.watched[watched])?;
        scratch.changed[watched] = Some(changed);
        Ok(changed)
    }

    /// Every check of a rule that fires.
    pub(super) fn checked(&self, rule: &'a Rule) -> Result<(), Fault> {
        for check in &rule.checks {
            if !self.holds(&check.condition)? {
                return Err(Fault::check(&check.message));
            }
        }
        Ok(())
    }
}
