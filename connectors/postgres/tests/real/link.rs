//! The link itself: time-outs, shutdown of the server, Unix socket, TLS and passwords.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rowbridge_api::{Claim, Source, SourceError, State};
use rowbridge_postgres::{Address, Password, PostgresConfig, PostgresSource, TlsMode};
use rowbridge_testbed::{PgVersion, Postgres, StopMode};

use crate::follower::{Follower, own, settings};
use crate::on_every_version;
use crate::server::Database;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const TIMEOUT: Duration = Duration::from_secs(2);

on_every_version!(
    holding_outlives_the_servers_time_out_with_changes_waiting,
    a_fast_shutdown_of_the_server_is_not_kept_waiting,
    a_unix_socket_is_as_good,
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
    let Some(directory) = server.socket_dir() else {
        return; // In a container; TCP is all there is.
    };
    let db = Database::create(version).await;
    db.run(TABLE).await;
    let mut config = settings(&db.url);
    config.address = Address::Unix {
        directory: directory.to_owned(),
        port: server.port(),
    };
    let mut follower = Follower::first(config, &db.pipeline, "t").await;
    follower.snapshot().await;
    db.run("INSERT INTO t VALUES (1, 'a')").await;
    assert_eq!(follower.transaction().await.0, ["insert t [*id=1 v=a]"]);
    follower.stop().await;
}

/// Makes an authority and a certificate for `localhost` inside the server's data folder.
const MAKE_CERTIFICATES: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \
     -keyout ca.key -out ca.crt && \
     openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr && \
     echo subjectAltName=DNS:localhost > server.ext && \
     openssl x509 -req -days 2 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
     -extfile server.ext -out server.crt && chmod 600 server.key";

/// A server that takes `app` only by password and inside TLS.
async fn guarded_server() -> (Postgres, PathBuf) {
    let server = Postgres::start(PgVersion::V15).await.unwrap();
    let run = async |sql: &str| server.sql(sql).await.unwrap();
    run(&format!(
        "COPY (SELECT 1) TO PROGRAM '({MAKE_CERTIFICATES}) 2>openssl.log'"
    ))
    .await;
    run(
        "COPY (SELECT unnest(ARRAY['local all all trust', 'host all postgres all trust', \
         'hostssl all app all scram-sha-256'])) TO PROGRAM 'cat > pg_hba.conf'",
    )
    .await;
    run("CREATE ROLE app LOGIN REPLICATION SUPERUSER PASSWORD 's3cret'").await;
    run("ALTER SYSTEM SET ssl = on").await;
    run("SELECT pg_reload_conf()").await;
    let authority = run("SELECT pg_read_file('ca.crt')").await;
    let file = std::env::temp_dir().join(format!("rowbridge-ca-{}.pem", server.port()));
    std::fs::write(&file, authority[0][0].as_ref().unwrap()).unwrap();
    (server, file)
}

fn as_app(server: &Postgres, host: &str, tls: TlsMode, ca_file: &Path) -> PostgresConfig {
    let url = format!("postgres://app:s3cret@{host}:{}/postgres", server.port());
    let mut config = PostgresConfig::from_url(&url).unwrap();
    config.tls = tls;
    config.ca_file = Some(ca_file.to_owned());
    config
}

async fn verdict(config: PostgresConfig) -> Result<(), State> {
    match PostgresSource::new(config, "tls").own().await {
        Ok(Claim::Owned(_) | Claim::Fresh(_) | Claim::Standby { .. }) => Ok(()),
        Err(SourceError::Refused { state, .. }) => Err(state),
        Err(error @ SourceError::Transient { .. }) => panic!("neither in nor refused: {error}"),
    }
}

#[tokio::test]
async fn tls_and_passwords_are_checked_as_configured() {
    let (server, ca_file) = guarded_server().await;
    let app = |host, tls| as_app(&server, host, tls, &ca_file);
    // The reload is not instant.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while verdict(app("localhost", TlsMode::VerifyFull))
        .await
        .is_err()
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited for TLS to be on"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let invalid = Err(State::Invalid);
    assert_eq!(
        verdict(app("127.0.0.1", TlsMode::VerifyFull)).await,
        invalid,
        "wrong name"
    );
    assert_eq!(
        verdict(app("127.0.0.1", TlsMode::VerifyCa)).await,
        Ok(()),
        "any name"
    );
    assert_eq!(
        verdict(app("127.0.0.1", TlsMode::Disable)).await,
        invalid,
        "plain text"
    );
    let mut stranger = app("localhost", TlsMode::VerifyCa);
    stranger.ca_file = None;
    assert_eq!(
        verdict(stranger.clone()).await,
        invalid,
        "unknown authority"
    );
    stranger.tls = TlsMode::Require;
    assert_eq!(
        verdict(stranger).await,
        Ok(()),
        "encrypted for whoever answers"
    );
    let mut wrong = app("localhost", TlsMode::VerifyFull);
    wrong.password = Password::Literal("wrong".to_owned());
    assert_eq!(verdict(wrong).await, invalid, "wrong password");
    let mut none = app("localhost", TlsMode::VerifyFull);
    none.password = Password::None;
    assert_eq!(verdict(none).await, invalid, "no password");
    std::fs::remove_file(ca_file).unwrap();
}
