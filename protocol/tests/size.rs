//! The promise of at most 25 bytes per leg interval, held against a leg that gives the coder little to predict.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use heapless::Vec;
use proptest::prelude::*;
use roomtone_protocol::frame::encode_record;
use roomtone_protocol::id::{CallId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::media::{Direction, Media, StreamKey};
use roomtone_protocol::record::Record;

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

/// Returns the length of the whole frame: header, ids, stream table and six intervals.
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
