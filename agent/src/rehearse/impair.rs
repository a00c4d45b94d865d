//! One direction of an impaired path: what comes in is lost, delayed, repeated or overtaken, by a
//! seed. Each decision and each deed is counted.
//!
//! A datagram waits `delay` plus a uniform draw of `-jitter..=jitter`, but never leaves before one
//! that came in earlier: the line is a queue, as real paths are, and jitter wider than half a frame
//! thus delays by more than `delay` on average. Only datagrams picked for reordering are overtaken:
//! they leave when 1 to 3 later voice packets have left, or 250 ms after their turn where no more
//! voice comes. A duplicate follows its original at once.
//!
//! Loss is independent from one datagram to the next or, with a mean burst length of N, a Gilbert
//! chain: two states, all lost in the bad one, left with probability 1/N per datagram and entered
//! with the probability that keeps the overall loss. Voice and consent checks share the chain.
//!
//! Loss, delay, duplication and reordering draw from generators of their own, so that with one seed
//! the same datagrams are lost whatever else is asked for.

use std::collections::VecDeque;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::random::Random;
use super::report::{Injected, Kind, ms};
use crate::clock::Moment;

/// The most datagrams in a line: 10 s (the longest delay with the widest jitter) of 50 voice packets
/// and a few checks a second, and half as much again.
const LINE_MAX: usize = 768;
/// How many voice packets overtake a reordered one: 1 to this many.
const OVERTAKEN_BY_MAX: u64 = 3;
/// The longest that a reordered datagram waits to be overtaken: 12 frames, so that a silence does
/// not keep it.
const HELD_MAX: Duration = Duration::from_millis(250);
/// 2^32, the certain event of [`Random::happens`].
const CERTAIN: u64 = 1 << 32;

/// A probability in parts per million, at most 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Probability(u32);

impl Probability {
    /// The event that never happens.
    pub const NEVER: Self = Self(0);

    /// From parts per million; `None` above 1,000,000.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm <= 1_000_000 { Some(Self(ppm)) } else { None }
    }

    /// Parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// In the measure of [`Random::happens`].
    fn share(self) -> u64 {
        u64::from(self.0) * CERTAIN / 1_000_000
    }
}

/// What a direction does to its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The middle of the delay.
    pub delay: Duration,
    /// The most by which a delay is drawn shorter or longer; not more than `delay`.
    pub jitter: Duration,
    /// The share of datagrams lost, at most a half.
    pub loss: Probability,
    /// The mean number of datagrams lost in a row, at least 1; `None` for independent losses.
    pub burst: Option<u32>,
    /// The share of datagrams that arrive twice.
    pub duplicate: Probability,
    /// The share of datagrams that are overtaken.
    pub reorder: Probability,
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ratio = |probability: Probability| f64::from(probability.ppm()) / 1e6;
        let mut map = serializer.serialize_struct("Profile", 6)?;
        map.serialize_field("delayMs", &ms(self.delay))?;
        map.serialize_field("jitterMs", &ms(self.jitter))?;
        map.serialize_field("lossRatio", &ratio(self.loss))?;
        map.serialize_field("burst", &self.burst)?;
        map.serialize_field("duplicateRatio", &ratio(self.duplicate))?;
        map.serialize_field("reorderRatio", &ratio(self.reorder))?;
        map.end()
    }
}

/// A datagram on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Impairment {
    profile: Profile,
    loss: Loss,
    delays: Random,
    duplicates: Random,
    reorders: Random,
    /// In the order in which they came and will have their turn.
    line: VecDeque<Waiting>,
    /// Those whose turn came and who are being overtaken, in the order in which they came.
    held: VecDeque<Held>,
    /// Those on their way out.
    ready: VecDeque<Released>,
    injected: Injected,
    /// Voice packets lost since the last one let in; unseen unless another one follows.
    rtp_lost_since: u64,
    /// Whether a voice packet was let in yet.
    rtp_seen: bool,
    rtp_delay_last: Option<Duration>,
}

