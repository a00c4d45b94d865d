//! Probes one target: joins schedule and session, and makes records of what they tell.
//!
//! Between [`handle_line`](Prober::handle_line) and [`handle_line_end`](Prober::handle_line_end) there is something to
//! send on. In a call an interval lasts 10 s, as those of its legs do, out of it 60 s, which is two bursts; it ends
//! early where a call begins or ends. An interval in which no probe left is not told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use roomtone_protocol::id::CallId;
use roomtone_protocol::path::{PathConnection, PathDetail, PathInterval, PathTarget};
use roomtone_protocol::probe::{
    Datagram, ECHO_BYTES, Echo, PROBE_BYTES, Probe, Receipt, WINDOW_PROBES,
};
use roomtone_protocol::stamp::{PACKET_BYTES, Reply};

use super::schedule::{Mode, Schedule, spacing};
use super::session::{Answer, Report, Session};
use crate::clock::{Moment, WallOffset};

/// The length of an interval in a call (design section 2).
pub const INTERVAL_IN_CALL: Duration = Duration::from_secs(10);
/// The length of an interval out of calls: two bursts, 1,440 records a day.
pub const INTERVAL_IDLE: Duration = Duration::from_secs(60);

/// What a QUIC packet with one short datagram adds to it: first byte 1, connection id 8, packet number 1, the frame's
/// type and length 2 (RFC 9000 section 17.3.1, RFC 9221 section 4), authentication tag 16 (RFC 9001 section 5.3).
const QUIC_BYTES: u64 = 1 + 8 + 1 + 2 + 16;
/// An ACK frame with ECN counts (RFC 9000 section 19.3): quinn puts one into each packet, of 7 to 9 bytes.
const ACK_BYTES: u64 = 8;
/// The packet with nothing but an ACK that the agent owes for an Echo, 25 ms or a round trip after it: its next probe
/// comes too late to be the first to carry it, and quinn knows no longer delay.
const ACK_PACKET_BYTES: u64 = QUIC_BYTES - 2 + ACK_BYTES;

/// What is going on at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// The call that is on.
    pub call: Option<CallId>,
    /// The agent is to do less: no probe leaves.
    pub is_sparing: bool,
}

/// What carries the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Who answers.
    pub target: Target,
    /// The heads of UDP and IP of one packet, in bytes: 28 or 48.
    pub head_bytes: u16,
    /// What a round to the other target takes of the same budget, in bytes; 0 where there is none.
    pub beside_bytes: u64,
    /// What it knows by itself; of a connection only.
    pub figures: Figures,
}

/// What a round to the collector takes at most, and one to a reflector, in bytes: over IPv6.
pub const ROUNDS_BYTES_MAX: [u64; 2] = [290, 184];

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The collector, with datagrams.
    Collector,
    /// A reflector of RFC 8762.
    Reflector(SocketAddr),
}

/// What a QUIC connection knows of its path; counts since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Smoothed round trip, in microseconds.
    pub rtt_us: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Congestion events.
    pub congestion_events: u64,
    /// Largest UDP payload that passes, in bytes.
    pub mtu: u16,
}

/// What came that was of no use; counted and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams that are no answer: of a later version, or garbage.
    pub strange: u64,
    /// Probes that were due and could not be sent, for a want of our own.
    pub unsent: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Prober {
    circumstances: Circumstances,
    schedule: Schedule,
    live: Option<Live>,
    /// What was told but not polled; filled by one call at a time.
    records: VecDeque<(Report, Line)>,
    counters: Counters,
}

/// A line and its session.
#[derive(Debug)]
struct Live {
    line: Line,
    session: Session,
    /// The line's figures when the open interval began.
    before: Figures,
    count: Count,
}

/// What a reflector's own numbers tell of the directions of losses.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// The request and the reply that are furthest; of none, those before the first.
    newest: [u32; 2],
    /// It has shown that it counts by itself: a stateless reflector copies the number of the request.
    is_stateful: bool,
    /// Later requests with earlier numbers, in a row.
    backwards: u32,
}

