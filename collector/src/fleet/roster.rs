//! All endpoints that anybody knows of: the registry, the store, the fleet's book, joined by id and judged.
//!
//! An endpoint with a development certificate is not in the registry, one that never came is nowhere else.

use std::collections::BTreeMap;

use roomtone_protocol::configuration::EffectiveConfiguration;
use roomtone_protocol::id::EndpointId;

use super::condition::{self, Condition, Known, State};
use super::heartbeat::Heard;
use super::plan::Plan;
use super::rollout::{self, Member, Progress};
use super::settings::{self, Settings};
use crate::identity::standing::EndpointStanding;
use crate::naming::Named;
use crate::store::EndpointFacts;

/// The least that an agent's spool may be capped to, in bytes (`spool.bytes_max`): below nine tenths of it none is
/// nearly full.
const SPOOL_CAP_BYTES_MIN: u64 = 1 << 20;

/// What the endpoints are joined of, each without two of one id.
#[derive(Debug, Default)]
pub struct Sources {
    /// Who was enrolled.
    pub standings: Vec<EndpointStanding>,
    /// Who has records.
    pub stored: Vec<EndpointFacts>,
    /// Who was heard since there is a book.
    pub heard: Vec<Heard>,
    /// What they are set to.
    pub effective: Vec<(EndpointId, EffectiveConfiguration)>,
    /// What they are to be set to.
    pub plan: Plan,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub endpoint: EndpointId,
    /// Its display name: that of the registry before any other. From outside: escape before printing.
    pub name: String,
    /// Its site, likewise; empty for none.
    pub site: String,
    /// Where it was enrolled here.
    pub standing: Option<EndpointStanding>,
    /// Where it has records, or had a connection.
    pub stored: Option<EndpointFacts>,
    /// Where the book has it.
    pub heard: Option<Heard>,
    /// What it is set to, as it said.
    pub effective: Option<EffectiveConfiguration>,
    /// How it stands.
    pub condition: Condition,
    /// How far it is with its configuration.
    pub progress: Progress,
}

impl Named for Entry {
    fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Entry {
    /// The endpoint as a rollout counts it.
    #[must_use]
    pub fn member(&self) -> Member<'_> {
        let heartbeat = self.heard.as_ref().and_then(|it| it.heartbeat.as_ref());
        let state = heartbeat.map(|it| &it.health.configuration);
        Member { endpoint: self.endpoint, site: &self.site, state }
    }
}

/// Joins and judges endpoints at `now_us`; by id.
#[must_use]
pub fn join(sources: Sources, now_us: u64) -> (Vec<Entry>, Plan) {
    #[derive(Default)]
    struct Parts {
        standing: Option<EndpointStanding>,
        stored: Option<EndpointFacts>,
        heard: Option<Heard>,
        effective: Option<EffectiveConfiguration>,
    }
    let Sources { standings, stored, heard, effective, plan } = sources;
    let mut parts: BTreeMap<EndpointId, Parts> = BTreeMap::new();
    for it in standings {
        let endpoint = it.endpoint;
        parts.entry(endpoint).or_default().standing = Some(it);
    }
    for it in stored {
        let endpoint = it.endpoint;
        parts.entry(endpoint).or_default().stored = Some(it);
    }
    for it in heard {
        let endpoint = it.endpoint;
        parts.entry(endpoint).or_default().heard = Some(it);
    }
    for (endpoint, it) in effective {
        if let Some(parts) = parts.get_mut(&endpoint) {
            parts.effective = Some(it);
        }
    }
    let entry = |(endpoint, parts): (EndpointId, Parts)| {
        let Parts { standing, stored, heard, effective } = parts;
        let names = [
            standing.as_ref().map(|it| &it.name),
            heard.as_ref().map(|it| &it.name),
            stored.as_ref().map(|it| &it.name),
        ];
        let name = names.into_iter().flatten().find(|name| !name.is_empty()).cloned();
        let site = match (&standing, &heard) {
            (Some(it), _) => it.site.clone(),
            (None, Some(it)) => it.site.clone(),
            (None, None) => String::new(),
        };
        let known = Known {
            standing: standing.as_ref(),
            stored: stored.as_ref(),
            heard: heard.as_ref(),
            spool_bytes_max: spool_bytes_max(heard.as_ref(), effective.as_ref()),
        };
        let condition = condition::judge(known, now_us);
        let (name, progress) = (name.unwrap_or_default(), Progress::NothingWanted);
        let mut entry =
            Entry { endpoint, name, site, standing, stored, heard, effective, condition, progress };
        entry.progress = rollout::progress(&plan, entry.member());
        entry
    };
    let entries = parts.into_iter().map(entry).collect();
    (entries, plan)
}

