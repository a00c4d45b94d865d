//! Appending, sealing, syncing and shedding: rules 5 to 8 of [`spool`](super).

use std::io;

use roomtone_protocol::frame::encode_record;
use roomtone_protocol::id::{RecordId, Sequence};
use roomtone_protocol::loss::LossCause;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::SpoolError;
use super::catalog::{SEGMENTS_MAX, Segment};
use super::disk::Disk;
use super::engine::{Active, Engine, Held};
use super::ledger::LOSSES_MAX;
use super::segment::{HEADER_BYTES, Header, Name};

/// What waits in memory for the next sync, at most. At the expected rate (a record of about 150 bytes in 10 s for each
/// leg) a second brings less than one frame; a burst of 400 records fits.
const UNSYNCED_BYTES_MAX: usize = 64 << 10;
/// How often one record is offered to a failing disk: each attempt sheds a segment or begins a new one.
const ATTEMPTS_MAX: usize = 4;
/// From this number on the epoch ends. The margin is for receipts and refused records, which spend numbers too.
pub(super) const SEQUENCE_END: u32 = u32::MAX - 4096;

impl<D: Disk> Engine<D> {
    /// See [`Spool::append`](super::Spool::append).
    pub(super) fn append(&mut self, record: Record, now: Stamp) -> Result<RecordId, SpoolError> {
        self.now = now;
        if self.doubted || self.next >= SEQUENCE_END {
            self.begin_epoch()
                .map_err(|source| SpoolError::Disk { action: "begin a new epoch", source })?;
        }
        self.make_room();
        // A receipt that cannot be written now stays due; if the disk takes nothing, the record itself will say so.
        let _ = self.write_receipts();
        let id = RecordId { epoch: self.epoch(), sequence: Sequence(self.next) };
        let length = encode_record(id, record, &mut self.frame).map_err(SpoolError::Encode)?;
        match self.put(length) {
            Ok(()) => Ok(id),
            Err(source) => {
                self.counts.refused += 1;
                self.lose(id.epoch, self.next, self.next + 1, LossCause::WriteFailed);
                self.next += 1;
                Err(SpoolError::Refused { epoch: id.epoch, sequence: id.sequence, source })
            }
        }
    }

