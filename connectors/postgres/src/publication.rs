//! The publication: what it covers, its creation, and what a change to it means.
//!
//! When Rowbridge creates it, its comment lists the tables that ever joined. A mapped table that is missing
//! and is not in that list is new and joins; one that is in the list was taken out by somebody, and what was
//! committed since is not in the stream: that is a state, never repaired in silence.

use std::collections::{BTreeMap, BTreeSet};

use rowbridge_api::{Op, SourceError, State, TableName, TableNeeds};

use crate::config::PostgresConfig;
use crate::sql::{Sql, literal, quote, quote_table};

const COMMENT_PREFIX: &str = "rowbridge: ";

/// A publication as the catalogue shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    pub(crate) tables: BTreeMap<TableName, Member>,
    operations: Vec<(Op, bool)>,
    via_root: bool,
    joined: BTreeSet<String>,
}

/// A table in a publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// The published columns (PostgreSQL 15 and later), or nothing for all.
    pub(crate) columns: Option<Vec<String>>,
    /// The row filter (PostgreSQL 15 and later) as SQL.
    pub(crate) filter: Option<String>,
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
    // The columns of this view grew with PostgreSQL 15: read it as JSON and take what is there.
    let tables = sql
        .query(
            doing,
            "SELECT schemaname::text, tablename::text, \
                 ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(to_jsonb(t) -> 'attnames') \
                     WHEN 'array' THEN to_jsonb(t) -> 'attnames' ELSE '[]' END)), \
                 to_jsonb(t) ->> 'rowfilter' FROM pg_publication_tables t WHERE pubname = $1",
            &[&name],
        )
        .await?;
    let members = tables.iter().map(|row| {
        let columns: Vec<String> = row.get(2);
        let member = Member {
            columns: (!columns.is_empty()).then_some(columns),
            filter: row.get(3),
        };
        (
            TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            member,
        )
    });
    Ok(Some(Publication {
        tables: members.collect(),
        operations: operations
            .into_iter()
            .enumerate()
            .map(|(index, op)| (op, row.get(index)))
            .collect(),
        via_root: row.get(4),
        joined: comment
            .as_deref()
            .and_then(|comment| comment.strip_prefix(COMMENT_PREFIX))
            .map(|list| list.split(", ").map(str::to_owned).collect())
            .unwrap_or_default(),
    }))
}

impl Publication {
    /// Mapped tables that it does not cover.
    pub(crate) fn missing<'a>(&self, needs: &'a [TableNeeds]) -> Vec<&'a TableName> {
        needs
            .iter()
            .map(|need| &need.table)
            .filter(|table| !self.tables.contains_key(table))
            .collect()
    }

    /// Operations that some rule fires on and that it does not publish.
    pub(crate) fn unpublished(&self, needs: &[TableNeeds]) -> Vec<&'static str> {
        let silent = self.operations.iter().filter(|(op, published)| {
            !published && needs.iter().any(|need| need.ops.contains(*op))
        });
        silent.map(|(op, _)| op.as_str()).collect()
    }

    pub(crate) const fn is_via_root(&self) -> bool {
        self.via_root
    }
}

/// The statement that creates the publication.
pub(crate) fn create_statement(name: &str, needs: &[TableNeeds]) -> String {
    let tables: Vec<String> = needs.iter().map(|need| quote_table(&need.table)).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true);",
        quote(name),
        tables.join(", ")
    )
}

/// The statement that adds tables to it.
pub(crate) fn add_statement(name: &str, tables: &[&TableName]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| quote_table(table)).collect();
    format!(
        "ALTER PUBLICATION {} ADD TABLE {};",
        quote(name),
        tables.join(", ")
    )
}

fn comment_statement(name: &str, needs: &[TableNeeds], joined: &BTreeSet<String>) -> String {
    let mut all = joined.clone();
    all.extend(needs.iter().map(|need| need.table.to_string()));
    let list: Vec<String> = all.into_iter().collect();
    let comment = literal(&format!("{COMMENT_PREFIX}{}", list.join(", ")));
    format!("COMMENT ON PUBLICATION {} IS {comment};", quote(name))
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
        let comment = comment_statement(name, needs, &BTreeSet::new());
        let doing = format!("create publication {name}");
        sql.execute(&doing, &format!("BEGIN; {create} {comment} COMMIT;"))
            .await?;
        tracing::info!(
            publication = name,
            tables = needs.len(),
            "created the publication"
        );
    }
    compare(sql, config, name, needs).await
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
            .any(|table| publication.joined.contains(&table.to_string()));
        if !config.create_publication || removed {
            return Err(tables_missing(name, &missing));
        }
        let add = add_statement(name, &missing);
        let comment = comment_statement(name, needs, &publication.joined);
        let doing = format!("add tables to publication {name}");
        sql.execute(&doing, &format!("BEGIN; {add} {comment} COMMIT;"))
            .await?;
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

fn tables_missing(name: &str, missing: &[&TableName]) -> SourceError {
    let tables: Vec<String> = missing.iter().map(ToString::to_string).collect();
    SourceError::refused(
        State::PublicationChanged,
        format!(
            "publication {name} does not cover {}: their changes are not in the stream",
            tables.join(", ")
        ),
        format!(
            "{} (changes committed before that statement are lost; `rowbridge drop` and then `rowbridge run` reads \
             all rows again)",
            add_statement(name, missing)
        ),
    )
}
