//! The system behind the service: an HTTP server that fails where a test wants it to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The event that asks, from `Idempotency-Key`.
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) at: Instant,
    /// How often this event asked before.
    pub(crate) before: usize,
    /// Whether it changed something.
    pub(crate) applied: bool,
    /// Whether that had been done before.
    pub(crate) known: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// Nothing is done, and this is the status.
    Status(u16),
    /// It is done, and no answer ever comes.
    DoneInSilence,
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server. It ends with the test's process.
pub(crate) struct Downstream {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Downstream {
    /// A server on a thread of its own, so that a test may wait without it.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        listener.set_nonblocking(true)?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&asked));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        thread::spawn(move || runtime.block_on(serve(listener, script, log)));
        Ok(Self { address, asked })
    }

    /// Everything so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        locked(&self.asked).clone()
    }

    /// What was done for each reservation, in its order, as method and path.
    pub(crate) fn applied(&self) -> BTreeMap<String, Vec<String>> {
        let mut applied: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for asked in self.asked().into_iter().filter(|asked| asked.applied) {
            let reservation = asked.path.split('/').nth(2).unwrap_or_default().to_owned();
            let effect = format!("{} {}", asked.method, asked.path.replace(&reservation, "*"));
            applied.entry(reservation).or_default().push(effect);
        }
        applied
    }
}

async fn serve(
    listener: std::net::TcpListener,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Asked>>>,
) -> std::io::Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        let service =
            service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&log)));
        // A service that is killed ends its connection in the middle.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn locked(log: &Mutex<Vec<Asked>>) -> MutexGuard<'_, Vec<Asked>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request. An event that was done before is done no second time, and told so.
async fn answer(
    request: Request<Incoming>,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let id = request.headers().get("Idempotency-Key");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    let answer = {
        let mut log = locked(&log);
        let earlier = || log.iter().filter(|asked| asked.id == id);
        let mut asked = Asked {
            id: id.to_owned(),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            at: Instant::now(),
            before: earlier().count(),
            applied: false,
            known: earlier().any(|asked| asked.applied),
        };
        let answer = match asked.known {
            true => Answer::Done,
            false => script(&asked),
        };
        asked.applied = !asked.known && !matches!(answer, Answer::Status(_));
        log.push(asked);
        answer
    };
    let status = match answer {
        Answer::Done => 204,
        Answer::Status(status) => status,
        Answer::DoneInSilence => std::future::pending().await,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status.try_into().expect("a status");
    Ok(response)
}
