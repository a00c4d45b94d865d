//! Who is believed about streams, and what they told: report blocks of RTCP in the clear.
//!
//! That a datagram has the form of RTCP proves little ([`rtcp`](super::rtcp)): encrypted reports come by the thousand.
//! So nothing of a reporter counts before [`PROVING`] compounds of it in a row were consistent: the chain of each is
//! sound, it has a block about a stream of the other direction of the same path, and no block steps back behind the one
//! before about the same stream. Then the first ones count too. Noise would have to hit one of at most 32 SSRCs in
//! 2^32 three times. A compound that is not consistent begins the proof anew, of a reporter that was not believed yet.
//!
//! Round trips are those of the endpoint's own sender reports (RFC 3550 section 6.4.1, figure 2): from the moment at
//! which the tap saw one leave to the arrival of a block that names it, less what the far end held it.

use std::time::Duration;

use heapless::{Deque, Vec as Bounded};
use roomtone_protocol::media::Direction;

use crate::clock::Moment;

use super::rtcp::{Block, Compound};
use super::rtt::RttTally;

/// Consistent compounds in a row that prove a reporter.
pub const PROVING: u8 = 3;
/// Reporters of one path, at most; the one silent for longest gives way. A party has one for each stream it sends.
const REPORTERS_MAX: usize = 8;
/// What waits for a reporter's proof, at most: two compounds of four blocks. A capture of 128 bytes has room for three.
const WAITING_MAX: usize = 8;
/// Sender reports of the endpoint that are remembered, of one path: four streams, and the last four of each.
const SENT_MAX: usize = 16;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What receivers told of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// Report blocks.
    pub reports: u32,
    /// Cumulative number of packets lost, as the last one says.
    pub lost: i32,
    /// Largest fraction lost, in 1/256.
    pub fraction_lost_max: u8,
    /// Round trips, of streams that the endpoint sends; nothing is ever unanswered.
    pub rtt: RttTally,
    jitter_sum: u64,
    jitter_max: u32,
}

/// One block, and what was measured when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What it says.
    pub block: Block,
    /// The round trip, where it answers a sender report of the endpoint's.
    pub rtt: Option<Duration>,
}

impl Reported {
    /// Adds one block.
    pub fn add(&mut self, told: &Told) {
        let Block { fraction_lost, lost, jitter_ticks, .. } = told.block;
        self.reports = self.reports.saturating_add(1);
        self.lost = lost;
        self.fraction_lost_max = self.fraction_lost_max.max(fraction_lost);
        self.jitter_sum = self.jitter_sum.saturating_add(jitter_ticks.into());
        self.jitter_max = self.jitter_max.max(jitter_ticks);
        if let Some(rtt) = told.rtt {
            self.rtt.add(rtt);
        }
    }

    /// Mean of the reported jitter; `None` where the stream's clock is not known, as [`Self::jitter_max`].
    #[must_use]
    pub fn jitter_mean(&self, clock_rate_hz: Option<u32>) -> Option<Duration> {
        of_ticks(self.jitter_sum, u64::from(clock_rate_hz?) * u64::from(self.reports))
    }

    /// Largest of it.
    #[must_use]
    pub fn jitter_max(&self, clock_rate_hz: Option<u32>) -> Option<Duration> {
        of_ticks(self.jitter_max.into(), clock_rate_hz?.into())
    }
}

