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
    /// What else was looked at.
    ///
    /// In the extension block: `None` where the writer is older than the field.
    #[serde(skip)]
    pub detail: Option<HostDetail>,
}

/// What else tells why a host is slow. Each is `None` where the machine has no such figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDetail {
    /// Busy share of the busiest core, 0..=1000.
    pub busiest_core_permille: Option<u16>,
    /// PSI `some` of memory over the interval, 0..=1000.
    pub memory_pressure_permille: Option<u16>,
    /// PSI `some` of storage over the interval, 0..=1000.
    pub io_pressure_permille: Option<u16>,
    /// Wi-Fi signal on the interface of the default route, at the end of the interval, in dBm.
    pub wifi_signal_dbm: Option<i16>,
    /// Whether the processor slowed itself down for heat within the interval.
    pub is_throttled: Option<bool>,
}
