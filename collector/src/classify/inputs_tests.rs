//! Amounts out of records, with the numbers derived beside them.

use roomtone_protocol::call::CallOpened;
use roomtone_protocol::device::DeviceSummary;
use roomtone_protocol::heard::{NetworkMos, RatedCodec, Stretches};
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::LegInterval;
use roomtone_protocol::media::{RttSummary, StreamReported, StreamSummary};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::*;
use crate::call::{IntervalFacts, Told};

const AT: Stamp = Stamp { wall_us: 1_000_000, uptime_us: 1_000_000 };
const BY: RecordId = RecordId { epoch: Epoch(1), sequence: Sequence(1) };

fn stream(
    direction: Direction,
    media: Media,
    received: u64,
    lost: u64,
    jitter: u32,
) -> StreamSummary {
    StreamSummary {
        key: StreamKey { ssrc: [1, 0, 0, 0], direction, media },
        payload_types: [111].into_iter().collect(),
        clock_rate_hz: 48_000,
        clock_rate_source: ClockRateSource::Slope,
        first_us: 0,
        last_us: 60_000_000,
        received,
        expected: received + lost,
        lost,
        duplicate: 0,
        reordered: 2,
        sequence_restarts: 0,
        jitter_mean_dms: jitter,
        jitter_max_dms: jitter,
        jitter_last_dms: jitter,
    }
}

fn heard(stream: u8, concealed_us: u64, mos: Option<(MosFormula, u16)>) -> StreamHeard {
    StreamHeard {
        stream,
        model: 1,
        total_us: 10_000_000,
        concealed_us,
        stretched_us: 0,
        compressed_us: 0,
        played: 500,
        discarded: 0,
        delay_mean_dms: 400,
        delay_max_dms: 800,
        worst_second_us: 0,
        worst_interval_total_us: 0,
        worst_interval_concealed_us: 0,
        resets: 0,
        frame_us: 20_000,
        bursts: Stretches::default(),
        gaps: Stretches::default(),
        runs: [0; 8],
        rating: mos.map_or(NetworkRating::CodecUnknown, |(formula, mos_milli)| {
            NetworkRating::Mos(NetworkMos {
                formula,
                codec: RatedCodec::Opus,
                assumption: 1,
                mos_milli,
                best_milli: 4_300,
            })
        }),
    }
}

fn summary(streams: Vec<StreamSummary>, tap_dropped: u64) -> LegSummary {
    LegSummary {
        call: CallId(1),
        leg: LegNumber(0),
        closed: AT,
        rtt: RttSummary::default(),
        tap_dropped,
        streams: streams.into_iter().collect(),
        heard: None,
        markings: None,
        reported: None,
        reflexive: None,
    }
}

fn of(summary: LegSummary) -> LegInputs {
    let facts = LegFacts { summary: Some(Told { by: BY, value: summary }), ..LegFacts::default() };
    LegInputs::new(0, &facts)
}

fn amount(inputs: &LegInputs, seen: Seen, metric: Metric) -> Option<(u128, u128, u128)> {
    let direction = inputs.directions.iter().find(|it| it.seen == seen)?;
    direction.amounts.get(&metric).map(|it| (it.least, it.most, it.whole))
}

/// 900 + 80 received, 10 + 10 lost of 1,000; jitter (900 * 20 + 80 * 100) / 980; video counts nowhere.
#[test]
fn audio_streams_of_a_direction_are_one() {
    let inputs = of(summary(
        vec![
            stream(Direction::Ingress, Media::Audio, 900, 10, 20),
            stream(Direction::Ingress, Media::Audio, 80, 10, 100),
            stream(Direction::Ingress, Media::Video, 9_000, 9_000, 900),
        ],
        0,
    ));
    let of = |metric| amount(&inputs, Seen::Received, metric);
    assert_eq!(of(Metric::Loss), Some((20_000_000, 20_000_000, 1_000)));
    assert_eq!(of(Metric::Jitter), Some((26_000, 26_000, 980)));
    assert_eq!(of(Metric::Reordered), Some((4_000_000, 4_000_000, 980)));
    assert_eq!((of(Metric::Concealed), of(Metric::Degradation)), (None, None));
    assert_eq!(inputs.directions[0].packets, 980);
}

#[test]
fn own_sending_side_says_nothing_without_a_receiver() {
    let sent = stream(Direction::Egress, Media::Audio, 1_000, 500, 900);
    let inputs = of(summary(vec![sent.clone()], 0));
    assert!(inputs.directions.is_empty());
    let reported = StreamReported {
        stream: 0,
        reports: 4,
        lost: 30,
        fraction_lost_max: 9,
        jitter_mean_dms: Some(55),
        jitter_max_dms: Some(80),
        rtt: RttSummary { count: 2, mean_dms: 410, ..RttSummary::default() },
    };
    let mut told = summary(vec![sent], 7);
    told.reported = Some([reported].into_iter().collect());
    let inputs = of(told.clone());
    // 1,500 were sent by their numbers, whatever the tap saw of them.
    let loss = amount(&inputs, Seen::SentAsReported, Metric::Loss);
    assert_eq!(loss, Some((30_000_000, 30_000_000, 1_500)));
    assert_eq!(amount(&inputs, Seen::SentAsReported, Metric::Jitter), Some((220, 220, 4)));
    assert_eq!(inputs.round_trip, Amount::exact(820, 2), "of RTCP where there are no checks");
    told.rtt = RttSummary { count: 3, mean_dms: 100, ..RttSummary::default() };
    assert_eq!(of(told).round_trip, Amount::exact(300, 3));
}

