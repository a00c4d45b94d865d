//! Keeps the books on what a media watch says: events in order, and intervals that add up to the summaries.

use std::collections::BTreeMap;
use std::time::Duration;

use roomtone_agent::clock::WallOffset;
use roomtone_agent::media::Event;
use roomtone_agent::media::context::ContextTaken;
use roomtone_agent::media::leg::{INTERVAL, IntervalReport, LegReport};
use roomtone_agent::media::reporter::PROVING;
use roomtone_agent::media::stream::{StreamReport, StreamSpan};
use roomtone_agent::report::Recorder;
use roomtone_protocol::frame::{decode, encode_record};
use roomtone_protocol::id::{CallId, Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::media::Direction;
use roomtone_protocol::message::Message;

/// Asserts on each event.
pub(crate) struct Ledger {
    recorder: Recorder,
    call: Option<(CallId, Vec<Leg>)>,
    calls: u32,
}

/// What the intervals of one leg said so far.
#[derive(Default)]
struct Leg {
    index: Option<u16>,
    streams: BTreeMap<(u32, bool), [i64; 5]>,
    round_trips: u64,
    unanswered: u64,
    tap_dropped: u64,
    summary: Option<LegReport>,
}

impl Ledger {
    /// Begins with nothing said; `per_frame` intervals share a frame.
    pub(crate) fn new(per_frame: usize) -> Self {
        let mut recorder = Recorder::new();
        recorder.set_intervals_per_frame(per_frame);
        Self { recorder, call: None, calls: 0 }
    }

    /// Takes the next event.
    pub(crate) fn handle(&mut self, event: Event) {
        self.record(event.clone());
        match event {
            Event::CallOpened { call, .. } => {
                assert!(self.call.is_none(), "a call opens behind the end of the one before");
                self.call = Some((call, Vec::new()));
            }
            Event::LegOpened { call, leg, .. } => {
                let legs = self.legs(call);
                assert_eq!(usize::from(leg.0), legs.len(), "legs are numbered as they open");
                legs.push(Leg::default());
            }
            Event::Interval { call, report } => {
                self.legs(call)[usize::from(report.leg.0)].add(&report);
            }
            Event::LegSummary { call, report } => {
                report.streams.iter().for_each(check_totals);
                let number = usize::from(report.number.0);
                self.legs(call)[number].summary = Some(report);
            }
            Event::CallClosed { call, legs, .. } => {
                assert_eq!(self.legs(call).len(), usize::from(legs));
                let (_, legs) = self.call.take().expect("`legs` found it");
                for leg in legs {
                    let summary = leg.summary.as_ref().expect("each leg is summed up");
                    leg.check(summary);
                }
                self.calls += 1;
            }
            Event::ContextTaken(ContextTaken { call, .. }) => {
                assert_eq!(self.call.as_ref().map(|(open, _)| *open), call);
            }
        }
    }

    /// Asserts that nothing is left open, and tells how many calls there were.
    pub(crate) fn finish(self) -> u32 {
        assert!(self.call.is_none(), "a finished watch has closed its call");
        self.calls
    }

    fn legs(&mut self, call: CallId) -> &mut Vec<Leg> {
        let (open, legs) = self.call.as_mut().expect("a call is open");
        assert_eq!(*open, call);
        legs
    }

    /// Every record fits into a frame and comes out of it as it went in.
    fn record(&mut self, event: Event) {
        let mut records = Vec::new();
        self.recorder.handle(event, WallOffset::NONE, &mut records);
        for record in records {
            let id = RecordId { epoch: Epoch(7), sequence: Sequence(1) };
            let mut buffer = [0; FRAME_BYTES_MAX];
            let length = encode_record(id, record.clone(), &mut buffer).expect("a frame has room");
            let (frame, read) = decode(&buffer[..length]).expect("our own frame decodes");
            assert_eq!((read, frame.header.id), (length, id));
            assert_eq!(frame.message, Some(Message::Record(record)));
        }
    }
}

impl Leg {
    fn add(&mut self, report: &IntervalReport) {
        assert!(report.duration <= INTERVAL || report.index == u16::MAX);
        assert!(self.index.is_none_or(|index| index < report.index), "indexes ascend");
        self.index = Some(report.index);
        for (n, row) in report.streams.iter().enumerate() {
            let key = (row.ssrc, row.direction == Direction::Egress);
            let again = report.streams[..n]
                .iter()
                .any(|r| (r.ssrc, r.direction) == (row.ssrc, row.direction));
            assert!(!again, "a stream has one row");
            let sums = self.streams.entry(key).or_default();
            for (sum, more) in sums.iter_mut().zip(of_span(&row.span)) {
                *sum += more;
            }
        }
        self.round_trips += u64::from(report.rtt.count);
        self.unanswered += u64::from(report.rtt.unanswered);
        self.tap_dropped += report.tap_dropped;
    }

    fn check(&self, summary: &LegReport) {
        let totals: BTreeMap<_, _> = summary
            .streams
            .iter()
            .map(|s| ((s.ssrc, s.direction == Direction::Egress), of_totals(s)))
            .collect();
        assert_eq!(self.streams, totals, "intervals add up to the summary");
        assert_eq!(self.round_trips, u64::from(summary.rtt.count));
        assert_eq!(self.unanswered, u64::from(summary.rtt.unanswered));
        assert_eq!(self.tap_dropped, summary.tap_dropped);
    }
}

/// Received, lost, duplicate, reordered, restarts.
fn of_span(span: &StreamSpan) -> [i64; 5] {
    let StreamSpan { received, lost, duplicate, reordered, restarts, jitter: _, playout } = *span;
    assert!(playout.is_none_or(|heard| heard.concealed_us <= heard.total_us));
    [received as i64, lost, duplicate as i64, reordered as i64, i64::from(restarts)]
}

fn of_totals(totals: &StreamReport) -> [i64; 5] {
    let counts = [totals.received, totals.lost(), totals.duplicate, totals.reordered];
    let [received, lost, duplicate, reordered] = counts.map(|count| count as i64);
    [received, lost, duplicate, reordered, i64::from(totals.restarts)]
}

fn check_totals(totals: &StreamReport) {
    assert!(0 < totals.received && totals.received <= totals.expected);
    assert_eq!(totals.lost(), totals.expected - totals.received);
    assert!(totals.reordered < totals.received);
    assert!(totals.jitter.mean() <= totals.jitter.max());
    assert!(totals.jitter.max().is_none_or(|jitter| jitter < Duration::from_secs(5)));
    if let Some(reported) = &totals.reported {
        assert!(reported.reports >= u32::from(PROVING) && reported.rtt.count <= reported.reports);
    }
    assert!(totals.marking.code_point() < 64);
    let Some(heard) = &totals.heard else { return };
    assert!(heard.total.concealed_us <= heard.total.total_us);
    assert_eq!(heard.total.played, heard.burst.received);
    assert!(heard.total.played + heard.total.discarded <= totals.received);
    let (bursts, gaps) = (heard.burst.bursts, heard.burst.gaps);
    assert_eq!(bursts.frames + gaps.frames, heard.burst.received + heard.burst.missing);
    assert_eq!(bursts.missing + gaps.missing, heard.burst.missing);
}
