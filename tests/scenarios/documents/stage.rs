//! The documents' stage: a pipeline on a database of its own, and writers of transfers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Bson, Decimal128, Document, doc};
use mongodb::{Client, Database};
use rowbridge_testbed::consumer::{Event, read_all};
use rowbridge_testbed::{Kafka, Mongo};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::oracle::{Account, Reads, verify_events};
use crate::rig::{Daemon, LEDGER, Rig, SOON, eventually};
use crate::workload::Random;

/// Of a writer, between two transactions.
const PAUSE: Duration = Duration::from_millis(5);

/// A pipeline on a database of its own.
pub(super) struct Documents {
    pub(super) rig: Rig,
    pub(super) database: Database,
}

impl Documents {
    pub(super) async fn shared(name: &str) -> Result<Self> {
        Self::on(name, Mongo::shared().await?).await
    }

    pub(super) async fn on(name: &str, mongo: &Mongo) -> Result<Self> {
        let kafka = Kafka::shared().await?;
        Self::between(name, mongo, &kafka.brokers()).await
    }

    /// From servers of its own to brokers of its own.
    pub(super) async fn between(name: &str, mongo: &Mongo, brokers: &str) -> Result<Self> {
        let rig = Rig::on_documents(name, mongo, brokers)?;
        let database = Client::with_uri_str(mongo.url())
            .await?
            .database(&mongo.database(name));
        create(&database, "account").await?;
        let documents = Self { rig, database };
        documents.rig.write_pack(&documents.ledger())?;
        Ok(documents)
    }

    /// The ledger's mapping, for this database.
    pub(super) fn ledger(&self) -> String {
        LEDGER.replace(
            "public.account",
            &format!("{}.account", self.database.name()),
        )
    }

    pub(super) async fn open_accounts(&self, accounts: i64) -> Result<()> {
        let account = |id: i64| doc! { "_id": id, "id": id, "ver": 1_i64, "owner": format!("owner {id}"), "balance": amount(1000, 0) };
        self.database
            .collection("account")
            .insert_many((1..=accounts).map(account))
            .await?;
        Ok(())
    }

    pub(super) async fn stored(&self) -> Result<BTreeMap<i64, Account>> {
        use futures_util::TryStreamExt as _;
        let accounts: Vec<Document> = self
            .database
            .collection("account")
            .find(doc! {})
            .await?
            .try_collect()
            .await?;
        accounts
            .iter()
            .map(|account| {
                let balance = match account.get("balance") {
                    Some(Bson::Decimal128(balance)) => balance.to_string(),
                    other => anyhow::bail!("a balance {other:?}"),
                };
                let ver = account.get_i64("ver")?;
                Ok((account.get_i64("id")?, Account { ver, balance }))
            })
            .collect()
    }

    /// Changes an account that nobody else does; how long after `since` the change was visible.
    pub(super) async fn visible_since(&self, id: i64, since: Instant) -> Result<Duration> {
        let ver = self.acknowledged(id).await?;
        self.visible(id, &ver).await?;
        Ok(since.elapsed())
    }

    /// Changes an account that nobody else does, by an acknowledged write; its version.
    pub(super) async fn acknowledged(&self, id: i64) -> Result<String> {
        use mongodb::options::ReturnDocument::After;
        let since = Instant::now();
        let account = self.database.collection::<Document>("account");
        let change = || {
            account
                .find_one_and_update(doc! { "_id": id }, doc! { "$inc": { "ver": 1_i64 } })
                .return_document(After)
        };
        let changed = loop {
            // The writer, too, has to find the new primary.
            match change().await {
                Err(error) if since.elapsed() > SOON => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(changed) => break changed.context("the account")?,
            }
        };
        Ok(changed.get_i64("ver")?.to_string())
    }

    /// Waits until this version of an account is published.
    pub(super) async fn visible(&self, id: i64, ver: &str) -> Result<()> {
        eventually("the change", SOON, || async {
            let events = read_all(&self.rig.brokers, &self.rig.topic)?;
            let is_it = |event: &Event| event.key == id.to_string() && event.field("ver") == ver;
            Ok(events.iter().any(is_it))
        })
        .await
    }

    /// Waits until the daemon refuses to run, in this state; the commands that it prints.
    pub(super) async fn refuses(&self, daemon: &mut Daemon, state: &str) -> Result<Vec<String>> {
        let code = daemon.exit_code().await?;
        let log = daemon.log();
        ensure!(
            code == 2 && log.contains(state),
            "exit {code}, expected {state}:\n{log}"
        );
        let (_, hint) = log.rsplit_once("hint:").context("a hint")?;
        let quoted = hint.split('`').skip(1).step_by(2);
        Ok(quoted
            .filter_map(|quoted| quoted.strip_prefix("rowbridge "))
            .map(str::to_owned)
            .collect())
    }

