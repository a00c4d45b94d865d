//! What must hold for any block of the ring: its packets lie inside of it, in order, and the walk ends.

use roomtone_agent::tap::block::each_packet;

/// Input: the block.
pub(crate) fn body(input: &[u8]) {
    let inside = input.as_ptr_range();
    let mut packets = 0;
    let is_whole = each_packet(input, |packet| {
        let bytes = packet.bytes.as_ptr_range();
        assert!(inside.start <= bytes.start && bytes.end <= inside.end);
        packets += 1;
    });
    // Each packet has a head of its own, of 52 bytes, and the first lies anywhere.
    assert!(packets <= input.len() / 52, "{packets} packets in {} bytes", input.len());
    let announced =
        input.get(12..16).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    assert!(!is_whole || announced == Some(packets as u32));
}
