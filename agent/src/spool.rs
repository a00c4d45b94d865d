//! The spool: every record is on this endpoint's disk before it is sent, and stays until the collector has it.
//!
//! # The promise
//! *Accepted = stored once at the collector + reported lost.* A record is accepted when [`Spool::append`] has returned
//! its id. From then on it is delivered, or a [`LossReceipt`] names it. Two moments are told apart:
//! - `append` has returned: the frame is in the page cache and survives the agent (kill -9, panic), not the machine.
//! - [`Spool::sync`] has returned: it survives a power cut. The daemon calls it at most once a second, so a power cut
//!   costs at most the last second, of which nobody outside has heard: **only synced records are ever read and sent**.
//!
//! Nothing ever asks a person to delete a file. What cannot be read is set aside, counted, reported, and the rest
//! goes on.
//!
//! # On disk
//! ```text
//! spool/                                             mode 0700, one process at a time
//!   lock                                             empty, flock(2)
//!   ledger                                           two slots, written in turn
//!   0000000000000001-9f3a6c01-00000000-00000733.seg  sealed: counter-epoch-first-end, all in hex; `end` is exclusive
//!   0000000000000002-9f3a6c01-00000733.open          the newest, still growing
//!   ledger.new, *.open.new                           replacements that a crash interrupted; removed at the next start
//!   quarantine/                                      what was set aside, at most 8 files and 4 MiB
//! ```
//! The counter never repeats within a ledger's life, so the order of names is the order of age. A name says all that
//! start-up needs; contents are looked at when they are read, except those of `.open` files, of which there is one
//! (two or three after a crash in an unlucky moment). Start-up therefore costs one directory listing, whatever the
//! backlog.
//!
//! A segment is a header and frames as they go over the wire (`protocol/src/frame.rs`), all of one epoch, their
//! sequences without gaps. All numbers are little-endian.
//! ```text
//!  0        4         5       8         16      20      24       28
//!  | "RTSG" | version | 0 0 0 | counter | epoch | first | CRC32C | frame | frame | ...
//! ```
//! The ledger is what no segment can tell. Slots lie at 0 and 4096; the generation says which is newer.
//! ```text
//!  0        4         5   6        8            16      17       18    20
//!  | "RTSL" | version | 0 | length | generation | lives | losses | 0 0 | life ... | loss ... | CRC32C |
//!  length: all before the CRC; these first 8 bytes and the CRC are the same in all versions
//!  life: | epoch 4 | acked 4 | end 4 |                     oldest first, the last is being written
//!  loss: | epoch 4 | first 4 | end 4 | cause 1 | wall 8 | uptime 8 | has receipt 1 | its epoch 4 | its sequence 4 |
//! ```
//! `acked`: all below is at the collector. `end`: all below was made durable. A loss stays until its receipt is
//! acknowledged, so that a receipt that is itself lost is written again.
//!
//! # Rules
//! 1. **Ledger first.** A decision is durable in the ledger before anything acts on it: an ack before segments are
//!    unlinked, a loss before its segment is shed, `end` before its records are sent. Slots are overwritten in place,
//!    so none of this needs free space.
//! 2. **Numbers never go back.** The next sequence after any crash is at least `end`, and only records below `end` were
//!    sent. Numbers above it may be given again: nobody outside has seen them.
//! 3. **Damage** costs the records that it hit. Behind it the next whole frame is looked for; the records between are
//!    lost as `Corrupt`. The file is kept readable until it is acknowledged, then goes to quarantine instead of being
//!    unlinked. A bad header or a later format version sets the whole file aside at once. A segment that is missing
//!    altogether is noticed at start-up by its gap.
//! 4. **A torn tail** (an `.open` file that ends in the middle of a frame) is cut. It is no loss if it is at or above
//!    `end`: the write never finished, or finished in the page cache only and was never promised to survive. It is
//!    `Torn` where whole frames stand behind the hole: then the records in it had been accepted. Below `end` it is
//!    `Corrupt`, like any other damage.
//! 5. **A failed fsync** is never repeated on that file, since the kernel reports it once and calls the pages clean.
//!    All frames since the last sync are still in memory (64 KiB at most); they are written to a new segment, which is
//!    synced instead, and the old one ends by name at the last durable record. The same holds for the ledger: after a
//!    failed fsync it is replaced by a new file. At start-up an `.open` file that goes beyond `end` is copied rather
//!    than synced: the process that was killed may have been told of a failure that this one would never hear of.
//! 6. **A failed write** is cut back. On a full disk the oldest segment is shed and the write repeated; on other errors
//!    a new segment is tried. If that fails too, `append` says so; the record's number is spent and reported lost as
//!    `WriteFailed` as soon as the disk takes writes again.
//! 7. **Caps.** Above `bytes_max`, or below the floors of free bytes and inodes, whole oldest segments are shed and
//!    reported as `Shed`. The newest segment is always kept. Shedding by class (good calls' intervals first, call
//!    summaries and device episodes last) is not there yet.
//! 8. **A new epoch** begins where the ledger is lost or of a later version, where the sequence nears its end, and
//!    where a collector acknowledges what was never written: either it is mad, or this disk has forgotten what it had
//!    promised; in both cases the numbers are not safe. Such an ack is refused; once the epoch has ended it is taken
//!    for "all of it", so that a forgetful disk costs one connection and not all of them.
//! 9. **Receipts are sets.** A range may be reported twice, alone or as part of a larger one (after a crash, or when
//!    neighbours are shed too); it never names a record that is sent after it. A receipt stands behind the gap that it
//!    explains, so a collector must acknowledge across gaps. At most 32 ranges wait for the ack of their receipts;
//!    where damage makes more, the two closest become one and the records between them are given up with them.
//!
//! Acks move a watermark per epoch. They are durable with the next sync, or at once where a segment can go: a crash in
//! between makes the uplink send a second's records again, which changes nothing.
//!
//! # What it leaves out
//! No threads, timers or wake-ups: the daemon calls. No compression (frames are small and packed). One reader.

