//! From one look at the machine to the next: an interval of its load, and when the next look is due.
//!
//! A core. An interval begins where the one before ended, so that together they cover the time without a gap or an
//! overlap; where a call begins or ends the running one is cut, so that those of a call lie in it. A figure that one of
//! the two looks lacks is `None` in the interval between them.

use std::time::Duration;

use roomtone_protocol::host::{HostDetail, HostInterval};

use super::figures::{CpuTimes, Ticks, permille};
use crate::clock::{Moment, WallOffset};

/// One look at the machine: what counts up since boot, and what is as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// CPU time.
    pub cpu: Option<CpuTimes>,
    /// Memory in use, 0..=1000.
    pub memory_permille: Option<u16>,
    /// Microseconds in which some task waited for a core, for memory, for storage.
    pub pressure_us: [Option<u64>; 3],
    /// The hottest sensor, in 0.1 degrees Celsius.
    pub temperature_deci_celsius: Option<i16>,
    /// How often the processor slowed itself down for heat, all cores together.
    pub throttles: Option<u64>,
    /// Signal of the Wi-Fi that the default route leads through, in dBm.
    pub wifi_signal_dbm: Option<i16>,
}

/// Looks in a call, as often as a leg has intervals (design section 2).
pub const EVERY_IN_CALL: Duration = Duration::from_secs(10);
/// Looks outside of calls, and in calls of an agent that does less: a record and a sync of the disk each.
pub const EVERY: Duration = Duration::from_secs(60);
/// Looks outside of calls of an agent that does less.
pub const EVERY_SPARING: Duration = Duration::from_secs(300);
/// A shorter one says nothing: a tick of the kernel is 1 to 10 ms.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Course {
    before: Option<(Look, Moment)>,
    in_call: bool,
    is_sparing: bool,
}

impl Course {
    /// Follows calls; what was running until now is due at once, so that it is cut here.
    pub fn set_in_call(&mut self, in_call: bool) {
        self.in_call = in_call;
    }

    /// Looks less often, or as often as before.
    pub fn set_sparing(&mut self, is_sparing: bool) {
        self.is_sparing = is_sparing;
    }

    /// When the next look is due; `None` before the first, which is due at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let every = match (self.in_call, self.is_sparing) {
            (true, false) => EVERY_IN_CALL,
            (true, true) | (false, false) => EVERY,
            (false, true) => EVERY_SPARING,
        };
        self.before.as_ref().map(|(_, at)| *at + every)
    }

    /// Takes a look; returns the interval that it ends. `None` for the first, for one that is too short, which the
    /// next one then contains, and for a machine that does not tell its load.
    pub fn handle_look(
        &mut self,
        look: Look,
        now: Moment,
        wall: WallOffset,
    ) -> Option<HostInterval> {
        let Some((before, at)) = &self.before else {
            self.before = Some((look, now));
            return None;
        };
        let lasted = now.since(*at);
        if lasted < SHORTEST {
            return None;
        }
        let interval = interval(before, &look, *at, lasted, wall);
        self.before = Some((look, now));
        interval
    }
}

fn interval(
    before: &Look,
    after: &Look,
    at: Moment,
    lasted: Duration,
    wall: WallOffset,
) -> Option<HostInterval> {
    let (cpu_before, cpu_after) = (before.cpu.as_ref()?, after.cpu.as_ref()?);
    let whole_us = u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX);
    let pressure = |which: usize| {
        let waited = after.pressure_us[which]?.checked_sub(before.pressure_us[which]?)?;
        permille(waited, whole_us)
    };
    let throttled = || Some(after.throttles? > before.throttles?);
    Some(HostInterval {
        started: wall.stamp(at),
        duration_ms: u32::try_from(lasted.as_millis()).unwrap_or(u32::MAX),
        cpu_permille: busy(cpu_before.all, cpu_after.all)?,
        memory_permille: after.memory_permille?,
        cpu_pressure_permille: pressure(0),
        temperature_deci_celsius: after.temperature_deci_celsius,
        detail: Some(HostDetail {
            busiest_core_permille: busiest(cpu_before, cpu_after),
            memory_pressure_permille: pressure(1),
            io_pressure_permille: pressure(2),
            wifi_signal_dbm: after.wifi_signal_dbm,
            is_throttled: throttled(),
        }),
    })
}

/// Work between two readings. The kernel's idle time may step back by a tick: then it did not move.
fn busy(before: Ticks, after: Ticks) -> Option<u16> {
    permille(after.busy.saturating_sub(before.busy), after.whole.saturating_sub(before.whole))
}

