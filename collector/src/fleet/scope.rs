//! Whom a setting is for, and which of them get a new revision first.
//!
//! The canaries of a scope are chosen by a hash of the scope, the revision that the whole scope had last, and the
//! endpoint. So a wider share has all endpoints of a smaller one; a revision that mends a bad one goes to the very
//! rooms that have the bad one; and after a revision has reached everybody, the next one begins in other rooms.

use std::fmt;

use roomtone_protocol::id::EndpointId;

use crate::identity::digest::sha256;

/// Whom a setting is for; the narrower comes later and wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every endpoint.
    Fleet,
    /// Those of one site, as the registry has it. Not empty; from an operator, escape before printing.
    Site(String),
    /// One.
    Endpoint(EndpointId),
}

impl Scope {
    /// How the scope is written on disk.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Fleet => "fleet".to_owned(),
            Self::Site(site) => format!("site:{site}"),
            Self::Endpoint(endpoint) => format!("endpoint:{endpoint}"),
        }
    }

    /// Reads [`key`](Self::key).
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once(':') {
            None if key == "fleet" => Some(Self::Fleet),
            Some(("site", site)) if !site.is_empty() => Some(Self::Site(site.to_owned())),
            Some(("endpoint", id)) => id.parse().ok().map(Self::Endpoint),
            Some(_) | None => None,
        }
    }

    /// The scopes of an endpoint, from the widest on.
    #[must_use]
    pub fn of(endpoint: EndpointId, site: &str) -> Vec<Self> {
        let site = (!site.is_empty()).then(|| Self::Site(site.to_owned()));
        [Some(Self::Fleet), site, Some(Self::Endpoint(endpoint))].into_iter().flatten().collect()
    }

    /// Whether an endpoint of `site` is meant.
    #[must_use]
    pub fn includes(&self, endpoint: EndpointId, site: &str) -> bool {
        match self {
            Self::Fleet => true,
            Self::Site(name) => name == site,
            Self::Endpoint(id) => *id == endpoint,
        }
    }

    /// Whether an endpoint of the scope is among the first `percent` (0 to 100) since revision `base` (0 for none)
    /// reached all of it.
    #[must_use]
    pub fn is_among(&self, percent: u8, base: u32, endpoint: EndpointId) -> bool {
        if percent >= 100 {
            return true;
        }
        let mut input = self.key().into_bytes();
        input.push(0);
        input.extend(base.to_le_bytes());
        input.extend(endpoint.0);
        let mut head = [0; 8];
        head.copy_from_slice(&sha256(&input)[..8]);
        // The place of the endpoint on a line of 100, rounded down.
        let place = (u128::from(u64::from_be_bytes(head)) * 100) >> 64;
        place < u128::from(percent)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Site(site) => write!(f, "site {site}"),
            Self::Endpoint(endpoint) => write!(f, "endpoint {endpoint}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(number: u32) -> EndpointId {
        EndpointId(u128::from(number).to_be_bytes())
    }

    fn chosen(scope: &Scope, percent: u8, base: u32) -> Vec<u32> {
        (0..10_000).filter(|it| scope.is_among(percent, base, endpoint(*it))).collect()
    }

    /// Of 10,000 the standard deviation is sqrt(10,000 p (1 - p)), at most 50: within five of them, 250.
    #[test]
    fn share_of_a_scope_is_what_was_asked_for() {
        let oslo = Scope::Site("oslo".to_owned());
        for scope in [Scope::Fleet, oslo] {
            for percent in [0, 1, 5, 10, 50, 99, 100] {
                let (found, asked) = (chosen(&scope, percent, 0).len(), usize::from(percent) * 100);
                let spread = (asked * (10_000 - asked)) as f64 / 10_000.0;
                let distance = found.abs_diff(asked) as f64;
                assert!(distance <= 5.0 * spread.sqrt(), "{scope} {percent} %: {found}");
            }
        }
    }

    /// By chance a tenth of one tenth is in another tenth: 100 of 1,000, five deviations are 50.
    #[test]
    fn canaries_change_with_the_scope_and_with_what_everybody_had_last() {
        let first = chosen(&Scope::Fleet, 10, 0);
        for other in [chosen(&Scope::Fleet, 10, 1), chosen(&Scope::Site("oslo".into()), 10, 0)] {
            let both = other.iter().filter(|it| first.contains(it)).count();
            assert!((50..=150).contains(&both), "{both}");
        }
    }

    proptest! {
        #[test]
        fn wider_share_has_all_of_the_smaller_one(
            (small, wide, base, id) in (0u8..=100, 0u8..=100, any::<u32>(), any::<[u8; 16]>()),
            site in "[a-z:]{1,5}",
        ) {
            let (small, wide) = (small.min(wide), small.max(wide));
            for scope in [Scope::Fleet, Scope::Site(site)] {
                let is_among = |percent| scope.is_among(percent, base, EndpointId(id));
                prop_assert!(!is_among(small) || is_among(wide));
                prop_assert_eq!(Scope::from_key(&scope.key()), Some(scope));
            }
        }
    }

    #[test]
    fn keys_on_disk_are_read_back_and_nothing_else_is() {
        let endpoint = Scope::Endpoint(endpoint(7));
        assert_eq!(Scope::from_key(&endpoint.key()), Some(endpoint));
        for key in ["", "fleet:", "site:", "site", "endpoint:7", "room:1"] {
            assert_eq!(Scope::from_key(key), None, "{key}");
        }
    }
}
