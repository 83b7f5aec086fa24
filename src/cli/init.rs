//! `rowbridge init`: a first mapping pack from live tables or collections.
//!
//! Asks the connector what it knows of the tables, lets [`crate::init`] draft the files, writes them where
//! none are, and says what to do next. What was written goes to standard output, what to see to goes to
//! standard error. Exit code 2 where nothing was written but should have been.

mod database;
mod folder;
mod listing;
mod surveyor;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use rowbridge_api::survey::{BeforeImage, Candidate};
use rowbridge_api::{SourceError, TableName};

use self::database::{Database, Settings};
use self::folder::Folder;
use self::surveyor::AnySurveyor;
use super::args::InitArgs;
use super::peers;
use crate::config::{Config, SourceConfig};
use crate::init::{self, Draft, Rows};
use crate::paint::{Paint, Tone};
use crate::refusal::{self, Refusal};

/// From here on a name may have been meant by another (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// Runs the command.
///
/// # Errors
/// The configuration is invalid, the database refuses, a table is not there, a file is, or output fails.
pub(super) async fn run(config: Option<&Path>, args: &InitArgs) -> anyhow::Result<ExitCode> {
    let database = Database::of(config, args)?;
    let folder = match &args.out {
        Some(out) => Some(Folder::empty(out, &database, args.pipeline.as_deref())?),
        None => None,
    };
    let surveyor = AnySurveyor::connect(&database.settings).await;
    let surveyor = surveyor.map_err(|error| unreachable(error, &database))?;
    let candidates = surveyor.candidates().await.map_err(refusal::of_source)?;
    let folder = match folder {
        Some(folder) if args.all || !args.tables.is_empty() => folder,
        wanted => {
            let paint = Paint::of(&io::stdout());
            listing::print(&candidates, &database, paint, &mut io::stdout().lock())?;
            let Some(folder) = wanted else {
                return Ok(ExitCode::SUCCESS);
            };
            let hint = "say which with --table, or --all";
            let problem = format!(
                "nothing was written to {}: no table was named",
                folder.shown()
            );
            return Err(Refusal::invalid(problem, hint).into());
        }
    };
    let tables = chosen(&candidates, args)?;
    let surveys = surveyor.survey(&tables).await.map_err(refusal::of_source)?;
    let rows = match args.no_rows {
        true => Rows::MadeUp,
        false => Rows::Real,
    };
    let draft = init::draft(&folder.pipeline, &surveys, rows)?;
    folder.write(&draft, &database)?;

    notes(&draft, left_out(&candidates, &tables, args))?;
    folder.report(&draft, &database, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// What to see to, on standard error.
fn notes<'c>(draft: &Draft, left_out: impl Iterator<Item = &'c Candidate>) -> io::Result<()> {
    let paint = Paint::of(&io::stderr());
    let mut err = io::stderr().lock();
    for known in left_out {
        writeln!(
            err,
            "{} left out: {}, which has no replica identity: once it is published, every UPDATE and DELETE of it fails; \
             --table takes it nevertheless",
            paint.tone(Tone::Strong, "note:"),
            known.table
        )?;
    }
    for warning in &draft.warnings {
        writeln!(err, "{} {warning}", paint.tone(Tone::Strong, "note:"))?;
    }
    if draft.real_rows > 0 {
        writeln!(
            err,
            "{} cases hold {} of the database, and some values of others: check before committing, or use --no-rows",
            paint.tone(Tone::Strong, "note:"),
            listing::count(draft.real_rows, "row"),
        )?;
    }
    Ok(())
}

/// Why there is no session; a refusal of a database that was named here is corrected here.
fn unreachable(error: SourceError, database: &Database) -> anyhow::Error {
    match error {
        SourceError::Refused { state, problem, .. }
            if database.given.is_none() && matches!(database.settings, Settings::Postgres(_)) =>
        {
            let hint = "correct --url, --password-file or --ca-file; a server without TLS takes --tls disable";
            Refusal::new(state, problem, hint).into()
        }
        error => refusal::of_source(error),
    }
}

/// The tables that were named, each of which has to be there and capturable; with `--all` the others too.
fn chosen(candidates: &[Candidate], args: &InitArgs) -> anyhow::Result<Vec<TableName>> {
    let mut tables: Vec<TableName> = Vec::new();
    for named in &args.tables {
        let table = find(candidates, named)?;
        if let Some(obstacle) = &table.obstacle {
            let problem = format!("{} cannot be captured: {obstacle}", table.table);
            return Err(Refusal::invalid(problem, "leave it out").into());
        }
        if !tables.contains(&table.table) {
            tables.push(table.table.clone());
        }
    }
    if args.all {
        let safe = candidates
            .iter()
            .filter(|known| known.obstacle.is_none() && known.before != BeforeImage::Refused);
        for known in safe {
            if !tables.contains(&known.table) {
                tables.push(known.table.clone());
            }
        }
    }
    if tables.is_empty() {
        let problem = "the database has no table that could be captured without harm";
        return Err(Refusal::invalid(problem, "`rowbridge init` without --all lists them").into());
    }
    Ok(tables)
}

/// What `--all` did not take because it would do harm.
fn left_out<'c>(
    candidates: &'c [Candidate],
    tables: &[TableName],
    args: &InitArgs,
) -> impl Iterator<Item = &'c Candidate> {
    candidates.iter().filter(|known| {
        args.all
            && known.obstacle.is_none()
            && known.before == BeforeImage::Refused
            && !tables.contains(&known.table)
    })
}

