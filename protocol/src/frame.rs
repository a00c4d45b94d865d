//! The frame: a header of 19 bytes, all little-endian, and a body.
//!
//! ```text
//!  0      2         3      4       5        7       11         15       19
//!  | "RT" | version | kind | flags | length | epoch | sequence | CRC32C | body ...
//! ```
//! The CRC32C (Castagnoli, RFC 3720 appendix B.4) covers bytes 0..15 and the body. Link frames carry epoch 0 and
//! sequence 0. Flags are 0 in version 1; a reader ignores those that it does not know.

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::error::{DecodeError, EncodeError};
use crate::id::{Epoch, RecordId, Sequence};
use crate::limits::BODY_BYTES_MAX;
use crate::message::Message;
use crate::record::Record;

/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"RT";
/// The wire version of this crate.
pub const WIRE_VERSION: u8 = 1;
/// The length of the header, in bytes.
pub const HEADER_BYTES: usize = 19;

/// What stands before every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message's kind, known or not ([`kind`](crate::message::kind)).
    pub kind: u8,
    /// Reserved.
    pub flags: u8,
    /// The record's id; zeros in link frames.
    pub id: RecordId,
    /// The length of the body, in bytes.
    pub body_bytes: u16,
}

/// One frame, taken off the front of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Its content, or `None` where the kind is unknown: skip it, count it, ack it.
    pub message: Option<Message>,
}

/// Writes a record's frame into `buffer` and returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`] where the buffer is shorter than the frame.
pub fn encode_record(
    id: RecordId,
    record: Record,
    buffer: &mut [u8],
) -> Result<usize, EncodeError> {
    encode(id, &Message::Record(record), buffer)
}

/// Writes a link frame (anything but a record) into `buffer` and returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`] where the buffer is shorter than the frame.
pub fn encode_link(message: &Message, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    encode(LINK_ID, message, buffer)
}

const LINK_ID: RecordId = RecordId { epoch: Epoch(0), sequence: Sequence(0) };

fn encode(id: RecordId, message: &Message, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let (header, body) =
        buffer.split_at_mut_checked(HEADER_BYTES).ok_or(EncodeError::BufferTooSmall)?;
    let limit = body.len().min(BODY_BYTES_MAX);
    let length = message.encode_body(&mut body[..limit]).ok_or(EncodeError::BufferTooSmall)?;
    header[0..2].copy_from_slice(&MAGIC);
    header[2] = WIRE_VERSION;
    header[3] = message.kind();
    header[4] = 0;
    header[5..7].copy_from_slice(&(length as u16).to_le_bytes());
    header[7..11].copy_from_slice(&id.epoch.0.to_le_bytes());
    header[11..15].copy_from_slice(&id.sequence.0.to_le_bytes());
    let crc = checksum(&header[..15], &body[..length]);
    header[15..19].copy_from_slice(&crc.to_le_bytes());
    Ok(HEADER_BYTES + length)
}

/// Takes one frame off the front of `bytes`; returns it and its whole length.
///
/// # Errors
/// See [`DecodeError`]; the checksum is proven before the body is looked at.
pub fn decode(bytes: &[u8]) -> Result<(Frame, usize), DecodeError> {
    let (header, length) = decode_header(bytes)?;
    let body = &bytes[HEADER_BYTES..length];
    let message = Message::decode_body(header.kind, body)?;
    Ok((Frame { header, message }, length))
}

/// As [`decode`], but leaves the body alone: for those who move frames without reading them.
///
/// # Errors
/// As [`decode`], without [`DecodeError::Body`].
pub fn decode_header(bytes: &[u8]) -> Result<(Header, usize), DecodeError> {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
        check_start(bytes)?;
        return Err(DecodeError::Incomplete { needed: HEADER_BYTES });
    };
    check_start(head)?;
    let body_bytes = u16::from_le_bytes([head[5], head[6]]);
    if usize::from(body_bytes) > BODY_BYTES_MAX {
        return Err(DecodeError::TooLong { length: usize::from(body_bytes) });
    }
    let needed = HEADER_BYTES + usize::from(body_bytes);
    let body = bytes.get(HEADER_BYTES..needed).ok_or(DecodeError::Incomplete { needed })?;
    let stored = u32::from_le_bytes([head[15], head[16], head[17], head[18]]);
    let computed = checksum(&head[..15], body);
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }
    let id = RecordId {
        epoch: Epoch(u32::from_le_bytes([head[7], head[8], head[9], head[10]])),
        sequence: Sequence(u32::from_le_bytes([head[11], head[12], head[13], head[14]])),
    };
    Ok((Header { kind: head[3], flags: head[4], id, body_bytes }, needed))
}

/// Refuses foreign bytes as early as the first two or three show it.
fn check_start(bytes: &[u8]) -> Result<(), DecodeError> {
    if let Some(found) = bytes.first_chunk::<2>()
        && *found != MAGIC
    {
        return Err(DecodeError::Magic { found: u16::from_le_bytes(*found) });
    }
    match bytes.get(2) {
        Some(&found) if found != WIRE_VERSION => Err(DecodeError::Version { found }),
        Some(_) | None => Ok(()),
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(header);
    digest.update(body);
    digest.finalize()
}

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
