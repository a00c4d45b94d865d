//! Reading, and what is done about damage that it runs into: rule 3 of [`spool`](super).
//!
//! One file is open at a time, and no more of it is loaded than was asked for; only behind damage is the rest of that
//! one segment loaded, to find where it goes on.

use std::io;

use roomtone_protocol::id::Sequence;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::loss::LossCause;

use super::catalog::Segment;
use super::disk::Disk;
use super::engine::{Engine, Held};
use super::segment::{HEADER_BYTES, Header, Step, resume, step};
use super::{Position, SpoolError};

/// How much is read at once to find a record in its segment: four of the largest frames.
const SEEK_BYTES: usize = 16 << 10;
const _: () = assert!(SEEK_BYTES >= FRAME_BYTES_MAX, "each look sees one whole frame");

/// Where reading stands in one segment.
#[derive(Debug)]
pub(super) struct Cursor<F> {
    /// The segment.
    pub counter: u64,
    file: F,
    /// The record at `offset`.
    sequence: u32,
    offset: u64,
}

/// What a look into a segment led to.
enum Look {
    /// The cursor stands where it should.
    Found,
    /// Records were lost and that is noted; look again from the beginning.
    Again,
}

impl<D: Disk> Engine<D> {
    /// See [`Spool::read`](super::Spool::read).
    pub(super) fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, SpoolError> {
        let kept = buffer.len();
        self.read_frames(from, buffer, bytes_max).map_err(|source| {
            buffer.truncate(kept);
            SpoolError::Disk { action: "read records", source }
        })
    }

