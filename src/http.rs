//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`, and nothing else.
//!
//! Live means that the process answers. Ready is [`Health::ready`]. There is no authentication and nothing
//! here changes anything; the default address is loopback. What a client can hold is bounded: the size of its
//! request, the time of its connection, and how many there are.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Longest time from accepting a connection to the end of its one request and answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Open connections; a further one ends the oldest, so that a probe always gets through.
const MAX_CONNECTIONS: usize = 32;
/// Longest request line with its headers; the least that hyper takes is half of it.
const MAX_REQUEST_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Pause after the system has no socket for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer that was begun may take after the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Bound, not yet serving.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// The address is taken, or not ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on http.listen = {listen}")]
pub struct BindError {
    listen: SocketAddr,
    #[source]
    cause: std::io::Error,
}

impl Server {
    /// Binds, so that a wrong address is found before the pipeline starts. Port 0 takes any free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|cause| BindError { listen, cause })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`; requests that are complete are answered.
    pub async fn serve(self, health: Health, metrics: Metrics, stop: CancellationToken) {
        let router = Router::new()
            .route("/livez", get(|| async { "live\n" }))
            .route("/readyz", get(ready).with_state(health))
            .route("/metrics", get(scrape).with_state(metrics));
        let mut connections = Connections::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => connections.add(converse(stream, router.clone())),
                Err(error) => {
                    tracing::debug!(%error, "no connection of http.listen could be taken");
                    let _ = tokio::time::timeout(ACCEPT_PAUSE, stop.cancelled()).await;
                }
            }
        }
        drop(self.listener);
        connections.finish().await;
    }
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|task| !task.is_finished());
        if self.open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
        }
        self.open.push_back(self.tasks.spawn(connection));
    }

    /// Waits for answers on their way; who is still sending a request is hung up on.
    async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
    }
}

/// One request and its answer.
async fn converse(stream: TcpStream, router: Router) {
    let answering = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .max_buf_size(MAX_REQUEST_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_TIMEOUT, answering).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of http.listen broke"),
        Err(_) => tracing::debug!("a connection of http.listen took too long"),
    }
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    match health.ready() {
        Ok(text) => (StatusCode::OK, text + "\n"),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text + "\n"),
    }
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.render())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::health::Phase;

    /// Longer than anything here may take.
    const SOON: Duration = Duration::from_secs(8);

    /// Sends bytes over a real socket; the whole answer.
    async fn send(address: SocketAddr, request: &str) -> String {
        let exchange = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            // A server that has had enough may hang up while we are still sending.
            let _ = socket.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        tokio::time::timeout(SOON, exchange)
            .await
            .unwrap_or_else(|_| panic!("no answer within {SOON:?}"))
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        send(address, &request).await
    }

    /// A server on a port of its own.
    struct Serving {
        address: SocketAddr,
        health: Health,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Serving {
        async fn start() -> Self {
            let health = Health::new(Duration::from_secs(60));
            let metrics = Metrics::new(&["SeatSold".to_owned()], health.clone());
            let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let address = server.address();
            let stop = CancellationToken::new();
            let task = tokio::spawn(server.serve(health.clone(), metrics, stop.clone()));
            Self {
                address,
                health,
                stop,
                task,
            }
        }

        async fn stop(self) {
            self.stop.cancel();
            let ended = tokio::time::timeout(SOON, self.task).await;
            ended.expect("ends soon after the stop").unwrap();
        }
    }

    #[tokio::test]
    async fn probes_and_metrics_answer() {
        let serving = Serving::start().await;
        let address = serving.address;
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let starting = ask(address, "/readyz").await;
        assert!(
            starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"),
            "{starting}"
        );
        serving.health.set(Phase::Idle);
        serving.health.confirm();
        let idle = ask(address, "/readyz").await;
        assert!(
            idle.starts_with("HTTP/1.1 200") && idle.ends_with("idle\n"),
            "{idle}"
        );
        let scraped = ask(address, "/metrics").await;
        assert!(scraped.contains(OPEN_METRICS), "{scraped}");
        assert!(
            scraped.contains("rowbridge_events_total{type=\"SeatSold\"} 0"),
            "{scraped}"
        );
        serving.stop().await;
    }

    #[tokio::test]
    async fn nothing_else_is_served() {
        let serving = Serving::start().await;
        for path in [
            "/",
            "/debug/pprof",
            "/config",
            "/livez/",
            "/metrics/../livez",
        ] {
            let answer = ask(serving.address, path).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            for path in ["/livez", "/readyz", "/metrics"] {
                let request =
                    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
                let answer = send(serving.address, &request).await;
                assert!(
                    answer.starts_with("HTTP/1.1 405"),
                    "{method} {path}: {answer}"
                );
            }
        }
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_huge_request_is_turned_away() {
        let serving = Serving::start().await;
        let long = "a".repeat(4 * MAX_REQUEST_BYTES);
        let header = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
        let many = format!(
            "GET /livez HTTP/1.1\r\n{}\r\n",
            "X-A: b\r\n".repeat(MAX_HEADERS + 1)
        );
        for request in [
            header,
            many,
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let answer = send(serving.address, &request).await;
            // Hung up on while it was still sending, or told why.
            assert!(
                answer.is_empty()
                    || answer.starts_with("HTTP/1.1 431")
                    || answer.starts_with("HTTP/1.1 414"),
                "{answer}"
            );
        }
        assert!(
            ask(serving.address, "/livez")
                .await
                .starts_with("HTTP/1.1 200")
        );
        serving.stop().await;
    }

    #[tokio::test]
    async fn clients_that_never_finish_hold_neither_a_probe_nor_the_stop_up() {
        let serving = Serving::start().await;
        let mut slow = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            let mut socket = TcpStream::connect(serving.address).await.unwrap();
            socket.write_all(b"GET /livez HTT").await.unwrap();
            slow.push(socket);
        }
        assert!(
            ask(serving.address, "/livez")
                .await
                .starts_with("HTTP/1.1 200")
        );
        // The oldest was hung up on to make room for the newest.
        let mut byte = [0];
        let first = tokio::time::timeout(SOON, slow[0].read(&mut byte)).await;
        assert!(!matches!(first.expect("hung up on"), Ok(1..)));
        serving.stop().await;
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let first = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let second = Server::bind(first.address()).await.err().unwrap();
        assert_eq!(
            second.to_string(),
            format!("cannot listen on http.listen = {}", first.address())
        );
    }
}