#[derive(Debug)]
struct Waiting {
    /// Its place in the order in which datagrams came.
    number: u64,
    kind: Kind,
    bytes: Vec<u8>,
    came: Moment,
    turn: Moment,
    copies: usize,
    /// How many voice packets must overtake it.
    overtaken_by: u64,
}

#[derive(Debug)]
struct Held {
    waiting: Waiting,
    /// Voice packets that overtook it so far.
    overtaken: u64,
    until: Moment,
}

impl Impairment {
    /// A direction with nothing on its way.
    pub(super) fn new(profile: Profile, random: &Random) -> Self {
        Self {
            profile,
            loss: Loss::new(profile, random.fork(1)),
            delays: random.fork(2),
            duplicates: random.fork(3),
            reorders: random.fork(4),
            line: VecDeque::new(),
            held: VecDeque::new(),
            ready: VecDeque::new(),
            injected: Injected::default(),
            rtp_lost_since: 0,
            rtp_seen: false,
            rtp_delay_last: None,
        }
    }

    /// Takes in a datagram.
    pub(super) fn handle(&mut self, kind: Kind, bytes: &[u8], now: Moment) {
        *self.injected.handled.of(kind) += 1;
        // Every draw is made for every datagram: what became of one shifts nothing for the next.
        let is_lost = self.loss.next();
        let turn = self.draw_turn(now);
        let is_duplicated = self.duplicates.happens(self.profile.duplicate.share());
        let is_reordered = self.reorders.happens(self.profile.reorder.share());
        let overtaken_by = 1 + self.reorders.below(OVERTAKEN_BY_MAX);
        if is_lost {
            *self.injected.lost.of(kind) += 1;
            self.rtp_lost_since += u64::from(kind == Kind::Rtp);
            return;
        }
        if self.len() >= LINE_MAX {
            *self.injected.overflowed.of(kind) += 1;
            return;
        }
        if kind == Kind::Rtp {
            if !self.rtp_seen {
                self.injected.rtp_lost_unseen = self.rtp_lost_since;
            }
            self.rtp_seen = true;
            self.rtp_lost_since = 0;
        }
        *self.injected.duplicated.of(kind) += u64::from(is_duplicated);
        self.line.push_back(Waiting {
            number: self.injected.handled.total(),
            kind,
            bytes: bytes.to_vec(),
            came: now,
            turn,
            copies: 1 + usize::from(is_duplicated),
            overtaken_by: if is_reordered { overtaken_by } else { 0 },
        });
    }

    /// Returns the next datagram that is due, if any is.
    pub(super) fn poll(&mut self, now: Moment) -> Option<Released> {
        while self.ready.is_empty() {
            if self.line.front().is_some_and(|waiting| waiting.turn <= now) {
                let waiting = self.line.pop_front()?;
                if waiting.overtaken_by == 0 {
                    self.release(waiting, 0, now);
                } else {
                    let until = waiting.turn + HELD_MAX;
                    self.held.push_back(Held { waiting, overtaken: 0, until });
                }
            } else {
                let due = self.held.iter().position(|held| held.until <= now)?;
                let held = self.held.remove(due)?;
                self.release(held.waiting, held.overtaken, now);
            }
        }
        self.ready.pop_front()
    }

