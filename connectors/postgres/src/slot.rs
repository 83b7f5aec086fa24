//! The replication slot: its state as the server tells it, its creation, and what a bad state means.

use std::fmt;
use std::time::{Duration, Instant};

use rowbridge_api::{Position, SourceError, State};
use tokio_postgres::Row;

use crate::error::{WireError, sqlstate};
use crate::sql::{Sql, literal, quote};
use crate::wire::Link;

/// The output plugin. No other is understood.
pub(crate) const PLUGIN: &str = "pgoutput";
/// The way out of every state in which changes are lost.
pub(crate) const START_OVER: &str = "`rowbridge drop` and then `rowbridge run` reads all rows again; \
     `rowbridge position set LSN --accept-gap` goes on from LSN and leaves the lost changes out";
/// After this long, who keeps the slot from being created is named.
const NAME_BLOCKERS_AFTER: Duration = Duration::from_secs(2);

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    pub name: String,
    pub plugin: String,
    pub database: String,
    /// Where the stream would start: everything before it was acknowledged.
    pub confirmed_flush: Option<Position>,
    /// From where the server keeps WAL for it.
    pub restart: Option<Position>,
    /// `reserved`, `extended`, `unreserved` or `lost`; nothing while the server has not decided.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before the slot is in danger; nothing without a limit.
    pub safe_wal_bytes: Option<u64>,
    /// The server's WAL end now.
    pub wal_end: Option<Position>,
    pub holder: Option<Holder>,
}

/// The session that reads a slot now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub application: Option<String>,
    pub client: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if let Some(application) = &self.application {
            write!(f, " ({application}")?;
            match &self.client {
                Some(client) => write!(f, " at {client})")?,
                None => f.write_str(")")?,
            }
        }
        Ok(())
    }
}

/// `pg_current_wal_lsn` fails on a standby.
const WAL_END: &str =
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END";

/// Reads the slot, or nothing if there is none of that name.
pub(crate) async fn read(sql: &Sql, name: &str) -> Result<Option<SlotState>, SourceError> {
    let query = format!(
        "SELECT s.plugin::text, s.database::text, s.confirmed_flush_lsn::text, s.restart_lsn::text, \
             s.wal_status, s.safe_wal_size, ({WAL_END})::text, s.active_pid, a.application_name, \
             a.client_addr::text \
         FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
         WHERE s.slot_name = $1"
    );
    let rows = sql.query("read the slot", &query, &[&name]).await?;
    Ok(rows.first().map(|row| SlotState {
        name: name.to_owned(),
        plugin: row.get::<_, Option<String>>(0).unwrap_or_default(),
        database: row.get::<_, Option<String>>(1).unwrap_or_default(),
        confirmed_flush: lsn(row, 2),
        restart: lsn(row, 3),
        wal_status: row.get(4),
        safe_wal_bytes: row
            .get::<_, Option<i64>>(5)
            .map(|bytes| u64::try_from(bytes).unwrap_or(0)),
        wal_end: lsn(row, 6),
        holder: row.get::<_, Option<i32>>(7).map(|pid| Holder {
            pid,
            application: row.get(8),
            client: row.get(9),
        }),
    }))
}

fn lsn(row: &Row, column: usize) -> Option<Position> {
    row.get::<_, Option<String>>(column)?.parse().ok()
}

impl SlotState {
    /// Refuses a slot that cannot carry this pipeline.
    pub(crate) fn usable(&self, database: &str) -> Result<(), SourceError> {
        let name = &self.name;
        if self.plugin != PLUGIN || self.database != database {
            return Err(SourceError::refused(
                State::WrongSource,
                format!(
                    "slot {name} is for plugin `{}` in database `{}`, not `{PLUGIN}` in `{database}`",
                    self.plugin, self.database
                ),
                format!(
                    "another program uses this name: choose another `pipeline`, or if nothing needs the slot: \
                     SELECT pg_drop_replication_slot({});",
                    literal(name).trim_start()
                ),
            ));
        }
        if self.wal_status.as_deref() == Some("lost") {
            return Err(SourceError::refused(
                State::SlotLost,
                format!(
                    "the server has invalidated slot {name} (wal_status is lost): every change after {} that was \
                     not published is lost, up to {}",
                    shown(self.confirmed_flush.as_ref()),
                    shown(self.wal_end.as_ref())
                ),
                START_OVER,
            ));
        }
        Ok(())
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed_flush.as_ref().map_or(0, Position::order)
    }
}

pub(crate) fn shown(position: Option<&Position>) -> String {
    position.map_or_else(|| "an unknown position".to_owned(), ToString::to_string)
}