/// 7 packets may be ours: 93 to 100 of 1,000 lost, 2 s less 7 frames of 20 ms concealed, and all of the degradation.
#[test]
fn tap_drops_make_ranges_of_what_depends_on_them() {
    let mut told = summary(vec![stream(Direction::Ingress, Media::Audio, 900, 100, 20)], 7);
    let row = heard(0, 2_000_000, Some((MosFormula::G1072V1, 3_100)));
    told.heard = Some([row].into_iter().collect());
    let inputs = of(told);
    let of = |metric| amount(&inputs, Seen::Received, metric);
    assert_eq!(of(Metric::Loss), Some((93_000_000, 100_000_000, 1_000)));
    let concealed = Some((1_860_000_000_000, 2_000_000_000_000, 10_000_000));
    assert_eq!(of(Metric::Concealed), concealed);
    // (4.300 - 3.100) over 10 s.
    assert_eq!(of(Metric::Degradation), Some((0, 12_000_000_000, 10_000_000)));
    assert_eq!(of(Metric::Jitter), Some((18_000, 18_000, 900)));
}

#[test]
fn scores_of_two_formulas_make_no_degradation() {
    let one = stream(Direction::Ingress, Media::Audio, 900, 0, 20);
    let mut told = summary(vec![one.clone(), one], 0);
    let rows = [
        heard(0, 0, Some((MosFormula::G1072V1, 4_000))),
        heard(1, 0, Some((MosFormula::G107V1, 4_000))),
    ];
    told.heard = Some(rows.into_iter().collect());
    assert_eq!(amount(&of(told), Seen::Received, Metric::Degradation), None);
}

#[test]
fn unknown_clock_means_unknown_jitter() {
    let unknown = StreamSummary {
        clock_rate_hz: 0,
        clock_rate_source: ClockRateSource::Unknown,
        ..stream(Direction::Ingress, Media::Audio, 900, 0, 0)
    };
    assert_eq!(amount(&of(summary(vec![unknown], 0)), Seen::Received, Metric::Jitter), None);
}

fn interval(duration_ms: u32, received: u32, lost: i32, tap_dropped: u32) -> IntervalFacts {
    let key = StreamKey { ssrc: [1; 4], direction: Direction::Ingress, media: Media::Audio };
    let row = StreamInterval {
        received,
        lost,
        jitter_mean_dms: 30,
        jitter_max_dms: 40,
        ..StreamInterval::default()
    };
    let leg = LegInterval {
        duration_ms,
        tap_dropped,
        rtt_count: 2,
        rtt_mean_dms: 100,
        ..LegInterval::default()
    };
    IntervalFacts { started_wall_ms: 0, leg, streams: vec![(key, row)], heard: None }
}

/// 490 + 10, 480 + 20 (ours), 100 + 50 in 9 s, 20 + 10: the first alone is whole, clean and full, 10 of 500.
#[test]
fn intervals_stand_in_for_totals_and_tell_the_worst() {
    let rows = [
        interval(10_000, 490, 10, 0),
        interval(10_000, 480, 20, 3),
        interval(9_000, 100, 50, 0),
        interval(10_000, 20, 10, 0),
    ];
    let intervals = (0..).zip(rows.map(|value| Told { by: BY, value })).collect();
    let facts = LegFacts { intervals, ..LegFacts::default() };
    let inputs = LegInputs::new(0, &facts);
    assert_eq!(inputs.source, LegSource::Intervals);
    let of = |metric| amount(&inputs, Seen::Received, metric);
    // 90 of 1,180, 3 of them perhaps ours.
    assert_eq!(of(Metric::Loss), Some((87_000_000, 90_000_000, 1_180)));
    assert_eq!(of(Metric::WorstLoss), Some((10_000_000, 10_000_000, 500)));
    assert_eq!(inputs.round_trip, Amount::exact(800, 8));
    assert_eq!(LegInputs::new(0, &LegFacts::default()).source, LegSource::Nothing);
}

#[test]
fn call_stands_as_its_records_tell() {
    let mut facts = CallFacts::new(EndpointId([1; 16]), CallId(1), 1_000_000_000);
    let opened = CallOpened { call: CallId(1), opened: AT, purpose: CallPurpose::Rehearsal };
    facts.handle_record(BY, &Record::CallOpened(opened));
    let device = DeviceSummary {
        call: CallId(1),
        device: "mic".try_into().unwrap(),
        side: DeviceSide::Capture,
        not_functioning: Ratio::UNOBSERVED,
        muted: Ratio::UNOBSERVED,
        episodes: 0,
        detector: 1,
        zero_volume: None,
        glitches: Some(3),
    };
    facts.handle_record(BY, &Record::DeviceSummary(device));
    // 90 s: SILENT_AFTER.
    let inputs = CallInputs::new(&facts, 1_089_999_999);
    assert_eq!((inputs.standing, inputs.is_rehearsal), (Standing::Open, true));
    assert!(inputs.devices[0].amounts.is_empty(), "what was not observed is no ratio");
    assert_eq!(CallInputs::new(&facts, 1_090_000_000).standing, Standing::Silent);
}
