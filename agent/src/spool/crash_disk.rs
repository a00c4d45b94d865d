//! A disk in memory for the tests, which can stop the machine at any call and forgets as real disks do.
//!
//! The model, for each file: what is durable, and the writes since the last sync. A kill keeps all of it. A power cut
//! keeps what is durable and of the later writes any part: none, some, a prefix, or zeros in their place. Names follow
//! the journal: a power cut keeps a prefix of the changes since the last sync of the directory. A failed sync drops the
//! pending writes for good although reading still shows them, and the next sync succeeds: the kernel's behaviour.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use roomtone_protocol::id::Epoch;

use super::disk::{Disk, Entry, Folder, Free, QUARANTINE};

/// A small generator (xorshift64*): the tests need repeatable choices, not good ones.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub(super) fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate { bytes } => data.truncate(*bytes),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

type Names = BTreeMap<String, usize>;

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: Names,
    durable_names: Names,
    /// The whole table after each change since the last sync.
    journal: Vec<Names>,
}

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The machine or process stops at the call of that number, counted from now.
    StopAt(u64),
    /// The disk takes no more than that many bytes in all.
    Capacity(u64),
    /// That many syncs of data fail.
    Syncs(u64),
    /// That many writes fail with EIO, after half of the bytes.
    Writes(u64),
}

/// See the head of this file. Clones share the disk, so that a test keeps it while the engine owns one.
#[derive(Debug, Clone, Default)]
pub(super) struct CrashDisk {
    state: Rc<RefCell<State>>,
    dice: Rc<RefCell<Option<Dice>>>,
    stop_in: Rc<Cell<Option<u64>>>,
    capacity: Rc<Cell<Option<u64>>>,
    failing_syncs: Rc<Cell<u64>>,
    failing_writes: Rc<Cell<u64>>,
    epochs: Rc<Cell<u32>>,
    calls: Rc<Cell<u64>>,
}

