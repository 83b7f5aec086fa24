//! A mapping that looks up what was not kept takes over from the one before: `run --reseed`. Killed under load at any point
//! of it, every change is told once, by one of the two, and what the new one looks up is as of each commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};

use crate::kills::rounds;
use crate::remembering::{Load, MAPPING, SCHEMA_TOML, rig};
use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::workload::Random;

/// A mapping that remembers nothing.
fn stateless() -> Result<String> {
    let (before, _) = MAPPING
        .split_once("[defaults.seat.lookup")
        .context("lookups")?;
    Ok(format!(
        "{before}[defaults.seat.data]\nver = \"$.row.ver\"\n[[event]]\ntype = \"SeatChanged\"\ntable = \"seat\"\n\
         on = [\"read\", \"insert\", \"update\"]\n"
    ))
}

/// A mapping that keeps flights too, but not their notes.
fn without_notes() -> String {
    let lines = MAPPING.lines().filter(|line| !line.starts_with("notes"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the log says at the stages of taking over; it is killed soon after one of them.
pub(crate) const STAGES: [&str; 5] = [
    "starting",
    "goes on for a moment",
    "reading what the new one looks up",
    "read all existing",
    "the mapping changed",
];

#[tokio::test]
async fn lookups_are_added_to_a_mapping_without_any_under_load() -> Result<()> {
    takes_over("reseeded", &stateless()?).await
}

#[tokio::test]
async fn a_column_is_added_to_what_is_looked_up_under_load() -> Result<()> {
    takes_over("reseeded_wider", &without_notes()).await
}

#[expect(clippy::print_stdout, reason = "where it was killed is worth seeing")]
async fn takes_over(name: &str, before: &str) -> Result<()> {
    let rig = rig(name).await?;
    let after = MAPPING.replace("version = 1", "version = 2\non_error = \"quarantine\"");
    rig.write_pack_with(before, SCHEMA_TOML)?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&rig).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());

    rig.write_pack_with(&after, SCHEMA_TOML)?;
    let mut refused = rig.daemon().await?;
    assert_eq!(refused.exit_code().await?, 2, "{}", refused.log());
    let log = refused.log();
    assert!(
        log.contains("MAPPING_NEEDS_STATE") && log.contains("run --reseed"),
        "{log}"
    );
    let checked = rig.command(&["check"]).await?;
    let said = String::from_utf8(checked.stdout)?;
    assert!(
        checked.status.code() == Some(2) && said.contains("run --reseed"),
        "{said}"
    );
    let mut random = Random(1113);
    let mut switched = 0;
    for round in 1..=rounds() {
        // What an interrupted reading found of it must not be found later.
        rig.sql(&format!(
            "INSERT INTO flight VALUES ({}, 'G{round}', 'A', 1, 'x')",
            1_000 + round
        ))
        .await?;
        let stage = STAGES[(round as usize - 1) % STAGES.len()];
        let pause = Duration::from_millis(u64::from(random.below(30)));
        switched += u32::from(killed_at(&rig, stage, pause).await?);
        rig.sql(&format!("DELETE FROM flight WHERE number = 'G{round}'"))
            .await?;
        println!("round {round}: killed at `{stage}`, {switched} of them after it took over");
        if round % 2 == 0 && switched == 0 {
            // Whatever was begun, the one before goes on as if nothing had been.
            rig.write_pack_with(before, SCHEMA_TOML)?;
            let mut daemon = rig.daemon().await?;
            daemon.ready().await?;
            assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
            rig.write_pack_with(&after, SCHEMA_TOML)?;
        }
    }
    let mut daemon = taken_over(&rig).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    // It took over for good: nothing has to be read any more, and nothing was kept in the folder alone.
    std::fs::remove_dir_all(rig.state_folder())?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let steps = load.stop().await?;
    for round in 1..=rounds() {
        let seat = format!("INSERT INTO seat VALUES ({round} + 10000, 'G{round}', 'Q{round}', 1)");
        rig.sql(&seat).await?;
    }
    let quarantined = || read_all(&rig.brokers, &format!("rowbridge.{name}.quarantine"));
    let all = rounds() as usize;
    eventually("the seats on no flight", SOON, || async {
        Ok(quarantined()?.len() >= all)
    })
    .await?;
    ensure!(quarantined()?.len() == all, "{:?}", quarantined()?);
    let (old, new) = eventually_told(&rig).await?;
    println!("{steps} steps, {old} events of the mapping before, {new} of the new one");
    ensure!(old > 200 && new > 100, "both published");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Starts to take over, and is killed soon after the log says `stage`; whether the new mapping was going on by then.
pub(crate) async fn killed_at(rig: &Rig, stage: &str, pause: Duration) -> Result<bool> {
    let mut daemon = rig.daemon_by(&["run", "--reseed"])?;
    eventually(stage, SOON, || async {
        Ok(daemon.log().contains(stage) || took_over(&daemon))
    })
    .await?;
    tokio::time::sleep(pause).await;
    daemon.kill9().await?;
    Ok(took_over(&daemon))
}

/// A daemon whose new mapping goes on.
pub(crate) async fn taken_over(rig: &Rig) -> Result<Daemon> {
    let mut daemon = rig.daemon_by(&["run", "--reseed"])?;
    eventually("the new mapping took over", SOON, || async {
        Ok(took_over(&daemon))
    })
    .await?;
    daemon.ready().await?;
    Ok(daemon)
}

/// Whether the new mapping goes on in this daemon, or did so in one before it.
fn took_over(daemon: &Daemon) -> bool {
    let log = daemon.log();
    log.contains("the mapping changed; it applies from here")
        || log.contains("nothing is to be read")
}

/// What has to be told, whichever mapping tells it: how many events of each did.
async fn is_told(rig: &Rig) -> Result<(usize, usize)> {
    let events = read_all(&rig.brokers, &rig.topic)?;
    let is_new = |event: &&Event| !event.field("notes").is_empty();
    let changed: Vec<&Event> = events
        .iter()
        .filter(|event| event.kind() == "SeatChanged")
        .collect();
    let truth: BTreeMap<String, String> = pairs(
        rig.column("SELECT concat_ws(' ', seat, ver) || '=' || flight_ver FROM truth")
            .await?,
    )?;
    let rebooked: BTreeMap<String, String> = pairs(
        rig.column("SELECT new || '=' || concat_ws(' ', old, flight_ver) FROM rebooked")
            .await?,
    )?;
    let mut told = BTreeSet::new();
    for event in &changed {
        let change = format!("{} {}", event.key, event.field("ver"));
        ensure!(told.insert(change.clone()), "{change} is told twice");
        let Some(flight_ver) = truth.get(&change) else {
            // To the mapping before, one that knows no pairs of rows.
            ensure!(
                rebooked.contains_key(&event.key) && event.field("ver") == "1",
                "{change} never was"
            );
            continue;
        };
        let looked_up = event.field("flight_ver");
        ensure!(
            looked_up == *flight_ver || (looked_up.is_empty() && !is_new(event)),
            "{change} saw its flight at {looked_up}, which was at {flight_ver}"
        );
        ensure!(
            !is_new(event) || event.field("notes") == "true",
            "{change} has no notes"
        );
    }
    let missing = truth.keys().find(|change| !told.contains(*change));
    ensure!(missing.is_none(), "{missing:?} is not told");
    let mut pairs_told = BTreeSet::new();
    for event in events.iter().filter(|event| event.kind() == "Rebooked") {
        let (new, was) = (
            event.field("new"),
            format!("{} {}", event.field("old"), event.field("flight_ver")),
        );
        ensure!(
            rebooked.get(&new) == Some(&was),
            "{new} was rebooked otherwise"
        );
        ensure!(pairs_told.insert(new.clone()), "{new} is told twice");
        ensure!(!told.contains(&format!("{new} 1")), "{new} is told by both");
    }
    let told_once =
        |new: &&String| !pairs_told.contains(*new) && !told.contains(&format!("{new} 1"));
    let missing = rebooked.keys().find(told_once);
    ensure!(
        missing.is_none(),
        "the rebooking to {missing:?} is not told"
    );
    let new = changed.iter().filter(|event| is_new(event)).count();
    Ok((changed.len() - new, new))
}

fn pairs(rows: Vec<String>) -> Result<BTreeMap<String, String>> {
    let pair = |row: String| {
        let (key, value) = row.split_once('=').context("a pair")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    rows.into_iter().map(pair).collect()
}

async fn eventually_told(rig: &Rig) -> Result<(usize, usize)> {
    let started = Instant::now();
    loop {
        match is_told(rig).await {
            Ok(told) => return Ok(told),
            Err(error) if started.elapsed() > SOON => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
