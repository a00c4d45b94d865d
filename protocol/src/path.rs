//! The path to the collector, probed by ourselves.

use serde::{Deserialize, Serialize};

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
}
