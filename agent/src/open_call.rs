//! The open call as it must outlive a killed agent: which, how many legs, the last moment known of it.
//!
//! A core; [`file`] keeps it on disk. The collector hears of a call's end from the agent alone. One that is killed in
//! mid-call leaves this mark, and its next life closes the call with it before it records anything else.
//!
//! The moment carries both clocks as they were: the collector takes a call's length from the uptime of its two ends,
//! and both ends of this call are of the same boot, whichever boot reads the mark. Nothing is compared with the
//! present.

pub mod file;

use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallClosed};
use roomtone_protocol::id::CallId;
use roomtone_protocol::time::Stamp;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, WallOffset};
use crate::media::Event;
use crate::media::context::{ContextChange, ContextTaken};

/// How often the moment follows a call that a context keeps open, and that may have no packets to follow.
pub const MARK_EVERY: Duration = Duration::from_secs(10);
/// The longest mark that is read: ours have some 110 bytes.
pub const MARK_BYTES_MAX: usize = 1024;
/// The form of the mark; another one is not read.
const VERSION: u16 = 1;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The call.
    pub call: CallId,
    /// Its legs so far.
    pub legs: u16,
    /// The last moment that is known of it.
    pub last: Stamp,
}

impl Mark {
    /// The end of the call, as the next life tells it.
    #[must_use]
    pub fn closed(&self) -> CallClosed {
        let Self { call, legs, last } = *self;
        CallClosed { call, closed: last, reason: CallCloseReason::AgentStopped, legs }
    }

    /// The mark as it lies on disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Stamp { wall_us, uptime_us } = self.last;
        let call = self.call.to_string();
        serde_json::to_vec(&Stored { version: VERSION, call, legs: self.legs, wall_us, uptime_us })
            .expect("an object of numbers and a text is JSON")
    }

    /// Reads what lies on disk.
    ///
    /// # Errors
    /// [`MarkError`]: the call that it may have told of stays open at the collector.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkError> {
        if bytes.len() > MARK_BYTES_MAX {
            return Err(MarkError::TooLong);
        }
        let Stored { version, call, legs, wall_us, uptime_us } =
            serde_json::from_slice(bytes).map_err(|_| MarkError::Damaged)?;
        if version != VERSION {
            return Err(MarkError::Version { found: version });
        }
        let call = call.parse().map_err(|_| MarkError::Damaged)?;
        Ok(Self { call, legs, last: Stamp { wall_us, uptime_us } })
    }
}

/// Why a mark is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Longer than any of ours.
    #[error("longer than {MARK_BYTES_MAX} bytes")]
    TooLong,
    /// Not what was written, as after a power cut.
    #[error("damaged")]
    Damaged,
    /// Of another version of the agent.
    #[error("of version {found}, not {VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    version: u16,
    call: String,
    legs: u16,
    wall_us: u64,
    uptime_us: u64,
}

/// Follows the open call.
#[derive(Debug, Default)]
pub struct OpenCall {
    mark: Option<Mark>,
    /// When the moment is due to follow, while a context keeps the call open.
    due: Option<Moment>,
}

impl OpenCall {
    /// Takes what the media watch says.
    pub fn handle_event(&mut self, event: &Event, wall: WallOffset) {
        match event {
            Event::CallOpened { call, at, .. } => {
                self.mark = Some(Mark { call: *call, legs: 0, last: wall.stamp(*at) });
                self.due = None;
            }
            Event::LegOpened { at, .. } => {
                if let Some(mark) = &mut self.mark {
                    mark.legs = mark.legs.saturating_add(1);
                }
                self.reached(*at, wall);
            }
            Event::Interval { report, .. } => self.reached(report.started + report.duration, wall),
            Event::LegSummary { report, .. } => self.reached(report.closed, wall),
            Event::CallClosed { .. } => *self = Self::default(),
            Event::ContextTaken(ContextTaken { change, at, .. }) => match change {
                ContextChange::Began { .. } => {
                    self.due = self.mark.map(|_| *at + MARK_EVERY);
                }
                ContextChange::Ended { .. } => {
                    if self.due.take().is_some() {
                        self.reached(*at, wall);
                    }
                }
            },
        }
    }

    /// Follows a call that goes on by its context's word.
    pub fn handle_timeout(&mut self, now: Moment, wall: WallOffset) {
        if self.due.is_some_and(|due| now >= due) {
            self.reached(now, wall);
            self.due = Some(now + MARK_EVERY);
        }
    }

