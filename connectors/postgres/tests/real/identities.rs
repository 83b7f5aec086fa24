//! Replica identities: what each kind sends, what `check` says of it, and that the source is never broken.

use rowbridge_api::{ColumnNeed, Finding, Op, Severity, Source, Start, State, TableNeeds, Type};
use rowbridge_postgres::PostgresSource;
use rowbridge_testbed::PgVersion;

use crate::follower::{Follower, needs, settings};
use crate::on_every_version;
use crate::server::Database;
use crate::states::refused;

on_every_version!(
    a_table_without_identity_is_refused_before_its_updates_fail,
    a_new_table_without_identity_does_not_join,
    an_identity_by_index_sends_that_index_alone,
    without_a_primary_key_full_and_the_mappings_key_are_enough,
    a_publication_of_inserts_needs_no_identity,
);

/// A rule reads the old value of each of `columns`.
fn reads_old(columns: &[&str], ops: &[Op]) -> TableNeeds {
    let columns = columns.iter().map(|name| ColumnNeed {
        name: (*name).to_owned(),
        ty: Type::parse("text"),
        labels: Vec::new(),
        before: true,
        rules: vec!["Moved".to_owned()],
    });
    TableNeeds {
        columns: columns.collect(),
        ops: ops.iter().copied().collect(),
        ..needs("t")
    }
}

async fn check(db: &Database, needs: TableNeeds) -> Vec<Finding> {
    PostgresSource::new(settings(&db.url), &db.pipeline)
        .check(&[needs])
        .await
        .unwrap()
}

fn errors(findings: &[Finding]) -> Vec<&str> {
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.problem.as_str()).collect()
}

async fn a_table_without_identity_is_refused_before_its_updates_fail(version: PgVersion) {
    let db = Database::create(version).await;
    for (table, fix) in [
        (
            "CREATE TABLE t (id text)",
            "ALTER TABLE public.t REPLICA IDENTITY FULL;",
        ),
        (
            "CREATE TABLE t (id text PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
            "ALTER TABLE public.t REPLICA IDENTITY FULL;",
        ),
        (
            "CREATE TABLE t (id text PRIMARY KEY DEFERRABLE)",
            "ALTER TABLE public.t REPLICA IDENTITY FULL;",
        ),
        (
            "CREATE TABLE t (id text) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF t DEFAULT",
            "ALTER TABLE public.leaf REPLICA IDENTITY FULL;",
        ),
    ] {
        db.run("DROP TABLE IF EXISTS t").await;
        db.run(table).await;
        db.run("INSERT INTO t VALUES ('a')").await;
        let inserts = reads_old(&[], &[Op::Insert]);
        let findings = check(&db, inserts.clone()).await;
        assert_eq!(findings.len(), 1 + warnings(&findings), "{findings:#?}");
        let finding = findings
            .iter()
            .find(|finding| finding.severity == Severity::Error)
            .unwrap();
        assert!(
            finding.problem.contains("no replica identity"),
            "{finding:?}"
        );
        assert_eq!(finding.fix, fix, "{table}");
        assert!(finding.cost.is_some(), "{finding:?}");
        let start = Start::FIRST;
        let follower = Follower::start(settings(&db.url), &db.pipeline, start, vec![inserts]).await;
        let (state, text) = refused(follower.error().await);
        assert_eq!(state, State::Invalid, "{text}");
        assert!(text.contains(fix), "{text}");
        db.run("UPDATE t SET id = 'b'").await;
        let made = db.text("SELECT count(*) FROM pg_publication").await;
        assert_eq!(made.as_deref(), Some("0"), "nothing was created");
    }
}

fn warnings(findings: &[Finding]) -> usize {
    findings.len() - errors(findings).len()
}

async fn a_new_table_without_identity_does_not_join(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE log (id int)")
        .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    let (_, position) = follower.snapshot().await;
    let recorded = follower.kill().await;
    let start = Start::Resume { position, recorded };
    let tables = vec![needs("t"), needs("log")];
    let follower = Follower::start(settings(&db.url), &db.pipeline, start, tables).await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::Invalid, "{text}");
    db.run("INSERT INTO log VALUES (1); UPDATE log SET id = 2")
        .await;
}

