//! MongoDB in the testbed: it serves change streams, elects, knows its clients, and dies with the process that started it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: failing is its job, and start times are worth seeing"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use rowbridge_testbed::certificates::Authority;
use rowbridge_testbed::{Mongo, Proxy, is_alive};

const CHILD: &str = "ROWBRIDGE_TESTBED_CHILD";
const EVENT_DEADLINE: Duration = Duration::from_secs(30);

type Changes = ChangeStream<ChangeStreamEvent<Document>>;

async fn next(changes: &mut Changes) -> Document {
    let wait = async {
        loop {
            if let Some(event) = changes.next_if_any().await.unwrap() {
                return event.full_document.unwrap();
            }
        }
    };
    tokio::time::timeout(EVENT_DEADLINE, wait)
        .await
        .expect("no event came")
}

fn resident_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kb = line.unwrap().split_whitespace().nth(1).unwrap();
    kb.parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn a_replica_set_serves_a_change_stream_over_its_faults() {
    let begun = Instant::now();
    let mut mongo = Mongo::start().await.unwrap();
    let pid = mongo.pid(0).unwrap();
    println!(
        "MongoDB took writes after {:?}, {} MB",
        begun.elapsed(),
        resident_mb(pid)
    );
    let url = mongo.url();
    let client = Client::with_uri_str(&url).await.unwrap();
    let seats = client
        .database(&mongo.database("faults"))
        .collection::<Document>("seats");
    let mut changes = seats.watch().await.unwrap();
    seats.insert_one(doc! { "_id": 0 }).await.unwrap();
    assert_eq!(next(&mut changes).await, doc! { "_id": 0 });

    for (id, fault) in (1..).zip(["stop", "kill9", "step down"]) {
        let pid = mongo.pid(0).unwrap();
        let begun = Instant::now();
        match fault {
            "stop" => mongo.stop(0).await.unwrap(),
            "kill9" => mongo.kill9(0).await.unwrap(),
            _ => assert_eq!(mongo.step_down().await.unwrap(), 0),
        }
        if fault != "step down" {
            assert!(!is_alive(pid), "{fault}");
            mongo.start_again(0).await.unwrap();
        }
        println!("served again after {fault} after {:?}", begun.elapsed());
        assert_eq!(mongo.url(), url);
        seats.insert_one(doc! { "_id": id }).await.unwrap();
        assert_eq!(next(&mut changes).await, doc! { "_id": id }, "{fault}");
    }

    mongo.freeze(0).await.unwrap();
    let frozen = tokio::time::timeout(Duration::from_millis(500), seats.find_one(doc! {})).await;
    assert!(frozen.is_err(), "a frozen server answered");
    mongo.thaw(0).await.unwrap();
    seats.find_one(doc! {}).await.unwrap();

    let pid = mongo.pid(0).unwrap();
    drop(mongo);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn three_nodes_elect_another_primary() {
    let begun = Instant::now();
    let mut mongo = Mongo::builder().nodes(3).start().await.unwrap();
    println!(
        "three nodes took writes after {:?}, {:?} MB",
        begun.elapsed(),
        [0, 1, 2].map(|node| resident_mb(mongo.pid(node).unwrap()))
    );
    // A change stream asks for the node it read from, and looks elsewhere only when this time is over.
    let url = mongo.url() + "&serverSelectionTimeoutMS=5000";
    let client = Client::with_uri_str(url).await.unwrap();
    let seats = client
        .database(&mongo.database("election"))
        .collection::<Document>("seats");
    let mut changes = seats.watch().await.unwrap();
    seats.insert_one(doc! { "_id": 0 }).await.unwrap();
    assert_eq!(next(&mut changes).await, doc! { "_id": 0 });

    for (id, fault) in (1..).zip(["kill9", "step down", "freeze"]) {
        let first = mongo.primary().await.unwrap();
        let begun = Instant::now();
        match fault {
            "kill9" => mongo.kill9(first).await.unwrap(),
            "freeze" => mongo.freeze(first).await.unwrap(),
            _ => {
                mongo.step_down().await.unwrap();
            }
        }
        let second = mongo.primary().await.unwrap();
        assert_ne!(first, second, "{fault}");
        println!("another primary after {fault} after {:?}", begun.elapsed());
        seats.insert_one(doc! { "_id": id }).await.unwrap();
        // The stream may still hang on the node that is silent; on one that is dead it may not.
        if fault == "freeze" {
            mongo.thaw(first).await.unwrap();
        }
        assert_eq!(next(&mut changes).await, doc! { "_id": id }, "{fault}");
        if fault == "kill9" {
            mongo.start_again(first).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_standalone_server_refuses_change_streams() {
    let mongo = Mongo::builder().standalone().start().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let seats = client
        .database(&mongo.database("alone"))
        .collection::<Document>("seats");
    seats.insert_one(doc! { "_id": 0 }).await.unwrap();
    let error = seats.watch().await.unwrap_err().to_string();
    assert!(error.contains("only supported on replica sets"), "{error}");
}

#[tokio::test]
async fn a_shared_server_outlives_the_runtime_that_started_it() {
    let names = std::thread::scope(|scope| {
        let name = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mongo = Mongo::shared().await.unwrap();
                let client = Client::with_uri_str(mongo.url()).await.unwrap();
                let name = mongo.database("shared");
                let seats = client.database(&name).collection::<Document>("seats");
                seats.insert_one(doc! { "_id": 0 }).await.unwrap();
                name
            })
        };
        [(); 2].map(|()| scope.spawn(name).join().unwrap())
    });
    assert_ne!(names[0], names[1]);
}

#[tokio::test]
async fn only_users_with_their_password_and_rights_come_in() {
    let mongo = Mongo::builder().auth().start().await.unwrap();
    mongo
        .create_user("app", "p@ss:/?", &["read@shop"])
        .await
        .unwrap();
    let count = async |url: String, database: &str| {
        let client = Client::with_uri_str(url).await?;
        let seats = client.database(database).collection::<Document>("seats");
        seats.count_documents(doc! {}).await
    };
    let app = |password| mongo.url_of("app", password);
    assert_eq!(count(app("p@ss:/?"), "shop").await.unwrap(), 0);
    assert_eq!(count(mongo.url(), "other").await.unwrap(), 0);
    let denied = [
        (count(app("p@ss:/?"), "other").await, "not authorized"),
        (count(app("wrong"), "shop").await, "Authentication failed"),
        (
            count(
                format!("mongodb://{}/?directConnection=true", mongo.addr(0)),
                "shop",
            )
            .await,
            "requires authentication",
        ),
    ];
    for (outcome, reason) in denied {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn tls_shows_a_certificate_and_knows_a_client_by_theirs() {
    let ours = Authority::new("Ours").unwrap();
    let server = ours.server(&["127.0.0.1", "localhost"]).unwrap();
    let mongo = Mongo::builder()
        .auth()
        .tls(server, &ours)
        .start()
        .await
        .unwrap();
    let admin = Client::with_uri_str(mongo.url()).await.unwrap();
    let user = doc! { "createUser": "CN=app", "roles": [{ "role": "read", "db": "shop" }] };
    admin.database("$external").run_command(user).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let client = ours.client("app").unwrap();
    let client = write("app.pem", &format!("{}{}", client.key, client.certificate));
    let names = async |authority: &Authority| {
        let trusted = write("trusted.pem", authority.pem());
        let url = format!(
            "mongodb://{}/?directConnection=true&tls=true&tlsCAFile={trusted}&tlsCertificateKeyFile={client}\
             &authMechanism=MONGODB-X509&serverSelectionTimeoutMS=3000",
            mongo.addr(0)
        );
        let client = Client::with_uri_str(url).await?;
        client.database("shop").list_collection_names().await
    };
    assert!(names(&ours).await.unwrap().is_empty());
    let error = names(&Authority::new("Theirs").unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_proxy_cuts_a_connection() {
    let mongo = Mongo::shared().await.unwrap();
    let proxy = Proxy::to(mongo.addr(0)).await.unwrap();
    let url = mongo.url_through(&proxy) + "&retryReads=false&serverSelectionTimeoutMS=1000";
    let client = Client::with_uri_str(url).await.unwrap();
    let seats = client
        .database(&mongo.database("proxied"))
        .collection::<Document>("seats");
    seats.insert_one(doc! { "_id": 0 }).await.unwrap();
    proxy.refuse();
    proxy.cut();
    seats.find_one(doc! {}).await.unwrap_err();
    proxy.resume();
    assert_eq!(
        seats.find_one(doc! {}).await.unwrap(),
        Some(doc! { "_id": 0 })
    );
}

#[tokio::test]
async fn a_rolled_oplog_ends_a_change_stream() {
    let mongo = Mongo::builder()
        .oplog_mb(1)
        .option("syncdelay", "1")
        .parameter("minSnapshotHistoryWindowInSeconds", "0")
        .start()
        .await
        .unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let seats = client
        .database(&mongo.database("rolled"))
        .collection::<Document>("seats");
    let mut changes = seats.watch().await.unwrap();
    seats.insert_one(doc! { "_id": 0 }).await.unwrap();
    next(&mut changes).await;
    let token = changes.resume_token().unwrap();
    let until = Instant::now() + EVENT_DEADLINE;
    let error = loop {
        assert!(Instant::now() < until, "the oplog was not rolled");
        let row = doc! { "text": "x".repeat(20_000) };
        seats.insert_many(vec![row; 50]).await.unwrap();
        if let Err(error) = seats.watch().resume_after(token.clone()).await {
            break error;
        }
    };
    assert!(error.to_string().contains("286"), "{error}");
}

#[tokio::test]
async fn a_wrong_parameter_is_told_with_the_log() {
    let outcome = Mongo::builder()
        .parameter("noSuchParameter", "1")
        .start()
        .await;
    let message = format!("{:#}", outcome.err().unwrap());
    assert!(
        message.contains("Unknown --setParameter 'noSuchParameter'"),
        "{message}"
    );
}

/// Not a test of its own: the child that `nodes_die_with_a_killed_process` starts.
#[tokio::test]
async fn child_that_is_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mongo = Mongo::builder().nodes(2).start().await.unwrap();
    println!(
        "servers={} {}",
        mongo.pid(0).unwrap(),
        mongo.pid(1).unwrap()
    );
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nodes_die_with_a_killed_process() {
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
        .filter_map(|line| Some(line.split_once("servers=")?.1.to_owned()))
        .next()
        .expect("the child started no server");
    let pids: Vec<u32> = found.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let folders: Vec<_> = pids
        .iter()
        .map(|pid| fs::read_link(format!("/proc/{pid}/cwd")).unwrap())
        .collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| is_alive(*pid)) || folders.iter().any(|folder| folder.exists()) {
        assert!(
            Instant::now() < until,
            "servers {pids:?} or their folders outlived their process by 10 s"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
