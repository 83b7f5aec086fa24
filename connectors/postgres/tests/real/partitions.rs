//! Partitioned tables: the root is the table, whatever its leaves do.

use rowbridge_api::{Op, Source, SourceError, Start, State, TableNeeds};
use rowbridge_postgres::PostgresSource;
use rowbridge_testbed::PgVersion;

use crate::follower::{Follower, needs, settings};
use crate::server::Database;
use crate::{on_every_version, on_oldest_and_newest_too, on_versions_since_15};

const TABLE: &str = "CREATE TABLE t (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
     CREATE TABLE jan PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); \
     CREATE TABLE feb PARTITION OF t FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY HASH (id); \
     CREATE TABLE feb0 PARTITION OF feb FOR VALUES WITH (MODULUS 1, REMAINDER 0);";

on_every_version!(
    a_leaf_without_full_never_sends_a_null_for_what_it_did_not_send,
    what_triggers_write_between_does_not_part_a_moved_row,
    another_key_or_another_table_is_not_a_moved_row,
    a_truncated_leaf_is_not_in_the_stream_and_check_says_so,
    a_publication_of_the_leaves_is_refused_with_the_statement,
);
on_oldest_and_newest_too!(
    all_leaves_are_the_root,
    a_row_that_moves_to_another_partition_is_one_update,
);

on_versions_since_15!(a_leaf_of_another_layout_has_the_columns_of_the_root);

async fn all_leaves_are_the_root(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run("INSERT INTO t VALUES (1, '2026-01-31', 'a'), (2, '2026-02-01', 'b')")
        .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (mut rows, _) = follower.snapshot().await;
    rows.sort();
    assert_eq!(
        rows,
        [
            "read t [*id=1 day=2026-01-31 v=a]",
            "read t [*id=2 day=2026-02-01 v=b]"
        ]
    );
    db.run(
        "CREATE TABLE mar (id int NOT NULL, day date NOT NULL, v text); \
         ALTER TABLE t ATTACH PARTITION mar FOR VALUES FROM ('2026-03-01') TO ('2026-04-01'); \
         INSERT INTO t VALUES (3, '2026-03-01', 'c'); INSERT INTO mar VALUES (4, '2026-03-02', 'd'); \
         UPDATE t SET v = 'x' WHERE id < 3; DELETE FROM t WHERE id = 3",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=3 day=2026-03-01 v=c]",
            "insert t [*id=4 day=2026-03-02 v=d]",
            "update t (*id=1 day=2026-01-31 v=?) [*id=1 day=2026-01-31 v=x]",
            "update t (*id=2 day=2026-02-01 v=?) [*id=2 day=2026-02-01 v=x]",
            "delete t (*id=3 day=2026-03-01 v=?)",
        ]
    );
    follower.stop().await;
}

async fn a_leaf_of_another_layout_has_the_columns_of_the_root(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run(
        "CREATE TABLE mar (v text, gone int, day date NOT NULL, id int NOT NULL); ALTER TABLE mar DROP gone; \
         ALTER TABLE t ATTACH PARTITION mar FOR VALUES FROM ('2026-03-01') TO ('2026-04-01'); \
         INSERT INTO t VALUES (3, '2026-03-01', 'c'); INSERT INTO mar VALUES ('d', '2026-03-02', 4); \
         DELETE FROM t WHERE id = 3",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=3 day=2026-03-01 v=c]",
            "insert t [*id=4 day=2026-03-02 v=d]",
            "delete t (*id=3 day=2026-03-01 v=?)",
        ]
    );
    follower.stop().await;
}

async fn a_leaf_without_full_never_sends_a_null_for_what_it_did_not_send(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run(
        "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE jan REPLICA IDENTITY FULL; \
         INSERT INTO t SELECT n, '2026-01-01', 'j' FROM generate_series(1, 3) n; \
         INSERT INTO t SELECT n, '2026-02-01', 'f' FROM generate_series(11, 14) n",
    )
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run(
        "UPDATE t SET v = 'x' WHERE id = 1; UPDATE t SET v = 'x' WHERE id = 11; \
         UPDATE t SET id = 21 WHERE id = 12; DELETE FROM t WHERE id = 13; DELETE FROM t WHERE id = 2",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "update t (*id=1 day=2026-01-01 v=j) [*id=1 day=2026-01-01 v=x]",
            "update t (*id=11 day=2026-02-01 v=?) [*id=11 day=2026-02-01 v=x]",
            "update t (*id=12 day=2026-02-01 v=?) [*id=21 day=2026-02-01 v=f]",
            "delete t (*id=13 day=2026-02-01 v=?)",
            "delete t (*id=2 day=2026-01-01 v=j)",
        ]
    );
    db.run(
        "ALTER TABLE feb0 REPLICA IDENTITY FULL; UPDATE t SET v = NULL WHERE id = 14; DELETE FROM t WHERE id = 14",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "update t (*id=14 day=2026-02-01 v=f) [*id=14 day=2026-02-01 v=null]",
            "delete t (*id=14 day=2026-02-01 v=null)",
        ],
        "once it sends all, its nulls are nulls"
    );
    follower.stop().await;
}

