//! Verdicts beside a running `serve`: made when a call is over, made again when records come late, made of history by
//! other rules.

use std::path::Path;
use std::time::{Duration, Instant};

use roomtone_protocol::call::CallPurpose;
use roomtone_protocol::device::{DeviceSide, DeviceSummary};
use roomtone_protocol::id::CallId;
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use serde_json::Value;

use crate::client::*;
use crate::fixture::*;
use crate::process::*;

/// Long enough for a machine that does ten other things; the judge takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

fn out(arguments: &[&str], directory: &Path) -> String {
    let output = run(arguments, directory);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn verdict(call: CallId, directory: &Path) -> Value {
    let text = out(&["call", &call.to_string(), "--json", "--store", "store"], directory);
    let json: Value = serde_json::from_str(&text).unwrap();
    json["calls"][0]["verdict"].clone()
}

/// Asks until the book has a verdict that will do.
fn stored_verdict(call: CallId, directory: &Path, will_do: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let found = verdict(call, directory);
        if found["stored"] == true && will_do(&found) {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "{found}");
    }
}

/// A microphone that was bad for some seconds of 60.
fn microphone(call: CallId, bad_s: u64) -> Record {
    Record::DeviceSummary(DeviceSummary {
        call,
        device: "USB Room Mic".try_into().unwrap(),
        side: DeviceSide::Capture,
        not_functioning: Ratio::new(bad_s * SECOND_US, 60 * SECOND_US).unwrap(),
        muted: Ratio::UNOBSERVED,
        episodes: 0,
        detector: 1,
        zero_volume: None,
        glitches: None,
    })
}

