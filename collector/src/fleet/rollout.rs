//! What became of a scope's revision at the endpoints that it reaches.

use std::collections::BTreeMap;

use roomtone_protocol::configuration::{ConfigurationState, Outcome};
use roomtone_protocol::id::EndpointId;

use super::plan::Plan;
use super::scope::Scope;

/// The most reasons that are told apart.
pub const REASONS_MAX: usize = 20;

/// One endpoint of the fleet.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Which.
    pub endpoint: EndpointId,
    /// Its site; empty for none.
    pub site: &'a str,
    /// What its last heartbeat said; `None` where it never sent one.
    pub state: Option<&'a ConfigurationState>,
}

/// How far an endpoint is with what it is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nobody wants anything of it.
    NothingWanted,
    /// It has not spoken of it.
    NotHeard,
    /// It has said what became of it.
    Told(Outcome),
}

/// How far an endpoint is.
#[must_use]
pub fn progress(plan: &Plan, member: Member<'_>) -> Progress {
    let Some(wanted) = plan.wanted(member.endpoint, member.site) else {
        return Progress::NothingWanted;
    };
    match member.state.map(|state| state.latest.as_ref()) {
        Some(Some(latest)) if latest.hash == wanted.hash => Progress::Told(latest.outcome),
        // What sets nothing need not be sent to who has nothing.
        Some(None) if wanted.settings.is_empty() => Progress::Told(Outcome::InForce),
        Some(Some(_) | None) | None => Progress::NotHeard,
    }
}

/// The figures of a scope's current revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Endpoints of the scope.
    pub endpoints: u64,
    /// Those that the revision reaches; the ones below are among them.
    pub reached: u64,
    /// In force.
    pub in_force: u64,
    /// In force on trial.
    pub on_trial: u64,
    /// Waiting for the end of a call.
    pub waits_for_call: u64,
    /// Refused.
    pub refused: u64,
    /// Taken back.
    pub rolled_back: u64,
    /// Not heard of since.
    pub not_heard: u64,
    /// Why it was refused or taken back, and how often; at most [`REASONS_MAX`]. From outside: escape before
    /// printing.
    pub reasons: BTreeMap<String, u64>,
}

impl Figures {
    /// Counts a scope's current revision over the fleet; nothing is reached where it has none.
    #[must_use]
    pub fn count<'a>(
        plan: &Plan,
        scope: &Scope,
        members: impl IntoIterator<Item = Member<'a>>,
    ) -> Self {
        let mut figures = Self::default();
        let current = plan.current(scope).map(|it| it.number);
        for member in members {
            if !scope.includes(member.endpoint, member.site) {
                continue;
            }
            figures.endpoints += 1;
            let reaching = plan.reaching(scope, member.endpoint).map(|it| it.number);
            if current.is_some() && reaching == current {
                figures.add(plan, member);
            }
        }
        figures
    }

    /// Endpoints at which it did not work.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.rolled_back
    }

    fn add(&mut self, plan: &Plan, member: Member<'_>) {
        self.reached += 1;
        *match progress(plan, member) {
            Progress::NothingWanted | Progress::NotHeard => &mut self.not_heard,
            Progress::Told(Outcome::InForce) => &mut self.in_force,
            Progress::Told(Outcome::OnTrial) => &mut self.on_trial,
            Progress::Told(Outcome::WaitsForCall) => &mut self.waits_for_call,
            Progress::Told(Outcome::Refused) => {
                self.note(member);
                &mut self.refused
            }
            Progress::Told(Outcome::RolledBack) => {
                self.note(member);
                &mut self.rolled_back
            }
        } += 1;
    }

    fn note(&mut self, member: Member<'_>) {
        let Some(latest) = member.state.and_then(|state| state.latest.as_ref()) else { return };
        if let Some(count) = self.reasons.get_mut(latest.detail.as_str()) {
            *count += 1;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(latest.detail.as_str().to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::heartbeat::tests::health;
    use crate::fleet::plan::Revision;
    use crate::fleet::settings::Settings;

    #[test]
    fn each_endpoint_that_is_reached_counts_once() {
        let settings = Settings::from_arguments(["log.level=loud"]).unwrap();
        let revision = |number, percent| Revision { number, percent, settings: settings.clone() };
        let plan = Plan::new([(Scope::Fleet, revision(1, 50))]);
        let endpoints: Vec<_> = (0..200u128).map(|it| EndpointId(it.to_be_bytes())).collect();
        let reached: Vec<_> =
            endpoints.iter().filter(|it| plan.reaching(&Scope::Fleet, **it).is_some()).collect();
        let hash = plan.wanted(*reached[0], "").unwrap().hash;
        let outcomes = [
            Outcome::InForce,
            Outcome::OnTrial,
            Outcome::WaitsForCall,
            Outcome::Refused,
            Outcome::RolledBack,
        ];
        let states: Vec<_> =
            outcomes.iter().map(|it| health(1, Some((hash, *it))).configuration).collect();
        let member = |endpoint: &EndpointId| {
            let place = reached.iter().position(|it| *it == endpoint);
            let state = place.and_then(|place| states.get(place));
            Member { endpoint: *endpoint, site: "", state }
        };
        let figures = Figures::count(&plan, &Scope::Fleet, endpoints.iter().map(member));
        assert_eq!((figures.endpoints, figures.reached), (200, reached.len() as u64));
        let told = [
            figures.in_force,
            figures.on_trial,
            figures.waits_for_call,
            figures.refused,
            figures.rolled_back,
        ];
        assert_eq!((told, figures.failed()), ([1; 5], 2));
        assert_eq!(figures.not_heard, figures.reached - 5);
        assert_eq!(figures.reasons, BTreeMap::from([("log.level: loud".to_owned(), 2)]));
        let elsewhere = Scope::Site("oslo".to_owned());
        let none = Figures::count(&plan, &elsewhere, endpoints.iter().map(member));
        assert_eq!(none, Figures::default());
    }

    #[test]
    fn reasons_that_endpoints_invent_are_bounded() {
        let mut figures = Figures::default();
        for number in 0..1_000 {
            let hash = super::super::settings::hash("");
            let mut state = health(1, Some((hash, Outcome::Refused))).configuration;
            state.latest.as_mut().unwrap().detail =
                format!("{number}").as_str().try_into().unwrap();
            let endpoint = EndpointId([1; 16]);
            figures.note(Member { endpoint, site: "", state: Some(&state) });
        }
        assert_eq!(figures.reasons.len(), REASONS_MAX);
    }
}
