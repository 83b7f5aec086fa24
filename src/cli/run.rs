//! `rowbridge run`: the daemon.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::config::Config;

/// Runs the pipeline until it is told to stop, or refuses.
#[allow(clippy::unused_async, reason = "its callers await it")]
pub(crate) async fn run(config: Config) -> Result<ExitCode> {
    bail!(
        "the pipeline {} cannot run: this build has no pipeline yet",
        config.pipeline
    )
}
