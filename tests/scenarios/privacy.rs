//! What is classed leaves protected: the topics of a pipeline are searched for what was in the rows.

use std::path::Path;

use anyhow::{Result, ensure};
use rowbridge_testbed::consumer::{read_all, read_bytes};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};

use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::statements::staged;

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

/// Passengers of the airline, whose type and tier every seat event carries; nothing else of them is anybody's business.
const PASSENGERS: &str = "\
    INSERT INTO bookings VALUES ('CANDID', 'CONFIRMED', 'web', 'a@example.com', 'GBP', 1, now(), now());
    INSERT INTO passengers (id, pnr, given_name, family_name, birth_date, passport_no, loyalty_tier) VALUES
        (1, 'CANDID', 'canary-given', 'canary-family', '1913-11-17', 'canary-P1', 'GOLD');
    INSERT INTO segments (id, pnr, passenger_id, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
        VALUES (1, 'CANDID', 1, 'BA117', '2026-12-01', 'Y', 'M', '30A', 310, 'OPEN', 'web');";

/// What says something, is set aside, or only changes who is remembered.
const A_DAY_OF_PASSENGERS: [&str; 6] = [
    "UPDATE segments SET seat_no = '30B', fare = -1 WHERE id = 1",
    "UPDATE passengers SET passport_no = 'canary-P2', loyalty_tier = 'SILVER' WHERE id = 1",
    "UPDATE segments SET seat_no = '30C', fare = 100 WHERE id = 1",
    "INSERT INTO passengers (id, pnr, given_name, family_name, birth_date, passport_no)
         VALUES (2, 'CANDID', 'canary-given', 'canary-family', '1913-11-17', 'canary-P3');
     UPDATE segments SET seat_no = '30D', passenger_id = 2 WHERE id = 1",
    "BEGIN; DELETE FROM segments WHERE id = 1;
     INSERT INTO segments (id, pnr, passenger_id, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
         VALUES (2, 'CANDID', 1, 'BA115', '2026-12-01', 'Y', 'M', '30E', -310, 'OPEN', 'web');
     UPDATE segments SET seat_no = '30F' WHERE id = 2; COMMIT",
    "DELETE FROM passengers WHERE id = 2",
];

#[tokio::test]
async fn of_a_passenger_who_is_looked_up_no_passport_reaches_topic_state_capture_or_log()
-> Result<()> {
    let postgres = Postgres::shared(PgVersion::V15).await?;
    let url = postgres.database("passengers").await?;
    let airline = Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings/airline");
    let schema = std::fs::read_to_string(airline.join("schema.sql"))?;
    Postgres::sql_at(&url, &format!("{schema}{PASSENGERS}")).await?;
    let rig = Rig::of_tables("passengers", &url, &Kafka::shared().await?.brokers())?;
    staged(&airline, "passengers", None, &rig.pack())?;

    let mut daemon = rig
        .daemon_with(&[("ROWBRIDGE_LOG__LEVEL", "trace")])
        .await?;
    daemon.ready().await?;
    let capture = rig.path("passengers.capture").display().to_string();
    let record = ["record", "--for", "6s", "--out", &capture];
    let (recorded, ()) = tokio::try_join!(rig.command(&record), a_day(&rig))?;
    ensure!(recorded.status.success(), "{recorded:?}");

    let published = everything(&rig, &daemon).await?;
    let captured = zstd::stream::decode_all(std::fs::File::open(&capture)?)?;
    let told = String::from_utf8_lossy(&[published, captured].concat()).into_owned();
    // It had every occasion: who they are to the airline is there, in events, in the state and in the capture.
    for wanted in [
        "30C",
        "30E",
        "GOLD",
        "SILVER",
        "impossible fare",
        "\"capture\":",
    ] {
        ensure!(
            told.contains(wanted),
            "no {wanted:?} in {} bytes",
            told.len()
        );
    }
    for personal in ["canary", "1913-11-17"] {
        let line = told.lines().find(|line| line.contains(personal));
        ensure!(line.is_none(), "{personal}: {line:?}");
    }
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Once the capture looks, and until what it does is published.
async fn a_day(rig: &Rig) -> Result<()> {
    let looks = "SELECT slot_name FROM pg_replication_slots WHERE slot_name <> 'rowbridge_passengers' \
                 AND database = current_database() AND active";
    eventually("the capture to look", SOON, || async {
        Ok(rig.query_text(looks).await?.is_some())
    })
    .await?;
    for step in A_DAY_OF_PASSENGERS {
        rig.sql(step).await?;
    }
    eventually("the last seat", SOON, || async {
        let seats = read_all(&rig.brokers, "passengers.travel.inventory")?;
        Ok(seats.iter().any(|event| event.field("seat") == "30F"))
    })
    .await
}

/// Every byte that the pipeline wrote anywhere.
async fn everything(rig: &Rig, daemon: &Daemon) -> Result<Vec<u8>> {
    let mut bytes = daemon.log().into_bytes();
    bytes.extend(daemon.get("/metrics").await?.1.into_bytes());
    for topic in ["bookings", "inventory", "prices"] {
        let topic = format!("passengers.travel.{topic}");
        bytes.extend(read_bytes(&rig.brokers, &topic)?);
        bytes.extend(format!("{:?}", read_all(&rig.brokers, &topic)?).into_bytes());
    }
    for own in ["quarantine", "position", "state"] {
        let of_topic = read_bytes(&rig.brokers, &format!("rowbridge.passengers.{own}"))?;
        ensure!(!of_topic.is_empty(), "nothing in the {own} topic");
        bytes.extend(of_topic);
    }
    Ok(bytes)
}
