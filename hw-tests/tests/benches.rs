//! Trials on a bench that is not there: told as not run, one by one, and never green.

use std::fs;
use std::process::Command;

use serde_json::Value;

const EXAMPLE: &str = include_str!("../benches/physical.example.toml");

#[test]
fn absent_bench_is_not_run_and_never_passes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = folder.path().join("desk.toml");
    // No card of this machine: an id ends with its number only where two have the same name.
    fs::write(&bench, EXAMPLE.replace("\"Headset\"", "\"NoSuchCard_9\"")).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_roomtone-hw-tests"))
        .args(["trials", "--bench"])
        .arg(&bench)
        .arg("--folder")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1), "a run that proved nothing is not green");
    let said = String::from_utf8(done.stdout).unwrap();
    let (trials, summary) = said.trim_end().rsplit_once('\n').unwrap();
    assert!(trials.lines().all(|line| line.starts_with("not run ")), "{said}");
    assert!(trials.contains("no sound card \"NoSuchCard_9\" on this machine"), "{said}");
    let count = trials.lines().count();
    assert_eq!(summary, format!("0 passed, 0 failed, {count} not run"));

    let report = fs::read_to_string(folder.path().join("out/report.json")).unwrap();
    let report: Vec<Value> = serde_json::from_str(&report).unwrap();
    assert_eq!(report.len(), count);
    for outcome in report {
        assert_eq!(outcome["bench"], "desk");
        assert!(outcome["trial"].is_string() && outcome["reason"].is_string());
        for key in ["passed", "cause", "onsetErrorMs", "detectionMs", "ratio", "truth"] {
            assert_eq!(outcome.get(key), Some(&Value::Null), "{key}");
        }
    }
}

#[test]
fn wrong_bench_is_one_line_that_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let bench = folder.path().join("desk.toml");
    fs::write(&bench, EXAMPLE.replace("= 0.02", "= 0.9")).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_roomtone-hw-tests"))
        .args(["trials", "--bench"])
        .arg(&bench)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!((done.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("render_level_max is 0.9, and must be 0.001 to 0.1"), "{said}");
}
