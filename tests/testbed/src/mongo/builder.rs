//! Settings of MongoDB nodes before their first start, and that start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU32;

use anyhow::{Result, ensure};

use super::guard::Guard;
use super::node::Node;
use super::{Mongo, REPLICA_SET, Shape};
use crate::certificates::{Authority, Issued};

/// The smallest that mongod takes.
const CACHE_GB: &str = "0.25";
const OPLOG_MB: u32 = 128;
const PARAMETERS: [(&str, &str); 2] = [
    ("diagnosticDataCollectionEnabled", "false"),
    // How long a member of several that is told to stop waits for clients to leave: by default 15 s.
    ("shutdownTimeoutMillisForSignaledShutdown", "500"),
];

/// Settings of the nodes before their first start.
#[derive(Clone)]
pub struct MongoBuilder {
    shape: Shape,
    guard: Guard,
    options: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
}

impl Default for MongoBuilder {
    fn default() -> Self {
        Self {
            shape: Shape::ReplicaSet { nodes: 1 },
            guard: Guard::default(),
            options: BTreeMap::new(),
            parameters: PARAMETERS
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }
}

impl MongoBuilder {
    /// A replica set of this many nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.shape = Shape::ReplicaSet { nodes };
        self
    }

    /// One server that is no replica set: it has no oplog, and so no change streams.
    #[must_use]
    pub fn standalone(mut self) -> Self {
        self.shape = Shape::Standalone;
        self
    }

    /// Sets a server parameter (`--setParameter`).
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a command line option, named without its dashes.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The size of the oplog in MB, from 1. The server removes what is over it only at checkpoints (option `syncdelay`) and after
    /// the parameter `minSnapshotHistoryWindowInSeconds`.
    #[must_use]
    pub fn oplog_mb(self, size: u32) -> Self {
        self.option("oplogSize", &size.to_string())
    }

    /// An oplog that [`Mongo::roll_oplog`] rolls within seconds.
    #[must_use]
    pub fn short_oplog(self) -> Self {
        self.oplog_mb(1)
            .option("syncdelay", "1")
            .parameter("minSnapshotHistoryWindowInSeconds", "0")
    }

    /// Lets in only users with a password, at first [`Mongo::ADMIN`].
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.guard.use_key();
        self
    }

    /// Lets clients use TLS, which see the certificate `server`; they may show certificates that `trusted` signed.
    #[must_use]
    pub fn tls(mut self, server: Issued, trusted: &Authority) -> Self {
        self.guard.use_tls(server, trusted);
        self
    }

    /// Starts the nodes and waits until they take writes; of several, until all are up to date.
    ///
    /// # Errors
    /// When no server can be had (the message says what to install), or with the end of a node's log.
    pub async fn start(self) -> Result<Mongo> {
        let nodes = match self.shape {
            Shape::Standalone => 1,
            Shape::ReplicaSet { nodes } => nodes,
        };
        ensure!(nodes > 0, "a replica set has at least one node");
        let mut mongo = Mongo {
            shape: self.shape,
            nodes: Vec::new(),
            guard: self.guard.clone(),
            serial: AtomicU32::new(0),
        };
        for _ in 0..nodes {
            mongo.nodes.push(Node::start(&self).await?);
        }
        if self.shape != Shape::Standalone {
            mongo.initiate().await?;
        }
        if self.guard.knows_users() {
            mongo.create_admin().await?;
        }
        Ok(mongo)
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The command line of one node, without the folder of its data.
    pub(super) fn arguments(&self, port: u16, files: &Path) -> Vec<String> {
        let mut options = BTreeMap::from([
            ("port".to_owned(), port.to_string()),
            ("bind_ip".to_owned(), "127.0.0.1".to_owned()),
            ("wiredTigerCacheSizeGB".to_owned(), CACHE_GB.to_owned()),
        ]);
        if self.shape != Shape::Standalone {
            options.insert("replSet".to_owned(), REPLICA_SET.to_owned());
            options.insert("oplogSize".to_owned(), OPLOG_MB.to_string());
        }
        options.extend(self.options.clone());
        // Its socket would lie in /tmp and stay there after SIGKILL.
        let mut arguments = vec!["--nounixsocket".to_owned()];
        for (name, value) in options {
            arguments.extend([format!("--{name}"), value]);
        }
        for (name, value) in &self.parameters {
            arguments.extend(["--setParameter".to_owned(), format!("{name}={value}")]);
        }
        arguments.extend(self.guard.arguments(files));
        arguments
    }
}
