//! How an endpoint stands, from all that is known of it: the registry, the store, its heartbeat.
//!
//! What is worse comes first: a cloned identity, silence, something that does not work, a machine that never came.

use roomtone_protocol::configuration::Outcome;
use roomtone_protocol::health::{ClockState, Health, Troubles};

use super::heartbeat::Heard;
use crate::identity::standing::EndpointStanding;
use crate::store::EndpointFacts;

/// How an endpoint stands; the worst is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Two machines use its identity.
    Cloned,
    /// It was heard and is not heard any more.
    Silent,
    /// It is heard, and something does not work as it should.
    Degraded,
    /// It was enrolled and never came.
    NeverSeen,
    /// It is heard and has nothing to complain of.
    Up,
    /// An operator took its identity back.
    Revoked,
}

impl State {
    /// All of them, worst first.
    pub const ALL: [Self; 6] =
        [Self::Cloned, Self::Silent, Self::Degraded, Self::NeverSeen, Self::Up, Self::Revoked];

    /// The name in JSON, in tables and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloned => "cloned",
            Self::Silent => "silent",
            Self::Degraded => "degraded",
            Self::NeverSeen => "neverSeen",
            Self::Up => "up",
            Self::Revoked => "revoked",
        }
    }
}

/// How an endpoint stands, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How.
    pub state: State,
    /// Since when, in microseconds since 1970 by the collector's clock; of one that is heard, since it connected.
    pub since_us: Option<u64>,
    /// Why, a line each. Some of it comes from the endpoint: escape before printing.
    pub why: Vec<String>,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Where it was enrolled here.
    pub standing: Option<&'a EndpointStanding>,
    /// Where it has records, or had a connection.
    pub stored: Option<&'a EndpointFacts>,
    /// Where the fleet's book has it.
    pub heard: Option<&'a Heard>,
    /// The most bytes that its spool may take, by its effective configuration.
    pub spool_bytes_max: Option<u64>,
}

/// How late a heartbeat may be, in tenths of its interval: two that are lost and half of one.
const LATE_TENTHS: u64 = 25;
/// How long a heartbeat may take to reach the disk: the fleet's writer comes round once a second.
const WRITTEN_US: u64 = 2_000_000;
/// How full a spool is when it is told of, in tenths of its cap.
const SPOOL_TENTHS: u64 = 9;

/// Judges an endpoint at `now_us`.
#[must_use]
pub fn judge(known: Known<'_>, now_us: u64) -> Condition {
    if let Some(standing) = known.standing {
        if let Some(revoked_us) = standing.revoked_us {
            return Condition {
                state: State::Revoked,
                since_us: Some(revoked_us),
                why: Vec::new(),
            };
        }
        if let Some(cloned_us) = standing.cloned_us {
            let why = vec!["two machines use its identity, see `endpoint show`".to_owned()];
            return Condition { state: State::Cloned, since_us: Some(cloned_us), why };
        }
    }
    match (known.heard, known.stored) {
        (Some(heard), _) => judge_heard(known, heard, now_us),
        (None, Some(stored)) if stored.connected => up(known, None, None, now_us),
        (None, Some(stored)) => silent(stored.last_seen_us, "the connection ended"),
        (None, None) => Condition {
            state: State::NeverSeen,
            since_us: known.standing.map(|it| it.enrolled_us),
            why: Vec::new(),
        },
    }
}

fn judge_heard(known: Known<'_>, heard: &Heard, now_us: u64) -> Condition {
    if let Some(ended_us) = heard.ended_us {
        return silent(ended_us, "the connection ended");
    }
    let health = heard.heartbeat.as_ref().map(|it| &it.health);
    if let Some(heartbeat) = &heard.heartbeat {
        let interval_us = u64::from(heartbeat.health.interval_s.max(1)) * 1_000_000;
        // An old heartbeat says nothing of a connection that began after it.
        let last_us = heartbeat.heard_us.max(heard.connected_us);
        if now_us.saturating_sub(last_us) > interval_us * LATE_TENTHS / 10 + WRITTEN_US {
            return silent(last_us, "no heartbeat comes");
        }
    }
    up(known, Some(heard.connected_us), health, now_us)
}

fn silent(since_us: u64, why: &str) -> Condition {
    Condition { state: State::Silent, since_us: Some(since_us), why: vec![why.to_owned()] }
}

