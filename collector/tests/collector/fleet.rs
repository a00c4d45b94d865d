//! The way of an operator, with the real binary: `init`, `serve`, a token, a room, and taking it back.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use quinn::VarInt;
use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_protocol::enroll::{BootId, EnrollRefusal, EnrollReply};
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::message::Message;
use roomtone_protocol::token::Token;
use serde_json::Value;

use crate::agent::{Anchor, Badge, csr, request};
use crate::client::*;
use crate::fixture::*;
use crate::process::{BINARY, fails, run};

/// A collector that `init` made, serving.
struct Fleet {
    directory: tempfile::TempDir,
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Fleet {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reach = ["--address", "localhost:4433", "--name", "127.0.0.1"];
        let out = run(&[&["init", "--directory", "."][..], &reach].concat(), directory.path());
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let commands: Vec<_> = said.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(
            commands,
            [
                "  roomtone-collector serve --config ./collector.toml",
                "  roomtone-collector token create --config ./collector.toml"
            ]
        );
        let config = directory.path().join("collector.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("[::]:4433", "127.0.0.1:0")).unwrap();
        // Waited for in `drop`, whichever way a test ends.
        #[allow(clippy::zombie_processes)]
        let mut child = Command::new(BINARY)
            .args(["serve", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.split("ready address=").nth(1).expect("it is ready");
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        Self { directory, child, stderr, address }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a command that must succeed, and returns what it said.
    fn run(&self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["--config", "collector.toml"]].concat();
        let out = run(&arguments, self.path());
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Enrols by a token's text, trusting nothing but what it holds.
    async fn enroll(&self, text: &str, host_name: &str) -> Result<Badge, EnrollRefusal> {
        let token = Token::parse(text).unwrap();
        let anchor = Anchor::Pinned(token.authority);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut request = request(&token, csr(&key));
        request.host_name = host_name.try_into().unwrap();
        match crate::agent::enroll(self.address, &anchor, request).await {
            EnrollReply::Enrolled { endpoint, certificate, authority, server_name } => {
                assert_eq!(server_name, "localhost");
                let anchor = Anchor::Authority(authority.to_vec());
                Ok(Badge { endpoint, key, certificate: certificate.to_vec(), anchor })
            }
            EnrollReply::Refused(why) => Err(why),
        }
    }

    /// Ends `serve`; returns all that it logged after its start.
    fn terminate(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Already gone after `terminate`; a failed test must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_enrolled_by_the_text_of_a_token_and_cut_off_within_a_second() {
    let fleet = Fleet::start();
    let token = fleet.json(&["token", "create", "--site", "oslo", "--expires", "1h"]);
    let badge = fleet.enroll(token["token"].as_str().unwrap(), "oslo-4").await.unwrap();
    let again = fleet.enroll(token["token"].as_str().unwrap(), "oslo-5").await;
    assert_eq!(again.err(), Some(EnrollRefusal::UsedToken));
    let tokens = fleet.json(&["token", "list"]);
    assert_eq!(tokens["tokens"][0]["state"], "used");
    assert_eq!(tokens["tokens"][0].get("token"), None, "the text is shown once");

    let (mut client, reply) = badge.greet(fleet.address, None).await;
    assert!(matches!(reply, HelloReply::Welcome { .. }), "{reply:?}");
    client.record(0, host_interval()).await;
    client.acked(1).await;
    fleet.run(&["endpoint", "rename", "oslo-4", "Oslo 4"]);
    let shown = fleet.json(&["endpoint", "show", "Oslo"]);
    assert_eq!((&shown["name"], &shown["state"]), (&"Oslo 4".into(), &"valid".into()));
    assert_eq!(shown["endpoint"], badge.endpoint.to_string());

    let begun = Instant::now();
    fleet.run(&["endpoint", "revoke", "Oslo 4"]);
    assert_eq!(client.closed().await, CloseReason::Revoked);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let (refused, reply) = badge.greet(fleet.address, None).await;
    let HelloReply::Refused { reason: RefuseReason::Revoked, .. } = reply else {
        panic!("revoked, found {reply:?}");
    };
    assert_eq!(refused.closed().await, CloseReason::Refused);
    let status = fleet.json(&["status"]);
    let expected = serde_json::json!({ "revoked": 1, "tokenUsed": 1 });
    assert_eq!((&status["refusals"], &status["connected"]), (&expected, &0.into()));
    let table = fleet.run(&["endpoint", "list"]);
    assert!(table.contains("revoked") && table.lines().all(|line| line.len() <= 100), "{table}");
    fleet.run(&["endpoint", "show", "Oslo 4"]);
    fleet.run(&["status"]);
    fleet.run(&["token", "list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn room_gets_what_is_set_for_the_site_of_its_token_and_shows_in_each_state() {
    let fleet = Fleet::start();
    let token = fleet.run(&["token", "create", "--site", "oslo", "--uses", "2"]);
    let badge = fleet.enroll(&token, "oslo-4").await.unwrap();
    let other = fleet.enroll(&token, "oslo-5").await.unwrap();
    assert_eq!(fleet.json(&["endpoints"])["counts"], serde_json::json!({ "neverSeen": 2 }));
    let said = fleet.run(&["config", "set", "--site", "oslo", "audio.levels=true"]);
    assert!(said.contains("site oslo: revision 1 (100 %), reaches 2 of 2 endpoints"), "{said}");
    fleet.run(&["config", "set", "--endpoint", "oslo-4", "log.level=debug"]);

    let (mut client, _) = badge.greet(fleet.address, None).await;
    let Some(Message::Configuration(found)) = client.next().await else { panic!("it is sent") };
    assert_eq!(found.text, "[audio]\nlevels = true\n[log]\nlevel = \"debug\"\n");
    let shown = fleet.json(&["config", "show", "oslo-4"]);
    let scopes: Vec<_> =
        shown["layers"].as_array().unwrap().iter().filter_map(|it| it["scope"].as_str()).collect();
    assert_eq!((scopes, &shown["site"]), (vec!["site", "endpoint"], &"oslo".into()));
    assert_eq!(shown["progress"], "notHeard");

    // Of what was taken back nobody waits to hear.
    fleet.run(&["endpoint", "revoke", "oslo-5"]);
    assert_eq!(badge.endpoint.to_string(), shown["endpoint"]);
    let figures = &fleet.json(&["config", "list"])["scopes"][0]["figures"];
    assert_eq!((&figures["endpoints"], &figures["notHeard"]), (&1.into(), &1.into()));
    let listed = fleet.json(&["endpoints", "--site", "oslo"]);
    assert_eq!(listed["counts"], serde_json::json!({ "up": 1, "revoked": 1 }));
    let states = listed["endpoints"].as_array().unwrap();
    let of = |id: String| states.iter().find(|it| it["id"] == id).unwrap()["state"].clone();
    assert_eq!(of(other.endpoint.to_string()), "revoked");
    assert_eq!(of(badge.endpoint.to_string()), "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_without_a_running_serve_and_it_heeds_them_later() {
    let fleet = Fleet::start();
    let token = fleet.json(&["token", "create", "--uses", "2"]);
    let badge = fleet.enroll(token["token"].as_str().unwrap(), "oslo-4").await.unwrap();
    let id = token["id"].as_str().unwrap();
    fleet.run(&["token", "revoke", id]);
    let refused = fleet.enroll(token["token"].as_str().unwrap(), "oslo-5").await;
    assert_eq!(refused.err(), Some(EnrollRefusal::RevokedToken));
    let Fleet { directory, .. } = &fleet;
    let store = directory.path().join("store");
    let copy = tempfile::tempdir().unwrap();
    for file in ["identity.sqlite", "identity.sqlite-wal"] {
        std::fs::copy(store.join(file), copy.path().join(file)).unwrap();
    }
    let place = ["--store", copy.path().to_str().unwrap()];
    let out = run(&[&["endpoint", "revoke", "oslo"][..], &place].concat(), copy.path());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let line = fails(&[&["endpoint", "show", "bergen"][..], &place].concat(), copy.path(), 1);
    assert!(line.contains("no endpoint `bergen`"), "{line}");
    let line =
        fails(&[&["token", "revoke", "0000000000000000"][..], &place].concat(), copy.path(), 1);
    assert!(line.contains("no token 0000000000000000"), "{line}");
    let shown = run(&[&["endpoint", "show", "oslo", "--json"][..], &place].concat(), copy.path());
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["state"], "revoked");
    assert_eq!(shown["endpoint"], badge.endpoint.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_machine_is_named_and_cleared_by_an_operator() {
    let fleet = Fleet::start();
    let token = fleet.run(&["token", "create"]);
    let badge = fleet.enroll(&token, "oslo-4").await.unwrap();
    let boot = |byte| Some(BootId([byte; 16]));
    let (first, _) = badge.greet(fleet.address, boot(0xa)).await;
    let (_, reply) = badge.greet(fleet.address, boot(0xb)).await;
    assert!(matches!(reply, HelloReply::Refused { reason: RefuseReason::InUse, .. }), "{reply:?}");
    let cloned = async {
        while fleet.json(&["endpoint", "show", "oslo"])["state"] != "cloned" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("the mark", cloned).await;
    let shown = fleet.run(&["endpoint", "show", "oslo"]);
    for named in ["0a0a0a0a-0a0a", "0b0b0b0b-0b0b", "127.0.0.1", "two machines use it", "holds it"]
    {
        assert!(shown.contains(named), "no {named} in:\n{shown}");
    }
    fleet.run(&["endpoint", "clear", "oslo"]);
    first.connection.close(VarInt::from_u32(0), b"");
    let welcomed = async {
        loop {
            let (_, reply) = badge.greet(fleet.address, boot(0xb)).await;
            if matches!(reply, HelloReply::Welcome { .. }) {
                return;
            }
        }
    };
    patiently("a welcome", welcomed).await;
    assert_eq!(fleet.json(&["endpoint", "show", "oslo"])["state"], "valid");
}

/// At INFO, which is the default: everything that could be told of somebody happens, and none of it is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn log_holds_no_key_no_token_no_name_and_no_address() {
    let fleet = Fleet::start();
    let token = fleet.run(&["token", "create", "--site", "secretsite"]);
    let badge = fleet.enroll(&token, "secretroom").await.unwrap();
    let again = fleet.enroll(&token, "secretroom").await;
    assert!(again.is_err());
    let boot = |byte| Some(BootId([byte; 16]));
    let (mut client, _) = badge.greet(fleet.address, boot(0xa)).await;
    client.record(0, host_interval()).await;
    client.acked(1).await;
    badge.greet(fleet.address, boot(0xb)).await;
    client.bytes(b"no frame").await;
    // The probe may come before.
    while let Some(Message::Control(_) | Message::Ack(_)) = client.next().await {}
    assert_eq!(client.closed().await, CloseReason::BadFrame);
    fleet.run(&["endpoint", "revoke", "secretroom"]);
    badge.greet(fleet.address, boot(0xa)).await;
    let key = std::fs::read_to_string(fleet.path().join("certificates/ca.key")).unwrap();
    let key_line = key.lines().nth(1).unwrap().to_owned();
    let token_id = Token::parse(&token).unwrap().id.to_string();
    let port = fleet.address.port().to_string();
    let log = fleet.terminate();
    for expected in
        ["reason=\"tokenUsed\"", "reason=\"inUse\"", "reason=\"garbage\"", "reason=\"revoked\""]
    {
        assert!(log.contains(expected), "no {expected} in:\n{log}");
    }
    let token = token.trim();
    for secret in
        [token, &token[4..40], &token_id, "secretroom", "secretsite", "127.0.0.1", &port, &key_line]
    {
        assert!(!log.contains(secret), "{secret} in:\n{log}");
    }
}

#[test]
fn init_overwrites_nothing_and_a_collector_without_authority_makes_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let init = ["init", "--directory", ".", "--address", "rooms.example.test:4433"];
    assert!(run(&init, directory.path()).status.success());
    // Before `serve` has ever run.
    let text = run(&["token", "create", "--config", "collector.toml"], directory.path());
    let token = Token::parse(&String::from_utf8(text.stdout).unwrap()).unwrap();
    assert_eq!((token.host(), token.port()), ("rooms.example.test", 4433));
    let line = fails(&init, directory.path(), 1);
    assert!(line.contains("is there already: nothing was changed"), "{line}");
    let line = fails(&["init", "--address", "rooms"], directory.path(), 2);
    assert!(line.contains("use a host name or address and a port"), "{line}");
    std::fs::write(directory.path().join("plain.toml"), "").unwrap();
    let line = fails(&["token", "create", "--config", "plain.toml"], directory.path(), 1);
    assert!(line.contains("identity.address is not set"), "{line}");
}
