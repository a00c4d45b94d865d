//! One side of the call: when it speaks, when it checks consent, what it answers.
//!
//! Frames leave on an absolute schedule, so that a late wake-up delays one frame and no other. A
//! talker that stood still for more than a second skips the frames it missed.
//!
//! Where the other side is another machine, voice flows only with its consent (RFC 7675): not before
//! it answered a check, and no longer than 30 s after its last answer. Nobody can make a talker
//! speak to an address that does not answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::random::Random;
use super::report::{Checks, Kind};
use super::rtp::{FRAME, Voice};
use super::stun::{self, Class, Message, Transaction};
use crate::clock::Moment;

/// The middle of the time between two checks; Chromium's, half of RFC 7675's.
const CHECK: Duration = Duration::from_millis(2_500);
/// Between checks until the first answer: the initial RTO of RFC 8489 section 6.2.1.
const OPENING_CHECK: Duration = Duration::from_millis(500);
/// How long to wait for the first answer: longer than the longest round trip that can be asked
/// for at one end (5 s each way without jitter).
pub(super) const OPENING_MAX: Duration = Duration::from_secs(10);
/// RFC 7675 section 5.1.
const CONSENT_MAX: Duration = Duration::from_secs(30);
/// How far behind the schedule frames are still sent.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Checks awaiting their answer: 20 in the opening (10 s / 500 ms), and half as many again.
const OPEN_MAX: usize = 32;
/// RFC 3550 section 5.1.
const RTP_HEADER_BYTES: usize = 12;

/// Whether the other side is known to want the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// It runs in this process.
    Given,
    /// It has to answer checks.
    Asked,
}

/// Why a talker fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// All frames are spoken.
    Done,
    /// It was told to.
    HungUp,
    /// The first check was never answered.
    NoAnswer,
    /// The answers stopped.
    ConsentLost,
}

/// What a datagram was to the talker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Part of the call, and there is nothing to do.
    Taken(Kind),
    /// A check, to be answered with these bytes.
    Check(Vec<u8>),
    /// None of the rehearsal's.
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Talking,
    Silent(Silence),
}

/// One side of the call.
#[derive(Debug)]
pub(super) struct Talker {
    voice: Voice,
    random: Random,
    consent: Consent,
    phase: Phase,
    frames_left: u32,
    frames_skipped: u64,
    frame_due: Moment,
    check_due: Moment,
    /// When consent was given last, or asked for first.
    consent_at: Moment,
    /// Checks that left the socket and await their answer, oldest first.
    open: VecDeque<(Transaction, Moment)>,
    checks: Checks,
}

impl Talker {
    /// A side that begins now and will speak for `seconds`.
    pub(super) fn new(seconds: u32, consent: Consent, random: &Random, now: Moment) -> Self {
        let mut random = random.fork(1);
        // Two sides of one process must not speak in step: their frames would meet in the relay.
        let offset = Duration::from_nanos(random.below(FRAME.as_nanos() as u64));
        Self {
            voice: Voice::new(random.fork(2)),
            random,
            consent,
            phase: match consent {
                Consent::Given => Phase::Talking,
                Consent::Asked => Phase::Opening,
            },
            frames_left: seconds * 50, // 20 ms each; at most 180,000
            frames_skipped: 0,
            frame_due: now + offset,
            check_due: now,
            consent_at: now,
            open: VecDeque::new(),
            checks: Checks::default(),
        }
    }

    /// Returns the next datagram that is due, if any is.
    pub(super) fn poll(&mut self, now: Moment) -> Option<Vec<u8>> {
        if let Some((deadline, silence)) = self.consent_ends()
            && deadline <= now
        {
            self.phase = Phase::Silent(silence);
        }
        match self.phase {
            Phase::Silent(_) => None,
            Phase::Opening | Phase::Talking if self.check_due <= now => Some(self.check(now)),
            Phase::Opening => None,
            Phase::Talking => self.frame(now),
        }
    }

