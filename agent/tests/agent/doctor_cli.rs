//! `roomtone-agent doctor` on hosts of this test's own making, with a real handshake.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::uplink_quic::{CollectorDouble, Manner, Pki, socket};

/// Verdict and text of each check, and the exit code.
fn doctor(config: &Path, root: &Path) -> (BTreeMap<String, (String, String)>, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"));
    command
        .current_dir(root)
        .arg("doctor")
        .arg("--json")
        .arg("--config")
        .arg(config)
        .arg("--root")
        .arg(root);
    let done = command.output().unwrap();
    let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = shown["findings"].as_array().unwrap().iter();
    let findings = rows.map(|row| (word(row, "check"), (word(row, "verdict"), word(row, "text"))));
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(said.lines().count(), usize::from(!done.status.success()), "{said}");
    (findings.collect(), done.status.code())
}

/// Writes a config that leads to a collector, with the identity of a test's authority.
fn config(pki: &Pki, port: u16) -> std::path::PathBuf {
    let file = |name| pki.path(name).display().to_string();
    let (certificate, key, ca) = (file("endpoint.crt"), file("endpoint.key"), file("ca.crt"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let path = pki.path("agent.toml");
    let text = format!(
        "[collector]\naddress = \"127.0.0.1:{port}\"\nserver_name = \"collector.test\"\n\
         [identity]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nca = \"{ca}\"\n\
         [spool]\ndirectory = \"spool\"\n[context]\nsocket = \"agent.sock\"\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn collector_that_answers_is_reached_and_nothing_on_the_host_changes() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let config = config(&pki, collector.port);
    let before = fs::read_dir(pki.path("")).unwrap().count();
    let (found, _) = doctor(&config, &pki.path(""));
    for check in ["config", "kernel", "certificate", "key", "identity", "collector"] {
        assert_eq!(found[check].0, "ok", "{check}: {found:?}");
    }
    assert!(found["certificate"].1.contains("07070707-0707-0707-0707-070707070707"), "{found:?}");
    assert_eq!(fs::read_dir(pki.path("")).unwrap().count(), before);
    // The root of this test has neither.
    assert_eq!((&*found["clock"].0, &*found["sound"].0), ("warn", "warn"), "{found:?}");
}

#[test]
fn faults_of_the_identity_and_of_the_way_are_told_apart() {
    let (pki, other) = (Pki::new(), Pki::new());
    let collector = CollectorDouble::start(&other, Manner::Stores, socket());
    let config = config(&pki, collector.port);
    let (found, code) = doctor(&config, &pki.path(""));
    assert_eq!(code, Some(1));
    assert!(found["collector"].1.contains("not issued by the authority"), "{found:?}");

    fs::write(pki.path("ca.crt"), fs::read(other.path("ca.crt")).unwrap()).unwrap();
    let (found, _) = doctor(&config, &pki.path(""));
    assert!(found["collector"].1.contains("refused this agent's certificate"), "{found:?}");

    fs::write(pki.path("endpoint.key"), fs::read(other.path("endpoint.key")).unwrap()).unwrap();
    let (found, _) = doctor(&config, &pki.path(""));
    assert_eq!(found["identity"].0, "fail", "{found:?}");
    assert!(!found.contains_key("collector"), "there is nothing to connect with: {found:?}");

    fs::write(pki.path("endpoint.crt"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    let (found, _) = doctor(&config, &pki.path(""));
    assert!(found["certificate"].1.contains("run `roomtone-agent enroll`"), "{found:?}");
}

#[test]
fn config_named_without_its_folder_has_its_spool_beside_it() {
    let pki = Pki::new();
    config(&pki, socket().local_addr().unwrap().port());
    fs::write(pki.path("endpoint.crt"), "").unwrap();
    let (found, _) = doctor(Path::new("agent.toml"), &pki.path(""));
    let top = fs::canonicalize(pki.path("")).unwrap();
    assert!(found["spool"].1.starts_with(&top.display().to_string()), "{found:?}");
    assert!(found["agent"].1.contains("start it"), "{found:?}");
}

#[test]
fn host_without_a_config_is_told_what_can_be_told() {
    let top = tempfile::tempdir().unwrap();
    let (found, code) = doctor(&top.path().join("absent.toml"), top.path());
    assert_eq!((code, &*found["config"].0), (Some(1), "fail"));
    assert!(!found.contains_key("collector") && found.contains_key("sound"), "{found:?}");
}
