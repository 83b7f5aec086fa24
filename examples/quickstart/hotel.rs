//! The hotel group's reservations in MongoDB.

use std::fmt;

use anyhow::{Context, Result};
use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use rowbridge_testbed::{Kafka, Mongo, http};
use serde::Deserialize;

use crate::daemon::Daemon;
use crate::stage::Stage;
use crate::story::{Expected, Statement, Story};

const STORY: &str = include_str!("hotel.toml");
const STORY_FILE: &str = "examples/quickstart/hotel.toml";

/// Reservations of the house that another one takes over; enough that their events take a while to publish.
const RESERVATIONS: u32 = 20_000;

/// While nothing is written the position soon comes to the server's present, which each step waits for.
const CONFIG: &str = r#"
pipeline = "hotel"
mapping  = "mappings/hotel"

[source.mongodb]
url                     = "mongodb://localhost:27017/?replicaSet=rs0"
idle_commit_interval_ms = 100

[sink.kafka]
brokers = "localhost:9092"
"#;

pub(crate) struct Hotel {
    url: String,
    database: Database,
    _server: Mongo,
}

/// A command of MongoDB, with the values that TOML does not have in its extended JSON.
#[derive(Clone, Deserialize)]
pub(crate) struct Command(Document);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the collection is like before Rowbridge comes; the rest of the file is the [`Story`].
#[derive(Deserialize)]
struct Given {
    given: Vec<Command>,
}

impl Stage for Hotel {
    const NAME: &'static str = "hotel";
    const SERVER: &'static str = "mongodb";

    type Write = Command;

    fn story() -> Result<Story<Command>> {
        toml::from_str(STORY).context(STORY_FILE)
    }

    async fn start() -> Result<(Self, Kafka)> {
        let (server, kafka) = tokio::try_join!(Mongo::start(), Kafka::start())?;
        let url = server.url();
        let hotel = Self {
            database: Client::with_uri_str(&url).await?.database("hotel"),
            url,
            _server: server,
        };
        let Given { given } = toml::from_str(STORY).context(STORY_FILE)?;
        for command in &given {
            hotel.write(command).await?;
        }
        Ok((hotel, kafka))
    }

    fn config() -> Result<String> {
        Ok(CONFIG.to_owned())
    }

    fn url(&self) -> &str {
        &self.url
    }

    async fn write(&self, command: &Command) -> Result<()> {
        let answer = self
            .database
            .run_command(command.0.clone())
            .await
            .with_context(|| format!("the command {command}"))?;
        // The server answers `ok` to a command whose writes it refused.
        anyhow::ensure!(
            !answer.contains_key("writeErrors"),
            "the command {command}: {answer}"
        );
        Ok(())
    }

    /// The server's present. The position passes a change only once the server's time has gone on, by which alone it is
    /// known to be complete; its events are out before that. A busy server goes on by itself, an idle one every ten
    /// seconds, so the story gives it something to write.
    async fn mark(&self) -> Result<String> {
        let answer = self.database.run_command(doc! { "ping": 1 }).await?;
        let present = answer.get_timestamp("operationTime")?;
        let go_on = doc! { "appendOplogNote": 1, "data": { "said by": "the quickstart" } };
        let admin = self.database.client().database("admin");
        admin.run_command(go_on).await?;
        Ok(format!("{:X}/{:X}", present.time, present.increment))
    }

    /// The daemon's metrics say it; the server keeps nothing of a pipeline.
    async fn has_passed(&self, mark: &str, daemon: &Daemon) -> Result<bool> {
        let (_, metrics) = http::get(daemon.http(), "/metrics").await?;
        let position = metrics
            .split_once("rowbridge_position_info{position=\"")
            .and_then(|(_, rest)| rest.split(['"', ':']).next());
        Ok(position.and_then(cluster_time) >= cluster_time(mark))
    }

    /// A house that is not published is full; then one that is takes over all its reservations.
    async fn group(&self) -> Result<Statement<Command>> {
        self.database
            .collection("reservations")
            .insert_many((1..=RESERVATIONS).map(of_the_closing_house))
            .await?;
        let event = |number: u32| Expected {
            topic: "hotel.reservations".to_owned(),
            event_type: "ReservationState".to_owned(),
            key: reservation_id(number).to_hex(),
            quarantined: false,
            tombstone: false,
        };
        let update = doc! {
            "q": { "propertyId": "PAR-CL" },
            "u": { "$set": { "propertyId": "PAR-GN" }, "$currentDate": { "updatedAt": true } },
            "multi": true,
        };
        Ok(Statement {
            say: format!(
                "A house in Paris closes and its neighbour takes over {RESERVATIONS} reservations in one command. Rowbridge is killed in the middle."
            ),
            write: Command(doc! { "update": "reservations", "updates": [update] }),
            events: (1..=RESERVATIONS).map(event).collect(),
        })
    }
}

/// A cluster time as [`Stage::mark`] and positions print it.
fn cluster_time(text: &str) -> Option<(u32, u32)> {
    let (time, increment) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).ok();
    Some((part(time)?, part(increment)?))
}

fn reservation_id(number: u32) -> ObjectId {
    let mut bytes = [0x65; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn of_the_closing_house(number: u32) -> Document {
    let day = |day: &str| Bson::DateTime(bson::DateTime::parse_rfc3339_str(day).expect("a day"));
    let rate: bson::Decimal128 = "95.00".parse().expect("a decimal");
    doc! {
        "_id": reservation_id(number),
        "confirmationNo": format!("CL{number}"),
        "propertyId": "PAR-CL",
        "bookingStatus": "Not Arrived",
        "roomType": "TWIN",
        "arrivalDate": day("2027-03-01T00:00:00Z"),
        "departureDate": day("2027-03-03T00:00:00Z"),
        "ratePerNight": rate,
        "currency": "EUR",
        "party": { "adults": 2 },
        "guest": { "id": format!("G-{number}"), "name": { "given": "Guest", "family": format!("Number {number}") } },
        "updatedAt": day("2026-11-01T12:00:00Z"),
    }
}
