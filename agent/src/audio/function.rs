//! Whether one device functions in one direction: the state machine (design section 4.3).
//!
//! Sans-I/O: [`Function::handle_signal`], [`Function::handle_call`] and [`Function::handle_timeout`] feed it,
//! [`Function::poll_event`] drains it, [`Function::poll_timeout`] says when it wants to be woken.
//!
//! A fault is one in a call, or while another process uses the device, and only a call has a ratio. It counts from the
//! moment of the last progress: what was not yet certain when it happened is accounted when it becomes so. Time is
//! therefore *settled* behind the present by at most the limit that is running. A verdict that rests on polls reaches
//! to the last poll; one that rests on an announcement (removed, muted, closed) reaches to the present. Where polls
//! of an open device stop, nothing is known from the last one on.
//!
//! Muted is never bad, closed is never bad, and neither is a device that no process held when it left. The removal of
//! a device in use outlasts its mute: what is gone is not silent on purpose.

use std::collections::VecDeque;

use roomtone_protocol::device::{DeviceCause, DeviceSide};
use serde::{Deserialize, Serialize};

use super::accounting::{Class, Setting, Tail, Tally};
use super::carry::nanos;
use super::constants::{DETECTOR_VERSION, EVENTS_MAX, POLL_INTERVAL, RESTART_GAP_MAX, Thresholds};
use super::course::Format;
use super::episode::{Episode, Track};
use super::floor::FloorKind;
use crate::clock::Moment;

mod evidence;
mod verdict;

use evidence::Evidence;
use verdict::Verdict;

pub use super::signal::{Blindness, DeviceKey, OpenFailure, PcmState, SelfTestOutcome, Signal};

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not on the bus, and not missed by a call.
    Absent,
    /// Nobody uses it, or its user paused it. Never bad.
    Idle,
    /// Started and not yet due to deliver.
    Starting,
    /// In use by a call, or by us, and moving.
    Functioning,
    /// Evidence of a fault that does not count: nobody but us uses the device, or the microphone's floor is not known
    /// to differ from zero.
    Suspect,
    /// In use and muted on purpose. Never bad.
    Muted,
    /// Held by another process outside of a call, and moving. Never bad.
    Busy,
    /// See the cause.
    NotFunctioning(DeviceCause),
    /// Neither good nor bad.
    Unobservable(Blindness),
}

/// What a machine has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The state changed.
    StateChanged {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Since when, dated back to the last progress where that is known.
        since: Moment,
    },
    /// A fault began to count.
    EpisodeOpened(Episode),
    /// It goes on, paused, or went on again.
    EpisodeChanged(Episode),
    /// It is over.
    EpisodeClosed(Episode),
}

/// What a machine needs to know beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When a device counts as not functioning.
    pub thresholds: Thresholds,
    /// Microphone or loudspeaker: levels judge microphones only, a loudspeaker may have nothing to say.
    pub side: DeviceSide,
    /// The agent's own process: what we hold ourselves is not busy.
    pub own_pid: u32,
    /// Random bits from which episode ids are drawn; different for each device.
    pub seed: u64,
}

/// How far a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It samples: what changed may have changed at any time since the last sample.
    Sample,
    /// It announces: what changed changed now.
    Announcement,
}

/// What outlives the process. Written whenever an episode changed and while one is open; read back by
/// [`Function::restore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    detector: u16,
    #[serde(with = "nanos")]
    now: Moment,
    #[serde(with = "nanos")]
    settled: Moment,
    #[serde(with = "nanos")]
    watching_since: Moment,
    in_call: bool,
    tally: Tally,
    track: Track,
    evidence: Evidence,
}

