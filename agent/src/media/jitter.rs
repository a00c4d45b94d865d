//! Interarrival jitter, RFC 3550 section 6.4.1 and appendix A.8.

use std::time::Duration;

use crate::clock::Moment;

/// A difference in transit beyond this is a jump of the sender's clock (another source behind the same SSRC), not
/// jitter.
const JUMP: i64 = 5_000_000_000;

/// The running estimate J and what is kept of it.
///
/// Kept in nanoseconds, so that streams of different clock rates compare. Fed with packets in sequence order only, as
/// browsers do: a late packet's delay has been paid by its successors' already.
#[derive(Debug, Clone)]
pub struct Jitter {
    nanos_per_tick: f64,
    reference: Option<(Moment, u32)>,
    estimate: i64,
    total: Tally,
    interval: Tally,
}

/// Sum, count and maximum of J over some packets, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    sum: u64,
    count: u64,
    max: u64,
}

impl Tally {
    fn add(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The arithmetic mean over the packets; `None` before the second packet.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count).map(Duration::from_nanos)
    }

    /// The largest value; `None` before the second packet.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(Duration::from_nanos(self.max))
    }
}

impl Jitter {
    /// Begins without an estimate.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self {
            nanos_per_tick: 1e9 / f64::from(clock_rate_hz.max(1)),
            reference: None,
            estimate: 0,
            total: Tally::default(),
            interval: Tally::default(),
        }
    }

    /// Takes a packet that advanced its sequence.
    ///
    /// Packets that share a timestamp (a video frame, an RFC 4733 event, a padding probe behind speech) were not
    /// sampled apart: they add nothing, but the next sample is compared with the latest of them, as Chromium's
    /// receiver statistics do. Where a sender paces such packets, that spread shows as jitter.
    pub fn handle(&mut self, timestamp: u32, now: Moment) {
        let Some((then, before)) = self.reference else {
            self.reference = Some((now, timestamp));
            return;
        };
        self.reference = Some((now, timestamp));
        let ticks = timestamp.wrapping_sub(before) as i32;
        if ticks == 0 {
            return;
        }
        let sent = (f64::from(ticks) * self.nanos_per_tick) as i64;
        let arrived = now.as_nanos().wrapping_sub(then.as_nanos()).cast_signed();
        let difference = arrived.saturating_sub(sent).saturating_abs();
        if difference >= JUMP {
            return;
        }
        self.estimate += (difference - self.estimate) / 16;
        self.total.add(self.estimate.unsigned_abs());
        self.interval.add(self.estimate.unsigned_abs());
    }

    /// The estimate after the latest packet; `None` before the second one.
    #[must_use]
    pub fn last(&self) -> Option<Duration> {
        (self.total.count > 0).then_some(Duration::from_nanos(self.estimate.unsigned_abs()))
    }

    /// Over all packets.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.total
    }

    /// Over the packets since this was called last.
    pub fn take_interval(&mut self) -> Tally {
        std::mem::take(&mut self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;
    use crate::clock::Moment;

    /// The vector of the reference facts, section 11.1: D = 0, 16, 32, -48, 160 units at 16 kHz gives
    /// J = 0, 1, 2.9375, 5.7539, 15.3943 units; one unit is 62,500 ns.
    #[test]
    fn rfc_3550_vector_is_reproduced() {
        let mut jitter = Jitter::new(16_000);
        let mut at = 1_000_000_000i64;
        jitter.handle(0, Moment::from_nanos(at as u64));
        let expected = [0.0, 1.0, 2.9375, 5.7539, 15.3943];
        for (n, (d, units)) in [0i64, 16, 32, -48, 160].into_iter().zip(expected).enumerate() {
            at += (320 + d) * 62_500;
            jitter.handle((n as u32 + 1) * 320, Moment::from_nanos(at as u64));
            let found = jitter.last().unwrap().as_nanos() as f64 / 62_500.0;
            assert!((found - units).abs() < 0.001, "packet {n}: {found} instead of {units}");
        }
    }

    #[test]
    fn packets_of_one_timestamp_and_clock_jumps_add_nothing() {
        let mut jitter = Jitter::new(90_000);
        for (ms, ticks) in [(0, 0), (7, 0), (9, 0)] {
            jitter.handle(ticks, Moment::from_nanos(ms * 1_000_000));
        }
        assert_eq!(jitter.last(), None);
        jitter.handle(2970, Moment::from_nanos(42_000_000)); // 33 ms after the frame's last packet
        assert_eq!(jitter.last().unwrap().as_nanos(), 0);
        jitter.handle(2_000_000_000, Moment::from_nanos(75_000_000)); // another camera
        jitter.handle(2_000_000_000 + 2970, Moment::from_nanos(108_000_000)); // 33 ms later
        assert_eq!(jitter.last().unwrap().as_nanos(), 0);
    }

    #[test]
    fn moments_half_an_eternity_apart_are_a_jump_and_no_overflow() {
        let mut jitter = Jitter::new(8_000);
        let moments = [0, u64::MAX, 1, 1 << 63, 20_000_001];
        for (n, at) in moments.into_iter().enumerate() {
            jitter.handle(n as u32 * 160, Moment::from_nanos(at));
        }
        assert!(jitter.total().max() < Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn timestamp_wrap_is_not_a_jump() {
        let mut jitter = Jitter::new(8_000);
        jitter.handle(u32::MAX - 79, Moment::from_nanos(0));
        jitter.handle(80, Moment::from_nanos(20_000_000));
        assert_eq!(jitter.last().unwrap().as_nanos(), 0);
    }
}
