//! What is known of a device, and what each signal does to it.

use std::time::Duration;

use roomtone_protocol::device::DeviceCause;
use serde::{Deserialize, Serialize};

use super::{Blindness, Function, OpenFailure, PcmState, SelfTestOutcome};
use crate::audio::attempt::Attempt;
use crate::audio::carry::{nanos, nanos_option};
use crate::audio::course::{Course, Format};
use crate::audio::floor::Floor;
use crate::clock::Moment;

/// All that is known of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) is_present: bool,
    /// When it was removed while the call used it.
    #[serde(with = "nanos_option")]
    pub(super) missed_at: Option<Moment>,
    /// It was removed in use and has not been healthy for long enough since: the call still waits for it.
    pub(super) is_wanted: bool,
    pub(super) course: Option<Course>,
    /// The opens that have brought nothing so far.
    pub(super) attempt: Option<Attempt>,
    #[serde(with = "nanos_option")]
    pub(super) closed_at: Option<Moment>,
    pub(super) is_muted: bool,
    pub(super) is_volume_zero: bool,
    pub(super) floor: Floor,
    #[serde(with = "nanos_option")]
    pub(super) server_lost_at: Option<Moment>,
    #[serde(with = "nanos_option")]
    pub(super) misrouted_at: Option<Moment>,
    /// What our own use of it ended with.
    pub(super) asked: Option<Asked>,
    pub(super) is_busy: bool,
    /// The process that opened it last is not ours.
    pub(super) is_foreign: bool,
    pub(super) blindness: Option<Blindness>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) cause: DeviceCause,
    #[serde(with = "nanos")]
    pub(super) onset: Moment,
}

/// What signals do to the evidence.
impl Function {
    pub(super) fn note_present(&mut self) {
        let evidence = &mut self.evidence;
        evidence.blindness = None;
        evidence.is_present = true;
        evidence.missed_at = None;
    }

    pub(super) fn note_removed(&mut self, now: Moment) {
        let was_held = self.is_held(now);
        let evidence = &mut self.evidence;
        evidence.blindness = None;
        if !evidence.is_present {
            return;
        }
        let is_in_use = self.in_call || evidence.is_foreign;
        if is_in_use && (was_held || evidence.is_wanted) {
            evidence.missed_at = Some(now);
            evidence.is_wanted = true;
        }
        evidence.is_present = false;
        evidence.course = None;
        evidence.attempt = None;
        evidence.closed_at = None;
        evidence.asked = None;
        evidence.is_busy = false;
        // Mutes belong to what left; what comes back announces its own.
        evidence.is_muted = false;
        evidence.is_volume_zero = false;
        evidence.floor.handle_removed();
    }

    pub(super) fn note_opened(&mut self, format: Format, now: Moment) {
        self.note_present();
        let evidence = &mut self.evidence;
        evidence.is_busy = false;
        evidence.is_foreign = format.owner_pid != Some(self.options.own_pid);
        evidence.forgive();
        if evidence.course.as_mut().is_some_and(|course| course.agree_on(format)) {
            self.tally.is_used |= self.in_call;
            return;
        }
        if evidence.course.is_none_or(|course| course.format() != format) {
            // A stream that was opened anew unseen was closed now, as far as anybody can tell.
            let thresholds = &self.options.thresholds;
            evidence.end_course(now);
            evidence.attempt = Some(match evidence.attempt {
                Some(attempt) => attempt.reopened(thresholds, now),
                None => Attempt::open(now),
            });
            evidence.course = Some(Course::new(format, now));
            evidence.floor.handle_closed();
        }
        self.tally.is_used |= self.in_call;
    }

    pub(super) fn note_progress(&mut self, pcm_state: PcmState, hw_ptr_frames: u64, now: Moment) {
        let thresholds = &self.options.thresholds;
        let evidence = &mut self.evidence;
        // A reading from before the removal may come behind its announcement.
        if !evidence.is_present {
            return;
        }
        evidence.blindness = None;
        let course = evidence.course.get_or_insert_with(|| Course::new(Format::default(), now));
        let step = course.handle_poll(pcm_state, hw_ptr_frames, now);
        let (is_running, is_at_rest) = (course.is_running(), course.is_at_rest());
        let rests_long = is_at_rest && course.age(now) >= thresholds.retry_gap;
        if step.is_progress {
            evidence.server_lost_at = None;
            evidence.forgive();
        }
        if step.is_progress || rests_long {
            evidence.attempt = None;
        } else if !is_at_rest && let Some(attempt) = &mut evidence.attempt {
            attempt.note_barren(is_running, now);
        }
        self.tally.is_used |= self.in_call;
        if step.is_xrun {
            self.note_glitch();
        }
    }

