//! Reads the change stream ahead, within a limit of bytes, on a task of its own.
//!
//! The server works on the next reply only once it is asked for it, so that is asked for as soon as one has come, while its
//! events wait to be taken in. Replies stay whole, as they came, and events are read where they lie; between them come
//! the server's words of how far it is.

use std::sync::Arc;

use bson::raw::{RawArray, RawBsonRef, RawDocument};
use futures_util::StreamExt as _;
use mongodb::error::Error;
use mongodb::raw_batch_cursor::RawBatch;
use rowbridge_api::Position;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::changes::Opened;
use crate::error::is_resumable;
use crate::event::EventError;
use crate::token;

/// What is counted of a reply's bytes at once.
const BYTES_PER_PERMIT: usize = 1 << 10;
/// Replies on their way, at most; their bytes are limited too.
const REPLIES_AHEAD: usize = 64;

/// What the stream gave.
pub(crate) enum Fetched {
    Events(Events),
    /// Nothing more up to here.
    Passed(Position),
    Failed(Error),
    /// The server closed the stream.
    Ended,
}

/// The events of one reply.
pub(crate) struct Events {
    reply: RawBatch,
    taken: usize,
    /// The reply's share of the bytes that may be ahead, until all of it is taken in.
    _bytes: OwnedSemaphorePermit,
}

impl Events {
    /// Those that are not taken in.
    pub(crate) fn left(
        &self,
    ) -> Result<impl Iterator<Item = Result<&RawDocument, EventError>>, EventError> {
        let events = self.reply.doc_slices().map_err(|_| EventError::Damaged)?;
        Ok(events
            .into_iter()
            .skip(self.taken)
            .map(|event| match event {
                Ok(RawBsonRef::Document(event)) => Ok(event),
                _ => Err(EventError::Damaged),
            }))
    }

    /// So many more are taken in.
    pub(crate) fn take(&mut self, events: usize) {
        self.taken += events;
    }
}

/// The receiving end. Dropping it stops the reading.
pub(crate) struct Reader {
    put_back: Option<Events>,
    fetched: mpsc::Receiver<Fetched>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    pub(crate) fn start(opened: Opened, ahead_bytes: usize) -> Self {
        let (sender, fetched) = mpsc::channel(REPLIES_AHEAD);
        let permits = (ahead_bytes / BYTES_PER_PERMIT).max(1);
        let task = tokio::spawn(read(opened, sender, permits));
        Self {
            put_back: None,
            fetched,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Fetched {
        match self.put_back.take() {
            Some(events) => Fetched::Events(events),
            None => self.fetched.recv().await.unwrap_or(Fetched::Ended),
        }
    }

    /// What is here already, behind what was put back.
    pub(crate) fn ready(&mut self) -> Option<Fetched> {
        self.fetched.try_recv().ok()
    }

    /// Gives back events that were not all taken in, to be the next.
    pub(crate) fn put_back(&mut self, events: Events) {
        self.put_back = Some(events);
    }
}

async fn read(mut opened: Opened, sender: mpsc::Sender<Fetched>, permits: usize) {
    let budget = Arc::new(Semaphore::new(permits));
    while let Some(reply) = opened.replies.next().await {
        let fetched = match reply {
            Ok(reply) => {
                if let Some(position) = position(&reply) {
                    opened.from = position;
                }
                match reply.doc_slices().map(RawArray::is_empty) {
                    Ok(true) => Fetched::Passed(opened.from.clone()),
                    Ok(false) => match share(&budget, &reply, permits).await {
                        Some(bytes) => Fetched::Events(Events {
                            reply,
                            taken: 0,
                            _bytes: bytes,
                        }),
                        None => return,
                    },
                    Err(error) => Fetched::Failed(error),
                }
            }
            Err(error) if is_resumable(&error) => {
                match opened.changes.open_again(&opened.from).await {
                    Ok(replies) => {
                        opened.replies = replies;
                        continue;
                    }
                    Err(error) => Fetched::Failed(error),
                }
            }
            Err(error) => Fetched::Failed(error),
        };
        let is_over = matches!(fetched, Fetched::Failed(_));
        if sender.send(fetched).await.is_err() || is_over {
            return;
        }
    }
    // What the server sent before it closed the stream was sent on. Nobody may be listening any more.
    let _ = sender.send(Fetched::Ended).await;
}

/// How far the server says it was at the end of a reply, or its last event: the stream can go on behind it.
fn position(reply: &RawBatch) -> Option<Position> {
    let told = || {
        let cursor = reply.as_raw_document().get_document("cursor").ok()?;
        let token = cursor.get_document("postBatchResumeToken").ok()?;
        token::position(token).ok()
    };
    let last_event = || {
        let last = reply.doc_slices().ok()?.into_iter().last()?.ok()?;
        token::position(last.as_document()?.get_document("_id").ok()?).ok()
    };
    told().or_else(last_event)
}

/// Waits until the bytes of `reply` may be ahead too; one larger than all that may waits until it is alone.
async fn share(
    budget: &Arc<Semaphore>,
    reply: &RawBatch,
    permits: usize,
) -> Option<OwnedSemaphorePermit> {
    let bytes = reply.as_raw_document().as_bytes().len();
    let wanted = bytes.div_ceil(BYTES_PER_PERMIT).min(permits);
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    Arc::clone(budget).acquire_many_owned(wanted).await.ok()
}
