//! What a database tells of its tables before any mapping names them: for `init`.
//!
//! Reads only, and never a whole table of size: the catalogue, `pg_stats`, and samples with a limit of rows,
//! of pages and of time. Every statement is a read-only transaction of its own, so that one that runs into
//! its time-out takes nothing else with it.
//!
//! - `candidates`: which tables could be captured
//! - `structure`: columns, keys, replica identity
//! - `extent`: how many rows there are, and how long
//! - `values`: the few values of a column, and some rows

mod candidates;
mod extent;
mod structure;
mod values;

use rowbridge_api::survey::{Candidate, Extent, Survey};
use rowbridge_api::{SourceError, TableName};

use crate::catalogue::TypeNames;
use crate::config::PostgresConfig;
use crate::sql::Sql;

/// How much of a table is looked at, and for how long.
#[derive(Clone, Debug)]
pub struct SurveyLimits {
    /// Rows that are returned as samples.
    pub sample_rows: usize,
    /// Rows whose values are counted where `pg_stats` has none.
    pub value_rows: usize,
    /// Of a table with more pages than this, pages are sampled.
    pub sample_pages: u64,
    /// A row that is stored in more bytes than this is no sample.
    pub sample_row_bytes: usize,
    /// More different values than this are not few.
    pub few_values: usize,
    /// Longest statement, and longest wait for a lock is half of it.
    pub statement_timeout_ms: u64,
}

impl Default for SurveyLimits {
    fn default() -> Self {
        Self {
            sample_rows: 25,
            value_rows: 1_000,
            sample_pages: 128,
            sample_row_bytes: 16 * 1024,
            few_values: 24,
            statement_timeout_ms: 5_000,
        }
    }
}

/// A session that looks at tables.
pub struct Surveyor {
    sql: Sql,
    limits: SurveyLimits,
    server_version: i32,
    role: String,
}

impl Surveyor {
    /// Connects, read-only.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses us.
    pub async fn connect(
        config: &PostgresConfig,
        limits: SurveyLimits,
    ) -> Result<Self, SourceError> {
        let sql = Sql::connect(config).await?;
        let timeout = limits.statement_timeout_ms;
        let settings = format!(
            "SET default_transaction_read_only = on; SET statement_timeout = {timeout}; SET lock_timeout = {}",
            timeout / 2
        );
        sql.execute("set up the session", &settings).await?;
        let rows = sql
            .query(
                "read the server's version",
                "SELECT current_setting('server_version_num')::int4, current_user::text",
                &[],
            )
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| SourceError::transient("the server told no version"))?;
        let (server_version, role) = (row.get(0), row.get(1));
        Ok(Self {
            sql,
            limits,
            server_version,
            role,
        })
    }

    /// Every table of the database that is not the server's own, by name.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, SourceError> {
        candidates::read(&self.sql).await
    }

    /// How much there is of tables, in these columns of each; nothing for a table that is not there.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub async fn extents(
        &self,
        tables: &[(TableName, Vec<String>)],
    ) -> Result<Vec<Option<Extent>>, SourceError> {
        let candidates = self.candidates().await?;
        let mut extents = Vec::new();
        for (table, columns) in tables {
            extents.push(
                match candidates.iter().find(|known| known.table == *table) {
                    Some(known) => Some(extent::read(self, known, columns).await?),
                    None => None,
                },
            );
        }
        Ok(extents)
    }

    /// Looks at `tables`, in their order.
    ///
    /// # Errors
    /// The catalogue cannot be read, or a table is not there.
    pub async fn survey(&self, tables: &[TableName]) -> Result<Vec<Survey>, SourceError> {
        let types = TypeNames::read(&self.sql).await?;
        let candidates = self.candidates().await?;
        let mut surveys = Vec::new();
        for table in tables {
            let known = candidates.iter().find(|known| known.table == *table);
            let known = known.ok_or_else(|| no_such_table(table))?;
            let mut survey = structure::read(self, &types, known).await?;
            values::read(self, known, &mut survey).await?;
            surveys.push(survey);
        }
        Ok(surveys)
    }
}

fn no_such_table(table: &TableName) -> SourceError {
    SourceError::refused(
        rowbridge_api::State::Invalid,
        format!("table {table} does not exist or is not visible to this role"),
        "`rowbridge init` without --table lists the tables",
    )
}
