//! First starts, resuming, and what is refused.

use bson::{Document, doc};
use mongodb::Client;
use rowbridge_api::{Identity, Op, Severity, Source, SourceError, Start, State};
use rowbridge_mongodb::{MongoSource, OnDrop};
use rowbridge_testbed::Mongo;

use crate::follower::{Follower, needs, settings};

const ID: [(&str, &str); 1] = [("_id", "int4")];
const ID_AND_STATE: [(&str, &str); 2] = [("_id", "int4"), ("state", "text")];

fn refused(error: SourceError, wanted: State) -> String {
    match error {
        SourceError::Refused {
            state,
            problem,
            hint,
        } if state == wanted => format!("{problem}\n{hint}"),
        other => panic!("expected {wanted}: {other:?}"),
    }
}

#[tokio::test]
async fn existing_documents_come_first_and_the_stream_follows() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let name = mongo.database("snapshot");
    let items = client.database(&name).collection::<Document>("items");
    // Ids of several types: the scan has to pass from one to the other.
    items
        .insert_many((0..1_000).map(|id| doc! { "_id": id }))
        .await
        .unwrap();
    items.insert_one(doc! { "_id": "text" }).await.unwrap();
    let tables = vec![needs(&name, "items", &[("_id", "json")])];
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables.clone()).await;
    items.insert_one(doc! { "_id": 5_000 }).await.unwrap();
    let (rows, end) = follower.snapshot().await;
    let after = if rows.len() == 1_001 {
        follower.change().await
    } else {
        rows[1_000].clone()
    };
    assert!(after.ends_with("-> _id=5000"), "{after}");
    assert!(
        rows.contains(&"read -> _id=\"text\"".to_owned()),
        "{:?}",
        rows.last()
    );
    follower.stop().await;

    // After an interrupted first start the stream follows from where that one began.
    items.delete_one(doc! { "_id": 7 }).await.unwrap();
    let since = Start::First { since: Some(end) };
    let mut again = Follower::start(settings(&mongo.url()), since, tables).await;
    let (rows, _) = again.snapshot().await;
    assert!(!rows.contains(&"read -> _id=7".to_owned()));
    let mut followed = again.change().await;
    if followed.ends_with("5000") {
        followed = again.change().await;
    }
    assert_eq!(followed, "delete _id=7");
    again.stop().await;
}

#[tokio::test]
async fn replies_that_fill_many_batches_are_taken_in_bit_by_bit() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let name = mongo.database("replies");
    let items = client.database(&name).collection::<Document>("items");
    let mut config = settings(&mongo.url());
    // Two events a batch, seven a reply, and a reply is more than may be ahead.
    config.limits.batch_bytes = 4;
    config.limits.reply_events = 7;
    config.limits.ahead_bytes = 1 << 10;
    let tables = vec![needs(&name, "items", &ID)];
    let mut follower = Follower::start(config, Start::FIRST, tables).await;
    follower.snapshot().await;
    items
        .insert_many((100..300).map(|id| doc! { "_id": id }))
        .await
        .unwrap();
    for id in 100..300 {
        assert_eq!(follower.change().await, format!("insert -> _id={id}"));
    }
    follower.stop().await;
}

#[tokio::test]
async fn a_mapping_without_a_table_can_be_resumed_although_the_last_event_is_no_longer_read() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("narrowed"));
    let both = ["kept", "gone"]
        .map(|name| needs(database.name(), name, &ID))
        .to_vec();
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, both.clone()).await;
    follower.snapshot().await;
    database
        .collection("gone")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    follower.change().await;
    let kept = database.collection("kept");
    kept.insert_one(doc! { "_id": 2 }).await.unwrap();
    let position = follower.commit().await;
    let recorded = follower.identity.clone();
    follower.stop().await;
    let resume = Start::Resume { position, recorded };
    let mut narrowed =
        Follower::start(settings(&mongo.url()), resume.clone(), both[..1].to_vec()).await;
    assert_eq!(narrowed.change().await, "insert -> _id=2");
    narrowed.stop().await;
}