impl Carry {
    /// The episode that was open.
    #[must_use]
    pub fn episode(&self) -> Option<&Episode> {
        self.track.open()
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Function {
    options: Options,
    evidence: Evidence,
    in_call: bool,
    tally: Tally,
    /// What of the tally a call's end may still take back; not carried over a restart.
    tail: Tail,
    track: Track,
    verdict: Verdict,
    since: Moment,
    /// The last moment heard of: time never goes backwards.
    now: Moment,
    /// Everything before is accounted for.
    settled: Moment,
    /// When this process began to watch: polls missed before are not held against anybody.
    watching_since: Moment,
    events: VecDeque<Event>,
    events_dropped: u64,
    ids: u64,
}

impl Function {
    /// Makes a machine that knows nothing of its device: absent until it appears.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let absent = Verdict {
            state: State::Absent,
            bad: None,
            certain: Moment::ORIGIN,
            setting: Setting::default(),
        };
        Self {
            ids: options.seed,
            options,
            evidence: Evidence::default(),
            in_call: false,
            tally: Tally::default(),
            tail: Tail::default(),
            track: Track::default(),
            verdict: absent,
            since: Moment::ORIGIN,
            now: Moment::ORIGIN,
            settled: Moment::ORIGIN,
            watching_since: Moment::ORIGIN,
            events: VecDeque::new(),
            events_dropped: 0,
        }
    }

    /// Goes on where an earlier process of the same boot stopped. The open episode keeps its id; what lay between is
    /// judged by what is seen next.
    ///
    /// A carry of another boot, of other rules, or that cannot be true, is not used.
    #[must_use]
    pub fn restore(options: Options, carry: &Carry, now: Moment) -> Self {
        let mut function = Self::new(options);
        let usable = carry.detector == DETECTOR_VERSION
            && carry.now <= now
            && carry.settled <= carry.now
            && carry.tally.is_consistent();
        if !usable {
            return function;
        }
        function.evidence = carry.evidence;
        function.in_call = carry.in_call;
        function.tally = carry.tally;
        function.track = carry.track;
        function.now = carry.now;
        function.settled = carry.settled;
        // Polls that were missed while no agent ran are not held against anybody.
        let was_down = now > carry.now;
        function.watching_since = if was_down { now } else { carry.watching_since };
        function.verdict = function.assess(carry.now);
        function.since = carry.now;
        if now.since(carry.now) > RESTART_GAP_MAX {
            function.step(now, Reach::Announcement, |machine, _| {
                machine.settle(Class::Unobserved, Setting::default(), now);
                machine.evidence.blindness = Some(Blindness::NotPolled);
            });
        }
        function
    }

    /// What to write down so that a restart neither loses nor doubles anything.
    #[must_use]
    pub fn carry(&self) -> Carry {
        Carry {
            detector: DETECTOR_VERSION,
            now: self.now,
            settled: self.settled,
            watching_since: self.watching_since,
            in_call: self.in_call,
            tally: self.tally,
            track: self.track,
            evidence: self.evidence,
        }
    }

