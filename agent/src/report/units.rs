//! Full precision to wire units: rounded to the nearest, and held at the highest number that there is.

use std::time::Duration;

/// Tenths of a millisecond.
pub(super) fn tenths(duration: Duration) -> u32 {
    u32::try_from((duration.as_micros() + 50) / 100).unwrap_or(u32::MAX)
}

/// Milliseconds.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from((duration.as_micros() + 500) / 1_000).unwrap_or(u32::MAX)
}

/// Microseconds, in 64 bits.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A count in 32 bits. Of two counts the smaller one never becomes the larger.
pub(super) fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{micros, millis, saturate, tenths};

    #[test]
    fn half_a_unit_is_rounded_up_and_what_is_too_much_is_the_most() {
        assert_eq!(
            (tenths(Duration::from_micros(149)), tenths(Duration::from_micros(150))),
            (1, 2)
        );
        assert_eq!(
            (millis(Duration::from_micros(499)), millis(Duration::from_micros(500))),
            (0, 1)
        );
        assert_eq!((tenths(Duration::MAX), millis(Duration::MAX)), (u32::MAX, u32::MAX));
        assert_eq!((micros(Duration::MAX), saturate(1 << 32)), (u64::MAX, u32::MAX));
    }
}
