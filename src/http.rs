//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`, and nothing else.
//!
//! Live means that the process answers. Ready is [`Health::ready`]. There is no authentication and nothing
//! here changes anything; the default address is loopback.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

    /// Answers until `stop`; open requests are finished.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self,
        health: Health,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/livez", get(|| async { "live\n" }))
            .route("/readyz", get(ready).with_state(health))
            .route("/metrics", get(scrape).with_state(metrics));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
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

    /// Asks over a real socket; the whole answer.
    async fn ask(address: SocketAddr, path: &str) -> String {
        let exchange = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::time::timeout(Duration::from_secs(10), exchange)
            .await
            .unwrap_or_else(|_| panic!("no answer to {path} within 10 s"))
    }

    #[tokio::test]
    async fn probes_and_metrics_answer() {
        let health = Health::new(Duration::from_secs(60));
        let metrics = Metrics::new(&["SeatSold".to_owned()], health.clone());
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(health.clone(), metrics, stop.clone()));

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let starting = ask(address, "/readyz").await;
        assert!(
            starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"),
            "{starting}"
        );
        health.set(Phase::Idle);
        health.confirm();
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
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404"));

        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
        ended
            .expect("ends within 10 s of the stop")
            .unwrap()
            .unwrap();
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
