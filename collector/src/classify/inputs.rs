//! What a judgement is made of: the measured amounts of a call, as exact fractions, or that they are missing.
//!
//! - Audio counts, and no other media. All audio streams of one direction of a leg are one: counts are summed, jitter
//!   is weighted by packets, what was heard by time.
//! - What the endpoint received is its own view. What it sent is judged only by what somebody received: RTCP reports,
//!   or the view of the other end. Its own sending side knows nothing of the network.
//! - Round trips are those of the STUN checks, where there are none those of RTCP.
//! - While a leg has no totals its intervals are summed; they know no network MOS.
//! - What the tap itself lost is not the network's loss. Packets that the tap dropped can have been this leg's, or not:
//!   loss lies between the lost packets without them and all lost packets, concealed time likewise with one frame for
//!   each, the degradation between none and the one computed. A bound inside of that range decides nothing. Jitter and
//!   what others reported do not depend on the tap.

use std::collections::BTreeMap;

use roomtone_protocol::call::CallPurpose;
use roomtone_protocol::device::{DeviceSide, DeviceSummary};
use roomtone_protocol::heard::{MosFormula, NetworkRating, StreamHeard};
use roomtone_protocol::interval::{INTERVAL_MS, StreamInterval};
use roomtone_protocol::media::{ClockRateSource, Direction, LegSummary, Media, StreamKey};
use serde::{Deserialize, Serialize};

use super::rules::Metric;
use crate::call::view::SILENT_AFTER;
use crate::call::{CallFacts, LegFacts};

/// The most legs of a call that are judged, in the order of their numbers: a re-ICE storm has dozens.
pub const LEGS_MAX: usize = 256;
/// The most devices of a call that are judged.
pub const DEVICES_MAX: usize = 32;

/// The fewest packets of an interval whose loss is told: a fifth of what a talker sends in 10 s at 50 packets a second.
const WORST_LOSS_PACKETS_MIN: u64 = 100;
/// Steps of a ratio.
const RATIO_STEPS: u128 = 1_000_000;
/// Five minutes in microseconds, times the ten steps of a rate.
const GLITCH_STEPS: u128 = 300_000_000 * 10;

/// `least / whole` to `most / whole`, in steps of the metric's unit: equal where nothing is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// The numerator, where all that is in doubt was our own fault.
    pub least: u128,
    /// The numerator, where nothing was.
    pub most: u128,
    /// The denominator, never 0.
    pub whole: u128,
}

impl Amount {
    fn exact(part: u128, whole: u128) -> Option<Self> {
        (whole > 0).then_some(Self { least: part, most: part, whole })
    }

    fn between(least: u128, most: u128, whole: u128) -> Option<Self> {
        (whole > 0).then_some(Self { least: least.min(most), most, whole })
    }

    /// A ratio.
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Option<Self> {
        Self::exact(u128::from(part) * RATIO_STEPS, whole.into())
    }
}

/// Who knows how a direction was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen {
    /// The endpoint received it.
    Received,
    /// The endpoint sent it, and its receiver reported in RTCP.
    SentAsReported,
    /// The endpoint sent it, and an endpoint of ours received it.
    SentAsReceived,
}

/// One direction of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectionInputs {
    /// Whose view.
    pub seen: Seen,
    /// Its audio packets: received ones, or those that were sent.
    pub packets: u64,
    /// What was measured.
    pub amounts: BTreeMap<Metric, Amount>,
}

/// What a leg's amounts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LegSource {
    /// The endpoint's totals.
    Summary,
    /// Sums of intervals.
    Intervals,
    /// Neither came.
    Nothing,
}

