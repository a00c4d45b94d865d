//! One suite for every store: the same operations must give the same answers.

use proptest::prelude::*;
use roomtone_collector::call::CallFacts;
use roomtone_collector::store::memory::MemoryStore;
use roomtone_collector::store::sqlite::{SqliteReader, SqliteStore};
use roomtone_collector::store::{
    Content, Incoming, OpaqueReason, OpaqueRecord, Operation, Store, StoreReader,
};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::CallPurpose;
use roomtone_protocol::client_event::ClientEventValue;
use roomtone_protocol::device::{DeviceSummary, EpisodeState, SelfTestOutcome};
use roomtone_protocol::heard::{NetworkRating, StreamHeard, Stretches};
use roomtone_protocol::host::{HostDetail, HostInterval};
use roomtone_protocol::id::{EndpointId, Epoch, LegNumber, Sequence};
use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::media::LegSummary;
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::path::PathInterval;
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use crate::fixture::*;

/// A store under test and the way to read it.
trait Bench {
    fn commit(&mut self, operations: &[Operation], received_us: u64) -> Vec<Option<Ack>>;
    fn read<T>(&self, question: impl FnOnce(&dyn StoreReader) -> T) -> T;
}

struct Memory(MemoryStore);

impl Bench for Memory {
    fn commit(&mut self, operations: &[Operation], received_us: u64) -> Vec<Option<Ack>> {
        self.0.commit(operations, received_us).unwrap()
    }
    fn read<T>(&self, question: impl FnOnce(&dyn StoreReader) -> T) -> T {
        question(&self.0)
    }
}

struct Sqlite {
    store: Option<SqliteStore>,
    directory: tempfile::TempDir,
}

impl Sqlite {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
        Self { store: Some(store), directory }
    }
}

impl Bench for Sqlite {
    fn commit(&mut self, operations: &[Operation], received_us: u64) -> Vec<Option<Ack>> {
        self.store.as_mut().unwrap().commit(operations, received_us).unwrap()
    }
    fn read<T>(&self, question: impl FnOnce(&dyn StoreReader) -> T) -> T {
        question(&SqliteReader::open(self.directory.path()).unwrap())
    }
}

/// A sqlite store that is closed and opened again after each commit.
struct Reopened(Sqlite);

impl Bench for Reopened {
    fn commit(&mut self, operations: &[Operation], received_us: u64) -> Vec<Option<Ack>> {
        let answers = self.0.commit(operations, received_us);
        self.0.store = None;
        let store = SqliteStore::open(self.0.directory.path(), 30, received_us).unwrap();
        self.0.store = Some(store);
        answers
    }
    fn read<T>(&self, question: impl FnOnce(&dyn StoreReader) -> T) -> T {
        self.0.read(question)
    }
}

/// Everything that a reader tells, as text to compare.
fn dump(bench: &impl Bench) -> String {
    bench.read(|reader| {
        let mut endpoints = reader.endpoints().unwrap();
        let mut text = String::new();
        for endpoint in &mut endpoints {
            let id = endpoint.endpoint;
            text += &format!(
                "{endpoint:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n",
                reader.episodes(Some(id)).unwrap(),
                reader.hours(id).unwrap(),
                reader.host_intervals(id).unwrap(),
                reader.path_intervals(id).unwrap(),
                reader.networks(id).unwrap(),
                reader.opaque_records(id).unwrap(),
            );
        }
        text += &format!("{:#?}\n", reader.episodes(None).unwrap());
        text += &format!("{:#?}\n", reader.self_tests(None, 0, 100).unwrap());
        text + &format!("{:#?}", reader.recent_calls(0, 100).unwrap())
    })
}

fn ack(next: u32) -> Option<Ack> {
    Some(Ack { epoch: EPOCH, next: Sequence(next) })
}

fn call_operations(endpoint: EndpointId) -> Vec<Operation> {
    (0..).zip(whole_call(CALL)).map(|(sequence, it)| record(endpoint, sequence, it)).collect()
}

