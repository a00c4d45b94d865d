//! The course of one opening of a device, from polls of its status: does it move?
//!
//! Only what was read counts. A poll that comes late proves nothing by being late: a position that changed is
//! progress, however long ago it was read last, and a position that did not change in a running stream is none.
//! Positions are compared for being different, never for being greater, because a stream that is prepared anew starts
//! over. A restart of a stuck stream thus looks like one step of progress and delays its stall by one limit; the time
//! is not lost, since the new stall is dated back to that step. What it leaves out: a stream that moves too slowly.

use std::time::Duration;

use roomtone_protocol::device::DeviceCause;
use serde::{Deserialize, Serialize};

use super::carry::{nanos, nanos_option};
use super::constants::{STUCK_POLLS_MIN, Thresholds};
use super::signal::PcmState;
use crate::clock::Moment;

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    format: Format,
    pcm_state: Option<PcmState>,
    hw_ptr_frames: Option<u64>,
    has_progressed: bool,
    /// It got beyond its parameters: prepared, or further.
    was_ready: bool,
    #[serde(with = "nanos")]
    opened_at: Moment,
    /// The last progress; before the first one, the start.
    #[serde(with = "nanos")]
    moved_at: Moment,
    /// The last poll, or the opening.
    #[serde(with = "nanos")]
    observed_at: Moment,
    stuck_polls: u8,
    /// The last poll found less than half of the frames that its time had room for.
    is_behind: bool,
    /// The first sign of a sleep since the last progress.
    #[serde(with = "nanos_option")]
    slept_at: Option<Moment>,
}

/// What a stream was opened with, and by whom; zeros where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Format {
    /// Frames per second.
    pub rate_hz: u32,
    /// Frames between two interrupts.
    pub period_frames: u32,
    /// Frames in the ring.
    pub buffer_frames: u32,
    /// Who holds it.
    pub owner_pid: Option<u32>,
}

/// What a poll showed beside the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The position changed while the stream ran.
    pub is_progress: bool,
    /// The stream fell into an overrun or underrun since the last poll.
    pub is_xrun: bool,
}

/// What the polls amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Held, and not meant to move.
    Idle,
    /// Started, and not yet due to move.
    Starting,
    /// It moves, or was not yet stuck for long.
    Moving,
    /// It is meant to move and did not since `onset`.
    Stuck {
        /// Why.
        cause: DeviceCause,
        /// The last progress, or the start.
        onset: Moment,
    },
}

impl Course {
    /// Begins with the opening.
    #[must_use]
    pub fn new(format: Format, now: Moment) -> Self {
        Self {
            format,
            pcm_state: None,
            hw_ptr_frames: None,
            has_progressed: false,
            was_ready: false,
            opened_at: now,
            moved_at: now,
            observed_at: now,
            stuck_polls: 0,
            is_behind: false,
            slept_at: None,
        }
    }

    /// Takes the format that the owner of this open has agreed on meanwhile; false where it is another open.
    pub fn agree_on(&mut self, format: Format) -> bool {
        let is_open_still = self.format.rate_hz == 0 && self.format.owner_pid == format.owner_pid;
        if is_open_still {
            self.format = format;
        }
        is_open_still
    }

    /// Takes one poll.
    pub fn handle_poll(&mut self, pcm_state: PcmState, hw_ptr_frames: u64, now: Moment) -> Step {
        let was_running = self.pcm_state.is_some_and(is_running);
        let is_xrun = pcm_state == PcmState::Xrun && self.pcm_state != Some(PcmState::Xrun);
        let has_moved = match self.hw_ptr_frames {
            Some(before) => before != hw_ptr_frames,
            None => hw_ptr_frames != 0,
        };
        // A position that fell to 0 in a stream that does not run was set back by its program.
        let is_set_back = hw_ptr_frames == 0 && !is_running(pcm_state);
        let is_progress = has_moved && !is_set_back && (was_running || is_running(pcm_state));
        // Where a sleep stopped it, what moved since the last poll moved before the sleep.
        let is_stopped = self.slept_at.is_some() && !is_running(pcm_state);
        self.is_behind = is_progress && self.is_short(hw_ptr_frames, now);
        if is_progress {
            self.has_progressed = true;
            self.slept_at = self.slept_at.filter(|_| is_stopped);
        }
        if is_progress || (is_running(pcm_state) && !was_running) {
            self.moved_at = if is_stopped { self.moved_at.max(self.observed_at) } else { now };
            self.stuck_polls = 0;
        } else if is_running(pcm_state) {
            self.stuck_polls = self.stuck_polls.saturating_add(1);
        }
        // A stream that its program did not run has nothing to resume.
        if pcm_state == PcmState::Suspended && was_running {
            self.slept_at.get_or_insert(now);
        }
        // A stream that its program dropped is in SETUP too, and keeps its position.
        let is_fresh = matches!(pcm_state, PcmState::Open | PcmState::Setup) && hw_ptr_frames == 0;
        self.was_ready |= !is_fresh;
        self.pcm_state = Some(pcm_state);
        self.hw_ptr_frames = Some(hw_ptr_frames);
        self.observed_at = now;
        Step { is_progress, is_xrun }
    }

