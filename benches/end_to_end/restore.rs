//! How long a state takes to come back, and what it takes of memory: rows that others look up, kept by a first start, read
//! back from the topic into an empty folder, then looked up at random.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rowbridge_testbed::consumer::read_each;

use crate::Servers;
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::pipeline::{Pack, Pipeline};
use crate::report::{Report, round};
use crate::source::Source;

const DEADLINE: Duration = Duration::from_secs(600);
/// Changes that look a row up.
const LOOKUPS: u64 = 200_000;

const SCHEMA: &str = "
CREATE TABLE member (id int8 PRIMARY KEY, tier text NOT NULL, name text NOT NULL, points int8 NOT NULL, joined date NOT NULL);
CREATE TABLE visit (id int8 PRIMARY KEY, member int8 NOT NULL);
ALTER TABLE visit REPLICA IDENTITY FULL;
";

const MAPPING: &str = r#"
[mapping]
name = "visits"
version = 1
[tables]
visit = "public.visit"
member = "public.member"
[topics.inventory]
name = "travel.inventory"
partitions = 6
[[event]]
type = "Visited"
table = "visit"
topic = "inventory"
key = "{member}"
on = "insert"
[event.lookup.member]
table = "member"
where = { id = "$.row.member" }
[event.data]
id = "$.row.id"
member = "$.row.member"
tier = "$.member.tier"
name = "$.member.name"
points = "$.member.points"
joined = "$.member.joined"
"#;

const SCHEMA_TOML: &str = r#"
[visit]
key = ["id"]
[visit.columns]
id = "int8"
member = "int8"
[member]
key = ["id"]
[member.columns]
id = "int8"
tier = "text"
name = "text"
points = "int8"
joined = "date"
"#;

pub(crate) async fn run(servers: &Servers, workload: &str, rows: u64) -> Result<Report> {
    let Source::Postgres(reservations) = &servers.source else {
        bail!("{workload} reads PostgreSQL");
    };
    let client = reservations.connect().await?;
    client.batch_execute(SCHEMA).await?;
    eprintln!("{workload}: writing {rows} rows");
    client
        .batch_execute(&format!(
            "INSERT INTO member SELECT n, 'T' || n % 1000, 'a name of some length ' || md5(n::text), n * 7, date '2000-01-01' + (n % 9000)::int
             FROM generate_series(1, {rows}) n"
        ))
        .await?;
    client.batch_execute("VACUUM ANALYZE member").await?;
    let pack = Pack {
        mapping: MAPPING.to_owned(),
        schema: SCHEMA_TOML.to_owned(),
        ..servers.source.pack()?
    };
    let pipeline = Pipeline::with_pack(servers, "visits", &pack)?;
    let (kept_s, kept_mib) = started(&pipeline).await?;
    eprintln!("{workload}: a first start took {kept_s:.1} s, {kept_mib:.0} MiB");
    let (restart_s, _) = started(&pipeline).await?;
    fs::remove_dir_all(pipeline.state_directory()).context("the folder of the state")?;
    let (restore_s, restored_mib) = started(&pipeline).await?;
    eprintln!(
        "{workload}: restored in {restore_s:.1} s, {restored_mib:.0} MiB; started again in {restart_s:.1} s"
    );
    let state_disk_mib = size_of(&pipeline.state_directory())? / f64::from(1 << 20);
    let report = look_up(servers, &pipeline, rows).await?;
    Ok(Report {
        workload: workload.to_owned(),
        state_rows: Some(rows),
        restore_s: Some(round(restore_s, 2)),
        restart_s: Some(round(restart_s, 2)),
        state_disk_mib: Some(round(state_disk_mib, 0)),
        rss_peak_mib: report.rss_peak_mib.max(round(restored_mib, 1)),
        ..report
    })
}

/// Starts the pipeline until it is ready and stops it; how long the start took, and its memory.
async fn started(pipeline: &Pipeline) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut process = pipeline.start()?;
    process.ready().await?;
    let took = began.elapsed().as_secs_f64();
    let rss_mib = rss_peak_mib(process.pid()?)?;
    process.stop().await?;
    Ok((took, rss_mib))
}

/// Changes whose rows look up one of all, each another.
async fn look_up(servers: &Servers, pipeline: &Pipeline, rows: u64) -> Result<Report> {
    let Source::Postgres(reservations) = &servers.source else {
        bail!("looked up in PostgreSQL");
    };
    let client = reservations.connect().await?;
    client
        .batch_execute(&format!(
            "DO $$ BEGIN FOR n IN 1..{LOOKUPS} LOOP
                 INSERT INTO visit VALUES (n, 1 + (n * 7919::int8 * 104729) % {rows});
                 IF n % 100 = 0 THEN COMMIT; END IF;
             END LOOP; END $$"
        ))
        .await?;
    let end: String = client
        .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
        .await?
        .get(0);
    let end = end.parse()?;
    let began = Instant::now();
    let process = pipeline.start()?;
    while !reservations.is_drained(pipeline, &end).await? {
        if began.elapsed() > DEADLINE {
            bail!("not drained within {DEADLINE:?}:\n{}", process.log());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let (cpu_s, rss_mib) = (cpu_seconds(process.pid()?)?, rss_peak_mib(process.pid()?)?);
    process.stop().await?;
    let (mut events, mut wrong) = (0, 0);
    let mut seen = vec![false; usize::try_from(LOOKUPS)? + 1];
    read_each(&servers.kafka.brokers(), &pipeline.topic(), |event| {
        events += 1;
        let number = |field: &str| event.field(field).parse::<u64>().unwrap_or_default();
        let member = number("member");
        let is_right =
            event.field("tier") == format!("T{}", member % 1000) && number("points") == member * 7;
        let id = usize::try_from(number("id")).unwrap_or_default();
        let fresh = seen
            .get_mut(id)
            .is_some_and(|seen| !std::mem::replace(seen, true));
        if !is_right || !fresh {
            wrong += 1;
        }
    })?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let lookups = LOOKUPS as f64;
    Ok(Report {
        rows_per_s: Some(round(lookups / took, 0)),
        events,
        events_per_s: round(lookups / took, 0),
        rss_peak_mib: round(rss_mib, 1),
        cpu_s_per_million_events: round(cpu_s * 1e6 / lookups, 2),
        lost: seen.iter().skip(1).filter(|seen| !**seen).count() as u64,
        duplicates: wrong,
        ..Report::default()
    })
}

/// Bytes of all files in a folder.
fn size_of(folder: &std::path::Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        #[expect(clippy::cast_precision_loss, reason = "files far below 2^52 bytes")]
        let length = metadata.len() as f64;
        bytes += match metadata.is_dir() {
            true => size_of(&entry.path())?,
            false => length,
        };
    }
    Ok(bytes)
}
