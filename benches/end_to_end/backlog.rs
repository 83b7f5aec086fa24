//! Updates of single rows waiting in the slot, numbered from 1, and the events that each of them is to give.

use anyhow::Result;
use tokio_postgres::Client;

use crate::Servers;

/// Segments that the updates walk over, in turns.
pub(crate) const SEGMENTS: u64 = 10_000;

/// Flights and bookings that the segments are of, so that keys spread over the partitions.
const FLIGHTS: u64 = 200;
const BOOKINGS: u64 = 1_000;

/// A backlog: so many updates, in transactions of so many rows.
pub(crate) struct Backlog<'a> {
    pub(crate) name: &'a str,
    pub(crate) rows: u64,
    pub(crate) rows_per_transaction: u64,
    pub(crate) update: Update,
}

/// What each update assigns and gives.
#[derive(Clone, Copy)]
pub(crate) struct Update {
    /// In SQL; `n` is the update's number. Each gives its row values that it did not have.
    set: &'static str,
    pub(crate) gives: &'static [Expected],
}

/// An event that every update gives once.
pub(crate) struct Expected {
    pub(crate) kind: &'static str,
    /// One of [`crate::tally::TOPICS`].
    pub(crate) topic: &'static str,
    /// The field that tells the update's number.
    pub(crate) field: &'static str,
}

/// One event for each row.
pub(crate) const SEAT: Update = Update {
    set: "seat_no = 'S' || n",
    gives: &[SEAT_REASSIGNED],
};

/// Three events for each row. A fare has two decimals, and up to 10,000,000 updates give a possible one.
pub(crate) const FARE_SEAT_AND_CLASS: Update = Update {
    set: "fare = n::numeric / 100, seat_no = 'S' || n, fare_class = 'K' || n",
    gives: &[
        SEAT_REASSIGNED,
        Expected {
            kind: "FareChanged",
            topic: "bookings",
            field: "fare",
        },
        Expected {
            kind: "ServiceClassChanged",
            topic: "bookings",
            field: "fare_class",
        },
    ],
};

const SEAT_REASSIGNED: Expected = Expected {
    kind: "SeatReassigned",
    topic: "inventory",
    field: "seat",
};

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
                 SELECT 'BN' || lpad(n::text, 4, '0'), 'CONFIRMED', 'web', 'bench@example.com', 'GBP', 100
                 FROM generate_series(0, {BOOKINGS} - 1) n;
             INSERT INTO segments (id, pnr, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
                 SELECT n, 'BN' || lpad((n % {BOOKINGS})::text, 4, '0'), 'BA' || n % {FLIGHTS},
                     date '2026-12-01' + (n % 7)::int, 'Y', 'M', 'S0', 120.50, 'OPEN', 'web'
                 FROM generate_series(1, {SEGMENTS}) n"
        ))
        .await?;
    client.batch_execute("VACUUM ANALYZE segments").await?;
    Ok(())
}

impl Backlog<'_> {
    /// Commits the updates.
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
                     UPDATE segments SET {}, updated_at = clock_timestamp() WHERE id = 1 + n % {SEGMENTS};
                     {commit}
                 END LOOP; END $$",
                self.rows, self.update.set
            ))
            .await?;
        Ok(())
    }
}
