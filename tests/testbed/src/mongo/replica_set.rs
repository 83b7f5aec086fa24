//! The nodes as a replica set: who is primary, and that another becomes it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bson::{Document, doc};
use tokio::task::JoinSet;

use super::{Mongo, REPLICA_SET, Shape, admin_at};

/// How long a node may take to say what it is; one that is frozen or stopped says nothing.
const HELLO_DEADLINE: Duration = Duration::from_secs(2);
const MEMBER_DEADLINE: Duration = Duration::from_secs(60);
const MEMBER_POLL: Duration = Duration::from_millis(50);
/// Without a primary for this long, the others elect one. The server's default is 10 s.
const ELECTION_TIMEOUT_MS: i32 = 2000;
const HEARTBEAT_INTERVAL_MS: i32 = 500;
/// How long a primary that steps down does not become primary again. Among others that is longer than their election takes.
const STEP_DOWN_SECS: i32 = 10;
const STEP_DOWN_ALONE_SECS: i32 = 1;

impl Mongo {
    /// Makes the nodes a replica set and waits until all are members and one is primary.
    pub(super) async fn initiate(&self) -> Result<()> {
        let members: Vec<Document> = (0i32..)
            .zip(&self.nodes)
            .map(|(id, node)| doc! { "_id": id, "host": node.addr().to_string() })
            .collect();
        let config = doc! {
            "_id": REPLICA_SET,
            "members": members,
            "settings": {
                "electionTimeoutMillis": ELECTION_TIMEOUT_MS,
                "heartbeatIntervalMillis": HEARTBEAT_INTERVAL_MS,
            },
        };
        self.admin_as_nobody(0, doc! { "replSetInitiate": config })
            .await?;
        for node in 0..self.nodes.len() {
            self.wait_until_member(node).await?;
        }
        self.primary().await.map(drop)
    }

    /// The index of the primary; waits until there is one that answers.
    ///
    /// # Errors
    /// When there is none within a minute.
    pub async fn primary(&self) -> Result<usize> {
        ensure!(
            self.shape != Shape::Standalone,
            "a standalone server has no primary"
        );
        let until = Instant::now() + MEMBER_DEADLINE;
        loop {
            let all = self.hello_of_all().await;
            let primaries = all
                .iter()
                .filter(|(_, hello)| hello.get_bool("isWritablePrimary").unwrap_or(false));
            // A primary that was cut off may not know yet that it is none any more: its election was earlier.
            let latest = primaries.max_by_key(|(_, hello)| {
                hello.get_object_id("electionId").map(|id| id.bytes()).ok()
            });
            if let Some((node, _)) = latest {
                return Ok(*node);
            }
            if Instant::now() >= until {
                bail!(
                    "no primary within {MEMBER_DEADLINE:?}; the nodes say {all:?}; the end of the first one's log:\n{}",
                    self.nodes[0].log_tail()
                );
            }
            tokio::time::sleep(MEMBER_POLL).await;
        }
    }

    /// Makes the primary a secondary, and waits until there is a primary again, which it returns. The only node of a replica
    /// set becomes it again after a second.
    ///
    /// # Errors
    /// Those of the server, and those of [`Mongo::primary`].
    pub async fn step_down(&self) -> Result<usize> {
        let before = self.primary().await?;
        let command = if self.nodes.len() == 1 {
            doc! { "replSetStepDown": STEP_DOWN_ALONE_SECS, "secondaryCatchUpPeriodSecs": 0, "force": true }
        } else {
            doc! { "replSetStepDown": STEP_DOWN_SECS, "secondaryCatchUpPeriodSecs": STEP_DOWN_SECS - 1 }
        };
        self.admin(before, command).await?;
        self.primary().await
    }

    /// Waits until a node is primary or secondary: it has the data and serves.
    pub(super) async fn wait_until_member(&self, node: usize) -> Result<()> {
        let until = Instant::now() + MEMBER_DEADLINE;
        loop {
            let said = hello(&self.hello_url(node)).await;
            let is = |what| {
                said.as_ref()
                    .is_ok_and(|said| said.get_bool(what).unwrap_or(false))
            };
            if is("isWritablePrimary") || is("secondary") {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!(
                    "node {node} was no member within {MEMBER_DEADLINE:?}: {said:?}; the end of its log:\n{}",
                    self.nodes[node].log_tail()
                );
            }
            tokio::time::sleep(MEMBER_POLL).await;
        }
    }

    /// What each node that answers says of itself.
    async fn hello_of_all(&self) -> Vec<(usize, Document)> {
        let mut asked = JoinSet::new();
        for node in 0..self.nodes.len() {
            let url = self.hello_url(node);
            asked.spawn(async move { Some((node, hello(&url).await.ok()?)) });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    /// `hello` wants no login.
    fn hello_url(&self, node: usize) -> String {
        format!("mongodb://{}/?directConnection=true", self.addr(node))
    }
}

async fn hello(url: &str) -> Result<Document> {
    admin_at(url, doc! { "hello": 1 }, HELLO_DEADLINE).await
}
