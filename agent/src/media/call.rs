//! The open call: its legs, their intervals and totals, what keeps it open, its end.

use std::collections::VecDeque;
use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::id::{CallId, LegNumber};

use crate::clock::Moment;

use super::Event;
use super::context::ContextNumber;
use super::leg::Path;
use super::paths::{PathKey, Paths};

/// One meeting as the endpoint sees it, from the first proven stream or the room application's word on.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    purpose: CallPurpose,
    opened: Moment,
    legs: Vec<PathKey>,
    hold: Hold,
}

/// What besides packets keeps a call open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing: no context ever named it.
    Packets,
    /// A context that is open.
    Context(ContextNumber),
    /// Nothing more: its context ended at that moment.
    Ended(Moment),
}

impl Call {
    /// Opens a call without legs.
    pub fn open(
        id: CallId,
        purpose: CallPurpose,
        at: Moment,
        events: &mut VecDeque<Event>,
    ) -> Self {
        events.push_back(Event::CallOpened { call: id, at, purpose });
        Self { id, purpose, opened: at, legs: Vec::new(), hold: Hold::Packets }
    }

    /// Which it is.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Whether a context that begins now may have it: none had it before, and it took place for the same reason.
    #[must_use]
    pub fn is_free_for(&self, purpose: CallPurpose) -> bool {
        self.hold == Hold::Packets && self.purpose == purpose
    }

    /// Keeps it open until the context ends.
    pub fn hold(&mut self, context: ContextNumber) {
        self.hold = Hold::Context(context);
    }

    /// Leaves the end to its packets, if this context keeps it open.
    pub fn release(&mut self, context: ContextNumber, at: Moment) {
        if self.hold == Hold::Context(context) {
            self.hold = Hold::Ended(at);
        }
    }

    /// Whether a leg that begins at `at` can no longer be one of this call: its context had ended.
    #[must_use]
    pub fn ended_before(&self, at: Moment) -> bool {
        matches!(self.hold, Hold::Ended(ended) if ended < at)
    }

    /// Whether a path that was only checked becomes a leg: beside media it does, and while the call goes on.
    #[must_use]
    pub fn takes_checked(&self) -> bool {
        !self.legs.is_empty() && !matches!(self.hold, Hold::Ended(_))
    }

    /// Makes a path a leg of this call, if it is none yet. With the first one, paths that were checked just before
    /// become legs too: relays, other candidates.
    pub fn open_leg(
        &mut self,
        key: PathKey,
        at: Moment,
        idle: Duration,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        let is_first = self.legs.is_empty();
        self.add_leg(key, at, paths, tap_dropped, events);
        if is_first {
            let checked =
                paths.keys_where(|path| path.is_answered() && at.since(path.last_at()) < idle);
            for path in checked {
                self.add_leg(path, at, paths, tap_dropped, events);
            }
        }
    }

    fn add_leg(
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

    /// The latest packet on any leg with media; the call's beginning before the first.
    fn last_packet_at(&self, paths: &Paths) -> Moment {
        let legs = self.legs.iter().filter_map(|&leg| paths.get(leg));
        legs.filter(|path| path.has_streams()).map(Path::last_at).max().unwrap_or(self.opened)
    }

    /// When the call ends if it ends at `now`: with its last packet or, where that is later, with its context.
    #[must_use]
    pub fn ends_at(&self, now: Moment, paths: &Paths) -> Moment {
        let last = self.last_packet_at(paths);
        match self.hold {
            Hold::Packets => last,
            Hold::Context(_) => last.max(now),
            Hold::Ended(at) => last.max(at),
        }
    }

    /// Whether nothing keeps it open any more.
    #[must_use]
    pub fn is_over(&self, now: Moment, idle: Duration, paths: &Paths) -> bool {
        match self.hold {
            Hold::Context(_) => false,
            // Without packets there are none whose end could be waited for.
            Hold::Ended(_) if self.legs.is_empty() => true,
            Hold::Packets | Hold::Ended(_) => now.since(self.last_packet_at(paths)) >= idle,
        }
    }

    /// When something of this call is due next; `None` where it only waits.
    #[must_use]
    pub fn due(&self, idle: Duration, paths: &Paths) -> Option<Moment> {
        let legs = self.legs.iter().filter_map(|&leg| paths.get(leg));
        let interval = legs.filter_map(Path::interval_ends).min();
        let over = match self.hold {
            Hold::Context(_) => None,
            Hold::Packets | Hold::Ended(_) => Some(self.last_packet_at(paths) + idle),
        };
        interval.into_iter().chain(over).min()
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

    /// Ends the call, as [`Self::ends_at`] says, and reports what is left to say.
    pub fn close(
        self,
        reason: CallCloseReason,
        now: Moment,
        paths: &mut Paths,
        tap_dropped: u64,
        events: &mut VecDeque<Event>,
    ) {
        let at = self.ends_at(now, paths);
        // What is over by the call's own end is reported as whole intervals first.
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
