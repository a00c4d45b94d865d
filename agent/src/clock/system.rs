//! Reads both clocks of this machine: the one place where a moment comes from.

use std::time::Duration;

use roomtone_protocol::enroll::BootId;
use roomtone_protocol::id::EndpointId;
use rustix::time::{ClockId, clock_gettime};

use super::{Moment, WallOffset};

/// The moment now, since boot, suspend included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> Moment {
    read(ClockId::Boottime)
}

/// The moment now and how far the wall clock is from it.
///
/// The wall clock is read between two readings of the other. Where this thread lost its processor between them, which
/// would throw every packet of a batch by as much, they are read again: the closest of three tries is taken.
#[must_use]
pub fn now_and_wall() -> (Moment, WallOffset) {
    let (mut now, mut offset, mut closest) = (Moment::ORIGIN, WallOffset::NONE, Duration::MAX);
    for _ in 0..READINGS_MAX {
        let before = self::now();
        let wall = read(ClockId::Realtime).as_nanos();
        now = self::now();
        let apart = now.since(before);
        if apart < closest {
            (offset, closest) = (WallOffset::from_readings(wall, before + apart / 2), apart);
        }
        if closest <= READINGS_APART {
            break;
        }
    }
    (now, offset)
}

/// Three readings take 0.1 us where the kernel answers from memory and 2 us where it must be called.
const READINGS_APART: Duration = Duration::from_micros(10);
const READINGS_MAX: u32 = 3;

/// How long this machine has slept since it booted: what only one of its two clocks counts.
#[must_use]
pub fn slept() -> Duration {
    // What passes between the two readings counts as sleep, some microseconds.
    let awake = read(ClockId::Monotonic);
    now().since(awake)
}

/// The CPU time that this process has used, all threads, user and system.
#[must_use]
pub fn cpu_time() -> Duration {
    read(ClockId::ProcessCPUTime).since(Moment::ORIGIN)
}

/// The life of the kernel in which both clocks count; `None` where the kernel tells none.
#[must_use]
pub fn boot_id() -> Option<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // It has the form of an endpoint's id, and shares no more with it.
    Some(BootId(text.trim().parse::<EndpointId>().ok()?.0))
}

fn read(clock: ClockId) -> Moment {
    let time = clock_gettime(clock);
    // Neither clock of a running Linux reads before its origin.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_has_one_id() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id().expect("a running Linux tells its boot"), BootId([0; 16]));
    }
}