impl Prober {
    /// There is no line yet.
    #[must_use]
    pub fn new(circumstances: Circumstances) -> Self {
        Self {
            circumstances,
            schedule: Schedule::new(Duration::ZERO),
            live: None,
            records: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// There is a line; `random` is uniform over all of `u64`, as in the other methods.
    pub fn handle_line(&mut self, line: Line, random: u64, now: Moment) {
        self.handle_line_end(now);
        self.schedule = Schedule::new(spacing(line.round_bytes() + line.beside_bytes));
        let session = Session::new(self.circumstances.call, now);
        self.live = Some(Live { line, session, before: line.figures, count: Count::default() });
        self.schedule.set(self.mode(), random, now);
    }

    /// The line is gone.
    pub fn handle_line_end(&mut self, now: Moment) {
        if let Some(live) = &mut self.live {
            let connection = live.take_connection();
            live.session.end(connection, now);
            live.tell(&mut self.records);
            self.counters.strange += live.session.strange();
        }
        self.live = None;
        self.schedule.set(Mode::Off, 0, now);
    }

    /// A call began or ended, or the agent is to do less or more.
    pub fn handle_circumstances(&mut self, it: Circumstances, random: u64, now: Moment) {
        if it == self.circumstances {
            return;
        }
        self.circumstances = it;
        let mode = self.mode();
        if let Some(live) = &mut self.live {
            live.close(it.call, now);
            self.schedule.set(mode, random, now);
        }
    }

    /// What the line knows by itself now.
    pub fn handle_figures(&mut self, figures: Figures) {
        if let Some(live) = &mut self.live {
            live.line.figures = figures;
        }
    }

    /// A datagram arrived at `now`.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Moment) {
        let Some(live) = &mut self.live else { return };
        match Datagram::decode(bytes) {
            Ok(Datagram::Echo(echo)) => {
                let Echo { probe, echo, received_us, held_us, latest, window } = echo;
                let is_behind = latest.wrapping_sub(probe).cast_signed() > 0;
                let answer =
                    Answer { sequence: probe, number: echo, received_us, held_us, is_behind };
                live.session.handle_answer(answer, now);
                live.session.handle_account(latest, &[window]);
            }
            Ok(Datagram::Receipt(Receipt { latest, bitmap })) => {
                live.session.handle_account(latest, &bitmap);
            }
            Ok(Datagram::Probe(_)) | Err(_) => self.counters.strange += 1,
        }
        live.session.handle_timeout(now);
        live.tell(&mut self.records);
    }

    /// A packet of a reflector arrived at `now`.
    pub fn handle_reply(&mut self, bytes: &[u8], now: Moment) {
        let Some(live) = &mut self.live else { return };
        match Reply::decode(bytes) {
            Some(reply) => {
                let (received_us, held_us) = reply.received_and_held_us();
                let [sequence, number] = [reply.request.sequence, reply.sequence];
                if sequence.wrapping_sub(live.session.next()).cast_signed() >= 0 {
                    // No request of ours left with it: nothing of it counts.
                    self.counters.strange += 1;
                    return;
                }
                if live.count.began_anew(sequence, number) {
                    live.session.forget_answers();
                }
                let is_behind = live.count.is_behind(sequence, number);
                let gap = live.count.take(sequence, number);
                let answer = Answer { sequence, number, received_us, held_us, is_behind };
                live.session.handle_answer(answer, now);
                if let Some(Gap { first, count, arrived }) = gap {
                    live.session.handle_gap(first, count, arrived);
                }
            }
            None => self.counters.strange += 1,
        }
        live.session.handle_timeout(now);
        live.tell(&mut self.records);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        let length = self.interval();
        if let Some(live) = &mut self.live {
            if live.session.started() + length <= now {
                live.close(self.circumstances.call, now);
            }
            live.session.handle_timeout(now);
            live.tell(&mut self.records);
        }
    }

    /// The probe that is due, if one is: send it, then say so by [`handle_sent`](Self::handle_sent) or
    /// [`handle_unsent`](Self::handle_unsent).
    pub fn poll_transmit(&mut self, random: u64, now: Moment) -> Option<Probe> {
        let live = self.live.as_ref()?;
        if !self.schedule.take(random, now) {
            return None;
        }
        // An echo tells of the latest 64: what is unknown further back only a receipt tells.
        let wants_receipt =
            live.line.target == Target::Collector && live.session.unknown_behind() >= WINDOW_PROBES;
        Some(Probe { sequence: live.session.next(), wants_receipt })
    }

    /// The probe left at `now`.
    pub fn handle_sent(&mut self, now: Moment) {
        if let Some(live) = &mut self.live {
            live.session.handle_sent(now);
        }
    }

    /// The probe could not be sent, for a want of our own: it is no loss, and its number goes to the next one.
    pub fn handle_unsent(&mut self) {
        self.counters.unsent += 1;
    }

    /// When it wants to be asked again, and why.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<(Moment, &'static str)> {
        let live = self.live.as_ref()?;
        let dues = [
            self.schedule.poll_timeout().map(|at| (at, "probe")),
            // Where nothing leaves there is no interval to end.
            self.schedule.poll_timeout().map(|_| (live.session.started() + self.interval(), "end")),
            live.session.poll_timeout(now).map(|at| (at, "report")),
        ];
        dues.into_iter().flatten().min()
    }

