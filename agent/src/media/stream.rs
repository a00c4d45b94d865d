//! One stream: an SSRC in one direction of a leg, from candidate to proof to totals.
//!
//! A candidate counts from its first packet, so that nothing is missing once it is proven; it is proven by four
//! packets in sequence and a plausible clock. Proprietary traffic that begins like RTP stays a candidate and is
//! forgotten.

use std::time::Duration;

use roomtone_protocol::limits::PAYLOAD_TYPES_MAX;
use roomtone_protocol::media::{ClockRateSource, Direction, Media};

use crate::clock::Moment;

use super::clock_rate::{self, ClockRate};
use super::heard::{Heard, HeardReport};
use super::jitter::{Jitter, Tally};
use super::marking::Marking;
use super::playout::tally::PlayoutTally;
use super::playout::{Content, Packet};
use super::reporter::{Reported, Told};
use super::rtp::RtpHeader;
use super::seq::{Arrival, SequenceTracker};

/// Steps of exactly one in a row that prove a sequence: RFC 3550 A.1 takes two packets, which noise reaches too easily.
const STEPS_PROVING: u8 = 3;
/// Packets that wait for the clock rate, to be measured from the first one on: two seconds of audio at 10 ms.
const WAITING_MAX: usize = 256;
/// As long as nothing is proven, fewer do: every address may send in vain.
const CANDIDATE_WAITING_MAX: usize = 16;
/// RFC 4733 section 2.3: an event's payload has 4 bytes; SRTP adds at most 16.
const EVENT_PAYLOAD_BYTES: std::ops::RangeInclusive<u16> = 4..=20;
/// Timestamps of a video stream that retransmissions may repeat: two seconds at 30 frames/s.
const FRAMES: usize = 64;
/// A stream's first packets decide whether it repeats another's frames.
const RTX_DECIDED_AFTER: u32 = 64;
/// The clock of all video (RFC 3551 section 5).
const VIDEO_HZ: u32 = 90_000;

/// The measured state of one stream.
#[derive(Debug)]
pub struct Stream {
    ssrc: u32,
    direction: Direction,
    first_at: Moment,
    last_at: Moment,
    steps: u8,
    proven: bool,
    payload_types: [(u8, u32); PAYLOAD_TYPES_MAX],
    sequence: SequenceTracker,
    clock: ClockRate,
    jitter: Option<Jitter>,
    /// Packets of before the clock rate was known, or the stream proven.
    waiting: Vec<Packet>,
    /// What a listener hears of it: of received audio only.
    heard: Option<Box<Heard>>,
    /// Whether any packet had no padding: then those that have are probes.
    unpadded: bool,
    /// Where the current run of steps of one began, and the latest packet of it.
    run: [(Moment, u32); 2],
    event_shaped: bool,
    /// How many of the first packets carried a timestamp of another stream.
    repeats: u32,
    looked: u32,
    frames: Option<Box<Frames>>,
    marking: Marking,
    /// What its receiver told of it in RTCP, as few streams have it.
    reported: Option<Box<Reported>>,
    before: Before,
}

/// The counters when the current interval began.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    received: u64,
    expected: u64,
    duplicate: u64,
    reordered: u64,
    restarts: u32,
}

/// The latest timestamps of a video stream.
#[derive(Debug)]
struct Frames {
    timestamps: [u32; FRAMES],
    next: usize,
}

/// One stream over one interval, still with full precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamSpan {
    /// Packets received, duplicates excluded.
    pub received: u64,
    /// Expected minus received within the span.
    pub lost: i64,
    /// Packets seen before.
    pub duplicate: u64,
    /// Packets behind a later one.
    pub reordered: u64,
    /// Sequence restarts.
    pub restarts: u32,
    /// The running estimate's mean and maximum in the span.
    pub jitter: Tally,
    /// What a listener heard, for received audio of known clock.
    pub playout: Option<PlayoutTally>,
}