macro_rules! suite {
    ($($name:ident = $make:expr;)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn watermark_is_answered_per_operation() {
                super::watermark_is_answered_per_operation($make);
            }
            #[test]
            fn record_sent_twice_changes_nothing_but_the_count_of_duplicates() {
                super::record_sent_twice_changes_nothing_but_the_count_of_duplicates($make);
            }
            #[test]
            fn equal_call_ids_of_two_endpoints_never_mix() {
                super::equal_call_ids_of_two_endpoints_never_mix($make);
            }
            #[test]
            fn call_across_midnight_reads_as_one() {
                super::call_across_midnight_reads_as_one($make);
            }
            #[test]
            fn device_totals_behind_the_end_of_their_call_belong_to_it() {
                super::device_totals_behind_the_end_of_their_call_belong_to_it($make);
            }
            #[test]
            fn gap_is_missing_until_a_receipt_explains_it() {
                super::gap_is_missing_until_a_receipt_explains_it($make);
            }
            #[test]
            fn unreadable_records_are_kept_and_counted() {
                super::unreadable_records_are_kept_and_counted($make);
            }
            #[test]
            fn extreme_numbers_come_back_as_they_went_in() {
                super::extreme_numbers_come_back_as_they_went_in($make);
            }
            #[test]
            fn everything_comes_back_as_it_was_told() {
                super::everything_comes_back_as_it_was_told($make);
            }
            #[test]
            fn what_was_not_told_is_neither_empty_nor_zero() {
                super::what_was_not_told_is_neither_empty_nor_zero($make);
            }
            #[test]
            fn later_network_and_events_win_and_an_earlier_one_changes_nothing() {
                super::later_network_and_events_win_and_an_earlier_one_changes_nothing($make);
            }
            #[test]
            fn hours_sum_what_was_heard_and_concealed() {
                super::hours_sum_what_was_heard_and_concealed($make);
            }
            #[test]
            fn self_tests_come_newest_first_of_one_endpoint_or_of_all() {
                super::self_tests_come_newest_first_of_one_endpoint_or_of_all($make);
            }
            #[test]
            fn what_a_summary_does_not_tell_stays_unknown() {
                super::what_a_summary_does_not_tell_stays_unknown($make);
            }
            #[test]
            fn late_records_of_a_closed_call_belong_to_it() {
                super::late_records_of_a_closed_call_belong_to_it($make);
            }
            #[test]
            fn hello_alone_makes_no_epoch_and_epochs_are_bounded() {
                super::hello_alone_makes_no_epoch_and_epochs_are_bounded($make);
            }
        }
    )+};
}

suite! {
    memory = Memory(MemoryStore::new());
    sqlite = Sqlite::new();
    sqlite_reopened = Reopened(Sqlite::new());
}

fn watermark_is_answered_per_operation(mut bench: impl Bench) {
    let answers = bench.commit(
        &[
            attach(OSLO, "Oslo 4"),
            record(OSLO, 0, host_interval()),
            record(OSLO, 1, host_interval()),
            record(OSLO, 0, host_interval()),
            Operation::Detach { endpoint: OSLO },
        ],
        NOW_US,
    );
    assert_eq!(answers, [ack(0), ack(1), ack(2), ack(2), None]);
    assert_eq!(bench.commit(&[attach(OSLO, "Oslo 4")], NOW_US), [ack(2)]);
}

