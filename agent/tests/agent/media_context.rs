//! Calls as the room application names them: what opens, holds, splits and ends a call beside its packets.

use roomtone_agent::clock::Moment;
use roomtone_agent::media::Event;
use roomtone_agent::media::context::{ContextChange, ContextNumber, ContextTaken};
use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::id::CallId;

use super::world::{LOCAL, Rtp, World, ms, stun};

/// The first packet of the second leg in these stories is the far end's, from here.
const SECOND: &str = "203.0.113.5:4000";

fn begin(world: &mut World, number: u64, at: Moment) {
    begin_for(world, number, CallPurpose::Meeting, at);
}

fn begin_for(world: &mut World, number: u64, purpose: CallPurpose, at: Moment) {
    let change = ContextChange::Began { context: ContextNumber(number), purpose };
    world.watch.handle_context(change, at);
}

fn end(world: &mut World, number: u64, at: Moment) {
    world.watch.handle_context(ContextChange::Ended { context: ContextNumber(number) }, at);
}

/// Speech from `from` to `to`, a packet every 20 ms.
fn talk(world: &mut World, remote: &str, from: u64, to: u64) {
    for n in from / 20..to / 20 {
        world.send(ms(n * 20), remote, LOCAL, &Rtp::opus(n).bytes());
    }
}

const FIRST: &str = super::world::REMOTE;

/// Each call: opened, closed (in milliseconds) and how many legs it had.
fn calls(events: &[Event]) -> Vec<(u64, u64, u16)> {
    let mut calls = Vec::new();
    let mut open: Option<(CallId, Moment)> = None;
    for event in events {
        match event {
            Event::CallOpened { call, at, .. } => {
                assert_eq!(open, None, "one call at a time");
                open = Some((*call, *at));
            }
            Event::CallClosed { call, at, legs, .. } => {
                let (opened_call, opened) = open.take().unwrap();
                assert_eq!(opened_call, *call);
                calls.push((opened.as_nanos() / 1_000_000, at.as_nanos() / 1_000_000, *legs));
            }
            Event::LegOpened { .. }
            | Event::Interval { .. }
            | Event::LegSummary { .. }
            | Event::ContextTaken(_) => {}
        }
    }
    calls
}

fn taken(events: &[Event]) -> Vec<ContextTaken> {
    let taken = events.iter().filter_map(|event| match event {
        Event::ContextTaken(taken) => Some(*taken),
        Event::CallOpened { .. }
        | Event::LegOpened { .. }
        | Event::Interval { .. }
        | Event::LegSummary { .. }
        | Event::CallClosed { .. } => None,
    });
    taken.collect()
}

#[test]
fn context_opens_a_call_without_packets_and_ends_it_at_once() {
    let mut world = World::new();
    begin(&mut world, 1, ms(1_000));
    assert!(world.watch.poll_event().is_none(), "packets of before may still come");
    world.timeout(ms(1_000));
    assert!(matches!(
        world.events[0],
        Event::CallOpened { at, purpose: CallPurpose::Meeting, .. } if at == ms(1_000)
    ));
    assert_eq!(world.watch.poll_timeout(), None, "it only waits");
    world.timeout(ms(3_600_000));
    assert_eq!(calls(&world.events), []);
    end(&mut world, 1, ms(3_600_500));
    world.timeout(ms(3_600_500));
    assert_eq!(calls(&world.events), [(1_000, 3_600_500, 0)]);
    let taken = taken(&world.events);
    assert!(taken[0].call.is_some() && taken[1].call.is_none(), "{taken:?}");
}

#[test]
fn silence_longer_than_the_idle_time_does_not_end_a_context() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    talk(&mut world, FIRST, 1_000, 5_000);
    // A minute on hold: four times the idle time.
    talk(&mut world, SECOND, 65_000, 70_000);
    end(&mut world, 1, ms(71_000));
    // The last packet came at 69,980: its 15 s are over at 84,980, and the call lasted until the context's end.
    world.timeout(ms(84_979));
    assert_eq!(calls(&world.events), []);
    world.timeout(ms(84_980));
    assert_eq!(calls(&world.events), [(0, 71_000, 2)]);
}

