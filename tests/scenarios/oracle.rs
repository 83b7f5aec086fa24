//! The oracles of the ledger: what must hold of its events whatever happened on the way.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, bail, ensure};
use rowbridge_testbed::consumer::{Event, read_all};

use crate::rig::Rig;

/// An account as folded from events, or as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) ver: i64,
    pub(crate) balance: String,
}

/// Whether `read` events may repeat: after a first snapshot that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Once,
    MayRepeat,
}

/// Checks rebuild, version chain, no duplicate and no gap of everything the ledger published, in one cluster
/// after the other; returns the number of events.
pub(crate) async fn verify(rig: &Rig, clusters: &[&str], reads: Reads) -> Result<usize> {
    let mut events = Vec::new();
    for brokers in clusters {
        events.extend(read_all(brokers, &rig.topic)?);
    }
    no_duplicates(&events, reads)?;
    let rebuilt = version_chain(&events, reads)?;
    let stored = stored(rig).await?;
    same(&rebuilt, &stored)?;
    Ok(events.len())
}

/// Checks the same of events of a ledger that is stored elsewhere.
pub(crate) fn verify_events(
    events: &[Event],
    stored: &BTreeMap<i64, Account>,
    reads: Reads,
) -> Result<()> {
    no_duplicates(events, reads)?;
    same(&version_chain(events, reads)?, stored)
}

fn same(rebuilt: &BTreeMap<i64, Account>, stored: &BTreeMap<i64, Account>) -> Result<()> {
    ensure!(
        rebuilt == stored,
        "rebuilt and stored accounts differ:\n{}",
        difference(rebuilt, stored)
    );
    Ok(())
}

/// Changes that are committed in the source now and not visible in Kafka.
pub(crate) async fn in_flight(rig: &Rig) -> Result<i64> {
    let versions = |accounts: &BTreeMap<i64, Account>| -> i64 {
        accounts.values().map(|account| account.ver).sum()
    };
    let stored = stored(rig).await?;
    let events = read_all(&rig.brokers, &rig.topic)?;
    Ok(versions(&stored) - versions(&version_chain(&events, Reads::Once)?))
}

/// O4: event ids are unique under `read_committed`.
pub(crate) fn no_duplicates(events: &[Event], reads: Reads) -> Result<()> {
    let mut seen = HashSet::new();
    for event in events {
        let fresh = seen.insert(event.id());
        let excused = reads == Reads::MayRepeat && event.kind() == "AccountRead";
        ensure!(
            fresh || excused,
            "event {} of key {} is there twice",
            event.id(),
            event.key
        );
    }
    Ok(())
}

/// O3 and O1: per key the version goes up by one; folded to the last state.
fn version_chain(events: &[Event], reads: Reads) -> Result<BTreeMap<i64, Account>> {
    let mut accounts: BTreeMap<i64, Account> = BTreeMap::new();
    for event in events {
        let id: i64 = event.key.parse()?;
        let ver: i64 = event.field("ver").parse()?;
        let last = accounts.get(&id).map(|account| account.ver);
        match event.kind() {
            "AccountRead" | "AccountOpened" => {
                let replaced = reads == Reads::MayRepeat && event.kind() == "AccountRead";
                ensure!(
                    last.is_none() || replaced,
                    "account {id} begins again at version {ver} after {last:?}"
                );
            }
            "AccountChanged" => {
                let follows = last == Some(ver - 1)
                    || (reads == Reads::MayRepeat && last.is_some_and(|last| ver <= last));
                ensure!(
                    follows,
                    "account {id}: version {ver} after {last:?} (partition {}, offset {})",
                    event.partition,
                    event.offset
                );
            }
            "AccountClosed" => {
                accounts.remove(&id);
                continue;
            }
            other => bail!("an event of type {other}"),
        }
        accounts.insert(
            id,
            Account {
                ver,
                balance: event.field("balance"),
            },
        );
    }
    Ok(accounts)
}

async fn stored(rig: &Rig) -> Result<BTreeMap<i64, Account>> {
    let rows = rig
        .client()
        .await?
        .query("SELECT id, ver, balance::text FROM public.account", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            (
                row.get(0),
                Account {
                    ver: row.get(1),
                    balance: row.get(2),
                },
            )
        })
        .collect())
}

fn difference(rebuilt: &BTreeMap<i64, Account>, stored: &BTreeMap<i64, Account>) -> String {
    let keys: HashSet<_> = rebuilt.keys().chain(stored.keys()).collect();
    let mut lines: Vec<String> = keys
        .into_iter()
        .filter(|id| rebuilt.get(id) != stored.get(id))
        .map(|id| {
            format!(
                "account {id}: rebuilt {:?}, stored {:?}",
                rebuilt.get(id),
                stored.get(id)
            )
        })
        .collect();
    lines.sort();
    lines.truncate(10);
    lines.join("\n")
}
