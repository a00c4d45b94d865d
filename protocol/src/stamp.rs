//! The packets of STAMP (RFC 8762, sections 4.2.1 and 4.3.1; SSID of RFC 8972), unauthenticated mode.
//!
//! Not a format of ours: what lies here is what agents send to any reflector and what a collector answers as one.
//! Numbers are big-endian.
//!
//! ```text
//!            0          4           12      14     16         24         28          36      38     40    41     44
//! request   | sequence | timestamp | error | ssid | zero, 28 bytes                                            |
//! reply     | sequence | timestamp | error | ssid | received | sequence | timestamp | error | zero | TTL | zero |
//!                                                             |<- of the request, copied ->|
//! ```
//! Bytes behind the 44th are TLVs of RFC 8972 or padding: a reader leaves them out.

use crate::error::EncodeError;

/// The length of a request and of a reply, in bytes.
pub const PACKET_BYTES: usize = 44;

/// The error estimate of a clock that nothing synchronises, and of which nothing is known (RFC 8762 section 4.2.1):
/// S and Z clear, multiplier 1, which must not be 0, and the largest scale.
pub const ERROR_UNKNOWN: u16 = 0x3f01;

/// The bit of an error estimate that says that its timestamp is of IEEE 1588 and not of NTP.
const PTP: u16 = 0x4000;
/// From 1900 to 1970, in seconds (RFC 5905 figure 4).
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// A moment as it travels, with what is said of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// NTP: seconds since 1900 and their 2^-32 parts; IEEE 1588: seconds since 1970 and nanoseconds.
    pub bits: u64,
    /// Which of the two it is, and how good.
    pub error: u16,
}

/// What a sender sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// From 0 in each session, without gaps.
    pub sequence: u32,
    /// When it left.
    pub sent: Timestamp,
    /// The session's number; 0 for none.
    pub ssid: u16,
}

/// What a reflector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// A stateful reflector's own count of the session, or a copy of the request's.
    pub sequence: u32,
    /// When it left.
    pub sent: Timestamp,
    /// When the request arrived, by the same clock.
    pub received_bits: u64,
    /// The request, copied.
    pub request: Request,
    /// The TTL or hop limit with which the request arrived; 0 where the reflector does not know.
    pub ttl: u8,
}

impl Timestamp {
    /// A moment in microseconds since 1970, in NTP's form, of a clock of which nothing is known.
    #[must_use]
    pub const fn of_unix_us(us: u64) -> Self {
        // Eras of NTP last 2^32 seconds: what is above them is cut, as RFC 5905 section 6 has it.
        let seconds = (us / 1_000_000 + NTP_TO_UNIX_S) & 0xffff_ffff;
        let fraction = ((us % 1_000_000) << 32) / 1_000_000;
        Self { bits: seconds << 32 | fraction, error: ERROR_UNKNOWN }
    }

    /// Microseconds since an origin that all moments of one clock share.
    #[must_use]
    pub const fn micros(self) -> u64 {
        micros(self.bits, self.error)
    }
}

impl Request {
    /// Writes the packet and returns its length.
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`] below [`PACKET_BYTES`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let out = buffer.first_chunk_mut::<PACKET_BYTES>().ok_or(EncodeError::BufferTooSmall)?;
        *out = [0; PACKET_BYTES];
        out[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..12].copy_from_slice(&self.sent.bits.to_be_bytes());
        out[12..14].copy_from_slice(&self.sent.error.to_be_bytes());
        out[14..16].copy_from_slice(&self.ssid.to_be_bytes());
        Ok(PACKET_BYTES)
    }

    /// Reads a request; `None` where it is too short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.first_chunk::<PACKET_BYTES>()?;
        Some(Self {
            sequence: u32_at(packet, 0),
            sent: Timestamp { bits: u64_at(packet, 4), error: u16_at(packet, 12) },
            ssid: u16_at(packet, 14),
        })
    }
}

impl Reply {
    /// Writes the packet and returns its length.
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`] below [`PACKET_BYTES`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let out = buffer.first_chunk_mut::<PACKET_BYTES>().ok_or(EncodeError::BufferTooSmall)?;
        *out = [0; PACKET_BYTES];
        out[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..12].copy_from_slice(&self.sent.bits.to_be_bytes());
        out[12..14].copy_from_slice(&self.sent.error.to_be_bytes());
        out[14..16].copy_from_slice(&self.request.ssid.to_be_bytes());
        out[16..24].copy_from_slice(&self.received_bits.to_be_bytes());
        out[24..28].copy_from_slice(&self.request.sequence.to_be_bytes());
        out[28..36].copy_from_slice(&self.request.sent.bits.to_be_bytes());
        out[36..38].copy_from_slice(&self.request.sent.error.to_be_bytes());
        out[40] = self.ttl;
        Ok(PACKET_BYTES)
    }

    /// Reads a reply; `None` where it is too short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.first_chunk::<PACKET_BYTES>()?;
        let sent = Timestamp { bits: u64_at(packet, 28), error: u16_at(packet, 36) };
        let request = Request { sequence: u32_at(packet, 24), sent, ssid: u16_at(packet, 14) };
        Some(Self {
            sequence: u32_at(packet, 0),
            sent: Timestamp { bits: u64_at(packet, 4), error: u16_at(packet, 12) },
            received_bits: u64_at(packet, 16),
            request,
            ttl: packet[40],
        })
    }

    /// When the request arrived, in microseconds, and how long the reflector held it: both by the reflector's clock.
    #[must_use]
    pub fn received_and_held_us(&self) -> (u64, u32) {
        let received = micros(self.received_bits, self.sent.error);
        let held = self.sent.micros().saturating_sub(received);
        (received, u32::try_from(held).unwrap_or(u32::MAX))
    }
}

