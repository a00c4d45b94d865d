//! The extension block behind a body's own fields (`WIRE.md` section 4).
//!
//! Each field of it is an option, in the order in which the fields were added. The block of an older writer ends
//! before a field, which is then absent; a writer leaves absent fields at the end out, so that a body has one shortest
//! form and one with nothing to add is byte for byte what it was before the block. Bytes behind the fields that are
//! asked for belong to a later writer and are ignored.

use serde::{Deserialize, Serialize};

use crate::device::DeviceSummary;
use crate::hello::Hello;
use crate::host::HostInterval;
use crate::interval::LegIntervals;
use crate::media::LegSummary;
use crate::path::PathInterval;

/// A body that has a block, and rules that its fields must keep among each other.
pub(crate) trait Block {
    /// Writes the fields of the block in their order; `None` where there is no room.
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()>;

    /// Reads them in the same order; `None` where the bytes are none.
    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()>;

    /// Whether what was read can be true.
    fn is_consistent(&self) -> bool {
        true
    }
}

/// Writes fields one after the other.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    /// Bytes written, absent fields included.
    end: usize,
    /// Where the last field that is there ends.
    kept: usize,
}

impl<'a> Writer<'a> {
    /// Begins a block at the start of `buffer`.
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, end: 0, kept: 0 }
    }

    /// Writes the next field; `None` where the buffer is too small for one that is there.
    pub(crate) fn write<T: Serialize>(&mut self, field: Option<&T>) -> Option<()> {
        if field.is_none() {
            // Where a later field is there and finds no room for the gap, it fails itself.
            if let Some(byte) = self.buffer.get_mut(self.end) {
                *byte = ABSENT;
            }
            self.end += 1;
            return Some(());
        }
        let room = self.buffer.get_mut(self.end..)?;
        self.end += postcard::to_slice(&field, room).ok()?.len();
        self.kept = self.end;
        Some(())
    }

    /// The length of the block, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.kept
    }
}

/// Reads fields one after the other.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte behind a body's own fields.
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { rest: block }
    }

    /// Reads the next field: `Some(None)` where it is absent, `None` where the bytes are not one.
    pub(crate) fn read<T: Deserialize<'a>>(&mut self) -> Option<Option<T>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let (field, rest) = postcard::take_from_bytes(self.rest).ok()?;
        self.rest = rest;
        Some(field)
    }
}

impl Block for Hello {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.boot.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.boot = block.read()?;
        Some(())
    }
}

impl Block for DeviceSummary {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.zero_volume.as_ref())?;
        block.write(self.glitches.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.zero_volume = block.read()?;
        self.glitches = block.read()?;
        Some(())
    }
}

impl Block for LegIntervals {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.heard.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.heard = block.read()?;
        Some(())
    }

    fn is_consistent(&self) -> bool {
        Self::is_consistent(self)
    }
}

impl Block for LegSummary {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.heard.as_ref())?;
        block.write(self.markings.as_ref())?;
        block.write(self.reported.as_ref())?;
        block.write(self.reflexive.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.heard = block.read()?;
        self.markings = block.read()?;
        self.reported = block.read()?;
        self.reflexive = block.read()?;
        Some(())
    }

    fn is_consistent(&self) -> bool {
        Self::is_consistent(self)
    }
}

impl Block for HostInterval {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.detail.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.detail = block.read()?;
        Some(())
    }
}

impl Block for PathInterval {
    fn write_block(&self, block: &mut Writer<'_>) -> Option<()> {
        block.write(self.detail.as_ref())?;
        block.write(self.reflector.as_ref())?;
        block.write(self.connection.as_ref())
    }

    fn read_block<'a>(&mut self, block: &mut Reader<'a>) -> Option<()> {
        self.detail = block.read()?;
        self.reflector = block.read()?;
        self.connection = block.read()?;
        Some(())
    }
}

/// How postcard writes an option that is none.
const ABSENT: u8 = 0;

#[cfg(test)]
mod tests {
    use super::{Reader, Writer};

    fn written(fields: [Option<u32>; 2], room: usize) -> Option<(usize, [u8; 8])> {
        let mut buffer = [0xee; 8];
        let mut block = Writer::new(&mut buffer[..room]);
        block.write(fields[0].as_ref())?;
        block.write(fields[1].as_ref())?;
        let bytes = block.bytes();
        Some((bytes, buffer))
    }

    #[test]
    fn absent_fields_at_the_end_take_no_bytes_nor_room() {
        assert_eq!(written([None, None], 0).map(|(bytes, _)| bytes), Some(0));
        let (bytes, buffer) = written([Some(5), None], 2).unwrap();
        assert_eq!(buffer[..bytes], [1, 5]);
    }

    #[test]
    fn absent_field_before_one_that_is_there_holds_its_place() {
        let (bytes, buffer) = written([None, Some(5)], 8).unwrap();
        assert_eq!(buffer[..bytes], [0, 1, 5]);
        assert_eq!(written([None, Some(5)], 2), None, "no room for the second");
    }

    #[test]
    fn block_that_ends_before_a_field_lacks_it_and_one_that_ends_inside_is_refused() {
        let mut block = Reader::new(&[1, 5]);
        assert_eq!(block.read::<u32>(), Some(Some(5)));
        assert_eq!(block.read::<u32>(), Some(None));
        assert_eq!(Reader::new(&[1]).read::<u32>(), None);
        assert_eq!(Reader::new(&[2, 5]).read::<u32>(), None, "neither there nor absent");
    }
}
