//! The network's events of one leg: ten seconds after ten seconds of what the media watch measured.
//!
//! A core; [`super::rules`] has the thresholds.

use std::time::Duration;

use roomtone_protocol::client_event::{
    ClientEvent, ClientEventKind, ClientEventValue, UnknownBecause,
};
use roomtone_protocol::media::{Direction, Media};

use super::rules::{CONCEALED_PPM, JITTER_US, LOST_PPM, PACKETS_MIN, ROUND_TRIP_US};
use super::share::{Share, Was};
use crate::media::leg::{IntervalReport, StreamIntervalReport};

/// Audio that a listener must have heard of an interval before its concealed share says something.
const HEARD_MIN_US: u64 = 1_000_000;
/// One in millionths.
const MILLION: u64 = 1_000_000;

/// What adds up over a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegTally {
    receive: Share,
    delay: Share,
    has_media: bool,
}

impl LegTally {
    /// Takes an interval of the leg.
    pub fn handle(&mut self, report: &IntervalReport) {
        self.has_media |= report.streams.iter().any(|row| row.span.received > 0);
        let us = micros(report.duration);
        if let Some(was) = receive(report) {
            self.receive.add(was, us);
        }
        if let Some(mean) = report.rtt.mean() {
            let is_bad = micros(mean) > ROUND_TRIP_US;
            self.delay.add(if is_bad { Was::Bad } else { Was::Good }, us);
        }
    }

    /// Whether there is anything to tell of: a leg of checks alone has no quality.
    #[must_use]
    pub fn has_media(&self) -> bool {
        self.has_media
    }

    /// The events, in the order of the wire.
    #[must_use]
    pub fn events(&self) -> [ClientEvent; 4] {
        use ClientEventKind as Kind;
        let unknown = ClientEventValue::Unknown;
        [
            (Kind::NetworkSendQuality, unknown(UnknownBecause::NoReports)),
            (Kind::NetworkReceiveQuality, self.receive.value()),
            (Kind::NetworkDelay, self.delay.value()),
            (Kind::NetworkBandwidthLow, unknown(UnknownBecause::InsideProgram)),
        ]
        .map(|(kind, value)| ClientEvent { kind, value })
    }
}

/// How the received audio was: bad where that of any stream was; `None` where no stream says anything.
fn receive(report: &IntervalReport) -> Option<Was> {
    let is_audio = |row: &&StreamIntervalReport| {
        row.direction == Direction::Ingress && row.media == Media::Audio
    };
    let streams = report.streams.iter().filter(is_audio);
    let judged = streams.filter_map(|row| stream(row, report.tap_dropped > 0));
    judged.reduce(|one, other| if one == Was::Bad { one } else { other })
}

