//! Devices that fail on cue, polled four times a second: state, cause, onset, detection and accounting of each fault.

use std::time::Duration;

use roomtone_agent::audio::accounting::Tally;
use roomtone_agent::audio::floor::FloorKind;
use roomtone_agent::audio::function::{
    Blindness, Carry, Event, Function, OpenFailure, PcmState, SelfTestOutcome, Signal, State,
};
use roomtone_protocol::device::{DeviceCause, DeviceSide, EpisodeState};

use crate::world::ms;

mod attempts;
mod bench;
mod stories;

use bench::{Bench, POLL_MS, Sound, assert_consistent, options};

/// How long after a poll a fault happens: right after it, between two, right before the next.
const OFFSETS_MS: [u64; 5] = [0, 1, 70, 130, 249];

#[test]
fn unplugged_in_a_call_is_removed_at_once_and_over_when_it_is_back() {
    for offset in OFFSETS_MS {
        let mut bench = Bench::in_call();
        bench.run(offset);
        let fault = bench.now_ms;
        bench.unplug();
        assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Removed));
        bench.run(10_000);
        bench.tell(&Signal::Appeared);
        assert_eq!(bench.function.state(), State::Idle);
        bench.run(700);
        bench.open();
        bench.run(9_290);
        assert_eq!(bench.only_episode().state, EpisodeState::Open);
        bench.run(20);
        bench.check(DeviceCause::Removed, fault, 0, 0, 10_000);
        assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
        assert_eq!(bench.function.tally().bad_us, 10_000_000);
    }
}

#[test]
fn hung_device_is_stalled_since_its_last_progress() {
    for offset in OFFSETS_MS {
        let mut bench = Bench::in_call();
        bench.run(offset);
        let fault = bench.now_ms;
        bench.hang();
        bench.run(20_000);
        assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Stalled));
        bench.resume();
        bench.run(11_000);
        // Progress seen last at most one poll before; the limit of 1 s and a poll later it is known.
        bench.check(DeviceCause::Stalled, fault, POLL_MS, 1_250, 20_000);
        assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
        assert_eq!(bench.function.state(), State::Functioning);
        // From the first poll behind the last progress to the first behind the next: as much too late at either end,
        // but for the hang that coincides with a poll.
        let bad_us = if offset == 0 { 20_250_000 } else { 20_000_000 };
        assert_eq!(bench.function.tally().bad_us, bad_us);
    }
}

#[test]
fn pause_below_the_limit_is_no_stall() {
    let mut bench = Bench::in_call();
    bench.hang();
    bench.run(740); // the fourth poll without progress would come at 1,000 ms
    bench.resume();
    bench.run(20_000);
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.tally().bad_us, 0);
}

/// Four periods of 32,768 frames at 48 kHz are 2.73 s: 2.5 s without an interrupt are healthy.
#[test]
fn stall_limit_grows_with_the_period() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.is_open = true;
    bench.tell(&Signal::Opened {
        rate_hz: 48_000,
        period_frames: 32_768,
        buffer_frames: 65_536,
        owner_pid: None,
    });
    bench.run(10_000);
    let fault = bench.now_ms;
    bench.hang();
    bench.run(2_500);
    assert_eq!(bench.function.state(), State::Functioning);
    bench.run(500);
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Stalled));
    bench.check(DeviceCause::Stalled, fault, POLL_MS, 3_000, 3_000);
}

#[test]
fn opened_without_a_first_frame_has_never_started() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.run(130);
    bench.open();
    bench.is_moving = false;
    let fault = bench.now_ms;
    bench.run(2_900);
    assert_eq!(bench.function.state(), State::Starting);
    bench.run(7_100);
    bench.check(DeviceCause::NeverStarted, fault, POLL_MS, 3_250, 10_000);
}

/// A PulseAudio null sink was measured to deliver its first buffer after 2 s.
#[test]
fn first_frame_after_two_seconds_is_in_time() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.open();
    bench.is_moving = false;
    bench.run(2_000);
    bench.resume();
    bench.run(20_000);
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.tally().bad_us, 0);
}

#[test]
fn held_without_being_started_is_idle() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.open();
    bench.pcm_state = PcmState::Prepared;
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Idle);
    assert_eq!(bench.episodes(), []);
}

