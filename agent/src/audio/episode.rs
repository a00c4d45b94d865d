//! One stretch of not functioning, with its healthy gaps, told as it grows.
//!
//! A loose plug is one episode, not twenty: an episode ends when its device was healthy for a while, or with the
//! call. Only bad time counts in it.

use std::time::Duration;

use roomtone_protocol::device::{DeviceCause, EpisodeState};
use serde::{Deserialize, Serialize};

use super::carry::{nanos, nanos_option};
use super::constants::Thresholds;
use crate::clock::Moment;

/// An episode as it stands; of several with one id the last one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// 64 bits drawn when it opens.
    pub id: u64,
    /// What began it; what follows within one episode is taken for its consequence.
    pub cause: DeviceCause,
    /// Dated back to the last progress, but not before the call.
    #[serde(with = "nanos")]
    pub onset: Moment,
    /// Bad time so far within the call, in microseconds, healthy gaps excluded.
    pub bad_us: u64,
    /// Whether it goes on.
    pub state: EpisodeState,
}

/// The open episode of a device, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Track {
    open: Option<Episode>,
    is_bad: bool,
    /// Since when its device was healthy without a break.
    #[serde(with = "nanos_option")]
    healthy_since: Option<Moment>,
    #[serde(with = "nanos_option")]
    reported_at: Option<Moment>,
    /// What ended the last bad stretch was not its health.
    is_unmended: bool,
}

impl Track {
    /// Opens an episode with its first bad stretch.
    pub fn open_new(&mut self, id: u64, cause: DeviceCause, onset: Moment) {
        let episode = Episode { id, cause, onset, bad_us: 0, state: EpisodeState::Open };
        *self = Self { open: Some(episode), is_bad: true, ..Self::default() };
    }

    /// Another bad stretch of the open episode begins.
    pub fn resume(&mut self) {
        self.is_bad = self.open.is_some();
        self.healthy_since = None;
    }

    /// Counts bad time.
    pub fn add(&mut self, bad_us: u64) {
        if let Some(episode) = &mut self.open {
            episode.bad_us = episode.bad_us.saturating_add(bad_us);
        }
    }

    /// Takes bad time back that lay behind the end of its call.
    pub fn take_back(&mut self, bad_us: u64) {
        if let Some(episode) = &mut self.open {
            episode.bad_us = episode.bad_us.saturating_sub(bad_us);
        }
    }

    /// The bad stretch is over. Nothing speaks against the device since `healthy_since`, or nothing is known of it; it
    /// was mended, or is only no longer wanted.
    pub fn pause(&mut self, healthy_since: Option<Moment>, is_mended: bool) {
        self.is_bad = false;
        self.healthy_since = healthy_since;
        self.is_unmended = !is_mended;
    }

    /// Notes for an open episode without a bad stretch whether its device is observed at `now`, and seen to work.
    pub fn note_healthy(&mut self, is_observed: bool, works: bool, now: Moment) {
        if self.open.is_none() || self.is_bad {
            return;
        }
        self.is_unmended &= !works;
        if is_observed {
            self.healthy_since.get_or_insert(now);
        } else {
            self.healthy_since = None;
        }
    }

    /// Returns the episode to tell it, and remembers that it was told.
    pub fn report(&mut self, now: Moment) -> Option<Episode> {
        self.reported_at = Some(now);
        self.open
    }

    /// Returns the episode if its bad stretch goes on and it was not told for long.
    pub fn report_due(&mut self, thresholds: &Thresholds, now: Moment) -> Option<Episode> {
        let due = self.due_report(thresholds).is_some_and(|due| now >= due);
        if due { self.report(now) } else { None }
    }

    /// Ends and returns the episode if its device was healthy for long enough.
    pub fn close_due(&mut self, thresholds: &Thresholds, now: Moment) -> Option<Episode> {
        let due = self.due_close(thresholds).is_some_and(|due| now >= due);
        if due { self.close() } else { None }
    }

    /// Ends and returns the episode, recovered or not.
    pub fn close(&mut self) -> Option<Episode> {
        let is_over = !self.is_bad && !self.is_unmended;
        let state = if is_over { EpisodeState::Recovered } else { EpisodeState::Unrecovered };
        let ended = self.open.map(|episode| Episode { state, ..episode });
        *self = Self::default();
        ended
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self, thresholds: &Thresholds) -> Option<(Moment, &'static str)> {
        let close = self.due_close(thresholds).map(|at| (at, "end of an episode"));
        close.or_else(|| self.due_report(thresholds).map(|at| (at, "report of an episode")))
    }

    fn due_close(&self, thresholds: &Thresholds) -> Option<Moment> {
        self.open.and(self.healthy_since).map(|since| since + thresholds.episode_healthy)
    }

    fn due_report(&self, thresholds: &Thresholds) -> Option<Moment> {
        let reported_at = self.reported_at.filter(|_| self.is_bad)?;
        // A loudspeaker that is dead for a week is some hundred records and not sixty thousand.
        let tenth = self.open.map_or(Duration::ZERO, |open| reported_at.since(open.onset) / 10);
        Some(reported_at + thresholds.episode_report.max(tenth))
    }

    /// The open episode.
    #[must_use]
    pub fn open(&self) -> Option<&Episode> {
        self.open.as_ref()
    }
}