    /// Runs a command as printed.
    pub(super) async fn printed(&self, command: &str) -> Result<()> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = self.rig.command(&words).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "rowbridge {command}: {said}");
        Ok(())
    }

    /// Waits until the events rebuild exactly what is stored; how many there are.
    pub(super) async fn settled(&self, reads: Reads) -> Result<usize> {
        let started = Instant::now();
        loop {
            let events = read_all(&self.rig.brokers, &self.rig.topic)?;
            match verify_events(&events, &self.stored().await?, reads) {
                Err(error) if started.elapsed() > SOON => {
                    return Err(error.context("the events never rebuilt the source"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                Ok(()) => return Ok(events.len()),
            }
        }
    }
}

/// Makes a collection that keeps its documents as they were before a change.
pub(super) async fn create(database: &Database, collection: &str) -> Result<()> {
    let create = doc! { "create": collection, "changeStreamPreAndPostImages": { "enabled": true } };
    database.run_command(create).await?;
    Ok(())
}

pub(super) fn amount(whole: u32, cents: u32) -> Decimal128 {
    format!("{whole}.{cents:02}").parse().expect("a decimal")
}

/// What a transfer writes beside the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journal {
    None,
    /// Two documents of the collection `entry`.
    Kept,
}

/// Writers of transfers: mostly in transactions of two documents, some aborted, some updates of one document alone.
pub(super) struct Load {
    stop: CancellationToken,
    writers: JoinSet<()>,
    pub(super) commits: Arc<AtomicU64>,
}

impl Load {
    pub(super) fn start(documents: &Documents, writers: u64, accounts: u32) -> Self {
        Self::with(documents, writers, accounts, Journal::None)
    }

    pub(super) fn with(
        documents: &Documents,
        writers: u64,
        accounts: u32,
        journal: Journal,
    ) -> Self {
        let stop = CancellationToken::new();
        let commits = Arc::new(AtomicU64::new(0));
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let (database, stop, commits) = (
                documents.database.clone(),
                stop.clone(),
                Arc::clone(&commits),
            );
            set.spawn(async move {
                let mut random = Random(writer * 7919 + 17);
                while !stop.is_cancelled() {
                    // Conflicts and elections are the scenario's doing; the writer simply goes on.
                    match transfer(&database, &mut random, accounts, journal).await {
                        Ok(()) => {
                            commits.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(PAUSE).await;
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
        Self {
            stop,
            writers: set,
            commits,
        }
    }

    pub(super) async fn more(&self, transactions: u64) -> Result<()> {
        let written = self.commits.load(Ordering::Relaxed);
        eventually("load on the source", SOON, || {
            let enough = self.commits.load(Ordering::Relaxed) > written + transactions;
            async move { Ok(enough) }
        })
        .await
    }

    pub(super) async fn stop(mut self) -> u64 {
        self.stop.cancel();
        while self.writers.join_next().await.is_some() {}
        self.commits.load(Ordering::Relaxed)
    }
}

async fn transfer(
    database: &Database,
    random: &mut Random,
    accounts: u32,
    journal: Journal,
) -> Result<()> {
    let (from, to) = random.pair(accounts);
    let moved = amount(random.below(50), random.below(100));
    let account = database.collection::<Document>("account");
    let change = |sign: &str| -> Result<Document> {
        let moved: Decimal128 = format!("{sign}{moved}").parse()?;
        Ok(doc! { "$inc": { "ver": 1_i64, "balance": moved } })
    };
    if random.below(5) == 0 {
        account
            .update_one(doc! { "_id": i64::from(from) }, change("")?)
            .await?;
        return Ok(());
    }
    let mut session = database.client().start_session().await?;
    session.start_transaction().await?;
    for (id, sign) in [(from, "-"), (to, "")] {
        account
            .update_one(doc! { "_id": i64::from(id) }, change(sign)?)
            .session(&mut session)
            .await?;
        if journal == Journal::Kept {
            let entry = database.collection::<Document>("entry");
            entry
                .insert_one(doc! { "account": i64::from(id) })
                .session(&mut session)
                .await?;
        }
    }
    match random.below(20) {
        0 | 1 => session.abort_transaction().await?,
        _ => session.commit_transaction().await?,
    }
    Ok(())
}