/// A stream's totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// The synchronisation source.
    pub ssrc: u32,
    /// Seen from the endpoint.
    pub direction: Direction,
    /// What it carries, as far as known.
    pub media: Media,
    /// Payload types, most frequent first.
    pub payload_types: Vec<u8>,
    /// RTP clock rate in Hz, where known.
    pub clock_rate_hz: Option<u32>,
    /// Where the rate comes from.
    pub clock_rate_source: ClockRateSource,
    /// First packet.
    pub first_at: Moment,
    /// Last packet.
    pub last_at: Moment,
    /// Packets received, duplicates excluded.
    pub received: u64,
    /// Packets that the sequence numbers announce.
    pub expected: u64,
    /// Packets seen before.
    pub duplicate: u64,
    /// Packets behind a later one.
    pub reordered: u64,
    /// Sequence restarts.
    pub restarts: u32,
    /// The running jitter estimate over all packets.
    pub jitter: Tally,
    /// Its last value.
    pub jitter_last: Option<Duration>,
    /// What a listener heard, for received audio of known clock.
    pub heard: Option<HeardReport>,
    /// How its packets were marked, duplicates included.
    pub marking: Marking,
    /// What its receiver told of it in RTCP in the clear.
    pub reported: Option<Reported>,
}

impl Stream {
    /// Begins a candidate with its first packet.
    #[must_use]
    pub fn new(header: &RtpHeader, direction: Direction, now: Moment) -> Self {
        let clock = ClockRate::new(header.payload_type, header.timestamp, now);
        let mut stream = Self {
            ssrc: header.ssrc,
            direction,
            first_at: now,
            last_at: now,
            steps: 0,
            proven: false,
            payload_types: [(0, 0); PAYLOAD_TYPES_MAX],
            sequence: SequenceTracker::new(header.sequence, header.timestamp, now),
            jitter: clock.rate_hz().map(Jitter::new),
            clock,
            waiting: Vec::new(),
            heard: None,
            unpadded: false,
            run: [(now, header.timestamp); 2],
            event_shaped: is_event_shaped(header),
            repeats: 0,
            looked: 0,
            frames: None,
            marking: Marking::default(),
            reported: None,
            before: Before::default(),
        };
        stream.note_payload_type(header.payload_type);
        stream.time(header.timestamp, now);
        stream.listen(Arrival::Advanced { step: 1 }, header, now);
        stream
    }

    /// The synchronisation source.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Seen from the endpoint.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether it is a stream and not a candidate.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// When its first packet came.
    #[must_use]
    pub fn first_at(&self) -> Moment {
        self.first_at
    }

    /// When its latest packet came.
    #[must_use]
    pub fn last_at(&self) -> Moment {
        self.last_at
    }

    /// Takes one more packet; returns whether it proved the stream.
    pub fn handle(&mut self, header: &RtpHeader, now: Moment) -> bool {
        let rate = self.clock.rate_hz();
        let arrival = self.sequence.handle(header.sequence, header.timestamp, rate, now);
        self.last_at = now;
        match arrival {
            Arrival::Advanced { step } => {
                self.note_payload_type(header.payload_type);
                let latest = (now, header.timestamp);
                if step == 1 {
                    self.steps = self.steps.saturating_add(1);
                    self.run[1] = latest;
                } else {
                    self.steps = 0;
                    self.run = [latest; 2];
                }
                self.time(header.timestamp, now);
            }
            // The clock starts anew behind a restart; the reference of the jitter does so by itself, by its jump rule.
            Arrival::Restarted => self.note_payload_type(header.payload_type),
            Arrival::Reordered => self.note_payload_type(header.payload_type),
            Arrival::Duplicate | Arrival::Unplaced => {}
        }
        let mut proved = false;
        if !self.proven {
            self.event_shaped &= is_event_shaped(header);
            self.proven = self.steps >= STEPS_PROVING && self.has_plausible_clock();
            proved = self.proven;
        }
        self.listen(arrival, header, now);
        proved
    }

    /// Measures the clock and the jitter with a packet that advanced the sequence.
    fn time(&mut self, timestamp: u32, now: Moment) {
        let learned = self.clock.handle(timestamp, now);
        match (&mut self.jitter, self.clock.rate_hz()) {
            (Some(jitter), _) if !learned => jitter.handle(timestamp, now),
            (_, Some(rate)) => {
                // Known for the first time, or put right: measure again what still waits.
                let mut jitter = jitter_of(rate, &self.waiting);
                jitter.handle(timestamp, now);
                self.jitter = Some(jitter);
                self.heard = None;
            }
            (_, None) => {}
        }
    }

