//! `roomtone-agent selftest` where it makes no sound: refusals, and how they are told.

use std::process::{Command, Output};

use roomtone_agent::audio::inventory::Place;
use serde_json::Value;

use super::sound_tree::SoundTree;

fn selftest(tree: &SoundTree, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"));
    command.arg("selftest").arg("--root").arg(tree.root()).args(arguments).output().unwrap()
}

/// The only line on stderr.
fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim().to_owned()
}

#[test]
fn device_in_use_is_busy_and_another_one_in_use_is_a_call() {
    let tree = SoundTree::new();
    tree.headset(0, "Desk", "Desk Phone");
    tree.headset(1, "Headset", "Sim Headset");
    tree.process(412, 400, "audio-io", "meeting");
    tree.run(Place { card: 1, pcm: 0, capture: true }, 412, 4_800);

    let busy = selftest(&tree, &["--capture", "Headset"]);
    assert_eq!(busy.status.code(), Some(1));
    let line = "roomtone-agent: self-test: Sim Headset (hw:Headset,0) is in use by meeting (process 400): no fault";
    assert_eq!(said(&busy), line);

    let elsewhere = selftest(&tree, &["--json", "--capture", "Desk"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&elsewhere.stdout).unwrap();
    assert_eq!(report["outcome"], "inCall");
    assert_eq!(report["holder"]["name"], "meeting");
    assert_eq!((&report["levelDbfs"], &report["score"]), (&Value::Null, &Value::Null));
    assert_eq!(report["playedDbfs"], -30.0);
}

#[test]
fn unknown_device_is_answered_with_those_that_there_are() {
    let tree = SoundTree::new();
    tree.headset(0, "Headset", "Sim Headset");
    let output = selftest(&tree, &["--render", "Jabra"]);
    assert_eq!(output.status.code(), Some(1));
    let line = "roomtone-agent: self-test: no render device \"Jabra\"; there is: Sim Headset (hw:Headset,0)";
    assert_eq!(said(&output), line);
    assert!(output.stdout.is_empty());
}

#[test]
fn volume_beyond_what_ears_bear_is_wrong_usage() {
    let tree = SoundTree::without_sound();
    for volume in ["0", "-11.9", "-61", "NaN", "loud"] {
        let output = selftest(&tree, &["--volume", volume]);
        assert_eq!(output.status.code(), Some(2), "{volume}");
        assert!(said(&output).contains("give -60 to -12 dB of full scale"), "{volume}");
    }
    assert_eq!(selftest(&tree, &["--volume", "-12"]).status.code(), Some(1));
}
