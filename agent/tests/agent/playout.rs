//! The jitter-buffer model on small calls whose outcome can be worked out, and on hostile ones.

use proptest::prelude::*;
use roomtone_agent::clock::Moment;
use roomtone_agent::media::playout::{Content, Packet, Playout};
use roomtone_agent::media::seq::{Arrival, SequenceTracker};

const RATE: u32 = 48_000;

/// One frame of 20 ms: its number, its place in time in frames, when it comes in ms, and whether it is padding.
#[derive(Debug, Clone, Copy)]
struct Sent {
    sequence: u64,
    place: u64,
    at_ms: u64,
    content: Content,
}

fn frame(n: u64) -> Sent {
    Sent { sequence: n, place: n, at_ms: n * 20, content: Content::Frame }
}

/// Plays them in the order of their arrival.
fn play(sent: impl IntoIterator<Item = Sent>) -> Playout {
    let mut sent: Vec<_> = sent.into_iter().collect();
    sent.sort_by_key(|sent| sent.at_ms);
    let mut playout = Playout::new(RATE);
    let mut tracker: Option<SequenceTracker> = None;
    for Sent { sequence, place, at_ms, content } in sent {
        let at = Moment::from_nanos(1_000_000_000 + at_ms * 1_000_000);
        let timestamp = (place * 960) as u32;
        let arrival = match &mut tracker {
            Some(tracker) => tracker.handle(sequence as u16, timestamp, Some(RATE), at),
            None => {
                tracker = Some(SequenceTracker::new(sequence as u16, timestamp, at));
                Arrival::Advanced { step: 1 }
            }
        };
        playout.handle(&Packet { at, timestamp, arrival, content });
    }
    playout
}

#[test]
fn even_stream_is_played_as_it_comes() {
    let playout = play((0..500).map(frame));
    let total = playout.total();
    assert_eq!((total.concealed_us, total.discarded, playout.burst().missing), (0, 0, 0));
    // All but those that still wait: a target of 20 ms, and up to 20 ms more before compressing pays.
    assert!((496..=500).contains(&total.played), "{total:?}");
    assert!((20..=60).contains(&total.delay_mean().unwrap().as_millis()), "{total:?}");
}

#[test]
fn lost_frame_is_made_up_for_its_own_length_at_most() {
    let playout = play((0..500).filter(|n| n % 50 != 49).map(frame));
    let (total, burst) = (playout.total(), playout.burst());
    // 10 of 500 are missing; the last one has no successor that tells.
    assert_eq!((burst.missing, burst.runs[0], burst.bursts.count), (9, 9, 0));
    // The end of the frame before is still being heard when the concealment begins: 10 to 20 ms each.
    assert!((90_000..=180_000).contains(&total.concealed_us), "{total:?}");
    assert!(total.worst_second_us <= 20_000, "one frame in each second");
}

#[test]
fn run_of_missing_frames_is_a_burst() {
    let playout = play((0..500).filter(|n| !(100..105).contains(n)).map(frame));
    let (total, burst) = (playout.total(), playout.burst());
    assert_eq!((burst.missing, burst.runs[4], burst.bursts.count), (5, 1, 1));
    assert!((80_000..=120_000).contains(&total.concealed_us), "{total:?}");
    assert_eq!(total.worst_second_us, total.concealed_us);
}

#[test]
fn frame_that_comes_while_it_can_wait_is_played() {
    let late = |n| Sent { at_ms: n * 20 + 15, ..frame(n) };
    let playout = play((0..500).map(|n| if n % 10 == 5 { late(n) } else { frame(n) }));
    assert_eq!(playout.total().discarded, 0);
    // The first late ones may find the buffer short; 50 of 15 ms each would be 750 ms.
    assert!(playout.total().concealed_us <= 30_000, "{:?}", playout.total());
}

#[test]
fn frame_that_comes_behind_its_time_counts_as_missing_and_as_discarded() {
    let late = Sent { at_ms: 200 * 20 + 400, ..frame(200) };
    let playout = play((0..500).filter(|&n| n != 200).map(frame).chain([late]));
    assert_eq!((playout.burst().missing, playout.total().discarded), (1, 1));
    assert!((10_000..=20_000).contains(&playout.total().concealed_us), "{:?}", playout.total());
}

