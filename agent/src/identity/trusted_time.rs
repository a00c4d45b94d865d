//! At which times the collector's certificate may be judged, on a machine whose clock may be years off: a core.
//!
//! Room devices boot without a battery behind their clock, in 1970 or at the day of their image, and may reach no time
//! server but through what they cannot reach yet. Two clocks are at hand: the collector's own, as its last Welcome told
//! it and boot time carried it on, and this machine's. A certificate that is good by one of them is taken. A clock that
//! stands before the beginning of this endpoint's own certificate is behind, that much is proven; then the collector's
//! certificate counts from its own beginning on, unless it had ended before ours began. A clock that is ahead proves
//! nothing, and without the collector's word it has to be set.

use super::certificate::Certificate;

/// The clocks at one moment, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedTime {
    /// The collector's, if it told it since this process began.
    pub collector_us: Option<u64>,
    /// This machine's.
    pub own_us: u64,
    /// When this endpoint's own certificate begins, if it can be read.
    pub issued_us: Option<u64>,
}

impl TrustedTime {
    /// This machine's clock alone.
    #[must_use]
    pub fn own(own_us: u64) -> Self {
        Self { collector_us: None, own_us, issued_us: None }
    }

    /// The same clocks beside this endpoint's own certificate.
    #[must_use]
    pub fn beside(self, certificate: Option<&Certificate>) -> Self {
        Self { issued_us: certificate.map(|it| it.not_before_us), ..self }
    }

    /// The times at which a certificate that begins at `begins_us` may be judged, the better one first; good at one is
    /// good.
    #[must_use]
    pub fn candidates(self, begins_us: u64) -> [u64; 2] {
        let own_us = match self.issued_us {
            Some(issued_us) if self.own_us < issued_us => issued_us.max(begins_us),
            Some(_) | None => self.own_us,
        };
        [self.collector_us.unwrap_or(own_us), own_us]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: u64 = 1_795_000_000_000_000;
    const YEAR: u64 = 365 * 86_400_000_000;

    fn time(collector_us: Option<u64>, own_us: u64) -> TrustedTime {
        TrustedTime { collector_us, own_us, issued_us: Some(ISSUED) }
    }

    #[test]
    fn clock_that_is_provably_behind_gives_way_to_what_is_known() {
        // The collector's certificate was renewed after ours was issued: it counts from its beginning on.
        assert_eq!(time(None, 0).candidates(ISSUED + 7), [ISSUED + 7; 2]);
        // It is older than ours: what ended before ours began has ended.
        assert_eq!(time(None, 0).candidates(ISSUED - YEAR), [ISSUED; 2]);
    }

    #[test]
    fn plausible_clock_counts_as_it_is() {
        for own_us in [ISSUED, ISSUED + YEAR] {
            assert_eq!(time(None, own_us).candidates(ISSUED + 7), [own_us; 2]);
        }
        assert_eq!(TrustedTime::own(5).candidates(9), [5; 2], "no certificate to hold it against");
    }

    #[test]
    fn collectors_clock_goes_first_and_alone_decides_nothing() {
        let told = ISSUED + 1_000;
        assert_eq!(time(Some(told), ISSUED + YEAR).candidates(0), [told, ISSUED + YEAR]);
        assert_eq!(time(Some(told), 0).candidates(ISSUED + 7), [told, ISSUED + 7]);
    }
}
