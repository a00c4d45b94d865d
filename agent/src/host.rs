//! The thread that watches the host: its load, and the interfaces that a call goes through.
//!
//! A shell: `course` says when to look and makes an interval of two looks, `figures` reads what the kernel writes,
//! [`crate::network`] knows interfaces. It looks every 10 s in a call, every 60 s outside, and once where a call or a
//! leg begins or ends; the agent's degradation makes that 60 s and 5 minutes. A thread of its own, since a sensor's
//! driver may take its time, or hang: then figures of the host are missing, and nothing else is. It keeps nothing on
//! disk: an agent that starts anew begins with a first look, and the time that it was away is in no interval.

pub mod course;
pub mod figures;
pub mod machine;

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use roomtone_protocol::id::CallId;
use roomtone_protocol::record::Record;
use tokio::sync::mpsc;

use crate::clock::system;
use crate::network::Network;
use crate::network::told::Told;
use course::Course;
use machine::Machine;

/// Words of the daemon on their way; a call has some legs, and a look takes a millisecond.
const WORDS_MAX: usize = 64;
/// Records on their way to the spool, at most: looks of a disk that hangs for some minutes.
const RECORDS_MAX: usize = 64;

/// What the thread is told.
#[derive(Debug, Clone, Copy)]
enum Word {
    CallOpened(CallId),
    /// A leg began at an address of this machine.
    Leg(CallId, IpAddr),
    CallClosed(CallId),
    /// Whether to do less.
    Spare(bool),
    Stop,
}

/// The watch before its thread runs.
pub struct HostWatch {
    machine: Machine,
    course: Course,
    network: Network,
    told: Told,
    words: Receiver<Word>,
    records: mpsc::Sender<Record>,
}

/// Tells the thread of calls, and ends it.
#[derive(Debug, Clone)]
pub struct Handle(SyncSender<Word>);

impl Handle {
    /// A call began.
    pub fn call_opened(&self, call: CallId) {
        self.send(Word::CallOpened(call));
    }

    /// A leg of it began, at an address of this machine.
    pub fn leg(&self, call: CallId, address: IpAddr) {
        self.send(Word::Leg(call, address));
    }

    /// It ended.
    pub fn call_closed(&self, call: CallId) {
        self.send(Word::CallClosed(call));
    }

    /// Asks the thread to look less often, or as often as before.
    pub fn spare(&self, is_sparing: bool) {
        self.send(Word::Spare(is_sparing));
    }

    /// Asks the thread to end, after a last look.
    pub fn stop(&self) {
        self.send(Word::Stop);
    }

    fn send(&self, word: Word) {
        match self.0.try_send(word) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::error!("the host watch hangs and hears of no call");
            }
            // It ended before.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl HostWatch {
    /// Finds sensors, and looks at nothing yet; `root` is `/` outside tests.
    #[must_use]
    pub fn new(root: &Path) -> (Self, Handle, mpsc::Receiver<Record>) {
        let (told, words) = sync_channel(WORDS_MAX);
        let (records, receiver) = mpsc::channel(RECORDS_MAX);
        let watch = Self {
            machine: Machine::new(root),
            course: Course::default(),
            network: Network::new(root),
            told: Told::default(),
            words,
            records,
        };
        (watch, Handle(told), receiver)
    }

    /// Watches until it is stopped or nobody listens any more.
    pub fn run(mut self) {
        self.look();
        loop {
            let due = self.course.poll_timeout();
            let wait = due.map_or(Duration::ZERO, |due| due.since(system::now()));
            match self.words.recv_timeout(wait) {
                Ok(Word::CallOpened(call)) => {
                    // Cut here: what was before the call is no part of it.
                    self.look();
                    self.told.handle_call_opened(call);
                    self.course.set_in_call(true);
                }
                Ok(Word::Leg(call, address)) => {
                    if self.told.handle_leg(call, address) {
                        self.look_at(call, address);
                    }
                }
                Ok(Word::CallClosed(call)) => {
                    self.look();
                    self.told.handle_call_closed(call);
                    self.course.set_in_call(false);
                }
                Ok(Word::Spare(is_sparing)) => self.course.set_sparing(is_sparing),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    let legs: Vec<_> = self.told.addresses().collect();
                    for (call, address) in legs {
                        self.look_at(call, address);
                    }
                }
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.look();
                    return;
                }
            }
            if self.records.is_closed() {
                return;
            }
        }
    }

    fn look(&mut self) {
        let mut look = self.machine.look();
        look.wifi_signal_dbm = self.network.default_signal_dbm();
        let (now, wall) = system::now_and_wall();
        if let Some(interval) = self.course.handle_look(look, now, wall) {
            self.record(Record::HostInterval(interval));
        }
    }

    fn look_at(&mut self, call: CallId, address: IpAddr) {
        let (now, wall) = system::now_and_wall();
        let seen = self.network.look(call, address, wall.stamp(now));
        if let Some(seen) = seen.filter(|seen| self.told.handle_seen(seen)) {
            self.record(Record::NetworkAttachment(seen));
        }
    }

    fn record(&mut self, record: Record) {
        // Waits where the disk hangs; an error means that nobody listens, which the loop sees.
        let _ = self.records.blocking_send(record);
    }
}
