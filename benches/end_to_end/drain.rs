//! Draining a backlog: the floor and Rowbridge in turns, three times each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rowbridge_api::Position;

use crate::Servers;
use crate::backlog::Backlog;
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::pipeline::Pipeline;
use crate::report::{Report, median, round};
use crate::source::Source;
use crate::tally::{self, Tally, Watch};

pub(crate) const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(600);
/// The broker writes the markers of a transaction, which let readers see it, after it has answered the commit.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// One drain by Rowbridge.
pub(crate) struct Drained {
    pub(crate) tally: Tally,
    pub(crate) cpu_s: f64,
    pub(crate) rss_mib: f64,
}

pub(crate) async fn run(servers: &Servers, backlog: &Backlog<'_>) -> Result<Report> {
    let source = &servers.source;
    source.prepare().await?;
    let warm_up = started_once(servers, 0).await?;
    let mut pipelines = Vec::new();
    for repeat in 1..=REPEATS {
        let pipeline = started_once(servers, repeat).await?;
        source.begin_floor(repeat, &pipeline).await?;
        pipelines.push(pipeline);
    }
    eprintln!("{}: writing {} rows", backlog.name, backlog.rows);
    let end = source.write(backlog).await?;

    // A broker that has just started compiles its code for as long as a whole drain takes; one in use has done so.
    let unmeasured = drain(servers, &warm_up, backlog, &end).await?;
    eprintln!(
        "{}: the broker is warm after {:.2} s",
        backlog.name,
        unmeasured.tally.took.as_secs_f64()
    );
    let (mut floors, mut drains) = (Vec::new(), Vec::new());
    for (repeat, pipeline) in (1..).zip(&pipelines) {
        let took = source.floor(repeat, backlog, &end).await?;
        eprintln!(
            "{}: the bare client took {:.2} s",
            backlog.name,
            took.as_secs_f64()
        );
        floors.push(took);
        let drained = drain(servers, pipeline, backlog, &end).await?;
        eprintln!(
            "{}: rowbridge took {:.2} s, {:.2} CPU-s, {:.0} MiB",
            backlog.name,
            drained.tally.took.as_secs_f64(),
            drained.cpu_s,
            drained.rss_mib
        );
        drains.push(drained);
    }
    Ok(report(backlog, &floors, &drains))
}

/// A pipeline that goes on from where it was started first: before the backlog is written.
async fn started_once(servers: &Servers, number: usize) -> Result<Pipeline> {
    let pipeline = Pipeline::new(servers, &format!("bench{number}"))?;
    let mut first = pipeline.start()?;
    first.ready().await?;
    first.stop().await?;
    Ok(pipeline)
}

/// Starts Rowbridge and waits until its events cover the backlog; then counts them.
pub(crate) async fn drain(
    servers: &Servers,
    pipeline: &Pipeline,
    backlog: &Backlog<'_>,
    end: &Position,
) -> Result<Drained> {
    let mut watch = Watch::new(servers, pipeline)?;
    let mut started = Instant::now();
    let process = pipeline.start()?;
    if matches!(servers.source, Source::MongoDb(_)) {
        // MongoDB keeps nobody out: a start waits until the last commit is some seconds old, which is no draining.
        process.goes_on().await?;
        started = Instant::now();
    }
    let mut asked = Instant::now();
    loop {
        watch.sample(started.elapsed())?;
        if asked.elapsed() > Duration::from_millis(200) {
            asked = Instant::now();
            if servers.source.is_drained(pipeline, &process, end).await? {
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
    let drained = Instant::now();
    while drained.elapsed() < SETTLES_WITHIN {
        watch.sample(started.elapsed())?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.stop().await?;
    Ok(Drained {
        tally: tally::count(servers, pipeline, backlog, &watch)?,
        cpu_s,
        rss_mib,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn report(backlog: &Backlog<'_>, floors: &[Duration], drains: &[Drained]) -> Report {
    let rows = backlog.rows as f64;
    let events = drains
        .iter()
        .map(|drained| drained.tally.events)
        .min()
        .unwrap_or_default();
    let rate = |took: &Duration| rows / took.as_secs_f64();
    let ratios = floors
        .iter()
        .zip(drains)
        .map(|(floor, drained)| floor.as_secs_f64() / drained.tally.took.as_secs_f64());
    Report {
        workload: backlog.name.to_owned(),
        rows_per_s: Some(round(
            median(
                drains
                    .iter()
                    .map(|drained| rate(&drained.tally.took))
                    .collect(),
            ),
            0,
        )),
        floor_rows_per_s: Some(round(median(floors.iter().map(rate).collect()), 0)),
        ratio_to_floor: Some(round(median(ratios.collect()), 3)),
        events,
        events_per_s: round(
            median(
                drains
                    .iter()
                    .map(|drained| drained.tally.events as f64 / drained.tally.took.as_secs_f64())
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
                    .map(|drained| drained.cpu_s * 1e6 / drained.tally.events as f64)
                    .collect(),
            ),
            2,
        ),
        lost: drains.iter().map(|drained| drained.tally.lost).sum(),
        duplicates: drains.iter().map(|drained| drained.tally.duplicates).sum(),
        ..Report::default()
    }
}
