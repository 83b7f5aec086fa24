//! Stored, published, cast by the server: the same.

use std::collections::BTreeMap;

use rowbridge_testbed::{PgVersion, Postgres};
use serde_json::value::RawValue;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::corpus::{self, Column, TYPES};
use crate::generate::Draw;
use crate::on_every_version;
use crate::parts;
use crate::reader::{Members, Published, Reader, publish_all};

on_every_version!(what_is_published_is_what_is_stored);

/// Added to a row's key when it is inserted again, for the stream to see.
const AGAIN: i64 = 1_000_000;

/// A role whose settings change how every value is printed, unless a session says otherwise.
const ODD_ROLE: &str = "CREATE ROLE odd_role SUPERUSER LOGIN REPLICATION;
ALTER ROLE odd_role SET DateStyle = 'SQL, DMY';
ALTER ROLE odd_role SET TimeZone = 'America/St_Johns';
ALTER ROLE odd_role SET IntervalStyle = 'sql_standard';
ALTER ROLE odd_role SET extra_float_digits = '-15';
ALTER ROLE odd_role SET bytea_output = 'escape';
ALTER ROLE odd_role SET quote_all_identifiers = on;
ALTER ROLE odd_role SET search_path = public, pg_catalog;
ALTER ROLE odd_role SET client_encoding = 'LATIN1';";

/// A money format unlike C's, if the machine has one: no test can bring a locale along.
const ODD_MONEY: &str = "ALTER ROLE odd_role SET lc_monetary = 'de_DE.utf8'";

