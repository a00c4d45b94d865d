//! One device of which the test decides how it fares, its machine, and a clock that the test moves.

use std::time::Duration;

use roomtone_agent::audio::accounting::Tally;
use roomtone_agent::audio::constants::Thresholds;
use roomtone_agent::audio::episode::Episode;
use roomtone_agent::audio::function::{Carry, Event, Function, Options, PcmState, Signal, State};
use roomtone_agent::audio::level::LevelReport;
use roomtone_agent::clock::Moment;
use roomtone_protocol::device::{DeviceCause, DeviceSide};

use crate::world::ms;

pub(super) const POLL_MS: u64 = 250;
const RATE_HZ: u64 = 48_000;

/// What the samples are like, where levels are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sound {
    Real,
    Zeros,
    Constant,
}

/// One device with its machine, and a clock that the test moves.
pub(super) struct Bench {
    pub(super) function: Function,
    pub(super) now_ms: u64,
    pub(super) next_poll_ms: u64,
    pub(super) is_open: bool,
    pub(super) pcm_state: PcmState,
    pub(super) is_moving: bool,
    pub(super) hw_ptr: u64,
    pub(super) moved_ms: u64,
    pub(super) sound: Option<Sound>,
    pub(super) zero_ms: u64,
    pub(super) constant_ms: u64,
    pub(super) events: Vec<(u64, Event)>,
}

pub(super) fn options(side: DeviceSide) -> Options {
    Options { thresholds: Thresholds::default(), side, own_pid: 1, seed: 7 }
}

pub(super) fn opened(owner_pid: u32) -> Signal {
    Signal::Opened {
        rate_hz: RATE_HZ as u32,
        period_frames: 480,
        buffer_frames: 1_920,
        owner_pid: Some(owner_pid),
    }
}

impl Bench {
    /// A microphone that is present, with a machine that started a second before.
    pub(super) fn new() -> Self {
        Self::of(DeviceSide::Capture)
    }

    pub(super) fn of(side: DeviceSide) -> Self {
        let mut bench = Self {
            function: Function::new(options(side)),
            now_ms: 1_000,
            next_poll_ms: 1_000,
            is_open: false,
            pcm_state: PcmState::Running,
            is_moving: true,
            hw_ptr: 0,
            moved_ms: 1_000,
            sound: None,
            zero_ms: 0,
            constant_ms: 0,
            events: Vec::new(),
        };
        bench.tell(&Signal::Appeared);
        bench
    }

    /// In a call whose program holds the device, for ten healthy seconds.
    pub(super) fn in_call() -> Self {
        let mut bench = Self::new();
        bench.call(true);
        bench.open();
        bench.run(10_000);
        assert_eq!(bench.function.state(), State::Functioning);
        bench.events.clear();
        bench
    }

    pub(super) fn now(&self) -> Moment {
        ms(self.now_ms)
    }

    pub(super) fn drain(&mut self) {
        let at = self.now_ms;
        self.events.extend(std::iter::from_fn(|| self.function.poll_event()).map(|e| (at, e)));
    }

    pub(super) fn tell(&mut self, signal: &Signal) {
        self.function.handle_signal(signal, self.now());
        self.drain();
    }

    pub(super) fn call(&mut self, in_call: bool) {
        self.function.handle_call(in_call, self.now());
        self.drain();
    }

    pub(super) fn open(&mut self) {
        self.open_as(4_242);
    }

    pub(super) fn open_as(&mut self, pid: u32) {
        self.is_open = true;
        self.is_moving = true;
        self.pcm_state = PcmState::Running;
        self.moved_ms = self.now_ms;
        self.tell(&opened(pid));
    }

    /// An open that brings nothing, seen at once and again when it has agreed on a format, 240 ms later.
    pub(super) fn open_slowly(&mut self, pcm_state: PcmState) {
        self.is_open = true;
        self.is_moving = false;
        self.pcm_state = PcmState::Open;
        self.hw_ptr = 0;
        let nothing_agreed = Signal::Opened {
            rate_hz: 0,
            period_frames: 0,
            buffer_frames: 0,
            owner_pid: Some(4_242),
        };
        self.tell(&nothing_agreed);
        self.poll();
        self.run(240);
        self.pcm_state = pcm_state;
        self.tell(&opened(4_242));
        self.poll();
    }

