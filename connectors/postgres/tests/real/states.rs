//! What is refused, by name, and who waits for whom.

use rowbridge_api::{
    Claim, Identity, Ownership, Position, Remembers, Source, SourceError, Start, State,
};
use rowbridge_postgres::{PostgresSource, Removal, drop_slot_and_publication, slot_state};
use rowbridge_testbed::{PgVersion, Postgres};

use crate::follower::{Follower, needs, settings};
use crate::on_every_version;
use crate::server::{Database, until};
use crate::streaming::only_changes;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

on_every_version!(
    a_slot_advanced_by_somebody_else_is_a_gap,
    a_dropped_slot_is_lost,
    a_recreated_slot_is_a_gap,
    another_database_is_the_wrong_source,
    a_position_past_the_servers_history_is_refused,
    a_dropped_publication_is_noticed_while_streaming_and_at_start,
    a_table_taken_out_is_noticed_and_a_new_one_joins,
    the_second_instance_stands_by_and_takes_over,
    two_first_starts_do_not_race,
    drop_removes_slot_and_publication_but_not_under_a_running_instance,
);

/// A pipeline that ran and stopped: where it was.
pub(crate) async fn ran(db: &Database) -> (Position, Identity) {
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1)").await;
    let (_, position) = follower.transaction().await;
    let identity = follower.identity.clone();
    follower.stop().await;
    (position, identity)
}

async fn refusal(db: &Database, position: Position, recorded: Identity) -> (State, String) {
    let start = Start::Resume { position, recorded };
    let tables = vec![needs("t")];
    let follower = Follower::start(settings(&db.url), &db.pipeline, start, tables).await;
    refused(follower.error().await)
}

pub(crate) fn refused(error: SourceError) -> (State, String) {
    match error {
        SourceError::Refused {
            state,
            problem,
            hint,
        } => (state, format!("{problem} / {hint}")),
        other @ SourceError::Transient { .. } => panic!("not refused: {other}"),
    }
}

async fn a_slot_advanced_by_somebody_else_is_a_gap(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    db.run("INSERT INTO t VALUES (2)").await;
    db.run(&format!(
        "SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())",
        db.slot()
    ))
    .await;
    let advanced = db.confirmed().await.unwrap();
    let (state, text) = refusal(&db, position.clone(), identity).await;
    assert_eq!(state, State::Gap);
    assert!(text.contains(&position.to_string()), "from where: {text}");
    assert!(
        text.contains(&format!("position set {advanced} --accept-gap")),
        "{text}"
    );
}

async fn a_dropped_slot_is_lost(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    db.run(&format!("SELECT pg_drop_replication_slot('{}')", db.slot()))
        .await;
    let (state, text) = refusal(&db, position, identity).await;
    assert_eq!(state, State::SlotLost, "{text}");
}

async fn a_recreated_slot_is_a_gap(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    db.run(&format!("SELECT pg_drop_replication_slot('{}')", db.slot()))
        .await;
    db.run("INSERT INTO t VALUES (2)").await;
    db.run(&format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        db.slot()
    ))
    .await;
    let (state, text) = refusal(&db, position, identity).await;
    assert_eq!(state, State::Gap, "{text}");
}

async fn another_database_is_the_wrong_source(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    let recorded = Identity {
        source: "postgres/1/elsewhere".to_owned(),
        ..identity
    };
    let (state, text) = refusal(&db, position, recorded).await;
    assert_eq!(state, State::WrongSource);
    assert!(text.contains("postgres/1/elsewhere"), "{text}");
}

async fn a_position_past_the_servers_history_is_refused(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    let future = Position::new(position.order() + (1 << 40));
    let (state, text) = refusal(&db, future, identity).await;
    assert_eq!(state, State::TimelineDiverged, "{text}");
}

async fn a_dropped_publication_is_noticed_while_streaming_and_at_start(version: PgVersion) {
    let db = Database::create(version).await;
    let (position, identity) = ran(&db).await;
    let start = Start::Resume {
        position: position.clone(),
        recorded: identity.clone(),
    };
    let follower = Follower::start(settings(&db.url), &db.pipeline, start, vec![needs("t")]).await;
    db.run(&format!("DROP PUBLICATION {}", db.slot())).await;
    db.run("INSERT INTO t VALUES (2)").await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::PublicationChanged, "while streaming: {text}");
    let (state, text) = refusal_or_ownership(&db, position, identity).await;
    assert_eq!(state, State::PublicationChanged, "at start: {text}");
}

/// The walsender may fail before `run` compares: both must say the same.
async fn refusal_or_ownership(
    db: &Database,
    position: Position,
    recorded: Identity,
) -> (State, String) {
    let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
    let config = settings(&db.url);
    until("the slot to be free", || async {
        let state = slot_state(&config, &db.pipeline).await.unwrap();
        state.unwrap().holder.is_none()
    })
    .await;
    match source.own().await {
        Ok(_) => drop(source),
        Err(error) => return refused(error),
    }
    refusal(db, position, recorded).await
}

