//! Databases that are not UTF-8, and types that change under a running stream.

use rowbridge_api::State;
use rowbridge_testbed::{PgVersion, Postgres};

use crate::on_every_version;
use crate::reader::{Published, Reader, publish_all};
use crate::round_trip::connect;

on_every_version!(
    a_latin1_database_is_published_in_utf_8,
    what_is_not_utf_8_is_set_aside_whole,
    what_is_not_utf_8_stops_a_mapping_that_stops,
    a_composite_type_that_changed_is_a_bad_record_and_not_a_guess,
);

/// A database of an encoding; the C locale goes with every one.
async fn database(version: PgVersion, encoding: &str) -> String {
    let server = Postgres::shared(version).await.unwrap();
    let unique = server.database(&encoding.to_lowercase()).await.unwrap();
    let name = format!("{}_own", unique.rsplit('/').next().unwrap());
    let create = format!(
        "CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    server.sql(&create).await.unwrap();
    server.url_of(&name)
}

fn columns(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = all
        .iter()
        .map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned()));
    all.collect()
}

fn json<'a>(row: &'a Published, name: &str) -> &'a str {
    row.members.get(name).map_or("absent", |json| json.get())
}

async fn a_latin1_database_is_published_in_utf_8(version: PgVersion) {
    let url = database(version, "LATIN1").await;
    let client = connect(&url).await;
    client
        .batch_execute(
            "CREATE EXTENSION hstore; CREATE TYPE größe AS ENUM ('klein', 'groß'); CREATE TYPE maß AS (größe größe, name text);
             CREATE TABLE t (id int8 PRIMARY KEY, naïve text, größe größe, maße maß[], h hstore);
             INSERT INTO t SELECT 1, string_agg(chr(c), '' ORDER BY c), 'groß', ARRAY[ROW('groß', '£ \"§\"')::maß], 'é=>ÿ'
                 FROM generate_series(160, 255) c",
        )
        .await
        .unwrap();
    let types = columns(&[
        ("naïve", "text"),
        ("größe", "public.größe"),
        ("maße", "row(größe public.größe, name text)[]"),
        ("h", "hstore"),
    ]);
    let (mapping, schema) = publish_all("stop", &[("t", types)]);
    let mut reader = Reader::start(&url, "latin1", &mapping, &schema).await;
    let copied = reader.next(1).await.unwrap();
    client
        .batch_execute("INSERT INTO t SELECT 2, naïve, größe, maße, h FROM t")
        .await
        .unwrap();
    let streamed = reader.next(1).await.unwrap();
    let all: String = ('\u{a0}'..='\u{ff}').collect();
    for row in copied.iter().chain(&streamed) {
        assert_eq!(
            serde_json::from_str::<String>(json(row, "naïve")).unwrap(),
            all
        );
        assert_eq!(json(row, "größe"), "\"groß\"");
        assert_eq!(json(row, "maße"), r#"[{"größe":"groß","name":"£ \"§\""}]"#);
        assert_eq!(json(row, "h"), r#"{"é":"ÿ"}"#);
    }
}

/// An SQL_ASCII database takes any bytes: also for the names of types that nobody reads.
const ASCII_TABLE: &str = "CREATE TYPE pair AS (a text, b text);
    CREATE TABLE t (id int8 PRIMARY KEY, v text, list text[], pair pair);
    DO $$ BEGIN EXECUTE format('CREATE TYPE %I AS ENUM (%L)', E'na\\xefve', E'\\xef'); END $$;
    INSERT INTO t VALUES (1, 'é', '{é}', '(é,)'), (2, E'caf\\xe9', '{}', NULL), (3, 'a', ARRAY['b', E'\\xff'], NULL),
        (4, 'a', '{}', ROW('a', E'\\xc3'))";

fn ascii_columns() -> Vec<(String, String)> {
    columns(&[
        ("v", "text"),
        ("list", "text[]"),
        ("pair", "row(a text, b text)"),
    ])
}

async fn what_is_not_utf_8_is_set_aside_whole(version: PgVersion) {
    let url = database(version, "SQL_ASCII").await;
    let client = connect(&url).await;
    client.batch_execute(ASCII_TABLE).await.unwrap();
    let (mapping, schema) = publish_all("quarantine", &[("t", ascii_columns())]);
    let mut reader = Reader::start(&url, "ascii", &mapping, &schema).await;
    let copied = reader.next(4).await.unwrap();
    client
        .batch_execute("INSERT INTO t SELECT id + 4, v, list, pair FROM t ORDER BY id")
        .await
        .unwrap();
    let streamed = reader.next(4).await.unwrap();
    for rows in [copied, streamed] {
        let set_aside: Vec<bool> = rows.iter().map(|row| row.quarantined).collect();
        assert_eq!(set_aside, [false, true, true, true]);
        assert_eq!(json(&rows[0], "v"), "\"é\"");
        assert_eq!(json(&rows[0], "pair"), r#"{"a":"é","b":null}"#);
        for (row, invalid) in rows[1..].iter().zip([
            r#"{"after.v":"Y2Fm6Q=="}"#,
            r#"{"after.list":"e2Is/30="}"#,
            r#"{"after.pair":"KGEswyk="}"#,
        ]) {
            assert_eq!(json(row, "invalid"), invalid);
        }
    }
}

async fn what_is_not_utf_8_stops_a_mapping_that_stops(version: PgVersion) {
    let url = database(version, "SQL_ASCII").await;
    let client = connect(&url).await;
    client.batch_execute(ASCII_TABLE).await.unwrap();
    let (mapping, schema) = publish_all("stop", &[("t", ascii_columns())]);
    let mut reader = Reader::start(&url, "ascii_stop", &mapping, &schema).await;
    let Err(stop) = reader.next(4).await else {
        panic!("row 2 is no text");
    };
    assert_eq!(stop.state, State::BadRecord);
    let problem = &stop.problem;
    assert!(
        problem.contains("`after.v` is not a valid text: not UTF-8"),
        "{problem}"
    );
    assert!(!problem.contains("caf"), "{problem}");
}

async fn a_composite_type_that_changed_is_a_bad_record_and_not_a_guess(version: PgVersion) {
    let server = Postgres::shared(version).await.unwrap();
    let url = server.database("changed").await.unwrap();
    let client = connect(&url).await;
    client
        .batch_execute(
            "CREATE TYPE place AS (street text, city text); CREATE TABLE t (id int8 PRIMARY KEY, v place);
             INSERT INTO t VALUES (1, '(a,b)')",
        )
        .await
        .unwrap();
    let types = columns(&[("v", "row(street text, city text)")]);
    let (mapping, schema) = publish_all("quarantine", &[("t", types)]);
    let mut reader = Reader::start(&url, "changed", &mapping, &schema).await;
    assert_eq!(
        json(&reader.next(1).await.unwrap()[0], "v"),
        r#"{"street":"a","city":"b"}"#
    );
    client
        .batch_execute(
            "ALTER TYPE place ADD ATTRIBUTE zip int4; INSERT INTO t VALUES (2, '(a,b,3)')",
        )
        .await
        .unwrap();
    let added = reader.next(1).await.unwrap();
    client
        .batch_execute("ALTER TYPE place DROP ATTRIBUTE street; ALTER TYPE place DROP ATTRIBUTE zip; INSERT INTO t VALUES (3, '(c)')")
        .await
        .unwrap();
    let dropped = reader.next(1).await.unwrap();
    for row in [&added[0], &dropped[0]] {
        assert!(row.quarantined);
        assert!(
            json(row, "error").contains("it has other fields than its type"),
            "{}",
            json(row, "error")
        );
    }
}
