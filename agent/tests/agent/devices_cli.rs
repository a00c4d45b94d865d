//! `roomtone-agent devices` from a technician's side, on a made-up machine.
use std::process::{Command, Output};

use super::sound_tree::SoundTree;
use roomtone_agent::audio::inventory::Place;
use serde_json::{Value, json};

const MIC: Place = Place { card: 0, pcm: 0, capture: true };

fn devices(tree: &SoundTree, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
        .arg("devices")
        .arg("--root")
        .arg(tree.root())
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn machine_without_sound_is_one_line_and_an_empty_list() {
    let tree = SoundTree::without_sound();
    let table = devices(&tree, &[]);
    assert!(table.status.success());
    assert!(text(&table.stdout).starts_with("this machine has no sound subsystem"));
    assert_eq!(text(&table.stdout).lines().count(), 1);
    let list = devices(&tree, &["--json"]);
    assert!(list.status.success());
    assert_eq!(json(&list), json!([]));
    assert_eq!(text(&list.stderr).lines().count(), 1);
}

#[test]
fn machine_without_cards_says_so() {
    let table = devices(&SoundTree::new(), &[]);
    assert_eq!(text(&table.stdout), "no capture or render device is plugged in\n");
}

#[test]
fn device_in_use_is_shown_with_holder_and_format_in_100_columns() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "A headset with quite a long name");
    tree.headset(1, "Second", "Second");
    tree.process(412, 400, "audio-io", "teams-for-linux");
    tree.run(MIC, 412, 4_800);

    let table = devices(&tree, &[]);
    let shown = text(&table.stdout);
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    assert_eq!(text(&table.stderr), "", "nothing to mend");

    let list = devices(&tree, &["--json"]);
    let list = json(&list);
    assert_eq!(list.as_array().unwrap().len(), 4);
    let mic = &list[0];
    assert_eq!(mic["device"], "A headset with quite a long name (hw:SimHeadset,0)");
    assert_eq!(mic["side"], "capture");
    assert_eq!(mic["holder"], json!({"pid": 400, "name": "teams-for-linux"}));
    assert_eq!(mic["format"]["rateHz"], 48_000);
    // Another process uses it and it does not move: that is a fault, with or without a call.
    assert_eq!((&mic["state"], &mic["cause"]), (&json!("not functioning"), &json!("stalled")));
    let others: Vec<&str> = list.as_array().unwrap()[1..]
        .iter()
        .map(|device| device["state"].as_str().unwrap())
        .collect();
    assert_eq!(others, ["idle", "idle", "idle"]);
}
