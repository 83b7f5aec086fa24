//! Errors that will not pass by themselves: exit code 2, with the command that helps.

use rowbridge_api::{SourceError, State};

use crate::mapping::Stop;
use crate::sink::SinkError;
use crate::state::Fault;

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

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::invalid(fault.problem, fault.hint)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Phase;

    const OPERATIONS: &str = include_str!("../docs/operations.md");

    /// The section of `state`, up to the next heading.
    fn section(state: State) -> Option<&'static str> {
        let rest = OPERATIONS.split_once(&format!("\n### {state}\n"))?.1;
        rest.split("\n#").next()
    }

    #[test]
    fn every_state_has_a_section_with_loss_and_commands() {
        for state in State::ALL {
            let section =
                section(state).unwrap_or_else(|| panic!("docs/operations.md lacks ### {state}"));
            for part in ["**Lost:** ", "- "] {
                assert!(section.contains(part), "### {state} lacks `{part}`");
            }
        }
    }

    #[test]
    fn the_document_knows_no_other_states() {
        let states = OPERATIONS.split_once("\n## The states\n").unwrap().1;
        let documented: Vec<_> = states
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .collect();
        assert_eq!(documented, State::ALL.map(State::as_str));
        // What `/readyz` may say while it is not refused.
        let table = OPERATIONS.split_once("| `/readyz` and ").unwrap().1;
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with("| "));
        let labels: Vec<_> = rows
            .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
            .collect();
        assert_eq!(labels, Phase::RUNNING);
    }

    #[test]
    fn every_command_of_the_document_is_a_command() {
        use clap::Parser;
        let mut commands = OPERATIONS
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|text| text.starts_with("rowbridge "));
        assert!(commands.clone().count() > 20);
        commands.by_ref().for_each(|command| {
            let words = command
                .replace("LSN", "16/B374D848")
                .replace("POSITION", "16/B374D848");
            let parsed = crate::cli::Cli::try_parse_from(words.split_whitespace());
            assert!(parsed.is_ok(), "`{command}` is not a command: {parsed:?}");
        });
    }
}
