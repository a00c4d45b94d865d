//! A leg's totals in wire units.
//!
//! Where a leg had more streams than a summary can name, speech goes first; the lists of the block name streams by
//! their position among those that are named.

use heapless::Vec as Bounded;
use roomtone_protocol::id::CallId;
use roomtone_protocol::limits::STREAMS_PER_LEG_MAX;
use roomtone_protocol::media::{
    LegSummary, Media, RttSummary, StreamKey, StreamMarking, StreamReported, StreamSummary,
};

use crate::clock::{Moment, WallOffset};
use crate::media::leg::LegReport;
use crate::media::reporter::Reported;
use crate::media::rtt::RttTally;
use crate::media::stream::StreamReport;

use super::heard::stream_heard;
use super::units::{micros, saturate, tenths};

/// The record, and how many streams or rows of its lists found no room.
pub(super) fn summary(call: CallId, report: &LegReport, wall: WallOffset) -> (LegSummary, u64) {
    let mut streams: Vec<&StreamReport> = report.streams.iter().collect();
    streams.sort_by_key(|stream| (audio_first(stream.media), stream.first_at));
    let mut left_out = report.streams_refused;
    left_out += streams.len().saturating_sub(STREAMS_PER_LEG_MAX) as u64;
    streams.truncate(STREAMS_PER_LEG_MAX);
    let numbered = || streams.iter().enumerate().map(|(n, stream)| (n as u8, *stream));
    let summary = LegSummary {
        call,
        leg: report.number,
        closed: wall.stamp(report.closed),
        rtt: rtt_summary(&report.rtt),
        tap_dropped: report.tap_dropped,
        streams: streams.iter().map(|stream| stream_summary(stream, report.opened)).collect(),
        heard: Some(first(
            numbered().filter_map(|(n, stream)| stream_heard(n, stream)),
            &mut left_out,
        )),
        markings: Some(first(
            numbered().map(|(n, stream)| stream_marking(n, stream)),
            &mut left_out,
        )),
        reported: Some(first(
            numbered().filter_map(|(n, stream)| stream_reported(n, stream)),
            &mut left_out,
        )),
        reflexive: report.reflexive,
    };
    (summary, left_out)
}

/// As many as there is room for, from the front; the others are counted.
fn first<T, const N: usize>(rows: impl Iterator<Item = T>, left_out: &mut u64) -> Bounded<T, N> {
    let mut kept = Bounded::new();
    for row in rows {
        *left_out += u64::from(kept.push(row).is_err());
    }
    kept
}

/// The order in which streams find room.
pub(super) fn audio_first(media: Media) -> u8 {
    match media {
        Media::Audio => 0,
        Media::Video => 1,
        Media::Unknown => 2,
        Media::Rtx => 3,
    }
}

fn stream_summary(stream: &StreamReport, opened: Moment) -> StreamSummary {
    StreamSummary {
        key: StreamKey {
            ssrc: stream.ssrc.to_le_bytes(),
            direction: stream.direction,
            media: stream.media,
        },
        payload_types: stream.payload_types.iter().copied().collect(),
        clock_rate_hz: stream.clock_rate_hz.unwrap_or(0),
        clock_rate_source: stream.clock_rate_source,
        first_us: micros(stream.first_at.since(opened)),
        last_us: micros(stream.last_at.since(opened)),
        received: stream.received,
        expected: stream.expected,
        lost: stream.lost(),
        duplicate: stream.duplicate,
        reordered: stream.reordered,
        sequence_restarts: stream.restarts,
        jitter_mean_dms: tenths(stream.jitter.mean().unwrap_or_default()),
        jitter_max_dms: tenths(stream.jitter.max().unwrap_or_default()),
        jitter_last_dms: tenths(stream.jitter_last.unwrap_or_default()),
    }
}

fn stream_marking(stream: u8, report: &StreamReport) -> StreamMarking {
    let (dscp, others) = (report.marking.code_point(), report.marking.others());
    StreamMarking { stream, dscp, others: saturate(others) }
}

fn stream_reported(stream: u8, report: &StreamReport) -> Option<StreamReported> {
    let reported: &Reported = report.reported.as_ref()?;
    let clock = report.clock_rate_hz;
    Some(StreamReported {
        stream,
        reports: reported.reports,
        lost: reported.lost,
        fraction_lost_max: reported.fraction_lost_max,
        jitter_mean_dms: reported.jitter_mean(clock).map(tenths),
        jitter_max_dms: reported.jitter_max(clock).map(tenths),
        rtt: rtt_summary(&reported.rtt),
    })
}

fn rtt_summary(tally: &RttTally) -> RttSummary {
    RttSummary {
        count: tally.count,
        unanswered: tally.unanswered,
        min_dms: tenths(tally.min),
        mean_dms: tenths(tally.mean().unwrap_or_default()),
        max_dms: tenths(tally.max),
        last_dms: tenths(tally.last),
    }
}
