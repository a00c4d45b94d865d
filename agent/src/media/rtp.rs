//! The fixed header of RTP (RFC 3550 section 5.1), as far as a stream is measured by it.

/// The fields of one RTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// 0..=127, never 64..=95 (RFC 5761 section 4).
    pub payload_type: u8,
    /// Wraps at 65,536.
    pub sequence: u16,
    /// In ticks of the payload's clock; wraps.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    /// The length of the payload behind all headers, padding included, in bytes; `None` where the capture ends inside
    /// the header extension.
    pub payload_bytes: Option<u16>,
    /// Whether the padding bit is set.
    pub padding: bool,
}

/// Parses an RTP header.
///
/// `bytes` is what was captured of the datagram, `wire_bytes` its length on the wire. `None` where it cannot be RTP:
/// another version, a barred payload type, or header fields that reach beyond the datagram.
#[must_use]
pub fn parse(bytes: &[u8], wire_bytes: u16) -> Option<RtpHeader> {
    let head = bytes.first_chunk::<12>()?;
    let payload_type = head[1] & 0x7f;
    if head[0] >> 6 != 2 || (64..=95).contains(&payload_type) {
        return None;
    }
    let contributors = u16::from(head[0] & 0x0f);
    let mut header_bytes = 12 + 4 * contributors;
    let mut known = true;
    if head[0] & 0x10 != 0 {
        let at = usize::from(header_bytes);
        match bytes.get(at + 2..at + 4) {
            Some(words) => {
                let words = u16::from_be_bytes([words[0], words[1]]);
                header_bytes = header_bytes.checked_add(words.checked_mul(4)?.checked_add(4)?)?;
            }
            None => known = false,
        }
    }
    let payload_bytes = wire_bytes.checked_sub(header_bytes)?;
    Some(RtpHeader {
        payload_type,
        sequence: u16::from_be_bytes([head[2], head[3]]),
        timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        payload_bytes: known.then_some(payload_bytes),
        padding: head[0] & 0x20 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{RtpHeader, parse};

    const PLAIN: [u8; 12] = [0x80, 0xef, 0x12, 0x34, 0, 0, 3, 0xc0, 0xde, 0xad, 0xbe, 0xef];

    #[test]
    fn fields_stand_where_rfc_3550_draws_them() {
        let expected = RtpHeader {
            payload_type: 111,
            sequence: 0x1234,
            timestamp: 960,
            ssrc: 0xdead_beef,
            payload_bytes: Some(60),
            padding: false,
        };
        assert_eq!(parse(&PLAIN, 72), Some(expected));
    }

    #[test]
    fn header_beyond_the_datagram_is_not_rtp() {
        let mut contributors = PLAIN;
        contributors[0] = 0x8f; // fifteen contributing sources: 72 bytes of header
        assert_eq!(parse(&contributors, 71), None);
        assert!(parse(&contributors, 72).is_some());
        let mut extension = PLAIN.to_vec();
        extension[0] = 0x90;
        extension.extend([0xbe, 0xde, 0xff, 0xff]); // 65,535 words
        assert_eq!(parse(&extension, 1000), None);
    }

    #[test]
    fn header_cut_by_the_capture_is_still_rtp() {
        let mut extension = PLAIN;
        extension[0] = 0x90;
        assert_eq!(parse(&extension, 72).and_then(|header| header.payload_bytes), None);
        assert!(parse(&extension, 72).is_some());
    }

    #[test]
    fn other_versions_barred_types_and_short_heads_are_refused() {
        let mut version = PLAIN;
        version[0] = 0x40;
        assert_eq!(parse(&version, 72), None);
        for payload_type in 64..=95 {
            let mut barred = PLAIN;
            barred[1] = payload_type;
            assert_eq!(parse(&barred, 72), None);
        }
        assert_eq!(parse(&PLAIN[..11], 72), None);
    }
}