    /// Takes one signal. A moment before its predecessor's counts as its predecessor's.
    pub fn handle_signal(&mut self, signal: &Signal, now: Moment) {
        match signal {
            Signal::Progress { pcm_state: PcmState::Disconnected, .. } | Signal::Removed => {
                self.step(now, Reach::Announcement, Self::note_removed);
            }
            Signal::Appeared => self.step(now, Reach::Announcement, |machine, _| {
                machine.note_present();
            }),
            &Signal::Opened { rate_hz, period_frames, buffer_frames, owner_pid } => {
                let format = Format { rate_hz, period_frames, buffer_frames, owner_pid };
                let known = self.evidence.course.is_some_and(|course| course.format() == format);
                let reach = if known { Reach::Sample } else { Reach::Announcement };
                self.step(now, reach, |machine, now| machine.note_opened(format, now));
            }
            &Signal::Progress { pcm_state, hw_ptr_frames } => {
                self.step(now, Reach::Sample, |machine, now| {
                    machine.note_progress(pcm_state, hw_ptr_frames, now);
                });
            }
            Signal::Xrun => self.step(now, Reach::Sample, |machine, _| machine.note_glitch()),
            Signal::Closed => self.step(now, Reach::Announcement, Self::note_closed),
            Signal::Tried => self.step(now, Reach::Announcement, Self::note_tried),
            &Signal::Muted(is_muted) => {
                if is_muted != self.evidence.is_muted {
                    self.step(now, Reach::Announcement, |machine, now| {
                        machine.evidence.is_muted = is_muted;
                        machine.evidence.floor.handle_silenced(now);
                    });
                }
            }
            &Signal::VolumeZero(is_zero) => {
                if is_zero != self.evidence.is_volume_zero {
                    self.step(now, Reach::Announcement, |machine, now| {
                        machine.evidence.is_volume_zero = is_zero;
                        machine.evidence.floor.handle_silenced(now);
                    });
                }
            }
            Signal::Levels(report) => {
                if self.options.side == DeviceSide::Capture {
                    self.step(now, Reach::Sample, |machine, now| {
                        let evidence = &mut machine.evidence;
                        let is_silenced = evidence.is_muted || evidence.is_volume_zero;
                        let thresholds = &machine.options.thresholds;
                        evidence.floor.handle_report(report, is_silenced, thresholds, now);
                    });
                }
            }
            &Signal::OpenFailed { failure, waited } => {
                self.step(now, Reach::Announcement, |machine, now| {
                    let onset =
                        Moment::from_nanos(now.since(Moment::ORIGIN + waited).as_nanos() as u64);
                    machine.note_open_failed(failure, onset);
                });
            }
            Signal::StreamError => self.step(now, Reach::Announcement, |machine, now| {
                machine.note_asked(DeviceCause::StreamError, now);
            }),
            Signal::Suspended => self.step(now, Reach::Sample, |machine, now| {
                let gap = machine.options.thresholds.observation_gap;
                if let Some(course) = &mut machine.evidence.course {
                    course.handle_sleep(gap, now);
                }
            }),
            Signal::ServerLost => self.step(now, Reach::Announcement, |machine, now| {
                if machine.in_call && machine.is_held(now) {
                    let closed_at = machine.evidence.closed_at.unwrap_or(now);
                    machine.evidence.server_lost_at.get_or_insert(closed_at);
                }
            }),
            Signal::ServerBack => self.step(now, Reach::Announcement, |machine, _| {
                machine.evidence.server_lost_at = None;
            }),
            &Signal::WrongRoute(is_wrong) => {
                self.step(now, Reach::Announcement, |machine, now| {
                    let at = machine.evidence.misrouted_at.unwrap_or(now);
                    machine.evidence.misrouted_at = is_wrong.then_some(at);
                });
            }
            Signal::SelfTest(outcome) => {
                self.step(now, Reach::Announcement, |machine, now| {
                    machine.note_self_test(*outcome, now);
                });
            }
            &Signal::Unobservable(blindness) => {
                self.step(now, Reach::Announcement, |machine, _| {
                    machine.evidence.blindness = Some(blindness);
                });
            }
        }
    }

    /// A call begins or ends: only a call has totals. Repeating it changes nothing.
    ///
    /// An end may lie in the past, with the call's last packet: what was counted since is taken back.
    ///
    /// The totals of a call stand until the next one begins.
    pub fn handle_call(&mut self, in_call: bool, now: Moment) {
        if in_call == self.in_call {
            return;
        }
        let end = now;
        let now = now.max(self.now);
        if in_call {
            self.tail = Tail::default();
            // What we found when we asked is the past's: the call will show by itself.
            self.evidence.asked = None;
            if self.missed_until().is_some_and(|until| now >= until) {
                self.evidence.missed_at = None;
            }
            self.close_episode();
            self.in_call = true;
            self.settled = now;
            self.tally = Tally { is_used: self.evidence.course.is_some(), ..Tally::default() };
            // The fault that is under way begins, for this call, with it.
            self.verdict.bad = None;
        } else {
            self.charge(self.verdict, self.polled_at(), end);
            let bad_us = self.tail.cut(end, &mut self.tally);
            self.track.take_back(bad_us);
            self.close_episode();
            self.in_call = false;
            self.evidence.missed_at = None;
            self.evidence.server_lost_at = None;
            self.evidence.asked = None;
            self.verdict.bad = None;
        }
        self.step(now, Reach::Announcement, |_, _| {});
    }

