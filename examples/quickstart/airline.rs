//! The airline's reservations in PostgreSQL.

use std::fmt;

use anyhow::{Context, Result};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};
use serde::Deserialize;
use tokio_postgres::Client;

use crate::daemon::Daemon;
use crate::stage::Stage;
use crate::story::{Expected, Statement, Story};

/// Passengers of the group whose aircraft changes; enough that their events take a while to publish.
const PASSENGERS: usize = 20_000;

pub(crate) struct Airline {
    url: String,
    client: Client,
    _server: Postgres,
}

/// Statements, as they are.
#[derive(Clone, Deserialize)]
pub(crate) struct Sql(String);

impl fmt::Display for Sql {
    /// Without its line breaks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.split_whitespace().collect();
        f.write_str(&words.join(" "))
    }
}

impl Stage for Airline {
    const NAME: &'static str = "airline";
    const SERVER: &'static str = "postgres";

    type Write = Sql;

    fn story() -> Result<Story<Sql>> {
        toml::from_str(include_str!("story.toml")).context("examples/quickstart/story.toml")
    }

    async fn start() -> Result<(Self, Kafka)> {
        let (server, kafka) = tokio::try_join!(Postgres::start(PgVersion::V15), Kafka::start())?;
        let url = server.database("reservations").await?;
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(include_str!("../../mappings/airline/schema.sql"))
            .await
            .context("mappings/airline/schema.sql")?;
        let airline = Self {
            url,
            client,
            _server: server,
        };
        Ok((airline, kafka))
    }

    /// The first TOML block of README.md.
    fn config() -> Result<String> {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme
            .split_once("```toml\n")
            .context("README.md has a configuration")?;
        let (config, _) = rest
            .split_once("```")
            .context("README.md's configuration ends")?;
        Ok(config.to_owned())
    }

    fn url(&self) -> &str {
        &self.url
    }

    async fn write(&self, Sql(sql): &Sql) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .with_context(|| format!("the statement {sql:?}"))
    }

    async fn mark(&self) -> Result<String> {
        let row = self
            .client
            .query_one("SELECT pg_current_wal_lsn()::text", &[])
            .await?;
        Ok(row.get(0))
    }

    /// The slot says it.
    async fn has_passed(&self, mark: &str, _: &Daemon) -> Result<bool> {
        let query = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = 'rowbridge_airline'";
        Ok(self.client.query_one(query, &[&mark]).await?.get(0))
    }

    /// The group's rows are sold through a channel that publishes nothing, then handed to one that does. Its charter is
    /// not in the inventory, which would count every one of them by itself.
    async fn group(&self) -> Result<Statement<Sql>> {
        let insert = format!(
            "INSERT INTO bookings (pnr, status, sales_channel, contact_email, currency, total_amount)
                 VALUES ('GROUP1', 'HELD', 'test', 'group@example.com', 'EUR', 0);
             INSERT INTO segments (id, pnr, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
                 SELECT n, 'GROUP1', 'BA9117', '2026-12-01', 'Y', 'G', 'G' || n, 99, 'OPEN', 'test' FROM generate_series(1, {PASSENGERS}) n;
             UPDATE segments SET sales_channel = 'agent' WHERE pnr = 'GROUP1';"
        );
        self.client.batch_execute(&insert).await?;
        let event = Expected {
            topic: "travel.inventory".to_owned(),
            event_type: "SeatReassigned".to_owned(),
            key: "BA9117/2026-12-01/Y".to_owned(),
            quarantined: false,
            tombstone: false,
        };
        Ok(Statement {
            say: format!(
                "A larger aircraft: {PASSENGERS} passengers of a group change seats in one UPDATE. Rowbridge is killed in the middle."
            ),
            write: Sql(
                "UPDATE segments SET seat_no = 'A' || seat_no, updated_at = now() WHERE pnr = 'GROUP1'"
                    .to_owned(),
            ),
            events: vec![event; PASSENGERS],
        })
    }
}
