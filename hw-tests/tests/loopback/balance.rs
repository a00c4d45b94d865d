//! Accepted = stored once + reported lost, through the real spool, uplink and store, whatever became of the spool.
//!
//! The backlogs are files as a stopped agent leaves them (the format is drawn in `agent/src/spool.rs`), so that each
//! trial knows exactly what was accepted and what it destroyed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crc::{CRC_32_ISCSI, Crc};
use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;
use roomtone_protocol::device::{DeviceCause, DeviceEpisode, DeviceSide, EpisodeState};
use roomtone_protocol::frame::encode_record;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;
use serde_json::Value;

const EPOCH: u32 = 0x5eed_0001;
const ACCEPTED: u32 = 10_000;
const PER_SEGMENT: u32 = 500;
const HEADER_BYTES: usize = 28;
const GUARD: Duration = Duration::from_secs(60);

/// A record of some 140 bytes; all have the same length, since numbers on the wire have not.
fn record(number: u32) -> Record {
    Record::DeviceEpisode(DeviceEpisode {
        episode: 1 << 40 | u64::from(number),
        call: None,
        device: "x".repeat(80).as_str().try_into().unwrap(),
        side: DeviceSide::Capture,
        cause: DeviceCause::Stalled,
        onset: Stamp { wall_us: 1_795_391_940_000_000, uptime_us: 1 << 40 },
        bad_us: 1,
        state: EpisodeState::Recovered,
    })
}

