//! `rowbridge dry-run`: prints the events that would be published, and publishes nothing.
//!
//! Changes come from the live source, from a capture, or as change JSON from standard input. Events go to
//! standard output; what happened, in the end a count, to standard error. Exit code 1 if something would
//! be quarantined.

mod explanation;
mod input;
mod layout;
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod live;
mod session;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rowbridge_api::{Batch, Identity};
use tokio::signal::unix::{SignalKind, signal};

use super::args::DryRunArgs;
use super::{REFUSED, hash_key};
use crate::config::Config;
use crate::mapping::change_json::{ChangeReader, Tables};
use crate::mapping::{Mapping, Pack, Stamp};
use crate::pack;
use crate::paint::Look;
use crate::refusal::Refusal;
use input::Lines;
use session::{Flow, Session};

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
    let (name, input): (_, Box<dyn BufRead + Send>) = match &args.capture {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Box::new(BufReader::new(file)))
        }
        None => (
            "standard input".to_owned(),
            Box::new(BufReader::new(io::stdin())),
        ),
    };
    let stamp = Stamp {
        pipeline: mapping.name().to_owned(),
        identity: Identity {
            source: "capture".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: MAX_RECORD_BYTES,
    };
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut session = Session::new(&mapping, stamp, args, look, stdout.lock());
    offline(&mut session, &mapping, &name, input, args.duration).await?;
    session.finish()
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
fn compile(pack: &Pack) -> io::Result<Option<Mapping>> {
    match Mapping::compile(pack) {
        Ok((mapping, _)) => Ok(Some(mapping)),
        Err(diagnostics) => {
            let look = Look::of(&io::stderr());
            writeln!(io::stderr(), "{}", diagnostics.render(look))?;
            Ok(None)
        }
    }
}

/// Reads lines until the input, the time, the limit or the user ends it.
async fn offline<W: io::Write>(
    session: &mut Session<'_, W>,
    mapping: &Mapping,
    name: &str,
    input: Box<dyn BufRead + Send>,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let mut reader = ChangeReader::new(Arc::new(Tables::of(mapping)));
    let mut lines = Lines::read(input);
    let mut batch = Batch::default();
    let ended = ended(duration);
    tokio::pin!(ended);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            ended = &mut ended => return ended.map_err(Into::into),
        };
        batch.clear();
        let Some(line) = line else {
            reader.end(&mut batch);
            session.batch(&batch)?;
            return Ok(());
        };
        let line = line.with_context(|| format!("cannot read {name}"))?;
        reader.line(&line, &mut batch).map_err(|error| {
            let hint = "one JSON object per line: change JSON, or Debezium's envelope";
            Refusal::invalid(format!("{name}, {error}"), hint)
        })?;
        if session.batch(&batch)? == Flow::Enough {
            return Ok(());
        }
        if lines.is_waiting() {
            session.flush()?;
        }
    }
}

/// Returns on SIGINT or SIGTERM, or when `duration` is over.
async fn ended(duration: Option<Duration>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = over => {}
    }
    Ok(())
}
