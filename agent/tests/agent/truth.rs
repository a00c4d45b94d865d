//! Real Chromium calls against what the receiving browser itself said (`getStats`).
//!
//! The captures lie beside the checkout and are used where they are present; the project's own captures are always
//! used.

use std::path::{Path, PathBuf};

use roomtone_agent::analyze::{self, Analysis, Leg, Options, Stream};
use serde_json::Value;

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    if !folder.is_dir() {
        println!("not run: the shared captures are absent");
        return None;
    }
    Some(folder)
}

fn analyze(file: &Path, until: Option<u64>) -> Analysis {
    let options = Options { file: file.into(), local: Vec::new(), until, json: true };
    analyze::run(&options).expect("the capture is readable")
}

fn find(analysis: &Analysis, ssrc: u64) -> (&Leg, &Stream) {
    let mut found = analysis.calls.iter().flat_map(|call| &call.legs).flat_map(|leg| {
        leg.streams.iter().filter(|s| u64::from(s.ssrc) == ssrc).map(move |stream| (leg, stream))
    });
    found.next().expect("the stream was found")
}

#[test]
fn browser_calls_are_counted_packet_for_packet() {
    let Some(folder) = shared() else { return };
    for name in ["clean", "wifi", "burst", "rttstep", "avcall"] {
        let text = std::fs::read(folder.join(format!("{name}.truth.json"))).unwrap();
        let truth: Value = serde_json::from_slice(&text).unwrap();
        let samples = truth["samples"].as_array().unwrap();
        let audio = |sample: &Value| {
            let inbound = sample["inbound"].as_array().unwrap().clone();
            inbound.into_iter().find(|stream| stream["kind"] == "audio").unwrap()
        };
        let file = folder.join(format!("{name}.pcap"));
        // Cut at the end and, so that a mistake cannot cancel out, in the middle.
        for cut in [samples.len(), samples.len() / 2, 8] {
            let last = &samples[cut - 1];
            let said = audio(last);
            let at = last["t_unix_ms"].as_u64().unwrap();
            let ssrc = said["ssrc"].as_u64().unwrap();
            let analysis = analyze(&file, Some(at));
            let (leg, stream) = find(&analysis, ssrc);
            assert_eq!(stream.media, "audio");
            let counts = |stream: &Stream| (stream.packets_received, stream.packets_lost);
            let claimed =
                ["packets_received", "packets_lost"].map(|key| said[key].as_u64().unwrap());
            if cut == samples.len() {
                assert_eq!(counts(stream), claimed.into(), "{name}");
            } else {
                // In mid-call a packet may sit between the interface and the browser's counter: at most the last 20
                // ms of them.
                let earlier = analyze(&file, Some(at - 20));
                let (_, earlier) = find(&earlier, ssrc);
                let between =
                    (earlier.packets_received..=stream.packets_received).contains(&claimed[0]);
                assert!(between, "{name}: {claimed:?} at sample {cut}");
            }

            let jitter = |sample| audio(sample)["jitter_s"].as_f64().unwrap() * 1e3;
            let mean = samples[..cut].iter().map(jitter).sum::<f64>() / cut as f64;
            let measured = stream.jitter_ms.mean.unwrap();
            assert!(
                (measured - mean).abs() <= mean * 0.25 + 1.0,
                "{name}: {measured} for {mean} ms"
            );

            let count = last["stun_responses"].as_u64().unwrap();
            let rtt = last["stun_rtt_sum_ms"].as_f64().unwrap() / count as f64;
            let measured = leg.rtt.mean_ms.unwrap();
            assert!((measured - rtt).abs() <= 3.0, "{name}: {measured} for {rtt} ms");
            assert!(
                u64::from(leg.rtt.count).abs_diff(count) <= 1,
                "{name}: {} of {count}",
                leg.rtt.count
            );
        }
    }
}

/// What a browser had made up and played, and how long its frames had waited, up to some sample.
#[derive(Debug, Clone, Copy)]
struct Said {
    at_ms: u64,
    ssrc: u64,
    concealed: f64,
    total: f64,
    waited: f64,
    emitted: f64,
}

