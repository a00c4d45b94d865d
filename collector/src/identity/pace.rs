//! How often one source may ask for something that costs a signature and a disk's sync: some at once, then one in a
//! while.
//!
//! A source of enrolments is an address, an IPv6 one its /64: a building behind one address enrols a room a second, and
//! whoever guesses tokens gets no further than that. A source of renewals, hellos and log lines is an endpoint. A fixed
//! number of sources is remembered; beyond, those that are at rest are forgotten first.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use roomtone_protocol::id::EndpointId;

/// How many enrolments one network has at once, and how long it takes until it has one more.
pub const ENROLMENTS: (u32, Duration) = (60, Duration::from_secs(1));
/// How many renewals one endpoint has at once: one is needed in 20 days, some more where answers are lost.
pub const RENEWALS: (u32, Duration) = (5, Duration::from_secs(60));
/// How many hellos one endpoint has at once, and how long it takes until it has one more: agents come back after pauses
/// that grow to 30 s on average, and one that flaps for a while has some left.
pub const HELLOS: (u32, Duration) = (20, Duration::from_secs(10));
/// How many lines of the log about its connections one endpoint has.
pub const LINES: (u32, Duration) = (1, Duration::from_secs(60));
/// The most sources that are remembered: 4,096 of 40 bytes.
pub const SOURCES_MAX: usize = 4_096;
/// The most endpoints whose hellos are remembered, 3 MiB: those of a whole fleet that comes back within 10 s.
pub const GREETED_MAX: usize = 65_536;

/// What each source has used.
#[derive(Debug)]
pub struct Pace<K> {
    burst: u32,
    refill: Duration,
    sources_max: usize,
    /// When the source has its whole burst again.
    rested: HashMap<K, Instant>,
}

impl Pace<IpAddr> {
    /// That of [`ENROLMENTS`]; sources are those of [`network`].
    #[must_use]
    pub fn of_enrolments() -> Self {
        Self::new(ENROLMENTS, SOURCES_MAX)
    }
}

impl Pace<EndpointId> {
    /// That of [`RENEWALS`].
    #[must_use]
    pub fn of_renewals() -> Self {
        Self::new(RENEWALS, SOURCES_MAX)
    }

    /// That of [`HELLOS`].
    #[must_use]
    pub fn of_hellos() -> Self {
        Self::new(HELLOS, GREETED_MAX)
    }

    /// That of [`LINES`].
    #[must_use]
    pub fn of_lines() -> Self {
        Self::new(LINES, SOURCES_MAX)
    }
}

impl<K: Hash + Eq> Pace<K> {
    fn new((burst, refill): (u32, Duration), sources_max: usize) -> Self {
        Self { burst, refill, sources_max, rested: HashMap::new() }
    }

    /// Whether a request of `source` is heard at `now`; it is counted if so.
    pub fn admits(&mut self, source: K, now: Instant) -> bool {
        if !self.rested.contains_key(&source) && self.rested.len() >= self.sources_max {
            self.rested.retain(|_, rested| *rested > now);
            if self.rested.len() >= self.sources_max {
                return false;
            }
        }
        let rested = self.rested.entry(source).or_insert(now);
        let next = (*rested).max(now) + self.refill;
        if next > now + self.refill * self.burst {
            return false;
        }
        *rested = next;
        true
    }
}

/// The source that an address belongs to: an IPv4 address as it is, of an IPv6 address the first 64 bits.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u32 = ENROLMENTS.0;
    const REFILL: Duration = ENROLMENTS.1;

    #[test]
    fn source_has_a_burst_and_then_one_a_second() {
        let (mut pace, start) = (Pace::of_enrolments(), Instant::now());
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..BURST {
            assert!(pace.admits(source, start));
        }
        assert!(!pace.admits(source, start));
        assert!(pace.admits("192.0.2.2".parse().unwrap(), start), "another source");
        assert!(pace.admits(source, start + REFILL));
        assert!(!pace.admits(source, start + REFILL));
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:ffff::9", "2001:db8:0:1::"),
            ("2001:db8:0:2::", "2001:db8:0:2::"),
        ] {
            assert_eq!(network(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn sources_are_bounded_and_forgotten_once_they_rested() {
        let (mut pace, start) = (Pace::of_enrolments(), Instant::now());
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..SOURCES_MAX as u32 {
            assert!(pace.admits(source(n), start));
        }
        assert!(!pace.admits(source(u32::MAX), start));
        assert!(pace.admits(source(0), start), "who is known is heard");
        assert!(pace.admits(source(u32::MAX), start + REFILL));
        assert_eq!(pace.rested.len(), 2);
    }
}
