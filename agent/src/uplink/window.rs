//! What is on its way and not yet acknowledged, on one connection.
//!
//! Positions of different epochs have no order (an epoch is a random number), so flights are kept in the order of
//! sending and each knows its epoch. A flight is a run of records of one epoch that were sent together; its bytes
//! count until its last record is acknowledged, which errs on the side of less in flight.
//!
//! Bound: a flight merges with the one before it while both fit into [`FLIGHT_BYTES_MAX`], so two neighbours of the
//! same epoch hold more than that together: at most `2 * bytes_max / FLIGHT_BYTES_MAX + epochs` flights, 33 at
//! 256 KiB within one epoch.

use std::collections::VecDeque;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};

/// Records in flight, and the room left for more.
#[derive(Debug)]
pub(super) struct Window {
    bytes_max: usize,
    bytes: usize,
    flights: VecDeque<Flight>,
    /// The epoch of the last record sent, or of where the link goes on.
    latest: Option<Epoch>,
    /// How far the epoch was acknowledged that lost its last flight latest.
    settled: Option<Ack>,
}

#[derive(Debug)]
struct Flight {
    epoch: Epoch,
    /// The first record that is not yet acknowledged.
    first: Sequence,
    /// The number behind the last record.
    behind: Sequence,
    bytes: usize,
}

/// What an ack meant for the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Records that were in flight are on disk now.
    Progress,
    /// It repeats what was known, or speaks of an epoch that has nothing in flight.
    Stale,
    /// It speaks of records that were never sent; `sent` is the number behind the last one that was.
    Ahead {
        /// The number behind the last record sent in that epoch.
        sent: Sequence,
    },
}

impl Window {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, flights: VecDeque::new(), latest: None, settled: None }
    }

    /// Forgets all flights, as for a new connection whose collector has everything below `start`.
    pub(super) fn restart(&mut self, start: Ack) {
        self.bytes = 0;
        self.flights.clear();
        self.latest = Some(start.epoch);
        self.settled = Some(start);
    }

    /// How many more bytes may be sent.
    pub(super) fn room_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Notes one record as sent; `behind` is the number after its own.
    pub(super) fn sent(&mut self, id: RecordId, behind: Sequence, bytes: usize) {
        self.bytes += bytes;
        self.latest = Some(id.epoch);
        if let Some(last) = self.flights.back_mut()
            && last.epoch == id.epoch
            && last.bytes + bytes <= FLIGHT_BYTES_MAX
        {
            last.behind = behind;
            last.bytes += bytes;
        } else {
            self.flights.push_back(Flight { epoch: id.epoch, first: id.sequence, behind, bytes });
        }
    }

    /// Takes what an ack settles out of the window.
    pub(super) fn acknowledge(&mut self, ack: Ack) -> Verdict {
        let in_flight = self.flights.iter().rev().find(|flight| flight.epoch == ack.epoch);
        let settled = self.settled.filter(|settled| settled.epoch == ack.epoch);
        let Some(sent) = in_flight.map(|f| f.behind).or(settled.map(|s| s.next)) else {
            return Verdict::Stale;
        };
        // A loss receipt in a later epoch moves the collector's watermark over lost records of an earlier one.
        if ack.next > sent && self.latest == Some(ack.epoch) {
            return Verdict::Ahead { sent };
        }
        let mut verdict = Verdict::Stale;
        let mut freed = 0;
        self.flights.retain_mut(|flight| {
            if flight.epoch != ack.epoch || ack.next <= flight.first {
                return true;
            }
            verdict = Verdict::Progress;
            flight.first = ack.next;
            let stays = ack.next < flight.behind;
            if !stays {
                freed += flight.bytes;
            }
            stays
        });
        self.bytes -= freed;
        if ack.next >= sent {
            self.settled = Some(ack);
        }
        verdict
    }
}