async fn a_row_that_moves_to_another_partition_is_one_update(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run(
        "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE jan REPLICA IDENTITY FULL; \
         ALTER TABLE feb0 REPLICA IDENTITY FULL; \
         INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, '2026-01-02', 'b')",
    )
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("UPDATE t SET day = day + 31, v = 'moved'; UPDATE t SET v = 'stays' WHERE id = 1")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "update t (*id=1 day=2026-01-01 v=a) [*id=1 day=2026-02-01 v=moved]",
            "update t (*id=2 day=2026-01-02 v=b) [*id=2 day=2026-02-02 v=moved]",
            "update t (*id=1 day=2026-02-01 v=moved) [*id=1 day=2026-02-01 v=stays]",
        ]
    );
    assert_eq!(follower.last_ordinal, 4, "both halves of a move count");
    follower.stop().await;
}

/// Triggers that write to `audit` on every delete and insert of a leaf.
const AUDIT: &str = "CREATE TABLE audit (id serial PRIMARY KEY, what text); \
     CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     INSERT INTO public.audit (what) VALUES (TG_OP); RETURN coalesce(NEW, OLD); END $$; \
     CREATE TRIGGER note BEFORE INSERT OR DELETE ON jan FOR EACH ROW EXECUTE FUNCTION note(); \
     CREATE TRIGGER note BEFORE INSERT OR DELETE ON feb0 FOR EACH ROW EXECUTE FUNCTION note();";

async fn what_triggers_write_between_does_not_part_a_moved_row(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run(AUDIT).await;
    db.run("INSERT INTO t VALUES (1, '2026-01-01', 'a')").await;
    let tables = vec![needs("t"), needs("audit")];
    let mut follower = Follower::start(settings(&db.url), &db.pipeline, Start::FIRST, tables).await;
    follower.snapshot().await;
    db.run("UPDATE t SET day = '2026-02-01'").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert audit [*id=2 what=DELETE]",
            "insert audit [*id=3 what=INSERT]",
            "update t (*id=1 day=2026-01-01 v=?) [*id=1 day=2026-02-01 v=a]",
        ]
    );
    follower.stop().await;
}

async fn another_key_or_another_table_is_not_a_moved_row(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run(
        "CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1); \
         INSERT INTO t VALUES (1, '2026-01-01', 'a'), (2, '2026-01-02', 'b')",
    )
    .await;
    let tables = vec![needs("t"), needs("plain")];
    let mut follower = Follower::start(settings(&db.url), &db.pipeline, Start::FIRST, tables).await;
    follower.snapshot().await;
    db.run(
        "DELETE FROM plain; INSERT INTO plain VALUES (1); \
         DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, '2026-02-01', 'c'); DELETE FROM t WHERE id = 2",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "delete plain (*id=1)",
            "insert plain [*id=1]",
            "delete t (*id=1 day=2026-01-01 v=?)",
            "insert t [*id=3 day=2026-02-01 v=c]",
            "delete t (*id=2 day=2026-01-02 v=?)",
        ]
    );
    db.run("INSERT INTO t VALUES (2, '2026-01-02', 'b')").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        ["insert t [*id=2 day=2026-01-02 v=b]"],
        "a move never spans transactions"
    );
    follower.stop().await;
}

async fn a_truncated_leaf_is_not_in_the_stream_and_check_says_so(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let findings = PostgresSource::new(settings(&db.url), &db.pipeline)
        .check(&[needs("t")])
        .await
        .unwrap();
    let problems: Vec<&str> = findings.iter().map(|finding| &*finding.problem).collect();
    let told = |part| problems.iter().any(|problem| problem.contains(part));
    assert!(
        told("truncated, dropped or detached partition"),
        "{problems:#?}"
    );
    assert!(!told("includes day"), "{problems:#?}");
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, '2026-01-01', 'a'); TRUNCATE jan; INSERT INTO t VALUES (2, '2026-02-01', 'b')")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=1 day=2026-01-01 v=a]",
            "insert t [*id=2 day=2026-02-01 v=b]"
        ]
    );
    db.run("TRUNCATE t").await;
    assert_eq!(follower.transaction().await.0, ["truncate t"]);
    follower.stop().await;
}

async fn a_publication_of_the_leaves_is_refused_with_the_statement(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    db.run(&format!("CREATE PUBLICATION {} FOR TABLE t", db.slot()))
        .await;
    let of_root = TableNeeds {
        ops: [Op::Insert].into_iter().collect(),
        key: Vec::new(),
        ..needs("t")
    };
    let findings = PostgresSource::new(settings(&db.url), &db.pipeline)
        .check(std::slice::from_ref(&of_root))
        .await
        .unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(
        findings[0].problem.contains("under their own names"),
        "{findings:#?}"
    );
    let tables = vec![of_root];
    let follower = Follower::start(
        settings(&db.url),
        &db.pipeline,
        Start::FIRST,
        tables.clone(),
    )
    .await;
    match follower.error().await {
        SourceError::Refused { state, hint, .. } => {
            assert_eq!(state, State::PublicationChanged);
            assert!(hint.starts_with(&findings[0].fix), "{hint}");
        }
        other @ SourceError::Transient { .. } => panic!("not refused: {other}"),
    }
    db.run(&findings[0].fix).await;
    let mut follower = Follower::start(settings(&db.url), &db.pipeline, Start::FIRST, tables).await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, '2026-01-01', 'a')").await;
    assert_eq!(
        follower.transaction().await.0,
        ["insert t [*id=1 *day=2026-01-01 v=a]"]
    );
    follower.stop().await;
}
