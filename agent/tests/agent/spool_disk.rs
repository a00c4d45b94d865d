//! The spool's directory on a real file system: who may have it, and what an operator reads where it cannot be used.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use roomtone_agent::spool::{Limits, Spool, SpoolError};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallOpened, CallPurpose};
use roomtone_protocol::id::{CallId, Sequence};
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

const NOW: Stamp = Stamp { wall_us: 1, uptime_us: 1 };

fn limits() -> Limits {
    // Test machines may be nearly full.
    Limits { headroom_bytes: 0, inodes_min: 0, ..Limits::default() }
}

fn record() -> Record {
    let purpose = CallPurpose::Rehearsal;
    Record::CallOpened(CallOpened { call: CallId(1), opened: NOW, purpose })
}

#[test]
fn directory_is_for_its_owner_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("deep/spool");
    let (mut spool, _) = Spool::open(&directory, limits(), NOW).unwrap();
    spool.append(record(), NOW).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in directory.read_dir().unwrap() {
        assert_eq!(mode(&entry.unwrap().path()) & 0o077, 0);
    }
}

#[test]
fn second_process_is_told_which_directory_is_taken() {
    let temporary = tempfile::tempdir().unwrap();
    // flock(2) belongs to the open file, so that a second opening in this process is refused as well.
    let (first, _) = Spool::open(temporary.path(), limits(), NOW).unwrap();
    let refused = Spool::open(temporary.path(), limits(), NOW).unwrap_err();
    assert!(matches!(refused, SpoolError::Locked { .. }));
    assert!(refused.to_string().contains(temporary.path().to_str().unwrap()));
    drop(first);
    Spool::open(temporary.path(), limits(), NOW).unwrap();
}

#[test]
fn file_in_place_of_the_directory_is_named_in_one_line() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("spool");
    std::fs::write(&path, "not a directory").unwrap();
    let refused = Spool::open(&path, limits(), NOW).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(path.to_str().unwrap()) && !text.contains('\n'), "{text}");
    assert!(refused.source().is_some());
}

#[test]
fn file_system_that_takes_no_directories_is_one_clear_error() {
    let refused = Spool::open(Path::new("/proc/spool"), limits(), NOW).unwrap_err();
    assert!(matches!(refused, SpoolError::Directory { .. }), "{refused:?}");
}

#[test]
fn foreign_files_are_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    std::fs::write(temporary.path().join("notes.txt"), "hello").unwrap();
    let (_, recovery) = Spool::open(temporary.path(), limits(), NOW).unwrap();
    assert_eq!(recovery.foreign, 1);
    assert!(temporary.path().join("notes.txt").exists());
}

#[test]
fn numbers_go_on_after_everything_was_acknowledged() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut spool, recovery) = Spool::open(temporary.path(), limits(), NOW).unwrap();
    assert!(recovery.new_epoch);
    let id = spool.append(record(), NOW).unwrap();
    spool.sync().unwrap();
    spool.acknowledge(Ack { epoch: id.epoch, next: Sequence(1) }).unwrap();
    drop(spool);
    // The ack was not synced: the record is still there, and is offered again.
    let (mut spool, recovery) = Spool::open(temporary.path(), limits(), NOW).unwrap();
    assert_eq!((recovery.new_epoch, recovery.records), (false, 1));
    spool.acknowledge(Ack { epoch: id.epoch, next: Sequence(1) }).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let (mut spool, recovery) = Spool::open(temporary.path(), limits(), NOW).unwrap();
    assert_eq!((recovery.segments, recovery.records), (0, 0));
    let next = spool.append(record(), NOW).unwrap();
    assert_eq!((next.epoch, next.sequence), (id.epoch, Sequence(1)));
}
