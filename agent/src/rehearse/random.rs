//! The rehearsal's own seeded generator: SplitMix64.
//!
//! A run must repeat from its printed seed on any machine and after any dependency update, so the
//! generator is ours. It is not fit for secrets, and a rehearsal has none.

/// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The generator of a seed; every seed is as good as another.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns an independent generator for one purpose, so that asking for more of one thing
    /// leaves every other draw of the same seed as it was.
    pub(super) fn fork(&self, purpose: u64) -> Self {
        Self(mix(self.0 ^ mix(purpose)))
    }

    /// Returns the next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Returns a number in `0..bound`; 0 where `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is below `bound`, so it fits.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns whether an event of probability `share` / 2^32 happens; 2^32 and more always does.
    pub(super) fn happens(&mut self, share: u64) -> bool {
        (self.next() >> 32) < share
    }
}

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn output_is_the_published_splitmix64() {
        // The reference C code's output for seed 1234567, as published on Rosetta Code.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
        assert_eq!(random.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn bounds_are_kept_at_their_ends() {
        let mut random = Random::new(7);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[random.below(3) as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert!((0..1_000).all(|_| !random.happens(0)));
        assert!((0..1_000).all(|_| random.happens(1 << 32)));
    }

    #[test]
    fn forks_differ_from_each_other_and_do_not_move_the_origin() {
        let mut origin = Random::new(1);
        let (mut one, mut two) = (origin.fork(1), origin.fork(2));
        assert_ne!(one.next(), two.next());
        assert_eq!(origin.next(), Random::new(1).next());
    }
}
