//! The real binary and the writer under things that no honest day brings: what was not stored is not acked, what is
//! absurd is kept and shown, and nothing grows beyond its bound.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc;

use roomtone_collector::ingest::writer::{self, NotStored, Run};
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_collector::store::{Operation, Store, StoreError, StoreReader};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
use roomtone_protocol::device::{
    DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest, SelfTestOutcome,
};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, Epoch, LegNumber, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::INTERVALS_PER_FRAME_MAX;
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, RttSummary, StreamKey, StreamSummary,
    Transport,
};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use crate::client::*;
use crate::fixture::*;
use crate::process::{Serve, run};

/// A store whose first group waits, then fails, as on a disk that is full for a moment.
struct Stumbling<S> {
    store: S,
    entered: mpsc::Sender<()>,
    open: mpsc::Receiver<()>,
    failures: usize,
}

impl<S: Store> Store for Stumbling<S> {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        if self.failures > 0 {
            self.failures -= 1;
            self.entered.send(()).unwrap();
            self.open.recv().unwrap();
            let source = std::io::Error::other("disk full").into();
            return Err(StoreError::Write { path: "day".into(), source });
        }
        self.store.commit(operations, received_us)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_connection_is_stored_behind_its_group_that_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (entered, commits) = mpsc::channel();
    let (gate, open) = mpsc::channel();
    let store = Stumbling { store: open_store(directory.path()), entered, open, failures: 1 };
    let runtime = tokio::runtime::Handle::current();
    let (queue, thread) = writer::spawn(Box::new(store), || NOW_US, runtime).unwrap();
    let (run, neighbour) = (Run::default(), Run::default());
    let submit =
        async |operation, run: &Run| queue.reserve().await.unwrap().submit(vec![operation], run);

    let failed = submit(record(OSLO, 0, host_interval()), &run).await;
    tokio::task::block_in_place(|| commits.recv().unwrap());
    // Under way before the failure is known, as the second batch of a backlog always is.
    let behind = submit(record(OSLO, 1, host_interval()), &run).await;
    let beside = submit(record(TROMSO, 0, host_interval()), &neighbour).await;
    gate.send(()).unwrap();
    assert_eq!(failed.await.unwrap(), Err(NotStored));
    // Stored, its cumulative ack would tell the agent that record 0 is on disk.
    assert_eq!(behind.await.unwrap(), Err(NotStored));
    let ack = |next| vec![Some(Ack { epoch: EPOCH, next: Sequence(next) })];
    assert_eq!(beside.await.unwrap(), Ok(ack(1)));
    let welcome = submit(attach(OSLO, "oslo-4"), &Run::default()).await;
    assert_eq!(welcome.await.unwrap(), Ok(ack(0)), "the next connection begins at record 0");
    drop(queue);
    tokio::task::block_in_place(|| thread.join().unwrap());
}

