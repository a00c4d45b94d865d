//! Probes towards a reflector of RFC 8762 that the operator named: the path watch's second task, where there is one.
//!
//! A socket of its own, connected, so that the kernel hands over nothing but what the reflector's address sends. A
//! session lasts as long as its socket. Where nothing answers for five minutes the name is looked up anew.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use roomtone_protocol::probe::Probe;
use roomtone_protocol::record::Record;
use roomtone_protocol::stamp::{PACKET_BYTES, Request, Timestamp};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;

use super::prober::{Circumstances, Figures, Line, Prober, Target};
use super::watch::{random, tell};
use crate::clock::system;
use crate::config::Reflector;

/// How long a reflector may be silent until it is looked up anew, and how long a look-up that failed is left in peace.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// How long a name server may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Probes until nobody tells the circumstances any more, then tells what is left. `beside_bytes` is what a round to
/// the collector takes of the same budget.
pub async fn run(
    reflector: Reflector,
    mut circumstances: watch::Receiver<Circumstances>,
    records: mpsc::Sender<Record>,
    beside_bytes: u64,
) {
    let mut prober = Prober::new(*circumstances.borrow_and_update());
    let mut socket: Option<UdpSocket> = None;
    // At once.
    let mut look_at = system::now();
    let mut buffer = [0; PACKET_BYTES];
    loop {
        let now = system::now();
        if look_at <= now {
            prober.handle_line_end(now);
            let opened = tokio::select! {
                opened = tokio::time::timeout(LOOK_UP, open(&reflector)) => opened,
                () = ended(&mut circumstances) => break,
            };
            let now = system::now();
            prober.handle_circumstances(*circumstances.borrow_and_update(), random(now), now);
            socket = begin(opened, &mut prober, beside_bytes);
            look_at = now + SILENCE_MAX;
        }
        attend(&mut prober, socket.as_ref());
        if tell(&mut prober, &records).await.is_err() {
            return;
        }
        let now = system::now();
        let due = prober.poll_timeout(now).map_or(look_at, |(at, _)| at.min(look_at));
        tokio::select! {
            // In this order: what has arrived ages with each moment.
            biased;
            length = received(socket.as_ref(), &mut buffer) => {
                let now = system::now();
                prober.handle_reply(&buffer[..length], now);
                look_at = now + SILENCE_MAX;
            }
            changed = circumstances.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = system::now();
                prober.handle_circumstances(*circumstances.borrow_and_update(), random(now), now);
                if prober.poll_timeout(now).is_none() {
                    // Nobody is asked, so nobody is silent.
                    look_at = now + SILENCE_MAX;
                }
            }
            () = tokio::time::sleep(due.since(now)) => {}
        }
    }
    prober.handle_line_end(system::now());
    // Where nobody takes them any more nobody wants them.
    let _ = tell(&mut prober, &records).await;
}

/// Returns once nobody tells the circumstances any more.
async fn ended(circumstances: &mut watch::Receiver<Circumstances>) {
    while circumstances.changed().await.is_ok() {}
}

/// Begins a session on a socket towards the reflector; `None`, with a line in the log, where there is none.
fn begin(
    opened: Result<std::io::Result<(UdpSocket, SocketAddr)>, Elapsed>,
    prober: &mut Prober,
    beside_bytes: u64,
) -> Option<UdpSocket> {
    let opened = opened.unwrap_or_else(|_| {
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no name server answered"))
    });
    match opened {
        Ok((socket, address)) => {
            let now = system::now();
            let target = Target::Reflector(address);
            let head_bytes = if address.is_ipv4() { 28 } else { 48 };
            let line = Line { target, head_bytes, beside_bytes, figures: Figures::default() };
            prober.handle_line(line, random(now), now);
            Some(socket)
        }
        Err(error) => {
            tracing::warn!(%error, "path.reflector cannot be reached, the next try is in five minutes");
            None
        }
    }
}

async fn open(Reflector { host, port }: &Reflector) -> std::io::Result<(UdpSocket, SocketAddr)> {
    let mut found = tokio::net::lookup_host((host.as_str(), *port)).await?;
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    let address = found.next().ok_or_else(none)?;
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok((socket, address))
}

/// Does what is due, and sends.
fn attend(prober: &mut Prober, socket: Option<&UdpSocket>) {
    let Some(socket) = socket else { return };
    let now = system::now();
    prober.handle_timeout(now);
    let Some(Probe { sequence, .. }) = prober.poll_transmit(random(now), now) else { return };
    let mut buffer = [0; PACKET_BYTES];
    let (left, wall) = system::now_and_wall();
    let sent = Timestamp::of_unix_us(wall.stamp(left).wall_us);
    let is_sent = Request { sequence, sent, ssid: 0 }.encode(&mut buffer).is_ok()
        // The first may fail for what an earlier request met (ICMP).
        && (socket.try_send(&buffer).is_ok() || socket.try_send(&buffer).is_ok());
    if is_sent {
        prober.handle_sent(left);
    } else {
        prober.handle_unsent();
    }
}

/// Waits for a packet of the reflector's.
async fn received(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> usize {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.recv(buffer).await {
            Ok(length) => return length,
            // Nobody listens there (ICMP), which tells of one request only; the next one may find somebody.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
