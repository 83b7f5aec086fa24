//! What the pipeline tells the metrics, the probes and the log.
//!
//! Counted locally per thread and handed over once per batch or commit: the hot path takes no lock and
//! touches no shared cache line per event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowbridge_api::{Identity, Op, Position, Shape, ShapeId, SourceStatus, Start, TableNeeds};
use tokio::sync::watch;

use super::committer::Begin;
use crate::event::{EncodedBatch, TopicId};
use crate::health::{Health, Peer, Phase};
use crate::mapping::memory::Size;
use crate::metrics::{CommitResult, Metrics, TableCounters};
use crate::refusal::Refusal;
use crate::sink::{Progress, SinkError};

/// Number of [`Op`]s.
const OPS: [Op; 5] = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];

/// Where everything that is observed goes.
#[derive(Clone)]
pub struct Meters {
    metrics: Metrics,
    health: Health,
    commits: Arc<AtomicU64>,
}

impl Meters {
    #[must_use]
    pub fn new(metrics: Metrics, health: Health) -> Self {
        Self {
            metrics,
            health,
            commits: Arc::default(),
        }
    }

    /// The same, for a mapping whose rules these are, in their order.
    #[must_use]
    pub fn of_rules(&self, event_types: &[String]) -> Self {
        Self {
            metrics: self.metrics.of_rules(event_types),
            ..self.clone()
        }
    }

    /// Commits of this process so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn standby(&self, holder: &str) {
        let phase = Phase::Standby {
            holder: holder.to_owned(),
        };
        if self.health.phase() != phase {
            tracing::info!(holder, "standing by: another instance has the source");
        }
        self.health.set(phase);
    }

    /// Rows are about to be read for a mapping that looks them up.
    pub(super) fn reading(&self, position: &Position, tables: &[TableNeeds]) {
        let tables: Vec<String> = tables.iter().map(|needs| needs.table.to_string()).collect();
        let tables = tables.join(", ");
        tracing::info!(%position, tables, "the mapping that published last is done; reading what the new one looks up");
        self.health.set(Phase::Snapshot);
    }

    /// A session starts from `begin`.
    pub(super) fn begun(&self, begin: &Begin, mapping_hash: &str) {
        if let Some(published) = begin
            .mapping_hash
            .as_deref()
            .filter(|published| *published != mapping_hash)
        {
            tracing::info!(
                published,
                now = mapping_hash,
                "the mapping changed; it applies from here"
            );
        }
        self.health.confirm();
        match &begin.start {
            Start::First { .. } => {
                tracing::info!("first start: reading the existing rows");
                self.health.set(Phase::Snapshot);
            }
            Start::Resume { position, .. } => {
                // Not ready yet: the source may still refuse to go on from there.
                tracing::info!(%position, "going on from the committed position");
                self.health.set(Phase::Starting);
            }
            Start::Frozen => {}
        }
    }

    pub(crate) fn retrying(&self, peer: Peer, problem: &str, pause: Duration) {
        tracing::warn!(
            peer = peer.as_str(),
            problem,
            pause_ms = pause.as_millis(),
            "starting again from the committed position"
        );
        self.metrics.retry(peer);
        self.health.set(Phase::Retrying {
            peer,
            problem: problem.to_owned(),
        });
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        self.health.set(Phase::Refused {
            state: refusal.state,
            problem: refusal.problem.clone(),
        });
    }

    pub(super) fn stopping(&self) {
        self.health.set(Phase::Stopping);
    }

    /// Hands what the source says of itself to the metrics until the source ends.
    pub(super) async fn follow(&self, mut status: watch::Receiver<SourceStatus>) {
        while status.changed().await.is_ok() {
            let status = status.borrow_and_update().clone();
            if let Some(progress) = &status.snapshot {
                let rows = progress.rows;
                tracing::debug!(rows, "reading the existing rows");
                self.health.confirm();
            }
            if status.lag_bytes.is_some() && self.health.phase() == Phase::Starting {
                self.health.set(Phase::Streaming);
            }
            self.metrics.source_status(&status);
        }
    }

    pub(super) fn mapper(&self) -> MapperMeter {
        MapperMeter {
            metrics: self.metrics.clone(),
            tables: Vec::new(),
        }
    }

    pub(super) fn committer(&self, source: Identity) -> CommitMeter {
        CommitMeter {
            meters: self.clone(),
            source,
            events: Vec::new(),
            quarantined: Vec::new(),
            commit_times: Vec::new(),
        }
    }
}

