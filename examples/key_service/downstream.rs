//! The system that an effect is asked of, over HTTP.

use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::effects::{Missing, Request};

/// An attempt that takes longer has failed. Far below `max.poll.interval.ms`, after which the group goes on without us.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why an effect did not come about.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may succeed.
    Passing(String),
    /// None will: the downstream refused.
    Final(String),
}

pub(crate) struct Downstream {
    address: String,
    runtime: Runtime,
}

impl Downstream {
    pub(crate) fn new(address: String) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        Ok(Self { address, runtime })
    }

    /// Waits for what has to be done before the loop begins.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks, and waits for the answer. `id` lets the downstream know what it did already.
    pub(crate) fn ask(&self, request: &Request, id: &str) -> Result<(), Failure> {
        let answer =
            async { tokio::time::timeout(ANSWER_WITHIN, self.exchange(request, id)).await };
        let status = match self.runtime.block_on(answer) {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Failure::Passing(format!("{error:#}"))),
            Err(_) => {
                let problem = format!("no answer within {ANSWER_WITHIN:?}");
                return Err(Failure::Passing(problem));
            }
        };
        let problem = || format!("{} {} was answered {status}", request.method, request.path);
        match status {
            StatusCode::NOT_FOUND if request.missing == Missing::Fine => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Passing(problem()))
            }
            _ if status.is_success() => Ok(()),
            _ if status.is_client_error() => Err(Failure::Final(problem())),
            _ => Err(Failure::Passing(problem())),
        }
    }

    async fn exchange(&self, request: &Request, id: &str) -> Result<StatusCode> {
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.with_context(|| format!("{} cannot be reached", self.address))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let body = Full::new(Bytes::from(request.body.clone()));
        let request = hyper::Request::builder()
            .method(request.method)
            .uri(&request.path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header("Idempotency-Key", id)
            .body(body)?;
        let exchange = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            anyhow::Ok(status)
        };
        // The connection moves the bytes of the exchange, and ends with it or before it.
        let (status, _) = tokio::join!(exchange, connection);
        status
    }
}
