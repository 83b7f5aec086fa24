//! The documents that exist at one moment, such as a first start, from which the stream follows.
//!
//! The server keeps the past for a while (`minSnapshotHistoryWindowInSeconds`, 300 s by default). Where that is too
//! short for a collection, the read goes on at a later moment behind the last document read; the stream still
//! follows from the first moment, so that nothing is missed, and only `read` changes may be of a later state.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::{Bson, doc};
use mongodb::error::Error;
use mongodb::options::Hint;
use mongodb::{Client, ClientSession, SessionCursor};
use rowbridge_api::{
    Batch, Change, Image, Item, Op, Position, ShapeId, SnapshotProgress, SourceError, SourceIo,
    TableNeeds, Transaction,
};

use crate::assembler::shape;
use crate::config::Limits;
use crate::error::{failed, is_snapshot_gone};
use crate::event::EventError;
use crate::image::Columns;
use crate::token;

/// How often the count of documents read is published.
const ROWS_PER_STATUS: u64 = 10_000;
const DOING: &str = "cannot read the existing documents";

/// Reads every mapped collection and sends its documents.
pub(crate) struct Snapshot<'a> {
    client: &'a Client,
    limits: &'a Limits,
    session: ClientSession,
    batch: Batch,
    ordinal: u64,
    next_shape: u32,
    /// A moment before the first read.
    earlier: Position,
    /// The moment of the first read, or an earlier one.
    begun: Option<Position>,
    moment: Moment,
}

/// Which moment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// That of the first read, and a later one where the servers no longer have it.
    Any,
    /// One that was fixed: no other will do.
    Fixed,
}

/// What the stream needs to know.
pub(crate) struct Done {
    /// From where the stream has to follow.
    pub(crate) at: Position,
    pub(crate) next_shape: u32,
}

impl<'a> Snapshot<'a> {
    pub(crate) async fn begin(client: &'a Client, limits: &'a Limits) -> Result<Self, SourceError> {
        Ok(Self {
            client,
            limits,
            session: session(client)
                .await
                .map_err(|error| failed(DOING, error))?,
            batch: Batch::default(),
            ordinal: 0,
            next_shape: 0,
            earlier: present(client).await?,
            begun: None,
            moment: Moment::Any,
        })
    }

    /// Reads at a moment that was fixed before.
    pub(crate) async fn at(
        client: &'a Client,
        limits: &'a Limits,
        moment: &Position,
    ) -> Result<Self, SourceError> {
        let session = client.start_session().snapshot(true);
        let session = session.snapshot_time(token::time(moment)).await;
        Ok(Self {
            client,
            limits,
            session: session.map_err(|error| failed(DOING, error))?,
            batch: Batch::default(),
            ordinal: 0,
            next_shape: 0,
            earlier: moment.clone(),
            begun: None,
            moment: Moment::Fixed,
        })
    }

    /// Sends every document of the collections that rules read so, then the end of the snapshot: the stream follows from
    /// `since`, or else from the moment of the first read.
    pub(crate) async fn send(
        mut self,
        since: Option<Position>,
        io: &mut SourceIo,
    ) -> Result<Done, SourceError> {
        let needs: Vec<TableNeeds> = io
            .tables
            .iter()
            .filter(|need| need.ops.contains(Op::Read))
            .cloned()
            .collect();
        let rows_about = self.rows_about(&needs).await;
        for (number, need) in (1..).zip(&needs) {
            tracing::info!(collection = %need.table, "reading existing documents");
            let progress = SnapshotProgress {
                table: need.table.clone(),
                number,
                tables: needs.len(),
                rows: self.ordinal,
                rows_about,
            };
            io.status
                .send_modify(|status| status.snapshot = Some(progress));
            self.collection(need, io).await?;
        }
        self.begun();
        let at = self.begun.clone().unwrap_or_else(|| self.earlier.clone());
        let end = since.unwrap_or_else(|| at.clone());
        self.batch.items.push(Item::SnapshotEnd(end));
        self.flush(io).await?;
        tracing::info!(rows = self.ordinal, position = %at, "read all existing documents");
        Ok(Done {
            at,
            next_shape: self.next_shape,
        })
    }

    async fn collection(
        &mut self,
        need: &TableNeeds,
        io: &mut SourceIo,
    ) -> Result<(), SourceError> {
        let columns = Columns::of(need);
        let id = ShapeId(self.next_shape);
        self.next_shape += 1;
        let shape = Arc::new(shape(id, &need.table, &columns, &need.key));
        let mut announced = false;
        let mut last_id = None;
        loop {
            let mut cursor = match self.open(need, last_id.as_ref()).await {
                Err(error) if is_snapshot_gone(&error) => {
                    self.renew().await?;
                    continue;
                }
                opened => opened.map_err(|error| failed(DOING, error))?,
            };
            self.begun();
            if !std::mem::replace(&mut announced, true) {
                self.batch.items.push(Item::Shape(Arc::clone(&shape)));
            }
            match self
                .read(&columns, id, &mut cursor, &mut last_id, io)
                .await?
            {
                Read::All => return Ok(()),
                Read::UntilHistoryEnded => self.renew().await?,
            }
        }
    }

