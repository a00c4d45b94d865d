//! One fault at a time, with the exact outcome.

use std::cell::Cell;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::frame::HEADER_BYTES as FRAME_HEADER_BYTES;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};

use super::crash_disk::{CrashDisk, Fault};
use super::engine::{Engine, LEDGER};
use super::model::{Collector, NOW, SMALL, drain, record};
use super::segment::HEADER_BYTES;
use super::write::SEQUENCE_END;
use super::{Limits, Position, Recovery, SpoolError};

/// The first epoch that a test disk draws.
const FIRST: Epoch = Epoch(0xe000_0001);

fn open(disk: &CrashDisk) -> (Engine<CrashDisk>, Recovery) {
    Engine::open(disk.clone(), SMALL, NOW).unwrap()
}

fn append(engine: &mut Engine<CrashDisk>, serials: std::ops::Range<u64>) {
    for serial in serials {
        engine.append(record(serial), NOW).unwrap();
    }
}

/// A synced spool with records 0..`count` of the first epoch.
fn filled(count: u64) -> (CrashDisk, Engine<CrashDisk>) {
    let disk = CrashDisk::new(1);
    let (mut engine, _) = open(&disk);
    append(&mut engine, 0..count);
    engine.sync().unwrap();
    (disk, engine)
}

fn drained(engine: &mut Engine<CrashDisk>) -> Collector {
    let mut collector = Collector::default();
    drain(engine, &mut collector);
    collector
}

fn spool_files(disk: &CrashDisk) -> Vec<String> {
    let names = disk.names().into_iter();
    names.filter(|name| name.ends_with(".seg") && !name.contains('/')).collect()
}

fn set_aside(disk: &CrashDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.starts_with("quarantine/")).collect()
}

fn at(epoch: Epoch, sequence: u32) -> Position {
    Position { epoch, sequence: Sequence(sequence) }
}

#[test]
fn stop_at_every_single_call_loses_nothing_that_was_synced() {
    // 120 records fill two segments of 8 KiB and begin a third; the ack of 70 lets the first one go.
    let story = |disk: &CrashDisk, collector: &mut Collector, synced: &Cell<u64>| {
        let (mut engine, _) = Engine::open(disk.clone(), SMALL, NOW)
            .map_err(|source| SpoolError::Disk { action: "open", source })?;
        for serial in 0..120 {
            engine.append(record(serial), NOW)?;
            if serial % 20 == 19 {
                engine.sync()?;
                synced.set(serial + 1);
            }
            if serial == 100 {
                let mut from = engine.oldest();
                while from.sequence.0 < 70 {
                    let mut bytes = Vec::new();
                    from = engine.read(from, &mut bytes, 1)?;
                    collector.take(&bytes);
                }
                engine.acknowledge(Ack { epoch: from.epoch, next: from.sequence })?;
            }
        }
        Ok::<(), SpoolError>(())
    };
    let disk = CrashDisk::new(1);
    let synced = Cell::new(0);
    story(&disk, &mut Collector::default(), &synced).unwrap();
    assert_eq!(synced.get(), 120);
    let calls = disk.calls();
    assert!(calls > 200, "the story has {calls} calls");
    for (stop, power) in (1..calls).flat_map(|stop| [(stop, false), (stop, true)]) {
        let disk = CrashDisk::new(stop);
        disk.inject(Fault::StopAt(stop));
        let mut collector = Collector::default();
        let synced = Cell::new(0);
        // Some stops hit a call whose failure is of no consequence to the story, which then ends well or later.
        let _ = story(&disk, &mut collector, &synced);
        assert!(disk.is_stopped());
        if power {
            disk.cut_power()
        } else {
            disk.restart_process()
        }
        let (mut engine, _) = open(&disk);
        engine.sync().unwrap();
        drain(&mut engine, &mut collector);
        let serials = collector.serials();
        let promised: Vec<u64> = (0..synced.get()).collect();
        assert!(serials.starts_with(&promised), "stop {stop}: {serials:?} of {promised:?}");
        // Receipts, which would make numbers and serials differ, come behind what they report.
        let lost = collector.lost();
        assert!(lost.iter().all(|n| u64::from(*n) >= synced.get()), "stop {stop}: {lost:?}");
    }
}

