//! One connection of an endpoint, as far as its configuration and its heartbeats go: what it has, what it was sent,
//! and how much it may say.

use std::time::{Duration, Instant};

use roomtone_protocol::configuration::{ConfigurationHash, ConfigurationState};

use super::plan::Wanted;

/// How many reports an endpoint may make at once, and how long it takes until it may make one more: one is due a
/// minute, and one on each change.
pub const REPORTS: (u32, Duration) = (10, Duration::from_secs(1));

/// Which configuration an endpoint reported as its latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reported {
    /// It never reported.
    #[default]
    Unknown,
    /// That none ever came.
    None,
    /// This one.
    Latest(ConfigurationHash),
}

impl From<&ConfigurationState> for Reported {
    fn from(state: &ConfigurationState) -> Self {
        state.latest.as_ref().map_or(Self::None, |latest| Self::Latest(latest.hash))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    reported: Reported,
    /// The last that went down on this connection, which is reliable.
    sent: Option<ConfigurationHash>,
    /// When it may make as many reports as at first.
    rested: Instant,
}

impl Session {
    /// A connection that begins at `now`, of an endpoint that reported this on an earlier one.
    #[must_use]
    pub fn new(reported: Reported, now: Instant) -> Self {
        Self { reported, sent: None, rested: now }
    }

    /// What it reported last.
    #[must_use]
    pub fn reported(&self) -> Reported {
        self.reported
    }

    /// Whether a report is taken at `now`; it is counted if so.
    pub fn admits(&mut self, now: Instant) -> bool {
        let (burst, refill) = REPORTS;
        let next = self.rested.max(now) + refill;
        if next > now + refill * burst {
            return false;
        }
        self.rested = next;
        true
    }

    /// Takes what a heartbeat says.
    pub fn handle_report(&mut self, state: &ConfigurationState) {
        self.reported = Reported::from(state);
    }

    /// Whether `wanted` must be sent; it is taken for sent if so.
    pub fn must_send(&mut self, wanted: Option<&Wanted>) -> bool {
        let Some(wanted) = wanted else { return false };
        let has = match (self.sent, self.reported) {
            // What went down comes before a report, which may have crossed it.
            (Some(sent), _) => sent == wanted.hash,
            (None, Reported::Latest(hash)) => hash == wanted.hash,
            (None, Reported::None | Reported::Unknown) => wanted.settings.is_empty(),
        };
        if !has {
            self.sent = Some(wanted.hash);
        }
        !has
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::configuration::Outcome;
    use roomtone_protocol::id::EndpointId;

    use super::*;
    use crate::fleet::heartbeat::tests::health;
    use crate::fleet::plan::{Plan, Revision};
    use crate::fleet::scope::Scope;
    use crate::fleet::settings::Settings;

    fn wanted(arguments: &[&str]) -> Wanted {
        let settings = Settings::from_arguments(arguments.iter().copied()).unwrap();
        let revision = Revision { number: 1, percent: 100, settings };
        Plan::new([(Scope::Fleet, revision)]).wanted(EndpointId([1; 16]), "").unwrap()
    }

    fn report(session: &mut Session, hash: ConfigurationHash) {
        session.handle_report(&health(1, Some((hash, Outcome::InForce))).configuration);
    }

    #[test]
    fn configuration_is_sent_once_and_not_to_who_has_it() {
        let info = wanted(&["log.level=info"]);
        let mut session = Session::new(Reported::Latest(info.hash), Instant::now());
        assert!(!session.must_send(Some(&info)));
        let mut session = Session::new(Reported::Unknown, Instant::now());
        assert!(session.must_send(Some(&info)) && !session.must_send(Some(&info)));
        report(&mut session, info.hash);
        assert!(!session.must_send(Some(&info)) && !session.must_send(None));
    }

    #[test]
    fn endpoint_that_forgot_what_it_had_gets_it_again() {
        let info = wanted(&["log.level=info"]);
        let mut session = Session::new(Reported::Latest(info.hash), Instant::now());
        assert!(!session.must_send(Some(&info)));
        session.handle_report(&health(1, None).configuration);
        assert!(session.must_send(Some(&info)));
    }

    #[test]
    fn change_back_is_sent_though_the_last_report_says_so() {
        let (info, debug) = (wanted(&["log.level=info"]), wanted(&["log.level=debug"]));
        let mut session = Session::new(Reported::Latest(info.hash), Instant::now());
        assert!(session.must_send(Some(&debug)));
        // Its report crossed what went down.
        report(&mut session, info.hash);
        assert!(!session.must_send(Some(&debug)));
        assert!(session.must_send(Some(&info)));
    }

    #[test]
    fn nothing_is_taken_away_from_who_never_had_anything() {
        let nothing = wanted(&[]);
        for reported in [Reported::Unknown, Reported::None] {
            assert!(!Session::new(reported, Instant::now()).must_send(Some(&nothing)));
        }
        let had = Reported::Latest(wanted(&["log.level=info"]).hash);
        assert!(Session::new(had, Instant::now()).must_send(Some(&nothing)));
    }

    #[test]
    fn reports_beyond_ten_at_once_and_one_a_second_are_not_taken() {
        let start = Instant::now();
        let mut session = Session::new(Reported::Unknown, start);
        let taken = (0..100).filter(|_| session.admits(start)).count();
        assert_eq!(taken, 10);
        let later = start + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| session.admits(later)).count(), 3);
    }
}
