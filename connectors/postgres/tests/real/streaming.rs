//! What is delivered: existing rows, changes, positions; and from where a restart goes on.

use std::time::Duration;

use rowbridge_api::{Op, Start, TableNeeds};
use rowbridge_testbed::PgVersion;

use crate::follower::{Follower, Seen, needs, settings};
use crate::on_every_version;
use crate::server::{Database, until};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, price numeric(10,2))";

on_every_version!(
    existing_rows_come_first_and_then_what_was_committed_after_them,
    a_restart_goes_on_after_the_last_position,
    an_interrupted_first_start_reads_again_and_misses_nothing,
    a_key_update_shows_the_old_key,
    unchanged_toast_is_unavailable_and_with_full_taken_from_the_old_row,
    truncate_is_one_change_for_each_table,
    ddl_gives_a_new_shape_at_that_point,
    an_idle_table_beside_a_busy_one_lets_the_slot_advance,
    tables_without_a_rule_only_count,
    a_row_far_larger_than_a_batch_passes_and_its_buffer_does_not_stay,
    what_the_role_prefers_does_not_change_the_text_form,
);

async fn existing_rows_come_first_and_then_what_was_committed_after_them(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run("INSERT INTO t VALUES (1, E'tab\\there', 9.5), (2, NULL, -1)")
        .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (rows, from) = follower.snapshot().await;
    assert_eq!(
        rows,
        [
            "read t [*id=1 name=tab\there price=9.50]",
            "read t [*id=2 name=null price=-1.00]",
        ]
    );
    db.run(
        "INSERT INTO t VALUES (3, 'c', 1); UPDATE t SET name = 'b' WHERE id = 2; \
         DELETE FROM t WHERE id = 1",
    )
    .await;
    let (changes, position) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=3 name=c price=1.00]",
            "update t (*id=2 name=? price=?) [*id=2 name=b price=-1.00]",
            "delete t (*id=1 name=? price=?)",
        ]
    );
    assert!(position > from);
    let last = follower.stop().await;
    assert_eq!(
        db.confirmed().await,
        Some(last),
        "the goodbye acknowledges what was committed"
    );
}

async fn a_restart_goes_on_after_the_last_position(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, 'a', 1)").await;
    db.run("INSERT INTO t VALUES (2, 'b', 2)").await;
    let (_, first) = follower.transaction().await;
    follower.transaction().await;
    let recorded = follower.kill().await;
    let start = Start::Resume {
        position: first,
        recorded,
    };
    let mut again = Follower::start(settings(&db.url), &db.pipeline, start, vec![needs("t")]).await;
    let (changes, _) = again.transaction().await;
    assert_eq!(changes, ["insert t [*id=2 name=b price=2.00]"]);
    again.stop().await;
}

async fn an_interrupted_first_start_reads_again_and_misses_nothing(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run("INSERT INTO t VALUES (1, 'a', 1)").await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    assert!(matches!(follower.next().await, Seen::Begin(_)));
    follower.kill().await;
    db.run("INSERT INTO t VALUES (2, 'b', 2)").await;
    let mut again = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (rows, _) = again.snapshot().await;
    assert_eq!(rows.len(), 2, "a newer snapshot: {rows:?}");
    let (changes, _) = again.transaction().await;
    assert_eq!(
        changes,
        ["insert t [*id=2 name=b price=2.00]"],
        "all since the slot's point"
    );
    again.stop().await;
}

async fn a_key_update_shows_the_old_key(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, NULL, NULL); UPDATE t SET id = 9")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes[1],
        "update t (*id=1 name=? price=?) [*id=9 name=null price=null]"
    );
    follower.stop().await;
}

async fn unchanged_toast_is_unavailable_and_with_full_taken_from_the_old_row(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, big text); \
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
         INSERT INTO t VALUES (1, 0, repeat('x', 20000))",
    )
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (rows, _) = follower.snapshot().await;
    assert_eq!(rows, ["read t [*id=1 n=0 big=<20000>]"]);
    db.run("UPDATE t SET n = 1").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["update t (*id=1 n=? big=?) [*id=1 n=1 big=?]"]);
    db.run("ALTER TABLE t REPLICA IDENTITY FULL").await;
    db.run("UPDATE t SET n = 2").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        ["update t (*id=1 n=1 big=<20000>) [*id=1 n=2 big=<20000>]"]
    );
    follower.stop().await;
}

async fn truncate_is_one_change_for_each_table(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
        .await;
    let tables = vec![needs("t"), needs("u")];
    let mut follower = Follower::start(settings(&db.url), &db.pipeline, Start::FIRST, tables).await;
    follower.snapshot().await;
    db.run("TRUNCATE t, u").await;
    let (mut changes, _) = follower.transaction().await;
    changes.sort();
    assert_eq!(changes, ["truncate t", "truncate u"]);
    follower.stop().await;
}

