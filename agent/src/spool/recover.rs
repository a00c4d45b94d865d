//! Opening: what is in the directory becomes the state of the engine, whatever happened to it.
//!
//! The order matters. Everything found is first put into memory; then the ledger is written anew, even where it did not
//! change, because after a kill -9 what was read may never have reached the disk; only then are files removed.

use std::io;
use std::ops::Range;

use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::loss::LossCause;
use roomtone_protocol::time::Stamp;

use super::catalog::{Catalog, Segment};
use super::disk::{Disk, Entry, Folder};
use super::engine::{Counts, Engine, LEDGER, LEDGER_NEW, normalise};
use super::ledger::{Ledger, LedgerError, Life, SLOT_BYTES};
use super::segment::{HEADER_BYTES, Header, HeaderError, Name, scan};
use super::{Limits, Recovery};

/// The longest file that is looked into. Ours are little longer than `segment_bytes`, whatever that was when they were
/// written; one that is longer was not written by us.
const OPEN_BYTES_MAX: u64 = 64 << 20;
/// Counters from here on are not ours: at a segment a second it takes longer than anything lasts.
const COUNTER_END: u64 = 1 << 48;

/// What the directory holds, by name.
struct Found {
    names: Vec<(Name, u64)>,
    counter: u64,
    foreign: u64,
}

impl<D: Disk> Engine<D> {
    /// See [`Spool::open`](super::Spool::open).
    pub(super) fn open(disk: D, limits: Limits, now: Stamp) -> io::Result<(Self, Recovery)> {
        let mut recovery = Recovery::default();
        let found = look_around(&disk)?;
        recovery.foreign = found.foreign;
        let (ledger, ledger_file) = read_ledger(&disk)?;
        let mut epoch = disk.draw_epoch()?;
        while found.names.iter().any(|(name, _)| name.epoch == epoch) {
            epoch = disk.draw_epoch()?;
        }
        let unreadable = matches!(ledger, Err(Unreadable::Content));
        let ledger = ledger.ok();
        let is_known = |of| ledger.as_ref().is_some_and(|ledger| ledger.life(of).is_some());
        // Epochs that the ledger does not know show that it is out of date, as after damage to its newer slot.
        let strange = lives_of(found.names.iter().filter(|(name, _)| !is_known(name.epoch)));
        let ledger = match ledger {
            Some(ledger) if strange.is_empty() => ledger,
            outdated => {
                recovery.new_epoch = true;
                Ledger::rebuilt(outdated, strange, epoch)
            }
        };
        let mut engine = Self {
            disk,
            limits: normalise(limits),
            catalog: Catalog::default(),
            ledger,
            ledger_file,
            ledger_dirty: true,
            directory_dirty: true,
            active: None,
            next: 0,
            readable: 0,
            unsynced: Vec::new(),
            cursor: None,
            counter: found.counter,
            doubted: false,
            now,
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            counts: Counts::default(),
        };
        if unreadable {
            let aside = format!("{:016x}-ledger", engine.counter);
            engine.counter += 1;
            engine.quarantine(LEDGER, &aside);
        }
        let opened = engine.take_in(&found.names);
        let holes = engine.settle_open(&opened, &mut recovery)?;
        engine.settle_lives(&holes);
        engine.next = engine.ledger.current().end;
        engine.readable = engine.next;
        engine.write_ledger()?;
        engine.discard_done()?;
        engine.disk.sync_directory()?;
        engine.directory_dirty = false;
        let stats = engine.stats();
        recovery.segments = stats.segments;
        recovery.records = stats.records;
        recovery.lost = stats.lost;
        recovery.quarantined = stats.quarantined;
        Ok((engine, recovery))
    }

    /// Puts the segments into the catalog and returns the counters of those that were never sealed.
    fn take_in(&mut self, names: &[(Name, u64)]) -> Vec<u64> {
        let mut opened = Vec::new();
        for &(name, bytes) in names {
            let newest = self.catalog.segments().last().map(|segment| segment.name.counter);
            let repeats = newest == Some(name.counter);
            if repeats || self.ledger.life(name.epoch).is_none() || bytes > OPEN_BYTES_MAX {
                let text = name.to_string();
                self.quarantine(&text, &text);
                continue;
            }
            if name.end.is_none() {
                opened.push(name.counter);
            }
            let end = name.end.unwrap_or(name.first);
            self.catalog.push(Segment { name, end, bytes, damaged: false });
        }
        opened
    }

