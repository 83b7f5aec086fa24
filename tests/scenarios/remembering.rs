//! Rules that know more than the change at hand: rows of other tables as of the commit, other rows of the transaction,
//! events that came before. Killed under load, they still say what was true at each commit.

mod altered;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};
use tokio::task::JoinHandle;

use crate::kills::{rounds, settled};
use crate::oracle::Reads;
use crate::rig::{LEDGER, Rig, SOON};
use crate::workload::{Random, Workload, open_accounts};

/// Flights, seats on them, and what was true when a seat was committed: each step locks its flight first, so that no
/// other commit of that flight comes between.
const SCHEMA: &str = "
CREATE TABLE flight (id int8 PRIMARY KEY, number text NOT NULL UNIQUE, gate text, ver int8 NOT NULL, notes text);
ALTER TABLE flight ALTER notes SET STORAGE EXTERNAL;
CREATE TABLE seat (id int8 PRIMARY KEY, flight text NOT NULL, passenger text NOT NULL, ver int8 NOT NULL);
ALTER TABLE seat REPLICA IDENTITY FULL;
CREATE TABLE truth (seat int8, ver int8, flight_ver int8);
CREATE TABLE rebooked (old int8, new int8, flight_ver int8);
CREATE SEQUENCE seats START 100000;
INSERT INTO flight SELECT n, 'F' || n, 'A' || n, 1, repeat(md5(n::text), 300) FROM generate_series(1, 20) n;
INSERT INTO seat SELECT n, 'F' || (1 + n % 20), 'P' || n, 1 FROM generate_series(1, 200) n;
INSERT INTO truth SELECT id, 1, 1 FROM seat;
CREATE FUNCTION step(passenger_name text, also_flight bool) RETURNS void LANGUAGE plpgsql AS $$
DECLARE s seat; f flight;
BEGIN
    SELECT flight.* INTO f FROM flight JOIN seat ON seat.flight = number WHERE passenger = passenger_name FOR UPDATE OF flight;
    UPDATE seat SET ver = ver + 1 WHERE passenger = passenger_name RETURNING * INTO s;
    IF also_flight THEN
        -- The notes are not touched, and too long to be sent again.
        UPDATE flight SET ver = ver + 1, gate = 'B' || ver WHERE id = f.id RETURNING * INTO f;
    END IF;
    INSERT INTO truth VALUES (s.id, s.ver, f.ver);
END $$;
CREATE FUNCTION rebook(passenger_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE s seat; f flight; new_id int8 := nextval('seats');
BEGIN
    SELECT flight.* INTO f FROM flight JOIN seat ON seat.flight = number WHERE passenger = passenger_name FOR UPDATE OF flight;
    DELETE FROM seat WHERE passenger = passenger_name RETURNING * INTO s;
    INSERT INTO seat VALUES (new_id, s.flight, s.passenger, 1);
    INSERT INTO rebooked VALUES (s.id, new_id, f.ver);
END $$;
";

pub(crate) const MAPPING: &str = r#"
[mapping]
name = "seats"
version = 1
[tables]
seat = "public.seat"
flight = { name = "public.flight", index = [["number"]] }
[topics.seats]
name = "@TOPIC@"
partitions = 3
[defaults.seat]
topic = "seats"
key = "{id}"
[defaults.seat.lookup.flight]
table = "flight"
where = { number = "$.row.flight" }
[defaults.seat.data]
ver = "$.row.ver"
flight_ver = "$.flight.ver"
notes = { map = "$.flight.notes", with = {}, else = true }
[[event]]
type = "SeatChanged"
table = "seat"
on = ["read", "insert", "update"]
[[event]]
type = "FifthChange"
table = "seat"
on = "update"
when = "$.row.ver == 5 || $.row.ver == 10 || $.row.ver == 15"
reverts = "SeatChanged"
[[event]]
type = "SeatGone"
table = "seat"
on = "delete"
[[event]]
type = "Rebooked"
topic = "seats"
key = "{$.new.row.passenger}"
[event.transaction]
by = "passenger"
consume = true
[event.transaction.parts]
old = { table = "seat", on = "delete" }
new = { table = "seat", on = "insert" }
[event.lookup.flight]
table = "flight"
where = { number = "$.new.row.flight" }
[event.data]
old = "$.old.row.id"
new = "$.new.row.id"
flight_ver = "$.flight.ver"
"#;

pub(crate) const SCHEMA_TOML: &str = r#"
[seat]
key = ["id"]
[seat.columns]
id = "int8"
flight = "text"
passenger = "text"
ver = "int8"
[flight]
key = ["id"]
[flight.columns]
id = "int8"
number = "text"
gate = "text"
ver = "int8"
notes = "text"
"#;

pub(crate) async fn rig(name: &str) -> Result<Rig> {
    seats(Rig::shared(name).await?).await
}

/// A stage with flights and seats.
pub(crate) async fn seats(rig: Rig) -> Result<Rig> {
    rig.sql(SCHEMA).await?;
    rig.write_pack_with(MAPPING, SCHEMA_TOML)?;
    Ok(rig)
}

/// Passengers that change seats all the time, on several connections.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) steps: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    pub(crate) async fn start(rig: &Rig) -> Result<Self> {
        let (stop, steps) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut workers = Vec::new();
        for worker in 0..3_u32 {
            let client = rig.client().await?;
            let (stop, steps) = (Arc::clone(&stop), Arc::clone(&steps));
            workers.push(tokio::spawn(async move {
                let mut random = Random(u64::from(worker) + 17);
                while !stop.load(Ordering::Relaxed) {
                    // Each worker has passengers of its own, or two would rebook one.
                    let passenger = format!("P{}", 1 + random.below(66) * 3 + worker);
                    let statement = match random.below(8) {
                        0 => format!("SELECT rebook('{passenger}')"),
                        kind => format!("SELECT step('{passenger}', {})", kind < 4),
                    };
                    client.batch_execute(&statement).await?;
                    steps.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            }));
        }
        Ok(Self {
            stop,
            steps,
            workers,
        })
    }

    pub(crate) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        Ok(self.steps.load(Ordering::Relaxed))
    }
}

