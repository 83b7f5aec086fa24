//! A dry run on the configuration's source: a temporary slot, from now on, acknowledged to nobody.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{
    Batch, Claim, Item, Position, Source as _, SourceIo, SourceStatus, Start, batch_channel,
};
use rowbridge_postgres::PreviewPublication;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::args::DryRunArgs;
use super::super::{REFUSED, hash_key, load, source};
use super::session::{Flow, Session};
use super::{compile, ended};
use crate::mapping::Stamp;
use crate::pack;
use crate::paint::Look;
use crate::refusal::{self, Refusal};

/// Follows the source until the time, the limit or the user ends it; then leaves it as it was.
///
/// # Errors
/// The configuration is invalid, the source refuses or breaks, or output fails.
pub(super) async fn run(config: Option<&Path>, args: &DryRunArgs) -> anyhow::Result<ExitCode> {
    let config = load(config)?;
    let Some(mapping) = compile(&pack::read(&config.mapping, config.params.clone())?)? else {
        return Ok(ExitCode::from(REFUSED));
    };
    let mapping = Arc::new(hash_key::keyed(mapping, Some(&config.privacy))?);
    let publication = if args.create_publication {
        PreviewPublication::Temporary
    } else {
        PreviewPublication::OfPipeline
    };
    let mut source = source::preview(&config, publication)?;
    let identity = match source.own().await.map_err(refusal::of_source)? {
        Claim::Owned(ownership) => ownership.identity,
        Claim::Standby { holder } => {
            let hint = "stop it, or wait until it ends";
            return Err(Refusal::invalid(format!("the source is held by {holder}"), hint).into());
        }
    };
    let stamp = Stamp {
        pipeline: config.pipeline.clone(),
        identity,
        max_record_bytes: config.limits.max_record_bytes,
    };
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut session = Session::new(&mapping, stamp, args, look, stdout.lock());

    let (out, batches, emptied) = batch_channel(config.limits.channel_batches());
    let (acked, acked_seen) = watch::channel(None);
    let (status, _status_seen) = watch::channel(SourceStatus::default());
    let shutdown = CancellationToken::new();
    let io = SourceIo {
        start: Start::FIRST,
        tables: mapping.needs().to_vec(),
        out,
        acked: acked_seen,
        status,
        shutdown: shutdown.clone(),
    };
    let mut printer = Printer {
        batches,
        emptied,
        acked,
    };
    let printing = async {
        let printed = printer.print(&mut session, args.duration).await;
        shutdown.cancel();
        printer.drain().await;
        printed
    };
    let (ran, printed) = tokio::join!(source.run(io), printing);
    printed?;
    ran.map_err(refusal::of_source)?;
    session.finish()
}

/// The other end of the source's channels.
struct Printer {
    batches: mpsc::Receiver<Batch>,
    emptied: mpsc::Sender<Batch>,
    /// Nothing is published, so everything printed counts as done: the temporary slot need not keep it.
    acked: watch::Sender<Option<Position>>,
}

impl Printer {
    async fn print<W: Write>(
        &mut self,
        session: &mut Session<'_, W>,
        duration: Option<Duration>,
    ) -> anyhow::Result<()> {
        let ended = ended(duration);
        tokio::pin!(ended);
        loop {
            let batch = tokio::select! {
                batch = self.batches.recv() => batch,
                ended = &mut ended => return ended.map_err(Into::into),
            };
            let Some(batch) = batch else {
                return Ok(());
            };
            let flow = session.batch(&batch);
            // Also after an error: a source that shuts down waits until its last commit is done.
            self.done(batch);
            if flow? == Flow::Enough {
                return Ok(());
            }
            if self.batches.is_empty() {
                session.flush()?;
            }
        }
    }

    /// Takes what a source that is shutting down still sends, until it lets go of the channel.
    async fn drain(&mut self) {
        while let Some(batch) = self.batches.recv().await {
            self.done(batch);
        }
    }

    fn done(&self, mut batch: Batch) {
        for item in &batch.items {
            if let Item::Commit(commit) = item {
                self.acked.send_replace(Some(commit.position.clone()));
            }
        }
        batch.clear();
        // A full way back, or none, costs memory only.
        let _ = self.emptied.try_send(batch);
    }
}
