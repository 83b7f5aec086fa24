//! Who we are and who the servers are: passwords, certificates, names, and which member is read.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rowbridge_api::{Password, Source, SourceError, Start};
use rowbridge_mongodb::{MongoConfig, MongoSource};
use rowbridge_testbed::Mongo;
use rowbridge_testbed::certificates::{Authority, Issued};

use crate::follower::{Follower, needs, settings};

/// Files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn pair(&self, name: &str, issued: &Issued) -> PathBuf {
        self.write(name, &format!("{}{}", issued.key, issued.certificate))
    }
}

/// A server that shows `certificate`, and knows `bridge` by password and `CN=bridge` by certificate.
async fn guarded(certificate: Issued, trusted: &Authority) -> Mongo {
    let mongo = Mongo::builder()
        .auth()
        .tls(certificate, trusted)
        .start()
        .await
        .unwrap();
    mongo
        .create_user("bridge", "its secret", &["root"])
        .await
        .unwrap();
    let admin = Client::with_uri_str(mongo.url()).await.unwrap();
    let user = doc! { "createUser": "CN=bridge", "roles": [{ "role": "root", "db": "admin" }] };
    admin.database("$external").run_command(user).await.unwrap();
    mongo
}

fn config(mongo: &Mongo, login: &str, host: &str, options: &str) -> MongoConfig {
    let port = mongo.addr(0).port();
    let mut config = settings(&format!(
        "mongodb://{login}{host}:{port}/?directConnection=true{options}"
    ));
    config.limits.connect_timeout = Duration::from_secs(3);
    config
}

/// What `check` says of a configuration: nothing, or the hint.
async fn hint(config: MongoConfig) -> Option<String> {
    match MongoSource::new(config).check(&[]).await {
        Ok(findings) => {
            assert!(findings.is_empty(), "{findings:?}");
            None
        }
        Err(SourceError::Refused { problem, hint, .. }) => {
            assert!(!problem.contains("its secret"), "{problem}");
            Some(hint)
        }
        // A server that dies says as little, so this is tried again.
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test]
async fn every_login_works_and_each_wrong_one_has_a_hint_of_its_own() {
    let ours = Authority::new("Ours").unwrap();
    let theirs = Authority::new("Theirs").unwrap();
    let files = Files::new();
    let [our_file, their_file] = [("ours.pem", &ours), ("theirs.pem", &theirs)]
        .map(|(name, authority)| files.write(name, authority.pem()));
    let mongo = guarded(ours.server(&["localhost"]).unwrap(), &ours).await;
    let plain = |login: &str, options: &str| config(&mongo, login, "localhost", options);
    let secret = |options: &str| {
        let mut config = plain("bridge@", options);
        config.password = Password::File(files.write("password", "its secret\n"));
        config
    };
    let trusting = |mut config: MongoConfig, file: &PathBuf| {
        config.ca_file = Some(file.clone());
        config
    };
    let shown = |file: &str, name: &str, authority: &Authority| {
        let mut config = trusting(plain("", "&authMechanism=MONGODB-X509"), &our_file);
        let issued = authority.client(name).unwrap();
        config.certificate_key_file = Some(files.pair(file, &issued));
        config
    };
    for good in [
        secret(""),
        secret("&authMechanism=SCRAM-SHA-1"),
        secret("&authMechanism=SCRAM-SHA-256"),
        plain("bridge:its%20secret@", "&authSource=admin"),
        trusting(secret(""), &our_file),
        shown("ours_bridge.pem", "bridge", &ours),
    ] {
        assert_eq!(hint(good).await, None);
    }
    let mut hints = BTreeSet::new();
    for (bad, word) in [
        (plain("bridge:wrong@", ""), "its password"),
        (
            trusting(secret(""), &their_file),
            "the authority that signed it",
        ),
        (secret("&tls=true"), "only public authorities"),
        (
            trusting(
                config(&mongo, "bridge:its%20secret@", "127.0.0.1", ""),
                &our_file,
            ),
            "subjectAltName",
        ),
        (shown("stranger.pem", "stranger", &ours), "$external"),
        (
            shown("theirs_bridge.pem", "bridge", &theirs),
            "source.mongodb.certificate_key_file",
        ),
    ] {
        let hint = hint(bad).await.unwrap();
        assert!(hint.contains(word), "{word}: {hint}");
        hints.insert(hint);
    }
    // An unknown authority and none at all are mended by the same key.
    assert_eq!(hints.len(), 5, "{hints:#?}");
}

#[tokio::test]
async fn a_name_without_servers_is_told_by_that_name() {
    let mut source = MongoSource::new(settings("mongodb+srv://rowbridge.invalid/"));
    let error = source.check(&[]).await.unwrap_err();
    let said = format!("{error:?}");
    assert!(said.contains("rowbridge.invalid"), "{said}");
}

#[tokio::test]
async fn a_stream_is_read_from_the_member_that_the_url_prefers() {
    let mongo = Mongo::builder().nodes(3).start().await.unwrap();
    let client = Client::with_uri_str(mongo.url()).await.unwrap();
    let name = mongo.database("preferred");
    let items = client.database(&name).collection::<Document>("items");
    let url = format!("{}&readPreference=secondary", mongo.url());
    let tables = vec![needs(&name, "items", &[("_id", "int4")])];
    let mut follower = Follower::start(settings(&url), Start::FIRST, tables).await;
    follower.snapshot().await;
    items.insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(follower.change().await, "insert -> _id=1");
    let primary = mongo.primary().await.unwrap();
    let mut streams = [0; 3];
    for (node, streams) in streams.iter_mut().enumerate() {
        use futures_util::TryStreamExt as _;
        let admin = Client::with_uri_str(mongo.direct_url(node)).await.unwrap();
        let ours = [
            doc! { "$currentOp": { "idleCursors": true } },
            doc! { "$match": { "appName": "rowbridge", "cursor.tailable": true } },
        ];
        let found = admin.database("admin").aggregate(ours).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        *streams = found.len();
    }
    println!("the primary is {primary}, streams {streams:?}");
    assert_eq!(streams[primary], 0);
    assert!(streams.iter().sum::<usize>() > 0);
    follower.stop().await;
}
