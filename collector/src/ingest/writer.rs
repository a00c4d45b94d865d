//! The one thread that writes the store: gathers what arrived in a few milliseconds, commits it as one group, answers.
//!
//! The queue holds [`QUEUE_MAX`] submissions of at most [`BATCH_RECORDS_MAX`] records: 4,096 decoded records of at most
//! 4 KiB, 16 MiB. A place in it is taken before a batch is decoded ([`WriterQueue::reserve`]), so a slow disk is felt
//! by the agents as a stream that is not read, never here as memory.
//!
//! An ack is cumulative, so a group that failed takes the later submissions of its connections with it: stored, they
//! would raise the watermark over what was not ([`Run`]).
//!
//! Where the disk has too little space left ([`Headroom`]), submissions with records are answered as a failed group
//! is; hellos and goodbyes go on, which change rows and add none.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use roomtone_protocol::ack::Ack;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::exchange::BATCH_RECORDS_MAX;
use super::headroom::{Headroom, Space, Turn};
use crate::store::{Operation, Store};

/// The most submissions that wait.
pub const QUEUE_MAX: usize = 64;
/// The most operations of one group: at 2 us each, a group holds up an ack no longer than an fsync does.
pub const GROUP_OPERATIONS_MAX: usize = 2_048;
/// How long a group waits for company.
pub const GATHER: Duration = Duration::from_millis(5);
/// How often the space is measured at most; at 2,048 records of 4 KiB in 5 ms a disk loses no more than some GB/s.
pub const MEASURE: Duration = Duration::from_secs(1);

/// What became of a submission: one answer per operation once all are on disk.
pub type Answer = Result<Vec<Option<Ack>>, NotStored>;

/// Nothing of the submission was stored. Do not ack; let the endpoint come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store does not take records now")]
pub struct NotStored;

/// The submissions of one connection: after one of them was not stored, none is.
///
/// The next connection's run begins at the watermark that its Hello is answered with.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Written and read by the writer's thread alone.
    broken: Arc<AtomicBool>,
}

struct Submission {
    operations: Vec<Operation>,
    run: Run,
    answer: oneshot::Sender<Answer>,
}

/// The way to the writer; cheap to clone. The writer ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct WriterQueue {
    sender: mpsc::Sender<Submission>,
    room: Room,
}

/// The space of the store's disk, as the writer found it last; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Room {
    shared: Arc<Mutex<RoomFacts>>,
}

/// What the writer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomFacts {
    /// Whether there is too little space to store records.
    pub is_low: bool,
    /// What is free, in bytes.
    pub free_bytes: u64,
    /// What must be free, in bytes.
    pub needed_bytes: u64,
    /// Batches of records that were not stored for it since the start.
    pub batches_refused: u64,
}

impl Room {
    /// What the writer found last.
    #[must_use]
    pub fn facts(&self) -> RoomFacts {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut RoomFacts)) {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Measures the store's file system; `None` where that cannot be done now.
pub type Measure = Box<dyn FnMut() -> Option<Space> + Send>;

/// A place in the queue.
#[derive(Debug)]
pub struct Slot<'a> {
    permit: mpsc::Permit<'a, Submission>,
}

impl WriterQueue {
    /// Waits for a place.
    ///
    /// # Errors
    /// [`NotStored`] where the writer has ended.
    pub async fn reserve(&self) -> Result<Slot<'_>, NotStored> {
        let permit = self.sender.reserve().await.map_err(|_| NotStored)?;
        Ok(Slot { permit })
    }

    /// Waits until the writer has come to all that was handed over before; the store is not touched for it.
    ///
    /// # Errors
    /// [`NotStored`] where the writer has ended.
    pub async fn come_round(&self) -> Result<(), NotStored> {
        let answer = self.reserve().await?.submit(Vec::new(), &Run::default());
        answer.await.map_err(|_| NotStored)?.map(|_| ())
    }
}

impl WriterQueue {
    /// The space of the store's disk.
    #[must_use]
    pub fn room(&self) -> Room {
        self.room.clone()
    }
}

impl Slot<'_> {
    /// Hands over at most [`BATCH_RECORDS_MAX`] operations of a connection; the receiver gets the answer.
    pub fn submit(self, operations: Vec<Operation>, run: &Run) -> oneshot::Receiver<Answer> {
        assert!(operations.len() <= BATCH_RECORDS_MAX, "the queue's memory bound counts on it");
        let (answer, receiver) = oneshot::channel();
        self.permit.send(Submission { operations, run: run.clone(), answer });
        receiver
    }
}

/// Starts the writer on a thread of its own; `wall_us` is the clock that it stamps groups with.
///
/// # Errors
/// [`io::Error`] where no thread can be started.
pub fn spawn(
    store: Box<dyn Store>,
    wall_us: fn() -> u64,
    runtime: Handle,
) -> io::Result<(WriterQueue, thread::JoinHandle<()>)> {
    spawn_within(store, wall_us, runtime, (Headroom::new(0), Box::new(|| None)))
}

