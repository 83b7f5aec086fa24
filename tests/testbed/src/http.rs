//! Asks a daemon's probes and metrics: one GET on a connection of its own.
//!
//! What is not here: keep-alive, chunked bodies, TLS. The daemon's HTTP server answers `Connection: close` with a body
//! that ends where the connection does.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one GET may take. A daemon that is stopped accepts connections and never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The status and the body that `address` (`host:port`) answers for `path`.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange(address, path))
        .await
        .with_context(|| format!("http://{address}{path} did not answer in {ANSWER_WITHIN:?}"))?
        .with_context(|| format!("asking http://{address}{path}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("http://{address}{path} did not answer in HTTP"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("http://{address}{path} answered without a status"))?;
    Ok((status, body.to_owned()))
}

/// Whether the daemon at `address` says that it is ready. One that does not listen yet is not.
pub async fn is_ready(address: &str) -> bool {
    matches!(get(address, "/readyz").await, Ok((200, _)))
}

async fn exchange(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
