//! From what the media watch says to records: the one place where full precision becomes wire units.

use std::collections::BTreeMap;
use std::time::Duration;

use heapless::Vec as Bounded;
use roomtone_protocol::call::{CallClosed, CallOpened};
use roomtone_protocol::id::{CallId, LegNumber};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::{INTERVALS_PER_FRAME_MAX, STREAMS_PER_LEG_MAX};
use roomtone_protocol::media::{
    LegOpened, LegSummary, Media, RttSummary, StreamKey, StreamSummary,
};
use roomtone_protocol::record::Record;

use crate::clock::{Moment, WallOffset};
use crate::media::Event;
use crate::media::leg::{IntervalReport, LegReport, StreamIntervalReport};
use crate::media::rtt::RttTally;
use crate::media::stream::StreamReport;

/// Turns events into records, with one batch of intervals per leg.
///
/// With a live link each interval is a record of its own, so that it can be seen at once. Without one, up to six
/// share a frame: a third of the bytes.
#[derive(Debug)]
pub struct Recorder {
    per_frame: usize,
    batches: BTreeMap<LegNumber, Batch>,
    left_out: u64,
}

#[derive(Debug)]
struct Batch {
    call: CallId,
    first: u16,
    started: Moment,
    streams: Bounded<StreamKey, STREAMS_PER_LEG_MAX>,
    intervals: Vec<LegInterval>,
}

impl Recorder {
    /// Begins with one interval per frame.
    #[must_use]
    pub fn new() -> Self {
        Self { per_frame: 1, batches: BTreeMap::new(), left_out: 0 }
    }

    /// Chooses how many intervals share a frame, 1..=6.
    pub fn set_intervals_per_frame(&mut self, intervals: usize) {
        self.per_frame = intervals.clamp(1, INTERVALS_PER_FRAME_MAX);
    }

    /// Takes one event; what it makes goes to `out`, in order.
    pub fn handle(&mut self, event: Event, wall: WallOffset, out: &mut Vec<Record>) {
        match event {
            Event::CallOpened { call, at, purpose } => {
                out.push(Record::CallOpened(CallOpened { call, opened: wall.stamp(at), purpose }));
            }
            Event::LegOpened { call, leg, at, local, remote, transport } => {
                let opened = wall.stamp(at);
                out.push(Record::LegOpened(LegOpened {
                    call,
                    leg,
                    opened,
                    local,
                    remote,
                    transport,
                }));
            }
            Event::Interval { call, report } => self.interval(call, &report, wall, out),
            Event::LegSummary { call, report } => {
                self.flush_leg(report.number, wall, out);
                let beyond = report.streams.len().saturating_sub(STREAMS_PER_LEG_MAX);
                self.left_out += beyond as u64 + report.streams_refused;
                out.push(Record::LegSummary(summary(call, &report, wall)));
            }
            Event::CallClosed { call, at, reason, legs } => {
                self.flush(wall, out);
                let closed = wall.stamp(at);
                out.push(Record::CallClosed(CallClosed { call, closed, reason, legs }));
            }
            // What it did is recorded as calls.
            Event::ContextTaken(_) => {}
        }
    }

    /// Streams that no summary had room for, in all: each report of a leg counts its own.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Writes every interval that still waits for company.
    pub fn flush(&mut self, wall: WallOffset, out: &mut Vec<Record>) {
        while let Some(&leg) = self.batches.keys().next() {
            self.flush_leg(leg, wall, out);
        }
    }

    fn interval(
        &mut self,
        call: CallId,
        report: &IntervalReport,
        wall: WallOffset,
        out: &mut Vec<Record>,
    ) {
        let fits = self.batches.get(&report.leg).is_some_and(|batch| {
            batch.call == call && batch.next() == u32::from(report.index) && batch.has_room(report)
        });
        if !fits {
            self.flush_leg(report.leg, wall, out);
        }
        let batch = self.batches.entry(report.leg).or_insert_with(|| Batch {
            call,
            first: report.index,
            started: report.started,
            streams: Bounded::new(),
            intervals: Vec::with_capacity(INTERVALS_PER_FRAME_MAX),
        });
        batch.add(report);
        // Intervals of a leg cut short stand last in their frame: what follows is no longer ten seconds apart.
        if batch.intervals.len() >= self.per_frame {
            self.flush_leg(report.leg, wall, out);
        }
    }