/// Counts changes on the mapper's thread.
pub(super) struct MapperMeter {
    metrics: Metrics,
    /// By shape.
    tables: Vec<(TableCounters, [u64; OPS.len()])>,
}

impl MapperMeter {
    /// A shape arrived; they are numbered in order.
    pub(super) fn bind(&mut self, shape: &Shape) {
        self.tables
            .push((self.metrics.table(&shape.table), [0; OPS.len()]));
    }

    #[inline]
    pub(super) fn change(&mut self, shape: ShapeId, op: Op) {
        self.tables[shape.0 as usize].1[op as usize] += 1;
    }

    /// How much the rules remember now.
    pub(super) fn remembered(&self, size: Size) {
        self.metrics.state(size);
    }

    /// Hands over what was counted since the last call.
    pub(super) fn flush(&mut self, waiting_bytes: usize) {
        self.metrics.channel_bytes(waiting_bytes);
        for (table, counts) in &mut self.tables {
            for op in OPS {
                let count = std::mem::take(&mut counts[op as usize]);
                if count > 0 {
                    table.add(op, count);
                }
            }
        }
    }
}

/// Counts events on the committer's thread; they count once they are visible.
pub(super) struct CommitMeter {
    meters: Meters,
    source: Identity,
    /// By rule.
    events: Vec<u64>,
    quarantined: Vec<u64>,
    /// Commit times of the source transactions in the commit at hand.
    commit_times: Vec<i64>,
}

impl CommitMeter {
    pub(super) fn open_failed(&self, error: &SinkError, pause: Duration) {
        self.meters.retrying(Peer::Sink, &error.to_string(), pause);
    }

    /// A batch went into the commit at hand.
    pub(super) fn written(&mut self, batch: &EncodedBatch) {
        for record in &batch.records {
            if record.topic == TopicId::STATE {
                continue;
            }
            let counts = if record.topic == TopicId::QUARANTINE {
                &mut self.quarantined
            } else {
                &mut self.events
            };
            let rule = usize::from(record.rule);
            if counts.len() <= rule {
                counts.resize(rule + 1, 0);
            }
            counts[rule] += 1;
            if self.commit_times.last() != Some(&record.commit_micros) {
                if self.commit_times.is_empty() {
                    self.meters
                        .metrics
                        .oldest_pending(Some(record.commit_micros));
                }
                self.commit_times.push(record.commit_micros);
            }
        }
    }

    pub(super) fn failed(&self, error: &SinkError) {
        let ambiguous = matches!(error, SinkError::Ambiguous { .. });
        self.meters.metrics.commit(if ambiguous {
            CommitResult::Ambiguous
        } else {
            CommitResult::Failed
        });
    }

    /// The commit at hand is visible.
    pub(super) fn committed(&mut self, progress: &Progress) {
        let Meters {
            metrics,
            health,
            commits,
        } = &self.meters;
        commits.fetch_add(1, Ordering::Relaxed);
        metrics.commit(CommitResult::Committed);
        metrics.oldest_pending(None);
        health.confirm();
        let phase = if self.commit_times.is_empty() {
            Phase::Idle
        } else {
            Phase::Streaming
        };
        if let Progress::At { position, .. } = progress {
            metrics.position(position, &self.source);
            health.set(phase);
        }
        let visible = now_micros();
        for commit_micros in self.commit_times.drain(..) {
            metrics.visible(commit_micros, visible);
        }
        for (counts, add) in [
            (
                &mut self.events,
                Metrics::add_events as fn(&Metrics, u16, u64),
            ),
            (&mut self.quarantined, Metrics::add_quarantined),
        ] {
            for (rule, count) in (0..).zip(counts.iter_mut()) {
                let count = std::mem::take(count);
                if count > 0 {
                    add(metrics, rule, count);
                }
            }
        }
    }
}

fn now_micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
