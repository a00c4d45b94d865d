//! The segment file: its name, its header, and how its frames are told from damage.
//!
//! A core: bytes in, findings out. The format is drawn at the head of [`spool`](super).
//!
//! What a frame is worth is decided by three things together: its own CRC32C, its epoch, and its sequence, which must
//! be exactly the one after the frame before it. Anything else at that place is damage, and [`resume`] looks behind it
//! for the next frame that is whole.

use std::fmt;
use std::ops::Range;

use crc::{CRC_32_ISCSI, Crc};
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{MAGIC as FRAME_MAGIC, decode_header};
use roomtone_protocol::id::Epoch;

/// The length of a segment's header, in bytes.
pub(super) const HEADER_BYTES: usize = 28;
/// The format that this agent writes, and the only one that it reads.
pub(super) const FORMAT_VERSION: u8 = 1;
/// The most holes that a scan tells apart; behind the last one the segment counts as cut off. A hole needs damage of
/// its own, and a disk that damages one segment in seventeen places is past telling.
const HOLES_MAX: usize = 16;

const MAGIC: [u8; 4] = *b"RTSG";
static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// CRC32C (Castagnoli, RFC 3720 appendix B.4), as in the frames.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}

/// What a segment says about itself in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The how-many-th segment of this directory it is.
    pub counter: u64,
    /// The epoch of all its records.
    pub epoch: Epoch,
    /// The sequence of its first record.
    pub first: u32,
}

/// Why the first bytes of a file are not a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// The file ends inside the header, as when the machine stopped while the segment was made: nothing is in it.
    Short,
    /// Another format version: a later agent wrote it, or the byte changed. Set the file aside.
    Version,
    /// Not the magic, or not the checksum: the bytes changed. Set the file aside.
    Damaged,
}

impl Header {
    /// The header's bytes.
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = FORMAT_VERSION;
        bytes[8..16].copy_from_slice(&self.counter.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.first.to_le_bytes());
        let crc = checksum(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header off the front of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(HeaderError::Short)?;
        if head[0..4] != MAGIC {
            return Err(HeaderError::Damaged);
        }
        if head[4] != FORMAT_VERSION {
            return Err(HeaderError::Version);
        }
        if le_u32(head, 24) != checksum(&head[..24]) {
            return Err(HeaderError::Damaged);
        }
        let counter = (u64::from(le_u32(head, 12)) << 32) | u64::from(le_u32(head, 8));
        Ok(Self { counter, epoch: Epoch(le_u32(head, 16)), first: le_u32(head, 20) })
    }
}

fn le_u32(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A segment's file name, which holds all that start-up needs to know of it.
///
/// The order of names is the order of age, because the counter comes first and has a fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// As in the header.
    pub counter: u64,
    /// As in the header.
    pub epoch: Epoch,
    /// As in the header.
    pub first: u32,
    /// One past the last record that counts, or `None` while the segment is written.
    pub end: Option<u32>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}-{:08x}", self.counter, self.epoch.0, self.first)?;
        match self.end {
            Some(end) => write!(f, "-{end:08x}.seg"),
            None => f.write_str(".open"),
        }
    }
}

impl Name {
    /// Reads a file name; `None` for any that [`Display`](fmt::Display) does not write.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (stem, sealed) = match text.strip_suffix(".seg") {
            Some(stem) => (stem, true),
            None => (text.strip_suffix(".open")?, false),
        };
        let mut fields = stem.split('-');
        let counter = u64::from_str_radix(fields.next()?, 16).ok()?;
        let epoch = Epoch(u32::from_str_radix(fields.next()?, 16).ok()?);
        let first = u32::from_str_radix(fields.next()?, 16).ok()?;
        let end = match sealed {
            true => Some(u32::from_str_radix(fields.next()?, 16).ok()?),
            false => None,
        };
        let name = Self { counter, epoch, first, end };
        // Refuses what from_str_radix lets pass: a plus sign, upper case, other widths, fields behind the last.
        (name.to_string() == text && end.is_none_or(|end| end >= first)).then_some(name)
    }
}