    /// The next record.
    pub fn poll_record(&mut self, wall: WallOffset) -> Option<PathInterval> {
        let (report, line) = self.records.pop_front()?;
        Some(record(&report, &line, wall))
    }

    /// What came that was of no use.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let live = self.live.as_ref().map_or(0, |live| live.session.strange());
        Counters { strange: self.counters.strange + live, ..self.counters }
    }

    fn mode(&self) -> Mode {
        match self.circumstances {
            Circumstances { is_sparing: true, .. } => Mode::Off,
            Circumstances { call: Some(_), .. } => Mode::Continuous,
            Circumstances { call: None, .. } => Mode::Bursts,
        }
    }

    fn interval(&self) -> Duration {
        if self.circumstances.call.is_some() { INTERVAL_IN_CALL } else { INTERVAL_IDLE }
    }
}

impl Live {
    fn close(&mut self, call: Option<CallId>, now: Moment) {
        let connection = self.take_connection();
        self.session.close(connection, call, now);
    }

    /// What the line says of the open interval.
    fn take_connection(&mut self) -> Option<PathConnection> {
        let after = self.line.figures;
        let before = std::mem::replace(&mut self.before, after);
        let since = |of: fn(&Figures) -> u64| clamp(of(&after).saturating_sub(of(&before)));
        let connection = PathConnection {
            rtt_dms: clamp((after.rtt_us + 50) / 100),
            sent_packets: since(|it| it.sent_packets),
            lost_packets: since(|it| it.lost_packets),
            congestion_events: since(|it| it.congestion_events),
            mtu: after.mtu,
        };
        (self.line.target == Target::Collector).then_some(connection)
    }

    fn tell(&mut self, records: &mut VecDeque<(Report, Line)>) {
        let line = self.line;
        let reports = std::iter::from_fn(|| self.session.poll_report());
        records.extend(reports.map(|report| (report, line)));
    }
}

/// Some requests that no reply came to, between two that did.
struct Gap {
    first: u32,
    count: u32,
    /// How many of them reached the reflector.
    arrived: u32,
}

impl Default for Count {
    fn default() -> Self {
        Self { newest: [u32::MAX; 2], is_stateful: false, backwards: 0 }
    }
}

impl Count {
    /// Whether the reflector counts anew, as after a restart, or counted wrongly before; then this does too.
    ///
    /// A later request with an earlier number takes two packets that overtook each other both ways; two of them in a
    /// row are no chance.
    fn began_anew(&mut self, sequence: u32, number: u32) -> bool {
        let is_later = sequence.wrapping_sub(self.newest[0]).cast_signed() > 0;
        let is_backwards = is_later && number.wrapping_sub(self.newest[1]).cast_signed() <= 0;
        self.backwards = if is_backwards { self.backwards + 1 } else { 0 };
        if self.backwards < 2 {
            return false;
        }
        // So that no gap is told before this one.
        self.newest = [sequence.wrapping_sub(1), number.wrapping_sub(1)];
        self.backwards = 0;
        true
    }

