//! How the agent itself is: when a heartbeat is due, what it says, and when the agent must do less.
//!
//! A core; [`host`] reads this process and its machine. With a link there is one timer, the heartbeat's; without one
//! there is none, and the agent looks at itself when something else has woken it, at most once per interval.
//!
//! **Doing less.** Where memory or CPU comes near the ceiling of its control group, which ends in a kill or in
//! throttling, the agent does less before: its heartbeat comes half as often, intervals travel six to a frame as
//! without a link (a sixth of the syncs and sends), and it stops listening along to microphones. Watching devices and
//! reading packet heads go on: they are what it is there for. It does all again once both are well below.

pub mod host;

use std::time::Duration;

use roomtone_protocol::configuration::ConfigurationState;
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::time::Stamp;

use crate::clock::Moment;

/// How near memory may come to its ceiling, in per cent: the agent at work has some 15, so this is growth that goes on.
const MEMORY_STRAINED: u64 = 85;
/// Where memory is well below again, in per cent.
const MEMORY_EASED: u64 = 70;
/// How near CPU may come to its ceiling, in per cent: above it the kernel throttles soon, and packets wait.
const CPU_STRAINED: u64 = 75;
/// Where CPU is well below again, in per cent.
const CPU_EASED: u64 = 50;
/// The shortest time over which CPU is judged: a handshake of some milliseconds in a short one would be a burden.
const CPU_WINDOW_MIN: Duration = Duration::from_secs(10);
/// Heartbeats for troubles that come suddenly are at least so far apart: a flapping interface must not flood a fleet.
const SUDDEN_EVERY: Duration = Duration::from_secs(10);
/// What the agent does less often, it does this many times less often.
const LESS: u32 = 2;

/// Where the kernel would stop this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// CPU time per time, in thousandths of one core.
    pub cpu_mille: u64,
}

impl Default for Ceilings {
    /// What the service's unit sets: MemoryHigh=64M, CPUQuota=20%.
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, cpu_mille: 200 }
    }
}

/// What costs nothing to look at, whenever the agent is awake. Counts are since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Glance {
    /// Packet heads that the tap was given.
    pub tap_received: u64,
    /// Packets that the tap lost.
    pub tap_dropped: u64,
    /// The tap is not open: it broke, or could not be opened yet.
    pub is_tap_shut: bool,
    /// Records that the spool shed or lost, and syncs that failed.
    pub spool_losses: u64,
    /// The disk does not make records durable now.
    pub is_spool_stuck: bool,
    /// Sound devices are to be watched, and this machine shows none of them.
    pub is_blind: bool,
}

/// What is read for a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub stamp: Stamp,
    /// See [`Glance`].
    pub glance: Glance,
    /// Resident memory, in KiB.
    pub resident_kib: u32,
    /// What of it is the tap's ring, in KiB: the kernel charges that to no control group.
    pub ring_kib: u32,
    /// CPU time since the process began, in milliseconds.
    pub cpu_ms: u64,
    /// What the spool takes on the disk.
    pub spool_bytes: u64,
    /// What the wall clock is worth.
    pub clock: ClockState,
    /// From when until when the certificate is good, in microseconds since 1970; `None` where it cannot be read.
    pub certificate_us: Option<[u64; 2]>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Monitor {
    ceilings: Ceilings,
    interval: Duration,
    begun: Moment,
    is_linked: bool,
    /// The next look.
    due: Moment,
    /// The glance and the troubles of the last heartbeat, and when it was.
    told: Glance,
    told_troubles: Troubles,
    told_at: Option<Moment>,
    /// The beginning of the time over which CPU is judged, and the CPU time used until then.
    window: (Moment, u64),
    is_memory_strained: bool,
    is_cpu_strained: bool,
}

impl Monitor {
    /// For a process that begins now.
    #[must_use]
    pub fn new(ceilings: Ceilings, now: Moment) -> Self {
        Self {
            ceilings,
            interval: Duration::from_secs(60),
            begun: now,
            is_linked: false,
            due: now + CPU_WINDOW_MIN,
            told: Glance::default(),
            told_troubles: Troubles::default(),
            told_at: None,
            window: (now, 0),
            is_memory_strained: false,
            is_cpu_strained: false,
        }
    }

