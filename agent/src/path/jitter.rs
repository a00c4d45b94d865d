//! Interarrival jitter of probes, RFC 3550 appendix A.8, for one direction.
//!
//! The sender's and the receiver's clock are different machines' and may have any origin: only differences of each are
//! taken. Over a pause they drift apart, so none is taken over one.

/// Two probes further apart than this are not compared: at 50 ppm the clocks drift 0.1 ms apart in it, which is the
/// unit that is told.
const PAUSE_US: i64 = 2_000_000;
/// A difference in transit beyond this is a clock that jumped.
const JUMP_US: i64 = 5_000_000;

/// The running estimate J and the probe that the next one is compared with. In microseconds.
#[derive(Debug, Clone, Default)]
pub struct Jitter {
    reference: Option<(u64, u64)>,
    /// Sixteen times J, as A.8 keeps it.
    scaled: Option<u64>,
}

impl Jitter {
    /// Takes a probe that did not arrive behind a later one, and returns J after it; `None` before two were compared.
    pub fn handle(&mut self, sent_us: u64, received_us: u64) -> Option<u32> {
        let before = self.reference.replace((sent_us, received_us));
        if let Some((sent_before, received_before)) = before {
            let sent = sent_us.wrapping_sub(sent_before).cast_signed();
            let received = received_us.wrapping_sub(received_before).cast_signed();
            let difference = received.saturating_sub(sent).saturating_abs();
            if (0..=PAUSE_US).contains(&sent) && difference < JUMP_US {
                let scaled = self.scaled.unwrap_or(0);
                self.scaled = Some(scaled + difference.unsigned_abs() - ((scaled + 8) >> 4));
            }
        }
        self.scaled.map(|scaled| u32::try_from(scaled >> 4).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    /// Differences of 0, 160, 320, -480, 1600 us: J = |D| summed with gain 1/16, by A.8's integers.
    #[test]
    fn estimate_is_that_of_rfc_3550_a8() {
        let mut jitter = Jitter::default();
        let (mut sent, mut received) = (1_000_000u64, 77_000_000_000u64);
        assert_eq!(jitter.handle(sent, received), None);
        // scaled: 0; 160; 160 + 320 - 10 = 470; 470 + 480 - 29 = 921; 921 + 1600 - 58 = 2463.
        for (difference, expected) in [(0i64, 0), (160, 10), (320, 29), (-480, 57), (1600, 153)] {
            sent += 200_000;
            received = received.wrapping_add_signed(200_000 + difference);
            assert_eq!(jitter.handle(sent, received), Some(expected), "{difference}");
        }
    }

    #[test]
    fn pauses_and_jumps_of_clocks_add_nothing() {
        let mut jitter = Jitter::default();
        jitter.handle(0, 0);
        jitter.handle(200_000, 201_600);
        let kept = Some(100);
        // 30 s later the other clock is 20 ms ahead; then it is set back an hour; then a probe seems to leave earlier.
        assert_eq!(jitter.handle(30_200_000, 30_221_600), kept);
        assert_eq!(jitter.handle(30_400_000, 421_600), kept);
        assert_eq!(jitter.handle(30_400_000 - 1, 421_600), kept);
        for (sent, received) in [(u64::MAX, 0), (0, u64::MAX), (1, 1 << 63), (2, 0)] {
            jitter.handle(sent, received);
        }
    }
}