fn said(truth: &Value) -> Vec<Said> {
    let of = |sample: &Value| {
        let streams = sample["inbound"].as_array().unwrap();
        let audio = streams.iter().find(|stream| stream["kind"] == "audio").unwrap();
        let number = |key: &str| audio[key].as_f64().unwrap();
        Said {
            at_ms: sample["t_unix_ms"].as_u64().unwrap(),
            ssrc: audio["ssrc"].as_u64().unwrap(),
            concealed: number("concealed_samples"),
            total: number("total_samples"),
            waited: number("jitter_buffer_delay_s"),
            emitted: number("jitter_buffer_emitted"),
        }
    };
    truth["samples"].as_array().unwrap().iter().map(of).collect()
}

/// The model's sums up to a moment, concealed and heard, in ms; and the mean wait of a frame.
fn modelled(file: &Path, said: &Said) -> (f64, f64, f64) {
    let analysis = analyze(file, Some(said.at_ms));
    let (_, stream) = find(&analysis, said.ssrc);
    let heard = stream.heard.as_ref().expect("received audio");
    (heard.concealed_ms, heard.heard_ms, heard.buffer_ms.mean.unwrap())
}

/// The captures in whose sight the model's one free constant was chosen, and those that were looked at only after.
const CHOSEN_ON: [&str; 3] = ["clean", "rttstep", "avcall"];
const HELD_OUT: [&str; 2] = ["wifi", "burst"];

/// Percent concealed, ours and the browser's, from `from` to `to`.
fn percents(file: &Path, from: &Said, to: &Said) -> (f64, f64) {
    let (before, after) = (modelled(file, from), modelled(file, to));
    let ours = (after.0 - before.0) / (after.1 - before.1) * 100.0;
    let theirs = (to.concealed - from.concealed) / (to.total - from.total) * 100.0;
    (ours, theirs)
}

#[test]
fn concealment_is_what_the_browsers_own_buffer_concealed() {
    let Some(folder) = shared() else { return };
    let mut ranked = Vec::new();
    println!(
        "concealed, percent of what was heard after the first 5 s: model, browser, difference"
    );
    for name in CHOSEN_ON.into_iter().chain(HELD_OUT) {
        let text = std::fs::read(folder.join(format!("{name}.truth.json"))).unwrap();
        let said = said(&serde_json::from_slice(&text).unwrap());
        let file = folder.join(format!("{name}.pcap"));
        // The first sample comes 2 s after the start.
        let start = said[0].at_ms - 2_000;
        let from = said.iter().find(|said| said.at_ms >= start + 5_000).unwrap();
        let last = said.last().unwrap();
        let (ours, theirs) = percents(&file, from, last);
        let (_, _, waited) = modelled(&file, last);
        let (their_wait, difference) = (last.waited / last.emitted * 1e3, ours - theirs);
        println!(
            "{name:8} {ours:6.3} {theirs:6.3} {difference:+6.3}  mean wait {waited:5.1} {their_wait:5.1} ms"
        );
        assert!(
            difference.abs() <= (theirs * 0.3).max(0.5),
            "{name}: {ours:.3} % for {theirs:.3} %"
        );
        // Quarters of the call, so that what is too much here cannot make up for what is too little there.
        let rest = said.iter().position(|said| said.at_ms == from.at_ms).unwrap();
        let quarter = (said.len() - 1 - rest) / 4;
        for n in 0..4 {
            let (from, to) = (&said[rest + n * quarter], &said[rest + (n + 1) * quarter]);
            let (ours, theirs) = percents(&file, from, to);
            println!("  quarter {n} {ours:6.3} {theirs:6.3} {:+6.3}", ours - theirs);
            assert!(
                (ours - theirs).abs() <= (theirs * 0.3).max(0.5),
                "{name}, quarter {n}: {ours:.3} % for {theirs:.3} %"
            );
        }
        ranked.push((name, ours, theirs));
    }
    let order = |key: fn(&(&str, f64, f64)) -> f64| {
        let mut sorted: Vec<_> = ranked.iter().collect();
        sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
        sorted.into_iter().map(|(name, ..)| *name).collect::<Vec<_>>()
    };
    assert_eq!(order(|row| row.1), order(|row| row.2), "best first, ours and the browser's");
}

/// (file, streams found, whether any leg has a round trip)
const FOREIGN_WITHOUT_STREAMS: [&str; 4] =
    ["telegram_videocall.pcapng", "stun_msteams_unidir.pcapng", "webex.pcap", "zoom.pcap"];