/// One leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegInputs {
    /// Its number.
    pub leg: u16,
    /// What the amounts come from.
    pub source: LegSource,
    /// Its directions with audio that somebody received.
    pub directions: Vec<DirectionInputs>,
    /// Its mean round trip.
    pub round_trip: Option<Amount>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInputs {
    /// Its name; from outside.
    pub name: String,
    /// What was measured.
    pub amounts: BTreeMap<Metric, Amount>,
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Its end was told.
    Closed,
    /// It goes on.
    Open,
    /// Its end was not told, and nothing was heard of it for [`SILENT_AFTER`].
    Silent,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallInputs {
    /// Whether it is over.
    pub standing: Standing,
    /// Whether `rehearse` placed it.
    pub is_rehearsal: bool,
    /// The Ms-diag code by which its set-up failed. Call control tells it; no record of an endpoint does.
    pub setup_failure: Option<u16>,
    /// Its legs in order.
    pub legs: Vec<LegInputs>,
    /// Its devices, microphones first.
    pub devices: Vec<DeviceInputs>,
}

impl CallInputs {
    /// The inputs of a call as of `now_us` (collector's clock, microseconds since 1970).
    #[must_use]
    pub fn new(facts: &CallFacts, now_us: u64) -> Self {
        let silent_us = now_us.saturating_sub(facts.last_received_us);
        let standing = match facts.closed {
            Some(_) => Standing::Closed,
            None if u128::from(silent_us) < SILENT_AFTER.as_micros() => Standing::Open,
            None => Standing::Silent,
        };
        let legs = facts.legs.iter().take(LEGS_MAX);
        let devices = facts.devices.values().take(DEVICES_MAX);
        Self {
            standing,
            is_rehearsal: facts.opened.is_some_and(|it| it.value.1 == CallPurpose::Rehearsal),
            setup_failure: None,
            legs: legs.map(|(&leg, facts)| LegInputs::new(leg, facts)).collect(),
            devices: devices.map(|told| DeviceInputs::new(&told.value)).collect(),
        }
    }
}

impl LegInputs {
    /// The inputs of a leg.
    #[must_use]
    pub fn new(leg: u16, facts: &LegFacts) -> Self {
        let worst = worst_loss(facts);
        let (source, mut directions, round_trip) = match &facts.summary {
            Some(told) => {
                let directions = [received(&told.value), reported(&told.value)];
                (LegSource::Summary, directions, round_trip(&told.value))
            }
            None if facts.intervals.is_empty() => (LegSource::Nothing, [None, None], None),
            None => {
                let (received, round_trip) = summed(facts);
                (LegSource::Intervals, [received, None], round_trip)
            }
        };
        if let Some(received) = &mut directions[0] {
            received.amounts.extend(worst.map(|it| (Metric::WorstLoss, it)));
        }
        let directions = directions.into_iter().flatten().collect();
        Self { leg, source, directions, round_trip }
    }
}

impl DeviceInputs {
    fn new(summary: &DeviceSummary) -> Self {
        let (bad, glitches) = match summary.side {
            DeviceSide::Capture => (Metric::CaptureNotFunctioning, Metric::CaptureGlitches),
            DeviceSide::Render => (Metric::RenderNotFunctioning, Metric::RenderGlitches),
        };
        let (part_us, whole_us) =
            (summary.not_functioning.part_us(), summary.not_functioning.whole_us());
        let rate = summary
            .glitches
            .and_then(|count| Amount::exact(u128::from(count) * GLITCH_STEPS, whole_us.into()));
        let amounts = [(bad, Amount::ratio(part_us, whole_us)), (glitches, rate)];
        Self { name: summary.device.as_str().to_owned(), amounts: present(amounts) }
    }
}

fn present<const N: usize>(amounts: [(Metric, Option<Amount>); N]) -> BTreeMap<Metric, Amount> {
    amounts.into_iter().filter_map(|(metric, amount)| Some((metric, amount?))).collect()
}

fn is_received_audio(key: &StreamKey) -> bool {
    key.direction == Direction::Ingress && key.media == Media::Audio
}

/// Sums over the received audio streams of a leg. What the wire bounds to 64 bits each cannot fill 128.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    received: u64,
    expected: u128,
    lost: u128,
    reordered: u128,
    jitter: u128,
    jitter_packets: u128,
    heard_us: u128,
    concealed_us: u128,
    frame_us: u128,
    tap_dropped: u64,
}