/// Each kind that has figures, with the largest that the wire can carry; times before and far beyond every calendar.
fn extremes(call: CallId, wall_us: u64) -> Vec<Record> {
    let at = Stamp { wall_us, uptime_us: u64::MAX };
    let leg = LegNumber(u16::MAX);
    // As long as the wire allows: a right-to-left override, an escape sequence and a line break among letters.
    let name = format!("\u{202e}gnp\u{1b}[2J\r\n\0{}", "x".repeat(67));
    let key = |direction| StreamKey { ssrc: [0xff; 4], direction, media: Media::Audio };
    let row = StreamInterval {
        stream: 0,
        received: u32::MAX,
        lost: i32::MIN,
        duplicate: u32::MAX,
        reordered: u32::MAX,
        jitter_mean_dms: u32::MAX,
        jitter_max_dms: u32::MAX,
        sequence_restarts: u32::MAX,
    };
    let interval = LegInterval {
        duration_ms: u32::MAX,
        rtt_count: u32::MAX,
        rtt_min_dms: u32::MAX,
        rtt_mean_dms: u32::MAX,
        rtt_max_dms: u32::MAX,
        rtt_unanswered: u32::MAX,
        tap_dropped: u32::MAX,
        streams: [row, StreamInterval { stream: 1, lost: i32::MAX, ..row }].into_iter().collect(),
    };
    let stream = |direction| StreamSummary {
        key: key(direction),
        payload_types: [255; 4].into_iter().collect(),
        clock_rate_hz: u32::MAX,
        clock_rate_source: ClockRateSource::Slope,
        first_us: u64::MAX,
        last_us: 0,
        received: u64::MAX,
        expected: u64::MAX,
        lost: u64::MAX,
        duplicate: u64::MAX,
        reordered: u64::MAX,
        sequence_restarts: u32::MAX,
        jitter_mean_dms: u32::MAX,
        jitter_max_dms: u32::MAX,
        jitter_last_dms: u32::MAX,
    };
    let worst = u32::MAX;
    vec![
        // A summary before its leg, intervals of a leg that never opens, a close before the opening and once more
        // after it.
        Record::LegSummary(LegSummary {
            call,
            leg,
            closed: at,
            rtt: RttSummary {
                count: worst,
                unanswered: worst,
                min_dms: worst,
                mean_dms: 0,
                max_dms: worst,
                last_dms: worst,
            },
            tap_dropped: u64::MAX,
            streams: [stream(Direction::Ingress), stream(Direction::Egress)].into_iter().collect(),
            heard: None,
            markings: None,
            reported: None,
            reflexive: None,
        }),
        Record::LegIntervals(LegIntervals {
            call,
            leg: LegNumber(7),
            first: u16::MAX,
            started_wall_ms: wall_us,
            streams: [key(Direction::Ingress), key(Direction::Egress)].into_iter().collect(),
            pack: IntervalPack::from_intervals(&vec![interval; INTERVALS_PER_FRAME_MAX], 2)
                .unwrap(),
            heard: None,
        }),
        Record::CallClosed(CallClosed {
            call,
            closed: at,
            reason: CallCloseReason::Idle,
            legs: u16::MAX,
        }),
        Record::LegOpened(LegOpened {
            call,
            leg,
            opened: at,
            local: "[fe80::1%4294967295]:65535".parse().unwrap(),
            remote: "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:0".parse().unwrap(),
            transport: Transport::Turn,
        }),
        Record::CallOpened(CallOpened { call, opened: at, purpose: CallPurpose::Meeting }),
        Record::CallClosed(CallClosed {
            call,
            closed: Stamp { wall_us: 0, uptime_us: 0 },
            reason: CallCloseReason::Idle,
            legs: 0,
        }),
        Record::DeviceEpisode(DeviceEpisode {
            episode: u64::MAX,
            call: Some(call),
            device: name.as_str().try_into().unwrap(),
            side: DeviceSide::Capture,
            cause: DeviceCause::Stalled,
            onset: at,
            bad_us: u64::MAX,
            state: EpisodeState::Open,
        }),
        Record::DeviceSummary(DeviceSummary {
            call,
            device: name.as_str().try_into().unwrap(),
            side: DeviceSide::Capture,
            not_functioning: Ratio::new(u64::MAX, u64::MAX).unwrap(),
            muted: Ratio::new(0, 0).unwrap(),
            episodes: u32::MAX,
            detector: u16::MAX,
            zero_volume: Ratio::new(u64::MAX, u64::MAX),
            glitches: Some(u32::MAX),
        }),
        Record::SelfTest(SelfTest {
            ended: at,
            requested: true,
            capture: name.as_str().try_into().unwrap(),
            render: "".try_into().unwrap(),
            outcome: SelfTestOutcome::NoDevice,
            level_db_tenths: Some(i16::MIN),
            delay_us: Some(u32::MAX),
        }),
        Record::HostInterval(HostInterval {
            started: at,
            duration_ms: u32::MAX,
            cpu_permille: u16::MAX,
            memory_permille: u16::MAX,
            cpu_pressure_permille: Some(u16::MAX),
            temperature_deci_celsius: Some(i16::MIN),
            detail: None,
        }),
        Record::LossReceipt(LossReceipt {
            epoch: Epoch(u32::MAX),
            first: Sequence(0),
            last: Sequence(u32::MAX),
            cause: LossCause::Shed,
            noticed: at,
        }),
        Record::LossReceipt(LossReceipt {
            epoch: EPOCH,
            first: Sequence(9),
            last: Sequence(3),
            cause: LossCause::Torn,
            noticed: at,
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_beyond_all_reason_are_kept_acked_and_shown() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    let mut sequence = 0;
    let walls = [0, 1, NOW_US, 253_402_300_800_000_000, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    for (call, wall_us) in (1..).zip(walls) {
        for record in extremes(CallId(call), wall_us) {
            client.record(sequence, record).await;
            sequence += 1;
        }
    }
    for record in extremes(CallId(u64::MAX), u64::MAX) {
        client.record(sequence, record).await;
        sequence += 1;
    }
    client.acked(sequence).await;
    let directory = pki.directory.path();
    let mut commands = vec![vec!["calls"], vec!["endpoints"], vec!["selftests"]];
    let ids: Vec<String> =
        (1..=walls.len() as u64).chain([u64::MAX]).map(|call| CallId(call).to_string()).collect();
    commands.extend(ids.iter().map(|call| vec!["call", call]));
    for command in commands {
        for format in [&[][..], &["--json"]] {
            let arguments = [&command[..], format, &["--store", "store"]].concat();
            let output = run(&arguments, directory);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
            let shown = String::from_utf8(output.stdout).unwrap();
            // JSON escapes what controls a terminal and leaves the rest to its reader.
            let strange = shown
                .chars()
                .find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}' && format.is_empty());
            assert_eq!(strange, None, "{arguments:?}: {shown}");
        }
    }
    let (code, rest) = serve.terminate();
    assert_eq!(code, Some(0), "{rest}");
    assert!(!rest.contains("panicked"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_jump_fall_and_end_are_acked_and_counted() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, open_store(directory.path()), LIMITS);
    let (mut client, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    // 0, a jump to 1,000,000, back to 5, the last number but one: 4 stored, all others below 2^32 - 1 missing.
    for sequence in [0, 1_000_000, 5, u32::MAX - 1] {
        client.record(sequence, host_interval()).await;
    }
    client.acked(u32::MAX).await;
    let counts = SqliteReader::open(directory.path()).unwrap().endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.missing), (4, u64::from(u32::MAX) - 4));
    // No ack could speak of the last number.
    client.record(u32::MAX, host_interval()).await;
    assert_eq!(
        client.closed().await,
        roomtone_collector::ingest::exchange::CloseReason::UnexpectedFrame
    );
    collector.stop().await;
}

fn rss_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Connections that hostile endpoints make, each with more frames than fit into any buffer here.
const ROUNDS: u32 = 200;
const FRAMES_PER_ROUND: u32 = 100;
/// So many of them that none says hello more often than is heard at once.
const HOSTILE: u32 = ROUNDS / roomtone_collector::identity::pace::HELLOS.0;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_endpoints_cost_no_memory_that_stays_and_no_neighbour() {
    let names: Vec<String> = (0..HOSTILE).map(|it| format!("oslo-{it}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.insert(0, "tromso-1");
    let pki = Pki::new(&names);
    let serve = Serve::start(&pki);
    let (mut good, _) = Client::welcome(serve.address, &pki, 0, "endpoint-tromso-1").await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = 0x9e37_79b9u32;
    let mut before = 0;
    for round in 0..ROUNDS {
        let number = round % HOSTILE;
        let (index, name) = (number as usize + 1, format!("endpoint-oslo-{number}"));
        let (mut bad, _) = Client::welcome(serve.address, &pki, index, &name).await;
        let mut bytes = Vec::new();
        for frame in 0..FRAMES_PER_ROUND {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Every frame opens a gap, every tenth tells of one call more.
            let record =
                if frame % 10 == 0 { leg_opened(CallId(random.into())) } else { host_interval() };
            bytes.extend_from_slice(&record_frame(round * 1_000 + frame * 7, record));
        }
        bytes.extend_from_slice(&random.to_le_bytes());
        bad.bytes(&bytes).await;
        // Long headers of unknown versions, Initials of noise, and bytes that are no QUIC at all.
        for first in [0xc3, 0x40, 0x00, (random >> 8) as u8] {
            let mut packet = vec![(random >> 16) as u8; 1_200];
            packet[0] = first;
            packet[1..5].copy_from_slice(&(round % 3).to_be_bytes());
            socket.send_to(&packet, serve.address).unwrap();
        }
        good.record(round, host_interval()).await;
        good.acked(round + 1).await;
        bad.closed().await;
        // Caches have filled by then.
        if round == ROUNDS / 4 {
            before = rss_kib(serve.child.id());
        }
    }
    let after = rss_kib(serve.child.id());
    println!("resident: {before} KiB after a quarter, {after} KiB at the end");
    assert!(after < before + 24 * 1_024, "{before} KiB grew to {after} KiB");
    let (code, rest) = serve.terminate();
    assert_eq!(code, Some(0), "{rest}");
    assert!(!rest.contains("panicked"), "{rest}");
}

/// A file system of its own; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` without the right to mount, which is said on stdout and counts as not run.
    fn mount(at: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).status();
        if !mount.is_ok_and(|status| status.success()) {
            println!("not run: mounting a small disk needs root");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a collector that a failed test left is killed after this.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_acks_nothing_and_room_made_is_used() {
    let pki = Pki::new(&["oslo-4"]);
    let Some(disk) = SmallDisk::mount(pki.directory.path().join("store"), "8m") else { return };
    let serve = Serve::start(&pki);
    let ballast = disk.0.join("ballast");
    let (mut client, mut acked) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    std::fs::write(&ballast, vec![0; 6 << 20]).unwrap();
    let mut sequence = 0;
    // In bites, until the disk says no.
    'full: loop {
        for _ in 0..300 {
            client.record(sequence, intervals(CallId(sequence.into()), 0)).await;
            sequence += 1;
        }
        while acked < sequence {
            match client.next().await {
                Some(roomtone_protocol::message::Message::Ack(ack)) => acked = ack.next.0,
                None => break 'full,
                other => panic!("an ack, found {other:?}"),
            }
        }
    }
    assert!(acked < sequence);
    std::fs::remove_file(&ballast).unwrap();
    let (mut client, next) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(next, acked, "what was acked is there, and nothing else");
    for sequence in next..sequence {
        client.record(sequence, intervals(CallId(sequence.into()), 0)).await;
    }
    client.acked(sequence).await;
    let counts = SqliteReader::open(&disk.0).unwrap().endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.missing), (u64::from(sequence), 0));
    let (code, rest) = serve.terminate();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("records are not stored"), "{rest}");
    assert!(rest.contains("the store takes records again"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_whose_directory_vanishes_acks_nothing_that_is_gone() {
    let pki = Pki::new(&["oslo-4"]);
    let serve = Serve::start(&pki);
    let (mut client, _) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    client.record(0, host_interval()).await;
    client.acked(1).await;
    let store = pki.directory.path().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    client.record(1, host_interval()).await;
    assert_eq!(client.next().await, None, "nothing is on disk, so nothing is acked");
    // All is forgotten with the directory; a new one is begun for whoever comes back.
    let (mut client, next) = Client::welcome(serve.address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(next, 0);
    client.record(1, host_interval()).await;
    client.acked(2).await;
    let counts = SqliteReader::open(&store).unwrap().endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.missing), (1, 1));
    let (code, rest) = serve.terminate();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("was removed while in use"), "{rest}");
}
