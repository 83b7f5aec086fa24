//! The story: statements in order, each with the events it should give.

use anyhow::{Context, Result};
use serde::Deserialize;

/// `story.toml`.
#[derive(Deserialize)]
pub(crate) struct Story {
    pub(crate) first_start: Statement,
    #[serde(rename = "step")]
    pub(crate) statements: Vec<Statement>,
}

/// One statement.
#[derive(Deserialize)]
pub(crate) struct Statement {
    pub(crate) say: String,
    #[serde(default)]
    pub(crate) sql: String,
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

impl Story {
    pub(crate) fn load() -> Result<Self> {
        toml::from_str(include_str!("story.toml")).context("examples/quickstart/story.toml")
    }
}

/// A statement without its line breaks.
pub(crate) fn on_one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}