impl Sums {
    fn direction(self) -> Option<DirectionInputs> {
        if self.received == 0 {
            return None;
        }
        let tap = u128::from(self.tap_dropped);
        let ratio = |least: u128, most: u128, whole| {
            Amount::between(least * RATIO_STEPS, most * RATIO_STEPS, whole)
        };
        // Without the length of a frame nothing is certain of what the tap may have cost.
        let ours_us = match (tap, self.frame_us) {
            (0, _) => 0,
            (_, 0) => self.concealed_us,
            (dropped, frame_us) => dropped.saturating_mul(frame_us),
        };
        let concealed =
            ratio(self.concealed_us.saturating_sub(ours_us), self.concealed_us, self.heard_us);
        let amounts = present([
            (Metric::Jitter, Amount::exact(self.jitter, self.jitter_packets)),
            (Metric::Loss, ratio(self.lost.saturating_sub(tap), self.lost, self.expected)),
            (Metric::Reordered, ratio(self.reordered, self.reordered, self.received.into())),
            (Metric::Concealed, concealed),
        ]);
        Some(DirectionInputs { seen: Seen::Received, packets: self.received, amounts })
    }
}

/// What the endpoint received, by its totals.
fn received(summary: &LegSummary) -> Option<DirectionInputs> {
    let mut sums = Sums { tap_dropped: summary.tap_dropped, ..Sums::default() };
    for stream in summary.streams.iter().filter(|it| is_received_audio(&it.key)) {
        sums.received = sums.received.saturating_add(stream.received);
        sums.expected += u128::from(stream.expected);
        sums.lost += u128::from(stream.lost);
        sums.reordered += u128::from(stream.reordered);
        if stream.clock_rate_source != ClockRateSource::Unknown {
            sums.jitter += u128::from(stream.jitter_mean_dms) * u128::from(stream.received);
            sums.jitter_packets += u128::from(stream.received);
        }
    }
    let rows = || {
        let rows = summary.heard.iter().flatten();
        rows.filter(|row| {
            let stream = summary.streams.get(usize::from(row.stream));
            stream.is_some_and(|it| is_received_audio(&it.key))
        })
    };
    for row in rows() {
        sums.heard_us += u128::from(row.total_us);
        sums.concealed_us += u128::from(row.concealed_us);
        sums.frame_us = sums.frame_us.max(row.frame_us.into());
    }
    let mut direction = sums.direction()?;
    let degradation = degradation(rows(), summary.tap_dropped > 0);
    direction.amounts.extend(degradation.map(|it| (Metric::Degradation, it)));
    Some(direction)
}

/// The degradation over rated streams of one formula; scores of two formulas do not compare.
fn degradation<'a>(
    rows: impl Iterator<Item = &'a StreamHeard>,
    is_in_doubt: bool,
) -> Option<Amount> {
    let (mut sum, mut heard_us) = (0u128, 0u128);
    let mut formula: Option<MosFormula> = None;
    for row in rows {
        let NetworkRating::Mos(mos) = row.rating else { continue };
        if formula.is_some_and(|it| it != mos.formula) {
            return None;
        }
        formula = Some(mos.formula);
        let lowered = mos.best_milli.saturating_sub(mos.mos_milli);
        sum += u128::from(lowered) * u128::from(row.total_us);
        heard_us += u128::from(row.total_us);
    }
    Amount::between(if is_in_doubt { 0 } else { sum }, sum, heard_us)
}

/// What the endpoint sent, by its receivers' reports. What was sent is counted by sequence numbers: the tap's own
/// losses are in it.
fn reported(summary: &LegSummary) -> Option<DirectionInputs> {
    let (mut sent, mut lost, mut jitter, mut reports) = (0u64, 0u64, 0u128, 0u128);
    for row in summary.reported.iter().flatten().filter(|it| it.reports > 0) {
        let Some(stream) = summary.streams.get(usize::from(row.stream)) else { continue };
        if stream.key.direction != Direction::Egress || stream.key.media != Media::Audio {
            continue;
        }
        sent = sent.saturating_add(stream.expected);
        // Duplicates on the way make it negative (RFC 3550 6.4.1).
        let gone = u64::from(row.lost.max(0).unsigned_abs()).min(stream.expected);
        lost = lost.saturating_add(gone);
        if let Some(mean_dms) = row.jitter_mean_dms {
            jitter += u128::from(mean_dms) * u128::from(row.reports);
            reports += u128::from(row.reports);
        }
    }
    let amounts = present([
        (Metric::Loss, Amount::ratio(lost, sent)),
        (Metric::Jitter, Amount::exact(jitter, reports)),
    ]);
    (sent > 0).then_some(DirectionInputs { seen: Seen::SentAsReported, packets: sent, amounts })
}