fn record_sent_twice_changes_nothing_but_the_count_of_duplicates(mut bench: impl Bench) {
    let operations = call_operations(OSLO);
    bench.commit(&operations, NOW_US);
    let (before, hours) =
        bench.read(|reader| (reader.call(CALL).unwrap(), reader.hours(OSLO).unwrap()));
    // The same records an hour later: still acked up to the end.
    let answers = bench.commit(&operations, NOW_US + 3_600 * SECOND_US);
    let count = operations.len() as u32;
    assert!(answers.iter().all(|answer| *answer == ack(count)));
    bench.read(|reader| {
        assert_eq!(reader.call(CALL).unwrap(), before);
        assert_eq!(reader.hours(OSLO).unwrap(), hours);
        let counts = reader.endpoints().unwrap()[0].counts;
        assert_eq!((counts.stored, counts.duplicate), (u64::from(count), u64::from(count)));
    });
    // 6 intervals of 2 streams with 490 received, 10 lost, jitter 3.0 ms: 5880, 120, and 12 x 30.
    let total = hours.values().fold((0, 0, 0, 0), |sum, hour| {
        (sum.0 + hour.packets, sum.1 + hour.lost, sum.2 + hour.jitter_sum_dms, sum.3 + hour.legs)
    });
    assert_eq!(total, (5_880, 120, 360, 1));
    // The call begins at 23:59:00, so all six intervals begin in that hour.
    assert_eq!(hours.len(), 1);
}

fn equal_call_ids_of_two_endpoints_never_mix(mut bench: impl Bench) {
    bench.commit(&[attach(OSLO, "Oslo 4"), attach(TROMSO, "Tromsø 1")], NOW_US);
    let mut operations = call_operations(OSLO);
    operations.push(record(TROMSO, 0, call_opened(CALL, CallPurpose::Rehearsal)));
    operations.push(record(TROMSO, 1, episode(Some(CALL), EpisodeState::Open, 5)));
    bench.commit(&operations, NOW_US);
    let calls = bench.read(|reader| reader.call(CALL).unwrap());
    let [oslo, tromso] = &calls[..] else { panic!("two calls, found {}", calls.len()) };
    assert_eq!((oslo.endpoint, tromso.endpoint), (OSLO, TROMSO));
    assert_eq!((oslo.legs.len(), tromso.legs.len()), (1, 0));
    assert_eq!(oslo.legs[&0].intervals.len(), 6);
    assert_eq!(
        oslo.legs[&0].summary.as_ref().unwrap().value.streams[0].lost,
        60,
        "later summary wins"
    );
    assert_eq!(oslo.episodes[&0xe1].value.bad_us, 3 * SECOND_US);
    assert_eq!(tromso.episodes[&0xe1].value.bad_us, 5);
    assert_eq!(tromso.opened.unwrap().value.1, CallPurpose::Rehearsal);
}

fn call_across_midnight_reads_as_one(mut bench: impl Bench) {
    let operations = call_operations(OSLO);
    let mut whole = Memory(MemoryStore::new());
    // Every record 10 s after the one before it: from 23:59:00 on, the seventh comes on the next day.
    for (at, operation) in (0..).zip(&operations) {
        let received_us = NOW_US + at * 10 * SECOND_US;
        bench.commit(std::slice::from_ref(operation), received_us);
        whole.commit(std::slice::from_ref(operation), received_us);
    }
    assert_eq!(dump(&bench), dump(&whole));
    assert_eq!(bench.read(|reader| reader.call(CALL).unwrap().len()), 1);
}

/// An agent that was killed closes its call first; its devices tell of that call when the next one opens.
fn device_totals_behind_the_end_of_their_call_belong_to_it(mut bench: impl Bench) {
    let records =
        [call_opened(CALL, CallPurpose::Meeting), call_closed(CALL), device_summary(CALL)];
    for (sequence, told) in (0..).zip(records) {
        // A day apart, so that each lies in a file of its own where there are files.
        bench.commit(&[record(OSLO, sequence, told)], NOW_US + u64::from(sequence) * DAY_US);
    }
    let calls = bench.read(|reader| reader.call(CALL).unwrap());
    assert_eq!(calls.len(), 1);
    assert!(calls[0].closed.is_some());
    assert_eq!(calls[0].devices.len(), 1);
}

