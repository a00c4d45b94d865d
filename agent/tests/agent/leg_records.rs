//! What records say of a leg beside its counts, through the whole watch: RTCP in the clear and encrypted, the code
//! points of packets, the endpoint's address as others see it, and what was heard.

use std::time::Duration;

use proptest::prelude::*;
use roomtone_agent::clock::{Moment, WallOffset};
use roomtone_agent::media::Event;
use roomtone_agent::media::leg::{IntervalReport, StreamIntervalReport};
use roomtone_agent::media::playout::tally::PlayoutTally;
use roomtone_agent::media::reporter::Reported;
use roomtone_agent::media::rtt::RttTally;
use roomtone_agent::media::stream::{StreamReport, StreamSpan};
use roomtone_agent::report::Recorder;
use roomtone_agent::tap::Datagram;
use roomtone_protocol::frame::{decode, encode_record};
use roomtone_protocol::id::{CallId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::media::{Direction, Media};
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;

use super::world::{LOCAL, REMOTE, Rtp, World, address, legs, ms, stun};

/// The stream that the endpoint sends, and the one that it receives.
const SENT: u32 = 0x1234_5678;
const RECEIVED: u32 = 0x8765_4321;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A sender report without blocks; `time` is the middle of its NTP time.
fn sender_report(ssrc: u32, time: u32) -> Vec<u8> {
    words(&[0x80c8_0006, ssrc, time >> 16, time << 16, 0, 0, 0])
}

/// A receiver report, and a name behind it.
fn receiver_report(reporter: u32, about: u32, [lost, last, delay]: [u32; 3]) -> Vec<u8> {
    let report = [0x81c9_0007, reporter, about, 26 << 24 | lost, 65_100, 96, last, delay];
    [words(&report), words(&[0x81ca_0003, reporter, 0x0106_6162, 0x6364_6566])].concat()
}

/// Twenty seconds of speech in both directions, and beside it what `beside` sends in each second.
fn call(beside: impl Fn(&mut World, u64)) -> World {
    let mut world = World::new();
    for n in 0..1_000u64 {
        let (sent, received) = (Rtp::opus(n), Rtp { ssrc: RECEIVED, ..Rtp::opus(n) });
        world.egress(ms(n * 20), &sent.bytes());
        world.ingress(ms(n * 20), &received.bytes());
        if n % 50 == 40 {
            beside(&mut world, n * 20);
        }
    }
    world
}

fn streams(world: World) -> Vec<StreamReport> {
    let events = world.finish();
    let legs = legs(&events);
    assert_eq!(legs.len(), 1, "one leg");
    legs[0].streams.clone()
}

fn reported(world: World) -> [Option<Reported>; 2] {
    let streams = streams(world);
    [(SENT, Direction::Egress), (RECEIVED, Direction::Ingress)].map(|(ssrc, direction)| {
        let is_it = |it: &&StreamReport| (it.ssrc, it.direction) == (ssrc, direction);
        streams.iter().find(is_it).expect("both streams were proven").reported
    })
}

/// Reports both ways: each answer comes 60 ms behind the report that it names, 20 of which the far end held it.
fn reports(world: &mut World, at: u64, send: impl Fn(&mut World, bool, u64, &[u8])) {
    let time = at as u32 + 1;
    send(world, true, at, &sender_report(SENT, time));
    // 20 ms are 1310.72 of 1/65,536 s.
    send(world, false, at + 60, &receiver_report(RECEIVED, SENT, [at as u32 / 1_000, time, 1_311]));
    send(world, true, at + 61, &receiver_report(SENT, RECEIVED, [0, 0, 0]));
}

fn beside_the_media(world: &mut World, leaves: bool, at: u64, bytes: &[u8]) {
    if leaves { world.egress(ms(at), bytes) } else { world.ingress(ms(at), bytes) }
}

fn assert_measured([sent, received]: [Option<Reported>; 2]) {
    let sent = sent.expect("the far end's reports were read");
    // Twenty seconds; the last report says what was lost by then.
    assert_eq!((sent.reports, sent.lost, sent.fraction_lost_max), (20, 19, 26));
    assert_eq!((sent.rtt.count, sent.rtt.unanswered), (20, 0));
    let off = sent.rtt.mean().unwrap().abs_diff(Duration::from_millis(40));
    assert!(off < Duration::from_micros(10), "{:?}", sent.rtt);
    // 96 ticks of 48 kHz.
    assert_eq!(sent.jitter_mean(Some(48_000)), Some(Duration::from_millis(2)));
    let received = received.expect("the endpoint's own reports were read");
    assert_eq!((received.reports, received.rtt.count), (20, 0), "round trips are of what is sent");
}

#[test]
fn reports_among_the_media_tell_loss_jitter_and_round_trip() {
    assert_measured(reported(call(|world, at| reports(world, at, beside_the_media))));
}

#[test]
fn reports_on_the_ports_above_belong_to_the_media_below() {
    let above = |world: &mut World, leaves: bool, at: u64, bytes: &[u8]| {
        let (local, remote) = ("192.0.2.10:50001", "198.51.100.7:3479");
        let (source, destination) = if leaves { (local, remote) } else { (remote, local) };
        world.send(ms(at), source, destination, bytes);
    };
    assert_measured(reported(call(|world, at| reports(world, at, above))));
}

#[test]
fn reports_cut_by_the_tap_count_as_far_as_their_blocks_are_whole() {
    // A report of 8 bytes, a block about a stranger, then one about the stream: it ends at 8 + 48 = 56.
    let about = |ssrc: u32| [ssrc, 26 << 24 | 3, 65_100, 96, 0, 0];
    let report = words(&[&[0x82c9_000d, RECEIVED][..], &about(77), &about(SENT)].concat());
    let cut_at = |captured: usize| {
        reported(call(|world, at| {
            world.watch.handle_datagram(&Datagram {
                at: ms(at),
                source: address(REMOTE),
                destination: address(LOCAL),
                dscp: 0,
                payload: &report[..captured],
                wire_bytes: report.len() as u16,
            });
        }))[0]
    };
    assert_eq!(cut_at(56).map(|reported| reported.reports), Some(20));
    assert_eq!(cut_at(55), None);
}

#[test]
fn encrypted_reports_are_never_read() {
    // The head in the clear, noise where the block was, then the trailers of AES-CM (14) and AES-GCM (20).
    for trailer in [14, 20] {
        let mut noise = 1u32;
        let encrypted = |at: u64, noise: &mut u32| {
            let mut bytes = receiver_report(RECEIVED, SENT, [1, 0, 0]);
            bytes.extend(vec![0; trailer]);
            for byte in &mut bytes[8..] {
                *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223 + at as u32);
                *byte = (*noise >> 24) as u8;
            }
            bytes
        };
        let mut world = call(|_, _| {});
        for n in 0..100_000u64 {
            let at = 20_000 + n / 10;
            let bytes = encrypted(at, &mut noise);
            world.ingress(ms(at), &bytes);
        }
        assert_eq!(reported(world), [None, None], "{trailer}");
    }
}

