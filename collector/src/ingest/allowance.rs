//! How many bytes of records an endpoint may bring: a burst, which is the backlog of an outage, then so many a minute.
//!
//! It counts over connections, or whoever comes back would have a new burst. What is spent is kept as the moment at
//! which the endpoint has its whole burst again (the generic cell rate algorithm, ITU-T I.371 annex A), so nothing has
//! to be counted up meanwhile. An endpoint without allowance is held: its records are left unread until it has some
//! again, and it is told apart from the others by one event at the beginning and one at the end.
//!
//! [`ENDPOINTS_MAX`] endpoints that are not at rest are remembered; one more is not held.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use roomtone_protocol::id::EndpointId;

/// The most endpoints that are remembered: 65,536 of 40 bytes, 3 MiB. A room's records of a day, 256 KiB, are rested
/// within 15 s at the default pace.
pub const ENDPOINTS_MAX: usize = 65_536;

/// What each endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// At once, in bytes.
    pub burst_bytes: u64,
    /// Then a minute, in bytes; not 0.
    pub minute_bytes: u64,
}

/// What each endpoint has spent.
#[derive(Debug)]
pub struct Allowances {
    allowance: Allowance,
    spent: HashMap<EndpointId, Spent>,
}

#[derive(Debug)]
struct Spent {
    /// When the endpoint has its whole burst again.
    rested: Instant,
    /// Whether it is held, and has not had an eighth of its burst since.
    is_held: bool,
}

/// What became of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has nothing left: from now on it is read at its pace.
    Held(EndpointId),
    /// It has an eighth of its burst again.
    Released(EndpointId),
}

impl Allowance {
    fn time(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 60_000_000_000 / u128::from(self.minute_bytes.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Allowances {
    /// Everybody has all of it.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, spent: HashMap::new() }
    }

    /// Takes the news that `bytes` of an endpoint's records were taken at `now`. A batch may exceed what was left.
    pub fn handle_taken(&mut self, endpoint: EndpointId, bytes: u64, now: Instant) -> Option<Turn> {
        if bytes == 0 {
            return None;
        }
        if !self.spent.contains_key(&endpoint) && self.spent.len() >= ENDPOINTS_MAX {
            self.spent.retain(|_, it| it.rested > now || it.is_held);
            if self.spent.len() >= ENDPOINTS_MAX {
                return None;
            }
        }
        let (cost, burst) =
            (self.allowance.time(bytes), self.allowance.time(self.allowance.burst_bytes));
        let spent = self.spent.entry(endpoint).or_insert(Spent { rested: now, is_held: false });
        let rested = spent.rested.max(now);
        spent.rested = rested.checked_add(cost).unwrap_or(rested);
        if spent.rested.saturating_duration_since(now) > burst && !spent.is_held {
            spent.is_held = true;
            return Some(Turn::Held(endpoint));
        }
        None
    }

    /// Until when nothing more of an endpoint is to be taken; `None` where it may go on at `now`.
    #[must_use]
    pub fn held_until(&self, endpoint: EndpointId, now: Instant) -> Option<Instant> {
        let burst = self.allowance.time(self.allowance.burst_bytes);
        let rest = self.spent.get(&endpoint)?.rested.saturating_duration_since(now);
        rest.checked_sub(burst).filter(|it| !it.is_zero()).map(|it| now + it)
    }

    /// Forgets who is at rest and releases who has an eighth of its burst again; call it every few seconds.
    pub fn handle_round(&mut self, now: Instant) -> Vec<Turn> {
        let burst = self.allowance.time(self.allowance.burst_bytes);
        let mut released = Vec::new();
        self.spent.retain(|endpoint, it| {
            let rest = it.rested.saturating_duration_since(now);
            if it.is_held && rest <= burst - burst / 8 {
                it.is_held = false;
                released.push(Turn::Released(*endpoint));
            }
            !rest.is_zero()
        });
        released
    }

    /// How many endpoints are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.spent.values().filter(|it| it.is_held).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OSLO: EndpointId = EndpointId([1; 16]);
    const BERGEN: EndpointId = EndpointId([2; 16]);
    const SECOND: Duration = Duration::from_secs(1);

    /// 8,000 bytes at once, then 6,000 a minute: 100 a second.
    fn allowances() -> Allowances {
        Allowances::new(Allowance { burst_bytes: 8_000, minute_bytes: 6_000 })
    }

    #[test]
    fn endpoint_has_a_burst_and_is_then_held_for_what_it_took_beyond_it() {
        let (mut all, start) = (allowances(), Instant::now());
        assert_eq!(all.handle_taken(OSLO, 8_000, start), None);
        assert_eq!(all.held_until(OSLO, start), None);
        // 500 bytes too many are 5 s.
        assert_eq!(all.handle_taken(OSLO, 500, start), Some(Turn::Held(OSLO)));
        assert_eq!(all.held_until(OSLO, start), Some(start + 5 * SECOND));
        assert_eq!(all.held_until(OSLO, start + 5 * SECOND), None);
        assert_eq!(all.handle_taken(OSLO, 100, start + 5 * SECOND), None, "told once");
        assert_eq!(all.held_until(OSLO, start + 5 * SECOND), Some(start + 6 * SECOND));
        assert_eq!(all.handle_taken(BERGEN, 8_000, start), None, "another endpoint");
        assert_eq!((all.held_until(BERGEN, start), all.held()), (None, 1));
    }

    #[test]
    fn held_endpoint_is_released_with_an_eighth_of_its_burst_and_then_forgotten() {
        let (mut all, start) = (allowances(), Instant::now());
        assert_eq!(all.handle_taken(OSLO, 8_100, start), Some(Turn::Held(OSLO)));
        // 1 s of debt and 10 s for 1,000 bytes; all 8,000 take 81 s.
        assert_eq!(all.handle_round(start + 10 * SECOND), []);
        assert_eq!(all.handle_round(start + 11 * SECOND), [Turn::Released(OSLO)]);
        assert_eq!((all.held(), all.spent.len()), (0, 1));
        assert_eq!(all.handle_round(start + 81 * SECOND), []);
        assert_eq!(all.spent.len(), 0);
    }

    #[test]
    fn endpoints_are_bounded_and_one_too_many_is_not_held() {
        let (mut all, start) = (allowances(), Instant::now());
        let id = |n: u32| EndpointId(u128::from(n).to_be_bytes());
        for n in 0..ENDPOINTS_MAX as u32 {
            assert_eq!(all.handle_taken(id(n), 100, start), None);
        }
        assert_eq!(all.handle_taken(id(u32::MAX), 9_000, start), None);
        assert_eq!(all.held_until(id(u32::MAX), start), None);
        // A second later all others are at rest.
        let later = start + SECOND;
        assert_eq!(all.handle_taken(id(u32::MAX), 9_000, later), Some(Turn::Held(id(u32::MAX))));
        assert_eq!(all.spent.len(), 1);
    }

    #[test]
    fn absurd_figures_do_not_overflow() {
        let mut all = Allowances::new(Allowance { burst_bytes: u64::MAX, minute_bytes: 0 });
        let now = Instant::now();
        for _ in 0..3 {
            all.handle_taken(OSLO, u64::MAX, now);
            assert!(all.held_until(OSLO, now).is_none_or(|until| until > now));
        }
        all.handle_round(now);
    }
}
