//! What is delivered: existing rows, changes, positions; and from where a restart goes on.

use rowbridge_api::{SourceError, Start, State};

use crate::follower::{Follower, Seen, settings};
use crate::server::Database;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, price numeric(10,2))";

fn state_of(error: &SourceError) -> Option<State> {
    match error {
        SourceError::Refused { state, .. } => Some(*state),
        SourceError::Transient { .. } => None,
    }
}

#[tokio::test]
async fn existing_rows_come_first_and_then_what_was_committed_after_them() {
    let db = Database::create().await;
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
    db.run("INSERT INTO t VALUES (3, 'c', 1); UPDATE t SET name = 'b' WHERE id = 2; DELETE FROM t WHERE id = 1")
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
    follower.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_after_the_last_position() {
    let db = Database::create().await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, 'a', 1)").await;
    db.run("INSERT INTO t VALUES (2, 'b', 2)").await;
    let (_, first) = follower.transaction().await;
    follower.transaction().await;
    let recorded = follower.identity.clone();
    follower.kill().await;
    let start = |_: &_| Start::Resume {
        position: first.clone(),
        recorded: recorded.clone(),
    };
    let tables = vec![crate::follower::needs("t")];
    let mut again = Follower::start(settings(&db.url), &db.pipeline, start, tables).await;
    let (changes, _) = again.transaction().await;
    assert_eq!(changes, ["insert t [*id=2 name=b price=2.00]"]);
    again.stop().await;
}