    fn read_frames(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> io::Result<Position> {
        // Every pass that does not return has noted at least one record as lost, and there are finitely many.
        while let Some((segment, wanted)) = self.locate(from) {
            match self.seek(&segment, wanted.first)? {
                Look::Found => {}
                Look::Again => continue,
            }
            let end = self.load(&segment, wanted.end, buffer, bytes_max)?;
            if end > wanted.first {
                return Ok(Position { epoch: segment.name.epoch, sequence: Sequence(end) });
            }
            self.mend(&segment, wanted.end)?;
        }
        Ok(from)
    }

    /// The first readable record from `from` on: its segment, and the range of it that may be read.
    fn locate(&self, from: Position) -> Option<(Segment, Held)> {
        let (rank, sequence) = match self.ledger.rank(from.epoch) {
            Some(rank) => (rank, from.sequence.0),
            None => (0, 0),
        };
        self.catalog.segments().iter().find_map(|segment| {
            let epoch = segment.name.epoch;
            let its_rank = self.ledger.rank(epoch)?;
            if its_rank < rank {
                return None;
            }
            let first = if its_rank == rank { sequence } else { 0 };
            let first = self.ledger.lost_until(epoch, first.max(segment.name.first));
            let end =
                if epoch == self.epoch() { segment.end.min(self.readable) } else { segment.end };
            (first < end).then_some((*segment, Held { first, end }))
        })
    }

    /// Brings the cursor to that record.
    fn seek(&mut self, segment: &Segment, wanted: u32) -> io::Result<Look> {
        let counter = segment.name.counter;
        let stands = self
            .cursor
            .as_ref()
            .is_some_and(|cursor| cursor.counter == counter && cursor.sequence <= wanted);
        if !stands && !self.open_cursor(segment)? {
            self.set_aside(segment)?;
            return Ok(Look::Again);
        }
        let mut chunk = Vec::new();
        while let Some(cursor) = &mut self.cursor {
            if cursor.sequence >= wanted {
                break;
            }
            chunk.resize(SEEK_BYTES, 0);
            let read = self.disk.read_at(&cursor.file, cursor.offset, &mut chunk);
            chunk.truncate(read.unwrap_or(0));
            let mut walked = 0;
            while cursor.sequence < wanted {
                let found = step(&chunk[walked..], segment.name.epoch, cursor.sequence);
                let Step::Frame { length } = found else { break };
                walked += length;
                cursor.sequence += 1;
            }
            cursor.offset += walked as u64;
            if walked == 0 {
                self.mend(segment, segment.end)?;
            }
        }
        // Mending may have stepped over the record itself, or left nothing to stand on.
        let found = self.cursor.as_ref().is_some_and(|cursor| cursor.sequence == wanted);
        Ok(if found { Look::Found } else { Look::Again })
    }

    /// Opens a segment; `false` where it is gone or its header is not good.
    fn open_cursor(&mut self, segment: &Segment) -> io::Result<bool> {
        self.cursor = None;
        let file = match self.disk.open(&segment.name.to_string()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut head = [0; HEADER_BYTES];
        let read = self.disk.read_at(&file, 0, &mut head)?;
        let name = segment.name;
        let expected = Header { counter: name.counter, epoch: name.epoch, first: name.first };
        if Header::decode(&head[..read]) != Ok(expected) {
            return Ok(false);
        }
        self.cursor = Some(Cursor {
            counter: name.counter,
            file,
            sequence: name.first,
            offset: HEADER_BYTES as u64,
        });
        Ok(true)
    }

    /// Appends frames from the cursor on, up to the record `end`; returns the record behind the last one.
    fn load(
        &mut self,
        segment: &Segment,
        end: u32,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> io::Result<u32> {
        let Some(cursor) = &mut self.cursor else {
            unreachable!("the caller has brought the cursor here")
        };
        let rest = usize::try_from(segment.bytes.saturating_sub(cursor.offset));
        let length = bytes_max.max(FRAME_BYTES_MAX).min(rest.unwrap_or(usize::MAX));
        let kept = buffer.len();
        buffer.resize(kept + length, 0);
        // A sector that cannot be read is damage as any other.
        let read = self.disk.read_at(&cursor.file, cursor.offset, &mut buffer[kept..]).unwrap_or(0);
        buffer.truncate(kept + read);
        let mut taken = 0;
        while cursor.sequence < end {
            let found = step(&buffer[kept + taken..], segment.name.epoch, cursor.sequence);
            let Step::Frame { length } = found else { break };
            if taken > 0 && taken + length > bytes_max {
                break;
            }
            taken += length;
            cursor.sequence += 1;
        }
        cursor.offset += taken as u64;
        buffer.truncate(kept + taken);
        Ok(cursor.sequence)
    }

    /// Deals with damage at the cursor: moves it to the next whole frame below `end`, and notes what is between as
    /// lost.
    fn mend(&mut self, segment: &Segment, end: u32) -> io::Result<()> {
        let Some(cursor) = &mut self.cursor else { unreachable!("damage was seen at the cursor") };
        let rest = usize::try_from(segment.bytes.saturating_sub(cursor.offset));
        let mut bytes = vec![0; rest.unwrap_or(0)];
        let read = self.disk.read_at(&cursor.file, cursor.offset, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        let epoch = segment.name.epoch;
        let first = cursor.sequence;
        let last = match resume(&bytes, epoch, &(first..end)) {
            Some((skipped, sequence)) => {
                cursor.offset += skipped as u64;
                cursor.sequence = sequence;
                sequence
            }
            None => {
                self.cursor = None;
                end
            }
        };
        self.catalog.update(Segment { damaged: true, ..*segment });
        self.lose(epoch, first, last, LossCause::Corrupt);
        if self.ledger_dirty { self.write_ledger() } else { Ok(()) }
    }

    /// Gives a whole segment up that cannot be read at all.
    fn set_aside(&mut self, segment: &Segment) -> io::Result<()> {
        if self.is_active(segment) {
            self.make_durable()?;
            self.active = None;
        }
        let counter = segment.name.counter;
        let Some(at) = self.catalog.find(counter) else { return Ok(()) };
        let segment = Segment { damaged: true, ..self.catalog.segments()[at] };
        self.catalog.update(segment);
        let Held { first, end } = self.unacknowledged(&segment);
        self.lose(segment.name.epoch, first, end, LossCause::Corrupt);
        self.write_ledger()?;
        self.discard(counter);
        Ok(())
    }
}
