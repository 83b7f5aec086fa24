//! `schema.toml`: the columns that rules may read, with types and keys.

use rowbridge_api::{Kind, Type};

use super::diagnostic::{At, Diagnostic, closest};
use super::file::reader::{Table, Text};

/// One column.
#[derive(Clone, Debug)]
pub(super) struct ColumnDecl {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) ty: Type,
    /// The values that an enum has; empty where they are not known.
    pub(super) labels: Vec<String>,
}

/// One table.
#[derive(Debug)]
pub(super) struct SchemaTable {
    pub(super) name: Text,
    pub(super) key: Vec<Text>,
    pub(super) columns: Vec<ColumnDecl>,
}

/// Types that `schema.toml` is likely to mean, to find typing mistakes: an unknown name is a type of the
/// database's own and read as text.
const COMMON_TYPES: &[&str] = &[
    "bool",
    "boolean",
    "int2",
    "int4",
    "int8",
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "money",
    "float4",
    "float8",
    "real",
    "text",
    "varchar",
    "char",
    "bytea",
    "json",
    "jsonb",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "inet",
    "oid",
    "hstore",
    "row",
    "string",
    "int32",
    "int64",
    "double",
    "decimal128",
    "datetime",
    "objectid",
    "binary",
    "document",
    "array",
    "bson",
];

pub(super) fn read(root: &Table<'_>) -> Vec<SchemaTable> {
    root.entries()
        .filter_map(|(name, node)| read_table(name, &node.table()?))
        .collect()
}

fn read_table(name: Text, table: &Table<'_>) -> Option<SchemaTable> {
    let place = format!("[{}]", name.value);
    table.only_keys(&place, &["key", "columns", "labels"], &[]);
    let columns = table.table("columns");
    if columns.is_none() && !table.has("columns") {
        table.report().push(
            Diagnostic::error(name.at, format!("table `{}` has no columns", name.value))
                .hint(format!("[{}.columns]\nid = \"int8\"", name.value)),
        );
    }
    let mut columns: Vec<ColumnDecl> = columns?
        .entries()
        .filter_map(|(name, node)| {
            let ty = node.text()?;
            Some(ColumnDecl {
                at: name.at,
                ty: read_type(&ty, table),
                name: name.value,
                labels: Vec::new(),
            })
        })
        .collect();
    if let Some(labels) = table.table("labels") {
        read_labels(&name, &labels, &mut columns);
    }
    let key = table
        .get("key")
        .and_then(|node| node.text_or_texts())
        .unwrap_or_default();
    for part in &key {
        if !columns.iter().any(|column| column.name == part.value) {
            table
                .report()
                .push(unknown_column(part.at, &part.value, &name.value, &columns));
        }
    }
    Some(SchemaTable { name, key, columns })
}

/// `[<table>.labels]`: what the enums of the table can hold.
fn read_labels(table: &Text, labels: &Table<'_>, columns: &mut [ColumnDecl]) {
    for (column, node) in labels.entries() {
        let Some(values) = node.texts() else { continue };
        let place = columns.iter().position(|known| known.name == column.value);
        let Some(place) = place else {
            labels.report().push(unknown_column(
                column.at,
                &column.value,
                &table.value,
                columns,
            ));
            continue;
        };
        let known = &mut columns[place];
        if known.ty.kind != Kind::Text {
            labels.report().push(
                Diagnostic::error(
                    column.at,
                    format!("column `{}` is {}", column.value, known.ty.name),
                )
                .label("only an enum has labels"),
            );
        }
        known.labels = values.into_iter().map(|label| label.value).collect();
    }
}

fn read_type(ty: &Text, table: &Table<'_>) -> Type {
    let base = ty.value.split(['(', '[']).next().unwrap_or_default().trim();
    if ty.value.trim().is_empty() {
        table
            .report()
            .push(Diagnostic::error(ty.at, "a column needs a type").hint("\"text\""));
    } else if base.eq_ignore_ascii_case("row") && !is_composite(&Type::parse(&ty.value).kind) {
        table.report().push(
            Diagnostic::error(ty.at, "not a composite type")
                .label("each field is a name and a type")
                .hint("\"row(street text, zip varchar(9))\""),
        );
    } else if !COMMON_TYPES.contains(&base)
        // Whoever quotes a name means it: "char" is not char.
        && !base.starts_with('"')
        && let Some(meant) = closest(base, COMMON_TYPES.iter().copied())
        && strsim::damerau_levenshtein(base, meant) <= 2
    {
        table.report().push(
            Diagnostic::warning(
                ty.at,
                format!("`{base}` is not a type that Rowbridge knows"),
            )
            .label("read as text")
            .hint(format!("did you mean `{meant}`?")),
        );
    }
    Type::parse(&ty.value)
}

/// Whether it is a composite, or an array of them.
fn is_composite(kind: &Kind) -> bool {
    match kind {
        Kind::Composite(_) => true,
        Kind::Array(element) => is_composite(&element.kind),
        _ => false,
    }
}

/// "No such column", with the one that was probably meant.
pub(super) fn unknown_column(
    at: At,
    column: &str,
    table: &str,
    columns: &[ColumnDecl],
) -> Diagnostic {
    let meant = closest(column, columns.iter().map(|column| column.name.as_str()));
    Diagnostic::error(at, format!("table `{table}` has no column `{column}`"))
        .label("not in schema.toml")
        .hint(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("add it to [{table}.columns] in schema.toml if the table has it"),
        })
}
