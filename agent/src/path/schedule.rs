//! When probes leave.
//!
//! In a call they are spaced evenly for as long as it lasts, out of it [`BURST`] of them every [`BURST_EVERY`], with
//! the same spacing, so that a burst takes no more of the path than a call's probes do. The spacing follows from what
//! one round costs: a byte a millisecond is [`BITS_PER_SECOND_MAX`]. Each spacing varies by a tenth either way, so that
//! probes keep in step with nothing else that is periodic; a fleet's bursts start at random moments.
//!
//! What a sleep or a busy processor held up is not made up for: the next probe is due a spacing after that.

use std::time::Duration;

use crate::clock::Moment;

/// What the probes to all targets, their answers, and acknowledgements and heads of all of these take at most, in both
/// directions together (design section 4.2).
pub const BITS_PER_SECOND_MAX: u64 = 8_000;
/// The least spacing in a call: five probes a second (design section 4.2).
pub const SPACING_MIN: Duration = Duration::from_millis(200);
/// Probes of a burst.
pub const BURST: u32 = 10;
/// From the start of a burst to that of the next one (design section 4.2).
pub const BURST_EVERY: Duration = Duration::from_secs(30);

/// A fifth is left to what is sent now and then: receipts, and where packets are lost the two that QUIC sends to find
/// out and their acknowledgements (RFC 9002 section 6.2.4), some 240 bytes for a round of which anything was lost. That
/// is less than a fifth up to losses of 10 %; beyond, what is lost saves as much as it costs.
const MARGIN_PERCENT: u64 = 20;

/// How probes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// In bursts.
    Bursts,
    /// One after the other.
    Continuous,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Schedule {
    mode: Mode,
    spacing: Duration,
    next: Option<Moment>,
    /// Probes of this burst that have not left.
    left: u32,
    burst_at: Moment,
}

/// The spacing at which rounds of so many bytes stay below the limit.
#[must_use]
pub fn spacing(round_bytes: u64) -> Duration {
    let micros = round_bytes * 8 * 1_000_000 * (100 + MARGIN_PERCENT) / 100 / BITS_PER_SECOND_MAX;
    Duration::from_micros(micros).max(SPACING_MIN)
}

impl Schedule {
    /// Nothing leaves yet; `spacing` is the mean between two probes.
    #[must_use]
    pub fn new(spacing: Duration) -> Self {
        Self { mode: Mode::Off, spacing, next: None, left: 0, burst_at: Moment::ORIGIN }
    }

    /// Changes how probes leave; `random` is uniform over all of `u64`, as in the other methods.
    pub fn set(&mut self, mode: Mode, random: u64, now: Moment) {
        if mode == self.mode {
            return;
        }
        self.mode = mode;
        self.next = match mode {
            Mode::Off => None,
            Mode::Continuous => Some(now),
            Mode::Bursts => {
                self.left = BURST;
                self.burst_at = now + share(BURST_EVERY, random);
                Some(self.burst_at)
            }
        };
    }

    /// When the next probe is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }

    /// Whether a probe is due; if so, the next one is scheduled.
    pub fn take(&mut self, random: u64, now: Moment) -> bool {
        if self.next.is_none_or(|next| next > now) {
            return false;
        }
        let after = self.spacing * 9 / 10 + share(self.spacing / 5, random);
        self.next = match self.mode {
            Mode::Off => None,
            Mode::Continuous => Some(now + after),
            Mode::Bursts => {
                self.left -= 1;
                if self.left > 0 {
                    Some(now + after)
                } else {
                    self.left = BURST;
                    let every = BURST_EVERY * 9 / 10 + share(BURST_EVERY / 5, random);
                    let due = self.burst_at + every;
                    self.burst_at = if due > now { due } else { now + every };
                    Some(self.burst_at)
                }
            }
        };
        true
    }
}

/// A part of `whole` as large as `random` is in `u64`.
fn share(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    // A part of a duration of seconds.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = 1 << 63;

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    /// The moments of all probes up to `until`, in ms.
    fn probes(schedule: &mut Schedule, until_ms: u64, random: u64) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(next) = schedule.poll_timeout().filter(|next| *next < at(until_ms)) {
            assert!(schedule.take(random, next));
            assert!(!schedule.take(random, next), "one at a time");
            found.push(next.as_micros() / 1_000);
        }
        found
    }

    #[test]
    fn spacing_keeps_rounds_below_the_limit() {
        // 100 bytes would be eight probes a second: five are enough. 200 bytes are 200 ms and a fifth.
        assert_eq!(spacing(100), SPACING_MIN);
        assert_eq!(spacing(200), Duration::from_millis(240));
        for bytes in 60..1_500u64 {
            let bits_per_second = bytes as f64 * 8.0 / spacing(bytes).as_secs_f64();
            assert!(bits_per_second <= 8_000.0 / 1.2 + 0.1, "{bytes} bytes: {bits_per_second}");
        }
    }

    #[test]
    fn call_is_probed_from_its_beginning_at_the_mean_spacing() {
        let mut schedule = Schedule::new(Duration::from_millis(200));
        schedule.set(Mode::Continuous, HALF, at(1_000));
        assert_eq!(probes(&mut schedule, 2_000, HALF), [1_000, 1_200, 1_400, 1_600, 1_800]);
        schedule.set(Mode::Off, HALF, at(2_000));
        assert_eq!(schedule.poll_timeout(), None);
        assert!(!schedule.take(HALF, at(9_000)));
    }

    #[test]
    fn spacing_varies_by_a_tenth_either_way() {
        for (random, expected) in [(0, 180), (HALF, 200), (u64::MAX, 219)] {
            let mut schedule = Schedule::new(Duration::from_millis(200));
            schedule.set(Mode::Continuous, random, at(0));
            assert_eq!(probes(&mut schedule, 220, random), [0, expected]);
        }
    }

    #[test]
    fn burst_is_ten_probes_every_30_seconds_from_a_random_moment_on() {
        let mut schedule = Schedule::new(Duration::from_millis(200));
        schedule.set(Mode::Bursts, HALF, at(0));
        let found = probes(&mut schedule, 60_000, HALF);
        let bursts = [15_000, 45_000];
        let expected = bursts.map(|start| (0..10).map(move |n| start + n * 200));
        assert!(found.iter().copied().eq(expected.into_iter().flatten()), "{found:?}");
    }

    #[test]
    fn probes_that_a_sleep_held_up_are_not_made_up_for() {
        let mut schedule = Schedule::new(Duration::from_millis(200));
        schedule.set(Mode::Continuous, HALF, at(0));
        assert!(schedule.take(HALF, at(3_600_000)));
        assert_eq!(schedule.poll_timeout(), Some(at(3_600_200)));
        schedule.set(Mode::Bursts, 0, at(3_600_000));
        assert_eq!(probes(&mut schedule, 3_600_200, HALF).len(), 1);
        assert!(schedule.take(HALF, at(9_000_000)));
        assert_eq!(probes(&mut schedule, 9_002_000, HALF).len(), 8, "the rest of that burst");
    }
}
