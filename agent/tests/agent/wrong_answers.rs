//! What others get wrong, measured on the same streams: `tshark -z rtp,streams` 4.0.17 and plain expected minus
//! received.
//!
//! Each test names the wrong answer. All go through the whole watch, from datagrams to the leg's summary.

use roomtone_agent::media::stream::StreamReport;
use roomtone_protocol::media::{ClockRateSource, Direction};

use super::world::{Rtp, World, as_ms, legs, ms, only_stream};

/// The packet that left at `sent` x 20 ms, G.711.
fn g711(sent: u64, sequence: u64) -> Rtp {
    Rtp {
        payload_type: 0,
        sequence: sequence as u16,
        timestamp: (sent * 160) as u32,
        ssrc: 1,
        payload_bytes: 160,
    }
}

/// Received, lost, duplicate, reordered, restarts.
fn counts(stream: &StreamReport) -> [u64; 5] {
    let restarts = u64::from(stream.restarts);
    [stream.received, stream.lost(), stream.duplicate, stream.reordered, restarts]
}

/// Measures packets that arrive at these milliseconds, which may be unordered.
fn measure(packets: impl IntoIterator<Item = (u64, Rtp)>) -> StreamReport {
    let mut packets: Vec<_> = packets.into_iter().collect();
    packets.sort_by_key(|(at, _)| *at);
    let mut world = World::new();
    for (at, packet) in packets {
        world.ingress(ms(at), &packet.bytes());
    }
    only_stream(&world.finish()).clone()
}

#[test]
fn duplicates_are_not_negative_loss() {
    // 1,000 packets, every twentieth twice. Others: -50 lost.
    let packets = (0..1_000)
        .flat_map(|n| std::iter::repeat_n((n * 20, g711(n, n)), 1 + usize::from(n % 20 == 0)));
    assert_eq!(counts(&measure(packets)), [1_000, 0, 50, 0, 0]);
}

#[test]
fn duplicates_do_not_hide_loss() {
    // Of 1,000 packets 50 are lost and 50 others doubled. Others: -1 lost.
    let packets = (0..1_000)
        .filter(|n| n % 20 != 7)
        .flat_map(|n| std::iter::repeat_n((n * 20, g711(n, n)), 1 + usize::from(n % 20 == 0)));
    assert_eq!(counts(&measure(packets)), [950, 50, 50, 0, 0]);
}

#[test]
fn late_packet_across_the_wrap_is_not_a_lost_cycle() {
    // Number 65,534 arrives behind 0, which left 40 ms later. Others: 65,536 lost.
    let packets = (0..1_000).map(|n| {
        let sequence = 65_000 + n;
        (n * 20 + if sequence == 65_534 { 50 } else { 0 }, g711(n, sequence))
    });
    assert_eq!(counts(&measure(packets)), [1_000, 0, 0, 1, 0]);
}

#[test]
fn reordering_is_neither_loss_nor_jitter() {
    // Every tenth packet comes 50 ms late, behind the next two. Others: 8.8 ms of jitter.
    let packets = (0..1_000).map(|n| (n * 20 + if n % 10 == 5 { 50 } else { 0 }, g711(n, n)));
    let stream = measure(packets);
    assert_eq!(counts(&stream), [1_000, 0, 0, 100, 0]);
    assert!(as_ms(stream.jitter.max()) < 0.001, "all others keep their distance");
}

#[test]
fn restart_of_the_numbers_is_not_loss() {
    // 500 packets from 1,000, then 500 from 50,000 under the same source. Others: 48,500 lost, or -500.
    let packets = (0..1_000).map(|n| (n * 20, g711(n, n + if n < 500 { 1_000 } else { 49_500 })));
    let stream = measure(packets);
    assert_eq!(counts(&stream), [1_000, 0, 0, 0, 1]);
    assert!(as_ms(stream.jitter.max()) < 0.001);
}

