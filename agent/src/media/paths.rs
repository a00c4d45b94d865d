//! All address pairs that are watched, found by their addresses in one look-up.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Moment;

use super::leg::Path;

/// Address pairs watched at once, at most. At the limit a pair that is no leg gives way, among some the one silent
/// for longest.
pub const PATHS_MAX: usize = 4_096;
/// A pair that is no leg is forgotten after this silence.
const PATH_IDLE: Duration = Duration::from_secs(30);
/// How many pairs are looked at for one that may give way: a flood of addresses must not cost a walk over all of them
/// per packet.
const EVICTION_LOOK: usize = 64;

/// Both addresses, the local one first, in a form that hashes fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathKey {
    local: u128,
    remote: u128,
    ports: u32,
}

impl PathKey {
    /// The key of a pair.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self {
            local: bits(local.ip()),
            remote: bits(remote.ip()),
            ports: u32::from(local.port()) << 16 | u32::from(remote.port()),
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Paths {
    /// In no order; the map has each one's place.
    places: Vec<Path>,
    by_key: HashMap<PathKey, usize, foldhash::fast::RandomState>,
    /// Where the next look for a place begins.
    hand: usize,
    evicted: u64,
    refused: u64,
}

impl Paths {
    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Pairs that gave way so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Packets whose pair found every place taken by a leg.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A pair that is watched.
    #[must_use]
    pub fn get(&self, key: PathKey) -> Option<&Path> {
        self.by_key.get(&key).map(|&place| &self.places[place])
    }

    /// A pair that is watched, to change it.
    pub fn get_mut(&mut self, key: PathKey) -> Option<&mut Path> {
        self.by_key.get(&key).map(|&place| &mut self.places[place])
    }

    /// The pair, watched from now on if it was not; `None` where every place is a leg's.
    pub fn admit(
        &mut self,
        key: PathKey,
        (local, remote): (SocketAddr, SocketAddr),
        now: Moment,
    ) -> Option<&mut Path> {
        let place = match self.by_key.get(&key) {
            Some(&known) => known,
            None => {
                if self.places.len() >= PATHS_MAX && !self.evict() {
                    self.refused += 1;
                    return None;
                }
                self.places.push(Path::new(local, remote, now));
                self.by_key.insert(key, self.places.len() - 1);
                self.places.len() - 1
            }
        };
        Some(&mut self.places[place])
    }

    /// The keys of all pairs that satisfy `wanted`.
    pub fn keys_where(&self, wanted: impl Fn(&Path) -> bool) -> Vec<PathKey> {
        self.places.iter().filter(|path| wanted(path)).map(Path::key).collect()
    }

    /// Forgets the pairs that are no legs and have been silent for long.
    pub fn forget_idle(&mut self, now: Moment) {
        let mut place = 0;
        while place < self.places.len() {
            let path = &self.places[place];
            if !path.is_leg() && now.since(path.last_at()) >= PATH_IDLE {
                self.forget(place);
            } else {
                place += 1;
            }
        }
    }

    /// Makes room; false where every place is a leg's.
    fn evict(&mut self) -> bool {
        let count = self.places.len();
        let hand = self.hand % count;
        self.hand = hand + EVICTION_LOOK;
        let places = || (0..count).map(|step| (hand + step) % count);
        let idlest = |places: &mut dyn Iterator<Item = usize>| {
            places.filter(|&n| !self.places[n].is_leg()).min_by_key(|&n| self.places[n].last_at())
        };
        let chosen = idlest(&mut places().take(EVICTION_LOOK)).or_else(|| idlest(&mut places()));
        if let Some(place) = chosen {
            self.forget(place);
            self.evicted += 1;
        }
        chosen.is_some()
    }

    fn forget(&mut self, place: usize) {
        let gone = self.places.swap_remove(place);
        self.by_key.remove(&gone.key());
        if let Some(moved) = self.places.get(place) {
            self.by_key.insert(moved.key(), place);
        }
    }
}
