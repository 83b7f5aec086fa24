//! `rowbridge health`: asks the running daemon whether it is well.
//!
//! For whatever has neither a shell nor an HTTP client beside the binary: a container's health check, an exec probe, a
//! supervisor's script. The answer is the daemon's own, from `/readyz` or `/livez` of `http.listen`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::FAILED;
use super::args::HealthArgs;
use crate::config::Config;
use crate::refusal::Refusal;

/// Longest wait for the answer. A daemon that is stopped by a signal accepts connections and never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer that is read; the daemon's is one line.
const ANSWER_BYTES: usize = 64 * 1024;

/// Runs the command: 0 if the daemon says so, 1 if it says otherwise or nothing.
///
/// # Errors
/// No configuration, or one whose port nobody can know; nobody answers, or not in time.
pub(super) async fn run(named: Option<&Path>, args: &HealthArgs) -> Result<ExitCode> {
    let address = within_reach(Config::load(named)?.http.listen)?;
    let path = if args.live { "/livez" } else { "/readyz" };
    let answer = tokio::time::timeout(ANSWER_WITHIN, get(address, path));
    let (status, text) = answer
        .await
        .with_context(|| format!("http://{address}{path} did not answer within {ANSWER_WITHIN:?}"))?
        .with_context(|| format!("no answer from http://{address}{path}"))?;
    writeln!(io::stdout(), "{}", text.trim_end())?;
    Ok(match status {
        StatusCode::OK => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    })
}

/// Where a daemon that listens on `listen` is asked from the same machine.
fn within_reach(listen: SocketAddr) -> Result<SocketAddr, Refusal> {
    if listen.port() == 0 {
        let problem = format!("http.listen = {listen} takes any free port, so nobody can ask it");
        return Err(Refusal::invalid(problem, "give http.listen a port"));
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

/// One GET on a connection of its own: the status, and the body as text.
async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, String)> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    // The connection moves the bytes of the exchange, and ends with it or before it.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            let listen: SocketAddr = listen.parse().unwrap();
            assert_eq!(within_reach(listen).unwrap(), asked.parse().unwrap());
        }
        let refused = within_reach("127.0.0.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(refused.hint, "give http.listen a port");
    }
}
