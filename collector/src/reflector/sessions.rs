//! Who sends requests of STAMP, and which replies they get.
//!
//! A session is a source address with an SSID (RFC 8972). Each has its own count, which is what tells a sender the
//! direction of a loss (RFC 8762 section 4.3), and its own rate limit. Sources can be forged, so both their number and
//! the time that each is remembered are bounded; what lies beyond is counted and not answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roomtone_protocol::stamp::Request;

/// Sessions at once: twice a fleet of 2,000 rooms, some 300 KiB.
pub const SESSIONS_MAX: usize = 4_096;
/// After this long without a request a session may make room for another one; agents send every 30 s.
pub const IDLE: Duration = Duration::from_secs(120);
/// Replies to one session in the long run; agents take five a second at most.
pub const RATE_PER_SECOND: u32 = 20;
/// Replies to one session at once.
pub const BURST: u32 = 64;

const COST: Duration = Duration::from_nanos(1_000_000_000 / RATE_PER_SECOND as u64);
const AHEAD: Duration = Duration::from_nanos(COST.as_nanos() as u64 * (BURST as u64 - 1));

/// What was done with packets since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests answered.
    pub answered: u64,
    /// Requests beyond the rate of their session.
    pub excess: u64,
    /// Requests of sources beyond the number of sessions.
    pub crowded: u64,
    /// Packets too short for a request.
    pub strange: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<(SocketAddr, u16), Session>,
    counts: Counts,
}

#[derive(Debug)]
struct Session {
    next: u32,
    heard: Instant,
    /// Until when the replies given so far use up the rate limit.
    spent_until: Instant,
}

impl Sessions {
    /// Takes a packet, `None` for one that is no request; returns it with the number of the reply that it gets.
    pub fn handle(
        &mut self,
        request: Option<Request>,
        from: SocketAddr,
        now: Instant,
    ) -> Option<(Request, u32)> {
        let Some(request) = request else {
            self.counts.strange += 1;
            return None;
        };
        let key = (from, request.ssid);
        if !self.sessions.contains_key(&key) && !self.make_room(now) {
            self.counts.crowded += 1;
            return None;
        }
        let begun = Session { next: 0, heard: now, spent_until: now };
        let session = self.sessions.entry(key).or_insert(begun);
        session.heard = now;
        if session.spent_until.saturating_duration_since(now) > AHEAD {
            self.counts.excess += 1;
            return None;
        }
        session.spent_until = session.spent_until.max(now) + COST;
        if request.sequence == 0 {
            // The sender has begun anew.
            session.next = 0;
        }
        let number = session.next;
        session.next = number.wrapping_add(1);
        self.counts.answered += 1;
        Some((request, number))
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// True where one more session fits, by forgetting the one that was silent longest if need be.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.sessions.len() < SESSIONS_MAX {
            return true;
        }
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.heard);
        let oldest = oldest.filter(|(_, it)| now.saturating_duration_since(it.heard) >= IDLE);
        let Some(key) = oldest.map(|(key, _)| *key) else { return false };
        self.sessions.remove(&key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::stamp::Timestamp;

    use super::*;

    fn request(sequence: u32, ssid: u16) -> Option<Request> {
        Some(Request { sequence, sent: Timestamp::of_unix_us(1), ssid })
    }

    fn source(port: u16) -> SocketAddr {
        ([192, 0, 2, 7], port).into()
    }

    #[test]
    fn each_session_has_a_count_of_its_own_that_skips_what_did_not_arrive() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let mut number = |sequence, ssid, port| {
            sessions.handle(request(sequence, ssid), source(port), now).map(|it| it.1)
        };
        // 2 is lost on the way there.
        assert_eq!([0, 1, 3].map(|n| number(n, 0, 1)), [Some(0), Some(1), Some(2)]);
        assert_eq!((number(0, 9, 1), number(0, 0, 2)), (Some(0), Some(0)), "others");
        assert_eq!(number(4, 0, 1), Some(3));
        assert_eq!(number(0, 0, 1), Some(0), "begun anew");
    }

    #[test]
    fn session_beyond_its_rate_is_not_answered_and_others_are() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let answered =
            (1..=200).filter(|n| sessions.handle(request(*n, 0), source(1), now).is_some()).count();
        assert_eq!(answered, BURST as usize);
        assert!(sessions.handle(request(0, 0), source(2), now).is_some());
        let later = now + COST;
        assert!(sessions.handle(request(201, 0), source(1), later).is_some());
        assert!(sessions.handle(request(202, 0), source(1), later).is_none());
        assert_eq!(sessions.counts().excess, 200 - u64::from(BURST) + 1);
    }

    #[test]
    fn forged_sources_crowd_out_nobody_who_is_heard_and_take_no_more_memory() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        for port in 0..SESSIONS_MAX as u16 + 100 {
            sessions.handle(request(0, 0), source(port), now);
        }
        assert_eq!((sessions.sessions.len(), sessions.counts().crowded), (SESSIONS_MAX, 100));
        assert_eq!(sessions.handle(request(1, 0), source(3), now).map(|it| it.1), Some(1));
        // One that was silent for two minutes makes room.
        let later = now + IDLE;
        sessions.handle(request(2, 0), source(3), later);
        assert!(sessions.handle(request(0, 0), source(60_000), later).is_some());
        assert_eq!(sessions.sessions.len(), SESSIONS_MAX);
        assert_eq!(sessions.handle(request(3, 0), source(3), later).map(|it| it.1), Some(3));
    }

    #[test]
    fn packet_too_short_is_counted() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.handle(None, source(1), Instant::now()), None);
        assert_eq!(sessions.counts().strange, 1);
    }
}
