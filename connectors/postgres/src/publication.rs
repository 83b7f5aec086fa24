//! The publication: what it covers, its creation, and what a change to it means.
//!
//! When Rowbridge creates it, its comment lists the tables that ever joined, each with the number of its
//! membership. A mapped table that is missing and is not in that list is new and joins; one that is in the list
//! and missing, or a member under another number, was taken out by somebody, and what was committed meanwhile is
//! not in the stream: that is a state, never repaired in silence.

use std::collections::{BTreeMap, BTreeSet};

use rowbridge_api::{Op, SourceError, State, TableName, TableNeeds};

use crate::catalogue;
use crate::config::PostgresConfig;
use crate::sql::{Sql, literal, quote, quote_table};

const COMMENT_PREFIX: &str = "rowbridge: ";

/// A publication as the catalogue shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    pub(crate) tables: BTreeMap<TableName, Member>,
    operations: Vec<(Op, bool)>,
    /// Partitioned tables, where leaves are published under their own names.
    roots_apart: BTreeSet<TableName>,
    /// The tables that ever joined, and the numbers of their memberships, where Rowbridge made it.
    joined: BTreeMap<TableName, u32>,
}

/// A table in a publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// The published columns (PostgreSQL 15 and later), or nothing for all.
    pub(crate) columns: Option<Vec<String>>,
    /// The row filter (PostgreSQL 15 and later) as SQL.
    pub(crate) filter: Option<String>,
    /// `pg_publication_rel.oid`: another one after the table was taken out and put back, or given another
    /// filter. Nothing for a member by schema or by FOR ALL TABLES.
    number: Option<u32>,
}

/// Reads the publication, or nothing if there is none of that name.
pub(crate) async fn read(sql: &Sql, name: &str) -> Result<Option<Publication>, SourceError> {
    let doing = "read the publication";
    let found = sql
        .query(
            doing,
            "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, \
                 obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1",
            &[&name],
        )
        .await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let operations = [Op::Insert, Op::Update, Op::Delete, Op::Truncate];
    let comment: Option<String> = row.get(5);
    let tables = match members(sql, name).await {
        Ok(tables) => tables,
        // The view fails, instead of showing nothing, for a publication or a table that was dropped while it looked.
        Err(_) => {
            let still = "SELECT FROM pg_publication WHERE pubname = $1";
            if sql.query(doing, still, &[&name]).await?.is_empty() {
                return Ok(None);
            }
            members(sql, name).await?
        }
    };
    let roots_apart = if row.get(4) {
        BTreeSet::new()
    } else {
        let roots = "SELECT n.nspname::text, c.relname::text FROM pg_class c \
                     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'p'";
        let roots = sql.query(doing, roots, &[]).await?;
        roots.iter().map(table_of).collect()
    };
    Ok(Some(Publication {
        tables,
        operations: operations
            .into_iter()
            .enumerate()
            .map(|(index, op)| (op, row.get(index)))
            .collect(),
        roots_apart,
        joined: comment.as_deref().map(joined_of).unwrap_or_default(),
    }))
}

/// The tables of a publication that exists.
async fn members(sql: &Sql, name: &str) -> Result<BTreeMap<TableName, Member>, SourceError> {
    // The columns of this view grew with PostgreSQL 15: read it as JSON and take what is there.
    let tables = sql
        .query(
            "read the publication",
            "SELECT schemaname::text, tablename::text, \
                 ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(to_jsonb(t) -> 'attnames') \
                     WHEN 'array' THEN to_jsonb(t) -> 'attnames' ELSE '[]' END)), \
                 to_jsonb(t) ->> 'rowfilter', \
                 (SELECT r.oid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
                  JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE p.pubname = t.pubname AND n.nspname = t.schemaname AND c.relname = t.tablename) \
             FROM pg_publication_tables t WHERE pubname = $1",
            &[&name],
        )
        .await?;
    let members = tables.iter().map(|row| {
        let columns: Vec<String> = row.get(2);
        let member = Member {
            columns: (!columns.is_empty()).then_some(columns),
            filter: row.get(3),
            number: row.get(4),
        };
        (table_of(row), member)
    });
    Ok(members.collect())
}

fn table_of(row: &tokio_postgres::Row) -> TableName {
    TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))
}

/// What the comment of a publication of ours says. Anybody may have written over it.
fn joined_of(comment: &str) -> BTreeMap<TableName, u32> {
    let list = comment.strip_prefix(COMMENT_PREFIX).unwrap_or_default();
    let list: Vec<(String, String, u32)> = serde_json::from_str(list).unwrap_or_default();
    list.into_iter()
        .map(|(schema, name, number)| (TableName::new(schema, name), number))
        .collect()
}