#[test]
fn packets_that_go_on_behind_the_end_belong_to_the_call_while_they_do() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    talk(&mut world, FIRST, 1_000, 20_000);
    end(&mut world, 1, ms(10_000));
    talk(&mut world, FIRST, 20_000, 30_000);
    world.timeout(ms(60_000));
    assert_eq!(calls(&world.events), [(0, 29_980, 1)]);
}

#[test]
fn call_whose_packets_had_stopped_closes_with_its_context() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    talk(&mut world, FIRST, 1_000, 5_000);
    end(&mut world, 1, ms(40_000));
    world.timeout(ms(40_000));
    assert_eq!(calls(&world.events), [(0, 40_000, 1)]);
}

#[test]
fn context_adopts_the_call_that_its_packets_opened() {
    let mut world = World::new();
    talk(&mut world, FIRST, 0, 2_000);
    begin(&mut world, 1, ms(2_000));
    talk(&mut world, FIRST, 2_000, 5_000);
    end(&mut world, 1, ms(60_000));
    world.timeout(ms(60_000));
    assert_eq!(calls(&world.events), [(0, 60_000, 1)]);
}

#[test]
fn two_contexts_split_legs_that_follow_each_other_within_the_idle_time() {
    let mut world = World::new();
    talk(&mut world, FIRST, 0, 10_000);
    begin(&mut world, 1, ms(1_000));
    end(&mut world, 1, ms(10_000));
    begin(&mut world, 2, ms(12_000));
    talk(&mut world, SECOND, 13_000, 20_000);
    end(&mut world, 2, ms(20_000));
    world.timeout(ms(60_000));
    assert_eq!(calls(&world.events), [(0, 10_000, 1), (12_000, 20_000, 1)]);
}

#[test]
fn context_that_begins_ends_the_one_before() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    talk(&mut world, FIRST, 0, 10_000);
    begin(&mut world, 2, ms(11_000));
    // The end of a context that has ended already changes nothing.
    end(&mut world, 1, ms(12_000));
    talk(&mut world, SECOND, 12_000, 20_000);
    world.timeout(ms(100_000));
    assert_eq!(calls(&world.events), [(0, 11_000, 1)]);
    end(&mut world, 2, ms(101_000));
    world.timeout(ms(101_000));
    assert_eq!(calls(&world.events)[1], (11_000, 101_000, 1));
}

#[test]
fn leg_behind_a_context_belongs_to_the_next_call_which_the_next_context_adopts() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    talk(&mut world, FIRST, 0, 10_000);
    end(&mut world, 1, ms(10_000));
    // The room application is a second late.
    talk(&mut world, SECOND, 14_000, 20_000);
    begin(&mut world, 2, ms(15_000));
    end(&mut world, 2, ms(20_000));
    world.timeout(ms(60_000));
    assert_eq!(calls(&world.events), [(0, 10_000, 1), (14_000, 20_000, 1)]);
}

#[test]
fn packets_fall_on_their_side_of_a_change_however_late_they_are_read() {
    let mut world = World::new();
    talk(&mut world, FIRST, 0, 10_000);
    // Said at 10,200 and heard before the packets of up to then came out of the ring.
    begin(&mut world, 1, ms(200));
    begin(&mut world, 2, ms(10_200));
    talk(&mut world, FIRST, 10_000, 12_000);
    end(&mut world, 2, ms(12_000));
    world.timeout(ms(60_000));
    let counts: Vec<u64> = world.events.iter().filter_map(summary_received).collect();
    // 510 packets from 0 to 10,180, and the 90 behind.
    assert_eq!(counts, [510, 90]);
}