/// The fixture's call: 2 % lost, jitter 3.1 ms, round trip 40.1 ms, and 3 of 60 s without a microphone.
#[tokio::test(flavor = "multi_thread")]
async fn call_is_judged_when_it_is_over_and_again_when_records_come_late() {
    let pki = Pki::new(&["oslo-4"]);
    let directory = pki.directory.path();
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let rehearsal = CallId(0xabc);
    let mut records = whole_call(CALL);
    records.extend([
        call_opened(rehearsal, CallPurpose::Rehearsal),
        leg_opened(rehearsal),
        summary(rehearsal, 2_000),
    ]);
    for (sequence, record) in (0..).zip(records.clone()) {
        client.record(sequence, record).await;
    }
    let next = u32::try_from(records.len()).unwrap();
    client.acked(next).await;

    let judged = stored_verdict(CALL, directory, |_| true);
    assert_eq!((&judged["rating"], &judged["provisional"]), (&"poor".into(), &false.into()));
    assert_eq!(judged["poorDueTo"][0]["metric"], "captureNotFunctioning");
    assert_eq!(judged["poorDueTo"][0]["value"], 0.05);
    assert_eq!(judged["legs"][0]["rating"], "good");
    assert_eq!(judged["legs"][0]["items"][0]["metric"], "loss");
    assert_eq!(judged["legs"][0]["items"][0]["colour"], "yellow");
    // The rehearsal goes on: it is judged for whoever asks, and not stored.
    let open = verdict(rehearsal, directory);
    assert_eq!((&open["stored"], &open["provisional"]), (&false.into(), &true.into()));
    assert_eq!(open["rating"], "poor");

    // The device's totals are told anew, 0 of 60 s: nothing is poor any more.
    client.record(next, microphone(CALL, 0)).await;
    client.record(next + 1, call_closed(rehearsal)).await;
    client.acked(next + 2).await;
    stored_verdict(CALL, directory, |it| it["rating"] == "good");
    stored_verdict(rehearsal, directory, |it| it["rating"] == "poor");

    let calls = out(&["calls", "--store", "store"], directory);
    assert!(calls.contains(" good ") && calls.contains(" poor* "), "{calls}");
    let poor = out(&["calls", "--poor", "--store", "store"], directory);
    assert_eq!(poor, "no calls\n", "a rehearsal is no poor meeting");
    let page = out(&["call", &CALL.to_string(), "--store", "store"], directory);
    assert!(page.contains("rating     good; by seed-1 version 1 ("), "{page}");
    assert!(page.contains("yellow     leg 0: loss 0.02, at least 0.01 (received)"), "{page}");
    let (code, _) = serve.terminate();
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_a_judge_is_judged_at_the_next_start() {
    let pki = Pki::new(&["oslo-4"]);
    let directory = pki.directory.path();
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let records = whole_call(CALL);
    let count = u32::try_from(records.len()).unwrap();
    for (sequence, record) in (0..).zip(records) {
        client.record(sequence, record).await;
    }
    client.acked(count).await;
    // Killed at once, and what the judge may have written is gone with its file.
    serve.kill();
    for name in ["verdicts.sqlite", "verdicts.sqlite-wal", "verdicts.sqlite-shm"] {
        let _ = std::fs::remove_file(directory.join("store").join(name));
    }
    assert_eq!(verdict(CALL, directory)["stored"], false);
    let serve = Serve::start(&pki);
    stored_verdict(CALL, directory, |it| it["rating"] == "poor");
    serve.terminate();
}

/// CQD's current classifier knows no devices: the same call is good. Own rules take 2 % of loss for poor.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_judged_by_other_rules_and_changes_are_counted() {
    let pki = Pki::new(&["oslo-4"]);
    let directory = pki.directory.path();
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let records = whole_call(CALL);
    let count = u32::try_from(records.len()).unwrap();
    for (sequence, record) in (0..).zip(records) {
        client.record(sequence, record).await;
    }
    client.acked(count).await;
    stored_verdict(CALL, directory, |_| true);
    let again = |rules: &str| -> Value {
        let words =
            ["reclassify", "--rules", rules, "--since", "24h", "--json", "--store", "store"];
        serde_json::from_str(&out(&words, directory)).unwrap()
    };
    let tally = again("cqd-current-1");
    assert_eq!((&tally["judged"], &tally["first"]), (&1.into(), &1.into()));
    assert_eq!(again("cqd-current-1")["same"], 1);
    let words = ["calls", "--rules", "cqd-current-1", "--store", "store"];
    assert!(out(&words, directory).contains(" good "));

    let mut own = out(&["rules", "show", "cqd-current-1"], directory);
    own = own.replace("id = \"cqd-current-1\"", "id = \"ours\"");
    std::fs::write(directory.join("ours.toml"), &own).unwrap();
    assert_eq!(again("ours.toml")["first"], 1);
    let stricter = own.replacen("above = \"0.1\"", "at_least = \"0.02\"", 1);
    assert_ne!(stricter, own);
    std::fs::write(directory.join("ours.toml"), stricter).unwrap();
    let tally = again("./ours.toml");
    let change = serde_json::json!([{"from": "good", "to": "poor", "calls": 1}]);
    assert_eq!(tally["otherRating"], change);
    let poor = out(&["calls", "--poor", "--rules", "ours.toml", "--store", "store"], directory);
    assert!(poor.contains("poor due to loss 0.02, at least 0.02 (received)"), "{poor}");
    serve.terminate();
}

#[test]
fn rules_are_listed_printed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let list = out(&["rules", "list", "--store", "store"], directory);
    assert!(list.contains("* seed-1 ") && list.contains("  cqd-current-1 "), "{list}");
    let text = out(&["rules", "show", "seed-1"], directory);
    std::fs::write(directory.join("own.toml"), text.replace("\"seed-1\"", "\"own\"")).unwrap();
    let said = out(&["rules", "check", "own.toml"], directory);
    assert!(said.contains("poor    microphone not functioning at least 0.005\n"), "{said}");
    std::fs::write(directory.join("bad.toml"), text.replacen("\"30 ms\"", "\"30\"", 1)).unwrap();
    let line = fails(&["rules", "check", "bad.toml"], directory, 1);
    assert!(line.contains("bad.toml: line 17: use a number like \"5000 ms\""), "{line}");
    let line = fails(&["rules", "show", "seed"], directory, 2);
    assert!(
        line.contains("no rule set `seed`: use seed-1, cqd-classic-1, cqd-current-1"),
        "{line}"
    );
}

