//! Moments: what every core takes as `now`.
//!
//! A live agent counts from boot (`CLOCK_BOOTTIME`, suspend included), a capture file from 1970. A core never knows
//! which: it only takes differences.

pub mod packet_clock;
pub mod system;

use std::time::Duration;

use roomtone_protocol::time::Stamp;

/// Nanoseconds since an origin that all moments of one run share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The origin itself.
    pub const ORIGIN: Self = Self(0);

    /// The moment `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// How long after `earlier` this moment is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Sub<Duration> for Moment {
    type Output = Self;

    /// The origin where `by` reaches beyond it.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The offset between moments and the wall clock, as it was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallOffset {
    /// Wall nanoseconds since 1970 at the origin of moments; may be any value where the wall clock is wrong.
    nanos_at_origin: i128,
}

impl WallOffset {
    /// For capture files, whose moments are wall time already.
    pub const NONE: Self = Self { nanos_at_origin: 0 };

    /// From one pair of readings of both clocks.
    #[must_use]
    pub fn from_readings(wall_nanos: u64, moment: Moment) -> Self {
        Self { nanos_at_origin: i128::from(wall_nanos) - i128::from(moment.0) }
    }

    /// How far apart two offsets are: how much the wall clock was set between them.
    #[must_use]
    pub fn distance(self, other: Self) -> Duration {
        let nanos = self.nanos_at_origin.abs_diff(other.nanos_at_origin);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Both clocks at a moment.
    #[must_use]
    pub fn stamp(self, at: Moment) -> Stamp {
        let wall = (i128::from(at.0) + self.nanos_at_origin).max(0) / 1_000;
        Stamp { wall_us: u64::try_from(wall).unwrap_or(u64::MAX), uptime_us: at.as_micros() }
    }

    /// The moment of a wall time, as kernels stamp packets.
    #[must_use]
    pub fn moment(self, wall_nanos: u64) -> Moment {
        let nanos = (i128::from(wall_nanos) - self.nanos_at_origin).max(0);
        Moment(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
