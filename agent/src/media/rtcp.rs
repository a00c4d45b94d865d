//! RTCP in the clear (RFC 3550 section 6): sender and receiver reports, nothing else.
//!
//! Most calls encrypt it (SRTCP, RFC 3711 section 3.4): then the first eight bytes are readable, look like a report's,
//! and say nothing. A datagram is taken for RTCP only where the lengths of all its packets chain to its end exactly, as
//! RFC 3550 appendix A.2 asks: behind an encrypted report stand noise and a trailer of 14 or 20 bytes, and a chain that
//! fits them is a matter of one in a million. Who believes a report needs more than that
//! ([`reporter`](super::reporter)).
//!
//! The tap cuts datagrams: the chain is followed as far as they were captured, and only report blocks that lie in the
//! captured part as a whole are handed over. Names (SDES), farewells, feedback and extended reports are stepped over by
//! their length and never read.

/// One compound datagram whose chain is sound, as far as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

/// One sender or receiver report of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Who reports.
    pub ssrc: u32,
    /// The middle 32 bits of the NTP time at which a sender report was sent; `None` for a receiver report, and where
    /// the capture ends before it.
    pub sent: Option<u32>,
    blocks: &'a [u8],
}

/// What a receiver says of one stream (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Cumulative number of packets lost; 24 bits with a sign, negative where duplicates came.
    pub lost: i32,
    /// Highest sequence number received, behind the count of its cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter, in ticks of the stream's clock.
    pub jitter_ticks: u32,
    /// The `sent` of the latest sender report that the receiver has; 0 where it has none.
    pub last_report: u32,
    /// Between the arrival of that and this one's departure, in 1/65,536 s.
    pub delay: u32,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
/// The types of RTCP, where RTP shares the port (RFC 5761 section 4).
const TYPES: std::ops::RangeInclusive<u8> = 192..=223;
/// The head of every packet, and who sent it.
const HEAD_BYTES: usize = 8;
/// NTP time, RTP time, packets and bytes sent.
const SENDER_BYTES: usize = 20;
const BLOCK_BYTES: usize = 24;

/// Checks the chain of a datagram.
///
/// `bytes` is what was captured of it, `wire_bytes` its length on the wire. `None` where it is no RTCP in the clear, or
/// begins with anything but a report (RFC 5506 allows that for feedback, which says nothing here).
#[must_use]
pub fn parse(bytes: &[u8], wire_bytes: u16) -> Option<Compound<'_>> {
    let end = usize::from(wire_bytes);
    let [first, kind, ..] = *bytes.first_chunk::<HEAD_BYTES>()?;
    // The trailer of AES-CM leaves a remainder of 2: most SRTCP ends here.
    if end % 4 != 0 || first >> 5 != VERSION_2_UNPADDED || !is_report(kind) {
        return None;
    }
    let mut at = 0;
    while at < end {
        let Some(&[head, kind, high, low]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            // Cut by the capture: what lies behind cannot be checked.
            break;
        };
        let packet_bytes = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let next = at + packet_bytes;
        if head >> 6 != 2 || !TYPES.contains(&kind) || next > end {
            return None;
        }
        if is_report(kind) && packet_bytes < report_bytes(head, kind) {
            return None;
        }
        // Padding ends the datagram; its last byte says how much there is (RFC 3550 section 6.4.1).
        if head & PADDING != 0 {
            let padding = bytes.get(next - 1).map(|count| usize::from(*count));
            let fits =
                |count: usize| count > 0 && count.is_multiple_of(4) && count + 4 <= packet_bytes;
            if next != end || !padding.is_none_or(fits) {
                return None;
            }
        }
        at = next;
    }
    Some(Compound { bytes })
}

/// Who sent a datagram that may be RTCP, encrypted or not: its first packet's source.
#[must_use]
pub fn sender(bytes: &[u8]) -> Option<u32> {
    word(bytes, 4)
}

/// Version 2 and no padding, in the upper three bits.
const VERSION_2_UNPADDED: u8 = 0b100;
const PADDING: u8 = 0x20;

const fn is_report(kind: u8) -> bool {
    matches!(kind, SENDER_REPORT | RECEIVER_REPORT)
}

/// The length of a report with as many blocks as its head says.
fn report_bytes(head: u8, kind: u8) -> usize {
    let sender_bytes = if kind == SENDER_REPORT { SENDER_BYTES } else { 0 };
    HEAD_BYTES + sender_bytes + usize::from(head & 0x1f) * BLOCK_BYTES
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

impl<'a> Compound<'a> {
    /// Its reports, in order, as far as their heads were captured.
    pub fn reports(self) -> impl Iterator<Item = Report<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            loop {
                let &[head, kind, high, low] = rest.first_chunk()?;
                let packet = rest;
                let packet_bytes = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                rest = rest.get(packet_bytes..).unwrap_or_default();
                if is_report(kind) {
                    return report(packet, head, kind);
                }
            }
        })
    }
}

/// The report at the start of `packet`, which may be cut or go on behind it.
fn report(packet: &[u8], head: u8, kind: u8) -> Option<Report<'_>> {
    let ssrc = word(packet, 4)?;
    let (sent, blocks_at) = match kind {
        // The lower half of the seconds and the upper half of their fraction.
        SENDER_REPORT => (word(packet, 10), HEAD_BYTES + SENDER_BYTES),
        _ => (None, HEAD_BYTES),
    };
    let end = report_bytes(head, kind).min(packet.len());
    let blocks = packet.get(blocks_at..end).unwrap_or_default();
    Some(Report { ssrc, sent, blocks })
}

