//! What the catalogue says now: tables, keys, and the names of types.
//!
//! Never asked about the past: a relation's columns at a point of the stream come from its RELATION
//! message. Only types and primary keys are taken from here, read once at start.

use std::collections::HashMap;

use rowbridge_api::value::MAX_TYPE_DEPTH;
use rowbridge_api::{SourceError, State, TableName, Type};

use crate::sql::{Sql, quote_table};

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
            "SELECT convert_to(attname::text, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), \
                 atttypid, atttypmod, attgenerated <> '' FROM pg_attribute \
             WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&oid],
        )
        .await?;
    let columns = columns.iter().map(|column| {
        Ok(TableColumn {
            name: String::from_utf8(column.get(0)).map_err(|_| nameless(name))?,
            type_oid: column.get(1),
            type_modifier: column.get(2),
            generated: if column.get(3) {
                Generated::Yes
            } else {
                Generated::No
            },
        })
    });
    let columns: Vec<TableColumn> = columns.collect::<Result<_, SourceError>>()?;
    Ok(Some(Table {
        oid,
        kind: first_char(row.get(1)),
        replica_identity: first_char(row.get(2)),
        primary_key: row.get(3),
        columns,
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

/// An SQL_ASCII database takes any bytes for a name; the server streams them as they are.
fn nameless(table: &TableName) -> SourceError {
    SourceError::refused(
        State::Invalid,
        format!("table {table} has a column whose name is not UTF-8"),
        format!("ALTER TABLE {} RENAME COLUMN … TO …;", quote_table(table)),
    )
}

pub(crate) fn first_char(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// Types by oid: their names as `format_type` prints them, domains by their base, and what arrays and
/// composites are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeNames(HashMap<u32, KnownType>);

#[derive(Clone, Debug)]
enum KnownType {
    /// A type that its name tells all of.
    Named(String),
    Domain {
        base: u32,
        modifier: i32,
    },
    Array {
        element: u32,
        delimiter: u8,
    },
    Composite(Vec<TypeColumn>),
}

/// A column of a composite type.
#[derive(Clone, Debug)]
struct TypeColumn {
    name: String,
    oid: u32,
    modifier: i32,
}

/// All types that a column can have, but for composites. Names come as bytes: in an SQL_ASCII database they
/// need not be UTF-8, which the server would refuse to send as text, and most are of types that nobody reads.
const TYPES: &str = "SELECT t.oid, convert_to(format_type(t.oid, NULL), \
             CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), t.typbasetype, t.typtypmod, \
         CASE WHEN e.typarray = t.oid THEN e.oid ELSE 0 END, coalesce(ascii(e.typdelim::text), 0), \
         EXISTS (SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid \
                 WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' \
                 AND d.refclassid = 'pg_extension'::regclass AND x.extname = 'hstore' AND t.typname = 'hstore') \
     FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem \
     WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm')";

/// The columns of the composite types that a column, an array or a domain is made of: every table has a
/// composite type, and few are used as one.
const COMPOSITES: &str = "WITH used AS ( \
         SELECT atttypid AS oid FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped \
         UNION SELECT typbasetype FROM pg_type WHERE typtype = 'd') \
     SELECT t.oid, convert_to(a.attname::text, \
             CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), a.atttypid, a.atttypmod \
     FROM pg_type t LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE t.typtype = 'c' AND (t.oid IN (SELECT oid FROM used) OR t.typarray IN (SELECT oid FROM used)) \
     ORDER BY t.oid, a.attnum";

impl TypeNames {
    /// All types that a column can have.
    pub(crate) async fn read(sql: &Sql) -> Result<Self, SourceError> {
        let doing = "read the names of types";
        let mut known = HashMap::new();
        for row in sql.query(doing, TYPES, &[]).await? {
            known.insert(row.get(0), known_type(&row));
        }
        for row in sql.query(doing, COMPOSITES, &[]).await? {
            let composite = known
                .entry(row.get(0))
                .or_insert_with(|| KnownType::Composite(Vec::new()));
            if let (KnownType::Composite(columns), Some(name)) =
                (composite, row.get::<_, Option<Vec<u8>>>(1))
            {
                columns.push(TypeColumn {
                    name: lossy(&name),
                    oid: row.get(2),
                    modifier: row.get(3),
                });
            }
        }
        Ok(Self(known))
    }

    /// Takes in a TYPE message, which tells of a type made after we started. It names a domain's base.
    pub(crate) fn learn(&mut self, oid: u32, namespace: &str, name: &str) {
        self.0.entry(oid).or_insert_with(|| {
            let (name, suffix) = match name.strip_prefix('_') {
                Some(element) => (element, "[]"),
                None => (name, ""),
            };
            KnownType::Named(if namespace.is_empty() {
                format!("{name}{suffix}")
            } else {
                format!("{namespace}.{name}{suffix}")
            })
        });
    }

    /// The type of a column; one that nobody told us of is read as text.
    pub(crate) fn resolve(&self, oid: u32, modifier: i32) -> Type {
        self.type_of(oid, modifier, MAX_TYPE_DEPTH)
    }

    fn type_of(&self, oid: u32, modifier: i32, depth: u8) -> Type {
        match self.0.get(&oid) {
            Some(KnownType::Named(name)) => Type::parse(&with_modifier(name, modifier)),
            Some(KnownType::Domain { base, modifier }) if depth > 0 => {
                self.type_of(*base, *modifier, depth - 1)
            }
            Some(KnownType::Array { element, delimiter }) if depth > 0 => {
                Type::array(self.type_of(*element, modifier, depth - 1), *delimiter)
            }
            Some(KnownType::Composite(columns)) if depth > 0 => {
                Type::composite(columns.iter().map(|column| {
                    let ty = self.type_of(column.oid, column.modifier, depth - 1);
                    (column.name.clone(), ty)
                }))
            }
            _ => Type::parse("text"),
        }
    }
}

fn known_type(row: &tokio_postgres::Row) -> KnownType {
    let (base, modifier, element): (u32, i32, u32) = (row.get(2), row.get(3), row.get(4));
    let (delimiter, is_hstore): (i32, bool) = (row.get(5), row.get(6));
    if base != 0 {
        KnownType::Domain { base, modifier }
    } else if element != 0 {
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        KnownType::Array { element, delimiter }
    } else if is_hstore {
        // Without the schema that the extension was put into.
        KnownType::Named("hstore".to_owned())
    } else {
        KnownType::Named(own_name(lossy(row.get(1))))
    }
}

/// A type that users called `document` or `string` is not MongoDB's: quoted, its name stands for itself.
fn own_name(name: String) -> String {
    if Type::is_bson(&name) {
        format!("\"{name}\"")
    } else {
        name
    }
}

/// A name for messages, or for the fields of a composite that no mapping can name.
fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
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
    use rowbridge_api::Kind;

    use super::*;

    fn names() -> TypeNames {
        let named = |name: &str| KnownType::Named(name.to_owned());
        let column = |name: &str, oid| TypeColumn {
            name: name.to_owned(),
            oid,
            modifier: -1,
        };
        TypeNames(HashMap::from([
            (1700, named("numeric")),
            (1184, named("timestamp with time zone")),
            (
                9000,
                KnownType::Domain {
                    base: 1700,
                    modifier: 655_366,
                },
            ),
            (
                9001,
                KnownType::Array {
                    element: 9000,
                    delimiter: b',',
                },
            ),
            (
                9002,
                KnownType::Composite(vec![
                    column("price", 9000),
                    column("Is it?", 424_242),
                    column("all", 9001),
                ]),
            ),
            (
                9003,
                KnownType::Array {
                    element: 9002,
                    delimiter: b';',
                },
            ),
            (
                9004,
                KnownType::Domain {
                    base: 9001,
                    modifier: -1,
                },
            ),
            (
                9005,
                KnownType::Array {
                    element: 9004,
                    delimiter: b',',
                },
            ),
            (9006, KnownType::Composite(vec![column("self", 9006)])),
        ]))
    }

    fn name(names: &TypeNames, oid: u32, modifier: i32) -> String {
        names.resolve(oid, modifier).name
    }

    #[test]
    fn names_are_as_format_type_prints_them_but_shorter() {
        let names = names();
        assert_eq!(name(&names, 1700, 655_366), "numeric(10,2)");
        assert_eq!(name(&names, 1700, -1), "numeric");
        assert_eq!(name(&names, 1184, 3), "timestamptz(3)");
        assert_eq!(name(&names, 9000, -1), "numeric(10,2)");
        assert_eq!(name(&names, 9001, -1), "numeric(10,2)[]");
        assert_eq!(name(&names, 9005, -1), "(numeric(10,2)[])[]");
        assert_eq!(name(&names, 424_242, -1), "text");
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
    fn a_composite_is_its_fields_and_reads_back_from_its_name() {
        let names = names();
        let ty = names.resolve(9003, -1);
        assert_eq!(
            ty.name,
            "row(price numeric(10,2), \"Is it?\" text, all numeric(10,2)[])[]"
        );
        assert_eq!(Type::parse(&ty.name), ty);
        let Kind::Array(element) = ty.kind else {
            panic!("an array");
        };
        assert_eq!(element.delimiter, b';');
        // No server lets a type be made of itself; what lies deeper than anyone goes is text.
        assert!(
            names
                .resolve(9006, -1)
                .name
                .ends_with("self text))))))))))))))))")
        );
    }

    #[test]
    fn a_type_of_users_with_a_name_of_mongodb_is_text() {
        let ty = Type::parse(&own_name("document".to_owned()));
        assert_eq!((ty.name.as_str(), ty.kind), ("\"document\"", Kind::Text));
        assert_eq!(own_name("fare_class".to_owned()), "fare_class");
    }

    #[test]
    fn a_type_made_after_start_is_learnt_from_the_stream() {
        let mut names = names();
        names.learn(9100, "public", "_cabin");
        names.learn(9101, "", "numeric");
        names.learn(9000, "public", "other");
        assert_eq!(name(&names, 9100, -1), "public.cabin[]");
        assert_eq!(name(&names, 9101, 655_366), "numeric(10,2)");
        assert_eq!(name(&names, 9000, -1), "numeric(10,2)");
    }
}