    /// An open that brings nothing, seen at once.
    pub(super) fn open_stuck(&mut self, pcm_state: PcmState) {
        self.is_open = true;
        self.is_moving = false;
        self.pcm_state = pcm_state;
        self.hw_ptr = 0;
        self.tell(&opened(4_242));
        self.poll();
    }

    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.tell(&Signal::Closed);
    }

    pub(super) fn unplug(&mut self) {
        self.is_open = false;
        self.hw_ptr = 0;
        self.tell(&Signal::Removed);
    }

    pub(super) fn hang(&mut self) {
        self.advance_hardware();
        self.is_moving = false;
    }

    pub(super) fn resume(&mut self) {
        self.moved_ms = self.now_ms;
        self.is_moving = true;
    }

    pub(super) fn advance_hardware(&mut self) {
        if self.is_moving && self.pcm_state == PcmState::Running {
            self.hw_ptr += (self.now_ms - self.moved_ms) * RATE_HZ / 1_000;
        }
        self.moved_ms = self.now_ms;
    }

    pub(super) fn poll(&mut self) {
        self.advance_hardware();
        if self.is_open {
            let signal = Signal::Progress { pcm_state: self.pcm_state, hw_ptr_frames: self.hw_ptr };
            self.tell(&signal);
            if let Some(sound) = self.sound.filter(|_| self.is_moving) {
                let report = self.levels(sound);
                self.tell(&Signal::Levels(report));
            }
        }
    }

    pub(super) fn levels(&mut self, sound: Sound) -> LevelReport {
        let ended_ms = if sound == Sound::Zeros { 0 } else { self.zero_ms };
        self.zero_ms = if sound == Sound::Zeros { self.zero_ms + POLL_MS } else { 0 };
        self.constant_ms = if sound == Sound::Constant { self.constant_ms + POLL_MS } else { 0 };
        LevelReport {
            span: Duration::from_millis(POLL_MS),
            is_real: sound == Sound::Real,
            zero_run: Duration::from_millis(self.zero_ms),
            zero_longest: Duration::from_millis(ended_ms),
            constant_run: Duration::from_millis(self.constant_ms),
            ..LevelReport::default()
        }
    }

    /// Lets time pass, with a poll every 250 ms and every timer served on time.
    pub(super) fn run(&mut self, span_ms: u64) {
        let until = self.now_ms + span_ms;
        loop {
            let timer =
                self.function.poll_timeout().map(|(at, _)| at.as_nanos().div_ceil(1_000_000));
            let due = timer.map_or(self.next_poll_ms, |at| at.min(self.next_poll_ms));
            if due > until {
                break;
            }
            let before = self.now_ms;
            self.now_ms = due.max(self.now_ms);
            if self.now_ms >= self.next_poll_ms {
                self.next_poll_ms += POLL_MS;
                self.poll();
            } else {
                self.function.handle_timeout(self.now());
                self.drain();
                let spins = self.function.poll_timeout().is_some_and(|(at, _)| at <= self.now());
                assert!(!spins || before < self.now_ms, "a timer that fired is due again");
            }
        }
        self.now_ms = until;
    }

    /// Kills the agent and starts it again `gap_ms` later.
    pub(super) fn restart(&mut self, gap_ms: u64) {
        let written = serde_json::to_string(&self.function.carry()).expect("numbers and names");
        let carry: Carry = serde_json::from_str(&written).expect("just written");
        self.now_ms += gap_ms;
        self.next_poll_ms = self.now_ms;
        let other = Options { seed: 8, ..options(DeviceSide::Capture) };
        self.function = Function::restore(other, &carry, self.now());
        self.drain();
        if self.is_open {
            self.tell(&opened(4_242));
        }
    }

    pub(super) fn episodes(&self) -> Vec<Episode> {
        let mut last: Vec<Episode> = Vec::new();
        for (_, event) in &self.events {
            let (Event::EpisodeOpened(told)
            | Event::EpisodeChanged(told)
            | Event::EpisodeClosed(told)) = event
            else {
                continue;
            };
            match last.iter_mut().find(|known| known.id == told.id) {
                Some(known) => *known = *told,
                None => last.push(*told),
            }
        }
        last
    }

    /// The one episode as it stands, which is as it was told last or newer.
    pub(super) fn only_episode(&self) -> Episode {
        let episodes = self.episodes();
        assert_eq!(episodes.len(), 1, "{episodes:?}");
        let open = self.function.episode().copied();
        open.filter(|open| open.id == episodes[0].id).unwrap_or(episodes[0])
    }

    pub(super) fn opened_at(&self) -> u64 {
        self.events
            .iter()
            .find_map(|(at, event)| matches!(event, Event::EpisodeOpened(_)).then_some(*at))
            .expect("an episode opened")
    }

    pub(super) fn bad_ms(&self) -> f64 {
        self.function.tally().bad_us as f64 / 1e3
    }

    /// The one episode's cause, onset, detection and bad time against the script.
    #[track_caller]
    pub(super) fn check(
        &self,
        cause: DeviceCause,
        fault_ms: u64,
        onset_ms: u64,
        seen_ms: u64,
        bad_ms: u64,
    ) {
        let episode = self.only_episode();
        assert_eq!(episode.cause, cause);
        let onset = (episode.onset.as_nanos() / 1_000_000).abs_diff(fault_ms);
        assert!(onset <= onset_ms, "onset wrong by {onset} ms");
        let seen = self.opened_at() - fault_ms;
        assert!(seen <= seen_ms, "seen after {seen} ms");
        let wrong = (self.bad_ms() - bad_ms as f64).abs();
        assert!(wrong <= 300.0, "bad time wrong by {wrong} ms: {} ms", self.bad_ms());
        assert_eq!(episode.bad_us, self.function.tally().bad_us);
        assert_consistent(self.function.tally());
    }
}

pub(super) fn assert_consistent(tally: &Tally) {
    assert!(tally.bad_us <= tally.observed_us, "{tally:?}");
    assert!(tally.observed_us <= tally.call_us, "{tally:?}");
}