#[test]
fn zeros_count_on_a_microphone_whose_floor_is_known_not_to_be_zero() {
    let mut bench = Bench::in_call();
    bench.sound = Some(Sound::Real);
    bench.run(31_000);
    assert_eq!(bench.function.floor(), FloorKind::NotZero);
    let fault = bench.now_ms;
    bench.sound = Some(Sound::Zeros);
    bench.run(3_900);
    assert_eq!(bench.function.state(), State::Functioning);
    bench.run(6_100);
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::ZeroSignal));
    bench.sound = Some(Sound::Real);
    bench.run(11_000);
    bench.check(DeviceCause::ZeroSignal, fault, POLL_MS, 4_250, 10_000);
    assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
}

#[test]
fn zeros_before_the_floor_is_known_are_suspect_and_not_counted() {
    let mut bench = Bench::in_call();
    bench.sound = Some(Sound::Real);
    bench.run(5_000);
    bench.sound = Some(Sound::Zeros);
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Suspect);
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.tally().bad_us, 0);
}

/// Speech of 5-20 s, silence of 30-120 s, for half an hour: each return proves a floor of zero.
#[test]
fn microphone_that_gates_to_zeros_never_has_an_episode() {
    let mut bench = Bench::in_call();
    for n in 0..20u64 {
        bench.sound = Some(Sound::Real);
        bench.run(5_000 + 1_000 * (n % 4) * 5);
        bench.sound = Some(Sound::Zeros);
        bench.run(30_000 + 10_000 * (n % 10));
    }
    assert_eq!(bench.function.floor(), FloorKind::Zero);
    // Once known it stays known, however long somebody speaks.
    bench.sound = Some(Sound::Real);
    bench.run(120_000);
    bench.sound = Some(Sound::Zeros);
    bench.run(120_000);
    assert_eq!(bench.function.state(), State::Suspect);
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.tally().bad_us, 0);
}

#[test]
fn zeros_of_a_mute_neither_count_nor_teach() {
    let mut bench = Bench::in_call();
    bench.sound = Some(Sound::Real);
    bench.run(31_000);
    for silence in [Signal::Muted, Signal::VolumeZero] {
        bench.sound = Some(Sound::Zeros);
        bench.run(250); // the event comes behind the samples
        bench.tell(&silence(true));
        bench.run(60_000);
        bench.tell(&silence(false));
        bench.run(500); // and before them
        bench.sound = Some(Sound::Real);
        bench.run(5_000);
    }
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.floor(), FloorKind::NotZero);
    let tally = *bench.function.tally();
    assert_eq!((tally.muted_us, tally.zero_volume_us), (60_000_000, 60_000_000));
}

#[test]
fn zeros_after_an_unmute_count_from_the_unmute() {
    let mut bench = Bench::in_call();
    bench.sound = Some(Sound::Real);
    bench.run(31_000);
    bench.sound = Some(Sound::Zeros);
    bench.tell(&Signal::Muted(true));
    bench.run(30_000);
    bench.tell(&Signal::Muted(false));
    let fault = bench.now_ms;
    bench.run(10_000);
    bench.check(DeviceCause::ZeroSignal, fault, POLL_MS, 4_250, 10_000);
}

#[test]
fn constant_value_after_real_audio_counts() {
    let mut bench = Bench::in_call();
    bench.sound = Some(Sound::Real);
    bench.run(1_000);
    let fault = bench.now_ms;
    bench.sound = Some(Sound::Constant);
    bench.run(10_000);
    bench.check(DeviceCause::ConstantSignal, fault, POLL_MS, 4_250, 10_000);
}

#[test]
fn loudspeaker_with_nothing_to_say_is_functioning() {
    let mut bench = Bench::of(DeviceSide::Render);
    bench.call(true);
    bench.open();
    bench.sound = Some(Sound::Real);
    bench.run(60_000);
    bench.sound = Some(Sound::Zeros);
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Functioning);
    assert_eq!(bench.episodes(), []);
}

/// The limit of the passive watch: nothing but a self-test finds what the kernel's counters do not show.
#[test]
fn loudspeaker_with_healthy_counters_is_found_by_the_self_test_only() {
    let mut bench = Bench::of(DeviceSide::Render);
    bench.call(true);
    bench.open();
    bench.run(60_000);
    assert_eq!(bench.episodes(), []);
    bench.close();
    bench.call(false);
    bench.tell(&Signal::SelfTest(SelfTestOutcome::Failed));
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::SelfTestFailed));
    assert_eq!(bench.only_episode().cause, DeviceCause::SelfTestFailed);
    bench.run(5_000);
    bench.tell(&Signal::SelfTest(SelfTestOutcome::Passed));
    bench.run(10_000);
    assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
    assert_eq!(bench.only_episode().bad_us, 5_000_000, "from one test to the next");
    assert_eq!(bench.function.tally().bad_us, 0, "no call lost anything");
}

