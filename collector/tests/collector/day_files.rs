//! What only the embedded store has: files that age, break, or belong to somebody else.

use std::fs;
use std::path::Path;

use roomtone_collector::store::sqlite::{SqliteReader, SqliteStore};
use roomtone_collector::store::{Store, StoreError, StoreReader};
use roomtone_protocol::device::SelfTestOutcome;
use roomtone_protocol::id::Sequence;
use roomtone_protocol::record::Record;

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

/// A day file of schema 1 with one endpoint and, in one call, the totals of one device.
fn file_of_schema_1(directory: &Path) {
    let connection = rusqlite::Connection::open(directory.join("day-2026-11-22.db")).unwrap();
    connection.execute_batch(include_str!("schema/1.sql")).unwrap();
    let oslo = OSLO.0.map(|byte| format!("{byte:02x}")).concat();
    connection
        .execute_batch(&format!(
            "UPDATE file SET generation = 1;
             INSERT INTO endpoint VALUES (1, x'{oslo}', 'Oslo 4', '0.1.0', 0, '192.0.2.1:1', {NOW_US}, {NOW_US},
                                          0, 2, 0, 0, 0);
             INSERT INTO watermark VALUES (1, {epoch}, 2, 0, 0, {NOW_US});
             INSERT INTO call VALUES (1, {call}, {NOW_US}, {NOW_US});
             INSERT INTO device_summary VALUES (1, {call}, 0, 'USB Room Mic', {epoch}, 1, 1, 2, 3, 4, 5, 6);",
            epoch = EPOCH.0,
            call = CALL.0 as i64,
        ))
        .unwrap();
}

#[test]
fn file_of_an_earlier_schema_is_read_as_it_is_and_written_to_after_an_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    file_of_schema_1(directory.path());
    let reader = SqliteReader::open(directory.path()).unwrap();
    let devices = |reader: &SqliteReader| {
        let calls = reader.call(CALL).unwrap();
        calls[0].devices.values().map(|told| told.value.clone()).collect::<Vec<_>>()
    };
    let before = devices(&reader);
    assert_eq!((before[0].episodes, before[0].zero_volume, before[0].glitches), (5, None, None));
    assert_eq!(reader.self_tests(None, 0, 10).unwrap(), []);

    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    assert_eq!(next(&mut store, NOW_US), Sequence(2));
    assert_eq!(devices(&reader), before);
    let operations =
        [record(OSLO, 2, device_summary(CALL)), record(OSLO, 3, self_test(SelfTestOutcome::Heard))];
    store.commit(&operations, NOW_US).unwrap();
    // One of the same device, told later: it replaces the other.
    assert_eq!(devices(&reader)[0].glitches, Some(4));
    assert_eq!(reader.self_tests(None, 0, 10).unwrap().len(), 1);
    // The next day goes on from it.
    store.commit(&[record(OSLO, 4, host_interval())], NOW_US + DAY_US).unwrap();
    assert_eq!(next(&mut store, NOW_US + DAY_US), Sequence(5));
}

/// A day file of schema 2 with one endpoint, and one of each row that later schemas added columns to.
fn file_of_schema_2(directory: &Path) {
    let connection = rusqlite::Connection::open(directory.join("day-2026-11-22.db")).unwrap();
    connection.execute_batch(include_str!("schema/2.sql")).unwrap();
    let oslo = OSLO.0.map(|byte| format!("{byte:02x}")).concat();
    let Record::LegIntervals(pack) = intervals(CALL, 0) else { panic!("intervals") };
    let bytes = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    connection
        .execute_batch(&format!(
            "UPDATE file SET generation = 1;
             INSERT INTO endpoint VALUES (1, x'{oslo}', 'Oslo 4', '0.1.0', 0, '192.0.2.1:1', {NOW_US}, {NOW_US},
                                          0, 4, 0, 0, 0);
             INSERT INTO watermark VALUES (1, {epoch}, 4, 0, 0, {NOW_US});
             INSERT INTO call VALUES (1, {call}, {NOW_US}, {NOW_US});
             INSERT INTO leg_interval VALUES (1, {call}, 0, 0, {epoch}, 0, 1000, 1, x'{streams}', x'{pack}');
             INSERT INTO leg_summary VALUES (1, {call}, 0, {epoch}, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9);
             INSERT INTO host_interval VALUES (1, {epoch}, 2, 1, 2, 3, 4, 5, NULL, NULL);
             INSERT INTO path_interval VALUES (1, {epoch}, 3, 1, 2, 3, 0, 5, 6, 7, 8, 9, 10, 11, 12);
             INSERT INTO endpoint_hour VALUES (1, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);",
            epoch = EPOCH.0,
            call = CALL.0 as i64,
            // SSRC 1, 2, 3, 4, ingress and egress, both audio.
            streams = "010203040001010203040101",
            pack = bytes(pack.pack.bytes()),
        ))
        .unwrap();
}

