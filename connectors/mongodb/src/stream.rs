//! The streaming loop: events in, batches out, a sign of life when there are none.
//!
//! One task, one `select!`. It takes events in until a batch is full and sends it as soon as there is room. The
//! server holds nothing for us, so there is nothing to acknowledge to it.

use std::time::{Duration, Instant};

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use mongodb::Client;
use mongodb::change_stream::ChangeStream;
use mongodb::error::Error;
use mongodb::options::{FullDocumentBeforeChangeType, ReadConcern};
use rowbridge_api::{
    Batch, ConsumerGone, HEARTBEAT, Op, Position, SourceError, SourceIo, TableNeeds,
};
use tokio::time::sleep_until;

use crate::assembler::{Applied, Assembler, refusal};
use crate::client::{self, Deployment};
use crate::config::Limits;
use crate::error::{
    event_too_large, failed, history_lost, is_event_too_large, is_history_in_doubt,
    is_token_unknown,
};
use crate::event::Fragments;
use crate::oplog::{self, Reach};
use crate::reader::{Fetched, Reader};
use crate::{snapshot, token};

/// Items of a batch, at most.
const MAX_ITEMS: usize = 16 << 10;
/// A server answers when the wait for an event is over. From so much later on we look for another primary, as often.
const SILENCE: Duration = Duration::from_secs(1);

/// One run's stream, from its opening to shutdown or error.
pub(crate) struct Stream<'a> {
    client: &'a Client,
    /// When the stream began.
    primary: Option<String>,
    heard_at: Instant,
    io: &'a mut SourceIo,
    limits: &'a Limits,
    assembler: Assembler,
    reader: Reader,
    fragments: Fragments,
    batch: Batch,
    /// Where the run's stream began.
    started_at: Position,
    idle_due: Instant,
    sent_at: Instant,
}

