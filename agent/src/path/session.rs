//! What became of the probes of one session: one target, one numbering.
//!
//! A probe's fate is first unknown. An answer settles it. Without one, what the target says that it received tells the
//! direction: a probe that did not arrive was lost on the way there, the answer to one that did on the way back. That
//! word may come long after the probe, once a path that was cut works again, so an interval is told when
//! - three seconds have passed since its end ([`SETTLE`]), in which answers may still come, and
//! - the fate of each of its probes is known, or 75 s have passed ([`PLACE_MAX`]), or the session ended.
//!
//! What is unknown even then is told as unplaced. Probes that left in the last three seconds of a session are not told
//! at all: their answers were cut off by its end and not by the path.
//!
//! Invariant, of each report: sent = returned + unplaced + lost up + lost down. Whatever a target says, it changes
//! figures of probes that did leave and were not told yet, each once: at most [`PROBES_MAX`] of them are remembered.

use std::collections::VecDeque;
use std::time::Duration;

use roomtone_protocol::id::CallId;
use roomtone_protocol::path::PathConnection;

use super::jitter::Jitter;
use crate::clock::Moment;

/// Probes that are remembered: what one receipt tells of.
pub const PROBES_MAX: usize = 1024;
/// How long answers are waited for behind the end of their interval. Who speaks to whom over a round trip of three
/// seconds does not converse (ITU-T G.114 plans for 0.3).
pub const SETTLE: Duration = Duration::from_secs(3);
/// How long an interval waits for word of its last probes: a connection that carries nothing dies after 60 s.
pub const PLACE_MAX: Duration = Duration::from_secs(75);

/// What a target answers to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The probe.
    pub sequence: u32,
    /// The answer's own number, in the order in which the target sent them.
    pub number: u32,
    /// When the probe arrived, by the target's clock, in microseconds.
    pub received_us: u64,
    /// How long the target held it, in microseconds.
    pub held_us: u32,
    /// Whether a later probe had arrived before.
    pub is_behind: bool,
}

/// Figures of one interval, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// When it began.
    pub started: Moment,
    /// When it ended.
    pub ended: Moment,
    /// The call that was on.
    pub call: Option<CallId>,
    /// What the connection knew by itself at its end.
    pub connection: Option<PathConnection>,
    /// Probes that left.
    pub sent: u32,
    /// Probes that came back.
    pub returned: u32,
    /// Probes lost on the way there.
    pub lost_up: u32,
    /// Answers lost on the way back.
    pub lost_down: u32,
    /// Probes that did not come back, in a direction that nothing tells.
    pub unplaced: u32,
    /// Probes that arrived behind a later one.
    pub reordered_up: u32,
    /// Answers that arrived behind a later one.
    pub reordered_down: u32,
    /// Answers that came again.
    pub duplicate: u32,
    /// Of the probes that came back: smallest, mean and largest round trip; 0 where none did.
    pub rtt_us: [u32; 3],
    /// The mean, over the probes that came back, of the jitter's estimate after each; 0 before there is one.
    pub jitter_up_us: u32,
    /// The same of the answers.
    pub jitter_down_us: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Session {
    probes: VecDeque<Probe>,
    /// The number of the probe that leaves next.
    next: u32,
    open: Interval,
    /// Those before, the oldest first; each has probes.
    closed: VecDeque<Interval>,
    reports: VecDeque<Report>,
    up: Jitter,
    down: Jitter,
    /// The answer with the highest number.
    newest_answer: Option<u32>,
    /// The probe with the highest number that came back.
    newest_returned: Option<u32>,
    strange: u64,
}

/// A stretch of probes that follow each other.
#[derive(Debug, Clone, Copy)]
struct Interval {
    started: Moment,
    ended: Moment,
    call: Option<CallId>,
    connection: Option<PathConnection>,
    sent: usize,
}