fn summary_received(event: &Event) -> Option<u64> {
    match event {
        Event::LegSummary { report, .. } => Some(report.streams[0].received),
        Event::CallOpened { .. }
        | Event::LegOpened { .. }
        | Event::Interval { .. }
        | Event::CallClosed { .. }
        | Event::ContextTaken(_) => None,
    }
}

#[test]
fn meeting_never_adopts_a_rehearsal() {
    let mut world = World::new();
    let mut check = stun(0x0001, 1);
    check[3] = 24;
    check.extend([0x80, 0x22, 0x00, 18]);
    check.extend(b"roomtone rehearsal\0\0");
    world.egress(ms(0), &check);
    talk(&mut world, FIRST, 100, 5_000);
    begin(&mut world, 1, ms(6_000));
    world.timeout(ms(6_000));
    let purposes: Vec<_> = world.events.iter().filter_map(purpose).collect();
    assert_eq!(purposes, [CallPurpose::Rehearsal, CallPurpose::Meeting]);
    // A context that says that it is a rehearsal's takes a rehearsal's call.
    let mut world = World::new();
    world.egress(ms(0), &check);
    talk(&mut world, FIRST, 100, 5_000);
    begin_for(&mut world, 1, CallPurpose::Rehearsal, ms(6_000));
    world.timeout(ms(6_000));
    let purposes: Vec<_> = world.events.iter().filter_map(purpose).collect();
    assert_eq!(purposes, [CallPurpose::Rehearsal]);
}

fn purpose(event: &Event) -> Option<CallPurpose> {
    match event {
        Event::CallOpened { purpose, .. } => Some(*purpose),
        Event::LegOpened { .. }
        | Event::Interval { .. }
        | Event::LegSummary { .. }
        | Event::CallClosed { .. }
        | Event::ContextTaken(_) => None,
    }
}

#[test]
fn check_before_any_media_is_no_leg_and_one_beside_it_is() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    world.send(ms(100), LOCAL, SECOND, &stun(0x0001, 1));
    world.send(ms(130), SECOND, LOCAL, &stun(0x0101, 1));
    end(&mut world, 1, ms(1_000));
    world.timeout(ms(1_000));
    assert_eq!(calls(&world.events), [(0, 1_000, 0)]);
    // The same, with media: the checked path is a leg from the first stream on.
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    world.send(ms(100), LOCAL, SECOND, &stun(0x0001, 1));
    world.send(ms(130), SECOND, LOCAL, &stun(0x0101, 1));
    talk(&mut world, FIRST, 1_000, 2_000);
    end(&mut world, 1, ms(2_000));
    world.timeout(ms(60_000));
    assert_eq!(calls(&world.events), [(0, 2_000, 2)]);
}

#[test]
fn agent_that_stops_in_a_silent_context_ends_its_call_then() {
    let mut world = World::new();
    begin(&mut world, 1, ms(0));
    world.timeout(ms(0));
    world.timeout(ms(50_000));
    let events = world.finish();
    assert_eq!(calls(&events), [(0, 50_000, 0)]);
    let closed = events.last().unwrap();
    assert!(
        matches!(closed, Event::CallClosed { reason: CallCloseReason::AgentStopped, .. }),
        "{closed:?}"
    );
}

#[test]
fn idle_call_is_over_before_a_context_that_is_heard_much_later() {
    let mut world = World::new();
    talk(&mut world, FIRST, 0, 2_000);
    begin(&mut world, 1, ms(100_000));
    world.timeout(ms(100_000));
    end(&mut world, 1, ms(101_000));
    world.timeout(ms(101_000));
    assert_eq!(calls(&world.events), [(0, 1_980, 1), (100_000, 101_000, 0)]);
}

#[test]
fn more_changes_than_wait_take_effect_in_their_order() {
    let mut world = World::new();
    for number in 0..100 {
        begin(&mut world, number, ms(number));
    }
    world.timeout(ms(100));
    let moments: Vec<Moment> = taken(&world.events).iter().map(|taken| taken.at).collect();
    assert_eq!(moments, (0..100).map(ms).collect::<Vec<_>>());
}