#[tokio::test]
async fn a_dropped_collection_stops_the_source_or_not() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("dropped"));
    let items = database.collection::<Document>("items");
    items.insert_one(doc! { "_id": 1 }).await.unwrap();
    let tables = vec![needs(database.name(), "items", &ID)];
    let mut stops = Follower::start(settings(&mongo.url()), Start::FIRST, tables.clone()).await;
    stops.snapshot().await;
    let mut config = settings(&mongo.url());
    config.on_drop = OnDrop::Continue;
    let mut goes_on = Follower::start(config, Start::FIRST, tables).await;
    goes_on.snapshot().await;
    items.drop().await.unwrap();
    let said = refused(stops.ended().await, State::PublicationChanged);
    assert!(said.contains("on_drop"), "{said}");
    items.insert_one(doc! { "_id": 2 }).await.unwrap();
    assert_eq!(goes_on.change().await, "insert -> _id=2");
    goes_on.stop().await;
}

#[tokio::test]
async fn another_deployments_position_is_refused() {
    let mongo = Mongo::shared().await.unwrap();
    let name = mongo.database("stranger");
    let start = Start::Resume {
        position: rowbridge_api::Position::new(1 << 32),
        recorded: Identity {
            source: "mongodb/other".to_owned(),
            history: "oplog".to_owned(),
        },
    };
    let follower = Follower::start(
        settings(&mongo.url()),
        start,
        vec![needs(&name, "items", &ID)],
    )
    .await;
    refused(follower.ended().await, State::WrongSource);
}

#[tokio::test]
async fn a_history_that_is_gone_is_said_with_from_when_to_when() {
    let mongo = Mongo::builder().short_oplog().start().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let name = mongo.database("history");
    let tables = vec![needs(&name, "items", &ID)];
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables.clone()).await;
    follower.snapshot().await;
    client
        .database(&name)
        .collection("items")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let position = follower.commit().await;
    let recorded = follower.identity.clone();
    follower.stop().await;
    mongo.roll_oplog().await.unwrap();
    for lost in [
        position.clone(),
        rowbridge_api::Position::new(position.order()),
    ] {
        let start = Start::Resume {
            position: lost.clone(),
            recorded: recorded.clone(),
        };
        let follower = Follower::start(settings(&mongo.url()), start, tables.clone()).await;
        let said = refused(follower.ended().await, State::HistoryLost);
        assert!(
            said.contains(&format!("from {lost} to ")) && said.contains("position set"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_standalone_server_and_missing_images_are_found_with_their_commands() {
    let standalone = Mongo::builder().standalone().start().await.unwrap();
    let mut source = MongoSource::new(settings(&standalone.url()));
    let findings = source.check(&[needs("shop", "items", &ID)]).await.unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.problem.contains("standalone")),
        "{findings:?}"
    );
    let said = refused(source.own().await.unwrap_err(), State::Invalid);
    assert!(said.contains("rs.initiate()"), "{said}");

    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("unprepared"));
    database
        .collection("items")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let mut need = needs(database.name(), "items", &ID_AND_STATE);
    // The id of an old document is known without its image.
    need.columns[0].before = true;
    let mut source = MongoSource::new(settings(&mongo.url()));
    let findings = source.check(std::slice::from_ref(&need)).await.unwrap();
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Warning),
        "{findings:?}"
    );
    need.columns[1].before = true;
    let findings = source.check(std::slice::from_ref(&need)).await.unwrap();
    let finding = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error)
        .unwrap();
    assert!(finding.fix.contains("collMod"), "{finding:?}");
    let follower = Follower::start(settings(&mongo.url()), Start::FIRST, vec![need.clone()]).await;
    let said = refused(follower.ended().await, State::Invalid);
    assert!(said.contains("collMod"), "{said}");
    let images = doc! { "collMod": "items", "changeStreamPreAndPostImages": { "enabled": true } };
    database.run_command(images).await.unwrap();
    assert!(source.check(&[need]).await.unwrap().is_empty());
}