#[test]
fn delay_that_grows_is_concealed_once_and_then_waited_for() {
    let shifted = |n: u64| Sent { at_ms: n * 20 + if n < 250 { 0 } else { 300 }, ..frame(n) };
    let mut playout = play((0..250).map(shifted).chain((250..1000).map(shifted)));
    let total = playout.take_interval();
    // What the buffer had held, 20 to 50 ms, is less to make up.
    assert!((240_000..=290_000).contains(&total.concealed_us), "{total:?}");
    assert_eq!((total.discarded, playout.burst().missing), (0, 0), "all are played, later");
}

#[test]
fn silence_that_the_sender_leaves_out_is_no_concealment() {
    // DTX: speech for 2 s, then a packet each 400 ms for 4 s, three times. Numbers go on, RTP time steps over.
    let mut sent = Vec::new();
    let (mut sequence, mut place) = (0, 0);
    for _ in 0..3 {
        for (packets, spacing) in [(100, 1), (10, 20)] {
            for _ in 0..packets {
                sent.push(Sent { sequence, place, at_ms: place * 20, content: Content::Frame });
                (sequence, place) = (sequence + 1, place + spacing);
            }
        }
    }
    let playout = play(sent);
    assert_eq!((playout.total().concealed_us, playout.burst().missing), (0, 0));
    // 18 s, but for what waits still and the last packet's own pause.
    assert!((17_400_000..=18_000_000).contains(&playout.total().total_us), "{:?}", playout.total());
}

#[test]
fn loss_within_silence_is_no_more_than_what_was_lost() {
    // A packet each 400 ms, the tenth lost: one frame is missing, and not 800 ms.
    let sent = (0..100).map(frame).chain((0..20).filter(|n| *n != 10).map(|n| {
        let place = 100 + n * 20;
        Sent { sequence: 100 + n, place, at_ms: place * 20, content: Content::Frame }
    }));
    let playout = play(sent);
    assert_eq!(playout.burst().missing, 1);
    assert!(playout.total().concealed_us <= 20_000, "{:?}", playout.total());
}

#[test]
fn pause_of_an_hour_is_neither_concealed_nor_heard() {
    let later = |n| Sent { place: n + 180_000, at_ms: (n + 180_000) * 20, ..frame(n) };
    let playout = play((0..100).map(frame).chain((100..200).map(later)));
    assert_eq!(playout.total().concealed_us, 0);
    // 4 s of frames, a second at most of the pause, and what the buffer was stretched by.
    let heard = playout.total().total_us - playout.total().stretched_us;
    assert!((4_900_000..=5_000_000).contains(&heard), "{:?}", playout.total());
}

#[test]
fn outage_of_an_hour_is_concealment_of_an_hour() {
    let playout = play((0..100).chain(180_100..180_200).map(frame));
    let concealed = playout.total().concealed_us;
    assert!((3_599_900_000..=3_600_000_000).contains(&concealed), "{concealed}");
    assert_eq!(playout.total().worst_second_us, 1_000_000);
    assert_eq!(playout.burst().missing, 180_000);
}

#[test]
fn padding_is_no_frame_and_hides_no_loss() {
    // Behind each fifth frame two probes with its RTP time; frame 252 is lost, its probes are not.
    let mut sent = Vec::new();
    let mut sequence = 0;
    for n in 0..500 {
        let mut push = |sequence, content| {
            sent.push(Sent { sequence, content, ..frame(n) });
        };
        if n != 250 {
            push(sequence, Content::Frame);
        }
        sequence += 1;
        for _ in 0..if n % 5 == 0 { 2 } else { 0 } {
            push(sequence, Content::Padding);
            sequence += 1;
        }
    }
    let playout = play(sent);
    assert_eq!(playout.burst().missing, 1);
    assert!((10_000..=20_000).contains(&playout.total().concealed_us), "{:?}", playout.total());
}

#[test]
fn telephone_event_is_neither_late_nor_missing() {
    // RFC 4733: frames stop for 400 ms; every 20 ms a packet with the time of the event's start, numbers go on.
    let event = |n| Sent { place: 250, ..frame(n) };
    let sent = (0..500).map(|n| if (250..270).contains(&n) { event(n) } else { frame(n) });
    let playout = play(sent);
    assert_eq!((playout.total().concealed_us, playout.burst().missing), (0, 0));
    assert!(playout.total().delay_max().unwrap().as_millis() <= 80, "{:?}", playout.total());
}