#[test]
fn failed_self_test_does_not_count_in_the_next_call() {
    let mut bench = Bench::of(DeviceSide::Render);
    bench.tell(&Signal::SelfTest(SelfTestOutcome::Failed));
    bench.call(true);
    bench.open();
    bench.run(20_000);
    assert_eq!(bench.function.state(), State::Functioning);
    assert_eq!(bench.only_episode().state, EpisodeState::Unrecovered);
    assert_eq!(bench.function.tally().bad_us, 0);
    assert_eq!(bench.function.tally().episodes, 0);
}

#[test]
fn device_left_prepared_by_a_sleep_is_suspended() {
    let mut bench = Bench::in_call();
    let fault = bench.now_ms;
    bench.hang();
    bench.now_ms += 3_000; // asleep
    bench.next_poll_ms = bench.now_ms;
    bench.pcm_state = PcmState::Prepared;
    bench.tell(&Signal::Suspended);
    bench.run(2_900);
    assert_eq!(bench.episodes(), []);
    bench.run(6_100);
    // Three seconds after waking up.
    bench.check(DeviceCause::Suspended, fault, POLL_MS, 6_250, 12_000);
    bench.close();
    bench.open();
    bench.run(10_500);
    assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
}

#[test]
fn long_sleep_is_neither_good_nor_bad() {
    let mut bench = Bench::in_call();
    bench.hang();
    bench.now_ms += 60_000;
    bench.next_poll_ms = bench.now_ms;
    let awake = bench.now_ms;
    bench.pcm_state = PcmState::Prepared;
    bench.tell(&Signal::Suspended);
    bench.run(10_000);
    bench.check(DeviceCause::Suspended, awake, 0, 3_250, 10_000);
    let tally = bench.function.tally();
    assert_eq!(tally.call_us - tally.observed_us, 60_000_000);
}

#[test]
fn stream_that_its_program_stopped_before_a_sleep_is_idle() {
    let mut bench = Bench::in_call();
    bench.pcm_state = PcmState::Prepared;
    bench.run(1_000);
    bench.tell(&Signal::Suspended);
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Idle);
    assert_eq!(bench.episodes(), []);
}

#[test]
fn lost_sound_server_counts_until_it_is_back() {
    for closed_first in [true, false] {
        let mut bench = Bench::in_call();
        let fault = bench.now_ms;
        if closed_first {
            bench.close();
            bench.run(100);
            bench.tell(&Signal::ServerLost);
        } else {
            bench.tell(&Signal::ServerLost);
            bench.run(100);
            bench.close();
        }
        bench.run(5_000);
        assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::ServerLost));
        bench.tell(&Signal::ServerBack);
        bench.open();
        bench.run(11_000);
        bench.check(DeviceCause::ServerLost, fault, 100, 100, 5_000);
        assert_eq!(bench.function.state(), State::Functioning);
    }
}

/// The attempt blocks for 5.05 s; the shell gives up waiting after 3 s.
#[test]
fn control_hang_at_open_counts_from_the_attempt() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.run(1_000);
    let fault = bench.now_ms;
    let timed_out =
        Signal::OpenFailed { failure: OpenFailure::Fault, waited: Duration::from_secs(3) };
    // An idle device needs no poll; only its timers run.
    bench.now_ms += 3_000;
    bench.tell(&timed_out);
    bench.run(3_000);
    bench.tell(&timed_out);
    bench.run(4_000);
    bench.open();
    bench.run(11_000);
    bench.check(DeviceCause::OpenFailed, fault, 0, 3_000, 10_000);
    assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
}

#[test]
fn our_own_stream_that_fails_beside_a_healthy_holder_is_no_fault() {
    let mut bench = Bench::in_call();
    for failure in [OpenFailure::Busy, OpenFailure::NoPermission, OpenFailure::Fault] {
        bench.tell(&Signal::OpenFailed { failure, waited: Duration::ZERO });
        bench.tell(&Signal::StreamError);
        bench.run(1_000);
    }
    assert_eq!(bench.function.state(), State::Functioning);
    assert_eq!(bench.episodes(), []);
}

#[test]
fn permission_denied_is_unobservable_and_no_fault() {
    let mut bench = Bench::new();
    bench.call(true);
    let denied = Signal::OpenFailed { failure: OpenFailure::NoPermission, waited: Duration::ZERO };
    bench.tell(&denied);
    bench.run(10_000);
    assert_eq!(bench.function.state(), State::Unobservable(Blindness::NoPermission));
    let tally = bench.function.tally();
    assert_eq!((tally.call_us, tally.observed_us), (0, 0), "accounted when time is told");
    bench.call(false);
    assert_eq!(bench.function.tally().call_us, 10_000_000);
    assert_eq!(bench.function.tally().observed_us, 0);
}

