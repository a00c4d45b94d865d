//! What each endpoint is to be set to: of each of its scopes the newest revision that reaches it, the narrower before
//! the wider, key by key.
//!
//! A revision reaches a share of its scope; the others keep what they had, which is the newest earlier one that
//! reaches them. A share of 0 is a revision that was taken back. Where no scope of an endpoint ever had a revision,
//! nothing is wanted of it, which is not the same as wanting it empty: a collector that lost its file takes no
//! settings away. Nor is anything wanted of an endpoint that a revision of a later version reaches: it keeps what that
//! version gave it, until an operator takes the revision back or makes a newer one.

use std::collections::BTreeMap;

use roomtone_protocol::configuration::{Configuration, ConfigurationHash};
use roomtone_protocol::id::EndpointId;

use super::scope::Scope;
use super::settings::{self, Settings};

/// One version of a scope's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Counts up from 1 within the scope.
    pub number: u32,
    /// How much of the scope it reaches: 0 to 100 of a hundred; 0 where it was taken back.
    pub percent: u8,
    /// What it sets.
    pub settings: Settings,
}

/// The revisions of all scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Newest first.
    scopes: BTreeMap<Scope, Vec<Revision>>,
}

/// What an endpoint is to be set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name of the text.
    pub hash: ConfigurationHash,
    /// The merged settings.
    pub settings: Settings,
}

impl Wanted {
    fn new(settings: Settings) -> Self {
        Self { hash: settings::hash(&settings.text()), settings }
    }

    /// What travels.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        Configuration { hash: self.hash, text: self.settings.wire_text() }
    }
}

impl Plan {
    /// A plan of these revisions, in any order.
    #[must_use]
    pub fn new(revisions: impl IntoIterator<Item = (Scope, Revision)>) -> Self {
        let mut scopes: BTreeMap<Scope, Vec<Revision>> = BTreeMap::new();
        for (scope, revision) in revisions {
            scopes.entry(scope).or_default().push(revision);
        }
        for revisions in scopes.values_mut() {
            revisions.sort_unstable_by_key(|it| std::cmp::Reverse(it.number));
        }
        Self { scopes }
    }

    /// The scopes that ever had a revision, from the widest on.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    /// The newest revision of a scope that was not taken back.
    #[must_use]
    pub fn current(&self, scope: &Scope) -> Option<&Revision> {
        self.scopes.get(scope)?.iter().find(|it| it.percent > 0)
    }

    /// The revision of a scope that reaches one of its endpoints.
    #[must_use]
    pub fn reaching(&self, scope: &Scope, endpoint: EndpointId) -> Option<&Revision> {
        let revisions = self.scopes.get(scope)?;
        revisions.iter().enumerate().find_map(|(index, it)| {
            if it.percent == 0 {
                return None;
            }
            let full = revisions[index + 1..].iter().find(|older| older.percent >= 100);
            let base = full.map_or(0, |older| older.number);
            scope.is_among(it.percent, base, endpoint).then_some(it)
        })
    }

    /// What reaches an endpoint of `site`, from the widest scope on.
    #[must_use]
    pub fn layers(&self, endpoint: EndpointId, site: &str) -> Vec<(Scope, &Revision)> {
        let scopes = Scope::of(endpoint, site).into_iter();
        let reaching =
            scopes.filter_map(|scope| self.reaching(&scope, endpoint).map(|it| (scope, it)));
        reaching.collect()
    }

    /// How many revisions that reach somebody are of a later version.
    #[must_use]
    pub fn unread(&self) -> usize {
        let revisions = self.scopes.values().flatten();
        revisions.filter(|it| it.percent > 0 && it.settings.is_of_later_version()).count()
    }

