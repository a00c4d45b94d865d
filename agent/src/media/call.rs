//! The open call: its legs, their intervals and totals, its end.

use std::collections::VecDeque;
use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::id::{CallId, LegNumber};

use crate::clock::Moment;

use super::Event;
use super::leg::Path;
use super::paths::{PathKey, Paths};

/// One meeting as the endpoint sees it, from the first proven stream on.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    opened: Moment,
    legs: Vec<PathKey>,
}

impl Call {
    /// Opens a call with the path whose stream proved itself; paths that were checked just before belong to it too:
    /// relays, other candidates.
    pub fn open(
        id: CallId,
        first: PathKey,
        at: Moment,
        idle: Duration,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) -> Self {
        let purpose = match paths.get(first) {
            Some(path) if path.is_rehearsal() => CallPurpose::Rehearsal,
            Some(_) | None => CallPurpose::Meeting,
        };
        let mut call = Self { id, opened: at, legs: Vec::new() };
        events.push_back(Event::CallOpened { call: id, at, purpose });
        call.open_leg(first, at, paths, tap_dropped, events);
        let checked =
            paths.keys_where(|path| path.is_answered() && at.since(path.last_at()) < idle);
        for path in checked {
            call.open_leg(path, at, paths, tap_dropped, events);
        }
        call
    }

    /// Makes a path a leg of this call, if it is none yet.
    pub fn open_leg(
        &mut self,
        key: PathKey,
        at: Moment,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        let Some(path) = paths.get_mut(key).filter(|path| !path.is_leg()) else {
            return;
        };
        let leg = LegNumber(u16::try_from(self.legs.len()).unwrap_or(u16::MAX));
        let at = at.max(self.opened);
        path.open_leg(leg, at, tap_dropped);
        let ((local, remote), transport) = (path.addresses(), path.transport());
        self.legs.push(key);
        events.push_back(Event::LegOpened { call: self.id, leg, at, local, remote, transport });
    }

    /// The latest packet on any leg with media.
    #[must_use]
    pub fn last_at(&self, paths: &Paths) -> Moment {
        let legs = self.legs.iter().filter_map(|&leg| paths.get(leg));
        legs.filter(|path| path.has_streams()).map(Path::last_at).max().unwrap_or(self.opened)
    }

    /// When something of this call is due next.
    #[must_use]
    pub fn due(&self, idle: Duration, paths: &Paths) -> Moment {
        let legs = self.legs.iter().filter_map(|&leg| paths.get(leg));
        let ends = legs.filter_map(Path::interval_ends).min();
        let over = self.last_at(paths) + idle;
        ends.map_or(over, |end| end.min(over))
    }

    /// Reports the intervals that are over, and the totals of legs that fell silent.
    pub fn handle_timeout(
        &self,
        now: Moment,
        idle: Duration,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        self.end_intervals(now, paths, tap_dropped, events);
        let is_silent = |path: &Path| now.since(path.last_at()) >= idle;
        self.report(is_silent, paths, tap_dropped, events);
    }

    fn end_intervals(
        &self,
        now: Moment,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        for &leg in &self.legs {
            let Some(path) = paths.get_mut(leg) else { continue };
            while let Some(end) = path.interval_ends().filter(|end| *end <= now) {
                if let Some(report) = path.take_interval(end, tap_dropped) {
                    events.push_back(Event::Interval { call: self.id, report });
                }
            }
        }
    }

    fn report(
        &self,
        wanted: impl Fn(&Path) -> bool,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        for &leg in &self.legs {
            let Some(path) = paths.get_mut(leg) else { continue };
            if path.has_news()
                && wanted(path)
                && let Some(report) = path.take_report(tap_dropped)
            {
                events.push_back(Event::LegSummary { call: self.id, report });
            }
        }
    }

    /// Ends the call with its last packet and reports what is left to say.
    pub fn close(
        self,
        reason: CallCloseReason,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        let at = self.last_at(paths);
        // What is over by the call's own last packet is reported as whole intervals first.
        self.end_intervals(at, paths, tap_dropped, events);
        for &leg in &self.legs {
            if let Some(path) = paths.get_mut(leg)
                && let Some(report) = path.take_interval(at, tap_dropped)
            {
                events.push_back(Event::Interval { call: self.id, report });
            }
        }
        self.report(|_| true, paths, tap_dropped, events);
        let legs = u16::try_from(self.legs.len()).unwrap_or(u16::MAX);
        events.push_back(Event::CallClosed { call: self.id, at, reason, legs });
        // A later packet on the same addresses opens another call with counts of its own.
        for &leg in &self.legs {
            if let Some(path) = paths.get_mut(leg) {
                let (local, remote) = path.addresses();
                *path = Path::new(local, remote, at);
            }
        }
    }
}
