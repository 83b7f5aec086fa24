//! A table's columns, keys and replica identity.

use rowbridge_api::SourceError;
use rowbridge_api::survey::{
    Basis, BeforeImage, Candidate, Enabling, KnownValues, Length, Nullability, Origin, Survey,
    SurveyedColumn,
};
use tokio_postgres::Row;

use super::Surveyor;
use crate::catalogue::TypeNames;
use crate::check::FULL_COST;
use crate::sql::quote_table;

/// From here on FULL together with an unpublished generated column fails updates on the source.
const GENERATED_COLUMNS_VERSION: i32 = 180_000;

/// A value stored in so many bytes on average may grow past what is kept in the row.
const LONG_VALUE_BYTES: i32 = 100;

/// The columns, with the labels of an enum (also below domains) and the definitions of CHECK constraints
/// on a column alone.
const COLUMNS: &str = "\
SELECT a.attname::text, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attstorage::text,
    (WITH RECURSIVE base(oid) AS (SELECT a.atttypid UNION ALL
         SELECT t.typbasetype FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd')
     SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
     FROM base JOIN pg_enum e ON e.enumtypid = base.oid),
    ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
          WHERE k.contype = 'c' AND (k.conrelid = a.attrelid AND k.conkey = ARRAY[a.attnum]
                OR k.contypid <> 0 AND k.contypid = a.atttypid)),
    (SELECT s.avg_width FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
     WHERE c.oid = a.attrelid AND s.attname = a.attname ORDER BY s.avg_width DESC LIMIT 1),
    t.typtype::text, t.typlen
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Unique indexes of whole rows over columns that are never null, the narrowest first; then the columns of
/// each foreign key; then how much of the table (or its leaves) was ever moved out of line.
const KEYS: &str = "\
SELECT ARRAY(SELECT array_to_json(ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
          WHERE k.place <= i.indnkeyatts ORDER BY k.place))::text
       FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary AND i.indisvalid
           AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM unnest(i.indkey) k(attnum)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE NOT a.attnotnull)
       ORDER BY i.indnkeyatts, i.indexrelid),
    ARRAY(SELECT array_to_json(ARRAY(SELECT a.attname::text FROM unnest(k.conkey) f(attnum)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = f.attnum))::text
       FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f' ORDER BY k.conname),
    (SELECT coalesce(sum(pg_relation_size(l.reltoastrelid)), 0)::int8 FROM pg_class l
       WHERE l.reltoastrelid <> 0 AND (l.oid = c.oid OR c.relkind = 'p'
           AND l.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))),
    ARRAY(SELECT format('%I.%I', ln.nspname, l.relname) FROM pg_class l JOIN pg_namespace ln ON ln.oid = l.relnamespace
       WHERE l.relreplident <> 'f' AND (l.oid = c.oid OR c.relkind = 'p' AND l.relkind = 'r'
           AND l.oid IN (SELECT relid FROM pg_partition_tree(c.oid))) ORDER BY l.oid <> c.oid, 1)
FROM pg_class c WHERE c.oid = $1::text::regclass";

pub(super) async fn read(
    surveyor: &Surveyor,
    types: &TypeNames,
    candidate: &Candidate,
) -> Result<Survey, SourceError> {
    let name = quote_table(&candidate.table);
    let doing = format!("read the columns of {}", candidate.table);
    let columns = surveyor.sql.query(&doing, COLUMNS, &[&name]).await?;
    let doing = format!("read the keys of {}", candidate.table);
    let keys = surveyor.sql.query(&doing, KEYS, &[&name]).await?;
    let keys = keys
        .first()
        .ok_or_else(|| SourceError::transient("a table vanished while it was looked at"))?;
    let was_moved_out: i64 = keys.get(2);
    let long = match was_moved_out {
        0 => OutOfLine::Never,
        _ => OutOfLine::Sometimes,
    };
    let columns: Vec<SurveyedColumn> = columns
        .iter()
        .map(|row| column(row, types, long, surveyor.server_version))
        .collect();
    let mut remarks = Vec::new();
    let has_generated = columns.iter().any(|column| column.hidden.is_some());
    if has_generated && surveyor.server_version >= GENERATED_COLUMNS_VERSION {
        remarks.push(
            "it has generated columns: before its replica identity is FULL, the publication has to publish them \
             (WITH (publish_generated_columns = stored)), or every UPDATE of it fails on this version"
                .to_owned(),
        );
    }
    Ok(Survey {
        table: candidate.table.clone(),
        rows: candidate.rows,
        basis: Basis::Declared,
        columns,
        key: candidate.key.clone(),
        unique: lists(&keys.get::<_, Vec<String>>(0)),
        before: candidate.before.clone(),
        enabling: enabling(candidate, &keys.get::<_, Vec<String>>(3)),
        references: lists(&keys.get::<_, Vec<String>>(1)),
        samples: Vec::new(),
        remarks,
    })
}

/// Whether any value of a table was ever stored outside of its row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OutOfLine {
    Never,
    Sometimes,
}

