//! What a jitter buffer makes of the arrivals of one received audio stream: played, concealed, discarded, stretched.
//!
//! A passive watcher cannot ask the receiving program what it played. It can play the same packets to a model of the
//! buffer that most programs have. This one follows WebRTC's NetEq (its public description and sources, 2022 and
//! later), because Chromium tells its own figures and the model can be held against them: `concealed / total` here is
//! meant to be `concealedSamples / totalSamplesReceived` of the `inbound-rtp` statistics (W3C webrtc-stats).
//!
//! How it plays, every [`TICK`]: the next frame if it is there; otherwise concealment, until the frame comes (the delay
//! has grown then) or until a later one's time has come (the missing ones are given up). The delay follows a target
//! ([`target`]): below it audio is stretched, well above it compressed, a few milliseconds at a time.
//!
//! What it knows better than a buffer in a call: whether silence was the sender's. Frames that the numbers do not
//! announce were not sent (DTX, a pause, RFC 4733 events), and what is heard meanwhile is no concealment. Padding is no
//! frame.
//!
//! What it cannot know: redundancy inside the payload (Opus FEC, RED), so that it conceals what they would repair;
//! what the audio sounds like, on which the length of one stretch depends; delay that the program adds on purpose, as
//! for lip sync; and stalls of the program itself. All of it is in whole microseconds; a frame is fed in O(1),
//! amortised, into [`FRAMES_MAX`] places.

use std::time::Duration;

use heapless::Deque;

use crate::clock::Moment;

use super::burst::{Burst, BurstReport};
use super::seq::Arrival;

pub mod tally;
pub mod target;

use tally::PlayoutTally;
use target::DelayTarget;

/// The version of this model. Figures of different versions do not compare.
pub const PLAYOUT_MODEL: u16 = 1;

/// How often audio is asked for (NetEq's output block).
pub const TICK: Duration = Duration::from_millis(10);
const TICK_US: i64 = 10_000;
const TICK_NANOS: u64 = 10_000_000;
/// Frames that wait at most; where one more comes, all are thrown away (Chromium's `audioJitterBufferMaxPackets`).
const FRAMES_MAX: usize = 200;
/// The frame length that is assumed until the stream has shown its own: 20 ms, the usual one.
const FRAME_ASSUMED_US: i64 = 20_000;
/// RFC 7587 section 4.2: the longest Opus frame, and the longest of any codec in use.
const FRAME_MAX_US: i64 = 120_000;
/// Two stretches are at least so many ticks apart (NetEq's smallest interval).
const STRETCH_APART_TICKS: u32 = 6;
/// What one stretch adds or takes away. NetEq takes a pitch period (2.5 to 15 ms) where the audio allows it; this is
/// the mean that makes the delay follow a step of the path by the 65 ms/s that Chromium shows.
const STRETCH_US: i64 = 4_000;
/// Audio that must be at hand for a stretch.
const STRETCH_NEEDS_US: i64 = 30_000;
/// Above the target, a stretch waits for so much more than the path's own spread.
const GRANULARITY_US: i64 = 20_000;
/// So far above the limit, audio is compressed without a pause between.
const HURRY: i64 = 4;
/// Concealment as long as this has faded by half; then the buffer first fills to half of its target.
const FADED_US: i64 = 80_000;
/// A buffer this far above the target goes on with what it has.
const WINDOW_US: i64 = 50_000;
/// RTP time and arrival time that part by this begin a new time line: another source behind the SSRC, as in `jitter`.
const JUMP_US: i64 = 5_000_000;
/// A pause of the sender counts as heard silence up to here, where NetEq's comfort noise ends too.
const SILENCE_MAX_US: i64 = 1_000_000;
/// Ticks of the worst second.
const SECOND_TICKS: u64 = 100;
/// Two places this near are one: clocks of 11,025 Hz do not fall on whole microseconds.
const NEAR_US: i64 = 500;

/// What a packet was, as far as playing it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A frame of audio.
    Frame,
    /// Nothing but padding (RFC 3550 section 5.1), as a bandwidth probe.
    Padding,
}

