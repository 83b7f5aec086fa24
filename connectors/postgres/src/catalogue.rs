//! What the catalogue says now: tables, keys, and the names of types.
//!
//! Never asked about the past: a relation's columns at a point of the stream come from its RELATION
//! message. Only the names of types and primary keys are taken from here, read once at start.

use std::collections::HashMap;

use rowbridge_api::{SourceError, TableName, Type};

use crate::sql::Sql;

/// A table as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    /// `r` or `p` as in `pg_class.relkind`; anything else cannot be published.
    pub(crate) kind: char,
    /// `d`, `n`, `f` or `i` as in `pg_class.relreplident`.
    pub(crate) replica_identity: char,
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) primary_key: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
    pub(crate) generated: Generated,
}

/// Whether a column is computed from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generated {
    No,
    Yes,
}

/// The table now, or nothing if there is none that we can see.
pub(crate) async fn table(sql: &Sql, name: &TableName) -> Result<Option<Table>, SourceError> {
    let doing = "read the catalogue";
    let found = sql
        .query(
            doing,
            "SELECT c.oid, c.relkind::text, c.relreplident::text, \
                 ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place) \
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum \
                       WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = i.indrelid \
                       ORDER BY k.place) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2",
            &[&name.schema, &name.name],
        )
        .await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let oid: u32 = row.get(0);
    let columns = sql
        .query(
            doing,
            "SELECT attname::text, atttypid, atttypmod, attgenerated <> '' FROM pg_attribute \
             WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&oid],
        )
        .await?;
    Ok(Some(Table {
        oid,
        kind: first_char(row.get(1)),
        replica_identity: first_char(row.get(2)),
        primary_key: row.get(3),
        columns: columns
            .iter()
            .map(|column| TableColumn {
                name: column.get(0),
                type_oid: column.get(1),
                type_modifier: column.get(2),
                generated: if column.get(3) {
                    Generated::Yes
                } else {
                    Generated::No
                },
            })
            .collect(),
    }))
}

