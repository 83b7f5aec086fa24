//! What can be typed. What it means is in the module of each command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rowbridge_api::Position;

/// Row changes of a database become business events in Kafka, exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "rowbridge",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Configuration file [default: ./rowbridge.toml, then /etc/rowbridge/rowbridge.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the pipeline until it is told to stop
    ///
    /// SIGTERM and SIGINT commit what was read and stop within limits.grace_period_seconds; a second signal
    /// stops at once. Exit code 0: stopped; 1: failed; 2: refused, with the reason and what to do.
    Run(RunArgs),
    /// Report everything that would keep the pipeline from running, each with its fix
    ///
    /// Configuration, mapping, the source's settings and rights, the brokers' topics and rights. Writes
    /// nothing. Exit code 2 if there is any error.
    Check(CheckArgs),
    /// Print the events that would be published
    ///
    /// Reads the live source of the configuration, a capture, or change JSON from standard input with --mapping.
    /// Exit code 1 if a change would be quarantined.
    DryRun(DryRunArgs),
    /// Keep what changes in the source as a capture
    ///
    /// Reads the live source of the configuration from now on, as a live dry-run does, and publishes nothing.
    /// The capture has the columns that the mapping's rules read, and whole transactions unless it is
    /// interrupted inside one; `dry-run --capture` and `test --capture` evaluate it again.
    Record(RecordArgs),
    /// Run the cases of mapping packs
    ///
    /// Exit code 1 if a case fails, 2 if a mapping does not compile.
    Test(TestArgs),
    /// Write a first mapping from the live tables or collections of a database
    ///
    /// Without --table it lists those that could be captured. Only looks: in PostgreSQL, in read-only
    /// transactions, at the catalogue, the statistics and a few rows; in MongoDB at up to 1,000 documents of
    /// a collection, since it declares no fields. Overwrites no file.
    Init(InitArgs),
    /// Show or set the committed position by hand
    Position {
        #[command(subcommand)]
        command: PositionCommand,
    },
    /// Remove the pipeline's slot and publication, so that the source frees its history
    ///
    /// Refused while an instance runs.
    Drop(DropArgs),
    /// Ask the running daemon whether it is ready
    ///
    /// Prints the answer of /readyz at http.listen. Exit code 0 if ready, 1 if not, or if nobody answers.
    Health(HealthArgs),
    /// Print the completion script of a shell
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Read the rows that the mapping looks up and that were not kept so far
    ///
    /// The mapping that published last goes on up to the moment as of which they are read; this one takes over there,
    /// so that nothing is lost and nothing comes twice. Does nothing where all of it is kept.
    #[arg(long)]
    pub(crate) reseed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Only configuration and mapping: no connection is made
    #[arg(long)]
    pub(crate) offline: bool,
    /// One JSON object per finding, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DryRunArgs {
    /// Mapping pack to use; changes are read from standard input unless --capture names a file
    #[arg(long, value_name = "PACK")]
    pub(crate) mapping: Option<PathBuf>,
    /// Read changes from a capture
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,
    /// Make a publication for the time of the dry run if the pipeline's own does not exist
    #[arg(long, conflicts_with_all = ["mapping", "capture"])]
    pub(crate) create_publication: bool,
    /// Say per change which rule fired, and why the others did not
    #[arg(long)]
    pub(crate) explain: bool,
    /// One JSON object per event: type, key, topic, headers, data
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Stop after this time, such as 30s or 5m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// File to write: change JSON, compressed with Zstandard; only its owner may read it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Make a publication for the time of the recording if the pipeline's own does not exist
    #[arg(long)]
    pub(crate) create_publication: bool,
    /// Stop after this many changes, at the end of their transaction
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Stop after this time, such as 30s or 5m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Folders of mapping packs
    #[arg(required = true, value_name = "PACK")]
    pub(crate) packs: Vec<PathBuf>,
    /// Also write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Also evaluate the changes of a capture; with --coverage, rank those that no rule explains
    ///
    /// Takes one PACK. Exit code 1 if a change of it stops the mapping.
    #[arg(long, value_name = "FILE")]
    pub(crate) capture: Option<PathBuf>,
    /// Say which rules, branches, transitions and columns no case exercises
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Fail if cases exercise less than this percentage of rules, branches and transitions
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) fail_under: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Database, as postgres://user@host:5432/database or mongodb://user@host:27017/database; without it the
    /// configuration's
    ///
    /// The password comes from --password-file, the variable ROWBRIDGE_SOURCE__POSTGRES__PASSWORD or
    /// ROWBRIDGE_SOURCE__MONGODB__PASSWORD, or the URL; it is written nowhere.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) url: Option<String>,
    /// File that holds the password; the written configuration names it
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) password_file: Option<PathBuf>,
    /// How the connection to PostgreSQL is protected [default: the URL's sslmode, else verify-full]
    ///
    /// The URL of MongoDB says it itself, as in ?tls=true.
    #[arg(
        long,
        value_name = "MODE",
        requires = "url",
        value_parser = ["disable", "require", "verify-ca", "verify-full"]
    )]
    pub(crate) tls: Option<String>,
    /// PEM file with the authorities to trust; without it the system's
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Table to capture, as schema.name, or collection, as database.name; may be repeated
    #[arg(long = "table", value_name = "TABLE", requires = "out")]
    pub(crate) tables: Vec<String>,
    /// Capture every table or collection that can be
    ///
    /// But for tables without a replica identity, whose updates and deletes fail once they are published:
    /// these have to be named with --table.
    #[arg(long, requires = "out")]
    pub(crate) all: bool,
    /// Folder of the new mapping pack
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Name of the pipeline [default: the folder's]
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// Make the cases' rows up instead of taking real ones
    ///
    /// The values of states and codes are taken from the database all the same.
    #[arg(long)]
    pub(crate) no_rows: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PositionCommand {
    /// Print the committed position, and where the source's slot stands
    Show(PositionShowArgs),
    /// Commit another position
    ///
    /// Prints what is skipped or published again. Refused while an instance runs.
    Set(PositionSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PositionShowArgs {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PositionSetArgs {
    /// Go on behind this position, such as 16/B374D848
    #[arg(
        value_name = "LSN",
        required_unless_present = "snapshot",
        conflicts_with = "snapshot"
    )]
    pub(crate) position: Option<Position>,
    /// Start over: read the existing rows as `read` changes, then go on from there
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Accept that changes between the committed position and the new one are never published
    #[arg(long, conflicts_with = "snapshot")]
    pub(crate) accept_gap: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    /// Also delete the position and quarantine topics; the topics of events stay
    #[arg(long)]
    pub(crate) topics: bool,
    /// Do it; without this it only says what would be removed
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Only whether it answers: /livez
    #[arg(long)]
    pub(crate) live: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(signed).map_err(|_| "a time cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_everything() {
        fn render(command: &mut clap::Command, into: &mut String) {
            let help = command.render_long_help();
            into.push_str(&format!("## {}\n\n{help}\n", command.get_name()));
            command
                .get_subcommands_mut()
                .for_each(|inner| render(inner, into));
        }
        let mut text = String::new();
        let mut command = Cli::command().term_width(100).disable_help_subcommand(true);
        command.build();
        render(&mut command, &mut text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn setting_a_position_needs_exactly_one_target() {
        for right in ["16/B374D848", "16/B374D848 --accept-gap", "--snapshot"] {
            assert!(
                parse(&format!("rowbridge position set {right}")).is_ok(),
                "{right}"
            );
        }
        for wrong in [
            "",
            "--accept-gap",
            "16/B374D848 --snapshot",
            "--snapshot --accept-gap",
            "now",
        ] {
            assert!(
                parse(&format!("rowbridge position set {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_file_may_be_named_before_or_after_the_command() {
        for line in ["rowbridge -c x.toml run", "rowbridge run -c x.toml"] {
            assert_eq!(parse(line).unwrap().config, Some(PathBuf::from("x.toml")));
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("-1s").is_err() && duration("soon").is_err());
    }
}
