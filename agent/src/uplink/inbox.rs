//! Cuts the collector's bytes into frames.
//!
//! Bound: one frame, [`FRAME_BYTES_MAX`]. A header that announces more is refused before a byte of its body is kept.

use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{Frame, decode, decode_header};
use roomtone_protocol::limits::FRAME_BYTES_MAX;

/// The bytes of a frame that has not arrived whole yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
}

/// One step through the collector's bytes.
// One at a time on the stack of one function; a box would be an allocation per ack.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame.
    Frame(Frame),
    /// A frame whose checksum holds and whose body this version cannot read.
    Unreadable {
        /// Its kind byte.
        kind: u8,
    },
    /// All bytes are taken; more are needed.
    Starved,
}

impl Inbox {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Takes bytes off the front of `input` until one frame is whole.
    ///
    /// # Errors
    /// Every [`DecodeError`] but `Incomplete` and `Body`: the stream cannot be followed any further.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Step, DecodeError> {
        loop {
            match decode_header(&self.bytes) {
                Ok((header, length)) => {
                    let frame = decode(&self.bytes[..length]);
                    self.bytes.drain(..length);
                    return match frame {
                        Ok((frame, _)) => Ok(Step::Frame(frame)),
                        Err(DecodeError::Body { kind }) => Ok(Step::Unreadable { kind }),
                        Err(
                            DecodeError::Incomplete { .. }
                            | DecodeError::Magic { .. }
                            | DecodeError::Version { .. }
                            | DecodeError::TooLong { .. }
                            | DecodeError::Checksum { .. },
                        ) => Ok(Step::Unreadable { kind: header.kind }),
                    };
                }
                Err(DecodeError::Incomplete { needed }) => {
                    if input.is_empty() {
                        return Ok(Step::Starved);
                    }
                    debug_assert!(needed > self.bytes.len() && needed <= FRAME_BYTES_MAX);
                    let missing = needed.saturating_sub(self.bytes.len()).clamp(1, input.len());
                    let (taken, rest) = input.split_at(missing);
                    self.bytes.extend_from_slice(taken);
                    *input = rest;
                }
                Err(fatal) => return Err(fatal),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomtone_protocol::ack::Ack;
    use roomtone_protocol::frame::{HEADER_BYTES, MAGIC, WIRE_VERSION, encode_link};
    use roomtone_protocol::id::{Epoch, Sequence};
    use roomtone_protocol::message::Message;

    use super::*;

    fn ack_frame(next: u32) -> Vec<u8> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let message = Message::Ack(Ack { epoch: Epoch(1), next: Sequence(next) });
        let length = encode_link(&message, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn oversize_announcement_is_refused_from_its_header_alone() {
        let mut header = vec![0u8; HEADER_BYTES];
        header[..2].copy_from_slice(&MAGIC);
        header[2] = WIRE_VERSION;
        header[5..7].copy_from_slice(&u16::MAX.to_le_bytes());
        let refused = Inbox::default().next(&mut header.as_slice());
        assert_eq!(refused, Err(DecodeError::TooLong { length: 65535 }));
    }

    #[test]
    fn flipped_bit_ends_the_stream() {
        let mut frame = ack_frame(7);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        let refused = Inbox::default().next(&mut frame.as_slice());
        assert!(matches!(refused, Err(DecodeError::Checksum { .. })), "{refused:?}");
    }

    proptest! {
        #[test]
        fn frames_come_out_the_same_however_the_bytes_are_cut(
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let bytes: Vec<u8> = (0..20).flat_map(ack_frame).collect();
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (mut piece, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                loop {
                    match inbox.next(&mut piece).unwrap() {
                        Step::Frame(frame) => seen.push(frame.message),
                        Step::Starved => break,
                        Step::Unreadable { kind } => panic!("kind {kind}"),
                    }
                }
            }
            let expected: Vec<_> = (0..20)
                .map(|n| Some(Message::Ack(Ack { epoch: Epoch(1), next: Sequence(n) })))
                .collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn garbage_never_holds_more_than_one_frame(
            bytes in proptest::collection::vec(any::<u8>(), 0..9000),
        ) {
            let mut inbox = Inbox::default();
            let mut input = bytes.as_slice();
            while let Ok(step) = inbox.next(&mut input) {
                prop_assert!(inbox.bytes.len() <= FRAME_BYTES_MAX);
                if step == Step::Starved {
                    break;
                }
            }
        }
    }
}