    /// Whether the reflector got a request behind a later one.
    fn is_behind(&self, sequence: u32, number: u32) -> bool {
        let [newest_sequence, newest_number] = self.newest;
        sequence.wrapping_sub(newest_sequence).cast_signed() < 0
            && number.wrapping_sub(newest_number).cast_signed() > 0
    }

    /// Takes a reply's request and own number; the gap before it, where it is further than all before and its
    /// reflector counts.
    fn take(&mut self, sequence: u32, number: u32) -> Option<Gap> {
        let [sequences, numbers] =
            [sequence.wrapping_sub(self.newest[0]), number.wrapping_sub(self.newest[1])];
        if sequences.cast_signed() <= 0 || numbers.cast_signed() <= 0 {
            return None;
        }
        let first = self.newest[0].wrapping_add(1);
        self.newest = [sequence, number];
        self.is_stateful |= sequence != number;
        let (count, arrived) = (sequences - 1, numbers - 1);
        // More arrived than were sent: others share the count, or the network doubled some.
        let is_told = self.is_stateful && arrived <= count;
        Some(Gap { first, count: if is_told { count } else { 0 }, arrived })
    }
}

impl Line {
    fn head(&self) -> u64 {
        u64::from(self.head_bytes)
    }

    /// What one probe and its answer are from IP on, in bytes.
    fn packets_bytes(&self) -> [u64; 2] {
        let packet = self.head() + QUIC_BYTES;
        match self.target {
            Target::Collector => [packet + PROBE_BYTES as u64, packet + ECHO_BYTES as u64],
            Target::Reflector(_) => [self.head() + PACKET_BYTES as u64; 2],
        }
    }

    /// What one probe costs with all that follows from it, in both directions.
    #[must_use]
    pub fn round_bytes(&self) -> u64 {
        let packets: u64 = self.packets_bytes().iter().sum();
        match self.target {
            Target::Collector => packets + 2 * ACK_BYTES + self.head() + ACK_PACKET_BYTES,
            Target::Reflector(_) => packets,
        }
    }
}

