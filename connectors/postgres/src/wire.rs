//! The protocol client for what tokio-postgres cannot do: replication sessions and CopyBoth.
//!
//! Start-up, authentication and simple queries go message by message through `postgres-protocol`. Once a
//! copy has begun the caller reads raw frames (see [`crate::intake`]), because rows are decoded where they
//! lie. Everything that may be dropped half way keeps its state in [`Link`]: [`Link::read`] and
//! [`Link::flush`] are cancel safe.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::admission;
use crate::config::{APPLICATION_NAME, ConfigError, PostgresConfig, session_options};
use crate::error::{ServerError, WireError};
use crate::socket::{Filled, Socket};

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
pub(crate) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// A tag and a length.
pub(crate) const FRAME_HEADER_BYTES: usize = 5;
/// Answers outside of a copy are small; a longer one is not believed.
const MAX_ANSWER_BYTES: usize = 16 << 20;
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A walsender with `replication=database`.
    Replication,
    /// A plain session that runs COPY.
    Copy,
}

/// Whether a status update asks the server to answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    NotNeeded,
    Requested,
}

/// One session on one socket.
pub(crate) struct Link {
    socket: Socket,
    /// Received and not yet consumed. In a copy the caller takes it over.
    pub(crate) input: Vec<u8>,
    output: BytesMut,
    backend_pid: i32,
    limits: crate::config::Limits,
    /// When the server last heard our position.
    pub(crate) reported_at: Instant,
}

/// One row of a simple query.
pub(crate) type TextRow = Vec<Option<String>>;

impl Link {
    /// Connects, authenticates and waits until the server takes queries.
    pub(crate) async fn connect(
        config: &PostgresConfig,
        purpose: Purpose,
    ) -> Result<Self, WireError> {
        let after = config.limits.connect_timeout;
        let connecting = async {
            let mut link = Self {
                socket: Socket::connect(config).await?,
                input: Vec::with_capacity(8 << 10),
                output: BytesMut::with_capacity(1 << 10),
                backend_pid: 0,
                limits: config.limits.clone(),
                reported_at: Instant::now(),
            };
            link.start_up(config, purpose).await?;
            Ok(link)
        };
        tokio::time::timeout(after, connecting)
            .await
            .map_err(|_| WireError::Timeout {
                what: "connecting",
                after,
            })?
            .map_err(|error| admission::explain(config, error))
    }

