//! Publications as they are met in old databases: made by others, narrowed, renamed under us.

use std::time::Duration;

use rowbridge_api::{ColumnNeed, Op, Severity, Source, Start, State, TableName, TableNeeds, Type};
use rowbridge_postgres::{PostgresSource, accept_publication};
use rowbridge_testbed::PgVersion;

use crate::follower::{Follower, needs, settings};
use crate::server::Database;
use crate::states::refused;
use crate::{on_every_version, on_versions_since_15};

on_every_version!(
    a_role_that_may_create_nothing_runs_on_what_the_dba_made,
    names_with_capitals_dots_spaces_and_quotes,
    a_table_made_again_is_not_the_one_that_was_published,
    a_publication_of_all_tables_goes_on_with_a_table_made_again,
    a_table_that_left_and_came_back_is_noticed,
    inheritance_children_are_tables_of_their_own,
);
on_versions_since_15!(
    a_row_filter_and_a_column_list_hold_for_snapshot_and_stream,
    another_row_filter_is_noticed_while_streaming,
);

async fn a_role_that_may_create_nothing_runs_on_what_the_dba_made(version: PgVersion) {
    let db = Database::create(version).await;
    let role = format!("plain_{}_{}", db.pipeline, version.major());
    db.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); \
         CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON t TO {role}"
    ))
    .await;
    let mut config = settings(&db.url);
    config.user = role;
    config.create_publication = false;
    config.create_slot = false;
    let mut source = PostgresSource::new(config.clone(), &db.pipeline);
    let findings = source.check(&[needs("t")]).await.unwrap();
    assert_eq!(findings.len(), 2, "publication and slot: {findings:#?}");
    let start = |config| Follower::first(config, &db.pipeline, "t");
    let (state, text) = refused(start(config.clone()).await.error().await);
    assert_eq!(state, State::Invalid, "{text}");
    for finding in &findings {
        let fix = &finding.fix;
        assert!(
            fix.starts_with("CREATE PUBLICATION") || fix.starts_with("SELECT pg_create"),
            "{fix}"
        );
        // The refusal's hint and the finding say the same, one after the other.
        let (_, text) = refused(start(config.clone()).await.error().await);
        assert!(text.contains(fix), "{fix} is not in {text}");
        db.run(fix).await;
    }
    assert_eq!(source.check(&[needs("t")]).await.unwrap(), []);
    db.run("INSERT INTO t VALUES (2)").await;
    let mut follower = start(config).await;
    assert_eq!(
        follower.snapshot().await.0,
        ["read t [*id=1]", "read t [*id=2]"]
    );
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        ["insert t [*id=2]"],
        "all since the slot was made, as after an interrupted first start"
    );
    db.run("INSERT INTO t VALUES (3)").await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=3]"]);
    follower.stop().await;
}

async fn names_with_capitals_dots_spaces_and_quotes(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE SCHEMA \"Old.Sales\"; \
         CREATE TABLE \"Old.Sales\".\"Order Lines, 2019 \"\"final\"\"\" (\"Ln No.\" int PRIMARY KEY, \"Größe\" text); \
         INSERT INTO \"Old.Sales\".\"Order Lines, 2019 \"\"final\"\"\" VALUES (1, 'a')",
    )
    .await;
    let tables = vec![TableNeeds {
        table: TableName::new("Old.Sales", "Order Lines, 2019 \"final\""),
        key: vec!["Ln No.".to_owned()],
        ..needs("t")
    }];
    let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
    assert_eq!(source.check(&tables).await.unwrap(), []);
    let start = Start::FIRST;
    let mut follower =
        Follower::start(settings(&db.url), &db.pipeline, start, tables.clone()).await;
    assert_eq!(
        follower.snapshot().await.0,
        ["read Order Lines, 2019 \"final\" [*Ln No.=1 Größe=a]"]
    );
    db.run("UPDATE \"Old.Sales\".\"Order Lines, 2019 \"\"final\"\"\" SET \"Größe\" = 'b'")
        .await;
    let (changes, position) = follower.transaction().await;
    assert_eq!(
        changes,
        ["update Order Lines, 2019 \"final\" (*Ln No.=1 Größe=?) [*Ln No.=1 Größe=b]"]
    );
    let recorded = follower.identity.clone();
    follower.stop().await;
    db.run(&format!(
        "ALTER PUBLICATION {} DROP TABLE \"Old.Sales\".\"Order Lines, 2019 \"\"final\"\"\"",
        db.slot()
    ))
    .await;
    let start = Start::Resume { position, recorded };
    let follower = Follower::start(settings(&db.url), &db.pipeline, start, tables).await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::PublicationChanged, "{text}");
}

async fn a_table_made_again_is_not_the_one_that_was_published(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut config = settings(&db.url);
    config.limits.watch_interval = Duration::from_millis(50);
    let mut follower = Follower::first(config, &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::PublicationChanged, "{text}");
    assert!(text.contains("ADD TABLE ONLY \"public\".\"t\""), "{text}");
}

