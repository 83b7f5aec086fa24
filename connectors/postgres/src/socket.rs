//! A connected byte stream to the server: TCP, Unix socket, or TLS over TCP.
//!
//! A reader that is behind lets the socket fill ([`Socket::fill`]). Not reading alone would not spare anybody: every
//! packet that arrives wakes the runtime's poll, and a send that wakes somebody costs the server twice as much.
//!
//! A server on this host also pays for the way of each packet through the kernel, since its messages are sent one by one.
//! There the window is small ([`NEAR_BUFFER_BYTES`]): while it is closed a message is only added to what waits in the
//! server's kernel, which then moves 64 KiB at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::admission;
use crate::config::{Address, PostgresConfig};
use crate::error::WireError;
use crate::tls;

/// A peer that vanished without a word is noticed after about this long, also where nobody reads.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(45);

/// The receive buffer of a link that does not leave the host (`SO_RCVBUF`; Linux doubles it, and the window is then two
/// segments of the loopback device). The server fills it within a pause of the reader, and its kernel gathers the rest.
const NEAR_BUFFER_BYTES: usize = 64 << 10;

sockopt_impl!(
    /// `SO_RCVLOWAT`: fewer bytes than this do not make a socket readable, and wake nobody (socket(7)).
    LowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    libc::c_int
);

/// A connection to the server; see the module's documentation.
pub(crate) struct Socket {
    stream: Stream,
    /// Nothing where a reader had better not let it fill: a Unix socket holds some hundred messages, then its sender stops.
    filled: Option<Filled>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a reader that lets the socket fill learns that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The socket becomes readable.
    IsReadable,
    /// The clock tells. A reader that came as soon as a small window is full would open it before anything was gathered.
    ByTheClock,
}

impl Socket {
    /// Connects and, where configured, encrypts. The caller bounds the time.
    pub(crate) async fn connect(config: &PostgresConfig) -> Result<Self, WireError> {
        let unreachable = |cause| WireError::Unreachable {
            address: config.address.clone(),
            cause,
        };
        let (host, port) = match &config.address {
            Address::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                return Ok(Self {
                    stream: Stream::Unix(stream),
                    filled: None,
                });
            }
            Address::Tcp { host, port } => (host, *port),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await;
        let mut stream = stream.map_err(unreachable)?;
        let filled = configure(&stream).map_err(failed("configure the socket"))?;
        let Some(settings) = tls::client_config(config)? else {
            let stream = Stream::Tcp(stream);
            return Ok(Self { stream, filled });
        };
        request_tls(&mut stream).await?;
        let name = ServerName::try_from(host.clone()).map_err(|_| admission::no_name(host))?;
        let stream = TlsConnector::from(Arc::clone(&settings))
            .connect(name, stream)
            .await
            .map_err(|cause| tls_failed(config, cause))?;
        let stream = Stream::Tls(Box::new(stream));
        Ok(Self { stream, filled })
    }

    /// From now on nobody is woken before so many bytes are there, or the peer has closed; `None` where every byte goes on
    /// waking the reader.
    pub(crate) fn fill(&self, bytes: usize) -> io::Result<Option<Filled>> {
        if let Some(stream) = self.tcp() {
            let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
            setsockopt(stream, LowWater, &bytes)?;
        }
        Ok(self.filled)
    }

    /// From now on every byte wakes the reader; those that are there do so at once.
    pub(crate) fn wake_at_once(&self) -> io::Result<()> {
        match self.tcp() {
            Some(stream) => Ok(setsockopt(stream, LowWater, &1)?),
            None => Ok(()),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.get_ref().0),
            Stream::Unix(_) => None,
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> WireError {
    move |cause| WireError::Io { doing, cause }
}

/// A certificate that is not accepted stays so until somebody acts; anything else may pass.
fn tls_failed(config: &PostgresConfig, cause: io::Error) -> WireError {
    let inner = cause.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => admission::bad_certificate(config, error),
        _ => failed("agree on TLS")(cause),
    }
}

/// Sees to it that a vanished peer is noticed, and gives a link that does not leave the host its small window. How a reader
/// of this link learns that the socket has filled.
fn configure(stream: &TcpStream) -> io::Result<Option<Filled>> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE_IDLE);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    let keepalive = keepalive.with_interval(TCP_KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    tcp_user_timeout(&socket)?;
    if stream.peer_addr()?.ip() != stream.local_addr()?.ip() {
        return Ok(Some(Filled::IsReadable));
    }
    socket.set_recv_buffer_size(NEAR_BUFFER_BYTES)?;
    Ok(Some(Filled::ByTheClock))
}

#[cfg(target_os = "linux")]
fn tcp_user_timeout(socket: &socket2::SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}

/// SSLRequest (PostgreSQL documentation, 55.2.11). Exactly one byte of the answer is read, so that
/// nothing injected before the handshake can be taken for the server's words.
async fn request_tls(stream: &mut TcpStream) -> Result<(), WireError> {
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream
        .write_all(&request)
        .await
        .map_err(failed("ask for TLS"))?;
    match stream.read_u8().await.map_err(failed("ask for TLS"))? {
        b'S' => Ok(()),
        b'N' => Err(admission::no_tls()),
        other => Err(WireError::Protocol(format!(
            "answer {other:#04x} to SSLRequest"
        ))),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