/// The relations, quoted, among a table and its leaves for which an UPDATE or DELETE fails once it is published:
/// those without a replica identity. A deferrable primary key is none.
pub(crate) async fn without_identity(sql: &Sql, oid: u32) -> Result<Vec<String>, SourceError> {
    let rows = sql
        .query(
            "read replica identities",
            "SELECT format('%I.%I', n.nspname, c.relname) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1))) AND c.relkind = 'r' \
             AND NOT CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false ELSE EXISTS ( \
                 SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END \
             ORDER BY 1",
            &[&oid],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(crate) fn first_char(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// Names of types by oid, as `format_type` prints them; domains by their base.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeNames(HashMap<u32, KnownType>);

#[derive(Clone, Debug)]
struct KnownType {
    name: String,
    /// For a domain: its base type and modifier.
    base: Option<(u32, i32)>,
    /// For an array: its element.
    element: Option<u32>,
}

/// Domains over domains, arrays of domains: deeper than anyone goes.
const MAX_TYPE_DEPTH: u8 = 16;

impl TypeNames {
    /// All types that a column can have.
    pub(crate) async fn read(sql: &Sql) -> Result<Self, SourceError> {
        let rows = sql
            .query(
                "read the names of types",
                "SELECT oid, format_type(oid, NULL), typbasetype, typtypmod, typelem FROM pg_type \
                 WHERE typtype IN ('b', 'd', 'e', 'r', 'm')",
                &[],
            )
            .await?;
        let known = rows.iter().map(|row| {
            let name: String = row.get(1);
            let base: u32 = row.get(2);
            let element: u32 = row.get(4);
            let known = KnownType {
                base: (base != 0).then(|| (base, row.get(3))),
                element: (element != 0 && name.ends_with("[]")).then_some(element),
                name,
            };
            (row.get(0), known)
        });
        Ok(Self(known.collect()))
    }

    /// Takes in a TYPE message, which tells of a type made after we started.
    pub(crate) fn learn(&mut self, oid: u32, namespace: &str, name: &str) {
        self.0.entry(oid).or_insert_with(|| {
            let (name, suffix) = match name.strip_prefix('_') {
                Some(element) => (element, "[]"),
                None => (name, ""),
            };
            let name = if namespace.is_empty() {
                format!("{name}{suffix}")
            } else {
                format!("{namespace}.{name}{suffix}")
            };
            KnownType {
                name,
                base: None,
                element: None,
            }
        });
    }

    /// The type of a column; one that nobody told us of is read as text.
    pub(crate) fn resolve(&self, oid: u32, modifier: i32) -> Type {
        Type::parse(&self.name(oid, modifier, MAX_TYPE_DEPTH))
    }

    fn name(&self, oid: u32, modifier: i32, depth: u8) -> String {
        let Some(known) = self.0.get(&oid) else {
            return "text".to_owned();
        };
        match (known.base, known.element) {
            (Some((base, modifier)), _) if depth > 0 => self.name(base, modifier, depth - 1),
            (_, Some(element)) if depth > 0 => {
                format!("{}[]", self.name(element, modifier, depth - 1))
            }
            _ => with_modifier(&known.name, modifier),
        }
    }
}

/// As `format_type` prints a type with its modifier (`typmodout` of each type).
fn with_modifier(name: &str, modifier: i32) -> String {
    if modifier < 0 {
        return name.to_owned();
    }
    match name {
        "numeric" => {
            let packed = modifier - 4;
            // Eleven bits, signed since PostgreSQL 15.
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            format!("numeric({},{scale})", (packed >> 16) & 0xffff)
        }
        "character varying" | "character" => format!("{name}({})", modifier - 4),
        "bit" | "bit varying" => format!("{name}({modifier})"),
        _ => match name.split_once(' ') {
            Some((word @ ("time" | "timestamp"), zone)) => format!("{word}({modifier}) {zone}"),
            _ => name.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> TypeNames {
        let plain = |name: &str| KnownType {
            name: name.to_owned(),
            base: None,
            element: None,
        };
        TypeNames(HashMap::from([
            (1700, plain("numeric")),
            (1184, plain("timestamp with time zone")),
            (
                9000,
                KnownType {
                    base: Some((1700, 655_366)),
                    ..plain("public.price")
                },
            ),
            (
                9001,
                KnownType {
                    element: Some(9000),
                    ..plain("public.price[]")
                },
            ),
        ]))
    }

    #[test]
    fn names_are_as_format_type_prints_them() {
        let names = names();
        let name = |oid, modifier| names.name(oid, modifier, MAX_TYPE_DEPTH);
        assert_eq!(name(1700, 655_366), "numeric(10,2)");
        assert_eq!(name(1700, -1), "numeric");
        assert_eq!(name(1184, 3), "timestamp(3) with time zone");
        assert_eq!(name(9000, -1), "numeric(10,2)");
        assert_eq!(name(9001, -1), "numeric(10,2)[]");
        assert_eq!(name(424_242, -1), "text");
        assert_eq!(
            with_modifier("numeric", 4 + (5 << 16) + 0x7fe),
            "numeric(5,-2)"
        );
        assert_eq!(
            with_modifier("character varying", 24),
            "character varying(20)"
        );
    }

    #[test]
    fn a_type_made_after_start_is_learnt_from_the_stream() {
        let mut names = names();
        names.learn(9100, "public", "_cabin");
        names.learn(9101, "", "numeric");
        names.learn(9000, "public", "other");
        assert_eq!(names.name(9100, -1, MAX_TYPE_DEPTH), "public.cabin[]");
        assert_eq!(names.name(9101, 655_366, MAX_TYPE_DEPTH), "numeric(10,2)");
        assert_eq!(names.name(9000, -1, MAX_TYPE_DEPTH), "numeric(10,2)");
    }
}
