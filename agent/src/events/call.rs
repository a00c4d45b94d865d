//! The events of one call that are not the network's: of the host, and of the devices that it used.
//!
//! A core; [`super::rules`] has the thresholds.

use std::collections::VecDeque;

use roomtone_protocol::client_event::{
    ClientEvent, ClientEventKind, ClientEventValue, UnknownBecause,
};
use roomtone_protocol::device::{DeviceSide, DeviceSummary};
use roomtone_protocol::host::HostInterval;

use super::rules::{CPU_BUSY_PERMILLE, CPU_PRESSURE_PERMILLE, GLITCH_US};
use super::share::{Share, Was};
use super::{Listened, Watched};
use crate::clock::Moment;

/// Host intervals that may lie behind the end of a call, which is told up to five minutes late: 30 of 10 s, and as
/// many cut ones.
const INTERVALS_MAX: usize = 64;

/// What adds up over a call.
#[derive(Debug)]
pub struct CallTally {
    opened_us: u64,
    closed_us: Option<u64>,
    cpu: Share,
    /// Not added yet, since the call may be over before their end.
    recent: VecDeque<HostInterval>,
    render: Side,
    capture: Side,
}

/// The devices of one side.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    is_used: bool,
    not_functioning: Share,
    muted: Share,
    zero_volume: Option<Share>,
    glitches: Option<Share>,
}

impl CallTally {
    /// Begins at the call's beginning.
    #[must_use]
    pub fn new(opened: Moment) -> Self {
        Self {
            opened_us: opened.as_micros(),
            closed_us: None,
            cpu: Share::default(),
            recent: VecDeque::new(),
            render: Side::default(),
            capture: Side::default(),
        }
    }

    /// The call is over, since `at`.
    pub fn handle_closed(&mut self, at: Moment) {
        self.closed_us = Some(at.as_micros());
    }

    /// Takes an interval of the host, of which only what lies in the call counts.
    pub fn handle_host(&mut self, interval: &HostInterval) {
        if self.recent.len() == INTERVALS_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.add(&oldest);
        }
        self.recent.push_back(*interval);
    }

    /// Takes the totals of a device.
    pub fn handle_device(&mut self, summary: &DeviceSummary) {
        let side = match summary.side {
            DeviceSide::Capture => &mut self.capture,
            DeviceSide::Render => &mut self.render,
        };
        let observed_us = summary.not_functioning.whole_us();
        let glitches = summary
            .glitches
            .map(|count| Share::new(GLITCH_US.saturating_mul(u64::from(count)), observed_us));
        let worse = |one: Option<Share>, other: Option<Share>| match (one, other) {
            (Some(one), Some(other)) => Some(one.worse(other)),
            (one, other) => one.or(other),
        };
        *side = Side {
            is_used: true,
            not_functioning: side.not_functioning.worse(summary.not_functioning.into()),
            muted: side.muted.worse(summary.muted.into()),
            zero_volume: worse(side.zero_volume, summary.zero_volume.map(Share::from)),
            glitches: worse(side.glitches, glitches),
        };
    }

    /// The events, in the order of the wire.
    #[must_use]
    pub fn events(mut self, watched: Watched, listened: Option<Listened>) -> [ClientEvent; 14] {
        while let Some(interval) = self.recent.pop_front() {
            self.add(&interval);
        }
        use ClientEventKind as Kind;
        let unknown = ClientEventValue::Unknown;
        let inside = unknown(UnknownBecause::InsideProgram);
        let cpu =
            if watched.host { self.cpu.value() } else { unknown(UnknownBecause::SwitchedOff) };
        let (render, capture) = (self.render, self.capture);
        let of = |side: Side, share: Option<Share>| side.value(share, watched.devices);
        // One of the two sides is enough to have heard a glitch on.
        let played = Side { is_used: render.is_used || capture.is_used, ..render };
        let glitches = match (render.glitches, capture.glitches) {
            (Some(one), Some(other)) => Some(one.worse(other)),
            (one, other) => one.or(other),
        };
        [
            (Kind::CpuInsufficient, cpu),
            (Kind::DeviceHalfDuplexAec, inside),
            (Kind::DeviceRenderNotFunctioning, of(render, Some(render.not_functioning))),
            (Kind::DeviceCaptureNotFunctioning, of(capture, Some(capture.not_functioning))),
            (Kind::DeviceGlitches, of(played, glitches)),
            (Kind::DeviceLowSnr, unknown(UnknownBecause::LevelsNotRead)),
            (Kind::DeviceLowSpeechLevel, unknown(UnknownBecause::LevelsNotRead)),
            (Kind::DeviceClipping, clipping(listened)),
            (Kind::DeviceEcho, inside),
            (Kind::DeviceNearEndToEchoRatio, inside),
            (Kind::DeviceMultipleEndpoints, inside),
            (Kind::DeviceHowling, inside),
            (Kind::DeviceRenderZeroVolume, of(render, render.zero_volume)),
            (Kind::DeviceRenderMute, of(render, Some(render.muted))),
        ]
        .map(|(kind, value)| ClientEvent { kind, value })
    }

    fn add(&mut self, interval: &HostInterval) {
        let began = interval.started.uptime_us;
        let ended = began.saturating_add(u64::from(interval.duration_ms) * 1_000);
        let from = began.max(self.opened_us);
        let to = ended.min(self.closed_us.unwrap_or(u64::MAX));
        let is_short = interval.cpu_permille > CPU_BUSY_PERMILLE
            || interval.cpu_pressure_permille.is_some_and(|share| share > CPU_PRESSURE_PERMILLE);
        self.cpu.add(if is_short { Was::Bad } else { Was::Good }, to.saturating_sub(from));
    }
}