#[test]
fn hole_of_800_seconds_is_40000_lost_on_one_side_alone() {
    // Ours goes on for 820 s, theirs is missing from 10 s to 810 s. Plain subtraction: -25,536.
    let mut world = World::new();
    for n in 0..41_000 {
        world.egress(ms(n * 20), &g711(n, n).bytes());
        if !(500..40_500).contains(&n) {
            world.ingress(ms(n * 20 + 7), &g711(n, n).bytes());
        }
    }
    let events = world.finish();
    let legs = legs(&events);
    assert_eq!(legs.len(), 1);
    let of = |direction| {
        let stream = legs[0].streams.iter().find(|s| s.direction == direction).unwrap();
        counts(stream)
    };
    assert_eq!(of(Direction::Egress), [41_000, 0, 0, 0, 0]);
    assert_eq!(of(Direction::Ingress), [1_000, 40_000, 0, 0, 0]);
}

#[test]
fn dynamic_payload_type_has_the_jitter_of_a_static_one() {
    // Delays uniform over 15 ms, whose mean change is a third of that: 5 ms. Others: 0.000 for the dynamic type.
    let mut noise = 1u32;
    let delays: Vec<u64> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (u64::from(noise >> 16) * 15) >> 16
    })
    .take(3_000)
    .collect();
    let at = |n: u64| n * 20 + delays[n as usize];
    let opus = measure((0..3_000).map(|n| (at(n), Rtp::opus(n))));
    let pcmu = measure((0..3_000).map(|n| (at(n), g711(n, n))));
    assert_eq!(opus.clock_rate_source, ClockRateSource::Slope);
    assert_eq!(pcmu.clock_rate_source, ClockRateSource::Static);
    let (opus, pcmu) = (as_ms(opus.jitter.mean()), as_ms(pcmu.jitter.mean()));
    assert!((opus - pcmu).abs() < 0.001, "{opus} and {pcmu}");
    assert!((4.5..5.5).contains(&opus), "{opus}");
}

#[test]
fn telephone_event_whose_end_comes_three_times_is_not_negative_loss() {
    // As SIPp sends it (RFC 4733 section 2.5.1.4): eight packets, the end's number three times. Others: -2 lost, -25 %.
    let sequences = [0, 1, 2, 3, 4, 5, 5, 5];
    let packets = (0..8).zip(sequences).map(|(n, sequence)| {
        (
            n * 20,
            Rtp {
                payload_type: 101,
                payload_bytes: 4,
                timestamp: 13_280,
                ..g711(0, 7_984 + sequence)
            },
        )
    });
    assert_eq!(counts(&measure(packets)), [6, 0, 2, 0, 0]);
}

#[test]
fn pause_in_which_the_numbers_go_on_is_one_hole_and_leaves_the_other_side_alone() {
    // As where T.38 takes over from audio: one side sends 100 packets, nothing for 34 s while it counts on by 1,700,
    // and 59 more. No packet tells such a sender from a path that swallows all, so the numbers count; but clock,
    // jitter and the other side's figures stay what they were.
    let mut world = World::new();
    for n in 0..1_859 {
        world.ingress(ms(n * 20), &g711(n, n).bytes());
        if !(100..1_800).contains(&n) {
            world.egress(ms(n * 20 + 3), &g711(n, 30_000 + n).bytes());
        }
        if n % 50 == 0 {
            // UDPTL: a sequence number, a length, a primary packet.
            world.egress(ms(n * 20 + 4), &[0, n as u8, 3, 1, 2, 3]);
        }
    }
    let events = world.finish();
    let legs = legs(&events);
    assert_eq!((legs.len(), legs[0].streams.len()), (1, 2));
    for stream in &legs[0].streams {
        let expected = match stream.direction {
            Direction::Ingress => [1_859, 0, 0, 0, 0],
            Direction::Egress => [159, 1_700, 0, 0, 0],
        };
        assert_eq!(counts(stream), expected);
        assert!(as_ms(stream.jitter.max()) < 0.001);
    }
}