    /// When [`Self::poll`] will have something to do; `None` while the line is empty.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        if !self.ready.is_empty() {
            return Some(Moment::ORIGIN);
        }
        let turn = self.line.front().map(|waiting| waiting.turn);
        self.held.iter().map(|held| held.until).chain(turn).min()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was done so far.
    pub(super) fn injected(&self) -> Injected {
        let mut injected = self.injected;
        injected.rtp_lost_unseen += self.rtp_lost_since;
        injected
    }

    fn len(&self) -> usize {
        self.line.len() + self.held.len() + self.ready.len()
    }

    /// Draws a delay; the queue keeps its order whatever the draw.
    fn draw_turn(&mut self, now: Moment) -> Moment {
        let spread = self.profile.jitter * 2;
        let drawn = self.delays.below(spread.as_nanos() as u64 + 1); // at most 10 s
        let delay =
            (self.profile.delay + Duration::from_nanos(drawn)).saturating_sub(self.profile.jitter);
        let last = self.line.back().map_or(Moment::ORIGIN, |waiting| waiting.turn);
        (now + delay).max(last)
    }

    /// Lets a datagram out, and after it those that were only waiting to be overtaken by it.
    fn release(&mut self, waiting: Waiting, overtaken: u64, now: Moment) {
        let mut next = Some((waiting, overtaken));
        while let Some((waiting, overtaken)) = next {
            let (kind, number) = (waiting.kind, waiting.number);
            let delay = now.since(waiting.came);
            self.injected.delay.add(delay);
            *self.injected.reordered.of(kind) += u64::from(overtaken > 0);
            *self.injected.released.of(kind) += waiting.copies as u64;
            for _ in 1..waiting.copies {
                self.ready.push_back(Released { kind, bytes: waiting.bytes.clone() });
            }
            self.ready.push_back(Released { kind, bytes: waiting.bytes });
            if kind == Kind::Rtp {
                if let Some(last) = self.rtp_delay_last.replace(delay) {
                    self.injected.delay_change.add(delay.abs_diff(last));
                }
                for held in self.held.iter_mut().filter(|held| held.waiting.number < number) {
                    held.overtaken += 1;
                }
            }
            next = self
                .held
                .iter()
                .position(|held| held.overtaken >= held.waiting.overtaken_by)
                .and_then(|due| self.held.remove(due))
                .map(|held| (held.waiting, held.overtaken));
        }
    }
}

/// Which datagrams are lost.
#[derive(Debug)]
struct Loss {
    random: Random,
    /// From good to bad, in the measure of [`Random::happens`].
    enter: u64,
    /// From bad to good.
    leave: u64,
    is_bad: bool,
}

impl Loss {
    /// Independent losses are the chain whose next state does not depend on the last.
    fn new(profile: Profile, random: Random) -> Self {
        let loss = profile.loss.share();
        let (enter, leave) = match profile.burst {
            None => (loss, CERTAIN - loss),
            Some(burst) => {
                // loss = enter / (enter + leave), hence enter = leave * loss / (1 - loss).
                let leave = CERTAIN / u64::from(burst.max(1));
                let kept = (CERTAIN - loss).max(1);
                let enter = u128::from(leave) * u128::from(loss) / u128::from(kept);
                (enter as u64, leave) // enter <= leave up to the allowed half of loss
            }
        };
        Self { random, enter, leave, is_bad: false }
    }

