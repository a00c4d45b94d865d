//! Requests to endpoints that wait for their answer: one per endpoint, for a bounded time, and the record that
//! answers.
//!
//! A request has no number on the wire (`WIRE.md` 5.4), and an endpoint may send the result of an older one late, out
//! of its spool. So an answer must have ended after the request was made, by the endpoint's own clock since boot, as
//! far as its Hello tells that clock. The Hello took its time to arrive, which makes that estimate early, never late.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roomtone_protocol::id::EndpointId;

/// How long a request stays open: as long as anybody may wait for it. A self-test takes some seconds.
pub const OPEN_MAX: Duration = Duration::from_secs(120);
/// The most requests that are open at once, over all endpoints: more than people at one collector begin in two minutes.
pub const REQUESTS_MAX: usize = 256;

/// The endpoint's clock since boot, as its Hello told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointClock {
    /// What it showed, in microseconds.
    pub uptime_us: u64,
    /// When that arrived here.
    pub at: Instant,
}

impl EndpointClock {
    /// What it surely shows at `now`, in microseconds, if it runs at most 0.1 % slower than ours.
    fn at_least_us(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at);
        let surely = since - since / SLOWEST_PART;
        self.uptime_us.saturating_add(u64::try_from(surely.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Quartz is off by 0.01 % at most, and the kernel's clock discipline slews by 0.05 %.
const SLOWEST_PART: u32 = 1_000;

/// Why a request cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// The endpoint has one open already.
    UnderWay,
    /// [`REQUESTS_MAX`] are open.
    TooMany,
}

/// The open requests, each with whoever waits for it.
#[derive(Debug)]
pub struct OpenRequests<T> {
    open: BTreeMap<EndpointId, Open<T>>,
}

#[derive(Debug)]
struct Open<T> {
    since: Instant,
    /// The least that an answer's own stamp may be, in microseconds since the endpoint booted.
    ended_min_us: u64,
    waiter: T,
}

impl<T> Default for OpenRequests<T> {
    fn default() -> Self {
        Self { open: BTreeMap::new() }
    }
}

impl<T> OpenRequests<T> {
    /// Opens a request to an endpoint whose clock is `clock`.
    ///
    /// # Errors
    /// [`NotOpened`], and then nobody waits.
    pub fn open(
        &mut self,
        endpoint: EndpointId,
        clock: EndpointClock,
        waiter: T,
        now: Instant,
    ) -> Result<(), NotOpened> {
        self.open.retain(|_, open| now.saturating_duration_since(open.since) < OPEN_MAX);
        if self.open.contains_key(&endpoint) {
            return Err(NotOpened::UnderWay);
        }
        if self.open.len() >= REQUESTS_MAX {
            return Err(NotOpened::TooMany);
        }
        let ended_min_us = clock.at_least_us(now);
        self.open.insert(endpoint, Open { since: now, ended_min_us, waiter });
        Ok(())
    }

    /// Takes back a request that could not be sent.
    pub fn withdraw(&mut self, endpoint: EndpointId) {
        self.open.remove(&endpoint);
    }

    /// Takes a result that ended at `ended_us` by the endpoint's clock since boot; returns who waits for it.
    pub fn handle_result(&mut self, endpoint: EndpointId, ended_us: u64) -> Option<T> {
        if self.open.get(&endpoint)?.ended_min_us > ended_us {
            return None;
        }
        self.open.remove(&endpoint).map(|open| open.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OSLO: EndpointId = EndpointId([1; 16]);
    const TROMSO: EndpointId = EndpointId([2; 16]);

    /// Booted 100 s before `at`.
    fn clock(at: Instant) -> EndpointClock {
        EndpointClock { uptime_us: 100_000_000, at }
    }

    #[test]
    fn second_request_to_an_endpoint_is_told_of_the_first_until_that_is_answered() {
        let (mut requests, now) = (OpenRequests::default(), Instant::now());
        assert_eq!(requests.open(OSLO, clock(now), 1, now), Ok(()));
        assert_eq!(requests.open(OSLO, clock(now), 2, now), Err(NotOpened::UnderWay));
        assert_eq!(requests.open(TROMSO, clock(now), 3, now), Ok(()), "it is another endpoint");
        assert_eq!(requests.handle_result(OSLO, 103_000_000), Some(1));
        assert_eq!(requests.handle_result(OSLO, 104_000_000), None, "nobody asked for this one");
        assert_eq!(requests.open(OSLO, clock(now), 4, now), Ok(()));
    }

    #[test]
    fn unanswered_request_is_given_up_after_two_minutes_and_not_before() {
        let (mut requests, now) = (OpenRequests::default(), Instant::now());
        requests.open(OSLO, clock(now), 1, now).unwrap();
        let before = now + OPEN_MAX - Duration::from_millis(1);
        assert_eq!(requests.open(OSLO, clock(now), 2, before), Err(NotOpened::UnderWay));
        assert_eq!(requests.open(OSLO, clock(now), 3, now + OPEN_MAX), Ok(()));
    }

    /// Asked 1,000 s after the Hello, when the endpoint's clock shows 1,100 s, or 1,099 s if it is slow by 0.1 %.
    #[test]
    fn result_that_ended_before_the_request_is_no_answer() {
        let (mut requests, hello) = (OpenRequests::default(), Instant::now());
        requests.open(OSLO, clock(hello), 1, hello + Duration::from_secs(1_000)).unwrap();
        assert_eq!(requests.handle_result(OSLO, 1_098_999_999), None);
        assert_eq!(requests.handle_result(OSLO, 1_099_000_000), Some(1));
    }

    #[test]
    fn requests_are_bounded() {
        let (mut requests, now) = (OpenRequests::default(), Instant::now());
        let endpoint = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            EndpointId(id)
        };
        for number in 0..REQUESTS_MAX {
            requests.open(endpoint(number), clock(now), (), now).unwrap();
        }
        let refused = requests.open(endpoint(REQUESTS_MAX), clock(now), (), now);
        assert_eq!(refused, Err(NotOpened::TooMany));
        requests.withdraw(endpoint(0));
        assert_eq!(requests.open(endpoint(REQUESTS_MAX), clock(now), (), now), Ok(()));
    }
}
