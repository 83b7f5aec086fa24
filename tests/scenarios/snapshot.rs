//! From the rows that exist to the stream of changes: nothing is lost between the two.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Daemon, Rig, SOON};
use crate::workload::{Workload, open_accounts};

/// Enough for a snapshot to be caught in its first, second and last third.
const ACCOUNTS: u32 = 30_000;
/// The accounts that change meanwhile.
const BUSY_ACCOUNTS: u32 = 100;
/// What the source logs once it has sent every row.
const HAND_OVER: &str = "read all existing rows";

#[tokio::test]
async fn rows_that_change_while_they_are_read_arrive_once() -> Result<()> {
    let rig = Rig::shared("snapshot_under_writes").await?;
    open_accounts(&rig, ACCOUNTS).await?;
    let load = Workload::start(&rig, 2, BUSY_ACCOUNTS, Duration::from_millis(1));
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    load.stop().await;
    let events = settled(&rig, Reads::Once).await?;
    ensure!(
        events > ACCOUNTS as usize,
        "no change came after the {events} rows"
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_snapshot_killed_in_each_third_and_at_the_hand_over_loses_nothing() -> Result<()> {
    let rig = Rig::shared("snapshot_killed").await?;
    open_accounts(&rig, ACCOUNTS).await?;
    let load = Workload::start(&rig, 2, BUSY_ACCOUNTS, Duration::from_millis(5));
    for third in 0..3 {
        let mut daemon = rig.daemon().await?;
        let read = rows_read(&mut daemon, f64::from(third * ACCOUNTS / 3 + 1)).await?;
        daemon.kill9().await?;
        println!("killed after {read} of {ACCOUNTS} rows");
    }
    let mut daemon = rig.daemon().await?;
    handed_over(&mut daemon).await?;
    daemon.kill9().await?;
    println!("killed at the hand-over");

    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    load.stop().await;
    settled(&rig, Reads::MayRepeat).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Waits until this process has read `wanted` rows; how many it was then.
async fn rows_read(daemon: &mut Daemon, wanted: f64) -> Result<f64> {
    let metric = "rowbridge_changes_total{table=\"public.account\",op=\"read\"}";
    let started = Instant::now();
    loop {
        match daemon.metric(metric).await {
            Ok(read) if read >= wanted => return Ok(read),
            _ if daemon.has_ended()? || started.elapsed() > SOON => {
                bail!("the daemon never read {wanted} rows:\n{}", daemon.log())
            }
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn handed_over(daemon: &mut Daemon) -> Result<()> {
    let started = Instant::now();
    while !daemon.log().contains(HAND_OVER) {
        if daemon.has_ended()? || started.elapsed() > SOON {
            bail!("the daemon never read all rows:\n{}", daemon.log());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
