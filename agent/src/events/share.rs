//! Time in a bad state over the time in which it could be told, while it adds up.
//!
//! A core.

use roomtone_protocol::client_event::{ClientEventValue, UnknownBecause};
use roomtone_protocol::ratio::Ratio;

/// See the head of this file. The part never exceeds the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    part_us: u64,
    whole_us: u64,
}

/// How a stretch of time was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// In the bad state.
    Bad,
    /// Not in it.
    Good,
}

impl Share {
    /// `part` of `whole`; of a part that is more, the whole.
    #[must_use]
    pub fn new(part_us: u64, whole_us: u64) -> Self {
        Self { part_us: part_us.min(whole_us), whole_us }
    }

    /// Adds a stretch.
    pub fn add(&mut self, was: Was, us: u64) {
        self.whole_us = self.whole_us.saturating_add(us);
        if was == Was::Bad {
            self.part_us = self.part_us.saturating_add(us);
        }
    }

    /// The worse of two; one with nothing observed is never worse.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let weight = |it: Self, by: Self| u128::from(it.part_us) * u128::from(by.whole_us);
        let is_other_worse = weight(other, self) > weight(self, other) || self.whole_us == 0;
        if is_other_worse { other } else { self }
    }

    /// As the wire has it: never a ratio of nothing.
    #[must_use]
    pub fn value(self) -> ClientEventValue {
        let ratio = Ratio::new(self.part_us, self.whole_us).filter(|_| self.whole_us > 0);
        ratio.map_or(
            ClientEventValue::Unknown(UnknownBecause::NothingObserved),
            ClientEventValue::Ratio,
        )
    }
}

impl From<Ratio> for Share {
    fn from(ratio: Ratio) -> Self {
        Self { part_us: ratio.part_us(), whole_us: ratio.whole_us() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_nothing_is_not_zero() {
        let unknown = ClientEventValue::Unknown(UnknownBecause::NothingObserved);
        assert_eq!(Share::default().value(), unknown);
        assert_eq!(Share::new(5, 0).value(), unknown);
        let none = Ratio::new(0, 7).unwrap();
        assert_eq!(Share::new(0, 7).value(), ClientEventValue::Ratio(none));
    }

    #[test]
    fn worse_is_the_larger_share_and_not_the_larger_part() {
        // 1 of 2 against 10 of 100.
        let (half, tenth) = (Share::new(1, 2), Share::new(10, 100));
        assert_eq!(half.worse(tenth), half);
        assert_eq!(tenth.worse(half), half);
        assert_eq!(Share::default().worse(tenth), tenth);
        assert_eq!(tenth.worse(Share::default()), tenth);
    }

    #[test]
    fn sums_stop_at_the_end_of_numbers() {
        let mut share = Share::new(u64::MAX, u64::MAX);
        share.add(Was::Bad, 1);
        assert_eq!(share, Share::new(u64::MAX, u64::MAX));
    }
}
