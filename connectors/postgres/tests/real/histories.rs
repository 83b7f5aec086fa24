//! Servers whose history is not the one that was published: lost slots, copies, restored backups.

use rowbridge_api::{Identity, Position, Source, SourceError, Start, State};
use rowbridge_postgres::PostgresSource;
use rowbridge_testbed::{CopyBegins, PgVersion, Postgres, StopMode};

use crate::follower::{Follower, needs, settings};
use crate::on_every_version;
use crate::server::{Database, until};
use crate::states::{ran, refused};

on_every_version!(
    a_slot_past_max_slot_wal_keep_size_is_lost,
    a_slot_lost_while_it_was_read_is_lost,
    a_promoted_copy_continues_only_what_it_shares,
    a_copy_that_fell_behind_has_diverged,
);

/// A server on which everybody could work, so that only its history is wrong.
async fn server(version: PgVersion, settings: &[(&str, &str)]) -> Postgres {
    let mut builder = Postgres::builder(version);
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    builder.start().await.unwrap()
}

/// What a start at `position` says, on whatever server `url` is.
async fn verdict(
    url: &str,
    pipeline: &str,
    position: Position,
    recorded: Identity,
) -> (State, String) {
    let mut source = PostgresSource::new(settings(url), pipeline);
    // The walsender may fail before anything is compared: both must say the same.
    match source.own().await {
        Err(error @ SourceError::Refused { .. }) => return refused(error),
        other => drop(other.unwrap()),
    }
    drop(source);
    let start = Start::Resume { position, recorded };
    let follower = Follower::start(settings(url), pipeline, start, vec![needs("t")]).await;
    refused(follower.error().await)
}

/// Writes WAL until the server has thrown the slot's away.
async fn outrun(db: &Database) {
    let slot = db.slot();
    until("the slot to be lost", || async {
        let batch = format!(
            "SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS filler (v text); TRUNCATE filler; CHECKPOINT; \
             SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        let mut last = None;
        for statement in batch.split("; ") {
            last = db.text(statement).await;
        }
        last.as_deref() == Some("lost")
    })
    .await;
}

const KEEP_LITTLE: [(&str, &str); 3] = [
    ("max_slot_wal_keep_size", "16MB"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "32MB"),
];

async fn a_slot_past_max_slot_wal_keep_size_is_lost(version: PgVersion) {
    let server = server(version, &KEEP_LITTLE).await;
    let db = Database::on(&server).await;
    let (position, recorded) = ran(&db).await;
    db.run("INSERT INTO t VALUES (2)").await;
    outrun(&db).await;
    let (state, text) = verdict(&db.url, &db.pipeline, position, recorded).await;
    assert_eq!(state, State::SlotLost, "{text}");
    assert!(text.contains("rowbridge drop"), "{text}");
}

async fn a_slot_lost_while_it_was_read_is_lost(version: PgVersion) {
    let server = server(version, &KEEP_LITTLE).await;
    let db = Database::on(&server).await;
    let (position, recorded) = ran(&db).await;
    let start = Start::Resume {
        position: position.clone(),
        recorded: recorded.clone(),
    };
    // It reads and is never acknowledged: as when Kafka is down for long.
    let follower = Follower::start(settings(&db.url), &db.pipeline, start, vec![needs("t")]).await;
    db.run("INSERT INTO t VALUES (2)").await;
    outrun(&db).await;
    match follower.error().await {
        SourceError::Transient { .. } => {}
        error @ SourceError::Refused { .. } => assert_eq!(refused(error).0, State::SlotLost),
    }
    let (state, text) = verdict(&db.url, &db.pipeline, position, recorded).await;
    assert_eq!(state, State::SlotLost, "{text}");
}

async fn a_promoted_copy_continues_only_what_it_shares(version: PgVersion) {
    let mut server = server(version, &[]).await;
    let db = Database::on(&server).await;
    let (shared, recorded) = ran(&db).await;
    server.stop(StopMode::Fast).await.unwrap();
    let copy = server.start_copy(CopyBegins::Promoted).await.unwrap();
    server.start_again().await.unwrap();
    let there = Database {
        url: copy.url_of(db.url.rsplit('/').next().unwrap()),
        pipeline: db.pipeline.clone(),
    };
    db.run("INSERT INTO t VALUES (10)").await;
    there.run("INSERT INTO t VALUES (20)").await;
    let start = Start::Resume {
        position: shared.clone(),
        recorded: recorded.clone(),
    };
    let mut old = Follower::start(
        settings(&db.url),
        &db.pipeline,
        start.clone(),
        vec![needs("t")],
    )
    .await;
    let (changes, only_there) = old.transaction().await;
    assert_eq!(changes, ["insert t [*id=10]"]);
    old.stop().await;

    // Published up to what only the old primary has: its copy parted before.
    let (state, text) = verdict(
        &there.url,
        &there.pipeline,
        only_there.clone(),
        recorded.clone(),
    )
    .await;
    assert_eq!(state, State::TimelineDiverged, "{text}");
    assert!(text.contains(&only_there.to_string()), "{text}");
    // Published up to what both have: the copy goes on, and tells of its new history.
    let mut new = Follower::start(
        settings(&there.url),
        &there.pipeline,
        start,
        vec![needs("t")],
    )
    .await;
    assert_eq!(new.transaction().await.0, ["insert t [*id=20]"]);
    assert_eq!(new.identity.source, recorded.source);
    assert_ne!(new.identity.history, recorded.history);
    new.stop().await;
}

async fn a_copy_that_fell_behind_has_diverged(version: PgVersion) {
    let mut server = server(version, &[]).await;
    let db = Database::on(&server).await;
    let (_, recorded) = ran(&db).await;
    server.stop(StopMode::Fast).await.unwrap();
    let copy = server.start_copy(CopyBegins::AsItWas).await.unwrap();
    server.start_again().await.unwrap();
    db.run("INSERT INTO t SELECT generate_series(10, 20000)")
        .await;
    let position: Position = db
        .text("SELECT pg_current_wal_flush_lsn()")
        .await
        .unwrap()
        .parse()
        .unwrap();
    let url = copy.url_of(db.url.rsplit('/').next().unwrap());
    let (state, text) = verdict(&url, &db.pipeline, position, recorded).await;
    assert_eq!(state, State::TimelineDiverged, "{text}");
}

#[tokio::test]
#[ignore = "a version of the long run"]
async fn an_idle_slot_that_timed_out_is_lost() {
    let server = server(PgVersion::V18, &[("idle_replication_slot_timeout", "1s")]).await;
    let db = Database::on(&server).await;
    let (position, recorded) = ran(&db).await;
    db.run("INSERT INTO t VALUES (2)").await;
    outrun(&db).await;
    let (state, text) = verdict(&db.url, &db.pipeline, position, recorded).await;
    assert_eq!(state, State::SlotLost, "{text}");
}
