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
        Self { per_frame: 1, batches: BTreeMap::new() }
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
                out.push(Record::LegSummary(summary(call, &report, wall)));
            }
            Event::CallClosed { call, at, reason, legs } => {
                self.flush(wall, out);
                let closed = wall.stamp(at);
                out.push(Record::CallClosed(CallClosed { call, closed, reason, legs }));
            }
        }
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
