//! The collector's wall clock, read by shells only.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 by this machine's wall clock; 0 where it stands before 1970.
#[must_use]
pub fn wall_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