    /// Less than half of what the time since the last poll had room for; a position that fell tells nothing of it.
    fn is_short(&self, hw_ptr_frames: u64, now: Moment) -> bool {
        let moved = self.hw_ptr_frames.and_then(|before| hw_ptr_frames.checked_sub(before));
        let nanos = now.since(self.observed_at).as_nanos();
        let room = u128::from(self.format.rate_hz) * nanos / 1_000_000_000;
        moved.is_some_and(|moved| u128::from(moved) * 2 < room)
    }

    /// Whether it had stopped when it was looked at last: a program that ends it then ends a stream that failed.
    #[must_use]
    pub fn had_stopped(&self) -> bool {
        self.is_running() && (self.stuck_polls > 0 || self.is_behind)
    }

    /// Notes that the machine or the device slept until now. Where it slept for longer than `gap`, what came before
    /// says nothing of what comes after.
    pub fn handle_sleep(&mut self, gap: Duration, now: Moment) {
        if self.pcm_state.is_some_and(is_running) {
            self.slept_at.get_or_insert(now);
        }
        if now.since(self.observed_at) > gap {
            self.moved_at = now;
            self.stuck_polls = 0;
        }
    }

    /// What the polls so far amount to.
    #[must_use]
    pub fn judge(&self, thresholds: &Thresholds) -> Judgement {
        match self.pcm_state {
            Some(PcmState::Running | PcmState::Xrun | PcmState::Draining) => {
                self.judge_running(thresholds)
            }
            Some(PcmState::Prepared | PcmState::Setup | PcmState::Suspended) => {
                match self.slept_at {
                    Some(at) if self.observed_at.since(at) >= thresholds.suspended => {
                        Judgement::Stuck { cause: DeviceCause::Suspended, onset: self.moved_at }
                    }
                    Some(_) | None => Judgement::Idle,
                }
            }
            Some(PcmState::Open | PcmState::Paused | PcmState::Disconnected) | None => {
                Judgement::Idle
            }
        }
    }

    fn judge_running(&self, thresholds: &Thresholds) -> Judgement {
        let (least, cause, otherwise) = if self.has_progressed {
            (thresholds.stall, DeviceCause::Stalled, Judgement::Moving)
        } else {
            (thresholds.never_started, DeviceCause::NeverStarted, Judgement::Starting)
        };
        let limit = least.max(self.format.period() * thresholds.stall_periods);
        let is_stuck =
            self.stuck_polls >= STUCK_POLLS_MIN && self.observed_at.since(self.moved_at) >= limit;
        if is_stuck { Judgement::Stuck { cause, onset: self.moved_at } } else { otherwise }
    }

    /// Its program got it ready and does not run it.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.was_ready && !self.pcm_state.is_some_and(is_running)
    }

    /// It is meant to move.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pcm_state.is_some_and(is_running)
    }

    /// How long ago it was opened.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.opened_at)
    }

    /// Frames moved at some time.
    #[must_use]
    pub fn has_progressed(&self) -> bool {
        self.has_progressed
    }

    /// The last progress; before the first one, the start.
    #[must_use]
    pub fn moved_at(&self) -> Moment {
        self.moved_at
    }

    /// Until when nothing later can change what is known: a stream that should move was good until it moved last.
    #[must_use]
    pub fn certain_until(&self, now: Moment) -> Moment {
        let may_be_stuck = self.slept_at.is_some() || self.pcm_state.is_some_and(is_running);
        if may_be_stuck { self.moved_at } else { now }
    }

    /// The last poll, or the opening.
    #[must_use]
    pub fn observed_at(&self) -> Moment {
        self.observed_at
    }

    /// What it was opened with.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }
}

impl Format {
    /// The time between two interrupts; at most [`PERIOD_MAX`], zero where the rate is not known.
    fn period(&self) -> Duration {
        let nanos = u64::from(self.period_frames) * 1_000_000_000;
        Duration::from_nanos(nanos.checked_div(u64::from(self.rate_hz)).unwrap_or(0))
            .min(PERIOD_MAX)
    }
}

/// The longest period believed: the kernel's largest rings hold some seconds.
const PERIOD_MAX: Duration = Duration::from_secs(5);

