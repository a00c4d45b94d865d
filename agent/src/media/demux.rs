//! Tells apart what shares one UDP port: STUN, DTLS, TURN channel data, RTP and RTCP.
//!
//! By the first byte (RFC 7983 section 7) and, between RTP and RTCP, the second (RFC 5761 section 4). A first guess
//! only: each parser behind it may still refuse, and a stream must prove itself.

/// What a datagram's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// First byte 0..=3.
    Stun,
    /// First byte 20..=63.
    Dtls,
    /// First byte 64..=79: ChannelData of RFC 8656 section 12.
    ChannelData,
    /// First byte 128..=191, second byte no RTCP packet type.
    Rtp,
    /// First byte 128..=191, second byte 192..=223.
    Rtcp,
    /// Everything else: ZRTP, QUIC, DNS, games.
    Other,
}

/// Classifies a datagram's payload.
#[must_use]
pub fn classify(payload: &[u8]) -> Class {
    match payload {
        [0..=3, ..] => Class::Stun,
        [20..=63, ..] => Class::Dtls,
        [64..=79, ..] => Class::ChannelData,
        [128..=191, 192..=223, ..] => Class::Rtcp,
        [128..=191, _, ..] => Class::Rtp,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, classify};

    #[test]
    fn classes_follow_rfc_7983_and_5761() {
        let table: [(&[u8], Class); 12] = [
            (&[], Class::Other),
            (&[0, 1], Class::Stun),
            (&[3, 0x33], Class::Stun),
            (&[4, 0], Class::Other),
            (&[22, 254], Class::Dtls),
            (&[0x40, 0], Class::ChannelData),
            (&[0x50, 0], Class::Other),
            (&[0x80], Class::Other),
            (&[0x80, 111], Class::Rtp),
            // The marker bit makes payload type 72 look like RTCP 200; RFC 5761 bars such types.
            (&[0x80, 200], Class::Rtcp),
            (&[0x90, 111 | 0x80], Class::Rtp),
            (&[0xc0, 0], Class::Other),
        ];
        for (bytes, class) in table {
            assert_eq!(classify(bytes), class, "{bytes:02x?}");
        }
    }
}
