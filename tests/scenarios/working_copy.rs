//! The folder with the working copy of what rules remember: kept over kills it is rolled forward, and whatever else becomes of
//! it, the events are the same.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::remembering::{Load, eventually_told, rig};
use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::workload::Random;

/// What becomes of the folder between two daemons, and what the next one says to it.
type Fate = (&'static str, fn(&Path) -> Result<()>, &'static str);

const ROLLED_FORWARD: &str = "rolled the state forward";
/// A part of both.
const EITHER: &str = "the state ";
const MADE_ANEW: &str = "the state is made anew from its topic";

const FATES: [Fate; 9] = [
    ("it is kept", |_| Ok(()), ROLLED_FORWARD),
    (
        "it is removed",
        |folder| Ok(fs::remove_dir_all(folder)?),
        MADE_ANEW,
    ),
    (
        "it is an older one",
        |folder| {
            let older = folder.with_extension("older");
            match older.exists() {
                true => fs::remove_dir_all(folder)?,
                false => fs::rename(folder, &older)?,
            }
            copy(&older, folder)
        },
        ROLLED_FORWARD,
    ),
    (
        "it is an older one again",
        |folder| {
            fs::remove_dir_all(folder)?;
            copy(&folder.with_extension("older"), folder)
        },
        ROLLED_FORWARD,
    ),
    (
        "it is of a newer version",
        |folder| {
            fs::write(folder.join("entries/current"), "written otherwise")?;
            Ok(fs::write(folder.join("form"), "rowbridge state 99\n")?)
        },
        MADE_ANEW,
    ),
    (
        "a file of it is cut off",
        |folder| {
            let current = folder.join("entries/current");
            let half = fs::metadata(&current)?.len() / 2;
            Ok(fs::OpenOptions::new()
                .write(true)
                .open(current)?
                .set_len(half)?)
        },
        MADE_ANEW,
    ),
    (
        "its tables are gone",
        |folder| Ok(fs::remove_dir_all(folder.join("entries/tables"))?),
        MADE_ANEW,
    ),
    (
        "it was opened and never closed",
        |folder| Ok(fs::write(folder.join("distrusted"), "")?),
        MADE_ANEW,
    ),
    // What was made anew a moment ago is on disk, or not yet: then it is made anew once more.
    ("it is kept once more", |_| Ok(()), EITHER),
];

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => {
                fs::copy(entry.path(), to)?;
            }
        }
    }
    Ok(())
}

/// A daemon that is ready, after what it said of its folder.
async fn goes_on(rig: &Rig, said: &str) -> Result<Daemon> {
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let log = daemon.log();
    ensure!(log.contains(said), "it did not say `{said}`:\n{log}");
    Ok(daemon)
}

#[tokio::test]
async fn whatever_becomes_of_the_folder_the_events_are_the_same() -> Result<()> {
    let rig = rig("folder_fates").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&rig).await?;
    let mut random = Random(4711);
    for (fate, befall, said) in FATES {
        tokio::time::sleep(Duration::from_millis(u64::from(300 + random.below(700)))).await;
        daemon.kill9().await?;
        befall(&rig.state_folder()).with_context(|| fate.to_owned())?;
        daemon = goes_on(&rig, said).await.context(fate)?;
        println!("{fate}: {said}");
    }
    let steps = load.stop().await?;
    let events = eventually_told(&rig).await?;
    println!("{steps} steps, {events} events, each with what was true at its commit");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    // Nobody but its owner reads rows.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(rig.state_folder())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    Ok(())
}

/// Rows that are long enough for several files: the removal is noticed when the next one is to be written.
#[tokio::test]
async fn a_folder_that_is_removed_while_it_is_used_is_made_anew() -> Result<()> {
    let rig = rig("folder_removed").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&rig).await?;
    for round in 0..3 {
        fs::remove_dir_all(rig.state_folder())?;
        let started = Instant::now();
        while !retried(&daemon, round) {
            rig.sql("UPDATE flight SET notes = repeat(md5(random()::text), 3000)")
                .await?;
            ensure!(
                started.elapsed() < SOON,
                "nobody noticed:\n{}",
                daemon.log()
            );
        }
        eventually("the folder again", SOON, || async {
            Ok(rig.state_folder().join("entries").exists())
        })
        .await?;
        println!("round {round}: noticed after {:?}", started.elapsed());
    }
    let steps = load.stop().await?;
    let events = eventually_told(&rig).await?;
    println!("{steps} steps, {events} events, each with what was true at its commit");
    let retries = daemon
        .metric("rowbridge_retries_total{peer=\"state\"}")
        .await?;
    ensure!(retries >= 3.0, "{retries} retries");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Whether the session ended for its folder more often than `rounds` times.
fn retried(daemon: &Daemon, rounds: usize) -> bool {
    daemon
        .log()
        .matches("was it removed while it was in use?")
        .count()
        > rounds
}

/// A folder that cannot be is said at once, with what to do; nothing is published meanwhile.
#[tokio::test]
async fn a_place_that_is_none_is_refused_with_what_to_do() -> Result<()> {
    let rig = rig("folder_refused").await?;
    fs::write(rig.path("state"), "a file in the way")?;
    let mut daemon = rig.daemon().await?;
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("state.directory"), "{log}");
    fs::remove_file(rig.path("state"))?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("SELECT step('P7', true)").await?;
    eventually_told(&rig).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// A pipeline's folder under another's name: as if somebody had copied it to save the reading.
#[tokio::test]
async fn a_folder_of_another_pipeline_is_not_believed() -> Result<()> {
    let (one, other) = (rig("folder_of_one").await?, rig("folder_of_other").await?);
    for rig in [&one, &other] {
        let mut daemon = rig.daemon().await?;
        daemon.ready().await?;
        rig.sql("SELECT step('P7', true)").await?;
        eventually_told(rig).await?;
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    }
    one.sql("SELECT step('P8', true)").await?;
    fs::remove_dir_all(other.state_folder())?;
    copy(&one.state_folder(), &other.state_folder())?;
    other
        .sql("SELECT step('P8', true); SELECT rebook('P9')")
        .await?;
    let mut daemon = goes_on(&other, MADE_ANEW).await?;
    eventually_told(&other).await?;
    assert!(daemon.log().contains("of another beginning"));
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
