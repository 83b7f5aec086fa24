//! Following changes as the commands do that only look: until the time, a limit or the user ends it.
//!
//! [`follow`] is for the configuration's source: a temporary slot, or none; it leaves the database as it was.

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
mod live;

use std::io;
use std::time::Duration;

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
pub(super) use live::{Live, follow};
use rowbridge_api::Batch;
use tokio::signal::unix::{SignalKind, signal};

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    /// The limit is reached, or nobody reads the output any more.
    Enough,
}

/// What takes a source's batches.
pub(super) trait Taker {
    /// # Errors
    /// The rules do not fit the source, or output fails.
    fn batch(&mut self, batch: &Batch) -> anyhow::Result<Flow>;

    /// Makes what was taken visible: the source has nothing more right now.
    fn flush(&mut self) -> io::Result<()>;

    /// Called about every [`TICK`], whether or not something comes.
    #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Often enough to look alive.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
const TICK: Duration = Duration::from_millis(250);

/// Returns on SIGINT or SIGTERM, or when `duration` is over.
pub(super) async fn ended(duration: Option<Duration>) -> io::Result<()> {
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