fn gap_is_missing_until_a_receipt_explains_it(mut bench: impl Bench) {
    let answers = bench
        .commit(&[record(OSLO, 0, host_interval()), record(OSLO, 10, host_interval())], NOW_US);
    assert_eq!(answers, [ack(1), ack(11)]);
    let found = bench.read(|reader| reader.endpoints().unwrap()[0].counts);
    assert_eq!((found.missing, found.reported_lost, found.stored), (9, 0, 2));
    // 3..=9 reported, the day changes, 2 comes late, 1 stays unexplained: 2 + 7 + 1 + receipt = 11 + 1.
    bench.commit(&[record(OSLO, 11, receipt(3, 9))], NOW_US);
    let answers = bench.commit(&[record(OSLO, 2, host_interval())], NOW_US + DAY_US);
    assert_eq!(answers, [ack(12)]);
    let found = bench.read(|reader| reader.endpoints().unwrap()[0].counts);
    assert_eq!((found.missing, found.reported_lost, found.stored), (1, 7, 4));
    assert_eq!(bench.read(|reader| reader.host_intervals(OSLO).unwrap().len()), 3);
}

fn unreadable_records_are_kept_and_counted(mut bench: impl Bench) {
    let opaque = |sequence, kind, reason| {
        Operation::Record(Incoming {
            endpoint: OSLO,
            id: id(EPOCH, sequence),
            content: Content::Opaque(OpaqueRecord {
                kind,
                reason,
                body: Box::from(&b"\0\xff"[..]),
            }),
        })
    };
    let unknown = opaque(0, 0x7f, OpaqueReason::UnknownKind);
    let refused = opaque(1, 0x10, OpaqueReason::Refused);
    let answers = bench.commit(&[unknown.clone(), refused, unknown], NOW_US);
    assert_eq!(answers, [ack(1), ack(2), ack(2)]);
    bench.read(|reader| {
        let counts = reader.endpoints().unwrap()[0].counts;
        assert_eq!((counts.stored, counts.unknown, counts.refused, counts.duplicate), (2, 1, 1, 1));
        let kept = reader.opaque_records(OSLO).unwrap();
        assert_eq!(kept[&id(EPOCH, 0)].kind, 0x7f);
        assert_eq!(&*kept[&id(EPOCH, 1)].body, b"\0\xff");
    });
}

fn extreme_numbers_come_back_as_they_went_in(mut bench: impl Bench) {
    use roomtone_protocol::media::LegSummary;
    use roomtone_protocol::record::Record;
    use roomtone_protocol::time::Stamp;
    let call = roomtone_protocol::id::CallId(u64::MAX);
    let Record::LegSummary(summary) = summary(call, 1) else { panic!("a summary") };
    let mut streams = summary.streams.clone();
    streams[0].received = u64::MAX;
    let extreme = LegSummary {
        closed: Stamp { wall_us: u64::MAX, uptime_us: u64::MAX },
        tap_dropped: u64::MAX,
        streams,
        ..summary
    };
    bench.commit(&[record(OSLO, 0, Record::LegSummary(extreme.clone()))], NOW_US);
    let calls = bench.read(|reader| reader.call(call).unwrap());
    assert_eq!(calls[0].legs[&0].summary.as_ref().unwrap().value, extreme);
}