/// The microseconds of a timestamp's bits, by the form that its error estimate tells.
const fn micros(bits: u64, error: u16) -> u64 {
    let (seconds, rest) = (bits >> 32, bits & 0xffff_ffff);
    // NTP's parts are rounded to the nearest microsecond.
    let below = if error & PTP != 0 { rest / 1_000 } else { (rest * 1_000_000 + (1 << 31)) >> 32 };
    seconds * 1_000_000 + below
}

fn u16_at(packet: &[u8; PACKET_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn u32_at(packet: &[u8; PACKET_BYTES], at: usize) -> u32 {
    u32::from(u16_at(packet, at)) << 16 | u32::from(u16_at(packet, at + 2))
}

fn u64_at(packet: &[u8; PACKET_BYTES], at: usize) -> u64 {
    u64::from(u32_at(packet, at)) << 32 | u64::from(u32_at(packet, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request {
        sequence: 0x0102_0304,
        sent: Timestamp { bits: 0x1112_1314_1516_1718, error: 0x2122 },
        ssid: 0x3132,
    };

    #[test]
    fn request_has_the_layout_of_rfc_8762() {
        let mut bytes = [0xff; PACKET_BYTES + 4];
        assert_eq!(REQUEST.encode(&mut bytes), Ok(PACKET_BYTES));
        let head =
            [1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0x31, 0x32];
        assert_eq!((&bytes[..16], &bytes[16..44]), (&head[..], &[0; 28][..]));
        assert_eq!(bytes[44..], [0xff; 4], "nothing behind it");
        assert_eq!(Request::decode(&bytes), Some(REQUEST));
        assert_eq!(Request::decode(&bytes[..43]), None);
        assert_eq!(REQUEST.encode(&mut bytes[..43]), Err(EncodeError::BufferTooSmall));
    }

    #[test]
    fn reply_has_the_layout_of_rfc_8762_and_carries_the_request() {
        let reply = Reply {
            sequence: 0x4142_4344,
            sent: Timestamp { bits: 0x5152_5354_5556_5758, error: 0x6162 },
            received_bits: 0x7172_7374_7576_7778,
            request: REQUEST,
            ttl: 0xfe,
        };
        let mut bytes = [0xff; PACKET_BYTES];
        assert_eq!(reply.encode(&mut bytes), Ok(PACKET_BYTES));
        let expected = [
            0x41, 0x42, 0x43, 0x44, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x61, 0x62,
            0x31, 0x32, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 1, 2, 3, 4, 0x11, 0x12,
            0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0, 0, 0xfe, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Reply::decode(&bytes), Some(reply));
        assert_eq!(Reply::decode(&bytes[..43]), None);
    }

    #[test]
    fn timestamps_of_both_forms_are_read_to_the_microsecond() {
        // RFC 5905: 1970-01-01 is 2,208,988,800 s after 1900.
        assert_eq!(Timestamp::of_unix_us(0).bits, 2_208_988_800 << 32);
        for us in [1, 999_999, 1_795_359_600_000_001, 1_795_359_600_123_456] {
            let read = Timestamp::of_unix_us(us).micros();
            assert_eq!(read, us + 2_208_988_800 * 1_000_000, "{us}");
        }
        // Half a second in either form.
        let ptp = Timestamp { bits: 7 << 32 | 500_000_000, error: PTP | 1 };
        let ntp = Timestamp { bits: 7 << 32 | 1 << 31, error: 1 };
        assert_eq!((ptp.micros(), ntp.micros()), (7_500_000, 7_500_000));
    }

    #[test]
    fn time_held_is_the_difference_by_the_reflectors_clock_and_never_negative() {
        let at = |us| Timestamp::of_unix_us(us);
        let reply = |received, sent| Reply {
            sequence: 0,
            sent: at(sent),
            received_bits: at(received).bits,
            request: REQUEST,
            ttl: 0,
        };
        assert_eq!(reply(1_000_000, 1_000_250).received_and_held_us().1, 250);
        assert_eq!(reply(1_000_250, 1_000_000).received_and_held_us().1, 0);
        assert_eq!(reply(0, u64::MAX / 2_000_000).received_and_held_us().1, u32::MAX);
    }
}
