//! How long frames become: the promise of 25 bytes per leg interval, and the arithmetic of the capacities.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use heapless::Vec;
use proptest::prelude::*;
use roomtone_protocol::frame::encode_record;
use roomtone_protocol::id::{CallId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::{
    FRAME_BYTES_MAX, INTERVAL_PACK_BYTES_MAX, PAYLOAD_TYPES_MAX, STREAMS_PER_LEG_MAX,
};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegSummary, Media, RttSummary, StreamKey, StreamSummary,
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

/// Returns the length of the whole frame: header, ids, stream table and the intervals.
fn frame_bytes(intervals: &[LegInterval]) -> usize {
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
    });
    assert_eq!(record_bytes(record), 19 + 8 + 3 + 3 + 10 + 97 + 1 + 2 + 3573);
}

/// A stream: key 6, payload types 1 + 4, rate 5, source 1, seven numbers of 10 and four of 5. Before them: call 8,
/// leg 3, two clocks of 10, RTT 6 * 5, dropped 10, length 1.
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
        rtt: RttSummary {
            count: u32::MAX,
            unanswered: u32::MAX,
            min_dms: u32::MAX,
            mean_dms: u32::MAX,
            max_dms: u32::MAX,
            last_dms: u32::MAX,
        },
        tap_dropped: u64::MAX,
        streams: core::array::from_fn::<_, STREAMS_PER_LEG_MAX, _>(|_| stream.clone()).into(),
    });
    assert_eq!(record_bytes(record), 19 + 8 + 3 + 20 + 30 + 10 + 1 + 16 * 107);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_audio_streams_on_a_bad_link_cost_at_most_25_bytes_per_interval(
        intervals in prop::collection::vec(interval_on_bad_link(), 6),
    ) {
        let bytes = frame_bytes(&intervals);
        prop_assert!(bytes <= 6 * 25, "{bytes} bytes, {}.{} per interval", bytes / 6, bytes % 6 * 10 / 6);
    }
}