    /// Plays a packet to the model of the listener, who begins with the first packet as soon as stream and clock are
    /// known; keeps it until then.
    fn listen(&mut self, arrival: Arrival, header: &RtpHeader, now: Moment) {
        self.unpadded |= !header.padding;
        let content = match header.padding && self.unpadded {
            true => Content::Padding,
            false => Content::Frame,
        };
        let packet = Packet { at: now, timestamp: header.timestamp, arrival, content };
        if let Some(heard) = &mut self.heard {
            heard.handle(&packet);
            return;
        }
        let audible = self.direction == Direction::Ingress;
        match self.clock.rate_hz() {
            Some(rate) if audible && self.proven && rate != VIDEO_HZ => {
                let mut heard = Box::new(Heard::new(rate));
                std::mem::take(&mut self.waiting).iter().for_each(|packet| heard.handle(packet));
                heard.handle(&packet);
                self.heard = Some(heard);
            }
            Some(rate) if rate == VIDEO_HZ || !audible => self.waiting = Vec::new(),
            Some(_) | None => {
                let max = if self.proven { WAITING_MAX } else { CANDIDATE_WAITING_MAX };
                if self.waiting.len() < max {
                    self.waiting.push(packet);
                }
            }
        }
    }

    fn has_plausible_clock(&self) -> bool {
        let [(began, first), (latest, last)] = self.run;
        let ticks = last.wrapping_sub(first);
        let elapsed = latest.since(began);
        // An event's packets all carry the time of its start (RFC 4733 section 2.2.1).
        (ticks == 0 && self.event_shaped) || clock_rate::is_plausible(ticks, elapsed)
    }

    fn note_payload_type(&mut self, payload_type: u8) {
        let places = &mut self.payload_types;
        let found = places.iter().position(|(known, count)| *count > 0 && *known == payload_type);
        let place = found.or_else(|| places.iter().position(|(_, count)| *count == 0));
        if let Some(place) = place {
            places[place].0 = payload_type;
            places[place].1 = places[place].1.saturating_add(1);
        }
    }

    /// Notes how a packet of the stream was marked.
    pub fn note_marking(&mut self, dscp: u8) {
        self.marking.note(dscp);
    }

    /// Notes what its receiver told of it.
    pub fn note_reported(&mut self, told: &Told) {
        self.reported.get_or_insert_default().add(told);
    }

    /// Whether the stream still has to be compared with its neighbours' frames.
    #[must_use]
    pub fn wants_comparison(&self) -> bool {
        self.looked < RTX_DECIDED_AFTER && self.clock.source() != ClockRateSource::Static
    }

    /// Notes whether a packet repeated a timestamp of another stream of the same direction.
    pub fn note_comparison(&mut self, repeated: bool) {
        self.looked += 1;
        self.repeats += u32::from(repeated);
    }

    /// Remembers a packet's timestamp, if this stream is video or may be.
    pub fn note_frame(&mut self, timestamp: u32) {
        if matches!(self.media(), Media::Audio | Media::Rtx) {
            self.frames = None;
            return;
        }
        let frames = self
            .frames
            .get_or_insert_with(|| Box::new(Frames { timestamps: [timestamp; FRAMES], next: 0 }));
        let latest = (frames.next + FRAMES - 1) % FRAMES;
        if frames.timestamps[latest] != timestamp {
            frames.timestamps[frames.next] = timestamp;
            frames.next = (frames.next + 1) % FRAMES;
        }
    }

