//! A disk that runs out of space and an endpoint that would fill it: records wait at the agents, everybody else goes
//! on, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomtone_collector::identity::standing::Required;
use roomtone_collector::ingest::allowance::Allowance;
use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_collector::ingest::headroom::{Headroom, Space};
use roomtone_collector::ingest::writer::{self, NotStored, Room, Run, WriterQueue};
use roomtone_collector::store::StoreReader;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::id::Sequence;

use crate::client::*;
use crate::fixture::*;

const GIB: u64 = 1 << 30;

/// A disk of 100 GiB with a headroom of 1 GiB, whose free space the test sets.
struct Disk {
    directory: tempfile::TempDir,
    free: Arc<AtomicU64>,
}

impl Disk {
    fn new(free_bytes: u64) -> Self {
        let free = Arc::new(AtomicU64::new(free_bytes));
        Self { directory: tempfile::tempdir().unwrap(), free }
    }

    fn writer(&self) -> (WriterQueue, std::thread::JoinHandle<()>) {
        let free = self.free.clone();
        let measure = move || {
            let free_bytes = free.load(Ordering::Relaxed);
            Some(Space { free_bytes, total_bytes: 100 * GIB })
        };
        let room = (Headroom::new(GIB), Box::new(measure) as writer::Measure);
        let store = Box::new(open_store(self.directory.path()));
        let runtime = tokio::runtime::Handle::current();
        writer::spawn_within(store, || NOW_US, runtime, room).unwrap()
    }

    /// Makes room and waits until the writer has seen it.
    async fn make_room(&self, queue: &WriterQueue, room: &Room) {
        self.free.store(2 * GIB, Ordering::Relaxed);
        patiently("the next measurement", async {
            while room.facts().is_low {
                queue.come_round().await.unwrap();
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_not_stored_below_the_headroom_and_hellos_are() {
    let disk = Disk::new(GIB - 1);
    let (queue, thread) = disk.writer();
    let submit =
        async |operation, run: &Run| queue.reserve().await.unwrap().submit(vec![operation], run);
    let run = Run::default();
    let ack = |next| vec![Some(Ack { epoch: EPOCH, next: Sequence(next) })];
    let hello = submit(attach(OSLO, "oslo-4"), &run).await;
    assert_eq!(hello.await.unwrap(), Ok(ack(0)));
    let refused = submit(record(OSLO, 0, host_interval()), &run).await;
    assert_eq!(refused.await.unwrap(), Err(NotStored));
    let facts = queue.room().facts();
    assert!(facts.is_low);
    assert_eq!((facts.free_bytes, facts.needed_bytes, facts.batches_refused), (GIB - 1, GIB, 1));
    disk.make_room(&queue, &queue.room()).await;
    // The same connection stays refused: its next ack would cover what was not stored.
    let behind = submit(record(OSLO, 1, host_interval()), &run).await;
    assert_eq!(behind.await.unwrap(), Err(NotStored));
    let again = submit(record(OSLO, 0, host_interval()), &Run::default()).await;
    assert_eq!(again.await.unwrap(), Ok(ack(1)));
    drop(queue);
    tokio::task::block_in_place(|| thread.join().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_is_sent_away_without_an_ack_and_loses_nothing() {
    let (pki, disk) = (Pki::new(&["oslo-4"]), Disk::new(0));
    let (queue, thread) = disk.writer();
    let registrar = pki.registrar(Required::No, || NOW_US);
    let collector = Collector::start_over(&pki, (queue.clone(), thread), LIMITS, registrar);
    for _ in 0..2 {
        let (mut oslo, next) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
        assert_eq!(next, 0, "greeted, and nothing of it is stored");
        oslo.record(0, host_interval()).await;
        assert!(oslo.next().await.is_none(), "no ack");
        assert_eq!(oslo.closed().await, CloseReason::StoreUnavailable);
    }
    disk.make_room(&queue, &queue.room()).await;
    let (mut oslo, next) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(next, 0);
    oslo.record(0, host_interval()).await;
    oslo.acked(1).await;
    let reader = SqliteReader::open(disk.directory.path()).unwrap();
    let counts = reader.endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.missing, counts.duplicate), (1, 0, 0));
    drop(queue);
    collector.stop().await;
}

/// 4,000 bytes at once and then 1,000 a second: Oslo's records of 30 to 60 bytes wait, Tromsø's do not.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_floods_is_taken_at_its_pace_and_the_others_at_once() {
    let pki = Pki::new(&["oslo-4", "tromso-1"]);
    let disk = Disk::new(50 * GIB);
    let (registrar, allowance) = (
        pki.registrar(Required::No, || NOW_US),
        Allowance { burst_bytes: 6_000, minute_bytes: 60_000 },
    );
    let writer = disk.writer();
    let collector = Collector::start_paced(&pki, writer, LIMITS, registrar, allowance);
    let address = collector.address;
    let bytes = record_frame(0, host_interval()).len() as u32;
    // Twice the burst and a little: what is beyond the burst takes 1 ms a byte.
    let flood = 2 * 6_000 / bytes;
    let began = Instant::now();
    let (mut oslo, _) = Client::welcome(address, &pki, 0, "endpoint-oslo-4").await;
    let half = flood / 2;
    for sequence in 0..half {
        oslo.record(sequence, host_interval()).await;
    }
    oslo.acked(half).await;
    // Whoever comes back has no new burst.
    drop(oslo);
    let (mut oslo, next) = Client::welcome(address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(next, half);
    for sequence in half..flood {
        oslo.record(sequence, host_interval()).await;
    }
    let (mut tromso, _) = Client::welcome(address, &pki, 1, "endpoint-tromso-1").await;
    tromso.record(0, host_interval()).await;
    tromso.acked(1).await;
    oslo.acked(flood).await;
    // All but the burst and the last batch, which is at most a buffer of two frames.
    let beyond = u64::from(flood * bytes) - 6_000;
    let least = Duration::from_millis(beyond.saturating_sub(u64::from(bytes) * 64));
    assert!(began.elapsed() >= least, "{:?} for {beyond} bytes beyond", began.elapsed());
    assert!(least > Duration::from_secs(1), "{least:?} would prove nothing");
    let reader = SqliteReader::open(disk.directory.path()).unwrap();
    let endpoints = reader.endpoints().unwrap();
    let oslo = endpoints.iter().find(|it| it.endpoint == pki.endpoints[0]).unwrap();
    assert_eq!((oslo.counts.stored, oslo.counts.missing), (u64::from(flood), 0));
    collector.stop().await;
}