async fn an_identity_by_index_sends_that_index_alone(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE TABLE t (id text PRIMARY KEY, code text NOT NULL, v text); \
         CREATE UNIQUE INDEX by_code ON t (code); ALTER TABLE t REPLICA IDENTITY USING INDEX by_code; \
         INSERT INTO t VALUES ('1', 'a', 'x'), ('2', 'b', 'y')",
    )
    .await;
    let code = check(&db, reads_old(&["code"], &[Op::Update, Op::Delete])).await;
    assert_eq!(errors(&code), [""; 0], "the index has what is read");
    let more = check(&db, reads_old(&["id", "code", "v"], &[Op::Delete])).await;
    assert_eq!(
        errors(&more),
        ["table public.t does not send the old values of id, v, which Moved read"]
    );
    assert_eq!(
        more[0].fix,
        "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL;"
    );
    assert!(more[0].cost.is_some());
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run(
        "UPDATE t SET v = NULL WHERE id = '1'; UPDATE t SET code = 'c' WHERE id = '1'; \
         UPDATE t SET id = '9' WHERE id = '2'; DELETE FROM t WHERE id = '1'",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "update t (*id=? code=a v=?) [*id=1 code=a v=null]",
            "update t (*id=? code=a v=?) [*id=1 code=c v=null]",
            "update t (*id=? code=b v=?) [*id=9 code=b v=y]",
            "delete t (*id=? code=c v=?)",
        ]
    );
    follower.stop().await;
}

async fn without_a_primary_key_full_and_the_mappings_key_are_enough(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'a')")
        .await;
    let keyless = TableNeeds {
        key: Vec::new(),
        ..needs("t")
    };
    assert_eq!(
        errors(&check(&db, keyless).await),
        ["table public.t has no primary key and the mapping names no key"]
    );
    assert_eq!(errors(&check(&db, needs("t")).await), [""; 0]);
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    assert_eq!(follower.snapshot().await.0, ["read t [*id=1 v=a]"]);
    db.run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = NULL; DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)")
        .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=1 v=a]",
            "update t (*id=1 v=a) [*id=1 v=null]",
            "update t (*id=1 v=a) [*id=1 v=null]",
            "delete t (*id=1 v=null)",
        ],
        "two rows that are the same are still two"
    );
    follower.stop().await;
}

async fn a_publication_of_inserts_needs_no_identity(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int)").await;
    let inserts = |table: &str| TableNeeds {
        ops: [Op::Insert].into_iter().collect(),
        ..needs(table)
    };
    db.run(&format!(
        "CREATE PUBLICATION {} FOR TABLE t WITH (publish = 'insert')",
        db.slot()
    ))
    .await;
    let mut config = settings(&db.url);
    config.create_publication = false;
    assert_eq!(errors(&check(&db, inserts("t")).await), [""; 0]);
    let needs_more = check(&db, needs("t")).await;
    assert_eq!(
        errors(&needs_more),
        [format!(
            "publication {} does not publish update, delete, truncate, which rules fire on",
            db.slot()
        )]
    );
    let follower =
        Follower::start(config.clone(), &db.pipeline, Start::FIRST, vec![needs("t")]).await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::PublicationChanged, "{text}");
    let mut follower =
        Follower::start(config, &db.pipeline, Start::FIRST, vec![inserts("t")]).await;
    follower.snapshot().await;
    db.run(
        "INSERT INTO t VALUES (1); UPDATE t SET id = 2; DELETE FROM t; INSERT INTO t VALUES (3)",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["insert t [*id=1]", "insert t [*id=3]"]);
    follower.stop().await;
    let more = needs_more
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    db.run(&more.unwrap().fix).await;
    let now = check(&db, inserts("t")).await;
    let problems = errors(&now);
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("no replica identity")),
        "{now:#?}"
    );
}
