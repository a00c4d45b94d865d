//! How the agent itself is: the heartbeat.
//!
//! It speaks of now and is worth nothing later, therefore it is no record: it is neither kept for the next connection
//! nor acknowledged. What was lost in the past is told by loss receipts and by the collector's own clock.

use core::ops::BitOr;

use serde::{Deserialize, Serialize};

use crate::configuration::ConfigurationState;
use crate::time::Stamp;

/// One heartbeat. The first follows the Welcome; the next is due within `interval_s`, and earlier on a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// When it was written.
    pub now: Stamp,
    /// The longest time until the next one, in seconds; 1 and above.
    pub interval_s: u16,
    /// How long the agent's process has been running, in seconds.
    pub running_s: u32,
    /// Its resident memory, in KiB.
    pub resident_kib: u32,
    /// The CPU time that it has used since it began, user and system, in milliseconds.
    pub cpu_ms: u64,
    /// What its spool takes on the disk, in bytes.
    pub spool_bytes: u64,
    /// Packet heads that its tap was given since it began.
    pub tap_received: u64,
    /// Packets that its tap itself lost since it began; none of them is network loss.
    pub tap_dropped: u64,
    /// What the endpoint's wall clock is worth.
    pub clock: ClockState,
    /// How it reaches the collector.
    pub transport: LinkTransport,
    /// What does not work as it should.
    pub troubles: Troubles,
    /// What it is set to.
    pub configuration: ConfigurationState,
}

/// What an endpoint's wall clock is worth. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClockState {
    /// The machine's time service says that it is synchronised.
    Synchronised,
    /// The machine's time service says that it is not.
    Unsynchronised,
    /// No time service tells.
    Unknown,
}

/// How frames travel. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkTransport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, because UDP did not pass.
    Tcp,
}

/// A set of troubles, one bit each. Appended, never reused; a reader shows bits that it does not know as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Troubles(pub u32);

impl Troubles {
    /// Memory came near its ceiling: the agent does less.
    pub const MEMORY: Self = Self(1);
    /// CPU came near its ceiling: the agent does less.
    pub const CPU: Self = Self(1 << 1);
    /// The tap lost packets since the heartbeat before.
    pub const TAP_DROPS: Self = Self(1 << 2);
    /// Records cannot be written, or had to be shed, since the heartbeat before.
    pub const SPOOL: Self = Self(1 << 3);
    /// No packet heads can be read.
    pub const NO_TAP: Self = Self(1 << 4);
    /// Sound devices are to be watched and cannot be.
    pub const NO_DEVICES: Self = Self(1 << 5);
    /// The certificate is past five sixths of its life.
    pub const CERTIFICATE: Self = Self(1 << 6);

    /// Whether all of `others` are in the set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Troubles {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_bits_of_their_own() {
        let all = [
            Troubles::MEMORY,
            Troubles::CPU,
            Troubles::TAP_DROPS,
            Troubles::SPOOL,
            Troubles::NO_TAP,
            Troubles::NO_DEVICES,
            Troubles::CERTIFICATE,
        ];
        let union = all.into_iter().fold(Troubles::default(), BitOr::bitor);
        assert_eq!(union.0.count_ones() as usize, all.len());
        assert!(all.into_iter().all(|one| union.contains(one)));
        assert!(!Troubles::CPU.contains(union) && Troubles::default().is_empty());
    }
}
