//! Databases to test against, one per test.

use std::sync::atomic::{AtomicU32, Ordering};

use rowbridge_testbed::{PgVersion, Postgres};

static PIPELINES: AtomicU32 = AtomicU32::new(0);

/// A database of its own for one test, and the name of the pipeline that reads it.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) pipeline: String,
}

impl Database {
    /// On the server that all tests of a version share.
    pub(crate) async fn create(version: PgVersion) -> Self {
        Self::on(Postgres::shared(version).await.unwrap()).await
    }

    pub(crate) async fn on(server: &Postgres) -> Self {
        let number = PIPELINES.fetch_add(1, Ordering::Relaxed);
        Self {
            url: server.database("real").await.unwrap(),
            pipeline: format!("p{number}"),
        }
    }

    /// Runs statements, each batch in one implicit transaction.
    pub(crate) async fn run(&self, sql: &str) {
        Postgres::sql_at(&self.url, sql).await.unwrap();
    }

    /// The first column of the first row, as text.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let rows = Postgres::sql_at(&self.url, sql).await.unwrap();
        rows.first()?.first()?.clone()
    }

    pub(crate) fn slot(&self) -> String {
        rowbridge_postgres::object_name(&self.pipeline)
    }

    /// Where the server believes the pipeline to be.
    pub(crate) async fn confirmed(&self) -> Option<rowbridge_api::Position> {
        let query = format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot()
        );
        self.text(&query).await.map(|text| text.parse().unwrap())
    }
}

/// Polls until `done` says so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let polling = async {
        while !done().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let polled = tokio::time::timeout(crate::follower::DEADLINE, polling).await;
    assert!(polled.is_ok(), "waited for {what}");
}
