//! The command line: one module per command, errors and exit codes for all of them here.
//!
//! Data goes to standard output, logs and errors to standard error. Exit codes: 0 done, 1 failed,
//! 2 refused or invalid; commands that differ say so in their help.

mod args;
mod check;
mod crash;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod drop;
mod dry_run;
mod follow;
mod hash_key;
mod health;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod init;
mod input;
mod manual;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod peers;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod position;
#[cfg_attr(
    not(all(feature = "postgres", feature = "mongodb", feature = "kafka")),
    allow(dead_code, reason = "without connectors little is counted")
)]
mod quantity;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod record;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod run;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod source;
mod test;

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
use crate::config::Config;
use crate::config::ConfigError;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
use crate::log;
use crate::mapping::Diagnostics;
use crate::paint::{Look, Tone};
use crate::refusal::Refusal;

pub(crate) use args::Cli;
use args::Command;

/// Exit code of what failed and may pass when tried again.
pub(crate) const FAILED: u8 = 1;
/// Exit code of what was refused, or is invalid.
pub(crate) const REFUSED: u8 = 2;

/// Does what the process's arguments say, and tells how it ended.
#[must_use]
pub fn main() -> ExitCode {
    crash::report_discreetly();
    // `parse` answers wrong arguments itself, with exit code 2.
    let cli = Cli::parse();
    finish(dispatch(cli))
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let config = cli.config.as_deref();
        match cli.command {
            #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
            Command::Run(args) => Box::pin(run::run(load(config)?, &args)).await,
            Command::Check(args) => Box::pin(check::run(config, &args)).await,
            Command::DryRun(args) => Box::pin(dry_run::run(config, &args)).await,
            Command::Test(args) => test::run(&args),
            Command::Health(args) => health::run(config, &args).await,
            Command::Completions { shell } => manual::completions(shell),
            Command::Man { folder } => manual::pages(&folder),
            #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
            Command::Init(args) => Box::pin(init::run(config, &args)).await,
            #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
            Command::Position { command } => Box::pin(position::run(load(config)?, &command)).await,
            #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
            Command::Drop(args) => Box::pin(drop::run(load(config)?, &args)).await,
            #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
            Command::Record(args) => Box::pin(record::run(config, &args)).await,
            #[cfg(not(all(feature = "postgres", feature = "mongodb", feature = "kafka")))]
            Command::Run(_)
            | Command::Init(_)
            | Command::Position { .. }
            | Command::Drop(_)
            | Command::Record(_) => {
                anyhow::bail!(
                    "this binary was built without the features postgres, mongodb and kafka"
                )
            }
        }
    });
    // A session that did not end in time is abandoned, not waited for.
    runtime.shutdown_background();
    ended
}

/// Reads the configuration and starts logging as it says.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
fn load(named: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(named)?;
    log::start(&config.log).map_err(|error| {
        let hint = "use error, warn, info, debug or trace, or module=level separated by commas";
        anyhow::Error::from(Refusal::invalid(error.to_string(), hint))
    })?;
    Ok(config)
}

#[allow(
    clippy::print_stderr,
    reason = "the one place that reports how a command ended"
)]
fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{}", describe(&error, Look::of(&std::io::stderr())));
        ExitCode::from(exit_code(&error))
    })
}

/// Every problem of the files if it is about them; `error:`, then what caused it, then what to do.
fn describe(error: &anyhow::Error, look: Look) -> String {
    let mut text = String::new();
    if let Some(diagnostics) = error.downcast_ref::<Diagnostics>() {
        text = diagnostics.render(look) + "\n\n";
    } else if let Some(ConfigError::Invalid(problems)) = error.downcast_ref() {
        text = problems.render(look) + "\n\n";
    }
    let mut lines = Vec::new();
    let mut line = |name: String, what: String, indent: &str| {
        lines.push(look.wrapped(&format!("{name} {what}"), indent));
    };
    line(
        look.paint.tone(Tone::Bad, "error:").to_string(),
        error.to_string(),
        "  ",
    );
    for cause in error.chain().skip(1) {
        line("  caused by:".to_owned(), cause.to_string(), "    ");
    }
    let refusal = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Refusal>());
    let hint =
        refusal
            .map(|refusal| refusal.hint.as_str())
            .or_else(|| match error.downcast_ref() {
                Some(ConfigError::NoFile) => {
                    Some("name one with -c FILE; docs/configuration.md describes it")
                }
                _ => None,
            });
    if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
        line(
            look.paint.tone(Tone::Strong, "hint:").to_string(),
            hint.to_owned(),
            "  ",
        );
    }
    text + &lines.join("\n")
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Refusal>() || cause.is::<ConfigError>() || cause.is::<Diagnostics>()
    };
    if error.chain().any(refused) {
        REFUSED
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use rowbridge_api::{SourceError, State};

    use super::*;
    use crate::refusal;

    #[test]
    fn a_refusal_prints_its_hint_last_and_exits_with_2() {
        let error = refusal::of_source(SourceError::refused(
            State::SlotLost,
            "the slot rowbridge_airline is gone",
            "rowbridge position set --snapshot",
        ));
        let error = Err::<(), _>(error)
            .context("cannot resume at 16/B374D848")
            .unwrap_err();
        assert_eq!(
            describe(&error, Look::PLAIN),
            "error: cannot resume at 16/B374D848\n  caused by: SLOT_LOST: the slot rowbridge_airline is gone\n\
             hint: rowbridge position set --snapshot"
        );
        assert_eq!(exit_code(&error), REFUSED);
    }

    #[test]
    fn a_passing_error_exits_with_1() {
        let error = refusal::of_source(SourceError::transient("the server is starting up"));
        assert_eq!(
            describe(&error, Look::PLAIN),
            "error: the server is starting up"
        );
        assert_eq!(exit_code(&error), FAILED);
    }

    #[test]
    fn a_missing_file_says_how_to_name_one() {
        let error = anyhow::Error::from(ConfigError::NoFile);
        assert!(
            describe(&error, Look::PLAIN)
                .ends_with("hint: name one with -c FILE; docs/configuration.md describes it")
        );
        assert_eq!(exit_code(&error), REFUSED);
    }
}
