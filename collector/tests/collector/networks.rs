//! `network` as it is typed: what comes out, and the exit code that a script goes by.

use std::process::{Command, Output};

use crate::process::BINARY;

const GOOD: &str = "10.0.0.0\tall\t8\tHouse\t\t\t\tOslo\t\tNO\t\t\t1\t0\t0\n";
const BAD: &str = "10.300.0.0\tfloor\t16\tHouse\t\t\t\tOslo\t\tNO\t\t\t1\t0\t0\n";

/// Runs `network` on a file `list.tsv` of this text.
fn network(text: &str, words: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("list.tsv"), text).unwrap();
    Command::new(BINARY).arg("network").args(words).current_dir(folder.path()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_fails_where_a_row_was_dropped_and_only_there() {
    let (code, out, error) = said(&network(GOOD, &["check", "list.tsv"]));
    let summary = "1 rows, 0 dropped; 1 networks in 1 buildings, 0 in another network\n";
    assert_eq!((code, out.as_str(), error.as_str()), (Some(0), summary, ""));

    let (code, out, error) = said(&network(&(GOOD.to_owned() + BAD), &["check", "list.tsv"]));
    assert_eq!(code, Some(1));
    assert!(out.starts_with("line 2, dropped: NetworkIP: `10.300.0.0` is no IP address"), "{out}");
    assert_eq!(
        error,
        "roomtone-collector: 1 of 2 rows cannot be used: correct them as told, by line\n"
    );
}

#[test]
fn endpoint_file_is_checked_as_one() {
    let words = ["check", "list.tsv", "--endpoints", "--json"];
    let (code, out, error) = said(&network("room-1,,,,,,\nroom-1,,,,,,\n", &words));
    assert_eq!((code, error.lines().count()), (Some(1), 1));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["endpoints"], &told["rowsDropped"]), (&1.into(), &1.into()));
    assert_eq!((&told["findings"][0]["line"], &told["networks"]), (&2.into(), &().into()));
}

#[test]
fn find_shows_the_row_and_fails_without_one() {
    let (code, out, _) =
        said(&network(GOOD, &["find", "10.1.2.3", "--file", "list.tsv", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["network"], &told["line"]), (Some(0), &"10.0.0.0/8".into(), &1.into()));

    let (code, out, error) = said(&network(GOOD, &["find", "11.1.2.3", "--file", "list.tsv"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("no row has 11.1.2.3: 1 networks were looked at"), "{error}");
}

#[test]
fn what_is_no_such_file_is_one_line() {
    for (text, words, expected) in [
        ("", ["check", "none.tsv"].as_slice(), "cannot read none.tsv"),
        ("\u{fffe}", ["check", "list.tsv"].as_slice(), "1 of 1 rows cannot be used"),
        ("", ["find", "10.1", "--file", "list.tsv"].as_slice(), "invalid value '10.1'"),
    ] {
        let (code, _, error) = said(&network(text, words));
        assert!(matches!(code, Some(1 | 2)), "{code:?}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// Imports a text into the store `store` of this folder.
fn import(folder: &std::path::Path, text: &str, words: &[&str]) -> Output {
    std::fs::write(folder.join("list.tsv"), text).unwrap();
    let head = ["network", "import", "list.tsv", "--store", "store"];
    Command::new(BINARY).args(head).args(words).current_dir(folder).output().unwrap()
}

fn asked(folder: &std::path::Path, words: &[&str]) -> (Option<i32>, String, String) {
    let command = |words: &[&str]| Command::new(BINARY).args(words).current_dir(folder).output();
    said(&command(words).unwrap())
}

#[test]
fn imported_files_are_kept_in_versions_and_bad_ones_are_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("store")).unwrap();
    let (code, out, error) = said(&import(folder, &format!("{GOOD}{BAD}"), &[]));
    assert_eq!(code, Some(1), "{error}");
    assert!(out.contains("line 2, dropped: NetworkIP: "), "{out}");
    let list = ["network", "list", "--store", "store"];
    assert!(asked(folder, &list).1.contains("no files of networks"));

    let (code, out, error) = said(&import(folder, GOOD, &[]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("kept as buildings 1, valid from 1970-01-01; `reclassify"), "{out}");
    let tower = GOOD.replace("House", "Tower");
    let (code, out, _) = said(&import(folder, &tower, &["--start", "9998-01-01"]));
    assert_eq!(code, Some(0));
    assert!(out.contains("kept as buildings 2, valid from 9998-01-01"), "{out}");
    let room = "room-1\tMaker\tOne\tRoom\t\t\t\n";
    assert_eq!(import(folder, room, &["--endpoints"]).status.code(), Some(0));

    let (_, out, _) = asked(folder, &list);
    assert!(out.contains("* buildings    1  from 1970-01-01"), "{out}");
    assert!(out.contains("  buildings    2  from 9998-01-01"), "{out}");
    assert!(out.contains("* endpoints    1  from 1970-01-01"), "{out}");
    let export = ["network", "export", "--store", "store"];
    assert_eq!(asked(folder, &export).1, GOOD);
    assert_eq!(asked(folder, &[&export[..], &["--version", "2"]].concat()).1, tower);
    assert_eq!(asked(folder, &[&export[..], &["--endpoints"]].concat()).1, room);
    let (code, _, error) = asked(folder, &[&export[..], &["--version", "9"]].concat());
    assert_eq!(code, Some(1));
    assert!(error.contains("no such buildings file is kept"), "{error}");
    let (code, _, error) = said(&import(folder, GOOD, &["--start", "2026-02-30"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("use a day like 2026-11-22"), "{error}");
}