/// Runs a command that `check` prints, as the shell does.
pub(crate) async fn in_the_shell(client: &Client, printed: &str) {
    let command = printed
        .strip_prefix("db.getSiblingDB(")
        .and_then(|rest| rest.split_once(").runCommand("));
    let (database, command) = command.unwrap_or_else(|| panic!("{printed}"));
    let database: String = serde_json::from_str(database).unwrap();
    let command: serde_json::Value =
        serde_json::from_str(command.strip_suffix(')').unwrap()).unwrap();
    let command = bson::serialize_to_document(&command).unwrap();
    client
        .database(&database)
        .run_command(command)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_printed_commands_let_a_least_privileged_user_run() {
    let mongo = Mongo::builder().auth().start().await.unwrap();
    let name = mongo.database("guarded");
    let admin = Client::with_uri_str(mongo.url()).await.unwrap();
    admin
        .database(&name)
        .collection("items")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    mongo
        .create_user("bridge", "its secret", &[])
        .await
        .unwrap();
    let url = mongo.url_of("bridge", "its secret");
    let mut need = needs(&name, "items", &ID_AND_STATE);
    need.columns[1].before = true;
    let mut source = MongoSource::new(settings(&url));
    let refused_at_first = source.own().await.unwrap_err();
    assert!(refused(refused_at_first, State::Invalid).contains("rowbridge check"));
    // What it may not look at comes with the next round.
    for round in 0.. {
        let findings = source.check(std::slice::from_ref(&need)).await.unwrap();
        if findings.is_empty() {
            assert!(round > 0, "something was missing");
            break;
        }
        assert!(round < 3, "{findings:?}");
        for finding in &findings {
            for line in finding.fix.lines() {
                in_the_shell(&admin, line).await;
            }
        }
    }
    let mut follower = Follower::start(settings(&url), Start::FIRST, vec![need]).await;
    let (rows, _) = follower.snapshot().await;
    assert_eq!(rows, ["read -> _id=1 state=null"]);
    let items = admin.database(&name).collection::<Document>("items");
    items
        .update_one(doc! { "_id": 1 }, doc! { "$set": { "state": "seen" } })
        .await
        .unwrap();
    let update = "update _id=1 state=null -> _id=1 state=seen";
    assert_eq!(follower.change().await, update);
    follower.stop().await;

    let mut wrong = MongoSource::new(settings(&mongo.url_of("bridge", "not its secret")));
    let said = refused(wrong.own().await.unwrap_err(), State::Invalid);
    assert!(
        said.contains("authSource") && !said.contains("its secret"),
        "{said}"
    );
}

#[tokio::test]
async fn an_event_larger_than_the_server_can_send_is_said() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("large"));
    let create = doc! { "create": "items", "changeStreamPreAndPostImages": { "enabled": true } };
    database.run_command(create).await.unwrap();
    let tables = vec![needs(database.name(), "items", &ID)];
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, tables).await;
    follower.snapshot().await;
    let items = database.collection::<Document>("items");
    items
        .insert_one(doc! { "_id": 1, "text": "a".repeat(9 << 20) })
        .await
        .unwrap();
    assert_eq!(follower.change().await, "insert -> _id=1");
    let other = doc! { "$set": { "text": "b".repeat(9 << 20) } };
    items.update_one(doc! { "_id": 1 }, other).await.unwrap();
    let said = refused(follower.ended().await, State::EventTooLarge);
    assert!(
        said.contains("6.0.9") && said.contains("position set"),
        "{said}"
    );
}

#[tokio::test]
async fn collections_whose_documents_no_rule_reads_are_not_read_at_first_start() {
    let mongo = Mongo::shared().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let database = client.database(&mongo.database("unread"));
    let items = database.collection::<Document>("items");
    items.insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut need = needs(database.name(), "items", &ID);
    need.ops = [Op::Insert].into_iter().collect();
    let mut follower = Follower::start(settings(&mongo.url()), Start::FIRST, vec![need]).await;
    let (rows, _) = follower.snapshot().await;
    assert!(rows.is_empty(), "{rows:?}");
    items.insert_one(doc! { "_id": 2 }).await.unwrap();
    assert_eq!(follower.change().await, "insert -> _id=2");
    follower.stop().await;
}
