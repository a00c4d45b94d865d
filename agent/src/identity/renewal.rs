//! When an endpoint asks for its next certificate, and whether it takes what it gets: a core.
//!
//! ```text
//!        at its due moment, while linked            the answer is kept
//!  Resting ──────────────────────────────► Asked ─────────────────────► Resting, with the next certificate
//!     ▲                                      │
//!     └───────── Paused, longer each time ◄──┘ refused, lost, of no use, not kept
//! ```
//! - The time is the collector's: each Welcome tells it, and boot time carries it on. This machine's wall clock, which
//!   may be years off, decides nothing here.
//! - Due is from two thirds of the life to three quarters, by the certificate's own key: a fleet that was installed on
//!   one day is spread over a twelfth of the life, 2.6 days of 31, and an agent that restarts keeps its place in it.
//! - Each try has a new key, which leaves memory only with its certificate, in one file and by one rename. Where the
//!   answer is lost, the collector still knows the key before (WIRE.md section 7.6).
//! - A certificate that would be due again within [`APART`] is refused: no clock makes a loop.

use std::time::Duration;

use super::certificate::Certificate;
use super::digest::sha256;
use crate::clock::Moment;

/// Renewals lie at least this far apart, whatever clocks and certificates say.
pub const APART: Duration = Duration::from_secs(3600);
/// The longest first pause after a try that failed; the collector hears an endpoint once a minute.
const PAUSE_FIRST: Duration = Duration::from_secs(120);
/// The longest pause: from two thirds of 31 days to the end there are 40 of them.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
/// 120 s doubled seven times are above four hours; the eighth is above the longest pause.
const DOUBLINGS_MAX: u32 = 8;

/// Why a certificate that the collector sent is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// It names another endpoint.
    #[error("it is another endpoint's")]
    Endpoint,
    /// It is for another key than the request's.
    #[error("it is for another key")]
    Key,
    /// By the collector's own clock it is not good now.
    #[error("by the collector's own clock it is not valid now")]
    Validity,
    /// It would have to be renewed again at once.
    #[error("it is so short that it is due again within the hour")]
    Short,
}

/// The collector's clock, as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CollectorClock {
    wall_us: u64,
    at: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Resting,
    Asked,
    Paused { until: Moment },
}

/// The renewals of one endpoint.
#[derive(Debug)]
pub struct Renewal {
    /// The certificate in force.
    certificate: Option<Certificate>,
    clock: Option<CollectorClock>,
    is_linked: bool,
    state: State,
    failures: u32,
    /// When the last one was kept.
    renewed: Option<Moment>,
}

impl Renewal {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            certificate: None,
            clock: None,
            is_linked: false,
            state: State::Resting,
            failures: 0,
            renewed: None,
        }
    }

    /// Takes note of the certificate in force: one that is another than before starts afresh. `None` for one that
    /// cannot be read, which is never renewed.
    pub fn handle_certificate(&mut self, certificate: Option<Certificate>) {
        if certificate != self.certificate {
            self.certificate = certificate;
            self.state = State::Resting;
            self.failures = 0;
        }
    }

    /// Takes the collector's clock, in microseconds since 1970, as it told it at `now`.
    pub fn handle_clock(&mut self, wall_us: u64, now: Moment) {
        self.clock = Some(CollectorClock { wall_us, at: now });
    }

    /// The collector takes records: requests may be sent.
    pub fn handle_linked(&mut self) {
        self.is_linked = true;
    }

    /// The connection is gone, and with it the answer to a request. `random` is uniform over all of `u64`.
    pub fn handle_unlinked(&mut self, random: u64, now: Moment) {
        self.is_linked = false;
        if self.state == State::Asked {
            self.handle_failed(random, now);
        }
    }

    /// A request is on its way.
    pub fn handle_asked(&mut self) {
        self.state = State::Asked;
    }

    /// No certificate came of it: later, and later each time.
    pub fn handle_failed(&mut self, random: u64, now: Moment) {
        let longest = PAUSE_FIRST.saturating_mul(1 << self.failures).min(PAUSE_MAX);
        self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        self.state = State::Paused { until: now + upper_half(longest, random) };
    }

    /// The next certificate is on disk.
    pub fn handle_kept(&mut self, certificate: Certificate, now: Moment) {
        self.handle_certificate(Some(certificate));
        self.renewed = Some(now);
    }

    /// The collector's wall clock at `now`, in microseconds since 1970; `None` before it told it.
    #[must_use]
    pub fn collector_us(&self, now: Moment) -> Option<u64> {
        let CollectorClock { wall_us, at } = self.clock?;
        Some(wall_us.saturating_add(micros(now.since(at))))
    }

    /// When a request is due next; `None` where none can be, as without a link.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let CollectorClock { wall_us, at } = self.clock.filter(|_| self.is_linked)?;
        let due = self.certificate.as_ref().map(due_us)?.saturating_sub(wall_us);
        let mut from = at + Duration::from_micros(due);
        if let Some(renewed) = self.renewed {
            from = from.max(renewed + APART);
        }
        match self.state {
            State::Resting => Some((from, "renewal")),
            State::Paused { until } => Some((from.max(until), "renewal again")),
            State::Asked => None,
        }
    }

    /// Whether a request is due.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        self.poll_timeout().is_some_and(|(due, _)| due <= now)
    }

    /// Whether the collector's word that the certificate has expired can be true. Right after a renewal it cannot.
    #[must_use]
    pub fn may_renew_first(&self, now: Moment) -> bool {
        self.certificate.is_some() && self.renewed.is_none_or(|at| now.since(at) >= APART)
    }

    /// Holds what the collector sent against what was asked.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn judge(
        &self,
        offered: &Certificate,
        public_key: &[u8],
        now: Moment,
    ) -> Result<(), Nonsense> {
        if self.certificate.as_ref().is_some_and(|own| own.endpoint != offered.endpoint) {
            return Err(Nonsense::Endpoint);
        }
        if offered.public_key != public_key {
            return Err(Nonsense::Key);
        }
        let wall_us = self.collector_us(now).ok_or(Nonsense::Validity)?;
        if !(offered.not_before_us..offered.not_after_us).contains(&wall_us) {
            return Err(Nonsense::Validity);
        }
        if due_us(offered) < wall_us.saturating_add(micros(APART)) {
            return Err(Nonsense::Short);
        }
        Ok(())
    }
}

