//! Records that `append` has accepted survive the process: kill -9 in the middle of appends, on a real disk.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use roomtone_agent::spool::{Limits, Spool};
use roomtone_protocol::frame;
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

/// Where the child, which is this test run again, finds its directory.
const DIRECTORY: &str = "ROOMTONE_SPOOL_KILL_DIRECTORY";
const NOW: Stamp = Stamp { wall_us: 1, uptime_us: 1 };

#[test]
fn accepted_records_survive_kill_minus_nine() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        append_for_ever(Path::new(&directory));
    }
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("spool");
    let mut accepted = BTreeSet::new();
    // Past one segment of 8 KiB (about 200 records), past several, and at once after a start.
    for target in [250, 1_500, 1] {
        accepted.extend(killed_after(target, &directory));
    }
    let (mut spool, recovery) = Spool::open(&directory, limits(), NOW).unwrap();
    assert!(!recovery.new_epoch);
    assert_eq!(recovery.lost, 0);
    let mut found = BTreeSet::new();
    let mut at = spool.oldest();
    loop {
        let mut bytes = Vec::new();
        let next = spool.read(at, &mut bytes, 4_000).unwrap();
        if next == at {
            break;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (frame, length) = frame::decode(rest).unwrap();
            assert!(found.insert(frame.header.id.sequence.0), "each record is read once");
            rest = &rest[length..];
        }
        at = next;
    }
    assert!(accepted.len() >= 1_751, "{} records", accepted.len());
    assert!(accepted.is_subset(&found), "{:?} are gone", accepted.difference(&found));
}

fn limits() -> Limits {
    // Test machines may be nearly full.
    Limits { segment_bytes: 8 << 10, headroom_bytes: 0, inodes_min: 0, ..Limits::default() }
}

/// Runs this test as a child, kills it when it has accepted that many records, and returns their sequences.
fn killed_after(target: usize, directory: &Path) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool_kill::accepted_records_survive_kill_minus_nine", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut accepted = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The test runner writes lines of its own, and the kill may cut the last one.
        let line = line.unwrap();
        if let Some(sequence) = line.strip_prefix("accepted ").and_then(|l| l.strip_suffix('.')) {
            accepted.push(sequence.parse().unwrap());
        }
        // What it wrote before it died is still in the pipe and counts too.
        if accepted.len() == target {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(accepted.len() >= target);
    accepted
}

fn append_for_ever(directory: &Path) -> ! {
    let (mut spool, _) = Spool::open(directory, limits(), NOW).unwrap();
    let mut out = std::io::stdout().lock();
    for n in 0u64.. {
        let record = Record::HostInterval(HostInterval {
            started: Stamp { wall_us: n, uptime_us: n },
            duration_ms: 10_000,
            cpu_permille: 1,
            memory_permille: 2,
            cpu_pressure_permille: None,
            temperature_deci_celsius: None,
            detail: None,
        });
        let id = spool.append(record, NOW).unwrap();
        writeln!(out, "accepted {}.", id.sequence).unwrap();
        out.flush().unwrap();
        if n % 100 == 99 {
            spool.sync().unwrap();
        }
    }
    unreachable!("the parent kills this process")
}
