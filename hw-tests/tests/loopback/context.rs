//! Calls by the room application's word: opened, kept open and split at the collector, and closed after a kill.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;
use serde_json::Value;

use super::wait;

const EXTRA: &str = "\n[media]\ncall_idle = \"5s\"\n\n[context]\nsocket = \"room.sock\"\n";
/// Says something on the context socket, as a room's script does.
fn say(place: &Place, folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = place.program("roomtone-agent");
    command.arg("call").args(arguments).arg("--socket").arg(folder.join("room.sock"));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn rehearse(place: &Place, seconds: u32) {
    let mut command = place.program("roomtone-agent");
    command.args(["rehearse", "--seconds", &seconds.to_string()]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
}

fn legs(call: &Value) -> usize {
    call["legs"].as_array().map_or(0, Vec::len)
}

#[test]
fn context_holds_a_call_through_silence_and_the_next_one_splits() {
    let Some(hosts) = TwoHosts::make("context").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, EXTRA).unwrap();
    let (_collector, address) = place.start_collector().unwrap();
    let _agent = place.start_agent(&address, true).unwrap();
    let say = |arguments: &[&str]| say(&place, folder.path(), arguments);

    say(&["begin", "--id", "a", "--service", "teams"]);
    let status: Value = serde_json::from_slice(&say(&["status", "--json"])).unwrap();
    assert_eq!((&status["inCall"], &status["source"]), (&true.into(), &"context".into()));
    // Every device of this machine is closed, as in a call on hold.
    let mut test = place.program("roomtone-agent");
    test.arg("selftest").arg("--socket").arg(folder.path().join("room.sock"));
    let refused = test.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a call is on"), "{refused:?}");
    let calls = wait(&place, "a call without packets", |calls| calls.len() == 1);
    assert_eq!((&calls[0]["id"], legs(&calls[0])), (&status["call"], 0));
    rehearse(&place, 3);
    // The silence is the matter here: without the context the call would be over after 5 s.
    std::thread::sleep(Duration::from_secs(8));
    rehearse(&place, 3);
    let first: Value = serde_json::from_slice(&say(&["status", "--json"])).unwrap();
    assert_eq!(first["call"], status["call"], "still the same call");
    // The next call begins within the idle time of the one before.
    say(&["begin", "--id", "b"]);
    rehearse(&place, 3);
    say(&["end"]);
    let calls = wait(&place, "the end of both", |calls| {
        calls.len() == 2 && calls.iter().all(|call| call["state"] == "closed")
    });
    let of = |id: &Value| calls.iter().find(|call| call["id"] == *id).unwrap();
    // Two ends of each rehearsal on this host, two legs each.
    assert_eq!(legs(of(&status["call"])), 4, "{calls:#?}");
    let second = calls.iter().find(|call| call["id"] != status["call"]).unwrap();
    assert_eq!(legs(second), 2, "{calls:#?}");
    for call in &calls {
        assert_eq!((&call["rehearsal"], &call["closeReason"]), (&false.into(), &"idle".into()));
    }
}

#[test]
fn call_of_a_context_whose_agent_is_killed_is_closed_by_its_next_life() {
    let Some(hosts) = TwoHosts::make("ctxkill").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, EXTRA).unwrap();
    let (_collector, address) = place.start_collector().unwrap();
    let agent = place.start_agent(&address, true).unwrap();
    say(&place, folder.path(), &["begin", "--id", "a"]);
    let calls = wait(&place, "the call", |calls| calls.len() == 1);
    assert_eq!(calls[0]["state"], "live");
    agent.kill().unwrap();
    // The socket of the killed agent lies there still, and gives way.
    let _agent = place.start_agent(&address, true).unwrap();
    let calls = wait(&place, "its end", |calls| calls.iter().all(|c| c["state"] == "closed"));
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["closeReason"], "agentStopped");
    // The new life knows of no call.
    let status = say(&place, folder.path(), &["status"]);
    assert_eq!(String::from_utf8(status).unwrap(), "no call is on\n");
    assert!(!folder.path().join("call.json").exists());
}