#[test]
fn most_frequent_code_point_of_a_stream_is_told() {
    let mut world = World::new();
    for n in 0..500u64 {
        world.dscp = if n < 3 { 0 } else { 46 };
        world.egress(ms(n * 20), &Rtp::opus(n).bytes());
        world.dscp = 0;
        world.ingress(ms(n * 20), &Rtp { ssrc: RECEIVED, ..Rtp::opus(n) }.bytes());
    }
    let streams = streams(world);
    let marking = |direction: Direction| {
        let stream = streams.iter().find(|stream| stream.direction == direction).unwrap();
        (stream.marking.code_point(), stream.marking.others())
    };
    // The network took the marking off on the way in.
    assert_eq!(marking(Direction::Egress), (46, 3), "the first packets count too");
    assert_eq!(marking(Direction::Ingress), (0, 0));
}

/// An answer that names an address of 203.0.113.0/24.
fn answer(kind: u16, transaction: u64, host: u8) -> Vec<u8> {
    let mut bytes = stun(kind, transaction);
    bytes[3] = 12;
    bytes.extend([0, 0x20, 0, 8, 0, 1, 0xc3 ^ 0x21, 0x50 ^ 0x12]);
    bytes.extend([203 ^ 0x21, 0x12, 113 ^ 0xa4, host ^ 0x42]);
    bytes
}

#[test]
fn latest_answer_to_a_check_of_ours_names_the_reflexive_address() {
    let reflexive = |beside: fn(&mut World)| {
        let mut world = call(|_, _| {});
        beside(&mut world);
        let events = world.finish();
        legs(&events)[0].reflexive
    };
    let latest = reflexive(|world| {
        for (n, host) in [(1, 5), (2, 6)] {
            world.egress(ms(20_000 + n), &stun(0x0001, n));
            world.ingress(ms(20_040 + n), &answer(0x0101, n, host));
        }
    });
    assert_eq!(latest, Some(address("203.0.113.6:50000")));
    let refused = reflexive(|world| {
        world.egress(ms(20_000), &stun(0x0001, 1));
        world.ingress(ms(20_040), &answer(0x0111, 1, 5));
    });
    assert_eq!(refused, None, "an error names nothing");
    let unasked = reflexive(|world| world.ingress(ms(20_040), &answer(0x0101, 1, 5)));
    assert_eq!(unasked, None);
    let ours = reflexive(|world| {
        world.ingress(ms(20_000), &stun(0x0001, 1));
        world.egress(ms(20_001), &answer(0x0101, 1, 5));
    });
    assert_eq!(ours, None, "what we tell others is their address");
}

