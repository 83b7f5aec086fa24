//! The story: statements in order, each with the events it should give.

use serde::Deserialize;

/// `story.toml`, `hotel.toml`.
#[derive(Deserialize)]
pub(crate) struct Story<W> {
    /// What is published of what exists already.
    pub(crate) first_start: FirstStart,
    #[serde(rename = "step")]
    pub(crate) statements: Vec<Statement<W>>,
}

#[derive(Deserialize)]
pub(crate) struct FirstStart {
    pub(crate) say: String,
    pub(crate) events: Vec<Expected>,
}

/// One statement.
#[derive(Deserialize)]
pub(crate) struct Statement<W> {
    pub(crate) say: String,
    #[serde(alias = "sql", alias = "command")]
    pub(crate) write: W,
    pub(crate) events: Vec<Expected>,
}

/// One event that a statement should give.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expected {
    pub(crate) topic: String,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) key: String,
    /// It goes to the quarantine topic instead.
    #[serde(default)]
    pub(crate) quarantined: bool,
    #[serde(default)]
    pub(crate) tombstone: bool,
}

impl<W> Story<W> {
    /// All events that should come of it.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Expected> {
        let told = self.statements.iter().flat_map(|step| &step.events);
        self.first_start.events.iter().chain(told)
    }
}