/// One packet, as the model takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// When it came.
    pub at: Moment,
    /// Its RTP time.
    pub timestamp: u32,
    /// What it meant for its sequence.
    pub arrival: Arrival,
    /// Whether there is anything in it.
    pub content: Content,
}

/// A frame that waits: 16 bytes, for there are [`FRAMES_MAX`] places in every stream.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Its place on the time line.
    start_us: i64,
    /// The tick at which it was there; wraps after 497 days.
    tick: u32,
    /// What the sender left out before it, in milliseconds; 49 days at most.
    before_ms: u32,
}

impl Frame {
    fn before_us(self) -> i64 {
        i64::from(self.before_ms) * 1_000
    }
}

/// What one tick does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The next frame, as it is.
    Play,
    /// Something made up.
    Fill,
    /// A later frame than the next one.
    Skip,
    Stretch,
    Compress,
}

/// What was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Audio,
    Concealment,
    Silence,
}

/// See the module's head.
#[derive(Debug)]
pub struct Playout {
    micros_per_rtp_tick: f64,
    /// The moment of tick 0; ticks before the first frame have no meaning.
    origin: Option<Moment>,
    tick: u64,
    /// RTP time and place of the newest frame.
    newest: (u32, i64),
    /// The newest RTP time of any packet.
    newest_any: u32,
    /// How much later than on its time line the newest frame came.
    transit_us: i64,
    frame_us: i64,
    frame_seen_us: i64,
    frames: Deque<Frame, FRAMES_MAX>,
    /// Where the next frame must begin.
    next_us: i64,
    /// Decoded and not heard yet.
    left_us: i64,
    last: Last,
    /// How long the present concealment or silence has lasted, in whole ticks.
    generated_us: i64,
    /// Concealed since the buffer ran dry: the next frame may tell that it was silence.
    dry_us: i64,
    /// What has been heard of the silence before the frame in front.
    silent_us: i64,
    stretch_in: u32,
    target: DelayTarget,
    interval: PlayoutTally,
    /// Of before the present interval.
    before: PlayoutTally,
    /// A second of ticks, and what was concealed in it.
    second: (u64, u64),
    burst: Burst,
}

