//! What is classed leaves protected: the topics of a pipeline are searched for what was in the rows.

use anyhow::Result;
use rowbridge_testbed::consumer::read_all;

use crate::rig::{Rig, SOON, eventually};

const SCHEMA: &str = "\
    CREATE TABLE passenger (id int8 PRIMARY KEY, email text NOT NULL, passport text, fare numeric(10,2), seat text, unread text, bags jsonb);
    ALTER TABLE passenger REPLICA IDENTITY FULL;
    INSERT INTO passenger VALUES (1, 'canary-1@example.com', 'canary-P1', 10, '1A', 'canary-unread', '[]');";

const PACK_SCHEMA: &str = "\
    [passenger]\nkey = [\"id\"]\n[passenger.columns]\n\
    id = \"int8\"\nemail = \"text\"\npassport = \"text\"\nfare = \"numeric(10,2)\"\nseat = \"text\"\nbags = \"jsonb\"\n";

const MAPPING: &str = r#"
[mapping]
name     = "discretion"
version  = 1
on_error = "quarantine"
[tables]
passenger = "public.passenger"
[privacy]
columns = { "passenger.email" = "hash", "passenger.passport" = "drop", "passenger.bags.owner" = "mask" }
[topics.passengers]
name       = "@TOPIC@"
partitions = 1
[[event]]
type    = "PassengerKnown"
table   = "passenger"
on      = ["read", "insert"]
topic   = "passengers"
key     = "{email}"
subject = "{email}"
headers = { who = "$.row.email" }
data    = { email = "$.row.email", bags = "$.row.bags" }
[[event.check]]
assert  = "$.row.fare > 0 && $.row.passport != null"
message = "an impossible passenger"
[[event]]
type  = "BagGiven"
table = "passenger"
on    = "insert"
each  = "$.row.bags"
topic = "passengers"
key   = "{$.item.tag}"
data  = { tag = "$.item.tag", owner = "$.item.owner" }
"#;

#[tokio::test]
async fn a_passport_and_an_email_reach_no_topic() -> Result<()> {
    let rig = Rig::shared("passport").await?;
    rig.sql(SCHEMA).await?;
    rig.write_pack_with(MAPPING, PACK_SCHEMA)?;
    std::fs::write(rig.path("hash.key"), "canary-0123456789abcdef0123456789\n")?;
    rig.write_config("[privacy]\nhash_key_id = \"k1\"\nhash_key_file = \"hash.key\"\n")?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql(
        r#"INSERT INTO passenger VALUES (2, 'canary-1@example.com', 'canary-P2', 12, '2B', 'canary-unread',
               '[{"tag": "T1", "owner": "canary-owner"}, {"tag": "T2", "owner": null}]');
           INSERT INTO passenger VALUES (3, 'canary-3@example.com', 'canary-P3', -1, '3C', 'canary-unread', NULL)"#,
    )
    .await?;
    let quarantine = format!("rowbridge.{}.quarantine", rig.pipeline);
    eventually("four events and a row set aside", SOON, || async {
        let events = read_all(&rig.brokers, &rig.topic)?.len();
        Ok(events >= 4 && !read_all(&rig.brokers, &quarantine)?.is_empty())
    })
    .await?;
    let events = read_all(&rig.brokers, &rig.topic)?;
    let set_aside = read_all(&rig.brokers, &quarantine)?;
    let position = format!("rowbridge.{}.position", rig.pipeline);
    let position = read_all(&rig.brokers, &position)?;
    let everything = format!("{events:?} {set_aside:?} {position:?} {}", daemon.log());
    assert!(!everything.contains("canary"), "{everything}");

    assert_eq!(events.len(), 4, "{events:?}");
    let known: Vec<_> = events
        .iter()
        .filter(|event| event.kind() == "PassengerKnown")
        .collect();
    assert!(known[0].key.starts_with("k1:"), "{known:?}");
    for event in &known {
        let hashes = [&event.key, event.header("ce_subject"), event.header("who")];
        assert!(hashes.iter().all(|hash| *hash == known[0].key), "{known:?}");
    }
    let owners: Vec<String> = events
        .iter()
        .filter(|event| event.kind() == "BagGiven")
        .map(|event| format!("{} {}", event.key, event.field("owner")))
        .collect();
    assert_eq!(owners, ["T1 ************", "T2 null"]);
    let row = set_aside[0].value.as_ref().map(|value| &value["after"]);
    let names = row.and_then(|row| Some(row.as_object()?.keys().cloned().collect::<Vec<_>>()));
    assert_eq!(names.unwrap_or_default(), ["id", "email", "fare", "bags"]);
    assert_eq!(daemon.terminate().await?, 0);
    Ok(())
}
