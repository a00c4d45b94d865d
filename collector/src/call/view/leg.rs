//! What the facts of a leg come to: its totals and those of its streams.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, StreamKey, StreamMarking,
    StreamReported,
};

use super::heard::{HeardSum, HeardView};
use super::interval::has_jitter;
use super::{IntervalView, weighted_mean};
use crate::call::LegFacts;

/// One leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegView {
    /// Its number in the call.
    pub leg: u16,
    /// Addresses and transport; `None` where its beginning was lost.
    pub opened: Option<LegOpened>,
    /// Whether the totals are final.
    pub source: Source,
    /// First packet, microseconds since 1970, endpoint's clock; `None` where nothing tells.
    pub start_us: Option<u64>,
    /// Last packet, likewise.
    pub end_us: Option<u64>,
    /// Round trips.
    pub rtt: RttView,
    /// Packets that the tap itself lost.
    pub tap_dropped: u64,
    /// The endpoint's address as others see it; `None` where nothing tells, as while the leg lasts.
    pub reflexive: Option<SocketAddr>,
    /// Its streams.
    pub streams: Vec<StreamView>,
    /// The time line.
    pub intervals: Vec<IntervalView>,
}

/// Where totals come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The endpoint's own totals of the whole leg.
    Summary,
    /// Sums over the intervals that arrived so far.
    Intervals,
}

/// Round trips, in 0.1 ms. With `count` 0 the others mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RttView {
    /// How many.
    pub count: u64,
    /// Smallest.
    pub min_dms: u32,
    /// Mean.
    pub mean_dms: u32,
    /// Largest.
    pub max_dms: u32,
    /// Latest; `None` in sums.
    pub last_dms: Option<u32>,
}

/// One stream. Jitter in 0.1 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// Which.
    pub key: StreamKey,
    /// Payload types, most frequent first; empty in sums.
    pub payload_types: Vec<u8>,
    /// RTP clock rate in Hz, where known.
    pub clock_rate_hz: Option<u32>,
    /// Where it comes from; `None` in sums.
    pub clock_rate_source: Option<ClockRateSource>,
    /// First and last packet, microseconds since 1970, endpoint's clock; `None` where nothing tells.
    pub span_us: Option<(u64, u64)>,
    /// Packets received, duplicates excluded.
    pub received: u64,
    /// Packets expected.
    pub expected: u64,
    /// Packets lost.
    pub lost: u64,
    /// Duplicates.
    pub duplicate: u64,
    /// Reordered packets.
    pub reordered: u64,
    /// Sequence restarts.
    pub sequence_restarts: u64,
    /// Mean jitter; `None` where no clock rate is known, as the next two.
    pub jitter_mean_dms: Option<u32>,
    /// Largest jitter.
    pub jitter_max_dms: Option<u32>,
    /// Last jitter; `None` in sums as well.
    pub jitter_last_dms: Option<u32>,
    /// What was heard of it; `None` where nothing was told.
    pub heard: Option<HeardView>,
    /// How its packets were marked; `None` where nothing was told, as in sums.
    pub marking: Option<StreamMarking>,
    /// What its receiver told; `None` where it told nothing in the clear, as in sums.
    pub reported: Option<StreamReported>,
}

impl LegView {
    pub(super) fn new(leg: u16, facts: &LegFacts) -> Self {
        let opened = facts.opened.map(|told| told.value);
        let first = facts.intervals.values().next().map(|told| told.value.started_wall_ms);
        let start_us = opened
            .map(|it| it.opened.wall_us)
            .or_else(|| first.map(|started_ms| started_ms.saturating_mul(1_000)));
        let view = Self {
            leg,
            opened,
            source: Source::Intervals,
            start_us,
            end_us: None,
            rtt: RttView::default(),
            tap_dropped: 0,
            reflexive: None,
            streams: Vec::new(),
            intervals: facts
                .intervals
                .iter()
                .map(|(&number, told)| IntervalView::new(number, &told.value))
                .collect(),
        };
        match &facts.summary {
            Some(told) => view.with_summary(&told.value),
            None => view.with_sums(facts),
        }
    }

    fn with_summary(self, summary: &LegSummary) -> Self {
        let at = |offset_us: u64| self.start_us.map(|start_us| start_us.saturating_add(offset_us));
        let streams = (0u8..)
            .zip(&summary.streams)
            .map(|(position, it)| {
                let heard = summary.heard.iter().flatten().find(|row| row.stream == position);
                let marking = summary.markings.iter().flatten().find(|row| row.stream == position);
                let reported = summary.reported.iter().flatten().find(|row| row.stream == position);
                let is_known = it.clock_rate_source != ClockRateSource::Unknown;
                StreamView {
                    key: it.key,
                    payload_types: it.payload_types.to_vec(),
                    clock_rate_hz: is_known.then_some(it.clock_rate_hz),
                    clock_rate_source: Some(it.clock_rate_source),
                    span_us: at(it.first_us).zip(at(it.last_us)),
                    received: it.received,
                    expected: it.expected,
                    lost: it.lost,
                    duplicate: it.duplicate,
                    reordered: it.reordered,
                    sequence_restarts: u64::from(it.sequence_restarts),
                    jitter_mean_dms: is_known.then_some(it.jitter_mean_dms),
                    jitter_max_dms: is_known.then_some(it.jitter_max_dms),
                    jitter_last_dms: is_known.then_some(it.jitter_last_dms),
                    heard: heard.map(HeardView::of_stream),
                    marking: marking.copied(),
                    reported: reported.copied(),
                }
            })
            .collect();
        let rtt = RttView {
            count: u64::from(summary.rtt.count),
            min_dms: summary.rtt.min_dms,
            mean_dms: summary.rtt.mean_dms,
            max_dms: summary.rtt.max_dms,
            last_dms: (summary.rtt.count > 0).then_some(summary.rtt.last_dms),
        };
        Self {
            source: Source::Summary,
            end_us: Some(summary.closed.wall_us),
            rtt,
            tap_dropped: summary.tap_dropped,
            reflexive: summary.reflexive,
            streams,
            ..self
        }
    }

