//! One connection to one broker: requests out, answers in, in order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange,
};
use openssl::ssl::SslStream;
use socket2::SockRef;

use crate::error::check;
use crate::sasl::{self, Scram};
use crate::settings::{Family, Login, Mechanism, Settings};
use crate::{Barrier, Error, tls};

/// Longest answer we take. The longest there is, cluster metadata, is far below.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How a listener of TLS begins its answer to whoever does not speak it (RFC 8446, section 5.1): no answer is so long.
const TLS_ALERT: [u8; 2] = [21, 3];
/// A login is renewed, by a new connection, after this part of its lifetime (KIP-368).
const LIFETIME_USED_PERCENT: u32 = 80;

/// A request that was sent and not answered yet.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    correlation: i32,
    version: i16,
}

/// A connection, logged in.
pub(crate) struct Link {
    peer: String,
    stream: Stream,
    client_id: StrBytes,
    /// Versions the broker speaks, by API key.
    versions: Vec<(i16, VersionRange)>,
    correlation: i32,
    awaited: VecDeque<Awaited>,
    outbox: BytesMut,
    inbox: BytesMut,
    /// When the login has to be made anew.
    renew_at: Option<Instant>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Link {
    /// Connects to `host:port`, speaks TLS and logs in as the settings say.
    pub(crate) fn connect(
        settings: &Settings,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let peer = format!("{host}:{port}");
        let socket = open(settings, host, port, deadline).map_err(|error| broken(&peer, &error))?;
        let stream = match &settings.tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                wait_until(&socket, deadline).map_err(|error| broken(&peer, &error))?;
                let encrypted = tls.connect(host, &peer, socket);
                Stream::Tls(Box::new(encrypted.map_err(unanswered)?))
            }
        };
        let mut link = Self {
            peer,
            stream,
            client_id: StrBytes::from_string(settings.client_id.clone()),
            versions: Vec::new(),
            correlation: 0,
            awaited: VecDeque::new(),
            outbox: BytesMut::new(),
            inbox: BytesMut::new(),
            renew_at: None,
        };
        link.learn_versions(deadline).map_err(unanswered)?;
        if let Some(login) = &settings.login {
            link.log_in(login, deadline)?;
        }
        Ok(link)
    }

    /// Requests that are not answered yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.awaited.len()
    }

    /// Whether a new connection should take its place. To be asked while nothing is in flight: then a broker has
    /// nothing to say but goodbye.
    pub(crate) fn is_stale(&self) -> bool {
        if self.renew_at.is_some_and(|at| Instant::now() >= at) {
            return true;
        }
        let socket = self.stream.socket();
        let silent = socket.set_nonblocking(true).is_ok()
            && socket
                .peek(&mut [0])
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        socket.set_nonblocking(false).is_err() || !silent
    }

    /// Sends `request` in the newest version up to `newest` that both sides speak. [`Link::answer`] gets the answer.
    pub(crate) fn send<R: Request>(&mut self, request: &R, newest: i16) -> Result<(), Error> {
        let version = self.version::<R>(newest)?;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        self.outbox.clear();
        self.outbox.put_i32(0);
        header
            .encode(&mut self.outbox, R::header_version(version))
            .and_then(|()| request.encode(&mut self.outbox, version))
            .map_err(|error| self.protocol(format!("a request cannot be written: {error}")))?;
        let length = i32::try_from(self.outbox.len() - 4)
            .map_err(|_| self.protocol("a request is longer than 2 GiB".to_owned()))?;
        self.outbox[..4].copy_from_slice(&length.to_be_bytes());
        self.stream
            .write_all(&self.outbox)
            .map_err(|error| broken(&self.peer, &error))?;
        self.awaited.push_back(Awaited {
            correlation: self.correlation,
            version,
        });
        self.correlation = self.correlation.wrapping_add(1);
        Ok(())
    }

    /// The answer to the oldest request that is not answered, which was an `R`.
    pub(crate) fn answer<R: Request>(
        &mut self,
        what: &'static str,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let frame = self.frame(what, deadline)?;
        let awaited = self
            .awaited
            .pop_front()
            .ok_or_else(|| self.protocol("an answer to nothing".to_owned()))?;
        self.decode::<R>(frame, awaited)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R: Request>(
        &mut self,
        what: &'static str,
        request: &R,
        newest: i16,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        self.send(request, newest)?;
        self.answer::<R>(what, deadline)
    }

    fn decode<R: Request>(&self, mut frame: Bytes, awaited: Awaited) -> Result<R::Response, Error> {
        let unreadable =
            |error: String| self.protocol(format!("an answer cannot be read: {error}"));
        let header_version = R::Response::header_version(awaited.version);
        let header = ResponseHeader::decode(&mut frame, header_version)
            .map_err(|error| unreadable(error.to_string()))?;
        if header.correlation_id != awaited.correlation {
            return Err(self.protocol("answers come out of order".to_owned()));
        }
        R::Response::decode(&mut frame, awaited.version)
            .map_err(|error| unreadable(error.to_string()))
    }

    /// The next whole frame, without its length.
    fn frame(&mut self, what: &'static str, deadline: Instant) -> Result<Bytes, Error> {
        loop {
            if let Some(length) = self.inbox.first_chunk::<4>() {
                if length.starts_with(&TLS_ALERT) {
                    let why = "the listener speaks it, and we do not".to_owned();
                    return Err(self.barred(Barrier::Tls(why)));
                }
                let length = usize::try_from(i32::from_be_bytes(*length))
                    .ok()
                    .filter(|length| *length <= ANSWER_BYTES_MAX)
                    .ok_or_else(|| self.protocol("this is not a Kafka broker".to_owned()))?;
                if self.inbox.len() >= 4 + length {
                    self.inbox.advance(4);
                    return Ok(self.inbox.split_to(length).freeze());
                }
            }
            self.read(what, deadline)?;
        }
    }

    fn read(&mut self, what: &'static str, deadline: Instant) -> Result<(), Error> {
        let late = || Error::Late {
            peer: self.peer.clone(),
            what,
        };
        wait_until(self.stream.socket(), deadline).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => late(),
            _ => broken(&self.peer, &error),
        })?;
        let filled = self.inbox.len();
        self.inbox.resize(filled + CHUNK_BYTES, 0);
        let read = self.stream.read(&mut self.inbox[filled..]);
        self.inbox.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Error::Link {
                peer: self.peer.clone(),
                problem: "the broker closed the connection".to_owned(),
            }),
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(late()),
                _ => Err(broken(&self.peer, &error)),
            },
        }
    }

    fn version<R: Request>(&self, newest: i16) -> Result<i16, Error> {
        // Before we know, only the first versions are certain.
        let Some((_, theirs)) = self.versions.iter().find(|(key, _)| *key == R::KEY) else {
            return match self.versions.is_empty() {
                true => Ok(0),
                false => Err(self.protocol(format!("the broker has no API {}", R::KEY))),
            };
        };
        let both = R::VERSIONS.intersect(theirs);
        let version = both.max.min(newest);
        if version < both.min {
            return Err(self.protocol(format!(
                "the broker speaks versions {theirs} of API {}, and none that is known here",
                R::KEY
            )));
        }
        Ok(version)
    }

    fn learn_versions(&mut self, deadline: Instant) -> Result<(), Error> {
        const WHAT: &str = "asking for versions";
        let answer = self.call(WHAT, &ApiVersionsRequest::default(), 0, deadline)?;
        check(WHAT, answer.error_code)?;
        self.versions = answer
            .api_keys
            .iter()
            .map(|api| {
                let range = VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                };
                (api.api_key, range)
            })
            .collect();
        Ok(())
    }

    fn log_in(&mut self, login: &Login, deadline: Instant) -> Result<(), Error> {
        let mechanism = login.mechanism.name();
        let handshake = SaslHandshakeRequest::default().with_mechanism(mechanism.into());
        let answer = self.call("choosing how to log in", &handshake, 1, deadline)?;
        if answer.error_code != 0 {
            let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(self.barred(Barrier::Mechanism {
                asked: mechanism,
                offered: offered.join(", "),
            }));
        }
        match login.mechanism {
            Mechanism::Plain => {
                self.authenticate(sasl::plain(login), deadline)?;
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
                let unproven = |problem| self.barred(Barrier::Unproven(problem));
                let (scram, first) = Scram::start(login).map_err(unproven)?;
                let server_first = self.authenticate(first, deadline)?;
                let unproven = |problem| self.barred(Barrier::Unproven(problem));
                let (proven, last) = scram.prove(&server_first).map_err(unproven)?;
                let server_final = self.authenticate(last, deadline)?;
                let unproven = |problem| self.barred(Barrier::Unproven(problem));
                proven.accept(&server_final).map_err(unproven)?;
            }
        }
        Ok(())
    }

    fn authenticate(&mut self, message: Vec<u8>, deadline: Instant) -> Result<Bytes, Error> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let answer = self.call("logging in", &request, 2, deadline)?;
        if answer.error_code != 0 {
            let reason = answer.error_message;
            let reason = reason.as_deref().unwrap_or("the broker refuses the login");
            return Err(self.barred(Barrier::Password(reason.to_owned())));
        }
        if let Ok(lifetime @ 1..) = u64::try_from(answer.session_lifetime_ms) {
            let used = Duration::from_millis(lifetime) * LIFETIME_USED_PERCENT / 100;
            self.renew_at = Some(Instant::now() + used);
        }
        Ok(answer.auth_bytes)
    }

    fn barred(&self, why: Barrier) -> Error {
        Error::Login {
            peer: self.peer.clone(),
            why,
        }
    }

    fn protocol(&self, problem: String) -> Error {
        Error::Protocol {
            peer: self.peer.clone(),
            problem,
        }
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }
}

