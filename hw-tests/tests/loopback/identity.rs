//! How an endpoint keeps its identity, loses it, and gets another, while both released programs run and no record is
//! lost; and that the logs of all that name nobody.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::enrolled::{HOST_NAME, Site, lines};

const DAY_S: i64 = 86_400;
/// A change that is to come within seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// The promise: whoever enrols a room anew waits less than a minute.
const TAKEN_UP: Duration = Duration::from_secs(60);
const LINKED: &str = "the collector takes records";
const RENEWED: &str = "the certificate was renewed";

/// Its id.
fn id(endpoint: &serde_json::Value) -> String {
    endpoint["endpoint"].as_str().unwrap().to_owned()
}

#[test]
fn certificate_is_renewed_in_a_call_and_no_record_is_lost() {
    let Some((site, _collector)) = Site::make("renewal") else { return };
    // Of 60 s two thirds are over in 5 s and three quarters in 10 s.
    site.age(-35, 25);
    let before = site.identity();
    let mut agent = site.agent(true);
    let mut call = site.call(20).spawn().unwrap();
    agent.wait_for(RENEWED, SOON).unwrap();
    assert!(call.try_wait().unwrap().is_none(), "the call is on");
    agent.wait_for(LINKED, SOON).unwrap();
    assert_ne!(site.identity(), before);
    assert!(call.wait().unwrap().success());
    let closed = super::wait(&site.place, "the end of the call", |calls| {
        calls.len() == 1 && calls[0]["state"] == "closed"
    });
    // 20 s and their edges in intervals of 10 s, none of them lost on the way.
    for leg in closed[0]["legs"].as_array().unwrap() {
        assert!(leg["intervals"].as_array().unwrap().len() >= 2, "{leg:#}");
    }
    let known = site.enrolled();
    let account = site.account(&id(&known[0]), "records", |it| it["records"].as_u64() > Some(5));
    Site::nothing_is_missing(&account);
    assert_eq!(known[0]["state"], "valid");
    assert_eq!(lines(&site.path("agent.log"), "no link"), [""; 0], "a renewal is no failure");
}

#[test]
fn endpoint_that_was_away_past_its_expiry_comes_back_by_itself() {
    let Some((site, _collector)) = Site::make("grace") else { return };
    site.age(-129 * DAY_S, -89 * DAY_S);
    let mut agent = site.agent(false);
    agent.wait_for(RENEWED, SOON).unwrap();
    agent.wait_for(LINKED, SOON).unwrap();
    assert_eq!(site.refusals("expired"), 0);
}

#[test]
fn endpoint_that_was_away_too_long_is_refused_once_and_taken_up_when_enrolled_anew() {
    let Some((site, _collector)) = Site::make("beyond") else { return };
    site.age(-131 * DAY_S, -91 * DAY_S);
    let mut agent = site.agent(false);
    agent.wait_for("expired too long ago", SOON).unwrap();
    site.enroll(&["--force"]);
    agent.wait_for(LINKED, TAKEN_UP).unwrap();
    assert_eq!(site.refusals("expired"), 1);
    assert_eq!(lines(&site.path("agent.log"), "no link").len(), 1);
}

#[test]
fn collector_that_dies_with_a_request_in_its_hands_is_asked_again() {
    let Some((site, collector)) = Site::make("outage") else { return };
    // Below INFO the agent says when it asks.
    let config = fs::read_to_string(site.path("agent.toml")).unwrap();
    fs::write(site.path("agent.toml"), config + "\n[log]\nlevel = \"debug\"\n").unwrap();
    site.age(-35, 25);
    let before = site.identity();
    let mut agent = site.agent(true);
    let mut call = site.call(20).spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(collector.id()).unwrap()).unwrap();
    // It hears nothing any more, and its kernel takes what comes.
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    agent.wait_for("asked for the next certificate", SOON).unwrap();
    collector.kill().unwrap();
    let (_collector, _) = site.place.start_collector().unwrap();
    assert_eq!(site.identity(), before, "what was not answered is not kept");
    agent.wait_for(RENEWED, Duration::from_secs(90)).unwrap();
    agent.wait_for(LINKED, SOON).unwrap();
    assert!(call.wait().unwrap().success());
    let known = id(&site.enrolled()[0]);
    super::wait(&site.place, "the end of the call", |calls| {
        calls.len() == 1 && calls[0]["state"] == "closed"
    });
    Site::nothing_is_missing(&site.account(&known, "records", |it| it["records"].is_u64()));
}