/// Where a spool has enough in it to be worth the look.
fn spool_bytes_max(
    heard: Option<&Heard>,
    effective: Option<&EffectiveConfiguration>,
) -> Option<u64> {
    let heartbeat = heard?.heartbeat.as_ref()?;
    if heartbeat.health.spool_bytes < SPOOL_CAP_BYTES_MIN / 10 * 9 {
        return None;
    }
    let settings = Settings::parse(&effective?.text).ok()?;
    settings::bytes(settings.value("spool.bytes_max")?)
}

/// The endpoints that a rollout counts: those whose identity was not taken back.
pub fn members(entries: &[Entry]) -> impl Iterator<Item = Member<'_>> {
    entries.iter().filter(|it| it.condition.state != State::Revoked).map(Entry::member)
}

/// Puts the worst first, then by name.
pub fn worst_first(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        let order = |it: &Entry| (it.condition.state, it.name.to_lowercase(), it.endpoint);
        order(a).cmp(&order(b))
    });
}

/// How many endpoints stand how.
#[must_use]
pub fn counts(entries: &[Entry]) -> BTreeMap<State, u64> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.condition.state).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::heartbeat::Heartbeat;
    use crate::fleet::heartbeat::tests::health;
    use crate::store::RecordCounts;

    const NOW_US: u64 = 1_795_391_940_000_000;

    fn id(byte: u8) -> EndpointId {
        EndpointId([byte; 16])
    }

    fn stored(byte: u8, name: &str) -> EndpointFacts {
        EndpointFacts {
            endpoint: id(byte),
            name: name.to_owned(),
            agent_version: "0.1.0".to_owned(),
            link: None,
            first_seen_us: 1,
            last_seen_us: 2,
            connected: true,
            calls: 0,
            counts: RecordCounts::default(),
        }
    }

    fn heard(byte: u8, name: &str, spool_bytes: u64) -> Heard {
        let mut health = health(60, None);
        health.spool_bytes = spool_bytes;
        Heard {
            endpoint: id(byte),
            name: name.to_owned(),
            site: "oslo".to_owned(),
            agent_version: "0.1.0".to_owned(),
            connected_us: NOW_US,
            ended_us: None,
            heartbeat: Some(Heartbeat { heard_us: NOW_US, health, cpu: None }),
        }
    }

    #[test]
    fn endpoint_is_one_entry_wherever_it_is_known() {
        let sources = Sources {
            stored: vec![stored(2, "b"), stored(1, "certificate's")],
            heard: vec![heard(1, "a", 0), heard(3, "", 0)],
            ..Sources::default()
        };
        let (entries, _) = join(sources, NOW_US);
        let found: Vec<_> = entries.iter().map(|it| (it.endpoint.0[0], it.name.as_str())).collect();
        assert_eq!(found, [(1, "a"), (2, "b"), (3, "")]);
        assert_eq!(counts(&entries), BTreeMap::from([(State::Up, 3)]));
        assert_eq!(entries[0].site, "oslo");
    }

    #[test]
    fn spool_near_the_cap_that_the_endpoint_told_is_a_complaint_and_comes_first() {
        let text = "[spool]\nbytes_max = \"2MiB\"\n".try_into().unwrap();
        let effective = EffectiveConfiguration { hash: settings::hash("x"), text };
        // Nine tenths of 2,097,152 bytes, in whole tenths: 9 x 209,715.
        for (spool_bytes, state) in [(1_887_434, State::Up), (1_887_435, State::Degraded)] {
            let sources = Sources {
                heard: vec![heard(1, "a", 0), heard(2, "b", spool_bytes)],
                effective: vec![(id(2), effective.clone()), (id(9), effective.clone())],
                ..Sources::default()
            };
            let (mut entries, _) = join(sources, NOW_US);
            worst_first(&mut entries);
            let last = entries.iter().find(|it| it.name == "b").unwrap();
            assert_eq!((entries.len(), last.condition.state), (2, state), "{spool_bytes}");
            assert_eq!(entries[0].name, if state == State::Up { "a" } else { "b" });
        }
    }
}
