//! The proxy's faults, against an echo server that answers each Kafka-like frame with itself.

#![allow(clippy::unwrap_used, reason = "a test: failing is its job")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rowbridge_testbed::{Direction, HoldPoint, KAFKA_END_TXN, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(5);
/// Long enough for bytes that are not held to arrive on loopback.
const SILENCE: Duration = Duration::from_millis(200);
const FRAME: [u8; 16] = [0, 0, 0, 12, 0, 26, 0, 3, 0, 0, 0, 7, 1, 2, 3, 4];
/// The correlation id comes first in a response.
const RESPONSE: [u8; 8] = [0, 0, 0, 4, 0, 0, 0, 7];

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// A server that reports each frame it gets and answers it.
async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<[u8; 16]>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut frame = [0; 16];
                while peer.read_exact(&mut frame).await.is_ok() {
                    let _ = tell.send(frame);
                    if peer.write_all(&RESPONSE).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (addr, told)
}

async fn exchange(client: &mut TcpStream) {
    client.write_all(&FRAME).await.unwrap();
    answer(client).await;
}

async fn answer(client: &mut TcpStream) {
    let mut response = [0; 8];
    soon("an answer", client.read_exact(&mut response))
        .await
        .unwrap();
    assert_eq!(response, RESPONSE);
}

async fn silent(client: &mut TcpStream) {
    let outcome = tokio::time::timeout(SILENCE, client.read_u8()).await;
    assert!(outcome.is_err(), "expected silence, got {outcome:?}");
}

async fn closed(client: &mut TcpStream) {
    assert!(
        soon("the end of the connection", client.read_u8())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_cut_ends_connections_and_new_ones_work() {
    let proxy = Proxy::to(server().await.0).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut client).await;
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    closed(&mut client).await;
    exchange(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;

    proxy.refuse();
    closed(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;
    proxy.resume();
    exchange(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;
}

#[tokio::test]
async fn a_stall_only_delays() {
    let proxy = Proxy::to(server().await.0).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut client).await;
    proxy.stall();
    client.write_all(&FRAME).await.unwrap();
    silent(&mut client).await;
    proxy.resume();
    answer(&mut client).await;
}

#[tokio::test]
async fn a_half_open_connection_stays_dead() {
    let (addr, mut told) = server().await;
    let proxy = Proxy::to(addr).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut client).await;
    told.recv().await.unwrap();
    proxy.half_open();
    client.write_all(&FRAME).await.unwrap();
    silent(&mut client).await;
    proxy.resume();
    client.write_all(&FRAME).await.unwrap();
    silent(&mut client).await;
    assert!(told.try_recv().is_err(), "a swallowed frame arrived");
    exchange(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;
}

#[tokio::test]
async fn latency_applies_in_both_directions() {
    let proxy = Proxy::to(server().await.0).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.latency(Duration::from_millis(50));
    let begun = Instant::now();
    exchange(&mut client).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn exactly_so_many_bytes_pass() {
    let proxy = Proxy::to(server().await.0).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.drop_after(Direction::ToClient, 11);
    exchange(&mut client).await;
    client.write_all(&FRAME).await.unwrap();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = soon("the cut", client.read_to_end(&mut rest)).await;
    assert_eq!(rest, RESPONSE[..3]);
    exchange(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await;
}

#[tokio::test]
async fn a_held_request_arrives_late_even_when_its_client_is_gone() {
    let (addr, mut told) = server().await;
    let proxy = Proxy::kafka(addr).await.unwrap();
    let hold = proxy.hold(KAFKA_END_TXN, HoldPoint::Request);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(&FRAME).await.unwrap();
    hold.caught(SOON).await.unwrap();
    silent(&mut client).await;
    drop(client);
    assert!(told.try_recv().is_err(), "a held request arrived");
    hold.release();
    assert_eq!(soon("the held request", told.recv()).await, Some(FRAME));
}

#[tokio::test]
async fn a_held_response_is_withheld_after_the_server_acted() {
    let (addr, mut told) = server().await;
    let proxy = Proxy::kafka(addr).await.unwrap();
    let other = proxy.hold(1, HoldPoint::Request);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut client).await;
    assert!(
        other.caught(Duration::from_millis(50)).await.is_err(),
        "another API was held"
    );
    told.recv().await.unwrap();
    let hold = proxy.hold(KAFKA_END_TXN, HoldPoint::Response);
    client.write_all(&FRAME).await.unwrap();
    hold.caught(SOON).await.unwrap();
    assert_eq!(told.try_recv(), Ok(FRAME));
    silent(&mut client).await;
    hold.release();
    answer(&mut client).await;
}