fn of_ticks(ticks: u64, per_second: u64) -> Option<Duration> {
    let nanos = (u128::from(ticks) * 1_000_000_000).checked_div(per_second.into())?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// All that report on one path.
#[derive(Debug, Default)]
pub struct Reporters {
    known: Bounded<Reporter, REPORTERS_MAX>,
    sent: Deque<Sent, SENT_MAX>,
}

/// One source of reports.
#[derive(Debug)]
struct Reporter {
    ssrc: u32,
    direction: Direction,
    last_at: Moment,
    consistent: u8,
    /// Stream and highest sequence number of the latest blocks.
    highest: Bounded<(u32, u32), WAITING_MAX>,
    waiting: Bounded<Told, WAITING_MAX>,
}

/// One sender report of the endpoint's.
#[derive(Debug, Clone, Copy)]
struct Sent {
    ssrc: u32,
    /// As a block would name it.
    time: u32,
    at: Moment,
}

impl Reporters {
    /// Takes a compound that passed; calls `each` with every block that counts from now on, in order.
    ///
    /// `is_known` says whether the path has a stream of that SSRC in the direction opposite to the compound's.
    pub fn handle(
        &mut self,
        compound: Compound<'_>,
        direction: Direction,
        now: Moment,
        is_known: impl Fn(u32) -> bool,
        mut each: impl FnMut(&Told),
    ) {
        let reports = || compound.reports();
        if direction == Direction::Egress {
            for report in reports() {
                if let Some(time) = report.sent {
                    self.note_sent(Sent { ssrc: report.ssrc, time, at: now });
                }
            }
        }
        let Some(first) = reports().next() else { return };
        let told = || {
            let blocks = reports().flat_map(super::rtcp::Report::blocks);
            blocks.filter(|block| is_known(block.ssrc))
        };
        // A report on nobody, as before the first packet, says nothing for or against.
        if reports().all(|report| report.blocks().next().is_none()) {
            return;
        }
        if told().next().is_none() {
            self.doubt(first.ssrc, direction);
            return;
        }
        let rtt = |block: &Block| match direction {
            Direction::Ingress => self.sent.iter().find_map(|sent| sent.round_trip(block, now)),
            Direction::Egress => None,
        };
        let told: Bounded<Told, TOLD_MAX> =
            told().take(TOLD_MAX).map(|block| Told { block, rtt: rtt(&block) }).collect();
        let reporter = self.reporter(first.ssrc, direction, now);
        let is_believed = reporter.take(&told);
        if is_believed {
            reporter.waiting.iter().chain(&told).for_each(&mut each);
            reporter.waiting.clear();
        } else {
            // What finds no room is not lost: each block says what was lost in all.
            let _ = told.iter().try_for_each(|told| reporter.waiting.push(*told));
        }
    }

    /// Notes that a source sent something that is no RTCP in the clear.
    pub fn doubt(&mut self, ssrc: u32, direction: Direction) {
        let is_same = |it: &&mut Reporter| it.ssrc == ssrc && it.direction == direction;
        if let Some(reporter) = self.known.iter_mut().find(is_same)
            && reporter.consistent < PROVING
        {
            reporter.begin();
        }
    }

    fn note_sent(&mut self, sent: Sent) {
        if self.sent.is_full() {
            self.sent.pop_front();
        }
        // There is room: one place was just made.
        let _ = self.sent.push_back(sent);
    }

    fn reporter(&mut self, ssrc: u32, direction: Direction, now: Moment) -> &mut Reporter {
        let known = &mut self.known;
        let is_same = |it: &Reporter| it.ssrc == ssrc && it.direction == direction;
        let place = known.iter().position(is_same).unwrap_or_else(|| {
            if known.is_full()
                && let Some(oldest) = (0..known.len()).min_by_key(|&n| known[n].last_at)
            {
                known.swap_remove(oldest);
            }
            let new = Reporter {
                ssrc,
                direction,
                last_at: now,
                consistent: 0,
                highest: Bounded::new(),
                waiting: Bounded::new(),
            };
            // There is room: the oldest made it.
            let _ = known.push(new);
            known.len() - 1
        });
        let reporter = &mut known[place];
        reporter.last_at = now;
        reporter
    }
}

/// Blocks of one compound that are looked at, at most: more than 1 KiB, the longest capture, has room for.
const TOLD_MAX: usize = 48;

impl Reporter {
    /// Takes the blocks of a compound; whether they count.
    fn take(&mut self, told: &[Told]) -> bool {
        if self.consistent < PROVING {
            let steps_back = |told: &Told| {
                let stream = told.block.ssrc;
                let before = self.highest.iter().find(|(ssrc, _)| *ssrc == stream);
                let stepped =
                    |highest: u32| told.block.highest_sequence.wrapping_sub(highest) >> 31 != 0;
                before.is_some_and(|(_, highest)| stepped(*highest))
            };
            if told.iter().any(steps_back) {
                self.begin();
            }
            self.consistent += 1;
            for told in told {
                let (stream, highest) = (told.block.ssrc, told.block.highest_sequence);
                match self.highest.iter_mut().find(|(ssrc, _)| *ssrc == stream) {
                    Some(known) => known.1 = highest,
                    // Streams beyond the room are not compared.
                    None => _ = self.highest.push((stream, highest)),
                }
            }
        }
        self.consistent >= PROVING
    }

    fn begin(&mut self) {
        self.consistent = 0;
        self.highest.clear();
        self.waiting.clear();
    }
}

impl Sent {
    /// From this report's departure to a block that names it, less what the far end held it; `None` where the block
    /// names another, or would have come before it left.
    fn round_trip(&self, block: &Block, now: Moment) -> Option<Duration> {
        if block.last_report == 0 || (block.ssrc, block.last_report) != (self.ssrc, self.time) {
            return None;
        }
        let held = Duration::from_nanos((u64::from(block.delay) * NANOS_PER_SECOND) >> 16);
        (now >= self.at).then(|| now.since(self.at).checked_sub(held)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomtone_protocol::media::Direction;

    use super::super::rtcp;
    use super::{PROVING, REPORTERS_MAX, Reported, Reporters};
    use crate::clock::Moment;

    const OURS: u32 = 9;

    fn ms(at: u64) -> Moment {
        Moment::from_nanos(at * 1_000_000)
    }

    /// A receiver report about one stream: fraction, highest number, LSR and DLSR.
    fn report(reporter: u32, about: u32, [fraction, highest, last, delay]: [u32; 4]) -> Vec<u8> {
        let words = [0x81c9_0007, reporter, about, fraction << 24 | 5, highest, 48, last, delay];
        words.into_iter().flat_map(u32::to_be_bytes).collect()
    }

    fn sender_report(ssrc: u32, time: u32) -> Vec<u8> {
        let words = [0x80c8_0006, ssrc, time >> 16, time << 16, 0, 0, 0];
        words.into_iter().flat_map(u32::to_be_bytes).collect()
    }

    #[derive(Default)]
    struct World {
        reporters: Reporters,
        reported: Reported,
    }

    impl World {
        fn send(&mut self, direction: Direction, at: u64, bytes: &[u8]) -> u32 {
            let reported = &mut self.reported;
            match rtcp::parse(bytes, bytes.len() as u16) {
                Some(compound) => {
                    let each = |told: &_| reported.add(told);
                    let is_known = |ssrc| ssrc == OURS;
                    self.reporters.handle(compound, direction, ms(at), is_known, each);
                }
                None => self.reporters.doubt(rtcp::sender(bytes).unwrap(), direction),
            }
            self.reported.reports
        }

        fn ingress(&mut self, at: u64, bytes: &[u8]) -> u32 {
            self.send(Direction::Ingress, at, bytes)
        }
    }

    #[test]
    fn third_consistent_compound_makes_all_three_count() {
        let mut world = World::default();
        let counts = [(0, 10), (1, 20), (2, 30), (3, 40)]
            .map(|(n, fraction)| world.ingress(n * 1_000, &report(1, OURS, [fraction, 7, 0, 0])));
        assert_eq!(counts, [0, 0, 3, 4]);
        assert_eq!((world.reported.lost, world.reported.fraction_lost_max), (5, 40));
        // 48 ticks of 48 kHz are 1 ms.
        let mean = world.reported.jitter_mean(Some(48_000));
        assert_eq!(mean, Some(Duration::from_millis(1)));
        assert_eq!(world.reported.jitter_max(Some(8_000)), Some(Duration::from_millis(6)));
        assert_eq!(world.reported.jitter_mean(None), None);
    }

    #[test]
    fn what_is_not_consistent_begins_the_proof_anew() {
        let good = |highest| report(1, OURS, [0, highest, 0, 0]);
        let mut encrypted = good(3);
        encrypted.extend([0x55; 14]);
        for (name, doubtful) in [
            ("encrypted", encrypted),
            ("about a stranger", report(1, 77, [0, 3, 0, 0])),
            ("a step back", good(1)),
        ] {
            let mut world = World::default();
            world.ingress(0, &good(2));
            world.ingress(1, &good(2));
            world.ingress(2, &doubtful);
            assert_eq!(world.ingress(3, &good(3)), 0, "{name}");
        }
        let mut world = World::default();
        world.ingress(0, &good(2));
        world.ingress(1, &report(2, OURS, [0, 3, 0, 0]));
        world.ingress(2, &good(2));
        // Others, and reports on nobody, say nothing of this one.
        world.ingress(3, &[0x80, 201, 0, 1, 0, 0, 0, 1]);
        assert_eq!(world.ingress(4, &good(2)), 3);
        assert_eq!(world.ingress(5, &report(1, 77, [0, 0, 0, 0])), 3);
        assert_eq!(world.ingress(6, &good(3)), 4, "who was believed stays so");
    }

    #[test]
    fn round_trip_is_that_of_the_report_that_the_block_names() {
        let mut world = World::default();
        for n in 1..=4 {
            world.send(Direction::Egress, u64::from(n) * 1_000, &sender_report(OURS, n << 16));
        }
        // Held for half a second, the third one came back after 550 ms: 50 on the way.
        for (at, last, delay) in
            [(3_550, 3 << 16, 0x8000), (4_010, 4 << 16, 0x8000), (4_100, 99, 0)]
        {
            world.ingress(at, &report(1, OURS, [0, 7, last, delay]));
        }
        let rtt = world.reported.rtt;
        assert_eq!((rtt.count, rtt.unanswered, rtt.last), (1, 0, Duration::from_millis(50)));
    }

    #[test]
    fn flood_of_reporters_and_reports_is_bounded() {
        let mut world = World::default();
        for n in 0..1_000 {
            world.send(Direction::Egress, u64::from(n), &sender_report(OURS, n));
            world.ingress(u64::from(n), &report(n, OURS, [0, n, 0, 0]));
        }
        assert_eq!(world.reporters.known.len(), REPORTERS_MAX);
        assert_eq!(world.reporters.sent.len(), super::SENT_MAX);
        assert_eq!((world.reported.reports, PROVING), (0, 3), "none told three times");
    }
}
