//! The metrics of ARCHITECTURE.md, with handles that cost the pipeline one atomic add.
//!
//! Everything with a label is resolved when the pipeline starts, by rule number and by table and op; no event
//! looks anything up. What is only known when asked (state, lag, position) is computed when it is scraped.

mod reading;
mod rule_counters;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rowbridge_api::{Identity, Op, Position, SnapshotProgress, SourceStatus, State, TableName};

use crate::health::{Health, Peer, Phase};
use crate::mapping::memory::Size;
pub use reading::Reading;
use rule_counters::RuleCounters;

/// Upper bounds of `rowbridge_commit_to_visible_seconds`: fine around the promise (12 ms, 50 ms), coarse
/// where only "minutes behind" matters.
const VISIBLE_SECONDS: [f64; 17] = [
    0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
    120.0, 600.0,
];

/// How a Kafka transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResult {
    Committed,
    /// Nothing became visible.
    Failed,
    /// Only opening the sink again tells.
    Ambiguous,
}

impl CommitResult {
    const ALL: [Self; 3] = [Self::Committed, Self::Failed, Self::Ambiguous];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// In the order of [`Op`], so that an op is an index.
const OPS: [(Op, &str); 5] = [
    (Op::Insert, "insert"),
    (Op::Update, "update"),
    (Op::Delete, "delete"),
    (Op::Read, "read"),
    (Op::Truncate, "truncate"),
];

/// All metrics of one process. Cheap to clone; every method is safe to call from any thread.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    events: RuleCounters,
    quarantined: RuleCounters,
    changes: Family<TableOp, Counter>,
    commits: [Counter; 3],
    retries: [Counter; Peer::ALL.len()],
    visible: Histogram,
    lag_bytes: Gauge,
    safe_wal_bytes: Gauge,
    oplog_window: Gauge,
    channel_bytes: Gauge,
    state_entries: Gauge,
    state_memory_bytes: Gauge,
    state_disk_bytes: Gauge,
    live: Arc<Live>,
}

/// Counters of one table, by op: resolved when its shape arrives.
#[derive(Clone, Debug)]
pub struct TableCounters([Counter; 5]);