/// Each table and its columns.
type Tables = Vec<(&'static str, Vec<Column>)>;

async fn what_is_published_is_what_is_stored(version: PgVersion) {
    let server = Postgres::shared(version).await.unwrap();
    let url = server.database("values").await.unwrap();
    let client = connect(&url).await;
    let tables = fill(&client, version).await;

    let odd_url = url.replace("postgres://postgres@", "postgres://odd_role@");
    client.batch_execute(ODD_ROLE).await.unwrap();
    let _ = client.batch_execute(ODD_MONEY).await;

    let declared: Vec<_> = tables
        .iter()
        .map(|(table, columns)| (*table, declared(columns)))
        .collect();
    let (mapping, schema) = publish_all("stop", &declared);
    let mut plain = Reader::start(&url, "plain", &mapping, &schema).await;
    let count = tables.iter().map(|(_, columns)| rows_of(columns)).sum();
    let copied = by_row(plain.next(count).await.unwrap());
    let mut odd = Reader::start(&odd_url, "odd", &mapping, &schema).await;
    same(
        "the odd role's snapshot",
        &copied,
        &by_row(odd.next(count).await.unwrap()),
        0,
    );

    for (table, columns) in &tables {
        let names: Vec<String> = (0..columns.len())
            .map(|index| format!("c{index}"))
            .collect();
        let names = names.join(", ");
        let again = format!(
            "INSERT INTO {table} (id, {names}) SELECT id + {AGAIN}, {names} FROM {table} ORDER BY id"
        );
        client.batch_execute(&again).await.unwrap();
    }
    same(
        "the stream",
        &copied,
        &by_row(plain.next(count).await.unwrap()),
        AGAIN,
    );
    same(
        "the odd role's stream",
        &copied,
        &by_row(odd.next(count).await.unwrap()),
        AGAIN,
    );

    let mut wrong = Vec::new();
    for (table, columns) in &tables {
        wrong.extend(cast_back(&client, table, columns, &copied).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn fill(client: &Client, version: PgVersion) -> Tables {
    client.batch_execute(TYPES).await.unwrap();
    // The local binaries of 17 are built without libxml.
    let has_xml = client.batch_execute("SELECT '<a/>'::xml").await.is_ok();
    assert!(has_xml || version == PgVersion::V17, "15 has xml");
    let mut draw = Draw::new();
    let scalars = corpus::scalars(&mut draw, has_xml);
    let arrays = parts::arrays(&mut draw, &scalars);
    let (ddl, composites) = parts::composites(&mut draw, &[&scalars, &arrays]);
    client.batch_execute(&ddl).await.unwrap();
    let tables = vec![
        ("scalars", scalars),
        ("arrays", arrays),
        ("composites", composites),
    ];
    for (table, columns) in &tables {
        let all = columns
            .iter()
            .enumerate()
            .map(|(index, column)| format!(", c{index} {}", column.sql));
        let create = format!(
            "CREATE TABLE {table} (id int8 PRIMARY KEY{})",
            all.collect::<String>()
        );
        client.batch_execute(&create).await.unwrap();
        store(client, table, columns).await;
    }
    tables
}

fn rows_of(columns: &[Column]) -> usize {
    columns
        .iter()
        .map(|column| column.values.len())
        .max()
        .unwrap()
}

/// Puts the columns' values into rows 1 and up; rows past a column's last value hold nulls.
async fn store(client: &Client, table: &str, columns: &[Column]) {
    let (mut names, mut values) = (String::new(), String::new());
    let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        names.push_str(&format!(", c{index}"));
        parameters.push(&column.values);
        values.push_str(&format!(
            ", (${}::text[])[id]::{}",
            parameters.len(),
            column.sql
        ));
    }
    let insert = format!(
        "INSERT INTO {table} (id{names}) SELECT id{values} FROM generate_series(1, {}) id",
        rows_of(columns)
    );
    if let Err(error) = client.execute(&insert, &parameters).await {
        // The server does not say which column's value it does not take.
        for Column { sql, values, .. } in columns {
            let cast = format!("SELECT (unnest($1::text[])::{sql})::text");
            let cast = client.execute(&cast, &[values]).await;
            cast.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        panic!("{table}: {error:?}");
    }
}

fn declared(columns: &[Column]) -> Vec<(String, String)> {
    let columns = columns.iter().enumerate();
    columns
        .map(|(index, column)| (format!("c{index}"), column.declared.clone()))
        .collect()
}

type Rows = BTreeMap<(String, i64), Members>;

fn by_row(published: Vec<Published>) -> Rows {
    let rows = published.into_iter().map(|row| {
        assert!(!row.quarantined);
        ((row.event, row.id), row.members)
    });
    rows.collect()
}

/// The very same JSON.
fn same(what: &str, expected: &Rows, found: &Rows, offset: i64) {
    assert_eq!(expected.len(), found.len(), "{what}");
    for ((table, id), members) in expected {
        let others = &found[&(table.clone(), id + offset)];
        for (name, json) in members {
            assert_eq!(
                json.get(),
                others[name].get(),
                "{what}: {table}.{name} of row {id}"
            );
        }
    }
}

/// Turns the JSON back into text and has the server compare it with what is stored; returns what differs.
async fn cast_back(
    client: &Client,
    table: &str,
    columns: &[Column],
    published: &Rows,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let (name, sql) = (format!("c{index}"), &column.sql);
        let (mut ids, mut texts) = (Vec::new(), Vec::new());
        for ((of, id), members) in published {
            if of == table {
                let json: &RawValue = &members[&name];
                ids.push(*id);
                texts.push(column.form.text(json));
            }
        }
        // As a row's text every type has a form, and a null is not an empty text.
        let mut differ = format!("ROW(s.{name})::text IS DISTINCT FROM ROW(b.text::{sql})::text");
        if column.comparable {
            differ.push_str(&format!(" OR s.{name} IS DISTINCT FROM b.text::{sql}"));
        }
        let query = format!(
            "SELECT b.text, ROW(s.{name})::text FROM {table} s JOIN unnest($1::int8[], $2::text[]) b(id, text) USING (id) \
             WHERE {differ}"
        );
        let parameters: [&(dyn ToSql + Sync); 2] = [&ids, &texts];
        match client.query(&query, &parameters).await {
            Ok(rows) => wrong.extend(rows.first().map(|row| {
                let (published, stored): (Option<String>, String) = (row.get(0), row.get(1));
                format!("{table}.{name} {sql}: published {published:?}, stored {stored:?}")
            })),
            Err(error) => wrong.push(format!("{table}.{name} {sql}: {error:?}")),
        }
    }
    wrong
}
