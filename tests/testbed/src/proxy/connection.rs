//! One connection through the proxy: two pumps, each reading a piece (some bytes, or one Kafka frame) and passing it on.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::CancellationToken;

use super::hold::{Armed, HoldPoint};
use super::{Direction, Flow, Protocol, Shared};

const PIECE_BYTES: usize = 64 * 1024;
/// The broker's own default limit of a request (`socket.request.max.bytes`).
const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// Responses to hold, by correlation id.
type Awaited = Mutex<HashMap<[u8; 4], Arc<Armed>>>;

pub(super) async fn serve(
    client: TcpStream,
    shared: &Shared,
    cut: &CancellationToken,
) -> io::Result<()> {
    let server = TcpStream::connect(shared.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let awaited = Awaited::default();
    let pumps = async {
        let up = Pump {
            direction: Direction::ToServer,
            shared,
            awaited: &awaited,
        };
        let down = Pump {
            direction: Direction::ToClient,
            shared,
            awaited: &awaited,
        };
        // Both to their end: a request that is held must reach the broker although its client is gone.
        let (up, down) = tokio::join!(
            up.run(&mut from_client, &mut to_server),
            down.run(&mut from_server, &mut to_client)
        );
        up.and(down)
    };
    let mut mode = shared.mode.subscribe();
    tokio::select! {
        biased;
        _ = mode.wait_for(|mode| mode.flow == Flow::HalfOpen) => {}
        outcome = pumps => return outcome,
    }
    // Dead for good: whatever is sent vanishes, and neither side hears of the other's end.
    let (mut nowhere, mut void) = (tokio::io::sink(), tokio::io::sink());
    let (up, down) = tokio::join!(
        tokio::io::copy(&mut from_client, &mut nowhere),
        tokio::io::copy(&mut from_server, &mut void)
    );
    cut.cancelled().await;
    up.and(down).map(drop)
}

struct Pump<'a> {
    direction: Direction,
    shared: &'a Shared,
    awaited: &'a Awaited,
}

impl Pump<'_> {
    async fn run(self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut piece = Vec::new();
        loop {
            let open = self.read(from, &mut piece).await?;
            self.pass_permitted().await;
            if !open {
                return to.shutdown().await;
            }
            let latency = self.shared.mode.borrow().latency;
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            if self.shared.protocol == Protocol::Kafka {
                self.hold(&piece).await;
                // What came while it was held applies to this frame as well.
                self.pass_permitted().await;
            }
            let allowed = self.shared.allowed(self.direction, piece.len());
            to.write_all(&piece[..allowed]).await?;
            if allowed < piece.len() {
                to.flush().await?;
                self.shared.cut();
                return Ok(());
            }
        }
    }

    /// Waits out a stall.
    async fn pass_permitted(&self) {
        let mut mode = self.shared.mode.subscribe();
        // It can only fail when the proxy is gone, and this task with it.
        let _ = mode.wait_for(|mode| mode.flow != Flow::Stall).await;
    }

    /// Reads one piece; `false` at the end of the stream.
    async fn read(&self, from: &mut OwnedReadHalf, piece: &mut Vec<u8>) -> io::Result<bool> {
        piece.clear();
        if self.shared.protocol == Protocol::Bytes {
            piece.reserve(PIECE_BYTES);
            return Ok(from.take(PIECE_BYTES as u64).read_buf(piece).await? > 0);
        }
        let mut length = [0; 4];
        match from.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        let bytes = usize::try_from(i32::from_be_bytes(length))
            .ok()
            .filter(|bytes| *bytes <= MAX_FRAME_BYTES);
        let bytes =
            bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a Kafka frame"))?;
        piece.extend(length);
        piece.resize(length.len() + bytes, 0);
        from.read_exact(&mut piece[length.len()..]).await?;
        Ok(true)
    }

    /// Holds the frame when a test asked for it. A request starts with api key, version and correlation id, a response
    /// with the correlation id (Kafka protocol guide, "Headers").
    async fn hold(&self, frame: &[u8]) {
        match (self.direction, frame) {
            (Direction::ToServer, [_, _, _, _, k0, k1, _, _, c0, c1, c2, c3, ..]) => {
                let armed = self
                    .shared
                    .hold
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let Some(armed) = armed.filter(|armed| armed.takes(i16::from_be_bytes([*k0, *k1])))
                else {
                    return;
                };
                match armed.point {
                    HoldPoint::Request => armed.wait().await,
                    HoldPoint::Response => {
                        self.awaited
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert([*c0, *c1, *c2, *c3], armed);
                    }
                }
            }
            (Direction::ToClient, [_, _, _, _, c0, c1, c2, c3, ..]) => {
                let armed = self
                    .awaited
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&[*c0, *c1, *c2, *c3]);
                if let Some(armed) = armed {
                    armed.wait().await;
                }
            }
            _ => {}
        }
    }
}
