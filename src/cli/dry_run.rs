//! `rowbridge dry-run`: prints the events that would be published, and publishes nothing.
//!
//! Changes come from the live source, from a capture, or as change JSON from standard input. Events go to
//! standard output; what happened, in the end a count, to standard error. Exit code 1 if something would
//! be quarantined.

mod explanation;
mod layout;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod live;
mod session;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use rowbridge_api::{Batch, Identity};

use super::args::DryRunArgs;
use super::follow::{Flow, Taker as _, ended};
use super::input::Input;
use super::{REFUSED, hash_key};
use crate::config::Config;
use crate::mapping::change_json::{ChangeReader, LineError, Tables};
use crate::mapping::{Mapping, Pack, Stamp};
use crate::pack;
use crate::paint::Look;
use crate::refusal::Refusal;
use session::Session;

/// Longest record of a dry run on change JSON, where no broker sets one.
const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// Runs the command.
///
/// # Errors
/// The input is not change JSON, the source refuses, or output fails.
pub(super) async fn run(config: Option<&Path>, args: &DryRunArgs) -> anyhow::Result<ExitCode> {
    if args.mapping.is_none() && args.capture.is_none() {
        return live(config, args).await;
    }
    let pack = match &args.mapping {
        Some(folder) => pack::read(folder, toml::Table::new())?,
        None => {
            let config = Config::load(config)?;
            pack::read(&config.mapping, config.params)?
        }
    };
    let Some(mapping) = compile(&pack)? else {
        return Ok(ExitCode::from(REFUSED));
    };
    let mapping = Arc::new(hash_key::keyed_by(mapping, config)?.for_protected_input());
    let ended = ended(args.duration);
    tokio::pin!(ended);
    let input = tokio::select! {
        input = opened(args.capture.clone()) => Some(input?),
        ended = &mut ended => ended.map(|()| None)?,
    };
    let header = input.as_ref().and_then(|input| input.header.clone());
    let stamp = match &header {
        Some(header) => header.stamp(),
        None => made_up(&mapping),
    };
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut session = Session::new(&mapping, stamp, args, look, stdout.lock());
    session.captured(header);
    if let Some(input) = input {
        offline(&mut session, &mapping, input, ended).await?;
    }
    session.finish()
}

/// The input with its first line. That of standard input may be long in coming, and reading it cannot be cancelled.
async fn opened(capture: Option<PathBuf>) -> anyhow::Result<Input> {
    let opening = tokio::task::spawn_blocking(move || match capture {
        Some(path) => Input::open(&path),
        None => Input::standard(),
    });
    opening.await?
}

/// What events are stamped with where the input does not say.
pub(super) fn made_up(mapping: &Mapping) -> Stamp {
    Stamp {
        pipeline: mapping.name().to_owned(),
        identity: Identity {
            source: "capture".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: MAX_RECORD_BYTES,
    }
}

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
use live::run as live;

/// Without a connector there is no live source.
#[cfg(not(all(feature = "postgres", feature = "mongodb", feature = "kafka")))]
#[allow(clippy::unused_async, reason = "its twin with a connector waits")]
async fn live(_config: Option<&Path>, _args: &DryRunArgs) -> anyhow::Result<ExitCode> {
    let problem = "this binary was built without the features postgres, mongodb and kafka";
    Err(Refusal::invalid(problem, "rowbridge dry-run --mapping PACK < CHANGES").into())
}

/// Compiles a pack; `None` once what is wrong with it is on standard error.
pub(super) fn compile(pack: &Pack) -> io::Result<Option<Mapping>> {
    match Mapping::compile(pack) {
        Ok((mapping, _)) => Ok(Some(mapping)),
        Err(diagnostics) => {
            let look = Look::of(&io::stderr());
            writeln!(io::stderr(), "{}", diagnostics.render(look))?;
            Ok(None)
        }
    }
}

/// Reads lines until the input, the limit or `ended` ends it.
async fn offline<W: io::Write>(
    session: &mut Session<'_, W>,
    mapping: &Mapping,
    input: Input,
    mut ended: Pin<&mut impl Future<Output = io::Result<()>>>,
) -> anyhow::Result<()> {
    let mut reader = ChangeReader::new(Arc::new(Tables::of(mapping)));
    let name = input.name.clone();
    let mut lines = input.lines();
    let mut batch = Batch::default();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            ended = &mut ended => return ended.map_err(Into::into),
        };
        batch.clear();
        let Some(line) = line? else {
            reader.end(&mut batch);
            session.batch(&batch)?;
            return reader
                .complete()
                .map_err(|error| bad_line(&name, &error).into());
        };
        let read = reader.line(&line, &mut batch);
        read.map_err(|error| bad_line(&name, &error))?;
        if session.batch(&batch)? == Flow::Enough {
            return Ok(());
        }
        if lines.is_waiting() {
            session.flush()?;
        }
    }
}

/// A line that is no change JSON, or that is missing.
pub(super) fn bad_line(name: &str, error: &LineError) -> Refusal {
    let hint = "one JSON object per line: change JSON, a capture, or Debezium's envelope";
    Refusal::invalid(format!("{name}, {error}"), hint)
}
