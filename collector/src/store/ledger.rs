//! Which records of one epoch are accounted for: stored, or reported lost.
//!
//! Records of an epoch are numbered from 0 without gaps, so the account is one watermark and the ranges below it that
//! nobody explained. `accepted = stored + reported lost + missing` holds at every moment.

use std::collections::BTreeMap;

use roomtone_protocol::id::Sequence;

/// The most open gaps of one epoch. Beyond it the oldest is closed: still counted as missing, no longer fillable.
///
/// A spool loses whole segments, so an honest epoch has a handful; 256 ranges are 4 KiB of rows.
pub const GAPS_MAX: usize = 256;

/// The account of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochLedger {
    next: u32,
    gaps: BTreeMap<u32, u32>,
    closed_missing: u64,
    reported_lost: u64,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Store it.
    New,
    /// It was stored or reported lost before: ack it, change nothing.
    Duplicate,
}

impl EpochLedger {
    /// Rebuilds a ledger from its parts; `gaps` are (first, last) ranges below `next`.
    #[must_use]
    pub fn from_parts(
        next: u32,
        gaps: impl IntoIterator<Item = (u32, u32)>,
        closed_missing: u64,
        reported_lost: u64,
    ) -> Self {
        Self { next, gaps: gaps.into_iter().collect(), closed_missing, reported_lost }
    }

    /// The first record above all that was heard of: what a cumulative ack says.
    #[must_use]
    pub fn next(&self) -> Sequence {
        Sequence(self.next)
    }

    /// The open gaps as (first, last), in order.
    pub fn gaps(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.gaps.iter().map(|(&first, &last)| (first, last))
    }

    /// Missing records in gaps that were closed.
    #[must_use]
    pub fn closed_missing(&self) -> u64 {
        self.closed_missing
    }

    /// Records that the endpoint reported lost, each counted once.
    #[must_use]
    pub fn reported_lost(&self) -> u64 {
        self.reported_lost
    }

    /// Records neither stored nor reported lost.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.gaps().map(|(first, last)| span(first, last)).sum::<u64>() + self.closed_missing
    }

    /// Takes note of an arriving record.
    ///
    /// The last number of an epoch, `u32::MAX`, is never new: no ack could speak of it.
    pub fn admit(&mut self, sequence: Sequence) -> Admission {
        let sequence = sequence.0;
        if sequence == u32::MAX {
            return Admission::Duplicate;
        }
        if sequence >= self.next {
            if sequence > self.next {
                self.open_gap(self.next, sequence - 1);
            }
            self.next = sequence + 1;
            return Admission::New;
        }
        if self.cut(sequence, sequence) > 0 { Admission::New } else { Admission::Duplicate }
    }

    /// Takes note of a range that the endpoint lost, `last` included.
    pub fn report_lost(&mut self, first: Sequence, last: Sequence) {
        let (first, last) = (first.0, last.0.min(u32::MAX - 1));
        if first > last {
            return;
        }
        let mut reported = self.cut(first, last);
        if last >= self.next {
            if first > self.next {
                self.open_gap(self.next, first - 1);
            }
            reported += span(first.max(self.next), last);
            self.next = last + 1;
        }
        self.reported_lost = self.reported_lost.saturating_add(reported);
    }

    fn open_gap(&mut self, first: u32, last: u32) {
        self.gaps.insert(first, last);
        self.close_surplus();
    }

    fn close_surplus(&mut self) {
        while self.gaps.len() > GAPS_MAX
            && let Some((first, last)) = self.gaps.pop_first()
        {
            self.closed_missing = self.closed_missing.saturating_add(span(first, last));
        }
    }

    /// Takes a range out of the gaps and returns how many numbers of it were in one.
    fn cut(&mut self, first: u32, last: u32) -> u64 {
        let mut cut = 0;
        while let Some((&gap_first, &gap_last)) = self.gaps.range(..=last).next_back()
            && gap_last >= first
        {
            self.gaps.remove(&gap_first);
            cut += span(gap_first.max(first), gap_last.min(last));
            if gap_last > last {
                self.gaps.insert(last + 1, gap_last);
            }
            if gap_first < first {
                self.gaps.insert(gap_first, first - 1);
                break;
            }
        }
        self.close_surplus();
        cut
    }
}