    pub(super) fn note_glitch(&mut self) {
        self.tally.glitches = self.tally.glitches.saturating_add(u32::from(self.in_call));
    }

    pub(super) fn note_closed(&mut self, now: Moment) {
        let evidence = &mut self.evidence;
        evidence.blindness = None;
        evidence.is_busy = false;
        if evidence.course.is_some() {
            evidence.end_course(now);
            evidence.course = None;
            evidence.closed_at = Some(now);
            evidence.floor.handle_closed();
        }
    }

    /// An open that was over before anybody could look brought nothing.
    pub(super) fn note_tried(&mut self, now: Moment) {
        if self.evidence.course.is_some() {
            return;
        }
        self.note_present();
        let mut attempt = match self.evidence.attempt {
            Some(attempt) => attempt.reopened(&self.options.thresholds, now),
            None => Attempt::open(now),
        };
        attempt.note_closed(Duration::ZERO, now);
        self.evidence.attempt = Some(attempt);
        self.evidence.is_foreign = true;
    }

    pub(super) fn note_open_failed(&mut self, failure: OpenFailure, onset: Moment) {
        let is_held = self.evidence.course.is_some();
        match failure {
            OpenFailure::Busy => self.evidence.is_busy = true,
            OpenFailure::NoPermission if !is_held => {
                self.evidence.blindness = Some(Blindness::NoPermission);
            }
            OpenFailure::NoPermission | OpenFailure::Unsupported => {}
            OpenFailure::Fault => self.note_asked(DeviceCause::OpenFailed, onset),
        }
    }

    /// In a call the program that holds the device is the one that matters: our own failure beside it is ours.
    pub(super) fn note_asked(&mut self, cause: DeviceCause, onset: Moment) {
        if self.in_call && self.evidence.course.is_some() {
            return;
        }
        self.evidence.asked.get_or_insert(Asked { cause, onset });
    }

    pub(super) fn note_self_test(&mut self, outcome: SelfTestOutcome, now: Moment) {
        if self.in_call {
            return;
        }
        self.evidence.asked = match outcome {
            SelfTestOutcome::Passed => None,
            SelfTestOutcome::Failed => {
                Some(Asked { cause: DeviceCause::SelfTestFailed, onset: now })
            }
        };
    }

    /// Held, or so shortly closed that its program may have seen first what we see now.
    pub(super) fn is_held(&self, now: Moment) -> bool {
        let grace = self.options.thresholds.held_grace;
        let closed = self.evidence.closed_at.is_some_and(|at| now.since(at) <= grace);
        self.evidence.course.is_some() || closed
    }

    /// Until when a device is missed that was removed while another process used it; in a call that is its end.
    pub(super) fn missed_until(&self) -> Option<Moment> {
        let missed_at = self.evidence.missed_at.filter(|_| !self.in_call);
        missed_at.map(|at| at + self.options.thresholds.use_idle)
    }

    /// Another process uses it, or tries to.
    pub(super) fn is_in_foreign_use(&self, now: Moment) -> bool {
        let is_tried = self.evidence.course.is_some() || self.attempt(now).is_some();
        self.evidence.is_foreign && is_tried
    }

    pub(super) fn polled_at(&self) -> Option<Moment> {
        self.evidence.course.map(|course| course.observed_at())
    }
}

impl Evidence {
    /// The open stream ended: what comes next may be a try to get it back.
    fn end_course(&mut self, now: Moment) {
        let Some(course) = self.course else {
            return;
        };
        if course.has_progressed() {
            // Who ended a healthy stream has no failed one to get back.
            let lost = course.had_stopped().then(|| Attempt::after(course.moved_at(), now));
            self.attempt = lost;
        } else if let Some(attempt) = &mut self.attempt {
            attempt.note_closed(course.age(now), now);
        }
    }

    /// It opened, or moved: what ended our own use of it is over. A failed self-test had found it open and moving.
    pub(super) fn forgive(&mut self) {
        self.asked = self.asked.filter(|asked| asked.cause == DeviceCause::SelfTestFailed);
    }
}
