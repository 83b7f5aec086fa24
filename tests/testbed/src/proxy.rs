//! A TCP proxy with faults: cut, refuse, stall, latency, half-open, cut after N bytes, and holding a Kafka request or its response.
//!
//! It knows of Kafka's protocol only the frame: a length, and at the start of a request its API key. What is not here:
//! packet loss and bandwidth, which need more than a proxy.

mod connection;
mod hold;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use hold::{Hold, HoldPoint};

/// EndTxn, the request that commits or aborts a transaction (Kafka protocol guide, "API keys").
pub const KAFKA_END_TXN: i16 = 26;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Pass,
    Stall,
    /// Connections that live now swallow everything for good.
    HalfOpen,
    Refuse,
}

/// What every connection looks at before it moves bytes.
#[derive(Clone, Copy, Debug)]
struct Mode {
    flow: Flow,
    latency: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Bytes,
    Kafka,
}

struct Budget {
    direction: Direction,
    left: usize,
}

struct Shared {
    target: SocketAddr,
    protocol: Protocol,
    mode: watch::Sender<Mode>,
    /// Cancelled to cut every connection; then replaced.
    generation: Mutex<CancellationToken>,
    budget: Mutex<Option<Budget>>,
    hold: Mutex<Option<Arc<hold::Armed>>>,
    open: AtomicUsize,
}

impl Shared {
    fn cut(&self) {
        let mut generation = self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *generation).cancel();
    }

    fn generation(&self) -> CancellationToken {
        self.generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many of `wanted` bytes may still pass; fewer than wanted means that the connections are cut after them.
    fn allowed(&self, direction: Direction, wanted: usize) -> usize {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *budget {
            Some(limit) if limit.direction == direction => {
                let allowed = wanted.min(limit.left);
                limit.left -= allowed;
                if allowed < wanted {
                    *budget = None;
                }
                allowed
            }
            _ => wanted,
        }
    }
}

/// A proxy in front of one address. Dropping it closes it and all its connections.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _listener: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy for any protocol, listening on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        Self::open(target, Protocol::Bytes).await
    }

    /// A proxy that also sees Kafka's frames, so that [`Proxy::hold`] works. The broker must advertise the proxy's
    /// address: [`crate::KafkaBuilder::proxied`] sees to that.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn kafka(target: SocketAddr) -> Result<Self> {
        Self::open(target, Protocol::Kafka).await
    }

    async fn open(target: SocketAddr, protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listening for a proxy")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            protocol,
            mode: watch::Sender::new(Mode {
                flow: Flow::Pass,
                latency: Duration::ZERO,
            }),
            generation: Mutex::default(),
            budget: Mutex::default(),
            hold: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let accepting = accept(listener, Arc::clone(&shared));
        Ok(Self {
            addr,
            shared,
            _listener: AbortOnDropHandle::new(tokio::spawn(accepting)),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Closes every connection; new ones are served.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Closes every connection, and new ones at once, until [`Proxy::resume`].
    pub fn refuse(&self) {
        self.flow(Flow::Refuse);
        self.shared.cut();
    }

    /// Moves no bytes; connections stay open and go on where they stopped after [`Proxy::resume`].
    pub fn stall(&self) {
        self.flow(Flow::Stall);
    }

    /// Swallows all bytes in silence, with neither FIN nor RST. Connections of that time stay dead: after
    /// [`Proxy::resume`] only new ones work, as after a network that forgot them.
    pub fn half_open(&self) {
        self.flow(Flow::HalfOpen);
    }

    /// Ends [`Proxy::stall`], [`Proxy::half_open`] and [`Proxy::refuse`]; latency stays.
    pub fn resume(&self) {
        self.flow(Flow::Pass);
    }

    /// Waits this long before each piece that is passed on, in either direction.
    pub fn latency(&self, latency: Duration) {
        self.shared.mode.send_modify(|mode| mode.latency = latency);
    }

    /// Lets exactly `bytes` more pass in one direction, counted over all connections, then cuts all of them, once.
    pub fn drop_after(&self, direction: Direction, bytes: usize) {
        *self
            .shared
            .budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Budget {
            direction,
            left: bytes,
        });
    }

    /// Holds the next Kafka request of an API, or its response, until the returned handle is released or dropped.
    /// A held request still reaches the broker when its client is gone by then.
    #[must_use]
    pub fn hold(&self, api_key: i16, point: HoldPoint) -> Hold {
        let (hold, armed) = hold::new(api_key, point);
        *self
            .shared
            .hold
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(armed);
        hold
    }

    fn flow(&self, flow: Flow) {
        self.shared.mode.send_modify(|mode| mode.flow = flow);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    if shared.mode.borrow().flow != Flow::Refuse {
                        connections.spawn(serve(client, Arc::clone(&shared)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a proxy could not accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let generation = shared.generation();
    shared.open.fetch_add(1, Ordering::SeqCst);
    let outcome = tokio::select! {
        () = generation.cancelled() => Ok(()),
        outcome = connection::serve(client, &shared, &generation) => outcome,
    };
    shared.open.fetch_sub(1, Ordering::SeqCst);
    if let Err(error) = outcome {
        tracing::debug!(%error, "a proxied connection ended");
    }
}
