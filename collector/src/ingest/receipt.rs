//! What arrived of an endpoint's path probes, and the answers to them (WIRE.md section 8.1).
//!
//! One per connection, a quarter of a KiB: the latest 1,024 probes as bits, the number of the next answer, a rate
//! limit. Whatever a peer sends, it gets no more than one Echo and one Receipt per probe, and no more than
//! [`RATE_PER_SECOND`] of them: what lies beyond is counted and forgotten.

use std::time::{Duration, Instant};

use roomtone_protocol::probe::{
    DATAGRAM_BYTES_MAX, Datagram, Echo, Probe, RECEIPT_PROBES, Receipt,
};

/// How many probes are answered in the long run; an agent sends five a second at most.
pub const RATE_PER_SECOND: u32 = 20;
/// How many are answered at once: what waited together on the way is no abuse.
pub const BURST: u32 = 64;

/// What one probe costs of the time that the limit counts in.
const COST: Duration = Duration::from_nanos(1_000_000_000 / RATE_PER_SECOND as u64);
/// How far that time may run ahead.
const AHEAD: Duration = Duration::from_nanos(COST.as_nanos() as u64 * (BURST as u64 - 1));

const WORDS: usize = RECEIPT_PROBES / 64;

/// What was done with a connection's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Probes answered.
    pub answered: u64,
    /// Probes beyond the rate limit, not answered.
    pub excess: u64,
    /// Probes that had arrived before, or too far behind the latest one.
    pub stale: u64,
    /// Datagrams that are no probe: of a later version, or garbage.
    pub strange: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Receipts {
    /// Where `received_us` counts from.
    origin: Instant,
    latest: Option<u32>,
    /// Bit n % 64 of word n / 64: probe `latest - n` has arrived.
    bitmap: [u64; WORDS],
    next_echo: u32,
    /// Until when the answers given so far use up the rate limit.
    spent_until: Instant,
    taken: Option<Taken>,
    owes_receipt: bool,
    counts: Counts,
}

/// A probe that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Taken {
    probe: u32,
    at: Instant,
}