    /// The agent's parts begin, without a link, with this time between two heartbeats.
    pub fn handle_started(&mut self, interval: Duration) {
        self.interval = interval;
        self.is_linked = false;
    }

    /// The collector takes records: a heartbeat is due.
    pub fn handle_welcomed(&mut self, now: Moment) {
        self.is_linked = true;
        self.due = now;
    }

    /// The link is gone.
    pub fn handle_unlinked(&mut self) {
        self.is_linked = false;
    }

    /// What the collector is told of the configuration has changed.
    pub fn handle_changed(&mut self, now: Moment) {
        if self.is_linked {
            self.due = now;
        }
    }

    /// The agent is awake for whatever reason, and this is what can be seen from there.
    pub fn handle_glance(&mut self, glance: &Glance, now: Moment) {
        let sudden = self.sudden(glance);
        if self.is_linked && !self.told_troubles.contains(sudden) {
            let earliest = self.told_at.map_or(now, |at| (at + SUDDEN_EVERY).max(now));
            self.due = self.due.min(earliest);
        }
    }

    /// Whether a sample is wanted.
    #[must_use]
    pub fn wants_sample(&self, now: Moment) -> bool {
        self.due <= now
    }

    /// Takes a sample; where there is a link, this is the heartbeat to send.
    pub fn handle_sample(
        &mut self,
        sample: &Sample,
        configuration: ConfigurationState,
        now: Moment,
    ) -> Option<Health> {
        self.judge(sample, now);
        self.due = now + self.interval();
        if !self.is_linked {
            return None;
        }
        let troubles = self.sudden(&sample.glance) | self.lasting(sample);
        self.told = sample.glance;
        self.told_troubles = troubles;
        self.told_at = Some(now);
        let seconds = |time: Duration| time.as_secs();
        Some(Health {
            now: sample.stamp,
            interval_s: u16::try_from(seconds(self.interval())).unwrap_or(u16::MAX),
            running_s: u32::try_from(seconds(now.since(self.begun))).unwrap_or(u32::MAX),
            resident_kib: sample.resident_kib,
            cpu_ms: sample.cpu_ms,
            spool_bytes: sample.spool_bytes,
            tap_received: sample.glance.tap_received,
            tap_dropped: sample.glance.tap_dropped,
            clock: sample.clock,
            transport: LinkTransport::Quic,
            troubles,
            configuration,
        })
    }

    /// Whether the agent is to do less.
    #[must_use]
    pub fn is_strained(&self) -> bool {
        self.is_memory_strained || self.is_cpu_strained
    }

    /// When to look next, and why; `None` without a link.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        self.is_linked.then_some((self.due, "heartbeat"))
    }

    fn interval(&self) -> Duration {
        self.interval * if self.is_strained() { LESS } else { 1 }
    }

    fn judge(&mut self, sample: &Sample, now: Moment) {
        let Ceilings { memory_bytes, cpu_mille } = self.ceilings;
        let share = |used: u64, ceiling: u64| used.saturating_mul(100) / ceiling.max(1);
        let charged_kib = sample.resident_kib.saturating_sub(sample.ring_kib);
        let memory = share(u64::from(charged_kib) << 10, memory_bytes);
        self.is_memory_strained =
            memory >= if self.is_memory_strained { MEMORY_EASED } else { MEMORY_STRAINED };

        let (since, used) = self.window;
        let window = now.since(since);
        if window >= CPU_WINDOW_MIN {
            let spent_us = sample.cpu_ms.saturating_sub(used).saturating_mul(1_000);
            let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
            let mille = spent_us.saturating_mul(1_000) / window_us.max(1);
            let cpu = share(mille, cpu_mille);
            self.is_cpu_strained =
                cpu >= if self.is_cpu_strained { CPU_EASED } else { CPU_STRAINED };
            self.window = (now, sample.cpu_ms);
        }
    }

    /// Troubles that a glance shows.
    fn sudden(&self, glance: &Glance) -> Troubles {
        let lost = glance.spool_losses > self.told.spool_losses;
        set(glance.tap_dropped > self.told.tap_dropped, Troubles::TAP_DROPS)
            | set(lost || glance.is_spool_stuck, Troubles::SPOOL)
            | set(glance.is_tap_shut, Troubles::NO_TAP)
            | set(glance.is_blind, Troubles::NO_DEVICES)
    }

    /// Troubles that take a sample.
    fn lasting(&self, sample: &Sample) -> Troubles {
        let is_old = sample.certificate_us.is_some_and(|[from, until]| {
            let life = until.saturating_sub(from);
            sample.stamp.wall_us >= until.saturating_sub(life / 6)
        });
        set(self.is_memory_strained, Troubles::MEMORY)
            | set(self.is_cpu_strained, Troubles::CPU)
            | set(is_old, Troubles::CERTIFICATE)
    }
}

