//! The streaming loop: events in, batches out, a sign of life when there are none.
//!
//! One task, one `select!`. It takes events in until a batch is full and sends it as soon as there is room. The
//! server holds nothing for us, so there is nothing to acknowledge to it.

use std::time::{Duration, Instant};

use bson::raw::RawDocument;
use mongodb::Client;
use mongodb::error::Error;
use rowbridge_api::{Batch, ConsumerGone, HEARTBEAT, Position, SourceError, SourceIo};
use tokio::time::sleep_until;

use crate::assembler::{Applied, Assembler, refusal};
use crate::changes::{self, Opened};
use crate::client;
use crate::config::Limits;
use crate::error::{failed, is_event_too_large, is_history_in_doubt};
use crate::event::Fragments;
use crate::reader::{Events, Fetched, Reader};

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
        opened: Opened,
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
            reader: Reader::start(opened, limits.ahead_bytes),
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
                Fetched::Events(events) => self.events(events)?,
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

    /// Takes in a reply's events until the batch is full; what is left of them comes next.
    fn events(&mut self, mut events: Events) -> Result<(), SourceError> {
        let mut taken = 0;
        let mut is_over = true;
        for event in events.left().map_err(|error| refusal(error.into()))? {
            if !self.wants_more() {
                is_over = false;
                break;
            }
            self.event(event.map_err(|error| refusal(error.into()))?)?;
            taken += 1;
        }
        if !is_over {
            events.take(taken);
            self.reader.put_back(events);
        }
        Ok(())
    }

    fn event(&mut self, document: &RawDocument) -> Result<(), SourceError> {
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
            let from = self.assembler.last_position();
            return changes::too_large(self.client, from, &error).await;
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
