//! What the server as a whole must allow: version, settings, free slots, the role's attributes.

use rowbridge_api::{Finding, SourceError};

use super::{costing, error, warning};
use crate::sql::{Sql, quote};
use crate::synchronous::{self, Synchronous};

const OLDEST_VERSION: i32 = 130_000;
const RESTART: &str = "takes effect after a restart of the server";
const RELOAD: &str = "takes effect after SELECT pg_reload_conf();";

/// What was read of the server.
pub(super) struct Server {
    pub(super) version: i32,
    pub(super) role: String,
    pub(super) database: String,
    /// May create publications in the database.
    pub(super) may_create: bool,
    replicates: bool,
    pub(super) bypasses_row_security: bool,
    wal_level: String,
    max_slots: i64,
    slots: i64,
    max_senders: i64,
    senders: i64,
    synchronous: Synchronous,
    encoding: String,
}

pub(super) async fn read(sql: &Sql) -> Result<Server, SourceError> {
    let rows = sql
        .query(
            "read the server's settings",
            "SELECT current_setting('server_version_num')::int4, current_user::text, current_database()::text, \
                 has_database_privilege(current_database(), 'CREATE'), \
                 r.rolreplication OR r.rolsuper, r.rolbypassrls OR r.rolsuper, current_setting('wal_level'), \
                 current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_replication_slots), \
                 current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_stat_replication), \
                 (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()) \
             FROM pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| SourceError::transient("the role is not in pg_roles"))?;
    Ok(Server {
        version: row.get(0),
        role: row.get(1),
        database: row.get(2),
        may_create: row.get(3),
        replicates: row.get(4),
        bypasses_row_security: row.get(5),
        wal_level: row.get(6),
        max_slots: row.get(7),
        slots: row.get(8),
        max_senders: row.get(9),
        senders: row.get(10),
        synchronous: synchronous::read(sql).await?,
        encoding: row.get::<_, Option<String>>(11).unwrap_or_default(),
    })
}

impl Server {
    pub(super) fn findings(&self, has_slot: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.version < OLDEST_VERSION {
            findings.push(error(
                format!(
                    "PostgreSQL {} is older than 13, the oldest version that is supported",
                    self.version / 10_000
                ),
                "",
            ));
        }
        if self.wal_level != "logical" {
            findings.push(costing(
                error(
                    format!("wal_level is {}, logical is needed", self.wal_level),
                    "ALTER SYSTEM SET wal_level = 'logical';",
                ),
                RESTART,
            ));
        }
        if !has_slot && self.slots >= self.max_slots {
            findings.push(full("max_replication_slots", self.slots, self.max_slots));
        }
        if self.senders >= self.max_senders {
            findings.push(full("max_wal_senders", self.senders, self.max_senders));
        }
        if !self.replicates {
            findings.push(error(
                format!("role {} may not replicate", self.role),
                &format!("ALTER ROLE {} REPLICATION;", quote(&self.role)),
            ));
        }
        if let Some(problem) = self.synchronous.problem() {
            findings.push(costing(error(problem, &self.synchronous.fix()), RELOAD));
        }
        if self.encoding == "SQL_ASCII" {
            findings.push(warning(
                format!(
                    "database {} has encoding SQL_ASCII: text that is not UTF-8 will be a bad record",
                    self.database
                ),
                "",
            ));
        }
        findings
    }
}

fn full(setting: &str, used: i64, max: i64) -> Finding {
    costing(
        error(
            format!("{setting} is {max} and {used} are in use: none is free for this pipeline"),
            &format!("ALTER SYSTEM SET {setting} = {};", used.max(max) + 4),
        ),
        RESTART,
    )
}
