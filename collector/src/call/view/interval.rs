//! One interval of a leg as a line of its time line.

use roomtone_protocol::interval::StreamInterval;
use roomtone_protocol::media::{Direction, Media};

use super::{RttView, weighted_mean};
use crate::call::IntervalFacts;

/// One interval of a leg, all streams of a direction together, retransmission streams left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalView {
    /// Its number in the leg.
    pub number: u32,
    /// When it began, milliseconds since 1970, endpoint's clock.
    pub started_ms: u64,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u32,
    /// Towards the endpoint.
    pub ingress: DirectionView,
    /// From the endpoint.
    pub egress: DirectionView,
    /// Round trips of it.
    pub rtt: RttView,
    /// Round trips that were never answered.
    pub rtt_unanswered: u32,
    /// Packets that the tap itself lost: loss beside it may be ours.
    pub tap_dropped: u32,
}

/// One direction of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectionView {
    /// Packets received, duplicates excluded.
    pub received: u64,
    /// Packets lost; negative where a late one belongs to the interval before.
    pub lost: i64,
    /// Packet-weighted mean of the streams' mean jitter, in 0.1 ms; `None` where none was measured.
    pub jitter_mean_dms: Option<u32>,
    /// Largest jitter, in 0.1 ms; `None` where none was measured.
    pub jitter_max_dms: Option<u32>,
    /// Concealed and heard of its audio, in microseconds; `None` where nothing was told, as always from the endpoint.
    pub heard_us: Option<(u64, u64)>,
}

impl IntervalView {
    pub(super) fn new(number: u32, facts: &IntervalFacts) -> Self {
        let leg = &facts.leg;
        Self {
            number,
            started_ms: facts.started_wall_ms,
            duration_ms: leg.duration_ms,
            ingress: DirectionView::new(facts, Direction::Ingress),
            egress: DirectionView::new(facts, Direction::Egress),
            rtt: RttView {
                count: u64::from(leg.rtt_count),
                min_dms: leg.rtt_min_dms,
                mean_dms: leg.rtt_mean_dms,
                max_dms: leg.rtt_max_dms,
                last_dms: None,
            },
            rtt_unanswered: leg.rtt_unanswered,
            tap_dropped: leg.tap_dropped,
        }
    }

    /// What stands out in it, one letter each: `L` loss towards, `l` loss from the endpoint, `U` unanswered round
    /// trips, `T` the tap itself lost packets.
    #[must_use]
    pub fn marks(&self) -> String {
        let mut marks = String::new();
        for (is_set, mark) in [
            (self.ingress.lost > 0, 'L'),
            (self.egress.lost > 0, 'l'),
            (self.rtt_unanswered > 0, 'U'),
            (self.tap_dropped > 0, 'T'),
        ] {
            if is_set {
                marks.push(mark);
            }
        }
        marks
    }
}

impl DirectionView {
    fn new(facts: &IntervalFacts, direction: Direction) -> Self {
        let rows = || {
            facts
                .streams
                .iter()
                .filter(move |(key, _)| key.direction == direction && key.media != Media::Rtx)
                .map(|(_, row)| row)
        };
        let heard: Vec<_> = facts
            .heard
            .iter()
            .flatten()
            .filter(|(key, _)| key.direction == direction && key.media != Media::Rtx)
            .collect();
        let heard_us = (!heard.is_empty()).then(|| {
            heard.iter().fold((0, 0), |(concealed_us, total_us), (_, row)| {
                (concealed_us + u64::from(row.concealed_us), total_us + u64::from(row.total_us))
            })
        });
        let measured = || rows().filter(|row| has_jitter(row));
        Self {
            received: rows().map(|row| u64::from(row.received)).sum(),
            lost: rows().map(|row| i64::from(row.lost)).sum(),
            jitter_mean_dms: weighted_mean(
                measured().map(|row| (row.jitter_mean_dms, u64::from(row.received))),
            ),
            jitter_max_dms: measured().map(|row| row.jitter_max_dms).max(),
            heard_us,
        }
    }
}

/// Whether a row's jitter was measured: WIRE.md 6.1, a maximum of 0 says that it was not.
pub(super) fn has_jitter(row: &StreamInterval) -> bool {
    row.jitter_max_dms > 0
}