impl Default for Renewal {
    fn default() -> Self {
        Self::new()
    }
}

/// When a certificate is to be renewed, in microseconds since 1970: from two thirds of its life to three quarters.
#[must_use]
pub fn due_us(certificate: &Certificate) -> u64 {
    let Certificate { not_before_us, not_after_us, public_key, .. } = certificate;
    let life = not_after_us.saturating_sub(*not_before_us);
    let digest = sha256(public_key);
    let place = digest[..8].iter().fold(0, |place, byte| place << 8 | u128::from(*byte));
    // Below a twelfth of the life, which fits.
    let spread = u64::try_from((u128::from(life / 12) * place) >> 64).unwrap_or(life / 12);
    not_before_us.saturating_add(life / 3 * 2).saturating_add(spread)
}

/// Uniform over the upper half of `0..=longest`; `random` is uniform over all of `u64`.
pub(crate) fn upper_half(longest: Duration, random: u64) -> Duration {
    let half = longest / 2;
    let nanos = (half.as_nanos() * u128::from(random)) >> 64;
    // Less than half of a duration that fits.
    half + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomtone_protocol::id::EndpointId;

    use super::*;

    const DAY_US: u64 = 86_400_000_000;
    /// 2026-11-22, and a boot some days ago.
    const ISSUED: u64 = 20_779 * DAY_US;
    const BOOT: Moment = Moment::from_nanos(400_000_000_000_000);

    /// As the collector issues them: 30 days, begun a day early.
    fn certificate(key: u8, issued_us: u64) -> Certificate {
        Certificate {
            endpoint: EndpointId([7; 16]),
            not_before_us: issued_us - DAY_US,
            not_after_us: issued_us + 30 * DAY_US,
            public_key: vec![key; 91],
        }
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    /// Linked when the collector's clock says `wall_us`.
    fn linked(certificate: Certificate, wall_us: u64, now: Moment) -> Renewal {
        let mut renewal = Renewal::new();
        renewal.handle_certificate(Some(certificate));
        renewal.handle_clock(wall_us, now);
        renewal.handle_linked();
        renewal
    }

    #[test]
    fn renewal_is_due_from_two_thirds_of_the_life_to_three_quarters() {
        let due: Vec<u64> = (0..=255).map(|key| due_us(&certificate(key, ISSUED))).collect();
        // Of 31 days from a day before the issue: 20 d 16 h to 23 d 6 h, so 19 d 16 h to 22 d 6 h after it.
        let (first, last) = (ISSUED + 472 * DAY_US / 24, ISSUED + 534 * DAY_US / 24);
        assert!(due.iter().all(|due| (first..last).contains(due)));
        // Spread over the whole span: each of its eight parts has some of the 256 (32 are expected, 10 is 4 sigma).
        for part in 0..8 {
            let [from, to] = [part, part + 1].map(|n| first + n * (last - first) / 8);
            let count = due.iter().filter(|due| (from..to).contains(due)).count();
            assert!(count >= 10, "{count} in part {part}");
        }
    }

    #[test]
    fn long_connection_renews_by_the_collectors_clock_of_its_welcome() {
        let own = certificate(1, ISSUED);
        let due = due_us(&own);
        let renewal = linked(own, ISSUED + 5 * DAY_US, BOOT);
        let (at, _) = renewal.poll_timeout().unwrap();
        assert_eq!(micros(at.since(BOOT)), due - (ISSUED + 5 * DAY_US));
        assert!(renewal.is_due(at));
        assert!(!renewal.is_due(at - Duration::from_micros(1)));
        assert_eq!(renewal.collector_us(BOOT + days(3)), Some(ISSUED + 8 * DAY_US));
    }

    #[test]
    fn without_a_link_or_a_certificate_nothing_is_due() {
        let mut renewal = Renewal::new();
        assert_eq!(renewal.poll_timeout(), None);
        renewal.handle_clock(ISSUED + 29 * DAY_US, BOOT);
        renewal.handle_linked();
        assert_eq!(renewal.poll_timeout(), None, "no certificate that could be read");
        renewal.handle_certificate(Some(certificate(1, ISSUED)));
        assert!(renewal.is_due(BOOT));
        renewal.handle_unlinked(0, BOOT);
        assert!(!renewal.is_due(BOOT));
    }

    #[test]
    fn one_request_is_in_flight_and_a_lost_answer_is_a_failure() {
        let mut renewal = linked(certificate(1, ISSUED), ISSUED + 25 * DAY_US, BOOT);
        assert!(renewal.is_due(BOOT));
        renewal.handle_asked();
        assert_eq!(renewal.poll_timeout(), None);
        renewal.handle_unlinked(0, BOOT);
        renewal.handle_linked();
        // Half of the first pause of 120 s, at the least.
        let again = BOOT + Duration::from_secs(60);
        assert_eq!(renewal.poll_timeout(), Some((again, "renewal again")));
    }

    #[test]
    fn pauses_double_from_two_minutes_to_six_hours() {
        let mut renewal = linked(certificate(1, ISSUED), ISSUED + 25 * DAY_US, BOOT);
        let pauses: Vec<u64> = (0..10)
            .map(|_| {
                renewal.handle_asked();
                renewal.handle_failed(u64::MAX, BOOT);
                let (at, _) = renewal.poll_timeout().unwrap();
                at.since(BOOT).as_secs_f64().round() as u64
            })
            .collect();
        let expected = [120, 240, 480, 960, 1920, 3840, 7680, 15_360, 21_600, 21_600];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn renewed_certificate_is_due_in_its_own_time() {
        let mut renewal = linked(certificate(1, ISSUED), ISSUED + 25 * DAY_US, BOOT);
        renewal.handle_asked();
        let next = certificate(2, ISSUED + 25 * DAY_US);
        assert_eq!(renewal.judge(&next, &[2; 91], BOOT), Ok(()));
        renewal.handle_kept(next.clone(), BOOT);
        let (at, _) = renewal.poll_timeout().unwrap();
        assert_eq!(micros(at.since(BOOT)), due_us(&next) - (ISSUED + 25 * DAY_US));
        assert!(!renewal.may_renew_first(BOOT + Duration::from_secs(3599)));
        assert!(renewal.may_renew_first(BOOT + APART));
    }

    #[test]
    fn answer_that_makes_no_sense_is_refused() {
        let now_us = ISSUED + 25 * DAY_US;
        let renewal = linked(certificate(1, ISSUED), now_us, BOOT);
        let good = certificate(2, now_us);
        let table = [
            (Certificate { endpoint: EndpointId([8; 16]), ..good.clone() }, Nonsense::Endpoint),
            (certificate(3, now_us), Nonsense::Key),
            // A collector whose clock was set by a year since its Welcome, either way.
            (certificate(2, now_us + 365 * DAY_US), Nonsense::Validity),
            (certificate(2, now_us - 365 * DAY_US), Nonsense::Validity),
            (Certificate { not_after_us: good.not_before_us, ..good.clone() }, Nonsense::Validity),
            // Good still, and due already.
            (certificate(2, now_us - 25 * DAY_US), Nonsense::Short),
            (Certificate { not_after_us: now_us + 1, ..good.clone() }, Nonsense::Short),
        ];
        for (offered, expected) in table {
            assert_eq!(renewal.judge(&offered, &[2; 91], BOOT), Err(expected), "{offered:?}");
        }
        let mut unheard = Renewal::new();
        unheard.handle_certificate(Some(certificate(1, ISSUED)));
        assert_eq!(unheard.judge(&good, &[2; 91], BOOT), Err(Nonsense::Validity), "whose clock?");
    }

    proptest! {
        /// Whatever a collector claims its clock to be, hour after hour, renewals lie an hour apart.
        #[test]
        fn no_clock_makes_a_loop(walls in proptest::collection::vec(any::<u64>(), 1..60)) {
            let mut renewal = Renewal::new();
            renewal.handle_certificate(Some(certificate(1, ISSUED)));
            let mut kept = None;
            for (minute, wall_us) in (0u64..).zip(walls) {
                let now = BOOT + Duration::from_secs(60 * minute);
                renewal.handle_clock(wall_us, now);
                renewal.handle_linked();
                if renewal.is_due(now) {
                    renewal.handle_asked();
                    // It issues by the clock that it claims.
                    let issued_us = wall_us.clamp(DAY_US, u64::MAX - 31 * DAY_US);
                    let offered = certificate(2, issued_us);
                    if renewal.judge(&offered, &[2; 91], now).is_ok() {
                        renewal.handle_kept(offered, now);
                        prop_assert!(kept.is_none_or(|at| now.since(at) >= APART));
                        kept = Some(now);
                    } else {
                        renewal.handle_failed(0, now);
                    }
                }
                renewal.handle_unlinked(0, now);
            }
        }
    }
}
