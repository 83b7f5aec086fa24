//! How far back the oplog reaches: told while running, found when it is short.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rowbridge_api::{Finding, Severity, Source, Start, TableNeeds};
use rowbridge_mongodb::{MongoConfig, MongoSource};
use rowbridge_testbed::Mongo;

use crate::follower::{Follower, needs, settings};
use crate::states::in_the_shell;

const ID: [(&str, &str); 1] = [("_id", "int4")];

async fn findings(config: &MongoConfig, needs: &TableNeeds) -> Vec<Finding> {
    let mut source = MongoSource::new(config.clone());
    source.check(std::slice::from_ref(needs)).await.unwrap()
}

/// What a running source tells of the oplog at first.
async fn window_told(config: MongoConfig, needs: TableNeeds) -> Option<u64> {
    let mut follower = Follower::start(config, Start::FIRST, vec![needs]).await;
    follower.snapshot().await;
    // Also where it is not known: then only the time that it would take shows it.
    let told = follower
        .status
        .wait_for(|status| status.history_seconds.is_some());
    let told = tokio::time::timeout(Duration::from_secs(3), told).await;
    let window = told.ok().and_then(|status| status.unwrap().history_seconds);
    follower.stop().await;
    window
}

#[tokio::test]
async fn a_full_oplog_that_reaches_back_for_less_than_a_day_is_found_with_its_command() {
    let mongo = Mongo::builder().short_oplog().start().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let name = mongo.database("short");
    let items = client.database(&name).collection::<Document>("items");
    items.insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut need = needs(&name, "items", &ID);
    need.ops = [rowbridge_api::Op::Insert].into_iter().collect();
    let config = settings(&mongo.url());
    // Young, but with room.
    assert_eq!(findings(&config, &need).await, []);

    mongo.roll_oplog().await.unwrap();
    let found = findings(&config, &need).await;
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(
        finding.problem.contains("the oplog holds the last 0 min"),
        "{finding:?}"
    );
    let command = "db.adminCommand({ \"replSetResizeOplog\": 1, \"minRetentionHours\": 48 })";
    assert_eq!(finding.fix, command);
    // The shell sends numbers as doubles.
    let command = doc! { "replSetResizeOplog": 1.0, "minRetentionHours": 48.0 };
    client.database("admin").run_command(command).await.unwrap();
}

#[tokio::test]
async fn a_user_who_may_not_look_is_told_how_and_runs_without() {
    let mongo = Mongo::builder().auth().start().await.unwrap();
    let name = mongo.database("unseen");
    let admin = Client::with_uri_str(mongo.url()).await.unwrap();
    let create = doc! { "create": "items", "changeStreamPreAndPostImages": { "enabled": true } };
    admin.database(&name).run_command(create).await.unwrap();
    let role = doc! { "createRole": "rowbridge", "roles": [], "privileges": [
        { "resource": { "db": &name, "collection": "" }, "actions": ["find", "changeStream", "listCollections"] },
        { "resource": { "cluster": true }, "actions": ["replSetGetConfig"] },
    ] };
    admin.database("admin").run_command(role).await.unwrap();
    mongo
        .create_user("bridge", "its secret", &["rowbridge@admin"])
        .await
        .unwrap();
    let config = settings(&mongo.url_of("bridge", "its secret"));
    let need = needs(&name, "items", &ID);

    let found = findings(&config, &need).await;
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(finding.severity, Severity::Warning);
    for part in ["serverStatus on the cluster", "collStats on local.oplog.rs"] {
        assert!(finding.problem.contains(part), "{finding:?}");
    }
    assert_eq!(window_told(config.clone(), need.clone()).await, None);

    for line in finding.fix.lines() {
        in_the_shell(&admin, line).await;
    }
    assert_eq!(findings(&config, &need).await, []);
    let told = window_told(config, need).await;
    assert!(told.is_some_and(|seconds| seconds < 120), "{told:?}");
}
