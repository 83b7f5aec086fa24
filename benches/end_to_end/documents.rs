//! MongoDB with the same segments as documents; its floor is the driver's own loop over the same change stream.
//!
//! The floor opens the stream with the options that the connector has and throws the raw events away, in the process of the
//! bench: it pays for no start.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bson::raw::RawDocumentBuf;
use bson::{DateTime, Decimal128, Document, Timestamp, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::options::{FullDocumentBeforeChangeType, ReadConcern};
use mongodb::{Client, Collection};
use rowbridge_api::Position;
use rowbridge_testbed::Mongo;

use crate::backlog::{self, BOOKINGS, Backlog, FLIGHTS, SEGMENTS};
use crate::latency::Times;
use crate::pipeline::{Pack, Process};

const DATABASE: &str = "reservations";
const COLLECTION: &str = "segments";
/// The whole backlog has to fit.
const OPLOG_MB: u32 = 2_000;
/// Updates of one command; each is a change of its own.
const UPDATES_PER_COMMAND: u64 = 1_000;

pub(crate) struct Documents {
    mongo: Mongo,
    client: Client,
    /// Where the floor begins.
    begins: Mutex<Option<Timestamp>>,
}

impl Documents {
    pub(crate) async fn start() -> Result<Self> {
        let mongo = Mongo::builder().oplog_mb(OPLOG_MB).start().await?;
        let client = Client::with_uri_str(mongo.url()).await?;
        Ok(Self {
            mongo,
            client,
            begins: Mutex::new(None),
        })
    }

    fn segments(&self) -> Collection<Document> {
        self.client.database(DATABASE).collection(COLLECTION)
    }

    /// The documents that the updates change, with their images before a change.
    pub(crate) async fn prepare(&self) -> Result<()> {
        let create =
            doc! { "create": COLLECTION, "changeStreamPreAndPostImages": { "enabled": true } };
        self.client.database(DATABASE).run_command(create).await?;
        let fare: Decimal128 = "120.50".parse()?;
        let segment = |number: u64| {
            let day = i64::try_from(20_788 + number % 7).unwrap_or_default();
            doc! {
                "_id": i64::try_from(number).unwrap_or_default(),
                "pnr": format!("BN{:04}", number % BOOKINGS),
                "flight_no": format!("BA{}", number % FLIGHTS),
                "departure": DateTime::from_millis(day * 86_400_000),
                "cabin": "Y",
                "fare_class": "M",
                "seat_no": "S0",
                "fare": fare,
                "status": "OPEN",
                "sales_channel": "web",
                "passenger": { "tier": "GOLD", "bags": 1 },
                "updated_at": DateTime::now(),
            }
        };
        self.segments()
            .insert_many((1..=SEGMENTS).map(segment))
            .await?;
        Ok(())
    }

    /// A pack beside this file: one event for each change of a seat.
    pub(crate) fn pack(&self) -> Pack {
        Pack {
            mapping: include_str!("segments/mapping.toml").to_owned(),
            schema: include_str!("segments/schema.toml").to_owned(),
            source: format!("[source.mongodb]\nurl = \"{}\"\n", self.mongo.url()),
        }
    }

    /// The floor begins at the present, as the pipelines do.
    pub(crate) async fn begin_floor(&self) -> Result<()> {
        let present = self.present().await?;
        *self.begins.lock().expect("nobody panicked") = Some(present);
        Ok(())
    }

    /// Writes the updates; where the last one is.
    pub(crate) async fn write(&self, backlog: &Backlog<'_>) -> Result<Position> {
        let database = self.client.database(DATABASE);
        let mut end = Timestamp {
            time: 0,
            increment: 0,
        };
        let mut first = 1;
        while first <= backlog.rows {
            let last = (first + UPDATES_PER_COMMAND - 1).min(backlog.rows);
            let updates: Vec<Document> = (first..=last)
                .map(
                    |number| doc! { "q": { "_id": backlog::segment(number) }, "u": seated(number) },
                )
                .collect();
            let answer = database
                .run_command(doc! { "update": COLLECTION, "updates": updates })
                .await?;
            end = answer.get_timestamp("operationTime")?;
            first = last + 1;
        }
        Ok(Position::new(
            u64::from(end.time) << 32 | u64::from(end.increment),
        ))
    }

    /// Reads as many events as there are updates and drops them; how long that took.
    pub(crate) async fn floor(&self, rows: u64) -> Result<Duration> {
        let begins = *self.begins.lock().expect("nobody panicked");
        let started = Instant::now();
        let mut stream = self.stream(begins.context("a beginning")?).await?;
        let mut events = 0;
        while events < rows {
            events += u64::from(stream.next_if_any().await?.is_some());
        }
        Ok(started.elapsed())
    }

    /// As the connector opens it.
    async fn stream(&self, begins: Timestamp) -> Result<ChangeStream<RawDocumentBuf>> {
        let scope = doc! { "$match": { "$or": [
            { "ns.db": DATABASE, "ns.coll": COLLECTION },
            { "operationType": "rename", "to": { "db": DATABASE, "coll": COLLECTION } },
            { "operationType": "dropDatabase", "ns.db": DATABASE },
            { "operationType": "invalidate" },
        ] } };
        let stream = self
            .client
            .database(DATABASE)
            .watch()
            .pipeline([scope])
            .max_await_time(Duration::from_secs(1))
            .read_concern(ReadConcern::majority())
            .full_document_before_change(FullDocumentBeforeChangeType::WhenAvailable)
            .start_at_operation_time(begins)
            .await?;
        Ok(stream.with_type())
    }

    async fn present(&self) -> Result<Timestamp> {
        let answer = self
            .client
            .database("admin")
            .run_command(doc! { "ping": 1 })
            .await?;
        Ok(answer.get_timestamp("operationTime")?)
    }

    /// Whether the pipeline published everything up to `end`: its committed position says so.
    pub(crate) async fn is_drained(&self, process: &Process, end: &Position) -> Result<bool> {
        Ok(process
            .position()
            .await
            .is_some_and(|position| position.order() >= end.order()))
    }

    /// The driver's loop, which notes when each new seat came by.
    pub(crate) async fn follow(
        &self,
        received: Times,
        start: Instant,
    ) -> Result<impl Future<Output = Result<()>> + use<>> {
        let mut stream = self.stream(self.present().await?).await?;
        Ok(async move {
            loop {
                let Some(event) = stream.next_if_any().await? else {
                    continue;
                };
                let update = event.get_document("updateDescription")?;
                let updated = update.get_document("updatedFields")?;
                received.note(updated.get_str("seat_no")?, start);
            }
        })
    }

    pub(crate) fn writer(&self) -> Collection<Document> {
        self.segments()
    }
}

/// Makes one update, which the servers acknowledge.
pub(crate) async fn write_one(segments: &Collection<Document>, number: u64) -> Result<()> {
    segments
        .update_one(doc! { "_id": backlog::segment(number) }, seated(number))
        .await?;
    Ok(())
}

fn seated(number: u64) -> Document {
    doc! { "$set": { "seat_no": backlog::seat(number), "updated_at": DateTime::now() } }
}