#[test]
fn unsynced_records_are_not_read() {
    let (_, mut engine) = filled(3);
    append(&mut engine, 3..5);
    let mut bytes = Vec::new();
    assert_eq!(engine.read(engine.oldest(), &mut bytes, 10_000).unwrap(), at(FIRST, 3));
    assert_eq!(engine.read(at(FIRST, 3), &mut bytes, 10_000).unwrap(), at(FIRST, 3));
    engine.sync().unwrap();
    assert_eq!(engine.read(at(FIRST, 3), &mut bytes, 10_000).unwrap(), at(FIRST, 5));
}

#[test]
fn reading_keeps_to_the_bytes_asked_for_but_always_yields_one_frame() {
    let (_, mut engine) = filled(10);
    let mut bytes = Vec::new();
    assert_eq!(engine.read(at(FIRST, 0), &mut bytes, 0).unwrap(), at(FIRST, 1));
    let frame = bytes.len();
    bytes.clear();
    let next = engine.read(at(FIRST, 2), &mut bytes, 3 * frame + frame / 2).unwrap();
    assert_eq!((next, bytes.len()), (at(FIRST, 5), 3 * frame));
}

#[test]
fn start_costs_the_same_whatever_the_backlog() {
    let cost = |records| {
        let (disk, engine) = filled(records);
        drop(engine);
        let before = disk.calls();
        open(&disk);
        disk.calls() - before
    };
    // 10 records are one segment, 300 are six.
    assert_eq!(cost(10), cost(300));
}

#[test]
fn flip_in_a_sealed_segment_loses_that_record_alone_and_keeps_the_file_as_evidence() {
    let (disk, engine) = filled(120);
    drop(engine);
    let first = spool_files(&disk)[0].clone();
    // The frames have one length; the flip hits the body of the fourth.
    let length = disk.content(&first).len() - HEADER_BYTES;
    let frame = length / usize::from_str_radix(&first[35..43], 16).unwrap();
    disk.tamper(&first, |bytes| bytes[HEADER_BYTES + 3 * frame + FRAME_HEADER_BYTES] ^= 4);
    let (mut engine, recovery) = open(&disk);
    assert_eq!(recovery.lost, 0, "sealed segments are not looked into at the start");
    let collector = drained(&mut engine);
    assert_eq!(collector.lost(), [3]);
    assert_eq!(collector.serials().len(), 119);
    assert_eq!(set_aside(&disk), [format!("quarantine/{first}")]);
}

#[test]
fn segment_of_a_later_version_is_set_aside_and_the_rest_goes_on() {
    let (disk, engine) = filled(120);
    drop(engine);
    let files = spool_files(&disk);
    disk.tamper(&files[0], |bytes| bytes[4] = 2);
    let (mut engine, _) = open(&disk);
    let end = u32::from_str_radix(&files[0][35..43], 16).unwrap();
    let collector = drained(&mut engine);
    assert_eq!(collector.lost(), (0..end).collect::<Vec<_>>());
    assert_eq!(collector.serials(), (u64::from(end)..120).collect::<Vec<_>>());
    assert_eq!(engine.stats().quarantined, 1);
}