    /// What an endpoint of `site` is to be set to; `None` where nobody ever said, or a later version did.
    #[must_use]
    pub fn wanted(&self, endpoint: EndpointId, site: &str) -> Option<Wanted> {
        if !Scope::of(endpoint, site).iter().any(|scope| self.scopes.contains_key(scope)) {
            return None;
        }
        let layers = self.layers(endpoint, site);
        let merged = layers
            .into_iter()
            .fold(Settings::default(), |wide, (_, narrow)| wide.merged(&narrow.settings));
        (!merged.is_of_later_version()).then(|| Wanted::new(merged))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(number: u32) -> EndpointId {
        EndpointId(u128::from(number).to_be_bytes())
    }

    fn level(number: u32, percent: u8, level: &str) -> Revision {
        let argument = format!("log.level={level}");
        let settings = Settings::from_arguments([argument.as_str()]).unwrap();
        Revision { number, percent, settings }
    }

    fn levels(plan: &Plan) -> (usize, usize, usize) {
        let count = |word: &str| {
            let text = format!("\"{word}\"");
            let wanted = (0..1_000).filter_map(|it| plan.wanted(endpoint(it), ""));
            wanted.filter(|it| it.settings.value("log.level") == Some(&text)).count()
        };
        (count("info"), count("debug"), count("trace"))
    }

    #[test]
    fn others_keep_the_revision_before_until_it_is_widened() {
        let fleet = |revisions: &[Revision]| {
            Plan::new(revisions.iter().map(|it| (Scope::Fleet, it.clone())))
        };
        let first = level(1, 100, "info");
        let (info, debug, _) = levels(&fleet(&[first.clone(), level(2, 10, "debug")]));
        assert_eq!(info + debug, 1_000);
        // 100 of 1,000, five deviations of sqrt(90) are 48.
        assert!((52..=148).contains(&debug), "{debug}");
        // What mends it goes to the same rooms.
        let mended = fleet(&[first.clone(), level(2, 10, "debug"), level(3, 10, "trace")]);
        assert_eq!(levels(&mended), (info, 0, debug));
        let back = fleet(&[first.clone(), level(2, 0, "debug"), level(3, 0, "trace")]);
        assert_eq!(levels(&back), (1_000, 0, 0));
        assert_eq!(levels(&fleet(&[first, level(2, 100, "debug")])), (0, 1_000, 0));
    }

    #[test]
    fn nothing_is_wanted_where_nobody_ever_said_and_empty_where_it_was_taken_back() {
        let oslo = Scope::Site("oslo".to_owned());
        let plan = Plan::new([(oslo.clone(), level(1, 100, "info"))]);
        assert_eq!(plan.wanted(endpoint(1), "bergen"), None);
        assert_eq!(plan.wanted(endpoint(1), ""), None);
        assert!(!plan.wanted(endpoint(1), "oslo").unwrap().settings.is_empty());
        let plan = Plan::new([(oslo.clone(), level(1, 0, "info"))]);
        let wanted = plan.wanted(endpoint(1), "oslo").unwrap();
        assert!(wanted.settings.is_empty() && plan.current(&oslo).is_none());
        // The SHA-256 of nothing begins with e3b0c442 98fc1c14.
        assert_eq!(wanted.hash.0, [0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14]);
        assert_eq!(wanted.configuration().text, "");
    }

    proptest! {
        /// Of each key: the endpoint's value, else the site's, else the fleet's.
        #[test]
        fn narrower_scope_wins_key_by_key(
            given in proptest::collection::vec(
                (0usize..3, 0usize..roomtone_protocol::configuration::KEYS.len(), 0u8..9), 0..30),
        ) {
            let keys = roomtone_protocol::configuration::KEYS;
            let scopes = Scope::of(endpoint(1), "oslo");
            let mut layers = vec![Settings::default(); 3];
            let mut expected = BTreeMap::new();
            for (scope, key, value) in &given {
                let argument = format!("{}={value}", keys[*key]);
                let one = Settings::from_arguments([argument.as_str()]).unwrap();
                layers[*scope] = layers[*scope].merged(&one);
            }
            for (scope, key, value) in &given {
                let found: &mut (usize, u8) = expected.entry(*key).or_insert((*scope, *value));
                if *scope >= found.0 {
                    *found = (*scope, *value);
                }
            }
            let plan = Plan::new(scopes.into_iter().zip(layers).map(|(scope, settings)| {
                (scope, Revision { number: 1, percent: 100, settings })
            }));
            let wanted = plan.wanted(endpoint(1), "oslo").unwrap();
            prop_assert_eq!(wanted.settings.len(), expected.len());
            for (key, (_, value)) in expected {
                let value = value.to_string();
                prop_assert_eq!(wanted.settings.value(keys[key]), Some(value.as_str()));
            }
        }
    }
}
