//! The promise of the logs: no name and no address of a call above DEBUG.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;

const GUARD: Duration = Duration::from_secs(60);

#[test]
fn logs_at_info_name_no_endpoint_and_no_address_of_a_call() {
    let Some(hosts) = TwoHosts::make("quiet").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let near = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    let far = near.clone().behind(&hosts.prefix(1));
    near.prepare(0, "\n[media]\ncall_idle = \"5s\"\n").unwrap();
    let (collector, address) = near.start_collector().unwrap();
    let agent = near.start_agent(&address, true).unwrap();
    let target = format!("{}:40000", TwoHosts::ADDRESSES[1]);
    let place = |place: &Place, role: &str| {
        let mut command = place.program("roomtone-agent");
        command.args(["rehearse", "--seconds", "6", role, &target]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut answer, mut call) = (place(&far, "--answer"), place(&near, "--call"));
    assert!(call.wait().unwrap().success() && answer.wait().unwrap().success());
    let started = Instant::now();
    let call = loop {
        let calls = near.calls().unwrap();
        if let Some(call) = calls.into_iter().find(|call| call["state"] == "closed") {
            break call;
        }
        assert!(started.elapsed() < GUARD, "the call did not close");
        std::thread::sleep(Duration::from_millis(100));
    };
    // The farewells of both are lines too.
    agent.stop().unwrap();
    collector.stop().unwrap();
    let leg = &call["legs"][0];
    let [local, remote] = ["local", "remote"].map(|side| leg[side].as_str().unwrap().to_owned());
    assert_eq!(remote, target);
    for log in ["agent.log", "collector.log"] {
        let text = fs::read_to_string(folder.path().join(log)).unwrap();
        assert!(text.contains("INFO"), "{log} is a log at INFO: {text}");
        let [here, there] = TwoHosts::ADDRESSES;
        for word in [&local, &remote, here, there, "this-machine"] {
            assert!(!text.contains(word), "{word:?} in {log}: {text}");
        }
    }
}
