//! Arbitrary bytes as one frame: the lengths add up, and what decodes survives being written and read again.

use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{HEADER_BYTES, decode, decode_header, encode_link, encode_record};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;

use crate::sealing::seal;

/// Takes the bytes as they are, then with a right header, since chance does not find checksums.
pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    if (HEADER_BYTES..=FRAME_BYTES_MAX).contains(&bytes.len()) {
        let mut sealed = bytes.to_vec();
        seal(&mut sealed);
        assert_eq!(check(&sealed), Some(sealed.len()));
    }
}

/// Returns the length of the frame, where the bytes begin with one.
fn check(bytes: &[u8]) -> Option<usize> {
    let (header, length) = match decode_header(bytes) {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(decode(bytes), Err(error));
            if let DecodeError::Incomplete { needed } = error {
                assert!(needed > bytes.len() && needed <= FRAME_BYTES_MAX);
            }
            return None;
        }
    };
    assert_eq!(length, HEADER_BYTES + usize::from(header.body_bytes));
    assert!(length <= bytes.len());
    match decode(bytes) {
        Ok((frame, consumed)) => {
            assert_eq!((frame.header, consumed), (header, length));
            if let Some(message) = frame.message {
                assert_eq!(message.kind(), header.kind);
                let mut again = [0; FRAME_BYTES_MAX];
                let written = match &message {
                    Message::Record(record) => encode_record(header.id, record.clone(), &mut again),
                    Message::Hello(_)
                    | Message::HelloReply(_)
                    | Message::Ack(_)
                    | Message::Control(_)
                    | Message::EnrollRequest(_)
                    | Message::EnrollReply(_)
                    | Message::RenewRequest(_)
                    | Message::RenewReply(_)
                    | Message::Configuration(_)
                    | Message::EffectiveConfiguration(_)
                    | Message::Health(_) => encode_link(&message, &mut again),
                }
                .expect("what was decoded from a frame fits into one");
                assert!(written <= length, "the shortest form is the one that is written");
                let (second, _) = decode(&again[..written]).expect("what was written is a frame");
                assert_eq!(second.message, Some(message));
            }
        }
        Err(error) => assert_eq!(error, DecodeError::Body { kind: header.kind }),
    }
    Some(length)
}
