//! Hourly totals of one endpoint: sums, counts and maxima of integers, so that readers derive any average.
//!
//! The hour is the endpoint's own: records that waited out an outage in the spool fall where they were measured.
//! Retransmission and padding streams do not count: their loss is nobody's loss.

use std::collections::BTreeMap;

use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::media::{LegOpened, Media};

/// Where sums stop: 2^53 - 1, so that neither SQL integers nor readers that use doubles overflow.
pub const SUM_MAX: i64 = (1 << 53) - 1;

/// Totals of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourTotals {
    /// Legs that opened.
    pub legs: i64,
    /// Leg intervals.
    pub intervals: i64,
    /// Packets received, duplicates excluded.
    pub packets: i64,
    /// Packets lost.
    pub lost: i64,
    /// Sum of the intervals' mean jitter per stream, in 0.1 ms.
    pub jitter_sum_dms: i64,
    /// How many terms that sum has.
    pub jitter_count: i64,
    /// Largest jitter, in 0.1 ms.
    pub jitter_max_dms: i64,
    /// Sum of all round trips, in 0.1 ms.
    pub rtt_sum_dms: i64,
    /// How many round trips.
    pub rtt_count: i64,
    /// Largest round trip, in 0.1 ms.
    pub rtt_max_dms: i64,
    /// What was heard of received audio, concealed and silent included, in microseconds.
    pub heard_us: i64,
    /// What of it was concealed, in microseconds.
    pub concealed_us: i64,
}

impl HourTotals {
    /// Adds another's totals, stopping at [`SUM_MAX`].
    pub fn add(&mut self, other: &Self) {
        for (sum, term) in [
            (&mut self.legs, other.legs),
            (&mut self.intervals, other.intervals),
            (&mut self.packets, other.packets),
            (&mut self.lost, other.lost),
            (&mut self.jitter_sum_dms, other.jitter_sum_dms),
            (&mut self.jitter_count, other.jitter_count),
            (&mut self.rtt_sum_dms, other.rtt_sum_dms),
            (&mut self.rtt_count, other.rtt_count),
            (&mut self.heard_us, other.heard_us),
            (&mut self.concealed_us, other.concealed_us),
        ] {
            *sum = sum.saturating_add(term).clamp(-SUM_MAX, SUM_MAX);
        }
        self.jitter_max_dms = self.jitter_max_dms.max(other.jitter_max_dms);
        self.rtt_max_dms = self.rtt_max_dms.max(other.rtt_max_dms);
    }
}

/// The hour of an opened leg and what it adds.
#[must_use]
pub fn of_leg(leg: &LegOpened) -> (u64, HourTotals) {
    (leg.opened.wall_us / HOUR_US, HourTotals { legs: 1, ..HourTotals::default() })
}

/// What a pack of intervals adds, by the hour in which each began.
#[must_use]
pub fn of_intervals(pack: &LegIntervals) -> BTreeMap<u64, HourTotals> {
    let mut hours: BTreeMap<u64, HourTotals> = BTreeMap::new();
    let mut started_ms = pack.started_wall_ms;
    let heard = pack.heard.as_deref().unwrap_or_default();
    for (position, interval) in (0u8..).zip(pack.intervals()) {
        let mut totals = HourTotals {
            intervals: 1,
            rtt_sum_dms: i64::from(interval.rtt_mean_dms)
                .saturating_mul(i64::from(interval.rtt_count))
                .min(SUM_MAX),
            rtt_count: i64::from(interval.rtt_count),
            rtt_max_dms: i64::from(interval.rtt_max_dms),
            ..HourTotals::default()
        };
        for row in &interval.streams {
            let media = pack.streams.get(usize::from(row.stream)).map(|key| key.media);
            if media == Some(Media::Rtx) {
                continue;
            }
            totals.packets += i64::from(row.received);
            totals.lost += i64::from(row.lost);
            if row.received > 0 {
                totals.jitter_sum_dms += i64::from(row.jitter_mean_dms);
                totals.jitter_count += 1;
                totals.jitter_max_dms = totals.jitter_max_dms.max(i64::from(row.jitter_max_dms));
            }
        }
        for row in heard.iter().filter(|row| row.interval == position) {
            totals.heard_us += i64::from(row.total_us);
            totals.concealed_us += i64::from(row.concealed_us);
        }
        hours.entry(started_ms / HOUR_MS).or_default().add(&totals);
        started_ms = started_ms.saturating_add(u64::from(interval.duration_ms));
    }
    hours
}

const HOUR_MS: u64 = 3_600_000;
const HOUR_US: u64 = HOUR_MS * 1_000;
