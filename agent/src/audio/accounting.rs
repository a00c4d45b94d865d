//! Bad, muted and observed time of one device in one call, and what travels of it.
//!
//! Everything is summed in integer microseconds from differences of one clock, so that spans add up without rounding:
//! bad <= observed <= call. What could not be observed is in the call's time and in no ratio.

use std::collections::VecDeque;

use roomtone_protocol::device::{DeviceEpisode, DeviceSide, DeviceSummary};
use roomtone_protocol::id::CallId;
use roomtone_protocol::limits::DEVICE_NAME_BYTES_MAX;
use roomtone_protocol::ratio::Ratio;
use serde::{Deserialize, Serialize};

use super::episode::Episode;
use crate::clock::{Moment, WallOffset};

/// Glitch rates are per five minutes (MS-QoE `micGlitchRate`, `speakerGlitchRate`).
const GLITCH_SPAN_US: u128 = 300_000_000;

/// What a span of a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Observed, and nothing was wrong.
    Good,
    /// Not functioning.
    Bad,
    /// Neither.
    Unobserved,
}

/// The totals of a device in a call, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The call.
    pub call_us: u64,
    /// What of it could be observed.
    pub observed_us: u64,
    /// What of that was bad.
    pub bad_us: u64,
    /// What of the observed time it was in use and muted on purpose.
    pub muted_us: u64,
    /// What of the observed time it was in use with a volume of zero.
    pub zero_volume_us: u64,
    /// Overruns and underruns.
    pub glitches: u32,
    /// Episodes opened.
    pub episodes: u32,
    /// A process held it open at some time of the call: only such devices are the call's.
    pub is_used: bool,
}

/// How the device was set during a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setting {
    /// In use and muted.
    pub is_muted: bool,
    /// In use with a volume of zero.
    pub is_volume_zero: bool,
}

/// Spans of one kind are joined, so that these cover minutes; of a device that changes faster, some are forgotten.
const TAIL_SPANS_MAX: usize = 64;

/// The latest spans that were added: a call is known to be over only when it has been silent for a while, and what was
/// added since its last packet is none of its time.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    spans: VecDeque<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    class: Class,
    setting: Setting,
    from: Moment,
    until: Moment,
}

impl Tail {
    /// Remembers a span that was added.
    pub fn note(&mut self, class: Class, setting: Setting, from: Moment, until: Moment) {
        match self.spans.back_mut() {
            Some(last) if (last.class, last.setting, last.until) == (class, setting, from) => {
                last.until = until;
            }
            Some(_) | None => {
                if self.spans.len() >= TAIL_SPANS_MAX {
                    self.spans.pop_front();
                }
                self.spans.push_back(Span { class, setting, from, until });
            }
        }
    }

    /// Takes everything behind `end` out of the totals again; returns how much of it was bad, in microseconds.
    pub fn cut(&mut self, end: Moment, tally: &mut Tally) -> u64 {
        let mut bad_us = 0;
        while let Some(span) = self.spans.pop_back().filter(|span| span.until > end) {
            let us = span.until.as_micros() - span.from.max(end).as_micros();
            tally.take_back(span.class, span.setting, us);
            if span.class == Class::Bad {
                bad_us += us;
            }
        }
        self.spans.clear();
        bad_us
    }
}

impl Tally {
    /// Adds a span.
    pub fn charge(&mut self, class: Class, setting: Setting, us: u64) {
        let add = |total: &mut u64| *total = total.saturating_add(us);
        add(&mut self.call_us);
        match class {
            Class::Unobserved => return,
            Class::Good => add(&mut self.observed_us),
            Class::Bad => {
                add(&mut self.observed_us);
                add(&mut self.bad_us);
            }
        }
        if setting.is_muted {
            add(&mut self.muted_us);
        }
        if setting.is_volume_zero {
            add(&mut self.zero_volume_us);
        }
    }

    /// Takes a span back that was added before.
    fn take_back(&mut self, class: Class, setting: Setting, us: u64) {
        let sub = |total: &mut u64| *total = total.saturating_sub(us);
        sub(&mut self.call_us);
        match class {
            Class::Unobserved => return,
            Class::Good => sub(&mut self.observed_us),
            Class::Bad => {
                sub(&mut self.observed_us);
                sub(&mut self.bad_us);
            }
        }
        if setting.is_muted {
            sub(&mut self.muted_us);
        }
        if setting.is_volume_zero {
            sub(&mut self.zero_volume_us);
        }
    }

    /// DeviceCapture- or DeviceRenderNotFunctioningEventRatio (MS-QoE 2.2.1.29).
    #[must_use]
    pub fn not_functioning(&self) -> Ratio {
        ratio(self.bad_us, self.observed_us)
    }

    /// Muted time (for a loudspeaker MS-QoE `renderMuteEventRatio`).
    #[must_use]
    pub fn muted(&self) -> Ratio {
        ratio(self.muted_us, self.observed_us)
    }

    /// Time with a volume of zero (for a loudspeaker MS-QoE `renderZeroVolumeEventRatio`).
    #[must_use]
    pub fn zero_volume(&self) -> Ratio {
        ratio(self.zero_volume_us, self.observed_us)
    }