fn column(row: &Row, types: &TypeNames, long: OutOfLine, version: i32) -> SurveyedColumn {
    let (oid, modifier) = (row.get(1), row.get(2));
    let ty = types.resolve(oid, modifier);
    let generated: bool = row.get(4);
    let labels: Option<Vec<String>> = row.get(6);
    let checks: Vec<String> = row.get(7);
    let declared = labels.map(|labels| (labels, "an enum type"));
    let checked = || {
        Some((
            checks.iter().find_map(|check| listed(check))?,
            "a constraint",
        ))
    };
    let values = declared.or_else(checked);
    SurveyedColumn {
        name: row.get(0),
        note: None,
        nullability: match row.get(3) {
            true => Nullability::NeverNull,
            false => Nullability::MaybeNull,
        },
        hidden: generated.then(|| match version >= GENERATED_COLUMNS_VERSION {
            true => "generated: published only where the publication says so".to_owned(),
            false => "generated: the server does not publish it".to_owned(),
        }),
        length: length(row, long),
        values: values.map(|(values, how)| KnownValues {
            values,
            origin: Origin::Declared(how),
        }),
        ty,
    }
}

/// A fixed length never leaves the row. A short text hardly ever does, and a table that never moved a value
/// out so far is taken at its word, but for types that are made for long values.
fn length(row: &Row, long: OutOfLine) -> Length {
    let storage: String = row.get(5);
    let width: Option<i32> = row.get(8);
    let (kind, type_length): (String, i16) = (row.get(9), row.get(10));
    let is_long = width.is_none_or(|width| width >= LONG_VALUE_BYTES);
    match storage.as_str() {
        "p" => Length::AlwaysSent,
        _ if type_length > 0 || kind == "e" => Length::AlwaysSent,
        _ if long == OutOfLine::Sometimes && is_long => Length::MaybeLeftOut,
        _ => Length::AlwaysSent,
    }
}

fn lists(json: &[String]) -> Vec<Vec<String>> {
    json.iter()
        .filter_map(|list| serde_json::from_str(list).ok())
        .collect()
}

/// What makes the source send whole old rows of a table, where it does not.
pub(super) async fn enabling_of(
    surveyor: &Surveyor,
    candidate: &Candidate,
) -> Result<Option<Enabling>, SourceError> {
    let doing = format!("read the keys of {}", candidate.table);
    let name = quote_table(&candidate.table);
    let keys = surveyor.sql.query(&doing, KEYS, &[&name]).await?;
    let row = keys.first();
    Ok(row.and_then(|row| enabling(candidate, &row.get::<_, Vec<String>>(3))))
}

fn enabling(candidate: &Candidate, without_full: &[String]) -> Option<Enabling> {
    if candidate.before == BeforeImage::Whole {
        return None;
    }
    let statements: Vec<String> = without_full
        .iter()
        .map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"))
        .collect();
    Some(Enabling {
        statement: statements.join(" "),
        cost: FULL_COST.to_owned(),
    })
}

/// The texts of `CHECK ((column = ANY (ARRAY['a'::text, 'b'::text])))`, which is how the server prints
/// `column IN ('a', 'b')`; nothing for any other condition.
fn listed(check: &str) -> Option<Vec<String>> {
    let (before, list) = check.split_once("= ANY (")?;
    let list = list.trim_start_matches('(').strip_prefix("ARRAY[")?;
    if before.contains(" AND ") || before.contains(" OR ") || before.contains("NOT ") {
        return None;
    }
    let mut values = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut value = String::new();
        loop {
            let end = rest.find('\'')?;
            value.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        values.push(value);
        let end = rest.find([',', ']'])?;
        let closes = rest[end..].starts_with(']');
        rest = rest[end + 1..].trim_start();
        if closes {
            // The list may be cast as a whole, within its parentheses or around them.
            let cast = rest.strip_prefix(")::").or_else(|| rest.strip_prefix("::"));
            let tail = cast.map_or(rest, |cast| cast.trim_start_matches(|c: char| c != ')'));
            let is_over = tail.chars().all(|c| c == ')');
            return (is_over && !rest.contains(" AND ") && !rest.contains(" OR "))
                .then_some(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_that_lists_values_is_read() {
        for (check, values) in [
            (
                "CHECK ((status = ANY (ARRAY['OPEN'::text, 'CLOSED'::text])))",
                Some(&["OPEN", "CLOSED"] as &[&str]),
            ),
            (
                "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'it''s, ok'::character varying])::text[])))",
                Some(&["a", "it's, ok"]),
            ),
            (
                "CHECK ((VALUE = ANY (ARRAY['x'::text, 'y'::text])))",
                Some(&["x", "y"]),
            ),
            ("CHECK ((fare >= (0)::numeric))", None),
            ("CHECK ((n = ANY (ARRAY[1, 2])))", None),
            (
                "CHECK (((a > 'b'::text) OR (a = ANY (ARRAY['x'::text]))))",
                None,
            ),
            (
                "CHECK (((a = ANY (ARRAY['x'::text])) OR (a > 'b'::text)))",
                None,
            ),
        ] {
            let values =
                values.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
            assert_eq!(listed(check), values, "{check}");
        }
    }
}
