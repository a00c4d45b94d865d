//! When to try again: exponential with full jitter.
//!
//! After the n-th failure in a row the pause is uniform in `0..=min(ceiling, base * 2^(n-1))`. Full jitter spreads a
//! fleet whose collector restarted over the whole span, where a jitter of some per cent would keep it in step. The
//! random number is an argument: a core draws none.

use std::time::Duration;

/// Failures in a row, and the pause that follows from them.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    ceiling: Duration,
    failures: u32,
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
    fn failures_without_end_do_not_overflow() {
        let mut backoff = backoff();
        for _ in 0..1000 {
            assert!(backoff.pause(u64::MAX) <= Duration::from_secs(60));
        }
        backoff.reset();
        assert!(backoff.pause(u64::MAX) <= Duration::from_secs(1));
    }
}