/// The most bytes that one flight covers: a sixteenth of the default window, so that acks free room in fair steps.
const FLIGHT_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Epoch = Epoch(0xaaaa);
    const B: Epoch = Epoch(0x0bbb);

    fn send(window: &mut Window, epoch: Epoch, numbers: std::ops::Range<u32>, bytes: usize) {
        for n in numbers {
            window.sent(RecordId { epoch, sequence: Sequence(n) }, Sequence(n + 1), bytes);
        }
    }

    fn ack(epoch: Epoch, next: u32) -> Ack {
        Ack { epoch, next: Sequence(next) }
    }

    #[test]
    fn full_ack_frees_all_bytes() {
        let mut window = Window::new(1000);
        send(&mut window, A, 0..10, 100);
        assert_eq!(window.room_bytes(), 0);
        assert_eq!(window.acknowledge(ack(A, 10)), Verdict::Progress);
        assert_eq!((window.room_bytes(), window.is_empty()), (1000, true));
    }

    #[test]
    fn ack_inside_a_flight_is_progress_but_frees_nothing_yet() {
        let mut window = Window::new(1000);
        send(&mut window, A, 0..10, 100);
        assert_eq!(window.acknowledge(ack(A, 4)), Verdict::Progress);
        assert_eq!(window.room_bytes(), 0);
        assert_eq!(window.acknowledge(ack(A, 4)), Verdict::Stale, "the same ack again");
        assert_eq!(window.acknowledge(ack(A, 3)), Verdict::Stale, "an ack that goes back");
    }

    #[test]
    fn ack_beyond_what_was_sent_is_ahead_with_and_without_flights() {
        let mut window = Window::new(1000);
        window.restart(ack(A, 5));
        assert_eq!(window.acknowledge(ack(A, 6)), Verdict::Ahead { sent: Sequence(5) });
        send(&mut window, A, 5..7, 10);
        assert_eq!(window.acknowledge(ack(A, 8)), Verdict::Ahead { sent: Sequence(7) });
        assert_eq!(window.acknowledge(ack(A, 7)), Verdict::Progress);
        assert_eq!(window.acknowledge(ack(A, 8)), Verdict::Ahead { sent: Sequence(7) });
    }

    #[test]
    fn epochs_are_acknowledged_apart_whatever_their_numbers() {
        let mut window = Window::new(1000);
        send(&mut window, A, 90..95, 10);
        send(&mut window, B, 0..5, 10);
        assert_eq!(window.acknowledge(ack(B, 5)), Verdict::Progress);
        assert_eq!(window.room_bytes(), 950, "the five records of the older epoch still fly");
        assert_eq!(window.acknowledge(ack(A, 95)), Verdict::Progress);
        assert!(window.is_empty());
    }

    #[test]
    fn ack_across_the_lost_tail_of_an_ended_epoch_is_no_breach() {
        // Records 3 and 4 of the epoch are gone, and a receipt in the next epoch said so.
        let mut window = Window::new(1000);
        send(&mut window, A, 0..3, 10);
        assert_eq!(window.acknowledge(ack(A, 5)), Verdict::Ahead { sent: Sequence(3) });
        send(&mut window, B, 0..1, 10);
        assert_eq!(window.acknowledge(ack(A, 5)), Verdict::Progress);
        assert_eq!(window.acknowledge(ack(A, 5)), Verdict::Stale);
        assert_eq!(window.room_bytes(), 990);
    }

    #[test]
    fn ack_of_an_epoch_never_sent_is_stale() {
        let mut window = Window::new(1000);
        send(&mut window, A, 0..1, 10);
        assert_eq!(window.acknowledge(ack(B, 7)), Verdict::Stale);
    }

    #[test]
    fn flights_stay_few_however_small_the_records() {
        // 256 KiB of 32-byte records are 8192 records; merged to 16 KiB each they are 16 flights.
        let mut window = Window::new(256 * 1024);
        send(&mut window, A, 0..8192, 32);
        assert_eq!(window.flights.len(), 16);
    }
}