    /// When [`Self::poll`] will have something to do; `None` once silent.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let deadline = self.consent_ends().map(|(deadline, _)| deadline);
        let frame = match self.phase {
            Phase::Silent(_) => return None,
            Phase::Opening => None,
            Phase::Talking => Some(self.frame_due),
        };
        [Some(self.check_due), frame, deadline].into_iter().flatten().min()
    }

    /// Takes note of a datagram of this side that left the socket.
    pub(super) fn handle_sent(&mut self, bytes: &[u8], now: Moment) {
        let Some(Message { class: Class::Request, transaction, .. }) = stun::read(bytes) else {
            return;
        };
        if self.open.iter().any(|(open, _)| *open == transaction) {
            return; // the second copy of a check that was duplicated on purpose
        }
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back((transaction, now));
        self.checks.requests += 1;
    }

    /// Takes in a datagram that `source` sent to this side.
    pub(super) fn handle(&mut self, bytes: &[u8], source: SocketAddr, now: Moment) -> Heard {
        match Kind::of(bytes) {
            Some(Kind::Rtp) if bytes.len() >= RTP_HEADER_BYTES => Heard::Taken(Kind::Rtp),
            Some(Kind::Stun) => match stun::read(bytes) {
                Some(Message { class: Class::Request, transaction, .. }) => {
                    self.checks.answered += 1;
                    Heard::Check(stun::response(transaction, source))
                }
                Some(Message { class: Class::Success, transaction, .. }) => {
                    self.handle_answer(&transaction, now);
                    Heard::Taken(Kind::Stun)
                }
                None => Heard::Foreign,
            },
            Some(Kind::Rtp) | None => Heard::Foreign,
        }
    }

    /// Falls silent; checks of the other side are still answered.
    pub(super) fn hang_up(&mut self) {
        if self.silence().is_none() {
            self.phase = Phase::Silent(Silence::HungUp);
        }
    }

    /// Why this side is silent, once it is.
    pub(super) fn silence(&self) -> Option<Silence> {
        match self.phase {
            Phase::Opening | Phase::Talking => None,
            Phase::Silent(silence) => Some(silence),
        }
    }

    /// The SSRC that this side sends.
    pub(super) fn ssrc(&self) -> u32 {
        self.voice.ssrc()
    }

    /// What became of the consent checks so far.
    pub(super) fn checks(&self) -> Checks {
        self.checks
    }

    /// Frames left out after standing still.
    pub(super) fn frames_skipped(&self) -> u64 {
        self.frames_skipped
    }

    fn check(&mut self, now: Moment) -> Vec<u8> {
        self.check_due = now
            + match self.phase {
                Phase::Opening => OPENING_CHECK,
                Phase::Talking | Phase::Silent(_) => self.check_interval(),
            };
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.random.next().to_be_bytes());
        transaction[8..].copy_from_slice(&self.random.next().to_be_bytes()[..4]);
        stun::request(transaction)
    }

    /// RFC 7675 section 5.1: 0.8 to 1.2 times the middle.
    fn check_interval(&mut self) -> Duration {
        let spread = (CHECK * 2 / 5).as_nanos() as u64; // 1 s
        CHECK * 4 / 5 + Duration::from_nanos(self.random.below(spread + 1))
    }

    fn frame(&mut self, now: Moment) -> Option<Vec<u8>> {
        while self.frames_left > 0 && now.since(self.frame_due) > BEHIND_MAX {
            self.voice.skip();
            self.frames_skipped += 1;
            self.count_frame();
        }
        if self.frames_left == 0 || self.frame_due > now {
            return None;
        }
        let packet = self.voice.packet();
        self.count_frame();
        Some(packet)
    }

    fn count_frame(&mut self) {
        self.frame_due = self.frame_due + FRAME;
        self.frames_left -= 1;
        if self.frames_left == 0 {
            self.phase = Phase::Silent(Silence::Done);
        }
    }

    fn handle_answer(&mut self, transaction: &Transaction, now: Moment) {
        let Some(at) = self.open.iter().position(|(open, _)| open == transaction) else {
            self.checks.repeated += 1;
            return;
        };
        if let Some((_, sent)) = self.open.remove(at) {
            self.checks.rtt.add(now.since(sent));
        }
        self.consent_at = now;
        if self.phase == Phase::Opening {
            self.phase = Phase::Talking;
            self.frame_due = now;
            self.check_due = now + self.check_interval();
        }
    }

    /// When this side must fall silent for want of answers, and what that will be called.
    fn consent_ends(&self) -> Option<(Moment, Silence)> {
        match (self.consent, self.phase) {
            (Consent::Given, _) | (Consent::Asked, Phase::Silent(_)) => None,
            (Consent::Asked, Phase::Opening) => {
                Some((self.consent_at + OPENING_MAX, Silence::NoAnswer))
            }
            (Consent::Asked, Phase::Talking) => {
                Some((self.consent_at + CONSENT_MAX, Silence::ConsentLost))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_nanos(1_000_000_000);

    fn peer() -> SocketAddr {
        "192.0.2.1:32853".parse().unwrap()
    }

    fn talker(seconds: u32, consent: Consent) -> Talker {
        Talker::new(seconds, consent, &Random::new(11), START)
    }

    /// Runs until silent or `until`; answers every check at once where `answers`. Returns what left
    /// and when.
    fn drive(talker: &mut Talker, until: Moment, answers: bool) -> Vec<(Moment, Kind)> {
        let mut sent = Vec::new();
        while let Some(due) = talker.poll_timeout().filter(|due| *due <= until) {
            while let Some(bytes) = talker.poll(due) {
                let kind = Kind::of(&bytes).unwrap();
                sent.push((due, kind));
                talker.handle_sent(&bytes, due);
                if kind == Kind::Stun && answers {
                    let transaction = stun::read(&bytes).unwrap().transaction;
                    let answer = stun::response(transaction, peer());
                    talker.handle(&answer, peer(), due + Duration::from_millis(80));
                }
            }
        }
        sent
    }

    fn times(sent: &[(Moment, Kind)], kind: Kind) -> Vec<Moment> {
        sent.iter().filter(|sent| sent.1 == kind).map(|sent| sent.0).collect()
    }

    #[test]
    fn frames_leave_every_20_ms_and_as_many_as_asked() {
        let mut talker = talker(60, Consent::Given);
        let sent = drive(&mut talker, START + Duration::from_secs(100), true);
        let frames = times(&sent, Kind::Rtp);
        assert_eq!(frames.len(), 60 * 50);
        assert!(frames.windows(2).all(|pair| pair[1].since(pair[0]) == FRAME));
        assert_eq!(talker.silence(), Some(Silence::Done));
    }

    #[test]
    fn checks_leave_at_the_randomised_interval() {
        let mut talker = talker(3_600, Consent::Given);
        let sent = drive(&mut talker, START + Duration::from_secs(4_000), true);
        let checks = times(&sent, Kind::Stun);
        assert_eq!(checks[0], START);
        let gaps: Vec<_> = checks.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(gaps.iter().all(|gap| (2_000..=3_000).contains(&gap.as_millis())));
        // 3,600 s at a mean of 2.5 s: 1,440, each gap with a standard deviation of 289 ms; four
        // standard deviations are 4 * 0.289 * sqrt(1,440) / 2.5 = 18.
        assert!(checks.len().abs_diff(1_440) <= 18, "{} checks", checks.len());
        assert_eq!(talker.checks().requests, checks.len() as u64);
        assert_eq!(talker.checks().rtt.count, checks.len() as u64);
        assert_eq!(talker.checks().rtt.max, Duration::from_millis(80));
    }

    #[test]
    fn voice_waits_for_consent() {
        let mut talker = talker(1, Consent::Asked);
        let sent = drive(&mut talker, START + Duration::from_secs(60), false);
        // A check each 500 ms from 0 to 9.5 s; at 10 s it gives up.
        assert_eq!(times(&sent, Kind::Stun).len(), 20);
        assert_eq!(times(&sent, Kind::Rtp).len(), 0);
        assert_eq!(talker.silence(), Some(Silence::NoAnswer));
    }

    #[test]
    fn first_answer_starts_the_voice() {
        let mut talker = talker(1, Consent::Asked);
        let sent = drive(&mut talker, START + Duration::from_secs(60), true);
        let frames = times(&sent, Kind::Rtp);
        assert_eq!(frames.len(), 50);
        assert_eq!(frames[0], START + Duration::from_millis(80));
        assert_eq!(talker.silence(), Some(Silence::Done));
    }

    #[test]
    fn voice_ends_30_s_after_the_last_answer() {
        let mut talker = talker(3_600, Consent::Asked);
        let answered = START + Duration::from_secs(5);
        drive(&mut talker, answered, true);
        let last = talker.consent_at;
        let sent = drive(&mut talker, START + Duration::from_secs(60), false);
        assert_eq!(talker.silence(), Some(Silence::ConsentLost));
        let end = sent.last().unwrap().0;
        assert!(end < last + CONSENT_MAX && end + FRAME >= last + CONSENT_MAX);
    }

    #[test]
    fn frames_missed_in_a_stand_still_are_skipped() {
        let mut talker = talker(60, Consent::Given);
        drive(&mut talker, START + Duration::from_secs(1), true);
        // 10 s later: of what was missed all but the last second is skipped, the rest is sent.
        let later = START + Duration::from_secs(11);
        let mut caught_up = 0;
        while let Some(bytes) = talker.poll(later) {
            caught_up += u64::from(Kind::of(&bytes) == Some(Kind::Rtp));
        }
        assert_eq!(caught_up + talker.frames_skipped(), 500);
        assert_eq!(caught_up, 50);
    }

    #[test]
    fn check_is_answered_even_in_silence() {
        let mut talker = talker(1, Consent::Given);
        talker.hang_up();
        let check = stun::request([7; 12]);
        assert_eq!(
            talker.handle(&check, peer(), START),
            Heard::Check(stun::response([7; 12], peer()))
        );
        assert_eq!(talker.checks().answered, 1);
    }

    #[test]
    fn second_answer_is_no_second_round_trip() {
        let mut talker = talker(1, Consent::Given);
        let check = talker.poll(START).unwrap();
        talker.handle_sent(&check, START);
        talker.handle_sent(&check, START);
        let answer = stun::response(stun::read(&check).unwrap().transaction, peer());
        for delay_ms in [10, 30] {
            let heard = talker.handle(&answer, peer(), START + Duration::from_millis(delay_ms));
            assert_eq!(heard, Heard::Taken(Kind::Stun));
        }
        let checks = talker.checks();
        assert_eq!((checks.requests, checks.repeated, checks.rtt.count), (1, 1, 1));
        assert_eq!(checks.rtt.max, Duration::from_millis(10));
    }

    #[test]
    fn garbage_is_foreign() {
        let mut talker = talker(1, Consent::Given);
        let mut broken = stun::request([7; 12]);
        broken[30] ^= 1;
        for bytes in [&b""[..], b"\x80", b"\x16\x03", b"\xff\xff", &broken, &[0; 20]] {
            assert_eq!(talker.handle(bytes, peer(), START), Heard::Foreign, "{bytes:?}");
        }
    }

    #[test]
    fn unanswered_checks_are_bounded() {
        let mut talker = talker(3_600, Consent::Given);
        drive(&mut talker, START + Duration::from_secs(3_600), false);
        assert_eq!(talker.open.len(), OPEN_MAX);
    }
}