fn up(known: Known<'_>, since_us: Option<u64>, health: Option<&Health>, now_us: u64) -> Condition {
    let mut why =
        health.map(|health| complaints(health, known.spool_bytes_max)).unwrap_or_default();
    let told = health.is_some_and(|it| it.troubles.contains(Troubles::CERTIFICATE));
    if !told && known.standing.is_some_and(|it| ends_soon(it, now_us)) {
        why.push(CERTIFICATE.to_owned());
    }
    let state = if why.is_empty() { State::Up } else { State::Degraded };
    Condition { state, since_us, why }
}

const CERTIFICATE: &str = "its certificate ends soon and was not renewed";

/// Whether a certificate is past five sixths of its life, where it should have been renewed long ago.
fn ends_soon(standing: &EndpointStanding, now_us: u64) -> bool {
    let life_us = standing.expires_us.saturating_sub(standing.issued_us);
    now_us >= standing.issued_us.saturating_add(life_us - life_us / 6)
}

/// The troubles by their bits, in the order of [`Troubles`].
const TROUBLES: [(Troubles, &str); 7] = [
    (Troubles::MEMORY, "memory is near its ceiling"),
    (Troubles::CPU, "CPU is near its ceiling"),
    (Troubles::TAP_DROPS, "the tap loses packets"),
    (Troubles::SPOOL, "records cannot be written, or were shed"),
    (Troubles::NO_TAP, "no packet heads can be read"),
    (Troubles::NO_DEVICES, "sound devices cannot be watched"),
    (Troubles::CERTIFICATE, CERTIFICATE),
];

