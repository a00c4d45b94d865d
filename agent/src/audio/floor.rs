//! What a microphone delivers in silence, learned from what it does.
//!
//! A converter's noise never is exactly zero; a conference microphone's DSP gates to exactly zero whenever nobody
//! speaks. Zeros are a fault of the first kind and say nothing of the second, so they count only where the floor is
//! known: audio of [`Thresholds::floor_learned`] without a gap proves a floor that is not zero, one run of
//! [`Thresholds::floor_zero`] from which the device came back by itself proves one that is, for good. Runs that touch
//! a mute prove nothing.

use std::time::Duration;

use roomtone_protocol::device::DeviceCause;
use serde::{Deserialize, Serialize};

use super::carry::{nanos, nanos_option};
use super::constants::Thresholds;
use super::level::LevelReport;
use crate::clock::Moment;

/// What is known of a microphone's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloorKind {
    /// Not enough was heard.
    Unknown,
    /// It is never exactly zero.
    NotZero,
    /// It is exactly zero at times.
    Zero,
}

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    kind: FloorKind,
    /// Audio without a gap so far.
    learned: Duration,
    /// At least one real buffer came since the device appeared.
    was_heard: bool,
    is_tainted: bool,
    #[serde(with = "nanos_option")]
    zero_since: Option<Moment>,
    #[serde(with = "nanos_option")]
    constant_since: Option<Moment>,
    /// The last report.
    #[serde(with = "nanos")]
    reported_at: Moment,
}

/// What the levels amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelJudgement {
    /// Nothing speaks against the device.
    Sound,
    /// It looks dead, and may be gating.
    Suspect {
        /// When it began to look dead.
        since: Moment,
    },
    /// It is dead.
    Dead {
        /// Why.
        cause: DeviceCause,
        /// When it died.
        onset: Moment,
    },
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            kind: FloorKind::Unknown,
            learned: Duration::ZERO,
            was_heard: false,
            is_tainted: false,
            zero_since: None,
            constant_since: None,
            reported_at: Moment::ORIGIN,
        }
    }
}

impl Floor {
    /// Takes a report whose span ends now.
    pub fn handle_report(
        &mut self,
        report: &LevelReport,
        is_silenced: bool,
        thresholds: &Thresholds,
        now: Moment,
    ) {
        self.reported_at = now;
        let is_broken = report.zero_run < report.span;
        if is_broken {
            let came_back = !self.is_tainted && report.zero_longest >= thresholds.floor_zero;
            if self.was_heard && report.is_real && came_back {
                self.kind = FloorKind::Zero;
            }
            self.learn(report, is_silenced, thresholds);
            self.zero_since = None;
            self.is_tainted = false;
        }
        self.was_heard |= report.is_real;
        self.is_tainted |= is_silenced;
        self.zero_since = run(self.zero_since, report.zero_run, now);
        let constant_since = self.constant_since.filter(|_| report.constant_run >= report.span);
        self.constant_since = run(constant_since, report.constant_run, now);
    }

    fn learn(&mut self, report: &LevelReport, is_silenced: bool, thresholds: &Thresholds) {
        if report.zero_longest.max(report.zero_run) >= thresholds.floor_gap {
            self.learned = Duration::ZERO;
        } else if report.is_real && !is_silenced {
            self.learned = self.learned.saturating_add(report.span);
        }
        if self.kind == FloorKind::Unknown && self.learned >= thresholds.floor_learned {
            self.kind = FloorKind::NotZero;
        }
    }

    /// Notes a mute, or a volume of zero, or its end: what was silent until now was silenced.
    pub fn handle_silenced(&mut self, now: Moment) {
        self.is_tainted = true;
        self.zero_since = self.zero_since.map(|_| now);
        self.constant_since = self.constant_since.map(|_| now);
    }

    /// Notes that the stream ended: runs do not reach across.
    pub fn handle_closed(&mut self) {
        self.zero_since = None;
        self.constant_since = None;
        self.is_tainted = true;
    }

    /// Notes that the device left: another one may come under its name. Only what makes us cautious is kept.
    pub fn handle_removed(&mut self) {
        let kind = match self.kind {
            FloorKind::Zero => FloorKind::Zero,
            FloorKind::Unknown | FloorKind::NotZero => FloorKind::Unknown,
        };
        *self = Self { kind, ..Self::default() };
    }

    /// What the reports so far amount to; reports older than the observation gap amount to nothing.
    #[must_use]
    pub fn judge(&self, thresholds: &Thresholds, now: Moment) -> LevelJudgement {
        if !self.is_fresh(thresholds, now) {
            return LevelJudgement::Sound;
        }
        let lasts = |since: Option<Moment>, limit| {
            since.filter(|since| self.reported_at.since(*since) >= limit)
        };
        if let Some(onset) = lasts(self.constant_since, thresholds.constant_signal) {
            return if self.was_heard {
                LevelJudgement::Dead { cause: DeviceCause::ConstantSignal, onset }
            } else {
                LevelJudgement::Suspect { since: onset }
            };
        }
        match lasts(self.zero_since, thresholds.zero_signal) {
            Some(onset) if self.was_heard && self.kind == FloorKind::NotZero => {
                LevelJudgement::Dead { cause: DeviceCause::ZeroSignal, onset }
            }
            Some(since) => LevelJudgement::Suspect { since },
            None => LevelJudgement::Sound,
        }
    }

    /// Until when nothing later can change what is known: a run that may become a fault was good until it began.
    #[must_use]
    pub fn certain_until(&self, thresholds: &Thresholds, now: Moment) -> Moment {
        if !self.was_heard || !self.is_fresh(thresholds, now) {
            return now;
        }
        let zero = self.zero_since.filter(|_| self.kind == FloorKind::NotZero);
        zero.into_iter().chain(self.constant_since).min().unwrap_or(now)
    }

    fn is_fresh(&self, thresholds: &Thresholds, now: Moment) -> bool {
        now.since(self.reported_at) < thresholds.observation_gap
    }

    /// The last report.
    #[must_use]
    pub fn reported_at(&self) -> Moment {
        self.reported_at
    }

    /// What is known of the microphone's silence.
    #[must_use]
    pub fn kind(&self) -> FloorKind {
        self.kind
    }
}

/// When a run that still goes on began: kept where it was known, since a mute may have moved it.
fn run(since: Option<Moment>, length: Duration, now: Moment) -> Option<Moment> {
    (!length.is_zero()).then(|| since.unwrap_or_else(|| earlier(now, length)))
}

fn earlier(now: Moment, by: Duration) -> Moment {
    Moment::from_nanos(now.since(Moment::ORIGIN + by).as_nanos() as u64)
}
