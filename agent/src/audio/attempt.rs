//! A program's attempt to get a working stream, across all the opens that it takes.
//!
//! A program whose device fails closes it and opens it again: a blocking read ends with EIO after the length of the
//! buffer, a hung control request after 5 s, a refused one at once. Each open by itself looks like a short use. Opens
//! in a row without one frame, none longer than [`Thresholds::retry_gap`] after the last, are one attempt, which ends
//! with the first progress or when nobody tries any more.
//!
//! Until then nothing since its beginning is certain. What it leaves out: an open that fails once and is not repeated
//! looks like a program that asked what the device can do.

use roomtone_protocol::device::DeviceCause;
use serde::{Deserialize, Serialize};

use super::carry::{nanos, nanos_option};
use super::constants::{BARREN_POLLS_MIN, Thresholds};
use super::course::Course;
use crate::clock::Moment;

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The last progress of the stream before, where the program closed it shortly before the first open.
    #[serde(with = "nanos_option")]
    moved_at: Option<Moment>,
    /// The first open that brought nothing; until there is one, the end of the stream before.
    #[serde(with = "nanos")]
    opened_at: Moment,
    /// When the device was closed, if it is.
    #[serde(with = "nanos_option")]
    closed_at: Option<Moment>,
    /// A stream ran, and brought nothing.
    was_started: bool,
    /// Polls that found nothing, since the first open that brought nothing.
    barren_polls: u8,
}

impl Attempt {
    /// Begins with an open.
    #[must_use]
    pub fn open(now: Moment) -> Self {
        Self {
            moved_at: None,
            opened_at: now,
            closed_at: None,
            was_started: false,
            barren_polls: 0,
        }
    }

    /// A stream ended now that had moved last at `moved_at`: what is opened next may be a try to get it back.
    #[must_use]
    pub fn after(moved_at: Moment, now: Moment) -> Self {
        Self { moved_at: Some(moved_at), closed_at: Some(now), ..Self::open(now) }
    }

    /// The device was opened again: the same attempt, or a new one.
    #[must_use]
    pub fn reopened(self, thresholds: &Thresholds, now: Moment) -> Self {
        if self.is_over(thresholds, now) {
            return Self::open(now);
        }
        // The open that follows a stream which moved is the first that may bring nothing.
        let is_first = self.moved_at.is_some() && self.closed_at == Some(self.opened_at);
        let opened_at = if is_first { now } else { self.opened_at };
        Self { opened_at, closed_at: None, ..self }
    }

    /// A poll found no progress, in a stream that runs or is not ready.
    pub fn note_barren(&mut self, is_running: bool) {
        self.was_started |= is_running;
        self.barren_polls = self.barren_polls.saturating_add(1);
    }

    /// The device was closed.
    pub fn note_closed(&mut self, now: Moment) {
        self.closed_at = Some(now);
    }

    /// Nobody tries any more.
    #[must_use]
    pub fn is_over(&self, thresholds: &Thresholds, now: Moment) -> bool {
        self.ends_at(thresholds).is_some_and(|at| now >= at)
    }

    /// When it is over unless somebody opens the device before.
    #[must_use]
    pub fn ends_at(&self, thresholds: &Thresholds) -> Option<Moment> {
        self.closed_at.map(|at| at + thresholds.retry_gap)
    }

    /// Until when something is certain.
    #[must_use]
    pub fn certain_until(&self) -> Moment {
        self.moved_at.unwrap_or(self.opened_at)
    }

    /// The fault that it shows: cause, onset, and until when it is seen.
    #[must_use]
    pub fn judge(
        &self,
        course: Option<&Course>,
        thresholds: &Thresholds,
        now: Moment,
    ) -> Option<(DeviceCause, Moment, Moment)> {
        if self.is_over(thresholds, now) || course.is_some_and(Course::is_at_rest) {
            return None;
        }
        // A stream that runs without progress from its own start is judged by its course.
        let seen_until = course.map_or(self.closed_at, |course| Some(course.observed_at()))?;
        let (cause, onset) = match (self.was_started, self.moved_at) {
            (true, Some(moved_at)) => (DeviceCause::Stalled, moved_at),
            (true, None) => (DeviceCause::NeverStarted, self.opened_at),
            (false, _) => (DeviceCause::OpenFailed, self.opened_at),
        };
        let is_proven = self.barren_polls >= BARREN_POLLS_MIN
            && seen_until.since(self.opened_at) >= thresholds.never_started;
        is_proven.then_some((cause, onset, seen_until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    /// Opens of 400 ms, 200 ms apart, after a stream that moved last at 900 ms and was closed at 1,300 ms.
    fn flapping(until: u64) -> Attempt {
        let limits = Thresholds::default();
        let mut attempt = Attempt::after(ms(900), ms(1_300));
        for at in (1_500..until).step_by(600) {
            attempt = attempt.reopened(&limits, ms(at));
            attempt.note_barren(true);
            attempt.note_closed(ms(at + 400));
        }
        attempt
    }

    /// The first open that brought nothing began at 1.5 s; the one that ended at 4.9 s is the first beyond 3 s of it.
    #[test]
    fn opens_in_a_row_are_one_stall_since_the_last_progress() {
        let limits = Thresholds::default();
        let before = flapping(3_900);
        assert_eq!(before.judge(None, &limits, ms(4_400)), None);
        let fault = (DeviceCause::Stalled, ms(900), ms(4_900));
        assert_eq!(flapping(4_600).judge(None, &limits, ms(4_950)), Some(fault));
    }

    #[test]
    fn attempt_ends_when_nobody_tries_any_more() {
        let limits = Thresholds::default();
        let attempt = flapping(6_400);
        assert!(attempt.judge(None, &limits, ms(6_800)).is_some());
        assert_eq!(attempt.ends_at(&limits), Some(ms(8_700)));
        assert_eq!(attempt.judge(None, &limits, ms(8_700)), None);
        assert_eq!(attempt.reopened(&limits, ms(8_700)), Attempt::open(ms(8_700)));
    }

    #[test]
    fn healthy_stream_that_is_opened_anew_counts_from_that_open() {
        let limits = Thresholds::default();
        let attempt = Attempt::after(ms(900), ms(1_000)).reopened(&limits, ms(2_500));
        assert_eq!(attempt.certain_until(), ms(900));
        let closed_at = Some(ms(5_600));
        let refused = Attempt { closed_at, barren_polls: BARREN_POLLS_MIN, ..attempt };
        let fault = (DeviceCause::OpenFailed, ms(2_500), ms(5_600));
        assert_eq!(refused.judge(None, &limits, ms(5_600)), Some(fault));
    }
}
