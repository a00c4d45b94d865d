//! The thread that watches devices: sensor in, board, records out.
//!
//! It sleeps while no device is open and no call begins or ends. A shell: what happened is the sensor's to see and
//! the board's to judge. Before a record leaves, the state behind it is in the carry file, so that a process that is
//! killed in between tells the same episode again and not another one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roomtone_protocol::id::CallId;
use roomtone_protocol::record::Record;
use tokio::sync::mpsc;

use super::bell::Bell;
use super::board::{Board, Carry};
use super::constants::Thresholds;
use super::ears::Ears;
use super::inventory::Place;
use super::selftest::Report;
use super::sensor::{Sensor, Sighting};
use super::signal::{SelfTestOutcome, Signal};
use crate::clock::Moment;
use crate::clock::system;
use crate::events::Listened;

/// Calls open and close once in minutes; a thread that hangs in a disk for so long that these fill has lost its use.
const CALLS_MAX: usize = 64;
/// Records on their way to the spool, at most: one round of 128 devices.
const RECORDS_MAX: usize = 256;
/// How often the carry file follows the state while nothing is told: a kill costs at most this much, in which the
/// kernel's position tells whether the device moved.
const CARRY_EVERY: Duration = Duration::from_secs(2);
/// The largest carry file that is read: 128 devices of 1 KiB, four times.
const CARRY_BYTES_MAX: u64 = 512 * 1024;

/// What the media watch says of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It began at a moment.
    Opened(CallId, Moment),
    /// It ended at a moment.
    Closed(CallId, Moment),
}

/// What the thread is told.
#[derive(Debug, Clone, Copy)]
enum Message {
    Call(Call),
    /// A self-test said something of a device.
    Tested(Place, SelfTestOutcome, Moment),
    /// Whether to do less.
    Spare(bool),
    Stop,
}

/// What the watch needs to know beforehand.
#[derive(Debug, Clone)]
pub struct Options {
    /// `/` outside tests.
    pub root: PathBuf,
    /// Whether mixers are read too.
    pub with_mixers: bool,
    /// Whether microphones that calls use are listened to.
    pub with_levels: bool,
    /// When a device counts as not functioning.
    pub thresholds: Thresholds,
    /// Where the state lies that outlives the process.
    pub carry: PathBuf,
    /// How long a call of the process before waits for its continuation.
    pub call_idle: Duration,
    /// Random bits.
    pub seed: u64,
}

/// The watch before its thread runs.
pub struct DeviceWatch {
    sensor: Sensor,
    board: Board,
    ears: Option<Ears>,
    carry: PathBuf,
    /// This boot, as the kernel names it.
    boot: String,
    /// What a boot before left open.
    left_open: Vec<Record>,
    carry_due: Moment,
    /// The call that the file speaks of, once this process has written or removed it.
    kept: Option<Option<CallId>>,
    has_carry: bool,
    bell: Arc<Bell>,
    is_blind: Arc<AtomicBool>,
    is_sparing: bool,
    calls: Receiver<Message>,
    records: mpsc::Sender<Record>,
}

/// Tells the thread of calls, and ends it.
#[derive(Debug)]
pub struct Handle {
    bell: Arc<Bell>,
    is_blind: Arc<AtomicBool>,
    /// `None` where nobody listens along.
    listened: Option<Arc<Mutex<Listened>>>,
    calls: SyncSender<Message>,
}

impl Handle {
    /// A call began or ended.
    pub fn call(&self, call: Call) {
        self.send(Message::Call(call));
    }

    /// A self-test ended.
    pub fn self_test(&self, report: &Report, now: Moment) {
        let (capture, render) = report.verdicts();
        let told = [(report.capture_place, capture), (report.render_place, render)];
        for (place, verdict) in told {
            if let Some((place, verdict)) = place.zip(verdict) {
                self.send(Message::Tested(place, verdict, now));
            }
        }
    }

    /// Asks the thread not to listen along, or to do so again.
    pub fn spare(&self, is_sparing: bool) {
        self.send(Message::Spare(is_sparing));
    }