#[test]
fn wrong_route_counts_while_it_lasts() {
    let mut bench = Bench::in_call();
    bench.close();
    let fault = bench.now_ms;
    bench.tell(&Signal::WrongRoute(true));
    bench.run(6_000);
    bench.tell(&Signal::WrongRoute(false));
    bench.run(11_000);
    bench.check(DeviceCause::WrongRoute, fault, 0, 0, 6_000);
}

/// 20 times 1.5 s away and 1.5 s back, the last removal 57 s after the first; the program never opens it again.
#[test]
fn twenty_flaps_in_a_minute_are_one_episode() {
    let mut bench = Bench::in_call();
    let fault = bench.now_ms;
    for _ in 0..20 {
        bench.unplug();
        bench.run(1_500);
        bench.tell(&Signal::Appeared);
        bench.run(1_500);
    }
    bench.run(10_000);
    bench.check(DeviceCause::Removed, fault, 0, 0, 30_000);
    assert_eq!(bench.function.tally().episodes, 1);
}

#[test]
fn device_that_nobody_held_may_leave() {
    let mut bench = Bench::in_call();
    bench.close();
    bench.run(10_000);
    bench.unplug();
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Absent);
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.poll_timeout(), None, "nothing to wake up for");
}

#[test]
fn program_that_closes_because_of_the_unplugging_does_not_hide_it() {
    let mut bench = Bench::in_call();
    bench.close();
    bench.run(300);
    bench.unplug();
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Removed));
}

#[test]
fn end_of_the_call_leaves_the_episode_unrecovered() {
    let mut bench = Bench::in_call();
    let fault = bench.now_ms;
    bench.unplug();
    bench.run(7_000);
    bench.call(false);
    bench.check(DeviceCause::Removed, fault, 0, 0, 7_000);
    assert_eq!(bench.only_episode().state, EpisodeState::Unrecovered);
    assert_eq!(bench.function.state(), State::Absent);
    bench.run(60_000);
    assert_eq!(bench.function.tally().bad_us, 7_000_000, "totals stand until the next call");
}

#[test]
fn muted_stall_counts_from_the_unmute() {
    let mut bench = Bench::in_call();
    bench.tell(&Signal::Muted(true));
    bench.hang();
    bench.run(30_000);
    assert_eq!(bench.function.state(), State::Muted);
    assert_eq!(bench.episodes(), []);
    let unmuted = bench.now_ms;
    bench.tell(&Signal::Muted(false));
    bench.run(5_000);
    bench.check(DeviceCause::Stalled, unmuted, 0, 0, 5_000);
}

#[test]
fn xruns_are_glitches_until_they_starve_the_stream() {
    let mut bench = Bench::in_call();
    for _ in 0..40 {
        bench.pcm_state = PcmState::Xrun;
        bench.run(250);
        bench.pcm_state = PcmState::Running;
        bench.run(500);
    }
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.tally().glitches, 40);
    bench.tell(&Signal::Xrun);
    assert_eq!(bench.function.tally().glitches, 41);
    let fault = bench.now_ms;
    bench.pcm_state = PcmState::Xrun;
    bench.run(5_000);
    bench.check(DeviceCause::Stalled, fault, POLL_MS, 1_250, 5_000);
    assert_eq!(bench.function.tally().glitches, 42, "one long overrun is one glitch");
}

#[test]
fn counter_that_starts_over_is_progress() {
    let mut bench = Bench::in_call();
    for _ in 0..40 {
        bench.run(POLL_MS - 10);
        bench.hw_ptr = 0;
        bench.run(POLL_MS + 10);
    }
    assert_eq!(bench.episodes(), []);
}

/// The agent dies 5 s into a fault of 20 s and is back 2 s later: nobody saw the gap, the position proves it.
#[test]
fn restart_in_mid_fault_counts_bad_time_once() {
    for hangs in [true, false] {
        let mut bench = Bench::in_call();
        let fault = bench.now_ms;
        if hangs {
            bench.hang();
        } else {
            bench.unplug();
        }
        bench.run(5_000);
        bench.restart(2_000);
        bench.run(13_000);
        let cause = if hangs { DeviceCause::Stalled } else { DeviceCause::Removed };
        if hangs {
            bench.resume();
        } else {
            bench.tell(&Signal::Appeared);
        }
        bench.run(11_000);
        bench.check(cause, fault, POLL_MS, 1_250, 20_000);
        assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
    }
}