/// One stream. What is missing may be the tap's own loss where it had any; jitter of what came is not.
fn stream(row: &StreamIntervalReport, has_tap_loss: bool) -> Option<Was> {
    let span = &row.span;
    let lost = u64::try_from(span.lost).unwrap_or(0);
    let expected = span.received.saturating_add(lost);
    if expected < PACKETS_MIN {
        return None;
    }
    let exceeds = |part: u64, whole: u64, ppm: u64| {
        u128::from(part) * u128::from(MILLION) > u128::from(whole) * u128::from(ppm)
    };
    let is_jittery = span.jitter.mean().is_some_and(|mean| micros(mean) > JITTER_US);
    let is_lossy = exceeds(lost, expected, LOST_PPM);
    let is_concealed = span.playout.is_some_and(|heard| {
        let is_enough = heard.total_us >= HEARD_MIN_US;
        is_enough && exceeds(heard.concealed_us, heard.total_us, CONCEALED_PPM)
    });
    match (is_jittery, has_tap_loss) {
        (true, _) => Some(Was::Bad),
        (false, true) => None,
        (false, false) => Some(if is_lossy || is_concealed { Was::Bad } else { Was::Good }),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::LegNumber;

    use super::*;
    use crate::clock::Moment;
    use crate::media::jitter::Jitter;
    use crate::media::playout::tally::PlayoutTally;
    use crate::media::rtt::RttTally;
    use crate::media::stream::StreamSpan;

    fn interval(streams: Vec<StreamIntervalReport>) -> IntervalReport {
        IntervalReport {
            leg: LegNumber(0),
            index: 0,
            started: Moment::ORIGIN,
            duration: Duration::from_secs(10),
            rtt: RttTally::default(),
            tap_dropped: 0,
            streams,
        }
    }

    fn row(received: u64, lost: i64) -> StreamIntervalReport {
        let span = StreamSpan {
            received,
            lost,
            duplicate: 0,
            reordered: 0,
            restarts: 0,
            jitter: Jitter::new(48_000).total(),
            playout: None,
        };
        StreamIntervalReport { ssrc: 1, direction: Direction::Ingress, media: Media::Audio, span }
    }

    fn heard(concealed_us: u64, total_us: u64) -> StreamIntervalReport {
        let mut row = row(500, 0);
        row.span.playout = Some(PlayoutTally { concealed_us, total_us, ..PlayoutTally::default() });
        row
    }

    /// A stream whose packets of 20 ms come with so much jitter: two packets, of which the second one is late by 16
    /// times as much, since an estimate takes in a sixteenth of a difference (RFC 3550 A.8), and the mean over the two
    /// samples of the estimate is that of the second where only one difference exists.
    fn jittery(us: u64) -> StreamIntervalReport {
        let mut jitter = Jitter::new(48_000);
        jitter.handle(0, Moment::ORIGIN);
        jitter.handle(960, Moment::from_nanos((20_000 + us * 16) * 1_000));
        let mut row = row(500, 0);
        row.span.jitter = jitter.total();
        row
    }

    #[test]
    fn only_what_exceeds_a_threshold_is_bad() {
        let table = [
            ("lost 10 % exactly", row(900, 100), Some(Was::Good)),
            ("lost 9.9 %", row(901, 99), Some(Was::Good)),
            ("lost 10.1 %", row(899, 101), Some(Was::Bad)),
            ("all lost", row(0, 500), Some(Was::Bad)),
            ("a late packet of the interval before", row(500, -3), Some(Was::Good)),
            ("concealed 7 % exactly", heard(70_000, 1_000_000), Some(Was::Good)),
            ("concealed less", heard(69_999, 1_000_000), Some(Was::Good)),
            ("concealed more", heard(70_001, 1_000_000), Some(Was::Bad)),
            ("less than a second heard", heard(999_999, 999_999), Some(Was::Good)),
            ("49 packets", row(10, 39), None),
            ("50 packets", row(10, 40), Some(Was::Bad)),
        ];
        for (name, row, expected) in table {
            assert_eq!(receive(&interval(vec![row])), expected, "{name}");
        }
    }

    #[test]
    fn jitter_above_thirty_milliseconds_is_bad() {
        for (us, expected) in [(29_000, Was::Good), (30_000, Was::Good), (31_000, Was::Bad)] {
            let row = jittery(us);
            assert_eq!(row.span.jitter.mean().map(micros), Some(us));
            assert_eq!(receive(&interval(vec![row])), Some(expected), "{us}");
        }
    }

    #[test]
    fn loss_of_the_tap_is_no_loss_of_the_network_and_jitter_is_jitter() {
        let dropped = |row| IntervalReport { tap_dropped: 1, ..interval(vec![row]) };
        assert_eq!(receive(&dropped(row(400, 100))), None);
        assert_eq!(receive(&dropped(heard(500_000, 1_000_000))), None);
        assert_eq!(receive(&dropped(jittery(31_000))), Some(Was::Bad));
    }

    #[test]
    fn sent_and_seen_streams_say_nothing_of_received_audio() {
        let sent = StreamIntervalReport { direction: Direction::Egress, ..row(100, 400) };
        let seen = StreamIntervalReport { media: Media::Video, ..row(100, 400) };
        assert_eq!(receive(&interval(vec![sent, seen])), None);
        assert_eq!(receive(&interval(vec![sent, row(500, 0)])), Some(Was::Good));
        assert_eq!(receive(&interval(vec![row(500, 0), row(400, 100)])), Some(Was::Bad));
    }

    /// One of three intervals of 10 s with audio is bad: 10 of 30; the one without says nothing.
    #[test]
    fn ratio_is_bad_time_over_judged_time() {
        let mut leg = LegTally::default();
        assert!(!leg.has_media());
        for streams in [vec![row(500, 0)], vec![row(400, 100)], vec![], vec![row(500, 0)]] {
            leg.handle(&interval(streams));
        }
        assert!(leg.has_media());
        let [send, receive, delay, bandwidth] = leg.events();
        assert_eq!(send.value, ClientEventValue::Unknown(UnknownBecause::NoReports));
        assert_eq!(receive.value, Share::new(10_000_000, 30_000_000).value());
        assert_eq!(delay.value, ClientEventValue::Unknown(UnknownBecause::NothingObserved));
        assert_eq!(bandwidth.value, ClientEventValue::Unknown(UnknownBecause::InsideProgram));
    }

    #[test]
    fn delay_is_bad_above_five_hundred_milliseconds() {
        for (us, bad) in [(499_999, 0), (500_000, 0), (500_001, 10_000_000)] {
            let (mut leg, mut report) = (LegTally::default(), interval(vec![]));
            report.rtt.add(Duration::from_micros(us));
            leg.handle(&report);
            // Unanswered checks alone tell no round trip.
            leg.handle(&IntervalReport {
                rtt: RttTally { unanswered: 3, ..RttTally::default() },
                ..interval(vec![])
            });
            assert_eq!(leg.events()[2].value, Share::new(bad, 10_000_000).value(), "{us}");
        }
    }
}