impl Side {
    /// A share of this side's, or why there is none.
    fn value(&self, share: Option<Share>, is_watched: bool) -> ClientEventValue {
        let why = match (is_watched, self.is_used) {
            (false, _) => UnknownBecause::SwitchedOff,
            (true, false) => UnknownBecause::NoDevice,
            (true, true) => UnknownBecause::NoSource,
        };
        let share = share.filter(|_| is_watched && self.is_used);
        share.map_or(ClientEventValue::Unknown(why), Share::value)
    }
}

/// Of a microphone that could not be listened to there are no levels either.
fn clipping(listened: Option<Listened>) -> ClientEventValue {
    match listened {
        Some(Listened { heard_us, clipped_us }) if heard_us > 0 => {
            Share::new(clipped_us, heard_us).value()
        }
        Some(_) | None => ClientEventValue::Unknown(UnknownBecause::LevelsNotRead),
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::CallId;
    use roomtone_protocol::ratio::Ratio;
    use roomtone_protocol::time::Stamp;

    use super::*;

    const ALL: Watched = Watched { devices: true, host: true };

    fn second(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    fn host(at: u64, seconds: u32, cpu: u16, pressure: Option<u16>) -> HostInterval {
        HostInterval {
            started: Stamp { wall_us: 0, uptime_us: at * 1_000_000 },
            duration_ms: seconds * 1_000,
            cpu_permille: cpu,
            memory_permille: 1,
            cpu_pressure_permille: pressure,
            temperature_deci_celsius: None,
            detail: None,
        }
    }

    fn device(side: DeviceSide, bad: u64, whole: u64, glitches: Option<u32>) -> DeviceSummary {
        let of = |part, whole| Ratio::new(part * 1_000_000, whole * 1_000_000).unwrap();
        DeviceSummary {
            call: CallId(7),
            device: "Headset".try_into().unwrap(),
            side,
            not_functioning: of(bad, whole),
            muted: of(0, whole),
            episodes: 0,
            detector: 1,
            zero_volume: None,
            glitches,
        }
    }

    fn value(tally: CallTally, kind: ClientEventKind, watched: Watched) -> ClientEventValue {
        let events = tally.events(watched, None);
        events.into_iter().find(|event| event.kind == kind).unwrap().value
    }

    fn seconds(part: u64, whole: u64) -> ClientEventValue {
        Share::new(part * 1_000_000, whole * 1_000_000).value()
    }

    #[test]
    fn cpu_is_short_above_either_threshold_and_not_at_it() {
        let table = [
            (949, Some(250), 0),
            (950, Some(249), 0),
            (950, None, 0),
            (951, None, 10),
            (951, Some(0), 10),
            (0, Some(251), 10),
        ];
        for (cpu, pressure, bad) in table {
            let mut tally = CallTally::new(second(0));
            tally.handle_host(&host(0, 10, cpu, pressure));
            let found = value(tally, ClientEventKind::CpuInsufficient, ALL);
            assert_eq!(found, seconds(bad, 10), "{cpu} {pressure:?}");
        }
    }

    /// The call lasts from 5 to 22 s. Of the first interval 5 s count, of the third 2, of the fourth none: 17 s.
    #[test]
    fn of_host_intervals_only_what_lies_in_the_call_counts() {
        let mut tally = CallTally::new(second(5));
        for (at, cpu) in [(0, 0), (10, 0), (20, 1_000), (30, 1_000)] {
            tally.handle_host(&host(at, 10, cpu, None));
        }
        tally.handle_closed(second(22));
        assert_eq!(value(tally, ClientEventKind::CpuInsufficient, ALL), seconds(2, 17));
    }

    #[test]
    fn an_hour_of_intervals_is_a_sum_and_no_list() {
        let mut tally = CallTally::new(second(0));
        for at in 0..360 {
            tally.handle_host(&host(at * 10, 10, if at == 3 { 1_000 } else { 0 }, None));
        }
        assert_eq!(tally.recent.len(), INTERVALS_MAX);
        tally.handle_closed(second(3_600));
        assert_eq!(value(tally, ClientEventKind::CpuInsufficient, ALL), seconds(10, 3_600));
    }

    #[test]
    fn worst_device_of_a_side_stands_for_it() {
        let mut tally = CallTally::new(second(0));
        tally.handle_device(&device(DeviceSide::Capture, 1, 100, Some(0)));
        tally.handle_device(&device(DeviceSide::Capture, 3, 50, Some(0)));
        tally.handle_device(&device(DeviceSide::Render, 0, 100, None));
        let events = tally.events(ALL, None);
        let of = |kind| events.iter().find(|event| event.kind == kind).unwrap().value;
        assert_eq!(of(ClientEventKind::DeviceCaptureNotFunctioning), seconds(3, 50));
        assert_eq!(of(ClientEventKind::DeviceRenderNotFunctioning), seconds(0, 100));
        assert_eq!(of(ClientEventKind::DeviceRenderMute), seconds(0, 100));
        let unknown = ClientEventValue::Unknown(UnknownBecause::NoSource);
        assert_eq!(of(ClientEventKind::DeviceRenderZeroVolume), unknown);
    }

    #[test]
    fn glitch_spoils_a_second_and_never_more_than_was_observed() {
        for (glitches, observed, bad) in [(0, 60, 0), (1, 60, 1), (59, 60, 59), (61, 60, 60)] {
            let mut tally = CallTally::new(second(0));
            tally.handle_device(&device(DeviceSide::Capture, 0, observed, Some(glitches)));
            let found = value(tally, ClientEventKind::DeviceGlitches, ALL);
            assert_eq!(found, seconds(bad, observed), "{glitches}");
        }
    }

    #[test]
    fn what_was_not_watched_is_unknown_with_its_reason() {
        let kind = ClientEventKind::DeviceCaptureNotFunctioning;
        let unknown = ClientEventValue::Unknown;
        let found = value(CallTally::new(second(0)), kind, ALL);
        assert_eq!(found, unknown(UnknownBecause::NoDevice));
        let off = Watched { devices: false, host: false };
        let found = value(CallTally::new(second(0)), kind, off);
        assert_eq!(found, unknown(UnknownBecause::SwitchedOff));
        let found = value(CallTally::new(second(0)), ClientEventKind::CpuInsufficient, off);
        assert_eq!(found, unknown(UnknownBecause::SwitchedOff));
        let found = value(CallTally::new(second(0)), ClientEventKind::CpuInsufficient, ALL);
        assert_eq!(found, unknown(UnknownBecause::NothingObserved));
        // A device that was there for none of the call.
        let mut tally = CallTally::new(second(0));
        tally.handle_device(&device(DeviceSide::Capture, 0, 0, Some(0)));
        assert_eq!(value(tally, kind, ALL), unknown(UnknownBecause::NothingObserved));
    }

    #[test]
    fn clipping_needs_a_microphone_that_was_listened_to() {
        let heard = |heard_us, clipped_us| Some(Listened { heard_us, clipped_us });
        assert_eq!(clipping(heard(100, 3)), Share::new(3, 100).value());
        let unknown = ClientEventValue::Unknown(UnknownBecause::LevelsNotRead);
        assert_eq!(clipping(heard(0, 0)), unknown);
        assert_eq!(clipping(None), unknown);
    }

    #[test]
    fn events_stand_in_the_order_of_the_wire() {
        let events = CallTally::new(second(0)).events(ALL, None);
        assert!(events.is_sorted_by(|a, b| a.kind < b.kind));
    }
}
