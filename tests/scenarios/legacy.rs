//! Databases as they are found: partitions, odd names, tables made again, somebody else's slot, open transactions, huge
//! cells.

use std::time::Instant;

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::read_all;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{Daemon, LEDGER, Rig, SOON, eventually};
use crate::rows::arrived;
use crate::workload::open_accounts;

/// The accounts, by region; an account that moves to another region moves to another partition.
const PARTITIONED: &str = "DROP TABLE account; \
     CREATE TABLE account (id int8, ver int8 NOT NULL, owner text NOT NULL, balance numeric(12,2) NOT NULL, note text, \
         PRIMARY KEY (id, owner)) PARTITION BY LIST (owner); \
     CREATE TABLE account_eu PARTITION OF account FOR VALUES IN ('eu'); \
     CREATE TABLE account_us PARTITION OF account FOR VALUES IN ('us'); \
     ALTER TABLE account REPLICA IDENTITY FULL; ALTER TABLE account_eu REPLICA IDENTITY FULL; \
     ALTER TABLE account_us REPLICA IDENTITY FULL;";

#[tokio::test]
async fn rows_that_move_between_partitions_under_kills_are_updates_and_arrive_once() -> Result<()> {
    let rig = Rig::shared("partitioned").await?;
    rig.sql(PARTITIONED).await?;
    rig.sql("INSERT INTO account SELECT n, 1, 'eu', 100, NULL FROM generate_series(1, 200) n")
        .await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    for round in 0..4 {
        // Half of them move, the other half only changes; each round in one transaction that may be cut anywhere.
        for _ in 0..5 {
            rig.sql(
                "UPDATE account SET ver = ver + 1, \
                     owner = CASE WHEN id % 2 = 0 THEN owner WHEN owner = 'eu' THEN 'us' ELSE 'eu' END",
            )
            .await?;
        }
        if round < 3 {
            daemon.kill9().await?;
            daemon = rig.daemon().await?;
        }
    }
    settled(&rig, Reads::Once).await?;
    let events = read_all(&rig.brokers, &rig.topic)?;
    assert_eq!(events.len(), 200 + 4 * 5 * 200, "one event for each change");
    let kinds = events
        .iter()
        .filter(|event| !matches!(event.kind(), "AccountRead" | "AccountChanged"));
    assert_eq!(kinds.count(), 0, "a moved row neither closes nor opens");
    let quarantined = read_all(&rig.brokers, "rowbridge.partitioned.quarantine")?;
    assert!(quarantined.is_empty(), "{quarantined:?}");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_slot_and_a_publication_made_before_are_taken_once_the_operator_says_so() -> Result<()> {
    let mut rig = Rig::shared("made_before").await?;
    open_accounts(&rig, 5).await?;
    // A role that may create neither.
    rig.sql("CREATE ROLE guest LOGIN REPLICATION; GRANT SELECT ON public.account TO guest")
        .await?;
    let superuser = rig.database_url.clone();
    rig.database_url = superuser.replace("postgres@", "guest@");
    rig.write_config_source("create_publication = false\ncreate_slot = false")?;
    rig.database_url = superuser;
    rig.sql("CREATE PUBLICATION rowbridge_made_before FOR TABLE public.account")
        .await?;
    rig.sql("SELECT pg_create_logical_replication_slot('rowbridge_made_before', 'pgoutput')")
        .await?;
    let mut daemon = rig.daemon().await?;
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    assert!(daemon.log().contains("POSITION_LOST"), "{}", daemon.log());
    let said = rig.command(&["position", "set", "--snapshot"]).await?;
    assert!(said.status.success(), "{said:?}");
    rig.sql("UPDATE public.account SET ver = ver + 1 WHERE id = 1")
        .await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    // The update is older than the rows that were read, and newer than the slot: it comes, after them.
    let events = arrived(&rig, &rig.topic, 6).await?;
    let of_one = events.iter().filter(|event| event.key == "1");
    let of_one: Vec<&str> = of_one.map(|event| event.kind()).collect();
    assert_eq!(of_one, ["AccountRead", "AccountChanged"]);
    rig.sql("UPDATE public.account SET ver = ver + 1 WHERE id = 2")
        .await?;
    arrived(&rig, &rig.topic, 7).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_table_taken_out_of_the_publication_and_put_back_goes_on_as_documented() -> Result<()> {
    let rig = Rig::shared("taken_out").await?;
    open_accounts(&rig, 5).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    rig.sql("ALTER PUBLICATION rowbridge_taken_out DROP TABLE public.account")
        .await?;
    let lost = "UPDATE public.account SET note = 'never seen'";
    rig.sql(lost).await?;
    refuses(&rig, "does not cover public.account").await?;
    rig.sql("ALTER PUBLICATION rowbridge_taken_out ADD TABLE public.account")
        .await?;
    refuses(&rig, "joined it again").await?;
    let now = rig
        .query_text("SELECT pg_current_wal_lsn()")
        .await?
        .context("an LSN")?;
    let said = rig
        .command(&["position", "set", &now, "--accept-gap"])
        .await?;
    assert!(said.status.success(), "{said:?}");
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// A start ends with PUBLICATION_CHANGED, for the reason that contains `why`.
async fn refuses(rig: &Rig, why: &str) -> Result<()> {
    let mut daemon = rig.daemon().await?;
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    let log = daemon.log();
    assert!(
        log.contains("PUBLICATION_CHANGED") && log.contains(why),
        "{why}:\n{log}"
    );
    Ok(())
}

/// A table as an office suite named it once.
const ODD: &str = "CREATE SCHEMA \"My Schema\"; \
     CREATE TABLE \"My Schema\".\"Order.Lines\" (\"Line No\" int8 PRIMARY KEY, \"Unit.Price\" numeric(10,2), \"select\" text); \
     ALTER TABLE \"My Schema\".\"Order.Lines\" REPLICA IDENTITY FULL; \
     INSERT INTO \"My Schema\".\"Order.Lines\" VALUES (1, 9.50, 'a');";

const ODD_COLUMNS: &str = r#"
[line]
key = ["Line No"]
[line.columns]
"Line No"    = "int8"
"Unit.Price" = "numeric(10,2)"
select       = "text"
"#;

const ODD_RULES: &str = r#"
[[event]]
type  = "LineSeen"
table = "line"
on    = ["read", "insert", "delete"]
topic = "accounts"
[event.data]
price = "$.row['Unit.Price']"

[[event]]
type    = "PriceChanged"
table   = "line"
changed = ["Unit.Price"]
topic   = "accounts"
key     = "{$.row['Line No']}"
[event.data]
price = "$.after['Unit.Price']"
delta = { delta = "Unit.Price" }
word  = "$.row.select"
"#;

#[tokio::test]
async fn capitals_dots_and_spaces_in_names_reach_kafka_across_a_kill() -> Result<()> {
    let rig = Rig::shared("odd_names").await?;
    rig.sql(ODD).await?;
    let table = "[tables]\nline    = '\"My Schema\".\"Order.Lines\"'";
    rig.write_pack_with(
        &format!("{}{ODD_RULES}", LEDGER.replace("[tables]", table)),
        ODD_COLUMNS,
    )?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("UPDATE \"My Schema\".\"Order.Lines\" SET \"Unit.Price\" = 12, \"select\" = 'b'")
        .await?;
    arrived(&rig, &rig.topic, 2).await?;
    daemon.kill9().await?;
    rig.sql(
        "UPDATE \"My Schema\".\"Order.Lines\" SET \"select\" = 'c'; \
         INSERT INTO \"My Schema\".\"Order.Lines\" VALUES (2, NULL, 'd'); \
         DELETE FROM \"My Schema\".\"Order.Lines\" WHERE \"Line No\" = 1;",
    )
    .await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let events = arrived(&rig, &rig.topic, 4).await?;
    let of = |key: &str| -> Vec<String> {
        let events = events.iter().filter(|event| event.key == key);
        let shown = events.map(|event| {
            let fields = ["price", "delta", "word"].map(|name| event.field(name));
            format!("{} {}", event.kind(), fields.join(" "))
        });
        shown.map(|text| text.trim_end().to_owned()).collect()
    };
    assert_eq!(
        of("1"),
        [
            "LineSeen 9.50",
            "PriceChanged 12.00 2.50 b",
            "LineSeen 12.00"
        ]
    );
    assert_eq!(of("2"), ["LineSeen null"]);
    let source = events[0].header("ce_source");
    assert!(source.contains("Order.Lines"), "{source}");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_dropped_and_made_again_stops_a_running_daemon_and_goes_on_as_documented()
-> Result<()> {
    let rig = Rig::shared("made_again").await?;
    open_accounts(&rig, 3).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    arrived(&rig, &rig.topic, 3).await?;
    rig.sql("UPDATE public.account SET ver = 2 WHERE id = 1; DROP TABLE public.account;")
        .await?;
    rig.sql(include_str!("packs/ledger/schema.sql")).await?;
    open_accounts(&rig, 1).await?;
    // What was committed before is published; that the new table is none of ours is noticed by itself.
    assert_eq!(daemon.exit_code().await?, 2, "{}", daemon.log());
    assert!(
        daemon.log().contains("PUBLICATION_CHANGED"),
        "{}",
        daemon.log()
    );
    arrived(&rig, &rig.topic, 4).await?;
    refuses(&rig, "does not cover public.account").await?;
    rig.sql("ALTER PUBLICATION rowbridge_made_again ADD TABLE public.account")
        .await?;
    refuses(&rig, "joined it again").await?;
    let now = rig
        .query_text("SELECT pg_current_wal_lsn()")
        .await?
        .context("an LSN")?;
    let said = rig
        .command(&["position", "set", &now, "--accept-gap"])
        .await?;
    assert!(said.status.success(), "{said:?}");
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("UPDATE public.account SET ver = 7 WHERE id = 1")
        .await?;
    let events = arrived(&rig, &rig.topic, 5).await?;
    let last = events.iter().rev().find(|event| event.key == "1");
    assert_eq!(last.map(|event| event.field("ver")).as_deref(), Some("7"));
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_first_start_names_the_transaction_it_waits_for_and_may_be_stopped_meanwhile()
-> Result<()> {
    let rig = Rig::shared("open_transaction").await?;
    open_accounts(&rig, 5).await?;
    let client = rig.client().await?;
    client
        .batch_execute("BEGIN; UPDATE public.account SET ver = ver + 1 WHERE id = 1")
        .await?;
    let pid: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await?
        .get(0);
    let mut impatient = rig.daemon().await?;
    waits_for(&mut impatient, pid).await?;
    let asked = Instant::now();
    assert_eq!(impatient.terminate().await?, 0, "{}", impatient.log());
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());

    let mut daemon = rig.daemon().await?;
    waits_for(&mut daemon, pid).await?;
    assert!(!daemon.is_ready().await);
    client.batch_execute("COMMIT").await?;
    daemon.ready().await?;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Waits until the daemon's log says that it waits for `pid`.
async fn waits_for(daemon: &mut Daemon, pid: i32) -> Result<()> {
    let named = format!("pid {pid} ");
    eventually("the log to name who is waited for", SOON, || {
        let log = daemon.log();
        let said = log
            .lines()
            .any(|line| line.contains("waits for open transactions") && line.contains(&named));
        async move { Ok(said) }
    })
    .await
}

/// Bytes of one cell.
const HUGE: usize = 50 << 20;

#[tokio::test]
async fn a_cell_of_50_mb_is_quarantined_without_its_row_and_its_memory_does_not_stay() -> Result<()>
{
    let rig = Rig::shared("huge_cell").await?;
    rig.write_pack(&LEDGER.replace(
        "balance = \"$.row.balance\"",
        "balance = \"$.row.balance\"\nnote    = \"$.row.note\"",
    ))?;
    open_accounts(&rig, 3).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let before = memory(&daemon, "VmRSS:")?;
    // In the stream as a new value, as an old value and a new one, and as an old value.
    rig.sql(&format!(
        "UPDATE public.account SET ver = 2, note = repeat('x', {HUGE}) WHERE id = 1"
    ))
    .await?;
    rig.sql("UPDATE public.account SET ver = 3 WHERE id = 1")
        .await?;
    rig.sql("UPDATE public.account SET ver = 4, note = NULL WHERE id = 1")
        .await?;
    rig.sql("UPDATE public.account SET ver = 2 WHERE id = 2")
        .await?;
    let quarantined = arrived(&rig, "rowbridge.huge_cell.quarantine", 2).await?;
    for record in &quarantined {
        let text = record.value.as_ref().map(ToString::to_string);
        let text = text.unwrap_or_default();
        assert!(text.len() < 2_000 && !text.contains("xxxx"), "{text:.200}");
        assert!(record.field("error").contains("max_record_bytes"), "{text}");
    }
    let events = arrived(&rig, &rig.topic, 3 + 2).await?;
    let last = |key: &str| {
        let events = events.iter().rev();
        let mut events = events.filter(|event| event.key == key);
        events.next().map(|event| event.field("ver"))
    };
    assert_eq!(last("1").as_deref(), Some("4"));
    assert_eq!(last("2").as_deref(), Some("2"));
    for ver in 3..30 {
        rig.sql(&format!(
            "UPDATE public.account SET ver = {ver} WHERE id = 2"
        ))
        .await?;
    }
    arrived(&rig, &rig.topic, 3 + 2 + 27).await?;
    let (peak, after) = (memory(&daemon, "VmHWM:")?, memory(&daemon, "VmRSS:")?);
    println!("memory: {before} MiB before, {peak} MiB at most, {after} MiB after");
    // Old and new value, once as they arrive and once as JSON, and what vectors grow ahead.
    assert!(peak < before + 8 * 50, "peak {peak} MiB");
    assert!(after < before + 50, "{after} MiB stay, {before} before");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// A line of the daemon's /proc status, in MiB.
fn memory(daemon: &Daemon, line: &str) -> Result<u64> {
    let pid = daemon.pid().context("running")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kib: u64 = found
        .context("no such line")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib / 1024)
}