#[test]
fn file_of_schema_2_keeps_its_rows_and_lacks_what_it_was_never_told() {
    let directory = tempfile::tempdir().unwrap();
    file_of_schema_2(directory.path());
    let reader = SqliteReader::open(directory.path()).unwrap();
    let assert_unchanged = || {
        let leg = reader.call(CALL).unwrap()[0].legs[&0].clone();
        let summary = leg.summary.unwrap().value;
        assert_eq!((summary.rtt.count, summary.tap_dropped), (3, 9));
        assert_eq!((summary.heard, summary.markings, summary.reported), (None, None, None));
        assert_eq!(leg.intervals[&0].value.streams[0].1.received, 490);
        assert_eq!(leg.intervals[&0].value.heard, None);
        let host = reader.host_intervals(OSLO).unwrap()[&id(EPOCH, 2)];
        assert_eq!((host.memory_permille, host.detail), (5, None));
        let path = reader.path_intervals(OSLO).unwrap()[&id(EPOCH, 3)];
        assert_eq!(
            (path.sent, path.detail, path.reflector, path.connection),
            (5, None, None, None)
        );
        let hour = reader.hours(OSLO).unwrap()[&7];
        assert_eq!((hour.packets, hour.heard_us, hour.concealed_us), (3, 0, 0));
        assert_eq!(reader.networks(OSLO).unwrap().len(), 0);
        assert_eq!(reader.call(CALL).unwrap()[0].events.len(), 0);
    };
    assert_unchanged();

    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    assert_eq!(next(&mut store, NOW_US), Sequence(4));
    assert_unchanged();
    let operations = [
        record(OSLO, 4, intervals(CALL, 1)),
        record(OSLO, 5, network(Some(CALL), "192.0.2.7", -60)),
        record(OSLO, 6, client_events(CALL, None, 1)),
        record(OSLO, 7, summary(CALL, 60)),
    ];
    store.commit(&operations, NOW_US).unwrap();
    let call = reader.call(CALL).unwrap().remove(0);
    assert_eq!((call.networks.len(), call.events.len()), (1, 1));
    let leg = &call.legs[&0];
    assert_eq!(leg.intervals[&0].value.heard, None);
    assert_eq!(leg.intervals[&1].value.heard.as_ref().map(Vec::len), Some(1));
    assert_eq!(leg.summary.as_ref().unwrap().value.heard.as_ref().map(|it| it.len()), Some(1));
}

/// What schema 3 added expires with the day that it came on, as everything else does.
#[test]
fn networks_and_events_expire_with_their_day() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(directory.path(), 2, NOW_US).unwrap();
    let reader = SqliteReader::open(directory.path()).unwrap();
    let first = [
        record(OSLO, 0, network(Some(CALL), "192.0.2.7", -60)),
        record(OSLO, 1, client_events(CALL, None, 1)),
    ];
    store.commit(&first, NOW_US).unwrap();
    assert_eq!(reader.networks(OSLO).unwrap().len(), 1);
    store.commit(&[record(OSLO, 2, network(None, "192.0.2.8", -60))], NOW_US + 3 * DAY_US).unwrap();
    let left: Vec<_> = reader.networks(OSLO).unwrap().into_keys().collect();
    assert_eq!(left, [id(EPOCH, 2)]);
    assert_eq!(reader.call(CALL).unwrap(), []);
}

/// A file that was upgraded and one that was made anew must take the same statements.
#[test]
fn upgraded_file_has_the_columns_of_a_new_one() {
    let columns = |directory: &Path| {
        drop(SqliteStore::open(directory, 30, NOW_US).unwrap());
        let connection = rusqlite::Connection::open(directory.join("day-2026-11-22.db")).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT t.type, t.name, c.cid, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_schema AS t \
                 LEFT JOIN pragma_table_info(t.name) AS c ORDER BY t.name, c.cid",
            )
            .unwrap();
        let rows = statement.query_map([], |row| {
            (0..7).map(|column| row.get::<_, rusqlite::types::Value>(column)).collect()
        });
        rows.unwrap().collect::<rusqlite::Result<Vec<Vec<_>>>>().unwrap()
    };
    let [first, second, new] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    file_of_schema_1(first.path());
    file_of_schema_2(second.path());
    let new = columns(new.path());
    assert!(new.len() > 100, "{} columns: the question is wrong", new.len());
    assert_eq!(columns(first.path()), new);
    assert_eq!(columns(second.path()), new);
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