fn span(first: u32, last: u32) -> u64 {
    u64::from(last) - u64::from(first) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn admit(ledger: &mut EpochLedger, sequences: &[u32]) -> Vec<Admission> {
        sequences.iter().map(|&sequence| ledger.admit(Sequence(sequence))).collect()
    }

    #[test]
    fn late_record_fills_its_gap_once() {
        let mut ledger = EpochLedger::default();
        assert_eq!(admit(&mut ledger, &[0, 4]), [Admission::New, Admission::New]);
        assert_eq!(ledger.gaps().collect::<Vec<_>>(), [(1, 3)]);
        assert_eq!(admit(&mut ledger, &[2, 2]), [Admission::New, Admission::Duplicate]);
        assert_eq!(ledger.gaps().collect::<Vec<_>>(), [(1, 1), (3, 3)]);
        assert_eq!((ledger.missing(), ledger.next()), (2, Sequence(5)));
    }

    #[test]
    fn receipt_explains_a_gap_and_reaches_beyond_the_watermark() {
        let mut ledger = EpochLedger::default();
        admit(&mut ledger, &[0, 10]);
        // 3..=9 lie in the gap 1..=9, 10 is stored, 11..=14 were never heard of: 7 + 4 reported.
        ledger.report_lost(Sequence(3), Sequence(14));
        assert_eq!(ledger.gaps().collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!((ledger.reported_lost(), ledger.next()), (11, Sequence(15)));
        ledger.report_lost(Sequence(3), Sequence(14));
        assert_eq!(ledger.reported_lost(), 11, "the same receipt again reports nothing");
    }

    #[test]
    fn surplus_gaps_stay_counted_when_they_close() {
        let mut ledger = EpochLedger::default();
        // Every second number: one missing record in each of GAPS_MAX + 10 gaps.
        for i in 0..(GAPS_MAX as u32 + 10) {
            ledger.admit(Sequence(2 * i + 1));
        }
        assert_eq!(ledger.gaps().count(), GAPS_MAX);
        assert_eq!(ledger.missing(), GAPS_MAX as u64 + 10);
    }

    #[test]
    fn last_number_of_an_epoch_is_never_new() {
        let mut ledger = EpochLedger::default();
        assert_eq!(ledger.admit(Sequence(u32::MAX)), Admission::Duplicate);
        ledger.report_lost(Sequence(0), Sequence(u32::MAX));
        assert_eq!(ledger.next(), Sequence(u32::MAX));
    }

    proptest! {
        #[test]
        fn account_agrees_with_a_set_of_numbers(
            steps in proptest::collection::vec((0u32..200, 0u32..20, any::<bool>()), 1..120)
        ) {
            let mut ledger = EpochLedger::default();
            let (mut stored, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for (first, more, is_receipt) in steps {
                if is_receipt {
                    ledger.report_lost(Sequence(first), Sequence(first + more));
                    lost.extend((first..=first + more).filter(|n| !stored.contains(n)));
                } else {
                    let fresh = !stored.contains(&first) && !lost.contains(&first);
                    prop_assert_eq!(ledger.admit(Sequence(first)) == Admission::New, fresh);
                    if fresh {
                        stored.insert(first);
                    }
                }
                let next = stored.union(&lost).max().map_or(0, |n| n + 1);
                prop_assert_eq!(ledger.next(), Sequence(next));
                prop_assert_eq!(ledger.reported_lost(), lost.len() as u64);
                let accounted = (stored.len() + lost.len()) as u64;
                prop_assert_eq!(accounted + ledger.missing(), u64::from(next));
            }
        }
    }
}
