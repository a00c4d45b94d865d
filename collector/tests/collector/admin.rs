//! An operator's requests: the real binary serves, its command line asks, and an agent over real QUIC answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use roomtone_collector::admin::dialogue::LINE_BYTES_MAX;
use roomtone_collector::admin::socket::CONNECTIONS_MAX;
use roomtone_collector::store::StoreReader;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_protocol::control::Control;
use roomtone_protocol::device::{SelfTest, SelfTestOutcome};
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;

use crate::client::*;
use crate::fixture::*;
use crate::process::*;

const NAME: &str = "endpoint-oslo-4";

/// A command that runs beside the test.
fn begin(pki: &Pki, arguments: &[&str]) -> Child {
    Command::new(BINARY)
        .args(arguments)
        .args(["--config", "collector.toml"])
        .current_dir(pki.directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Exit code, standard output and standard error of a command when it has ended.
async fn end(child: Child) -> (Option<i32>, String, String) {
    let waiting = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let Output { status, stdout, stderr } = patiently("the command's end", waiting).await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Waits until the agent is asked for a self-test; acks may come before.
async fn asked(client: &mut Client) {
    loop {
        match client.next().await {
            Some(Message::Control(Control::SelfTest)) => return,
            Some(Message::Ack(_)) => {}
            other => panic!("a request, found {other:?}"),
        }
    }
}

fn socket(pki: &Pki) -> PathBuf {
    pki.directory.path().join("store/collector.sock")
}

/// The one line that a raw conversation is answered with.
fn answer(path: &Path, line: &[u8]) -> serde_json::Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(line).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn request_reaches_the_endpoint_and_its_result_comes_back_with_the_verdict() {
    let pki = Pki::new(&["oslo-4", "tromso-1"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let command = begin(&pki, &["selftest", "oslo"]);
    asked(&mut client).await;
    client.record(0, self_test(SelfTestOutcome::Heard)).await;
    let (code, said, errors) = end(command).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        said,
        "heard: the microphone hears the loudspeaker (microphone USB Room Mic, loudspeaker USB Room Speaker, \
         level -31.2 dB, delay 187.2 ms)\n"
    );

    // By id, as JSON, and it fails: the result on standard output, one line on the other.
    let id = pki.endpoints[0].to_string();
    let command = begin(&pki, &["selftest", &id, "--json"]);
    asked(&mut client).await;
    client.record(1, self_test(SelfTestOutcome::NotHeard)).await;
    let (code, said, line) = end(command).await;
    assert_eq!(code, Some(1));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["outcome"], &said["levelDb"]),
        (&"notHeard".into(), &serde_json::Value::Null)
    );
    assert_eq!(said["endpoint"]["name"], "oslo-4");
    assert!(line.contains("endpoint oslo-4: not heard: ") && line.lines().count() == 1, "{line}");

    let command = begin(&pki, &["selftest", "oslo-4"]);
    asked(&mut client).await;
    client.record(2, self_test(SelfTestOutcome::InCall)).await;
    let (code, said, line) = end(command).await;
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(line.contains("refused: a call is on at the endpoint"), "{line}");
    assert_eq!(serve.terminate().0, Some(0));
    assert!(!socket(&pki).exists(), "the socket goes with its collector");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_cannot_be_made_is_one_line_and_says_why() {
    let pki = Pki::new(&["oslo-4", "oslo-5"]);
    let directory = pki.directory.path().to_owned();
    let serve = Serve::start(&pki);
    let (client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let (_other, _) = Client::welcome(serve.address, &pki, 1, "endpoint-oslo-5").await;
    let config = ["--config", "collector.toml"];
    let ask = |endpoint: &'static str, code| {
        fails(&[&["selftest", endpoint][..], &config].concat(), &directory, code)
    };
    assert!(ask("bergen", 1).contains("no endpoint `bergen` in the store"));
    let line = ask("oslo", 1);
    assert!(line.contains("`oslo` names 2 endpoints (oslo-4 "), "{line}");
    client.connection.close(0u32.into(), b"");
    let reader = SqliteReader::open(&directory.join("store")).unwrap();
    let is_connected =
        || reader.endpoints().unwrap().iter().any(|it| it.name == "oslo-4" && it.connected);
    patiently("the end of the connection", async {
        while is_connected() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let line = ask("oslo-4", 1);
    assert!(line.contains("endpoint oslo-4: it is not connected"), "{line}");
    for wait in ["0s", "121s", "soon"] {
        let line = fails(
            &["selftest", "oslo-5", "--wait", wait, "--config", "collector.toml"],
            &directory,
            2,
        );
        assert!(line.contains("use a time from 1s to 2m"), "{line}");
    }
    serve.terminate();
    let line = ask("oslo-5", 1);
    assert!(
        line.contains("no `roomtone-collector serve` listens on ")
            && line.contains("store/collector.sock"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn second_request_is_told_of_the_first_and_no_answer_ends_the_wait() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let first = begin(&pki, &["selftest", "oslo-4", "--wait", "1s"]);
    asked(&mut client).await;
    let (code, _, line) = end(begin(&pki, &["selftest", "oslo-4"])).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("endpoint oslo-4: a self-test of it is under way"), "{line}");
    let (code, _, line) = end(first).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("gave no answer within 1 s"), "{line}");
    // Still open, though nobody waits any more: it ends with the answer.
    let (_, _, line) = end(begin(&pki, &["selftest", "oslo-4"])).await;
    assert!(line.contains("under way"), "{line}");
    client.record(0, self_test(SelfTestOutcome::Heard)).await;
    client.acked(1).await;
    let third = begin(&pki, &["selftest", "oslo-4"]);
    asked(&mut client).await;
    client.record(1, self_test(SelfTestOutcome::Heard)).await;
    assert_eq!(end(third).await.0, Some(0));
    // A collector that stops leaves nobody waiting.
    let fourth = begin(&pki, &["selftest", "oslo-4"]);
    asked(&mut client).await;
    serve.terminate();
    let (code, _, line) = end(fourth).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("it closed the connection") && line.lines().count() == 1, "{line}");
}

/// The spool of an endpoint that was away may hold results of old requests, and somebody there may test by hand.
#[tokio::test(flavor = "multi_thread")]
async fn result_of_an_older_request_or_of_a_test_by_hand_is_no_answer() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let command = begin(&pki, &["selftest", "oslo-4"]);
    asked(&mut client).await;
    let Record::SelfTest(heard) = self_test(SelfTestOutcome::Heard) else { panic!("a self-test") };
    let mut older = SelfTest { outcome: SelfTestOutcome::Busy, ..heard.clone() };
    // The Hello said 1,000 s since boot.
    older.ended.uptime_us = 999 * SECOND_US;
    client.record(0, Record::SelfTest(older)).await;
    let by_hand =
        SelfTest { requested: false, outcome: SelfTestOutcome::NotHeard, ..heard.clone() };
    client.record(1, Record::SelfTest(by_hand)).await;
    client.acked(2).await;
    client.record(2, Record::SelfTest(heard)).await;
    let (code, said, _) = end(command).await;
    assert!(code == Some(0) && said.starts_with("heard: "), "{said}");
    serve.terminate();
}

/// The result waits in the endpoint's spool and comes with its next connection.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_loses_its_connection_after_the_request_answers_on_the_next_one() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let command = begin(&pki, &["selftest", "oslo-4"]);
    asked(&mut client).await;
    let (mut newer, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    newer.record(0, self_test(SelfTestOutcome::Heard)).await;
    assert_eq!(end(command).await.0, Some(0));
    serve.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_is_for_its_owner_and_replaces_that_of_a_dead_collector_only() {
    let pki = Pki::new(&[]);
    let directory = pki.directory.path();
    let path = socket(&pki);
    Serve::start(&pki).kill();
    assert!(path.exists(), "a killed collector leaves its socket behind");
    let serve = Serve::start(&pki);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(answer(&path, b"{}\n")["reason"], "malformed");
    serve.terminate();

    let arguments = ["serve", "--config", "collector.toml"];
    let live = UnixListener::bind(&path).unwrap();
    let line = fails(&arguments, directory, 1);
    assert!(line.contains("is in use by another roomtone-collector"), "{line}");
    assert!(path.exists(), "what another process listens on is left alone");
    drop(live);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "kept").unwrap();
    let line = fails(&arguments, directory, 1);
    assert!(line.contains("is not a socket") && line.contains("admin.socket"), "{line}");
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    let config =
        format!("{}[admin]\nsocket = \"{}\"\n", config_text("127.0.0.1:0"), "a".repeat(108));
    std::fs::write(directory.join("collector.toml"), config).unwrap();
    let line = fails(&arguments, directory, 1);
    assert!(line.contains("a socket's path has at most 107"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_are_answered_once_and_harm_nobody() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let path = socket(&pki);
    for line in [
        &b"\n"[..],
        b"\xff\xfe\0\n",
        b"{\"command\":\"selfTest\",\"endpoint\":\"\\u001b[2J\",\"waitMs\":1}\n",
        b"{\"command\":\"shutdown\"}\n",
    ] {
        assert_eq!(answer(&path, line)["reason"], "malformed", "{line:?}");
    }
    let endless = answer(&path, &vec![b'['; LINE_BYTES_MAX + 1]);
    assert!(endless["detail"].as_str().unwrap().contains("at most 4096 bytes"), "{endless}");

    // As many as may that say nothing, and one that gives up in the middle of a line.
    let mut half = UnixStream::connect(&path).unwrap();
    half.write_all(b"{\"command\"").unwrap();
    drop(half);
    let silent: Vec<UnixStream> =
        (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut refused = UnixStream::connect(&path).unwrap();
    let mut said = String::new();
    refused.read_to_string(&mut said).unwrap();
    assert!(said.contains("\"reason\":\"busy\""), "{said}");
    drop(silent);

    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let ask = format!(
        "{{\"command\":\"selfTest\",\"endpoint\":\"{}\",\"waitMs\":30000}}\n",
        pki.endpoints[0]
    );
    let asking = tokio::task::spawn_blocking(move || {
        loop {
            let said = answer(&path, ask.as_bytes());
            // The places of those that have just left.
            if said["reason"] != "busy" {
                return said;
            }
        }
    });
    asked(&mut client).await;
    client.record(0, self_test(SelfTestOutcome::Heard)).await;
    let said = patiently("the answer", asking).await.unwrap();
    assert_eq!(said, serde_json::json!({"answer": "selfTest", "epoch": 7, "sequence": 0}));
    assert_eq!(serve.terminate().0, Some(0));
}