    fn with_sums(self, facts: &LegFacts) -> Self {
        let intervals = || facts.intervals.values().map(|told| &told.value);
        let mut streams: BTreeMap<([u8; 4], bool), StreamSum> = BTreeMap::new();
        for (key, row) in intervals().flat_map(|it| &it.streams) {
            let sum = streams
                .entry((key.ssrc, key.direction == Direction::Egress))
                .or_insert_with(|| StreamSum { key: *key, ..StreamSum::EMPTY });
            // The latest frame knows best what a stream carries.
            sum.key = *key;
            sum.received += u64::from(row.received);
            sum.lost += i64::from(row.lost);
            sum.duplicate += u64::from(row.duplicate);
            sum.reordered += u64::from(row.reordered);
            sum.restarts += u64::from(row.sequence_restarts);
            if has_jitter(row) {
                sum.jitter_packets += u64::from(row.received);
                sum.jitter_weighted += u128::from(row.jitter_mean_dms) * u128::from(row.received);
                sum.jitter_max_dms = sum.jitter_max_dms.max(row.jitter_max_dms);
            }
        }
        for (key, row) in intervals().flat_map(|it| it.heard.iter().flatten()) {
            let sum = streams
                .entry((key.ssrc, key.direction == Direction::Egress))
                .or_insert_with(|| StreamSum { key: *key, ..StreamSum::EMPTY });
            sum.heard.get_or_insert_default().handle_interval(row);
        }
        let end_us = intervals().next_back().map(|it| {
            let end_ms = it.started_wall_ms.saturating_add(u64::from(it.leg.duration_ms));
            end_ms.saturating_mul(1_000)
        });
        let rtt = RttView {
            count: intervals().map(|it| u64::from(it.leg.rtt_count)).sum(),
            min_dms: intervals()
                .filter(|it| it.leg.rtt_count > 0)
                .map(|it| it.leg.rtt_min_dms)
                .min()
                .unwrap_or(0),
            mean_dms: weighted_mean(
                intervals().map(|it| (it.leg.rtt_mean_dms, u64::from(it.leg.rtt_count))),
            )
            .unwrap_or(0),
            max_dms: intervals().map(|it| it.leg.rtt_max_dms).max().unwrap_or(0),
            last_dms: None,
        };
        Self {
            end_us,
            rtt,
            tap_dropped: intervals().map(|it| u64::from(it.leg.tap_dropped)).sum(),
            streams: streams.into_values().map(StreamSum::view).collect(),
            ..self
        }
    }
}

/// A stream summed over intervals.
struct StreamSum {
    key: StreamKey,
    received: u64,
    lost: i64,
    duplicate: u64,
    reordered: u64,
    restarts: u64,
    jitter_packets: u64,
    jitter_weighted: u128,
    jitter_max_dms: u32,
    heard: Option<HeardSum>,
}

impl StreamSum {
    const EMPTY: Self = Self {
        key: StreamKey { ssrc: [0; 4], direction: Direction::Ingress, media: Media::Unknown },
        received: 0,
        lost: 0,
        duplicate: 0,
        reordered: 0,
        restarts: 0,
        jitter_packets: 0,
        jitter_weighted: 0,
        jitter_max_dms: 0,
        heard: None,
    };

    fn view(self) -> StreamView {
        // Negative only while the interval before a late packet has not arrived.
        let lost = self.lost.max(0).unsigned_abs();
        let mean = self.jitter_weighted.checked_div(u128::from(self.jitter_packets));
        StreamView {
            key: self.key,
            payload_types: Vec::new(),
            clock_rate_hz: None,
            clock_rate_source: None,
            span_us: None,
            received: self.received,
            expected: self.received + lost,
            lost,
            duplicate: self.duplicate,
            reordered: self.reordered,
            sequence_restarts: self.restarts,
            jitter_mean_dms: mean.and_then(|mean| u32::try_from(mean).ok()),
            jitter_max_dms: (self.jitter_packets > 0).then_some(self.jitter_max_dms),
            jitter_last_dms: None,
            heard: self.heard.map(HeardSum::view),
            marking: None,
            reported: None,
        }
    }
}
