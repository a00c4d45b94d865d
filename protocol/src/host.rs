//! What the host itself was doing.

use serde::{Deserialize, Serialize};

use crate::time::Stamp;

/// Load of the endpoint over one interval. Shares are in permille of all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInterval {
    /// When the interval began.
    pub started: Stamp,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u32,
    /// Busy share of all cores, 0..=1000.
    pub cpu_permille: u16,
    /// Memory in use, 0..=1000.
    pub memory_permille: u16,
    /// PSI `some` of the CPU over the interval (Documentation/accounting/psi.rst), 0..=1000; `None` without PSI.
    pub cpu_pressure_permille: Option<u16>,
    /// The hottest sensor, in 0.1 degrees Celsius; `None` without sensors.
    pub temperature_deci_celsius: Option<i16>,
}
