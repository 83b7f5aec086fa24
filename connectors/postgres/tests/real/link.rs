//! The link itself: time-outs, shutdown of the server, Unix socket.

use std::time::{Duration, Instant};

use rowbridge_api::{Source, SourceError, Start};
use rowbridge_postgres::{Address, PostgresSource};
use rowbridge_testbed::{PgVersion, Postgres, StopMode};

use crate::follower::{Follower, needs, own, settings};
use crate::on_every_version;
use crate::server::Database;
use crate::states::ran;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
/// Transactions of one row each that were committed while nobody read.
const BACKLOG: usize = 60_000;
const TIMEOUT: Duration = Duration::from_secs(2);

on_every_version!(
    holding_outlives_the_servers_time_out_with_changes_waiting,
    a_fast_shutdown_of_the_server_is_not_kept_waiting,
    a_unix_socket_is_as_good,
    a_backlog_comes_through_a_unix_socket_as_fast_as_by_tcp,
);

async fn holding_outlives_the_servers_time_out_with_changes_waiting(version: PgVersion) {
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    follower.stop().await;
    let confirmed = db.confirmed().await;
    db.run("INSERT INTO t SELECT g, repeat('x', 10000) FROM generate_series(1, 1000) g")
        .await;
    let mut config = settings(&db.url);
    config.limits.wal_sender_timeout = TIMEOUT;
    let mut source = PostgresSource::new(config, &db.pipeline);
    own(&mut source).await;
    let held = tokio::time::timeout(TIMEOUT * 3, source.hold()).await;
    assert!(held.is_err(), "ownership was lost: {held:?}");
    assert_eq!(
        db.confirmed().await,
        confirmed,
        "nothing is acknowledged while holding"
    );
}

async fn a_fast_shutdown_of_the_server_is_not_kept_waiting(version: PgVersion) {
    let mut server = Postgres::start(version).await.unwrap();
    let db = Database::on(&server).await;
    db.run(TABLE).await;
    db.run("CREATE TABLE other (id int)").await;
    let mut follower = Follower::first(settings(&db.url), &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO other SELECT generate_series(1, 1000)")
        .await;
    let acknowledging = tokio::spawn(follower.acknowledge_until_it_ends());
    let stopped = tokio::time::timeout(Duration::from_secs(10), server.stop(StopMode::Fast)).await;
    stopped.expect("the server waits for us").unwrap();
    match acknowledging.await.unwrap() {
        Err(SourceError::Transient { .. }) => {}
        other => panic!("a stopped server is passing trouble, not {other:?}"),
    }
}

async fn a_unix_socket_is_as_good(version: PgVersion) {
    let server = Postgres::shared(version).await.unwrap();
    let Some(unix) = unix_address(server) else {
        return; // In a container; TCP is all there is.
    };
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut config = settings(&db.url);
    config.address = unix;
    let mut follower = Follower::first(config, &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, 'a')").await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=1 v=a]"]);
    follower.stop().await;
}

/// It holds far less than a TCP connection: a reader that let it fill would stop the server most of the time.
async fn a_backlog_comes_through_a_unix_socket_as_fast_as_by_tcp(version: PgVersion) {
    // Of its own: what is written here would be read by the walsender of every other test as well.
    let server = Postgres::start(version).await.unwrap();
    let Some(unix) = unix_address(&server) else {
        return; // In a container; TCP is all there is.
    };
    let by_tcp = drain(&server, None).await;
    let through_unix = drain(&server, Some(unix)).await;
    assert!(
        through_unix < by_tcp * 3 + Duration::from_millis(500),
        "{BACKLOG} transactions took {through_unix:?} through the Unix socket and {by_tcp:?} by TCP"
    );
}

fn unix_address(server: &Postgres) -> Option<Address> {
    Some(Address::Unix {
        directory: server.socket_dir()?.to_owned(),
        port: server.port(),
    })
}

/// How long a backlog takes from the start of the stream, by TCP where no other address is given.
async fn drain(server: &Postgres, address: Option<Address>) -> Duration {
    let db = Database::on(server).await;
    let (position, recorded) = ran(&db).await;
    db.run(&format!(
        "DO $$ BEGIN FOR n IN 1..{BACKLOG} LOOP INSERT INTO t VALUES (1 + n); COMMIT; END LOOP; END $$"
    ))
    .await;
    let mut config = settings(&db.url);
    if let Some(address) = address {
        config.address = address;
    }
    let start = Start::Resume { position, recorded };
    let started = Instant::now();
    let mut follower = Follower::start(config, &db.pipeline, start, vec![needs("t")]).await;
    for n in 1..=BACKLOG {
        let (changes, _) = follower.transaction().await;
        assert_eq!(changes, [format!("insert t [*id={}]", 1 + n)]);
    }
    let took = started.elapsed();
    follower.stop().await;
    took
}
