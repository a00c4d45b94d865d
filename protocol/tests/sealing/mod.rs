//! Makes damaged frames believable: right start, right length, right checksum.

use roomtone_protocol::frame::{HEADER_BYTES, MAGIC, WIRE_VERSION};
use roomtone_protocol::limits::BODY_BYTES_MAX;

/// Writes start, length and checksum over the header of a frame, whose body is all that follows.
///
/// # Panics
/// Where there is no whole header, or the body is beyond the limit.
pub(crate) fn seal(frame: &mut [u8]) {
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    assert!(body.len() <= BODY_BYTES_MAX, "no header can tell this length");
    header[..2].copy_from_slice(&MAGIC);
    header[2] = WIRE_VERSION;
    header[5..7].copy_from_slice(&(body.len() as u16).to_le_bytes());
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(&header[..15]);
    digest.update(body);
    header[15..].copy_from_slice(&digest.finalize().to_le_bytes());
}
