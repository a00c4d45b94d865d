//! Random stories of a device: what must hold whatever happens.

use std::time::Duration;

use proptest::prelude::*;
use roomtone_agent::audio::function::{
    Blindness, Function, OpenFailure, Options, PcmState, Signal, State,
};
use roomtone_agent::clock::Moment;
use roomtone_protocol::device::{DeviceSide, EpisodeState};

use super::bench::{Bench, Sound, assert_consistent, options};
use crate::world::ms;

/// One step of a random story.
#[derive(Debug, Clone)]
enum Act {
    Run(u64),
    /// A poll that comes this late.
    Late(u64),
    Mute(bool),
    VolumeZero(bool),
    Close,
    Open,
    Prepare,
    Start,
    Pause,
    Xrun,
    Call(bool),
    Sound(Sound),
    // Faults.
    Unplug,
    Appear,
    Hang,
    Resume,
    ServerLost,
    ServerBack,
    WrongRoute(bool),
    OpenFailed,
    StreamError,
    Sleep(u64),
    Blind,
}

fn healthy_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u64..20_000).prop_map(Act::Run),
        3 => (251u64..=3_000).prop_map(Act::Late),
        1 => any::<bool>().prop_map(Act::Mute),
        1 => any::<bool>().prop_map(Act::VolumeZero),
        1 => Just(Act::Close),
        2 => Just(Act::Open),
        1 => Just(Act::Prepare),
        2 => Just(Act::Start),
        1 => Just(Act::Pause),
        1 => Just(Act::Xrun),
        1 => any::<bool>().prop_map(Act::Call),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => healthy_act(),
        1 => Just(Act::Unplug),
        2 => Just(Act::Appear),
        2 => Just(Act::Hang),
        1 => Just(Act::Resume),
        1 => Just(Act::ServerLost),
        1 => Just(Act::ServerBack),
        1 => any::<bool>().prop_map(Act::WrongRoute),
        1 => Just(Act::OpenFailed),
        1 => Just(Act::StreamError),
        1 => (1u64..20_000).prop_map(Act::Sleep),
        1 => Just(Act::Blind),
        1 => prop_oneof![Just(Sound::Real), Just(Sound::Zeros), Just(Sound::Constant)]
            .prop_map(Act::Sound),
    ]
}

impl Bench {
    fn act(&mut self, act: &Act) {
        match *act {
            Act::Run(span_ms) => self.run(span_ms),
            Act::Late(by_ms) => {
                self.next_poll_ms = self.now_ms + by_ms;
                self.run(by_ms);
            }
            Act::Mute(is_muted) => self.tell(&Signal::Muted(is_muted)),
            Act::VolumeZero(is_zero) => self.tell(&Signal::VolumeZero(is_zero)),
            Act::Close if self.is_open => self.close(),
            Act::Open if !self.is_open => self.open(),
            Act::Prepare => self.set(PcmState::Prepared),
            Act::Start => self.set(PcmState::Running),
            Act::Pause => self.set(PcmState::Paused),
            Act::Xrun => {
                self.set(PcmState::Xrun);
                self.run(600);
                self.set(PcmState::Running);
                self.run(600);
            }
            Act::Call(in_call) => self.call(in_call),
            Act::Sound(sound) => self.sound = Some(sound),
            Act::Unplug => self.unplug(),
            Act::Appear => self.tell(&Signal::Appeared),
            Act::Hang => self.hang(),
            Act::Resume => self.resume(),
            Act::ServerLost => self.tell(&Signal::ServerLost),
            Act::ServerBack => self.tell(&Signal::ServerBack),
            Act::WrongRoute(is_wrong) => self.tell(&Signal::WrongRoute(is_wrong)),
            Act::OpenFailed => self.tell(&Signal::OpenFailed {
                failure: OpenFailure::Fault,
                waited: Duration::from_secs(3),
            }),
            Act::StreamError => self.tell(&Signal::StreamError),
            Act::Sleep(span_ms) => {
                self.advance_hardware();
                self.now_ms += span_ms;
                self.moved_ms = self.now_ms;
                self.next_poll_ms = self.now_ms;
                self.tell(&Signal::Suspended);
            }
            Act::Blind => self.tell(&Signal::Unobservable(Blindness::Unreadable)),
            Act::Close | Act::Open => {}
        }
    }

