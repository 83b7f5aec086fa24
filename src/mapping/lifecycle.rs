//! Lifecycles: the states that a row may be in, the transitions between them that are declared, and what one
//! change does. The state is read from the images of the change, so it follows the source always.
//!
//! Null is no state: a row that gets its first state is created, one that loses it has ended, like a deleted one.
//!
//! Not here: which event a transition fires; that is one more condition of a [`super::rule::Rule`].

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::cmp::Ordering;

use rowbridge_api::{Batch, Op, State as Stopped};

use super::Stop;
use super::context::{Context, Found};
use super::diagnostic::At;
use super::expression::column::ColumnPath;
use super::expression::literal::Literal;
use super::expression::path::Place;
use super::fault::{Fault, FaultKind};
use super::file::OnError;
use super::judge::order;
use super::quarantine::Failed;
use super::rule::{Only, Side, Table};
use super::verdict::Scratch;
use crate::event::EncodedBatch;

/// What becomes of a change that makes a transition nobody declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Illegal {
    #[default]
    Quarantine,
    Stop,
    Ignore,
}

/// One `[lifecycle.<name>]`.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    /// `lifecycle <name>`: what it is called among rules.
    pub(super) rule: String,
    /// Its number among rules, after those that give events.
    pub(super) number: u16,
    pub(super) line: usize,
    pub(super) state: ColumnPath,
    /// Every state that the mapping names.
    pub(super) states: Box<[State]>,
    /// The states that a row may be inserted in.
    pub(super) start: Box<[u16]>,
    /// Where they are named, in the same order.
    pub(super) start_at: Box<[At]>,
    /// The transitions that are declared, by events or as silent; sorted.
    pub(super) declared: Box<[(u16, u16)]>,
    /// Where they are declared first, in the same order.
    pub(super) declared_at: Box<[At]>,
    /// The rows whose transitions are checked: all, if empty.
    pub(super) only: Box<[Only]>,
    pub(super) illegal: Illegal,
}

/// A state that the mapping names.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) literal: Literal,
    pub(super) text: String,
}

/// What a change does to the state of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The same state as before.
    Stays,
    /// A row with a state where there was none.
    Enters(Named),
    Moves {
        from: Named,
        to: Named,
    },
    /// Null: the row has no state, or none any more.
    NoState,
    /// The row is gone, and the entity has ended.
    Ends,
}

/// A state as the mapping sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Number in [`Lifecycle::states`].
    Known(u16),
    /// The mapping names no such state.
    Unknown,
}

/// `transition` of a rule.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    /// Number in [`Table::lifecycles`].
    pub(super) lifecycle: u16,
    /// `None`: creation.
    pub(super) from: Option<Box<[u16]>>,
    pub(super) to: Box<[u16]>,
}

/// What a lifecycle makes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Legal(Step),
    /// Number of the `only` that the row does not meet.
    NotIn(usize),
    Illegal(Step),
}

impl Transition {
    /// Whether a step is this transition.
    pub(super) fn is(&self, step: Step) -> bool {
        let among = |states: &[u16], named| match named {
            Named::Known(state) => states.contains(&state),
            Named::Unknown => false,
        };
        match (step, &self.from) {
            (Step::Enters(to), None) => among(&self.to, to),
            (Step::Moves { from, to }, Some(wanted)) => among(wanted, from) && among(&self.to, to),
            _ => false,
        }
    }
}

impl Lifecycle {
    /// Rows that were there before the stream began take their state unchecked.
    fn allows(&self, step: Step, op: Op) -> bool {
        match step {
            Step::Stays | Step::NoState | Step::Ends => true,
            Step::Enters(_) if op == Op::Read => true,
            Step::Enters(Named::Known(state)) => self.start.contains(&state),
            Step::Moves {
                from: Named::Known(from),
                to: Named::Known(to),
            } => self.declared.binary_search(&(from, to)).is_ok(),
            Step::Enters(Named::Unknown) | Step::Moves { .. } => false,
        }
    }