/// Everything that was true, and that the events have to say: no more and no less.
async fn is_told(rig: &Rig) -> Result<usize> {
    let events = read_all(&rig.brokers, &rig.topic)?;
    let of = |kind: &'static str| events.iter().filter(move |event| event.kind() == kind);
    let mut told: Vec<String> = of("SeatChanged")
        .map(|event| {
            assert_eq!(
                event.field("notes"),
                "true",
                "what was not sent again is still known"
            );
            format!(
                "{} {} {}",
                event.key,
                event.field("ver"),
                event.field("flight_ver")
            )
        })
        .collect();
    let mut rebooked: Vec<String> = of("Rebooked")
        .map(|event| {
            let field = |name: &str| event.field(name);
            format!("{} {} {}", field("old"), field("new"), field("flight_ver"))
        })
        .collect();
    for (told, query) in [
        (
            &mut told,
            "SELECT concat_ws(' ', seat, ver, flight_ver) FROM truth",
        ),
        (
            &mut rebooked,
            "SELECT concat_ws(' ', old, new, flight_ver) FROM rebooked",
        ),
    ] {
        told.sort_unstable();
        let mut stored = rig.column(query).await?;
        stored.sort_unstable();
        ensure!(
            *told == stored,
            "{} are told, {} are true; told and not true: {:?}",
            told.len(),
            stored.len(),
            told.iter()
                .filter(|told| !stored.contains(told))
                .take(5)
                .collect::<Vec<_>>()
        );
    }
    ensure!(of("SeatGone").count() == 0, "a rebooked seat is not gone");
    takes_back_the_last(&events)?;
    Ok(events.len())
}

/// Every fifth change names the event of the change that it is.
fn takes_back_the_last(events: &[Event]) -> Result<()> {
    let ids: HashMap<(String, String), String> = events
        .iter()
        .filter(|event| event.kind() == "SeatChanged")
        .map(|event| {
            (
                (event.key.clone(), event.field("ver")),
                event.id().to_owned(),
            )
        })
        .collect();
    for event in events.iter().filter(|event| event.kind() == "FifthChange") {
        let last = ids.get(&(event.key.clone(), event.field("ver")));
        ensure!(
            Some(event.header("ce_reverts")) == last.map(String::as_str),
            "{} of {} takes back another event",
            event.field("ver"),
            event.key
        );
    }
    let order: BTreeMap<&str, i64> = BTreeMap::new();
    events
        .iter()
        .filter(|event| event.kind() == "SeatChanged")
        .try_fold(order, |mut last, event| {
            let ver: i64 = event.field("ver").parse()?;
            let before = last.insert(&event.key, ver).unwrap_or(ver - 1);
            ensure!(before == ver - 1, "{}: {ver} after {before}", event.key);
            Ok(last)
        })?;
    Ok(())
}