    /// Finds out where the segments end that were being written, cuts and seals them.
    ///
    /// Returns the holes in them, as (counter, range).
    fn settle_open(
        &mut self,
        opened: &[u64],
        recovery: &mut Recovery,
    ) -> io::Result<Vec<(u64, Range<u32>)>> {
        let mut holes = Vec::new();
        // The newest first: where it turns out to be empty, it is no limit to the one before.
        for &counter in opened.iter().rev() {
            let Some(at) = self.catalog.find(counter) else { continue };
            let segment = self.catalog.segments()[at];
            let later = self.catalog.later(at);
            let name = segment.name;
            let file = self.disk.open(&name.to_string())?;
            // Bounded by OPEN_BYTES_MAX.
            let mut bytes = vec![0; usize::try_from(segment.bytes).unwrap_or(0)];
            let read = self.disk.read_at(&file, 0, &mut bytes)?;
            bytes.truncate(read);
            match Header::decode(&bytes) {
                Ok(header) if (header.epoch, header.first) == (name.epoch, name.first) => {}
                Err(HeaderError::Short) => {
                    recovery.torn_bytes += segment.bytes;
                    self.discard(counter);
                    continue;
                }
                // Of a file of zeros the header never reached the disk, and so no frame was ever promised.
                Err(HeaderError::Damaged) if bytes.iter().all(|byte| *byte == 0) => {
                    recovery.torn_bytes += segment.bytes;
                    self.discard(counter);
                    continue;
                }
                Ok(_) | Err(HeaderError::Version | HeaderError::Damaged) => {
                    self.catalog.update(Segment { damaged: true, ..segment });
                    self.discard(counter);
                    continue;
                }
            }
            let frames = &bytes[HEADER_BYTES..];
            let mut found = scan(frames, name.epoch, name.first, u32::MAX);
            if let Some(later) = later.filter(|later| later.name.first < found.end) {
                // After a failed sync the later one begins as a copy of this one's end.
                if later.end < found.end {
                    self.discard(later.name.counter);
                } else {
                    found = scan(frames, name.epoch, name.first, later.name.first);
                }
            }
            holes.extend(found.holes.into_iter().map(|hole| (counter, hole)));
            let length = HEADER_BYTES + found.bytes;
            if found.end == name.first {
                recovery.torn_bytes += segment.bytes - HEADER_BYTES as u64;
                self.discard(counter);
                continue;
            }
            bytes.truncate(length);
            if segment.bytes > length as u64 {
                recovery.torn_bytes += segment.bytes - length as u64;
                self.disk.truncate(&file, length as u64)?;
            }
            let sealed = self.seal_found(&segment, &file, &bytes, found.end)?;
            self.catalog.update(sealed);
        }
        Ok(holes)
    }

    /// Makes a recovered segment durable under its final name.
    fn seal_found(
        &mut self,
        segment: &Segment,
        file: &D::File,
        bytes: &[u8],
        end: u32,
    ) -> io::Result<Segment> {
        let promised = self.ledger.life(segment.name.epoch).map_or(0, |life| life.end);
        // Beyond what was promised even a sync that succeeds is not believed: the one before it may have failed and
        // told the process that was killed.
        if (end > promised || self.disk.sync_data(file).is_err())
            && let Err(error) = self.copy_over(&segment.name.to_string(), bytes)
        {
            // As on a full disk: the second best is to have it in this file.
            self.counts.sync_failures += 1;
            self.disk.sync_data(file).map_err(|_| error)?;
        }
        let name = Name { end: Some(end), ..segment.name };
        self.disk.rename(&segment.name.to_string(), &name.to_string())?;
        Ok(Segment { name, end, bytes: bytes.len() as u64, damaged: false })
    }

    /// Puts a durable file with that content in the place of another.
    fn copy_over(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let copy = format!("{name}.new");
        let _ = self.disk.remove(&copy);
        let file = self.disk.create(&copy)?;
        self.disk.write_at(&file, 0, bytes)?;
        self.disk.sync_data(&file)?;
        self.disk.rename(&copy, name)
    }

