//! Reads the change stream ahead, within a limit of bytes, on a task of its own.
//!
//! The driver's call for the next event cannot be dropped half way, so it lives where nobody drops it. Events come as
//! raw BSON; between them come the server's words of how far it is.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use mongodb::change_stream::ChangeStream;
use mongodb::error::Error;
use rowbridge_api::Position;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::token;

/// What is counted of an event's bytes at once.
const BYTES_PER_PERMIT: usize = 1 << 10;
/// Events on their way, at most; their bytes are limited too.
const EVENTS_AHEAD: usize = 4 << 10;

/// What the stream gave.
pub(crate) enum Fetched {
    Event {
        document: RawDocumentBuf,
        /// Its share of the bytes that may be ahead, until it is taken in.
        _bytes: OwnedSemaphorePermit,
    },
    /// Nothing more up to here.
    Passed(Position),
    Failed(Error),
    /// The server closed the stream.
    Ended,
}

/// The receiving end. Dropping it stops the reading.
pub(crate) struct Reader {
    fetched: mpsc::Receiver<Fetched>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    pub(crate) fn start(stream: ChangeStream<RawDocumentBuf>, ahead_bytes: usize) -> Self {
        let (sender, fetched) = mpsc::channel(EVENTS_AHEAD);
        let permits = (ahead_bytes / BYTES_PER_PERMIT).max(1);
        let task = tokio::spawn(read(stream, sender, permits));
        Self {
            fetched,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Fetched {
        self.fetched.recv().await.unwrap_or(Fetched::Ended)
    }

    /// What is here already.
    pub(crate) fn ready(&mut self) -> Option<Fetched> {
        self.fetched.try_recv().ok()
    }
}

async fn read(
    mut stream: ChangeStream<RawDocumentBuf>,
    sender: mpsc::Sender<Fetched>,
    permits: usize,
) {
    let budget = Arc::new(Semaphore::new(permits));
    loop {
        let fetched = match stream.next_if_any().await {
            Ok(Some(document)) => {
                let wanted = document
                    .as_bytes()
                    .len()
                    .div_ceil(BYTES_PER_PERMIT)
                    .min(permits);
                let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
                let Ok(bytes) = Arc::clone(&budget).acquire_many_owned(wanted).await else {
                    return;
                };
                Fetched::Event {
                    document,
                    _bytes: bytes,
                }
            }
            // What the server sent before it closed the stream has been read by now.
            Ok(None) if !stream.is_alive() => break,
            Ok(None) => match stream
                .resume_token()
                .map(|token| token::position_of(&token))
            {
                Some(Ok(position)) => Fetched::Passed(position),
                _ => continue,
            },
            Err(error) => Fetched::Failed(error),
        };
        let is_over = matches!(fetched, Fetched::Failed(_));
        if sender.send(fetched).await.is_err() || is_over {
            return;
        }
    }
    // Nobody may be listening any more.
    let _ = sender.send(Fetched::Ended).await;
}
