//! What a device's totals come to: the share of the call in which it did not function, and how often it glitched.
//!
//! Shares are compared in whole microseconds, so that 0.005 is 0.005; only a report makes a number with a point of
//! them, and rounds it down, so that what is shown as the limit has reached it.

use roomtone_protocol::device::DeviceSummary;
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

#[cfg(test)]
mod tests {
    use roomtone_protocol::device::DeviceSide;
    use roomtone_protocol::id::CallId;

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
}