/// What a heartbeat complains of, a line each.
#[must_use]
pub fn complaints(health: &Health, spool_bytes_max: Option<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut unknown = health.troubles.0;
    for (trouble, words) in TROUBLES {
        unknown &= !trouble.0;
        if health.troubles.contains(trouble) {
            lines.push(words.to_owned());
        }
    }
    if unknown != 0 {
        lines.push(format!("troubles of a later version: {unknown:#x}"));
    }
    match health.clock {
        ClockState::Unsynchronised => lines.push("its clock is not synchronised".to_owned()),
        ClockState::Synchronised | ClockState::Unknown => {}
    }
    if let Some(latest) = &health.configuration.latest {
        let detail = latest.detail.as_str();
        match latest.outcome {
            Outcome::Refused => lines.push(format!("configuration refused: {detail}")),
            Outcome::RolledBack => lines.push(format!("configuration taken back: {detail}")),
            Outcome::InForce | Outcome::OnTrial | Outcome::WaitsForCall => {}
        }
    }
    if spool_bytes_max.is_some_and(|max| health.spool_bytes >= max / 10 * SPOOL_TENTHS) {
        lines.push("its spool is nearly full".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::configuration::ConfigurationHash;
    use roomtone_protocol::id::EndpointId;

    use super::*;
    use crate::fleet::heartbeat::Heartbeat;
    use crate::fleet::heartbeat::tests::health;
    use crate::identity::standing::KeyFingerprint;

    const SECOND_US: u64 = 1_000_000;
    const NOW_US: u64 = 1_795_391_940_000_000;

    fn standing() -> EndpointStanding {
        EndpointStanding {
            endpoint: EndpointId([1; 16]),
            name: "Oslo 4".to_owned(),
            site: "oslo".to_owned(),
            key: KeyFingerprint([1; 32]),
            key_seen: true,
            key_before: None,
            serial: vec![1],
            enrolled_us: NOW_US - 500 * SECOND_US,
            issued_us: NOW_US - 500 * SECOND_US,
            expires_us: NOW_US + 10_000 * SECOND_US,
            revoked_us: None,
            boot: None,
            cloned_us: None,
        }
    }

    fn heard(health: Option<Health>, heard_us: u64) -> Heard {
        Heard {
            endpoint: EndpointId([1; 16]),
            name: "Oslo 4".to_owned(),
            site: "oslo".to_owned(),
            agent_version: "0.1.0".to_owned(),
            connected_us: NOW_US - 300 * SECOND_US,
            ended_us: None,
            heartbeat: health.map(|health| Heartbeat { heard_us, health, cpu: None }),
        }
    }

    fn judged(standing: Option<&EndpointStanding>, heard: Option<&Heard>) -> Condition {
        judge(Known { standing, stored: None, heard, spool_bytes_max: Some(100_000_000) }, NOW_US)
    }

    #[test]
    fn endpoint_is_silent_after_two_and_a_half_intervals() {
        // An interval of 60 s: 150 s, and 2 s for the way to the disk.
        for (ago_s, state) in [(0, State::Up), (152, State::Up), (153, State::Silent)] {
            let heard = heard(Some(health(9, None)), NOW_US - ago_s * SECOND_US);
            let condition = judged(Some(&standing()), Some(&heard));
            assert_eq!(condition.state, state, "{ago_s} s");
            if state == State::Silent {
                assert_eq!(condition.since_us, Some(NOW_US - 153 * SECOND_US));
            }
        }
    }

    #[test]
    fn end_of_the_connection_is_silence_at_once_and_a_new_one_ends_it() {
        let mut it = heard(Some(health(9, None)), NOW_US - SECOND_US);
        it.ended_us = Some(NOW_US);
        assert_eq!(judged(None, Some(&it)).state, State::Silent);
        // Back after a day: its old heartbeat is not held against it.
        let mut it = heard(Some(health(9, None)), NOW_US - 86_400 * SECOND_US);
        it.connected_us = NOW_US - SECOND_US;
        assert_eq!(judged(None, Some(&it)).state, State::Up);
    }

    #[test]
    fn agent_without_heartbeats_is_judged_by_its_connection() {
        assert_eq!(judged(None, Some(&heard(None, 0))).state, State::Up);
        assert_eq!(judged(Some(&standing()), None).state, State::NeverSeen);
    }

    #[test]
    fn each_trouble_has_words_and_later_ones_a_number() {
        let mut sick = health(9, Some((ConfigurationHash([7; 8]), Outcome::Refused)));
        sick.troubles = Troubles(u32::MAX);
        sick.clock = ClockState::Unsynchronised;
        sick.spool_bytes = 90_000_000;
        let condition = judged(None, Some(&heard(Some(sick), NOW_US)));
        assert_eq!(condition.state, State::Degraded);
        // Seven known troubles, the later ones in a line, clock, configuration, spool.
        assert_eq!(condition.why.len(), 11);
        for expected in [
            "the tap loses packets",
            "troubles of a later version: 0xffffff80",
            "its clock is not synchronised",
            "configuration refused: log.level: loud",
            "its spool is nearly full",
        ] {
            assert!(condition.why.iter().any(|it| it == expected), "{:?}", condition.why);
        }
    }

    #[test]
    fn certificate_that_was_not_renewed_degrades_once() {
        // Five sixths of 6,000 s are over after 5,000 s.
        let mut standing = standing();
        standing.issued_us = NOW_US - 5_000 * SECOND_US;
        standing.expires_us = NOW_US + 1_000 * SECOND_US;
        let mut warned = health(9, None);
        for troubles in [Troubles::default(), Troubles::CERTIFICATE] {
            warned.troubles = troubles;
            let condition = judged(Some(&standing), Some(&heard(Some(warned.clone()), NOW_US)));
            assert_eq!((condition.state, condition.why.len()), (State::Degraded, 1));
        }
    }

    #[test]
    fn what_an_operator_did_comes_before_what_is_heard() {
        let heard = heard(Some(health(9, None)), NOW_US);
        let revoked = EndpointStanding { revoked_us: Some(7), ..standing() };
        assert_eq!(judged(Some(&revoked), Some(&heard)).state, State::Revoked);
        let cloned = EndpointStanding { cloned_us: Some(7), ..standing() };
        assert_eq!(judged(Some(&cloned), Some(&heard)).state, State::Cloned);
    }

    #[test]
    fn absurd_numbers_are_judged_without_a_panic() {
        let mut absurd = health(u32::MAX, None);
        (absurd.interval_s, absurd.spool_bytes, absurd.cpu_ms) = (0, u64::MAX, u64::MAX);
        let mut it = heard(Some(absurd), u64::MAX);
        it.connected_us = u64::MAX;
        assert_eq!(judged(Some(&standing()), Some(&it)).state, State::Degraded);
        it.ended_us = Some(u64::MAX);
        assert_eq!(judged(None, Some(&it)).state, State::Silent);
        let broken = EndpointStanding { issued_us: u64::MAX, expires_us: 0, ..standing() };
        let fresh = heard(Some(health(9, None)), NOW_US);
        assert_eq!(judged(Some(&broken), Some(&fresh)).state, State::Up);
    }
}