/// The refusal for a slot that is gone.
pub(crate) fn missing(name: &str, position: &Position) -> SourceError {
    SourceError::refused(
        State::SlotLost,
        format!(
            "slot {name} does not exist, although this pipeline has published up to {position}: every change \
             after {position} that nobody else kept is lost"
        ),
        START_OVER,
    )
}

/// A slot just created.
pub(crate) struct Created {
    /// The stream starts here; the snapshot shows everything before.
    pub(crate) consistent_point: u64,
    /// For SET TRANSACTION SNAPSHOT, until the next command on the link.
    pub(crate) snapshot: String,
}

/// How long a slot is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lives {
    /// Until it is dropped.
    On,
    /// As long as the link that creates it: for its snapshot alone.
    WithItsLink,
}

/// Creates the slot with an exported snapshot. It waits for every transaction that is open now.
pub(crate) async fn create(
    link: &mut Link,
    sql: &Sql,
    name: &str,
    lives: Lives,
) -> Result<Created, SourceError> {
    let temporary = match lives {
        Lives::On => "",
        Lives::WithItsLink => " TEMPORARY",
    };
    let statement = format!(
        "CREATE_REPLICATION_SLOT {}{temporary} LOGICAL {PLUGIN} EXPORT_SNAPSHOT",
        quote(name)
    );
    let walsender = link.backend_pid();
    let started = Instant::now();
    let mut creating = std::pin::pin!(link.query(&statement));
    let rows = loop {
        tokio::select! {
            rows = &mut creating => break rows,
            () = tokio::time::sleep(NAME_BLOCKERS_AFTER) => {
                let blockers = blockers(sql, walsender).await?;
                let waited_s = started.elapsed().as_secs();
                tracing::warn!(slot = name, waited_s, blockers, "creating the slot waits for open transactions");
            }
        }
    };
    let rows = rows.map_err(|error| creation_error(name, error))?;
    let cell = |index: usize| rows.first()?.get(index)?.as_deref();
    let point = cell(1).and_then(|text| text.parse::<Position>().ok());
    match (point, cell(2)) {
        (Some(point), Some(snapshot)) => Ok(Created {
            consistent_point: point.order(),
            snapshot: snapshot.to_owned(),
        }),
        _ => Err(SourceError::transient(
            "the server's answer to CREATE_REPLICATION_SLOT is incomplete",
        )),
    }
}

/// Stops a creation that waits. The server would not notice that nobody waits for it any more, and make the slot in
/// the end.
pub(crate) async fn give_up(sql: &Sql, walsender: i32) -> Result<(), SourceError> {
    let cancel = "SELECT pg_cancel_backend($1)";
    let doing = "stop creating the slot";
    sql.query(doing, cancel, &[&walsender]).await.map(drop)
}

fn creation_error(name: &str, error: WireError) -> SourceError {
    let problem = format!("cannot create slot {name}: {error}");
    match error.code() {
        // Full: a matter of configuration, as is wal_level.
        Some("53400" | sqlstate::NOT_IN_PREREQUISITE_STATE | sqlstate::INSUFFICIENT_PRIVILEGE) => {
            SourceError::refused(State::Invalid, problem, "run `rowbridge check`")
        }
        // Somebody was faster; next time we find it.
        Some(sqlstate::DUPLICATE_OBJECT) => SourceError::transient(problem),
        _ => error.while_doing(&format!("cannot create slot {name}")),
    }
}

async fn blockers(sql: &Sql, walsender: i32) -> Result<String, SourceError> {
    let rows = sql
        .query(
            "find out who keeps the slot from being created",
            "SELECT b.pid, a.application_name, a.state, a.xact_start::text \
             FROM unnest(pg_blocking_pids($1)) b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid",
            &[&walsender],
        )
        .await?;
    let named = rows.iter().map(|row| {
        let text = |index| row.get::<_, Option<String>>(index).unwrap_or_default();
        match row.get::<_, i32>(0) {
            0 => "a prepared transaction (see pg_prepared_xacts)".to_owned(),
            pid => format!("pid {pid} ({}, {}, since {})", text(1), text(2), text(3)),
        }
    });
    Ok(named.collect::<Vec<_>>().join(", "))
}

/// The statement that makes a link the only reader of the slot. `0/0` starts at the slot's own position.
pub(crate) fn start_statement(slot: &str, publication: &str) -> String {
    // A list of identifiers inside a literal: quoted twice.
    let publications = literal(&quote(publication));
    format!(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})",
        quote(slot),
        publications.trim_start()
    )
}