#[test]
fn revoked_agent_waits_in_hours_and_is_another_endpoint_within_a_minute_of_being_enrolled_anew() {
    let Some((site, _collector)) = Site::make("revoked") else { return };
    let mut agent = site.agent(true);
    let first = id(&site.enrolled()[0]);
    assert!(site.call(5).status().unwrap().success());
    // The call's client events follow its end by two seconds: under the next identity they would be a call of its own.
    let is_told = |call: &serde_json::Value| {
        let mut events = call["clientEvents"].as_array().into_iter().flatten();
        call["state"] == "closed" && events.any(|it| it["leg"].is_null())
    };
    super::wait(&site.place, "a call and its events", |calls| {
        calls.len() == 1 && is_told(&calls[0])
    });
    site.collector_does(&["endpoint", "revoke", &first]);
    agent.wait_for("was revoked", SOON).unwrap();
    // What is recorded meanwhile waits; so does the agent.
    assert!(site.call(5).status().unwrap().success());
    // Ten times the longest usual pause after a first failure: that it does not come is the matter here.
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(site.refusals("revoked"), 1, "asked again within the hour");
    site.enroll(&["--force"]);
    agent.wait_for(LINKED, TAKEN_UP).unwrap();
    let second = id(&site.enrolled()[1]);
    assert_ne!(first, second);
    let calls = super::wait(&site.place, "the call meanwhile", |calls| calls.len() == 2);
    let mut whose: Vec<_> = calls.iter().map(|it| it["endpoint"]["id"].as_str().unwrap()).collect();
    whose.sort_unstable_by_key(|it| *it != first);
    assert_eq!(whose, [first.as_str(), second.as_str()]);
    // Both speak of one spool: what the second lacks of it is, to the record, what the first had delivered.
    let [first, second] = [first, second].map(|of| site.account(&of, "it", |it| it.is_object()));
    assert!(first["records"].as_u64() > Some(3), "{first:#}");
    assert_eq!(second["recordsMissing"], first["records"], "{second:#}");
    Site::nothing_is_missing(&first);
    assert_eq!(second["recordsReportedLost"], 0);
}

#[test]
fn logs_of_a_whole_life_name_nobody_and_hold_no_secret() {
    let Some((site, collector)) = Site::make("quietlife") else { return };
    let mut secrets = Vec::new();
    let mut note = |text: &str| {
        // A piece of any length that nobody types by chance: 16 characters of base64 or base32.
        let pem = text.lines().filter(|line| !line.starts_with("-----"));
        secrets.extend(pem.flat_map(|line| line.as_bytes().chunks(16)).filter_map(|piece| {
            let piece = std::str::from_utf8(piece).unwrap();
            (piece.len() == 16).then(|| piece.to_owned())
        }));
    };
    for name in ["certificates/ca.pem", "certificates/ca.key", "certificates/collector.key"] {
        note(&fs::read_to_string(site.path(name)).unwrap());
    }
    note(&site.identity());
    let first = id(&site.enrolled()[0]);
    site.collector_does(&["endpoint", "rename", &first, "Oslo Boardroom"]);
    site.age(-40, 3_600);
    note(&site.identity());
    // A call, a renewal, an outage, a revocation, refusals, a replayed token, another identity.
    site.age(-50, 10);
    let mut agent = site.agent(false);
    agent.wait_for(RENEWED, SOON).unwrap();
    note(&site.identity());
    assert!(site.call(5).status().unwrap().success());
    collector.stop().unwrap();
    agent.wait_for("no link", SOON).unwrap();
    agent.wait_for("no answer", SOON).unwrap();
    let first_log = fs::read_to_string(site.path("collector.log")).unwrap();
    let (collector, _) = site.place.start_collector().unwrap();
    agent.wait_for(LINKED, TAKEN_UP).unwrap();
    site.collector_does(&["endpoint", "revoke", &first]);
    agent.wait_for("was revoked", SOON).unwrap();
    let token = site.enroll(&["--force"]);
    note(&token[4..]);
    let mut replay = site.place.program("roomtone-agent");
    replay.args(["enroll", "--force", "--token", &token, "--config"]).arg(site.path("agent.toml"));
    replay.arg("--directory").arg(site.path("identity"));
    assert!(!replay.output().unwrap().status.success());
    note(&site.identity());
    agent.wait_for(LINKED, TAKEN_UP).unwrap();
    agent.stop().unwrap();
    collector.stop().unwrap();
    let second_log = fs::read_to_string(site.path("collector.log")).unwrap();
    let agent_log = fs::read_to_string(site.path("agent.log")).unwrap();
    assert!(secrets.len() > 50, "{} pieces", secrets.len());
    for (log, text) in
        [("agent", &agent_log), ("collector", &first_log), ("collector", &second_log)]
    {
        assert!(text.contains(" INFO ") && !text.contains(" DEBUG "), "{log}: {text}");
        for word in [&token, HOST_NAME, "Oslo Boardroom", "PRIVATE KEY", "CERTIFICATE"] {
            assert!(!text.contains(word), "{word:?} in the {log}'s log: {text}");
        }
        let found = secrets.iter().find(|piece| text.contains(piece.as_str()));
        assert_eq!(found, None, "in the {log}'s log: {text}");
        for line in text.lines() {
            // Where it listens is the collector's own affair, in its first line.
            if line.contains("ready") && line.contains("address=[::]:4433") {
                continue;
            }
            assert_eq!(address_in(line), None, "in the {log}'s log: {line}");
        }
    }
}

/// The first thing in a line that reads as an address of the internet.
fn address_in(line: &str) -> Option<&str> {
    let of_address = |c: char| c.is_ascii_hexdigit() || ".:[]".contains(c);
    line.split(|c| !of_address(c)).map(|word| word.trim_matches(['.', ':'])).find(|word| {
        let plain = word.trim_matches(['[', ']']);
        plain.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok()
    })
}

#[test]
fn addresses_are_found_in_lines() {
    for line in ["from 10.0.0.1:4433.", "to [::1]:5", "(fe80::1)", "remote=192.0.2.7 x"] {
        assert!(address_in(line).is_some(), "{line}");
    }
    for line in ["2026-11-22T22:13:39.123456Z  INFO spool", "version 0.1.0", "a::b is no", "::"] {
        assert_eq!(address_in(line).filter(|word| word.contains('1')), None, "{line}");
    }
}
