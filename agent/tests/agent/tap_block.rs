//! From blocks of the capture ring to packets, and from blocks that no kernel makes to an end.

use proptest::prelude::*;

use super::fuzz_bodies::block::body;
use roomtone_agent::tap::block::{RingPacket, each_packet};

/// A packet in the ring, its bytes `behind` its own head: (EtherType, seconds, nanoseconds, wire length, bytes).
type Written<'a> = (u16, u32, u32, u32, &'a [u8]);

/// A block as the kernel fills it: its head of 48 bytes, then packets, each at a multiple of 16 bytes.
pub(super) fn block(packets: &[Written<'_>]) -> Vec<u8> {
    let mut block = vec![0; 48];
    for (at, word) in [(0, 3), (8, 1), (12, packets.len() as u32), (16, 48)] {
        block[at..at + 4].copy_from_slice(&u32::to_ne_bytes(word));
    }
    for (ether_type, seconds, nanos, wire_bytes, bytes) in packets {
        // struct tpacket3_hdr of 48 bytes, struct sockaddr_ll of 20, then to the next multiple of 16, and 16 more.
        let start = 96;
        let length = (start + bytes.len()).next_multiple_of(16);
        let words = [length as u32, *seconds, *nanos, bytes.len() as u32, *wire_bytes, 1];
        let mut packet: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        packet.extend([start as u16, start as u16].into_iter().flat_map(u16::to_ne_bytes));
        packet.resize(48, 0);
        packet.extend(17_u16.to_ne_bytes());
        packet.extend(ether_type.to_be_bytes());
        packet.resize(start, 0);
        packet.extend(*bytes);
        packet.resize(length, 0);
        block.extend(packet);
    }
    block
}

fn walk(block: &[u8]) -> (Vec<RingPacket<'_>>, bool) {
    let mut packets = Vec::new();
    let is_whole = each_packet(block, |packet| packets.push(packet));
    (packets, is_whole)
}

#[test]
fn packets_of_a_block_are_handed_over_in_order_with_their_times() {
    let written: [Written<'_>; 3] = [
        (0x0800, 1_795_305_600, 999_999_999, 1_242, b"a head of IPv4"),
        (0x86dd, 1_795_305_601, 0, 4, b"four"),
        (0x8100, u32::MAX, 5, 0, b""),
    ];
    let filled = block(&written);
    let (packets, is_whole) = walk(&filled);
    assert!(is_whole);
    let expected = written.map(|(ether_type, seconds, nanos, wire_bytes, bytes)| RingPacket {
        wall_nanos: u64::from(seconds) * 1_000_000_000 + u64::from(nanos),
        ether_type,
        wire_bytes,
        bytes,
    });
    assert_eq!(packets, expected);
    assert_eq!(walk(&block(&[])), (vec![], true));
}

#[test]
fn a_block_that_contradicts_itself_yields_what_stands_before_and_says_so() {
    let filled = block(&[(0x0800, 1, 2, 40, &[7; 40]), (0x0800, 3, 4, 40, &[8; 40])]);
    let second = 48 + 144;
    // What is changed, to what, and how many packets are left.
    let cases = [
        ("a third packet is announced", 12, 3_u32, 2),
        ("all packets there could be are announced", 12, u32::MAX, 2),
        ("the first lies beyond the end", 16, filled.len() as u32, 0),
        ("the first lies far beyond", 16, u32::MAX, 0),
        ("the second is the first again", 48, 0, 1),
        ("the second begins within the head of the first", 48, 51, 1),
        ("the second lies far beyond", 48, u32::MAX, 1),
        ("the first has more bytes than the block", 48 + 12, filled.len() as u32, 0),
        ("the second has one byte more than the block", second + 12, 41 + 8, 1),
        ("the bytes of the second begin beyond the end", second + 24, 0xffff, 1),
    ];
    for (name, at, word, left) in cases {
        let mut changed = filled.clone();
        changed[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        let (packets, is_whole) = walk(&changed);
        assert_eq!((packets.len(), is_whole), (left, false), "{name}");
    }
    for length in 0..48 + 96 + 40 {
        let (packets, is_whole) = walk(&filled[..length]);
        assert_eq!((packets.len(), is_whole), (0, false), "cut at {length}");
    }
}

proptest! {
    #[test]
    fn any_block_comes_to_an_end_within_itself(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        body(&bytes);
    }

    #[test]
    fn any_changed_word_of_a_sound_block_is_harmless(at in 0..60_usize, word in any::<u32>()) {
        let mut filled = block(&[(0x0800, 1, 2, 40, &[7; 40][..]); 3]);
        filled[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        body(&filled);
    }
}