fn everything_comes_back_as_it_was_told(mut bench: impl Bench) {
    let Record::LegSummary(mut leg) = summary(CALL, 60) else { panic!("a summary") };
    let Record::LegIntervals(mut pack) = intervals(CALL, 0) else { panic!("intervals") };
    let extreme = StreamHeard {
        stream: 1,
        model: u16::MAX,
        total_us: u64::MAX,
        concealed_us: u64::MAX,
        stretched_us: u64::MAX,
        compressed_us: u64::MAX,
        played: u64::MAX,
        discarded: u64::MAX,
        delay_mean_dms: u32::MAX,
        delay_max_dms: u32::MAX,
        worst_interval_total_us: u32::MAX,
        worst_interval_concealed_us: u32::MAX,
        resets: u32::MAX,
        frame_us: u32::MAX,
        bursts: Stretches { count: u32::MAX, frames: u32::MAX, missing: u32::MAX },
        runs: [u32::MAX; 8],
        rating: NetworkRating::NoFactors,
        ..stream_heard(1)
    };
    let unheard = StreamHeard { stream: 2, rating: NetworkRating::NothingHeard, ..extreme };
    let unknown = StreamHeard { stream: 3, rating: NetworkRating::CodecUnknown, ..extreme };
    leg.heard.as_mut().unwrap().extend([extreme, unheard, unknown]);
    let reported = leg.reported.as_mut().unwrap();
    reported[0].lost = i32::MIN;
    pack.heard.as_mut().unwrap()[0].total_us = u32::MAX;
    let Record::ClientEvents(mut events) = client_events(CALL, Some(u16::MAX), u32::MAX) else {
        panic!("events")
    };
    events.events[1].value = ClientEventValue::Ratio(Ratio::new(u64::MAX, u64::MAX).unwrap());
    let Record::NetworkAttachment(wired) = network(None, "203.0.113.9", 0) else {
        panic!("a network")
    };
    let wired = NetworkAttachment {
        at: Stamp { wall_us: u64::MAX, uptime_us: u64::MAX },
        speed_mbps: Some(u32::MAX),
        mtu: None,
        is_vpn: true,
        wifi: None,
        ..wired
    };
    let records = [
        Record::LegSummary(leg.clone()),
        Record::LegIntervals(pack.clone()),
        Record::ClientEvents(events.clone()),
        Record::NetworkAttachment(wired.clone()),
        network(Some(CALL), "2001:db8::1", i16::MIN),
        host_interval(),
        path_interval(),
    ];
    let operations: Vec<_> =
        (0..).zip(&records).map(|(sequence, it)| record(OSLO, sequence, it.clone())).collect();
    bench.commit(&operations, NOW_US);
    bench.read(|reader| {
        let calls = reader.call(CALL).unwrap();
        assert_eq!(calls[0].legs[&0].summary.as_ref().unwrap().value, leg);
        let heard = calls[0].legs[&0].intervals[&0].value.heard.as_ref().unwrap();
        assert_eq!(heard[..], [(pack.streams[0], pack.heard.as_ref().unwrap()[0])]);
        assert_eq!(calls[0].events[&Some(u16::MAX)].value, events);
        let networks = reader.networks(OSLO).unwrap();
        assert_eq!(networks[&id(EPOCH, 3)], wired);
        assert_eq!(Record::NetworkAttachment(networks[&id(EPOCH, 4)].clone()), records[4]);
        let of_call: Vec<_> = calls[0].networks.values().map(|it| it.value.clone()).collect();
        assert_eq!(of_call[..], [networks[&id(EPOCH, 4)].clone()], "one of them was in the call");
        let hosts = reader.host_intervals(OSLO).unwrap();
        assert_eq!(Record::HostInterval(hosts[&id(EPOCH, 5)]), records[5]);
        let paths = reader.path_intervals(OSLO).unwrap();
        assert_eq!(Record::PathInterval(paths[&id(EPOCH, 6)]), records[6]);
        assert_eq!(reader.networks(TROMSO).unwrap().len(), 0);
    });
}

