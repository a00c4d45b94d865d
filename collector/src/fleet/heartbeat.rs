//! What an endpoint last said of itself, as it is kept: who it is, its connection, its heartbeat.
//!
//! All of it comes from outside: names and details are escaped before they are printed, and any number may be any.

use roomtone_protocol::health::Health;
use roomtone_protocol::id::EndpointId;

/// What is kept of one endpoint. Times are microseconds since 1970 by the collector's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Whose.
    pub endpoint: EndpointId,
    /// Its display name.
    pub name: String,
    /// Its site; empty for none.
    pub site: String,
    /// Its agent's version, from its Hello.
    pub agent_version: String,
    /// When its latest connection began.
    pub connected_us: u64,
    /// When that ended, where it has.
    pub ended_us: Option<u64>,
    /// Its latest heartbeat, where it ever sent one that this version can read.
    pub heartbeat: Option<Heartbeat>,
}

/// One heartbeat as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// When, by the collector's clock.
    pub heard_us: u64,
    /// What it says.
    pub health: Health,
    /// How much of one CPU the agent used of late; `None` before there are two heartbeats to tell.
    pub cpu: Option<CpuShare>,
}

/// CPU time over time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuShare {
    /// CPU time used, over all cores.
    pub part_us: u64,
    /// The time in which it was used; not 0.
    pub whole_us: u64,
}

/// The shortest time that a CPU share is told of: heartbeats that follow a change come close together.
const SHARE_US_MIN: u64 = 5_000_000;

/// Follows the CPU share through the heartbeats of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuMeter {
    /// Uptime, running time and CPU time of the heartbeat that is measured from.
    from: Option<(u64, u32, u64)>,
    share: Option<CpuShare>,
}

impl CpuMeter {
    /// Takes a heartbeat; returns the share that it tells, or the one before where it comes too soon.
    pub fn handle(&mut self, health: &Health) -> Option<CpuShare> {
        let now = (health.now.uptime_us, health.running_s, health.cpu_ms);
        let Some((uptime_us, running_s, cpu_ms)) = self.from else {
            self.from = Some(now);
            return None;
        };
        let is_same_life = now.0 >= uptime_us && now.1 >= running_s && now.2 >= cpu_ms;
        if !is_same_life {
            (self.from, self.share) = (Some(now), None);
            return None;
        }
        let whole_us = now.0 - uptime_us;
        if whole_us >= SHARE_US_MIN {
            let part_us = (now.2 - cpu_ms).saturating_mul(1_000);
            self.share = Some(CpuShare { part_us, whole_us });
            self.from = Some(now);
        }
        self.share
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use roomtone_protocol::configuration::{
        Arrival, ConfigurationHash, ConfigurationState, Outcome,
    };
    use roomtone_protocol::health::{ClockState, LinkTransport, Troubles};
    use roomtone_protocol::time::Stamp;

    use super::*;

    /// A heartbeat of a healthy agent that runs for `running_s`, with a configuration that came.
    pub(crate) fn health(running_s: u32, latest: Option<(ConfigurationHash, Outcome)>) -> Health {
        Health {
            now: Stamp { wall_us: 0, uptime_us: u64::from(running_s) * 1_000_000 },
            interval_s: 60,
            running_s,
            resident_kib: 9_500,
            cpu_ms: u64::from(running_s) * 2,
            spool_bytes: 1_000_000,
            tap_received: 7,
            tap_dropped: 0,
            clock: ClockState::Synchronised,
            transport: LinkTransport::Quic,
            troubles: Troubles::default(),
            configuration: ConfigurationState {
                effective: ConfigurationHash([1; 8]),
                in_force: None,
                latest: latest.map(|(hash, outcome)| Arrival {
                    hash,
                    outcome,
                    detail: match outcome {
                        Outcome::Refused | Outcome::RolledBack => "log.level: loud".try_into(),
                        Outcome::InForce | Outcome::OnTrial | Outcome::WaitsForCall => {
                            "".try_into()
                        }
                    }
                    .unwrap(),
                }),
            },
        }
    }

    #[test]
    fn cpu_share_is_the_difference_of_two_heartbeats() {
        let mut meter = CpuMeter::default();
        assert_eq!(meter.handle(&health(60, None)), None);
        // 2 ms of CPU a second: 120 ms of 60 s.
        let share = CpuShare { part_us: 120_000, whole_us: 60_000_000 };
        assert_eq!(meter.handle(&health(120, None)), Some(share));
        assert_eq!(meter.handle(&health(121, None)), Some(share), "too soon to tell anew");
        assert_eq!(meter.handle(&health(3, None)), None, "it was restarted");
    }

    #[test]
    fn absurd_numbers_are_a_share_and_no_panic() {
        let mut meter = CpuMeter::default();
        let mut first = health(0, None);
        first.now.uptime_us = 0;
        assert_eq!(meter.handle(&first), None);
        let mut last = health(u32::MAX, None);
        (last.now.uptime_us, last.cpu_ms) = (u64::MAX, u64::MAX);
        let share = meter.handle(&last).unwrap();
        assert_eq!((share.part_us, share.whole_us), (u64::MAX, u64::MAX));
    }
}
