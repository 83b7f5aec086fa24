//! The suite that every source passes, on real servers.

use std::time::Duration;

use rowbridge_api::TableName;
use rowbridge_api::testkit::conformance::{Acknowledged, Subject, Violation, Write, violations};
use rowbridge_postgres::{PostgresConfig, PostgresSource};
use rowbridge_testbed::{PgVersion, Postgres};

use crate::follower::settings;
use crate::on_oldest_and_newest_too;
use crate::server::Database;

/// The shortest time-out in which a loaded machine still answers.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(2);

on_oldest_and_newest_too!(keeps_every_promise_of_a_source);

async fn keeps_every_promise_of_a_source(version: PgVersion) {
    let mut subject = Real {
        version,
        database: Database::create(version).await,
    };
    let broken = violations(&mut subject).await;
    assert!(broken.is_empty(), "{broken:#?}");
}

struct Real {
    version: PgVersion,
    database: Database,
}

impl Real {
    fn config(&self) -> PostgresConfig {
        let mut config = settings(&self.database.url);
        config.limits.wal_sender_timeout = WAL_SENDER_TIMEOUT;
        config
    }
}

fn literal(text: Option<&String>) -> String {
    text.map_or_else(|| "NULL".to_owned(), |text| format!("'{text}'"))
}

fn statement(write: &Write) -> String {
    match write {
        Write::Insert(row) => format!(
            "INSERT INTO conformance VALUES ({}, {}, {});",
            row.id,
            literal(row.name.as_ref()),
            literal(row.notes.as_ref())
        ),
        Write::Rename { id, name } => format!(
            "UPDATE conformance SET name = {} WHERE id = {id};",
            literal(name.as_ref())
        ),
        Write::Rekey { from, to } => {
            format!("UPDATE conformance SET id = {to} WHERE id = {from};")
        }
        Write::Delete { id } => format!("DELETE FROM conformance WHERE id = {id};"),
    }
}

impl Subject for Real {
    type Source = PostgresSource;

    async fn reset(&mut self) -> Result<(), Violation> {
        self.database = Database::create(self.version).await;
        self.database
            .run(
                "CREATE TABLE conformance (id int8 PRIMARY KEY, name text, notes text); \
                 ALTER TABLE conformance ALTER notes SET STORAGE EXTERNAL",
            )
            .await;
        Ok(())
    }

    fn table(&self) -> TableName {
        TableName::new("public", "conformance")
    }

    fn source(&self) -> PostgresSource {
        PostgresSource::new(self.config(), &self.database.pipeline)
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), Violation> {
        let batch: String = writes.iter().map(statement).collect();
        let written = Postgres::sql_at(&self.database.url, &batch).await;
        written
            .map(drop)
            .map_err(|error| Violation::new(format!("{error:#}")))
    }

    async fn acknowledged(&self) -> Result<Acknowledged, Violation> {
        let confirmed = self.database.confirmed().await;
        Ok(confirmed.map_or(Acknowledged::Nothing, |position| {
            Acknowledged::UpTo(position.order())
        }))
    }

    fn timeout(&self) -> Duration {
        WAL_SENDER_TIMEOUT
    }
}
