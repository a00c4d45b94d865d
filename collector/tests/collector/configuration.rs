//! Configuration and health of a fleet, with the real binary and agents over real QUIC: what goes down and when, what
//! an operator sees of it, and that records are taken whatever becomes of the fleet's book.

use std::path::Path;
use std::time::{Duration, Instant};

use roomtone_collector::fleet::book::{Book, Deed, FILE, Use};
use roomtone_collector::fleet::scope::Scope;
use roomtone_collector::fleet::settings::{self, Settings};
use roomtone_protocol::configuration::{
    Arrival, Configuration, ConfigurationHash, ConfigurationState, EffectiveConfiguration, Outcome,
};
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::message::Message;
use serde_json::Value;

use crate::agent::link;
use crate::client::*;
use crate::fixture::*;
use crate::process::*;

const NAME: &str = "endpoint-oslo-4";
const INFO: &str = "[log]\nlevel = \"info\"\n";
const DEBUG: &str = "[log]\nlevel = \"debug\"\n";

/// Runs a command that must succeed, and returns what it said.
fn says(pki: &Pki, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--config", "collector.toml"]].concat();
    let out = run(&arguments, pki.directory.path());
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

fn json(pki: &Pki, arguments: &[&str]) -> Value {
    serde_json::from_str(&says(pki, &[arguments, &["--json"]].concat())).unwrap()
}

/// A command that must fail with one line.
fn refused(pki: &Pki, arguments: &[&str], code: i32) -> String {
    let arguments = [arguments, &["--config", "collector.toml"]].concat();
    fails(&arguments, pki.directory.path(), code)
}

fn write_config(pki: &Pki) {
    std::fs::write(pki.file("collector.toml"), config_text("127.0.0.1:0")).unwrap();
}

/// A heartbeat with what became of the latest configuration.
fn health(latest: Option<(ConfigurationHash, Outcome, &str)>) -> Health {
    Health {
        now: stamp(60),
        interval_s: 60,
        running_s: 60,
        resident_kib: 9_500,
        cpu_ms: 120,
        spool_bytes: 4_096,
        tap_received: 7,
        tap_dropped: 0,
        clock: ClockState::Synchronised,
        transport: LinkTransport::Quic,
        troubles: Troubles::default(),
        configuration: ConfigurationState {
            effective: settings::hash(INFO),
            in_force: latest.map(|(hash, _, _)| hash),
            latest: latest.map(|(hash, outcome, detail)| Arrival {
                hash,
                outcome,
                detail: detail.try_into().unwrap(),
            }),
        },
    }
}

async fn report(client: &mut Client, health: Health) {
    client.bytes(&link(&Message::Health(health))).await;
}

/// The next configuration; acks may come before.
async fn configuration(client: &mut Client) -> Configuration {
    loop {
        match client.next().await {
            Some(Message::Configuration(it)) => {
                assert_eq!(it.hash, settings::hash(&it.text));
                return it;
            }
            Some(Message::Ack(_)) => {}
            other => panic!("a configuration, found {other:?}"),
        }
    }
}

/// Waits until `endpoints` shows what is looked for, and returns the endpoint.
async fn shown(pki: &Pki, endpoint: EndpointId, is_it: impl Fn(&Value) -> bool) -> Value {
    patiently("the state", async {
        loop {
            let listed = json(pki, &["endpoints"]);
            let endpoints = listed["endpoints"].as_array().unwrap();
            let found = endpoints.iter().find(|it| it["id"] == endpoint.to_string());
            if let Some(it) = found.filter(|it| is_it(it)) {
                return it.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_comes_after_the_welcome_and_a_change_within_a_second() {
    let pki = Pki::new(&["oslo-4"]);
    write_config(&pki);
    let said = says(&pki, &["config", "set", "--fleet", "log.level=info"]);
    assert_eq!(
        said,
        "fleet: revision 1 (100 %), reaches 0 of 0 endpoints; a running `serve` sends it within a second\n"
    );
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    assert_eq!(configuration(&mut client).await.text, INFO);
    report(&mut client, health(Some((settings::hash(INFO), Outcome::OnTrial, "")))).await;

    let begun = Instant::now();
    let said = says(&pki, &["config", "set", "--fleet", "log.level=debug", "--note", "for Oslo"]);
    assert_eq!(configuration(&mut client).await.text, DEBUG);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(said.ends_with("; sent to 1 that are connected and lacked it\n"), "{said}");
    report(&mut client, health(Some((settings::hash(DEBUG), Outcome::InForce, "")))).await;

    // Its report has arrived where a record behind it is acked.
    client.record(0, host_interval()).await;
    client.acked(1).await;

    // Back: it has what it is to have, so the first frame after the welcome is the ack of its record.
    drop(client);
    let (mut client, next) = Client::welcome(serve.address, &pki, 0, NAME).await;
    client.record(next, host_interval()).await;
    client.acked(2).await;
    report(&mut client, health(Some((settings::hash(DEBUG), Outcome::InForce, "")))).await;
    client.record(2, host_interval()).await;
    client.acked(3).await;

    // What goes away is sent as a text that sets nothing.
    says(&pki, &["config", "unset", "--fleet"]);
    assert_eq!(configuration(&mut client).await.text, "");
    says(&pki, &["config", "rollback", "--fleet"]);
    assert_eq!(configuration(&mut client).await.text, DEBUG);
    let history = json(&pki, &["config", "history", "--fleet"]);
    let revisions: Vec<_> = history["revisions"].as_array().unwrap().iter().collect();
    assert_eq!(revisions.iter().map(|it| &it["revision"]).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(
        (&revisions[1]["note"], &revisions[0]["steps"][0]["percent"]),
        (&"for Oslo".into(), &0.into())
    );
    assert_eq!(serve.terminate().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn change_that_nobody_tells_serve_of_is_noticed_all_the_same() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let mut book = Book::open(&pki.file("store").join(FILE), Use::Command).unwrap();
    let deed = Deed { percent: 100, who: String::new(), note: String::new(), now_us: 1 };
    let scope = Scope::Endpoint(pki.endpoints[0]);
    book.revise(&scope, &deed, |_| Settings::parse(INFO)).unwrap();
    assert_eq!(configuration(&mut client).await.text, INFO);
    drop(serve);
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_that_is_refused_is_counted_and_not_widened_unless_forced() {
    let names: Vec<String> = (0..8).map(|it| format!("room-{it}")).collect();
    let pki = Pki::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let serve = Serve::start(&pki);
    let mut clients = Vec::new();
    for (index, name) in names.iter().enumerate() {
        clients
            .push(Client::welcome(serve.address, &pki, index, &format!("endpoint-{name}")).await.0);
    }
    let reaches = |percent: u8| {
        let chosen = pki.endpoints.iter().map(|it| Scope::Fleet.is_among(percent, 0, *it));
        chosen.collect::<Vec<_>>()
    };
    // The least share that reaches somebody; of eight all beyond 99 % is no chance that comes.
    let percent = (1..100).find(|it| reaches(*it).contains(&true)).unwrap();
    let chosen = reaches(percent);
    let share = percent.to_string();
    says(&pki, &["config", "set", "--fleet", "log.level=loud", "--percent", &share]);
    let reason = "log.level: one of \u{1b}[2Joff, error";
    for (client, _) in clients.iter_mut().zip(&chosen).filter(|(_, is_chosen)| **is_chosen) {
        let hash = configuration(client).await.hash;
        report(client, health(Some((hash, Outcome::Refused, reason)))).await;
    }
    let count = chosen.iter().filter(|it| **it).count();
    let figures = || json(&pki, &["config", "list"])["scopes"][0]["figures"].clone();
    patiently("the refusals", async {
        while figures()["refused"] != count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let told = figures();
    assert_eq!((&told["endpoints"], &told["reached"]), (&8.into(), &count.into()));
    assert_eq!(told["reasons"][reason], count);
    let listed = says(&pki, &["config", "list"]);
    assert!(listed.contains("fleet: refused or taken back by"), "{listed}");
    assert!(!listed.contains('\u{1b}') && listed.lines().all(|it| it.len() <= 110), "{listed}");

    let line = refused(&pki, &["config", "promote", "--fleet"], 1);
    assert!(line.contains(&format!("was refused by {count} and taken back by 0")), "{line}");
    let line = refused(&pki, &["config", "promote", "--fleet", "--percent", "1", "--force"], 1);
    assert!(line.contains(&format!("revision 1 reaches {percent} % already")), "{line}");
    says(&pki, &["config", "promote", "--fleet", "--force"]);
    for (client, _) in clients.iter_mut().zip(&chosen).filter(|(_, is_chosen)| !**is_chosen) {
        assert_eq!(configuration(client).await.text, "[log]\nlevel = \"loud\"\n");
    }
    let shown = json(&pki, &["config", "show", "room-3"]);
    assert_eq!(shown["layers"][0]["settings"]["log.level"], "\"loud\"");
    says(&pki, &["config", "show", "room-3"]);
    says(&pki, &["config", "show"]);
    says(&pki, &["config", "history"]);
    drop(serve);
}

#[test]
fn wrong_settings_are_one_line_and_change_nothing() {
    let pki = Pki::new(&[]);
    write_config(&pki);
    for (arguments, code, said) in [
        (&["config", "set", "--fleet", "audio.level=true"][..], 2, "did you mean `audio.levels`?"),
        (
            &["config", "set", "--fleet", "collector.address=x:1"],
            2,
            "unknown key `collector.address`",
        ),
        (&["config", "set", "--fleet", "levels"], 2, "use key=value"),
        (&["config", "set", "log.level=info"], 2, "--fleet"),
        (&["config", "set", "--fleet"], 2, "KEY=VALUE"),
        (
            &["config", "set", "--fleet", "--percent", "0", "log.level=info"],
            2,
            "0 is not in 1..=100",
        ),
        (&["config", "set", "--site", " ", "log.level=info"], 2, "is no site"),
        (&["config", "set", "--endpoint", "bergen", "log.level=info"], 1, "no endpoint `bergen`"),
        (
            &["config", "set", "--fleet", "--file", "absent.toml"],
            1,
            "cannot read the settings absent.toml",
        ),
        (&["config", "set", "--fleet", "--file", "collector.toml"], 2, "unknown key `"),
        (&["config", "unset", "--fleet", "audio.level"], 2, "did you mean `audio.levels`?"),
        (&["config", "rollback", "--fleet"], 1, "fleet: nothing is set"),
        (&["config", "promote", "--site", "oslo"], 1, "site oslo: nothing is set"),
    ] {
        let line = refused(&pki, arguments, code);
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
    assert_eq!(says(&pki, &["config", "list"]), "nothing is set: `config set` begins\n");
    assert_eq!(says(&pki, &["config", "history"]), "nothing was ever set\n");
    std::fs::write(pki.file("fleet.toml"), "[audio]\nlevels = true # in Oslo\n").unwrap();
    says(&pki, &["config", "set", "--site", "oslo", "--file", "fleet.toml"]);
    let said = says(&pki, &["config", "set", "--site", "oslo", "--file", "fleet.toml"]);
    assert_eq!(said, "site oslo: revision 1 as before (100 %), reaches 0 of 0 endpoints\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeat_is_seen_and_so_is_silence() {
    let pki = Pki::new(&["oslo-4", "tromso-1"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, NAME).await;
    let (quiet, _) = Client::welcome(serve.address, &pki, 1, "endpoint-tromso-1").await;
    let oslo = pki.endpoints[0];
    let mut sick = health(None);
    sick.troubles = Troubles::TAP_DROPS | Troubles(1 << 31);
    sick.clock = ClockState::Unsynchronised;
    (sick.cpu_ms, sick.spool_bytes, sick.running_s) = (u64::MAX, u64::MAX, u32::MAX);
    report(&mut client, sick).await;
    let text = "[spool]\nbytes_max = \"100MiB\"\n".try_into().unwrap();
    let effective =
        EffectiveConfiguration { hash: settings::hash("[spool]\nbytes_max = \"100MiB\"\n"), text };
    client.bytes(&link(&Message::EffectiveConfiguration(effective))).await;
    // The last complaint takes both reports.
    let it = shown(&pki, oslo, |it| it["why"].as_array().is_some_and(|why| why.len() == 4)).await;
    let why: Vec<_> = it["why"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        why,
        [
            "the tap loses packets",
            "troubles of a later version: 0x80000000",
            "its clock is not synchronised",
            "its spool is nearly full"
        ]
    );
    assert_eq!(it["state"], "degraded");
    assert_eq!((&it["connected"], &it["health"]["cpuMs"]), (&true.into(), &u64::MAX.into()));
    let table = says(&pki, &["endpoints"]);
    assert!(table.ends_with("\n2 endpoints: 1 up, 1 degraded\n"), "{table}");
    let names: Vec<_> =
        table.lines().skip(1).take(2).filter_map(|it| it.split(' ').next()).collect();
    assert_eq!(names, ["oslo-4", "tromso-1"], "the worst first: {table}");
    let one = says(&pki, &["endpoint", "show", "oslo"]);
    for said in
        ["not enrolled here", "condition  degraded", "4294967295 s", "  bytes_max = \"100MiB\""]
    {
        assert!(one.contains(said), "no {said} in:\n{one}");
    }
    assert_eq!(json(&pki, &["endpoint", "show", "oslo"])["condition"]["state"], "degraded");
    assert_eq!(json(&pki, &["endpoints", "--state", "up"])["endpoints"][0]["name"], "tromso-1");
    let records = says(&pki, &["endpoints", "--records"]);
    assert!(records.contains("RECORDS") && records.contains("oslo-4"), "{records}");
    let status = json(&pki, &["status"]);
    assert_eq!(status["endpoints"], serde_json::json!({ "degraded": 1, "up": 1 }));
    assert_eq!(
        (&status["reports"]["taken"], &status["reports"]["kept"]),
        (&2.into(), &true.into())
    );
    let said = says(&pki, &["status"]);
    assert!(said.contains("2 endpoints: 1 up, 1 degraded\nheartbeats: 2 taken, "), "{said}");

    // A healthy one again, then the end of its connection.
    report(&mut client, health(None)).await;
    shown(&pki, oslo, |it| it["state"] == "up").await;
    client.connection.close(0u32.into(), b"");
    let it = shown(&pki, oslo, |it| it["state"] == "silent").await;
    assert_eq!(it["why"], serde_json::json!(["the connection ended"]));
    drop(quiet);
    serve.kill();
    // Nobody marked the other as gone; the next start does.
    let serve = Serve::start(&pki);
    shown(&pki, pki.endpoints[1], |it| it["state"] == "silent").await;
    drop(serve);
}

/// Serves with a spoilt book and takes a record.
async fn takes_records(pki: &Pki, is_kept: bool) {
    let serve = Serve::start(pki);
    let (mut client, next) = Client::welcome(serve.address, pki, 0, NAME).await;
    report(&mut client, health(Some((settings::hash(INFO), Outcome::InForce, "")))).await;
    client.record(next, host_interval()).await;
    // Nothing but the ack: settings are taken away from nobody.
    client.acked(next + 1).await;
    let asked = run(&["status", "--json", "--config", "collector.toml"], pki.directory.path());
    let (status, said) = (serde_json::from_slice::<Value>(&asked.stdout), asked.stderr);
    let said = String::from_utf8(said).unwrap();
    let status = status.unwrap();
    assert_eq!(status["reports"]["kept"], is_kept);
    assert_eq!(status["endpoints"], serde_json::json!({ "up": 1 }));
    if !is_kept {
        assert!(said.contains("the fleet's book") && said.lines().count() == 1, "{said}");
        let line = refused(pki, &["config", "set", "--fleet", "log.level=info"], 1);
        assert!(line.contains("cannot use the fleet's book"), "{line}");
    }
    assert_eq!(serve.terminate().0, Some(0));
}

fn spoil(pki: &Pki, book: impl Fn(&Path)) {
    let store = pki.file("store");
    for companion in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(store.join(format!("{FILE}{companion}")));
    }
    book(&store.join(FILE));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_taken_whatever_becomes_of_the_book() {
    let pki = Pki::new(&["oslo-4"]);
    write_config(&pki);
    says(&pki, &["config", "set", "--fleet", "log.level=info"]);
    takes_records_with_its_settings(&pki).await;
    spoil(&pki, |path| std::fs::write(path, [0x5a; 8_192]).unwrap());
    takes_records(&pki, true).await;
    assert!(pki.file("store").join("fleet.sqlite.damaged-1").exists());
    spoil(&pki, |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    });
    takes_records(&pki, false).await;
}

async fn takes_records_with_its_settings(pki: &Pki) {
    let serve = Serve::start(pki);
    let (mut client, _) = Client::welcome(serve.address, pki, 0, NAME).await;
    assert_eq!(configuration(&mut client).await.text, INFO);
    assert_eq!(serve.terminate().0, Some(0));
}
