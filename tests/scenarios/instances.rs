//! Two instances of one pipeline: one runs, one stands by, and they never fence each other in turns.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use rowbridge_testbed::{Kafka, PgVersion, Postgres};

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

#[tokio::test]
async fn the_second_instance_stands_by_and_takes_over_within_five_seconds_of_a_kill() -> Result<()>
{
    let rig = Rig::shared("take_over").await?;
    open_accounts(&rig, 50).await?;
    let mut owner = rig.daemon().await?;
    owner.ready().await?;
    let mut standby = rig.daemon().await?;
    standby.says("/readyz", "STANDBY").await?;
    assert!(
        !matches!(standby.get("/readyz").await?, (200, _)),
        "a standby is not ready"
    );
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(2));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        !owner.log().contains("fenced"),
        "the standby touched Kafka:\n{}",
        owner.log()
    );

    owner.kill9().await?;
    let killed = Instant::now();
    standby.ready().await?;
    let took = killed.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "take-over took {took:?}:\n{}",
        standby.log()
    );
    load.stop().await;
    settled(&rig, Reads::Once).await?;
    assert_eq!(standby.terminate().await?, 0, "{}", standby.log());
    Ok(())
}

#[tokio::test]
async fn a_frozen_owner_that_wakes_after_the_take_over_stands_by() -> Result<()> {
    let postgres = Postgres::builder(PgVersion::V15)
        .setting("wal_sender_timeout", "2s")
        .start()
        .await?;
    let kafka = Kafka::shared().await?;
    let rig = Rig::on(
        "frozen_owner",
        &postgres.database("frozen_owner").await?,
        &kafka.brokers(),
    )
    .await?;
    open_accounts(&rig, 50).await?;
    rig.write_config_source("wal_sender_timeout_ms = 2000")?;
    let mut owner = rig.daemon().await?;
    owner.ready().await?;
    let mut standby = rig.daemon().await?;
    standby.says("/readyz", "STANDBY").await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(2));
    owner.signal(Signal::SIGSTOP)?;
    standby.ready().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    owner.signal(Signal::SIGCONT)?;
    owner.says("/readyz", "STANDBY").await?;
    load.stop().await;
    settled(&rig, Reads::Once).await?;
    assert_eq!(owner.terminate().await?, 0, "{}", owner.log());
    assert_eq!(standby.terminate().await?, 0, "{}", standby.log());
    Ok(())
}

#[tokio::test]
async fn two_instances_under_restarting_supervisors_settle() -> Result<()> {
    let rig = Rig::shared("no_turns").await?;
    open_accounts(&rig, 20).await?;
    let load = Workload::start(&rig, 2, 20, Duration::from_millis(2));
    // Both start at once, also for the first start of the pipeline; a supervisor would restart what ends.
    let mut pair = [rig.daemon().await?, rig.daemon().await?];
    let settled_by = Instant::now();
    loop {
        for daemon in &mut pair {
            if daemon.has_ended()? {
                *daemon = rig.daemon().await?;
            }
        }
        let ready = [pair[0].is_ready().await, pair[1].is_ready().await];
        if ready[0] != ready[1] {
            break;
        }
        assert!(
            settled_by.elapsed() < SOON,
            "neither or both run:\n{}\n---\n{}",
            pair[0].log(),
            pair[1].log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let owner = usize::from(pair[1].is_ready().await);
    let log_then = pair[owner].log().matches("fenced").count();
    // From here on nothing changes hands.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            !pair[1 - owner].is_ready().await,
            "the standby became ready beside the owner"
        );
    }
    assert_eq!(
        pair[owner].log().matches("fenced").count(),
        log_then,
        "{}",
        pair[owner].log()
    );
    load.stop().await;
    settled(&rig, Reads::MayRepeat).await?;
    for daemon in &mut pair {
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    }
    eventually("no process of ours on the slot", SOON, || async {
        let query =
            "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'rowbridge_no_turns'";
        Ok(rig.query_text(query).await?.as_deref() == Some("false"))
    })
    .await
}

#[tokio::test]
async fn health_tells_a_ready_daemon_from_a_standby_and_from_one_that_hangs() -> Result<()> {
    let rig = Rig::shared("health").await?;
    let mut owner = rig.daemon().await?;
    owner.ready().await?;
    let mut standby = rig.daemon().await?;
    standby.says("/readyz", "STANDBY").await?;
    let ask = async |daemon: &Daemon, arguments: &[&str]| -> Result<(Option<i32>, String)> {
        rig.write_config(&format!("[http]\nlisten = \"{}\"\n", daemon.http))?;
        let output = rig.command(arguments).await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    };
    let (code, said) = ask(&owner, &["health"]).await?;
    assert_eq!((code, said.as_str()), (Some(0), "idle\n"));
    let (code, said) = ask(&standby, &["health"]).await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("STANDBY"), "{said}");
    let (code, said) = ask(&standby, &["health", "--live"]).await?;
    assert_eq!((code, said.as_str()), (Some(0), "live\n"));

    standby.signal(Signal::SIGSTOP)?;
    let (code, said) = ask(&standby, &["health", "--live"]).await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/livez did not answer within 5s"), "{said}");
    standby.signal(Signal::SIGCONT)?;
    assert_eq!(standby.terminate().await?, 0, "{}", standby.log());
    assert_eq!(owner.terminate().await?, 0, "{}", owner.log());
    Ok(())
}
