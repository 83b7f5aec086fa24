//! Logs: text or JSON lines on standard error, above the status line where there is one.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::paint::Paint;
use crate::screen::Above;

/// What the store says, but for what is wrong.
const QUIET_STORE: &str = "lsm_tree=warn";

/// `log.level` is not a level.
#[derive(Debug, thiserror::Error)]
#[error("log.level = \"{level}\" is neither a level nor a list of module=level")]
pub struct LevelError {
    level: String,
    #[source]
    cause: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the whole process. A second call changes nothing.
///
/// # Errors
/// [`LevelError`].
pub fn start(log: &Log) -> Result<(), LevelError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|cause| LevelError {
        level: log.level.clone(),
        cause,
    })?;
    // The store tells every file it writes; who wants to know says so.
    let filter = match log.level.contains("lsm_tree") {
        true => filter,
        false => filter.add_directive(QUIET_STORE.parse().expect("a directive")),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Above)
        .with_ansi(Paint::of(&stderr()) == Paint::Ansi);
    // On a terminal lines are short and people know whom they started.
    let lines = lines.with_target(!stderr().is_terminal());
    // Fails only when a subscriber is there already: in tests, or when embedded.
    let _started = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
