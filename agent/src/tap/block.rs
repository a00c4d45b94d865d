//! From a block of the kernel's capture ring (TPACKET_V3) to the packets in it.
//!
//! ```text
//! block:   0 version  4 ..  8 status  12 packets  16 offset of the first  20 ..  24 sequence (8)  32 ..  40 ..
//! packet:  0 offset of the next  4 s  8 ns  12 captured  16 on the wire  20 status  24 offset of its bytes (2) ..
//!         48 family (2)  50 EtherType (2, in the order of the network) ..
//! ```
//! Words of 4 bytes in the order of the machine, offsets in bytes from the start of what they stand in; packet(7),
//! `linux/if_packet.h`. The kernel wrote them, and yet none is believed before it is compared with the block's
//! length: a block that contradicts itself yields what stands before the contradiction, and says so.

/// A packet as the kernel left it in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPacket<'a> {
    /// When the kernel saw it, in nanoseconds since 1970 by the wall clock.
    pub wall_nanos: u64,
    /// What its first byte begins, as the kernel says.
    pub ether_type: u16,
    /// Its length on the wire without its link header, in bytes.
    pub wire_bytes: u32,
    /// As much of it as the filter let through.
    pub bytes: &'a [u8],
}

/// Hands over the packets of a block in the kernel's order; false where it announces more than lie in it, which no
/// block of a sound kernel does.
pub fn each_packet<'a>(block: &'a [u8], mut each: impl FnMut(RingPacket<'a>)) -> bool {
    let (Some(announced), Some(first)) = (word(block, 12), word(block, 16)) else { return false };
    let mut rest = block.get(first as usize..);
    for _ in 0..announced {
        let Some((packet, next)) = rest.and_then(packet) else { return false };
        each(packet);
        // An offset that does not lead on ends the walk, so that every walk ends. The last one's may.
        rest = rest.filter(|_| next >= HEAD_BYTES).and_then(|rest| rest.get(next..));
    }
    true
}

/// The packet at the start of `bytes`, and how far away the next one is.
fn packet(bytes: &[u8]) -> Option<(RingPacket<'_>, usize)> {
    // One look at the length for all that follows.
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let [next, seconds, nanos, captured, wire_bytes] = [0, 4, 8, 12, 16]
        .map(|at| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let start = usize::from(u16::from_ne_bytes([head[24], head[25]]));
    let packet = RingPacket {
        wall_nanos: u64::from(seconds) * 1_000_000_000 + u64::from(nanos),
        ether_type: u16::from_be_bytes([head[50], head[51]]),
        wire_bytes,
        bytes: bytes.get(start..)?.get(..captured as usize)?,
    };
    Some((packet, next as usize))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

/// `struct tpacket3_hdr`, 48 bytes, and behind it as much of `struct sockaddr_ll` as is read here.
const HEAD_BYTES: usize = 52;
