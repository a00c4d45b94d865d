//! The datagrams of a link's connection, lent to whoever probes the path with them.

use std::net::{IpAddr, SocketAddr};

use roomtone_protocol::probe::DATAGRAM_BYTES_MAX;

use crate::path::prober::Figures;

/// What the connection keeps of datagrams in each direction, in bytes: a dozen.
pub(super) const BUFFER_BYTES: usize = 2048;

/// The heads of IPv4 and UDP, in bytes (RFC 791, RFC 768).
const HEADS_V4: u16 = 20 + 8;
/// The heads of IPv6 and UDP, in bytes (RFC 8200, RFC 768).
const HEADS_V6: u16 = 40 + 8;

/// The same connection as its link's; it lives no longer than that.
#[derive(Debug, Clone)]
pub struct Line {
    pub(super) connection: quinn::Connection,
}

impl Line {
    /// The heads that each packet has below QUIC, in bytes.
    #[must_use]
    pub fn head_bytes(&self) -> u16 {
        let is_v4 = match self.connection.remote_address() {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(address) => {
                matches!(IpAddr::V6(*address.ip()).to_canonical(), IpAddr::V4(_))
            }
        };
        if is_v4 { HEADS_V4 } else { HEADS_V6 }
    }

    /// Whether the collector takes datagrams of the size that probes need.
    #[must_use]
    pub fn takes_probes(&self) -> bool {
        self.connection.max_datagram_size().is_some_and(|most| most >= DATAGRAM_BYTES_MAX)
    }

    /// What the connection knows of its path.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let path = self.connection.stats().path;
        Figures {
            rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            congestion_events: path.congestion_events,
            mtu: path.current_mtu,
        }
    }

    /// Sends one datagram as the next packet; false where it cannot leave now, and then it never does.
    #[must_use]
    pub fn send(&self, bytes: &[u8]) -> bool {
        // Without room quinn would drop an older one in silence.
        bytes.len() <= self.connection.datagram_send_buffer_space()
            && self.connection.send_datagram(bytes.to_vec().into()).is_ok()
    }

    /// Waits for a datagram and returns its length, cut to that of `buffer`; `None` once the connection is gone.
    /// Cancel-safe.
    pub async fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let datagram = self.connection.read_datagram().await.ok()?;
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Some(length)
    }
}
