//! The measuring cores against slow models and injected truth, on random traffic.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use roomtone_agent::clock::Moment;
use roomtone_agent::media::clock_rate::ClockRate;
use roomtone_agent::media::e_model::{Formula, Impairment, Inputs, Rating, rate};
use roomtone_agent::media::jitter::Jitter;
use roomtone_agent::media::seq::SequenceTracker;
use roomtone_agent::media::{CALL_IDLE, Event, Options, Watch};
use roomtone_agent::tap::Datagram;

use super::fuzz_bodies::ledger::Ledger;
use super::world::{LOCAL, REMOTE, Rtp, address, legs, stun};

/// What becomes of one packet on its way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    /// A copy arrives this many places behind.
    Twice(usize),
    /// It arrives this many places behind.
    Late(usize),
}

/// Mostly good, with losses, copies and lateness of up to 100 places.
fn fates(packets: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        16 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => (0usize..=100).prop_map(Fate::Twice),
        1 => (1usize..=100).prop_map(Fate::Late),
    ];
    proptest::collection::vec(fate, packets)
}

/// The numbers of the packets in the order in which they arrive.
fn arrivals(fates: &[Fate]) -> Vec<usize> {
    let mut places = Vec::new();
    for (n, fate) in fates.iter().enumerate() {
        // Behind the packet of that place: after the even number, before the next.
        match *fate {
            Fate::Arrives => places.push((2 * n, n)),
            Fate::Lost => {}
            Fate::Twice(behind) => places.extend([(2 * n, n), (2 * (n + behind) + 1, n)]),
            Fate::Late(behind) => places.push((2 * (n + behind) + 1, n)),
        }
    }
    places.sort_by_key(|&(place, _)| place);
    places.into_iter().map(|(_, n)| n).collect()
}

/// Received, lost, duplicate, reordered: all numbers in a set.
fn model(arrivals: &[usize]) -> [u64; 4] {
    let mut seen = BTreeSet::new();
    let (mut duplicate, mut reordered) = (0, 0);
    for &n in arrivals {
        let late = seen.last().is_some_and(|highest| n < *highest);
        if seen.insert(n) {
            reordered += u64::from(late);
        } else {
            duplicate += 1;
        }
    }
    let span = seen.last().zip(seen.first()).map_or(0, |(last, first)| last - first + 1);
    [seen.len() as u64, (span - seen.len()) as u64, duplicate, reordered]
}

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(1_000_000_000 + nanos)
}

