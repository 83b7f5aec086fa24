//! How many rows a table has, how long they are in some columns, and what is sent of old ones.

use rowbridge_api::SourceError;
use rowbridge_api::survey::{Candidate, Extent};

use super::{Surveyor, structure};
use crate::sql::quote_table;

/// The widths that the last ANALYZE found, of a partitioned table over all of its leaves.
const WIDTH: &str = "\
SELECT sum(width)::int8 FROM (
    SELECT max(s.avg_width) AS width FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
    WHERE c.oid = $1::text::regclass AND s.attname::text = ANY ($2) GROUP BY s.attname) widths";

pub(super) async fn read(
    surveyor: &Surveyor,
    candidate: &Candidate,
    columns: &[String],
) -> Result<Extent, SourceError> {
    let doing = format!("read the statistics of {}", candidate.table);
    let name = quote_table(&candidate.table);
    let widths = surveyor
        .sql
        .query(&doing, WIDTH, &[&name, &columns])
        .await?;
    let width: Option<i64> = widths.first().and_then(|row| row.get(0));
    Ok(Extent {
        table: candidate.table.clone(),
        rows: candidate.rows,
        row_bytes: width.and_then(|width| u64::try_from(width).ok()),
        before: candidate.before.clone(),
        enabling: structure::enabling_of(surveyor, candidate).await?,
    })
}
