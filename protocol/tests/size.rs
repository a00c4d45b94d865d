//! How long frames become: the promise of 25 bytes per leg interval, and the arithmetic of the capacities.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use heapless::Vec;
use proptest::prelude::*;
use roomtone_protocol::frame::encode_record;
use roomtone_protocol::heard::{
    HeardInterval, MosFormula, NetworkMos, NetworkRating, RatedCodec, StreamHeard, Stretches,
};
use roomtone_protocol::id::{CallId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::{
    FRAME_BYTES_MAX, HEARD_PER_FRAME_MAX, HEARD_PER_LEG_MAX, INTERVAL_PACK_BYTES_MAX, LOSS_RUNS,
    PAYLOAD_TYPES_MAX, REPORTED_PER_LEG_MAX, STREAMS_PER_LEG_MAX,
};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegSummary, Media, RttSummary, StreamKey, StreamMarking,
    StreamReported, StreamSummary,
};
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

prop_compose! {
    /// One audio stream, 50 packets/s for 10 s, on a link with 2 % loss and jitter.
    ///
    /// Every value is drawn afresh and evenly, so that no interval resembles the one before it more than chance has it.
    fn stream_on_bad_link(stream: u8)(
        expected in 499u32..=501,
        lost in 5i32..=15,
        reordered in 0u32..=20,
        jitter_mean_dms in 90u32..=150,
        above_mean in 10u32..=90,
    ) -> StreamInterval {
        StreamInterval {
            stream,
            received: expected.strict_sub_signed(lost),
            lost,
            reordered,
            jitter_mean_dms,
            jitter_max_dms: jitter_mean_dms + above_mean,
            ..StreamInterval::default()
        }
    }
}

prop_compose! {
    /// Consent checks every 2.5 s, each with a round trip of 80 to 110 ms, beside two streams.
    fn interval_on_bad_link()(
        round_trips_dms in prop::collection::vec(800u32..=1100, 3..=5),
        ingress in stream_on_bad_link(0),
        egress in stream_on_bad_link(1),
    ) -> LegInterval {
        let count = round_trips_dms.len() as u32;
        LegInterval {
            duration_ms: 10_000,
            rtt_count: count,
            rtt_min_dms: *round_trips_dms.iter().min().unwrap(),
            rtt_mean_dms: round_trips_dms.iter().sum::<u32>() / count,
            rtt_max_dms: *round_trips_dms.iter().max().unwrap(),
            rtt_unanswered: 0,
            tap_dropped: 0,
            streams: Vec::from_slice(&[ingress, egress]).unwrap(),
        }
    }
}

/// Returns the length of the whole frame: header, ids, stream table, the intervals, and what was heard in them.
fn frame_bytes(
    intervals: &[LegInterval],
    heard: Option<Vec<HeardInterval, HEARD_PER_FRAME_MAX>>,
) -> usize {
    let key = |ssrc, direction| StreamKey { ssrc, direction, media: Media::Audio };
    let streams = Vec::from_slice(&[
        key([0x8c, 0x2e, 0xd1, 0x07], Direction::Ingress),
        key([0x41, 0x9b, 0x60, 0xf3], Direction::Egress),
    ])
    .unwrap();
    let record = Record::LegIntervals(LegIntervals {
        call: CallId(0x9d1c_55e0_b3a7_42f8),
        leg: LegNumber(1),
        first: 354,
        started_wall_ms: 1_795_362_042_137,
        pack: IntervalPack::from_intervals(intervals, streams.len()).unwrap(),
        streams,
        heard,
    });
    let id = RecordId { epoch: Epoch(0x5eed_cafe), sequence: Sequence(70_001) };
    encode_record(id, record, &mut [0; FRAME_BYTES_MAX]).unwrap()
}

fn record_bytes(record: Record) -> usize {
    let id = RecordId { epoch: Epoch(u32::MAX), sequence: Sequence(u32::MAX) };
    encode_record(id, record, &mut [0; FRAME_BYTES_MAX]).unwrap()
}

const KEY: StreamKey =
    StreamKey { ssrc: [0xff; 4], direction: Direction::Egress, media: Media::Rtx };

