//! Sequence numbers: what was expected, received, lost, duplicated, reordered, restarted.
//!
//! RFC 3550 A.1 and A.3, with what they leave open closed: duplicates are known by a window of 1,024 numbers and
//! never cancel loss, a late packet never wraps the counter, a jump is a hole only where clock and RTP time agree
//! that so many packets fit into it, and otherwise a restart, which must be confirmed by a second packet.

use std::time::Duration;

use crate::clock::Moment;

/// How many numbers below the highest are remembered one by one: at 50 packets/s 20 s, the SRTP replay window that
/// browsers use.
const WINDOW: u16 = 1024;
const WORDS: usize = WINDOW as usize / 64;
/// RFC 3550 A.1: a step forward of less than this is loss and never a restart.
const MAX_DROPOUT: u16 = 3000;
/// A late packet is at most this old by its RTP time: no network holds one longer, a restarted sender may reuse its
/// numbers.
const LATE_MAX: Duration = Duration::from_secs(5);
/// Assumed spacing of packets until the stream has shown its own: 20 ms, the usual frame.
const SPACING_ASSUMED: Duration = Duration::from_millis(20);
/// Packets after which the stream's own mean spacing is used.
const SPACING_LEARNED_AFTER: i64 = 10;

/// What one packet meant for its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The highest number so far; `step` 1 where nothing is missing before it.
    Advanced {
        /// How far the highest number moved.
        step: u32,
    },
    /// Behind a later one, seen for the first time.
    Reordered,
    /// Seen before. Not received again.
    Duplicate,
    /// The second packet of a new, unrelated sequence; both count as received.
    Restarted,
    /// Fits no sequence (yet): not counted.
    Unplaced,
}

/// The state of one sequence, over all its restarts.
#[derive(Debug, Clone)]
pub struct SequenceTracker {
    base: i64,
    highest: i64,
    highest_timestamp: u32,
    base_at: Moment,
    highest_at: Moment,
    received: u64,
    duplicate: u64,
    reordered: u64,
    restarts: u32,
    /// Expected packets of the sequences before the last restart.
    expected_before: u64,
    seen: [u64; WORDS],
    restart: Option<(u16, u32)>,
}

impl SequenceTracker {
    /// Begins with a stream's first packet, which counts as received.
    #[must_use]
    pub fn new(sequence: u16, timestamp: u32, now: Moment) -> Self {
        let mut tracker = Self {
            base: 0,
            highest: 0,
            highest_timestamp: timestamp,
            base_at: now,
            highest_at: now,
            received: 0,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            expected_before: 0,
            seen: [0; WORDS],
            restart: None,
        };
        tracker.begin(sequence, timestamp, now);
        tracker
    }

    fn begin(&mut self, sequence: u16, timestamp: u32, now: Moment) {
        // One cycle up, so that a late packet before the first one stays positive.
        self.base = i64::from(sequence) + (1 << 16);
        self.highest = self.base;
        self.highest_timestamp = timestamp;
        self.base_at = now;
        self.highest_at = now;
        self.seen = [0; WORDS];
        self.mark(self.highest);
        self.received += 1;
    }

    /// Takes one more packet. `clock_rate_hz` is the RTP clock where it is known.
    pub fn handle(
        &mut self,
        sequence: u16,
        timestamp: u32,
        clock_rate_hz: Option<u32>,
        now: Moment,
    ) -> Arrival {
        let forward = sequence.wrapping_sub(self.highest as u16);
        if (1..MAX_DROPOUT).contains(&forward) {
            return self.advance(u32::from(forward), timestamp, now);
        }
        let back = forward.wrapping_neg();
        if back < WINDOW && self.is_late(timestamp, clock_rate_hz) {
            return self.fill(back);
        }
        if let Some(step) = self.hole(forward, timestamp, clock_rate_hz, now) {
            return self.advance(step, timestamp, now);
        }
        match self.restart {
            Some((expected, before)) if expected == sequence && is_near(timestamp, before) => {
                self.expected_before += self.expected_here();
                self.restarts += 1;
                self.begin(sequence.wrapping_sub(1), before, now);
                self.advance(1, timestamp, now);
                self.restart = None;
                Arrival::Restarted
            }
            _ => {
                self.restart = Some((sequence.wrapping_add(1), timestamp));
                Arrival::Unplaced
            }
        }
    }

    fn advance(&mut self, step: u32, timestamp: u32, now: Moment) -> Arrival {
        if step >= u32::from(WINDOW) {
            self.seen = [0; WORDS];
        } else {
            for skipped in 1..i64::from(step) {
                self.clear(self.highest + skipped);
            }
        }
        self.highest += i64::from(step);
        self.mark(self.highest);
        self.highest_timestamp = timestamp;
        self.highest_at = now;
        self.received += 1;
        self.restart = None;
        Arrival::Advanced { step }
    }

