//! What the pipeline is doing, as probes and metrics tell it.
//!
//! The pipeline writes it, `/readyz` and the metric `rowbridge_pipeline_state` read it: one truth for both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rowbridge_api::State;
use tokio::sync::watch;

/// Which side of the pipeline something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Source,
    Sink,
    /// The working copy of the state, on this machine.
    State,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Source, Self::Sink, Self::State];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::State => "state",
        }
    }
}

/// What the pipeline is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    /// Another instance has the source; `holder` says who.
    Standby {
        holder: String,
    },
    /// Reads the existing rows.
    Snapshot,
    /// Changes arrive and are published.
    Streaming,
    /// Everything that arrived is published.
    Idle,
    /// Waits before it starts again; `problem` holds no row value and no secret.
    Retrying {
        peer: Peer,
        problem: String,
    },
    /// Stopped for good; the process is about to end.
    Refused {
        state: State,
        problem: String,
    },
    /// Was asked to end and commits what it has.
    Stopping,
}

impl Phase {
    /// Its label in `rowbridge_pipeline_state`: a named state (`STANDBY`, or a [`State`] when refused) in upper
    /// case, else what it does in lower case.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby { .. } => "STANDBY",
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Idle => "idle",
            Self::Retrying { .. } => "retrying",
            Self::Refused { state, .. } => state.as_str(),
            Self::Stopping => "stopping",
        }
    }

    /// Labels of all phases that are not refusals.
    pub(crate) const RUNNING: [&'static str; 7] = [
        "starting",
        "STANDBY",
        "snapshot",
        "streaming",
        "idle",
        "retrying",
        "stopping",
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())?;
        match self {
            Self::Standby { holder } => write!(f, ": {holder} has the source"),
            Self::Retrying { peer, problem } => write!(f, ": {}: {problem}", peer.as_str()),
            Self::Refused { problem, .. } => write!(f, ": {problem}"),
            _ => Ok(()),
        }
    }
}

/// Shared between the pipeline and whoever asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    phase: watch::Sender<Phase>,
    /// When the position was last confirmed, in milliseconds since `born`.
    confirmed_ms: Arc<AtomicU64>,
    born: Instant,
    stale_after: Duration,
}

impl Health {
    /// Starts as [`Phase::Starting`]. A position not confirmed for `stale_after` is no longer fresh.
    #[must_use]
    pub fn new(stale_after: Duration) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            confirmed_ms: Arc::default(),
            born: Instant::now(),
            stale_after,
        }
    }

    /// Says what the pipeline does now. Wakes watchers only if that is news.
    pub fn set(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let changed = *current != phase;
            *current = phase;
            changed
        });
    }

    /// The position is where it should be: a commit succeeded, or the source was heard from while nothing
    /// was in flight. One atomic store; may be called for every commit.
    pub fn confirm(&self) {
        self.confirmed_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// What the pipeline does.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// To wait for a phase.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Ready: streaming or idle, with a fresh position; else why not. Both as text for people.
    ///
    /// # Errors
    /// Not ready.
    pub fn ready(&self) -> Result<String, String> {
        let phase = self.phase.borrow();
        if !matches!(*phase, Phase::Streaming | Phase::Idle) {
            return Err(phase.to_string());
        }
        let silent = Duration::from_millis(
            self.age_ms()
                .saturating_sub(self.confirmed_ms.load(Ordering::Relaxed)),
        );
        if silent > self.stale_after {
            return Err(format!(
                "{}: position not confirmed for {} s (http.stale_after_seconds = {})",
                *phase,
                silent.as_secs(),
                self.stale_after.as_secs()
            ));
        }
        Ok(phase.to_string())
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_streaming_or_idle_with_a_fresh_position() {
        let health = Health::new(Duration::from_secs(3600));
        assert_eq!(health.ready(), Err("starting".to_owned()));
        health.set(Phase::Streaming);
        assert_eq!(health.ready(), Ok("streaming".to_owned()));
        health.set(Phase::Idle);
        assert_eq!(health.ready(), Ok("idle".to_owned()));
        health.set(Phase::Refused {
            state: State::Gap,
            problem: "the slot was advanced".to_owned(),
        });
        assert_eq!(health.ready(), Err("GAP: the slot was advanced".to_owned()));
    }

    #[test]
    fn a_stale_position_is_not_ready() {
        let mut health = Health::new(Duration::from_secs(60));
        health.set(Phase::Streaming);
        health.born -= Duration::from_secs(100);
        assert!(
            health
                .ready()
                .unwrap_err()
                .contains("not confirmed for 100 s")
        );
        health.confirm();
        assert!(health.ready().is_ok());
    }

    #[test]
    fn only_news_wakes() {
        let health = Health::new(Duration::from_secs(60));
        let mut watch = health.watch();
        health.set(Phase::Starting);
        assert!(!watch.has_changed().unwrap());
        health.set(Phase::Idle);
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
    }
}