impl CrashDisk {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Self::default();
        *disk.dice.borrow_mut() = Some(Dice::new(seed));
        disk
    }

    fn roll(&self, bound: u64) -> u64 {
        self.dice.borrow_mut().as_mut().map_or(0, |dice| dice.roll(bound))
    }

    pub(super) fn inject(&self, fault: Fault) {
        match fault {
            Fault::StopAt(calls) => self.stop_in.set(Some(calls)),
            Fault::Capacity(bytes) => self.capacity.set(Some(bytes)),
            Fault::Syncs(count) => self.failing_syncs.set(count),
            Fault::Writes(count) => self.failing_writes.set(count),
        }
    }

    /// Ends all faults but a stop that has happened.
    pub(super) fn heal(&self) {
        self.stop_in.set(self.stop_in.get().filter(|calls| *calls == 0));
        self.capacity.set(None);
        self.failing_syncs.set(0);
        self.failing_writes.set(0);
    }

    /// Whether the machine stands still: every call fails until it is started again.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop_in.get() == Some(0)
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// The process was killed: the page cache stays.
    pub(super) fn restart_process(&self) {
        self.stop_in.set(None);
        self.heal();
    }

    /// The machine lost power: what was not durable is kept, torn, or gone.
    pub(super) fn cut_power(&self) {
        self.restart_process();
        let mut state = self.state.borrow_mut();
        let kept = self.roll(state.journal.len() as u64 + 1) as usize;
        if kept > 0 {
            state.durable_names = state.journal[kept - 1].clone();
        }
        state.journal.clear();
        state.names = state.durable_names.clone();
        for content in &mut state.contents {
            for mut change in std::mem::take(&mut content.pending) {
                match self.roll(4) {
                    0 => continue,
                    1 => {
                        if let Change::Write { bytes, .. } = &mut change {
                            bytes.truncate(self.roll(bytes.len() as u64 + 1) as usize);
                        }
                    }
                    2 => {
                        if let Change::Write { bytes, .. } = &mut change {
                            let from = self.roll(bytes.len() as u64 + 1) as usize;
                            bytes[from..].fill(0);
                        }
                    }
                    _ => {}
                }
                change.apply(&mut content.durable);
            }
            content.cached = content.durable.clone();
        }
    }

    /// The names of the spool's folder.
    pub(super) fn names(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// The content of a file.
    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state.borrow();
        state.contents[state.names[name]].cached.clone()
    }

    /// Changes a file's bytes behind everyone's back, durably.
    pub(super) fn tamper(&self, name: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.borrow_mut();
        let at = state.names[name];
        let content = &mut state.contents[at];
        with(&mut content.cached);
        content.durable = content.cached.clone();
        content.pending.clear();
    }

    /// Removes a file behind everyone's back.
    pub(super) fn snatch(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        state.names.remove(name);
        state.durable_names.remove(name);
        state.journal.iter_mut().for_each(|names| {
            names.remove(name);
        });
    }

    /// Counts a call; fails where the machine stops. Returns whether it stops *within* this very call.
    fn call(&self) -> io::Result<bool> {
        self.calls.set(self.calls.get() + 1);
        match self.stop_in.get() {
            None => Ok(false),
            Some(0) => Err(stopped()),
            Some(calls) => {
                self.stop_in.set(Some(calls - 1));
                Ok(calls == 1)
            }
        }
    }

    fn change_names(&self, change: impl FnOnce(&mut Names) -> io::Result<()>) -> io::Result<()> {
        // Stopping within a change of names means before it or after it.
        let stops = self.call()?;
        if stops && self.roll(2) == 0 {
            return Err(stopped());
        }
        let mut state = self.state.borrow_mut();
        change(&mut state.names)?;
        let names = state.names.clone();
        state.journal.push(names);
        if stops { Err(stopped()) } else { Ok(()) }
    }

    /// The bytes of all files.
    pub(super) fn used(&self) -> u64 {
        let state = self.state.borrow();
        state.names.values().map(|at| state.contents[*at].cached.len() as u64).sum()
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for CrashDisk {
    type File = usize;

    fn list(&self, folder: Folder) -> io::Result<Vec<Entry>> {
        self.call()?;
        let state = self.state.borrow();
        let inside = format!("{QUARANTINE}/");
        let entries = state.names.iter().filter_map(|(name, at)| {
            let name = match folder {
                Folder::Spool => Some(name.as_str()).filter(|name| !name.contains('/')),
                Folder::Quarantine => name.strip_prefix(&inside),
            };
            let bytes = state.contents[*at].cached.len() as u64;
            Some(Entry { name: name?.to_owned(), bytes })
        });
        Ok(entries.collect())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.contents.push(Content::default());
        let at = state.contents.len() - 1;
        drop(state);
        self.change_names(|names| {
            if names.contains_key(name) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            names.insert(name.to_owned(), at);
            Ok(())
        })?;
        Ok(at)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.call()?;
        self.state.borrow().names.get(name).copied().ok_or_else(missing)
    }

    fn read_at(&self, file: &usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let state = self.state.borrow();
        let data = &state.contents[*file].cached;
        let from = (offset as usize).min(data.len());
        let length = buffer.len().min(data.len() - from);
        buffer[..length].copy_from_slice(&data[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, file: &usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let stops = self.call()?;
        let mut taken = bytes.len();
        let mut result = Ok(());
        let grows = {
            let state = self.state.borrow();
            (offset + bytes.len() as u64).saturating_sub(state.contents[*file].cached.len() as u64)
        };
        if let Some(capacity) = self.capacity.get() {
            let room = capacity.saturating_sub(self.used());
            if grows > room {
                taken = (bytes.len() as u64).saturating_sub(grows - room) as usize;
                result = Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        if self.failing_writes.get() > 0 {
            self.failing_writes.set(self.failing_writes.get() - 1);
            taken = taken.min(bytes.len() / 2);
            result = Err(io::Error::other("i/o error"));
        }
        if stops {
            taken = self.roll(taken as u64 + 1) as usize;
            result = Err(stopped());
        }
        let change = Change::Write { offset: offset as usize, bytes: bytes[..taken].to_vec() };
        let content = &mut self.state.borrow_mut().contents[*file];
        change.apply(&mut content.cached);
        content.pending.push(change);
        result
    }

    fn truncate(&self, file: &usize, bytes: u64) -> io::Result<()> {
        let stops = self.call()?;
        let change = Change::Truncate { bytes: bytes as usize };
        let content = &mut self.state.borrow_mut().contents[*file];
        change.apply(&mut content.cached);
        content.pending.push(change);
        if stops { Err(stopped()) } else { Ok(()) }
    }

    fn sync_data(&self, file: &usize) -> io::Result<()> {
        let stops = self.call()?;
        let content = &mut self.state.borrow_mut().contents[*file];
        if self.failing_syncs.get() > 0 {
            self.failing_syncs.set(self.failing_syncs.get() - 1);
            content.pending.clear();
            return Err(io::Error::other("i/o error"));
        }
        if !stops || self.roll(2) == 0 {
            for change in std::mem::take(&mut content.pending) {
                change.apply(&mut content.durable);
            }
        }
        if stops { Err(stopped()) } else { Ok(()) }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let stops = self.call()?;
        if !stops || self.roll(2) == 0 {
            let mut state = self.state.borrow_mut();
            state.durable_names = state.names.clone();
            state.journal.clear();
        }
        if stops { Err(stopped()) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(|names| {
            let at = names.remove(from).ok_or_else(missing)?;
            names.insert(to.to_owned(), at);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(|names| names.remove(name).map(|_| ()).ok_or_else(missing))
    }

    fn free(&self) -> io::Result<Free> {
        self.call()?;
        let bytes = self.capacity.get().map_or(u64::MAX, |all| all.saturating_sub(self.used()));
        Ok(Free { bytes, inodes: None })
    }

    fn draw_epoch(&self) -> io::Result<Epoch> {
        self.call()?;
        self.epochs.set(self.epochs.get() + 1);
        Ok(Epoch(0xe000_0000 + self.epochs.get()))
    }
}