#[test]
fn intervals_of_what_was_heard_add_up_to_the_summary() {
    // A minute of speech with a hole of 400 ms every five seconds, one of them across the end of an interval.
    let mut world = World::new();
    for n in (0..3_000u64).filter(|n| n % 250 < 230 || n / 250 == 2) {
        world.ingress(ms(n * 20), &Rtp::opus(n).bytes());
    }
    let mut records = Vec::new();
    let mut recorder = Recorder::new();
    recorder.set_intervals_per_frame(6);
    for event in world.finish() {
        recorder.handle(event, WallOffset::NONE, &mut records);
    }
    let [mut total, mut concealed, mut played, mut discarded] = [0u64; 4];
    let mut summary = None;
    for record in records {
        if let Record::LegIntervals(pack) = &record {
            for row in pack.heard.as_ref().unwrap() {
                total += u64::from(row.total_us);
                concealed += u64::from(row.concealed_us);
                played += u64::from(row.played);
                discarded += u64::from(row.discarded);
            }
        }
        if let Record::LegSummary(found) = record {
            summary = found.heard;
        }
    }
    let [heard] = summary.as_deref().unwrap_or_default() else { panic!("one listener") };
    assert!(heard.concealed_us > 10 * 300_000, "{heard:?}");
    assert_eq!((total, concealed), (heard.total_us, heard.concealed_us));
    assert_eq!((played, discarded), (heard.played, heard.discarded));
}

/// Sums of any size, consistent or not.
fn tallies() -> impl Strategy<Value = PlayoutTally> {
    let number = || prop_oneof![Just(0u64), 0u64..20_000_000, any::<u64>()];
    proptest::array::uniform5(number()).prop_map(|[total_us, concealed_us, played, sum, most]| {
        PlayoutTally {
            total_us,
            concealed_us,
            played,
            discarded: most,
            delay_sum_us: sum,
            delay_max_us: most,
            worst_second_us: most,
            ..PlayoutTally::default()
        }
    })
}

fn media() -> impl Strategy<Value = Media> {
    prop_oneof![3 => Just(Media::Audio), 1 => Just(Media::Rtx), 1 => Just(Media::Unknown)]
}

/// Intervals of one leg, with any streams and any sums; indexes repeat and leap.
fn interval_reports() -> impl Strategy<Value = IntervalReport> {
    let row = (0u32..24, any::<bool>(), media(), prop::option::of(tallies()));
    let rows = proptest::collection::vec(row, 0..33);
    (0u16..40, rows).prop_map(|(index, rows)| {
        let mut known = std::collections::BTreeSet::new();
        let streams = rows
            .into_iter()
            .filter(|(ssrc, egress, ..)| known.insert((*ssrc, *egress)))
            .map(|(ssrc, egress, media, playout)| StreamIntervalReport {
                ssrc,
                direction: if egress { Direction::Egress } else { Direction::Ingress },
                media,
                span: StreamSpan { received: 1, playout, ..StreamSpan::default() },
            });
        IntervalReport {
            leg: LegNumber(0),
            index,
            started: ms(u64::from(index) * 10_000),
            duration: Duration::from_secs(10),
            rtt: RttTally::default(),
            tap_dropped: 0,
            streams: streams.collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_intervals_become_records_that_a_decoder_takes(
        reports in proptest::collection::vec(interval_reports(), 1..20),
        per_frame in 1usize..=6,
    ) {
        let mut recorder = Recorder::new();
        recorder.set_intervals_per_frame(per_frame);
        let mut records = Vec::new();
        for report in reports.iter().cloned() {
            let event = Event::Interval { call: CallId(1), report };
            recorder.handle(event, WallOffset::NONE, &mut records);
        }
        recorder.flush(WallOffset::NONE, &mut records);
        let mut intervals = 0;
        for record in records {
            let Record::LegIntervals(pack) = &record else { panic!("{record:?}") };
            intervals += pack.pack.len();
            prop_assert!(pack.is_consistent());
            let id = RecordId { epoch: Epoch(7), sequence: Sequence(1) };
            let mut buffer = [0; FRAME_BYTES_MAX];
            let length = encode_record(id, record.clone(), &mut buffer).expect("a frame has room");
            let (frame, _) = decode(&buffer[..length]).expect("our own frame decodes");
            prop_assert_eq!(frame.message, Some(Message::Record(record)));
        }
        prop_assert_eq!(intervals, reports.len(), "none is lost, whatever does not fit");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_behind_a_reports_head_are_never_believed(
        datagrams in proptest::collection::vec(
            (any::<bool>(), 0u8..32, proptest::collection::vec(any::<u8>(), 0..200), 0u16..64),
            1..200,
        ),
    ) {
        let mut world = call(|_, _| {});
        for (n, (is_sender, count, noise, cut)) in (0u64..).zip(datagrams) {
            let kind = if is_sender { 200 } else { 201 };
            let length = (noise.len() / 4 + 1) as u16;
            let mut bytes = vec![0x80 | count, kind];
            bytes.extend(length.to_be_bytes());
            bytes.extend(RECEIVED.to_be_bytes());
            bytes.extend(noise);
            world.watch.handle_datagram(&Datagram {
                at: Moment::from_nanos(ms(20_000).as_nanos() + n * 1_000),
                source: address(REMOTE),
                destination: address(LOCAL),
                dscp: 0,
                payload: &bytes,
                wire_bytes: bytes.len() as u16 + cut,
            });
        }
        prop_assert_eq!(reported(world), [None, None]);
    }
}
