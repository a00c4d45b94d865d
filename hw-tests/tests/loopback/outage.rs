//! Outages in the middle of a call: nothing acked is lost, nothing is stored twice.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;
use serde_json::Value;

use super::wait;

const CALL_IDLE: &str = "\n[media]\ncall_idle = \"5s\"\n";
fn rehearse(place: &Place, seconds: u32) -> Child {
    let mut command: Command = place.program("roomtone-agent");
    command.args(["rehearse", "--loss", "1%", "--seconds", &seconds.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every interval number of every leg once, and their sums equal to the leg's summary.
fn check_sums(call: &Value) {
    for leg in call["legs"].as_array().unwrap() {
        let intervals = leg["intervals"].as_array().unwrap();
        let numbers: Vec<_> = intervals.iter().map(|i| i["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{call:#?}");
        for direction in ["ingress", "egress"] {
            let streams = leg["streams"].as_array().unwrap();
            let total = streams.iter().find(|s| s["direction"] == direction).unwrap();
            for key in ["packetsReceived", "packetsLost"] {
                let sum: i64 =
                    intervals.iter().map(|i| i[direction][key].as_i64().unwrap_or(0)).sum();
                assert_eq!(Some(sum), total[key].as_i64(), "{direction} {key}");
            }
        }
    }
}

#[test]
fn collector_that_was_away_gets_everything_once() {
    // A host of its own: the agent observes all interfaces, and other trials rehearse on this machine too.
    let Some(hosts) = TwoHosts::make("away").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, CALL_IDLE).unwrap();
    let (collector, address) = place.start_collector().unwrap();
    let _agent = place.start_agent(&address, true).unwrap();
    let mut call = rehearse(&place, 25);
    wait(&place, "the call", |calls| !calls.is_empty());
    collector.kill().unwrap();
    // Away over two interval ends, then back on the same port.
    std::thread::sleep(Duration::from_secs(12));
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    place.prepare_collector(port).unwrap();
    let (_collector, _) = place.start_collector().unwrap();
    call.wait().unwrap();
    let calls = wait(&place, "the end", |calls| calls.iter().any(|call| call["state"] == "closed"));
    assert_eq!(calls.len(), 1);
    check_sums(&calls[0]);
    let endpoints = place.ask(&["endpoints"]).unwrap();
    let endpoint = &endpoints["endpoints"][0];
    assert_eq!(
        (&endpoint["recordsMissing"], &endpoint["recordsReportedLost"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn agent_killed_in_mid_call_loses_nothing_that_it_had_recorded() {
    // A host of its own: the agent observes all interfaces, and other trials rehearse on this machine too.
    let Some(hosts) = TwoHosts::make("killed").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, CALL_IDLE).unwrap();
    let (_collector, address) = place.start_collector().unwrap();
    let agent = place.start_agent(&address, true).unwrap();
    let mut call = rehearse(&place, 25);
    // Killed once its first interval was stored.
    let has_interval =
        |call: &Value| call["legs"][0]["intervals"].as_array().is_some_and(|i| !i.is_empty());
    let before = wait(&place, "an interval", |calls| calls.iter().any(has_interval));
    agent.kill().unwrap();
    let _agent = place.start_agent(&address, true).unwrap();
    call.wait().unwrap();
    // The second life of the agent closed that call, and saw the rest as a call of its own.
    let calls = wait(&place, "the end of both", |calls| {
        calls.len() == 2 && calls.iter().all(|call| call["state"] == "closed")
    });
    let first = calls.iter().find(|call| call["id"] == before[0]["id"]).unwrap();
    assert!(has_interval(first));
    assert_eq!(first["closeReason"], "agentStopped");
    // The mark had followed with the interval.
    let [began, ended] = ["start", "end"].map(|key| first[key].as_str().unwrap().to_owned());
    assert!(began < ended, "{began} to {ended}");
    let second = calls.iter().find(|call| call["id"] != before[0]["id"]).unwrap();
    check_sums(second);
    let endpoints = place.ask(&["endpoints"]).unwrap();
    let endpoint = &endpoints["endpoints"][0];
    assert_eq!(
        (&endpoint["recordsMissing"], &endpoint["recordsReportedLost"]),
        (&0.into(), &0.into())
    );
}
