//! A mapping that looks documents up takes over from one that does not, killed on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};

use super::stage::{Documents, Journal, Load, create};
use super::transactions::JOURNAL_SCHEMA;
use crate::reseeding::{STAGES, killed_at, taken_over};

/// The account of an entry, as of its transaction, which changes it.
const LOOKUP: &str = r#"ver = "$.account.ver"
[event.lookup.account]
table = "account"
where = { id = "$.row.account" }
"#;

/// A change of an account: its transaction, and which.
type Change = (String, String);

fn transaction(event: &Event) -> Result<String> {
    let sequence = event.header("ce_sequence");
    let (transaction, _) = sequence.split_once('-').context("a transaction")?;
    Ok(transaction.to_owned())
}

#[tokio::test]
async fn documents_are_looked_up_by_a_mapping_that_takes_over_under_load() -> Result<()> {
    let documents = Documents::shared("documents_reseeded").await?;
    let rig = &documents.rig;
    create(&documents.database, "entry").await?;
    documents.write_with_journal()?;
    documents.open_accounts(50).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::with(&documents, 2, 50, Journal::Kept);
    load.more(50).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let looking_up = documents.journal() + LOOKUP;
    rig.write_pack_with(&looking_up, JOURNAL_SCHEMA)?;
    for stage in &STAGES[1..4] {
        killed_at(rig, stage, Duration::from_millis(5)).await?;
    }
    let mut daemon = taken_over(rig).await?;
    load.more(50).await?;
    load.stop().await;
    let entries = documents.settled_with_journal().await?;
    let mut changes: BTreeMap<Change, String> = BTreeMap::new();
    for event in read_all(&rig.brokers, &rig.topic)? {
        changes.insert(
            (transaction(&event)?, event.key.clone()),
            event.field("ver"),
        );
    }
    let looked_up = entries
        .iter()
        .filter(|entry| !entry.field("ver").is_empty());
    let looked_up: Vec<&Event> = looked_up.collect();
    for entry in &looked_up {
        let change = (transaction(entry)?, entry.field("account"));
        let ver = changes.get(&change).context("the account's change")?;
        ensure!(
            entry.field("ver") == *ver,
            "{} saw its account at {}, which was at {ver}",
            entry.key,
            entry.field("ver")
        );
    }
    let before = entries.len() - looked_up.len();
    println!(
        "{before} entries of the mapping before, {} of the new one",
        looked_up.len()
    );
    ensure!(before > 50 && looked_up.len() > 50, "both published");
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
