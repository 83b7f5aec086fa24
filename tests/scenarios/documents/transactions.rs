//! Transactions over two collections: whole, once, in their order; aborted ones never.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use mongodb::Database;
use rowbridge_testbed::Mongo;
use rowbridge_testbed::consumer::{Event, read_all};

use super::stage::{Documents, Journal, Load, amount, create};
use crate::oracle::{Reads, no_duplicates};
use crate::rig::{SOON, eventually};

/// The journal's part of the mapping.
const JOURNAL: &str = r#"
[topics.entries]
name       = "@TOPIC@.entries"
partitions = 4

[[event]]
type  = "EntryBooked"
table = "entry"
on    = "insert"
topic = "entries"
key   = "{_id}"
[event.data]
account = "$.row.account"
"#;
pub(super) const JOURNAL_SCHEMA: &str = r#"
[entry]
key = ["_id"]
[entry.columns]
_id     = "text"
account = "int8"
"#;

impl Documents {
    /// The ledger's mapping with the journal.
    pub(super) fn write_with_journal(&self) -> Result<()> {
        self.rig.write_pack_with(&self.journal(), JOURNAL_SCHEMA)
    }

    pub(super) fn journal(&self) -> String {
        let accounts = format!("account = \"{}.account\"", self.database.name());
        let entries = format!("entry = \"{}.entry\"", self.database.name());
        let mapping = self
            .ledger()
            .replace(&accounts, &format!("{accounts}\n{entries}"));
        mapping + JOURNAL
    }

    fn entries(&self) -> Result<Vec<Event>> {
        read_all(&self.rig.brokers, &format!("{}.entries", self.rig.topic))
    }

    /// Waits until the events rebuild exactly what is stored, with every entry once: the entries.
    pub(super) async fn settled_with_journal(&self) -> Result<Vec<Event>> {
        self.settled(Reads::Once).await?;
        let stored = self.booked().await?;
        eventually("every entry", SOON, || async {
            Ok(self.entries()?.len() >= stored.len())
        })
        .await?;
        let entries = self.entries()?;
        no_duplicates(&entries, Reads::Once)?;
        let published: BTreeSet<String> = entries.iter().map(|event| event.key.clone()).collect();
        ensure!(published == stored, "entries differ from what is stored");
        Ok(entries)
    }

    async fn booked(&self) -> Result<BTreeSet<String>> {
        use futures_util::TryStreamExt as _;
        let entry = self.database.collection::<Document>("entry");
        let stored: Vec<Document> = entry.find(doc! {}).await?.try_collect().await?;
        let ids = stored.iter().map(|entry| entry.get_object_id("_id"));
        Ok(ids
            .map(|id| id.map(|id| id.to_hex()))
            .collect::<Result<_, _>>()?)
    }
}

/// The place in its transaction: which, and the how manieth change.
fn place(event: &Event) -> Result<(String, u64)> {
    let mut parts = event.header("ce_sequence").split('-');
    let (transaction, ordinal) = (parts.next(), parts.next());
    let ordinal = ordinal.context("an ordinal")?;
    Ok((
        transaction.context("a transaction")?.to_owned(),
        u64::from_str_radix(ordinal, 16)?,
    ))
}

#[tokio::test]
async fn transactions_over_two_collections_arrive_whole_and_aborted_ones_never() -> Result<()> {
    let documents = Documents::shared("documents_journal").await?;
    create(&documents.database, "entry").await?;
    documents.write_with_journal()?;
    documents.open_accounts(50).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::with(&documents, 2, 50, Journal::Kept);
    for _ in 0..3 {
        load.more(50).await?;
        daemon.kill9().await?;
        daemon = documents.rig.daemon().await?;
        daemon.ready().await?;
    }
    load.more(20).await?;
    load.stop().await;
    let entries = documents.settled_with_journal().await?;

    let mut transactions: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let accounts = read_all(&documents.rig.brokers, &documents.rig.topic)?;
    for event in accounts.iter().chain(&entries) {
        let (transaction, ordinal) = place(event)?;
        let changes = transactions.entry(transaction).or_default();
        changes.push((ordinal, event.kind().to_owned()));
    }
    transactions.retain(|_, changes| changes.iter().any(|(_, kind)| kind == "EntryBooked"));
    for (transaction, changes) in &mut transactions {
        changes.sort();
        let whole = ["AccountChanged", "EntryBooked"].repeat(2);
        let whole = (0..).zip(whole.into_iter().map(str::to_owned));
        ensure!(
            *changes == whole.collect::<Vec<_>>(),
            "{transaction}: {changes:?}"
        );
    }
    println!("{} transactions over two collections", transactions.len());
    ensure!(transactions.len() * 2 == entries.len());
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// What a mapping reads of a transaction that touches both collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Accounts,
    Both,
}

