//! Opens that bring nothing, opens that only look like it, and devices that others use while no call is on.

use std::time::Duration;

use roomtone_agent::audio::accounting::Tally;
use roomtone_agent::audio::function::{OpenFailure, PcmState, Signal, State};
use roomtone_protocol::device::{DeviceCause, DeviceSide, EpisodeState};

use super::OFFSETS_MS;
use super::bench::{Bench, POLL_MS};
use crate::world::ms;

/// The call begins 10 s after the plug was pulled out of a device in use, or 20 s after it.
#[test]
fn device_unplugged_in_use_before_the_call_is_missed_for_fifteen_seconds() {
    for (wait_ms, is_missed) in [(10_000, true), (20_000, false)] {
        let mut bench = Bench::new();
        bench.open();
        bench.run(5_000);
        let fault = bench.now_ms;
        bench.unplug();
        bench.run(wait_ms);
        let bad_ms = wait_ms.min(15_000);
        let before = bench.only_episode();
        assert_eq!((before.cause, before.onset), (DeviceCause::Removed, ms(fault)));
        bench.call(true);
        bench.run(20_000);
        let ended = bench.episodes()[0].state;
        assert_eq!(ended, EpisodeState::Unrecovered, "it never came back");
        let missed = State::NotFunctioning(DeviceCause::Removed);
        let state = if is_missed { missed } else { State::Absent };
        assert_eq!(bench.function.state(), state, "{wait_ms}");
        assert_eq!(bench.episodes()[0].bad_us, bad_ms * 1_000);
    }
}

/// What only we hold is nobody's loss.
#[test]
fn stall_of_a_device_that_we_alone_hold_is_only_suspected() {
    let mut bench = Bench::new();
    bench.open_as(1);
    bench.run(5_000);
    assert_eq!(bench.function.state(), State::Functioning);
    bench.hang();
    bench.run(5_000);
    assert_eq!(bench.function.state(), State::Suspect);
    assert_eq!(bench.episodes(), []);
}

/// A blocking read of a stalled device ends with EIO after 440 ms, and its program opens the device again 200 ms later.
#[test]
fn stall_that_a_program_answers_by_opening_again_is_one_episode() {
    // A busy machine wakes the reader late: the first stall may be told before its program closes.
    for (offset, first) in OFFSETS_MS.into_iter().flat_map(|it| [(it, 440), (it, 1_500)]) {
        let mut bench = Bench::in_call();
        bench.run(offset);
        let fault = bench.now_ms;
        bench.hang();
        for n in 0..12 {
            bench.run(if n == 0 { first } else { 440 });
            bench.close();
            bench.run(200);
            bench.open_stuck(PcmState::Running);
        }
        let bad = 11 * 640 + first + 200;
        assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Stalled));
        bench.resume();
        bench.run(11_000);
        // Two opens of 440 ms for nothing, the first of them 640 ms after the hang; of each a poll or two are seen.
        bench.check(DeviceCause::Stalled, fault, POLL_MS, 4 * 640, bad);
        assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
    }
}

/// Of an open of 440 ms that is seen twice, 240 ms of finding nothing are seen, with the format that came in between.
#[test]
fn open_that_agrees_on_its_format_late_is_one_open() {
    let mut bench = Bench::in_call();
    let fault = bench.now_ms;
    bench.hang();
    bench.run(440);
    for _ in 0..8 {
        bench.close();
        bench.run(200);
        bench.open_slowly(PcmState::Running);
        bench.next_poll_ms = bench.now_ms + POLL_MS;
        bench.run(200);
    }
    bench.close();
    bench.run(200);
    bench.open();
    bench.run(11_000);
    // 500 ms of it are seen in the third open, which ends 440 + 3 * 640 ms after the hang.
    bench.check(DeviceCause::Stalled, fault, POLL_MS, 440 + 3 * 640, 440 + 8 * 640 + 200);
}

/// Each control request hangs for 5 s, in which the stream has parameters and is not prepared; then the open fails.
#[test]
fn open_that_hangs_inside_another_program_has_failed_since_it_began() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.run(1_000);
    let fault = bench.now_ms;
    for _ in 0..2 {
        bench.open_stuck(PcmState::Setup);
        bench.run(5_050);
        bench.close();
        bench.run(200);
    }
    bench.open();
    bench.run(11_000);
    // Until the first poll of the stream that moves, which is 250 ms after its open at most.
    bench.check(DeviceCause::OpenFailed, fault, 0, 3_250, 10_500);
    assert_eq!(bench.only_episode().state, EpisodeState::Recovered);
}

