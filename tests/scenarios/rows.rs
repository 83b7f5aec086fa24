//! What single rows can do to a pipeline: schema changes, TOAST, moved keys, bad values, huge transactions.

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::read_all;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{LEDGER, Rig, SOON, eventually};
use crate::workload::open_accounts;

/// What a row's note is, and when all rows go.
const NOTES: &str = r#"
[mapping]
name    = "notes"
version = 1

[tables]
account = "public.account"

[topics.accounts]
name       = "@TOPIC@"
partitions = 4

[[event]]
type  = "AccountOpened"
table = "account"
on    = ["read", "insert"]
topic = "accounts"
key   = "{id}"
[event.data]
ver = "$.row.ver"

[[event]]
type  = "AccountChanged"
table = "account"
on    = "update"
topic = "accounts"
key   = "{id}"
[event.data]
ver  = "$.row.ver"
note = "$.after.note"

[[event]]
type  = "LedgerCleared"
table = "account"
on    = "truncate"
topic = "accounts"
key   = "all"
[event.data]
cleared = { const = "yes" }
"#;

/// Waits until `count` events are in the topic.
pub(crate) async fn arrived(
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
async fn an_unchanged_toasted_value_a_moved_key_and_a_truncate_are_what_they_are() -> Result<()> {
    let rig = Rig::shared("toast_and_keys").await?;
    rig.write_pack(NOTES)?;
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
    let note = rig
        .query_text("SELECT note FROM public.account WHERE id = 1")
        .await?
        .context("the note")?;
    let untouched = events
        .iter()
        .find(|event| event.key == "1" && event.field("ver") == "3")
        .context("the update that left the note alone")?;
    assert!(
        untouched.field("note") == note,
        "an unchanged note of {} bytes became one of {}",
        note.len(),
        untouched.field("note").len()
    );
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
    let events = arrived(&rig, &rig.topic, 7).await?;
    assert!(
        events
            .iter()
            .any(|event| event.kind() == "LedgerCleared" && event.key == "all")
    );
    assert!(
        events
            .iter()
            .any(|event| event.kind() == "AccountOpened" && event.key == "5")
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_failed_check_a_type_error_and_an_oversize_event_are_quarantined_and_the_stream_goes_on()
-> Result<()> {
    let rig = Rig::shared("quarantined").await?;
    rig.write_config("[limits]\nmax_record_bytes = \"20KiB\"\n")?;
    rig.write_pack(&LEDGER.replace(
        "delta        = { delta = \"balance\" }",
        "delta        = { delta = \"balance\" }\nnumber       = { path = \"$.after.note\", as = \"integer\" }",
    ))?;
    open_accounts(&rig, 4).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql(
        "BEGIN; UPDATE public.account SET ver = 2, balance = -5000000 WHERE id = 1;
         UPDATE public.account SET ver = 2, owner = repeat('x', 30000) WHERE id = 2;
         UPDATE public.account SET ver = 2, note = '12' WHERE id = 3;
         UPDATE public.account SET ver = 2, note = 'twelve' WHERE id = 4; COMMIT",
    )
    .await?;
    let events = arrived(&rig, &rig.topic, 5).await?;
    assert_eq!(
        events
            .iter()
            .filter(|event| event.kind() == "AccountChanged")
            .map(|event| event.key.as_str())
            .collect::<Vec<_>>(),
        ["3"]
    );
    let quarantined = arrived(&rig, "rowbridge.quarantined.quarantine", 3).await?;
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
    let mistyped = quarantined
        .iter()
        .find(|event| event.field("error").contains("number"))
        .context("the type error")?;
    assert!(
        !mistyped.field("error").contains("twelve"),
        "the value is in the error: {}",
        mistyped.field("error")
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