    fn flush_leg(&mut self, leg: LegNumber, wall: WallOffset, out: &mut Vec<Record>) {
        let Some(batch) = self.batches.remove(&leg) else {
            return;
        };
        let pack = IntervalPack::from_intervals(&batch.intervals, batch.streams.len())
            .expect("a batch holds at most six intervals, their rows in the order of the table");
        out.push(Record::LegIntervals(LegIntervals {
            call: batch.call,
            leg,
            first: batch.first,
            started_wall_ms: wall.stamp(batch.started).wall_us / 1_000,
            streams: batch.streams,
            pack,
            heard: None,
        }));
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// The interval number that may follow.
    fn next(&self) -> u32 {
        u32::from(self.first) + self.intervals.len() as u32
    }

    /// Whether the streams that the table lacks still fit.
    fn has_room(&self, report: &IntervalReport) -> bool {
        let new = report.streams.iter().filter(|row| self.place(row).is_none()).count();
        self.streams.len() + new <= STREAMS_PER_LEG_MAX
    }

    fn place(&self, row: &StreamIntervalReport) -> Option<usize> {
        let ssrc = row.ssrc.to_le_bytes();
        self.streams.iter().position(|key| key.ssrc == ssrc && key.direction == row.direction)
    }

    fn add(&mut self, report: &IntervalReport) {
        let mut rows: Vec<_> = report.streams.iter().collect();
        // Where more streams were active than a frame can name, speech goes first.
        rows.sort_by_key(|row| audio_first(row.media));
        let mut streams: Vec<StreamInterval> = Vec::with_capacity(STREAMS_PER_LEG_MAX);
        for row in rows {
            let place = self.place(row).or_else(|| {
                let key = StreamKey {
                    ssrc: row.ssrc.to_le_bytes(),
                    direction: row.direction,
                    media: row.media,
                };
                self.streams.push(key).ok().map(|()| self.streams.len() - 1)
            });
            let Some(place) = place else {
                continue;
            };
            // What a stream carries may become known while the frame fills.
            self.streams[place].media = row.media;
            streams.push(stream_interval(place as u8, row));
        }
        streams.sort_by_key(|row| row.stream);
        self.intervals.push(LegInterval {
            duration_ms: millis(report.duration),
            rtt_count: report.rtt.count,
            rtt_min_dms: tenths(report.rtt.min),
            rtt_mean_dms: tenths(report.rtt.mean().unwrap_or_default()),
            rtt_max_dms: tenths(report.rtt.max),
            rtt_unanswered: report.rtt.unanswered,
            tap_dropped: saturate(report.tap_dropped),
            streams: Bounded::from_iter(streams),
        });
    }
}

fn audio_first(media: Media) -> u8 {
    match media {
        Media::Audio => 0,
        Media::Video => 1,
        Media::Unknown => 2,
        Media::Rtx => 3,
    }
}

fn stream_interval(stream: u8, row: &StreamIntervalReport) -> StreamInterval {
    let span = &row.span;
    StreamInterval {
        stream,
        received: saturate(span.received),
        lost: i32::try_from(span.lost).unwrap_or(i32::MAX),
        duplicate: saturate(span.duplicate),
        reordered: saturate(span.reordered),
        jitter_mean_dms: tenths(span.jitter.mean().unwrap_or_default()),
        jitter_max_dms: tenths(span.jitter.max().unwrap_or_default()),
        sequence_restarts: span.restarts,
    }
}

fn summary(call: CallId, report: &LegReport, wall: WallOffset) -> LegSummary {
    let mut streams: Vec<&StreamReport> = report.streams.iter().collect();
    streams.sort_by_key(|stream| (audio_first(stream.media), stream.first_at));
    let after_open = |at: Moment| saturating_us(at.since(report.opened));
    LegSummary {
        call,
        leg: report.number,
        closed: wall.stamp(report.closed),
        rtt: rtt_summary(&report.rtt),
        tap_dropped: report.tap_dropped,
        streams: streams
            .into_iter()
            .take(STREAMS_PER_LEG_MAX)
            .map(|stream| StreamSummary {
                key: StreamKey {
                    ssrc: stream.ssrc.to_le_bytes(),
                    direction: stream.direction,
                    media: stream.media,
                },
                payload_types: stream.payload_types.iter().copied().collect(),
                clock_rate_hz: stream.clock_rate_hz.unwrap_or(0),
                clock_rate_source: stream.clock_rate_source,
                first_us: after_open(stream.first_at),
                last_us: after_open(stream.last_at),
                received: stream.received,
                expected: stream.expected,
                lost: stream.lost(),
                duplicate: stream.duplicate,
                reordered: stream.reordered,
                sequence_restarts: stream.restarts,
                jitter_mean_dms: tenths(stream.jitter.mean().unwrap_or_default()),
                jitter_max_dms: tenths(stream.jitter.max().unwrap_or_default()),
                jitter_last_dms: tenths(stream.jitter_last.unwrap_or_default()),
            })
            .collect(),
        heard: None,
        markings: None,
        reported: None,
        reflexive: None,
    }
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

/// Tenths of a millisecond, rounded to the nearest.
fn tenths(duration: Duration) -> u32 {
    u32::try_from((duration.as_micros() + 50) / 100).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from((duration.as_micros() + 500) / 1_000).unwrap_or(u32::MAX)
}

fn saturating_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::media::{ClockRateSource, Direction, Transport};

    use super::*;
    use crate::media::jitter::Tally;
    use crate::media::stream::StreamSpan;

    const CALL: CallId = CallId(7);

    fn row(ssrc: u32, media: Media) -> StreamIntervalReport {
        let span = StreamSpan {
            received: 500,
            lost: 0,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Tally::default(),
            playout: None,
        };
        StreamIntervalReport { ssrc, direction: Direction::Ingress, media, span }
    }

    fn interval(index: u16, streams: Vec<StreamIntervalReport>) -> Event {
        let started = Moment::from_nanos(u64::from(index) * 10_000_000_000);
        let report = IntervalReport {
            leg: LegNumber(0),
            index,
            started,
            duration: Duration::from_secs(10),
            rtt: RttTally::default(),
            tap_dropped: 0,
            streams,
        };
        Event::Interval { call: CALL, report }
    }

    fn stream(ssrc: u32, media: Media) -> StreamReport {
        StreamReport {
            ssrc,
            direction: Direction::Ingress,
            media,
            payload_types: vec![111],
            clock_rate_hz: None,
            clock_rate_source: ClockRateSource::Unknown,
            first_at: Moment::ORIGIN,
            last_at: Moment::ORIGIN,
            received: 1,
            expected: 1,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Tally::default(),
            jitter_last: None,
            heard: None,
        }
    }

    fn leg_summary(streams: Vec<StreamReport>) -> Event {
        let report = LegReport {
            number: LegNumber(0),
            local: "192.0.2.1:5000".parse().unwrap(),
            remote: "198.51.100.1:3478".parse().unwrap(),
            transport: Transport::Udp,
            opened: Moment::ORIGIN,
            closed: Moment::ORIGIN,
            rtt: RttTally::default(),
            tap_dropped: 0,
            streams_refused: 3,
            streams,
        };
        Event::LegSummary { call: CALL, report }
    }

    /// First number and count of each pack.
    fn packs(records: &[Record]) -> Vec<(u16, usize)> {
        let pack = |record: &Record| {
            let Record::LegIntervals(pack) = record else { return None };
            Some((pack.first, pack.intervals().count()))
        };
        records.iter().filter_map(pack).collect()
    }

    #[test]
    fn six_intervals_share_a_frame_and_a_gap_begins_another() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.set_intervals_per_frame(6);
        for index in (0..8).chain(10..11) {
            recorder.handle(
                interval(index, vec![row(1, Media::Audio)]),
                WallOffset::NONE,
                &mut out,
            );
        }
        // 0..=5 fill a frame; 6 and 7 wait until 10, which does not follow them.
        assert_eq!(packs(&out), [(0, 6), (6, 2)]);
        recorder.flush(WallOffset::NONE, &mut out);
        assert_eq!(packs(&out), [(0, 6), (6, 2), (10, 1)]);
    }

