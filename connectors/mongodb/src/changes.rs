//! What a change stream is of, and opening it at a position.
//!
//! Source: MongoDB manual, "$changeStream". The stage is asked for as an aggregation, not with the driver's `watch`: that
//! gives one event at a time, which it copies twice on the way, and asks for the next reply when it has given away all
//! of the last one; an aggregation gives each reply whole, as it came.

use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::raw_batch_cursor::RawBatchCursor;
use mongodb::{Client, Database};
use rowbridge_api::{Op, Position, SourceError, TableNeeds};

use crate::client::Deployment;
use crate::config::Limits;
use crate::error::{
    event_too_large, failed, history_lost, is_event_too_large, is_history_in_doubt,
    is_token_unknown,
};
use crate::oplog::{self, Reach};
use crate::{snapshot, token};

/// A change stream that can be opened anywhere.
pub(crate) struct Changes {
    client: Client,
    database: Database,
    /// What the first stage says, but for where it starts.
    options: Document,
    /// The stages behind it.
    stages: Vec<Document>,
    reply_events: u32,
    await_time: Duration,
}

/// One that is open.
pub(crate) struct Opened {
    pub(crate) changes: Changes,
    /// Behind which it begins.
    pub(crate) from: Position,
    pub(crate) replies: RawBatchCursor,
}

enum Start {
    Token(Document),
    Time(Timestamp),
}

impl Start {
    fn of(from: &Position) -> Self {
        // Everything up to a position without a token was delivered, its own moment included.
        let next = || Position::new(from.order().saturating_add(1));
        token::token(from).map_or_else(|| Self::Time(token::time(&next())), Self::Token)
    }
}

impl Changes {
    /// Over one database, or over all of them where several are mapped.
    pub(crate) fn of(
        client: &Client,
        deployment: &Deployment,
        needs: &[TableNeeds],
        limits: &Limits,
    ) -> Self {
        let mut databases = needs.iter().map(|need| need.table.schema.as_str());
        let first = databases.next().unwrap_or("admin");
        let is_one = databases.all(|other| other == first);
        let mut options = Document::new();
        if !is_one {
            options.insert("allChangesForCluster", true);
        }
        let reads_before =
            |need: &TableNeeds| need.ops.contains(Op::Update) || need.ops.contains(Op::Delete);
        if needs.iter().any(reads_before) {
            options.insert("fullDocumentBeforeChange", "whenAvailable");
        }
        let mut stages = vec![doc! { "$match": scope(needs) }];
        if deployment.splits_large_events() {
            stages.push(doc! { "$changeStreamSplitLargeEvent": {} });
        }
        Self {
            client: client.clone(),
            database: client.database(if is_one { first } else { "admin" }),
            options,
            stages,
            reply_events: limits.reply_events,
            await_time: limits.await_time,
        }
    }

    /// Opens it at `from`.
    pub(crate) async fn open(self, from: Position) -> Result<Opened, SourceError> {
        let start = Start::of(&from);
        let by_time = matches!(start, Start::Time(_));
        let opened = match self.ask(start).await {
            // The event of the token may be one that this mapping does not read: what came up to it is dropped here.
            Err(error) if !by_time && is_token_unknown(&error) => {
                self.ask(Start::Time(token::time(&from))).await
            }
            opened => opened,
        };
        match opened {
            Ok(replies) => Ok(Opened {
                changes: self,
                from,
                replies,
            }),
            Err(error) if is_history_in_doubt(&error) => {
                let oldest = oplog::reach(&self.client).await.map(Reach::oldest);
                Err(history_lost(&from, oldest.as_ref(), &error))
            }
            Err(error) if is_event_too_large(&error) => {
                Err(too_large(&self.client, &from, &error).await)
            }
            Err(error) => Err(failed("the change stream failed", error)),
        }
    }

    /// Opens it once more, behind what the stream before gave.
    pub(crate) async fn open_again(&self, from: &Position) -> Result<RawBatchCursor, Error> {
        self.ask(Start::of(from)).await
    }

    async fn ask(&self, start: Start) -> Result<RawBatchCursor, Error> {
        let mut options = self.options.clone();
        match start {
            // As `resumeAfter`, but also behind an invalidate.
            Start::Token(token) => options.insert("startAfter", token),
            Start::Time(time) => options.insert("startAtOperationTime", time),
        };
        let mut stages = vec![doc! { "$changeStream": options }];
        stages.extend_from_slice(&self.stages);
        self.database
            .aggregate(stages)
            .batch_size(self.reply_events)
            .max_await_time(self.await_time)
            .read_concern(ReadConcern::majority())
            .batch()
            .await
    }
}

/// By the servers' clock: they are past the event, as they tried to send it.
pub(crate) async fn too_large(client: &Client, from: &Position, error: &Error) -> SourceError {
    match snapshot::present(client).await {
        Ok(present) => event_too_large(from, &present, error),
        Err(lost) => lost,
    }
}

/// The events of the mapped collections, and what ends or replaces one.
fn scope(needs: &[TableNeeds]) -> Document {
    let mut any: Vec<Document> = Vec::new();
    for need in needs {
        let place = doc! { "db": &need.table.schema, "coll": &need.table.name };
        any.push(doc! { "ns.db": &need.table.schema, "ns.coll": &need.table.name });
        any.push(doc! { "operationType": "rename", "to": place });
        any.push(doc! { "operationType": "dropDatabase", "ns.db": &need.table.schema });
    }
    any.push(doc! { "operationType": "invalidate" });
    doc! { "$or": any }
}
