//! The real binary: started, killed, started again, and asked.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use roomtone_collector::store::StoreReader;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed, CallPurpose};
use roomtone_protocol::device::EpisodeState;
use roomtone_protocol::id::Sequence;
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use unicode_width::UnicodeWidthStr;

use crate::client::*;
use crate::fixture::*;

pub const BINARY: &str = env!("CARGO_BIN_EXE_roomtone-collector");

/// A running `serve`; killed when dropped.
pub struct Serve {
    pub child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    pub address: SocketAddr,
}

impl Serve {
    pub fn start(pki: &Pki) -> Self {
        let config = pki.directory.path().join("collector.toml");
        std::fs::write(&config, config_text("127.0.0.1:0")).unwrap();
        // Waited for in `drop`, whichever way a test ends.
        #[allow(clippy::zombie_processes)]
        let mut child = Command::new(BINARY)
            .args(["serve", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "no ready line in: {said}");
            if let Some(rest) = line.split("ready address=").nth(1) {
                let address = rest.split_whitespace().next().unwrap().parse().unwrap();
                return Self { child, stderr, address };
            }
            said += &line;
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Already gone after `kill` and `terminate`; a failed test must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn config_text(address: &str) -> String {
    format!(
        "[listen]\naddress = \"{address}\"\n[tls]\ncertificate = \"collector.pem\"\nkey = \"collector.key\"\n\
         client_ca = \"ca.pem\"\n"
    )
}

pub fn run(arguments: &[&str], directory: &Path) -> Output {
    Command::new(BINARY).args(arguments).current_dir(directory).output().unwrap()
}

/// Runs a command that must fail and returns its one line.
pub fn fails(arguments: &[&str], directory: &Path, code: i32) -> String {
    let output = run(arguments, directory);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(output.stdout.is_empty());
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn collector_killed_under_load_has_everything_acked_exactly_once() {
    let pki = Pki::new(&["oslo-4"]);
    let (mut sent, mut acked) = (0u32, 0u32);
    for round in 1..=3 {
        let serve = Serve::start(&pki);
        let (mut client, next) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
        assert!(next >= acked, "round {round}: {acked} were acked, {next} are there");
        assert!(next <= sent, "round {round}: {sent} were sent, {next} are there");
        (sent, acked) = (next, next);
        // Go on sending far beyond what is acked, so that the kill falls between commits.
        while acked < next + 500 {
            while sent < acked + 400 {
                client.record(sent, host_interval()).await;
                sent += 1;
            }
            match client.next().await {
                Some(Message::Ack(Ack { next: Sequence(next), .. })) => acked = next,
                other => panic!("an ack, found {other:?}"),
            }
        }
        serve.kill();
    }
    let serve = Serve::start(&pki);
    let (_client, next) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    assert!(next >= acked);
    let reader = SqliteReader::open(&pki.directory.path().join("store")).unwrap();
    let counts = reader.endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.missing), (u64::from(next), 0));
    let sequences: Vec<u32> =
        reader.host_intervals(pki.endpoints[0]).unwrap().keys().map(|id| id.sequence.0).collect();
    assert_eq!(sequences, (0..next).collect::<Vec<_>>());
    let (code, rest) = serve.terminate();
    assert_eq!(code, Some(0));
    assert!(rest.contains("stopped"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_commands_answer_beside_a_running_serve_within_a_hundred_columns() {
    let pki = Pki::new(&[&"wide-name-".repeat(6)[..60]]);
    let name = format!("endpoint-{}", &"wide-name-".repeat(6)[..60]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, &name).await;
    let mut sequence = 0;
    let rehearsal = roomtone_protocol::id::CallId(0xabc);
    let mut records = whole_call(CALL);
    records.extend([
        call_opened(rehearsal, CallPurpose::Rehearsal),
        leg_opened(rehearsal),
        intervals(rehearsal, 0),
        intervals(rehearsal, 1),
    ]);
    for record in records {
        client.record(sequence, record).await;
        sequence += 1;
    }
    client.acked(sequence).await;

    let directory = pki.directory.path();
    let text = |arguments: &[&str]| {
        let output = run(arguments, directory);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let place = ["--config", "collector.toml"];
    let with = |head: &[&'static str]| [head, &place].concat();
    let closed = CALL.to_string();
    let live = rehearsal.to_string();
    let tables = [
        text(&with(&["calls"])),
        text(&["call", &closed, "--store", "store"]),
        text(&["call", &live, "--store", "store"]),
        text(&with(&["endpoints"])),
        text(&with(&["selftests", "--endpoint", "WIDE-"])),
    ];
    for table in &tables {
        for line in table.lines() {
            assert!(line.width() <= 100, "{} columns: {line}", line.width());
        }
    }
    let [calls, call, rehearsed, endpoints, self_tests] = &tables;
    assert!(calls.contains(&closed) && calls.contains("live*"), "{calls}");
    // 60 of 3,000 lost: 2 %; jitter 3.1 ms; 3 s of 60 s: 5 %.
    for part in
        ["2.00%", "3.1", "stalled", "5.00% !", "[2001:db8:1111:2222:3333:4444:5555:6666]:3480"]
    {
        assert!(call.contains(part), "{part} in {call}");
    }
    // 6 s of 60 s at volume 0; 4 glitches in 60 s are 20 in 300 s.
    assert!(call.contains(" 10.00% ") && call.contains(" 20.0 "), "{call}");
    assert!(self_tests.contains(" request notHeard "), "{self_tests}");
    assert!(rehearsed.contains("(rehearsal, not a meeting)"), "{rehearsed}");
    assert!(endpoints.contains(" up "), "{endpoints}");

    let json: serde_json::Value =
        serde_json::from_str(&text(&["call", &live, "--json", "--store", "store"])).unwrap();
    let call = &json["calls"][0];
    assert_eq!((&call["state"], &call["rehearsal"]), (&"live".into(), &true.into()));
    assert_eq!(call["closeReason"], serde_json::Value::Null);
    let leg = &call["legs"][0];
    assert_eq!(leg["source"], "intervals");
    // Two intervals of 490 received and 10 lost each.
    let stream = &leg["streams"][0];
    assert_eq!(stream["packetsReceived"], 980);
    assert_eq!((&stream["packetsExpected"], &stream["packetsLost"]), (&1_000.into(), &20.into()));
    assert_eq!(stream["lossRatio"], 0.02);
    assert_eq!(stream["jitterMs"], serde_json::json!({"mean": 3.0, "max": 9.5}));
    assert_eq!(
        leg["rtt"],
        serde_json::json!({"count": 4, "minMs": 39.0, "meanMs": 40.0, "maxMs": 41.0, "lastMs": null})
    );
    assert_eq!(leg["intervals"][1]["start"], "2026-11-22T23:59:10.000Z");
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&text(arguments)).unwrap()
    };
    let device = &json(&["call", &closed, "--json", "--store", "store"])["calls"][0]["devices"][0];
    assert_eq!(
        (&device["poor"], &device["glitches"], &device["glitchesPer5Minutes"]),
        (&true.into(), &4.into(), &20.0.into())
    );
    assert_eq!(
        device["zeroVolume"],
        serde_json::json!({"partUs": 6_000_000, "wholeUs": 60_000_000, "ratio": 0.1})
    );
    let test = &json(&with(&["selftests", "--json"]))["selfTests"][0];
    assert_eq!(
        (&test["outcome"], &test["requested"], &test["capture"], &test["delayMs"]),
        (&"notHeard".into(), &true.into(), &"USB Room Mic".into(), &serde_json::Value::Null)
    );
    let line = fails(&["selftests", "--endpoint", "bergen", "--store", "store"], directory, 1);
    assert!(line.contains("no endpoint `bergen`"), "{line}");
    let (code, _) = serve.terminate();
    assert_eq!(code, Some(0));
}

/// An agent that was killed in a call closes it when it starts again, and what its devices did may come after that.
#[tokio::test(flavor = "multi_thread")]
async fn call_that_a_killed_agent_closed_shows_what_came_late() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let closed = Record::CallClosed(CallClosed {
        call: CALL,
        closed: stamp(30),
        reason: CallCloseReason::AgentStopped,
        legs: 1,
    });
    let records = [
        call_opened(CALL, CallPurpose::Meeting),
        leg_opened(CALL),
        episode(Some(CALL), EpisodeState::Open, SECOND_US),
        closed,
        episode(Some(CALL), EpisodeState::Unrecovered, 3 * SECOND_US),
        device_summary(CALL),
    ];
    for (sequence, record) in (0..).zip(records) {
        client.record(sequence, record).await;
    }
    client.acked(6).await;
    let show = ["call", &CALL.to_string(), "--store", "store"].map(str::to_owned);
    let output = run(&show.each_ref().map(String::as_str), pki.directory.path());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "state      closed, its agent stopped",
        "ended      2026-11-22T23:59:30.000Z",
        " 3.000000 60.000000 5.00% ! ",
        " 3.0 s  unrecovered",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    serve.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_each_interval_of_a_live_call_once() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    client.record(0, call_opened(CALL, CallPurpose::Rehearsal)).await;
    client.record(1, leg_opened(CALL)).await;
    client.record(2, intervals(CALL, 0)).await;
    client.acked(3).await;
    let mut watch = Command::new(BINARY)
        .args(["watch", "--store"])
        .arg(pki.directory.path().join("store"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut line = || tokio::task::block_in_place(|| lines.next().unwrap().unwrap());
    let first = line();
    assert!(first.contains("(rehearsal) leg 0 in 490 lost 10 jitter 3.0 ms"), "{first}");
    client.record(3, intervals(CALL, 1)).await;
    client.acked(4).await;
    let second = line();
    assert!(second.starts_with("11-22 23:59:10 oslo-4 "), "{second}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn wrong_usage_and_missing_things_are_one_line_each() {
    let pki = Pki::new(&[]);
    let directory = pki.directory.path();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    assert!(fails(&["bogus"], directory, 2).contains("unrecognized subcommand 'bogus'"));
    assert!(fails(&[], directory, 2).contains("no command given"));
    let line = fails(&["calls", "--config", "a", "--store", "b"], directory, 2);
    assert!(line.contains("--config <FILE>"), "{line}");
    assert!(fails(&["serve", "--config", "none.toml"], directory, 2).contains("none.toml"));
    write("unknown.toml", "[store]\nretention = 3\n");
    let line = fails(&["serve", "--config", "unknown.toml"], directory, 2);
    assert!(line.contains("did you mean `store.retention_days`?"), "{line}");
    write("nocert.toml", "[tls]\ncertificate = \"none.pem\"\n");
    let line = fails(&["serve", "--config", "nocert.toml"], directory, 1);
    assert!(line.contains("none.pem: No such file") && line.contains("tls.certificate"), "{line}");
    std::fs::create_dir(directory.join("store")).unwrap();
    let line = fails(&["call", "0123456789abcdef", "--store", "store"], directory, 1);
    assert!(line.contains("no call 0123456789abcdef"), "{line}");
    assert!(fails(&["calls", "--store", "none"], directory, 1).contains("none"));
}

#[test]
fn port_in_use_names_the_address_and_what_to_do() {
    let pki = Pki::new(&[]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let directory = pki.directory.path();
    std::fs::write(directory.join("taken.toml"), config_text(&address)).unwrap();
    let line = fails(&["serve", "--config", "taken.toml"], directory, 1);
    assert!(line.contains(&address) && line.contains("listen.address"), "{line}");
}