fn what_was_not_told_is_neither_empty_nor_zero(mut bench: impl Bench) {
    let Record::LegSummary(told) = summary(CALL, 60) else { panic!("a summary") };
    let Record::LegIntervals(pack) = intervals(CALL, 0) else { panic!("intervals") };
    let Record::HostInterval(host) = host_interval() else { panic!("a host") };
    let Record::PathInterval(path) = path_interval() else { panic!("a path") };
    let older = LegSummary {
        leg: LegNumber(1),
        heard: None,
        markings: None,
        reported: None,
        reflexive: None,
        ..told.clone()
    };
    let empty = LegSummary {
        leg: LegNumber(2),
        heard: Some(heapless::Vec::new()),
        markings: Some(heapless::Vec::new()),
        reported: Some(heapless::Vec::new()),
        ..older.clone()
    };
    let nothing_measured = HostDetail {
        busiest_core_permille: None,
        memory_pressure_permille: None,
        io_pressure_permille: None,
        wifi_signal_dbm: None,
        is_throttled: None,
    };
    let records = [
        Record::LegSummary(older.clone()),
        Record::LegSummary(empty.clone()),
        Record::LegIntervals(LegIntervals { leg: LegNumber(1), heard: None, ..pack.clone() }),
        Record::LegIntervals(LegIntervals {
            leg: LegNumber(2),
            heard: Some(heapless::Vec::new()),
            ..pack
        }),
        Record::HostInterval(HostInterval { detail: None, ..host }),
        Record::HostInterval(HostInterval { detail: Some(nothing_measured), ..host }),
        Record::PathInterval(PathInterval {
            detail: None,
            reflector: None,
            connection: None,
            ..path
        }),
    ];
    let operations: Vec<_> =
        (0..).zip(&records).map(|(sequence, it)| record(OSLO, sequence, it.clone())).collect();
    bench.commit(&operations, NOW_US);
    bench.read(|reader| {
        let calls = reader.call(CALL).unwrap();
        let leg = |number: u16| &calls[0].legs[&number];
        assert_eq!(leg(1).summary.as_ref().unwrap().value, older);
        assert_eq!(leg(2).summary.as_ref().unwrap().value, empty);
        assert_eq!(leg(1).intervals[&0].value.heard, None);
        assert_eq!(leg(2).intervals[&0].value.heard, Some(Vec::new()));
        let hosts = reader.host_intervals(OSLO).unwrap();
        assert_eq!(hosts[&id(EPOCH, 4)].detail, None);
        assert_eq!(hosts[&id(EPOCH, 5)].detail, Some(nothing_measured));
        let paths = reader.path_intervals(OSLO).unwrap();
        assert_eq!(Record::PathInterval(paths[&id(EPOCH, 6)]), records[6]);
    });
}

/// The records come in the wrong order and a day apart, so that files disagree too.
fn later_network_and_events_win_and_an_earlier_one_changes_nothing(mut bench: impl Bench) {
    let (network, events) =
        (|dbm| network(Some(CALL), "192.0.2.7", dbm), |howls| client_events(CALL, None, howls));
    bench.commit(&[record(OSLO, 4, network(-40)), record(OSLO, 5, events(5))], NOW_US);
    bench.commit(&[record(OSLO, 2, network(-20)), record(OSLO, 3, events(3))], NOW_US);
    bench.commit(&[record(OSLO, 0, network(-10)), record(OSLO, 1, events(1))], NOW_US + DAY_US);
    let found = |bench: &dyn Fn() -> CallFacts| {
        let call = bench();
        let signals: Vec<_> =
            call.networks.values().map(|it| it.value.wifi.as_ref().unwrap().signal_dbm).collect();
        (signals, call.events[&None].value.events[0].value)
    };
    let call = || bench.read(|reader| reader.call(CALL).unwrap().remove(0));
    assert_eq!(found(&call), (vec![Some(-40)], ClientEventValue::Count(5)));
    assert_eq!(bench.read(|reader| reader.networks(OSLO).unwrap().len()), 3, "all are kept");
    // Of another epoch: the later arrival wins, whatever its numbers.
    let restarted = |sequence, told| {
        Operation::Record(Incoming {
            endpoint: OSLO,
            id: id(Epoch(1), sequence),
            content: Content::Known(Box::new(told)),
        })
    };
    let group = [restarted(0, network(-90)), restarted(1, events(9))];
    bench.commit(&group, NOW_US + DAY_US);
    let call = || bench.read(|reader| reader.call(CALL).unwrap().remove(0));
    assert_eq!(found(&call), (vec![Some(-90)], ClientEventValue::Count(9)));
}

