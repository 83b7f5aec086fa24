//! The configuration's source, followed from now on and acknowledged to nobody.

use std::time::Duration;

use rowbridge_api::{
    Batch, Claim, Item, Position, Source as _, SourceIo, SourceStatus, Start, batch_channel,
};
use rowbridge_postgres::PreviewPublication;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::source::{self, AnySource};
use super::{Flow, TICK, Taker, ended};
use crate::config::Config;
use crate::mapping::{Mapping, Stamp};
use crate::refusal::{self, Refusal};

/// The configuration's source, to be looked at.
pub(crate) struct Live {
    source: AnySource,
    /// What the daemon stamps its events with.
    pub(crate) stamp: Stamp,
}

impl Live {
    /// # Errors
    /// The source refuses or cannot be reached.
    pub(crate) async fn open(
        config: &Config,
        mapping: &Mapping,
        publication: PreviewPublication,
    ) -> anyhow::Result<Self> {
        let mut source = source::preview(config, mapping, publication)?;
        let identity = match source.own().await.map_err(refusal::of_source)? {
            Claim::Owned(ownership) => ownership.identity,
            Claim::Standby { holder } => {
                let problem = format!("the source is held by {holder}");
                return Err(Refusal::invalid(problem, "stop it, or wait until it ends").into());
            }
        };
        Ok(Self {
            source,
            stamp: Stamp {
                pipeline: config.pipeline.clone(),
                identity,
                max_record_bytes: config.limits.max_record_bytes,
            },
        })
    }
}

/// Hands `taker` what changes in the tables of `mapping`, until it has enough, `duration` is over, or the user
/// ends it.
///
/// # Errors
/// The source refuses or breaks, or `taker` fails.
pub(crate) async fn follow(
    live: &mut Live,
    config: &Config,
    mapping: &Mapping,
    taker: &mut impl Taker,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
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
    let mut hose = Hose {
        batches,
        emptied,
        acked,
    };
    let taking = async {
        let taken = hose.pass_on(taker, duration).await;
        shutdown.cancel();
        hose.drain().await;
        taken
    };
    let (ran, taken) = tokio::join!(live.source.run(io), taking);
    taken?;
    ran.map_err(refusal::of_source)
}

/// The other end of the source's channels.
struct Hose {
    batches: mpsc::Receiver<Batch>,
    emptied: mpsc::Sender<Batch>,
    /// Nothing is published, so everything taken counts as done: a temporary slot need not keep it.
    acked: watch::Sender<Option<Position>>,
}

impl Hose {
    async fn pass_on(
        &mut self,
        taker: &mut impl Taker,
        duration: Option<Duration>,
    ) -> anyhow::Result<()> {
        let ended = ended(duration);
        tokio::pin!(ended);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let batch = tokio::select! {
                batch = self.batches.recv() => batch,
                ended = &mut ended => return ended.map_err(Into::into),
                _ = ticks.tick() => {
                    taker.tick()?;
                    continue;
                }
            };
            let Some(batch) = batch else {
                return Ok(());
            };
            let flow = taker.batch(&batch);
            // Also after an error: a source that shuts down waits until its last commit is done.
            self.done(batch);
            if flow? == Flow::Enough {
                return Ok(());
            }
            if self.batches.is_empty() {
                taker.flush()?;
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
