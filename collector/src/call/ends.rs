//! Both ends of one leg: two endpoints that saw it from its two sides.
//!
//! Two legs are the sides of one where each one's remote address is an address of the other, its local one or the one
//! that the far end sees of it (behind NAT), where they overlap in time, and where one's stream went out and the
//! other's came in with the same SSRC. Addresses are used again and private ones are used by many, so the SSRC is
//! asked for always: a relay or conference server that makes SSRCs of its own is in between, and then there is no far
//! end. Where more than one leg would do there is none either: no join is better than a wrong one.
//!
//! Endpoints' wall clocks differ. The collector keeps no estimate of by how much, so each is trusted to
//! [`CLOCK_UNCERTAINTY_US`]: a room whose clock is further off is not joined.

use std::net::{IpAddr, SocketAddr};

use roomtone_protocol::id::{CallId, EndpointId};
use roomtone_protocol::media::{Direction, Media};

use super::CallFacts;

/// How far an endpoint's wall clock may be off, in microseconds: 30 s. NTP keeps a clock within a second; a room
/// without NTP drifts by some seconds a day.
pub const CLOCK_UNCERTAINTY_US: u64 = 30_000_000;

/// One endpoint's side of a leg, by its totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegEnd {
    /// Whose.
    pub endpoint: EndpointId,
    /// Of which call of it.
    pub call: CallId,
    /// Which leg of that.
    pub leg: u16,
    /// Its own address.
    pub local: SocketAddr,
    /// The other's.
    pub remote: SocketAddr,
    /// Its own as the far end or a relay sees it.
    pub reflexive: Option<SocketAddr>,
    /// When it began, microseconds since 1970, endpoint's clock.
    pub from_us: u64,
    /// When it ended, likewise.
    pub until_us: u64,
    /// Whether its tap lost packets, so that its counts may be too low.
    pub is_in_doubt: bool,
    /// Its streams.
    pub streams: Vec<EndStream>,
}

/// A stream of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndStream {
    /// The synchronisation source.
    pub ssrc: [u8; 4],
    /// Seen from that end.
    pub direction: Direction,
    /// What it carries.
    pub media: Media,
    /// Packets that the end saw, duplicates excluded.
    pub packets: u64,
    /// Packets that the sequence numbers announce.
    pub announced: u64,
}

/// Whether there is a far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd<'a> {
    /// Nobody else saw this leg.
    None,
    /// More than one leg would do.
    Ambiguous,
    /// This one.
    Found(&'a LegEnd),
}

/// A stream from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The synchronisation source.
    pub ssrc: [u8; 4],
    /// Seen from the end that was asked about.
    pub direction: Direction,
    /// What it carries, as its sender knows.
    pub media: Media,
    /// Packets that were sent: seen by the sender, or announced by sequence numbers where its tap lost some.
    pub sent: u64,
    /// Packets that the receiver saw.
    pub arrived: u64,
    /// Whether the receiver's tap lost some, so that fewer may have been lost on the way.
    pub is_in_doubt: bool,
}

impl Crossing {
    /// Packets that were lost between the two.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

impl LegEnd {
    /// The side of a leg; `None` before its totals came, or where its beginning was lost.
    #[must_use]
    pub fn new(facts: &CallFacts, leg: u16) -> Option<Self> {
        let told = facts.legs.get(&leg)?;
        let (opened, summary) = (told.opened?.value, &told.summary.as_ref()?.value);
        let streams = summary.streams.iter().map(|it| EndStream {
            ssrc: it.key.ssrc,
            direction: it.key.direction,
            media: it.key.media,
            packets: it.received,
            announced: it.expected,
        });
        Some(Self {
            endpoint: facts.endpoint,
            call: facts.call,
            leg,
            local: canonical(opened.local),
            remote: canonical(opened.remote),
            reflexive: summary.reflexive.map(canonical),
            from_us: opened.opened.wall_us,
            until_us: summary.closed.wall_us.max(opened.opened.wall_us),
            is_in_doubt: summary.tap_dropped > 0,
            streams: streams.collect(),
        })
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        self.local == address || self.reflexive == Some(address)
    }

    /// Whether the other is the other side of this leg, as far as the two can tell.
    #[must_use]
    pub fn mirrors(&self, other: &Self) -> bool {
        let slack_us = 2 * CLOCK_UNCERTAINTY_US;
        self.endpoint != other.endpoint
            && self.is_at(other.remote)
            && other.is_at(self.remote)
            && self.from_us <= other.until_us.saturating_add(slack_us)
            && other.from_us <= self.until_us.saturating_add(slack_us)
            && self.crossings(other).next().is_some()
    }

    /// The far end of this leg among others, which may have this leg itself among them. To be sure of one, those that
    /// the far end could be joined with must be among them too.
    #[must_use]
    pub fn far_end<'a>(&self, others: &'a [Self]) -> FarEnd<'a> {
        let mut found = others.iter().filter(|other| self.mirrors(other));
        let Some(far) = found.next() else { return FarEnd::None };
        let is_own =
            |it: &Self| (it.endpoint, it.call, it.leg) == (self.endpoint, self.call, self.leg);
        if found.next().is_some() || others.iter().any(|it| !is_own(it) && far.mirrors(it)) {
            return FarEnd::Ambiguous;
        }
        FarEnd::Found(far)
    }

    /// The streams that went from one of the two to the other, by SSRC.
    pub fn crossings<'a>(&'a self, far: &'a Self) -> impl Iterator<Item = Crossing> + 'a {
        let meeting = |sender: &EndStream, receiver: &EndStream| {
            sender.ssrc == receiver.ssrc
                && sender.direction == Direction::Egress
                && receiver.direction == Direction::Ingress
        };
        self.streams.iter().flat_map(move |own| {
            let far_streams = far.streams.iter();
            far_streams.filter_map(move |other| {
                let (from, to, sender, receiver) = if meeting(own, other) {
                    (self, far, own, other)
                } else if meeting(other, own) {
                    (far, self, other, own)
                } else {
                    return None;
                };
                Some(Crossing {
                    ssrc: own.ssrc,
                    direction: own.direction,
                    media: sender.media,
                    sent: if from.is_in_doubt { sender.announced } else { sender.packets },
                    arrived: receiver.packets,
                    is_in_doubt: to.is_in_doubt,
                })
            })
        })
    }
}

/// IPv4 as IPv4, without flow label and zone: two endpoints write the same address in one way.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
