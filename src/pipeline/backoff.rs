//! Pauses between attempts: exponential, with jitter, capped by `limits.backoff_max`.

use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

use super::Limits;

/// How often a blocked thread looks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(20);

/// The pauses of one row of failures.
pub(super) fn delays(limits: &Limits) -> impl Iterator<Item = Duration> + use<> {
    ExponentialBuilder::default()
        .with_min_delay(limits.backoff_min)
        .with_max_delay(limits.backoff_max)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Blocks this thread for `pause`, or until `stop`.
pub(super) fn block_unless(stop: &CancellationToken, pause: Duration) {
    let end = Instant::now() + pause;
    while !stop.is_cancelled() && Instant::now() < end {
        thread::sleep(STOP_POLL.min(end.saturating_duration_since(Instant::now())));
    }
}