pub(crate) async fn eventually_told(rig: &Rig) -> Result<usize> {
    let started = Instant::now();
    loop {
        match is_told(rig).await {
            Ok(events) => return Ok(events),
            Err(error) if started.elapsed() > SOON => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

#[tokio::test]
async fn what_is_looked_up_is_as_of_each_commit_however_often_the_daemon_is_killed() -> Result<()> {
    let rig = rig("looked_up").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&rig).await?;
    let mut random = Random(815);
    for round in 1..=rounds() {
        tokio::time::sleep(Duration::from_millis(u64::from(200 + random.below(600)))).await;
        daemon.kill9().await?;
        println!(
            "round {round}: killed after {} steps",
            load.steps.load(Ordering::Relaxed)
        );
        daemon = rig.daemon().await?;
        daemon.ready().await?;
    }
    let steps = load.stop().await?;
    let events = eventually_told(&rig).await?;
    println!("{steps} steps, {events} events, each with what was true at its commit");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// The table's replica identity is its key, as nobody may touch it: rules read the row before from what is kept.
#[tokio::test]
async fn rows_before_a_change_are_known_though_the_source_sends_none_of_them() -> Result<()> {
    let rig = Rig::shared("kept_before").await?;
    rig.sql("ALTER TABLE account REPLICA IDENTITY DEFAULT")
        .await?;
    let kept = LEDGER.replace(
        "account = \"public.account\"",
        "account = { name = \"public.account\", before = \"state\" }",
    );
    rig.write_pack(&kept)?;
    open_accounts(&rig, 100).await?;
    let checked = rig.command(&["check"]).await?;
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 3, 100, Duration::from_millis(1));
    let mut random = Random(99);
    for _ in 0..rounds() {
        tokio::time::sleep(Duration::from_millis(u64::from(200 + random.below(500)))).await;
        daemon.kill9().await?;
        daemon = rig.daemon().await?;
        daemon.ready().await?;
    }
    let written = load.stop().await;
    let events = settled(&rig, Reads::Once).await?;
    let quarantined = read_all(&rig.brokers, "rowbridge.kept_before.quarantine")?;
    assert!(quarantined.is_empty(), "{quarantined:?}");
    for event in read_all(&rig.brokers, &rig.topic)? {
        if event.kind() == "AccountChanged" {
            let before: i64 = event.field("previous_ver").parse()?;
            ensure!(
                event.field("ver").parse() == Ok(before + 1),
                "{}",
                event.key
            );
        }
    }
    println!("{written} transactions, {events} events, each with the row before");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_lookup_that_is_added_later_is_refused_until_the_tables_are_read_again() -> Result<()> {
    let rig = rig("looked_up_later").await?;
    let (before, _) = MAPPING
        .split_once("[defaults.seat.lookup")
        .context("lookups")?;
    let plain = format!(
        "{before}[[event]]\ntype = \"SeatChanged\"\ntable = \"seat\"\non = [\"read\", \"insert\", \"update\"]\ndata.ver = \"$.row.ver\"\n"
    );
    rig.write_pack_with(&plain, SCHEMA_TOML)?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    rig.write_pack_with(MAPPING, SCHEMA_TOML)?;
    let mut daemon = rig.daemon().await?;
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    let log = daemon.log();
    assert!(
        log.contains("MAPPING_NEEDS_STATE") && log.contains("public.flight"),
        "{log}"
    );
    // The mapping that published last goes on.
    rig.write_pack_with(&plain, SCHEMA_TOML)?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let read = read_all(&rig.brokers, &rig.topic)?.len();
    assert_eq!(read, 200);
    rig.write_pack_with(MAPPING, SCHEMA_TOML)?;
    let said = rig.command(&["position", "set", "--snapshot"]).await?;
    assert!(said.status.success(), "{said:?}");
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P7', true)").await?;
    let started = Instant::now();
    let last = loop {
        let events = read_all(&rig.brokers, &rig.topic)?;
        if events.len() == read + 201 {
            break events;
        }
        ensure!(
            started.elapsed() < SOON,
            "{} events\n{}",
            events.len(),
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let of_seven = last.iter().filter(|event| event.key == "7");
    let told: Vec<String> = of_seven
        .filter(|event| event.field("ver") == "2")
        .map(|event| event.field("flight_ver"))
        .collect();
    assert_eq!(told, ["2"]);
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_dry_run_looks_rows_up_as_the_daemon_would() -> Result<()> {
    let rig = rig("looked_up_dry").await?;
    let arguments = [
        "dry-run",
        "--create-publication",
        "--json",
        "--limit",
        "2",
        "--for",
        "50s",
    ];
    let dry = rig.command(&arguments);
    let steps = async {
        let preview = "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'rowbridge_preview_%' AND database = current_database() AND active";
        let started = Instant::now();
        while rig.query_text(preview).await?.is_none() {
            ensure!(started.elapsed() < SOON, "no preview began");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rig.sql("SELECT step('P7', true); SELECT rebook('P8')")
            .await
    };
    let (dry, stepped) = tokio::join!(dry, steps);
    stepped?;
    let (dry, said) = (dry?, String::from_utf8_lossy);
    assert!(dry.status.success(), "{}", said(&dry.stderr));
    let lines: Vec<serde_json::Value> = said(&dry.stdout)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {} {}",
                line["type"], line["key"], line["data"]["flight_ver"]
            )
        })
        .collect();
    assert_eq!(
        told,
        ["\"SeatChanged\" \"7\" 2", "\"Rebooked\" \"P8\" 1"],
        "{}",
        said(&dry.stderr)
    );
    Ok(())
}

/// Rows that the database deletes by itself, after the row that they hang on and before its commit.
#[tokio::test]
async fn rows_of_a_cascaded_delete_still_find_the_row_that_took_them_along() -> Result<()> {
    let rig = rig("looked_up_cascade").await?;
    rig.sql(
        "ALTER TABLE seat ADD FOREIGN KEY (flight) REFERENCES flight (number) ON DELETE CASCADE",
    )
    .await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql(
        "UPDATE flight SET ver = 7 WHERE number = 'F3'; DELETE FROM flight WHERE number = 'F3'",
    )
    .await?;
    let gone = || {
        let events = read_all(&rig.brokers, &rig.topic)?.into_iter();
        let gone: Vec<Event> = events.filter(|event| event.kind() == "SeatGone").collect();
        anyhow::Ok(gone)
    };
    crate::rig::eventually("all seats of the flight", SOON, || async {
        Ok(gone()?.len() >= 10)
    })
    .await?;
    // A restart finds neither: what was deleted is no longer kept.
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let gone = gone()?;
    ensure!(gone.len() == 10, "{} seats", gone.len());
    for event in &gone {
        ensure!(event.field("flight_ver") == "7", "{event:?}");
    }
    rig.sql("INSERT INTO flight VALUES (3, 'F3', 'A3', 20, 'x'); INSERT INTO seat VALUES (4000, 'F3', 'P4000', 1)")
        .await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    crate::rig::eventually(
        "the seat on the flight that is there again",
        SOON,
        || async {
            let events = read_all(&rig.brokers, &rig.topic)?;
            let mut of_it = events.iter().filter(|event| event.key == "4000");
            Ok(of_it.any(|event| event.field("flight_ver") == "20"))
        },
    )
    .await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Past `limits.transaction_rows` the rows of a transaction (`ROWBRIDGE_ROWS`, else 200,000) wait on disk until its commit; what was published of it
/// before a kill does not come again.
#[tokio::test]
async fn a_huge_transaction_takes_little_memory_and_goes_on_after_a_kill_in_its_middle()
-> Result<()> {
    let rows: usize = std::env::var("ROWBRIDGE_ROWS").map_or(Ok(200_000), |rows| rows.parse())?;
    const SMALL_CACHE: [(&str, &str); 1] = [("ROWBRIDGE_STATE__CACHE_BYTES", "4MiB")];
    let rig = rig("looked_up_huge").await?;
    let mut daemon = rig.daemon_with(&SMALL_CACHE).await?;
    daemon.ready().await?;
    let small = rss_kib(daemon.pid().context("a daemon")?)?;
    rig.sql(&format!(
        "BEGIN; INSERT INTO seat SELECT 300000 + n, 'F' || (1 + n % 20), 'Q' || n, 1 FROM generate_series(1, {rows}) n; \
         UPDATE flight SET ver = ver + 1; \
         INSERT INTO truth SELECT s.id, s.ver, f.ver FROM seat s JOIN flight f ON f.number = s.flight WHERE s.id >= 300000; COMMIT"
    ))
    .await?;
    let published = "rowbridge_events_total{type=\"SeatChanged\"}";
    crate::rig::eventually("a part of the transaction", SOON, || async {
        Ok(daemon
            .metric(published)
            .await
            .is_ok_and(|part| part > 1_000.0))
    })
    .await?;
    let part = daemon.metric(published).await?;
    daemon.kill9().await?;
    daemon = rig.daemon_with(&SMALL_CACHE).await?;
    daemon.ready().await?;
    let events = eventually_told(&rig).await?;
    let huge = rss_kib(daemon.pid().context("a daemon")?)?;
    println!(
        "killed after {part} of {rows} rows; {events} events; {small} KiB before, {huge} KiB at most"
    );
    ensure!(part < rows as f64, "killed too late: all was published");
    // Buffers of the working copy and of the spool, however many rows there are: with 500,000 it is 67 MiB.
    ensure!(
        huge < small + 76 * 1024,
        "{small} KiB before, {huge} KiB at most"
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// The highest resident memory of a process so far.
pub(crate) fn rss_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line
        .context("VmHWM")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?)
}
