//! The tap: UDP datagrams as they passed the endpoint's own interfaces, heads only.

use std::net::SocketAddr;

use crate::clock::Moment;

/// The head of one UDP datagram, as far as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When the kernel saw it.
    pub at: Moment,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// Its payload as far as it was captured; often shorter than `wire_bytes`.
    pub payload: &'a [u8],
    /// The length of its payload on the wire, in bytes, by the UDP header.
    pub wire_bytes: u16,
}