    /// Compares what each epoch should have with what is there.
    fn settle_lives(&mut self, holes: &[(u64, Range<u32>)]) {
        for life in self.ledger.lives().to_vec() {
            let of_life = |segment: &&Segment| segment.name.epoch == life.epoch;
            let segments: Vec<Segment> =
                self.catalog.segments().iter().filter(of_life).copied().collect();
            let held: Vec<Range<u32>> =
                segments.iter().map(|segment| segment.name.first..segment.end).collect();
            // Refused records spent numbers that may lie beyond all others.
            let losses = self.ledger.losses().iter().filter(|loss| loss.epoch == life.epoch);
            let ends = held.iter().map(|range| range.end).chain(losses.map(|loss| loss.end));
            let top = ends.fold(life.end, u32::max);
            let mut lost = self.ledger.unaccounted(Life { end: top, ..life }, &held);
            for (counter, hole) in holes {
                let Some(segment) = segments.iter().find(|s| s.name.counter == *counter) else {
                    continue;
                };
                self.catalog.update(Segment { damaged: true, ..*segment });
                lost.push(hole.start.max(life.acked)..hole.end);
            }
            for Range { start, end } in lost {
                // What was durable has changed since; what was not may simply never have got there.
                let cause = if start < life.end { LossCause::Corrupt } else { LossCause::Torn };
                self.lose(life.epoch, start, end, cause);
            }
            if let Some(life) = self.ledger.life_mut(life.epoch) {
                life.end = top;
            }
            self.ledger.unreport_from(life.epoch, top);
        }
    }
}

/// Why there is no ledger to go by.
enum Unreadable {
    /// There is none.
    Missing,
    /// It is damaged or of a later version: set it aside.
    Content,
}

type Read<F> = (Result<Ledger, Unreadable>, Option<F>);

fn read_ledger<D: Disk>(disk: &D) -> io::Result<Read<D::File>> {
    let file = match disk.open(LEDGER) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Err(Unreadable::Missing), None));
        }
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; 2 * SLOT_BYTES];
    // A sector that cannot be read is damage as any other.
    let read = disk.read_at(&file, 0, &mut bytes).unwrap_or(0);
    match Ledger::latest(&bytes[..read]) {
        Ok(ledger) => Ok((Ok(ledger), Some(file))),
        Err(LedgerError::Version | LedgerError::Damaged) => Ok((Err(Unreadable::Content), None)),
    }
}

/// Sorts the directory's names, and removes what an interrupted replacement left.
fn look_around<D: Disk>(disk: &D) -> io::Result<Found> {
    let mut found = Found { names: Vec::new(), counter: 1, foreign: 0 };
    for Entry { name, bytes } in disk.list(Folder::Spool)? {
        match Name::parse(&name) {
            Some(parsed) if parsed.counter < COUNTER_END => found.names.push((parsed, bytes)),
            _ if name == LEDGER => {}
            _ if name == LEDGER_NEW || name.ends_with(".open.new") => {
                let _ = disk.remove(&name);
            }
            Some(_) | None => found.foreign += 1,
        }
    }
    found.names.sort_unstable();
    // Names in quarantine stay taken, so that a later file never replaces an earlier one.
    let aside = disk.list(Folder::Quarantine)?.into_iter().filter_map(|entry| {
        u64::from_str_radix(entry.name.get(..16)?, 16).ok().filter(|counter| *counter < COUNTER_END)
    });
    let counters = found.names.iter().map(|(name, _)| name.counter).chain(aside);
    found.counter = counters.max().map_or(1, |highest| highest + 1);
    Ok(found)
}

/// The epochs that the segments' names tell of, oldest first.
fn lives_of<'a>(names: impl Iterator<Item = &'a (Name, u64)>) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    for (name, _) in names {
        let end = name.end.unwrap_or(name.first);
        match lives.iter_mut().find(|life| life.epoch == name.epoch) {
            Some(life) => life.end = life.end.max(end),
            None => lives.push(Life { epoch: name.epoch, acked: name.first, end }),
        }
    }
    lives
}
