//! Latency: from a commit's answer to a `read_committed` consumer, open loop, beside a bare client.
//!
//! The broker's JVM compiles its hot code for half a minute; what it does to latency meanwhile says nothing
//! about any client of it. So the writing starts [`WARM_UP`] early, at the same rate: those commits count for
//! everything (lost, duplicates, CPU) but the percentiles.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::follow;
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, JoinSet};

use crate::Servers;
use crate::backlog::{self, SEGMENTS, connect};
use crate::floor;
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::pipeline::Pipeline;
use crate::report::{Report, round};

/// Connections that share the writing, so that one slow commit does not delay the next.
const WRITERS: u64 = 8;

/// Time before the commits whose latency is reported.
const WARM_UP: Duration = Duration::from_secs(30);

/// How long after the last commit events may still arrive.
const GRACE: Duration = Duration::from_secs(30);

/// Nanoseconds since the start, per commit: written by one thread, read at the end; 0 is never.
type Times = Arc<Vec<AtomicU64>>;

pub(crate) async fn run(
    servers: &Servers,
    name: &str,
    per_second: u64,
    measured: u64,
) -> Result<Report> {
    let commits = per_second * WARM_UP.as_secs() + measured;
    backlog::prepare(servers).await?;
    let pipeline = Pipeline::new(servers, "bench1")?;
    let mut process = pipeline.start()?;
    process.ready().await?;
    let client = connect(&servers.url).await?;
    client
        .execute(
            "SELECT pg_create_logical_replication_slot('floor', 'pgoutput')",
            &[],
        )
        .await?;

    let start = Instant::now();
    let [committed, received] = [(); 2].map(|()| times(commits));
    let arrivals = Arc::new(Arrivals::new(commits));
    let consumer = consume(servers, &pipeline, &arrivals, start);
    let bare = tokio::spawn(bare_client(
        floor::command(servers, "floor", "rowbridge_bench1")?,
        Arc::clone(&received),
        start,
    ));

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

    let warm = usize::try_from(commits - measured)?;
    let latencies = differences(&committed[warm..], &arrivals.published[warm..]);
    let floor = differences(&committed[warm..], &received[warm..]);
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
        floor_p99_ms: percentile(&floor, 99.0),
        lost: commits.saturating_sub(events),
        duplicates,
        ..Report::default()
    })
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
            published: times(commits),
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
            if !note(&arrivals.published, &event.field("seat"), start) {
                arrivals.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        })
    })
}

fn times(commits: u64) -> Times {
    Arc::new((0..=commits).map(|_| AtomicU64::new(0)).collect())
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Notes the arrival of the commit that set seat `S<number>`; false if it came already.
fn note(times: &Times, seat: &str, start: Instant) -> bool {
    let number: usize = seat.trim_start_matches('S').parse().unwrap_or(usize::MAX);
    times.get(number).is_some_and(|time| {
        time.compare_exchange(0, nanos(start), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    })
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
        let client = connect(&servers.url).await?;
        let committed = Arc::clone(committed);
        writers.spawn(async move {
            let update = client.prepare("UPDATE segments SET seat_no = $1, updated_at = clock_timestamp() WHERE id = $2").await?;
            for number in (1 + writer..=commits).step_by(usize::try_from(WRITERS)?) {
                tokio::time::sleep_until(begin + Duration::from_nanos(1_000_000_000 / per_second * number)).await;
                let id = i64::try_from(1 + number % SEGMENTS)?;
                client.execute(&update, &[&format!("S{number}"), &id]).await?;
                committed[usize::try_from(number)?].store(nanos(start), Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(())
}

/// `pg_recvlogical` into a pipe: when each new seat came by.
async fn bare_client(
    mut command: tokio::process::Command,
    received: Times,
    start: Instant,
) -> Result<()> {
    let mut child = command.args(["-f", "-"]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("a pipe")?;
    let mut buffer = vec![0; 1 << 16];
    let mut tail = Vec::new();
    loop {
        let read = output.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        tail.extend_from_slice(&buffer[..read]);
        // A seat is the text cell `S<digits>`, and the next cell's kind byte ends it. The old tuple's seat
        // was noted when it was new.
        let mut at = 0;
        while let Some(found) = tail[at..].iter().position(|byte| *byte == b'S') {
            let digits = tail[at + found + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let end = at + found + 1 + digits;
            if end == tail.len() {
                at += found;
                break;
            }
            if digits > 0 {
                note(
                    &received,
                    &String::from_utf8_lossy(&tail[at + found..end]),
                    start,
                );
            }
            at = end;
        }
        let keep = if tail[at..].first() == Some(&b'S') {
            at
        } else {
            tail.len()
        };
        tail.drain(..keep);
    }
}

/// Milliseconds between two times of the same commit, sorted; only where both are known.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a minute")]
fn differences(from: &[AtomicU64], to: &[AtomicU64]) -> Vec<f64> {
    let pairs = from
        .iter()
        .zip(to.iter())
        .map(|(from, to)| (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed)));
    // An event may overtake the answer to its own commit: that is zero, not negative.
    let mut milliseconds: Vec<f64> = pairs
        .filter(|(from, to)| *from > 0 && *to > 0)
        .map(|(from, to)| to.saturating_sub(from) as f64 / 1e6)
        .collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds
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
