//! What the facts of a call come to: totals per leg and stream, from the summary or, while there is none, from the
//! intervals.
//!
//! All numbers stay integers in the wire's units; only a report turns them into milliseconds and ratios. A call still
//! open shows what its intervals tell so far: sums, packet-weighted means, no last values.

use std::collections::BTreeMap;
use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary};
use roomtone_protocol::id::{CallId, EndpointId};
use roomtone_protocol::interval::StreamInterval;
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, StreamKey,
};

use super::{CallFacts, IntervalFacts, LegFacts};
use crate::store::EndpointFacts;

/// An open call that was not heard of for this long is no longer live: nine whole intervals went missing.
pub const SILENT_AFTER: Duration = Duration::from_secs(90);

/// One call, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView {
    /// Whose call.
    pub endpoint: EndpointId,
    /// Which.
    pub call: CallId,
    /// Why it took place; `None` where its beginning was lost.
    pub purpose: Option<CallPurpose>,
    /// Whether it goes on.
    pub state: CallState,
    /// First packet, microseconds since 1970 by the endpoint's clock; the collector's where the beginning was lost.
    pub start_us: u64,
    /// Last packet, likewise; `None` while it is not closed.
    pub end_us: Option<u64>,
    /// When the latest record of it came, microseconds since 1970, collector's clock.
    pub last_heard_us: u64,
    /// How long it lasted by the endpoint's uptime, in microseconds: true across steps of its wall clock; `None` while
    /// it goes on, or where its beginning was lost.
    pub lasted_us: Option<u64>,
    /// Its legs in order.
    pub legs: Vec<LegView>,
    /// Its device episodes by onset.
    pub episodes: Vec<DeviceEpisode>,
    /// Its device totals, microphones first.
    pub devices: Vec<DeviceSummary>,
}

/// Whether a call goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Heard of lately and not closed.
    Live,
    /// Not closed and silent for [`SILENT_AFTER`], though its endpoint is connected: its agent measures no more.
    Silent,
    /// Not closed and silent for as long, and its endpoint is not connected: nobody can tell whether the call goes on,
    /// or whether the endpoint will ever come back.
    Unknown,
    /// Over.
    Closed(CallCloseReason),
}

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
}

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
}

impl CallView {
    /// Makes the view of a call as of `now_us` (collector's clock, microseconds since 1970); `endpoint` is what is
    /// known of its endpoint.
    #[must_use]
    pub fn new(facts: &CallFacts, endpoint: Option<&EndpointFacts>, now_us: u64) -> Self {
        let silent_us = now_us.saturating_sub(facts.last_received_us);
        let state = match facts.closed {
            Some(told) => CallState::Closed(told.value.1),
            None if u128::from(silent_us) < SILENT_AFTER.as_micros() => CallState::Live,
            None if endpoint.is_some_and(|it| it.connected) => CallState::Silent,
            None => CallState::Unknown,
        };
        let mut episodes: Vec<DeviceEpisode> =
            facts.episodes.values().map(|told| told.value.clone()).collect();
        episodes.sort_by_key(|it| (it.onset.wall_us, it.episode));
        Self {
            endpoint: facts.endpoint,
            call: facts.call,
            purpose: facts.opened.map(|told| told.value.1),
            state,
            start_us: facts.opened.map_or(facts.first_received_us, |told| told.value.0.wall_us),
            end_us: facts.closed.map(|told| told.value.0.wall_us),
            last_heard_us: facts.last_received_us,
            lasted_us: facts.opened.zip(facts.closed).and_then(|(opened, closed)| {
                closed.value.0.uptime_us.checked_sub(opened.value.0.uptime_us)
            }),
            legs: facts.legs.iter().map(|(&leg, facts)| LegView::new(leg, facts)).collect(),
            episodes,
            devices: facts.devices.values().map(|told| told.value.clone()).collect(),
        }
    }

    /// Whether `rehearse` placed it.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.purpose == Some(CallPurpose::Rehearsal)
    }

    /// The audio streams of one direction over all legs, as (expected, lost, largest mean jitter in 0.1 ms).
    #[must_use]
    pub fn audio(&self, direction: Direction) -> (u64, u64, Option<u32>) {
        let streams = self.legs.iter().flat_map(|leg| &leg.streams);
        streams.filter(|it| it.key.direction == direction && it.key.media == Media::Audio).fold(
            (0u64, 0u64, None),
            |(expected, lost, jitter), it| {
                (
                    expected.saturating_add(it.expected),
                    lost.saturating_add(it.lost),
                    jitter.max(it.jitter_mean_dms),
                )
            },
        )
    }

    /// The mean round trip over all legs, in 0.1 ms.
    #[must_use]
    pub fn rtt_mean_dms(&self) -> Option<u32> {
        weighted_mean(self.legs.iter().map(|leg| (leg.rtt.mean_dms, leg.rtt.count)))
    }
}

impl LegView {
    fn new(leg: u16, facts: &LegFacts) -> Self {
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
        let streams = summary
            .streams
            .iter()
            .map(|it| {
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
        }
    }
}

impl IntervalView {
    fn new(number: u32, facts: &IntervalFacts) -> Self {
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
        let measured = || rows().filter(|row| has_jitter(row));
        Self {
            received: rows().map(|row| u64::from(row.received)).sum(),
            lost: rows().map(|row| i64::from(row.lost)).sum(),
            jitter_mean_dms: weighted_mean(
                measured().map(|row| (row.jitter_mean_dms, u64::from(row.received))),
            ),
            jitter_max_dms: measured().map(|row| row.jitter_max_dms).max(),
        }
    }
}

/// Whether a row's jitter was measured: WIRE.md 6.1, a maximum of 0 says that it was not.
fn has_jitter(row: &StreamInterval) -> bool {
    row.jitter_max_dms > 0
}

/// The mean of values by weight, `None` without weight.
fn weighted_mean(terms: impl Iterator<Item = (u32, u64)>) -> Option<u32> {
    let (sum, weight) = terms.fold((0u128, 0u128), |(sum, total), (value, weight)| {
        (sum + u128::from(value) * u128::from(weight), total + u128::from(weight))
    });
    u32::try_from(sum.checked_div(weight)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordCounts;

    const HEARD_US: u64 = 1_000_000_000;

    fn state(after_us: u64, connected: bool) -> CallState {
        let endpoint = EndpointFacts {
            endpoint: EndpointId([1; 16]),
            name: String::new(),
            agent_version: String::new(),
            link: None,
            first_seen_us: 0,
            last_seen_us: HEARD_US,
            connected,
            calls: 1,
            counts: RecordCounts::default(),
        };
        let facts = CallFacts::new(endpoint.endpoint, CallId(1), HEARD_US);
        let view = CallView::new(&facts, Some(&endpoint), HEARD_US + after_us);
        assert_eq!(view.last_heard_us, HEARD_US);
        view.state
    }

    /// 90 s: [`SILENT_AFTER`].
    #[test]
    fn open_call_of_an_endpoint_that_went_away_is_unknown_and_not_open_for_ever() {
        assert_eq!(state(89_999_999, false), CallState::Live, "a short break tells nothing");
        assert_eq!(state(90_000_000, false), CallState::Unknown);
        assert_eq!(state(90_000_000, true), CallState::Silent);
    }
}
