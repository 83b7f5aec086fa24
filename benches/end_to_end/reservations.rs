//! PostgreSQL with the airline's tables; its floor is `pg_recvlogical` with the same publication, plugin and protocol version.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge_api::Position;
use rowbridge_testbed::{PgVersion, Postgres};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio_postgres::{Client, Statement};

use crate::backlog::{self, BOOKINGS, Backlog, FLIGHTS, SEGMENTS};
use crate::latency::Times;
use crate::pipeline::{Pack, Pipeline};

/// The publication that the floor reads.
const PUBLICATION: &str = "rowbridge_bench1";

pub(crate) struct Reservations {
    postgres: Postgres,
    /// The database that holds the airline's tables.
    url: String,
}

/// How the floor and the pipeline reach the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Unix,
}

impl Reservations {
    pub(crate) async fn start(way: Way) -> Result<Self> {
        let postgres = Postgres::start(PgVersion::V17).await?;
        let mut url = postgres.database("reservations").await?;
        if way == Way::Unix {
            let directory = postgres
                .socket_dir()
                .context("a server in a container has no socket here")?;
            let (_, database) = url.rsplit_once('/').context("a URL without a database")?;
            url = format!(
                "postgres://postgres@/{database}?host={}&port={}",
                directory.display(),
                postgres.port()
            );
        }
        let started = Self { postgres, url };
        let client = started.connect().await?;
        client
            .batch_execute(include_str!("../../mappings/airline/schema.sql"))
            .await?;
        Ok(started)
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The rows that the updates change.
    pub(crate) async fn prepare(&self) -> Result<()> {
        let client = self.connect().await?;
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

    /// The airline's rules that look at one change alone.
    pub(crate) fn pack(&self) -> Result<Pack> {
        let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/airline");
        let read = |file: &str| fs::read_to_string(format!("{pack}/{file}"));
        Ok(Pack {
            mapping: read("mapping.toml")?,
            schema: read("schema.toml")?,
            source: format!(
                "[source.postgres]\nurl = \"{}\"\ntls = \"disable\"\n",
                self.url
            ),
        })
    }

    /// A slot for the floor where the pipeline's own is.
    pub(crate) async fn begin_floor(&self, repeat: usize, pipeline: &Pipeline) -> Result<()> {
        let copy = "SELECT pg_copy_logical_replication_slot($1::text::name, $2::text::name)";
        let client = self.connect().await?;
        client
            .execute(copy, &[&slot(pipeline), &floor_slot(repeat)])
            .await?;
        Ok(())
    }

    /// Commits the updates; where the last one is.
    pub(crate) async fn write(&self, backlog: &Backlog<'_>) -> Result<Position> {
        let client = self.connect().await?;
        client.batch_execute("SET synchronous_commit = off").await?;
        let per_transaction = backlog.rows_per_transaction.min(backlog.rows);
        // In one DO block, because a round trip per update would take longer than everything measured.
        let commit = if per_transaction == backlog.rows {
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
                backlog.rows, backlog.update.set
            ))
            .await?;
        let end: String = client
            .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
            .await?
            .get(0);
        client.batch_execute("CHECKPOINT").await?;
        Ok(end.parse()?)
    }

    /// Drains the floor's slot up to `end` to /dev/null; how long that took from the start of the process.
    pub(crate) async fn floor(&self, repeat: usize, end: &Position) -> Result<Duration> {
        let started = Instant::now();
        let output = self
            .bare(&floor_slot(repeat))?
            .args(["--endpos", &end.to_string(), "-f", "/dev/null"])
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "pg_recvlogical: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(started.elapsed())
    }

    /// `pg_recvlogical --start` on `slot`; the caller says where to and until when.
    fn bare(&self, slot: &str) -> Result<Command> {
        let mut command = Command::new(self.postgres.bin("pg_recvlogical")?);
        command
            .args(["--start", "--slot", slot, "-d", &self.url])
            .args([
                "-o",
                "proto_version=1",
                "-o",
                &format!("publication_names={PUBLICATION}"),
            ])
            .args(["--no-loop", "--fsync-interval=0"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Whether the pipeline published everything up to `end`.
    pub(crate) async fn is_drained(&self, pipeline: &Pipeline, end: &Position) -> Result<bool> {
        let query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1";
        let client = self.connect().await?;
        let row = client
            .query_one(query, &[&slot(pipeline), &end.to_string()])
            .await?;
        Ok(row.get(0))
    }

    /// `pg_recvlogical` into a pipe on a slot of its own, which notes when each new seat came by.
    pub(crate) async fn follow(
        &self,
        received: Times,
        start: Instant,
    ) -> Result<impl Future<Output = Result<()>> + use<>> {
        let client = self.connect().await?;
        client
            .execute(
                "SELECT pg_create_logical_replication_slot('floor', 'pgoutput')",
                &[],
            )
            .await?;
        let command = self.bare("floor")?;
        Ok(seats(command, received, start))
    }

    pub(crate) async fn writer(&self) -> Result<(Client, Statement)> {
        let client = self.connect().await?;
        let update = client
            .prepare(
                "UPDATE segments SET seat_no = $1, updated_at = clock_timestamp() WHERE id = $2",
            )
            .await?;
        Ok((client, update))
    }
}

/// Commits one update.
pub(crate) async fn write_one(client: &Client, update: &Statement, number: u64) -> Result<()> {
    let (seat, segment) = (backlog::seat(number), backlog::segment(number));
    client.execute(update, &[&seat, &segment]).await?;
    Ok(())
}

fn slot(pipeline: &Pipeline) -> String {
    format!("rowbridge_{}", pipeline.name)
}

fn floor_slot(repeat: usize) -> String {
    format!("floor{repeat}")
}

async fn seats(mut command: Command, received: Times, start: Instant) -> Result<()> {
    let mut child = command.args(["-f", "-"]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("a pipe")?;
    let mut buffer = vec![0; 1 << 16];
    let mut tail = Vec::new();
    loop {
        let read = output.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        tail.extend_from_slice(&buffer[..read]);
        // A seat is the text cell `S<digits>`, and the next cell's kind byte ends it. The old tuple's seat
        // was noted when it was new.
        let mut at = 0;
        while let Some(found) = tail[at..].iter().position(|byte| *byte == b'S') {
            let digits = tail[at + found + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let end = at + found + 1 + digits;
            if end == tail.len() {
                at += found;
                break;
            }
            if digits > 0 {
                let seat = String::from_utf8_lossy(&tail[at + found..end]);
                received.note(&seat, start);
            }
            at = end;
        }
        let keep = if tail[at..].first() == Some(&b'S') {
            at
        } else {
            tail.len()
        };
        tail.drain(..keep);
    }
}