/// What stands at one place of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The frame that belongs there, `length` bytes long.
    Frame { length: usize },
    /// Nothing: the bytes end here.
    End,
    /// The beginning of a frame that would have `needed` bytes. At the end of a file: damage, or a torn tail.
    Short { needed: usize },
    /// Something else.
    Damage,
}

/// Looks at the front of `bytes` for the record (`epoch`, `expected`).
pub(super) fn step(bytes: &[u8], epoch: Epoch, expected: u32) -> Step {
    if bytes.is_empty() {
        return Step::End;
    }
    match decode_header(bytes) {
        Ok((header, length)) if header.id.epoch == epoch && header.id.sequence.0 == expected => {
            Step::Frame { length }
        }
        Ok(_) => Step::Damage,
        Err(DecodeError::Incomplete { needed }) => Step::Short { needed },
        Err(
            DecodeError::Magic { .. }
            | DecodeError::Version { .. }
            | DecodeError::TooLong { .. }
            | DecodeError::Checksum { .. }
            | DecodeError::Body { .. },
        ) => Step::Damage,
    }
}

/// Finds the next whole frame of `epoch` whose sequence is in `wanted`; returns its offset in `bytes` and its sequence.
///
/// The magic is looked for at every byte, since the length of a damaged frame cannot be trusted.
pub(super) fn resume(bytes: &[u8], epoch: Epoch, wanted: &Range<u32>) -> Option<(usize, u32)> {
    let starts = bytes.windows(FRAME_MAGIC.len()).enumerate();
    starts.filter(|(_, window)| **window == FRAME_MAGIC).find_map(|(offset, _)| {
        let (header, _) = decode_header(&bytes[offset..]).ok()?;
        let sequence = header.id.sequence.0;
        (header.id.epoch == epoch && wanted.contains(&sequence)).then_some((offset, sequence))
    })
}

/// What the frames of a segment that was never sealed amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// One past the last whole record.
    pub end: u32,
    /// How many bytes, counted from the first frame, go up to the end of the last whole record.
    pub bytes: usize,
    /// Records that are gone although later ones are there.
    pub holes: Vec<Range<u32>>,
}

