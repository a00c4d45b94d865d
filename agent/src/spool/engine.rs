//! Joins ledger, catalog and disk: the state of an open spool, and what acks do to it.
//!
//! Writing is in `write`, reading in `read`, opening in `recover`. Invariants between calls:
//! - `readable <= next`, and the frames of `readable..` that were accepted are in `unsynced`, without gaps;
//! - `ledger.current().end <= readable`'s durable truth: an end is only set after its frames were synced;
//! - the active segment, if any, is the last one of the catalog.

use std::io;
use std::ops::Range;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::id::{Epoch, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::loss::LossCause;
use roomtone_protocol::time::Stamp;

use super::catalog::{Catalog, Segment};
use super::disk::{Disk, Folder, QUARANTINE};
use super::ledger::{Ledger, Life, Loss, SLOT_BYTES};
use super::read::Cursor;
use super::segment::HEADER_BYTES;
use super::{Limits, Position, SpoolError, SpoolStats};

/// The ledger's file.
pub(super) const LEDGER: &str = "ledger";
/// Where its replacement is written before it is renamed.
pub(super) const LEDGER_NEW: &str = "ledger.new";
/// The most files in quarantine; enough to see what a disk does, without a second spool beside the first.
const QUARANTINE_FILES_MAX: usize = 8;
/// The most bytes in quarantine: twice what that many default segments have.
const QUARANTINE_BYTES_MAX: u64 = 4 << 20;
/// The least `bytes_max`: four of the smallest segments, with room for the frame that overflows the last.
const BYTES_MAX_MIN: u64 = 64 << 10;
/// The least segment: its header and the largest frame, rounded up.
const SEGMENT_BYTES_MIN: u64 = 8 << 10;
const _: () = assert!(SEGMENT_BYTES_MIN >= (HEADER_BYTES + FRAME_BYTES_MAX) as u64);

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Active<F> {
    /// Its counter: the key into the catalog.
    pub counter: u64,
    /// The file.
    pub file: F,
    /// Whether a write or sync failed, so that nothing more may be written to it or believed of it.
    pub poisoned: bool,
}

/// An open spool on any disk.
pub(super) struct Engine<D: Disk> {
    pub(super) disk: D,
    pub(super) limits: Limits,
    pub(super) catalog: Catalog,
    pub(super) ledger: Ledger,
    /// `None` where the file must be replaced as a whole.
    pub(super) ledger_file: Option<D::File>,
    /// Whether the ledger holds what its file does not.
    pub(super) ledger_dirty: bool,
    /// Whether names were changed since the directory was synced.
    pub(super) directory_dirty: bool,
    pub(super) active: Option<Active<D::File>>,
    /// The sequence of the next record.
    pub(super) next: u32,
    /// All records of the current epoch below are durable, by data, name and ledger.
    pub(super) readable: u32,
    /// The frames from `readable` on.
    pub(super) unsynced: Vec<u8>,
    pub(super) cursor: Option<Cursor<D::File>>,
    /// The counter of the next segment.
    pub(super) counter: u64,
    /// Whether the current epoch's numbers cannot be trusted any more.
    pub(super) doubted: bool,
    /// The last `now` that a caller gave.
    pub(super) now: Stamp,
    /// Room for one frame.
    pub(super) frame: Box<[u8]>,
    pub(super) counts: Counts,
}

/// What is counted since the spool was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub shed: u64,
    pub lost: u64,
    pub refused: u64,
    pub quarantined: u64,
    pub sync_failures: u64,
}

/// Brings limits into the range that the spool can keep.
pub(super) fn normalise(limits: Limits) -> Limits {
    let bytes_max = limits.bytes_max.max(BYTES_MAX_MIN);
    let segment_bytes = limits.segment_bytes.clamp(SEGMENT_BYTES_MIN, bytes_max / 4);
    Limits { bytes_max, segment_bytes, ..limits }
}

