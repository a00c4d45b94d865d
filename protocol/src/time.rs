//! Two clocks travel with every event: the wall's, to show, and the uptime's, to order and to measure.

use serde::{Deserialize, Serialize};

/// One moment on both clocks of an endpoint.
///
/// The collector never trusts wall order: clocks step. Differences of `uptime_us` are true durations, suspend
/// included, as long as the endpoint did not reboot between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Microseconds since 1970-01-01T00:00:00Z by the endpoint's own wall clock.
    pub wall_us: u64,
    /// Microseconds since the endpoint booted (`CLOCK_BOOTTIME`).
    pub uptime_us: u64,
}
