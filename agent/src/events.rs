//! Judges the client events of calls: takes what the other parts say, and says one record of a call and one of each
//! leg with media when the call is over.
//!
//! A core: [`Judge::handle_event`], [`Judge::handle_record`] and [`Judge::handle_listened`] feed it. `rules` is the
//! table of what is judged how, `leg` and `call` add up. The record of the call waits for [`SETTLE`], because the
//! device watch tells its totals after the call's end, and the host watch its last interval. Limits: [`LEGS_MAX`] legs
//! of a call, [`CALLS_MAX`] calls that settle; legs beyond have no record, calls beyond are told at once. A call whose
//! agent is killed has no client events, which is not the same as zeros.

pub mod call;
pub mod leg;
pub mod rules;
pub mod share;

use std::collections::BTreeMap;
use std::time::Duration;

use heapless::Vec as Bounded;
use roomtone_protocol::client_event::{ClientEvent, ClientEvents};
use roomtone_protocol::id::{CallId, LegNumber};
use roomtone_protocol::record::Record;

use crate::audio::level::LevelReport;
use crate::clock::Moment;
use crate::media::Event;
use call::CallTally;
use leg::LegTally;
use rules::{CLIPPED_SAMPLES, RULES_VERSION};

/// How long after a call's end the totals of its devices may come; they take milliseconds.
pub const SETTLE: Duration = Duration::from_secs(2);
/// A call's legs: Teams has one to four.
pub const LEGS_MAX: usize = 32;
/// Calls that end within [`SETTLE`], which only a context's word makes possible.
pub const CALLS_MAX: usize = 4;

/// Which parts of the agent are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The device watch.
    pub devices: bool,
    /// The host watch.
    pub host: bool,
}

/// What came of listening along, since the parts were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listened {
    /// Microphones' audio that was measured, in microseconds.
    pub heard_us: u64,
    /// Of it, in stretches that were clipped.
    pub clipped_us: u64,
}

impl Listened {
    /// Adds a stretch of one microphone.
    pub fn add(&mut self, report: &LevelReport) {
        let us = u64::try_from(report.span.as_micros()).unwrap_or(u64::MAX);
        self.heard_us = self.heard_us.saturating_add(us);
        if report.clipped > CLIPPED_SAMPLES {
            self.clipped_us = self.clipped_us.saturating_add(us);
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Judge {
    watched: Watched,
    listened: Option<Listened>,
    open: Option<Open>,
    settling: Vec<(Open, Moment)>,
}

/// A call that is not told yet.
#[derive(Debug)]
struct Open {
    call: CallId,
    tally: CallTally,
    legs: BTreeMap<LegNumber, LegTally>,
    listened_before: Option<Listened>,
}

impl Judge {
    /// Begins without a call.
    #[must_use]
    pub fn new(watched: Watched) -> Self {
        Self { watched, listened: None, open: None, settling: Vec::new() }
    }

    /// Takes what the media watch says; what is to be told at once goes to `out`.
    pub fn handle_event(&mut self, event: &Event, now: Moment, out: &mut Vec<Record>) {
        match event {
            Event::CallOpened { call, at, .. } => {
                self.open = Some(Open {
                    call: *call,
                    tally: CallTally::new(*at),
                    legs: BTreeMap::new(),
                    listened_before: self.listened,
                });
            }
            Event::Interval { call, report } => {
                let open = self.open.as_mut().filter(|open| open.call == *call);
                if let Some(Open { legs, .. }) = open
                    && (legs.len() < LEGS_MAX || legs.contains_key(&report.leg))
                {
                    legs.entry(report.leg).or_default().handle(report);
                }
            }
            Event::CallClosed { call, at, .. } => {
                let Some(mut open) = self.open.take_if(|open| open.call == *call) else { return };
                open.tally.handle_closed(*at);
                for (leg, tally) in std::mem::take(&mut open.legs) {
                    if tally.has_media() {
                        out.push(record(*call, Some(leg), &tally.events()));
                    }
                }
                if self.settling.len() == CALLS_MAX {
                    let (oldest, _) = self.settling.remove(0);
                    self.tell(oldest, out);
                }
                self.settling.push((open, now + SETTLE));
            }
            Event::LegOpened { .. } | Event::LegSummary { .. } | Event::ContextTaken(_) => {}
        }
    }

    /// Takes what the device watch and the host watch say.
    pub fn handle_record(&mut self, record: &Record) {
        let settling = self.settling.iter_mut().map(|(open, _)| open);
        let mut calls = self.open.iter_mut().chain(settling);
        match record {
            Record::DeviceSummary(summary) => {
                if let Some(open) = calls.find(|open| open.call == summary.call) {
                    open.tally.handle_device(summary);
                }
            }
            Record::HostInterval(interval) => {
                calls.for_each(|open| open.tally.handle_host(interval));
            }
            Record::CallOpened(_)
            | Record::CallClosed(_)
            | Record::LegOpened(_)
            | Record::LegIntervals(_)
            | Record::LegSummary(_)
            | Record::DeviceEpisode(_)
            | Record::PathInterval(_)
            | Record::LossReceipt(_)
            | Record::SelfTest(_)
            | Record::NetworkAttachment(_)
            | Record::ClientEvents(_) => {}
        }
    }

    /// Takes what came of listening along so far; never called where nobody listens.
    pub fn handle_listened(&mut self, listened: Listened) {
        self.listened = Some(listened);
    }

    /// When [`Self::handle_timeout`] is due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        self.settling.first().map(|(_, due)| (*due, "client events of a call"))
    }

    /// Tells calls that have settled.
    pub fn handle_timeout(&mut self, now: Moment, out: &mut Vec<Record>) {
        while self.settling.first().is_some_and(|(_, due)| now >= *due) {
            let (open, _) = self.settling.remove(0);
            self.tell(open, out);
        }
    }

    /// Tells all calls that are over: nothing more comes.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        for (open, _) in std::mem::take(&mut self.settling) {
            self.tell(open, out);
        }
    }

