//! What only the embedded store has: files that age, break, or belong to somebody else.

use std::fs;
use std::path::Path;

use roomtone_collector::store::sqlite::{SqliteReader, SqliteStore};
use roomtone_collector::store::{Store, StoreError, StoreReader};
use roomtone_protocol::id::Sequence;

use crate::fixture::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock" && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

fn next(store: &mut SqliteStore, at: u64) -> Sequence {
    store.commit(&[attach(OSLO, "Oslo 4")], at).unwrap()[0].unwrap().next
}

#[test]
fn days_beyond_the_retention_are_unlinked_and_the_watermark_lives_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 2, NOW_US).unwrap();
    for day in 0..4u32 {
        let at = NOW_US + u64::from(day) * DAY_US;
        store.commit(&[record(OSLO, day, host_interval())], at).unwrap();
    }
    // Retention of 2 keeps today and the two days before it.
    assert_eq!(
        names(directory.path()),
        ["day-2026-11-23.db", "day-2026-11-24.db", "day-2026-11-25.db"]
    );
    assert_eq!(next(&mut store, NOW_US + 3 * DAY_US), Sequence(4));
}

#[test]
fn clock_that_is_decades_ahead_unlinks_nothing_at_its_first_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 2, NOW_US).unwrap();
    store.commit(&[record(OSLO, 0, host_interval())], NOW_US).unwrap();
    drop(store);
    let ahead = NOW_US + 73 * 365 * DAY_US;
    let store = SqliteStore::open(directory.path(), 2, ahead).unwrap();
    drop(store);
    assert!(names(directory.path()).contains(&"day-2026-11-22.db".to_owned()));
}

#[test]
fn wall_clock_that_steps_back_brings_no_earlier_day_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    store.commit(&[record(OSLO, 0, host_interval())], NOW_US - 5 * DAY_US).unwrap();
    assert_eq!(names(directory.path()), ["day-2026-11-22.db"]);
    drop(store);
    // Started again on an earlier day: the state comes from the file that was written last.
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US - 5 * DAY_US).unwrap();
    assert_eq!(next(&mut store, NOW_US - 5 * DAY_US), Sequence(1));
    store.commit(&[record(OSLO, 1, host_interval())], NOW_US - 5 * DAY_US).unwrap();
    drop(store);
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    assert_eq!(next(&mut store, NOW_US), Sequence(2));
}

#[test]
fn damaged_and_newer_files_are_set_aside_and_the_rest_stays_readable() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    store.commit(&[attach(OSLO, "Oslo 4"), record(OSLO, 0, call_closed(CALL))], NOW_US).unwrap();
    store.commit(&[record(OSLO, 1, host_interval())], NOW_US + DAY_US).unwrap();
    drop(store);
    let today = directory.path().join("day-2026-11-23.db");
    fs::write(&today, b"SQLite format 3\0 and then nonsense".repeat(300)).unwrap();
    fs::write(directory.path().join("day-2026-11-20.db"), b"not a database").unwrap();

    let reader = SqliteReader::open(directory.path()).unwrap();
    assert_eq!(reader.call(CALL).unwrap().len(), 1, "a reader passes over what it cannot read");

    let mut store = SqliteStore::open(directory.path(), 30, NOW_US + DAY_US).unwrap();
    assert_eq!(
        names(directory.path()),
        [
            "day-2026-11-20.db.quarantine",
            "day-2026-11-22.db",
            "day-2026-11-23.db",
            "day-2026-11-23.db.quarantine"
        ]
    );
    // Record 1 went with the file: the account says from where to go on, and nothing is hidden.
    assert_eq!(next(&mut store, NOW_US + DAY_US), Sequence(1));
    store.commit(&[record(OSLO, 2, host_interval())], NOW_US + DAY_US).unwrap();
    assert_eq!(reader.endpoints().unwrap()[0].counts.missing, 1);
}

#[test]
fn file_of_a_later_collector_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path(), 30, NOW_US).unwrap());
    let file = directory.path().join("day-2026-11-22.db");
    // Bytes 60..64 of the header are PRAGMA user_version, big-endian (SQLite file format section 1.3).
    let mut bytes = fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    drop(SqliteStore::open(directory.path(), 30, NOW_US).unwrap());
    let aside = fs::read(directory.path().join("day-2026-11-22.db.quarantine")).unwrap();
    assert_eq!(aside[60..64], 99u32.to_be_bytes());
}

#[test]
fn second_collector_on_one_directory_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let _first = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    let second = SqliteStore::open(directory.path(), 30, NOW_US);
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
}

#[test]
fn endpoint_is_connected_only_while_a_collector_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    store.commit(&[attach(OSLO, "Oslo 4")], NOW_US).unwrap();
    let reader = SqliteReader::open(directory.path()).unwrap();
    assert!(reader.endpoints().unwrap()[0].connected);
    // Dropped without a detach, as after kill -9.
    drop(store);
    assert!(!reader.endpoints().unwrap()[0].connected);
}

#[test]
fn file_damaged_while_in_use_is_set_aside_and_the_next_group_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    store.commit(&[record(OSLO, 0, host_interval())], NOW_US).unwrap();
    drop(store);
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    let file = directory.path().join("day-2026-11-22.db");
    // Everything behind the first page (the schema): the pages of all tables.
    let mut bytes = fs::read(&file).unwrap();
    bytes[4_096..].fill(0x5a);
    let mut handle = fs::File::options().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut handle, &bytes).unwrap();
    let group = [record(OSLO, 1, call_closed(CALL))];
    let damaged = store.commit(&group, NOW_US);
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
    assert!(store.commit(&group, NOW_US).is_ok());
    drop(store);
    assert_eq!(names(directory.path()), ["day-2026-11-22.db", "day-2026-11-22.db.quarantine"]);
    let reader = SqliteReader::open(directory.path()).unwrap();
    assert_eq!(reader.call(CALL).unwrap().len(), 1);
    assert_eq!(reader.endpoints().unwrap()[0].counts.missing, 1, "record 0 went with the file");
}

#[test]
fn store_that_is_closed_leaves_plain_files_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    store.commit(&[record(OSLO, 0, host_interval())], NOW_US).unwrap();
    store.commit(&[record(OSLO, 1, host_interval())], NOW_US + DAY_US).unwrap();
    drop(store);
    let mut all: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    assert_eq!(all, ["day-2026-11-22.db", "day-2026-11-23.db", "lock"]);
}