    /// The step in words, with the names of the mapping and never a value of the row.
    pub(super) fn words(&self, step: Step, table: &Table) -> String {
        let column = &table.columns[usize::from(self.state.slot)].name;
        let name = |named| match named {
            _ if self.is_private(table) => "a protected state",
            Named::Known(state) => self.states[usize::from(state)].text.as_str(),
            Named::Unknown => "a state that the mapping does not name",
        };
        match step {
            Step::Stays => format!("{column} is the same"),
            Step::Enters(to) => format!("created as {}", name(to)),
            Step::Moves { from, to } => format!("{} to {}", name(from), name(to)),
            Step::NoState => format!("{column} is null"),
            Step::Ends => "the row is gone".to_owned(),
        }
    }

    /// Whether the state is of those that leave protected or not at all.
    fn is_private(&self, table: &Table) -> bool {
        let shield = table.privacy.shield(self.state.slot, &self.state.inner);
        !shield.is_empty()
    }

    /// What a rule waits for, in words.
    pub(super) fn wanted(&self, transition: &Transition) -> String {
        let names = |states: &[u16]| {
            let names = states
                .iter()
                .map(|state| self.states[usize::from(*state)].text.as_str());
            names.collect::<Vec<_>>().join(" or ")
        };
        match &transition.from {
            Some(from) => format!("{} to {}", names(from), names(&transition.to)),
            None => format!("created as {}", names(&transition.to)),
        }
    }

    /// Why a step is illegal, without a value of the row.
    pub(super) fn illegal_words(&self, step: Step, table: &Table) -> String {
        format!("{}{}", self.words(step, table), Self::verdict(step))
    }

    /// What is wrong with an illegal step, after its words.
    const fn verdict(step: Step) -> &'static str {
        match step {
            Step::Enters(_) => ", which is not in `start`",
            _ => " is not declared",
        }
    }
}

impl<'a> Context<'a> {
    /// What the change does to the state, asked once per change.
    ///
    /// # Errors
    /// The state before or after is unavailable or is not a value of its type.
    pub(super) fn step(&self, lifecycle: u16, scratch: &mut Scratch) -> Result<Step, Fault> {
        let number = usize::from(lifecycle);
        if let Some(known) = scratch.steps[number] {
            return Ok(known);
        }
        let step = self.step_of(&self.table.lifecycles[number])?;
        scratch.steps[number] = Some(step);
        Ok(step)
    }

    fn step_of(&self, lifecycle: &'a Lifecycle) -> Result<Step, Fault> {
        Ok(match self.change.op {
            Op::Delete | Op::Truncate => Step::Ends,
            Op::Insert | Op::Read => match self.state(lifecycle, Side::After)? {
                Some(to) => Step::Enters(to),
                None => Step::NoState,
            },
            Op::Update if !self.changed(&lifecycle.state)? => Step::Stays,
            Op::Update => {
                let before = self.state(lifecycle, Side::Before)?;
                match (before, self.state(lifecycle, Side::After)?) {
                    (Some(from), Some(to)) => Step::Moves { from, to },
                    (None, Some(to)) => Step::Enters(to),
                    (_, None) => Step::NoState,
                }
            }
        })
    }

    fn state(&self, lifecycle: &'a Lifecycle, side: Side) -> Result<Option<Named>, Fault> {
        let found = self.cell(side, lifecycle.state.slot, &lifecycle.state.inner)?;
        if matches!(found, Found::Nothing | Found::Null) {
            return Ok(None);
        }
        for (number, state) in (0_u16..).zip(&lifecycle.states) {
            if order(&found, &state.literal.found())? == Some(Ordering::Equal) {
                return Ok(Some(Named::Known(number)));
            }
        }
        Ok(Some(Named::Unknown))
    }

    /// Whether the change makes a transition of this lifecycle that nobody declared.
    ///
    /// # Errors
    /// The state, or a column of `only`, is unavailable or is not a value of its type.
    pub(super) fn judge(
        &self,
        number: u16,
        lifecycle: &'a Lifecycle,
        scratch: &mut Scratch,
    ) -> Result<Judgement, Fault> {
        let step = self.step(number, scratch);
        if let Ok(step) = step
            && lifecycle.allows(step, self.change.op)
        {
            return Ok(Judgement::Legal(step));
        }
        if let Some(only) = self.not_in(&lifecycle.only)? {
            return Ok(Judgement::NotIn(only));
        }
        step.map(Judgement::Illegal)
    }

