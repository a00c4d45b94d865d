//! What a rehearsal did: the truth that measured figures are held against.
//!
//! Durations serialise as milliseconds, shares as ratios, a spread without values as nulls.

use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Side;
use super::impair::Profile;

/// What a datagram of a rehearsal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A voice packet.
    Rtp,
    /// A consent check or an answer to one.
    Stun,
}

impl Kind {
    /// Tells the two by their first byte (RFC 7983); `None` for anything that a rehearsal never
    /// sends.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            0..=3 => Some(Self::Stun),
            128..=191 => Some(Self::Rtp),
            _ => None,
        }
    }
}

/// A number of datagrams, by what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Count {
    /// Voice packets.
    pub rtp: u64,
    /// Consent checks and the answers to them.
    pub stun: u64,
}

impl Count {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.rtp + self.stun
    }

    /// The counter of one kind.
    pub(super) fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Rtp => &mut self.rtp,
            Kind::Stun => &mut self.stun,
        }
    }
}

/// How a duration spread over its occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// The shortest; zero where `count` is 0.
    pub min: Duration,
    /// The longest; zero where `count` is 0.
    pub max: Duration,
}

impl Spread {
    /// Takes one more.
    pub(super) fn add(&mut self, value: Duration) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    /// The mean; `None` where there were none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = |value: Duration| (self.count > 0).then(|| ms(value));
        let mut map = serializer.serialize_struct("Spread", 4)?;
        map.serialize_field("count", &self.count)?;
        map.serialize_field("minMs", &known(self.min))?;
        map.serialize_field("meanMs", &self.mean().map(ms))?;
        map.serialize_field("maxMs", &known(self.max))?;
        map.end()
    }
}

/// What one direction's impairment did, exactly.
///
/// Once the line is empty, `handled + duplicated = released + lost + overflowed` for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    /// Datagrams taken in.
    pub handled: Count,
    /// Datagrams dropped on purpose.
    pub lost: Count,
    /// Voice packets among the lost that no receiver can know of: before the first or after the
    /// last one that was let through.
    pub rtp_lost_unseen: u64,
    /// Second copies made; a copy follows its original at once.
    pub duplicated: Count,
    /// Datagrams that left after a voice packet which had come in after them; copies not counted.
    pub reordered: Count,
    /// Datagrams dropped because the line was full.
    pub overflowed: Count,
    /// Datagrams let out, copies included.
    pub released: Count,
    /// From a datagram's coming in to its release, copies not counted.
    pub delay: Spread,
    /// By how much that delay changed from one released voice packet to the next: its mean is what
    /// the jitter of RFC 3550 A.8 settles at.
    pub delay_change: Spread,
}

/// The consent checks that one side sent and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checks {
    /// Transactions whose request left the socket.
    pub requests: u64,
    /// Requests of the other side that came in and were answered, copies included.
    pub answered: u64,
    /// Answers that came in to a transaction which was already closed, by an earlier copy mostly.
    pub repeated: u64,
    /// From a request's leaving the socket to the first answer's arrival; its count is the number
    /// of transactions that were answered.
    pub rtt: Spread,
}

/// One side of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// Which one.
    pub side: Side,
    /// Its own address.
    pub local: SocketAddr,
    /// The address that it talks to: the relay's, or the other machine's.
    pub remote: SocketAddr,
    /// The SSRC that it sends.
    pub ssrc: u32,
    /// What left its socket.
    pub sent: Count,
    /// What came in at its socket.
    pub received: Count,
    /// What was done to the datagrams that it sent.
    pub injected: Injected,
    /// Its consent checks.
    pub checks: Checks,
    /// Frames that it skipped because this machine stood still for more than a second.
    pub frames_skipped: u64,
    /// Datagrams that it sent and the kernel refused to carry, at its own socket or at the relay's.
    pub unsent: u64,
    /// Datagrams that came in and were none of the rehearsal's, at its own socket or the relay's.
    pub foreign: u64,
}

/// How a rehearsal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// It ran as long as was asked.
    Complete,
    /// It was told to stop.
    Interrupted,
    /// The other machine answered no consent check for 30 s (RFC 7675 section 5.1).
    ConsentLost,
}

/// What a rehearsal did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The seed that repeats every decision.
    pub seed: u64,
    /// The impairment that was asked for, in each direction that this process impairs.
    pub profile: Profile,
    /// How it ended.
    pub ending: Ending,
    /// From the first to the last moment of it.
    #[serde(rename = "elapsedMs", serialize_with = "as_ms")]
    pub elapsed: Duration,
    /// The sides that ran in this process: caller and callee, or one of them, or none where no call
    /// came.
    pub parties: Vec<Party>,
}

impl Report {
    /// Datagrams that left the relay and never came in at the socket behind it: 0 unless this
    /// machine's kernel dropped some. `None` where the other side ran elsewhere.
    #[must_use]
    pub fn unaccounted(&self) -> Option<u64> {
        let [caller, callee] = self.parties.as_slice() else { return None };
        let lost_between = |from: &Party, to: &Party| {
            from.injected.released.total().saturating_sub(to.received.total())
        };
        Some(lost_between(caller, callee) + lost_between(callee, caller))
    }
}

/// Milliseconds to the microsecond; finer digits are noise of the clock's reading.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// [`ms`] in the shape that serde asks for.
pub(super) fn as_ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(ms(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_without_values_is_null_and_not_zero() {
        let json = serde_json::to_string(&Spread::default()).unwrap();
        assert_eq!(json, r#"{"count":0,"minMs":null,"meanMs":null,"maxMs":null}"#);
    }

    #[test]
    fn spread_keeps_ends_and_mean() {
        let mut spread = Spread::default();
        for ms in [30, 10, 20] {
            spread.add(Duration::from_millis(ms));
        }
        let json = serde_json::to_string(&spread).unwrap();
        assert_eq!(json, r#"{"count":3,"minMs":10.0,"meanMs":20.0,"maxMs":30.0}"#);
    }

    #[test]
    fn kinds_are_told_by_the_ranges_of_rfc_7983() {
        for (first, kind) in [
            (0, Some(Kind::Stun)),
            (3, Some(Kind::Stun)),
            (4, None),
            (127, None),
            (128, Some(Kind::Rtp)),
            (191, Some(Kind::Rtp)),
            (192, None),
        ] {
            assert_eq!(Kind::of(&[first]), kind, "first byte {first}");
        }
        assert_eq!(Kind::of(&[]), None);
    }
}
