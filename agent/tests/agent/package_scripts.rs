//! What the package's script does with units at an upgrade, with the programs that it calls played by the test.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Writes a program for the script's search path that answers by `body`.
fn play(folder: &Path, name: &str, body: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// What `postinst configure` asks of the service manager, after an installation of `before` or of none; the service
/// has failed where `has_failed`.
fn asked(before: &str, has_failed: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let log = folder.path().join("asked");
    for name in ["systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"] {
        play(&programs, name, ":");
    }
    play(&programs, "deb-systemd-invoke", &format!("echo \"$*\" >>{}", log.display()));
    play(&programs, "systemctl", &format!("case $* in *is-failed*) {has_failed} ;; esac"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/deb/postinst");
    let script = std::fs::read_to_string(script)
        .unwrap()
        .replace("@PACKAGE@", "roomtone-agent")
        .replace("@UNITS@", "roomtone-tap.socket roomtone-agent.path roomtone-agent.service")
        .replace("@CERTIFICATE@", "/nowhere")
        .replace("@MESSAGE@", "")
        .replace("/run/systemd/system", folder.path().to_str().unwrap());
    let done = Command::new("sh")
        .args(["-c", &script, "postinst", "configure", before])
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn upgrade_leaves_a_service_stopped_that_an_operator_stopped() {
    let expected = [
        "restart roomtone-tap.socket",
        "restart roomtone-agent.path",
        "try-restart roomtone-agent.service",
    ];
    assert_eq!(asked("0.1.0-1", false), expected);
}

#[test]
fn upgrade_starts_a_service_that_failed_with_the_version_before() {
    assert_eq!(asked("0.1.0-1", true).last().unwrap(), "restart roomtone-agent.service");
}

#[test]
fn first_installation_starts_all_units() {
    let expected = ["start roomtone-tap.socket roomtone-agent.path roomtone-agent.service"];
    assert_eq!(asked("", false), expected);
}