impl Publication {
    /// Mapped tables that it does not cover.
    pub(crate) fn missing<'a>(&self, needs: &'a [TableNeeds]) -> Vec<&'a TableName> {
        let tables = needs.iter().map(|need| &need.table);
        tables
            .filter(|table| !self.tables.contains_key(table) && !self.roots_apart.contains(table))
            .collect()
    }

    /// Mapped partitioned tables whose partitions it publishes under their own names, if at all.
    pub(crate) fn apart<'a>(&self, needs: &'a [TableNeeds]) -> Vec<&'a TableName> {
        let tables = needs.iter().map(|need| &need.table);
        tables
            .filter(|table| self.roots_apart.contains(table))
            .collect()
    }

    /// Mapped tables that were members before, and are again, but were not all the time.
    fn rejoined<'a>(&self, needs: &'a [TableNeeds]) -> Vec<&'a TableName> {
        let is_other = |table: &&TableName| {
            let now = self.tables.get(table).and_then(|member| member.number);
            let then = self.joined.get(table);
            now.is_some_and(|now| then.is_some_and(|then| *then != now))
        };
        needs
            .iter()
            .map(|need| &need.table)
            .filter(is_other)
            .collect()
    }

    /// Who was a member `before` or is one now, with the number of now.
    fn joined_by_now(&self, before: &BTreeMap<TableName, u32>) -> BTreeMap<TableName, u32> {
        let now = self.tables.iter();
        let now = now.map(|(table, member)| (table.clone(), member.number.unwrap_or_default()));
        before.clone().into_iter().chain(now).collect()
    }

    /// Whether it publishes updates or deletes, for which the source then demands a replica identity.
    pub(crate) fn demands_identity(&self) -> bool {
        let mut operations = self.operations.iter();
        operations.any(|(op, published)| *published && matches!(op, Op::Update | Op::Delete))
    }

    /// Operations that some rule fires on and that it does not publish.
    pub(crate) fn unpublished(&self, needs: &[TableNeeds]) -> Vec<&'static str> {
        let silent = self.operations.iter().filter(|(op, published)| {
            !published && needs.iter().any(|need| need.ops.contains(*op))
        });
        silent.map(|(op, _)| op.as_str()).collect()
    }
}

/// A table as a member, without its inheritance children: those have rows, names and identities of their own.
pub(crate) fn only(table: &TableName) -> String {
    format!("ONLY {}", quote_table(table))
}

/// The statement that creates the publication.
pub(crate) fn create_statement(name: &str, needs: &[TableNeeds]) -> String {
    let tables: Vec<String> = needs.iter().map(|need| only(&need.table)).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true);",
        quote(name),
        tables.join(", ")
    )
}

/// The statement that adds tables to it.
pub(crate) fn add_statement(name: &str, tables: &[&TableName]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| only(table)).collect();
    format!(
        "ALTER PUBLICATION {} ADD TABLE {};",
        quote(name),
        tables.join(", ")
    )
}

pub(crate) fn via_root_statement(name: &str) -> String {
    format!(
        "ALTER PUBLICATION {} SET (publish_via_partition_root = true);",
        quote(name)
    )
}

fn comment_statement(name: &str, joined: &BTreeMap<TableName, u32>) -> String {
    let list: Vec<_> = joined
        .iter()
        .map(|(table, number)| (&table.schema, &table.name, number))
        .collect();
    let list = serde_json::to_string(&list).unwrap_or_default();
    let comment = literal(&format!("{COMMENT_PREFIX}{list}"));
    format!(
        "COMMENT ON PUBLICATION {} IS {};",
        quote(name),
        comment.trim_start()
    )
}

/// Runs a statement on the publication and writes down in its comment who is a member now and who was before.
async fn alter(
    sql: &Sql,
    doing: &str,
    name: &str,
    statement: &str,
    before: &BTreeMap<TableName, u32>,
) -> Result<(), SourceError> {
    let altering = async {
        sql.execute(doing, &format!("BEGIN; {statement}")).await?;
        let now = read(sql, name).await?.unwrap_or_default();
        let comment = comment_statement(name, &now.joined_by_now(before));
        sql.execute(doing, &format!("{comment} COMMIT;")).await
    };
    let altered = altering.await;
    if altered.is_err() {
        // The session is used again.
        let _ = sql.execute("give up the change", "ROLLBACK").await;
    }
    altered
}

/// At first start, before the slot: creates the publication, or completes the one that exists.
pub(crate) async fn prepare(
    sql: &Sql,
    config: &PostgresConfig,
    name: &str,
    needs: &[TableNeeds],
) -> Result<Publication, SourceError> {
    if read(sql, name).await?.is_none() {
        let create = create_statement(name, needs);
        if !config.create_publication {
            return Err(SourceError::refused(
                State::Invalid,
                format!("publication {name} does not exist and create_publication is false"),
                create,
            ));
        }
        let tables: Vec<&TableName> = needs.iter().map(|need| &need.table).collect();
        refuse_to_break(sql, &tables).await?;
        let doing = format!("create publication {name}");
        alter(sql, &doing, name, &create, &BTreeMap::new()).await?;
        tracing::info!(
            publication = name,
            tables = needs.len(),
            "created the publication"
        );
    }
    compare(sql, config, name, needs).await
}

