//! The running agent in a call: what its spool then tells of the host, of the interface, and of client events. In a
//! network namespace, so that no other test's calls are seen. Needs root and `ip`; says so where either is missing.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use roomtone_agent::spool::{Limits, Spool};
use roomtone_protocol::client_event::{ClientEventKind, ClientEventValue, UnknownBecause};
use roomtone_protocol::frame;
use roomtone_protocol::message::Message;
use roomtone_protocol::network::ConnectionType;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::uplink_quic::Pki;

/// Far more than a loaded machine needs; reached in failure only.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace that goes away with the test.
struct Namespace(String);

impl Namespace {
    fn exec(&self, line: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(line).stdout(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn call_has_its_host_its_interface_and_its_events() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root makes a network namespace");
        return;
    }
    let name = Namespace(format!("roomtone-around-{}", std::process::id()));
    let made = Command::new("ip").args(["netns", "add", &name.0]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("not run: `ip netns add` does not work here");
        return;
    }
    assert!(name.exec(&["ip", "link", "set", "lo", "up"]).status().unwrap().success());
    let pki = Pki::new();
    let config = "[collector]\naddress = \"127.0.0.1:9\"\n\
                  [identity]\ncertificate = \"endpoint.crt\"\nkey = \"endpoint.key\"\nca = \"ca.crt\"\n\
                  [spool]\ndirectory = \"spool\"\nheadroom = \"0\"\ninodes_min = 0\n\
                  [tap]\ninterface = \"lo\"\n[audio]\nwatch = false\n[context]\nsocket = \"\"\n";
    std::fs::write(pki.path("agent.toml"), config).unwrap();
    let ready = UnixDatagram::bind(pki.path("notify")).unwrap();
    ready.set_read_timeout(Some(PATIENCE)).unwrap();

    let agent = env!("CARGO_BIN_EXE_roomtone-agent");
    let file = pki.path("agent.toml");
    let mut running = name
        .exec(&[agent, "run", "--config", file.to_str().unwrap()])
        .env("NOTIFY_SOCKET", pki.path("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 512];
    let length = ready.recv(&mut said).expect("the agent says that it is ready");
    assert!(said[..length].starts_with(b"READY=1"), "{:?}", String::from_utf8_lossy(&said));
    assert!(name.exec(&[agent, "rehearse", "--seconds", "3"]).status().unwrap().success());
    // `ip netns exec` becomes the agent: the child is the agent itself.
    let process = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert!(running.wait().unwrap().success());
    check(&records(&pki.path("spool")));
}

fn check(records: &[Record]) {
    let call = records.iter().find_map(|record| {
        let Record::CallOpened(opened) = record else { return None };
        Some(opened.call)
    });
    let call = call.expect("the rehearsal is a call");

    let networks: Vec<_> = records.iter().filter_map(network).collect();
    assert_eq!(networks.len(), 1, "one address, and it did not change: {networks:?}");
    let told = networks[0];
    assert_eq!((told.call, told.interface.as_str(), told.prefix), (Some(call), "lo", 8));
    assert_eq!((told.connection, told.is_default_route), (ConnectionType::Unknown, false));

    // Cut at the call's beginning and at the agent's end: one at least lies in the three seconds between.
    let hosts: Vec<_> = records.iter().filter_map(host).collect();
    assert!(hosts.iter().any(|it| it.duration_ms >= 1_000 && it.memory_permille > 0), "{hosts:?}");
    let is_seamless = |pair: &[&roomtone_protocol::host::HostInterval]| {
        let end_us = pair[0].started.uptime_us + u64::from(pair[0].duration_ms) * 1_000;
        pair[1].started.uptime_us.abs_diff(end_us) <= 1_000
    };
    assert!(hosts.windows(2).all(is_seamless), "{hosts:?}");

    let events: Vec<_> = records.iter().filter_map(client_events).collect();
    assert!(events.iter().all(|it| it.call == call && it.rules == 1), "{events:?}");
    let of_call: Vec<_> = events.iter().filter(|it| it.leg.is_none()).collect();
    assert_eq!(of_call.len(), 1, "{events:?}");
    let value = |of: &roomtone_protocol::client_event::ClientEvents, kind| {
        of.events.iter().find(|event| event.kind == kind).map(|event| event.value)
    };
    let Some(ClientEventValue::Ratio(cpu)) = value(of_call[0], ClientEventKind::CpuInsufficient)
    else {
        panic!("{of_call:?}");
    };
    assert!(cpu.whole_us() >= 1_000_000, "{cpu:?}");
    let off = ClientEventValue::Unknown(UnknownBecause::SwitchedOff);
    assert_eq!(value(of_call[0], ClientEventKind::DeviceCaptureNotFunctioning), Some(off));

    // Two ends of the rehearsal on one machine, each a leg with received audio of 50 packets a second and no fault.
    let of_legs: Vec<_> = events.iter().filter(|it| it.leg.is_some()).collect();
    assert!(!of_legs.is_empty());
    for leg in of_legs {
        let Some(ClientEventValue::Ratio(receive)) =
            value(leg, ClientEventKind::NetworkReceiveQuality)
        else {
            panic!("{leg:?}");
        };
        assert!(receive.part_us() == 0 && receive.whole_us() >= 1_000_000, "{leg:?}");
    }
}

fn network(record: &Record) -> Option<&roomtone_protocol::network::NetworkAttachment> {
    if let Record::NetworkAttachment(it) = record { Some(it) } else { None }
}

fn host(record: &Record) -> Option<&roomtone_protocol::host::HostInterval> {
    if let Record::HostInterval(it) = record { Some(it) } else { None }
}

fn client_events(record: &Record) -> Option<&roomtone_protocol::client_event::ClientEvents> {
    if let Record::ClientEvents(it) = record { Some(it) } else { None }
}

fn records(directory: &Path) -> Vec<Record> {
    let limits = Limits { headroom_bytes: 0, inodes_min: 0, ..Limits::default() };
    let (mut spool, _) =
        Spool::open(directory, limits, Stamp { wall_us: 1, uptime_us: 1 }).unwrap();
    let (mut found, mut at) = (Vec::new(), spool.oldest());
    loop {
        let mut bytes = Vec::new();
        let next = spool.read(at, &mut bytes, 4_000).unwrap();
        if next == at {
            return found;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (frame, length) = frame::decode(rest).unwrap();
            if let Some(Message::Record(record)) = frame.message {
                found.push(record);
            }
            rest = &rest[length..];
        }
        at = next;
    }
}