    /// Looks at the change as every lifecycle of its table does, whether or not an event fires.
    ///
    /// # Errors
    /// An illegal transition under `illegal = "stop"`, or an unreadable state under `on_error = "stop"`.
    pub(super) fn follow(
        &self,
        on_error: OnError,
        scratch: &mut Scratch,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        for (number, lifecycle) in (0_u16..).zip(&self.table.lifecycles) {
            match self.judge(number, lifecycle, scratch) {
                Ok(Judgement::Legal(_) | Judgement::NotIn(_)) => {}
                Ok(Judgement::Illegal(step)) => self.illegal(lifecycle, step, batch, out)?,
                Err(fault) if on_error == OnError::Stop => {
                    return Err(self.unreadable(lifecycle, &fault));
                }
                Err(fault) => {
                    self.set_aside(lifecycle, fault.kind, &fault.problem, batch, out);
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn illegal(
        &self,
        lifecycle: &'a Lifecycle,
        step: Step,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        match lifecycle.illegal {
            Illegal::Ignore => Ok(()),
            Illegal::Stop => Err(self.forbidden(lifecycle, step)),
            Illegal::Quarantine => {
                let error = self.illegal_text(lifecycle, step);
                self.set_aside(lifecycle, FaultKind::Check, &error, batch, out);
                Ok(())
            }
        }
    }

    fn set_aside(
        &self,
        lifecycle: &Lifecycle,
        kind: FaultKind,
        error: &str,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) {
        let failed = Failed {
            rule: &lifecycle.rule,
            number: lifecycle.number,
            key: None,
            kind,
            error,
        };
        self.quarantine(&failed, batch, out);
    }

    /// For the quarantine record, which holds the row: with the values of the states.
    fn illegal_text(&self, lifecycle: &'a Lifecycle, step: Step) -> String {
        let words = match step {
            Step::Moves { .. } => format!(
                "{} to {}",
                self.state_text(lifecycle, Side::Before),
                self.state_text(lifecycle, Side::After)
            ),
            _ => format!("created as {}", self.state_text(lifecycle, Side::After)),
        };
        format!("{}: {words}{}", lifecycle.rule, Lifecycle::verdict(step))
    }

    /// A state's value, cut where nobody would call it a state.
    fn state_text(&self, lifecycle: &'a Lifecycle, side: Side) -> String {
        /// Longest state in a message, in characters.
        const LONGEST: usize = 60;
        if lifecycle.is_private(self.table) {
            return "a protected state".to_owned();
        }
        let mut text = Vec::new();
        // What could be compared can be written.
        let _ = self.write_text(&Place::Cell(lifecycle.state.on(side)), &mut text);
        let text = String::from_utf8_lossy(&text);
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.into_owned(),
        }
    }

    fn forbidden(&self, lifecycle: &Lifecycle, step: Step) -> Stop {
        Stop {
            state: Stopped::BadRecord,
            problem: format!(
                "{} (mapping.toml line {}) forbids {}: {}",
                lifecycle.rule,
                lifecycle.line,
                self.place(),
                lifecycle.illegal_words(step, self.table)
            ),
            hint: "declare the transition, of an event or in `silent`; or write illegal = \"quarantine\" to set such changes aside and go on".to_owned(),
        }
    }

    #[cold]
    fn unreadable(&self, lifecycle: &Lifecycle, fault: &Fault) -> Stop {
        Stop {
            state: Stopped::BadRecord,
            problem: format!(
                "{} (mapping.toml line {}) cannot follow {}: {}",
                lifecycle.rule,
                lifecycle.line,
                self.place(),
                fault.problem
            ),
            hint: "let the source send whole before images (`rowbridge check` says how), or write on_error = \"quarantine\" in [mapping] to set bad records aside and go on".to_owned(),
        }
    }
}