fn set(is_so: bool, trouble: Troubles) -> Troubles {
    if is_so { trouble } else { Troubles::default() }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::configuration::ConfigurationHash;

    use super::*;

    const START: Moment = Moment::from_nanos(1_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY_US: u64 = 86_400_000_000;

    fn state() -> ConfigurationState {
        ConfigurationState { effective: ConfigurationHash([7; 8]), in_force: None, latest: None }
    }

    /// An agent at work, as the README's figures tell it.
    fn well() -> Sample {
        Sample {
            stamp: Stamp { wall_us: 1_795_391_940_000_000, uptime_us: 0 },
            glance: Glance::default(),
            resident_kib: 9_728,
            ring_kib: 0,
            cpu_ms: 0,
            spool_bytes: 65_536,
            clock: ClockState::Synchronised,
            certificate_us: None,
        }
    }

    fn linked() -> Monitor {
        let mut monitor = Monitor::new(Ceilings::default(), START);
        monitor.handle_started(MINUTE);
        monitor.handle_welcomed(START);
        monitor
    }

    fn beat(monitor: &mut Monitor, sample: &Sample, now: Moment) -> Health {
        assert!(monitor.wants_sample(now));
        monitor.handle_sample(sample, state(), now).expect("a link")
    }

    #[test]
    fn first_heartbeat_follows_the_welcome_and_the_next_one_an_interval_later() {
        let mut monitor = linked();
        let health = beat(&mut monitor, &well(), START);
        assert_eq!((health.interval_s, health.running_s), (60, 0));
        assert_eq!(monitor.poll_timeout(), Some((START + MINUTE, "heartbeat")));
        assert!(!monitor.wants_sample(START + MINUTE - Duration::from_nanos(1)));
        assert_eq!(beat(&mut monitor, &well(), START + MINUTE).running_s, 60);
    }

    #[test]
    fn without_a_link_there_is_no_timer_and_nothing_is_said() {
        let mut monitor = linked();
        beat(&mut monitor, &well(), START);
        monitor.handle_unlinked();
        assert_eq!(monitor.poll_timeout(), None);
        monitor.handle_changed(START);
        assert!(!monitor.wants_sample(START));
        let later = START + MINUTE;
        assert!(monitor.wants_sample(later), "what wakes it may look");
        assert_eq!(monitor.handle_sample(&well(), state(), later), None);
    }

    #[test]
    fn change_of_the_configuration_is_told_at_once() {
        let mut monitor = linked();
        beat(&mut monitor, &well(), START);
        monitor.handle_changed(START + Duration::from_secs(1));
        assert!(monitor.wants_sample(START + Duration::from_secs(1)));
    }

    #[test]
    fn ring_of_the_greatest_size_is_no_burden_on_the_control_group() {
        let mut monitor = linked();
        // 8.5 MiB of its own and a ring of 64 MiB, at a ceiling of 64 MiB.
        let sample = Sample { resident_kib: 8_704 + 65_536, ring_kib: 65_536, ..well() };
        assert_eq!(beat(&mut monitor, &sample, START).troubles, Troubles::default());
        // 85 % of 64 MiB are 55,706 KiB: the agent's own may not come to that.
        let sample = Sample { resident_kib: 55_707 + 65_536, ..sample };
        assert_eq!(beat(&mut monitor, &sample, START + MINUTE).troubles, Troubles::MEMORY);
    }

    #[test]
    fn sudden_trouble_is_told_before_its_time_and_no_more_often_than_every_ten_seconds() {
        let mut monitor = linked();
        beat(&mut monitor, &well(), START);
        let glance = Glance { is_tap_shut: true, ..Glance::default() };
        monitor.handle_glance(&glance, START + Duration::from_secs(1));
        assert_eq!(monitor.poll_timeout().unwrap().0, START + Duration::from_secs(10));
        let at = START + Duration::from_secs(10);
        let health = beat(&mut monitor, &Sample { glance, ..well() }, at);
        assert_eq!(health.troubles, Troubles::NO_TAP);
        monitor.handle_glance(&glance, at + Duration::from_secs(30));
        assert_eq!(monitor.poll_timeout().unwrap().0, at + MINUTE, "it was told");
    }

    #[test]
    fn losses_are_told_once_and_those_of_an_outage_after_it() {
        let mut monitor = linked();
        beat(&mut monitor, &well(), START);
        monitor.handle_unlinked();
        let glance = Glance { tap_dropped: 3, spool_losses: 1, ..Glance::default() };
        let sample = Sample { glance, ..well() };
        monitor.handle_sample(&sample, state(), START + MINUTE);
        monitor.handle_welcomed(START + 2 * MINUTE);
        let health = beat(&mut monitor, &sample, START + 2 * MINUTE);
        assert_eq!(health.troubles, Troubles::TAP_DROPS | Troubles::SPOOL);
        let health = beat(&mut monitor, &sample, START + 3 * MINUTE);
        assert!(health.troubles.is_empty());
    }

    /// 85 % of 64 MiB are 55,706 KiB, 70 % are 45,875 KiB; both rounded up to the first KiB that counts.
    #[test]
    fn memory_near_its_ceiling_makes_it_do_less_until_it_is_well_below() {
        let mut monitor = linked();
        let steps = [(55_705, false), (55_706, true), (45_876, true), (45_875, false)];
        let mut now = START;
        for (resident_kib, is_strained) in steps {
            let health = beat(&mut monitor, &Sample { resident_kib, ..well() }, now);
            assert_eq!(monitor.is_strained(), is_strained, "{resident_kib}");
            assert_eq!(health.troubles.contains(Troubles::MEMORY), is_strained);
            assert_eq!(health.interval_s, if is_strained { 120 } else { 60 });
            now = monitor.poll_timeout().unwrap().0;
        }
    }

    /// The ceiling is 200 ms a second. 75 % of it over 60 s are 9,000 ms; 50 % over 120 s are 12,000 ms.
    #[test]
    fn cpu_near_its_ceiling_makes_it_do_less_until_it_is_well_below() {
        let mut monitor = linked();
        beat(&mut monitor, &Sample { cpu_ms: 500, ..well() }, START);
        let mut used = 0;
        let mut now = START;
        for (spent, is_strained) in [(8_999, false), (9_000, true), (12_000, true), (11_999, false)]
        {
            now = monitor.poll_timeout().map_or(now, |(due, _)| due);
            used += spent;
            let health = beat(&mut monitor, &Sample { cpu_ms: used, ..well() }, now);
            assert_eq!(health.troubles.contains(Troubles::CPU), is_strained, "{spent}");
        }
    }

    #[test]
    fn start_of_the_process_is_too_short_to_judge_its_cpu() {
        let mut monitor = linked();
        let health = beat(&mut monitor, &Sample { cpu_ms: 900, ..well() }, START);
        assert!(health.troubles.is_empty());
    }

    #[test]
    fn certificate_past_five_sixths_of_its_life_is_a_trouble() {
        let sample = |day: u64| Sample {
            stamp: Stamp { wall_us: (100 + day) * DAY_US, uptime_us: 0 },
            certificate_us: Some([100 * DAY_US, 130 * DAY_US]),
            ..well()
        };
        let told = |day| beat(&mut linked(), &sample(day), START).troubles;
        assert_eq!((told(24), told(25)), (Troubles::default(), Troubles::CERTIFICATE));
        assert_eq!(told(31), Troubles::CERTIFICATE);
    }

    #[test]
    fn longest_interval_done_half_as_often_fits_the_wire() {
        let mut monitor = linked();
        monitor.handle_started(Duration::from_secs(900));
        monitor.handle_welcomed(START);
        let health = beat(&mut monitor, &Sample { resident_kib: u32::MAX, ..well() }, START);
        assert_eq!(health.interval_s, 1_800);
    }
}
