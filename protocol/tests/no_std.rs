//! The claim "no std, no allocator", proven by a program that has neither: it is linked against nothing, and it runs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A build of its own, since neither its panic handler nor `panic = "abort"` gets on with a test harness.
#[test]
fn program_without_std_allocator_or_libc_links_and_runs() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-std-proof");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-std-proof");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--locked", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Flags meant for the outer build, such as those of a sanitizer or of coverage, bring symbols of their own.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(target.join("debug/roomtone-no-std-proof")).status().unwrap();
    assert_eq!(ran.code(), Some(0), "1: a record did not come back; 2: a panic");
}

/// The proof is built offline, from what the outer build has fetched. Were its lock to name other versions, it would
/// build only where those happen to lie around.
#[test]
fn proof_is_locked_to_the_versions_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = locked(&root.join("../Cargo.lock"));
    let proof = locked(&root.join("no-std-proof/Cargo.lock"));
    assert!(proof.iter().any(|(name, _)| name == "postcard"));
    let strays: Vec<_> = proof.difference(&workspace).collect();
    assert_eq!(strays.len(), 1, "only the proof itself, else cargo update them: {strays:?}");
}

/// Returns name and version of each package in a lock file.
fn locked(lock: &Path) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(lock).unwrap();
    let value = |line: &str, key| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    let names = text.lines().filter_map(|line| value(line, "name = "));
    let versions = text.lines().skip_while(|line| *line != "[[package]]");
    names.zip(versions.filter_map(|line| value(line, "version = "))).collect()
}