/// RFC 3550 A.8 in floating point: seconds, over (arrival in seconds, ticks) in order.
fn rfc_3550_jitter(packets: &[(f64, u32)], rate: f64) -> (f64, f64, f64) {
    let (mut jitter, mut sum, mut max) = (0.0f64, 0.0f64, 0.0f64);
    for pair in packets.windows(2) {
        let sent = f64::from(pair[1].1.wrapping_sub(pair[0].1) as i32) / rate;
        let difference = ((pair[1].0 - pair[0].0) - sent).abs();
        jitter += (difference - jitter) / 16.0;
        sum += jitter;
        max = max.max(jitter);
    }
    (jitter, sum / (packets.len() - 1) as f64, max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn sequence_counts_equal_those_of_a_set(
        fates in fates(1..600),
        start in prop_oneof![any::<u16>(), 65_000u16..=65_535],
        timestamp in any::<u32>(),
        rate in prop::option::of(Just(8_000)),
    ) {
        let arrivals = arrivals(&fates);
        prop_assume!(!arrivals.is_empty());
        let head = |n: usize| {
            let sequence = start.wrapping_add(n as u16);
            (sequence, timestamp.wrapping_add(160 * n as u32))
        };
        let (sequence, ticks) = head(arrivals[0]);
        let mut tracker = SequenceTracker::new(sequence, ticks, at(0));
        for (place, &n) in arrivals.iter().enumerate().skip(1) {
            let (sequence, ticks) = head(n);
            tracker.handle(sequence, ticks, rate, at(place as u64 * 20_000_000));
        }
        let counts =
            [tracker.received(), tracker.lost(), tracker.duplicate(), tracker.reordered()];
        prop_assert_eq!(counts, model(&arrivals));
        prop_assert_eq!(tracker.restarts(), 0);
    }

    #[test]
    fn jitter_is_that_of_the_rfc_in_floating_point(
        spreads in proptest::collection::vec(0u64..80_000_000, 2..500),
        start in any::<u32>(),
        rate in prop::sample::select(vec![8_000u32, 16_000, 24_000, 32_000, 48_000, 90_000]),
    ) {
        let ticks = rate / 50;
        let mut jitter = Jitter::new(rate);
        let mut packets = Vec::new();
        for (n, spread) in spreads.iter().enumerate() {
            let (nanos, timestamp) = (n as u64 * 20_000_000 + spread, start.wrapping_add(n as u32 * ticks));
            jitter.handle(timestamp, at(nanos));
            packets.push((nanos as f64 / 1e9, timestamp));
        }
        let (last, mean, max) = rfc_3550_jitter(&packets, f64::from(rate));
        let total = jitter.total();
        // Whole nanoseconds, and sixteenths cut off: 16 ns at most, and one per packet of the mean.
        for (found, model) in [(jitter.last(), last), (total.mean(), mean), (total.max(), max)] {
            prop_assert!((found.unwrap().as_secs_f64() - model).abs() < 50e-9);
        }
    }

    #[test]
    fn every_clock_rate_is_found_under_jitter_and_loss(
        rate in prop::sample::select(vec![8_000u32, 16_000, 24_000, 32_000, 48_000, 90_000]),
        frame_ms in prop::sample::select(vec![10u64, 20, 60]),
        start in any::<u32>(),
        packets in proptest::collection::vec((0u64..60_000, 0u8..10), 1_200),
    ) {
        let mut clock: Option<ClockRate> = None;
        let mut latest = 0;
        for (n, (delay_us, luck)) in (0u64..).zip(packets) {
            // One in ten is lost.
            if luck == 0 {
                continue;
            }
            // Packets stay in order: what was overtaken leaves with the overtaker.
            latest = (n * frame_ms * 1_000 + delay_us).max(latest);
            let timestamp = start.wrapping_add((n * frame_ms * u64::from(rate) / 1_000) as u32);
            match &mut clock {
                None => clock = Some(ClockRate::new(111, timestamp, at(latest * 1_000))),
                Some(clock) => {
                    clock.handle(timestamp, at(latest * 1_000));
                }
            }
        }
        prop_assert_eq!(clock.unwrap().rate_hz(), Some(rate));
    }

    #[test]
    fn watch_counts_what_was_injected_and_its_books_balance(
        fates in [fates(300..1_500), fates(300..1_500)],
        checks in proptest::collection::vec((0u64..20_000, 1u64..400, any::<bool>()), 0..20),
        per_frame in 1usize..=6,
    ) {
        // (milliseconds, whether it leaves, payload)
        let mut packets: Vec<(u64, bool, Vec<u8>)> = Vec::new();
        let mut truth = Vec::new();
        for (fates, (leaves, ssrc)) in fates.iter().zip([(false, 1), (true, 2)]) {
            // The first ten arrive, so that the stream is proven by its true beginning.
            let mut fates = fates.clone();
            fates[..10].fill(Fate::Arrives);
            let arrivals = arrivals(&fates);
            truth.push((ssrc, model(&arrivals)));
            for (place, &n) in arrivals.iter().enumerate() {
                let packet = Rtp { ssrc, ..Rtp::opus(n as u64) };
                packets.push((place as u64 * 20, leaves, packet.bytes()));
            }
        }
        let speech_ms = packets.iter().map(|(at, ..)| *at).max().unwrap();
        let mut answered = 0;
        for (n, (asked, rtt, is_answered)) in (0u64..).zip(checks) {
            packets.push((asked, true, stun(0x0001, n)));
            if is_answered && asked + rtt < speech_ms {
                answered += 1;
                packets.push((asked + rtt, false, stun(0x0101, n)));
            }
        }
        packets.sort_by_key(|(at, ..)| *at);

        let mut ledger = Ledger::new(per_frame);
        let options =
            Options { local: vec![address(LOCAL).ip()], call_idle: CALL_IDLE, seed: 1 };
        let mut watch = Watch::new(options);
        let mut events = Vec::new();
        for (at_ms, leaves, payload) in &packets {
            let (local, remote) = (address(LOCAL), address(REMOTE));
            let (source, destination) = if *leaves { (local, remote) } else { (remote, local) };
            let wire_bytes = payload.len() as u16;
            let at = at(at_ms * 1_000_000);
            watch.handle_datagram(&Datagram { at, source, destination, dscp: 0, payload, wire_bytes });
            events.extend(std::iter::from_fn(|| watch.poll_event()));
        }
        watch.handle_timeout(at(speech_ms * 1_000_000) + Duration::from_secs(60));
        watch.finish();
        events.extend(std::iter::from_fn(|| watch.poll_event()));
        events.iter().cloned().for_each(|event: Event| ledger.handle(event));
        prop_assert_eq!(ledger.finish(), 1);

        let legs = legs(&events);
        prop_assert_eq!(legs.len(), 1);
        for (ssrc, counts) in truth {
            let stream = legs[0].streams.iter().find(|stream| stream.ssrc == ssrc).unwrap();
            let found = [stream.received, stream.lost(), stream.duplicate, stream.reordered];
            prop_assert_eq!(found, counts, "{}", ssrc);
        }
        prop_assert_eq!(legs[0].rtt.count, answered);
    }
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let formula =
        prop_oneof![Just(Formula::G107V1), Just(Formula::G1071V1), Just(Formula::G1072V1),];
    let codec = (0.0..60.0f64, 1.0..40.0f64).prop_map(|(ie, bpl)| Impairment { ie, bpl });
    (formula, codec, 0.0..1.0f64, 1.0..20.0f64, 0.0..2_000.0f64).prop_map(
        |(formula, impairment, loss_ratio, burst_ratio, delay_ms)| Inputs {
            formula,
            impairment,
            loss_ratio,
            burst_ratio,
            delay_ms,
        },
    )
}

proptest! {
    #[test]
    fn more_loss_more_delay_and_longer_bursts_never_sound_better(
        inputs in inputs(),
        (loss, burst, delay) in (0.0..1.0f64, 0.0..10.0f64, 0.0..1_000.0f64),
    ) {
        let before = rate(&inputs);
        prop_assert!((0.0..=inputs.formula.r_max()).contains(&before.r));
        prop_assert!((1.0..=4.5).contains(&before.mos));
        let worse = |found: Rating| found.r <= before.r && found.mos <= before.mos + 1e-12;
        let loss_ratio = inputs.loss_ratio + (1.0 - inputs.loss_ratio) * loss;
        let lossier = rate(&Inputs { loss_ratio, ..inputs });
        let burstier = rate(&Inputs { burst_ratio: inputs.burst_ratio + burst, ..inputs });
        let later = rate(&Inputs { delay_ms: inputs.delay_ms + delay, ..inputs });
        prop_assert!(worse(lossier), "{:?}", lossier);
        prop_assert!(worse(burstier), "{:?}", burstier);
        prop_assert!(worse(later), "{:?}", later);
    }

    #[test]
    fn no_input_leaves_the_scale(
        bits in proptest::array::uniform5(any::<u64>()),
    ) {
        let [ie, bpl, loss_ratio, burst_ratio, delay_ms] = bits.map(f64::from_bits);
        for formula in [Formula::G107V1, Formula::G1071V1, Formula::G1072V1] {
            let impairment = Impairment { ie, bpl };
            let found = rate(&Inputs { formula, impairment, loss_ratio, burst_ratio, delay_ms });
            prop_assert!((0.0..=formula.r_max()).contains(&found.r), "{found:?}");
            prop_assert!((1.0..=4.5).contains(&found.mos), "{found:?}");
        }
    }
}
