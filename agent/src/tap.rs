//! The tap: UDP datagrams as they passed the endpoint's own interfaces, heads only.
//!
//! `live` reads the kernel's capture ring, `file` reads pcap and pcapng files; both hand frames to `link`, which
//! finds the UDP head, and both count in `skip` what they could not hand over. Nothing here knows what a datagram
//! means. Of the live tap, `filter` is what the kernel lets through, `socket` opens in the right order, `opener` does
//! so for an agent without rights, `block` is what lies in the ring, and `kernel` the calls and the mapping.

use std::net::SocketAddr;

use crate::clock::Moment;

pub mod block;
mod error;
pub mod file;
pub mod filter;
mod kernel;
pub mod link;
pub mod live;
mod local;
pub mod opener;
mod record;
pub mod skip;
mod socket;

pub use error::TapError;
pub use file::FileTap;
pub use live::{LiveOptions, LiveTap, TapStats, Wakeup};
pub use local::local_addresses;
pub use skip::{SkipReason, Skips};

/// The head of one UDP datagram, as far as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When the kernel saw it.
    pub at: Moment,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// The differentiated-services code point of its IP header (RFC 2474), 0..=63.
    pub dscp: u8,
    /// Its payload as far as it was captured; often shorter than `wire_bytes`.
    pub payload: &'a [u8],
    /// The length of its payload on the wire, in bytes, by the UDP header.
    pub wire_bytes: u16,
}
