//! Latency: from a commit's answer to a `read_committed` consumer, open loop, beside a bare client.
//!
//! The broker's JVM compiles its hot code for half a minute; what it does to latency meanwhile says nothing
//! about any client of it. So the writing starts [`WARM_UP`] early, at the same rate: those commits count for
//! everything (lost, duplicates, CPU) but the percentiles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rowbridge_testbed::consumer::follow;
use tokio::task::{JoinHandle, JoinSet};

use crate::Servers;
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::pipeline::Pipeline;
use crate::report::{Report, median, round};

/// Connections that share the writing, so that one slow commit does not delay the next.
const WRITERS: u64 = 8;

/// Time before the commits whose latency is reported.
const WARM_UP: Duration = Duration::from_secs(30);

/// Starts whose time is taken.
const STARTS: usize = 5;

/// How long after the last commit events may still arrive.
const GRACE: Duration = Duration::from_secs(30);

/// Nanoseconds since the start, per commit: written by one thread, read at the end; 0 is never.
#[derive(Clone)]
pub(crate) struct Times(Arc<Vec<AtomicU64>>);

impl Times {
    fn of(commits: u64) -> Self {
        Self(Arc::new((0..=commits).map(|_| AtomicU64::new(0)).collect()))
    }

    fn set(&self, number: u64, start: Instant) {
        if let Some(time) = self.0.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            time.store(nanos(start), Ordering::Relaxed);
        }
    }

    /// Notes the arrival of the commit that set seat `S<number>`; false if it came already.
    pub(crate) fn note(&self, seat: &str, start: Instant) -> bool {
        let number: usize = seat.trim_start_matches('S').parse().unwrap_or(usize::MAX);
        self.0.get(number).is_some_and(|time| {
            time.compare_exchange(0, nanos(start), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Milliseconds from these to `later` of the commits from `first` on, sorted; only where both are known.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a minute")]
    fn until(&self, later: &Self, first: usize) -> Vec<f64> {
        let pairs = self.0[first..]
            .iter()
            .zip(&later.0[first..])
            .map(|(from, to)| (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed)));
        // An event may overtake the answer to its own commit: that is zero, not negative.
        let mut milliseconds: Vec<f64> = pairs
            .filter(|(from, to)| *from > 0 && *to > 0)
            .map(|(from, to)| to.saturating_sub(from) as f64 / 1e6)
            .collect();
        milliseconds.sort_by(f64::total_cmp);
        milliseconds
    }
}

pub(crate) async fn run(
    servers: &Servers,
    name: &str,
    per_second: u64,
    measured: u64,
) -> Result<Report> {
    let commits = per_second * WARM_UP.as_secs() + measured;
    servers.source.prepare().await?;
    let pipeline = Pipeline::new(servers, "bench1")?;
    let mut process = pipeline.start()?;
    process.ready().await?;
    let start = Instant::now();
    let [committed, received] = [(); 2].map(|()| Times::of(commits));
    let arrivals = Arc::new(Arrivals::new(commits));
    let bare = servers.source.follow(received.clone(), start).await?;
    let consumer = consume(servers, &pipeline, &arrivals, start);

    let cpu_before = cpu_seconds(process.pid()?)?;
    write(servers, per_second, commits, &committed, start).await?;
    let written = Instant::now();
    while arrivals.events.load(Ordering::Relaxed) < commits && written.elapsed() < GRACE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    arrivals.done.store(true, Ordering::Relaxed);
    consumer.await??;
    bare.abort();
    let cpu_s = cpu_seconds(process.pid()?)? - cpu_before;
    let rss_peak_mib = rss_peak_mib(process.pid()?)?;
    process.stop().await?;
    let start_ms = start_ms(&pipeline).await?;

    let warm = usize::try_from(commits - measured)?;
    let latencies = committed.until(&arrivals.published, warm);
    let floor = committed.until(&received, warm);
    let duplicates = arrivals.duplicates.load(Ordering::Relaxed);
    let events = arrivals.events.load(Ordering::Relaxed) - duplicates;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(Report {
        workload: name.to_owned(),
        events,
        events_per_s: round(events as f64 / (commits as f64 / per_second as f64), 0),
        rss_peak_mib: round(rss_peak_mib, 1),
        cpu_s_per_million_events: round(cpu_s * 1e6 / events.max(1) as f64, 2),
        p50_ms: percentile(&latencies, 50.0),
        p95_ms: percentile(&latencies, 95.0),
        p99_ms: percentile(&latencies, 99.0),
        max_ms: percentile(&latencies, 100.0),
        start_ms: Some(round(start_ms, 0)),
        floor_p99_ms: percentile(&floor, 99.0),
        lost: commits.saturating_sub(events),
        duplicates,
        ..Report::default()
    })
}

/// From the start of the process to its being ready, which it is when it streams; the middle of five.
async fn start_ms(pipeline: &Pipeline) -> Result<f64> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut process = pipeline.start()?;
        process.ready().await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        process.stop().await?;
    }
    Ok(median(took))
}

/// What the consumer saw so far.
struct Arrivals {
    published: Times,
    events: AtomicU64,
    duplicates: AtomicU64,
    done: AtomicBool,
}

impl Arrivals {
    fn new(commits: u64) -> Self {
        Self {
            published: Times::of(commits),
            events: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }
}

/// A `read_committed` consumer that notes when each event arrives, until it is told that all is done.
fn consume(
    servers: &Servers,
    pipeline: &Pipeline,
    arrivals: &Arc<Arrivals>,
    start: Instant,
) -> JoinHandle<Result<()>> {
    let (brokers, topic) = (servers.kafka.brokers(), pipeline.topic());
    let arrivals = Arc::clone(arrivals);
    tokio::task::spawn_blocking(move || {
        follow(&brokers, &topic, &arrivals.done, |event| {
            arrivals.events.fetch_add(1, Ordering::Relaxed);
            if !arrivals.published.note(&event.field("seat"), start) {
                arrivals.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        })
    })
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Commits at a fixed rate, whatever the answers' latency.
async fn write(
    servers: &Servers,
    per_second: u64,
    commits: u64,
    committed: &Times,
    start: Instant,
) -> Result<()> {
    let begin = tokio::time::Instant::now() + Duration::from_millis(500);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let source = servers.source.writer().await?;
        let committed = committed.clone();
        writers.spawn(async move {
            for number in (1 + writer..=commits).step_by(usize::try_from(WRITERS)?) {
                tokio::time::sleep_until(
                    begin + Duration::from_nanos(1_000_000_000 / per_second * number),
                )
                .await;
                source.write(number).await?;
                committed.set(number, start);
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts far below 2^52"
)]
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let at = ((sorted.len() as f64 * percent / 100.0).ceil() as usize).saturating_sub(1);
    sorted.get(at).map(|value| round(*value, 2))
}