fn round_trip(summary: &LegSummary) -> Option<Amount> {
    let mean = |mean_dms: u32, count: u32| (u128::from(mean_dms) * u128::from(count), count);
    if let (sum, count @ 1..) = mean(summary.rtt.mean_dms, summary.rtt.count) {
        return Amount::exact(sum, count.into());
    }
    let audio = summary.reported.iter().flatten().filter(|row| {
        let stream = summary.streams.get(usize::from(row.stream));
        stream.is_some_and(|it| it.key.media == Media::Audio)
    });
    let (sum, count) = audio.fold((0u128, 0u128), |(sum, total), row| {
        let (part, count) = mean(row.rtt.mean_dms, row.rtt.count);
        (sum + part, total + u128::from(count))
    });
    Amount::exact(sum, count)
}

/// What the endpoint received and the round trips, by the intervals that came.
fn summed(facts: &LegFacts) -> (Option<DirectionInputs>, Option<Amount>) {
    let mut sums = Sums::default();
    let (mut lost, mut rtt, mut rtt_count) = (0i128, 0u128, 0u128);
    for interval in facts.intervals.values().map(|told| &told.value) {
        sums.tap_dropped = sums.tap_dropped.saturating_add(interval.leg.tap_dropped.into());
        rtt += u128::from(interval.leg.rtt_mean_dms) * u128::from(interval.leg.rtt_count);
        rtt_count += u128::from(interval.leg.rtt_count);
        for (_, row) in interval.streams.iter().filter(|(key, _)| is_received_audio(key)) {
            sums.received = sums.received.saturating_add(row.received.into());
            lost += i128::from(row.lost);
            sums.reordered += u128::from(row.reordered);
            if has_jitter(row) {
                sums.jitter += u128::from(row.jitter_mean_dms) * u128::from(row.received);
                sums.jitter_packets += u128::from(row.received);
            }
        }
        for (_, row) in interval.heard.iter().flatten().filter(|(key, _)| is_received_audio(key)) {
            sums.heard_us += u128::from(row.total_us);
            sums.concealed_us += u128::from(row.concealed_us);
        }
    }
    // Negative only while the interval before a late packet has not arrived.
    sums.lost = lost.max(0).unsigned_abs();
    sums.expected = u128::from(sums.received) + sums.lost;
    (sums.direction(), Amount::exact(rtt, rtt_count))
}

/// WIRE.md 6.1: a maximum of 0 says that it was not measured.
fn has_jitter(row: &StreamInterval) -> bool {
    row.jitter_max_dms > 0
}

/// The loss of the whole interval with the highest; those in which the tap dropped, and those with few packets, are
/// left out.
fn worst_loss(facts: &LegFacts) -> Option<Amount> {
    let whole = facts.intervals.values().map(|told| &told.value);
    let whole = whole.filter(|it| it.leg.tap_dropped == 0 && it.leg.duration_ms >= INTERVAL_MS);
    let ratios = whole.filter_map(|interval| {
        let rows = || interval.streams.iter().filter(|(key, _)| is_received_audio(key));
        let lost: i64 = rows().map(|(_, row)| i64::from(row.lost)).sum();
        let lost = lost.max(0).unsigned_abs();
        let expected = rows().map(|(_, row)| u64::from(row.received)).sum::<u64>() + lost;
        (expected >= WORST_LOSS_PACKETS_MIN).then_some((lost, expected))
    });
    // a/b against c/d by the products, exactly.
    let (lost, expected) = ratios.max_by(|a, b| {
        let [a, b] = [(a.0, b.1), (b.0, a.1)].map(|(x, y)| u128::from(x) * u128::from(y));
        a.cmp(&b)
    })?;
    Amount::ratio(lost, expected)
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