    /// Whether this stream sent the frame of that timestamp lately.
    #[must_use]
    pub fn has_frame(&self, timestamp: u32) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.timestamps.contains(&timestamp))
    }

    /// What it carries, as far as known now.
    #[must_use]
    pub fn media(&self) -> Media {
        self.media_of(self.clock.rate_hz())
    }

    fn media_of(&self, clock_rate_hz: Option<u32>) -> Media {
        if self.repeats * 2 > self.looked {
            return Media::Rtx;
        }
        match clock_rate_hz {
            Some(VIDEO_HZ) => Media::Video,
            Some(_) => Media::Audio,
            None if self.event_shaped => Media::Audio,
            None => Media::Unknown,
        }
    }

    /// What happened since this was called last.
    pub fn take_span(&mut self) -> StreamSpan {
        let now = Before {
            received: self.sequence.received(),
            expected: self.sequence.expected(),
            duplicate: self.sequence.duplicate(),
            reordered: self.sequence.reordered(),
            restarts: self.sequence.restarts(),
        };
        let before = std::mem::replace(&mut self.before, now);
        let received = now.received - before.received;
        let expected = now.expected - before.expected;
        StreamSpan {
            received,
            lost: expected as i64 - received as i64,
            duplicate: now.duplicate - before.duplicate,
            reordered: now.reordered - before.reordered,
            restarts: now.restarts - before.restarts,
            jitter: self.jitter.as_mut().map(Jitter::take_interval).unwrap_or_default(),
            playout: self.heard.as_mut().map(|heard| heard.take_interval()),
        }
    }

    /// The totals so far.
    ///
    /// A stream too short for the two looks at its clock is measured by the slope of all that there is.
    #[must_use]
    pub fn report(&self) -> StreamReport {
        let short = match self.clock.rate_hz() {
            Some(_) => None,
            None => clock_rate::of_short_stream(&advancing(&self.waiting).collect::<Vec<_>>()),
        };
        if let Some(rate) = short {
            let jitter = jitter_of(rate, &self.waiting);
            let media = self.media_of(Some(rate));
            let heard =
                (self.direction == Direction::Ingress && media == Media::Audio).then(|| {
                    let mut heard = Heard::new(rate);
                    self.waiting.iter().for_each(|packet| heard.handle(packet));
                    heard.report()
                });
            let clock = (Some(rate), ClockRateSource::Slope);
            return self.report_with(media, clock, Some(&jitter), heard);
        }
        let clock = (self.clock.rate_hz(), self.clock.source());
        let heard = self.heard.as_ref().map(|heard| heard.report());
        self.report_with(self.media(), clock, self.jitter.as_ref(), heard)
    }

    fn report_with(
        &self,
        media: Media,
        (clock_rate_hz, clock_rate_source): (Option<u32>, ClockRateSource),
        jitter: Option<&Jitter>,
        heard: Option<HeardReport>,
    ) -> StreamReport {
        let mut payload_types: Vec<_> =
            self.payload_types.into_iter().filter(|(_, count)| *count > 0).collect();
        payload_types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        StreamReport {
            ssrc: self.ssrc,
            direction: self.direction,
            media,
            payload_types: payload_types
                .into_iter()
                .map(|(payload_type, _)| payload_type)
                .collect(),
            clock_rate_hz,
            clock_rate_source,
            first_at: self.first_at,
            last_at: self.last_at,
            received: self.sequence.received(),
            expected: self.sequence.expected(),
            duplicate: self.sequence.duplicate(),
            reordered: self.sequence.reordered(),
            restarts: self.sequence.restarts(),
            jitter: jitter.map(Jitter::total).unwrap_or_default(),
            jitter_last: jitter.and_then(Jitter::last),
            heard,
            marking: self.marking,
            reported: self.reported.as_deref().copied(),
        }
    }
}

impl StreamReport {
    /// `expected - received`.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected - self.received
    }
}

/// The packets that advanced their sequence: when they came, and their RTP time.
fn advancing(waiting: &[Packet]) -> impl Iterator<Item = (Moment, u32)> + '_ {
    let advanced = |packet: &&Packet| matches!(packet.arrival, Arrival::Advanced { .. });
    waiting.iter().filter(advanced).map(|packet| (packet.at, packet.timestamp))
}

fn jitter_of(rate: u32, waiting: &[Packet]) -> Jitter {
    let mut jitter = Jitter::new(rate);
    advancing(waiting).for_each(|(at, timestamp)| jitter.handle(timestamp, at));
    jitter
}

fn is_event_shaped(header: &RtpHeader) -> bool {
    header.payload_bytes.is_some_and(|bytes| EVENT_PAYLOAD_BYTES.contains(&bytes))
}