#[test]
fn gap_too_long_to_bridge_is_unobserved() {
    let mut bench = Bench::in_call();
    bench.hang();
    bench.run(5_000);
    bench.restart(61_000);
    let tally = *bench.function.tally();
    assert_eq!(tally.call_us - tally.observed_us, 61_000_000);
    assert!(tally.bad_us <= 5_250_000, "{tally:?}");
    bench.run(3_000);
    bench.check(DeviceCause::Stalled, 11_000, POLL_MS, 1_250, 8_000);
}

#[test]
fn carry_of_another_boot_or_with_impossible_totals_is_not_used() {
    let mut bench = Bench::in_call();
    bench.unplug();
    bench.run(1_000);
    let carry = bench.function.carry();
    let earlier = Function::restore(options(DeviceSide::Capture), &carry, ms(2_000));
    assert_eq!(earlier.state(), State::Absent);
    let mut broken = serde_json::to_value(&carry).unwrap();
    broken["tally"]["bad_us"] = serde_json::json!(u64::MAX);
    let broken: Carry = serde_json::from_value(broken).unwrap();
    let fresh = Function::restore(options(DeviceSide::Capture), &broken, bench.now());
    assert_eq!(fresh.episode(), None);
    assert_eq!(fresh.tally(), &Tally::default());
}

#[test]
fn polls_that_stop_are_neither_good_nor_bad() {
    let mut bench = Bench::in_call();
    bench.next_poll_ms = bench.now_ms + 30_000;
    let last_poll = bench.now_ms;
    bench.run(29_000);
    assert_eq!(bench.function.state(), State::Unobservable(Blindness::NotPolled));
    assert_eq!(bench.function.poll_timeout(), None);
    bench.run(1_000);
    assert_eq!(bench.function.state(), State::Functioning);
    let tally = *bench.function.tally();
    assert_eq!(tally.call_us - tally.observed_us, (bench.now_ms - last_poll) * 1_000);
    assert_eq!(tally.bad_us, 0);
}

#[test]
fn fault_that_nobody_watched_counts_from_where_it_is_seen() {
    let mut bench = Bench::in_call();
    bench.hang();
    bench.run(500);
    bench.tell(&Signal::Unobservable(Blindness::Unreadable));
    bench.next_poll_ms = bench.now_ms + 10_000;
    let seen = bench.next_poll_ms;
    bench.run(13_000);
    bench.check(DeviceCause::Stalled, seen, 0, 500, 3_000);
    let tally = bench.function.tally();
    assert_eq!(tally.call_us - tally.observed_us, 10_000_000);
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut bench = Bench::in_call();
    bench.hang();
    bench.run(5_000);
    let before = *bench.function.tally();
    bench.function.handle_signal(&Signal::Closed, ms(0));
    assert_eq!(bench.function.tally(), &before);
    bench.function.handle_call(false, ms(0));
    assert_consistent(bench.function.tally());
}

/// An episode that goes on is told every ten seconds, so that its length at the collector is never older.
#[test]
fn long_episode_is_told_as_it_grows() {
    let mut bench = Bench::in_call();
    bench.unplug();
    bench.run(60_000);
    let told: Vec<u64> = bench
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::EpisodeChanged(episode) => Some(episode.bad_us / 1_000_000),
            Event::EpisodeOpened(_) | Event::EpisodeClosed(_) | Event::StateChanged { .. } => None,
        })
        .collect();
    assert_eq!(told, [10, 20, 30, 40, 50, 60]);
}

/// A call is known to be over when it has been silent for 15 s: its time ends with its last packet all the same.
#[test]
fn call_that_ended_in_the_past_keeps_only_its_own_time() {
    let mut bench = Bench::new();
    bench.open();
    let began = bench.now_ms;
    bench.call(true);
    bench.run(20_000);
    bench.hang();
    bench.run(8_000);
    let end = bench.now_ms;
    let bad = bench.function.tally().bad_us;
    bench.run(15_000);
    bench.function.handle_call(false, ms(end));
    bench.drain();
    let tally = *bench.function.tally();
    assert_eq!(tally.call_us, (end - began) * 1_000);
    // The stall was charged up to a poll before the end when the end came; the rest of it up to there is added.
    assert!((bad..=bad + 250_000).contains(&tally.bad_us), "{tally:?}");
    let [within, after] = bench.episodes()[..] else { panic!("{:?}", bench.episodes()) };
    assert_eq!(within.bad_us, tally.bad_us);
    // The program holds it still, and it stands still.
    assert_eq!((after.onset, after.bad_us), (bench.now(), 0));
    assert_consistent(&tally);
}
