//! The media watch against packets made by hand: what others get wrong (reference facts, peers A.2), and the life of
//! calls and legs.

use roomtone_agent::clock::Moment;
use std::time::Duration;

use roomtone_agent::media::{Event, Options, Watch};
use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::media::{ClockRateSource, Direction, Media, Transport};

use super::world::{
    LOCAL, REMOTE, Rtp, World, address, as_ms, intervals, legs, ms, only_stream, stun,
};

#[test]
fn two_packets_that_look_like_rtp_are_no_stream() {
    let mut world = World::new();
    for n in 0..2 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    assert_eq!(world.finish(), []);
}

#[test]
fn noise_with_an_rtp_like_first_byte_is_no_stream() {
    // A counter where RTP has its sequence, but time and source that jump: 10,000 packets of a proprietary protocol.
    let mut world = World::new();
    let mut noise = 0x9e37_79b9u32;
    for n in 0..10_000u64 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let ssrc = if n % 3 == 0 { noise } else { 7 };
        let packet = Rtp { sequence: n as u16, timestamp: noise, ssrc, ..Rtp::opus(0) };
        world.ingress(ms(n * 20), &packet.bytes());
    }
    assert_eq!(world.finish(), []);
}

#[test]
fn dynamic_payload_type_gets_its_clock_and_its_jitter() {
    // Opus on type 111; every second packet 8 ms late: |D| is 8 ms for each, so J tends to 8 ms.
    let mut world = World::new();
    for n in 0..3000u64 {
        world.ingress(ms(n * 20 + n % 2 * 8), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let stream = only_stream(&events);
    assert_eq!(stream.clock_rate_hz, Some(48_000));
    assert_eq!(stream.clock_rate_source, ClockRateSource::Slope);
    assert_eq!(stream.media, Media::Audio);
    assert_eq!((stream.received, stream.lost()), (3000, 0));
    assert!((as_ms(stream.jitter_last) - 8.0).abs() < 0.01, "{:?}", stream.jitter_last);
    // J(n) = 8 (1 - (15/16)^n): the start costs 16 * 8 / 3000 of the mean.
    assert!((as_ms(stream.jitter.mean()) - (8.0 - 128.0 / 3000.0)).abs() < 0.05);
}

#[test]
fn call_shorter_than_the_clock_takes_is_measured_from_its_first_packet() {
    let mut world = World::new();
    for n in 0..40u64 {
        world.ingress(ms(n * 20 + n % 2 * 8), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let stream = only_stream(&events);
    assert_eq!((stream.clock_rate_hz, stream.received), (Some(48_000), 40));
    assert!(stream.jitter.mean().is_some());
}

#[test]
fn telephone_event_is_audio_without_loss() {
    // RFC 4733: one time for the whole event, payload of four bytes, the end sent three times.
    let mut world = World::new();
    for (n, at) in [(0, 0), (1, 20), (2, 40), (3, 60), (4, 80), (4, 80), (4, 80)] {
        let packet = Rtp {
            sequence: 7984 + n,
            timestamp: 13_280,
            payload_type: 101,
            payload_bytes: 4,
            ssrc: 9,
        };
        world.egress(ms(at), &packet.bytes());
    }
    let events = world.finish();
    let stream = only_stream(&events);
    assert_eq!((stream.received, stream.lost(), stream.duplicate), (5, 0, 2));
    assert_eq!((stream.media, stream.direction), (Media::Audio, Direction::Egress));
    assert_eq!(stream.payload_types, [101]);
}

#[test]
fn silence_by_dtx_is_neither_loss_nor_jitter() {
    // One second of speech, nine of silence without packets, five times: numbers go on, RTP time runs through.
    let mut world = World::new();
    let mut sequence = 0u16;
    for spurt in 0..5u64 {
        for n in 0..50u64 {
            let sent = spurt * 500 + n;
            let packet = Rtp { sequence, timestamp: (sent * 960) as u32, ..Rtp::opus(0) };
            world.ingress(ms(sent * 20), &packet.bytes());
            sequence += 1;
        }
    }
    let events = world.finish();
    let stream = only_stream(&events);
    assert_eq!((stream.received, stream.lost(), stream.restarts), (250, 0, 0));
    assert_eq!(stream.clock_rate_hz, Some(48_000));
    assert!(as_ms(stream.jitter.max()) < 0.001);
}

#[test]
fn intervals_add_up_to_the_summary() {
    // 35 s with 2 % loss, 1 % duplicates and late packets across two interval borders.
    let mut world = World::new();
    for n in 0..1750u64 {
        if n % 50 == 7 {
            continue;
        }
        // Packet 499 arrives behind 503, in the next interval.
        let late = if n == 499 || n == 999 { 85 } else { 0 };
        world.ingress(ms(n * 20 + late), &Rtp::opus(n).bytes());
        if n % 100 == 0 {
            world.ingress(ms(n * 20 + 1), &Rtp::opus(n).bytes());
        }
    }
    let events = world.finish();
    let stream = only_stream(&events);
    // 1,750 sent; n % 50 == 7 is lost: 35; n % 100 == 0 is doubled: 18.
    assert_eq!((stream.received, stream.lost(), stream.duplicate), (1715, 35, 18));
    let rows: Vec<_> =
        intervals(&events).into_iter().map(|i| (i.index, i.streams[0].span)).collect();
    assert_eq!(rows.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(rows.iter().map(|(_, span)| span.received).sum::<u64>(), 1715);
    assert_eq!(rows.iter().map(|(_, span)| span.lost).sum::<i64>(), 35);
    assert_eq!(rows.iter().map(|(_, span)| span.duplicate).sum::<u64>(), 18);
}

#[test]
fn call_opens_with_its_first_packet_and_closes_15_s_after_its_last() {
    let mut world = World::new();
    for n in 0..100u64 {
        world.ingress(ms(1000 + n * 20), &Rtp::opus(n).bytes());
    }
    world.timeout(ms(2980 + 14_999));
    assert!(!world.events.iter().any(|event| matches!(event, Event::CallClosed { .. })));
    world.timeout(ms(2980 + 15_000));
    let opened = world.events.first().unwrap();
    assert!(
        matches!(opened, Event::CallOpened { at, purpose: CallPurpose::Meeting, .. } if *at == ms(1000))
    );
    let closed = world.events.last().unwrap();
    assert!(
        matches!(closed, Event::CallClosed { at, reason: CallCloseReason::Idle, legs: 1, .. } if *at == ms(2980)),
        "{closed:?}"
    );
    // What comes later on the same addresses is another call.
    for n in 0..100u64 {
        world.ingress(ms(60_000 + n * 20), &Rtp::opus(n).bytes());
    }
    let calls =
        world.finish().into_iter().filter(|e| matches!(e, Event::CallOpened { .. })).count();
    assert_eq!(calls, 2);
}

#[test]
fn idle_time_shorter_than_an_interval_ends_a_call_too() {
    let local = vec![address(LOCAL).ip()];
    let call_idle = Duration::from_secs(5);
    let mut world = World::new();
    world.watch = Watch::new(Options { local, call_idle, seed: 1 });
    // Three seconds of media, six of nothing: the first interval of ten has not ended when the second call begins.
    for n in (0..150u64).chain(450..600) {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    let calls =
        world.finish().into_iter().filter(|e| matches!(e, Event::CallOpened { .. })).count();
    assert_eq!(calls, 2);
}

#[test]
fn legs_that_overlap_in_time_belong_to_one_call() {
    let mut world = World::new();
    for n in 0..200u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
        world.send(ms(n * 20 + 3), "203.0.113.5:4000", LOCAL, &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let legs = legs(&events);
    let remotes: Vec<_> = legs.iter().map(|leg| leg.remote).collect();
    assert_eq!(remotes, [address(REMOTE), address("203.0.113.5:4000")]);
    assert!(matches!(events.last(), Some(Event::CallClosed { legs: 2, .. })));
}

#[test]
fn round_trip_needs_our_own_request() {
    let mut world = World::new();
    for n in 0..500u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    // Theirs, answered by us within a millisecond: no round trip.
    world.ingress(ms(10_000), &stun(0x0001, 1));
    world.egress(ms(10_001), &stun(0x0101, 1));
    // An answer that nobody asked for.
    world.ingress(ms(10_002), &stun(0x0101, 2));
    // Ours, answered from another address of the relay: a round trip of the leg that asked.
    world.egress(ms(10_003), &stun(0x0001, 3));
    world.send(ms(10_046), "198.51.100.8:3478", LOCAL, &stun(0x0101, 3));
    let events = world.finish();
    let legs = legs(&events);
    assert_eq!(legs[0].rtt.count, 1);
    assert_eq!(legs[0].rtt.last.as_millis(), 43);
}

#[test]
fn checks_before_the_first_stream_count_for_the_leg() {
    let mut world = World::new();
    world.egress(ms(0), &stun(0x0001, 1));
    world.ingress(ms(30), &stun(0x0101, 1));
    for n in 0..50u64 {
        world.ingress(ms(1000 + n * 20), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    assert_eq!(legs(&events)[0].rtt.count, 1);
}

#[test]
fn unanswered_check_is_counted_when_it_is_given_up() {
    let mut world = World::new();
    world.egress(ms(0), &stun(0x0001, 1));
    for n in 0..3000u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let rtt = legs(&events)[0].rtt;
    assert_eq!((rtt.count, rtt.unanswered), (0, 1));
}

#[test]
fn media_inside_turn_counts_and_is_called_relayed() {
    let mut channel = World::new();
    let mut indication = World::new();
    for n in 0..100u64 {
        let rtp = Rtp::opus(n).bytes();
        let length = (rtp.len() as u16).to_be_bytes();
        let mut data = vec![0x40, 0x01, length[0], length[1]];
        data.extend(&rtp);
        channel.ingress(ms(n * 20), &data);

        // Data indication: XOR-PEER-ADDRESS, then DATA.
        let mut data = stun(0x0017, n);
        data.extend([0x00, 0x12, 0x00, 0x08, 0, 1, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
        data.extend([0x00, 0x13, length[0], length[1]]);
        data.extend(&rtp);
        let attributes = (data.len() as u16 - 20).to_be_bytes();
        data[2..4].copy_from_slice(&attributes);
        indication.ingress(ms(n * 20), &data);
    }
    for world in [channel, indication] {
        let events = world.finish();
        assert_eq!(only_stream(&events).received, 100);
        assert_eq!(legs(&events)[0].transport, Transport::Turn);
    }
}

#[test]
fn retransmissions_are_told_apart_from_video() {
    // 30 frames/s of three packets; every tenth frame's first packet again on an SSRC of its own.
    let mut world = World::new();
    let (mut sequence, mut repair) = (0u16, 0u16);
    for frame in 0..300u64 {
        let timestamp = (frame * 3000) as u32;
        for n in 0..3 {
            let packet = Rtp { payload_type: 96, sequence, timestamp, ssrc: 1, payload_bytes: 900 };
            world.ingress(ms(frame * 100 / 3 + n), &packet.bytes());
            sequence += 1;
        }
        if frame % 10 == 0 {
            let packet =
                Rtp { payload_type: 97, sequence: repair, timestamp, ssrc: 2, payload_bytes: 902 };
            world.ingress(ms(frame * 100 / 3 + 20), &packet.bytes());
            repair += 1;
        }
    }
    let events = world.finish();
    let media: Vec<_> = legs(&events)[0].streams.iter().map(|s| (s.ssrc, s.media)).collect();
    assert_eq!(media, [(1, Media::Video), (2, Media::Rtx)]);
}

#[test]
fn two_programs_on_one_endpoint_are_two_legs() {
    let mut world = World::new();
    for n in 0..100u64 {
        world.send(ms(n * 20), "192.0.2.10:7000", "192.0.2.10:7002", &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let ways: Vec<_> =
        legs(&events).iter().map(|leg| (leg.local.port(), leg.streams[0].direction)).collect();
    assert_eq!(ways, [(7000, Direction::Egress), (7002, Direction::Ingress)]);
}

#[test]
fn packets_of_other_hosts_are_counted_and_left_alone() {
    let mut world = World::new();
    for n in 0..100u64 {
        world.send(ms(n * 20), "203.0.113.1:1", "203.0.113.2:2", &Rtp::opus(n).bytes());
    }
    assert_eq!(world.watch.counters().foreign, 100);
    assert_eq!(world.finish(), []);
}

#[test]
fn tap_losses_are_part_of_each_interval() {
    let mut world = World::new();
    for n in 0..1100u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
        if n == 600 {
            world.watch.note_tap_dropped(17);
        }
    }
    let events = world.finish();
    let dropped: Vec<_> = intervals(&events).iter().map(|interval| interval.tap_dropped).collect();
    assert_eq!(dropped, [0, 17, 0]);
    assert_eq!(legs(&events)[0].tap_dropped, 17);
}

#[test]
fn flood_of_addresses_and_sources_is_bounded() {
    let mut world = World::new();
    for n in 0..100u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    for n in 0..20_000u64 {
        let source = format!("10.{}.{}.{}:9", n >> 16 & 255, n >> 8 & 255, n & 255);
        let packet = Rtp { ssrc: n as u32, ..Rtp::opus(n) };
        world.send(ms(2000 + n / 100), &source, LOCAL, &packet.bytes());
        world.ingress(ms(2000 + n / 100), &packet.bytes());
    }
    assert!(world.watch.counters().paths_evicted > 15_000);
    let events = world.finish();
    assert_eq!(only_stream(&events).received, 100, "the call is unharmed");
}

#[test]
fn moments_at_the_end_of_time_end() {
    // A damaged capture can name any time: intervals that reach beyond the last moment are not counted up for ever.
    let last = u64::MAX - 20 * 20_000_000;
    let mut world = World::new();
    for n in 0..50u64 {
        let at = Moment::from_nanos(last.saturating_add(n * 20_000_000));
        world.ingress(at, &Rtp::opus(n).bytes());
    }
    world.timeout(Moment::from_nanos(u64::MAX));
    assert_eq!(only_stream(&world.finish()).received, 50);
}

#[test]
fn deadline_missed_by_a_year_gives_no_interval_of_that_year() {
    let mut world = World::new();
    for n in 0..600u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    let year = 365 * 24 * 3_600 * 1_000;
    for n in 0..600u64 {
        world.ingress(ms(year + n * 20), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    // Two calls of 12 s, each of one whole interval and a rest.
    let indexes: Vec<_> = intervals(&events).iter().map(|interval| interval.index).collect();
    assert_eq!(indexes, [0, 1, 0, 1]);
    let calls = events.iter().filter(|e| matches!(e, Event::CallClosed { .. })).count();
    assert_eq!(calls, 2);
}

#[test]
fn stray_packet_long_before_a_stream_neither_dates_it_back_nor_hides_it() {
    let mut world = World::new();
    world.ingress(ms(0), &Rtp::opus(0).bytes());
    // Checks keep the path known for ten minutes; then the same source begins to speak.
    for n in 0..120 {
        world.egress(ms(n * 5_000), &stun(0x0001, n));
    }
    for n in 0..50u64 {
        let packet = Rtp { timestamp: 960 * n as u32, ..Rtp::opus(1 + n) };
        world.ingress(ms(600_000 + n * 20), &packet.bytes());
    }
    let events = world.finish();
    let opened = events.first().unwrap();
    assert!(matches!(opened, Event::CallOpened { at, .. } if *at == ms(600_000)), "{opened:?}");
    assert_eq!(only_stream(&events).received, 50);
}

#[test]
fn what_comes_behind_a_summary_is_in_the_next_one() {
    let mut world = World::new();
    for n in 0..2_000u64 {
        world.send(ms(n * 20), "203.0.113.5:4000", LOCAL, &Rtp::opus(n).bytes());
        if n < 100 {
            world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
        }
    }
    // The second leg was summed up as silent; a packet with an earlier stamp still counts.
    world.ingress(ms(1_000), &Rtp::opus(100).bytes());
    let events = world.finish();
    let received: Vec<_> = legs(&events).iter().map(|leg| leg.streams[0].received).collect();
    assert_eq!(received, [2_000, 101]);
}

#[test]
fn tap_losses_in_a_silent_interval_are_told_too() {
    let mut world = World::new();
    for n in 0..1_600u64 {
        // 9 s to 21 s: the tap lost all that there was, a whole interval of it.
        if (450..1_050).contains(&n) {
            world.watch.note_tap_dropped(n - 449);
            world.timeout(ms(n * 20));
            continue;
        }
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    let events = world.finish();
    let dropped: Vec<_> = intervals(&events).iter().map(|interval| interval.tap_dropped).collect();
    // The timer ends an interval behind the packet that is noted at its border.
    assert_eq!(dropped, [51, 500, 49, 0]);
}

#[test]
fn flood_of_legs_takes_no_place_from_the_call() {
    let mut world = World::new();
    for n in 0..10u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    // 5,000 sources that prove themselves within the idle time: 904 more than there are places.
    for source in 0..5_000u64 {
        let source = format!("10.0.{}.{}:9", source >> 8, source & 255);
        for n in 0..4u64 {
            world.send(ms(200 + n * 20), &source, LOCAL, &Rtp::opus(n).bytes());
        }
    }
    for n in 10..20u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    assert_eq!(world.watch.counters().paths_refused, 4 * (5_000 - 4_095));
    let events = world.finish();
    let legs = legs(&events);
    assert_eq!((legs.len(), legs[0].remote), (4_096, address(REMOTE)));
    assert_eq!(legs[0].streams[0].received, 20);
}

#[test]
fn call_of_eight_days_numbers_its_intervals_once() {
    let mut world = World::new();
    for n in 0..10u64 {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    // Comfort noise every ten seconds, 70,000 times: 4,464 intervals more than there are numbers.
    for n in 1..70_000u64 {
        let sent = n * 500;
        let packet = Rtp { sequence: Rtp::opus(9 + n).sequence, ..Rtp::opus(sent) };
        world.ingress(ms(sent * 20), &packet.bytes());
    }
    let events = world.finish();
    assert!(intervals(&events).is_sorted_by(|one, next| one.index < next.index));
    let received: u64 = intervals(&events).iter().map(|i| i.streams[0].span.received).sum();
    assert_eq!(received, 10 + 69_999);
}