fn hours_sum_what_was_heard_and_concealed(mut bench: impl Bench) {
    let operations = call_operations(OSLO);
    bench.commit(&operations, NOW_US);
    bench.commit(&operations, NOW_US);
    let hours = bench.read(|reader| reader.hours(OSLO).unwrap());
    // 6 intervals of 10 s with 0.15 s concealed, counted once.
    let total = hours.values().map(|it| (it.heard_us, it.concealed_us)).collect::<Vec<_>>();
    assert_eq!(total, [(60_000_000, 900_000)]);
}

fn self_tests_come_newest_first_of_one_endpoint_or_of_all(mut bench: impl Bench) {
    let at = |minutes: u64| NOW_US + minutes * 60 * SECOND_US;
    let heard = || self_test(SelfTestOutcome::Heard);
    let busy = || self_test(SelfTestOutcome::Busy);
    // The second and third arrive in the next day's file, the third sent twice.
    bench.commit(&[record(OSLO, 0, busy())], at(0));
    bench.commit(&[record(TROMSO, 0, heard())], at(2));
    bench.commit(&[record(OSLO, 1, heard())], at(3));
    bench.commit(&[record(OSLO, 1, heard())], at(4));
    let list = |endpoint, since_us, limit| {
        let found = bench.read(|reader| reader.self_tests(endpoint, since_us, limit).unwrap());
        found.iter().map(|it| (it.endpoint, it.by.sequence.0, it.received_us)).collect::<Vec<_>>()
    };
    let (first, second, third) = ((OSLO, 0, at(0)), (TROMSO, 0, at(2)), (OSLO, 1, at(3)));
    assert_eq!(list(None, 0, 10), [third, second, first]);
    assert_eq!(list(None, 0, 2), [third, second]);
    assert_eq!(list(None, at(2), 10), [third, second]);
    assert_eq!(list(Some(OSLO), 0, 10), [third, first]);
    let found = bench.read(|reader| reader.self_tests(Some(TROMSO), 0, 1).unwrap());
    assert_eq!(Record::SelfTest(found[0].test.clone()), heard());
}

fn what_a_summary_does_not_tell_stays_unknown(mut bench: impl Bench) {
    let Record::DeviceSummary(told) = device_summary(CALL) else { panic!("a summary") };
    let silent = DeviceSummary {
        device: "older agent".try_into().unwrap(),
        zero_volume: None,
        glitches: None,
        ..told.clone()
    };
    let unobserved = DeviceSummary {
        device: "unobserved".try_into().unwrap(),
        zero_volume: Some(Ratio::UNOBSERVED),
        glitches: Some(0),
        ..told.clone()
    };
    let all = [silent, told, unobserved];
    let operations: Vec<_> = (0..)
        .zip(&all)
        .map(|(sequence, it)| record(OSLO, sequence, Record::DeviceSummary(it.clone())))
        .collect();
    bench.commit(&operations, NOW_US);
    let calls = bench.read(|reader| reader.call(CALL).unwrap());
    let mut found: Vec<_> = calls[0].devices.values().map(|told| told.value.clone()).collect();
    found.sort_by_key(|it| it.glitches);
    assert_eq!(found[0].zero_volume, None);
    let expected = [&all[0], &all[2], &all[1]];
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
}