async fn a_publication_of_all_tables_goes_on_with_a_table_made_again(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    db.run(&format!(
        "CREATE PUBLICATION {} FOR ALL TABLES WITH (publish_via_partition_root = true)",
        db.slot()
    ))
    .await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1)").await;
    db.run("DROP TABLE t; CREATE TABLE t (note text, id int PRIMARY KEY); INSERT INTO t VALUES ('new', 2)")
        .await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=1]"]);
    assert_eq!(
        follower.transaction().await.0,
        ["insert t [note=new *id=2]"]
    );
    follower.stop().await;
}

async fn a_table_that_left_and_came_back_is_noticed(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (0)").await;
    follower.transaction().await;
    let recorded = follower.identity.clone();
    let position = follower.stop().await;
    let slot = db.slot();
    db.run(&format!("ALTER PUBLICATION {slot} DROP TABLE t"))
        .await;
    db.run("INSERT INTO t VALUES (1)").await;
    db.run(&format!("ALTER PUBLICATION {slot} ADD TABLE t"))
        .await;
    let start = Start::Resume { position, recorded };
    let again = || {
        let (config, start) = (settings(&db.url), start.clone());
        Follower::start(config, &db.pipeline, start, vec![needs("t")])
    };
    let (state, text) = refused(again().await.error().await);
    assert_eq!(state, State::PublicationChanged, "{text}");
    assert!(text.contains("joined it again"), "{text}");
    accept_publication(&settings(&db.url), &db.pipeline)
        .await
        .unwrap();
    let mut follower = again().await;
    db.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=2]"]);
    follower.stop().await;
}

async fn inheritance_children_are_tables_of_their_own(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE t_2019 () INHERITS (t); \
         INSERT INTO t VALUES (1); INSERT INTO t_2019 VALUES (2)",
    )
    .await;
    let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
    let findings = source.check(&[needs("t")]).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(
        findings[0].problem.contains("public.t_2019"),
        "{findings:#?}"
    );
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    assert_eq!(follower.snapshot().await.0, ["read t [*id=1]"]);
    // The child has no key: were it published, its updates would fail.
    db.run("UPDATE t SET id = id + 10").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["update t (*id=1) [*id=11]"]);
    follower.stop().await;
}

async fn a_row_filter_and_a_column_list_hold_for_snapshot_and_stream(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(
        "CREATE TABLE t (id int, region text, v text, secret text, PRIMARY KEY (id, region)); \
         INSERT INTO t VALUES (1, 'eu', 'a', 's'), (2, 'us', 'b', 's')",
    )
    .await;
    db.run(&format!(
        "CREATE PUBLICATION {} FOR TABLE t (v, id, region) WHERE (region = 'eu')",
        db.slot()
    ))
    .await;
    let reads_secret = TableNeeds {
        columns: vec![ColumnNeed {
            name: "secret".to_owned(),
            ty: Type::parse("text"),
            labels: Vec::new(),
            before: false,
            rules: vec!["Told".to_owned()],
        }],
        ..needs("t")
    };
    let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
    let findings = source.check(&[reads_secret]).await.unwrap();
    let told = |severity: Severity, part: &str| {
        let mut findings = findings.iter();
        findings.any(|finding| finding.severity == severity && finding.problem.contains(part))
    };
    assert!(
        told(Severity::Error, "leaves out columns secret"),
        "{findings:#?}"
    );
    assert!(told(Severity::Warning, "row filter"), "{findings:#?}");
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    assert_eq!(
        follower.snapshot().await.0,
        ["read t [*id=1 region=eu v=a]"]
    );
    db.run(
        "INSERT INTO t VALUES (3, 'us', 'c', 's'), (4, 'eu', 'd', 's'); \
         UPDATE t SET v = 'x' WHERE id IN (1, 2); UPDATE t SET region = 'eu' WHERE id = 2; \
         UPDATE t SET region = 'us' WHERE id = 1; DELETE FROM t",
    )
    .await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(
        changes,
        [
            "insert t [*id=4 region=eu v=d]",
            "update t (*id=1 region=eu v=?) [*id=1 region=eu v=x]",
            "insert t [*id=2 region=eu v=x]",
            "delete t (*id=1 region=eu v=?)",
            "delete t (*id=4 region=eu v=?)",
            "delete t (*id=2 region=eu v=?)",
        ]
    );
    follower.stop().await;
}

async fn another_row_filter_is_noticed_while_streaming(version: PgVersion) {
    let db = Database::create(version).await;
    db.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut config = settings(&db.url);
    config.limits.watch_interval = Duration::from_millis(50);
    let inserts = TableNeeds {
        ops: [Op::Insert].into_iter().collect(),
        ..needs("t")
    };
    let mut follower = Follower::start(config, &db.pipeline, Start::FIRST, vec![inserts]).await;
    follower.snapshot().await;
    db.run(&format!(
        "ALTER PUBLICATION {} SET TABLE t WHERE (id > 10)",
        db.slot()
    ))
    .await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::PublicationChanged, "{text}");
    assert!(text.contains("row filter"), "{text}");
}
