//! A real MongoDB, a replica set of one or more nodes or a standalone server, private or shared by the tests of one process,
//! and its faults.
//!
//! What is not here: shards, which need a router that no package brings.

mod builder;
mod guard;
mod node;
mod oplog;
mod replica_set;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bson::{Document, doc};
use mongodb::Client;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::OnceCell;

use self::guard::Guard;
use self::node::Node;
use crate::proxy::Proxy;

pub use builder::MongoBuilder;

/// How long one administrative command may take, its connection included. A frozen node accepts connections and never answers.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// The name of every replica set.
const REPLICA_SET: &str = "rs0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One server without an oplog: no change streams, no transactions.
    Standalone,
    ReplicaSet {
        nodes: usize,
    },
}

/// Running MongoDB nodes. Dropping it ends them and removes their data.
pub struct Mongo {
    shape: Shape,
    nodes: Vec<Node>,
    guard: Guard,
    serial: AtomicU32,
}

impl Mongo {
    /// The user of [`MongoBuilder::auth`] who may do everything.
    pub const ADMIN: &str = "admin";
    /// The password of [`Mongo::ADMIN`].
    pub const ADMIN_PASSWORD: &str = "admin's secret";

    /// A replica set of one node that takes writes.
    ///
    /// # Errors
    /// As [`MongoBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Settings first, then [`MongoBuilder::start`].
    #[must_use]
    pub fn builder() -> MongoBuilder {
        MongoBuilder::default()
    }

    /// One replica set of one node for all tests of this process; use [`Mongo::database`] for a database of your own, and give
    /// it no faults.
    ///
    /// # Errors
    /// As [`MongoBuilder::start`].
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Mongo> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// The URL of all nodes together; it stays the same over restarts. With [`MongoBuilder::auth`], the administrator's.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| node.addr().to_string())
            .collect();
        let query = match self.shape {
            Shape::Standalone => "directConnection=true".to_owned(),
            Shape::ReplicaSet { .. } => format!("replicaSet={REPLICA_SET}"),
        };
        format!("mongodb://{}{}/?{query}", self.login(), hosts.join(","))
    }

    /// [`Mongo::url`] for another user, who is known by the database `admin`.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let url = self.url();
        let from = "mongodb://".len() + self.login().len();
        format!("mongodb://{}{}", credentials(user, password), &url[from..])
    }

    /// The URL of one node, whatever the others are.
    #[must_use]
    pub fn direct_url(&self, node: usize) -> String {
        self.direct_url_at(self.addr(node))
    }

    /// The URL of the node behind a proxy. Direct, because the members of a replica set name each other by their own addresses,
    /// and a client that asks them would go around the proxy.
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy) -> String {
        self.direct_url_at(proxy.addr())
    }

    fn direct_url_at(&self, addr: SocketAddr) -> String {
        format!("mongodb://{}{addr}/?directConnection=true", self.login())
    }

    fn login(&self) -> String {
        if self.guard.knows_users() {
            credentials(Self::ADMIN, Self::ADMIN_PASSWORD)
        } else {
            String::new()
        }
    }

    /// `127.0.0.1:PORT` of a node, as a proxy wants it.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn addr(&self, node: usize) -> SocketAddr {
        self.nodes[node].addr()
    }

    /// The process id of a node, `None` while stopped or in a container.
    #[must_use]
    pub fn pid(&self, node: usize) -> Option<u32> {
        self.nodes.get(node)?.pid()
    }

    /// A database name that begins with `name` and is given out once. MongoDB makes the database with its first collection.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        format!("{name}_{}", self.serial.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A clean shutdown (SIGTERM); returns when the node is gone.
    ///
    /// # Errors
    /// When it is not running, or does not stop in time.
    pub async fn stop(&mut self, node: usize) -> Result<()> {
        self.node(node)?.stop().await
    }

    /// SIGKILL; returns when the node is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill9(&mut self, node: usize) -> Result<()> {
        self.node(node)?.kill9().await
    }

    /// SIGSTOP: connections stay open and silent.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn freeze(&mut self, node: usize) -> Result<()> {
        self.node(node)?.freeze().await
    }

    /// Ends [`Mongo::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub async fn thaw(&mut self, node: usize) -> Result<()> {
        self.node(node)?.thaw().await
    }

    /// Starts a stopped or killed node on its old port and data, and waits until it serves: alone as primary, among others at
    /// least as secondary.
    ///
    /// # Errors
    /// With the end of the node's log.
    pub async fn start_again(&mut self, node: usize) -> Result<()> {
        self.node(node)?.start_again().await?;
        match self.shape {
            Shape::Standalone => Ok(()),
            Shape::ReplicaSet { nodes: 1 } => self.primary().await.map(drop),
            Shape::ReplicaSet { .. } => self.wait_until_member(node).await,
        }
    }

    fn node(&mut self, node: usize) -> Result<&mut Node> {
        let nodes = self.nodes.len();
        self.nodes
            .get_mut(node)
            .with_context(|| format!("there is no node {node}, only {nodes}"))
    }

    /// Runs a command in the database `admin` of one node, on a connection of its own.
    async fn admin(&self, node: usize, command: Document) -> Result<Document> {
        admin_at(&self.direct_url(node), command, COMMAND_DEADLINE).await
    }

    /// As [`Mongo::admin`], as nobody: before there are users.
    async fn admin_as_nobody(&self, node: usize, command: Document) -> Result<Document> {
        let url = format!("mongodb://{}/?directConnection=true", self.addr(node));
        admin_at(&url, command, COMMAND_DEADLINE).await
    }

    /// Makes a user of the database `admin` with these roles (`read@shop` is the role `read` in the database `shop`).
    ///
    /// # Errors
    /// Those of the server.
    pub async fn create_user(&self, user: &str, password: &str, roles: &[&str]) -> Result<()> {
        let primary = self.writer().await?;
        self.admin(primary, create_user(user, password, roles))
            .await?;
        Ok(())
    }

    async fn create_admin(&self) -> Result<()> {
        let primary = self.writer().await?;
        let command = create_user(Self::ADMIN, Self::ADMIN_PASSWORD, &["root"]);
        self.admin_as_nobody(primary, command).await?;
        Ok(())
    }

    async fn writer(&self) -> Result<usize> {
        match self.shape {
            Shape::Standalone => Ok(0),
            Shape::ReplicaSet { .. } => self.primary().await,
        }
    }
}

fn credentials(user: &str, password: &str) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("{}:{}@", encode(user), encode(password))
}

fn create_user(user: &str, password: &str, roles: &[&str]) -> Document {
    let role = |role: &&str| {
        let (role, db) = role.split_once('@').unwrap_or((role, "admin"));
        doc! { "role": role, "db": db }
    };
    let roles: Vec<Document> = roles.iter().map(role).collect();
    doc! { "createUser": user, "pwd": password, "roles": roles }
}

async fn admin_at(url: &str, command: Document, deadline: Duration) -> Result<Document> {
    let shown = command.keys().next().cloned().unwrap_or_default();
    let work = async {
        let client = Client::with_uri_str(url).await?;
        let answer = client.database("admin").run_command(command).await;
        client.shutdown().immediate(true).await;
        answer
    };
    match tokio::time::timeout(deadline, Box::pin(work)).await {
        Ok(answer) => answer.with_context(|| format!("running {shown}")),
        Err(_) => bail!("{shown} took longer than {deadline:?}"),
    }
}