    pub(crate) const fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    async fn start_up(
        &mut self,
        config: &PostgresConfig,
        purpose: Purpose,
    ) -> Result<(), WireError> {
        let options = session_options(&config.limits);
        let mut parameters = vec![
            ("user", config.user.as_str()),
            ("database", config.database.as_str()),
            ("client_encoding", "UTF8"),
            ("application_name", APPLICATION_NAME),
            ("options", options.as_str()),
        ];
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut self.output).map_err(unsendable)?;
        self.flush().await?;
        self.authenticate(config).await?;
        let mut has_no_encoding = false;
        loop {
            match self.message().await? {
                Message::BackendKeyData(key) => self.backend_pid = key.process_id(),
                Message::ParameterStatus(status) => {
                    let is_encoding = status.name().is_ok_and(|name| name == "server_encoding");
                    let is_ascii = status.value().is_ok_and(|value| value == "SQL_ASCII");
                    has_no_encoding |= is_encoding && is_ascii;
                }
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => return Err(refused(&body)),
                _ => {}
            }
        }
        if has_no_encoding {
            // An SQL_ASCII database holds any bytes. Asked for UTF-8 the server checks them and ends the
            // session at the first that are none; they are for us to set aside.
            self.query("SET client_encoding = 'SQL_ASCII'").await?;
        }
        Ok(())
    }

    async fn authenticate(&mut self, config: &PostgresConfig) -> Result<(), WireError> {
        let password = || -> Result<String, WireError> {
            let password = config.password.read().map_err(ConfigError::from)?;
            password.ok_or_else(|| admission::no_password(config))
        };
        loop {
            match self.message().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationSasl(body) => {
                    self.scram(config, &body, &password()?).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let password = password()?;
                    let hash = md5_hash(config.user.as_bytes(), password.as_bytes(), body.salt());
                    self.send_password(hash.as_bytes()).await?;
                }
                Message::AuthenticationCleartextPassword => {
                    let password = password()?;
                    self.send_password(password.as_bytes()).await?;
                }
                Message::ErrorResponse(body) => return Err(refused(&body)),
                Message::NoticeResponse(_) => {}
                _ => {
                    return Err(admission::unknown_method(
                        config,
                        "the server asks for an authentication method other than SCRAM-SHA-256, \
                         md5, password, trust, peer or cert",
                    ));
                }
            }
        }
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), WireError> {
        frontend::password_message(password, &mut self.output).map_err(unsendable)?;
        self.flush().await
    }

    /// SCRAM-SHA-256 (RFC 7677), which also proves that the server knows the password's verifier.
    async fn scram(
        &mut self,
        config: &PostgresConfig,
        offered: &backend::AuthenticationSaslBody,
        password: &str,
    ) -> Result<(), WireError> {
        let mut mechanisms = offered.mechanisms();
        let known = mechanisms
            .any(|name| Ok(name == sasl::SCRAM_SHA_256))
            .map_err(malformed)?;
        if !known {
            return Err(admission::unknown_method(
                config,
                "the server offers no SCRAM-SHA-256",
            ));
        }
        let binding = sasl::ChannelBinding::unsupported();
        let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut self.output)
            .map_err(unsendable)?;
        self.flush().await?;
        match self.message().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(malformed)?;
            }
            Message::ErrorResponse(body) => return Err(refused(&body)),
            _ => return Err(WireError::Protocol("SCRAM was not continued".to_owned())),
        }
        frontend::sasl_response(scram.message(), &mut self.output).map_err(unsendable)?;
        self.flush().await?;
        match self.message().await? {
            Message::AuthenticationSaslFinal(body) => scram
                .finish(body.data())
                .map_err(|_| admission::unproven(config)),
            Message::ErrorResponse(body) => Err(refused(&body)),
            _ => Err(WireError::Protocol("SCRAM was not finished".to_owned())),
        }
    }

    /// Runs one statement by the simple query protocol and returns its rows as text.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, WireError> {
        frontend::query(sql, &mut self.output).map_err(unsendable)?;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::DataRow(row) => rows.push(text_row(&row)?),
                Message::ErrorResponse(body) => failure = Some(refused(&body)),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Runs a statement that turns the session into a copy: COPY TO STDOUT or START_REPLICATION. What
    /// follows is in [`Link::input`] or still on its way.
    pub(crate) async fn start_copy(&mut self, sql: &str) -> Result<(), WireError> {
        frontend::query(sql, &mut self.output).map_err(unsendable)?;
        self.flush().await?;
        let mut failure = None;
        loop {
            self.fill_frame().await?;
            if self.input[0] == COPY_BOTH_RESPONSE_TAG {
                self.skip_frame();
                return Ok(());
            }
            match self.take_message()? {
                Message::CopyOutResponse(_) => return Ok(()),
                Message::ErrorResponse(body) => failure = Some(refused(&body)),
                Message::ReadyForQuery(_) => {
                    return Err(failure.unwrap_or_else(|| {
                        WireError::Protocol("the statement started no copy".to_owned())
                    }));
                }
                _ => {}
            }
        }
    }

    /// Waits for the end of a COPY TO STDOUT whose CopyDone was seen.
    pub(crate) async fn finish_copy(&mut self) -> Result<(), WireError> {
        let mut failure = None;
        loop {
            match self.message().await? {
                Message::ErrorResponse(body) => failure = Some(refused(&body)),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(()), Err),
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<Message, WireError> {
        self.fill_frame().await?;
        self.take_message()
    }

    fn take_message(&mut self) -> Result<Message, WireError> {
        let total = frame_bytes(&self.input, MAX_ANSWER_BYTES)?.unwrap_or(0);
        let mut frame = BytesMut::from(&self.input[..total]);
        self.input.drain(..total);
        Message::parse(&mut frame)
            .map_err(malformed)?
            .ok_or_else(|| WireError::Protocol("an incomplete message".to_owned()))
    }

    fn skip_frame(&mut self) {
        if let Ok(Some(total)) = frame_bytes(&self.input, MAX_ANSWER_BYTES) {
            self.input.drain(..total);
        }
    }

    /// Reads until [`Link::input`] starts with a complete frame.
    async fn fill_frame(&mut self) -> Result<(), WireError> {
        loop {
            match frame_bytes(&self.input, MAX_ANSWER_BYTES)? {
                Some(total) if self.input.len() >= total => return Ok(()),
                _ => {}
            }
            self.input.reserve(8 << 10);
            let read = self.socket.read_buf(&mut self.input).await;
            if read.map_err(reading)? == 0 {
                return Err(reading(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Waits for bytes, then takes all that are there while `into` has spare capacity; how many. Never grows
    /// `into` and is cancel safe.
    pub(crate) async fn read(&mut self, into: &mut Vec<u8>) -> Result<usize, WireError> {
        read_available(&mut self.socket, into).await
    }

    /// Lets the socket fill; see [`Socket::fill`].
    pub(crate) fn fill(&mut self, bytes: usize) -> Result<Option<Filled>, WireError> {
        self.socket.fill(bytes).map_err(configuring)
    }

    /// Has [`Link::read`] give at once what is there.
    pub(crate) fn wake_at_once(&mut self) -> Result<(), WireError> {
        self.socket.wake_at_once().map_err(configuring)
    }

    /// As [`Link::read`], into [`Link::input`], which grows by doubling.
    pub(crate) async fn read_held(&mut self) -> Result<usize, WireError> {
        self.input.reserve(1);
        read_available(&mut self.socket, &mut self.input).await
    }

    /// Queues a Standby status update (PostgreSQL documentation, 55.4): everything up to `acked` is safe
    /// with us. Send it with [`Link::flush`].
    pub(crate) fn report(&mut self, acked: u64, reply: Reply) {
        let mut body = [0_u8; 34];
        let mut rest = &mut body[..];
        rest.put_u8(b'r');
        rest.put_u64(acked);
        rest.put_u64(acked);
        rest.put_u64(acked);
        rest.put_i64(unix_micros() - POSTGRES_EPOCH_MICROS);
        rest.put_u8(u8::from(reply == Reply::Requested));
        self.output.put_u8(backend::COPY_DATA_TAG);
        self.output.put_u32(4 + 34);
        self.output.put_slice(&body);
        self.reported_at = Instant::now();
    }

    /// Queues the end of our side of the copy and of the session: the server answers by hanging up.
    pub(crate) fn goodbye(&mut self) {
        frontend::copy_done(&mut self.output);
        frontend::terminate(&mut self.output);
    }

    /// Writes what is queued. Cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        let writing = |cause| WireError::Io {
            doing: "write to the server",
            cause,
        };
        if self.output.is_empty() {
            return Ok(());
        }
        while !self.output.is_empty() {
            let socket = &mut self.socket;
            let wrote = socket.write_buf(&mut self.output).await.map_err(writing)?;
            if wrote == 0 {
                return Err(writing(io::ErrorKind::WriteZero.into()));
            }
        }
        self.socket.flush().await.map_err(writing)
    }

    /// When the next status update is due.
    pub(crate) fn report_due(&self) -> Instant {
        self.reported_at + self.limits.report_interval()
    }

    /// How long the server may stay silent once it was asked for a reply.
    pub(crate) const fn reply_timeout(&self) -> Duration {
        self.limits.reply_timeout
    }
}

fn configuring(cause: io::Error) -> WireError {
    WireError::Io {
        doing: "configure the socket",
        cause,
    }
}

async fn read_available(socket: &mut Socket, into: &mut Vec<u8>) -> Result<usize, WireError> {
    let read = poll_fn(|cx| {
        let mut total = 0;
        while into.len() < into.capacity() {
            match pin!(socket.read_buf(into)).poll(cx) {
                Poll::Ready(Ok(0)) if total == 0 => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(count)) => total += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if total == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(total))
    });
    read.await.map_err(reading)
}

/// The bytes of the frame that `input` starts with, its header included, once the header is there.
pub(crate) fn frame_bytes(input: &[u8], max_bytes: usize) -> Result<Option<usize>, WireError> {
    let Some(header) = input.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length < 4 || length > max_bytes {
        return Err(WireError::Protocol(format!(
            "a message of {length} bytes; {max_bytes} is the limit"
        )));
    }
    Ok(Some(1 + length))
}

/// Microseconds since 1970-01-01 UTC, by our clock.
pub(crate) fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

fn text_row(row: &backend::DataRowBody) -> Result<TextRow, WireError> {
    let buffer = row.buffer();
    row.ranges()
        .map(|range| {
            Ok(range
                .and_then(|range| buffer.get(range))
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect()
        .map_err(malformed)
}

fn refused(body: &backend::ErrorResponseBody) -> WireError {
    WireError::Server(ServerError::from_fields(body.fields()))
}

fn unsendable(cause: io::Error) -> WireError {
    WireError::Io {
        doing: "put the settings into a message",
        cause,
    }
}

fn malformed(cause: io::Error) -> WireError {
    WireError::Io {
        doing: "understand the server",
        cause,
    }
}

fn reading(cause: io::Error) -> WireError {
    WireError::Io {
        doing: "read from the server",
        cause,
    }
}

/// The frame is an ErrorResponse or NoticeResponse: its fields.
pub(crate) fn server_message(frame: &[u8]) -> Result<ServerError, WireError> {
    match Message::parse(&mut BytesMut::from(frame)).map_err(malformed)? {
        Some(Message::ErrorResponse(body)) => Ok(ServerError::from_fields(body.fields())),
        Some(Message::NoticeResponse(body)) => Ok(ServerError::from_fields(body.fields())),
        _ => Err(WireError::Protocol(
            "a message where none is allowed".to_owned(),
        )),
    }
}
