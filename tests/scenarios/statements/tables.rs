//! Cases as SQL on real tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tokio_postgres::{Client, NoTls};

use super::Legacy;
use super::case_file::{ChangeOf, Declared, RowOf};

/// The tables of a pack in a database. Neither triggers nor foreign keys act: a case tells all the changes of its
/// transactions.
pub(crate) struct Tables {
    client: Client,
    /// By table: columns that need a value, with one.
    fillers: BTreeMap<String, Vec<(String, String)>>,
}

/// Columns without a default that take no null, by table, each with a value of its type.
const NEEDED: &str = "
    SELECT n.nspname, c.relname, a.attname,
        CASE t.typcategory WHEN 'N' THEN '0' WHEN 'D' THEN '''2026-01-01''' WHEN 'B' THEN 'false'
            WHEN 'E' THEN (SELECT quote_literal(min(enumlabel)) FROM pg_enum WHERE enumtypid = t.oid) ELSE '''x''' END
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
        AND n.nspname NOT IN ('pg_catalog', 'information_schema')";

impl Tables {
    pub(crate) async fn at(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute("SET session_replication_role = replica")
            .await?;
        let mut fillers: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for row in client.query(NEEDED, &[]).await? {
            let table = format!("{}.{}", quote(row.get(0)), quote(row.get(1)));
            let of_table = fillers.entry(table).or_default();
            of_table.push((quote(row.get(2)), row.get(3)));
        }
        Ok(Self { client, fillers })
    }

    fn insert(&self, table: &str, row: &toml::Table) -> String {
        let mut cells: BTreeMap<String, String> = row
            .iter()
            .map(|(name, cell)| (quote(name), literal(cell)))
            .collect();
        for (column, filler) in self.fillers.get(table).into_iter().flatten() {
            let cell = cells.entry(column.clone());
            cell.or_insert_with(|| filler.clone());
        }
        let names: Vec<&str> = cells.keys().map(String::as_str).collect();
        let values: Vec<&str> = cells.values().map(String::as_str).collect();
        format!(
            "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({});",
            names.join(", "),
            values.join(", ")
        )
    }

    fn statement(&self, declared: &Declared, change: &ChangeOf) -> String {
        let table = name_of(declared, &change.table);
        let after = change.after.clone().unwrap_or_default();
        if change.op == "insert" {
            return self.insert(&table, &after);
        }
        let key = change.key(declared);
        let found = found(&key);
        if change.op == "delete" {
            return format!("DELETE FROM {table} WHERE {found};");
        }
        let mut assigned = change.assigned(&key);
        if assigned.is_empty() {
            // A row that is written as it is.
            assigned.clone_from(&after);
            assigned.retain(|name, _| !key.contains_key(name));
        }
        if assigned.is_empty() {
            assigned = after;
        }
        let assigned = list(&assigned, ", ", |column, cell| {
            format!("{column} = {}", literal(cell))
        });
        format!("UPDATE {table} SET {assigned} WHERE {found};")
    }

    async fn run(&self, batch: &str) -> Result<()> {
        let ran = self.client.batch_execute(batch).await;
        ran.with_context(|| batch.to_owned())
    }
}

impl Legacy for Tables {
    /// No rule of a pack is about a truncate.
    async fn empty(&self, declared: &Declared) -> Result<()> {
        let tables = declared.tables.iter();
        let names: Vec<String> = tables.map(|(short, _)| name_of(declared, short)).collect();
        self.run(&format!("TRUNCATE {} CASCADE", names.join(", ")))
            .await
    }

    async fn put(&self, declared: &Declared, rows: &[RowOf]) -> Result<()> {
        let rows = rows.iter().map(|RowOf { table, row }| {
            let name = name_of(declared, table);
            let found = found(&declared.key_of(table, row));
            format!(
                "DELETE FROM {name} WHERE {found};{}",
                self.insert(&name, row)
            )
        });
        self.run(&rows.collect::<String>()).await
    }

    async fn write(&self, declared: &Declared, transaction: &[ChangeOf]) -> Result<()> {
        let changes = transaction.iter();
        let statements: String = changes
            .map(|change| self.statement(declared, change))
            .collect();
        self.run(&format!("BEGIN; {statements} COMMIT;")).await
    }

    async fn mark(&self) -> Result<u64> {
        let lsn = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
        let row = self.client.query_one(lsn, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }
}

/// The table as SQL names it.
fn name_of(declared: &Declared, short: &str) -> String {
    let source = declared.source(short);
    let (schema, table) = source.split_once('.').unwrap_or(("public", source));
    format!("{}.{}", quote(schema), quote(table))
}

/// The row of a key.
fn found(key: &toml::Table) -> String {
    list(key, " AND ", |column, cell| match cell {
        toml::Value::Table(_) => format!("{column} IS NULL"),
        cell => format!("{column} = {}", literal(cell)),
    })
}

fn list(
    cells: &toml::Table,
    separator: &str,
    written: impl Fn(&str, &toml::Value) -> String,
) -> String {
    let cells = cells.iter().map(|(name, cell)| written(&quote(name), cell));
    cells.collect::<Vec<_>>().join(separator)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(cell: &toml::Value) -> String {
    match cell {
        toml::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        toml::Value::Table(_) => "NULL".to_owned(),
        other => other.to_string(),
    }
}
