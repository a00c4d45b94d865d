//! The collector as a stateful reflector of STAMP (RFC 8762, unauthenticated mode), for agents whose collector
//! connection goes another way and for routers: a shell around [`sessions`].
//!
//! Off unless `stamp.listen` names an address. A reply is 44 bytes and never longer than its request, and a source gets
//! no more of them than the sessions allow, so whoever forges a source gains nothing by it. Times are of the wall
//! clock, as the protocol has it; a clock that is set shows as one wrong round trip at the sender. The TTL of a request
//! is told as 0, not known.

pub mod sessions;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use roomtone_protocol::stamp::{PACKET_BYTES, Reply, Request, Timestamp};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::clock;
use sessions::Sessions;

/// Why there is no reflector.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (UDP) for stamp.listen: {source}")]
pub struct ReflectError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct Reflector {
    socket: UdpSocket,
}

impl Reflector {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`ReflectError`] where it cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, ReflectError> {
        let socket = UdpSocket::bind(address).await;
        Ok(Self { socket: socket.map_err(|source| ReflectError { address, source })? })
    }

    /// The address in use, with the port that the kernel chose where 0 was asked for.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until `shutdown` turns true.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut sessions = Sessions::default();
        let mut buffer = [0; PACKET_BYTES];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                _ = shutdown.wait_for(|is_over| *is_over) => break,
            };
            // An error is of an earlier reply that nobody wanted (ICMP); the socket goes on.
            let Ok((length, from)) = received else { continue };
            let received = Timestamp::of_unix_us(clock::wall_us());
            let request = Request::decode(&buffer[..length]);
            let Some((request, sequence)) = sessions.handle(request, from, Instant::now()) else {
                continue;
            };
            let sent = Timestamp::of_unix_us(clock::wall_us());
            let received_bits = received.bits;
            let reply = Reply { sequence, sent, received_bits, request, ttl: 0 };
            if reply.encode(&mut buffer).is_ok() {
                // A reply that the kernel does not take is lost, as it might be on the way.
                let _ = self.socket.try_send_to(&buffer, from);
            }
        }
        let counts = sessions.counts();
        tracing::info!(?counts, "the reflector has stopped");
    }
}
