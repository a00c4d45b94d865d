//! What a device's totals come to: the share of the call in which it did not function, and how often it glitched.
//!
//! Shares are compared in whole microseconds, so that 0.005 is 0.005; only a report makes a number with a point of
//! them, and rounds it down, so that what is shown as the limit has reached it.

use std::cmp::Reverse;

use roomtone_protocol::device::{DeviceEpisode, DeviceSummary, EpisodeState};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::ratio::Ratio;

/// Call Analytics takes a session's device for bad from a DeviceCapture- or DeviceRenderNotFunctioningEventRatio of
/// 0.005 on: 0.3 s of a minute, 18 s of an hour.
pub const POOR_PERMILLE: u64 = 5;

/// What glitches are counted over, in microseconds: five minutes, the unit of MS-QoE's glitch rates.
const GLITCH_SPAN_US: u128 = 300_000_000;

/// Whether a device did not function for so much of the observed time that the call was poor; never where nothing was
/// observed.
#[must_use]
pub fn is_poor(not_functioning: Ratio) -> bool {
    let (part, whole) = (not_functioning.part_us(), not_functioning.whole_us());
    whole > 0 && u128::from(part) * 1_000 >= u128::from(whole) * u128::from(POOR_PERMILLE)
}

/// Overruns and underruns per five minutes of observed call time, in tenths; `None` where they were not told or
/// nothing was observed.
#[must_use]
pub fn glitches_per_5_minutes_tenths(summary: &DeviceSummary) -> Option<u64> {
    let whole_us = u128::from(summary.not_functioning.whole_us());
    let rate = (u128::from(summary.glitches?) * GLITCH_SPAN_US * 10).checked_div(whole_us)?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// An episode and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEpisode {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// What it told last.
    pub told: DeviceEpisode,
}

/// Which episodes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Those that were bad at or after this wall time, in microseconds since 1970, by the endpoint's clock.
    pub since_us: u64,
    /// Only those that go on.
    pub only_open: bool,
    /// At most so many.
    pub limit: usize,
}

impl Choice {
    /// The chosen of them, newest onset first. An episode that goes on is never too old.
    #[must_use]
    pub fn latest(&self, mut told: Vec<EndpointEpisode>) -> Vec<EndpointEpisode> {
        told.retain(|it| {
            let is_open = it.told.state == EpisodeState::Open;
            let until_us = it.told.onset.wall_us.saturating_add(it.told.bad_us);
            is_open || (!self.only_open && until_us >= self.since_us)
        });
        told.sort_by_key(|it| (Reverse(it.told.onset.wall_us), it.told.episode));
        told.truncate(self.limit);
        told
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::device::{DeviceCause, DeviceSide};
    use roomtone_protocol::id::CallId;
    use roomtone_protocol::time::Stamp;

    use super::*;

    fn ratio(part_us: u64, whole_us: u64) -> Ratio {
        Ratio::new(part_us, whole_us).unwrap()
    }

    /// 0.005 of 600 s is 3 s. Of u64::MAX it is 92,233,720,368,547,758.075: the whole microsecond below is not enough.
    #[test]
    fn call_is_poor_from_five_thousandths_on_and_not_one_microsecond_before() {
        assert!(is_poor(ratio(3_000_000, 600_000_000)));
        assert!(!is_poor(ratio(2_999_999, 600_000_000)));
        assert!(is_poor(ratio(92_233_720_368_547_759, u64::MAX)));
        assert!(!is_poor(ratio(92_233_720_368_547_758, u64::MAX)));
    }

    #[test]
    fn nothing_observed_is_neither_good_nor_poor() {
        assert!(!is_poor(Ratio::UNOBSERVED));
    }

    /// 3 glitches in 120 s are 7.5 in 300 s.
    #[test]
    fn glitches_are_told_per_five_minutes_of_what_was_observed() {
        let summary = DeviceSummary {
            call: CallId(1),
            device: "headset".try_into().unwrap(),
            side: DeviceSide::Render,
            not_functioning: ratio(0, 120_000_000),
            muted: Ratio::UNOBSERVED,
            episodes: 0,
            detector: 1,
            zero_volume: None,
            glitches: Some(3),
        };
        assert_eq!(glitches_per_5_minutes_tenths(&summary), Some(75));
        let untold = DeviceSummary { glitches: None, ..summary.clone() };
        let unobserved = DeviceSummary { not_functioning: Ratio::UNOBSERVED, ..summary };
        assert_eq!(glitches_per_5_minutes_tenths(&untold), None);
        assert_eq!(glitches_per_5_minutes_tenths(&unobserved), None);
    }

    /// Onset and bad time in seconds: one from 10 s to 15 s, one open since 5 s, one from 20 s to 21 s.
    #[test]
    fn episodes_that_reach_into_the_time_are_chosen_and_open_ones_always() {
        let episode = |episode: u64, onset_s: u64, bad_s: u64, state| EndpointEpisode {
            endpoint: EndpointId(*b"sixteen bytes!!!"),
            told: DeviceEpisode {
                episode,
                call: None,
                device: "mic".try_into().unwrap(),
                side: DeviceSide::Capture,
                cause: DeviceCause::Stalled,
                onset: Stamp { wall_us: onset_s * 1_000_000, uptime_us: 0 },
                bad_us: bad_s * 1_000_000,
                state,
            },
        };
        let told = vec![
            episode(1, 10, 5, EpisodeState::Recovered),
            episode(2, 5, 2, EpisodeState::Open),
            episode(3, 20, 1, EpisodeState::Unrecovered),
        ];
        let ids = |since_s: u64, only_open, limit| -> Vec<u64> {
            let choice = Choice { since_us: since_s * 1_000_000, only_open, limit };
            choice.latest(told.clone()).iter().map(|it| it.told.episode).collect()
        };
        assert_eq!(ids(15, false, 9), [3, 1, 2]);
        assert_eq!(ids(16, false, 9), [3, 2]);
        assert_eq!(ids(0, true, 9), [2]);
        assert_eq!(ids(0, false, 1), [3]);
    }
}