#[test]
fn sender_that_begins_anew_makes_nothing_up() {
    // RTP time and numbers start elsewhere, and RTP time alone jumps by an hour.
    let restarted = |n| Sent { sequence: n + 30_000, place: n + 2_000_000, ..frame(n) };
    let jumped = |n| Sent { place: n + 180_000, ..frame(n) };
    for second in [(250..500).map(restarted).collect::<Vec<_>>(), (250..500).map(jumped).collect()]
    {
        let playout = play((0..250).map(frame).chain(second));
        assert_eq!((playout.total().concealed_us, playout.total().resets), (0, 1));
    }
}

#[test]
fn every_frame_length_and_clock_is_learned() {
    for (rate, ticks) in
        [(8_000u32, 80u32), (8_000, 240), (11_025, 220), (16_000, 320), (48_000, 2_880)]
    {
        let mut playout = Playout::new(rate);
        for n in 0..400u64 {
            let nanos = n * u64::from(ticks) * 1_000_000_000 / u64::from(rate);
            let packet = Packet {
                at: Moment::from_nanos(1_000_000_000 + nanos),
                timestamp: (n as u32).wrapping_mul(ticks).wrapping_sub(5 * ticks),
                arrival: Arrival::Advanced { step: 1 },
                content: Content::Frame,
            };
            playout.handle(&packet);
        }
        let expected = f64::from(ticks) * 1e3 / f64::from(rate);
        assert!((playout.frame().as_secs_f64() * 1e3 - expected).abs() < 0.01, "{rate} {ticks}");
        assert_eq!(playout.total().concealed_us, 0, "{rate} {ticks}");
        assert!(playout.total().played >= 390, "{rate} {ticks}");
    }
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        8 => Just(Arrival::Advanced { step: 1 }),
        2 => any::<u32>().prop_map(|step| Arrival::Advanced { step }),
        2 => Just(Arrival::Reordered),
        1 => Just(Arrival::Duplicate),
        1 => Just(Arrival::Restarted),
        1 => Just(Arrival::Unplaced),
    ]
}

/// Steps of RTP time: mostly a frame, sometimes anything.
fn ticks() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(960u32), 2 => 0u32..10_000, 1 => any::<u32>()]
}

/// Steps of arrival time in ns: mostly a frame, sometimes any, back as well.
fn nanos() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0i64..40_000_000, 1 => -1_000_000_000i64..1_000_000_000, 1 => any::<i64>()]
}

proptest! {
    #[test]
    fn no_sequence_of_packets_breaks_the_books(
        rate in prop_oneof![Just(8_000u32), Just(48_000), Just(0), Just(u32::MAX)],
        packets in proptest::collection::vec((arrival(), ticks(), nanos(), any::<bool>()), 1..600),
    ) {
        let mut playout = Playout::new(rate);
        let (mut timestamp, mut at) = (u32::MAX - 5_000, 1u64 << 40);
        let mut summed = playout.total();
        for (n, (arrival, ticks, nanos, padding)) in packets.iter().enumerate() {
            timestamp = timestamp.wrapping_add(*ticks);
            at = at.wrapping_add_signed(*nanos);
            let content = if *padding && n % 7 == 0 { Content::Padding } else { Content::Frame };
            let at = Moment::from_nanos(at);
            playout.handle(&Packet { at, timestamp, arrival: *arrival, content });
            if n % 50 == 49 {
                summed = summed.with(&playout.take_interval());
            }
        }
        let (total, burst) = (playout.total(), playout.burst());
        prop_assert_eq!(total, summed.with(&playout.interval()));
        prop_assert!(total.concealed_us <= total.total_us);
        prop_assert!(total.worst_second_us <= 1_000_000);
        prop_assert_eq!(total.played, burst.received);
        prop_assert!(total.played + total.discarded <= packets.len() as u64);
        prop_assert_eq!(burst.bursts.frames + burst.gaps.frames, burst.received + burst.missing);
    }

    #[test]
    fn random_loss_is_concealed_in_proportion(percent in 1u64..20, seed in any::<u64>()) {
        let mut noise = seed | 1;
        let playout = play((0..3_000).filter(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 33) % 100 >= percent
        }).map(frame));
        let (missing, concealed) =
            (playout.burst().missing_ratio().unwrap(), playout.total().concealed_ratio().unwrap());
        // No more than what is missing, and no less than half: the first tick of a hole may be half full.
        prop_assert!(concealed <= missing * 1.05 + 0.002, "{} of {}", concealed, missing);
        prop_assert!(concealed >= missing * 0.45 - 0.002, "{} of {}", concealed, missing);
    }
}
