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
pub use crate::limits::HEADER_BYTES;
use crate::message::Message;
use crate::record::Record;

/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"RT";
/// The wire version of this crate.
pub const WIRE_VERSION: u8 = 1;

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
    let message = decode_body(&header, &bytes[HEADER_BYTES..length])?;
    Ok((Frame { header, message }, length))
}

/// Reads the body that [`decode_header`] found behind a header; `None` where the kind is unknown.
///
/// For those who must know a record's id and length even where its body turns out to be wrong.
///
/// # Errors
/// [`DecodeError::Body`] where the bytes are not a body of the header's kind.
pub fn decode_body(header: &Header, body: &[u8]) -> Result<Option<Message>, DecodeError> {
    Message::decode_body(header.kind, body)
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

/// The checksum of frames, and of tokens.
pub(crate) static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

#[cfg(test)]
mod tests {
    use super::{
        CRC32C, HEADER_BYTES, checksum, decode, decode_body, decode_header, encode_link,
        encode_record,
    };
    use crate::ack::Ack;
    use crate::call::{CallCloseReason, CallClosed};
    use crate::error::{DecodeError, EncodeError};
    use crate::id::{CallId, Epoch, RecordId, Sequence};
    use crate::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
    use crate::message::{Message, kind};
    use crate::record::Record;
    use crate::time::Stamp;

    const ACK: Message = Message::Ack(Ack { epoch: Epoch(1), next: Sequence(2) });

    /// The frame of `ACK`: a body of two bytes.
    fn ack_frame() -> [u8; HEADER_BYTES + 2] {
        let mut bytes = [0; HEADER_BYTES + 2];
        assert_eq!(encode_link(&ACK, &mut bytes), Ok(bytes.len()));
        bytes
    }

    /// Makes the checksum right again.
    fn seal(frame: &mut [u8]) {
        let crc = checksum(&frame[..15], &frame[HEADER_BYTES..]);
        frame[15..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn checksum_is_castagnoli_and_not_the_crc_32_of_zip() {
        // RFC 3720 appendix B.4: 32 bytes of zeros give aa 36 91 8a in the order of transmission.
        assert_eq!(CRC32C.checksum(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(b"1234", b"56789"), 0xe306_9283);
    }

    #[test]
    fn foreign_first_bytes_are_refused_before_more_are_awaited() {
        assert_eq!(decode(b"R"), Err(DecodeError::Incomplete { needed: HEADER_BYTES }));
        // "GE" read as a little-endian number.
        assert_eq!(decode(b"GE"), Err(DecodeError::Magic { found: 0x4547 }));
        assert_eq!(decode(b"RT\x02"), Err(DecodeError::Version { found: 2 }));
    }

    #[test]
    fn length_beyond_the_limit_is_refused_before_the_body_is_awaited() {
        let mut bytes = ack_frame();
        bytes[5..7].copy_from_slice(&4097u16.to_le_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::TooLong { length: 4097 }));
        bytes[5..7].copy_from_slice(&4096u16.to_le_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Incomplete { needed: FRAME_BYTES_MAX }));
    }

    #[test]
    fn changed_byte_is_a_checksum_error_with_both_sums() {
        let mut bytes = ack_frame();
        let stored = u32::from_le_bytes([bytes[15], bytes[16], bytes[17], bytes[18]]);
        bytes[HEADER_BYTES] ^= 0x10;
        let computed = checksum(&bytes[..15], &bytes[HEADER_BYTES..]);
        assert_ne!(stored, computed);
        assert_eq!(decode(&bytes), Err(DecodeError::Checksum { stored, computed }));
    }

    #[test]
    fn wrong_body_still_tells_its_id_and_length() {
        let id = RecordId { epoch: Epoch(7), sequence: Sequence(9) };
        let call = CallId(1);
        let closed = Stamp { wall_us: 1, uptime_us: 1 };
        let reason = CallCloseReason::Idle;
        let record = Record::CallClosed(CallClosed { call, closed, reason, legs: 1 });
        let mut buffer = [0; 64];
        let length = encode_record(id, record, &mut buffer).unwrap();
        let frame = &mut buffer[..length];
        // Call 8 bytes, two clocks of one byte: the reason is the eleventh byte of the body. There is no reason 2.
        frame[HEADER_BYTES + 10] = 2;
        seal(frame);
        let wrong = DecodeError::Body { kind: kind::CALL_CLOSED };
        assert_eq!(decode(frame), Err(wrong));
        let (header, consumed) = decode_header(frame).unwrap();
        assert_eq!((header.id, consumed), (id, length));
        assert_eq!(decode_body(&header, &frame[HEADER_BYTES..]), Err(wrong));
    }

    #[test]
    fn flags_of_a_later_version_are_ignored() {
        let mut bytes = ack_frame();
        bytes[4] = 0xff;
        seal(&mut bytes);
        let (frame, _) = decode(&bytes).unwrap();
        assert_eq!((frame.header.flags, frame.message), (0xff, Some(ACK)));
    }

    #[test]
    fn body_up_to_the_limit_may_be_extension() {
        let mut bytes = [0x55; FRAME_BYTES_MAX];
        bytes[..HEADER_BYTES + 2].copy_from_slice(&ack_frame());
        bytes[5..7].copy_from_slice(&(BODY_BYTES_MAX as u16).to_le_bytes());
        seal(&mut bytes);
        let (frame, consumed) = decode(&bytes).unwrap();
        assert_eq!((frame.message, consumed), (Some(ACK), FRAME_BYTES_MAX));
    }

    #[test]
    fn unknown_kind_is_no_error_and_still_a_record_or_not() {
        for (kind, is_record) in
            [(0x0c, false), (0x0f, false), (0x1d, true), (0x7f, true), (0x80, false)]
        {
            let mut bytes = ack_frame();
            bytes[3] = kind;
            seal(&mut bytes);
            let (frame, consumed) = decode(&bytes).unwrap();
            assert_eq!((frame.message, consumed), (None, bytes.len()), "kind {kind:#04x}");
            assert_eq!(kind::is_record(kind), is_record, "kind {kind:#04x}");
        }
    }

    #[test]
    fn buffer_without_room_for_a_header_is_refused() {
        let refused = encode_link(&ACK, &mut [0; HEADER_BYTES - 1]);
        assert_eq!(refused, Err(EncodeError::BufferTooSmall));
    }
}