impl TableCounters {
    /// Counts `changes` of `op`.
    pub fn add(&self, op: Op, changes: u64) {
        self.0[op as usize].inc_by(changes);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableOp {
    table: String,
    op: &'static str,
}

type Label = [(&'static str, String); 1];

/// Name, help and label.
const QUARANTINED: (&str, &str, &str) = (
    "quarantined",
    "Records put into the quarantine topic, by the rule that failed",
    "rule",
);
const RETRIES: (&str, &str, &str) = (
    "retries",
    "Starts after a passing error, by whose error it was",
    "peer",
);

impl Metrics {
    /// Metrics for a mapping whose rules give events of `event_types`, in rule order.
    #[must_use]
    pub fn new(event_types: &[String], health: Health) -> Self {
        let mut registry = Registry::with_prefix("rowbridge");
        let live = Arc::new(Live::new(health));
        let visible = visible(&mut registry);
        let changes = Family::default();
        registry.register("changes", "Source changes received", changes.clone());
        register_build(&mut registry);
        let metrics = Self {
            events: RuleCounters::register(
                &mut registry,
                ("events", "Events published", "type"),
                event_types,
            ),
            quarantined: RuleCounters::register(&mut registry, QUARANTINED, event_types),
            changes,
            commits: named(
                &mut registry,
                ("kafka_commits", "Kafka transactions", "result"),
                CommitResult::ALL.map(CommitResult::as_str),
            ),
            retries: named(&mut registry, RETRIES, Peer::ALL.map(Peer::as_str)),
            visible,
            lag_bytes: gauge(
                &mut registry,
                "source_lag_bytes",
                "History the source holds for this pipeline",
            ),
            safe_wal_bytes: gauge(
                &mut registry,
                "slot_safe_wal_bytes",
                "What may still be written before the source drops the slot; -1 without a limit",
            ),
            oplog_window: gauge(
                &mut registry,
                "source_oplog_window_seconds",
                "From the oldest entry of MongoDB's oplog to the newest; -1 where that is not known",
            ),
            channel_bytes: gauge(
                &mut registry,
                "channel_bytes",
                "Source bytes read and not yet mapped",
            ),
            state_entries: gauge(
                &mut registry,
                "state_entries",
                "What rules remember: rows that they look up, by key and by index, and last events; about",
            ),
            state_memory_bytes: gauge(
                &mut registry,
                "state_memory_bytes",
                "What rules remember, as far as it is in memory",
            ),
            state_disk_bytes: gauge(
                &mut registry,
                "state_disk_bytes",
                "What rules remember, in the folder of the state",
            ),
            live: Arc::clone(&live),
            registry: Arc::default(),
        };
        metrics.safe_wal_bytes.set(-1);
        metrics.oplog_window.set(-1);
        registry.register_collector(Box::new(live));
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }

    /// Counts events of the rule numbered `rule` that became visible.
    pub fn add_events(&self, rule: u16, events: u64) {
        self.events.add(rule, events);
    }

    /// The same metrics, where rules are numbered as these are.
    #[must_use]
    pub fn of_rules(&self, event_types: &[String]) -> Self {
        Self {
            events: self.events.of_rules(event_types),
            quarantined: self.quarantined.of_rules(event_types),
            ..self.clone()
        }
    }

    /// Counts quarantine records of the rule numbered `rule` that became visible.
    pub fn add_quarantined(&self, rule: u16, records: u64) {
        self.quarantined.add(rule, records);
    }

    /// The counters of a table. Takes a lock: call it when a shape arrives, and keep the result.
    #[must_use]
    pub fn table(&self, table: &TableName) -> TableCounters {
        let counter = |(_, op): (Op, &'static str)| {
            let labels = TableOp {
                table: table.to_string(),
                op,
            };
            self.changes.get_or_create_owned(&labels)
        };
        TableCounters(OPS.map(counter))
    }

    /// Counts one Kafka transaction.
    pub fn commit(&self, result: CommitResult) {
        self.commits[result as usize].inc();
    }

    /// Counts one start after a passing error.
    pub fn retry(&self, peer: Peer) {
        self.retries[peer as usize].inc();
    }

    /// A source transaction committed at `commit_micros` became visible at `visible_micros` (both since
    /// 1970). Once per source transaction; clocks that disagree count as zero.
    pub fn visible(&self, commit_micros: i64, visible_micros: i64) {
        let micros = visible_micros.saturating_sub(commit_micros).max(0);
        self.visible.observe(seconds(micros));
    }

    /// The commit time of the oldest source transaction that was received and is not yet visible, or `None`
    /// if there is none. `rowbridge_source_lag_seconds` counts from it, so it grows while the sink is away.
    pub fn oldest_pending(&self, commit_micros: Option<i64>) {
        let micros = commit_micros.unwrap_or(Live::NOTHING_PENDING);
        self.live
            .oldest_pending_micros
            .store(micros, Ordering::Relaxed);
    }

    /// What the source tells about itself.
    pub fn source_status(&self, status: &SourceStatus) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lag_bytes.set(signed(status.lag_bytes.unwrap_or(0)));
        self.safe_wal_bytes
            .set(status.safe_wal_bytes.map_or(-1, signed));
        self.oplog_window
            .set(status.history_seconds.map_or(-1, signed));
        let mut snapshot = locked(&self.live.snapshot);
        snapshot.clone_from(&status.snapshot);
    }

    /// Source bytes in the channel.
    pub fn channel_bytes(&self, bytes: usize) {
        self.channel_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How much rules remember.
    pub fn state(&self, size: Size) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.state_entries.set(signed(size.entries as u64));
        self.state_memory_bytes.set(signed(size.memory_bytes));
        self.state_disk_bytes.set(signed(size.disk_bytes));
    }

    /// The committed position and whose it is. Once per Kafka commit.
    pub fn position(&self, position: &Position, source: &Identity) {
        let mut place = locked(&self.live.place);
        match &mut *place {
            Some((old, old_source)) if old_source == source => old.clone_from(position),
            other => *other = Some((position.clone(), source.clone())),
        }
    }

    /// Everything in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String does not fail");
        out
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Counters for a fixed set of label values, all present from the start.
fn named<const N: usize>(
    registry: &mut Registry,
    (name, help, label): (&str, &str, &'static str),
    values: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<Label, Counter>::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value.to_owned())]))
}

fn visible(registry: &mut Registry) -> Histogram {
    let histogram = Histogram::new(VISIBLE_SECONDS);
    registry.register(
        "commit_to_visible_seconds",
        "From the commit in the source to the commit in Kafka",
        histogram.clone(),
    );
    histogram
}

fn register_build(registry: &mut Registry) {
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    registry.register(
        "build",
        "What this process was built from",
        Info::new(build.to_vec()),
    );
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a metric; exact up to 285 years"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// What is computed when it is scraped.
#[derive(Debug)]
struct Live {
    health: Health,
    oldest_pending_micros: AtomicI64,
    place: Mutex<Option<(Position, Identity)>>,
    snapshot: Mutex<Option<SnapshotProgress>>,
}

/// What a panic of another thread left half done here is still a value.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    const NOTHING_PENDING: i64 = i64::MAX;

    const fn new(health: Health) -> Self {
        Self {
            health,
            oldest_pending_micros: AtomicI64::new(Self::NOTHING_PENDING),
            place: Mutex::new(None),
            snapshot: Mutex::new(None),
        }
    }

    fn lag_seconds(&self) -> f64 {
        let oldest = self.oldest_pending_micros.load(Ordering::Relaxed);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        seconds(now.saturating_sub(oldest).max(0))
    }

    fn encode_state(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "pipeline_state",
            "1 for what the pipeline does, 0 for everything else; terminal states in capitals.",
            None,
            MetricType::Gauge,
        )?;
        let current = self.health.phase();
        let refusals = State::ALL.iter().map(|state| state.as_str());
        for label in Phase::RUNNING.into_iter().chain(refusals) {
            let labels = [("state", label)];
            let value = ConstGauge::new(i64::from(label == current.label()));
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_place(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let place = locked(&self.place).clone();
        let Some((position, source)) = place else {
            return Ok(());
        };
        let mut metric = encoder.encode_descriptor(
            "position",
            "The last committed position.",
            None,
            MetricType::Info,
        )?;
        metric.encode_info(&[
            ("position", position.to_string()),
            ("source", source.source),
            ("history", source.history),
        ])
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_state(&mut encoder)?;
        self.encode_place(&mut encoder)?;
        let metric = encoder.encode_descriptor(
            "source_lag_seconds",
            "Age of the oldest source commit that was received and is not yet visible in Kafka; 0 if none.",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.lag_seconds()).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metrics() -> (Metrics, Health) {
        let health = Health::new(Duration::from_secs(60));
        let types = ["SeatSold", "FareChanged", "SeatSold"].map(str::to_owned);
        (Metrics::new(&types, health.clone()), health)
    }

    #[test]
    fn names_labels_and_help_are_as_documented() {
        let (metrics, health) = metrics();
        metrics.add_events(0, 2);
        metrics.add_events(2, 3);
        metrics.add_quarantined(1, 1);
        metrics
            .table(&TableName::new("public", "segments"))
            .add(Op::Update, 4);
        metrics.commit(CommitResult::Committed);
        metrics.commit(CommitResult::Ambiguous);
        metrics.retry(Peer::Sink);
        metrics.visible(1_000_000, 1_009_000);
        metrics.visible(1_000_000, 0);
        metrics.source_status(&SourceStatus {
            snapshot: None,
            lag_bytes: Some(4096),
            safe_wal_bytes: Some(1 << 30),
            history_seconds: Some(86_400),
        });
        metrics.channel_bytes(777);
        metrics.state(Size {
            entries: 12,
            memory_bytes: 3_000,
            disk_bytes: 9_000,
        });
        let source = Identity {
            source: "postgres/7/reservations".to_owned(),
            history: "1".to_owned(),
        };
        metrics.position(&Position::new(0x16_B374_D848), &source);
        health.set(Phase::Streaming);
        // Families come in the order of a hash map.
        let text = metrics.render();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_by_key(|line| (!line.starts_with('#'), *line));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn lag_grows_while_something_is_pending() {
        let (metrics, _) = metrics();
        let lag = || metrics.live.lag_seconds();
        assert!(lag() <= 0.0);
        metrics.oldest_pending(Some(0));
        assert!(lag() > 1e9, "counted from 1970: {}", lag());
        metrics.oldest_pending(None);
        assert!(lag() <= 0.0);
    }

    #[test]
    fn ops_are_in_order() {
        for (at, (op, _)) in OPS.iter().enumerate() {
            assert_eq!(*op as usize, at);
        }
    }

    #[test]
    fn a_rule_that_does_not_exist_is_ignored() {
        let (metrics, _) = metrics();
        metrics.add_events(u16::MAX, 1);
        metrics.add_quarantined(3, 1);
        assert!(!metrics.render().contains("rule=\"\""));
    }
}