/// As [`spawn`], with a headroom and what measures the space for it.
///
/// # Errors
/// As there.
pub fn spawn_within(
    store: Box<dyn Store>,
    wall_us: fn() -> u64,
    runtime: Handle,
    (headroom, measure): (Headroom, Measure),
) -> io::Result<(WriterQueue, thread::JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let room = Room::default();
    let writer = Writer {
        store,
        wall_us,
        receiver,
        failures: 0,
        headroom,
        measure,
        measured: None,
        room: room.clone(),
    };
    let thread = thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run(&runtime))?;
    Ok((WriterQueue { sender, room }, thread))
}

struct Writer {
    store: Box<dyn Store>,
    wall_us: fn() -> u64,
    receiver: mpsc::Receiver<Submission>,
    /// Groups that failed since the last that did not.
    failures: u64,
    headroom: Headroom,
    measure: Measure,
    measured: Option<Instant>,
    room: Room,
}

impl Writer {
    fn run(mut self, runtime: &Handle) {
        while let Some(first) = self.receiver.blocking_recv() {
            let group = runtime.block_on(self.gather(first));
            self.commit(group);
        }
    }

    /// Adds what arrives within [`GATHER`] to the first submission of a group.
    async fn gather(&mut self, first: Submission) -> Vec<Submission> {
        let until = Instant::now() + GATHER;
        let mut operations = first.operations.len();
        let mut group = vec![first];
        while operations + BATCH_RECORDS_MAX <= GROUP_OPERATIONS_MAX {
            match timeout_at(until, self.receiver.recv()).await {
                Ok(Some(submission)) => {
                    operations += submission.operations.len();
                    group.push(submission);
                }
                Ok(None) | Err(_) => break,
            }
        }
        group
    }

    /// Looks how much space there is, once in [`MEASURE`]; a measurement that fails leaves the one before.
    fn look_at_space(&mut self) {
        let now = Instant::now();
        if self.measured.is_some_and(|before| now < before + MEASURE) {
            return;
        }
        self.measured = Some(now);
        let Some(space) = (self.measure)() else { return };
        let turn = self.headroom.handle_space(space);
        let (free_bytes, needed_bytes) = (space.free_bytes, self.headroom.needed_bytes());
        let is_low = self.headroom.is_low();
        self.room.change(|it| {
            *it = RoomFacts { is_low, free_bytes, needed_bytes, ..*it };
        });
        let batches_refused = self.room.facts().batches_refused;
        match turn {
            Some(Turn::Low) => tracing::error!(
                free_bytes,
                needed_bytes,
                "the disk has too little space: records are not stored, agents keep them; make room, or lower \
                 store.retention_days or store.headroom"
            ),
            Some(Turn::Enough) => tracing::info!(
                free_bytes,
                needed_bytes,
                batches_refused,
                "the disk has space again: records are stored"
            ),
            None => {}
        }
    }

    fn commit(&mut self, group: Vec<Submission>) {
        self.look_at_space();
        let mut operations = Vec::new();
        let mut waiting = Vec::with_capacity(group.len());
        for Submission { operations: more, run, answer } in group {
            if run.broken.load(Ordering::Relaxed) {
                let _ = answer.send(Err(NotStored));
                continue;
            }
            if self.headroom.is_low() && more.iter().any(|it| matches!(it, Operation::Record(_))) {
                self.room.change(|it| it.batches_refused += 1);
                run.broken.store(true, Ordering::Relaxed);
                let _ = answer.send(Err(NotStored));
                continue;
            }
            waiting.push((more.len(), run, answer));
            operations.extend(more);
        }
        if operations.is_empty() {
            for (_, _, waiter) in waiting {
                let _ = waiter.send(Ok(Vec::new()));
            }
            return;
        }
        match self.store.commit(&operations, (self.wall_us)()) {
            Ok(answers) => {
                if self.failures > 0 {
                    tracing::info!(groups_failed = self.failures, "the store takes records again");
                    self.failures = 0;
                }
                let mut answers = answers.into_iter();
                for (count, _, waiter) in waiting {
                    // A connection that ended meanwhile does not wait for its answer.
                    let _ = waiter.send(Ok(answers.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                if self.failures.is_multiple_of(FAILURES_PER_LINE) {
                    tracing::error!(
                        %error,
                        groups_failed = self.failures,
                        "records are not stored; agents keep them and come back"
                    );
                }
                self.failures += 1;
                for (_, run, waiter) in waiting {
                    run.broken.store(true, Ordering::Relaxed);
                    let _ = waiter.send(Err(NotStored));
                }
            }
        }
    }
}

/// A full disk must not fill the log as well: the first failure and every thousandth are told.
const FAILURES_PER_LINE: u64 = 1_000;