/// Of the cores that were there both times.
fn busiest(before: &CpuTimes, after: &CpuTimes) -> Option<u16> {
    let ticks = |(number, ticks): &(u16, Ticks)| {
        let (_, earlier) = before.cores.iter().find(|(known, _)| known == number)?;
        busy(*earlier, *ticks)
    };
    after.cores.iter().filter_map(ticks).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    fn look(all: (u64, u64), cores: &[(u16, u64, u64)], waited_us: u64) -> Look {
        let cores = cores.iter().map(|&(n, busy, whole)| (n, Ticks { busy, whole })).collect();
        let all = Ticks { busy: all.0, whole: all.1 };
        Look {
            cpu: Some(CpuTimes { all, cores }),
            memory_permille: Some(400),
            pressure_us: [Some(waited_us), None, Some(0)],
            temperature_deci_celsius: Some(415),
            throttles: Some(waited_us / 1_000_000),
            wifi_signal_dbm: None,
        }
    }

    /// 500 of 2,000 ticks on both cores, 450 of 1,000 on the busier one; 2 s of 10 waited for a core.
    #[test]
    fn interval_is_the_difference_of_two_looks() {
        let mut course = Course::default();
        let first = look((1_000, 9_000), &[(0, 500, 4_500), (1, 500, 4_500)], 7_000_000);
        let last = look((1_500, 11_000), &[(0, 950, 5_500), (1, 550, 5_500)], 9_000_000);
        assert_eq!(course.handle_look(first, second(5), WallOffset::NONE), None);
        let it = course.handle_look(last, second(15), WallOffset::NONE).unwrap();
        assert_eq!((it.started.uptime_us, it.duration_ms), (5_000_000, 10_000));
        assert_eq!((it.cpu_permille, it.memory_permille), (250, 400));
        assert_eq!((it.cpu_pressure_permille, it.temperature_deci_celsius), (Some(200), Some(415)));
        let detail = it.detail.unwrap();
        assert_eq!(detail.busiest_core_permille, Some(450));
        assert_eq!((detail.memory_pressure_permille, detail.io_pressure_permille), (None, Some(0)));
        assert_eq!((detail.is_throttled, detail.wifi_signal_dbm), (Some(true), None));
    }

    #[test]
    fn what_one_look_lacks_is_unknown_and_not_zero() {
        let mut course = Course::default();
        let mut first = look((0, 0), &[], 5);
        first.throttles = None;
        course.handle_look(first, second(0), WallOffset::NONE);
        // The count of pressure begins anew: nothing is known of this interval.
        let it = course.handle_look(look((1, 10), &[(7, 1, 10)], 4), second(10), WallOffset::NONE);
        let it = it.unwrap();
        assert_eq!(it.cpu_pressure_permille, None);
        let detail = it.detail.unwrap();
        // The core was plugged in between.
        assert_eq!((detail.busiest_core_permille, detail.is_throttled), (None, None));
    }

    #[test]
    fn machine_that_does_not_tell_its_load_has_no_interval() {
        let mut course = Course::default();
        for at in [0, 10, 20] {
            assert_eq!(course.handle_look(Look::default(), second(at), WallOffset::NONE), None);
        }
        // A machine whose ticks stand still cannot say what share was work.
        course.handle_look(look((5, 50), &[], 0), second(30), WallOffset::NONE);
        assert_eq!(course.handle_look(look((5, 50), &[], 0), second(40), WallOffset::NONE), None);
    }

    #[test]
    fn too_short_a_stretch_becomes_part_of_the_next() {
        let mut course = Course::default();
        course.handle_look(look((0, 0), &[], 0), second(10), WallOffset::NONE);
        let shy = second(11) - Duration::from_nanos(1);
        assert_eq!(course.handle_look(look((1, 10), &[], 0), shy, WallOffset::NONE), None);
        let it = course.handle_look(look((2, 20), &[], 0), second(12), WallOffset::NONE).unwrap();
        assert_eq!((it.started.uptime_us, it.duration_ms), (10_000_000, 2_000));
    }

    #[test]
    fn looks_are_ten_seconds_apart_in_a_call_and_a_minute_outside() {
        let mut course = Course::default();
        assert_eq!(course.poll_timeout(), None);
        course.handle_look(Look::default(), second(100), WallOffset::NONE);
        let mut due = |in_call, is_sparing| {
            course.set_in_call(in_call);
            course.set_sparing(is_sparing);
            course.poll_timeout()
        };
        assert_eq!(due(false, false), Some(second(160)));
        assert_eq!(due(true, false), Some(second(110)));
        assert_eq!(due(true, true), Some(second(160)));
        assert_eq!(due(false, true), Some(second(400)));
    }
}
