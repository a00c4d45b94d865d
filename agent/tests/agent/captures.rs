//! The project's own captures of rehearsals, against what the rehearsal says that it did.
//!
//! Recorded on the loopback interface at the caller's side, RTP cut behind its headers: `rehearsal` (delay 40 ms,
//! jitter 12 ms, loss 2 %), `burst` (loss 8 % in bursts of 5, duplicates 1 %), `reorder` (loss 2 %, reordering 5 %),
//! 62 s each. Beside each lies the rehearsal's report. With `ROOMTONE_GOLDEN=write`, the golden text is written anew
//! first.

use std::path::{Path, PathBuf};

use roomtone_agent::analyze::{self, Analysis, Options, Stream};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn analyze(name: &str, until: Option<u64>) -> Analysis {
    let local = vec!["127.0.0.1".parse().unwrap()];
    let file = path(&format!("{name}.pcap"));
    analyze::run(&Options { file, local, until, json: false }).unwrap()
}

fn truth(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(&format!("{name}.truth.json"))).unwrap()).unwrap()
}

/// Received, lost, duplicate, reordered, restarts.
fn counts(stream: &Stream) -> [u64; 5] {
    [
        stream.packets_received,
        stream.packets_lost,
        stream.packets_duplicate,
        stream.packets_reordered,
        stream.sequence_restarts.into(),
    ]
}

#[test]
fn rehearsals_are_counted_packet_for_packet() {
    for name in ["rehearsal", "burst", "reorder"] {
        let (analysis, truth) = (analyze(name, None), truth(name));
        let [caller, callee] = truth["parties"].as_array().unwrap().as_slice() else {
            panic!("two sides")
        };
        let [call] = analysis.calls.as_slice() else { panic!("{name}: one call") };
        assert!(call.rehearsal, "{name} is labelled");
        let [leg] = call.legs.as_slice() else { panic!("{name}: one leg") };
        assert_eq!(
            (&caller["local"], &caller["remote"]),
            (&leg.local.clone().into(), &leg.remote.clone().into())
        );

        let find = |party: &Value, direction| {
            let ssrc = party["ssrc"].as_u64().unwrap();
            let found = leg.streams.iter().find(|s| u64::from(s.ssrc) == ssrc).unwrap();
            assert_eq!((found.direction, found.media), (direction, "audio"), "{name}");
            assert_eq!((found.clock_rate_hz, found.clock_rate_source), (Some(48_000), "slope"));
            found
        };
        let rtp = |party: &Value, what: &str| party["injected"][what]["rtp"].as_u64().unwrap();
        let sent = caller["sent"]["rtp"].as_u64().unwrap();
        assert_eq!(counts(find(caller, "egress")), [sent, 0, 0, 0, 0], "{name}");

        let unseen = callee["injected"]["rtpLostUnseen"].as_u64().unwrap();
        let duplicate = rtp(callee, "duplicated");
        let expected = [
            rtp(callee, "released") - duplicate,
            rtp(callee, "lost") - unseen,
            duplicate,
            rtp(callee, "reordered"),
            0,
        ];
        let ingress = find(callee, "ingress");
        assert_eq!(counts(ingress), expected, "{name}");
        // J settles at the mean change of delay. Packets that were overtaken are in that mean only, so without them
        // it says nothing of J.
        let change = callee["injected"]["delayChange"]["meanMs"].as_f64().unwrap();
        let jitter = ingress.jitter_ms.mean.unwrap();
        let overtaken = ingress.packets_reordered > 0;
        assert!(
            overtaken || (jitter - change).abs() <= change * 0.25,
            "{name}: {jitter} for {change} ms"
        );

        let checks = &caller["checks"]["rtt"];
        assert_eq!(u64::from(leg.rtt.count), checks["count"].as_u64().unwrap(), "{name}");
        let (measured, said) = (leg.rtt.mean_ms.unwrap(), checks["meanMs"].as_f64().unwrap());
        assert!((measured - said).abs() <= 1.0, "{name}: {measured} for {said} ms");
    }
}

#[test]
fn capture_is_counted_up_to_the_given_end() {
    // Each packet lies before one of the two ends, and none behind it is counted.
    let bytes = std::fs::read(path("rehearsal.pcap")).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let first_ms = u64::from(word(24)) * 1_000 + u64::from(word(28)) / 1_000;
    let until = first_ms + 30_000;
    let (mut at, mut before) = (24, 0);
    while at < bytes.len() {
        let micros = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        before += u64::from(micros <= until * 1_000);
        at += 16 + word(at + 8) as usize;
    }
    assert_eq!(analyze("rehearsal", Some(until)).capture.packets, before);
}

#[test]
fn text_of_the_rehearsal_is_the_golden_one() {
    let (text, golden) = (analyze("rehearsal", None).to_string(), path("rehearsal.txt"));
    if std::env::var_os("ROOMTONE_GOLDEN").is_some_and(|order| order == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap());
}
