//! The few values of a column, and some rows.

use std::collections::BTreeMap;

use rowbridge_api::survey::{Candidate, KnownValues, Length, Origin, Survey};
use rowbridge_api::{Kind, SourceError};
use tokio_postgres::error::SqlState;

use super::Surveyor;
use crate::error::sql_error;
use crate::sql::{quote, quote_table};

/// Pages of a PostgreSQL built as nearly all are.
const PAGE_BYTES: u64 = 8192;

/// A longer text is no code of anything.
const LONGEST_VALUE: usize = 60;

/// `pg_stats` of a table, of its own rows or with those of its partitions.
const STATISTICS: &str = "\
SELECT attname::text, n_distinct, most_common_vals::text::text[] FROM pg_stats
WHERE schemaname = $1 AND tablename = $2 AND inherited = $3 AND n_distinct > 0 AND most_common_vals IS NOT NULL
    AND n_distinct <= $4";

pub(super) async fn read(
    surveyor: &Surveyor,
    candidate: &Candidate,
    survey: &mut Survey,
) -> Result<(), SourceError> {
    statistics(surveyor, survey).await?;
    let rows = sample(surveyor, candidate, survey).await?;
    if rows.is_some() {
        count_values(surveyor, candidate, survey).await?;
    }
    survey.samples = rows.unwrap_or_default();
    Ok(())
}

/// Whether a column can hold codes: text that people chose.
fn holds_codes(kind: &Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Char)
}

async fn statistics(surveyor: &Surveyor, survey: &mut Survey) -> Result<(), SourceError> {
    let table = &survey.table;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let few = surveyor.limits.few_values as f32;
    let doing = format!("read the statistics of {table}");
    for inherited in [false, true] {
        let rows = surveyor
            .sql
            .query(
                &doing,
                STATISTICS,
                &[&table.schema, &table.name, &inherited, &few],
            )
            .await?;
        for row in rows {
            let name: String = row.get(0);
            let values: Vec<String> = row.get(2);
            let column = survey
                .columns
                .iter_mut()
                .find(|column| column.name == name && column.values.is_none());
            let Some(column) = column.filter(|column| holds_codes(&column.ty.kind)) else {
                continue;
            };
            column.values = few_values(
                values.into_iter(),
                surveyor.limits.few_values,
                Origin::Statistics,
            );
        }
    }
    Ok(())
}

/// The values as codes, unless one of them is none.
fn few_values(
    values: impl Iterator<Item = String>,
    few: usize,
    origin: Origin,
) -> Option<KnownValues> {
    let values: Vec<String> = values
        .map(|value| value.trim_end_matches(' ').to_owned())
        .collect();
    let are_codes = values.len() <= few
        && values
            .iter()
            .all(|value| !value.trim().is_empty() && value.len() <= LONGEST_VALUE);
    (are_codes && !values.is_empty()).then_some(KnownValues { values, origin })
}

/// Some rows in their text form; nothing, with a remark, where they cannot be read.
async fn sample(
    surveyor: &Surveyor,
    candidate: &Candidate,
    survey: &mut Survey,
) -> Result<Option<Vec<Vec<Option<String>>>>, SourceError> {
    let limits = &surveyor.limits;
    let names: Vec<String> = survey
        .columns
        .iter()
        .map(|column| quote(&column.name))
        .collect();
    // Stored bytes: a value that lies outside of the row is measured without being fetched.
    let sizes: Vec<String> = names
        .iter()
        .map(|name| format!("coalesce(pg_column_size({name}), 0)"))
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    let statement = format!(
        "SELECT {} FROM {} WHERE {} <= {} LIMIT {}",
        names.join(", "),
        from(surveyor, candidate),
        sizes.join(" + "),
        limits.sample_row_bytes,
        limits.sample_rows
    );
    rows(surveyor, survey, &statement).await
}

/// Counts the values of columns that `pg_stats` does not know, in a bounded number of rows.
async fn count_values(
    surveyor: &Surveyor,
    candidate: &Candidate,
    survey: &mut Survey,
) -> Result<(), SourceError> {
    let limits = &surveyor.limits;
    let unknown: Vec<usize> = (0..survey.columns.len())
        .filter(|index| {
            let column = &survey.columns[*index];
            column.values.is_none()
                && column.length == Length::AlwaysSent
                && holds_codes(&column.ty.kind)
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unknown
        .iter()
        .map(|index| {
            let name = quote(&survey.columns[*index].name);
            format!("left({name}::text, {})", LONGEST_VALUE + 1)
        })
        .collect();
    let statement = format!(
        "SELECT {} FROM {} LIMIT {}",
        names.join(", "),
        from(surveyor, candidate),
        limits.value_rows
    );
    let Some(rows) = rows(surveyor, survey, &statement).await? else {
        return Ok(());
    };
    for (place, index) in unknown.into_iter().enumerate() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in rows.iter().filter_map(|row| row[place].as_deref()) {
            *counts.entry(value).or_default() += 1;
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let values = counts.into_iter().map(|(value, _)| value.to_owned());
        let origin = Origin::Sample { rows: rows.len() };
        survey.columns[index].values = few_values(values, limits.few_values, origin);
    }
    Ok(())
}

/// The table, or some of its pages where it has many.
fn from(surveyor: &Surveyor, candidate: &Candidate) -> String {
    let name = quote_table(&candidate.table);
    let pages = candidate.bytes / PAGE_BYTES;
    if pages <= surveyor.limits.sample_pages {
        return name;
    }
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let percent = surveyor.limits.sample_pages as f64 * 100.0 / pages as f64;
    format!("{name} TABLESAMPLE SYSTEM ({percent:.8})")
}

/// Runs a statement that may be refused or take too long, which leaves a remark.
async fn rows(
    surveyor: &Surveyor,
    survey: &mut Survey,
    statement: &str,
) -> Result<Option<Vec<Vec<Option<String>>>>, SourceError> {
    let error = match surveyor.sql.text_rows(statement).await {
        Ok(rows) => return Ok(Some(rows)),
        Err(error) => error,
    };
    let table = &survey.table;
    let remark = match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
            "role {} may not read its rows, so none were looked at: GRANT SELECT ON {} TO {}; or, where row security \
             hides some, ALTER ROLE {0} BYPASSRLS;",
            quote(&surveyor.role),
            quote_table(table),
            quote(&surveyor.role)
        ),
        Some(code) if *code == SqlState::QUERY_CANCELED => format!(
            "reading a few of its rows took longer than {} ms, so none were looked at",
            surveyor.limits.statement_timeout_ms
        ),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            "somebody holds it locked, so none of its rows were looked at".to_owned()
        }
        _ => return Err(sql_error(&format!("cannot read rows of {table}"), error)),
    };
    if !survey.remarks.contains(&remark) {
        survey.remarks.push(remark);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_nobody_chose_from_a_list_are_no_codes() {
        let codes = |values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned());
            few_values(values, 3, Origin::Statistics).map(|known| known.values)
        };
        assert_eq!(
            codes(&["Y  ", "J"]),
            Some(vec!["Y".to_owned(), "J".to_owned()])
        );
        assert_eq!(codes(&["a", "b", "c", "d"]), None);
        assert_eq!(codes(&["a", " "]), None);
        assert_eq!(codes(&[]), None);
        assert_eq!(codes(&["x".repeat(61).as_str()]), None);
    }
}