/// What a wait ended with.
enum Woke {
    Fetched(Fetched),
    Room,
    Acked(Result<(), tokio::sync::watch::error::RecvError>),
    Timer,
    Silence,
    Shutdown,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(
        client: &'a Client,
        primary: Option<String>,
        io: &'a mut SourceIo,
        limits: &'a Limits,
        assembler: Assembler,
        stream: ChangeStream<RawDocumentBuf>,
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            primary,
            heard_at: now,
            io,
            limits,
            started_at: assembler.last_position().clone(),
            assembler,
            reader: Reader::start(stream, limits.ahead_bytes),
            fragments: Fragments::default(),
            batch: Batch::default(),
            idle_due: now,
            sent_at: now,
        }
    }

    /// Streams until shutdown or an error.
    pub(crate) async fn run(mut self) -> Result<(), SourceError> {
        self.io.acked.mark_changed();
        // The existing documents are read.
        self.io
            .status
            .send_if_modified(|status| status.snapshot.take().is_some());
        loop {
            self.housekeeping();
            match self.wait().await? {
                Woke::Fetched(fetched) => self.take_in(fetched).await?,
                Woke::Room => self.send().await?,
                Woke::Acked(Ok(())) => drop(self.io.acked.borrow_and_update()),
                Woke::Acked(Err(_)) => return Err(ConsumerGone.into()),
                Woke::Timer => {}
                Woke::Silence => self.look_for_another_primary().await?,
                Woke::Shutdown => {
                    self.settle().await;
                    return Ok(());
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<Woke, SourceError> {
        let wants_more = self.wants_more();
        let has_batch = self.has_batch();
        let wake_at = self.sent_at + HEARTBEAT;
        let silent_at = self.heard_at + self.limits.await_time + SILENCE;
        let SourceIo {
            out,
            acked,
            shutdown,
            ..
        } = &mut *self.io;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(Woke::Shutdown),
            changed = acked.changed() => Ok(Woke::Acked(changed)),
            ready = out.ready(), if has_batch => {
                ready?;
                Ok(Woke::Room)
            }
            () = sleep_until(wake_at.into()), if !has_batch => Ok(Woke::Timer),
            fetched = self.reader.next(), if wants_more => Ok(Woke::Fetched(fetched)),
            () = sleep_until(silent_at.into()), if wants_more => Ok(Woke::Silence),
        }
    }

    /// A batch is closed by its bytes; rows of which little is read fill it by their number.
    fn wants_more(&self) -> bool {
        self.batch.bytes.len() < self.limits.batch_bytes && self.batch.items.len() < MAX_ITEMS
    }

    /// A batch should be sent: it has items, or nothing was sent for so long that others may take us for gone.
    fn has_batch(&self) -> bool {
        !self.batch.is_empty() || self.sent_at.elapsed() >= HEARTBEAT
    }

    fn housekeeping(&mut self) {
        let now = Instant::now();
        if self.batch.is_empty() && self.idle_due <= now {
            self.assembler.send_idle(&mut self.batch);
            if !self.batch.is_empty() {
                self.idle_due = now + self.limits.idle_commit_interval;
            }
        }
    }

    /// The member that is read may be dead with its connections open, which nobody would notice for long; the others have
    /// elected another then. One that is only busy is waited for.
    async fn look_for_another_primary(&mut self) -> Result<(), SourceError> {
        self.heard_at = Instant::now();
        let asked = tokio::time::timeout(SILENCE, client::present_primary(self.client));
        match asked.await {
            Ok(Ok(Some(primary))) if self.primary.as_ref().is_some_and(|was| *was != primary) => {
                Err(SourceError::transient(format!(
                    "the member that is read says nothing, and {primary} is primary now"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Takes in what came, and all that is here behind it.
    async fn take_in(&mut self, first: Fetched) -> Result<(), SourceError> {
        self.heard_at = Instant::now();
        let mut next = Some(first);
        while let Some(fetched) = next {
            match fetched {
                Fetched::Event { document, .. } => self.event(document)?,
                Fetched::Passed(position) => self.assembler.passed(position, &mut self.batch),
                Fetched::Failed(error) => return Err(self.failed(error).await),
                Fetched::Ended => {
                    // Behind an invalidate: the next life goes on after it, once that is committed.
                    self.settle().await;
                    return Err(SourceError::transient("the server ended the change stream"));
                }
            }
            next = self.wants_more().then(|| self.reader.ready()).flatten();
        }
        Ok(())
    }

    fn event(&mut self, document: RawDocumentBuf) -> Result<(), SourceError> {
        let whole = self
            .fragments
            .add(document)
            .map_err(|error| refusal(error.into()))?;
        let Some(document) = whole else {
            return Ok(());
        };
        match self
            .assembler
            .apply(&document, &mut self.batch)
            .map_err(refusal)?
        {
            Applied::Taken => Ok(()),
            Applied::Invalidated => {
                self.assembler.send_idle(&mut self.batch);
                Ok(())
            }
        }
    }

    async fn failed(&self, error: Error) -> SourceError {
        if is_event_too_large(&error) {
            return too_large(self.client, self.assembler.last_position(), &error).await;
        }
        if is_history_in_doubt(&error) {
            return SourceError::transient_from("the change stream failed".to_owned(), error);
        }
        failed("the change stream failed", error)
    }

    async fn send(&mut self) -> Result<(), SourceError> {
        let mut batch = self.io.out.send(std::mem::take(&mut self.batch)).await?;
        batch.clear();
        self.batch = batch;
        self.sent_at = Instant::now();
        Ok(())
    }

    /// Sends what is complete and waits until it is committed.
    async fn settle(&mut self) {
        while !self.is_settled() {
            let has_batch = !self.batch.is_empty();
            let SourceIo { out, acked, .. } = &mut *self.io;
            tokio::select! {
                biased;
                changed = acked.changed() => if changed.is_err() { break },
                ready = out.ready(), if has_batch => {
                    if ready.is_err() || self.send().await.is_err() {
                        break;
                    }
                }
            }
        }
    }

    /// Everything was sent, and the last commit sent, if there was one, is acknowledged.
    fn is_settled(&self) -> bool {
        let last = self.assembler.last_position();
        let acked = self.io.acked.borrow();
        self.batch.is_empty() && (*last == self.started_at || acked.as_ref() >= Some(last))
    }
}

/// Opens the stream of `needs` at `from`.
pub(crate) async fn open(
    client: &Client,
    deployment: &Deployment,
    needs: &[TableNeeds],
    limits: &Limits,
    from: &Position,
) -> Result<ChangeStream<RawDocumentBuf>, SourceError> {
    let mut pipeline = vec![doc! { "$match": scope(needs) }];
    if deployment.splits_large_events() {
        pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
    }
    let token = token::token(from);
    let by_time = token.is_none();
    let opened = watch(
        client,
        needs,
        limits,
        pipeline.clone(),
        Start::of(from, token),
    )
    .await;
    let opened = match opened {
        // The event of the token may be one that this mapping does not read: what came up to it is dropped here.
        Err(error) if !by_time && is_token_unknown(&error) => {
            watch(
                client,
                needs,
                limits,
                pipeline,
                Start::Time(token::time(from)),
            )
            .await
        }
        opened => opened,
    };
    match opened {
        Ok(stream) => Ok(stream),
        Err(error) if is_history_in_doubt(&error) => {
            let oldest = oplog::reach(client).await.map(Reach::oldest);
            Err(history_lost(from, oldest.as_ref(), &error))
        }
        Err(error) if is_event_too_large(&error) => Err(too_large(client, from, &error).await),
        Err(error) => Err(failed("the change stream failed", error)),
    }
}

/// By the servers' clock: they are past the event, as they tried to send it.
async fn too_large(client: &Client, from: &Position, error: &Error) -> SourceError {
    match snapshot::present(client).await {
        Ok(present) => event_too_large(from, &present, error),
        Err(lost) => lost,
    }
}

enum Start {
    Token(mongodb::change_stream::event::ResumeToken),
    Time(bson::Timestamp),
}

impl Start {
    fn of(from: &Position, token: Option<mongodb::change_stream::event::ResumeToken>) -> Self {
        // Everything up to a position without a token was delivered, its own moment included.
        let next = Position::new(from.order().saturating_add(1));
        token.map_or_else(|| Self::Time(token::time(&next)), Self::Token)
    }
}

async fn watch(
    client: &Client,
    needs: &[TableNeeds],
    limits: &Limits,
    pipeline: Vec<Document>,
    start: Start,
) -> Result<ChangeStream<RawDocumentBuf>, Error> {
    let databases: Vec<&str> = needs
        .iter()
        .map(|need| need.table.schema.as_str())
        .collect();
    let database = databases.first().copied().unwrap_or("admin");
    let is_one = databases.iter().all(|other| *other == database);
    let one;
    let watch = if is_one {
        one = client.database(database);
        one.watch()
    } else {
        client.watch()
    };
    let reads_before = needs
        .iter()
        .any(|need| need.ops.contains(Op::Update) || need.ops.contains(Op::Delete));
    let mut watch = watch
        .pipeline(pipeline)
        .max_await_time(limits.await_time)
        .read_concern(ReadConcern::majority());
    if reads_before {
        watch = watch.full_document_before_change(FullDocumentBeforeChangeType::WhenAvailable);
    }
    let watch = match start {
        // As `resumeAfter`, but also behind an invalidate.
        Start::Token(token) => watch.start_after(token),
        Start::Time(time) => watch.start_at_operation_time(time),
    };
    Ok(watch.await?.with_type())
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
