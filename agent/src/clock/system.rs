//! Reads both clocks of this machine: the one place where a moment comes from.

use rustix::time::{ClockId, clock_gettime};

use super::{Moment, WallOffset};

/// The moment now, since boot, suspend included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> Moment {
    read(ClockId::Boottime)
}

/// The moment now and how far the wall clock is from it.
///
/// The two are read one after the other: the offset is exact to the microsecond or so between them.
#[must_use]
pub fn now_and_wall() -> (Moment, WallOffset) {
    let wall = read(ClockId::Realtime).as_nanos();
    let now = now();
    (now, WallOffset::from_readings(wall, now))
}

fn read(clock: ClockId) -> Moment {
    let time = clock_gettime(clock);
    // Neither clock of a running Linux reads before its origin.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
