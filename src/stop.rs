//! How a process is told to stop.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Why a process does not wait for its last commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    SecondSignal,
    GraceIsOver,
}

/// On the first SIGTERM or SIGINT cancels `shutdown`; ends when a second one comes, or the grace period is over.
pub(crate) async fn told_to_stop(shutdown: CancellationToken, grace: Duration) -> io::Result<Cut> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(
        grace_seconds = grace.as_secs(),
        "stopping: committing what was received"
    );
    shutdown.cancel();
    Ok(tokio::select! {
        _ = terminate.recv() => Cut::SecondSignal,
        _ = interrupt.recv() => Cut::SecondSignal,
        () = tokio::time::sleep(grace) => Cut::GraceIsOver,
    })
}
