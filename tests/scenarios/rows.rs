//! What single rows can do to a pipeline: schema changes, TOAST, moved keys, bad values, huge transactions.

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::read_all;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Rig, SOON, eventually};
use crate::workload::open_accounts;

/// Waits until `count` events are in the topic.
async fn arrived(
    rig: &Rig,
    topic: &str,
    count: usize,
) -> Result<Vec<rowbridge_testbed::consumer::Event>> {
    eventually(&format!("{count} events in {topic}"), SOON, || {
        let events = read_all(&rig.brokers, topic);
        async move { Ok(events?.len() >= count) }
    })
    .await?;
    let events = read_all(&rig.brokers, topic)?;
    assert_eq!(events.len(), count, "more than {count} events in {topic}");
    Ok(events)
}

#[tokio::test]
async fn a_schema_change_between_and_inside_transactions_takes_effect_at_its_place() -> Result<()> {
    let rig = Rig::shared("schema_change").await?;
    open_accounts(&rig, 3).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("UPDATE public.account SET ver = ver + 1 WHERE id = 1")
        .await?;
    rig.sql("ALTER TABLE public.account ADD COLUMN extra text DEFAULT 'x'")
        .await?;
    rig.sql("UPDATE public.account SET ver = ver + 1, extra = 'y' WHERE id = 1")
        .await?;
    rig.sql(
        "BEGIN; UPDATE public.account SET ver = ver + 1 WHERE id = 2;
         ALTER TABLE public.account DROP COLUMN extra; ALTER TABLE public.account ADD COLUMN early int8;
         UPDATE public.account SET ver = ver + 1 WHERE id = 2; COMMIT",
    )
    .await?;
    settled(&rig, Reads::Once).await?;

    // A mapped column that vanishes is refused there, with rule, column and LSN, and nothing after it goes out.
    let before = read_all(&rig.brokers, &rig.topic)?.len();
    rig.sql("ALTER TABLE public.account RENAME COLUMN owner TO holder; UPDATE public.account SET ver = ver + 1 WHERE id = 3").await?;
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    let log = daemon.log();
    for part in ["owner", "AccountChanged", "/", "hint:"] {
        assert!(log.contains(part), "no {part:?} in:\n{log}");
    }
    assert_eq!(read_all(&rig.brokers, &rig.topic)?.len(), before);
    Ok(())
}

#[tokio::test]
async fn an_unchanged_toasted_value_and_a_moved_key_are_what_they_are() -> Result<()> {
    let rig = Rig::shared("toast_and_keys").await?;
    open_accounts(&rig, 2).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    // A note that does not compress lies outside the row; the update does not touch it.
    rig.sql("UPDATE public.account SET ver = 2, note = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) n) WHERE id = 1").await?;
    rig.sql("UPDATE public.account SET ver = 3 WHERE id = 1")
        .await?;
    rig.sql("UPDATE public.account SET id = 77, ver = ver + 1 WHERE id = 2")
        .await?;
    let events = arrived(&rig, &rig.topic, 5).await?;
    let moved = events
        .iter()
        .find(|event| event.key == "77")
        .context("the moved row")?;
    assert_eq!(
        (moved.kind(), moved.field("ver").as_str()),
        ("AccountChanged", "2")
    );
    rig.sql("TRUNCATE public.account").await?;
    rig.sql("INSERT INTO public.account VALUES (5, 1, 'after the truncate', 1, NULL)")
        .await?;
    let events = arrived(&rig, &rig.topic, 6).await?;
    assert!(
        events
            .iter()
            .any(|event| event.kind() == "AccountOpened" && event.key == "5")
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_failed_check_and_an_oversize_event_are_quarantined_and_the_stream_goes_on() -> Result<()>
{
    let rig = Rig::shared("quarantined").await?;
    rig.write_config("[limits]\nmax_record_bytes = \"20KiB\"\n")?;
    open_accounts(&rig, 3).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql(
        "BEGIN; UPDATE public.account SET ver = 2, balance = -5000000 WHERE id = 1;
         UPDATE public.account SET ver = 2, owner = repeat('x', 30000) WHERE id = 2;
         UPDATE public.account SET ver = 2 WHERE id = 3; COMMIT",
    )
    .await?;
    let events = arrived(&rig, &rig.topic, 4).await?;
    assert_eq!(
        events
            .iter()
            .filter(|event| event.kind() == "AccountChanged")
            .map(|event| event.key.as_str())
            .collect::<Vec<_>>(),
        ["3"]
    );
    let quarantined = arrived(&rig, "rowbridge.quarantined.quarantine", 2).await?;
    let failed = quarantined
        .iter()
        .find(|event| event.field("error").contains("an impossible balance"))
        .context("the failed check")?;
    assert_eq!(
        failed
            .value
            .as_ref()
            .and_then(|value| value.pointer("/after/id"))
            .map(ToString::to_string)
            .as_deref(),
        Some("1")
    );
    let oversize = quarantined
        .iter()
        .find(|event| event.field("error").contains("bytes"))
        .context("the oversize event")?;
    let text = oversize
        .value
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(
        text.len() < 2_000 && !text.contains("xxxx"),
        "the row is in the record of an oversize event: {} bytes",
        text.len()
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn one_transaction_of_a_million_rows_goes_through_in_flat_memory() -> Result<()> {
    let rig = Rig::shared("million_rows").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("INSERT INTO public.account SELECT n, 1, 'owner', 10, NULL FROM generate_series(1, 1000000) n").await?;
    eventually("a million events", 3 * SOON, || async {
        let metric = daemon
            .metric("rowbridge_events_total{type=\"AccountOpened\"}")
            .await;
        Ok(metric.is_ok_and(|events| events >= 1_000_000.0))
    })
    .await?;
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().context("running")?))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("VmHWM")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    println!("peak memory {} MiB", kib / 1024);
    // A debug build with its own allocator slack; the release figure is the bench's.
    assert!(kib < 160 * 1024, "peak memory {kib} KiB");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
