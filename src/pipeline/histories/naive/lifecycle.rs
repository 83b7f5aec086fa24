//! What a change does to the state of its row, and whether anybody declared that.

use rowbridge_api::Op;

use super::super::rules::Transition;
use super::super::story::{Cell, Change};
use super::super::table::STATE;
use super::{Unreadable, World};

pub(super) enum Step {
    /// The same state, no state, or the end of the row.
    None,
    Enters(&'static str),
    Moves(&'static str, &'static str),
}

impl Step {
    pub(super) fn is(&self, transition: &Transition) -> bool {
        match (self, &transition.from) {
            (Self::Enters(to), None) => transition.to.contains(to),
            (Self::Moves(from, to), Some(from_any)) => {
                from_any.contains(from) && transition.to.contains(to)
            }
            _ => false,
        }
    }
}

pub(super) fn step(world: World<'_>, change: &Change) -> Result<Step, Unreadable> {
    let was = change.before.and_then(|row| row[STATE]);
    let is = change.after.and_then(|row| row[STATE]);
    Ok(match change.op {
        Op::Delete | Op::Truncate => Step::None,
        Op::Insert | Op::Read => is.map_or(Step::None, Step::Enters),
        Op::Update if !world.changed(change, STATE)? => Step::None,
        Op::Update => match (was, is) {
            (Some(was), Some(is)) => Step::Moves(was, is),
            (None, Some(is)) => Step::Enters(is),
            (_, None) => Step::None,
        },
    })
}

/// The lifecycle that sets a change aside, if one does.
pub(super) fn set_aside(world: World<'_>, change: &Change) -> Option<String> {
    let lifecycle = world.rules.lifecycle_of(change.table)?;
    let name = || lifecycle.name(&world.rules.tables);
    let is_legal = match step(world, change) {
        // Nobody knows what it did: that is not ignored either.
        Err(Unreadable) => return Some(name()),
        Ok(Step::None) => true,
        Ok(Step::Enters(state)) => change.op == Op::Read || lifecycle.start.contains(&state),
        Ok(Step::Moves(from, to)) => world.rules.declares(change.table, from, to),
    };
    debug_assert!(
        change
            .sent_after
            .is_none_or(|image| image[STATE] != Cell::LeftOut || is_legal)
    );
    (!is_legal && !lifecycle.ignores).then(name)
}