mod catalog;
mod disk;
mod engine;
mod ledger;
mod read;
mod recover;
mod segment;
mod write;

#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use roomtone_protocol::ack::Ack;
use roomtone_protocol::error::EncodeError;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
#[allow(unused_imports, reason = "the head of this file links to it")]
use roomtone_protocol::loss::LossReceipt;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use self::disk::FileDisk;
use self::engine::Engine;

/// How much of the disk the spool may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of all segments; at least 64 KiB is used.
    pub bytes_max: u64,
    /// Sheds when fewer bytes than this are free on the file system.
    pub headroom_bytes: u64,
    /// Sheds when fewer inodes than this are free, where the file system counts them.
    pub inodes_min: u64,
    /// Begins a new segment at this length; at most a quarter of `bytes_max` and at least 8 KiB is used.
    pub segment_bytes: u64,
}

impl Default for Limits {
    /// 100 MiB, 10 MiB, 100 inodes: what memfaultd ships as `tmp_dir_max_usage`, `min_headroom`, `min_inodes`.
    /// Segments of 256 KiB lose at most 1/400 of the backlog when one is shed.
    fn default() -> Self {
        Self {
            bytes_max: 100 << 20,
            headroom_bytes: 10 << 20,
            inodes_min: 100,
            segment_bytes: 256 << 10,
        }
    }
}

/// A place in the sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch. Epochs have no order by value; the spool knows their age.
    pub epoch: Epoch,
    /// The record's number in it.
    pub sequence: Sequence,
}

/// What was found when the spool was opened: one line for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Segments kept.
    pub segments: u64,
    /// Records in them that are not acknowledged.
    pub records: u64,
    /// Whether a new epoch began.
    pub new_epoch: bool,
    /// Bytes cut off torn tails.
    pub torn_bytes: u64,
    /// Records found to be lost.
    pub lost: u64,
    /// Files set aside in `quarantine/`.
    pub quarantined: u64,
    /// Files in the directory that are not the spool's; they are left alone.
    pub foreign: u64,
}

/// The state of the spool, for the agent's own telemetry. Counts are since [`Spool::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolStats {
    /// Bytes of all segments now.
    pub bytes: u64,
    /// Records held now that are not acknowledged.
    pub records: u64,
    /// Segments now.
    pub segments: u64,
    /// Records shed.
    pub shed: u64,
    /// Records lost for other reasons.
    pub lost: u64,
    /// Records refused because the disk took no writes; they are among the lost.
    pub refused: u64,
    /// Files set aside.
    pub quarantined: u64,
    /// Times that the disk failed to make data durable and a new file was written instead.
    pub sync_failures: u64,
}