/// A connected socket to the first address of the host that answers.
fn open(settings: &Settings, host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let family = settings.socket.family;
    let mut failed = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        if !matches!(
            (family, address),
            (Family::Any, _) | (Family::V4, SocketAddr::V4(_)) | (Family::V6, SocketAddr::V6(_))
        ) {
            continue;
        }
        let patience = remaining(deadline)?.min(settings.socket.connect_timeout);
        match TcpStream::connect_timeout(&address, patience).and_then(|socket| {
            tune(&socket, settings)?;
            Ok(socket)
        }) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn tune(socket: &TcpStream, settings: &Settings) -> io::Result<()> {
    // A request is written at once, and nothing is gained by waiting for more.
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(settings.request_timeout))?;
    let options = SockRef::from(socket);
    options.set_keepalive(settings.socket.keepalive)?;
    if let Some(bytes) = settings.socket.send_buffer_bytes {
        options.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.socket.receive_buffer_bytes {
        options.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

/// Lets the socket wait for bytes until `deadline`.
fn wait_until(socket: &TcpStream, deadline: Instant) -> io::Result<()> {
    socket.set_read_timeout(Some(remaining(deadline)?))
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn broken(peer: &str, error: &io::Error) -> Error {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>())
        .and_then(openssl::ssl::Error::ssl_error);
    let problem = match tls.map(tls::barrier) {
        Some(why @ Barrier::OwnCertificate(_)) => {
            return Error::Login {
                peer: peer.to_owned(),
                why,
            };
        }
        // A connection that broke under TLS is a broken connection.
        Some(other) => other.to_string(),
        None => error.to_string(),
    };
    Error::Link {
        peer: peer.to_owned(),
        problem,
    }
}

/// A first answer did not come. A broker that is asked in the wrong protocol hangs up without a word, as one does
/// that is stopping.
pub(crate) fn unanswered(error: Error) -> Error {
    match error {
        Error::Link { peer, problem } => Error::Link {
            peer,
            problem: format!(
                "{problem} instead of answering: if that stays, its listener wants another security.protocol"
            ),
        },
        other => other,
    }
}