    /// A cursor over the documents after `last_id`, in the order of their ids.
    async fn open(
        &mut self,
        need: &TableNeeds,
        last_id: Option<&Bson>,
    ) -> Result<SessionCursor<RawDocumentBuf>, Error> {
        let collection = self
            .client
            .database(&need.table.schema)
            .collection::<RawDocumentBuf>(&need.table.name);
        let find = collection
            .find(doc! {})
            .hint(Hint::Keys(doc! { "_id": 1 }))
            .sort(doc! { "_id": 1 });
        let find = match last_id {
            // A bound of the index, because a comparison would leave out the ids of other types.
            Some(id) => find.min(doc! { "_id": id.clone() }),
            None => find,
        };
        find.session(&mut self.session).await
    }

    /// Begins the snapshot with the moment of the first read. The server tells none for a collection that does not
    /// exist: it may come into being before the next one is read, so the stream follows from before then.
    fn begun(&mut self) {
        if self.begun.is_some() {
            return;
        }
        let time = self.session.snapshot_time();
        let position = time.map_or_else(
            || self.earlier.clone(),
            |time| Position::new(token::order(time)),
        );
        self.batch.items.push(Item::Begin(Transaction {
            id: 0,
            position: position.clone(),
            commit_micros: i64::from(token::time(&position).time) * 1_000_000,
        }));
        self.begun = Some(position);
    }

    async fn read(
        &mut self,
        columns: &Columns,
        shape: ShapeId,
        cursor: &mut SessionCursor<RawDocumentBuf>,
        last_id: &mut Option<Bson>,
        io: &mut SourceIo,
    ) -> Result<Read, SourceError> {
        let behind = last_id.clone();
        loop {
            let document = match cursor.next(&mut self.session).await {
                None => return Ok(Read::All),
                Some(Err(error)) if is_snapshot_gone(&error) => return Ok(Read::UntilHistoryEnded),
                Some(read) => read.map_err(|error| failed(DOING, error))?,
            };
            let id = document
                .get("_id")
                .ok()
                .flatten()
                .and_then(|id| Bson::try_from(id).ok());
            // The bound includes the document that was read last.
            if id.is_some() && id == behind {
                continue;
            }
            self.row(columns, shape, &document, io)
                .map_err(|error| SourceError::transient(format!("{DOING}: {error}")))?;
            *last_id = id;
            if self.batch.bytes.len() >= self.limits.batch_bytes {
                self.flush(io).await?;
            }
        }
    }

    fn row(
        &mut self,
        columns: &Columns,
        shape: ShapeId,
        document: &RawDocumentBuf,
        io: &SourceIo,
    ) -> Result<(), EventError> {
        let first_cell = columns.whole(document, &mut self.batch)?;
        self.batch.items.push(Item::Change(Change {
            shape,
            op: Op::Read,
            before: Image::Absent,
            after: Image::Row { first_cell },
            width: u16::try_from(columns.len()).unwrap_or(u16::MAX),
            ordinal: self.ordinal,
        }));
        self.ordinal += 1;
        if self.ordinal.is_multiple_of(ROWS_PER_STATUS) {
            let rows = self.ordinal;
            io.status.send_modify(|status| {
                if let Some(progress) = &mut status.snapshot {
                    progress.rows = rows;
                }
            });
        }
        Ok(())
    }

    /// Documents of all collections by the servers' own count; nothing where it may not be seen.
    async fn rows_about(&self, needs: &[TableNeeds]) -> Option<u64> {
        let mut rows = 0;
        for need in needs {
            let database = self.client.database(&need.table.schema);
            let collection = database.collection::<RawDocumentBuf>(&need.table.name);
            rows += collection.estimated_document_count().await.ok()?;
        }
        Some(rows)
    }

    async fn flush(&mut self, io: &mut SourceIo) -> Result<(), SourceError> {
        let mut batch = io.out.send(std::mem::take(&mut self.batch)).await?;
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    /// Goes on at the present.
    async fn renew(&mut self) -> Result<(), SourceError> {
        if self.moment == Moment::Fixed {
            return Err(SourceError::transient(format!(
                "{DOING}: the servers no longer have the moment at {} (minSnapshotHistoryWindowInSeconds says how long \
                 they keep one)",
                self.earlier
            )));
        }
        tracing::info!(
            "the servers no longer have the moment of the snapshot; reading on at a later one"
        );
        self.session = session(self.client)
            .await
            .map_err(|error| failed(DOING, error))?;
        Ok(())
    }
}

/// How far a cursor came.
enum Read {
    All,
    UntilHistoryEnded,
}

async fn session(client: &Client) -> Result<ClientSession, Error> {
    client.start_session().snapshot(true).await
}

/// The servers' present.
pub(crate) async fn present(client: &Client) -> Result<Position, SourceError> {
    let answer = client
        .database("admin")
        .run_command(doc! { "ping": 1 })
        .await;
    let answer = answer.map_err(|error| failed(DOING, error))?;
    let time = answer.get_timestamp("operationTime");
    let time =
        time.map_err(|_| SourceError::transient(format!("{DOING}: the server tells no moment")))?;
    Ok(Position::new(token::order(time)))
}
