//! What the stories differ in: the server, how its writes look, and the file that tells them.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rowbridge_testbed::Kafka;
use serde::de::DeserializeOwned;

use crate::daemon::Daemon;
use crate::story::{Statement, Story};

const DEADLINE: Duration = Duration::from_secs(60);

/// A source with what is in it before Rowbridge comes, and the story of what is written there then.
pub(crate) trait Stage: Sized + Send + Sync + 'static {
    /// The pipeline's name, and its pack's below `mappings/`.
    const NAME: &'static str;
    /// What `--keep` and the setting below `source` call the server.
    const SERVER: &'static str;

    /// One write, printed as its users know it.
    type Write: Clone + Display + DeserializeOwned + Send + Sync;

    fn story() -> Result<Story<Self::Write>>;

    /// The source and Kafka, ready for the daemon.
    fn start() -> impl Future<Output = Result<(Self, Kafka)>>;

    /// The daemon's configuration; addresses and the pack are in its environment.
    fn config() -> Result<String>;

    fn url(&self) -> &str;

    fn write(&self, write: &Self::Write) -> impl Future<Output = Result<()>> + Send;

    /// Everything that is written now, as a mark for [`Stage::has_passed`].
    fn mark(&self) -> impl Future<Output = Result<String>>;

    /// Whether the daemon committed everything up to a mark.
    fn has_passed(&self, mark: &str, daemon: &Daemon) -> impl Future<Output = Result<bool>>;

    /// Fills in a group that nobody publishes yet; the one write that publishes all of it.
    fn group(&self) -> impl Future<Output = Result<Statement<Self::Write>>>;
}

/// Waits until the daemon committed everything that is written now.
pub(crate) async fn acknowledged<S: Stage>(stage: &S, daemon: &Daemon) -> Result<()> {
    let mark = stage.mark().await?;
    let started = Instant::now();
    while !stage.has_passed(&mark, daemon).await? {
        if started.elapsed() > DEADLINE {
            bail!("the daemon did not come to {mark} within {DEADLINE:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