/// One transaction that inserts accounts and entries, some of these behind some of those.
async fn write_huge(database: &Database, rows: i64) -> Result<()> {
    let mut session = database.client().start_session().await?;
    session.start_transaction().await?;
    let (account, entry) = (
        database.collection::<Document>("account"),
        database.collection::<Document>("entry"),
    );
    let owner = "o".repeat(400);
    for from in (0..rows).step_by(50) {
        let row = |id: i64| doc! { "_id": id, "id": id, "ver": 1_i64, "owner": &owner, "balance": amount(1, 0) };
        let booked = |id: i64| doc! { "account": id };
        let ids = from..from + 50;
        account
            .insert_many(ids.clone().map(row))
            .session(&mut session)
            .await?;
        entry
            .insert_many(ids.map(booked))
            .session(&mut session)
            .await?;
    }
    session.commit_transaction().await?;
    Ok(())
}

/// Publishes a part of one huge transaction by one mapping, and goes on by another after a kill.
#[expect(clippy::print_stdout, reason = "where it was killed is worth seeing")]
async fn goes_on_by_another_mapping(name: &str, first: Reading, then: Reading) -> Result<()> {
    /// Of each collection.
    const ROWS: i64 = 8_000;
    // So that the transaction takes several oplog entries, as it does from 16 MB on.
    let mongo = Mongo::builder()
        .parameter("maxNumberOfTransactionOperationsInSingleOplogEntry", "3000")
        .start()
        .await?;
    let documents = Documents::on(name, &mongo).await?;
    create(&documents.database, "entry").await?;
    let write = |reading| match reading {
        Reading::Accounts => documents.rig.write_pack(&documents.ledger()),
        Reading::Both => documents.write_with_journal(),
    };
    write(first)?;
    documents
        .rig
        .write_config("[limits]\ntransaction_records = 500\n")?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    write_huge(&documents.database, ROWS).await?;
    let published = "rowbridge_events_total{type=\"AccountOpened\"}";
    eventually("a part of the transaction", SOON, || async {
        Ok(daemon
            .metric(published)
            .await
            .is_ok_and(|part| part > 1000.0))
    })
    .await?;
    daemon.kill9().await?;
    let part = read_all(&documents.rig.brokers, &documents.rig.topic)?.len();
    println!("killed with {part} of {ROWS} accounts published");
    ensure!(
        part > 0 && part < usize::try_from(ROWS)?,
        "not in the middle: {part}"
    );
    write(then)?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let events = documents.settled(Reads::Once).await?;
    ensure!(events == usize::try_from(ROWS)?, "{events}");
    // Of the other collection, what comes behind the point where the mappings changed, or up to there.
    let entries = documents.entries()?;
    no_duplicates(&entries, Reads::Once)?;
    let ordinals = entries.iter().map(|event| Ok(place(event)?.1));
    let ordinals: BTreeSet<u64> = ordinals.collect::<Result<_>>()?;
    println!("{} of {ROWS} entries", entries.len());
    ensure!(
        !entries.is_empty() && entries.len() < usize::try_from(ROWS)?,
        "{} entries",
        entries.len()
    );
    let accounts = read_all(&documents.rig.brokers, &documents.rig.topic)?;
    for event in &accounts {
        ensure!(!ordinals.contains(&place(event)?.1), "one ordinal twice");
    }
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn a_collection_joins_the_mapping_in_the_middle_of_a_transaction() -> Result<()> {
    goes_on_by_another_mapping("documents_joins", Reading::Accounts, Reading::Both).await
}

#[tokio::test]
async fn a_collection_leaves_the_mapping_in_the_middle_of_a_transaction() -> Result<()> {
    goes_on_by_another_mapping("documents_leaves", Reading::Both, Reading::Accounts).await
}
