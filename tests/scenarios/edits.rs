//! The mapping changes while the source does.

use std::time::Duration;

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::read_all;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::{LEDGER, Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

const ENTRIES: u32 = 500;
/// One more field of the accounts' events, and one more table.
const MORE_EVENTS: &str = r#"
[tables]
entry = "public.entry"

[topics.entries]
name       = "@TOPIC@.entries"
partitions = 2

[[event]]
type  = "EntryMade"
table = "entry"
on    = "insert"
topic = "entries"
key   = "{id}"
[event.data]
id = "$.row.id"
"#;
const MORE_SCHEMA: &str = r#"
[entry]
key = ["id"]
[entry.columns]
id = "int8"
"#;

/// The ledger's mapping with the new table in its place: TOML names a table once.
fn edited() -> String {
    let (head, rest) = MORE_EVENTS.split_once("\n\n").unwrap_or((MORE_EVENTS, ""));
    let entry = head.trim().trim_start_matches("[tables]");
    LEDGER
        .replace(
            "account = \"public.account\"",
            &format!("account = \"public.account\"{entry}"),
        )
        .replace(
            "owner   = \"$.row.owner\"",
            "owner   = \"$.row.owner\"\nedited  = { const = \"yes\" }",
        )
        + "\n"
        + rest
}

#[tokio::test]
async fn an_edited_mapping_and_an_added_table_apply_from_the_checkpoint_on() -> Result<()> {
    let rig = Rig::shared("edited_mapping").await?;
    rig.sql("CREATE TABLE public.entry (id int8 PRIMARY KEY)")
        .await?;
    open_accounts(&rig, 50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    load.more(200).await?;
    daemon.kill9().await?;

    rig.write_pack_with(&edited(), MORE_SCHEMA)?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let joined = "SELECT count(*)::text FROM pg_publication_tables \
                  WHERE pubname = 'rowbridge_edited_mapping' AND tablename = 'entry'";
    eventually("the new table to join the publication", SOON, || async {
        Ok(rig.query_text(joined).await?.as_deref() == Some("1"))
    })
    .await?;
    rig.sql(&format!(
        "INSERT INTO public.entry SELECT generate_series(1, {ENTRIES})"
    ))
    .await?;
    daemon.kill9().await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    load.stop().await;

    settled(&rig, Reads::Once).await?;
    let entries = format!("{}.entries", rig.topic);
    eventually("every entry", SOON, || {
        let events = read_all(&rig.brokers, &entries);
        async move { Ok(events?.len() >= ENTRIES as usize) }
    })
    .await?;
    assert_eq!(
        read_all(&rig.brokers, &entries)?.len(),
        ENTRIES as usize,
        "entries came twice"
    );
    once_edited_stays_edited(&rig)?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Per partition: first events of the old mapping, then only events of the new one, and both occur.
fn once_edited_stays_edited(rig: &Rig) -> Result<()> {
    let events = read_all(&rig.brokers, &rig.topic)?;
    for partition in 0..4 {
        let marks: Vec<bool> = events
            .iter()
            .filter(|event| event.partition == partition)
            .map(|event| event.field("edited") == "yes")
            .collect();
        let first = marks
            .iter()
            .position(|edited| *edited)
            .with_context(|| format!("no event of the edited mapping in partition {partition}"))?;
        assert!(first > 0, "no event of the first mapping");
        assert!(
            marks[first..].iter().all(|edited| *edited),
            "an event of the old mapping after the edit, in partition {partition}"
        );
    }
    Ok(())
}
