//! From what the media watch says to records: the one place where full precision becomes wire units.
//!
//! `summary` makes a leg's totals, `heard` what a listener heard, `units` rounds. Whatever finds no room in a record is
//! counted ([`Recorder::left_out`]).

use std::collections::BTreeMap;

use heapless::Vec as Bounded;
use roomtone_protocol::call::{CallClosed, CallOpened};
use roomtone_protocol::heard::HeardInterval;
use roomtone_protocol::id::{CallId, LegNumber};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::{
    HEARD_PER_FRAME_MAX, INTERVALS_PER_FRAME_MAX, STREAMS_PER_LEG_MAX,
};
use roomtone_protocol::media::{LegOpened, StreamKey};
use roomtone_protocol::record::Record;

use crate::clock::{Moment, WallOffset};
use crate::media::Event;
use crate::media::leg::{IntervalReport, StreamIntervalReport};

mod heard;
mod summary;
mod units;

use heard::heard_interval;
use summary::{audio_first, summary};
use units::{millis, saturate, tenths};

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
    heard: Bounded<HeardInterval, HEARD_PER_FRAME_MAX>,
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
                let (summary, left_out) = summary(call, &report, wall);
                self.left_out += left_out;
                out.push(Record::LegSummary(summary));
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

    /// Streams that no summary had room for, and rows of what was heard that no record had room for, in all: each
    /// report of a leg and of an interval counts its own.
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
            heard: Bounded::new(),
        });
        self.left_out += batch.add(report);
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
            heard: Some(batch.heard),
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

    /// Whether the streams that the table lacks still fit, and what was heard of the others.
    fn has_room(&self, report: &IntervalReport) -> bool {
        let new = report.streams.iter().filter(|row| self.place(row).is_none()).count();
        let heard = report.streams.iter().filter_map(|row| heard_interval(0, 0, row)).count();
        self.streams.len() + new <= STREAMS_PER_LEG_MAX
            && self.heard.len() + heard <= HEARD_PER_FRAME_MAX
    }

    fn place(&self, row: &StreamIntervalReport) -> Option<usize> {
        let ssrc = row.ssrc.to_le_bytes();
        self.streams.iter().position(|key| key.ssrc == ssrc && key.direction == row.direction)
    }

    /// Takes an interval; returns how many rows of what was heard found no room, as only a first one's may.
    fn add(&mut self, report: &IntervalReport) -> u64 {
        let mut rows: Vec<_> = report.streams.iter().collect();
        // Where more streams were active than a frame can name, speech goes first.
        rows.sort_by_key(|row| audio_first(row.media));
        let mut streams: Vec<StreamInterval> = Vec::with_capacity(STREAMS_PER_LEG_MAX);
        let mut heard: Vec<HeardInterval> = Vec::new();
        let interval = self.intervals.len() as u8;
        let mut left_out = 0;
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
                left_out += u64::from(heard_interval(0, 0, row).is_some());
                continue;
            };
            // What a stream carries may become known while the frame fills.
            self.streams[place].media = row.media;
            streams.push(stream_interval(place as u8, row));
            heard.extend(heard_interval(interval, place as u8, row));
        }
        streams.sort_by_key(|row| row.stream);
        heard.sort_by_key(|row| row.stream);
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
        for row in heard {
            left_out += u64::from(self.heard.push(row).is_err());
        }
        left_out
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomtone_protocol::media::{ClockRateSource, Direction, Media, Transport};

    use super::*;
    use crate::media::jitter::Tally;
    use crate::media::leg::LegReport;
    use crate::media::marking::Marking;
    use crate::media::playout::tally::PlayoutTally;
    use crate::media::reporter::{Reported, Told};
    use crate::media::rtcp::Block;
    use crate::media::rtt::RttTally;
    use crate::media::stream::{StreamReport, StreamSpan};

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
            marking: Marking::default(),
            reported: None,
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
            reflexive: "203.0.113.9:5000".parse().ok(),
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

    /// An interval of which `streams` received audio streams were heard.
    fn heard_interval(index: u16, streams: std::ops::Range<u32>) -> Event {
        let tally = PlayoutTally { total_us: 10_000_000, played: 500, ..PlayoutTally::default() };
        let heard = |ssrc| {
            let row = row(ssrc, Media::Audio);
            let span = StreamSpan { playout: Some(tally), ..row.span };
            StreamIntervalReport { span, ..row }
        };
        interval(index, streams.map(heard).collect())
    }

    /// (interval, stream) of the rows of each pack, and the length of its table.
    fn heard_of(records: &[Record]) -> Vec<(Vec<(u8, u8)>, usize)> {
        let rows = |record: &Record| {
            let Record::LegIntervals(pack) = record else { return None };
            assert!(pack.is_consistent());
            let rows = pack.heard.as_ref().expect("this writer tells what was heard");
            Some((rows.iter().map(|row| (row.interval, row.stream)).collect(), pack.streams.len()))
        };
        records.iter().filter_map(rows).collect()
    }

    #[test]
    fn rows_of_what_was_heard_follow_interval_and_stream() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.set_intervals_per_frame(6);
        for (index, ssrcs) in [(0, 1..3), (1, 0..3), (2, 2..3)] {
            recorder.handle(heard_interval(index, ssrcs), WallOffset::NONE, &mut out);
        }
        recorder.flush(WallOffset::NONE, &mut out);
        // The table in order of appearance: 1, 2, 0.
        let rows = vec![(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1)];
        assert_eq!(heard_of(&out), [(rows, 3)]);
        assert_eq!(recorder.left_out(), 0);
    }

    #[test]
    fn ninth_row_of_what_was_heard_begins_another_frame() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.set_intervals_per_frame(6);
        for index in 0..3 {
            recorder.handle(heard_interval(index, 0..3), WallOffset::NONE, &mut out);
        }
        recorder.flush(WallOffset::NONE, &mut out);
        // Two intervals have 6 rows, three would have 9.
        assert_eq!(packs(&out), [(0, 2), (2, 1)]);
        assert_eq!(heard_of(&out).iter().map(|(rows, _)| rows.len()).collect::<Vec<_>>(), [6, 3]);
        assert_eq!(recorder.left_out(), 0);
    }

    #[test]
    fn ten_listeners_in_one_interval_leave_two_out() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        recorder.set_intervals_per_frame(6);
        for index in 0..2 {
            recorder.handle(heard_interval(index, 0..10), WallOffset::NONE, &mut out);
        }
        recorder.flush(WallOffset::NONE, &mut out);
        let rows: Vec<(u8, u8)> = (0..8).map(|stream| (0, stream)).collect();
        assert_eq!(heard_of(&out), [(rows.clone(), 10), (rows, 10)]);
        assert_eq!(recorder.left_out(), 4);
    }

    #[test]
    fn summary_names_streams_by_their_place_among_those_that_are_named() {
        let (mut recorder, mut out) = (Recorder::new(), Vec::new());
        let mut streams: Vec<_> = (0..20).map(|ssrc| stream(ssrc, Media::Rtx)).collect();
        // The last one is speech, marked and told of: it comes first.
        let mut speech = stream(20, Media::Audio);
        (0..5).for_each(|_| speech.marking.note(46));
        speech.marking.note(0);
        let block = Block {
            ssrc: 20,
            fraction_lost: 12,
            lost: -3,
            highest_sequence: 9,
            jitter_ticks: 480,
            last_report: 0,
            delay: 0,
        };
        let mut reported = Reported::default();
        reported.add(&Told { block, rtt: Some(Duration::from_micros(40_250)) });
        (speech.reported, speech.clock_rate_hz) = (Some(reported), Some(48_000));
        streams.push(speech);
        recorder.handle(leg_summary(streams), WallOffset::NONE, &mut out);
        let [Record::LegSummary(summary)] = out.as_slice() else { panic!("{out:?}") };
        let markings = summary.markings.as_ref().unwrap();
        assert_eq!(markings.len(), 16, "every stream that is named");
        assert_eq!((markings[0].stream, markings[0].dscp, markings[0].others), (0, 46, 1));
        let [told] = summary.reported.as_ref().unwrap().as_slice() else { panic!("{summary:?}") };
        assert_eq!((told.stream, told.reports, told.lost), (0, 1, -3));
        // 480 ticks of 48 kHz are 10 ms; 40.25 ms are 402.5 tenths.
        assert_eq!((told.jitter_mean_dms, told.jitter_max_dms), (Some(100), Some(100)));
        assert_eq!((told.fraction_lost_max, told.rtt.count, told.rtt.last_dms), (12, 1, 403));
        assert_eq!(summary.reflexive, "203.0.113.9:5000".parse().ok());
        assert_eq!(summary.heard.as_ref().map(|rows| rows.len()), Some(0));
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
