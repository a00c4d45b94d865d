//! The four messages of USB/IP between a host controller and a device, once they are attached.
//!
//! All numbers are big endian, as Linux `Documentation/usb/usbip_protocol.rst` has it:
//! ```text
//! header 48 bytes: command, sequence, device id, direction, endpoint (u32 each), then 28 bytes by command:
//!   SUBMIT      flags, buffer length, start frame, packets, interval (u32 each), setup [u8; 8]
//!   UNLINK      sequence of the victim
//!   RET_SUBMIT  status i32, actual length, start frame, packets, errors (u32 each)
//!   RET_UNLINK  status i32
//! behind SUBMIT: the buffer if it goes to the device, then 16 bytes a packet: offset, length, actual length, status
//! behind RET_SUBMIT: the buffer if it goes to the host (packets without gaps), then 16 bytes a packet
//! ```
//! Lengths come from the kernel and are bounded all the same: a message out of step must not become an allocation.

use thiserror::Error;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 48;
/// The longest buffer that a headset is asked for: a second of stereo at 48 kHz, and reserve.
pub const BUFFER_BYTES_MAX: u32 = 256 * 1024;
/// `USBIP_MAX_ISO_PACKETS` of the kernel.
pub const PACKETS_MAX: u32 = 1024;
/// Linux error number: the endpoint is halted or the request is not known.
pub const EPIPE: i32 = 32;
/// Linux error number: the bus saw a broken packet.
pub const EPROTO: i32 = 71;
/// Linux error number: the request was taken back.
pub const ECONNRESET: i32 = 104;
/// Linux error number: too many requests wait.
pub const ENOMEM: i32 = 12;

const SUBMIT: u32 = 1;
const UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
const PACKET_BYTES: usize = 16;

/// What the host controller asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Move data, or ask something on endpoint 0.
    Submit(Submit),
    /// Take back an earlier request.
    Unlink {
        /// The number of this message.
        sequence: u32,
        /// The number of the request that is taken back.
        victim: u32,
    },
}

/// A request block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit {
    /// Its number, unique on a link.
    pub sequence: u32,
    /// The endpoint without its direction bit.
    pub endpoint: u8,
    /// Whether data goes towards the host.
    pub to_host: bool,
    /// The set-up bytes of a control request; zeros elsewhere.
    pub setup: [u8; 8],
    /// How much the host's buffer holds, in bytes.
    pub length: u32,
    /// What goes to the device; empty where data goes to the host.
    pub data: Vec<u8>,
    /// Where each isochronous packet lies in the buffer: offset and length in bytes.
    pub packets: Vec<(u32, u32)>,
}

/// How an isochronous packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketDone {
    /// Where it lies in the host's buffer.
    pub offset: u32,
    /// How long it may be.
    pub length: u32,
    /// How many bytes were moved.
    pub actual: u32,
    /// 0, or a Linux error number.
    pub error: i32,
}

/// What the device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A request is done.
    Submitted {
        /// The request's number.
        sequence: u32,
        /// 0, or a Linux error number.
        error: i32,
        /// Bytes moved in either direction.
        actual: u32,
        /// What goes to the host.
        data: Vec<u8>,
        /// The packets of an isochronous request.
        packets: Vec<PacketDone>,
    },
    /// A taking back is done.
    Unlinked {
        /// The number of the taking back.
        sequence: u32,
        /// `ECONNRESET` where the victim was still there, 0 where it had been answered.
        error: i32,
    },
}

/// The link is out of step and must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Neither SUBMIT nor UNLINK.
    #[error("the host sent command {found}, and only 1 and 2 are known")]
    Command {
        /// The command found.
        found: u32,
    },
    /// More than a headset can be asked for.
    #[error("the host announced {found} bytes or packets, at most {max} are taken")]
    TooLong {
        /// What the header says.
        found: u32,
        /// The bound.
        max: u32,
    },
}

/// Makes requests of a byte stream; holds at most one message and what one read brought.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes what was read.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole request; `None` where more bytes are needed.
    ///
    /// # Errors
    /// Where the stream makes no sense; nothing behind that can be read.
    pub fn poll_request(&mut self) -> Result<Option<Request>, LinkError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let sequence = word(header, 4);
        match word(header, 0) {
            UNLINK => {
                let victim = word(header, 20);
                self.buffer.drain(..HEADER_BYTES);
                Ok(Some(Request::Unlink { sequence, victim }))
            }
            SUBMIT => {
                let to_host = word(header, 12) != 0;
                let length = bounded(word(header, 24), BUFFER_BYTES_MAX)?;
                // All bits set means "not isochronous" since Linux 5.10; 0 did before.
                let packets = match word(header, 32) {
                    u32::MAX => 0,
                    count => bounded(count, PACKETS_MAX)?,
                };
                let sent = if to_host { 0 } else { length as usize };
                let whole = HEADER_BYTES + sent + packets as usize * PACKET_BYTES;
                if self.buffer.len() < whole {
                    return Ok(None);
                }
                let mut setup = [0; 8];
                setup.copy_from_slice(&header[40..48]);
                let (data, table) = self.buffer[HEADER_BYTES..whole].split_at(sent);
                let request = Submit {
                    sequence,
                    endpoint: header[19] & 0x0f,
                    to_host,
                    setup,
                    length,
                    data: data.to_vec(),
                    packets: table
                        .chunks_exact(PACKET_BYTES)
                        .map(|entry| (word(entry, 0), word(entry, 4)))
                        .collect(),
                };
                self.buffer.drain(..whole);
                Ok(Some(Request::Submit(request)))
            }
            found => Err(LinkError::Command { found }),
        }
    }
}