    fn next(&mut self) -> bool {
        let moves = self.random.happens(if self.is_bad { self.leave } else { self.enter });
        self.is_bad ^= moves;
        self.is_bad
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FRAME: Duration = Duration::from_millis(20);

    fn ppm(ppm: u32) -> Probability {
        Probability::from_ppm(ppm).unwrap()
    }

    /// A path that does nothing.
    fn clear() -> Profile {
        Profile {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Probability::NEVER,
            burst: None,
            duplicate: Probability::NEVER,
            reorder: Probability::NEVER,
        }
    }

    /// Sends voice packets 0, 1, 2 .. 20 ms apart, every 100th a consent check, polling when the
    /// line asks for it; returns what came out, when, and the tally.
    fn run(profile: Profile, seed: u64, packets: u32) -> (Vec<(u32, Kind, Moment)>, Injected) {
        let mut path = Impairment::new(profile, &Random::new(seed));
        let mut out = Vec::new();
        let mut drain = |path: &mut Impairment, until: Option<Moment>| {
            while let Some(due) = path.poll_timeout() {
                if until.is_some_and(|until| due > until) {
                    break;
                }
                while let Some(released) = path.poll(due) {
                    let number = u32::from_be_bytes(released.bytes.try_into().unwrap());
                    out.push((number, released.kind, due));
                }
            }
        };
        for number in 0..packets {
            let now = at(number);
            drain(&mut path, Some(now));
            let kind = if number % 100 == 99 { Kind::Stun } else { Kind::Rtp };
            path.handle(kind, &number.to_be_bytes(), now);
        }
        drain(&mut path, None);
        assert!(path.is_empty());
        let injected = path.injected();
        (out, injected)
    }

    fn at(number: u32) -> Moment {
        Moment::ORIGIN + 1_000 * MS + FRAME * number
    }

    /// How many datagrams of a kind a receiver would find late: distinct ones behind a voice packet
    /// with a higher number.
    fn late(out: &[(u32, Kind, Moment)], kind: Kind) -> u64 {
        let mut highest = 0;
        let mut late = std::collections::BTreeSet::new();
        for &(number, its_kind, _) in out {
            if its_kind == kind && number < highest {
                late.insert(number);
            }
            if its_kind == Kind::Rtp {
                highest = highest.max(number);
            }
        }
        late.len() as u64
    }

    #[test]
    fn clear_path_passes_everything_at_once() {
        let (out, injected) = run(clear(), 1, 300);
        assert_eq!(out.len(), 300);
        assert!(out.iter().all(|&(number, _, when)| when == at(number)));
        assert_eq!(injected.released, injected.handled);
        assert_eq!(injected.delay.max, Duration::ZERO);
    }

    #[test]
    fn constant_delay_is_applied_to_the_nanosecond() {
        let (out, injected) = run(Profile { delay: 40 * MS, ..clear() }, 1, 300);
        assert!(out.iter().all(|&(number, _, when)| when == at(number) + 40 * MS));
        assert_eq!((injected.delay.min, injected.delay.max), (40 * MS, 40 * MS));
        assert_eq!(injected.delay.mean(), Some(40 * MS));
        assert_eq!(injected.delay_change.max, Duration::ZERO);
    }

    #[test]
    fn jitter_is_uniform_about_the_delay() {
        let profile = Profile { delay: 40 * MS, jitter: 8 * MS, ..clear() };
        let (_, injected) = run(profile, 1, 10_000);
        // 8 ms either way of 40 never reaches the neighbour 20 ms off, so the queue holds nobody up.
        assert!(injected.delay.min >= 32 * MS && injected.delay.min < 33 * MS);
        assert!(injected.delay.max <= 48 * MS && injected.delay.max > 47 * MS);
        // Standard error of the mean: 16 ms / sqrt(12 * 10,000) = 46 us; four of them.
        assert!(injected.delay.mean().unwrap().abs_diff(40 * MS) < MS / 5);
        // The mean difference of two uniform draws of width w is w / 3 = 16 ms / 3 = 5.333 ms.
        let change = injected.delay_change.mean().unwrap();
        assert!(change.abs_diff(Duration::from_nanos(5_333_333)) < MS / 5, "{change:?}");
    }

    #[test]
    fn wide_jitter_never_lets_a_packet_overtake() {
        let profile = Profile { delay: 300 * MS, jitter: 300 * MS, ..clear() };
        let (out, injected) = run(profile, 9, 2_000);
        assert!(out.is_sorted_by_key(|&(number, _, _)| number));
        assert!(out.is_sorted_by_key(|&(_, _, when)| when));
        assert_eq!(injected.reordered.total(), 0);
    }

    #[test]
    fn loss_is_the_share_asked_for() {
        // Four standard deviations of n = 20,000 draws: 4 * sqrt(n p (1 - p)).
        for (loss, expected, margin) in
            [(5_000, 100, 40), (20_000, 400, 79), (500_000, 10_000, 283)]
        {
            let (_, injected) = run(Profile { loss: ppm(loss), ..clear() }, 3, 20_000);
            let lost = injected.lost.total();
            assert!(lost.abs_diff(expected) <= margin, "{loss} ppm lost {lost} of 20,000");
        }
    }

    #[test]
    fn bursts_have_the_mean_length_and_keep_the_loss() {
        // Loss 8 % in bursts of 4: of 50,000 packets 4,000 are lost in 1,000 bursts. The geometric
        // length has a variance of 12, the gaps one of about 46^2: the standard deviation of the
        // loss is some 6 % of it, that of the mean length 3.5 / sqrt(1,000) = 0.11.
        let profile = Profile { loss: ppm(80_000), burst: Some(4), ..clear() };
        let (out, injected) = run(profile, 3, 50_000);
        let lost = injected.lost.total();
        assert!(lost.abs_diff(4_000) <= 720, "lost {lost}");
        let bursts = out.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 1).count();
        let length = lost as f64 / bursts as f64;
        assert!((3.5..4.5).contains(&length), "mean length {length}");
    }