/// Whether the hardware should move, or an overrun keeps it from it.
fn is_running(state: PcmState) -> bool {
    match state {
        PcmState::Running | PcmState::Xrun | PcmState::Draining => true,
        PcmState::Open
        | PcmState::Setup
        | PcmState::Prepared
        | PcmState::Paused
        | PcmState::Suspended
        | PcmState::Disconnected => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn course() -> Course {
        let format = Format { rate_hz: 48_000, period_frames: 480, ..Format::default() };
        Course::new(format, ms(0))
    }

    /// A stream that is prepared anew between polls shows smaller positions each time and is healthy.
    #[test]
    fn position_that_only_falls_is_progress() {
        let mut course = course();
        for n in 0..40u64 {
            let step = course.handle_poll(PcmState::Running, 400_000 - n * 10_000, ms(n * 250));
            assert!(step.is_progress, "poll {n}");
            assert_eq!(course.judge(&Thresholds::default()), Judgement::Moving);
        }
    }

    /// The program restarted the stream just before a poll that came 3 s late and met the old position by chance.
    #[test]
    fn one_poll_alone_proves_no_stall() {
        let mut course = course();
        course.handle_poll(PcmState::Running, 4_800, ms(100));
        course.handle_poll(PcmState::Running, 4_800, ms(3_100));
        assert_eq!(course.judge(&Thresholds::default()), Judgement::Moving);
        course.handle_poll(PcmState::Running, 4_800, ms(3_350));
        let stuck = Judgement::Stuck { cause: DeviceCause::Stalled, onset: ms(100) };
        assert_eq!(course.judge(&Thresholds::default()), stuck);
    }

    /// Prepared with an old position for a minute, then started: the limit runs from the start.
    #[test]
    fn stall_is_measured_from_the_start_of_running() {
        let mut course = course();
        course.handle_poll(PcmState::Running, 4_800, ms(100));
        course.handle_poll(PcmState::Paused, 4_800, ms(350));
        for at in [60_000, 60_250, 60_500, 60_750] {
            course.handle_poll(PcmState::Running, 4_800, ms(at));
            assert_eq!(course.judge(&Thresholds::default()), Judgement::Moving, "{at}");
        }
        course.handle_poll(PcmState::Running, 4_800, ms(61_000));
        let stuck = Judgement::Stuck { cause: DeviceCause::Stalled, onset: ms(60_000) };
        assert_eq!(course.judge(&Thresholds::default()), stuck);
    }

    /// As a headset was seen to go through a sleep: set back to 0 by its program, which then did not start it.
    #[test]
    fn stream_left_prepared_by_a_sleep_is_suspended_since_its_last_progress() {
        let mut course = course();
        course.handle_poll(PcmState::Running, 144_240, ms(100));
        course.handle_sleep(Duration::from_secs(5), ms(350));
        for at in (350..3_350).step_by(250) {
            let step = course.handle_poll(PcmState::Prepared, 0, ms(at));
            assert!(!step.is_progress, "{at}");
            assert_eq!(course.judge(&Thresholds::default()), Judgement::Idle, "{at}");
        }
        // 3 s after the sleep was noticed.
        course.handle_poll(PcmState::Prepared, 0, ms(3_350));
        let stuck = Judgement::Stuck { cause: DeviceCause::Suspended, onset: ms(100) };
        assert_eq!(course.judge(&Thresholds::default()), stuck);
        course.handle_poll(PcmState::Running, 4_800, ms(3_600));
        assert_eq!(course.judge(&Thresholds::default()), Judgement::Moving);
    }

    /// The first look after a sleep of 1.4 s sees how far the stream came before it.
    #[test]
    fn progress_before_a_sleep_is_not_dated_behind_it() {
        let mut course = course();
        course.handle_poll(PcmState::Running, 132_000, ms(100));
        course.handle_sleep(Duration::from_secs(5), ms(1_500));
        course.handle_poll(PcmState::Suspended, 144_240, ms(1_500));
        course.handle_poll(PcmState::Prepared, 0, ms(4_500));
        let stuck = Judgement::Stuck { cause: DeviceCause::Suspended, onset: ms(100) };
        assert_eq!(course.judge(&Thresholds::default()), stuck);
    }

    #[test]
    fn impossible_formats_set_no_impossible_limits() {
        let period = |rate_hz, period_frames| {
            Format { rate_hz, period_frames, ..Format::default() }.period()
        };
        assert_eq!(period(0, 480), Duration::ZERO);
        assert_eq!(period(1, u32::MAX), PERIOD_MAX);
        assert_eq!(period(48_000, 480), Duration::from_millis(10));
    }
}