    fn tell(&self, open: Open, out: &mut Vec<Record>) {
        let before = open.listened_before.unwrap_or_default();
        let listened = self.listened.map(|it| Listened {
            heard_us: it.heard_us.saturating_sub(before.heard_us),
            clipped_us: it.clipped_us.saturating_sub(before.clipped_us),
        });
        out.push(record(open.call, None, &open.tally.events(self.watched, listened)));
    }
}

fn record(call: CallId, leg: Option<LegNumber>, events: &[ClientEvent]) -> Record {
    // Neither the 4 of a leg nor the 14 of a call are more than the 18 there are.
    let events = Bounded::from_iter(events.iter().copied());
    Record::ClientEvents(ClientEvents { call, leg, rules: RULES_VERSION, events })
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::call::{CallCloseReason, CallPurpose};
    use roomtone_protocol::client_event::{ClientEventKind, ClientEventValue};
    use roomtone_protocol::device::{DeviceSide, DeviceSummary};
    use roomtone_protocol::media::{Direction, Media};
    use roomtone_protocol::ratio::Ratio;

    use super::*;
    use crate::media::jitter::Tally;
    use crate::media::leg::{IntervalReport, StreamIntervalReport};
    use crate::media::rtt::RttTally;
    use crate::media::stream::StreamSpan;

    fn second(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    fn opened(call: u64, at: u64) -> Event {
        Event::CallOpened { call: CallId(call), at: second(at), purpose: CallPurpose::Meeting }
    }

    fn closed(call: u64, at: u64) -> Event {
        let reason = CallCloseReason::Idle;
        Event::CallClosed { call: CallId(call), at: second(at), reason, legs: 1 }
    }

    fn interval(call: u64, leg: u16, received: u64) -> Event {
        let span = StreamSpan {
            received,
            lost: 0,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Tally::default(),
            playout: None,
        };
        let row = StreamIntervalReport {
            ssrc: 1,
            direction: Direction::Ingress,
            media: Media::Audio,
            span,
        };
        let report = IntervalReport {
            leg: LegNumber(leg),
            index: 0,
            started: second(0),
            duration: Duration::from_secs(10),
            rtt: RttTally::default(),
            tap_dropped: 0,
            streams: vec![row],
        };
        Event::Interval { call: CallId(call), report }
    }

    fn device(call: u64) -> Record {
        Record::DeviceSummary(DeviceSummary {
            call: CallId(call),
            device: "Headset".try_into().unwrap(),
            side: DeviceSide::Capture,
            not_functioning: Ratio::new(1, 200).unwrap(),
            muted: Ratio::UNOBSERVED,
            episodes: 1,
            detector: 1,
            zero_volume: None,
            glitches: None,
        })
    }

    fn judge() -> Judge {
        Judge::new(Watched { devices: true, host: true })
    }

    /// Call, leg, and the value of one event, of each record.
    fn told(
        records: &[Record],
        kind: ClientEventKind,
    ) -> Vec<(u64, Option<u16>, Option<ClientEventValue>)> {
        let one = |record: &Record| {
            let Record::ClientEvents(it) = record else { panic!("{record:?}") };
            assert_eq!(it.rules, 1);
            let value = it.events.iter().find(|event| event.kind == kind).map(|event| event.value);
            (it.call.0, it.leg.map(|leg| leg.0), value)
        };
        records.iter().map(one).collect()
    }

    #[test]
    fn call_is_told_once_its_devices_have_said_what_they_did() {
        let (mut judge, mut out) = (judge(), Vec::new());
        judge.handle_event(&opened(7, 0), second(0), &mut out);
        judge.handle_event(&interval(7, 1, 500), second(10), &mut out);
        judge.handle_event(&interval(7, 2, 0), second(10), &mut out);
        judge.handle_event(&closed(7, 10), second(25), &mut out);
        // The leg without media has no record; the call waits.
        let kind = ClientEventKind::DeviceCaptureNotFunctioning;
        assert_eq!(told(&out, kind), [(7, Some(1), None)]);
        assert_eq!(judge.poll_timeout().map(|(at, _)| at), Some(second(27)));
        judge.handle_record(&device(8));
        judge.handle_record(&device(7));
        out.clear();
        judge.handle_timeout(second(27) - Duration::from_nanos(1), &mut out);
        assert_eq!(out, []);
        judge.handle_timeout(second(27), &mut out);
        let ratio = ClientEventValue::Ratio(Ratio::new(1, 200).unwrap());
        assert_eq!(told(&out, kind), [(7, None, Some(ratio))]);
        assert_eq!(judge.poll_timeout(), None);
    }

    #[test]
    fn next_call_neither_waits_for_the_one_before_nor_takes_from_it() {
        let (mut judge, mut out) = (judge(), Vec::new());
        judge.handle_event(&opened(7, 0), second(0), &mut out);
        judge.handle_event(&closed(7, 10), second(10), &mut out);
        judge.handle_event(&opened(8, 10), second(10), &mut out);
        judge.handle_record(&device(7));
        judge.handle_event(&closed(8, 11), second(11), &mut out);
        judge.finish(&mut out);
        let values = told(&out, ClientEventKind::DeviceCaptureNotFunctioning);
        let is_ratio = |it: &(u64, _, Option<ClientEventValue>)| {
            (it.0, matches!(it.2, Some(ClientEventValue::Ratio(_))))
        };
        assert_eq!(values.iter().map(is_ratio).collect::<Vec<_>>(), [(7, true), (8, false)]);
        out.clear();
        judge.finish(&mut out);
        assert_eq!(out, [], "each call is told once");
    }

    /// 11 samples at full scale are a clipped stretch, 10 are not: 240 of 480 ms.
    #[test]
    fn stretch_is_clipped_above_ten_samples() {
        let span = Duration::from_millis(240);
        let of = |clipped| LevelReport { span, clipped, ..LevelReport::default() };
        let mut listened = Listened::default();
        listened.add(&of(CLIPPED_SAMPLES));
        assert_eq!(listened, Listened { heard_us: 240_000, clipped_us: 0 });
        listened.add(&of(CLIPPED_SAMPLES + 1));
        assert_eq!(listened, Listened { heard_us: 480_000, clipped_us: 240_000 });
    }

    #[test]
    fn levels_of_before_a_call_are_none_of_its() {
        let (mut judge, mut out) = (judge(), Vec::new());
        judge.handle_listened(Listened { heard_us: 1_000, clipped_us: 900 });
        judge.handle_event(&opened(7, 0), second(0), &mut out);
        judge.handle_event(&closed(7, 10), second(10), &mut out);
        judge.handle_listened(Listened { heard_us: 3_000, clipped_us: 1_000 });
        judge.finish(&mut out);
        let ratio = ClientEventValue::Ratio(Ratio::new(100, 2_000).unwrap());
        assert_eq!(told(&out, ClientEventKind::DeviceClipping), [(7, None, Some(ratio))]);
    }

    #[test]
    fn floods_of_legs_and_calls_stay_bounded_and_no_call_is_lost() {
        let (mut judge, mut out) = (judge(), Vec::new());
        judge.handle_event(&opened(0, 0), second(0), &mut out);
        for leg in 0..1_000 {
            judge.handle_event(&interval(0, leg, 500), second(1), &mut out);
        }
        judge.handle_event(&closed(0, 1), second(1), &mut out);
        assert_eq!(out.len(), LEGS_MAX);
        out.clear();
        for call in 1..20 {
            judge.handle_event(&opened(call, 1), second(1), &mut out);
            judge.handle_event(&closed(call, 1), second(1), &mut out);
        }
        assert_eq!(judge.settling.len(), CALLS_MAX);
        judge.finish(&mut out);
        assert_eq!(out.len(), 20);
    }
}