#[test]
fn damage_below_the_durable_end_of_the_growing_segment_is_reported() {
    let (disk, engine) = filled(4);
    drop(engine);
    let name = disk.names().into_iter().find(|name| name.ends_with(".open")).unwrap();
    // The last record of four, and it was promised.
    disk.tamper(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (mut engine, recovery) = open(&disk);
    assert_eq!(recovery.lost, 1);
    assert_eq!(engine.position(), at(FIRST, 4), "number 3 is not given again");
    engine.sync().unwrap();
    assert_eq!(drained(&mut engine).lost(), [3]);
}

#[test]
fn torn_tail_beyond_the_durable_end_is_cut_without_a_receipt() {
    let (disk, mut engine) = filled(4);
    append(&mut engine, 4..5);
    drop(engine);
    let name = disk.names().into_iter().find(|name| name.ends_with(".open")).unwrap();
    disk.tamper(&name, |bytes| bytes.truncate(bytes.len() - 1));
    let (mut engine, recovery) = open(&disk);
    assert!(recovery.torn_bytes > 100);
    assert_eq!(recovery.lost, 0);
    assert_eq!(drained(&mut engine).serials(), [0, 1, 2, 3]);
}

#[test]
fn lost_ledger_begins_a_new_epoch_and_keeps_every_record() {
    let (disk, engine) = filled(120);
    drop(engine);
    disk.tamper(LEDGER, |bytes| bytes.fill(0x55));
    let (mut engine, recovery) = open(&disk);
    assert!(recovery.new_epoch);
    assert_eq!(engine.oldest(), at(FIRST, 0));
    assert_ne!(engine.position().epoch, FIRST);
    append(&mut engine, 120..121);
    engine.sync().unwrap();
    let collector = drained(&mut engine);
    assert_eq!(collector.serials(), (0..121).collect::<Vec<_>>());
    assert!(collector.lost().is_empty());
}

#[test]
fn missing_segment_is_reported_at_the_start() {
    let (disk, engine) = filled(120);
    drop(engine);
    let files = spool_files(&disk);
    let end = u32::from_str_radix(&files[0][35..43], 16).unwrap();
    disk.snatch(&files[0]);
    let (mut engine, recovery) = open(&disk);
    assert_eq!(recovery.lost, u64::from(end));
    engine.sync().unwrap();
    assert_eq!(drained(&mut engine).lost().len(), end as usize);
}

#[test]
fn epoch_ends_before_its_numbers_do() {
    let (_, mut engine) = filled(1);
    engine.next = SEQUENCE_END - 1;
    let last = engine.append(record(1), NOW).unwrap();
    assert_eq!(last, RecordId { epoch: FIRST, sequence: Sequence(SEQUENCE_END - 1) });
    let next = engine.append(record(2), NOW).unwrap();
    assert_ne!(next.epoch, FIRST);
    assert_eq!(next.sequence, Sequence(0));
    engine.sync().unwrap();
    assert_eq!(drained(&mut engine).serials(), [0, 1, 2]);
}

#[test]
fn ack_beyond_the_end_is_refused_once_and_ends_the_epoch() {
    let (_, mut engine) = filled(2);
    let ack = Ack { epoch: FIRST, next: Sequence(1_000) };
    let refused = engine.acknowledge(ack).unwrap_err();
    assert!(matches!(refused, SpoolError::AckBeyond { end: Sequence(2), .. }), "{refused}");
    assert_eq!(engine.oldest(), at(FIRST, 0), "a refused ack moves nothing");
    let id = engine.append(record(2), NOW).unwrap();
    assert_ne!(id.epoch, FIRST);
    // The collector says the same on the next connection; now it can only mean all of the ended epoch.
    engine.acknowledge(ack).unwrap();
    assert_eq!(engine.oldest(), at(id.epoch, 0));
}

#[test]
fn ack_of_unsynced_records_is_refused() {
    let (_, mut engine) = filled(2);
    append(&mut engine, 2..3);
    let refused = engine.acknowledge(Ack { epoch: FIRST, next: Sequence(3) });
    assert!(matches!(refused, Err(SpoolError::AckBeyond { .. })), "{refused:?}");
}

#[test]
fn ack_of_an_unknown_epoch_is_refused_and_an_old_one_ignored() {
    let (_, mut engine) = filled(2);
    let unknown = engine.acknowledge(Ack { epoch: Epoch(1), next: Sequence(0) });
    assert!(matches!(unknown, Err(SpoolError::AckUnknown { epoch: Epoch(1) })), "{unknown:?}");
    engine.acknowledge(Ack { epoch: FIRST, next: Sequence(2) }).unwrap();
    engine.acknowledge(Ack { epoch: FIRST, next: Sequence(1) }).unwrap();
    assert_eq!(engine.oldest(), engine.position());
}

#[test]
fn failed_sync_is_made_good_in_a_new_file() {
    let (disk, mut engine) = filled(2);
    append(&mut engine, 2..4);
    disk.inject(Fault::Syncs(1));
    engine.sync().unwrap();
    assert_eq!(engine.stats().sync_failures, 1);
    drop(engine);
    disk.cut_power();
    let (mut engine, _) = open(&disk);
    assert_eq!(drained(&mut engine).serials(), [0, 1, 2, 3]);
}

#[test]
fn sync_that_fails_twice_says_so_and_sends_nothing() {
    let (disk, mut engine) = filled(2);
    append(&mut engine, 2..4);
    disk.inject(Fault::Syncs(2));
    assert!(matches!(engine.sync(), Err(SpoolError::Disk { .. })));
    let mut bytes = Vec::new();
    assert_eq!(engine.read(at(FIRST, 2), &mut bytes, 1_000).unwrap(), at(FIRST, 2));
    engine.sync().unwrap();
    assert_eq!(engine.read(at(FIRST, 2), &mut bytes, 1_000).unwrap(), at(FIRST, 4));
}

#[test]
fn refused_records_are_reported_when_the_disk_takes_writes_again() {
    let (disk, mut engine) = filled(2);
    disk.inject(Fault::Writes(u64::MAX));
    let refused = engine.append(record(2), NOW).unwrap_err();
    assert!(matches!(refused, SpoolError::Refused { sequence: Sequence(2), .. }), "{refused:?}");
    disk.heal();
    append(&mut engine, 3..4);
    engine.sync().unwrap();
    let collector = drained(&mut engine);
    assert_eq!((collector.serials(), collector.lost()), (vec![0, 1, 3], vec![2]));
}

#[test]
fn full_disk_sheds_the_oldest_segment_and_reports_it() {
    let (disk, mut engine) = filled(120);
    let files = spool_files(&disk);
    disk.inject(Fault::Capacity(disk.used() + 1_000));
    // A record has 118 bytes: eight fit, the ninth needs room.
    append(&mut engine, 120..129);
    engine.sync().unwrap();
    let end = u32::from_str_radix(&files[0][35..43], 16).unwrap();
    assert_eq!(engine.stats().shed, u64::from(end));
    let collector = drained(&mut engine);
    assert_eq!(collector.lost(), (0..end).collect::<Vec<_>>());
    assert_eq!(collector.serials(), (u64::from(end)..129).collect::<Vec<_>>());
}

#[test]
fn cap_is_kept_and_every_record_accounted_for() {
    let (_, mut engine) = filled(2_000);
    let stats = engine.stats();
    // The check is made before a record and its receipt are written: one frame of each may lie above.
    assert!(stats.bytes <= SMALL.bytes_max + 400, "{} bytes", stats.bytes);
    assert!(stats.shed > 1_000);
    // Numbers went to the records and to receipts, some of which were shed in their turn.
    let numbers = engine.position().sequence.0 as usize;
    let collector = drained(&mut engine);
    assert_eq!(collector.stored() + collector.lost().len(), numbers);
    assert_eq!(collector.serials().last(), Some(&1_999));
}

#[test]
fn floor_of_free_bytes_is_kept_by_shedding() {
    let disk = CrashDisk::new(1);
    disk.inject(Fault::Capacity(60_000));
    let limits = Limits { headroom_bytes: 20_000, ..SMALL };
    let (mut engine, _) = Engine::open(disk.clone(), limits, NOW).unwrap();
    append(&mut engine, 0..400);
    assert!(disk.used() <= 40_400, "{} bytes", disk.used());
    assert!(engine.stats().shed > 0);
}

#[test]
fn quarantine_is_bounded() {
    let (disk, mut engine) = filled(0);
    for round in 0..12u64 {
        append(&mut engine, round * 10..round * 10 + 10);
        engine.sync().unwrap();
        drop(engine);
        // A restart seals what was growing; its header is damaged before it is read.
        engine = open(&disk).0;
        let newest = spool_files(&disk).last().unwrap().clone();
        disk.tamper(&newest, |bytes| bytes[0] ^= 1);
        drain(&mut engine, &mut Collector::default());
    }
    assert_eq!(engine.stats().quarantined, 1, "counted since the last start");
    assert_eq!(set_aside(&disk).len(), 8);
}
