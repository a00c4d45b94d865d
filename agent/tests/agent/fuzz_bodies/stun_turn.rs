//! What must hold for any STUN or TURN message: what is inside lies inside, and each wrapping makes it shorter.

use roomtone_agent::media::stun::{self, REHEARSAL_SOFTWARE};
use roomtone_agent::media::turn::{unwrap_channel_data, unwrap_message};

fn is_inside(inner: &[u8], outer: &[u8]) -> bool {
    let (inner, outer) = (inner.as_ptr_range(), outer.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

/// Input: bytes on the wire (2, big-endian), captured bytes.
pub(crate) fn body(input: &[u8]) {
    let [high, low, bytes @ ..] = input else { return };
    let wire_bytes = u16::from_be_bytes([*high, *low]);

    if let Some(header) = stun::parse(bytes, wire_bytes) {
        assert!(header.method < 1 << 12);
        assert_eq!(header.transaction.0.to_be_bytes(), bytes[4..20]);
        assert_eq!(stun::parse(&bytes[..20], wire_bytes), Some(header), "the head is enough");
    }
    if stun::is_rehearsal(bytes) {
        assert!(bytes.windows(REHEARSAL_SOFTWARE.len()).any(|part| part == REHEARSAL_SOFTWARE));
    }
    if let Some(address) = stun::reflexive(bytes) {
        assert!(address.port() != 0 && !address.ip().is_unspecified());
        let shorter = stun::reflexive(&bytes[..bytes.len() - 1]);
        assert!(shorter.is_none_or(|shorter| shorter == address), "a cut makes no other address");
    }
    if let Some((inner, _)) = stun::relayed(bytes) {
        assert!(is_inside(inner, bytes));
    }

    let mut layer = (bytes, wire_bytes);
    while let Some((inner, inner_bytes)) =
        unwrap_channel_data(layer.0, layer.1).or_else(|| unwrap_message(layer.0, layer.1))
    {
        assert!(is_inside(inner, layer.0) && inner.len() < layer.0.len());
        assert!(inner_bytes < layer.1 && inner.len() <= usize::from(inner_bytes));
        layer = (inner, inner_bytes);
    }
}