    #[test]
    fn streams_that_the_frame_cannot_name_begin_another() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.set_intervals_per_frame(6);
        let rows = |from: u32| (from..from + 10).map(|ssrc| row(ssrc, Media::Audio)).collect();
        recorder.handle(interval(0, rows(0)), WallOffset::NONE, &mut out);
        // Ten known and ten new ones are more than the 16 of a table.
        recorder.handle(interval(1, rows(10)), WallOffset::NONE, &mut out);
        recorder.flush(WallOffset::NONE, &mut out);
        assert_eq!(packs(&out), [(0, 1), (1, 1)]);
    }

    #[test]
    fn speech_has_its_place_among_32_streams_and_the_rest_is_counted() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        let media = |ssrc| if ssrc == 31 { Media::Audio } else { Media::Rtx };
        let rows = (0..32).map(|ssrc| row(ssrc, media(ssrc))).collect();
        recorder.handle(interval(0, rows), WallOffset::NONE, &mut out);
        let streams = (0..32).map(|ssrc| stream(ssrc, media(ssrc))).collect();
        recorder.handle(leg_summary(streams), WallOffset::NONE, &mut out);
        let [Record::LegIntervals(pack), Record::LegSummary(summary)] = out.as_slice() else {
            panic!("{out:?}");
        };
        assert_eq!((pack.streams.len(), pack.streams[0].media), (16, Media::Audio));
        assert_eq!((summary.streams.len(), summary.streams[0].key.media), (16, Media::Audio));
        // 32 less 16, and 3 that the leg itself had refused.
        assert_eq!(recorder.left_out(), 19);
    }

    #[test]
    fn round_trip_without_an_answer_is_zero_beside_a_count_of_zero() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.handle(interval(0, vec![row(1, Media::Audio)]), WallOffset::NONE, &mut out);
        let [Record::LegIntervals(pack)] = out.as_slice() else { panic!("{out:?}") };
        let interval = pack.intervals().next().unwrap();
        assert_eq!((interval.rtt_count, interval.rtt_min_dms, interval.rtt_max_dms), (0, 0, 0));
    }
}