    /// Does what is due at `now`: reports and closes episodes, notices that polls stopped.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.step(now, Reach::Sample, |_, _| {});
    }

    /// When the machine wants [`Self::handle_timeout`], and what for. Nothing while the device is not held and no
    /// episode is open.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let is_watched = self.evidence.blindness.is_none();
        let polls = self.evidence.course.filter(|_| is_watched).map(|course| {
            let last = course.observed_at().max(self.watching_since);
            (last + self.options.thresholds.observation_gap, "polls that stopped")
        });
        let track = self.track.poll_timeout(&self.options.thresholds);
        let attempt = self.attempt(self.now).filter(|_| self.verdict.bad.is_some());
        let given_up = attempt.and_then(|attempt| attempt.ends_at(&self.options.thresholds));
        let given_up = given_up.map(|at| (at, "end of an attempt"));
        let missed = self.missed_until().filter(|at| *at > self.now);
        let missed = missed.map(|at| (at, "end of a use without a call"));
        let timers = polls.into_iter().chain(track).chain(given_up).chain(missed);
        timers.min_by_key(|(at, _)| *at)
    }

    /// What happened, in order; `None` when all was said.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How the device is.
    #[must_use]
    pub fn state(&self) -> State {
        self.verdict.state
    }

    /// Since when; dated back to the last progress for a fault.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// The totals of the call that is on, or of the last one.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The open episode.
    #[must_use]
    pub fn episode(&self) -> Option<&Episode> {
        self.track.open()
    }

    /// What is known of the microphone's silence.
    #[must_use]
    pub fn floor(&self) -> FloorKind {
        self.evidence.floor.kind()
    }

    /// Events that nobody drained in time.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    fn step(&mut self, now: Moment, reach: Reach, apply: impl FnOnce(&mut Self, Moment)) {
        let now = now.max(self.now);
        let before = self.verdict;
        let polled_at = self.polled_at();
        apply(self, now);
        let after = self.assess(now);
        if let State::Unobservable(blindness) = after.state {
            // Only something seen ends it.
            self.evidence.blindness = Some(blindness);
        }
        self.account(before, after, reach, polled_at, now);
        self.now = now;
        self.verdict = after;
        self.keep_episode(now);
    }

    /// Charges what became certain, opens or pauses the episode, tells the state.
    fn account(
        &mut self,
        before: Verdict,
        after: Verdict,
        reach: Reach,
        polled_at: Option<Moment>,
        now: Moment,
    ) {
        let was_blind = matches!(before.state, State::Unobservable(_));
        let is_blind = reach == Reach::Sample && matches!(after.state, State::Unobservable(_));
        let boundary = match (before.bad, after.bad) {
            // What nobody saw belongs to no fault, however it looks afterwards.
            (None, _) if was_blind => now,
            (None, Some((_, onset))) => onset,
            (None, None) | (Some(_), Some(_)) if reach == Reach::Sample => after.certain,
            (Some(_), None) if is_blind => self.settled,
            // Missed without a call for as long as a use outlasts its device.
            (Some(_), None) if after.state == State::Absent => self.missed_until().unwrap_or(now),
            // The onset was the poll that saw the last progress, up to one poll late: the end is as much late.
            (Some(_), None) if reach == Reach::Sample => now.min(self.settled + POLL_INTERVAL),
            // What a program tries may still turn out to have failed all along.
            (None, None) if self.attempt(now).is_some() => after.certain,
            (None, None) | (Some(_), None | Some(_)) => now,
        };
        self.charge(before, polled_at, boundary.min(now));
        let boundary = self.settled;
        let told = match (before.bad, after.bad) {
            (None, Some((cause, _))) => Some(self.begin_episode(cause, boundary)),
            (Some(_), None) => {
                let is_known = !matches!(after.state, State::Unobservable(_));
                // Gone, or given up by its program, is over and not mended.
                let is_given_up = self.evidence.course.is_none() && self.evidence.attempt.is_some();
                let is_mended = after.state != State::Absent && !is_given_up;
                self.track.pause(is_known.then_some(boundary), is_mended);
                Some(Told::Changed)
            }
            (None, None) | (Some(_), Some(_)) => None,
        };
        self.charge(after, polled_at, after.certain.min(now));
        if before.state != after.state {
            self.since = if after.bad.is_some() { boundary } else { now };
            let (from, to, since) = (before.state, after.state, self.since);
            self.tell(Event::StateChanged { from, to, since });
        }
        if let Some(told) = told
            && let Some(episode) = self.track.report(now)
        {
            self.tell(match told {
                Told::Opened => Event::EpisodeOpened(episode),
                Told::Changed => Event::EpisodeChanged(episode),
            });
        }
    }

    /// Accounts for the time up to `until` by a verdict; good time only as far as polls of an open device reach.
    fn charge(&mut self, verdict: Verdict, polled_at: Option<Moment>, until: Moment) {
        let class = match verdict.state {
            State::Unobservable(_) => Class::Unobserved,
            State::NotFunctioning(_) => Class::Bad,
            State::Absent
            | State::Idle
            | State::Starting
            | State::Functioning
            | State::Suspect
            | State::Muted
            | State::Busy => Class::Good,
        };
        let gap = self.options.thresholds.observation_gap;
        match polled_at {
            Some(polled_at) if class == Class::Good && until.since(polled_at) >= gap => {
                self.settle(class, verdict.setting, polled_at);
                self.settle(Class::Unobserved, verdict.setting, until);
            }
            Some(_) | None => self.settle(class, verdict.setting, until),
        }
    }

    fn settle(&mut self, class: Class, setting: Setting, until: Moment) {
        if until <= self.settled {
            return;
        }
        // Differences of truncated moments, so that all spans of a call add up to its length.
        let us = until.as_micros() - self.settled.as_micros();
        let from = std::mem::replace(&mut self.settled, until);
        if self.in_call {
            self.tally.charge(class, setting, us);
            self.tail.note(class, setting, from, until);
        }
        if class == Class::Bad {
            self.track.add(us);
        }
    }

    fn begin_episode(&mut self, cause: DeviceCause, onset: Moment) -> Told {
        if self.track.open().is_some() {
            self.track.resume();
            return Told::Changed;
        }
        let id = self.next_id();
        self.track.open_new(id, cause, onset);
        self.tally.episodes = self.tally.episodes.saturating_add(u32::from(self.in_call));
        Told::Opened
    }

    fn keep_episode(&mut self, now: Moment) {
        let is_observed = !matches!(self.verdict.state, State::Unobservable(_));
        let works = matches!(self.verdict.state, State::Functioning | State::Busy);
        self.track.note_healthy(is_observed, works, now);
        if let Some(episode) = self.track.report_due(&self.options.thresholds, now) {
            self.tell(Event::EpisodeChanged(episode));
        }
        if let Some(episode) = self.track.close_due(&self.options.thresholds, now) {
            self.evidence.is_wanted = false;
            self.tell(Event::EpisodeClosed(episode));
        }
    }

    fn close_episode(&mut self) {
        self.evidence.is_wanted = false;
        if let Some(episode) = self.track.close() {
            self.tell(Event::EpisodeClosed(episode));
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    /// SplitMix64, as call ids are drawn.
    fn next_id(&mut self) -> u64 {
        self.ids = self.ids.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.ids;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How an episode is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Opened,
    Changed,
}