/// What went wrong, split by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be made or used. Tell the operator and stop.
    #[error("cannot use {} as spool directory: check that it is a directory and writable", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it. Tell the operator and stop.
    #[error("spool directory {} is in use by another agent: stop that one or set another directory", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The disk refused a record. It is counted and will be reported lost; go on.
    #[error("spool refused record {sequence} of epoch {epoch}")]
    Refused {
        /// The number that it would have had.
        epoch: Epoch,
        /// See `epoch`.
        sequence: Sequence,
        /// Why.
        source: io::Error,
    },
    /// The disk failed; the spool is as before. Go on, the next call tries again.
    #[error("spool could not {action}")]
    Disk {
        /// What it was about to do.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The record is too large for a frame: a mistake of the agent's own. Drop it.
    #[error("record does not fit into a frame")]
    Encode(#[source] EncodeError),
    /// The collector acknowledges what was never written. End the connection.
    #[error("ack up to {next} of epoch {epoch}, but only {end} records were sent")]
    AckBeyond {
        /// The epoch of the ack.
        epoch: Epoch,
        /// Its end.
        next: Sequence,
        /// One past the last record that may have been sent.
        end: Sequence,
    },
    /// The collector acknowledges an epoch that this spool never had. End the connection.
    #[error("ack for epoch {epoch}, which this spool does not know")]
    AckUnknown {
        /// The epoch of the ack.
        epoch: Epoch,
    },
}

/// The spool of one agent. See the head of this file.
pub struct Spool(Engine<FileDisk>);

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens the spool in `directory`, which is made (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::Directory`], [`SpoolError::Locked`].
    pub fn open(
        directory: &Path,
        limits: Limits,
        now: Stamp,
    ) -> Result<(Self, Recovery), SpoolError> {
        let disk = FileDisk::open(directory)?;
        let (engine, recovery) = Engine::open(disk, limits, now)
            .map_err(|source| SpoolError::Directory { path: directory.to_owned(), source })?;
        Ok((Self(engine), recovery))
    }

    /// Appends a record and returns its id. In the page cache when it returns.
    ///
    /// Receipts for what was lost since are written first, so that the id may be beyond [`Self::position`].
    /// Syncs by itself when 64 KiB are waiting for it.
    ///
    /// # Errors
    /// [`SpoolError::Refused`] where the disk takes no writes, [`SpoolError::Encode`], [`SpoolError::Disk`] where a new
    /// epoch was due and could not begin.
    pub fn append(&mut self, record: Record, now: Stamp) -> Result<RecordId, SpoolError> {
        self.0.append(record, now)
    }

    /// Makes durable, and thereby readable, what was appended since the last time. Costs nothing where nothing was.
    ///
    /// # Errors
    /// [`SpoolError::Disk`]: nothing is lost yet, and the next call tries a new file.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.0.sync()
    }

    /// The next record to be written.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position()
    }

    /// The oldest record that is held and not acknowledged, or [`Self::position`] where there is none.
    #[must_use]
    pub fn oldest(&self) -> Position {
        self.0.oldest()
    }

    /// Appends whole frames from `from` on to `buffer` and returns the position behind the last one.
    ///
    /// `from` itself means that there is nothing more to read until the next [`Self::sync`]. Goes on at the next
    /// record that exists where `from` is gone, or its epoch ended, or is unknown. Appends at most `bytes_max` bytes,
    /// but always one frame where there is one; all frames of one call are from one segment.
    ///
    /// # Errors
    /// [`SpoolError::Disk`] where the disk failed; `buffer` is as before.
    pub fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, SpoolError> {
        self.0.read(from, buffer, bytes_max)
    }

    /// Takes the collector's word for it: records below `ack` are no longer needed.
    ///
    /// Cumulative within an epoch; an ack of one epoch says nothing about another. Acks that go back are ignored.
    ///
    /// # Errors
    /// [`SpoolError::AckBeyond`] and [`SpoolError::AckUnknown`]: end the connection. [`SpoolError::Disk`] where the
    /// watermark could not be made durable: nothing was unlinked.
    pub fn acknowledge(&mut self, ack: Ack) -> Result<(), SpoolError> {
        self.0.acknowledge(ack)
    }

    /// What it holds and what became of the rest.
    #[must_use]
    pub fn stats(&self) -> SpoolStats {
        self.0.stats()
    }
}