#[test]
fn other_products_give_what_is_known_and_nothing_invented() {
    let Some(folder) = shared() else { return };
    let foreign = folder.join("foreign");
    for name in FOREIGN_WITHOUT_STREAMS {
        assert!(analyze(&foreign.join(name), None).calls.is_empty(), "{name}");
    }
    let only = |name: &str| -> Stream {
        let mut analysis = analyze(&foreign.join(name), None);
        assert_eq!((analysis.calls.len(), analysis.calls[0].legs.len()), (1, 1), "{name}");
        analysis.calls[0].legs[0].streams.remove(0)
    };

    let g711 = only("sipp_g711a.pcap");
    assert_eq!((g711.packets_received, g711.packets_lost), (236, 0));
    assert_eq!((g711.clock_rate_hz, g711.clock_rate_source), (Some(8_000), "static"));
    assert!((g711.jitter_ms.mean.unwrap() - 0.35).abs() < 0.01);
    assert!((g711.jitter_ms.max.unwrap() - 0.83).abs() < 0.01);

    let dtmf = only("sipp_dtmf_2833_1.pcap");
    assert_eq!((dtmf.packets_lost, dtmf.packets_duplicate), (0, 2));

    let fax = analyze(&foreign.join("FAX-Call-t38-CA-TDM-SIP-FB-1.pcap"), None);
    let received: Vec<_> =
        fax.calls[0].legs[0].streams.iter().map(|s| (s.packets_received, s.packets_lost)).collect();
    assert!(received.contains(&(1171, 0)), "{received:?}");
    // Signalling beside it is marked 26; both directions of the call are marked for expedited forwarding.
    assert!(fax.calls[0].legs[0].streams.iter().all(|s| s.marking.dscp == 46));

    // A real Teams call: relays at 43 to 58 ms, the peer at 75 to 77 ms.
    let teams = analyze(&foreign.join("teams.pcap"), None);
    let legs: Vec<_> = teams.calls.iter().flat_map(|call| &call.legs).collect();
    assert!(legs.len() >= 4);
    for leg in legs.iter().filter(|leg| leg.rtt.count > 0) {
        let range = if leg.remote.starts_with("52.") { 42.9..58.0 } else { 75.0..77.1 };
        for rtt in [leg.rtt.min_ms, leg.rtt.max_ms] {
            assert!(range.contains(&rtt.unwrap()), "{}: {rtt:?}", leg.remote);
        }
    }
}

#[test]
fn encrypted_rtcp_of_real_calls_yields_nothing() {
    let Some(folder) = shared() else { return };
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_capture = |path: &PathBuf| {
            path.extension().is_some_and(|ext| ext.to_string_lossy().starts_with("pcap"))
        };
        entries.filter(is_capture).collect::<Vec<_>>()
    };
    let (own, foreign) = (files(&folder), files(&folder.join("foreign")));
    assert!(own.len() >= 5 && foreign.len() >= 10);
    let mut streams = 0;
    // Some 7,700 of Chromium's with AES-CM, and 24 with AES-GCM, whose trailer leaves whole words.
    for file in own.iter().chain(&foreign) {
        let analysis = analyze(file, None);
        for stream in analysis.calls.iter().flat_map(|call| &call.legs).flat_map(|leg| &leg.streams)
        {
            assert!(stream.reported.is_none(), "{}: {:?}", file.display(), stream.reported);
            streams += 1;
        }
    }
    assert!(streams >= 20, "only {streams} streams");
}

#[test]
fn relays_and_the_peer_of_a_teams_call_name_one_public_address() {
    let Some(folder) = shared() else { return };
    let teams = analyze(&folder.join("foreign/teams.pcap"), None);
    let legs: Vec<_> = teams.calls.iter().flat_map(|call| &call.legs).collect();
    let seen: Vec<_> = legs
        .iter()
        .filter_map(|leg| Some((&leg.remote, &leg.local, leg.reflexive.as_ref()?)))
        .collect();
    assert!(seen.iter().all(|(.., reflexive)| reflexive.starts_with("80.181.206.72:")), "{seen:?}");
    // By the attribute of [MS-TURN], and by that of RFC 8489.
    assert!(seen.iter().any(|(remote, ..)| remote.starts_with("52.114.250.")), "{seen:?}");
    assert!(seen.iter().any(|(remote, ..)| remote.starts_with("93.71.110.205:")), "{seen:?}");
    // One socket has one address outside, whoever looks.
    for (_, local, reflexive) in &seen {
        let mut same = seen.iter().filter(|(_, other, _)| other == local);
        assert!(same.all(|(.., other)| other == reflexive), "{seen:?}");
    }
}
