//! Seat changes waiting in the slot: every one a single-row update that gives one SeatReassigned.

use anyhow::Result;
use tokio_postgres::Client;

use crate::Servers;

/// Segments that the updates walk over, in turns.
pub(crate) const SEGMENTS: u64 = 10_000;

/// Flights that the segments are on, so that keys spread over the partitions.
const FLIGHTS: u64 = 200;

/// A backlog: so many updates, in transactions of so many rows.
pub(crate) struct Backlog<'a> {
    pub(crate) name: &'a str,
    pub(crate) rows: u64,
    pub(crate) rows_per_transaction: u64,
}

pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows that the updates change.
pub(crate) async fn prepare(servers: &Servers) -> Result<()> {
    let client = connect(&servers.url).await?;
    client
        .batch_execute(&format!(
            "INSERT INTO bookings (pnr, status, sales_channel, contact_email, currency, total_amount)
                 VALUES ('BENCH1', 'CONFIRMED', 'web', 'bench@example.com', 'GBP', 100);
             INSERT INTO segments (id, pnr, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
                 SELECT n, 'BENCH1', 'BA' || n % {FLIGHTS}, date '2026-12-01' + (n % 7)::int, 'Y', 'M', 'S0', 120.50, 'OPEN', 'web'
                 FROM generate_series(1, {SEGMENTS}) n"
        ))
        .await?;
    client.batch_execute("VACUUM ANALYZE segments").await?;
    Ok(())
}

impl Backlog<'_> {
    /// Commits the updates. Each gives its row a seat that it did not have.
    pub(crate) async fn write(&self, servers: &Servers) -> Result<()> {
        let client = connect(&servers.url).await?;
        client.batch_execute("SET synchronous_commit = off").await?;
        let per_transaction = self.rows_per_transaction.min(self.rows);
        // In one DO block, because a round trip per update would take longer than everything measured.
        let commit = if per_transaction == self.rows {
            ""
        } else {
            "IF n % per_transaction = 0 THEN COMMIT; END IF;"
        };
        client
            .batch_execute(&format!(
                "DO $$ DECLARE per_transaction constant int8 := {per_transaction};
                 BEGIN FOR n IN 1..{} LOOP
                     UPDATE segments SET seat_no = 'S' || n, updated_at = clock_timestamp() WHERE id = 1 + n % {SEGMENTS};
                     {commit}
                 END LOOP; END $$",
                self.rows
            ))
            .await?;
        Ok(())
    }
}
