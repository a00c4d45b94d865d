//! When the observer sleeps and wakes: arithmetic without clocks.

use std::time::Duration;

use crate::clock::Moment;

/// A deadline is acted on this much later than packets lie in the ring, so that no packet of an interval comes after
/// its end.
const SETTLE: Duration = Duration::from_millis(50);
/// How long to wait before a tap that broke is opened again, at first and at most.
const REOPEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// How far behind the present the observer acts on deadlines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    hold: Duration,
}

impl Pace {
    /// For a ring whose blocks wait for `block_timeout` at most.
    pub(super) fn new(block_timeout: Duration) -> Self {
        Self { hold: block_timeout + SETTLE }
    }

    /// How long after its arrival a packet has surely been handed over.
    pub(super) fn hold(self) -> Duration {
        self.hold
    }

    /// The moment up to which all packets have been handed over at `now`.
    pub(super) fn settled(self, now: Moment) -> Moment {
        now - self.hold
    }

    /// How long to sleep for a deadline; `None` for ever, zero where it can be acted on.
    pub(super) fn sleep(self, due: Option<Moment>, now: Moment) -> Option<Duration> {
        due.map(|due| (due + self.hold).since(now))
    }
}

/// The pauses before the attempts to open a tap again.
#[derive(Debug)]
pub(super) struct Reopening {
    next: Duration,
}

impl Reopening {
    pub(super) fn new() -> Self {
        Self { next: REOPEN[0] }
    }

    /// The pause before the next attempt; one machine alone waits here, so that chance would serve nobody.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(REOPEN[1]);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Moment {
        Moment::from_nanos(at * 1_000_000)
    }

    #[test]
    fn deadline_is_acted_on_when_its_packets_have_come_out_of_the_ring() {
        let pace = Pace::new(Duration::from_millis(250));
        // Due at 10,000 ms; its last packets are out at 10,000 + 250 + 50.
        assert_eq!(pace.sleep(Some(ms(10_000)), ms(9_000)), Some(Duration::from_millis(1_300)));
        assert_eq!(pace.sleep(Some(ms(10_000)), ms(10_300)), Some(Duration::ZERO));
        assert_eq!(pace.settled(ms(10_299)), ms(9_999));
        assert_eq!(pace.settled(ms(10_300)), ms(10_000));
    }

    #[test]
    fn without_a_deadline_it_sleeps_until_packets_come() {
        assert_eq!(Pace::new(Duration::from_millis(250)).sleep(None, ms(1)), None);
    }

    #[test]
    fn machine_that_has_just_booted_has_nothing_settled() {
        assert_eq!(Pace::new(Duration::from_millis(250)).settled(ms(200)), Moment::ORIGIN);
    }

    #[test]
    fn pauses_double_from_a_second_to_half_a_minute() {
        let mut reopening = Reopening::new();
        let pauses: Vec<_> = (0..7).map(|_| reopening.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }
}