/// Refuses to publish tables whose every UPDATE and DELETE would then fail in the source.
pub(crate) async fn refuse_to_break(sql: &Sql, tables: &[&TableName]) -> Result<(), SourceError> {
    let mut broken = Vec::new();
    for table in tables {
        if let Some(table) = catalogue::table(sql, table).await? {
            broken.extend(catalogue::without_identity(sql, table.oid).await?);
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let fixes = broken
        .iter()
        .map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"));
    Err(SourceError::refused(
        State::Invalid,
        format!(
            "{} without replica identity: once published, every UPDATE and DELETE would fail in the source",
            broken.join(", ")
        ),
        format!(
            "{} or REPLICA IDENTITY USING INDEX with a unique index on NOT NULL columns; for rules on inserts alone, a \
             publication made by hand WITH (publish = 'insert') and create_publication = false",
            fixes.collect::<Vec<_>>().join(" ")
        ),
    ))
}

/// Before streaming: every mapped table must be in the stream. New ones join where it is ours.
pub(crate) async fn compare(
    sql: &Sql,
    config: &PostgresConfig,
    name: &str,
    needs: &[TableNeeds],
) -> Result<Publication, SourceError> {
    let found = read(sql, name).await?;
    let Some(mut publication) = found else {
        return Err(gone(name, needs));
    };
    let missing = publication.missing(needs);
    if !missing.is_empty() {
        let removed = missing
            .iter()
            .any(|table| publication.joined.contains_key(table));
        if !config.create_publication || removed {
            return Err(tables_missing(name, &missing));
        }
        if publication.demands_identity() {
            refuse_to_break(sql, &missing).await?;
        }
        let add = add_statement(name, &missing);
        let doing = format!("add tables to publication {name}");
        alter(sql, &doing, name, &add, &publication.joined).await?;
        tracing::info!(publication = name, added = ?missing, "mapped tables joined the publication");
        publication = read(sql, name).await?.ok_or_else(|| gone(name, needs))?;
    }
    unchanged(&publication, name, needs)?;
    Ok(publication)
}

/// While streaming: it still covers everything.
pub(crate) fn unchanged(
    publication: &Publication,
    name: &str,
    needs: &[TableNeeds],
) -> Result<(), SourceError> {
    let missing = publication.missing(needs);
    if !missing.is_empty() {
        return Err(tables_missing(name, &missing));
    }
    let apart = publication.apart(needs);
    if !apart.is_empty() {
        return Err(SourceError::refused(
            State::PublicationChanged,
            format!(
                "publication {name} publishes the partitions of {} under their own names, not the mapped table's",
                listed(&apart)
            ),
            format!(
                "{} (their changes committed before that statement are lost; `rowbridge drop` and then `rowbridge run` \
                 reads all rows again)",
                via_root_statement(name)
            ),
        ));
    }
    let rejoined = publication.rejoined(needs);
    if !rejoined.is_empty() {
        return Err(table_rejoined(name, &rejoined));
    }
    let silent = publication.unpublished(needs);
    if silent.is_empty() {
        return Ok(());
    }
    Err(SourceError::refused(
        State::PublicationChanged,
        format!(
            "publication {name} does not publish {}, which rules fire on",
            silent.join(", ")
        ),
        format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate'); what was committed meanwhile \
             is not in the stream",
            quote(name)
        ),
    ))
}

pub(crate) fn gone(name: &str, needs: &[TableNeeds]) -> SourceError {
    SourceError::refused(
        State::PublicationChanged,
        format!(
            "publication {name} does not exist any more: changes committed since it was dropped cannot be read \
             through one made again"
        ),
        format!(
            "`rowbridge drop` and then `rowbridge run` reads all rows again; or {} and \
             `rowbridge position set LSN --accept-gap` with an LSN after that statement",
            create_statement(name, needs)
        ),
    )
}

fn listed(tables: &[&TableName]) -> String {
    let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
    tables.join(", ")
}

fn tables_missing(name: &str, missing: &[&TableName]) -> SourceError {
    SourceError::refused(
        State::PublicationChanged,
        format!(
            "publication {name} does not cover {}: their changes are not in the stream",
            listed(missing)
        ),
        format!(
            "{} (changes committed before that statement are lost; `rowbridge drop` and then `rowbridge run` reads \
             all rows again)",
            add_statement(name, missing)
        ),
    )
}

fn table_rejoined(name: &str, rejoined: &[&TableName]) -> SourceError {
    SourceError::refused(
        State::PublicationChanged,
        format!(
            "{} left publication {name} and joined it again, or got another row filter or column list: changes committed meanwhile \
             are not in the stream",
            listed(rejoined)
        ),
        "`rowbridge drop` and then `rowbridge run` reads all rows again; if nothing was missed, or it does not matter: \
         `rowbridge position set LSN --accept-gap` with an LSN after it",
    )
}

/// Takes the publication as it is: what joined again counts as a member from now on. Only where it is ours.
pub(crate) async fn accept(sql: &Sql, name: &str) -> Result<(), SourceError> {
    match read(sql, name).await? {
        Some(found) if !found.joined.is_empty() => {
            let comment = comment_statement(name, &found.joined_by_now(&found.joined));
            sql.execute(
                &format!("write the comment of publication {name}"),
                &comment,
            )
            .await
        }
        _ => Ok(()),
    }
}