impl Reply {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        let mut put = |words: &[u32]| {
            for word in words {
                bytes.extend(word.to_be_bytes());
            }
        };
        match self {
            Self::Unlinked { sequence, error } => {
                put(&[RET_UNLINK, *sequence, 0, 0, 0, negative(*error), 0, 0, 0, 0, 0, 0]);
            }
            Self::Submitted { sequence, error, actual, data, packets } => {
                let count =
                    u32::try_from(packets.len()).expect("a request has PACKETS_MAX at most");
                let errors = packets.iter().filter(|packet| packet.error != 0).count();
                let errors = u32::try_from(errors).expect("not more than there are packets");
                put(&[RET_SUBMIT, *sequence, 0, 0, 0, negative(*error), *actual, 0, count, errors]);
                put(&[0, 0]);
                bytes.extend(data);
                for packet in packets {
                    for word in
                        [packet.offset, packet.length, packet.actual, negative(packet.error)]
                    {
                        bytes.extend(word.to_be_bytes());
                    }
                }
            }
        }
        bytes
    }
}

/// An error number as the wire has it: negative, in two's complement.
fn negative(error: i32) -> u32 {
    (-error).cast_unsigned()
}

fn bounded(found: u32, max: u32) -> Result<u32, LinkError> {
    if found > max { Err(LinkError::TooLong { found, max }) } else { Ok(found) }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(to_host: u32, endpoint: u32, length: u32, packets: u32) -> Vec<u8> {
        let words = [SUBMIT, 7, 0x1_0002, to_host, endpoint, 0, length, 0, packets, 1];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend([0x80, 6, 0, 1, 0, 0, 18, 0]);
        bytes
    }

    #[test]
    fn request_is_whole_only_with_its_buffer_and_its_packets() {
        let mut bytes = submit(0, 1, 4, 1);
        bytes.extend([1, 2, 3, 4]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut decoder = Decoder::default();
        for byte in &bytes[..bytes.len() - 1] {
            decoder.handle_bytes(&[*byte]);
            assert_eq!(decoder.poll_request(), Ok(None));
        }
        decoder.handle_bytes(&bytes[bytes.len() - 1..]);
        let Ok(Some(Request::Submit(request))) = decoder.poll_request() else { panic!() };
        assert_eq!((request.sequence, request.endpoint, request.to_host), (7, 1, false));
        assert_eq!((request.data, request.packets), (vec![1, 2, 3, 4], vec![(0, 4)]));
        assert_eq!(request.setup, [0x80, 6, 0, 1, 0, 0, 18, 0]);
        assert_eq!(decoder.poll_request(), Ok(None));
    }

    #[test]
    fn request_for_data_brings_no_buffer_and_both_spellings_of_no_packets_hold() {
        for packets in [0, u32::MAX] {
            let mut decoder = Decoder::default();
            decoder.handle_bytes(&submit(1, 0, 18, packets));
            let Ok(Some(Request::Submit(request))) = decoder.poll_request() else { panic!() };
            assert_eq!((request.to_host, request.length), (true, 18));
            assert!(request.data.is_empty() && request.packets.is_empty());
        }
    }

    #[test]
    fn unlink_names_its_victim() {
        let mut bytes: Vec<u8> =
            [UNLINK, 9, 0, 0, 0, 7].iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        bytes.resize(HEADER_BYTES, 0);
        let mut decoder = Decoder::default();
        decoder.handle_bytes(&bytes);
        assert_eq!(decoder.poll_request(), Ok(Some(Request::Unlink { sequence: 9, victim: 7 })));
    }

    #[test]
    fn lengths_beyond_the_bounds_are_refused_before_anything_is_kept_for_them() {
        let cases = [
            (submit(0, 1, BUFFER_BYTES_MAX + 1, 0), BUFFER_BYTES_MAX),
            (submit(1, 2, 4, PACKETS_MAX + 1), PACKETS_MAX),
        ];
        for (bytes, max) in cases {
            let mut decoder = Decoder::default();
            decoder.handle_bytes(&bytes);
            let expected = LinkError::TooLong { found: max + 1, max };
            assert_eq!(decoder.poll_request(), Err(expected));
        }
        let mut decoder = Decoder::default();
        decoder.handle_bytes(&[0; HEADER_BYTES]);
        assert_eq!(decoder.poll_request(), Err(LinkError::Command { found: 0 }));
    }

    #[test]
    fn reply_is_header_data_packets_with_negative_errors() {
        let packets = vec![
            PacketDone { offset: 0, length: 98, actual: 2, error: 0 },
            PacketDone { offset: 98, length: 98, actual: 0, error: EPROTO },
        ];
        let reply =
            Reply::Submitted { sequence: 7, error: 0, actual: 2, data: vec![5, 6], packets };
        let bytes = reply.encode();
        assert_eq!(bytes.len(), HEADER_BYTES + 2 + 2 * PACKET_BYTES);
        // RET_SUBMIT, sequence 7; two bytes, two packets, one of them in error.
        assert_eq!([word(&bytes, 0), word(&bytes, 4), word(&bytes, 20)], [3, 7, 0]);
        assert_eq!([word(&bytes, 24), word(&bytes, 32), word(&bytes, 36)], [2, 2, 1]);
        assert_eq!(&bytes[48..50], [5, 6]);
        // -71 = 0xffff_ffb9.
        assert_eq!(word(&bytes, 50 + 16 + 12), 0xffff_ffb9);

        let bytes = Reply::Unlinked { sequence: 9, error: ECONNRESET }.encode();
        // -104 = 0xffff_ff98.
        assert_eq!((bytes.len(), word(&bytes, 0), word(&bytes, 20)), (48, 4, 0xffff_ff98));
    }
}