impl Receipts {
    /// Nothing has arrived yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            latest: None,
            bitmap: [0; WORDS],
            next_echo: 0,
            spent_until: now,
            taken: None,
            owes_receipt: false,
            counts: Counts::default(),
        }
    }

    /// Takes a datagram that arrived at `now`; drain [`poll_transmit`](Self::poll_transmit) before the next one.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Instant) {
        let Probe { sequence, wants_receipt } = match Datagram::decode(bytes) {
            Ok(Datagram::Probe(probe)) => probe,
            Ok(Datagram::Echo(_) | Datagram::Receipt(_)) | Err(_) => {
                self.counts.strange += 1;
                return;
            }
        };
        if self.spent_until.saturating_duration_since(now) > AHEAD {
            self.counts.excess += 1;
            return;
        }
        if !self.mark(sequence) {
            self.counts.stale += 1;
            return;
        }
        self.spent_until = self.spent_until.max(now) + COST;
        self.taken = Some(Taken { probe: sequence, at: now });
        self.owes_receipt = wants_receipt;
    }

    /// Writes the next datagram to send, its echo stamped with `now`, and returns its length.
    pub fn poll_transmit(
        &mut self,
        buffer: &mut [u8; DATAGRAM_BYTES_MAX],
        now: Instant,
    ) -> Option<usize> {
        let latest = self.latest?;
        let datagram = if let Some(Taken { probe, at }) = self.taken.take() {
            let echo = self.next_echo;
            self.next_echo = echo.wrapping_add(1);
            self.counts.answered += 1;
            Datagram::Echo(Echo {
                probe,
                echo,
                received_us: micros(at.saturating_duration_since(self.origin)),
                held_us: u32::try_from(now.saturating_duration_since(at).as_micros())
                    .unwrap_or(u32::MAX),
                latest,
                window: self.bitmap[0],
            })
        } else if std::mem::take(&mut self.owes_receipt) {
            Datagram::Receipt(Receipt { latest, bitmap: self.bitmap })
        } else {
            return None;
        };
        // The buffer has room for the largest.
        datagram.encode(buffer).ok()
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Notes an arrival; false where it is known already or too old to be noted.
    fn mark(&mut self, sequence: u32) -> bool {
        // As far ahead as behind, by the shorter way round.
        let ahead = self.latest.map_or(1, |latest| sequence.wrapping_sub(latest).cast_signed());
        let back = if ahead > 0 {
            self.advance(ahead.unsigned_abs() as usize);
            self.latest = Some(sequence);
            0
        } else {
            ahead.unsigned_abs() as usize
        };
        let Some(word) = self.bitmap.get_mut(back / 64) else { return false };
        let bit = 1 << (back % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Moves every bit `by` places towards the past.
    fn advance(&mut self, by: usize) {
        let (words, bits) = (by / 64, by % 64);
        for at in (0..WORDS).rev() {
            let from = |word: Option<usize>| word.map_or(0, |word| self.bitmap[word]);
            let (same, below) = (from(at.checked_sub(words)), from(at.checked_sub(words + 1)));
            self.bitmap[at] = match bits {
                0 => same,
                bits => (same << bits) | (below >> (64 - bits)),
            };
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn probe(sequence: u32, wants_receipt: bool) -> Vec<u8> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let probe = Datagram::Probe(Probe { sequence, wants_receipt });
        let length = probe.encode(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn drain(receipts: &mut Receipts, now: Instant) -> Vec<Datagram> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let mut sent = Vec::new();
        while let Some(length) = receipts.poll_transmit(&mut buffer, now) {
            sent.push(Datagram::decode(&buffer[..length]).unwrap());
        }
        sent
    }

    /// Sends probes 100 ms apart, which no limit touches, and returns the last answer's echo.
    fn send(receipts: &mut Receipts, at: &mut Instant, sequences: &[u32]) -> Option<Echo> {
        let mut last = None;
        for &sequence in sequences {
            *at += Duration::from_millis(100);
            receipts.handle_datagram(&probe(sequence, false), *at);
            last = drain(receipts, *at).into_iter().find_map(|it| match it {
                Datagram::Echo(echo) => Some(echo),
                Datagram::Probe(_) | Datagram::Receipt(_) => None,
            });
        }
        last
    }

    #[test]
    fn echo_tells_its_probe_its_times_and_what_is_missing() {
        let start = Instant::now();
        let mut receipts = Receipts::new(start);
        send(&mut receipts, &mut start.clone(), &[0, 1]);
        // Probe 2 is lost; 3 arrives after 500 ms and is answered 40 us later.
        let at = start + Duration::from_millis(500);
        receipts.handle_datagram(&probe(3, false), at);
        let sent = drain(&mut receipts, at + Duration::from_micros(40));
        // From the latest back: 3 and not 2, then 1 and 0.
        let window = 0b1101;
        let echo = Echo { probe: 3, echo: 2, received_us: 500_000, held_us: 40, latest: 3, window };
        assert_eq!(sent, [Datagram::Echo(echo)]);
    }

    #[test]
    fn late_probe_is_told_as_behind_the_latest_and_repeated_one_is_not_answered() {
        let mut at = Instant::now();
        let mut receipts = Receipts::new(at);
        let echo = send(&mut receipts, &mut at, &[0, 2, 1]).unwrap();
        assert_eq!((echo.probe, echo.latest, echo.window), (1, 2, 0b111));
        assert_eq!(send(&mut receipts, &mut at, &[1]), None);
        assert_eq!(receipts.counts(), Counts { answered: 3, stale: 1, ..Counts::default() });
    }

    #[test]
    fn receipt_follows_the_echo_and_reaches_back_1_023_probes() {
        let mut at = Instant::now();
        let mut receipts = Receipts::new(at);
        send(&mut receipts, &mut at, &[0, 1, 63, 64]);
        at += Duration::from_secs(60);
        receipts.handle_datagram(&probe(1024, true), at);
        let sent = drain(&mut receipts, at);
        let [Datagram::Echo(_), Datagram::Receipt(receipt)] = sent[..] else { panic!("{sent:?}") };
        let arrived = (0..1024u32)
            .filter(|n| receipt.bitmap[*n as usize / 64] >> (n % 64) & 1 == 1)
            .map(|n| receipt.latest - n);
        // Probe 0 is 1,024 back, one too many.
        assert_eq!(arrived.collect::<Vec<_>>(), [1024, 64, 63, 1]);
    }

    #[test]
    fn beyond_the_burst_only_the_rate_is_answered() {
        let mut at = Instant::now();
        let mut receipts = Receipts::new(at);
        for sequence in 0..200 {
            receipts.handle_datagram(&probe(sequence, false), at);
            drain(&mut receipts, at);
        }
        assert_eq!(receipts.counts().answered, u64::from(BURST));
        assert_eq!(receipts.counts().excess, 200 - u64::from(BURST));
        // Ten seconds at 20 a second, whatever comes in them.
        for sequence in 200..10_200 {
            at += Duration::from_millis(1);
            receipts.handle_datagram(&probe(sequence, false), at);
            drain(&mut receipts, at);
        }
        let answered = receipts.counts().answered - u64::from(BURST);
        assert!((199..=201).contains(&answered), "{answered}");
    }

    #[test]
    fn what_is_no_probe_is_counted_and_changes_nothing() {
        let now = Instant::now();
        let mut receipts = Receipts::new(now);
        let mut echo = [0; DATAGRAM_BYTES_MAX];
        let datagram = Datagram::Receipt(Receipt { latest: 0, bitmap: [0; WORDS] });
        let length = datagram.encode(&mut echo).unwrap();
        for bytes in [&b""[..], b"\x7f of a later version", b"\x01\x00", &echo[..length]] {
            receipts.handle_datagram(bytes, now);
            assert_eq!(drain(&mut receipts, now), []);
        }
        assert_eq!(receipts.counts(), Counts { strange: 4, ..Counts::default() });
    }

    /// Against a set that forgets nothing, over the wrap, with jumps of all sizes.
    #[test]
    fn bitmap_is_what_arrived_whatever_the_order() {
        let mut random = 7u64;
        let mut next = move |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut receipts = Receipts::new(Instant::now());
        let (mut newest, mut model) = (u64::from(u32::MAX) - 2_000, BTreeSet::new());
        for _ in 0..20_000 {
            let sequence = match next(20) {
                0 => newest + next(1_500),
                1..4 => newest.saturating_sub(next(1_100)),
                _ => newest + next(4),
            };
            let is_known = model.contains(&sequence);
            // Before anything has arrived there is no past.
            let is_old = !model.is_empty() && newest >= sequence + 1024;
            assert_eq!(receipts.mark(sequence as u32), !is_known && !is_old, "{sequence}");
            if !is_old {
                newest = if model.is_empty() { sequence } else { newest.max(sequence) };
                model.insert(sequence);
            }
            for back in [0, 1, 2, 63, 64, 65, 127, 500, 1023] {
                let bit = receipts.bitmap[back / 64] >> (back % 64) & 1 == 1;
                assert_eq!(bit, model.contains(&(newest - back as u64)), "{back} before {newest}");
            }
        }
    }
}
