//! From the kernel's packet stamps to moments, across steps of the wall clock.
//!
//! The kernel stamps packets in wall time only. While that clock runs or is slewed, the offset read with each batch
//! of packets is exact enough. When it is stepped, a batch may hold packets from before and from behind the step, and
//! one offset would throw some of them by the whole step: an hour, and a call would seem to have ended. What is known
//! instead: packets lie in the ring in order, none is older than the ring's hold, none is newer than now.
//!
//! Limits: a step below [`STEP_MIN`] passes as it is, and so does one as small as a gap between packets.

use std::time::Duration;

use super::{Moment, WallOffset};

/// What no slewing reaches between two batches: chrony's 8.3 % makes 50 ms in 600 ms. Steps begin above: ntpd steps
/// from 128 ms on, systemd-timesyncd from 400 ms on.
const STEP_MIN: Duration = Duration::from_millis(100);
/// Two processors may stamp and queue neighbouring packets in different order, and packets go on coming while a batch
/// is read.
const TOLERANCE: Duration = Duration::from_millis(1);

/// Turns the stamps of one capture into moments.
#[derive(Debug)]
pub struct PacketClock {
    offset: WallOffset,
    /// How old a packet may be when it is read, twice: the reader may be late by as much.
    reach: Duration,
    now: Moment,
    /// The latest moment given out.
    latest: Moment,
    step: Option<Step>,
}

/// A step of the wall clock that packets may still straddle.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The offset before it, until the first packet from behind it was seen.
    before: Option<WallOffset>,
    over: Moment,
}

impl PacketClock {
    /// Begins with both clocks as they stand; `hold` is how long the ring keeps a packet at most.
    #[must_use]
    pub fn new(offset: WallOffset, now: Moment, hold: Duration) -> Self {
        Self { offset, reach: hold * 2, now, latest: Moment::ORIGIN, step: None }
    }

    /// Takes both clocks as read just before a batch of packets is; returns by how much the wall clock was stepped
    /// since the last batch, if it was.
    pub fn handle_reading(&mut self, offset: WallOffset, now: Moment) -> Option<Duration> {
        let moved = offset.distance(self.offset);
        let stepped = moved >= STEP_MIN;
        if stepped {
            // In silence there is no neighbour to tell the two sides by: all that comes lies behind the step.
            let silent = now.since(self.latest) > self.reach;
            let before = (!silent).then_some(self.offset);
            self.step = Some(Step { before, over: now + self.reach });
        } else if self.step.is_some_and(|step| now >= step.over) {
            self.step = None;
        }
        (self.offset, self.now) = (offset, now);
        stepped.then_some(moved)
    }

    /// The moment of a packet, in the order of the ring; `wall_nanos` is the kernel's stamp, since 1970.
    #[must_use]
    pub fn moment(&mut self, wall_nanos: u64) -> Moment {
        let after = self.offset.moment(wall_nanos);
        let at = match &mut self.step {
            None => after,
            Some(step) => {
                let floor = (self.now - self.reach).max(self.latest - TOLERANCE);
                let ceiling = floor.max(self.now + TOLERANCE);
                let fits = |at: &Moment| (floor..=ceiling).contains(at);
                let before = step.before.map(|offset| offset.moment(wall_nanos)).filter(fits);
                match (before, Some(after).filter(fits)) {
                    // Where both fit, the nearer to its predecessor: media has no gap as long as a step.
                    (Some(before), Some(after)) if before <= after => before,
                    (Some(before), None) => before,
                    (_, Some(after)) => {
                        step.before = None;
                        after
                    }
                    (None, None) => after.clamp(floor, ceiling),
                }
            }
        };
        self.latest = self.latest.max(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(300);
    const HOUR: i64 = 3_600_000;
    /// 2026-01-01, in milliseconds.
    const WALL: i64 = 1_767_225_600_000;

    fn ms(at: i64) -> Moment {
        Moment::from_nanos(at as u64 * 1_000_000)
    }

    /// The wall clock is `WALL + ms` at the origin of moments.
    fn offset(shift: i64) -> WallOffset {
        WallOffset::from_readings((WALL + shift) as u64 * 1_000_000, Moment::ORIGIN)
    }

    /// Reads a packet every 20 ms in batches of 250 ms, the wall clock being stepped by `step` at `at`; returns the
    /// largest error in ms.
    fn largest_error(step: i64, at: i64) -> i64 {
        let mut clock = PacketClock::new(offset(0), ms(10_000), HOLD);
        let mut largest = 0;
        let mut sent = 10_000;
        for read in (10_250..13_000).step_by(250) {
            let shift = |moment: i64| if moment >= at { step } else { 0 };
            clock.handle_reading(offset(shift(read)), ms(read));
            // The block that is being filled, here the last 60 ms, is kept back for the next batch.
            while sent < read - 60 {
                let stamp = (WALL + shift(sent) + sent) as u64 * 1_000_000;
                let found = clock.moment(stamp).as_nanos() as i64 / 1_000_000;
                largest = largest.max((found - sent).abs());
                sent += 20;
            }
        }
        largest
    }

    #[test]
    fn packets_on_both_sides_of_a_step_keep_their_moments() {
        for step in [HOUR, -HOUR, 10_000, -10_000, 400, -400, 128, -128, 20 * 365 * 24 * HOUR] {
            for at in 11_000..11_300 {
                assert_eq!(largest_error(step, at), 0, "step of {step} ms at {at}");
            }
        }
    }

    #[test]
    fn slewing_and_small_corrections_are_not_steps() {
        let mut clock = PacketClock::new(offset(0), ms(10_000), HOLD);
        assert_eq!(clock.handle_reading(offset(50), ms(10_250)), None);
        assert_eq!(clock.handle_reading(offset(0), ms(10_500)), None);
        assert_eq!(
            clock.handle_reading(offset(-150), ms(10_750)),
            Some(Duration::from_millis(150))
        );
    }

    #[test]
    fn step_in_silence_does_not_move_the_first_packets_of_a_call() {
        for step in [200, -200, HOUR, -HOUR] {
            let mut clock = PacketClock::new(offset(0), ms(10_000), HOLD);
            clock.handle_reading(offset(step), ms(HOUR));
            for sent in [HOUR - 200, HOUR - 180, HOUR - 160] {
                let found = clock.moment((WALL + step + sent) as u64 * 1_000_000);
                assert_eq!(found, ms(sent), "step of {step} ms");
            }
        }
    }

    #[test]
    fn packet_that_fits_neither_side_is_kept_within_the_batch() {
        let mut clock = PacketClock::new(offset(0), ms(10_000), HOLD);
        clock.handle_reading(offset(0), ms(10_250));
        assert_eq!(clock.moment((WALL + 10_200) as u64 * 1_000_000), ms(10_200));
        clock.handle_reading(offset(HOUR), ms(10_500));
        // Stamped half an hour ahead, between two steps; both readings put it far off.
        let found = clock.moment((WALL + HOUR / 2 + 10_400) as u64 * 1_000_000);
        assert_eq!(found, ms(10_199), "its predecessor less the tolerance");
    }

    #[test]
    fn late_reader_without_a_step_changes_nothing() {
        let mut clock = PacketClock::new(offset(0), ms(10_000), HOLD);
        clock.handle_reading(offset(0), ms(15_000));
        // Five seconds old: the machine was busy, and the stamp is still right.
        assert_eq!(clock.moment((WALL + 10_020) as u64 * 1_000_000), ms(10_020));
    }
}