impl<'a> Report<'a> {
    /// Its blocks, in order, that were captured as a whole: at most 31.
    pub fn blocks(self) -> impl Iterator<Item = Block> + 'a {
        let (blocks, _) = self.blocks.as_chunks::<BLOCK_BYTES>();
        blocks.iter().map(|block| {
            let word = |at: usize| {
                u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
            };
            Block {
                ssrc: word(0),
                fraction_lost: block[4],
                // To the top and back, so that the sign of 24 bits becomes that of 32.
                lost: (word(4) << 8).cast_signed() >> 8,
                highest_sequence: word(8),
                jitter_ticks: word(12),
                last_report: word(16),
                delay: word(20),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, parse, sender};

    /// A sender report of 7 about 9, then an SDES with a name of six letters.
    fn compound() -> Vec<u8> {
        let mut bytes = vec![0x81, 200, 0, 12, 0, 0, 0, 7];
        bytes.extend([0xaa, 0xbb, 0x11, 0x22, 0x33, 0x44, 0xcc, 0xdd]); // NTP
        bytes.extend([0; 12]);
        bytes.extend([0, 0, 0, 9, 64, 0xff, 0xff, 0xfe]); // a quarter, -2 lost
        bytes.extend([0, 1, 0, 5, 0, 0, 0, 160, 0x11, 0x22, 0x33, 0x44, 0, 1, 0, 0]);
        bytes.extend([0x81, 202, 0, 3, 0, 0, 0, 7, 1, 6]);
        bytes.extend(b"abcdef");
        bytes
    }

    fn blocks(bytes: &[u8], wire_bytes: usize) -> Option<Vec<Block>> {
        let compound = parse(bytes, wire_bytes as u16)?;
        Some(compound.reports().flat_map(super::Report::blocks).collect())
    }

    #[test]
    fn fields_stand_where_rfc_3550_draws_them() {
        let bytes = compound();
        let reports: Vec<_> = parse(&bytes, 68).unwrap().reports().collect();
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].ssrc, reports[0].sent), (7, Some(0x1122_3344)));
        let expected = Block {
            ssrc: 9,
            fraction_lost: 64,
            lost: -2,
            highest_sequence: 0x1_0005,
            jitter_ticks: 160,
            last_report: 0x1122_3344,
            delay: 0x1_0000,
        };
        assert_eq!(reports[0].blocks().collect::<Vec<_>>(), [expected]);
        assert_eq!(sender(&bytes), Some(7));
    }

    #[test]
    fn chain_must_end_with_the_datagram() {
        let bytes = compound();
        let with = |tail: &[u8]| {
            let bytes = [&bytes, tail].concat();
            blocks(&bytes, bytes.len()).map(|blocks| blocks.len())
        };
        assert_eq!(with(&[]), Some(1));
        assert_eq!(with(&[0x55; 14]), None, "index and tag of SRTCP with AES-CM");
        assert_eq!(with(&[0x55; 20]), None, "with AES-GCM");
        assert_eq!(blocks(&bytes[..64], 64), None, "the SDES reaches beyond the datagram");
        let mut short = bytes.clone();
        short[3] = 5; // no room for the block
        assert_eq!(blocks(&short, 68), None);
    }

    #[test]
    fn only_whole_blocks_of_a_cut_datagram_count() {
        // The block reaches from 28 to 52.
        let bytes = compound();
        let count = |captured: usize| blocks(&bytes[..captured], 68).map(|blocks| blocks.len());
        assert_eq!(
            (count(52), count(51), count(27), count(8)),
            (Some(1), Some(0), Some(0), Some(0))
        );
        assert_eq!(count(7), None);
        // What was captured of the next head is too little to be checked, or wrong.
        assert_eq!(count(55), Some(1));
        let mut noise = bytes.clone();
        noise[52] = 0x41;
        assert_eq!(blocks(&noise[..56], 68), None);
    }

    #[test]
    fn first_packet_is_an_unpadded_report_of_version_two() {
        let bytes = compound();
        for (at, value) in [(0, 0x41), (0, 0xa1), (1, 202), (1, 205)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            assert_eq!(blocks(&changed, 68), None, "{at}: {value:#x}");
        }
    }

    #[test]
    fn padding_ends_the_datagram_in_words() {
        let with = |count: u8| {
            let mut bytes = compound();
            bytes.splice(52.., [0xa1, 203, 0, 2, 0, 0, 0, 7, 0, 0, 0, count]);
            blocks(&bytes, 64).map(|blocks| blocks.len())
        };
        assert_eq!((with(4), with(8)), (Some(1), Some(1)));
        assert_eq!((with(0), with(3), with(12)), (None, None, None));
        let mut early = compound();
        early.splice(52..52, [0xa1, 203, 0, 1, 0, 0, 0, 4]);
        assert_eq!(blocks(&early, 76), None, "in the middle");
    }

    #[test]
    fn receiver_report_without_blocks_is_a_chain_of_one() {
        assert_eq!(blocks(&[0x80, 201, 0, 1, 0, 0, 0, 7], 8), Some(vec![]));
        assert_eq!(blocks(&[], 0), None);
    }
}
