//! The testbed itself: servers start, suffer their faults, keep their data, and die with the process that started them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: failing is its job, and start times are worth seeing"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rowbridge_testbed::{Kafka, PgVersion, Postgres, StopMode, is_alive};
use tokio::net::TcpStream;

const CHILD: &str = "ROWBRIDGE_TESTBED_CHILD";

async fn survives_its_faults(version: PgVersion) {
    let begun = Instant::now();
    let mut postgres = Postgres::start(version).await.unwrap();
    println!(
        "PostgreSQL {version:?} answered after {:?}",
        begun.elapsed()
    );
    let found = postgres.sql("SHOW server_version_num").await.unwrap()[0][0]
        .clone()
        .unwrap();
    assert!(found.starts_with(&version.major().to_string()), "{found}");

    let url = postgres.database("faults").await.unwrap();
    Postgres::sql_at(
        &url,
        "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)",
    )
    .await
    .unwrap();
    Postgres::sql_at(
        &url,
        "SELECT pg_create_logical_replication_slot('kept', 'pgoutput')",
    )
    .await
    .unwrap();
    for fault in ["fast", "immediate", "kill9"] {
        let pid = postgres.pid().unwrap();
        // Killed children could still write to the data folder: a checkpoint makes the row safe with fsync off.
        postgres.sql("CHECKPOINT").await.unwrap();
        match fault {
            "fast" => postgres.stop(StopMode::Fast).await.unwrap(),
            "immediate" => postgres.stop(StopMode::Immediate).await.unwrap(),
            _ => postgres.kill9().await.unwrap(),
        }
        assert!(!is_alive(pid), "{fault}");
        assert!(
            TcpStream::connect(postgres.addr()).await.is_err(),
            "{fault}"
        );
        postgres.start_again().await.unwrap();
        assert_eq!(
            Postgres::sql_at(&url, "SELECT id FROM kept")
                .await
                .unwrap()
                .len(),
            1,
            "{fault}"
        );
    }

    survives_freezing(&postgres).await;

    let (pid, socket) = (
        postgres.pid().unwrap(),
        postgres.socket_dir().unwrap().to_owned(),
    );
    assert!(
        socket
            .join(format!(".s.PGSQL.{}", postgres.port()))
            .exists()
    );
    drop(postgres);
    assert!(!is_alive(pid) && !socket.exists());
}

async fn survives_freezing(postgres: &Postgres) {
    postgres.freeze().await.unwrap();
    let frozen = tokio::time::timeout(Duration::from_millis(500), postgres.sql("SELECT 1")).await;
    assert!(frozen.is_err(), "a frozen server answered");
    postgres.thaw().await.unwrap();
    postgres.sql("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn postgres_15_survives_its_faults() {
    survives_its_faults(PgVersion::V15).await;
}

#[tokio::test]
async fn postgres_17_survives_its_faults() {
    survives_its_faults(PgVersion::V17).await;
}

#[tokio::test]
#[ignore = "each version takes seconds and, the first time, a download"]
async fn every_other_postgres_survives_its_faults() {
    for version in PgVersion::ALL {
        if !matches!(version, PgVersion::V15 | PgVersion::V17) {
            survives_its_faults(version).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_the_log() {
    let outcome = Postgres::builder(PgVersion::V15)
        .setting("no_such_setting", "1")
        .start()
        .await;
    let message = format!("{:#}", outcome.err().unwrap());
    assert!(
        message.contains("unrecognized configuration parameter"),
        "{message}"
    );
}

#[tokio::test]
async fn kafka_survives_its_faults() {
    let begun = Instant::now();
    let mut kafka = Kafka::start().await.unwrap();
    println!("Kafka served after {:?}", begun.elapsed());
    let brokers = kafka.brokers();
    for fault in ["kill9", "stop"] {
        let pid = kafka.pid().unwrap();
        match fault {
            "kill9" => kafka.kill9().await.unwrap(),
            _ => kafka.stop().await.unwrap(),
        }
        assert!(!is_alive(pid), "{fault}");
        let begun = Instant::now();
        kafka.start_again().await.unwrap();
        println!(
            "Kafka served again after {fault} after {:?}",
            begun.elapsed()
        );
        assert_eq!(kafka.brokers(), brokers);
        TcpStream::connect(&brokers).await.unwrap();
    }
    kafka.freeze().await.unwrap();
    kafka.thaw().await.unwrap();
}

/// Not a test of its own: the child that `servers_die_with_a_killed_process` starts.
#[tokio::test]
async fn child_that_is_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let postgres = Postgres::start(PgVersion::V15).await.unwrap();
    println!(
        "server={} {}",
        postgres.pid().unwrap(),
        postgres.socket_dir().unwrap().display()
    );
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_die_with_a_killed_process() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let found = lines
        .filter_map(|line| Some(line.split_once("server=")?.1.to_owned()))
        .next()
        .expect("the child started no server");
    let (pid, folder) = found.split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    assert!(is_alive(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) || std::path::Path::new(folder).exists() {
        assert!(
            Instant::now() < until,
            "server {pid} or its folder outlived its process by 10 s"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
