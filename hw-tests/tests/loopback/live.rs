//! A call between two hosts, measured by the running agent of one of them and seen at the collector while it goes on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;
use serde_json::Value;

/// The promise: the first interval is visible this long after the call's first packet.
const VISIBLE_WITHIN: Duration = Duration::from_secs(15);
const TALK_SECONDS: u64 = 14;

#[test]
fn call_between_two_hosts_is_seen_while_it_goes_on() {
    let Some(hosts) = TwoHosts::make("live").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let near = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    let far = Place::new(folder.path()).unwrap().behind(&hosts.prefix(1));
    near.prepare(0, "\n[media]\ncall_idle = \"5s\"\n").unwrap();
    let (_collector, address) = near.start_collector().unwrap();
    let _agent = near.start_agent(&address, true).unwrap();

    let target = format!("{}:40000", TwoHosts::ADDRESSES[1]);
    let seconds = TALK_SECONDS.to_string();
    let common =
        ["--seconds", &seconds, "--delay", "30ms", "--jitter", "8ms", "--loss", "3%", "--json"];
    let mut answer = far.program("roomtone-agent");
    answer.args(["rehearse", "--answer", &target]).args(common);
    let answer = answer.stdout(Stdio::piped()).spawn().unwrap();
    let mut call = near.program("roomtone-agent");
    call.args(["rehearse", "--call", &target]).args(common);
    let started = Instant::now();
    let call = call.stdout(Stdio::piped()).spawn().unwrap();

    // While it goes on: the call is live and its first interval is there.
    let live = loop {
        let calls = near.calls().unwrap();
        let seen = calls.into_iter().find(|call| intervals(call).is_some_and(|n| n > 0));
        if let Some(call) = seen {
            break call;
        }
        assert!(started.elapsed() < VISIBLE_WITHIN, "no interval within {VISIBLE_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    println!(
        "first interval visible {:.1} s after the call was placed",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(live["state"], "live");
    assert_eq!(live["rehearsal"], true);

    let call: Value = report(call.wait_with_output().unwrap());
    let answer: Value = report(answer.wait_with_output().unwrap());
    let closed = loop {
        let calls = near.calls().unwrap();
        if let Some(call) = calls.into_iter().find(|call| call["state"] == "closed") {
            break call;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the call did not close");
        std::thread::sleep(Duration::from_millis(100));
    };
    // The agent saw what the two programs did, packet for packet: the far side lost on purpose what is missing here.
    let far = &answer["injected"]["parties"][0];
    let near = &call["injected"]["parties"][0];
    let stream = |direction: &str| {
        let streams = closed["legs"][0]["streams"].as_array().unwrap();
        streams.iter().find(|stream| stream["direction"] == direction).unwrap().clone()
    };
    let number = |value: &Value| value.as_u64().unwrap();
    let lost = number(&far["injected"]["lost"]["rtp"]) - number(&far["injected"]["rtpLostUnseen"]);
    assert_eq!(number(&stream("ingress")["packetsLost"]), lost);
    assert_eq!(stream("ingress")["packetsReceived"], near["received"]["rtp"]);
    let rtt = closed["legs"][0]["rtt"]["meanMs"].as_f64().unwrap();
    let truth = near["checks"]["rtt"]["meanMs"].as_f64().unwrap();
    assert!((rtt - truth).abs() < 3.0, "round trip {rtt} ms for {truth} ms");
    assert_eq!(closed["legs"][0]["rtt"]["count"], near["checks"]["rtt"]["count"]);
}

/// How many intervals of its first leg a call shows.
fn intervals(call: &Value) -> Option<usize> {
    call["legs"][0]["intervals"].as_array().map(Vec::len)
}

fn report(output: std::process::Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
