//! Durable records per second of the embedded store, in groups as the writer thread makes them.
//!
//! `cargo bench -p roomtone-collector --bench store_writer` prints one JSON line per group size: records of one
//! interval with one audio stream each way and what was heard of one, 1,000 endpoints, every commit with fsync.
// A bench may unwrap as a test may.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use roomtone_collector::store::sqlite::SqliteStore;
use roomtone_collector::store::{Content, Incoming, Operation, Store};
use roomtone_protocol::heard::HeardInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::media::{Direction, Media, StreamKey};
use roomtone_protocol::record::Record;

const ENDPOINTS: u32 = 1_000;
const RECORDS: u32 = 60_000;
const NOW_US: u64 = 1_795_391_940_000_000;

fn main() {
    for group in [1, 10, 100, 1_000] {
        // Below 100 an fsync each dominates; a tenth of the records shows it as well.
        measure(group, if group < 100 { RECORDS / 20 } else { RECORDS });
    }
}

fn measure(group: u32, records: u32) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut store = SqliteStore::open(directory.path(), 30, NOW_US).unwrap();
    let operations: Vec<Operation> = (0..records).map(record).collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    for group in operations.chunks(group as usize) {
        store.commit(group, NOW_US).unwrap();
    }
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    drop(store);
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "{{\"name\":\"store_writer\",\"group\":{group},\"recordsPerSecond\":{:.0},\"recordsPerCpuSecond\":{:.0},\
         \"bytesPerRecord\":{:.1}}}",
        f64::from(records) / wall,
        f64::from(records) / cpu,
        bytes as f64 / f64::from(records),
    );
}

fn record(number: u32) -> Operation {
    let (endpoint, sequence) = (number % ENDPOINTS, number / ENDPOINTS);
    let row = StreamInterval {
        stream: 0,
        received: 490 + number % 10,
        lost: (number % 7) as i32,
        jitter_mean_dms: 20 + number % 30,
        jitter_max_dms: 80 + number % 40,
        ..StreamInterval::default()
    };
    let heard = HeardInterval {
        total_us: 9_980_000 + number % 40_000,
        concealed_us: number % 7 * 20_000,
        worst_second_us: number % 7 * 10_000,
        played: 490 + number % 10,
        discarded: number % 3,
        delay_mean_dms: 400 + number % 200,
        ..HeardInterval::default()
    };
    let interval = LegInterval {
        duration_ms: 10_000,
        rtt_count: 4,
        rtt_min_dms: 300 + number % 50,
        rtt_mean_dms: 350 + number % 50,
        rtt_max_dms: 420 + number % 90,
        streams: [row, StreamInterval { stream: 1, ..row }].into_iter().collect(),
        ..LegInterval::default()
    };
    let key = |direction| StreamKey { ssrc: number.to_le_bytes(), direction, media: Media::Audio };
    let call = u64::from(endpoint).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Operation::Record(Incoming {
        endpoint: EndpointId((u128::from(call) << 64).to_be_bytes()),
        id: RecordId { epoch: Epoch(1), sequence: Sequence(sequence) },
        content: Content::Known(Box::new(Record::LegIntervals(LegIntervals {
            call: CallId(call),
            leg: LegNumber(0),
            first: sequence as u16,
            started_wall_ms: NOW_US / 1_000 + u64::from(sequence) * 10_000,
            streams: [key(Direction::Ingress), key(Direction::Egress)].into_iter().collect(),
            pack: IntervalPack::from_intervals(&[interval], 2).unwrap(),
            heard: Some([heard].into_iter().collect()),
        }))),
    })
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
