//! Pauses between sessions and attempts: exponential, with jitter, capped by `limits.backoff_max`.

use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

use super::session::Ended;
use super::{Limits, Plan};
use crate::refusal::Refusal;

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

/// What is done after a session that ended without being asked to.
pub(super) struct Recovery<'a, M> {
    plan: &'a Plan<M>,
    /// Commits before the session at hand.
    commits: u64,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl<'a, M> Recovery<'a, M> {
    pub(super) fn new(plan: &'a Plan<M>) -> Self {
        Self {
            plan,
            commits: plan.meters.commits(),
            delays: Box::new(delays(&plan.limits)),
        }
    }

    /// Waits as long as is good before the next session, or until shutdown.
    ///
    /// # Errors
    /// It was refused: there is no next one.
    pub(super) async fn after(&mut self, ended: Ended) -> Result<(), Refusal> {
        let Plan {
            meters,
            limits,
            shutdown,
            ..
        } = self.plan;
        let pause = match ended {
            Ended::Refused(refusal) => {
                meters.refused(&refusal);
                return Err(refusal);
            }
            Ended::Standby { holder } => {
                meters.standby(&holder);
                limits.standby_poll
            }
            Ended::Transient { peer, problem } => {
                if meters.commits() > self.commits {
                    self.delays = Box::new(delays(limits)); // It worked in between: a new row of failures.
                }
                let pause = self.delays.next().unwrap_or(limits.backoff_max);
                meters.retrying(peer, &problem, pause);
                pause
            }
        };
        self.commits = meters.commits();
        let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
        Ok(())
    }
}

/// Blocks this thread for `pause`, or until `stop`.
pub(super) fn block_unless(stop: &CancellationToken, pause: Duration) {
    let end = Instant::now() + pause;
    while !stop.is_cancelled() && Instant::now() < end {
        thread::sleep(STOP_POLL.min(end.saturating_duration_since(Instant::now())));
    }
}