impl Playout {
    /// Begins without a frame.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self {
            micros_per_rtp_tick: 1e6 / f64::from(clock_rate_hz.max(1)),
            origin: None,
            tick: 0,
            newest: (0, 0),
            newest_any: 0,
            transit_us: 0,
            frame_us: FRAME_ASSUMED_US,
            frame_seen_us: FRAME_ASSUMED_US,
            frames: Deque::new(),
            next_us: 0,
            left_us: 0,
            last: Last::Audio,
            generated_us: 0,
            dry_us: 0,
            silent_us: 0,
            stretch_in: STRETCH_APART_TICKS,
            target: DelayTarget::default(),
            interval: PlayoutTally::default(),
            before: PlayoutTally::default(),
            second: (0, 0),
            burst: Burst::default(),
        }
    }

    /// Takes one packet, and first plays up to its moment.
    pub fn handle(&mut self, packet: &Packet) {
        let Packet { at: now, timestamp, arrival, content } = *packet;
        if self.origin.is_some() {
            self.play_until(now);
        }
        let step = match arrival {
            Arrival::Advanced { step } => step,
            Arrival::Reordered => 0,
            Arrival::Restarted => {
                if content == Content::Frame {
                    self.begin(timestamp, now);
                }
                return;
            }
            Arrival::Duplicate | Arrival::Unplaced => return,
        };
        match (content, self.origin) {
            (Content::Padding, None) => {}
            (Content::Padding, Some(_)) => self.newest_any = later(self.newest_any, timestamp),
            (Content::Frame, None) => self.begin(timestamp, now),
            (Content::Frame, Some(_)) => self.take(step, timestamp, now),
        }
    }

    /// Begins a time line with its first frame, which is heard at once; the delay grows to its target by stretching.
    fn begin(&mut self, timestamp: u32, now: Moment) {
        match self.origin {
            None => self.origin = Some(now),
            Some(_) => self.interval.resets += 1,
        }
        self.frames.clear();
        self.newest = (timestamp, 0);
        self.newest_any = timestamp;
        self.transit_us = self.arrived_us();
        (self.next_us, self.left_us, self.generated_us) = (0, 0, 0);
        (self.dry_us, self.silent_us) = (0, 0);
        self.last = Last::Audio;
        self.stretch_in = STRETCH_APART_TICKS;
        self.target = DelayTarget::default();
        self.target.handle(0, self.arrived_us(), false);
        self.insert(Frame { start_us: 0, tick: self.tick as u32, before_ms: 0 });
    }

    fn arrived_us(&self) -> i64 {
        (self.tick as i64).saturating_mul(TICK_US)
    }

    fn micros(&self, ticks: u32) -> i64 {
        let micros = f64::from(ticks.cast_signed()) * self.micros_per_rtp_tick;
        // To the nearest, without the call that `round` is on old processors.
        (micros + 0.5_f64.copysign(micros)) as i64
    }

    fn take(&mut self, step: u32, timestamp: u32, now: Moment) {
        let since = self.micros(timestamp.wrapping_sub(self.newest.0));
        let place = self.newest.1 + since;
        let transit = self.arrived_us() - place;
        if (transit - self.transit_us).abs() > JUMP_US {
            self.begin(timestamp, now);
            return;
        }
        if since == 0 {
            return; // an event that goes on (RFC 4733), a probe whose bit nobody set: nothing new to hear
        }
        let before_us = self.left_out(step, timestamp);
        if since > 0 {
            self.learn_frame(step, since);
            self.newest = (timestamp, place);
            self.newest_any = later(self.newest_any, timestamp);
            self.transit_us = transit;
        }
        self.settle(before_us);
        self.target.handle(place, self.arrived_us(), since < 0);
        if place + NEAR_US < self.next_us {
            self.interval.discarded += 1;
            return;
        }
        if self.frames.is_full() {
            self.interval.discarded += self.frames.len() as u64;
            self.begin(timestamp, now);
            return;
        }
        let before_ms = u32::try_from(before_us / 1_000).unwrap_or(u32::MAX);
        self.insert(Frame { start_us: place, tick: self.tick as u32, before_ms });
    }

    /// How much the sender left out before a frame: what RTP time steps over beyond what the numbers announce.
    fn left_out(&self, step: u32, timestamp: u32) -> i64 {
        let since = self.micros(timestamp.wrapping_sub(self.newest_any));
        let announced = i64::from(step).saturating_mul(self.frame_us);
        let left_out = since.saturating_sub(announced);
        // Rounding, or a frame that is longer by a little.
        if step == 0 || left_out < self.frame_us / 2 { 0 } else { left_out }
    }

    /// The length of a frame is the time between two whose numbers follow each other; two in a row must agree.
    fn learn_frame(&mut self, step: u32, since: i64) {
        if step != 1 || !(NEAR_US..=FRAME_MAX_US).contains(&since) {
            return;
        }
        if since == self.frame_seen_us {
            self.frame_us = since;
        }
        self.frame_seen_us = since;
    }

    /// Tells what was heard while the next frame was not there: concealment, or silence as far as the sender left
    /// something out before a frame that finds the buffer empty.
    fn settle(&mut self, before_us: i64) {
        let silent = if self.frames.is_empty() { self.dry_us.min(before_us) } else { 0 };
        let concealed = (self.dry_us - silent).unsigned_abs();
        self.dry_us = 0;
        if silent > 0 {
            self.last = Last::Silence;
            self.silent_us = silent;
            self.interval.total_us += silent.min(SILENCE_MAX_US).unsigned_abs();
        }
        self.note_concealed(concealed);
    }

    fn note_concealed(&mut self, concealed_us: u64) {
        if concealed_us == 0 {
            return;
        }
        self.interval.total_us += concealed_us;
        self.interval.concealed_us += concealed_us;
        let second = self.tick / SECOND_TICKS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 = (self.second.1 + concealed_us).min(1_000_000);
        self.interval.worst_second_us = self.interval.worst_second_us.max(self.second.1);
    }

    /// Puts a frame in its place: at the end, where nearly all belong, or looked for from there.
    fn insert(&mut self, frame: Frame) {
        let is_behind = |other: &Frame| other.start_us > frame.start_us + NEAR_US;
        let is_there = |other: &Frame| other.start_us >= frame.start_us - NEAR_US;
        let mut at = self.frames.len();
        while at > 0 && self.frames.get(at - 1).is_some_and(is_behind) {
            at -= 1;
        }
        if at > 0 && self.frames.get(at - 1).is_some_and(is_there) {
            return;
        }
        if self.frames.push_back(frame).is_ok() {
            for n in (at + 1..self.frames.len()).rev() {
                self.frames.swap(n, n - 1);
            }
        }
    }

    fn play_until(&mut self, now: Moment) {
        let Some(origin) = self.origin else { return };
        let until = now.as_nanos().saturating_sub(origin.as_nanos()) / TICK_NANOS;
        while self.tick < until {
            if self.frames.is_empty() && self.left_us < TICK_US {
                // However long it lasts, it is one step.
                let ticks = (until - self.tick) as i64;
                self.dry_us += ticks.saturating_mul(TICK_US) - self.left_us;
                self.heard_tail();
                self.generated_us = self.generated_us.saturating_add(ticks.saturating_mul(TICK_US));
                self.last = Last::Concealment;
                self.stretch_in = 0;
                self.tick = until;
            } else {
                self.tick += 1;
                self.play_tick();
            }
        }
    }

    /// What was left is heard before it runs dry.
    fn heard_tail(&mut self) {
        self.interval.total_us += self.left_us.unsigned_abs();
        self.left_us = 0;
    }

    fn play_tick(&mut self) {
        self.stretch_in = self.stretch_in.saturating_sub(1);
        match self.decide() {
            Step::Play => {
                if self.left_us < TICK_US {
                    self.extract(TICK_US);
                }
            }
            Step::Fill if self.left_us >= TICK_US => {}
            Step::Fill => {
                self.fill();
                return;
            }
            Step::Skip => self.skip(),
            Step::Stretch => self.stretch(),
            Step::Compress => self.compress(),
        }
        let heard = self.left_us.min(TICK_US);
        self.left_us -= heard;
        self.interval.total_us += heard.unsigned_abs();
        self.dry_us += TICK_US - heard;
    }

    fn decide(&self) -> Step {
        let Some(front) = self.frames.front().copied() else { return Step::Fill };
        let target = self.target.target_us();
        let faded = match self.last {
            Last::Audio => false,
            Last::Concealment => self.generated_us >= FADED_US,
            Last::Silence => true,
        };
        if faded && self.waiting_us() < target / 2 {
            return Step::Fill;
        }
        let leap = front.start_us - self.next_us;
        if leap > NEAR_US {
            let high = self.waiting_us() > target + WINDOW_US;
            return match self.last {
                Last::Audio => Step::Fill,
                Last::Concealment | Last::Silence if leap > self.generated_us && !high => {
                    Step::Fill
                }
                Last::Concealment | Last::Silence => Step::Skip,
            };
        }
        if self.last != Last::Audio {
            return Step::Play;
        }
        let delay = self.target.delay_us(self.next_us - self.left_us, self.arrived_us());
        let high = target + self.target.spread_us() + GRANULARITY_US;
        if delay >= high.saturating_mul(HURRY) {
            Step::Compress
        } else if self.stretch_in > 0 {
            Step::Play
        } else if delay >= high {
            Step::Compress
        } else if delay < target {
            Step::Stretch
        } else {
            Step::Play
        }
    }

    /// How long the frames that wait last, with the time that the newest of them has waited.
    fn waiting_us(&self) -> i64 {
        let (Some(front), Some(back)) = (self.frames.front(), self.frames.back()) else { return 0 };
        let waited = self.waited_us(*back);
        back.start_us - front.start_us + waited.max(self.frame_us)
    }

    fn waited_us(&self, frame: Frame) -> i64 {
        i64::from((self.tick as u32).wrapping_sub(frame.tick)) * TICK_US
    }

    /// Takes frames that follow each other, until there is `needed` of audio more.
    fn extract(&mut self, needed: i64) {
        let mut taken = 0;
        while taken < needed {
            let next = self.next_us;
            let Some(frame) = self.frames.pop_front_if(|f| f.start_us <= next + NEAR_US) else {
                break;
            };
            let until = match self.frames.front() {
                Some(follower) => (follower.start_us - frame.start_us).min(self.frame_us),
                None => self.frame_us,
            };
            let waited = self.waited_us(frame).unsigned_abs();
            self.silent_us = 0;
            self.interval.played += 1;
            self.interval.delay_sum_us += waited;
            self.interval.delay_max_us = self.interval.delay_max_us.max(waited);
            self.burst.handle_received();
            self.next_us = frame.start_us + until;
            self.left_us += until;
            taken += until;
        }
        if taken > 0 {
            self.last = Last::Audio;
            self.generated_us = 0;
        }
    }

    /// Makes something up for this tick: concealment, or the silence that the sender left out.
    fn fill(&mut self) {
        let made_up = TICK_US - self.left_us;
        self.heard_tail();
        self.generated_us += TICK_US;
        let left_out = self.frames.front().map_or(0, |front| front.before_us() - self.silent_us);
        let silence = left_out.clamp(0, made_up);
        self.silent_us += silence;
        if silence > 0 || self.last == Last::Silence {
            self.last = Last::Silence;
            self.interval.total_us += made_up.unsigned_abs();
        } else {
            self.last = Last::Concealment;
            self.dry_us += made_up;
        }
    }

    /// Gives up what is missing before the next frame, and plays that.
    fn skip(&mut self) {
        if let Some(front) = self.frames.front() {
            let missing = front.start_us - self.next_us - front.before_us();
            if missing > 0 {
                let frames = (missing + self.frame_us / 2) / self.frame_us.max(1);
                self.burst.handle_missing(frames.unsigned_abs());
            }
            self.next_us = front.start_us;
        }
        self.extract(TICK_US - self.left_us);
    }

    fn stretch(&mut self) {
        if self.left_us < 2 * TICK_US && self.frame_us < STRETCH_NEEDS_US {
            self.extract(2 * TICK_US);
        } else if self.left_us < TICK_US {
            self.extract(TICK_US);
        }
        self.left_us += STRETCH_US;
        self.interval.stretched_us += STRETCH_US.unsigned_abs();
        self.stretch_in = STRETCH_APART_TICKS;
    }

    fn compress(&mut self) {
        if self.left_us < 2 * TICK_US && self.frame_us < STRETCH_NEEDS_US {
            // Audio is gathered first; the next tick can do it.
            self.extract(2 * TICK_US);
            return;
        }
        if self.left_us < STRETCH_NEEDS_US {
            self.extract(TICK_US);
        }
        if self.left_us >= STRETCH_NEEDS_US {
            self.left_us -= STRETCH_US;
            self.interval.compressed_us += STRETCH_US.unsigned_abs();
            self.stretch_in = STRETCH_APART_TICKS;
        }
    }

    /// All that was heard so far.
    #[must_use]
    pub fn total(&self) -> PlayoutTally {
        self.before.with(&self.interval)
    }

    /// What was heard since the last interval was taken.
    #[must_use]
    pub fn interval(&self) -> PlayoutTally {
        self.interval
    }

    /// What was heard since this was called last.
    pub fn take_interval(&mut self) -> PlayoutTally {
        let interval = std::mem::take(&mut self.interval);
        self.before = self.before.with(&interval);
        interval
    }

    /// The frames as they were heard, in bursts and gaps.
    #[must_use]
    pub fn burst(&self) -> BurstReport {
        self.burst.report()
    }

    /// The present length of a frame.
    #[must_use]
    pub fn frame(&self) -> Duration {
        Duration::from_micros(self.frame_us.unsigned_abs())
    }
}

/// The later of two RTP times.
fn later(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one).cast_signed() > 0 { other } else { one }
}
