//! A program's attempt to get a working stream, across all the opens that it takes.
//!
//! A program whose device fails closes it and opens it again: a blocking read ends with EIO after the length of the
//! buffer, a hung control request after 5 s, a refused one at once. Each open by itself looks like a short use. Opens
//! in a row without one frame, none longer than [`Thresholds::retry_gap`] after the last, are one attempt, which ends
//! with the first progress or when nobody tries any more.
//!
//! Until then nothing since its beginning is certain. What it leaves out: an open that fails once and is not repeated
//! looks like a program that asked what the device can do.

use std::time::Duration;

use roomtone_protocol::device::DeviceCause;
use serde::{Deserialize, Serialize};

use super::carry::{nanos, nanos_option, span};
use super::constants::{BARREN_MIN, SHORT_OPEN, SHORT_OPENS_MIN, Thresholds};
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
    /// Between two polls of one open both of which found nothing, in sum.
    #[serde(with = "span")]
    barren: Duration,
    /// The last poll, if it found nothing and the device is open since.
    #[serde(with = "nanos_option")]
    barren_at: Option<Moment>,
    /// Opens that were over before anything could come of them.
    short_opens: u8,
    /// Opens that lasted, and brought nothing.
    failed_opens: u8,
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
            barren: Duration::ZERO,
            barren_at: None,
            short_opens: 0,
            failed_opens: 0,
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
    pub fn note_barren(&mut self, is_running: bool, now: Moment) {
        self.was_started |= is_running;
        let since = self.barren_at.replace(now).unwrap_or(now);
        self.barren = self.barren.saturating_add(now.since(since));
    }

    /// The device was closed, `lasted` after it was opened.
    pub fn note_closed(&mut self, lasted: Duration, now: Moment) {
        self.closed_at = Some(now);
        let has_failed = self.barren_at.take().is_some();
        // What plays or records for a moment is open for longer.
        if lasted < SHORT_OPEN {
            self.short_opens = self.short_opens.saturating_add(1);
        } else if has_failed {
            self.failed_opens = self.failed_opens.saturating_add(1);
        }
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
        // Clicks that a program plays one by one are opens without visible progress too.
        let is_proven = self.barren >= BARREN_MIN || self.short_opens >= SHORT_OPENS_MIN;
        // A slow start is one open. Who had a stream that moved, and opened it again twice for nothing, has lost it.
        let is_lost = cause == DeviceCause::Stalled && self.failed_opens >= 2;
        let is_due = is_lost || seen_until.since(self.opened_at) >= thresholds.never_started;
        (is_proven && is_due).then_some((cause, onset, seen_until))
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
            attempt.note_barren(true, ms(at));
            attempt.note_barren(true, ms(at + 250));
            attempt.note_closed(Duration::from_millis(400), ms(at + 400));
        }
        attempt
    }

    /// Two opens that brought nothing end at 1.9 s and 2.5 s.
    #[test]
    fn opens_in_a_row_are_one_stall_since_the_last_progress() {
        let limits = Thresholds::default();
        assert_eq!(flapping(1_600).judge(None, &limits, ms(1_950)), None);
        let fault = (DeviceCause::Stalled, ms(900), ms(2_500));
        assert_eq!(flapping(2_200).judge(None, &limits, ms(2_550)), Some(fault));
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
        let refused = Attempt { closed_at: Some(ms(5_600)), barren: BARREN_MIN, ..attempt };
        let fault = (DeviceCause::OpenFailed, ms(2_500), ms(5_600));
        assert_eq!(refused.judge(None, &limits, ms(5_600)), Some(fault));
    }
}