impl Interval {
    fn begin(call: Option<CallId>, now: Moment) -> Self {
        Self { started: now, ended: now, call, connection: None, sent: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    left: Moment,
    fate: Fate,
    jitter_up_us: Option<u32>,
    jitter_down_us: Option<u32>,
    is_behind_up: bool,
    is_behind_down: bool,
    duplicate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing was said of it.
    Unknown,
    /// It had not arrived when the target was last heard of it.
    Missing,
    /// It arrived; its answer has not come.
    Arrived,
    /// Its answer came after so many microseconds, those at the target taken off.
    Returned(u32),
}

impl Session {
    /// Forgets how far the target has counted its answers, which it does anew.
    pub fn forget_answers(&mut self) {
        self.newest_answer = None;
        self.down = Jitter::default();
    }

    /// Begins with probe 0; `call` is the one that is on.
    #[must_use]
    pub fn new(call: Option<CallId>, now: Moment) -> Self {
        Self {
            probes: VecDeque::new(),
            next: 0,
            open: Interval::begin(call, now),
            closed: VecDeque::new(),
            reports: VecDeque::new(),
            up: Jitter::default(),
            down: Jitter::default(),
            newest_answer: None,
            newest_returned: None,
            strange: 0,
        }
    }

    /// The number of the probe that leaves next.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Answers that fit no probe which left, as a defect or a stranger might send.
    #[must_use]
    pub fn strange(&self) -> u64 {
        self.strange
    }

    /// When the open interval began.
    #[must_use]
    pub fn started(&self) -> Moment {
        self.open.started
    }

    /// How far back the oldest probe is whose fate is unknown; 0 for none.
    #[must_use]
    pub fn unknown_behind(&self) -> usize {
        let oldest = self.probes.iter().position(|probe| probe.fate == Fate::Unknown);
        oldest.map_or(0, |at| self.probes.len() - at)
    }

    /// The next probe left at `now`.
    pub fn handle_sent(&mut self, now: Moment) {
        while self.probes.len() >= PROBES_MAX {
            if self.closed.is_empty() {
                self.close(None, self.open.call, now);
            }
            self.tell();
        }
        self.probes.push_back(Probe {
            left: now,
            fate: Fate::Unknown,
            jitter_up_us: None,
            jitter_down_us: None,
            is_behind_up: false,
            is_behind_down: false,
            duplicate: 0,
        });
        self.next = self.next.wrapping_add(1);
        self.open.sent += 1;
    }

    /// An answer came at `now`.
    pub fn handle_answer(&mut self, answer: Answer, now: Moment) {
        let Some(at) = self.index(answer.sequence) else {
            self.strange += u64::from(!self.was_told(answer.sequence));
            return;
        };
        let is_newest_answer = is_newer(answer.number, self.newest_answer);
        let is_newest_returned = is_newer(answer.sequence, self.newest_returned);
        let probe = &mut self.probes[at];
        if let Fate::Returned(_) = probe.fate {
            probe.duplicate = probe.duplicate.saturating_add(1);
            return;
        }
        let whole = u32::try_from(now.since(probe.left).as_micros()).unwrap_or(u32::MAX);
        probe.fate = Fate::Returned(whole.saturating_sub(answer.held_us));
        probe.is_behind_up = answer.is_behind;
        probe.is_behind_down = !is_newest_answer;
        if is_newest_returned {
            self.newest_returned = Some(answer.sequence);
            probe.jitter_up_us = self.up.handle(probe.left.as_micros(), answer.received_us);
        }
        if is_newest_answer {
            self.newest_answer = Some(answer.number);
            let sent_us = answer.received_us.wrapping_add(u64::from(answer.held_us));
            probe.jitter_down_us = self.down.handle(sent_us, now.as_micros());
        }
    }

    /// The target says which of the latest probes it received: bit n % 64 of word n / 64 is the probe `latest - n`.
    pub fn handle_account(&mut self, latest: u32, bits: &[u64]) {
        // What is ahead of all that left is nobody's account.
        let ahead = latest.wrapping_sub(self.next).cast_signed();
        if ahead >= 0 {
            self.strange += 1;
            return;
        }
        for back in 0..(bits.len() * 64).min(PROBES_MAX) {
            let back_u32 = u32::try_from(back).expect("1,024 at most");
            let Some(at) = self.index(latest.wrapping_sub(back_u32)) else { continue };
            let has_arrived = bits[back / 64] >> (back % 64) & 1 == 1;
            let fate = &mut self.probes[at].fate;
            *fate = match (*fate, has_arrived) {
                (Fate::Unknown | Fate::Missing, true) => Fate::Arrived,
                (Fate::Unknown | Fate::Missing, false) => Fate::Missing,
                (known @ (Fate::Arrived | Fate::Returned(_)), _) => known,
            };
        }
    }

    /// Of the `count` probes from `first` on, `arrived` arrived at the target; which of them, nothing tells.
    pub fn handle_gap(&mut self, first: u32, count: u32, arrived: u32) {
        for n in 0..count.min(PROBES_MAX as u32) {
            let Some(at) = self.index(first.wrapping_add(n)) else { continue };
            let fate = &mut self.probes[at].fate;
            if let Fate::Unknown | Fate::Missing = *fate {
                *fate = if n < arrived { Fate::Arrived } else { Fate::Missing };
            }
        }
    }

    /// Ends the open interval, of which the connection says this, and begins the next; `call` is the one that is on
    /// from now on.
    pub fn close(&mut self, connection: Option<PathConnection>, call: Option<CallId>, now: Moment) {
        let ended = Interval { ended: now, connection, ..self.open };
        if ended.sent > 0 {
            self.closed.push_back(ended);
        }
        self.open = Interval::begin(call, now);
    }

    /// Makes reports of what is ripe.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(interval) = self.closed.front() {
            let waited = now.since(interval.ended);
            let mut probes = self.probes.iter().take(interval.sent);
            let is_known = probes.all(|probe| probe.fate != Fate::Unknown);
            if waited < SETTLE || (!is_known && waited < PLACE_MAX) {
                break;
            }
            self.tell();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do at the latest.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let interval = self.closed.front()?;
        let settled = interval.ended + SETTLE;
        Some(if now < settled { settled } else { interval.ended + PLACE_MAX })
    }

    /// The session is over, as when its connection broke; of the open interval the connection says this.
    pub fn end(&mut self, connection: Option<PathConnection>, now: Moment) {
        self.close(connection, None, now);
        // What is left after this was withdrawn: the latest probes are those of the latest intervals.
        while let Some(probe) = self.probes.back() {
            let is_cut = now.since(probe.left) < SETTLE && !matches!(probe.fate, Fate::Returned(_));
            let Some(interval) = self.closed.back_mut() else { break };
            if !is_cut {
                break;
            }
            self.probes.pop_back();
            interval.sent -= 1;
            if interval.sent == 0 {
                self.closed.pop_back();
            }
        }
        while !self.closed.is_empty() {
            self.tell();
        }
    }

    /// The next report.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Tells of the oldest closed interval and forgets its probes.
    fn tell(&mut self) {
        let Some(interval) = self.closed.pop_front() else { return };
        let report = report(&interval, self.probes.drain(..interval.sent));
        self.reports.push_back(report);
    }

    /// Where a probe is remembered.
    fn index(&self, sequence: u32) -> Option<usize> {
        let behind = usize::try_from(self.next.wrapping_sub(sequence)).ok()?;
        self.probes.len().checked_sub(behind).filter(|at| *at < self.probes.len())
    }

    /// Whether a probe of that number left and was told: its answer is late and nothing worse.
    fn was_told(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.next).cast_signed() < 0
    }
}