impl<D: Disk> Engine<D> {
    /// See [`Spool::position`](super::Spool::position).
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch(), sequence: Sequence(self.next) }
    }

    /// See [`Spool::oldest`](super::Spool::oldest).
    pub(super) fn oldest(&self) -> Position {
        let held = self.catalog.segments().iter().find_map(|segment| {
            let epoch = segment.name.epoch;
            let first = self.ledger.lost_until(epoch, self.unacknowledged(segment).first);
            (first < segment.end).then_some(Position { epoch, sequence: Sequence(first) })
        });
        held.unwrap_or_else(|| self.position())
    }

    /// See [`Spool::stats`](super::Spool::stats).
    pub(super) fn stats(&self) -> SpoolStats {
        let segments = self.catalog.segments();
        SpoolStats {
            bytes: self.catalog.bytes(),
            records: segments.iter().map(|segment| self.records_held(segment)).sum(),
            segments: segments.len() as u64,
            shed: self.counts.shed,
            lost: self.counts.lost,
            refused: self.counts.refused,
            quarantined: self.counts.quarantined,
            sync_failures: self.counts.sync_failures,
        }
    }

    /// See [`Spool::acknowledge`](super::Spool::acknowledge).
    pub(super) fn acknowledge(&mut self, ack: Ack) -> Result<(), SpoolError> {
        let epoch = ack.epoch;
        let life = self.ledger.life(epoch).ok_or(SpoolError::AckUnknown { epoch })?;
        let mut next = ack.next.0;
        if epoch == self.epoch() && next > self.readable {
            self.doubted = true;
            let end = Sequence(self.readable);
            return Err(SpoolError::AckBeyond { epoch, next: ack.next, end });
        }
        if epoch != self.epoch() {
            next = next.min(life.end);
        }
        if next <= life.acked {
            return Ok(());
        }
        self.ledger.acknowledge(epoch, next);
        self.ledger_dirty = true;
        self.discard_done().map_err(|source| SpoolError::Disk { action: "record an ack", source })
    }

    /// Removes the sealed segments that hold nothing which is still to be sent.
    pub(super) fn discard_done(&mut self) -> io::Result<()> {
        let segments = self.catalog.segments().iter();
        let done: Vec<u64> = segments
            .filter(|segment| !self.is_active(segment) && self.records_held(segment) == 0)
            .map(|segment| segment.name.counter)
            .collect();
        if done.is_empty() {
            return Ok(());
        }
        if self.ledger_dirty {
            self.write_ledger()?;
        }
        for counter in done {
            self.discard(counter);
        }
        Ok(())
    }

    /// Takes a segment out of the catalog and out of the directory, whose ledger already says that it is not needed.
    ///
    /// A file that cannot be removed, or comes back in a power cut, is removed by the next start.
    pub(super) fn discard(&mut self, counter: u64) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.counter == counter) {
            self.cursor = None;
        }
        let Some(at) = self.catalog.find(counter) else { return };
        let segment = self.catalog.remove(at);
        let name = segment.name.to_string();
        if segment.damaged {
            self.quarantine(&name, &name);
        } else {
            let _ = self.disk.remove(&name);
        }
        self.directory_dirty = true;
    }

    /// Sets a file aside, and makes room there by dropping what was set aside first.
    pub(super) fn quarantine(&mut self, name: &str, as_name: &str) {
        self.counts.quarantined += 1;
        self.directory_dirty = true;
        if self.disk.rename(name, &format!("{QUARANTINE}/{as_name}")).is_err() {
            let _ = self.disk.remove(name);
        }
        self.trim_quarantine(QUARANTINE_FILES_MAX, QUARANTINE_BYTES_MAX);
    }

    /// Drops the oldest files of the quarantine until it holds no more than that.
    pub(super) fn trim_quarantine(&mut self, files_max: usize, bytes_max: u64) {
        let Ok(mut entries) = self.disk.list(Folder::Quarantine) else { return };
        entries.sort_by(|a, b| b.name.cmp(&a.name));
        let mut bytes = 0;
        for (at, entry) in entries.iter().enumerate() {
            bytes += entry.bytes;
            if at >= files_max || bytes > bytes_max {
                let _ = self.disk.remove(&format!("{QUARANTINE}/{}", entry.name));
            }
        }
    }

    /// Gives up what is not yet accounted for in that range; the ledger is not written yet.
    pub(super) fn lose(&mut self, epoch: Epoch, first: u32, end: u32, cause: LossCause) {
        let wanted = Life { epoch, acked: first, end };
        for Range { start, end } in self.ledger.unaccounted(wanted, &[]) {
            let records = u64::from(end - start);
            let noticed = self.now;
            self.ledger.lose(Loss { epoch, first: start, end, cause, noticed, receipt: None });
            self.ledger_dirty = true;
            match cause {
                LossCause::Shed => self.counts.shed += records,
                LossCause::Corrupt | LossCause::Torn | LossCause::WriteFailed => {
                    self.counts.lost += records;
                }
            }
        }
    }

    /// Makes the ledger durable: in place, in the slot whose turn it is, or as a new file where that fails.
    pub(super) fn write_ledger(&mut self) -> io::Result<()> {
        self.ledger.generation += 1;
        let bytes = self.ledger.encode();
        let offset = (self.ledger.generation % 2) as usize * SLOT_BYTES;
        if let Some(file) = self.ledger_file.take() {
            let written = self.disk.write_at(&file, offset as u64, &bytes);
            match written.and_then(|()| self.disk.sync_data(&file)) {
                Ok(()) => self.ledger_file = Some(file),
                Err(_) => self.counts.sync_failures += 1,
            }
        }
        if self.ledger_file.is_none() {
            self.ledger_file = Some(self.replace_ledger(offset, &bytes)?);
        }
        self.ledger_dirty = false;
        Ok(())
    }

    fn replace_ledger(&mut self, offset: usize, slot: &[u8]) -> io::Result<D::File> {
        // Both slots take their room on the disk now, so that overwriting them later needs none.
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        bytes[offset..offset + slot.len()].copy_from_slice(slot);
        // Left by a crash, or not there at all.
        let _ = self.disk.remove(LEDGER_NEW);
        let file = self.disk.create(LEDGER_NEW)?;
        self.disk.write_at(&file, 0, &bytes)?;
        self.disk.sync_data(&file)?;
        self.disk.rename(LEDGER_NEW, LEDGER)?;
        self.disk.sync_directory()?;
        Ok(file)
    }

    /// The current epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.ledger.current().epoch
    }

    /// Whether it is the segment that grows.
    pub(super) fn is_active(&self, segment: &Segment) -> bool {
        self.active.as_ref().is_some_and(|active| active.counter == segment.name.counter)
    }

    /// The segment's records that are not acknowledged, lost ones among them.
    pub(super) fn unacknowledged(&self, segment: &Segment) -> Held {
        let acked = self.ledger.life(segment.name.epoch).map_or(0, |life| life.acked);
        let first = segment.name.first.max(acked).min(segment.end);
        Held { first, end: segment.end }
    }

    /// How many of the segment's records are still to be delivered.
    pub(super) fn records_held(&self, segment: &Segment) -> u64 {
        let Held { first, end } = self.unacknowledged(segment);
        let wanted = Life { epoch: segment.name.epoch, acked: first, end };
        let ranges = self.ledger.unaccounted(wanted, &[]);
        ranges.iter().map(|range| u64::from(range.end - range.start)).sum()
    }
}

/// Records `first..end` of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub first: u32,
    pub end: u32,
}
