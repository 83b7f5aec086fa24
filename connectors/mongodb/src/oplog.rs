//! How far back the servers' history reaches, which is how long a pipeline may be away.
//!
//! `serverStatus` tells it with its section `oplog` (server source, `repl_server_status.cpp`): that takes a right to look at
//! numbers. Reading the oplog itself would take one to read every document that anybody writes, so that is only done for
//! users who may do so anyway.

use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::Client;
use mongodb::error::Error;
use rowbridge_api::{Finding, Position, Severity, SourceStatus};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::token;

/// An oplog that reaches less far is a finding: a night's outage must fit.
const SHORT: Duration = Duration::from_secs(24 * 3_600);
/// How often a running source looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Sections of `serverStatus` that are made by default and take some work.
const NOT_WANTED: [&str; 6] = [
    "metrics",
    "wiredTiger",
    "tcmalloc",
    "locks",
    "repl",
    "connections",
];

/// The oldest and the newest moment of an oplog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    first: Timestamp,
    last: Timestamp,
}

impl Reach {
    pub(crate) fn oldest(self) -> Position {
        Position::new(token::order(self.first))
    }

    /// From the oldest entry to the newest.
    pub(crate) fn window(self) -> Duration {
        Duration::from_secs(u64::from(self.last.time.saturating_sub(self.first.time)))
    }
}

/// How far the oplog reaches, where this user may look and the server has one.
pub(crate) async fn reach(client: &Client) -> Option<Reach> {
    match of_status(client).await {
        Some(reach) => Some(reach),
        None => of_entries(client).await,
    }
}

async fn of_status(client: &Client) -> Option<Reach> {
    let mut command = doc! { "serverStatus": 1, "oplog": 1 };
    command.extend(NOT_WANTED.map(|section| (section.to_owned(), 0.into())));
    let status = run(client, "admin", command).await.ok()?;
    let oplog = status.get_document("oplog").ok()?;
    Some(Reach {
        first: oplog.get_timestamp("earliestOptime").ok()?,
        last: oplog.get_timestamp("latestOptime").ok()?,
    })
}

async fn of_entries(client: &Client) -> Option<Reach> {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let end = async |order: i32| {
        let entry = oplog
            .find_one(doc! {})
            .projection(doc! { "ts": 1 })
            .sort(doc! { "$natural": order })
            .await;
        entry.ok()??.get_timestamp("ts").ok()
    };
    Some(Reach {
        first: end(1).await?,
        last: end(-1).await?,
    })
}

/// Asks a server that the change stream may read from too.
async fn run(client: &Client, database: &str, command: Document) -> Result<Document, Error> {
    let database = client.database(database);
    match client.selection_criteria() {
        Some(criteria) => {
            let asking = database.run_command(command);
            asking.selection_criteria(criteria.clone()).await
        }
        None => database.run_command(command).await,
    }
}

/// Tells from time to time how far the oplog reaches, until it is dropped.
pub(crate) fn watch(client: Client, status: watch::Sender<SourceStatus>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut was_told = false;
        loop {
            let window = reach(&client).await.map(|reach| reach.window().as_secs());
            if window.is_none() && !std::mem::replace(&mut was_told, true) {
                tracing::info!(
                    "how far the oplog reaches is not known: this user may not look, or there are shards; `rowbridge check` \
                     says what it takes"
                );
            }
            status.send_if_modified(|status| {
                std::mem::replace(&mut status.history_seconds, window) != window
            });
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }))
}

/// The finding about an oplog that is full and reaches back for less than [`SHORT`].
pub(crate) async fn finding(client: &Client) -> Option<Finding> {
    let window = reach(client).await?.window();
    if window >= SHORT || !is_full(client).await? {
        return None;
    }
    Some(Finding {
        severity: Severity::Warning,
        problem: format!(
            "the oplog holds the last {} only: a pipeline that is away for longer loses changes; {} h would let a night pass",
            spoken(window),
            SHORT.as_secs() / 3_600
        ),
        fix: "db.adminCommand({ \"replSetResizeOplog\": 1, \"minRetentionHours\": 48 })".to_owned(),
        cost: Some("on each member: disk space for the changes of two days".to_owned()),
    })
}

/// A young deployment has a short history whatever its oplog's size.
async fn is_full(client: &Client) -> Option<bool> {
    let stats = run(client, "local", doc! { "collStats": "oplog.rs" }).await;
    let stats = stats.ok()?;
    let number = |name| {
        let value = stats.get(name)?;
        value.as_i64().or_else(|| value.as_i32().map(i64::from))
    };
    // It is cut in pieces of a tenth and less.
    Some(number("size")? * 10 >= number("maxSize")? * 9)
}

/// `17 h`, `5 min`
fn spoken(window: Duration) -> String {
    match window.as_secs() {
        seconds @ 3_600.. => format!("{} h", seconds / 3_600),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_told_in_whole_units_that_it_has() {
        let reach = |first: u32, last: u32| Reach {
            first: Timestamp {
                time: first,
                increment: 7,
            },
            last: Timestamp {
                time: last,
                increment: 1,
            },
        };
        for (last, told) in [
            (1_000, "0 min"),
            (1_000 + 3_599, "59 min"),
            (1_000 + 7_300, "2 h"),
        ] {
            assert_eq!(spoken(reach(1_000, last).window()), told);
        }
        assert_eq!(reach(1_000, 2_000).oldest().order(), 1_000 << 32 | 7);
        assert_eq!(reach(5, 4).window(), Duration::ZERO);
    }
}
