//! What must hold for any RTCP: what is handed over lies in the captured part, one byte less never says more, and one
//! word more on the wire is no RTCP.

use roomtone_agent::media::rtcp::{Block, Report, parse, sender};

/// Who reports, when it was sent, and the blocks.
type Said = Vec<(u32, Option<u32>, Vec<Block>)>;

fn said(bytes: &[u8], wire_bytes: u16) -> Option<Said> {
    let report = |it: Report<'_>| (it.ssrc, it.sent, it.blocks().collect());
    Some(parse(bytes, wire_bytes)?.reports().map(report).collect())
}

/// Input: bytes on the wire (2, big-endian), captured bytes.
pub(crate) fn body(input: &[u8]) {
    let [high, low, bytes @ ..] = input else { return };
    // No capture is longer than its datagram.
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    let wire_bytes = u16::from_be_bytes([*high, *low]).max(bytes.len() as u16);

    let Some(whole) = said(bytes, wire_bytes) else { return };
    assert!(wire_bytes.is_multiple_of(4));
    assert_eq!(sender(bytes), whole.first().map(|(ssrc, ..)| *ssrc), "the first one reports");
    let blocks: usize = whole.iter().map(|(.., blocks)| blocks.len()).sum();
    assert!(whole.len() * 8 + blocks * 24 <= bytes.len(), "{blocks} blocks");
    for (ssrc, ..) in &whole {
        assert!(bytes.windows(4).any(|word| word == ssrc.to_be_bytes()));
    }

    // A capture that ends earlier says the same, up to there.
    if let Some(short) = said(&bytes[..bytes.len() - 1], wire_bytes) {
        assert!(short.len() <= whole.len());
        for (short, whole) in short.iter().zip(&whole) {
            assert_eq!(short.0, whole.0);
            assert!(short.1.is_none() || short.1 == whole.1);
            assert!(whole.2.starts_with(&short.2));
        }
    }
    // Where all was captured, the chain ends there and nowhere else.
    if bytes.len() == usize::from(wire_bytes) {
        assert_eq!(parse(&[bytes, &[0; 4]].concat(), wire_bytes.saturating_add(4)), None);
    }
}
