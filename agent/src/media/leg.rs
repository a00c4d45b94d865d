//! One path between two UDP addresses, and the leg that it becomes with its first proven stream or, during a call,
//! its first answered check.

use std::net::SocketAddr;
use std::time::Duration;

use roomtone_protocol::id::LegNumber;
use roomtone_protocol::media::{Direction, Media, Transport};

use crate::clock::Moment;

use super::paths::PathKey;
use super::reporter::Reporters;
use super::rtcp;
use super::rtp::RtpHeader;
use super::rtt::RttTally;
use super::stream::{Stream, StreamReport, StreamSpan};

/// The length of an interval (design section 2).
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Proven streams of one leg at most; more than a Teams leg has, fewer than a flood needs.
pub const STREAMS_MAX: usize = 32;
/// SSRCs of one path that have not proven themselves, at most; the one silent for longest gives way.
const CANDIDATES_MAX: usize = 8;
/// A candidate that has proven nothing by then is none.
const CANDIDATE_LIFE: Duration = Duration::from_secs(10);

/// One pair of addresses.
#[derive(Debug)]
pub struct Path {
    local: SocketAddr,
    remote: SocketAddr,
    last_at: Moment,
    relayed: bool,
    rehearsal: bool,
    rtt: RttTally,
    rtt_interval: RttTally,
    streams: Vec<Stream>,
    candidates: Vec<Stream>,
    streams_refused: u64,
    /// The endpoint's address, as the latest answer to a check of ours named it.
    reflexive: Option<SocketAddr>,
    /// Who sends RTCP about the streams.
    reporters: Option<Box<Reporters>>,
    /// Whether anything happened since the totals were reported last.
    news: bool,
    leg: Option<Leg>,
}

/// What a path has more when it is a leg of the open call.
#[derive(Debug, Clone, Copy)]
struct Leg {
    number: LegNumber,
    opened: Moment,
    interval: u16,
    interval_started: Moment,
    tap_dropped_at_open: u64,
    tap_dropped_at_interval: u64,
}

/// One interval of one leg, still with full precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalReport {
    /// The leg.
    pub leg: LegNumber,
    /// Its number within the leg.
    pub index: u16,
    /// When it began.
    pub started: Moment,
    /// How long it lasted.
    pub duration: Duration,
    /// Round trips answered or given up in it.
    pub rtt: RttTally,
    /// Packets of the interface that the tap lost.
    pub tap_dropped: u64,
    /// What each stream did that did anything.
    pub streams: Vec<StreamIntervalReport>,
}

/// One stream in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamIntervalReport {
    /// The synchronisation source.
    pub ssrc: u32,
    /// Seen from the endpoint.
    pub direction: Direction,
    /// What it carries, as far as known now.
    pub media: Media,
    /// The figures.
    pub span: StreamSpan,
}

/// A leg's totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegReport {
    /// Its number in the call.
    pub number: LegNumber,
    /// The endpoint's own address.
    pub local: SocketAddr,
    /// The other address.
    pub remote: SocketAddr,
    /// Direct or relayed.
    pub transport: Transport,
    /// When it opened.
    pub opened: Moment,
    /// Its last packet.
    pub closed: Moment,
    /// Round trips, those of before the first stream included.
    pub rtt: RttTally,
    /// Packets of the interface that the tap lost while it lasted.
    pub tap_dropped: u64,
    /// The endpoint's own address as the far end or a relay sees it, by the latest answer to a check of ours.
    pub reflexive: Option<SocketAddr>,
    /// SSRCs beyond [`STREAMS_MAX`], packets not counted.
    pub streams_refused: u64,
    /// Its streams, in order of appearance.
    pub streams: Vec<StreamReport>,
}