/// An interval whose coded fields are all `value`, for every stream that fits into a table.
fn interval_of_coded(value: u32) -> LegInterval {
    let row = |stream| StreamInterval {
        stream,
        received: 0,
        lost: value.cast_signed(),
        duplicate: value,
        reordered: value,
        jitter_mean_dms: value,
        jitter_max_dms: 2 * value,
        sequence_restarts: value,
    };
    LegInterval {
        duration_ms: value,
        rtt_count: value,
        rtt_min_dms: value,
        rtt_mean_dms: 2 * value,
        rtt_max_dms: 3 * value,
        rtt_unanswered: value,
        tap_dropped: value,
        streams: (0..STREAMS_PER_LEG_MAX as u8).map(row).collect(),
    }
}

fn widest_heard(stream: usize) -> HeardInterval {
    HeardInterval {
        interval: 5,
        stream: stream as u8,
        total_us: u32::MAX,
        concealed_us: u32::MAX,
        worst_second_us: u32::MAX,
        played: u32::MAX,
        discarded: u32::MAX,
        delay_mean_dms: u32::MAX,
    }
}

/// Differences of 2^30 in each field, up and down again, all take the escape of 40 bits. An interval has
/// 7 + 16 * 7 = 119 fields: 4,760 bits. Presence takes 17 bits in the first interval and 1 in each other, since all
/// streams are present: 6 * 4,760 + 17 + 5 = 28,582 bits, 3,573 bytes. The body around it: call 8, leg 3, first 3,
/// start 10, table 1 + 16 * 6, count 1, length 2.
#[test]
fn frame_of_six_widest_intervals_fits() {
    let (high, low) = (interval_of_coded(1 << 30), interval_of_coded(0));
    let rows = [&high, &low, &high, &low, &high, &low].map(LegInterval::clone);
    let pack = IntervalPack::from_intervals(&rows, STREAMS_PER_LEG_MAX).unwrap();
    assert_eq!(pack.bytes().len(), 3573);
    assert!(pack.bytes().len() <= INTERVAL_PACK_BYTES_MAX);
    assert_eq!(pack.iter(STREAMS_PER_LEG_MAX).collect::<std::vec::Vec<_>>(), rows);
    let record = Record::LegIntervals(LegIntervals {
        call: CallId(u64::MAX),
        leg: LegNumber(u16::MAX),
        first: u16::MAX,
        started_wall_ms: u64::MAX,
        streams: [KEY; STREAMS_PER_LEG_MAX].into(),
        pack,
        heard: Some(core::array::from_fn::<_, HEARD_PER_FRAME_MAX, _>(widest_heard).into()),
    });
    // The block: option and count 1 each, eight rows of 2 + 6 * 5.
    assert_eq!(record_bytes(record), 19 + 8 + 3 + 3 + 10 + 97 + 1 + 2 + 3573 + 2 + 8 * 32);
}

/// A stream: key 6, payload types 1 + 4, rate 5, source 1, seven numbers of 10 and four of 5. Before them: call 8,
/// leg 3, two clocks of 10, RTT 6 * 5, dropped 10, length 1. The block: eight streams as they were heard, position 1,
/// model 3, six numbers of 10, seven of 5, two stretches of 15, eight runs of 5, a rating of three enums and three
/// numbers of 3; sixteen markings of 7; eight reports of 2 + 10 + 12 + 30; an address of 20; three counts and four
/// options of 1.
#[test]
fn frame_of_widest_leg_summary_fits() {
    let stream = StreamSummary {
        key: KEY,
        payload_types: [127; PAYLOAD_TYPES_MAX].into(),
        clock_rate_hz: u32::MAX,
        clock_rate_source: ClockRateSource::Unknown,
        first_us: u64::MAX,
        last_us: u64::MAX,
        received: u64::MAX,
        expected: u64::MAX,
        lost: u64::MAX,
        duplicate: u64::MAX,
        reordered: u64::MAX,
        sequence_restarts: u32::MAX,
        jitter_mean_dms: u32::MAX,
        jitter_max_dms: u32::MAX,
        jitter_last_dms: u32::MAX,
    };
    let record = Record::LegSummary(LegSummary {
        call: CallId(u64::MAX),
        leg: LegNumber(u16::MAX),
        closed: Stamp { wall_us: u64::MAX, uptime_us: u64::MAX },
        rtt: WIDEST_RTT,
        tap_dropped: u64::MAX,
        streams: core::array::from_fn::<_, STREAMS_PER_LEG_MAX, _>(|_| stream.clone()).into(),
        heard: Some(core::array::from_fn::<_, HEARD_PER_LEG_MAX, _>(widest_stream_heard).into()),
        markings: Some(
            core::array::from_fn::<_, STREAMS_PER_LEG_MAX, _>(|stream| StreamMarking {
                stream: stream as u8,
                dscp: 63,
                others: u32::MAX,
            })
            .into(),
        ),
        reported: Some(
            core::array::from_fn::<_, REPORTED_PER_LEG_MAX, _>(|stream| StreamReported {
                stream: stream as u8,
                reports: u32::MAX,
                lost: i32::MIN,
                fraction_lost_max: u8::MAX,
                jitter_mean_dms: Some(u32::MAX),
                jitter_max_dms: Some(u32::MAX),
                rtt: WIDEST_RTT,
            })
            .into(),
        ),
        reflexive: Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)), u16::MAX)),
    });
    let summary = 8 + 3 + 20 + 30 + 10 + 1 + 16 * 107;
    let heard = 4 + 6 * 10 + 7 * 5 + 2 * 15 + 8 * 5 + 12;
    let block = 3 + 4 + 8 * heard + 16 * 7 + 8 * 54 + 20;
    assert_eq!((block, record_bytes(record)), (2019, 19 + summary + block));
}