async fn ddl_gives_a_new_shape_at_that_point(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, 'a', 1)").await;
    db.run(
        "CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE t DROP name; ALTER TABLE t ADD feels mood DEFAULT 'ok'; \
         INSERT INTO t VALUES (2, 2); ALTER TABLE t RENAME price TO fare; INSERT INTO t VALUES (3, 3)",
    )
    .await;
    let (before, _) = follower.transaction().await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(before, ["insert t [*id=1 name=a price=1.00]"]);
    assert_eq!(
        changes,
        [
            "insert t [*id=2 price=2.00 feels=ok]",
            "insert t [*id=3 fare=3.00 feels=ok]",
        ]
    );
    follower.stop().await;
}

async fn an_idle_table_beside_a_busy_one_lets_the_slot_advance(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run("CREATE TABLE busy (id int)").await;
    let mut config = settings(&db.url);
    config.limits.idle_commit_interval = Duration::from_millis(50);
    let mut follower = Follower::first(config, &db.pipeline, "t").await;
    let (_, from) = follower.snapshot().await;
    let goal = {
        db.run("INSERT INTO busy SELECT generate_series(1, 1000)")
            .await;
        db.text("SELECT pg_current_wal_lsn()")
            .await
            .unwrap()
            .parse()
            .unwrap()
    };
    let mut idle = from;
    while idle < goal {
        match follower.next().await {
            Seen::Commit(position) => {
                follower.ack(&position);
                idle = position;
            }
            other => panic!("nothing of ours was committed, but {other:?} came"),
        }
    }
    until("the slot to advance", || async {
        db.confirmed().await >= Some(idle.clone())
    })
    .await;
    follower.stop().await;
}

async fn tables_without_a_rule_only_count(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run("CREATE TABLE other (id int PRIMARY KEY)").await;
    db.run(&format!(
        "CREATE PUBLICATION {} FOR TABLE t, other",
        db.slot()
    ))
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO other VALUES (1), (2); INSERT INTO t VALUES (1, 'a', 1)")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["insert t [*id=1 name=a price=1.00]"]);
    assert_eq!(follower.last_ordinal, 2, "changes of other tables count");
    follower.stop().await;
}

async fn a_row_far_larger_than_a_batch_passes_and_its_buffer_does_not_stay(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, repeat('x', 20000000), 1)")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["insert t [*id=1 name=<20000000> price=1.00]"]);
    for id in 2..12 {
        db.run(&format!("INSERT INTO t VALUES ({id}, 'a', 1)"))
            .await;
        follower.transaction().await;
    }
    assert!(
        follower.last_capacity < 4 << 20,
        "a small batch came in a buffer of {} bytes",
        follower.last_capacity
    );
    follower.stop().await;
}

async fn what_the_role_prefers_does_not_change_the_text_form(version: PgVersion) {
    let db = Database::create(version).await;
    let name = db.url.rsplit('/').next().unwrap();
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, d interval, b bytea, f float8); \
         INSERT INTO t VALUES (1, '2026-03-01 12:00+02', '1 day 02:03', '\\x00ff', 0.1)",
    )
    .await;
    db.run(&format!(
        "ALTER DATABASE \"{name}\" SET DateStyle = 'German'; \
         ALTER DATABASE \"{name}\" SET IntervalStyle = 'sql_standard'; \
         ALTER DATABASE \"{name}\" SET TimeZone = 'Asia/Tokyo'; \
         ALTER DATABASE \"{name}\" SET bytea_output = 'escape'; \
         ALTER DATABASE \"{name}\" SET extra_float_digits = -3"
    ))
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let expected = "[*id=1 at=2026-03-01 10:00:00+00 d=P1DT2H3M b=\\x00ff f=0.1]";
    let (rows, _) = follower.snapshot().await;
    assert_eq!(rows, [format!("read t {expected}")]);
    db.run("DELETE FROM t; INSERT INTO t VALUES (1, '2026-03-01 10:00+00', '26:03:00', '\\x00ff', 0.1)")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes[1],
        "insert t [*id=1 at=2026-03-01 10:00:00+00 d=PT26H3M b=\\x00ff f=0.1]"
    );
    follower.stop().await;
}

/// A table that no rule reads existing rows of.
pub(crate) fn only_changes(table: &str) -> TableNeeds {
    TableNeeds {
        ops: [Op::Insert, Op::Update, Op::Delete].into_iter().collect(),
        ..needs(table)
    }
}
