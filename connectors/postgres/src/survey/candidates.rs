//! Which tables could be captured.

use rowbridge_api::survey::{BeforeImage, Candidate};
use rowbridge_api::{SourceError, TableName};
use tokio_postgres::Row;

use crate::catalogue::first_char;
use crate::sql::Sql;

/// One row for each table that is neither the server's, nor an extension's, nor a part of a partitioned one.
/// Identity columns are those of the replica identity, null for FULL; a partitioned table's leaves are asked
/// too, since it is their rows that are logged.
const CANDIDATES: &str = "\
WITH identity AS (
    SELECT c.oid, CASE c.relreplident WHEN 'f' THEN NULL ELSE ARRAY(
        SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
              WHEN 'i' THEN i.indisreplident ELSE false END ORDER BY k.place) END AS columns
    FROM pg_class c WHERE c.relkind IN ('r', 'p')
), leaf AS (
    SELECT c.oid AS root, l.oid, l.reltuples, pg_relation_size(l.oid) AS bytes
    FROM pg_class c, pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid
    WHERE c.relkind = 'p' AND NOT c.relispartition AND p.isleaf AND l.relkind = 'r'
)
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
    CASE c.relkind WHEN 'p' THEN (SELECT sum(greatest(reltuples, 0))::float8 FROM leaf WHERE root = c.oid)
        ELSE c.reltuples::float8 END,
    CASE c.relkind WHEN 'p' THEN (SELECT coalesce(sum(bytes), 0)::int8 FROM leaf WHERE root = c.oid)
        WHEN 'r' THEN pg_relation_size(c.oid) ELSE 0 END,
    ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.place),
    (SELECT columns FROM identity WHERE oid = c.oid),
    ARRAY(SELECT array_to_json(i.columns)::text FROM leaf JOIN identity i USING (oid)
        WHERE root = c.oid AND i.columns IS NOT NULL),
    c.relpages = 0 AND c.reltuples <= 0,
    EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2";

pub(super) async fn read(sql: &Sql) -> Result<Vec<Candidate>, SourceError> {
    let rows = sql.query("list the tables", CANDIDATES, &[]).await?;
    Ok(rows.iter().map(candidate).collect())
}

fn candidate(row: &Row) -> Candidate {
    let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
    let (kind, persistence) = (first_char(row.get(2)), first_char(row.get(3)));
    let rows: Option<f64> = row.get(4);
    let was_never_counted: bool = row.get(9);
    let bytes: i64 = row.get(5);
    let own: Option<Vec<String>> = row.get(7);
    let leaves: Vec<String> = row.get(8);
    let leaves: Vec<Vec<String>> = leaves
        .iter()
        .map(|json| serde_json::from_str(json).unwrap_or_default())
        .collect();
    Candidate {
        rows: rows
            .filter(|rows| *rows >= 0.0 && !(was_never_counted && kind != 'p'))
            .map(whole),
        bytes: u64::try_from(bytes).unwrap_or_default(),
        key: row.get(6),
        before: before(own, &leaves),
        obstacle: match row.get(10) {
            true => obstacle(&table, kind, persistence),
            false => Some("it has no columns that are published".to_owned()),
        },
        table,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of rows that is not negative"
)]
fn whole(rows: f64) -> u64 {
    rows as u64
}

/// The whole row only where the table and every leaf send it; else what all of them send.
fn before(own: Option<Vec<String>>, leaves: &[Vec<String>]) -> BeforeImage {
    let mut sent = match (own, leaves) {
        (None, []) => return BeforeImage::Whole,
        (None, [first, ..]) => first.clone(),
        (Some(own), _) => own,
    };
    if sent.is_empty() || leaves.iter().any(Vec::is_empty) {
        return BeforeImage::Refused;
    }
    sent.retain(|column| leaves.iter().all(|leaf| leaf.contains(column)));
    BeforeImage::Columns(sent)
}

fn obstacle(table: &TableName, kind: char, persistence: char) -> Option<String> {
    match (kind, persistence) {
        ('f', _) => Some("a foreign table: its changes are not in this server's log".to_owned()),
        (_, 'u') => Some("unlogged: its changes are not in the log".to_owned()),
        (_, 't') => Some("temporary".to_owned()),
        _ if table.schema.contains('.') => {
            Some("its schema has a dot in its name, which a mapping cannot write".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_partitioned_table_sends_what_all_of_its_leaves_send() {
        let columns = |columns: &[&str]| BeforeImage::Columns(names(columns));
        assert_eq!(before(None, &[]), BeforeImage::Whole);
        assert_eq!(before(Some(names(&["id"])), &[]), columns(&["id"]));
        assert_eq!(before(None, &[names(&["id"])]), columns(&["id"]));
        assert_eq!(
            before(
                Some(names(&["id", "day"])),
                &[names(&["day", "id"]), names(&["id"])]
            ),
            columns(&["id"])
        );
        assert_eq!(before(Some(Vec::new()), &[]), BeforeImage::Refused);
        assert_eq!(
            before(Some(names(&["id"])), &[Vec::new()]),
            BeforeImage::Refused
        );
    }
}
