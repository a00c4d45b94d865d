//! What the evidence amounts to: the order in which one fact outweighs another.
//!
//! Not seen, gone, not polled, muted, without a server, misrouted, found wanting by ourselves, stuck, silent: the
//! first that applies is the state.

use roomtone_protocol::device::DeviceCause;

use super::evidence::Asked;
use super::{Blindness, Function, State};
use crate::audio::accounting::Setting;
use crate::audio::attempt::Attempt;
use crate::audio::course::{Course, Judgement};
use crate::audio::floor::LevelJudgement;
use crate::clock::Moment;

/// What the evidence amounts to at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    /// The fault, and its onset.
    pub(super) bad: Option<(DeviceCause, Moment)>,
    /// Until when it holds whatever comes.
    pub(super) certain: Moment,
    pub(super) setting: Setting,
}

/// What the evidence amounts to.
impl Function {
    pub(super) fn assess(&self, now: Moment) -> Verdict {
        let evidence = &self.evidence;
        let in_use = evidence.course.is_some();
        let setting = Setting {
            is_muted: in_use && evidence.is_muted,
            is_volume_zero: in_use && evidence.is_volume_zero,
        };
        let plain = |state| Verdict { state, bad: None, certain: now, setting };
        let bad = |cause, onset| Verdict {
            bad: Some((cause, onset)),
            ..plain(State::NotFunctioning(cause))
        };
        if let Some(blindness) = evidence.blindness {
            return plain(State::Unobservable(blindness));
        }
        if !evidence.is_present {
            return match evidence.missed_at {
                Some(at) if self.missed_until().is_none_or(|until| now < until) => {
                    bad(DeviceCause::Removed, at)
                }
                Some(_) | None => plain(State::Absent),
            };
        }
        if evidence.course.is_some_and(|course| self.is_unpolled(&course, now)) {
            return plain(State::Unobservable(Blindness::NotPolled));
        }
        if evidence.is_muted {
            return plain(if in_use { State::Muted } else { State::Idle });
        }
        if self.in_call {
            if let Some(at) = evidence.server_lost_at {
                return bad(DeviceCause::ServerLost, at);
            }
            if let Some(at) = evidence.misrouted_at {
                return bad(DeviceCause::WrongRoute, at);
            }
        }
        if let Some(Asked { cause, onset }) = evidence.asked {
            return bad(cause, onset);
        }
        let verdict = match &evidence.course {
            None if evidence.is_busy => plain(State::Busy),
            None => plain(State::Idle),
            Some(course) => self.assess_course(course, plain(State::Idle), now),
        };
        self.assess_attempt(verdict, now)
    }

    /// What the row of opens adds to what the last one shows.
    fn assess_attempt(&self, verdict: Verdict, now: Moment) -> Verdict {
        let Some(attempt) = self.attempt(now).filter(|_| verdict.bad.is_none()) else {
            return verdict;
        };
        match attempt.judge(self.evidence.course.as_ref(), &self.options.thresholds, now) {
            Some((cause, onset, seen_until)) => self.fault(cause, onset, seen_until, now, verdict),
            None => Verdict { certain: verdict.certain.min(attempt.certain_until()), ..verdict },
        }
    }

    /// The attempt that goes on.
    pub(super) fn attempt(&self, now: Moment) -> Option<&Attempt> {
        let attempt = self.evidence.attempt.as_ref();
        attempt.filter(|attempt| !attempt.is_over(&self.options.thresholds, now))
    }

    pub(super) fn assess_course(&self, course: &Course, idle: Verdict, now: Moment) -> Verdict {
        let thresholds = &self.options.thresholds;
        let certain = course.certain_until(now);
        match course.judge(thresholds) {
            Judgement::Idle => Verdict { certain, ..idle },
            Judgement::Starting => Verdict { state: State::Starting, certain, ..idle },
            Judgement::Stuck { cause, onset } => {
                self.fault(cause, onset, course.observed_at(), now, idle)
            }
            Judgement::Moving => {
                let floor = &self.evidence.floor;
                let is_silenced = self.evidence.is_volume_zero;
                match floor.judge(thresholds, now) {
                    LevelJudgement::Dead { cause, onset } if !is_silenced => {
                        self.fault(cause, onset, floor.reported_at(), now, idle)
                    }
                    LevelJudgement::Suspect { .. } if !is_silenced => {
                        Verdict { state: State::Suspect, certain, ..idle }
                    }
                    LevelJudgement::Dead { .. }
                    | LevelJudgement::Suspect { .. }
                    | LevelJudgement::Sound => {
                        let is_ours = course.format().owner_pid == Some(self.options.own_pid);
                        let serves = self.in_call || is_ours;
                        let state = if serves { State::Functioning } else { State::Busy };
                        let certain = if is_silenced {
                            certain
                        } else {
                            certain.min(floor.certain_until(thresholds, now))
                        };
                        Verdict { state, certain, ..idle }
                    }
                }
            }
        }
    }

    /// A fault that observations up to `certain` show; where nobody but us uses the device it is only suspected.
    pub(super) fn fault(
        &self,
        cause: DeviceCause,
        onset: Moment,
        certain: Moment,
        now: Moment,
        idle: Verdict,
    ) -> Verdict {
        if self.in_call || self.is_in_foreign_use(now) {
            let bad = Some((cause, onset));
            Verdict { state: State::NotFunctioning(cause), bad, certain, ..idle }
        } else {
            Verdict { state: State::Suspect, ..idle }
        }
    }

    pub(super) fn is_unpolled(&self, course: &Course, now: Moment) -> bool {
        let last = course.observed_at().max(self.watching_since);
        now.since(last) >= self.options.thresholds.observation_gap
    }
}
