//! Rows at the limits of the server.

use rowbridge_testbed::PgVersion;

use crate::follower::{Follower, settings};
use crate::on_every_version;
use crate::server::Database;

on_every_version!(a_table_of_1600_columns_passes_whole);

/// PostgreSQL's limit.
const MOST_COLUMNS: usize = 1600;

async fn a_table_of_1600_columns_passes_whole(version: PgVersion) {
    let db = Database::create(version).await;
    let more: Vec<String> = (1..MOST_COLUMNS).map(|n| format!("c{n} int2")).collect();
    db.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); ALTER TABLE t REPLICA IDENTITY FULL; \
         INSERT INTO t (id, c1599) VALUES (1, 7)",
        more.join(", ")
    ))
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (rows, _) = follower.snapshot().await;
    assert_eq!(rows.len(), 1);
    whole(&rows[0], &["[*id=1", "c1599=7]"], MOST_COLUMNS);
    db.run(
        "INSERT INTO t (id, c800) VALUES (2, -1); UPDATE t SET c1599 = 8 WHERE id = 1; DELETE FROM t WHERE id = 2",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes.len(), 3);
    whole(&changes[0], &["[*id=2", "c800=-1"], MOST_COLUMNS);
    whole(
        &changes[1],
        &["c1599=7)", "c1599=8]", "c1=null"],
        2 * MOST_COLUMNS,
    );
    whole(&changes[2], &["(*id=2", "c1599=null)"], MOST_COLUMNS);
    follower.stop().await;
}

fn whole(change: &str, parts: &[&str], cells: usize) {
    let words: Vec<&str> = change.split(' ').collect();
    for part in parts {
        assert!(words.contains(part), "no {part} in a {}", words[0]);
    }
    assert_eq!(words.len(), cells + 2, "cells of a {}", words[0]);
    assert!(!change.contains("=?"), "nothing is unavailable");
}