/// A table by `schema.name` as it is stored, by either with SQL's quotes, or by its name alone where one
/// schema has it.
fn find<'c>(candidates: &'c [Candidate], named: &str) -> anyhow::Result<&'c Candidate> {
    let bare = named.replace('"', "");
    let exact = |known: &&Candidate| {
        let name = known.table.to_string();
        name == named || name == bare
    };
    let alone = |known: &&Candidate| known.table.name == named || known.table.name == bare;
    if let Some(found) = candidates.iter().find(exact) {
        return Ok(found);
    }
    let mut by_name = candidates.iter().filter(alone);
    match (by_name.next(), by_name.next()) {
        (Some(found), None) => Ok(found),
        (Some(first), Some(second)) => {
            let problem = format!("there are several tables {named}");
            let hint = format!("--table '{}' or --table '{}'", first.table, second.table);
            Err(Refusal::invalid(problem, hint).into())
        }
        (None, _) => {
            let names = candidates.iter().map(|known| known.table.to_string());
            let alike = names
                .map(|name| (strsim::jaro_winkler(&name, named), name))
                .filter(|(alike, _)| *alike > ALIKE);
            let closest = alike.max_by(|(a, _), (b, _)| a.total_cmp(b));
            let list = "`rowbridge init` without --table lists all there are";
            let hint = match closest {
                Some((_, closest)) => format!("did you mean '{closest}'? {list}"),
                None => list.to_owned(),
            };
            Err(Refusal::invalid(format!("there is no table {named}"), hint).into())
        }
    }
}

/// A session that looks at the tables of the configured source.
///
/// # Errors
/// The source cannot be reached, or refuses us.
pub(super) async fn surveyor(config: &Config) -> anyhow::Result<AnySurveyor> {
    let settings = match &config.source {
        SourceConfig::Postgres(settings) => Settings::Postgres(peers::postgres(config, settings)?),
        SourceConfig::MongoDb(settings) => Settings::MongoDb(peers::mongodb(config, settings)),
    };
    Ok(AnySurveyor::connect(&settings).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(schema: &str, name: &str) -> Candidate {
        Candidate {
            table: TableName::new(schema, name),
            rows: None,
            bytes: 0,
            key: Vec::new(),
            before: BeforeImage::Whole,
            obstacle: None,
        }
    }

    #[test]
    fn a_table_is_found_as_people_name_it() {
        let candidates = [
            candidate("public", "segments"),
            candidate("Odd Schema", "Order.Lines"),
            candidate("archive", "fares"),
            candidate("public", "fares"),
        ];
        for (named, index) in [
            ("public.segments", 0),
            ("segments", 0),
            ("\"public\".\"segments\"", 0),
            ("\"Odd Schema\".\"Order.Lines\"", 1),
            ("Odd Schema.Order.Lines", 1),
            ("Order.Lines", 1),
            ("archive.fares", 2),
        ] {
            let found = find(&candidates, named).unwrap();
            assert_eq!(found.table, candidates[index].table, "{named}");
        }
        let hint = |named: &str| {
            let error = find(&candidates, named).unwrap_err();
            error.downcast::<Refusal>().unwrap().hint
        };
        assert_eq!(
            hint("fares"),
            "--table 'archive.fares' or --table 'public.fares'"
        );
        assert!(hint("public.segment").starts_with("did you mean 'public.segments'?"));
    }
}