/// Whether `number` is ahead of all before it, by the shorter way round.
fn is_newer(number: u32, newest: Option<u32>) -> bool {
    newest.is_none_or(|newest| number.wrapping_sub(newest).cast_signed() > 0)
}

fn report(interval: &Interval, probes: impl Iterator<Item = Probe>) -> Report {
    let mut report = Report {
        started: interval.started,
        ended: interval.ended,
        call: interval.call,
        connection: interval.connection,
        sent: 0,
        returned: 0,
        lost_up: 0,
        lost_down: 0,
        unplaced: 0,
        reordered_up: 0,
        reordered_down: 0,
        duplicate: 0,
        rtt_us: [0; 3],
        jitter_up_us: 0,
        jitter_down_us: 0,
    };
    let (mut rtt, mut up, mut down) = (Mean::default(), Mean::default(), Mean::default());
    let (mut least, mut most) = (u32::MAX, 0);
    for probe in probes {
        report.sent += 1;
        match probe.fate {
            Fate::Unknown => report.unplaced += 1,
            Fate::Missing => report.lost_up += 1,
            Fate::Arrived => report.lost_down += 1,
            Fate::Returned(us) => {
                report.returned += 1;
                rtt.add(us);
                (least, most) = (least.min(us), most.max(us));
            }
        }
        report.reordered_up += u32::from(probe.is_behind_up);
        report.reordered_down += u32::from(probe.is_behind_down);
        report.duplicate = report.duplicate.saturating_add(probe.duplicate);
        probe.jitter_up_us.into_iter().for_each(|us| up.add(us));
        probe.jitter_down_us.into_iter().for_each(|us| down.add(us));
    }
    if report.returned > 0 {
        report.rtt_us = [least, rtt.value(), most];
    }
    report.jitter_up_us = up.value();
    report.jitter_down_us = down.value();
    report
}

/// An arithmetic mean of at most [`PROBES_MAX`] numbers; 0 of none.
#[derive(Default)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, number: u32) {
        self.sum += u64::from(number);
        self.count += 1;
    }

    fn value(&self) -> u32 {
        let mean = self.sum.checked_div(self.count).unwrap_or(0);
        u32::try_from(mean).expect("a mean is no larger than the largest of its numbers")
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
