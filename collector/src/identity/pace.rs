//! How often one source address may ask to be enrolled: [`BURST`] at once, then one in [`REFILL`].
//!
//! A building behind one address enrols a room a second; whoever guesses tokens gets no further than that. An IPv6
//! source is its /64. [`SOURCES_MAX`] sources are remembered; beyond, those that are at rest are forgotten first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How many requests one source has at once.
pub const BURST: u32 = 60;
/// How long it takes until it has one more.
pub const REFILL: Duration = Duration::from_secs(1);
/// The most sources that are remembered: 4,096 of 40 bytes.
pub const SOURCES_MAX: usize = 4_096;

/// What each source has used.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the source has its whole burst again.
    rested: HashMap<IpAddr, Instant>,
}

impl Pace {
    /// Whether a request of `source` is heard at `now`; it is counted if so.
    pub fn admits(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        if !self.rested.contains_key(&source) && self.rested.len() >= SOURCES_MAX {
            self.rested.retain(|_, rested| *rested > now);
            if self.rested.len() >= SOURCES_MAX {
                return false;
            }
        }
        let rested = self.rested.entry(source).or_insert(now);
        let next = (*rested).max(now) + REFILL;
        if next > now + REFILL * BURST {
            return false;
        }
        *rested = next;
        true
    }
}

/// An IPv4 address as it is, of an IPv6 address the first 64 bits.
fn network(address: IpAddr) -> IpAddr {
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

    #[test]
    fn source_has_a_burst_and_then_one_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let source = "192.0.2.1".parse().unwrap();
        for _ in 0..BURST {
            assert!(pace.admits(source, start));
        }
        assert!(!pace.admits(source, start));
        assert!(!pace.admits("::ffff:192.0.2.1".parse().unwrap(), start), "the same address");
        assert!(pace.admits("192.0.2.2".parse().unwrap(), start), "another source");
        assert!(pace.admits(source, start + REFILL));
        assert!(!pace.admits(source, start + REFILL));
    }

    #[test]
    fn addresses_of_one_network_share_its_pace() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for host in 0..BURST as u16 {
            assert!(pace.admits(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]), start));
        }
        assert!(!pace.admits("2001:db8:0:1:ffff::".parse().unwrap(), start));
        assert!(pace.admits("2001:db8:0:2::".parse().unwrap(), start));
    }

    #[test]
    fn sources_are_bounded_and_forgotten_once_they_rested() {
        let (mut pace, start) = (Pace::default(), Instant::now());
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