    /// Whether the machine shows no sound devices to watch.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.is_blind.load(Ordering::Relaxed)
    }

    /// What came of listening along so far; `None` where nobody listens.
    #[must_use]
    pub fn listened(&self) -> Option<Listened> {
        let listened = self.listened.as_ref()?;
        Some(*listened.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the thread to end, after all calls that it was told of.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        match self.calls.try_send(message) {
            Ok(()) => self.bell.ring(),
            Err(TrySendError::Full(_)) => {
                tracing::error!("the device watch hangs and hears of no call or self-test");
            }
            // It ended before and said so.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl DeviceWatch {
    /// Reads what a process before left, and nothing else yet.
    ///
    /// # Errors
    /// Where the kernel has no descriptor left.
    pub fn new(options: &Options) -> io::Result<(Self, Handle, mpsc::Receiver<Record>)> {
        let bell = Arc::new(Bell::new()?);
        let is_blind = Arc::new(AtomicBool::new(false));
        let (calls, told) = sync_channel(CALLS_MAX);
        let (records, receiver) = mpsc::channel(RECORDS_MAX);
        let mut board = Board::new(std::process::id(), options.seed, options.thresholds.clone());
        let now = system::now();
        let boot = boot(&options.root);
        let mut left_open = Vec::new();
        let has_carry = match read_carry(&options.carry) {
            Ok(carry) if carry.boot != boot => {
                left_open = carry.unrecovered();
                tracing::info!(ended = left_open.len(), "the machine was started anew");
                true
            }
            Ok(carry) => {
                let taken = board.restore(carry, options.call_idle, now);
                tracing::info!(taken, "a device state of the process before was found");
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(%error, "the device state of the process before is unreadable");
                true
            }
        };
        // Another seed than the board's, by one bit.
        let ears = options.with_levels.then(|| Ears::new(Arc::clone(&bell), options.seed ^ 1));
        let listened = ears.as_ref().map(Ears::listened);
        let watch = Self {
            sensor: Sensor::new(&options.root, options.with_mixers),
            board,
            ears,
            carry: options.carry.clone(),
            boot,
            left_open,
            carry_due: now,
            kept: None,
            has_carry,
            bell: Arc::clone(&bell),
            is_blind: Arc::clone(&is_blind),
            is_sparing: false,
            calls: told,
            records,
        };
        Ok((watch, Handle { bell, is_blind, listened, calls }, receiver))
    }

    /// Watches until it is stopped or nobody listens any more.
    pub fn run(mut self) {
        let first = self.sensor.look();
        if let Some(absent) = self.sensor.absent() {
            tracing::info!("{absent}");
        }
        for card in self.sensor.forbidden() {
            tracing::warn!(card, "no permission for the mixer; {NO_PERMISSION}");
        }
        self.handle(first);
        self.board.handle_first_look(system::now());
        tracing::info!(devices = self.board.views().len(), "watching devices");
        let mut goes_on = true;
        while goes_on && self.hand_on() {
            self.is_blind.store(self.sensor.absent().is_some(), Ordering::Relaxed);
            let heard = self.ears.as_ref().and_then(Ears::due);
            let due = self.board.poll_timeout().map(|(at, _)| at).into_iter().chain(heard).min();
            let seen = self.sensor.wait(self.bell.as_fd(), due);
            self.bell.hush();
            self.handle(seen);
            while let Ok(message) = self.calls.try_recv() {
                match message {
                    Message::Call(Call::Opened(call, at)) => {
                        self.board.handle_call_opened(call, at);
                    }
                    Message::Call(Call::Closed(call, at)) => {
                        self.board.handle_call_closed(call, at);
                    }
                    Message::Tested(place, outcome, at) => {
                        self.board.handle_own(place, &Signal::SelfTest(outcome), at);
                    }
                    Message::Spare(is_sparing) => self.is_sparing = is_sparing,
                    Message::Stop => goes_on = false,
                }
            }
            let in_call = self.board.call().is_some();
            if let Some(ears) = &mut self.ears {
                ears.look(&mut self.board, in_call && !self.is_sparing);
            }
            self.board.handle_timeout(system::now());
            self.sensor.set_in_call(in_call);
        }
        self.hand_on();
    }

    fn handle(&mut self, seen: Vec<Sighting>) {
        for sighting in seen {
            if let Some(ears) = &mut self.ears {
                ears.handle_sighting(&sighting);
            }
            self.board.handle_sighting(sighting);
        }
    }

    /// Keeps the state, then passes on what it says; false where nobody listens.
    fn hand_on(&mut self) -> bool {
        // Before the file of that boot is replaced.
        for record in self.left_open.drain(..) {
            if self.records.blocking_send(record).is_err() {
                return false;
            }
        }
        let now = system::now();
        // Outside of a call only what is told changes what must be kept, and a week of it is no reason to write.
        let call = self.board.call();
        let is_due = Some(call) != self.kept || (call.is_some() && now >= self.carry_due);
        if self.board.has_told() || is_due {
            self.keep(now);
        }
        let wall = system::now_and_wall().1;
        while let Some(told) = self.board.poll_told() {
            if self.records.blocking_send(told.record(wall)).is_err() {
                return false;
            }
        }
        true
    }

    fn keep(&mut self, now: Moment) {
        self.carry_due = now + CARRY_EVERY;
        self.kept = Some(self.board.call());
        let wall = system::now_and_wall().1;
        let kept = match self.board.carry(now, wall) {
            Some(mut carry) => {
                carry.boot.clone_from(&self.boot);
                write_carry(&self.carry, &carry).map(|()| self.has_carry = true)
            }
            None if self.has_carry => fs::remove_file(&self.carry).map(|()| self.has_carry = false),
            None => Ok(()),
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "the device state cannot be kept: a restart in mid-call would lose it");
        }
    }
}

/// What an operator must do where `/dev/snd` is closed to the agent.
pub const NO_PERMISSION: &str =
    "mutes and volumes stay unknown until the agent's user is in the group audio";

fn read_carry(path: &Path) -> io::Result<Carry> {
    use std::io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?.take(CARRY_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// The kernel's name of this boot; empty where it does not tell.
fn boot(root: &Path) -> String {
    let text = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id"));
    text.map(|text| text.trim().chars().take(BOOT_CHARS_MAX).collect()).unwrap_or_default()
}

/// A boot's name is a UUID.
const BOOT_CHARS_MAX: usize = 36;

/// Whole or not at all. Not synced: it outlives the process, and after a power cut its clock means nothing.
fn write_carry(path: &Path, carry: &Carry) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(carry)?)?;
    fs::rename(new, path)
}
