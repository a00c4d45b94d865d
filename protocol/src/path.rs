//! The path to the collector, probed by ourselves.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::time::Stamp;

/// Who answered the probes. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathTarget {
    /// The collector, by QUIC datagrams.
    Collector,
    /// An RFC 8762 reflector.
    Stamp,
}

/// Probes of one interval, per direction. RTT and jitter in 0.1 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInterval {
    /// When the interval began.
    pub started: Stamp,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u32,
    /// Who answered.
    pub target: PathTarget,
    /// Probes sent.
    pub sent: u32,
    /// Probes lost on the way to the target.
    pub lost_up: u32,
    /// Answers lost on the way back.
    pub lost_down: u32,
    /// Smallest round trip, in 0.1 ms; 0 where no probe came back, as the next two.
    pub rtt_min_dms: u32,
    /// Mean round trip, in 0.1 ms.
    pub rtt_mean_dms: u32,
    /// Largest round trip, in 0.1 ms.
    pub rtt_max_dms: u32,
    /// RFC 3550 A.8 jitter towards the target, in 0.1 ms.
    pub jitter_up_dms: u32,
    /// RFC 3550 A.8 jitter from the target, in 0.1 ms.
    pub jitter_down_dms: u32,
    /// What else the probes told.
    ///
    /// In the extension block: `None` where the writer is older than the field, as the next two.
    #[serde(skip)]
    pub detail: Option<PathDetail>,
    /// The reflector; `None` for the collector.
    #[serde(skip)]
    pub reflector: Option<SocketAddr>,
    /// The connection's own figures; `None` for a reflector.
    #[serde(skip)]
    pub connection: Option<PathConnection>,
}

/// What else the probes of one interval told.
///
/// `sent` is the sum of `returned`, `unplaced` and of what was lost in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathDetail {
    /// The call that was on, if one was.
    pub call: Option<CallId>,
    /// Probes that came back.
    pub returned: u32,
    /// Probes that did not come back, in a direction that nothing tells.
    pub unplaced: u32,
    /// Probes that arrived behind a later one.
    pub reordered_up: u32,
    /// Answers that arrived behind a later one.
    pub reordered_down: u32,
    /// Answers that came more than once.
    pub duplicate: u32,
    /// Bytes of probes and answers, UDP and IP heads included.
    pub wire_bytes: u32,
}

/// What a QUIC connection knows of its path (RFC 9002), at the end of the interval; counts are of the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathConnection {
    /// Smoothed round trip, in 0.1 ms.
    pub rtt_dms: u32,
    /// Packets sent.
    pub sent_packets: u32,
    /// Packets declared lost.
    pub lost_packets: u32,
    /// Congestion events.
    pub congestion_events: u32,
    /// Largest UDP payload that passes, in bytes.
    pub mtu: u16,
}