const WIDEST_RTT: RttSummary = RttSummary {
    count: u32::MAX,
    unanswered: u32::MAX,
    min_dms: u32::MAX,
    mean_dms: u32::MAX,
    max_dms: u32::MAX,
    last_dms: u32::MAX,
};

fn widest_stream_heard(stream: usize) -> StreamHeard {
    let stretches = Stretches { count: u32::MAX, frames: u32::MAX, missing: u32::MAX };
    StreamHeard {
        stream: stream as u8,
        model: u16::MAX,
        total_us: u64::MAX,
        concealed_us: u64::MAX,
        stretched_us: u64::MAX,
        compressed_us: u64::MAX,
        played: u64::MAX,
        discarded: u64::MAX,
        delay_mean_dms: u32::MAX,
        delay_max_dms: u32::MAX,
        worst_second_us: u32::MAX,
        worst_interval_total_us: u32::MAX,
        worst_interval_concealed_us: u32::MAX,
        resets: u32::MAX,
        frame_us: u32::MAX,
        bursts: stretches,
        gaps: stretches,
        runs: [u32::MAX; LOSS_RUNS],
        rating: NetworkRating::Mos(NetworkMos {
            formula: MosFormula::G1072V1,
            codec: RatedCodec::Opus,
            assumption: u16::MAX,
            mos_milli: u16::MAX,
            best_milli: u16::MAX,
        }),
    }
}

/// What was heard of one stream in an interval on such a link: up to a tenth concealed, 200 ms of delay.
fn heard_on_bad_link(interval: u8) -> impl Strategy<Value = HeardInterval> {
    (0..1_000_000u32, 0..400_000u32, 450..500u32, 0..20u32, 400..2_000u32).prop_map(
        move |(concealed_us, worst_second_us, played, discarded, delay_mean_dms)| HeardInterval {
            interval,
            stream: 0,
            total_us: 9_990_000,
            concealed_us,
            worst_second_us,
            played,
            discarded,
            delay_mean_dms,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_audio_streams_on_a_bad_link_cost_at_most_25_bytes_per_interval(
        intervals in prop::collection::vec(interval_on_bad_link(), 6),
    ) {
        let bytes = frame_bytes(&intervals, None);
        prop_assert!(bytes <= 6 * 25, "{bytes} bytes, {}.{} per interval", bytes / 6, bytes % 6 * 10 / 6);
    }

    /// Position 2, heard 4, concealed 3, worst second 3, played 2, discarded 1, delay 2: 17 bytes; and option and
    /// count, a third of a byte each.
    #[test]
    fn what_was_heard_adds_at_most_18_bytes_per_interval(
        intervals in prop::collection::vec(interval_on_bad_link(), 6),
        heard in [0, 1, 2, 3, 4, 5].map(heard_on_bad_link),
    ) {
        let heard = Some(heard.into_iter().collect());
        let added = frame_bytes(&intervals, heard) - frame_bytes(&intervals, None);
        prop_assert!(added <= 6 * 18, "{added} bytes");
    }
}
