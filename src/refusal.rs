//! Errors that will not pass by themselves: exit code 2, with the command that helps.

use rowbridge_api::{SourceError, State};

use crate::mapping::Stop;
use crate::sink::SinkError;

/// The pipeline refuses to run, in a named state. Travels inside [`anyhow::Error`] up to `main`, which
/// prints its hint and exits with 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{state}: {problem}")]
pub struct Refusal {
    pub state: State,
    /// What happened, where, and what is lost (from where to where).
    pub problem: String,
    /// The commands to choose from.
    pub hint: String,
}

impl Refusal {
    pub fn new(state: State, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state,
            problem: problem.into(),
            hint: hint.into(),
        }
    }

    /// Something must be set up or corrected first.
    pub fn invalid(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(State::Invalid, problem, hint)
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::new(stop.state, stop.problem, stop.hint)
    }
}

/// A source's error, as a [`Refusal`] if it is one.
#[must_use]
pub fn of_source(error: SourceError) -> anyhow::Error {
    match error {
        SourceError::Refused {
            state,
            problem,
            hint,
        } => Refusal::new(state, problem, hint).into(),
        transient => transient.into(),
    }
}

/// A sink's error, as a [`Refusal`] if it is one.
#[must_use]
pub fn of_sink(error: SinkError) -> anyhow::Error {
    match error {
        SinkError::Refused {
            state,
            problem,
            hint,
        } => Refusal::new(state, problem, hint).into(),
        passing => passing.into(),
    }
}