    fn fill(&mut self, back: u16) -> Arrival {
        let extended = self.highest - i64::from(back);
        if self.is_marked(extended) {
            self.duplicate += 1;
            return Arrival::Duplicate;
        }
        self.mark(extended);
        // The first packet seen need not be the first one sent.
        self.base = self.base.min(extended);
        self.received += 1;
        self.reordered += 1;
        Arrival::Reordered
    }

    /// Whether RTP time lets a packet with a lower number be an old one.
    fn is_late(&self, timestamp: u32, clock_rate_hz: Option<u32>) -> bool {
        let age_ticks = self.highest_timestamp.wrapping_sub(timestamp);
        if age_ticks > i32::MAX as u32 {
            return false; // newer in time, older in number: another sequence
        }
        match clock_rate_hz {
            Some(rate) => u64::from(age_ticks) <= u64::from(rate) * LATE_MAX.as_secs(),
            None => true,
        }
    }

    /// How many packets a large step forward stands for, where time says that it is one hole.
    fn hole(
        &self,
        forward: u16,
        timestamp: u32,
        clock_rate_hz: Option<u32>,
        now: Moment,
    ) -> Option<u32> {
        let elapsed = now.since(self.highest_at);
        let fitting = elapsed.as_nanos() / self.spacing().as_nanos().max(1);
        // Four times the usual rate is the most that a burst after a hole may have.
        if forward == 0 || fitting * 4 < u128::from(forward) {
            return None;
        }
        if let Some(rate) = clock_rate_hz {
            let ticks = u64::from(timestamp.wrapping_sub(self.highest_timestamp));
            let by_rtp =
                Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / u64::from(rate));
            if by_rtp.abs_diff(elapsed) > Duration::from_secs(1).max(elapsed / 10) {
                return None;
            }
        }
        // Whole cycles lost inside one hole leave no trace but time: believed only where time names one number.
        let cycles = (fitting.saturating_sub(u128::from(forward)) + 0x8000) >> 16;
        let whole = (cycles << 16) + u128::from(forward);
        let step = if cycles > 0 && whole.abs_diff(fitting) * 20 <= fitting {
            whole
        } else {
            u128::from(forward)
        };
        u32::try_from(step).ok()
    }

    fn spacing(&self) -> Duration {
        let steps = self.highest - self.base;
        if steps < SPACING_LEARNED_AFTER {
            return SPACING_ASSUMED;
        }
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        (self.highest_at.since(self.base_at) / steps).max(Duration::from_micros(1))
    }

    fn expected_here(&self) -> u64 {
        u64::try_from(self.highest - self.base + 1).unwrap_or(0)
    }

    /// Packets that the numbers announce, over all restarts (RFC 3550 A.3).
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected_before + self.expected_here()
    }

    /// Packets received, duplicates excluded.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// `expected - received`; never negative, because duplicates are no receipts.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected() - self.received
    }

    /// Packets whose number had been received before.
    #[must_use]
    pub fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Packets that arrived behind a later one.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// How often the sender began a new sequence.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    fn slot(extended: i64) -> (usize, u64) {
        let bit = (extended & i64::from(WINDOW - 1)) as usize;
        (bit / 64, 1 << (bit % 64))
    }

    fn mark(&mut self, extended: i64) {
        let (word, bit) = Self::slot(extended);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, extended: i64) {
        let (word, bit) = Self::slot(extended);
        self.seen[word] &= !bit;
    }

    fn is_marked(&self, extended: i64) -> bool {
        let (word, bit) = Self::slot(extended);
        self.seen[word] & bit != 0
    }
}

/// Whether two packets in a row may carry these timestamps: within 2^20 ticks, 11 s of video, 22 s of Opus.
fn is_near(timestamp: u32, before: u32) -> bool {
    timestamp.wrapping_sub(before) < 1 << 20
}

#[cfg(test)]
mod tests {
    use super::{Arrival, SequenceTracker};
    use crate::clock::Moment;

    const RATE: Option<u32> = Some(8_000);

    fn at(packet: u64) -> Moment {
        Moment::from_nanos(1_000_000_000 + packet * 20_000_000)
    }

    /// Sends `sequences` 20 ms apart, RTP time following the position in `sent` order.
    fn run(packets: impl IntoIterator<Item = (u64, u16)>) -> SequenceTracker {
        let mut tracker: Option<SequenceTracker> = None;
        for (arrival, (sent, sequence)) in packets.into_iter().enumerate() {
            let timestamp = (sent * 160) as u32;
            match &mut tracker {
                None => tracker = Some(SequenceTracker::new(sequence, timestamp, at(0))),
                Some(tracker) => {
                    tracker.handle(sequence, timestamp, RATE, at(arrival as u64));
                }
            }
        }
        tracker.unwrap()
    }

    fn counts(tracker: &SequenceTracker) -> [u64; 5] {
        let restarts = u64::from(tracker.restarts());
        [tracker.received(), tracker.lost(), tracker.duplicate(), tracker.reordered(), restarts]
    }