/// An agent that was killed closes the call when it starts again; what its devices did may follow that.
fn late_records_of_a_closed_call_belong_to_it(mut bench: impl Bench) {
    use roomtone_protocol::call::{CallCloseReason, CallClosed};
    let closed = CallClosed {
        call: CALL,
        closed: stamp(30),
        reason: CallCloseReason::AgentStopped,
        legs: 1,
    };
    bench.commit(
        &[
            record(OSLO, 0, call_opened(CALL, CallPurpose::Meeting)),
            record(OSLO, 1, Record::CallClosed(closed)),
        ],
        NOW_US,
    );
    // Late, and on the next day.
    bench.commit(
        &[
            record(OSLO, 2, episode(Some(CALL), EpisodeState::Unrecovered, 3 * SECOND_US)),
            record(OSLO, 3, device_summary(CALL)),
        ],
        NOW_US + DAY_US,
    );
    let calls = bench.read(|reader| reader.call(CALL).unwrap());
    let [call] = &calls[..] else { panic!("one call, found {}", calls.len()) };
    assert_eq!(call.closed.map(|told| told.value.1), Some(CallCloseReason::AgentStopped));
    assert_eq!(call.episodes[&0xe1].value.bad_us, 3 * SECOND_US);
    assert_eq!(call.devices.len(), 1);
}

fn hello_alone_makes_no_epoch_and_epochs_are_bounded(mut bench: impl Bench) {
    use roomtone_collector::store::EPOCHS_PER_ENDPOINT_MAX;
    let in_epoch = |epoch: u32| {
        Operation::Record(Incoming {
            endpoint: OSLO,
            id: id(Epoch(epoch), 0),
            content: Content::Known(Box::new(host_interval())),
        })
    };
    let hello = |epoch: u32| {
        let Operation::Attach(mut it) = attach(OSLO, "") else { panic!("an attach") };
        it.epoch = Epoch(epoch);
        Operation::Attach(it)
    };
    let next = |bench: &mut dyn FnMut(&[Operation]) -> Vec<Option<Ack>>, epoch| {
        bench(&[hello(epoch)])[0].unwrap().next.0
    };
    let mut at = NOW_US;
    let mut commit = |operations: &[Operation]| {
        at += 1;
        bench.commit(operations, at)
    };
    commit(&[in_epoch(0)]);
    for epoch in 1_000..1_100 {
        commit(&[hello(epoch)]);
    }
    assert_eq!(next(&mut commit, 0), 1, "a hundred Hellos pushed no epoch out");
    for epoch in 1..=EPOCHS_PER_ENDPOINT_MAX as u32 {
        commit(&[in_epoch(epoch)]);
    }
    assert_eq!(next(&mut commit, 0), 0, "the epoch that changed longest ago went first");
    assert_eq!(next(&mut commit, 1), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any order, any repetition, any grouping, any loss: sqlite tells what memory tells.
    #[test]
    fn sqlite_answers_as_memory_does(
        steps in proptest::collection::vec((0usize..50, 0u64..4, any::<bool>()), 1..60)
    ) {
        let mut operations = call_operations(OSLO);
        operations.extend(call_operations(TROMSO));
        operations.push(record(OSLO, 30, receipt(3, 17)));
        operations.push(record(OSLO, 33, receipt(14, 40)));
        let (mut memory, mut sqlite) = (Memory(MemoryStore::new()), Sqlite::new());
        let mut group = Vec::new();
        let mut at = NOW_US;
        for (pick, hours, is_last) in steps {
            group.push(operations[pick % operations.len()].clone());
            if is_last {
                at += hours * 3_600 * SECOND_US;
                prop_assert_eq!(sqlite.commit(&group, at), memory.commit(&group, at));
                group.clear();
            }
        }
        prop_assert_eq!(dump(&sqlite), dump(&memory));
    }

    /// Whatever the order of arrival, a call ends up the same.
    #[test]
    fn order_of_arrival_does_not_matter(
        order in Just((0..whole_call(CALL).len()).collect::<Vec<_>>()).prop_shuffle()
    ) {
        let operations = call_operations(OSLO);
        let (mut ordered, mut shuffled) = (Memory(MemoryStore::new()), Memory(MemoryStore::new()));
        ordered.commit(&operations, NOW_US);
        for pick in order {
            shuffled.commit(std::slice::from_ref(&operations[pick]), NOW_US);
        }
        prop_assert_eq!(dump(&shuffled), dump(&ordered));
    }
}