/// Walks the frames (the bytes behind the header) of the segment that begins with (`epoch`, `first`).
///
/// Records from `limit` on are in the next segment too and are left to it.
pub(super) fn scan(frames: &[u8], epoch: Epoch, first: u32, limit: u32) -> Scan {
    let mut found = Scan { end: first, bytes: 0, holes: Vec::new() };
    while found.end < limit {
        let rest = &frames[found.bytes..];
        if let Step::Frame { length } = step(rest, epoch, found.end) {
            found.bytes += length;
            found.end += 1;
            continue;
        }
        // The lost record itself may stand further on, behind bytes that should not be there.
        let Some((skipped, sequence)) = resume(rest, epoch, &(found.end..limit)) else { break };
        if sequence > found.end {
            if found.holes.len() == HOLES_MAX {
                break;
            }
            found.holes.push(found.end..sequence);
        }
        found.bytes += skipped;
        found.end = sequence;
    }
    found
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::frame::{self, encode_record};
    use roomtone_protocol::host::HostInterval;
    use roomtone_protocol::id::{RecordId, Sequence};
    use roomtone_protocol::limits::FRAME_BYTES_MAX;
    use roomtone_protocol::record::Record;
    use roomtone_protocol::time::Stamp;

    use super::*;

    const EPOCH: Epoch = Epoch(7);

    fn frames(sequences: Range<u32>) -> Vec<Vec<u8>> {
        let encode = |sequence| {
            let mut buffer = [0; FRAME_BYTES_MAX];
            let record = Record::HostInterval(HostInterval {
                started: Stamp { wall_us: 1, uptime_us: u64::from(sequence) },
                duration_ms: 10_000,
                cpu_permille: 3,
                memory_permille: 500,
                cpu_pressure_permille: None,
                temperature_deci_celsius: None,
                detail: None,
            });
            let id = RecordId { epoch: EPOCH, sequence: Sequence(sequence) };
            let length = encode_record(id, record, &mut buffer).unwrap();
            buffer[..length].to_vec()
        };
        sequences.map(encode).collect()
    }

    #[test]
    fn header_survives_the_round_trip_and_every_flip_is_refused() {
        let header = Header { counter: 0x0102_0304_0506_0708, epoch: EPOCH, first: 9 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Byte 4 is the version, and is looked at before the checksum, which another version may not have.
            let expected = if bit / 8 == 4 { HeaderError::Version } else { HeaderError::Damaged };
            assert_eq!(Header::decode(&flipped), Err(expected), "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..27]), Err(HeaderError::Short));
    }

    #[test]
    fn checksum_is_crc32c() {
        // RFC 3720 B.4: 32 bytes of zeros give aa 36 91 8a, least significant byte first.
        assert_eq!(checksum(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn order_of_names_is_order_of_age() {
        let name = |counter, first, end| Name { counter, epoch: EPOCH, first, end };
        let texts = [name(9, 0, Some(5)), name(10, 5, Some(6)), name(16, 6, None)]
            .map(|name| name.to_string());
        assert!(texts.is_sorted());
        assert_eq!(texts[2], "0000000000000010-00000007-00000006.open");
        assert!(texts.iter().all(|text| Name::parse(text).unwrap().to_string() == *text));
    }

    #[test]
    fn foreign_names_are_not_segments() {
        for text in [
            "",
            "ledger",
            ".seg",
            "0000000000000010-00000007-00000006.seg",
            "0000000000000010-00000007-00000006-00000005.seg",
            "0000000000000010-00000007-00000006-00000007.open",
            "+000000000000010-00000007-00000006.open",
            "000000000000001A-00000007-00000006.open",
            "0000000000000010-00000007-00000006.open.tmp",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn torn_tail_is_cut_at_the_last_whole_frame() {
        let frames = frames(3..6);
        let whole = frames.concat();
        let two = frames[0].len() + frames[1].len();
        for cut in two..whole.len() {
            let found = scan(&whole[..cut], EPOCH, 3, u32::MAX);
            assert_eq!(found, Scan { end: 5, bytes: two, holes: vec![] }, "cut at {cut}");
        }
    }

    #[test]
    fn flip_in_any_bit_loses_that_record_alone() {
        let frames = frames(3..6);
        let whole = frames.concat();
        let (from, to) = (frames[0].len(), frames[0].len() + frames[1].len());
        for bit in from * 8..to * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = scan(&flipped, EPOCH, 3, u32::MAX);
            assert_eq!(
                found,
                Scan { end: 6, bytes: whole.len(), holes: std::iter::once(4..5).collect() },
                "bit {bit}"
            );
        }
    }

    #[test]
    fn records_of_the_next_segment_are_left_to_it() {
        let whole = frames(3..6).concat();
        assert_eq!(scan(&whole, EPOCH, 3, 4).end, 4);
    }

    #[test]
    fn frames_of_another_epoch_are_damage() {
        let whole = frames(3..6).concat();
        assert_eq!(scan(&whole, Epoch(8), 3, u32::MAX), Scan { end: 3, bytes: 0, holes: vec![] });
    }

    #[test]
    fn more_holes_than_the_limit_cut_the_segment_off() {
        // 40 records, every second one damaged: 16 holes are told apart, the 17th ends the scan.
        let mut frames = frames(0..40);
        for frame in frames.iter_mut().skip(1).step_by(2) {
            frame[frame::HEADER_BYTES] ^= 1;
        }
        let found = scan(&frames.concat(), EPOCH, 0, u32::MAX);
        assert_eq!(found.holes.len(), 16);
        assert_eq!(found.end, 33);
    }
}