    /// Glitches per five minutes of observed time, in thousandths; `None` where nothing was observed.
    #[must_use]
    pub fn glitches_per_5_minutes_milli(&self) -> Option<u64> {
        let scaled = u128::from(self.glitches) * GLITCH_SPAN_US * 1_000;
        let rate = scaled.checked_div(u128::from(self.observed_us))?;
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Whether the totals can be true: what comes from a file may not be.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let parts = [self.bad_us, self.muted_us, self.zero_volume_us];
        self.observed_us <= self.call_us && parts.iter().all(|part| *part <= self.observed_us)
    }

    /// The record of it.
    #[must_use]
    pub fn summary(
        &self,
        call: CallId,
        device: &str,
        side: DeviceSide,
        detector: u16,
    ) -> DeviceSummary {
        DeviceSummary {
            call,
            device: name(device),
            side,
            not_functioning: self.not_functioning(),
            muted: self.muted(),
            episodes: self.episodes,
            detector,
            zero_volume: Some(self.zero_volume()),
            glitches: Some(self.glitches),
        }
    }
}

/// The ratio of one side of a call in which several devices served one after the other: their bad time over the
/// longest observation.
#[must_use]
pub fn side_not_functioning<'a>(devices: impl Iterator<Item = &'a Tally>) -> Ratio {
    let (mut bad, mut observed) = (0u64, 0u64);
    for tally in devices.filter(|tally| tally.is_used) {
        bad = bad.saturating_add(tally.bad_us);
        observed = observed.max(tally.observed_us);
    }
    ratio(bad, observed)
}

/// The record of an episode as it stands.
#[must_use]
pub fn episode_record(
    episode: &Episode,
    call: Option<CallId>,
    device: &str,
    side: DeviceSide,
    wall: WallOffset,
) -> DeviceEpisode {
    DeviceEpisode {
        episode: episode.id,
        call,
        device: name(device),
        side,
        cause: episode.cause,
        onset: wall.stamp(episode.onset),
        bad_us: episode.bad_us,
        state: episode.state,
    }
}

fn ratio(part_us: u64, whole_us: u64) -> Ratio {
    Ratio::new(part_us.min(whole_us), whole_us).unwrap_or(Ratio::UNOBSERVED)
}

/// As much of a name as the wire takes, cut between characters.
fn name(device: &str) -> heapless::String<DEVICE_NAME_BYTES_MAX> {
    let mut name = heapless::String::new();
    for character in device.chars() {
        if name.push(character).is_err() {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Setting = Setting { is_muted: false, is_volume_zero: false };

    #[test]
    fn unobserved_time_is_in_the_call_and_in_no_ratio() {
        let mut tally = Tally::default();
        tally.charge(Class::Good, PLAIN, 6_000_000);
        tally.charge(Class::Bad, PLAIN, 2_000_000);
        tally.charge(Class::Unobserved, Setting { is_muted: true, ..PLAIN }, 10_000_000);
        assert_eq!(tally.call_us, 18_000_000);
        assert_eq!(tally.not_functioning(), Ratio::new(2_000_000, 8_000_000).unwrap());
        assert_eq!(tally.muted(), Ratio::new(0, 8_000_000).unwrap());
    }

    #[test]
    fn muted_and_zero_volume_time_have_ratios_of_their_own() {
        let mut tally = Tally::default();
        tally.charge(Class::Good, Setting { is_muted: true, is_volume_zero: true }, 3);
        tally.charge(Class::Good, Setting { is_volume_zero: true, ..PLAIN }, 4);
        assert_eq!(tally.muted(), Ratio::new(3, 7).unwrap());
        assert_eq!(tally.zero_volume(), Ratio::new(7, 7).unwrap());
        assert_eq!(tally.not_functioning(), Ratio::new(0, 7).unwrap());
    }

    #[test]
    fn summary_tells_time_at_zero_volume_and_glitches() {
        let mut tally = Tally { glitches: 3, ..Tally::default() };
        tally.charge(Class::Good, PLAIN, 6_000_000);
        tally.charge(Class::Bad, Setting { is_volume_zero: true, ..PLAIN }, 2_000_000);
        let summary = tally.summary(CallId(1), "headset", DeviceSide::Render, 1);
        assert_eq!(summary.zero_volume, Ratio::new(2_000_000, 8_000_000));
        assert_eq!(summary.glitches, Some(3));
    }

    /// 3 glitches in 120 s are 7.5 in 300 s.
    #[test]
    fn glitches_are_told_per_five_minutes() {
        let tally = Tally { glitches: 3, observed_us: 120_000_000, ..Tally::default() };
        assert_eq!(tally.glitches_per_5_minutes_milli(), Some(7_500));
        assert_eq!(Tally::default().glitches_per_5_minutes_milli(), None);
    }

    /// A served for 40 s and failed for 4 of them, B was observed for 60 s and failed for 2; C was never held.
    #[test]
    fn side_counts_the_call_s_devices_over_the_longest_observation() {
        let used =
            |bad_us, observed_us| Tally { bad_us, observed_us, is_used: true, ..Tally::default() };
        let spare = Tally { bad_us: 50, observed_us: 90, ..Tally::default() };
        let devices = [used(4, 40), used(2, 60), spare];
        assert_eq!(side_not_functioning(devices.iter()), Ratio::new(6, 60).unwrap());
        assert_eq!(side_not_functioning([].iter()), Ratio::UNOBSERVED);
    }

    #[test]
    fn long_name_is_cut_between_characters() {
        let long = "東".repeat(40); // 120 bytes, 26 characters fit into 80
        assert_eq!(name(&long).as_str(), "東".repeat(26));
    }
}
