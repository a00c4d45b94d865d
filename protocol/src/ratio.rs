//! A part of a whole, never a percent, never a float.

use serde::{Deserialize, Serialize};

/// `part / whole`, both in microseconds, with `part <= whole`.
///
/// A whole of 0 means that nothing could be observed: such a ratio is neither good nor bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Ratio {
    part_us: u64,
    whole_us: u64,
}

impl Ratio {
    /// Nothing observed.
    pub const UNOBSERVED: Self = Self { part_us: 0, whole_us: 0 };

    /// Returns the ratio, or `None` where the part exceeds the whole.
    #[must_use]
    pub fn new(part_us: u64, whole_us: u64) -> Option<Self> {
        (part_us <= whole_us).then_some(Self { part_us, whole_us })
    }

    /// The part, in microseconds.
    #[must_use]
    pub fn part_us(self) -> u64 {
        self.part_us
    }

    /// The whole, in microseconds.
    #[must_use]
    pub fn whole_us(self) -> u64 {
        self.whole_us
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (part_us, whole_us) = <(u64, u64)>::deserialize(deserializer)?;
        Self::new(part_us, whole_us)
            .ok_or_else(|| serde::de::Error::custom("the part of a ratio exceeds its whole"))
    }
}

#[cfg(test)]
mod tests {
    use super::Ratio;

    #[test]
    fn part_beyond_whole_cannot_be_built_or_received() {
        assert_eq!(Ratio::new(2, 1), None);
        assert!(postcard::from_bytes::<Ratio>(&[2, 1]).is_err());
        assert_eq!(postcard::from_bytes::<Ratio>(&[1, 2]), Ok(Ratio::new(1, 2).unwrap()));
    }
}