    #[test]
    fn losses_without_burst_are_independent() {
        // A loss follows a loss as often as anything: p = 0.2 of 4,000 losses in 20,000, 800 +- 101
        // (four standard deviations of 25).
        let (out, injected) = run(Profile { loss: ppm(200_000), ..clear() }, 5, 20_000);
        let bursts = out.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 1).count() as u64;
        let in_a_row = injected.lost.total() - bursts;
        assert!(in_a_row.abs_diff(800) <= 101, "{in_a_row} losses followed a loss");
    }

    #[test]
    fn seed_repeats_a_run_exactly() {
        let profile = Profile {
            delay: 40 * MS,
            jitter: 12 * MS,
            loss: ppm(20_000),
            burst: None,
            duplicate: ppm(10_000),
            reorder: ppm(30_000),
        };
        let (first, second, other) =
            (run(profile, 7, 1_500), run(profile, 7, 1_500), run(profile, 8, 1_500));
        assert_eq!(first, second);
        assert_ne!(first.0, other.0);
        // Counted by a second implementation of the generator and the three rules for seed 7; at 2 %,
        // 1 % and 3 % of 1,500 one expects 30, 15 and 44.
        let injected = first.1;
        assert_eq!(
            (injected.lost.total(), injected.duplicated.total(), injected.reordered.total()),
            (38, 9, 32)
        );
    }

    #[test]
    fn same_seed_loses_the_same_packets_whatever_else_is_asked_for() {
        let plain = Profile { loss: ppm(50_000), ..clear() };
        let busy = Profile {
            delay: 100 * MS,
            jitter: 50 * MS,
            duplicate: ppm(100_000),
            reorder: ppm(100_000),
            ..plain
        };
        let survivors = |profile| {
            let mut numbers: Vec<u32> = run(profile, 4, 1_000).0.iter().map(|out| out.0).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        assert_eq!(survivors(plain), survivors(busy));
    }

    #[test]
    fn duplicate_follows_its_original_at_once() {
        let (out, injected) = run(Profile { duplicate: ppm(1_000_000), ..clear() }, 1, 100);
        assert_eq!(injected.duplicated.total(), 100);
        assert_eq!(injected.reordered.total(), 0);
        assert!(out.chunks(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn reordered_count_is_what_a_receiver_finds_late() {
        let profile = Profile { delay: 40 * MS, jitter: 12 * MS, reorder: ppm(50_000), ..clear() };
        let (out, injected) = run(profile, 2, 4_000);
        assert_eq!(injected.reordered.rtp, late(&out, Kind::Rtp));
        assert_eq!(injected.reordered.stun, late(&out, Kind::Stun));
        // 5 % of 4,000 within four standard deviations of 13.8.
        assert!(injected.reordered.total().abs_diff(200) <= 56);
    }

    #[test]
    fn held_packet_leaves_on_its_own_when_the_voice_ends() {
        let profile = Profile { reorder: ppm(1_000_000), ..clear() };
        let (out, injected) = run(profile, 2, 1);
        assert_eq!(out, [(0, Kind::Rtp, at(0) + HELD_MAX)]);
        assert_eq!(injected.reordered.total(), 0, "nothing overtook it");
    }

    #[test]
    fn losses_at_the_edges_are_told_apart() {
        // A chain that never moves by itself: of six losses two come first and three last.
        let mut path = Impairment::new(clear(), &Random::new(1));
        (path.loss.enter, path.loss.leave) = (0, 0);
        for is_bad in [true, true, false, true, false, true, true, true] {
            path.loss.is_bad = is_bad;
            path.handle(Kind::Rtp, b"rtp", at(0));
        }
        let injected = path.injected();
        assert_eq!((injected.lost.rtp, injected.rtp_lost_unseen), (6, 5));
    }

    #[test]
    fn full_line_drops_the_newest_and_counts_it() {
        let mut path = Impairment::new(Profile { delay: 40 * MS, ..clear() }, &Random::new(1));
        for _ in 0..LINE_MAX + 3 {
            path.handle(Kind::Stun, b"check", at(0));
        }
        assert_eq!(path.injected().overflowed.stun, 3);
        assert_eq!(path.len(), LINE_MAX);
    }

    fn profiles() -> impl Strategy<Value = Profile> {
        let share = || (0..=500_000u32).prop_map(ppm);
        let burst = proptest::option::of(1..=20u32);
        (0..=200u32, 0..=200u32, share(), burst, share(), share()).prop_map(
            |(delay, jitter, loss, burst, duplicate, reorder)| Profile {
                delay: delay.max(jitter) * MS,
                jitter: jitter * MS,
                loss,
                burst,
                duplicate,
                reorder,
            },
        )
    }

    proptest! {
        #[test]
        fn every_datagram_is_accounted_for(profile in profiles(), seed: u64, packets in 0..400u32) {
            let (out, injected) = run(profile, seed, packets);
            let mut copies = BTreeMap::new();
            for (number, _, _) in &out {
                *copies.entry(*number).or_insert(0u64) += 1;
            }
            prop_assert_eq!(injected.handled.total(), u64::from(packets));
            prop_assert_eq!(injected.overflowed.total(), 0);
            for (handled, lost, duplicated, released, kind) in [
                (injected.handled.rtp, injected.lost.rtp, injected.duplicated.rtp,
                    injected.released.rtp, Kind::Rtp),
                (injected.handled.stun, injected.lost.stun, injected.duplicated.stun,
                    injected.released.stun, Kind::Stun),
            ] {
                prop_assert_eq!(handled + duplicated, released + lost);
                let seen = out.iter().filter(|out| out.1 == kind).count() as u64;
                prop_assert_eq!(released, seen);
            }
            prop_assert_eq!(copies.len() as u64, injected.handled.total() - injected.lost.total());
            prop_assert_eq!(copies.values().filter(|&&copies| copies == 2).count() as u64,
                injected.duplicated.total());
            prop_assert_eq!(injected.delay.count, copies.len() as u64);
        }

        #[test]
        fn order_breaks_only_as_counted(profile in profiles(), seed: u64, packets in 0..400u32) {
            let (out, injected) = run(profile, seed, packets);
            prop_assert_eq!(injected.reordered.rtp, late(&out, Kind::Rtp));
            prop_assert_eq!(injected.reordered.stun, late(&out, Kind::Stun));
            let in_order = Profile { reorder: Probability::NEVER, ..profile };
            let (out, _) = run(in_order, seed, packets);
            prop_assert!(out.is_sorted_by_key(|&(number, _, _)| number));
        }

        #[test]
        fn receiver_sees_every_loss_but_those_at_the_edges(
            profile in profiles(), seed: u64, packets in 0..400u32,
        ) {
            let (out, injected) = run(profile, seed, packets);
            let voice = |number: &u32| number % 100 != 99;
            let seen: Vec<u32> = out.iter().map(|out| out.0).filter(voice).collect();
            let (Some(&first), Some(&last)) = (seen.iter().min(), seen.iter().max()) else {
                prop_assert_eq!(injected.lost.rtp, injected.rtp_lost_unseen);
                return Ok(());
            };
            let expected = (first..=last).filter(voice).count() as u64;
            let received = injected.handled.rtp - injected.lost.rtp;
            prop_assert_eq!(expected - received, injected.lost.rtp - injected.rtp_lost_unseen);
        }

        #[test]
        fn delay_stays_within_what_was_asked(profile in profiles(), seed: u64) {
            let calm = Profile { reorder: Probability::NEVER, ..profile };
            let (_, injected) = run(calm, seed, 200);
            if injected.delay.count > 0 {
                prop_assert!(injected.delay.min >= calm.delay - calm.jitter);
                // The queue holds nobody longer than the one before it was drawn: same bound.
                prop_assert!(injected.delay.max <= calm.delay + calm.jitter);
            }
        }
    }
}