fn record(report: &Report, line: &Line, wall: WallOffset) -> PathInterval {
    let [probe_bytes, answer_bytes] = line.packets_bytes();
    let answers = u64::from(report.returned) + u64::from(report.duplicate);
    let (target, reflector) = match line.target {
        Target::Collector => (PathTarget::Collector, None),
        Target::Reflector(address) => (PathTarget::Stamp, Some(address)),
    };
    let dms = |us: u32| clamp((u64::from(us) + 50) / 100);
    let [rtt_min_dms, rtt_mean_dms, rtt_max_dms] = report.rtt_us.map(dms);
    PathInterval {
        started: wall.stamp(report.started),
        duration_ms: u32::try_from(report.ended.since(report.started).as_millis())
            .unwrap_or(u32::MAX),
        target,
        sent: report.sent,
        lost_up: report.lost_up,
        lost_down: report.lost_down,
        rtt_min_dms,
        rtt_mean_dms,
        rtt_max_dms,
        jitter_up_dms: dms(report.jitter_up_us),
        jitter_down_dms: dms(report.jitter_down_us),
        detail: Some(PathDetail {
            call: report.call,
            returned: report.returned,
            unplaced: report.unplaced,
            reordered_up: report.reordered_up,
            reordered_down: report.reordered_down,
            duplicate: report.duplicate,
            wire_bytes: clamp(u64::from(report.sent) * probe_bytes + answers * answer_bytes),
        }),
        reflector,
        connection: report.connection,
    }
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Circumstances = Circumstances { call: Some(CallId(9)), is_sparing: false };
    const HALF: u64 = 1 << 63;

    fn line() -> Line {
        let figures =
            Figures { rtt_us: 30_000, sent_packets: 100, mtu: 1_452, ..Figures::default() };
        Line { target: Target::Collector, head_bytes: 28, beside_bytes: 0, figures }
    }

    fn echo(probe: u32, now: Moment) -> Vec<u8> {
        let received_us = now.as_micros();
        let (latest, window) = (probe, u64::MAX);
        let echo = Echo { probe, echo: probe, received_us, held_us: 100, latest, window };
        let mut buffer = vec![0; ECHO_BYTES];
        Datagram::Echo(echo).encode(&mut buffer).unwrap();
        buffer
    }

    /// Lives `span` with a path that returns each probe after 30 ms, and returns the records and how many probes left.
    fn live(prober: &mut Prober, now: &mut Moment, span: Duration) -> (Vec<PathInterval>, u32) {
        let (until, mut records, mut left) = (*now + span, Vec::new(), 0);
        while let Some((due, _)) = prober.poll_timeout(*now).filter(|(due, _)| *due < until) {
            *now = due.max(*now);
            if let Some(probe) = prober.poll_transmit(HALF, *now) {
                prober.handle_sent(*now);
                left += 1;
                *now = *now + Duration::from_micros(30_100);
                prober.handle_datagram(&echo(probe.sequence, *now), *now);
            }
            prober.handle_timeout(*now);
            records.extend(std::iter::from_fn(|| prober.poll_record(WallOffset::NONE)));
        }
        *now = (*now).max(until);
        (records, left)
    }

    #[test]
    fn round_over_ipv4_lets_3_6_probes_a_second_leave() {
        // Probe 28 + 28 + 6 + 8, echo 28 + 28 + 34 + 8, the agent's own ack 28 + 26 + 8.
        let bytes = |head_bytes| Line { head_bytes, ..line() }.round_bytes();
        assert_eq!((bytes(28), bytes(48)), (70 + 98 + 62, 230 + 3 * 20));
        assert_eq!(spacing(bytes(28)), Duration::from_millis(276));
        assert_eq!(spacing(bytes(48)), Duration::from_millis(348));
    }

    #[test]
    fn call_is_told_in_intervals_of_10_seconds_with_what_the_connection_knows() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        prober.handle_line(line(), HALF, now);
        let figures =
            Figures { rtt_us: 31_040, sent_packets: 190, lost_packets: 3, ..line().figures };
        prober.handle_figures(figures);
        let (records, left) = live(&mut prober, &mut now, Duration::from_secs(35));
        assert_eq!(records.len(), 3);
        let first = records[0];
        assert_eq!((first.started.uptime_us, first.duration_ms), (1_000_000, 10_000));
        // A probe every 276 ms from the first moment on.
        assert_eq!((first.sent, first.lost_up, first.lost_down), (37, 0, 0));
        assert_eq!([first.rtt_min_dms, first.rtt_mean_dms, first.rtt_max_dms], [300; 3]);
        let detail = first.detail.unwrap();
        assert_eq!((detail.call, detail.returned, detail.unplaced), (CALL.call, 37, 0));
        // 37 probes of 28 + 28 + 6 bytes, as many answers of 28 + 28 + 34.
        assert_eq!(detail.wire_bytes, 37 * 62 + 37 * 90);
        let connection = first.connection.unwrap();
        assert_eq!(
            (connection.rtt_dms, connection.sent_packets, connection.lost_packets),
            (310, 90, 3)
        );
        assert_eq!(records[1].connection.unwrap().sent_packets, 0, "nothing since");
        assert!((125..=128).contains(&left), "{left}");
    }

    #[test]
    fn without_a_call_two_bursts_are_one_record() {
        let mut now = Moment::from_nanos(1_000_000_000);
        let mut prober = Prober::new(Circumstances::default());
        prober.handle_line(line(), HALF, now);
        let (records, left) = live(&mut prober, &mut now, Duration::from_secs(130));
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|it| it.sent == 20 && it.duration_ms == 60_000), "{records:?}");
        assert!(left <= 50, "{left}");
    }

    #[test]
    fn call_that_begins_ends_the_interval_before_it() {
        let mut now = Moment::from_nanos(1_000_000_000);
        let mut prober = Prober::new(Circumstances::default());
        prober.handle_line(line(), 0, now);
        live(&mut prober, &mut now, Duration::from_secs(20));
        prober.handle_circumstances(CALL, HALF, now);
        let (records, _) = live(&mut prober, &mut now, Duration::from_secs(15));
        let told: Vec<_> =
            records.iter().map(|it| (it.detail.unwrap().call, it.duration_ms)).collect();
        assert_eq!(told, [(None, 20_000), (CALL.call, 10_000)]);
    }

    #[test]
    fn agent_that_is_to_do_less_sends_nothing() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        prober.handle_line(line(), HALF, now);
        live(&mut prober, &mut now, Duration::from_secs(5));
        prober.handle_circumstances(Circumstances { is_sparing: true, ..CALL }, HALF, now);
        let (records, left) = live(&mut prober, &mut now, Duration::from_secs(60));
        assert_eq!((records.len(), left), (1, 0));
        assert_eq!(prober.poll_timeout(now), None);
    }

    #[test]
    fn probe_that_could_not_be_sent_is_no_loss() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        prober.handle_line(line(), HALF, now);
        for _ in 0..10 {
            now = prober.poll_timeout(now).unwrap().0;
            assert_eq!(prober.poll_transmit(HALF, now).unwrap().sequence, 0);
            prober.handle_unsent();
        }
        let (records, _) = live(&mut prober, &mut now, Duration::from_secs(20));
        let detail = records[0].detail.unwrap();
        assert_eq!((detail.returned, detail.unplaced), (records[0].sent, 0));
        assert_eq!(prober.counters().unsent, 10);
    }

    #[test]
    fn receipt_is_asked_for_where_no_window_reaches() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        prober.handle_line(line(), HALF, now);
        let mut asked = Vec::new();
        while asked.len() < 70 {
            now = now + Duration::from_millis(300);
            let probe = prober.poll_transmit(HALF, now).unwrap();
            asked.push(probe.wants_receipt);
            prober.handle_sent(now);
        }
        // Nothing came back: from the 65th on, the first is out of reach of the next echo.
        assert!(asked.iter().enumerate().all(|(n, asked)| *asked == (n >= 64)), "{asked:?}");
        let bitmap = [!0; 16];
        let mut receipt = [0; roomtone_protocol::probe::RECEIPT_BYTES];
        Datagram::Receipt(Receipt { latest: 69, bitmap }).encode(&mut receipt).unwrap();
        prober.handle_datagram(&receipt, now);
        now = now + Duration::from_millis(300);
        assert!(!prober.poll_transmit(HALF, now).unwrap().wants_receipt);
    }

    #[test]
    fn line_that_ends_is_told_and_the_next_begins_anew() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        prober.handle_line(line(), HALF, now);
        prober.handle_datagram(b"\x7f of a later version", now);
        live(&mut prober, &mut now, Duration::from_secs(7));
        prober.handle_line_end(now);
        assert_eq!(prober.poll_timeout(now), None);
        let record = prober.poll_record(WallOffset::NONE).unwrap();
        assert_eq!((record.duration_ms, record.detail.unwrap().unplaced), (7_000, 0));
        assert_eq!(prober.poll_record(WallOffset::NONE), None);
        prober.handle_line(line(), HALF, now);
        assert_eq!(prober.poll_transmit(HALF, now).unwrap().sequence, 0);
        assert_eq!(prober.counters().strange, 1);
    }

    const REFLECTOR: &str = "192.0.2.9:862";

    fn reply(sequence: u32, number: u32, now: Moment) -> [u8; PACKET_BYTES] {
        use roomtone_protocol::stamp::{Request, Timestamp};
        let sent = Timestamp::of_unix_us(now.as_micros() + 150);
        let received_bits = Timestamp::of_unix_us(now.as_micros()).bits;
        let request = Request { sequence, sent, ssid: 0 };
        let mut bytes = [0; PACKET_BYTES];
        Reply { sequence: number, sent, received_bits, request, ttl: 60 }
            .encode(&mut bytes)
            .unwrap();
        bytes
    }

    /// Sends 20 requests, of which `answer` tells the reflector's number, and returns the record.
    fn reflected(answer: impl Fn(u32) -> Option<u32>) -> PathInterval {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        let target = Target::Reflector(REFLECTOR.parse().unwrap());
        prober.handle_line(Line { target, beside_bytes: 290, ..line() }, HALF, now);
        for n in 0..20 {
            now = prober.poll_timeout(now).unwrap().0;
            assert_eq!(prober.poll_transmit(HALF, now).unwrap().sequence, n);
            prober.handle_sent(now);
            if let Some(number) = answer(n) {
                let there = now + Duration::from_millis(10);
                prober
                    .handle_reply(&reply(n, number, there), there + Duration::from_micros(10_150));
            }
        }
        prober.handle_line_end(now + Duration::from_secs(10));
        prober.poll_record(WallOffset::NONE).unwrap()
    }

    #[test]
    fn reflector_that_counts_tells_the_direction_of_a_loss() {
        // Request 4 does not arrive, the replies to 9 and 10 do not come back; from 5 on it is one behind.
        let record = reflected(|n| match n {
            4 | 9 | 10 => None,
            _ => Some(n - u32::from(n > 4)),
        });
        assert_eq!((record.target, record.reflector), (PathTarget::Stamp, REFLECTOR.parse().ok()));
        assert_eq!((record.sent, record.lost_up, record.lost_down), (20, 1, 2));
        // 10 ms there and back; the 0.15 ms at the reflector are not the path's.
        assert_eq!((record.rtt_min_dms, record.rtt_max_dms), (200, 200));
        assert_eq!(record.connection, None);
        // 20 requests and 17 replies of 28 + 44 bytes.
        assert_eq!(record.detail.unwrap().wire_bytes, 37 * 72);
    }

    #[test]
    fn reflector_that_restarts_is_counted_anew_and_its_losses_have_a_direction_again() {
        // It counts from 0 again at request 10. Two replies show it; then the reply to 14 does not come back, and
        // request 16 does not arrive.
        let record = reflected(|n| match n {
            0..10 => Some(n + 1),
            14 | 16 => None,
            _ => Some(n - 10 - u32::from(n > 16)),
        });
        assert_eq!((record.lost_up, record.lost_down), (1, 1));
        assert_eq!(record.detail.unwrap().reordered_down, 1, "the first reply of the new count");
    }

    #[test]
    fn forged_reply_does_not_move_the_count() {
        let (mut prober, mut now) = (Prober::new(CALL), Moment::from_nanos(1_000_000_000));
        let target = Target::Reflector(REFLECTOR.parse().unwrap());
        prober.handle_line(Line { target, beside_bytes: 290, ..line() }, HALF, now);
        // A request that never left, far ahead.
        prober.handle_reply(&reply(1 << 30, 1 << 30, now), now);
        assert_eq!(prober.counters().strange, 1);
        for n in 0..10 {
            now = prober.poll_timeout(now).unwrap().0;
            prober.poll_transmit(HALF, now).unwrap();
            prober.handle_sent(now);
            // Request 4 does not arrive; the reflector began at 7.
            if n != 4 {
                prober.handle_reply(&reply(n, 7 + n - u32::from(n > 4), now), now);
            }
        }
        prober.handle_line_end(now + Duration::from_secs(10));
        let record = prober.poll_record(WallOffset::NONE).unwrap();
        assert_eq!((record.lost_up, record.lost_down), (1, 0));
    }

    #[test]
    fn reflector_that_copies_numbers_tells_no_direction() {
        let record = reflected(|n| (n != 4 && n != 9).then_some(n));
        assert_eq!((record.lost_up, record.lost_down), (0, 0));
        assert_eq!(record.detail.unwrap().unplaced, 2);
    }

    #[test]
    fn both_targets_share_one_budget() {
        let reflector = Line { target: Target::Reflector(REFLECTOR.parse().unwrap()), ..line() };
        assert_eq!(reflector.round_bytes(), 144);
        let most = [line(), reflector].map(|it| Line { head_bytes: 48, ..it }.round_bytes());
        assert_eq!(most, ROUNDS_BYTES_MAX);
        assert_eq!(
            spacing(reflector.round_bytes() + line().round_bytes()),
            Duration::from_micros(448_800)
        );
    }

    #[test]
    fn reply_cut_short_is_counted() {
        let mut prober = Prober::new(CALL);
        prober.handle_line(line(), HALF, Moment::ORIGIN);
        prober.handle_reply(&[0; PACKET_BYTES - 1], Moment::ORIGIN);
        assert_eq!(prober.counters().strange, 1);
    }
}