    /// The program, or the kernel, moves the stream into another state, which polls may meet at any time.
    fn set(&mut self, pcm_state: PcmState) {
        self.advance_hardware();
        self.pcm_state = pcm_state;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Mutes, closes, pauses, short overruns, calls that come and go, polls up to 3 s late: nothing of it is a fault.
    #[test]
    fn healthy_device_never_has_an_episode(acts in prop::collection::vec(healthy_act(), 1..120)) {
        let mut bench = Bench::new();
        bench.sound = Some(Sound::Real);
        for act in &acts {
            bench.act(act);
            let bad = matches!(bench.function.state(), State::NotFunctioning(_) | State::Suspect);
            prop_assert!(!bad, "{:?} after {act:?}", bench.function.state());
        }
        prop_assert_eq!(bench.episodes(), []);
    }

    /// Bad <= observed <= call <= time that went by, and what episodes tell adds up to what the ratio tells.
    #[test]
    fn accounts_of_any_story_add_up(acts in prop::collection::vec(act(), 1..120)) {
        let mut bench = Bench::new();
        bench.call(true);
        let begun = bench.now_ms;
        for act in acts.iter().filter(|act| !matches!(act, Act::Call(_))) {
            bench.act(act);
            let tally = bench.function.tally();
            assert_consistent(tally);
            prop_assert!(tally.call_us <= (bench.now_ms - begun) * 1_000);
            prop_assert_eq!(bench.function.episode().is_some(), bench.open_episodes() == 1);
        }
        bench.call(false);
        let tally = *bench.function.tally();
        assert_consistent(&tally);
        prop_assert_eq!(tally.call_us, (bench.now_ms - begun) * 1_000, "all of the call is accounted for");
        // A fault that outlasts the call is another episode: its program's, without a ratio.
        let (after, episodes): (Vec<_>, Vec<_>) = bench
            .episodes()
            .into_iter()
            .partition(|episode| episode.state == EpisodeState::Open);
        prop_assert!(after.iter().all(|episode| episode.bad_us == 0 && episode.onset == bench.now()));
        prop_assert_eq!(episodes.len(), tally.episodes as usize);
        prop_assert_eq!(episodes.iter().map(|episode| episode.bad_us).sum::<u64>(), tally.bad_us);
        for episode in episodes {
            prop_assert!(ms(begun) <= episode.onset && episode.onset <= bench.now());
        }
    }

    /// A restart between any two signals changes no total, no state and no onset.
    #[test]
    fn restart_at_any_point_changes_nothing(
        acts in prop::collection::vec(act(), 1..60),
        at in any::<prop::sample::Index>(),
    ) {
        let mut whole = Bench::new();
        let mut split = Bench::new();
        let at = at.index(acts.len());
        for bench in [&mut whole, &mut split] {
            bench.call(true);
            bench.open();
        }
        for (n, act) in acts.iter().enumerate() {
            whole.act(act);
            split.act(act);
            if n == at {
                let written = serde_json::to_string(&split.function.carry()).unwrap();
                let carry = serde_json::from_str(&written).unwrap();
                let now = split.function_now();
                let other = Options { seed: 8, ..options(DeviceSide::Capture) };
                split.function = Function::restore(other, &carry, now);
            }
            prop_assert_eq!(whole.function.state(), split.function.state());
            prop_assert_eq!(whole.function.tally(), split.function.tally());
        }
        let onsets = |bench: &Bench| -> Vec<_> {
            bench.episodes().iter().map(|episode| (episode.onset, episode.cause)).collect()
        };
        prop_assert_eq!(onsets(&whole), onsets(&split));
    }

    /// Whatever moments come, nothing panics and no total shrinks within a call.
    #[test]
    fn time_never_goes_backwards(
        acts in prop::collection::vec((act(), any::<u32>()), 1..60),
    ) {
        let mut bench = Bench::new();
        bench.call(true);
        let mut before = *bench.function.tally();
        for (act, jump) in acts.iter().filter(|(act, _)| !matches!(act, Act::Call(_))) {
            bench.act(act);
            bench.function.handle_timeout(ms(u64::from(*jump) % 200_000));
            let tally = *bench.function.tally();
            assert_consistent(&tally);
            prop_assert!(tally.call_us >= before.call_us && tally.bad_us >= before.bad_us);
            before = tally;
        }
    }
}

impl Bench {
    fn open_episodes(&self) -> usize {
        self.episodes().iter().filter(|episode| episode.state == EpisodeState::Open).count()
    }

    /// The moment of the last signal, from which a restarted agent goes on.
    fn function_now(&self) -> Moment {
        let carry = serde_json::to_value(self.function.carry()).expect("numbers and names");
        Moment::from_nanos(carry["now"].as_u64().expect("nanoseconds"))
    }
}
