//! Databases to test against, one per test.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of its own for one test, and a session in it.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) pipeline: String,
    client: Client,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    pub(crate) async fn create() -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        let base = std::env::var("PGBASE").unwrap();
        let admin = connect(&format!("{base}/postgres")).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let url = format!("{base}/{name}");
        Self {
            client: connect(&url).await,
            url,
            pipeline: name,
        }
    }

    /// Runs statements, each batch in one implicit transaction.
    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The first column of the first row, as text.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let messages = self.client.simple_query(sql).await.unwrap();
        messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    pub(crate) fn slot(&self) -> String {
        rowbridge_postgres::object_name(&self.pipeline)
    }
}
