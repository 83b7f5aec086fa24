//! What is different about a partitioned table.

use rowbridge_api::{Finding, Op, SourceError, TableNeeds};

use super::warning;
use crate::catalogue::Table;
use crate::sql::Sql;

pub(super) async fn findings(
    sql: &Sql,
    table: &Table,
    need: &TableNeeds,
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = Vec::new();
    if need.ops.contains(Op::Truncate) {
        findings.push(warning(
            format!(
                "a truncated, dropped or detached partition of {} is not in the stream: rules on truncate fire when \
                 the whole table is truncated",
                need.table
            ),
            "",
        ));
    }
    let rows = sql
        .query(
            "read how a table is partitioned",
            "SELECT DISTINCT a.attname::text FROM pg_partitioned_table p JOIN pg_attribute a \
             ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs) \
             WHERE p.partrelid IN (SELECT relid FROM pg_partition_tree($1::oid)) ORDER BY 1",
            &[&table.oid],
        )
        .await?;
    let key = match &need.key[..] {
        [] => &table.primary_key,
        _ => &need.key,
    };
    let by: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let in_key: Vec<&str> = by
        .iter()
        .filter(|column| key.contains(column))
        .map(String::as_str)
        .collect();
    if need.ops.contains(Op::Update) && !in_key.is_empty() {
        findings.push(warning(
            format!(
                "the key of {} includes {}, by which it is partitioned: a row that moves to another partition is a \
                 delete and an insert, not an update",
                need.table,
                in_key.join(", ")
            ),
            &format!(
                "-- schema.toml: name a key without {}, if one is unique",
                in_key.join(", ")
            ),
        ));
    }
    Ok(findings)
}