    // The cases of the "wrong answers" table: what tshark and plain subtraction get wrong.

    #[test]
    fn duplicates_without_loss_are_not_negative_loss() {
        // 1,000 packets, every twentieth twice: 50 duplicates.
        let packets = (0..1000u64)
            .flat_map(|n| std::iter::repeat_n((n, n as u16), if n % 20 == 0 { 2 } else { 1 }));
        assert_eq!(counts(&run(packets)), [1000, 0, 50, 0, 0]);
    }

    #[test]
    fn duplicates_do_not_cancel_loss() {
        // 1,000 sent, 50 lost (n % 20 == 7), 50 duplicated (n % 20 == 0).
        let packets = (0..1000u64)
            .filter(|n| n % 20 != 7)
            .flat_map(|n| std::iter::repeat_n((n, n as u16), if n % 20 == 0 { 2 } else { 1 }));
        assert_eq!(counts(&run(packets)), [950, 50, 50, 0, 0]);
    }

    #[test]
    fn late_packet_across_the_wrap_is_not_loss() {
        let order: [u64; 6] = [65_532, 65_533, 65_535, 65_536, 65_534, 65_537];
        let tracker = run(order.map(|n| (n, n as u16)));
        assert_eq!(counts(&tracker), [6, 0, 0, 1, 0]);
    }

    #[test]
    fn late_packet_before_the_first_one_is_expected_too() {
        let tracker = run([(1, 0), (0, 65_535), (2, 1)]);
        assert_eq!(counts(&tracker), [3, 0, 0, 1, 0]);
    }

    #[test]
    fn reordering_by_two_or_three_places_is_not_loss() {
        // Each tenth packet is overtaken by the next three.
        let mut order: Vec<u64> = (0..1000).collect();
        for n in (0..990).step_by(10) {
            order[n..n + 4].rotate_left(1);
        }
        let tracker = run(order.into_iter().map(|n| (n, n as u16)));
        assert_eq!(counts(&tracker), [1000, 0, 0, 99, 0]);
    }

    #[test]
    fn sender_that_restarts_its_numbers_loses_nothing() {
        // 500 packets from 1,000, then 500 from 50,000: tshark says 48,500 lost.
        let packets = (0..1000u64).map(|n| (n, if n < 500 { 1000 + n } else { 49_500 + n } as u16));
        assert_eq!(counts(&run(packets)), [1000, 0, 0, 0, 1]);
    }

    #[test]
    fn sender_that_restarts_numbers_and_time_loses_nothing() {
        // 2,000 packets, then number and RTP time from zero again.
        let packets = (0..4000u64).map(|n| (n % 2000, (n % 2000) as u16));
        assert_eq!(counts(&run(packets)), [4000, 0, 0, 0, 1]);
    }

    #[test]
    fn hole_of_800_seconds_is_40000_lost() {
        let mut tracker = run((0..500u64).map(|n| (n, n as u16)));
        for n in 40_500..41_000u64 {
            tracker.handle(n as u16, (n * 160) as u32, RATE, at(n));
        }
        assert_eq!(counts(&tracker), [1000, 40_000, 0, 0, 0]);
    }

    #[test]
    fn hole_beyond_a_whole_cycle_is_counted_by_the_clock() {
        // 100,000 packets lost at 50/s: 2,000 s. The numbers alone would say 34,464.
        let mut tracker = run((0..500u64).map(|n| (n, n as u16)));
        for n in 100_500..100_600u64 {
            tracker.handle(n as u16, (n * 160) as u32, RATE, at(n));
        }
        assert_eq!(counts(&tracker), [600, 100_000, 0, 0, 0]);
    }

    #[test]
    fn silence_without_packets_is_not_loss() {
        // DTX: ten minutes without a packet, RTP time goes on, numbers do not.
        let mut tracker = run((0..500u64).map(|n| (n, n as u16)));
        for n in 500..600u64 {
            tracker.handle(n as u16, ((n + 30_000) * 160) as u32, RATE, at(n + 30_000));
        }
        assert_eq!(counts(&tracker), [600, 0, 0, 0, 0]);
    }

    #[test]
    fn one_stray_packet_is_not_a_restart() {
        let mut tracker = run((0..500u64).map(|n| (n, n as u16)));
        assert_eq!(tracker.handle(30_000, 77, RATE, at(500)), Arrival::Unplaced);
        assert_eq!(tracker.handle(500, 500 * 160, RATE, at(501)), Arrival::Advanced { step: 1 });
        assert_eq!(counts(&tracker), [501, 0, 0, 0, 0]);
    }

    #[test]
    fn telephone_event_end_sent_three_times_is_two_duplicates() {
        // RFC 4733 section 2.5.1.4: the last packet of an event is sent three times with one number.
        let tracker = run([(0, 7984), (0, 7985), (0, 7986), (0, 7987), (0, 7987), (0, 7987)]);
        assert_eq!(counts(&tracker), [4, 0, 2, 0, 0]);
    }
}