    /// When [`Self::handle_timeout`] is due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        self.due.map(|due| (due, "mark of the open call"))
    }

    /// What must be on disk; `None` while no call is open.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    fn reached(&mut self, at: Moment, wall: WallOffset) {
        let stamp = wall.stamp(at);
        if let Some(mark) = &mut self.mark
            && stamp.uptime_us > mark.last.uptime_us
        {
            mark.last = stamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::call::CallPurpose;
    use roomtone_protocol::id::LegNumber;
    use roomtone_protocol::media::Transport;

    use super::*;
    use crate::media::context::ContextNumber;

    const CALL: CallId = CallId(0x00ab_cdef_0123_4567);

    fn s(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn wall() -> WallOffset {
        WallOffset::from_readings(1_795_391_940_000_000_000, s(0))
    }

    fn opened(at: Moment) -> Event {
        Event::CallOpened { call: CALL, at, purpose: CallPurpose::Meeting }
    }

    fn leg(at: Moment) -> Event {
        let local = "192.0.2.1:5004".parse().unwrap();
        let transport = Transport::Udp;
        Event::LegOpened { call: CALL, leg: LegNumber(0), at, local, remote: local, transport }
    }

    fn taken(change: ContextChange, at: Moment) -> Event {
        Event::ContextTaken(ContextTaken { change, at, call: Some(CALL) })
    }

    #[test]
    fn mark_of_a_call_is_its_end_as_far_as_known() {
        let mut open = OpenCall::default();
        assert_eq!(open.mark(), None);
        open.handle_event(&opened(s(100)), wall());
        open.handle_event(&leg(s(101)), wall());
        let closed = open.mark().unwrap().closed();
        let last = Stamp { wall_us: 1_795_392_041_000_000, uptime_us: 101_000_000 };
        let reason = CallCloseReason::AgentStopped;
        assert_eq!(closed, CallClosed { call: CALL, closed: last, reason, legs: 1 });
        assert_eq!(open.poll_timeout(), None, "packets bring what is to follow");
        let reason = CallCloseReason::Idle;
        open.handle_event(&Event::CallClosed { call: CALL, at: s(101), reason, legs: 1 }, wall());
        assert_eq!(open.mark(), None);
    }

    #[test]
    fn call_of_a_context_is_followed_every_ten_seconds_until_the_context_ends() {
        let context = ContextNumber(0);
        let began = ContextChange::Began { context, purpose: CallPurpose::Meeting };
        let mut open = OpenCall::default();
        open.handle_event(&opened(s(100)), wall());
        open.handle_event(&taken(began, s(100)), wall());
        assert_eq!(open.poll_timeout().map(|(at, _)| at), Some(s(110)));
        open.handle_timeout(s(109), wall());
        assert_eq!(open.mark().unwrap().last.uptime_us, 100_000_000);
        open.handle_timeout(s(110), wall());
        assert_eq!(open.mark().unwrap().last.uptime_us, 110_000_000);
        open.handle_event(&taken(ContextChange::Ended { context }, s(113)), wall());
        assert_eq!(open.mark().unwrap().last.uptime_us, 113_000_000);
        assert_eq!(open.poll_timeout(), None);
    }

    #[test]
    fn what_is_older_than_the_mark_does_not_move_it_back() {
        let mut open = OpenCall::default();
        open.handle_event(&opened(s(100)), wall());
        open.handle_event(&leg(s(99)), wall());
        assert_eq!(open.mark().unwrap().last.uptime_us, 100_000_000);
    }

    #[test]
    fn mark_is_read_as_it_was_written_and_nothing_else_is() {
        let last = Stamp { wall_us: u64::MAX, uptime_us: 7 };
        let mark = Mark { call: CALL, legs: u16::MAX, last };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Ok(mark));
        for cut in 0..bytes.len() {
            assert_eq!(Mark::decode(&bytes[..cut]), Err(MarkError::Damaged), "{cut} bytes");
        }
        let text = String::from_utf8(bytes).unwrap();
        let table = [
            (text.replace("\"version\":1", "\"version\":2"), MarkError::Version { found: 2 }),
            (text.replace("65535", "65536"), MarkError::Damaged),
            (text.replace("00ab", "+0ab"), MarkError::Damaged),
            (text.replace("legs", "names"), MarkError::Damaged),
            ("[".repeat(MARK_BYTES_MAX), MarkError::Damaged),
            (" ".repeat(MARK_BYTES_MAX + 1), MarkError::TooLong),
        ];
        for (text, error) in table {
            assert_eq!(Mark::decode(text.as_bytes()), Err(error), "{text}");
        }
    }
}