/// Writes the backlog of a stopped agent into `spool` and returns its segments, oldest first.
fn write_backlog(spool: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(spool).unwrap();
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    let mut frame = [0; FRAME_BYTES_MAX];
    let mut segments = Vec::new();
    for (counter, first) in (1u64..).zip((0..ACCEPTED).step_by(PER_SEGMENT as usize)) {
        let end = first + PER_SEGMENT;
        let mut bytes = b"RTSG\x01\0\0\0".to_vec();
        bytes.extend_from_slice(&counter.to_le_bytes());
        bytes.extend_from_slice(&EPOCH.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&crc.checksum(&bytes).to_le_bytes());
        for number in first..end {
            let id = RecordId { epoch: Epoch(EPOCH), sequence: Sequence(number) };
            let length = encode_record(id, record(number), &mut frame).unwrap();
            bytes.extend_from_slice(&frame[..length]);
        }
        let path = spool.join(format!("{counter:016x}-{EPOCH:08x}-{first:08x}-{end:08x}.seg"));
        fs::write(&path, bytes).unwrap();
        segments.push(path);
    }
    segments
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// What the collector's list says of the only endpoint, once `done` holds.
fn wait(place: &Place, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let listed = place.ask(&["endpoints"]).unwrap();
        let endpoint = &listed["endpoints"][0];
        if done(endpoint) {
            return endpoint.clone();
        }
        assert!(started.elapsed() < GUARD, "{what} did not happen: {endpoint:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn number(endpoint: &Value, key: &str) -> u64 {
    endpoint[key].as_u64().unwrap_or(0)
}

#[test]
fn damaged_backlog_is_stored_or_reported_lost_to_the_last_record() {
    let Some(hosts) = TwoHosts::make("damage").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, "").unwrap();
    let segments = write_backlog(&folder.path().join("spool"));
    // A bit of one record, a bit of the last of all, a header, an end (nine records and a byte of the tenth), a whole
    // file.
    let length = |file: &Path| fs::metadata(file).unwrap().len() as usize;
    flip(&segments[4], HEADER_BYTES + 60);
    flip(&segments[19], length(&segments[19]) - 3);
    flip(&segments[8], 20);
    let frame_bytes = (length(&segments[12]) - HEADER_BYTES) / PER_SEGMENT as usize;
    let cut = fs::File::options().write(true).open(&segments[12]).unwrap();
    cut.set_len((length(&segments[12]) - 9 * frame_bytes - 1) as u64).unwrap();
    fs::remove_file(&segments[15]).unwrap();
    let (_collector, address) = place.start_collector().unwrap();
    let _agent = place.start_agent(&address, true).unwrap();
    // No call comes: what is lost must be told without one.
    // 1 + 1 flipped, 10 cut off, 500 behind the header, 500 in the file that is gone.
    let lost = 1_012;
    let endpoint = wait(&place, "the account", |endpoint| {
        number(endpoint, "records") > 8_000 && number(endpoint, "recordsReportedLost") >= lost
    });
    assert_eq!(number(&endpoint, "recordsReportedLost"), lost, "{endpoint:#}");
    assert_eq!(number(&endpoint, "recordsMissing"), 0, "{endpoint:#}");
    // One receipt for each of the five, and nothing else was recorded.
    assert_eq!(number(&endpoint, "records"), u64::from(ACCEPTED) - lost + 5, "{endpoint:#}");
    assert_eq!(number(&endpoint, "recordsDuplicate"), 0, "{endpoint:#}");
}

#[test]
fn backlog_that_was_shed_is_reported_to_the_last_record() {
    let Some(hosts) = TwoHosts::make("shed").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, "\n[media]\ncall_idle = \"5s\"\n").unwrap();
    // Two segments of some 65 KB too many for 1 MiB, shed with the first record of a call.
    let config = folder.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text =
        text.replace("directory = \"spool\"\n", "directory = \"spool\"\nbytes_max = \"1MiB\"\n");
    fs::write(&config, text).unwrap();
    write_backlog(&folder.path().join("spool"));
    let (collector, address) = place.start_collector().unwrap();
    collector.stop().unwrap();
    let agent = place.start_agent(&address, false).unwrap();
    let mut call = place.program("roomtone-agent");
    call.args(["rehearse", "--seconds", "5"]).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(call.status().unwrap().success());
    // Ended while the collector is away, the spool is what stands on disk.
    agent.stop().unwrap();
    let kept: u64 = fs::read_dir(folder.path().join("spool"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains(&format!("-{EPOCH:08x}-")))
        .map(|_| u64::from(PER_SEGMENT))
        .sum();
    assert!((500..u64::from(ACCEPTED)).contains(&kept), "{kept} of {ACCEPTED} were kept");
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    place.prepare_collector(port).unwrap();
    let (_collector, _) = place.start_collector().unwrap();
    let _agent = place.start_agent(&address, true).unwrap();
    let endpoint = wait(&place, "the account", |endpoint| {
        number(endpoint, "records") > kept
            && number(endpoint, "recordsMissing") == 0
            && number(endpoint, "recordsReportedLost") > 0
    });
    assert_eq!(
        number(&endpoint, "recordsReportedLost"),
        u64::from(ACCEPTED) - kept,
        "{endpoint:#}"
    );
}

#[test]
fn backlog_whose_drain_is_interrupted_on_both_sides_is_stored_once() {
    let Some(hosts) = TwoHosts::make("drain").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path()).unwrap().behind(&hosts.prefix(0));
    place.prepare(0, "").unwrap();
    write_backlog(&folder.path().join("spool"));
    let (mut collector, address) = place.start_collector().unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    place.prepare_collector(port).unwrap();
    for _ in 0..3 {
        // Killed as soon as the link stands, with the window full of bytes in flight: the collector, then the agent.
        let agent = place.start_agent(&address, true).unwrap();
        collector.kill().unwrap();
        agent.kill().unwrap();
        (collector, _) = place.start_collector().unwrap();
    }
    let _agent = place.start_agent(&address, true).unwrap();
    let endpoint = wait(&place, "the end of the backlog", |endpoint| {
        number(endpoint, "records") >= u64::from(ACCEPTED)
    });
    let counts = ["records", "recordsMissing", "recordsReportedLost"];
    assert_eq!(
        counts.map(|key| number(&endpoint, key)),
        [u64::from(ACCEPTED), 0, 0],
        "{endpoint:#}"
    );
    drop(collector);
}
