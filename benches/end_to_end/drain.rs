//! Draining a backlog: the floor and Rowbridge in turns, three times each.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rowbridge_testbed::consumer::{EndOffsets, read_each};

use crate::Servers;
use crate::backlog::{self, Backlog, connect};
use crate::floor;
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::pipeline::Pipeline;
use crate::report::{Report, median, round};

const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(600);

/// One drain by Rowbridge.
struct Drained {
    took: Duration,
    cpu_s: f64,
    rss_mib: f64,
    events: u64,
    lost: u64,
    duplicates: u64,
}

pub(crate) async fn run(servers: &Servers, backlog: &Backlog<'_>) -> Result<Report> {
    backlog::prepare(servers).await?;
    let client = connect(&servers.url).await?;
    let mut pipelines = Vec::new();
    for repeat in 1..=REPEATS {
        let pipeline = Pipeline::new(servers, &format!("bench{repeat}"))?;
        let mut first = pipeline.start()?;
        first.ready().await?;
        first.stop().await?;
        client
            .execute(
                "SELECT pg_copy_logical_replication_slot($1::text::name, $2::text::name)",
                &[&pipeline.slot(), &floor_slot(repeat)],
            )
            .await?;
        pipelines.push(pipeline);
    }
    eprintln!("{}: writing {} rows", backlog.name, backlog.rows);
    backlog.write(servers).await?;
    let end: String = client
        .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
        .await?
        .get(0);
    client.batch_execute("CHECKPOINT").await?;

    let (mut floors, mut drains) = (Vec::new(), Vec::new());
    for (at, pipeline) in pipelines.iter().enumerate() {
        let took = floor::drain(servers, &floor_slot(at + 1), "rowbridge_bench1", &end).await?;
        eprintln!(
            "{}: pg_recvlogical took {:.2} s",
            backlog.name,
            took.as_secs_f64()
        );
        floors.push(took);
        let drained = drain(servers, pipeline, backlog, &end).await?;
        eprintln!(
            "{}: rowbridge took {:.2} s, {:.2} CPU-s, {:.0} MiB",
            backlog.name,
            drained.took.as_secs_f64(),
            drained.cpu_s,
            drained.rss_mib
        );
        drains.push(drained);
    }
    Ok(report(backlog, &floors, &drains))
}

fn floor_slot(repeat: usize) -> String {
    format!("floor{repeat}")
}

/// Starts Rowbridge and waits until its events cover the backlog; then counts them.
async fn drain(
    servers: &Servers,
    pipeline: &Pipeline,
    backlog: &Backlog<'_>,
    end: &str,
) -> Result<Drained> {
    let offsets = EndOffsets::committed(&servers.kafka.brokers(), &pipeline.topic())?;
    let client = connect(&servers.url).await?;
    let started = Instant::now();
    let process = pipeline.start()?;
    // Samples of the last stable offsets; which of them covered the last event is known afterwards.
    let mut samples = Vec::new();
    let query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1";
    let mut asked = Instant::now();
    loop {
        samples.push((started.elapsed(), offsets.read()?));
        if asked.elapsed() > Duration::from_millis(200) {
            asked = Instant::now();
            if client
                .query_one(query, &[&pipeline.slot(), &end])
                .await?
                .get::<_, bool>(0)
            {
                break;
            }
        }
        if started.elapsed() > DEADLINE {
            bail!(
                "the backlog was not drained within {DEADLINE:?}:\n{}",
                process.log()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (cpu_s, rss_mib) = (cpu_seconds(process.pid()?)?, rss_peak_mib(process.pid()?)?);
    samples.push((started.elapsed(), offsets.read()?));
    process.stop().await?;

    let mut seen = HashSet::new();
    let (mut events, mut duplicates, mut last) = (0, 0, (0, 0));
    let last_seat = format!("S{}", backlog.rows);
    read_each(&servers.kafka.brokers(), &pipeline.topic(), |event| {
        events += 1;
        let seat = event.field("seat");
        if seat == last_seat {
            last = (event.partition, event.offset);
        }
        if event.kind() != "SeatReassigned" || !seen.insert(seat) {
            duplicates += 1;
        }
    })?;
    let lost = backlog.rows.saturating_sub(seen.len() as u64);
    let covered = samples
        .iter()
        .find(|(_, offsets)| offsets.get(&last.0).is_some_and(|offset| *offset > last.1));
    let took = covered
        .context("the last event was never covered by the last stable offset")?
        .0;
    Ok(Drained {
        took,
        cpu_s,
        rss_mib,
        events,
        lost,
        duplicates,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn report(backlog: &Backlog<'_>, floors: &[Duration], drains: &[Drained]) -> Report {
    let rows = backlog.rows as f64;
    let events = drains
        .iter()
        .map(|drained| drained.events)
        .min()
        .unwrap_or_default();
    let rate = |took: &Duration| rows / took.as_secs_f64();
    let ratios = floors
        .iter()
        .zip(drains)
        .map(|(floor, drained)| floor.as_secs_f64() / drained.took.as_secs_f64());
    Report {
        workload: backlog.name.to_owned(),
        rows_per_s: Some(round(
            median(drains.iter().map(|drained| rate(&drained.took)).collect()),
            0,
        )),
        floor_rows_per_s: Some(round(median(floors.iter().map(rate).collect()), 0)),
        ratio_to_floor: Some(round(median(ratios.collect()), 3)),
        events,
        events_per_s: round(
            median(
                drains
                    .iter()
                    .map(|drained| drained.events as f64 / drained.took.as_secs_f64())
                    .collect(),
            ),
            0,
        ),
        rss_peak_mib: round(
            drains
                .iter()
                .map(|drained| drained.rss_mib)
                .fold(0.0, f64::max),
            1,
        ),
        cpu_s_per_million_events: round(
            median(
                drains
                    .iter()
                    .map(|drained| drained.cpu_s * 1e6 / drained.events as f64)
                    .collect(),
            ),
            2,
        ),
        lost: drains.iter().map(|drained| drained.lost).sum(),
        duplicates: drains.iter().map(|drained| drained.duplicates).sum(),
        ..Report::default()
    }
}