impl Path {
    /// Begins with a path's first packet.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr, now: Moment) -> Self {
        Self {
            local,
            remote,
            last_at: now,
            relayed: false,
            rehearsal: false,
            rtt: RttTally::default(),
            rtt_interval: RttTally::default(),
            streams: Vec::new(),
            candidates: Vec::new(),
            streams_refused: 0,
            reflexive: None,
            reporters: None,
            news: true,
            leg: None,
        }
    }

    /// What finds it in the table.
    #[must_use]
    pub fn key(&self) -> PathKey {
        PathKey::new(self.local, self.remote)
    }

    /// The two addresses, the endpoint's first.
    #[must_use]
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.local, self.remote)
    }

    /// When its latest packet came.
    #[must_use]
    pub fn last_at(&self) -> Moment {
        self.last_at
    }

    /// Whether it belongs to the open call.
    #[must_use]
    pub fn is_leg(&self) -> bool {
        self.leg.is_some()
    }

    /// Whether it has carried media that proved itself.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether a check of ours was answered on it.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.rtt.count > 0
    }

    /// Whether `roomtone-agent rehearse` placed its traffic.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// How its media travels, as far as seen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        if self.relayed { Transport::Turn } else { Transport::Udp }
    }

    /// Notes that a packet of any kind came.
    pub fn touch(&mut self, now: Moment) {
        self.last_at = self.last_at.max(now);
        self.news = true;
    }

    /// Notes that its checks name themselves as a rehearsal's.
    pub fn note_rehearsal(&mut self) {
        self.rehearsal = true;
    }

    /// Adds an answered round trip.
    pub fn note_rtt(&mut self, rtt: Duration) {
        self.news = true;
        self.rtt.add(rtt);
        self.rtt_interval.add(rtt);
    }

    /// Notes the endpoint's address as an answer named it.
    pub fn note_reflexive(&mut self, address: SocketAddr) {
        self.reflexive = Some(address);
    }

    /// Takes a datagram that may be RTCP about its streams.
    pub fn handle_rtcp(
        &mut self,
        bytes: &[u8],
        wire_bytes: u16,
        direction: Direction,
        now: Moment,
    ) {
        if self.streams.is_empty() {
            return;
        }
        let Some(compound) = rtcp::parse(bytes, wire_bytes) else {
            if let (Some(reporters), Some(ssrc)) = (&mut self.reporters, rtcp::sender(bytes)) {
                reporters.doubt(ssrc, direction);
            }
            return;
        };
        let streams = &self.streams;
        let place = |ssrc: u32| {
            streams.iter().position(|it| it.ssrc() == ssrc && it.direction() != direction)
        };
        let mut counted = Vec::new();
        let reporters = self.reporters.get_or_insert_default();
        reporters.handle(
            compound,
            direction,
            now,
            |ssrc| place(ssrc).is_some(),
            |told| counted.extend(place(told.block.ssrc).map(|place| (place, *told))),
        );
        for (place, told) in counted {
            self.news = true;
            self.streams[place].note_reported(&told);
        }
    }

    /// Adds a transaction that was given up.
    pub fn note_unanswered(&mut self) {
        self.news = true;
        self.rtt.unanswered += 1;
        self.rtt_interval.unanswered += 1;
    }

    /// Takes an RTP packet; returns the moment of the first packet of a stream that it proved.
    pub fn handle_rtp(
        &mut self,
        header: &RtpHeader,
        dscp: u8,
        direction: Direction,
        relayed: bool,
        now: Moment,
    ) -> Option<Moment> {
        let is_same = |s: &Stream| s.ssrc() == header.ssrc && s.direction() == direction;
        if let Some(known) = self.streams.iter().position(is_same) {
            self.streams[known].note_marking(dscp);
            self.streams[known].handle(header, now);
            self.compare_frames(known, header, direction);
            return None;
        }
        let Some(known) = self.candidates.iter().position(is_same) else {
            self.admit(header, dscp, direction, now);
            return None;
        };
        // Otherwise one stray packet would date a stream, and with it a call, back by days.
        if now.since(self.candidates[known].first_at()) >= CANDIDATE_LIFE {
            self.candidates[known] = begin(header, dscp, direction, now);
            return None;
        }
        self.candidates[known].note_marking(dscp);
        if !self.candidates[known].handle(header, now) {
            return None;
        }
        let stream = self.candidates.remove(known);
        let first_at = stream.first_at();
        if !self.make_room() {
            self.streams_refused += 1;
            return None;
        }
        self.relayed |= relayed;
        self.streams.push(stream);
        self.compare_frames(self.streams.len() - 1, header, direction);
        Some(first_at)
    }

    fn admit(&mut self, header: &RtpHeader, dscp: u8, direction: Direction, now: Moment) {
        self.candidates.retain(|candidate| now.since(candidate.first_at()) < CANDIDATE_LIFE);
        if self.candidates.len() >= CANDIDATES_MAX
            && let Some(oldest) =
                (0..self.candidates.len()).min_by_key(|&n| self.candidates[n].last_at())
        {
            self.candidates.swap_remove(oldest);
        }
        self.candidates.push(begin(header, dscp, direction, now));
    }

    fn make_room(&self) -> bool {
        self.streams.len() < STREAMS_MAX
    }

    /// Retransmissions carry the timestamp of the frame that they repair, on an SSRC of their own (RFC 4588 section 4).
    fn compare_frames(&mut self, n: usize, header: &RtpHeader, direction: Direction) {
        if self.streams[n].wants_comparison() {
            let repeated = self.streams.iter().enumerate().any(|(other, stream)| {
                other != n && stream.direction() == direction && stream.has_frame(header.timestamp)
            });
            self.streams[n].note_comparison(repeated);
        }
        self.streams[n].note_frame(header.timestamp);
    }

    /// Makes the path a leg of the open call.
    pub fn open_leg(&mut self, number: LegNumber, opened: Moment, tap_dropped: u64) {
        self.leg = Some(Leg {
            number,
            opened,
            interval: 0,
            interval_started: opened,
            tap_dropped_at_open: tap_dropped,
            tap_dropped_at_interval: tap_dropped,
        });
    }

    /// When the current interval ends, for a leg; `None` for one that lasts until the leg closes.
    ///
    /// That is the 65,536th, after seven and a half days, since no number is left behind it, and one that reaches
    /// beyond the last moment there is.
    #[must_use]
    pub fn interval_ends(&self) -> Option<Moment> {
        let leg = self.leg.filter(|leg| leg.interval < u16::MAX)?;
        Some(leg.interval_started + INTERVAL).filter(|end| *end < Moment::from_nanos(u64::MAX))
    }

    /// Ends the interval that is over at `now`, or with `end` the one that is cut short; `None` where nothing
    /// happened in it.
    pub fn take_interval(&mut self, end: Moment, tap_dropped: u64) -> Option<IntervalReport> {
        let leg = self.leg.as_mut()?;
        let (index, started) = (leg.interval, leg.interval_started);
        let duration = end.since(started);
        leg.interval = leg.interval.saturating_add(1);
        leg.interval_started = started + INTERVAL;
        let dropped = tap_dropped - leg.tap_dropped_at_interval;
        leg.tap_dropped_at_interval = tap_dropped;
        let number = leg.number;
        let rtt = std::mem::take(&mut self.rtt_interval);
        let streams: Vec<_> = self
            .streams
            .iter_mut()
            .map(|stream| StreamIntervalReport {
                ssrc: stream.ssrc(),
                direction: stream.direction(),
                media: stream.media(),
                span: stream.take_span(),
            })
            .filter(|row| {
                let StreamSpan { received, lost, duplicate, playout, .. } = &row.span;
                // A packet that fits no place is none of these, and moves the listener on all the same.
                let is_heard = playout.is_some_and(|heard| heard.total_us > 0);
                *received > 0 || *lost != 0 || *duplicate > 0 || is_heard
            })
            .collect();
        if streams.is_empty() && rtt.count == 0 && rtt.unanswered == 0 && dropped == 0 {
            return None;
        }
        self.news = true;
        Some(IntervalReport {
            leg: number,
            index,
            started,
            duration,
            rtt,
            tap_dropped: dropped,
            streams,
        })
    }

    /// Whether packets came since the totals were reported last.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.leg.is_some() && self.news
    }

    /// The totals so far, for a leg; they count as reported then.
    pub fn take_report(&mut self, tap_dropped: u64) -> Option<LegReport> {
        let leg = self.leg?;
        self.news = false;
        Some(LegReport {
            number: leg.number,
            local: self.local,
            remote: self.remote,
            transport: if self.relayed { Transport::Turn } else { Transport::Udp },
            opened: leg.opened,
            closed: self.last_at,
            rtt: self.rtt,
            tap_dropped: tap_dropped - leg.tap_dropped_at_open,
            reflexive: self.reflexive,
            streams_refused: self.streams_refused,
            streams: self.streams.iter().map(Stream::report).collect(),
        })
    }
}

/// A candidate, with how its first packet was marked.
fn begin(header: &RtpHeader, dscp: u8, direction: Direction, now: Moment) -> Stream {
    let mut stream = Stream::new(header, direction, now);
    stream.note_marking(dscp);
    stream
}