/// A refused control request ends each open after 30 ms; the program tries every 230 ms.
#[test]
fn opens_that_fail_at_once_are_one_fault_after_three_seconds_of_trying() {
    let mut bench = Bench::new();
    bench.call(true);
    bench.run(1_000);
    let fault = bench.now_ms;
    for n in 0..20 {
        // Few of them are still open when they are looked at.
        if n % 4 == 0 {
            bench.open_stuck(PcmState::Setup);
            bench.run(30);
            bench.close();
        } else {
            bench.run(30);
            bench.tell(&Signal::Tried);
        }
        bench.run(200);
    }
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::OpenFailed));
    // Nobody tries any more: what nobody wants is not missed.
    bench.run(12_500);
    bench.check(DeviceCause::OpenFailed, fault, 0, 3_250, 4_400);
    assert_eq!(bench.function.state(), State::Idle);
    assert_eq!(bench.only_episode().state, EpisodeState::Unrecovered);
}

/// A program that asks what a device can do opens it some times in a row, for a second at most.
#[test]
fn probing_of_a_device_is_no_fault() {
    let mut bench = Bench::new();
    bench.call(true);
    for _ in 0..5 {
        for _ in 0..4 {
            bench.open_stuck(PcmState::Open);
            bench.run(150);
            bench.close();
            bench.run(50);
        }
        bench.run(2_500);
    }
    assert_eq!(bench.episodes(), []);
    assert_eq!(bench.function.state(), State::Idle);
}

/// Each sound is over before the second poll; the first finds the stream running at 0.
#[test]
fn short_sounds_one_after_the_other_are_no_fault() {
    for lasts in [110, 160, 240] {
        let mut bench = Bench::of(DeviceSide::Render);
        bench.call(true);
        for n in 0..60 {
            bench.open_stuck(if n % 3 == 0 { PcmState::Setup } else { PcmState::Running });
            bench.next_poll_ms = bench.now_ms + POLL_MS;
            bench.run(lasts);
            bench.close();
            bench.run(300);
        }
        assert_eq!(bench.episodes(), [], "{lasts} ms");
    }
}

/// Muting by stopping: the program drops the stream and keeps its handle, for minutes.
#[test]
fn stream_that_its_program_stopped_and_kept_is_idle() {
    for rest in [PcmState::Setup, PcmState::Prepared, PcmState::Paused] {
        let mut bench = Bench::in_call();
        bench.pcm_state = rest;
        bench.run(60_000);
        bench.pcm_state = PcmState::Running;
        bench.run(10_000);
        assert_eq!(bench.episodes(), [], "{rest:?}");
        assert_eq!(bench.function.state(), State::Functioning);
        assert_eq!(bench.function.tally().bad_us, 0);
    }
}

#[test]
fn held_by_another_process_is_busy_and_its_stall_is_found_without_opening() {
    let mut bench = Bench::new();
    bench.open();
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Busy);
    bench.tell(&Signal::OpenFailed { failure: OpenFailure::Busy, waited: Duration::ZERO });
    assert_eq!(bench.function.state(), State::Busy);
    let fault = bench.now_ms;
    bench.hang();
    bench.run(2_000);
    assert_eq!(bench.function.state(), State::NotFunctioning(DeviceCause::Stalled));
    let held = bench.only_episode();
    assert!(ms(fault).since(held.onset) <= Duration::from_millis(POLL_MS), "{held:?}");
    assert_eq!(*bench.function.tally(), Tally::default(), "only a call has totals");
    let begun = bench.now_ms;
    bench.call(true);
    bench.run(5_000);
    let [before, within] = bench.episodes()[..] else { panic!("{:?}", bench.episodes()) };
    assert_eq!(before.state, EpisodeState::Unrecovered);
    assert_eq!((within.cause, within.onset), (DeviceCause::Stalled, ms(begun)));
    assert_eq!(bench.function.tally().episodes, 1);
}

/// One program ends a healthy stream; the next one's, a second later, never starts.
#[test]
fn healthy_stream_of_another_program_before_it_is_not_what_stalled() {
    for offset in OFFSETS_MS {
        let mut bench = Bench::in_call();
        bench.run(offset);
        bench.close();
        bench.run(1_000);
        let fault = bench.now_ms;
        for _ in 0..10 {
            bench.open_stuck(PcmState::Running);
            bench.next_poll_ms = bench.now_ms + POLL_MS;
            bench.run(440);
            bench.close();
            bench.run(200);
        }
        bench.open();
        bench.run(11_000);
        bench.check(DeviceCause::NeverStarted, fault, 0, 3_500, 6_400);
    }
}

/// The agent comes late to a stream that its program has stopped and kept: it is in SETUP, at its last position.
#[test]
fn stream_found_stopped_is_idle() {
    let mut bench = Bench::new();
    bench.open_stuck(PcmState::Setup);
    bench.hw_ptr = 48_000;
    bench.run(60_000);
    assert_eq!(bench.function.state(), State::Idle);
    assert_eq!(bench.episodes(), []);
}
