//! What must hold for any RTP head: the fields stand where they stand, and the payload is part of the datagram.

use roomtone_agent::media::rtp::{RtpHeader, parse};

/// Input: bytes on the wire (2, big-endian), captured bytes.
pub(crate) fn body(input: &[u8]) {
    let [high, low, bytes @ ..] = input else { return };
    let wire_bytes = u16::from_be_bytes([*high, *low]);
    let Some(header) = parse(bytes, wire_bytes) else { return };

    assert_eq!(bytes[0] >> 6, 2);
    assert!(header.payload_type < 64 || (96..128).contains(&header.payload_type));
    assert_eq!(header.sequence.to_be_bytes(), bytes[2..4]);
    assert_eq!(header.timestamp.to_be_bytes(), bytes[4..8]);
    assert_eq!(header.ssrc.to_be_bytes(), bytes[8..12]);
    assert!(header.payload_bytes.is_none_or(|payload| payload + 12 <= wire_bytes));

    // A tap that cuts more of the packet says the same, but may not know the payload's length.
    for captured in 12..bytes.len().min(80) {
        let cut = parse(&bytes[..captured], wire_bytes).expect("twelve bytes are a head");
        assert!(cut.payload_bytes.is_none() || cut.payload_bytes == header.payload_bytes);
        let known = RtpHeader { payload_bytes: None, ..header };
        assert_eq!(RtpHeader { payload_bytes: None, ..cut }, known);
    }
}
