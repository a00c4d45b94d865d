//! Round trips of STUN transactions that the endpoint itself began.
//!
//! Matched by transaction id, not by address: relays answer from other addresses than they were asked at. Our own
//! answers to inbound checks are processing time, not a round trip, and are never looked at.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;

use super::stun::TransactionId;

/// RFC 8489 section 6.2.1: a client gives up 39.5 s after its first request at the default timers.
const GIVE_UP: Duration = Duration::from_millis(39_500);
/// Open transactions kept at most: a room that checks 100 paths twice a second for the give-up time.
const OPEN_MAX: usize = 8_192;
/// The same request twice within this time is a duplicate on the wire; later it is a retransmission (RFC 8489: not
/// before 500 ms, Teams: 100 ms), whose answer cannot be told from the first one's.
const DUPLICATE_WITHIN: Duration = Duration::from_millis(20);

/// Sum, count and extremes of some round trips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RttTally {
    /// Answered transactions.
    pub count: u32,
    /// Transactions given up.
    pub unanswered: u32,
    /// Sum, for the mean.
    pub sum: Duration,
    /// Smallest; zero while `count` is 0, as the next two.
    pub min: Duration,
    /// Largest.
    pub max: Duration,
    /// Latest.
    pub last: Duration,
}

impl RttTally {
    /// Adds one answered transaction.
    pub fn add(&mut self, rtt: Duration) {
        self.min = if self.count == 0 { rtt } else { self.min.min(rtt) };
        self.max = self.max.max(rtt);
        self.sum += rtt;
        self.last = rtt;
        self.count += 1;
    }

    /// The arithmetic mean; `None` where nothing was answered.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count)
    }
}

/// One request that waits for its answer. `P` names the path that it was sent on.
#[derive(Debug, Clone, Copy)]
struct Open<P> {
    path: P,
    method: u16,
    sent: Moment,
    retransmitted: bool,
}

/// All requests that wait for their answers.
#[derive(Debug)]
pub struct Transactions<P> {
    open: HashMap<TransactionId, Open<P>, foldhash::fast::RandomState>,
    by_age: VecDeque<(Moment, TransactionId)>,
}

impl<P: Copy> Default for Transactions<P> {
    fn default() -> Self {
        Self { open: HashMap::default(), by_age: VecDeque::new() }
    }
}

impl<P: Copy> Transactions<P> {
    /// Takes a request that left the endpoint.
    pub fn handle_request(&mut self, id: TransactionId, method: u16, path: P, now: Moment) {
        if let Some(open) = self.open.get_mut(&id) {
            open.retransmitted |= now.since(open.sent) > DUPLICATE_WITHIN;
            return;
        }
        // A flood of requests costs the oldest their round trip, never memory.
        if self.by_age.len() >= OPEN_MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.open.insert(id, Open { path, method, sent: now, retransmitted: false });
        self.by_age.push_back((now, id));
    }

    /// Takes an answer that reached the endpoint; returns the path of its request and the round trip.
    ///
    /// `None` where nobody asked, the method differs, or the request had been retransmitted.
    pub fn handle_answer(
        &mut self,
        id: TransactionId,
        method: u16,
        now: Moment,
    ) -> Option<(P, Duration)> {
        let open = self.open.get(&id).filter(|open| open.method == method).copied()?;
        self.open.remove(&id);
        (!open.retransmitted).then(|| (open.path, now.since(open.sent)))
    }

    /// Gives up what has waited too long; calls `each` with the path of every one.
    pub fn expire(&mut self, now: Moment, mut each: impl FnMut(P)) {
        while let Some(&(sent, id)) = self.by_age.front() {
            // An answered transaction leaves its place in the order behind.
            let waits = self.open.get(&id).is_some_and(|open| open.sent == sent);
            if waits && now.since(sent) < GIVE_UP {
                break;
            }
            self.by_age.pop_front();
            if waits && let Some(open) = self.open.remove(&id) {
                each(open.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::stun::TransactionId;
    use super::{OPEN_MAX, RttTally, Transactions};
    use crate::clock::Moment;

    const BINDING: u16 = 1;

    fn ms(at: u64) -> Moment {
        Moment::from_nanos(at * 1_000_000)
    }

    #[test]
    fn answer_is_matched_by_id_and_counts_once() {
        let mut transactions = Transactions::default();
        transactions.handle_request(TransactionId(7), BINDING, 'a', ms(1000));
        assert_eq!(transactions.handle_answer(TransactionId(8), BINDING, ms(1040)), None);
        assert_eq!(transactions.handle_answer(TransactionId(7), 3, ms(1040)), None);
        let answer = transactions.handle_answer(TransactionId(7), BINDING, ms(1043));
        assert_eq!(answer, Some(('a', Duration::from_millis(43))));
        assert_eq!(transactions.handle_answer(TransactionId(7), BINDING, ms(1044)), None);
    }

    #[test]
    fn retransmitted_request_gives_no_round_trip_a_duplicated_one_does() {
        let mut transactions = Transactions::default();
        transactions.handle_request(TransactionId(1), BINDING, (), ms(0));
        transactions.handle_request(TransactionId(1), BINDING, (), ms(500));
        assert_eq!(transactions.handle_answer(TransactionId(1), BINDING, ms(540)), None);
        transactions.handle_request(TransactionId(2), BINDING, (), ms(0));
        transactions.handle_request(TransactionId(2), BINDING, (), ms(1));
        let rtt = transactions.handle_answer(TransactionId(2), BINDING, ms(40)).map(|(_, rtt)| rtt);
        assert_eq!(rtt, Some(Duration::from_millis(40)));
    }

    #[test]
    fn unanswered_request_is_given_up_after_39_and_a_half_seconds() {
        let mut transactions = Transactions::default();
        transactions.handle_request(TransactionId(1), BINDING, 'a', ms(0));
        transactions.handle_request(TransactionId(2), BINDING, 'b', ms(10));
        transactions.handle_answer(TransactionId(1), BINDING, ms(20));
        let mut given_up = Vec::new();
        transactions.expire(ms(39_509), |path| given_up.push(path));
        assert!(given_up.is_empty());
        transactions.expire(ms(39_510), |path| given_up.push(path));
        assert_eq!(given_up, ['b']);
    }

    #[test]
    fn flood_of_requests_is_bounded() {
        let mut transactions = Transactions::default();
        for n in 0..3 * OPEN_MAX as u128 {
            transactions.handle_request(TransactionId(n), BINDING, (), ms(0));
        }
        assert_eq!((transactions.open.len(), transactions.by_age.len()), (OPEN_MAX, OPEN_MAX));
    }

    #[test]
    fn tally_keeps_extremes_and_mean() {
        let mut tally = RttTally::default();
        assert_eq!(tally.mean(), None);
        for ms in [30, 10, 50] {
            tally.add(Duration::from_millis(ms));
        }
        let [min, max, last] = [tally.min, tally.max, tally.last].map(|rtt| rtt.as_millis());
        assert_eq!((min, max, last), (10, 50, 50));
        assert_eq!(tally.mean(), Some(Duration::from_millis(30)));
    }
}
