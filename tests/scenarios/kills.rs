//! The daemon is killed, again and again, wherever it is; and where it hurts most.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rowbridge_testbed::consumer::{EndOffsets, open_transaction};
use rowbridge_testbed::{HoldPoint, KAFKA_END_TXN, Kafka, PgVersion, Postgres};

use crate::oracle::{Reads, in_flight, verify};
use crate::rig::{Rig, SOON, eventually};
use crate::workload::{Random, Workload, open_accounts};

/// Rounds of the kill test: `ROWBRIDGE_ROUNDS`, else 5.
pub(crate) fn rounds() -> u32 {
    std::env::var("ROWBRIDGE_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(5)
}

/// Waits until the events rebuild exactly what is stored.
pub(crate) async fn settled(rig: &Rig, reads: Reads) -> Result<usize> {
    settled_across(rig, &[&rig.brokers], reads).await
}

/// As [`settled`], of a ledger whose events went on in another cluster.
pub(crate) async fn settled_across(rig: &Rig, clusters: &[&str], reads: Reads) -> Result<usize> {
    let started = Instant::now();
    loop {
        match verify(rig, clusters, reads).await {
            Err(error) if started.elapsed() > SOON => {
                return Err(error.context("the events never rebuilt the source"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Ok(events) => return Ok(events),
        }
    }
}

#[tokio::test]
async fn every_change_arrives_once_when_the_daemon_is_killed_under_load() -> Result<()> {
    let rig = Rig::shared("killed_under_load").await?;
    open_accounts(&rig, 200).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 4, 200, Duration::from_millis(1));
    let mut random = Random(4711);
    for round in 1..=rounds() {
        tokio::time::sleep(Duration::from_millis(u64::from(200 + random.below(600)))).await;
        daemon.kill9().await?;
        let written = load.commits();
        let stage = stage(&rig)?;
        let in_flight = in_flight(&rig).await?;
        println!(
            "round {round}: killed {stage}, {written} commits written, {in_flight} changes in flight"
        );
        daemon = rig.daemon().await?;
        daemon.ready().await?;
    }
    let written = load.stop().await;
    let events = settled(&rig, Reads::Once).await?;
    println!("{written} transactions, {events} events, none lost, none twice");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Where the daemon that was just killed had got to, as Kafka shows it.
fn stage(rig: &Rig) -> Result<String> {
    let stable = EndOffsets::committed(&rig.brokers, &rig.topic)?;
    let high = EndOffsets::uncommitted(&rig.brokers, &rig.topic)?;
    Ok(match open_transaction(&stable, &high)? {
        Some(open) => format!("inside a Kafka transaction ({open})"),
        None => "between two Kafka transactions".to_owned(),
    })
}

#[tokio::test]
async fn a_terminated_daemon_leaves_nothing_to_send_again() -> Result<()> {
    let rig = Rig::shared("terminated_under_load").await?;
    open_accounts(&rig, 50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    load.more(200).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    load.stop().await;
    // All that was sent is acknowledged: the slot starts exactly where Kafka's position is.
    let confirmed = rig.query_text(&confirmed_flush(&rig)).await?;
    let shown = rig.command(&["position", "show"]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(confirmed.as_deref().unwrap_or("no slot")),
        "slot {confirmed:?}, position:\n{shown}"
    );

    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    settled(&rig, Reads::Once).await?;
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.exit_code().await?, 0);
    Ok(())
}

/// Three kills while the broker has not seen the daemon's EndTxn, three while it has committed and the daemon
/// does not know: the position is old in the first case and new in the second, and the slot is behind in both.
#[tokio::test]
async fn a_daemon_killed_around_the_end_of_a_kafka_transaction_repeats_and_loses_nothing()
-> Result<()> {
    let kafka = Kafka::builder().proxied().start().await?;
    let proxied = kafka.proxied_brokers().context("a proxied broker")?;
    let proxy = kafka.proxy().context("a proxied broker")?;
    let postgres = Postgres::shared(PgVersion::V15).await?;
    let url = postgres.database("killed_at_commit").await?;
    let mut rig = Rig::on("killed_at_commit", &url, &proxied).await?;
    // The oracle reads without the proxy, which this thread serves.
    rig.brokers = kafka.brokers();
    open_accounts(&rig, 50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    for point in [HoldPoint::Request, HoldPoint::Response].repeat(3) {
        load.more(50).await?;
        let hold = proxy.hold(KAFKA_END_TXN, point);
        hold.caught(SOON).await?;
        println!(
            "killed with the {point:?} of EndTxn on its way, at {} commits written, slot at {:?}",
            load.commits(),
            rig.query_text(&confirmed_flush(&rig)).await?
        );
        daemon.kill9().await?;
        hold.release();
        daemon = rig.daemon().await?;
        daemon.ready().await?;
    }
    load.stop().await;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// A transaction too large for one Kafka transaction is split; what is published of it must not come again.
#[tokio::test]
async fn a_huge_transaction_killed_in_its_middle_goes_on_where_it_was_split() -> Result<()> {
    const ROWS: u32 = 120_000;
    let rig = Rig::shared("killed_in_split").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    open_accounts(&rig, ROWS).await?;
    let published = "rowbridge_events_total{type=\"AccountOpened\"}";
    for _ in 0..2 {
        eventually("a part of the transaction", SOON, || async {
            Ok(daemon.metric(published).await.is_ok_and(|part| part > 0.0))
        })
        .await?;
        let part = daemon.metric(published).await?;
        daemon.kill9().await?;
        println!("killed when this process had published {part} of {ROWS} rows");
        ensure!(part < f64::from(ROWS), "killed too late: all was published");
        daemon = rig.daemon().await?;
        daemon.ready().await?;
    }
    let events = settled(&rig, Reads::Once).await?;
    assert_eq!(events, ROWS as usize);
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

fn confirmed_flush(rig: &Rig) -> String {
    format!(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'rowbridge_{}'",
        rig.pipeline
    )
}