    /// See [`Spool::sync`](super::Spool::sync).
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        self.write_receipts()
            .and_then(|()| self.make_durable())
            .map_err(|source| SpoolError::Disk { action: "make records durable", source })
    }

    /// Reports each loss that was not reported yet.
    fn write_receipts(&mut self) -> io::Result<()> {
        // Writing one may shed others: those wait for the next time.
        for _ in 0..LOSSES_MAX {
            let Some((at, loss)) = self.ledger.unreported() else { break };
            let id = RecordId { epoch: self.epoch(), sequence: Sequence(self.next) };
            let record = Record::LossReceipt(loss.report());
            let length = encode_record(id, record, &mut self.frame)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            self.put(length)?;
            if self.ledger.losses().get(at) == Some(&loss) {
                self.ledger.reported(at, id);
                self.ledger_dirty = true;
            }
        }
        Ok(())
    }

    /// Writes the frame at hand as the next record.
    fn put(&mut self, length: usize) -> io::Result<()> {
        let mut attempt = 1;
        loop {
            let error = match self.put_once(length) {
                Ok(()) => {
                    self.next += 1;
                    return Ok(());
                }
                Err(error) => error,
            };
            let full =
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if attempt == ATTEMPTS_MAX || (full && !self.shed_oldest()?) {
                return Err(error);
            }
            attempt += 1;
        }
    }

    fn put_once(&mut self, length: usize) -> io::Result<()> {
        let poisoned = self.active.as_ref().is_some_and(|active| active.poisoned);
        if poisoned || self.unsynced.len() + length > UNSYNCED_BYTES_MAX {
            self.make_durable()?;
        }
        let segment = self.active_segment();
        let fits = segment.is_some_and(|segment| {
            // A gap (refused records) needs a new segment: within one, sequences have none.
            segment.end == self.next && segment.bytes + length as u64 <= self.limits.segment_bytes
        });
        if !fits {
            self.seal()?;
            self.begin_segment()?;
        }
        let (Some(active), Some(segment)) = (&mut self.active, self.catalog.segments().last())
        else {
            unreachable!("a segment was begun above where there was none")
        };
        if let Err(error) = self.disk.write_at(&active.file, segment.bytes, &self.frame[..length]) {
            let cut = self.disk.truncate(&active.file, segment.bytes);
            // A full disk is no fault of the file; anything else, or a tail that stays, is.
            let full =
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            active.poisoned = cut.is_err() || !full;
            return Err(error);
        }
        let bytes = segment.bytes + length as u64;
        let grown = Segment { end: self.next + 1, bytes, ..*segment };
        self.catalog.update(grown);
        self.unsynced.extend_from_slice(&self.frame[..length]);
        Ok(())
    }

    fn active_segment(&self) -> Option<Segment> {
        let at = self.catalog.find(self.active.as_ref()?.counter)?;
        Some(self.catalog.segments()[at])
    }

    /// Makes all that was appended durable, in the order data, name, ledger; then it may be read.
    pub(super) fn make_durable(&mut self) -> io::Result<()> {
        if let Some(active) = &mut self.active {
            if !active.poisoned && !self.unsynced.is_empty() {
                active.poisoned = self.disk.sync_data(&active.file).is_err();
            }
            if active.poisoned {
                self.counts.sync_failures += 1;
                self.rewrite()?;
            }
        }
        if self.directory_dirty {
            if let Err(error) = self.disk.sync_directory() {
                // The names may be lost as data may: new ones are made.
                self.active.iter_mut().for_each(|active| active.poisoned = true);
                return Err(error);
            }
            self.directory_dirty = false;
        }
        if self.ledger.current().end != self.next {
            self.ledger.current_mut().end = self.next;
            self.ledger_dirty = true;
        }
        if self.ledger_dirty {
            self.write_ledger()?;
        }
        self.readable = self.next;
        self.unsynced.clear();
        Ok(())
    }

    /// Writes what is not durable to a new segment, and ends the poisoned one at the last durable record.
    fn rewrite(&mut self) -> io::Result<()> {
        let begun = if self.unsynced.is_empty() {
            None
        } else {
            let frames = std::mem::take(&mut self.unsynced);
            let begun = self.create_segment(self.readable, &frames);
            self.unsynced = frames;
            Some(begun?)
        };
        let end = self.active_segment().map_or(self.readable, |segment| segment.end);
        self.retire(self.readable);
        if let Some((name, file)) = begun {
            let bytes = (HEADER_BYTES + self.unsynced.len()) as u64;
            self.catalog.push(Segment { name, end, bytes, damaged: false });
            self.active = Some(Active { counter: name.counter, file, poisoned: false });
        }
        Ok(())
    }

    /// Makes a segment file with these frames, synced where there are any; leaves no file behind where it fails.
    pub(super) fn create_segment(
        &mut self,
        first: u32,
        frames: &[u8],
    ) -> io::Result<(Name, D::File)> {
        let epoch = self.epoch();
        let counter = self.counter;
        self.counter += 1;
        let name = Name { counter, epoch, first, end: None };
        let text = name.to_string();
        let file = self.disk.create(&text)?;
        self.directory_dirty = true;
        let header = Header { counter, epoch, first }.encode();
        let mut written = self.disk.write_at(&file, 0, &header);
        if !frames.is_empty() {
            written = written
                .and_then(|()| self.disk.write_at(&file, HEADER_BYTES as u64, frames))
                .and_then(|()| self.disk.sync_data(&file));
        }
        match written {
            Ok(()) => Ok((name, file)),
            Err(error) => {
                let _ = self.disk.remove(&text);
                Err(error)
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let (name, file) = self.create_segment(self.next, &[])?;
        let bytes = HEADER_BYTES as u64;
        self.catalog.push(Segment { name, end: self.next, bytes, damaged: false });
        self.active = Some(Active { counter: name.counter, file, poisoned: false });
        Ok(())
    }

    /// Ends the active segment, whole and durable.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.make_durable()?;
        if let Some(segment) = self.active_segment() {
            self.retire(segment.end);
        }
        Ok(())
    }

    /// Gives the active segment its final name; its records from `end` on, if any, are elsewhere.
    fn retire(&mut self, end: u32) {
        let Some(segment) = self.active_segment() else { return };
        // Refused records may have spent numbers behind its last one.
        let end = end.min(segment.end);
        self.active = None;
        self.directory_dirty = true;
        let counter = segment.name.counter;
        if end <= segment.name.first {
            self.catalog.update(Segment { end: segment.name.first, ..segment });
            self.discard(counter);
            return;
        }
        let name = Name { end: Some(end), ..segment.name };
        // Where the name cannot be changed the file stays `.open`: the next start looks into it and finds the same.
        let renamed = self.disk.rename(&segment.name.to_string(), &name.to_string()).is_ok();
        let name = if renamed { name } else { segment.name };
        self.catalog.update(Segment { name, end, ..segment });
    }

    /// Sheds until the caps are kept, or until there is nothing left to shed.
    fn make_room(&mut self) {
        // Each pass but the last removes a segment, or the quarantine's files.
        let mut trimmed = false;
        while self.catalog.bytes() + self.frame.len() as u64 > self.limits.bytes_max
            || self.catalog.segments().len() >= SEGMENTS_MAX
            || self.is_tight()
        {
            if !trimmed && self.is_tight() {
                self.trim_quarantine(0, 0);
                trimmed = true;
                continue;
            }
            // The ledger not being writable is what the record that follows will run into.
            if !self.shed_oldest().unwrap_or(false) {
                break;
            }
        }
    }

    /// Whether the file system is below one of the floors. One that does not answer is not.
    fn is_tight(&self) -> bool {
        self.disk.free().is_ok_and(|free| {
            free.bytes < self.limits.headroom_bytes
                || free.inodes.is_some_and(|inodes| inodes < self.limits.inodes_min)
        })
    }

    /// Gives the oldest sealed segment up; `false` where there is none.
    fn shed_oldest(&mut self) -> io::Result<bool> {
        let Some(segment) = self.catalog.segments().first().copied() else { return Ok(false) };
        if self.is_active(&segment) {
            return Ok(false);
        }
        let before = (self.ledger.clone(), self.counts);
        let Held { first, end } = self.unacknowledged(&segment);
        self.lose(segment.name.epoch, first, end, LossCause::Shed);
        if let Err(error) = self.write_ledger() {
            // Not decided, as far as the disk knows: the segment stays and is read as before. The generation must not
            // go back, because the slot may have been written after all.
            let generation = self.ledger.generation;
            (self.ledger, self.counts) = before;
            self.ledger.generation = generation;
            self.ledger_dirty = true;
            return Err(error);
        }
        self.discard(segment.name.counter);
        Ok(true)
    }

    /// Ends the current epoch and begins another one.
    pub(super) fn begin_epoch(&mut self) -> io::Result<()> {
        self.seal()?;
        loop {
            let catalog = &self.catalog;
            let current = self.epoch();
            if self.ledger.make_room_for_life(|epoch| epoch == current || catalog.holds(epoch)) {
                break;
            }
            if !self.shed_oldest()? {
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too many epochs are held"));
            }
        }
        let mut epoch = self.disk.draw_epoch()?;
        while self.ledger.life(epoch).is_some() {
            epoch = self.disk.draw_epoch()?;
        }
        let before = self.ledger.clone();
        self.ledger.begin(epoch);
        if let Err(error) = self.write_ledger() {
            let generation = self.ledger.generation;
            self.ledger = before;
            self.ledger.generation = generation;
            self.ledger_dirty = true;
            return Err(error);
        }
        self.next = 0;
        self.readable = 0;
        self.doubted = false;
        self.cursor = None;
        Ok(())
    }
}
