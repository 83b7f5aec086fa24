//! `check`: everything at once, and its statements do what they say.

use rowbridge_api::{ColumnNeed, Finding, Severity, Source, TableNeeds, Type};
use rowbridge_postgres::{PostgresConfig, PostgresSource, PreviewPublication, PreviewSource};
use rowbridge_testbed::{PgVersion, Postgres};

use crate::follower::{Follower, needs, settings};
use crate::on_every_version;
use crate::server::Database;

on_every_version!(
    the_printed_statements_make_a_least_privileged_role_run,
    what_differs_from_the_schema_is_named,
    labels_of_enums_are_compared,
    a_preview_leaves_nothing_behind,
);

fn column(name: &str, ty: &str) -> ColumnNeed {
    ColumnNeed {
        name: name.to_owned(),
        ty: Type::parse(ty),
        labels: Vec::new(),
        before: true,
        rules: vec!["PriceChanged".to_owned()],
    }
}

fn mapped() -> Vec<TableNeeds> {
    vec![TableNeeds {
        columns: vec![column("id", "int4"), column("price", "numeric(10,2)")],
        ..needs("t")
    }]
}

async fn check(config: &PostgresConfig, pipeline: &str, needs: &[TableNeeds]) -> Vec<Finding> {
    PostgresSource::new(config.clone(), pipeline)
        .check(needs)
        .await
        .unwrap()
}

async fn the_printed_statements_make_a_least_privileged_role_run(version: PgVersion) {
    let db = Database::create(version).await;
    let role = format!("app_{}_{}", db.pipeline, version as u8);
    db.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric(10,2)); INSERT INTO t VALUES (1, 1); \
         CREATE ROLE {role} LOGIN"
    ))
    .await;
    let mut config = settings(&db.url);
    config.user = role;
    let findings = check(&config, &db.pipeline, &mapped()).await;
    let problems: Vec<&str> = findings
        .iter()
        .map(|finding| finding.problem.as_str())
        .collect();
    for part in [
        "may not replicate",
        "may not read table",
        "old values of price",
        "publication",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(part)),
            "{part}: {problems:#?}"
        );
    }
    for finding in &findings {
        db.run(&finding.fix).await;
    }
    assert_eq!(check(&config, &db.pipeline, &mapped()).await, []);
    let tables = mapped();
    let start = rowbridge_api::Start::FIRST;
    let mut follower = Follower::start(config, &db.pipeline, start, tables).await;
    assert_eq!(follower.snapshot().await.0, ["read t [*id=1 price=1.00]"]);
    db.run("UPDATE t SET price = 2").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["update t (*id=1 price=1.00) [*id=1 price=2.00]"]);
    follower.stop().await;
}

async fn what_differs_from_the_schema_is_named(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int, price text); ALTER TABLE t REPLICA IDENTITY FULL")
        .await;
    let mut tables = mapped();
    tables[0].columns.push(column("seat", "text"));
    tables.push(needs("missing"));
    let findings = check(&settings(&db.url), &db.pipeline, &tables).await;
    let errors: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.problem.as_str())
        .collect();
    assert_eq!(
        errors,
        [
            "column public.t.price is text in the database and numeric(10,2) in schema.toml; read by PriceChanged",
            "column public.t.seat does not exist; read by PriceChanged",
            "table public.missing does not exist",
        ]
    );
    let warnings = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning);
    let warnings: Vec<&str> = warnings.map(|finding| finding.problem.as_str()).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("no primary key"), "{warnings:?}");
}

async fn labels_of_enums_are_compared(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE TYPE status AS ENUM ('OPEN', 'FLOWN'); CREATE DOMAIN leg AS status; \
         CREATE TABLE t (id int PRIMARY KEY, same leg, fewer status, more status, plain text); \
         ALTER TABLE t REPLICA IDENTITY FULL",
    )
    .await;
    let labelled = |name: &str, labels: &[&str]| ColumnNeed {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..column(name, "text")
    };
    let tables = [TableNeeds {
        columns: vec![
            labelled("same", &["FLOWN", "OPEN"]),
            labelled("fewer", &["OPEN"]),
            labelled("more", &["OPEN", "FLOWN", "LOST"]),
            labelled("plain", &["OPEN"]),
        ],
        ..needs("t")
    }];
    let findings = check(&settings(&db.url), &db.pipeline, &tables).await;
    let told: Vec<_> = findings
        .iter()
        .map(|finding| {
            (
                finding.severity,
                finding.problem.as_str(),
                finding.fix.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                Severity::Warning,
                "the enum of column public.t.fewer also has FLOWN, which schema.toml does not list",
                "-- schema.toml, labels: fewer = [\"OPEN\", \"FLOWN\"]",
            ),
            (
                Severity::Error,
                "the enum of column public.t.more has no label LOST, which schema.toml lists; read by PriceChanged",
                "-- schema.toml, labels: more = [\"OPEN\", \"FLOWN\"]",
            ),
            (
                Severity::Warning,
                "schema.toml lists labels of public.t.plain, which is no enum: nothing keeps its values to them",
                "-- schema.toml: take plain out of the labels",
            ),
        ]
    );
}

async fn a_preview_leaves_nothing_behind(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let source = PreviewSource::new(
        settings(&db.url),
        &db.pipeline,
        PreviewPublication::Temporary,
    );
    let mut follower = Follower::with(source, rowbridge_api::Start::FIRST, vec![needs("t")]).await;
    crate::server::until("the preview to stream", || async {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE active AND temporary \
                      AND database = current_database() AND confirmed_flush_lsn IS NOT NULL";
        db.text(active).await.as_deref() == Some("1")
    })
    .await;
    db.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=1]"]);
    follower.stop().await;
    let left = "SELECT (SELECT count(*) FROM pg_publication) \
                || ' ' || (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    crate::server::until("the slot to vanish with its session", || async {
        db.text(left).await.as_deref() == Some("0 0")
    })
    .await;
}

#[tokio::test]
async fn a_server_without_logical_wal_is_told_how() {
    let server = Postgres::builder(PgVersion::V15)
        .setting("wal_level", "replica")
        .setting("synchronous_standby_names", "*")
        .setting("synchronous_commit", "local")
        .start()
        .await
        .unwrap();
    let db = Database::on(&server).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let findings = check(&settings(&db.url), &db.pipeline, &[needs("t")]).await;
    let fixes: Vec<&str> = findings
        .iter()
        .map(|finding| finding.fix.as_str())
        .collect();
    assert_eq!(
        fixes,
        [
            "ALTER SYSTEM SET wal_level = 'logical';",
            "ALTER SYSTEM SET synchronous_standby_names = '';",
        ]
    );
    for fix in fixes {
        db.run(fix).await;
    }
}
