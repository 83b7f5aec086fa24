//! The labels of enums, as schema.toml lists them and as the database has them.

use std::collections::HashMap;

use rowbridge_api::{ColumnNeed, Finding, SourceError, TableNeeds};

use super::{error, warning};
use crate::catalogue::Table;
use crate::sql::Sql;

/// Per column that is an enum, or a domain over one: its labels in their order.
pub(super) type Labels = HashMap<String, Vec<String>>;

pub(super) async fn read(sql: &Sql, table: &Table) -> Result<Labels, SourceError> {
    let rows = sql
        .query(
            "read the labels of enums",
            "WITH RECURSIVE base AS ( \
                 SELECT a.attname, t.oid, t.typbasetype FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
                 UNION SELECT b.attname, t.oid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typbasetype) \
             SELECT b.attname::text, array_agg(e.enumlabel::text ORDER BY e.enumsortorder) \
             FROM base b JOIN pg_enum e ON e.enumtypid = b.oid GROUP BY b.attname",
            &[&table.oid],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What schema.toml lists and the database does not have, or has and it does not list.
pub(super) fn findings(need: &TableNeeds, found: &Labels) -> Vec<Finding> {
    let listed = need.columns.iter();
    let listed = listed.filter(|column| !column.labels.is_empty());
    listed
        .filter_map(|column| of_column(need, column, found.get(&column.name)))
        .collect()
}

fn of_column(
    need: &TableNeeds,
    column: &ColumnNeed,
    found: Option<&Vec<String>>,
) -> Option<Finding> {
    let name = format!("{}.{}", need.table, column.name);
    let Some(found) = found else {
        return Some(warning(
            format!(
                "schema.toml lists labels of {name}, which is no enum: nothing keeps its values to them"
            ),
            &format!("-- schema.toml: take {} out of the labels", column.name),
        ));
    };
    let fix = format!("-- schema.toml, labels: {} = {found:?}", column.name);
    let without = |these: &[String], those: &[String]| {
        let missing = these.iter().filter(|label| !those.contains(label));
        missing.cloned().collect::<Vec<_>>().join(", ")
    };
    let (gone, new) = (
        without(&column.labels, found),
        without(found, &column.labels),
    );
    if !gone.is_empty() {
        let rules = column.rules.join(", ");
        return Some(error(
            format!(
                "the enum of column {name} has no label {gone}, which schema.toml lists; read by {rules}"
            ),
            &fix,
        ));
    }
    (!new.is_empty()).then(|| {
        warning(
            format!("the enum of column {name} also has {new}, which schema.toml does not list"),
            &fix,
        )
    })
}