/// The fixture's leg has the local address 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff.
#[tokio::test(flavor = "multi_thread")]
async fn running_serve_joins_calls_with_buildings_that_are_imported_meanwhile() {
    let pki = Pki::new(&["oslo-4"]);
    let directory = pki.directory.path();
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let send = |call| {
        let mut records = whole_call(call);
        // Ids of episodes are the endpoint's own; one call has it.
        records.retain(|it| call == CALL || !matches!(it, Record::DeviceEpisode(_)));
        records
    };
    let mut next = 0;
    for record in send(CALL) {
        client.record(next, record).await;
        next += 1;
    }
    client.acked(next).await;
    let before = stored_verdict(CALL, directory, |_| true);
    assert_eq!(before["legs"][0]["place"], Value::Null);

    let row = |network: &str, name: &str| format!("{network},x,{name},,,,,,,,,1,0,0\n");
    let file = row("2001:db8::", "32,House") + &row("2001:db8:aaaa::", "48,Fjord");
    std::fs::write(directory.join("list.csv"), file).unwrap();
    out(&["network", "import", "list.csv", "--store", "store"], directory);
    std::fs::write(directory.join("rooms.csv"), "oslo-4,Maker,Bar,Room,,,\n").unwrap();
    out(&["network", "import", "rooms.csv", "--endpoints", "--store", "store"], directory);
    let later = CallId(0xdef);
    for record in send(later) {
        client.record(next, record).await;
        next += 1;
    }
    client.acked(next).await;
    let judged = stored_verdict(later, directory, |_| true);
    let place = serde_json::json!({
        "building": "Fjord", "subnet": "2001:db8:aaaa::/48", "insideCorp": true, "buildingsVersion": 1,
    });
    assert_eq!(judged["legs"][0]["place"], place);
    assert_eq!(judged["machine"]["model"], "Bar");
    assert_eq!(verdict(CALL, directory)["legs"][0]["place"], Value::Null, "not judged since");
    let words = ["reclassify", "--since", "24h", "--json", "--store", "store"];
    let tally: Value = serde_json::from_str(&out(&words, directory)).unwrap();
    assert_eq!((&tally["otherFindings"], &tally["same"]), (&1.into(), &1.into()));
    assert_eq!(verdict(CALL, directory)["legs"][0]["place"], place);
    serve.terminate();
}

/// Oslo sent 3,000 packets each way as it saw them, Tromso saw 2,940: 60 were lost on the way to it and none back.
#[tokio::test(flavor = "multi_thread")]
async fn call_shows_what_left_one_end_and_arrived_at_the_other() {
    let pki = Pki::new(&["oslo-4", "tromso-1"]);
    let directory = pki.directory.path();
    let serve = Serve::start(&pki);
    let far_call = CallId(0xdef);
    for (number, call, lost) in [(0, CALL, 0), (1, far_call, 60)] {
        let name = ["endpoint-oslo-4", "endpoint-tromso-1"][number];
        let (mut client, _) = Client::welcome(serve.address, &pki, number, name).await;
        let mut opened = leg_opened(call);
        if let Record::LegOpened(it) = &mut opened
            && number == 1
        {
            std::mem::swap(&mut it.local, &mut it.remote);
        }
        let meeting = call_opened(call, CallPurpose::Meeting);
        let records = [meeting, opened, summary(call, lost), call_closed(call)];
        for (sequence, record) in (0..).zip(records) {
            client.record(sequence, record).await;
        }
        client.acked(4).await;
    }
    stored_verdict(CALL, directory, |_| true);
    stored_verdict(far_call, directory, |_| true);
    let far_end = &verdict(CALL, directory)["legs"][0]["farEnd"];
    assert_eq!((&far_end["endpointName"], &far_end["leg"]), (&"tromso-1".into(), &0.into()));
    assert_eq!(far_end["call"], far_call.to_string());
    let counts = |it: &Value| (it["packetsSent"].clone(), it["packetsLost"].clone());
    let streams: Vec<_> = far_end["streams"].as_array().unwrap().iter().map(counts).collect();
    assert_eq!(streams, [(2_940.into(), 0.into()), (3_000.into(), 60.into())]);
    let page = out(&["call", &CALL.to_string(), "--store", "store"], directory);
    assert!(page.contains("audio to it: 3000 sent, 2940 arrived, 60 lost (2.00%)"), "{page}");
    serve.terminate();
}
