//! When to try again: exponential with full jitter.
//!
//! After the n-th failure in a row the pause is uniform in `0..=min(ceiling, base * 2^(n-1))`. Full jitter spreads a
//! fleet whose collector restarted over the whole span, where a jitter of some per cent would keep it in step. The
//! random number is an argument: a core draws none.
//!
//! Where only a person can help the pause is long instead, and uniform in the upper half of its span: nobody is to come
//! back at once with what was refused a moment ago.

use std::time::Duration;

use crate::identity::renewal::upper_half;

/// Failures in a row, and the pause that follows from them.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    ceiling: Duration,
    failures: u32,
}

/// Refusals in a row that only a person can mend, and the long pause that follows from them.
#[derive(Debug)]
pub(crate) struct Refusals {
    base: Duration,
    ceiling: Duration,
    count: u32,
}

impl Refusals {
    pub(crate) fn new(base: Duration, ceiling: Duration) -> Self {
        Self { base, ceiling, count: 0 }
    }

    /// Starts over, because what was refused is in order, or is another now.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
    }

    /// Counts one refusal and returns the pause; `random` is uniform over all of `u64`.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let cap = self.base.saturating_mul(1 << self.count).min(self.ceiling);
        self.count = (self.count + 1).min(DOUBLINGS_MAX);
        upper_half(cap, random)
    }
}

impl Backoff {
    pub(crate) fn new(base: Duration, ceiling: Duration) -> Self {
        Self { base, ceiling, failures: 0 }
    }

    /// Starts over, because the link has proven itself.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Goes to the ceiling at once, where trying soon cannot help.
    pub(crate) fn exhaust(&mut self) {
        self.failures = DOUBLINGS_MAX;
    }

    /// Counts one failure and returns the pause; `random` is uniform over all of `u64`.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let cap = self.base.saturating_mul(1 << self.failures).min(self.ceiling);
        self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        let nanos = (cap.as_nanos() * u128::from(random)) >> 64;
        // The product of a duration below the ceiling and a fraction below one fits wherever the ceiling does.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// 2^16 bases of 1 s are 18 hours, beyond every sensible ceiling; further doublings say nothing.
const DOUBLINGS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    #[test]
    fn pause_doubles_up_to_the_ceiling() {
        let mut backoff = backoff();
        let caps: Vec<u64> =
            (0..8).map(|_| backoff.pause(u64::MAX).as_secs_f64().round() as u64).collect();
        assert_eq!(caps, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_is_full() {
        let mut backoff = backoff();
        backoff.exhaust();
        assert_eq!(backoff.pause(0), Duration::ZERO);
        assert_eq!(backoff.pause(1 << 63), Duration::from_secs(30));
    }

    #[test]
    fn refusal_is_repeated_after_hours_and_never_at_once() {
        let mut refusals = Refusals::new(Duration::from_secs(7_200), Duration::from_secs(21_600));
        let hours = |it: &mut Refusals, random| it.pause(random).as_secs_f64() / 3600.0;
        // Half of 2, 4 and 6 hours at the least.
        for least in [1.0, 2.0, 3.0, 3.0] {
            assert_eq!(hours(&mut refusals, 0), least);
        }
        refusals.forget();
        for most in [2.0, 4.0, 6.0, 6.0] {
            assert!((hours(&mut refusals, u64::MAX) - most).abs() < 1e-6);
        }
    }

    #[test]
    fn failures_without_end_do_not_overflow() {
        let mut backoff = backoff();
        for _ in 0..1000 {
            assert!(backoff.pause(u64::MAX) <= Duration::from_secs(60));
        }
        backoff.reset();
        assert!(backoff.pause(u64::MAX) <= Duration::from_secs(1));
    }
}