async fn a_table_taken_out_is_noticed_and_a_new_one_joins(version: PgVersion) {
    let db = Database::create(version).await;
    let (first, recorded) = ran(&db).await;
    db.run("CREATE TABLE u (id int PRIMARY KEY)").await;
    let tables = vec![needs("t"), only_changes("u")];
    let start = Start::Resume {
        position: first,
        recorded: recorded.clone(),
    };
    let mut follower = Follower::start(settings(&db.url), &db.pipeline, start, tables).await;
    until("u to join the publication", || async {
        let count = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'u'";
        db.text(count).await.as_deref() == Some("1")
    })
    .await;
    db.run("INSERT INTO u VALUES (1)").await;
    let (changes, _) = follower.transaction().await;
    assert_eq!(changes, ["insert u [*id=1]"]);
    let position = follower.stop().await;
    db.run(&format!("ALTER PUBLICATION {} DROP TABLE t", db.slot()))
        .await;
    let (state, text) = refusal(&db, position, recorded).await;
    assert_eq!(state, State::PublicationChanged);
    assert!(text.contains("ADD TABLE ONLY \"public\".\"t\""), "{text}");
}

async fn the_second_instance_stands_by_and_takes_over(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut first = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    first.snapshot().await;
    let mut second = PostgresSource::new(settings(&db.url), &db.pipeline);
    match second.own().await.unwrap() {
        Claim::Standby { holder } => assert!(holder.contains("rowbridge"), "{holder}"),
        claim => panic!("both own the slot: {claim:?}"),
    }
    first.kill().await;
    let mut claim = second.own().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while matches!(claim, Claim::Standby { .. }) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "take-over within 5 s"
        );
        claim = second.own().await.unwrap();
    }
    assert!(
        matches!(&claim, Claim::Owned(owned) if owned.remembers != Remembers::Nothing),
        "{claim:?}"
    );
}

async fn two_first_starts_do_not_race(version: PgVersion) {
    let db = Database::create(version).await;
    let mut first = PostgresSource::new(settings(&db.url), &db.pipeline);
    let mut second = PostgresSource::new(settings(&db.url), &db.pipeline);
    assert!(matches!(
        first.own().await.unwrap(),
        Claim::Owned(Ownership {
            remembers: Remembers::Nothing,
            ..
        })
    ));
    assert!(matches!(second.own().await.unwrap(), Claim::Standby { .. }));
    // Trying again while it is still held must not fool the holder.
    assert!(matches!(
        first.own().await.unwrap(),
        Claim::Owned(Ownership {
            remembers: Remembers::Nothing,
            ..
        })
    ));
    drop(first);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while matches!(second.own().await.unwrap(), Claim::Standby { .. }) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the lock is free within 5 s"
        );
    }
    assert!(matches!(
        second.own().await.unwrap(),
        Claim::Owned(Ownership {
            remembers: Remembers::Nothing,
            ..
        })
    ));
}

async fn drop_removes_slot_and_publication_but_not_under_a_running_instance(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let config = settings(&db.url);
    let mut follower = Follower::first(config.clone(), &db.pipeline, "t").await;
    follower.snapshot().await;
    let error = drop_slot_and_publication(&config, &db.pipeline)
        .await
        .unwrap_err();
    assert_eq!(refused(error).0, State::Invalid);
    follower.stop().await;
    until("the slot to be free", || async {
        let state = slot_state(&config, &db.pipeline).await.unwrap();
        state.unwrap().holder.is_none()
    })
    .await;
    let removals = drop_slot_and_publication(&config, &db.pipeline)
        .await
        .unwrap();
    assert_eq!(removals.slot, Removal::Removed);
    assert_eq!(removals.publication, Removal::Removed);
    assert_eq!(db.confirmed().await, None);
}

#[tokio::test]
async fn where_we_would_be_a_synchronous_standby_nothing_streams() {
    let server = Postgres::start(PgVersion::V15).await.unwrap();
    let db = Database::on(&server).await;
    db.run(TABLE).await;
    let mut config = settings(&db.url);
    config.limits.watch_interval = std::time::Duration::from_millis(50);
    let mut follower = Follower::first(config, &db.pipeline, "t").await;
    follower.snapshot().await;
    // As somebody does who adds the first standby. This session itself must not wait for it.
    let set = |names: &str| {
        let url = db.url.clone();
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        async move {
            Postgres::sql_at(&url, &set).await.unwrap();
            Postgres::sql_at(&url, "SELECT pg_reload_conf()")
                .await
                .unwrap();
        }
    };
    set("FIRST 1 (*)").await;
    let (state, text) = refused(follower.error().await);
    assert_eq!(state, State::Invalid, "while streaming: {text}");
    let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
    let (state, text) = refused(source.own().await.unwrap_err());
    assert_eq!(state, State::Invalid, "at start: {text}");
    assert!(text.contains("synchronous_standby_names = ''"), "{text}");
    let senders = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    until("our walsender to be gone", || async {
        db.text(senders).await.as_deref() == Some("0")
    })
    .await;
    set("rowbridge_standby").await;
    until("the setting to be read", || async {
        let mut source = PostgresSource::new(settings(&db.url), &db.pipeline);
        source.own().await.is_ok()
    })
    .await;
}
