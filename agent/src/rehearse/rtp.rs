//! The voice of a party: an RTP stream with the timing and the sizes of Opus, and no audio in it.
//!
//! 20 ms frames on a 48 kHz clock (RFC 7587), payload type 111 and the audio level extension
//! (RFC 6464, one-byte form of RFC 8285) as browsers send them. The marker is on the first packet
//! only, as in a stream without discontinuous transmission (RFC 3551 section 4.1). All payload
//! bytes are zero.

use std::time::Duration;

use super::random::Random;

/// The time between two frames.
pub(super) const FRAME: Duration = Duration::from_millis(20);
/// RTP ticks per frame: 20 ms of 48 kHz.
const FRAME_TICKS: u32 = 960;
/// Browsers offer Opus as 111.
const PAYLOAD_TYPE: u8 = 111;
const HEADER_BYTES: usize = 20;
/// Opus speech at 16 to 48 kbit/s in 20 ms frames.
const PAYLOAD_BYTES_MIN: u64 = 40;
const PAYLOAD_BYTES_MAX: u64 = 120;

/// The sender's side of one stream.
#[derive(Debug)]
pub(super) struct Voice {
    ssrc: u32,
    sequence: u16,
    ticks: u32,
    begins: bool,
    random: Random,
}

impl Voice {
    /// A stream that has not begun; SSRC, first sequence number and first timestamp are random
    /// (RFC 3550 section 5.1).
    pub(super) fn new(mut random: Random) -> Self {
        let (identity, start) = (random.next(), random.next());
        Self {
            ssrc: (identity >> 32) as u32,
            sequence: identity as u16,
            ticks: start as u32,
            begins: true,
            random,
        }
    }

    /// The stream's identity.
    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Returns the next packet, and counts on.
    pub(super) fn packet(&mut self) -> Vec<u8> {
        let payload =
            PAYLOAD_BYTES_MIN + self.random.below(PAYLOAD_BYTES_MAX - PAYLOAD_BYTES_MIN + 1);
        // RFC 6464: voice activity in the top bit, then -dBov; 30 to 59 is ordinary speech.
        let level = 0x80 | (30 + self.random.below(30)) as u8;
        let mut packet = Vec::with_capacity(HEADER_BYTES + PAYLOAD_BYTES_MAX as usize);
        packet.push(0x90); // version 2, extension
        packet.push(PAYLOAD_TYPE | if self.begins { 0x80 } else { 0 });
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.ticks.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        // RFC 8285 section 4.2: one word of one-byte elements; id 1, one byte of it, two of padding.
        packet.extend_from_slice(&[0xBE, 0xDE, 0, 1, 0x10, level, 0, 0]);
        packet.resize(HEADER_BYTES + payload as usize, 0);
        self.begins = false;
        self.sequence = self.sequence.wrapping_add(1);
        self.skip();
        packet
    }

    /// Lets one frame's time pass without a packet: the timestamp moves, the sequence number does
    /// not.
    pub(super) fn skip(&mut self) {
        self.ticks = self.ticks.wrapping_add(FRAME_TICKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(ssrc: u32, sequence: u16, ticks: u32) -> Voice {
        Voice { ssrc, sequence, ticks, begins: true, random: Random::new(5) }
    }

    #[test]
    fn header_is_that_of_a_browser_byte_for_byte() {
        let mut voice = voice(0x0102_0304, 0xFFFF, 0xFFFF_FF00);
        let first = voice.packet();
        assert_eq!(
            first[..17],
            [
                0x90, 0xEF, // V 2, X; M, 111
                0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x01, 0x02, 0x03, 0x04, //
                0xBE, 0xDE, 0x00, 0x01, 0x10,
            ]
        );
        assert!((0x80 | 30..0x80 | 60).contains(&first[17]));
        assert_eq!(first[18..20], [0, 0]);
        let second = voice.packet();
        // No marker; the sequence wraps; 0xFFFFFF00 + 960 = 2^32 + 704 = 0x2C0 after its own wrap.
        assert_eq!(second[..8], [0x90, 0x6F, 0x00, 0x00, 0x00, 0x00, 0x02, 0xC0]);
    }

    #[test]
    fn payload_is_40_to_120_zero_bytes() {
        let mut voice = voice(1, 0, 0);
        let sizes: Vec<usize> = (0..2_000)
            .map(|_| {
                let packet = voice.packet();
                assert!(packet[HEADER_BYTES..].iter().all(|&byte| byte == 0));
                packet.len() - HEADER_BYTES
            })
            .collect();
        assert_eq!(sizes.iter().min(), Some(&40));
        assert_eq!(sizes.iter().max(), Some(&120));
    }

    #[test]
    fn skipped_frame_moves_the_timestamp_alone() {
        let mut voice = voice(1, 10, 0);
        voice.packet();
        voice.skip();
        let packet = voice.packet();
        // Sequence 11; two frames of 960 ticks = 1,920 = 0x780.
        assert_eq!(packet[2..8], [0, 11, 0, 0, 0x07, 0x80]);
    }
}
