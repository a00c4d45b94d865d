//! What holds for every message, and for every damage done to its bytes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod generators;
mod sealing;

use generators::{intervals, message, record_id};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use roomtone_protocol::error::{DecodeError, EncodeError};
use roomtone_protocol::frame::{HEADER_BYTES, decode, decode_header, encode_link, encode_record};
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, PackError};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use sealing::seal;

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties.seeds");

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        ..ProptestConfig::default()
    }
}

fn encode(id: RecordId, message: &Message, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    match message {
        Message::Record(record) => encode_record(id, record.clone(), buffer),
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
        | Message::Health(_) => encode_link(message, buffer),
    }
}

fn encoded(id: RecordId, message: &Message) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = encode(id, message, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// Decodes; whatever comes out must survive being written and read again.
fn decode_twice(bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
    let (frame, length) = decode(bytes)?;
    assert!(length <= bytes.len());
    if let Some(message) = &frame.message {
        let again = encoded(frame.header.id, message);
        assert!(again.len() <= length, "the shortest form is the one that is written");
        assert_eq!(decode(&again).unwrap().0.message.as_ref(), Some(message));
    }
    Ok(frame.message)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn message_comes_back_with_its_id_and_its_length(id in record_id(), message in message()) {
        let mut bytes = encoded(id, &message);
        let length = bytes.len();
        bytes.extend_from_slice(b"RT next");
        let (frame, consumed) = decode(&bytes).unwrap();
        prop_assert_eq!(consumed, length);
        prop_assert_eq!(usize::from(frame.header.body_bytes), length - HEADER_BYTES);
        prop_assert_eq!(frame.header.kind, message.kind());
        let zero = RecordId { epoch: Epoch(0), sequence: Sequence(0) };
        let is_record = matches!(message, Message::Record(_));
        prop_assert_eq!(frame.header.id, if is_record { id } else { zero });
        prop_assert_eq!(frame.message, Some(message));
    }

    #[test]
    fn frame_cut_anywhere_is_incomplete(id in record_id(), message in message()) {
        let bytes = encoded(id, &message);
        for cut in 0..bytes.len() {
            let needed = if cut < HEADER_BYTES { HEADER_BYTES } else { bytes.len() };
            prop_assert_eq!(decode(&bytes[..cut]), Err(DecodeError::Incomplete { needed }));
        }
    }

    #[test]
    fn buffer_short_by_any_length_is_refused(id in record_id(), message in message()) {
        let length = encoded(id, &message).len();
        let mut buffer = vec![0; length];
        for short in (0..length).step_by(7) {
            let refused = encode(id, &message, &mut buffer[..short]);
            prop_assert_eq!(refused, Err(EncodeError::BufferTooSmall));
        }
        prop_assert_eq!(encode(id, &message, &mut buffer), Ok(length));
    }

    /// CRC32C finds each error of one bit, and a changed length leaves too few bytes or another checksum.
    #[test]
    fn every_flipped_bit_is_noticed(id in record_id(), message in message()) {
        let mut bytes = encoded(id, &message);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_twice(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_mean_something(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode_twice(&bytes);
        // With a proper start they get further.
        for (byte, start) in bytes.iter_mut().zip(*b"RT\x01") {
            *byte = start;
        }
        let _ = decode_twice(&bytes);
    }

    /// A writer with a fault: the checksum holds and the body is wrong.
    #[test]
    fn sealed_body_with_a_flipped_bit_is_refused_or_means_something(
        id in record_id(),
        message in message(),
        place in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(id, &message);
        let body_bits = (bytes.len() - HEADER_BYTES) * 8;
        prop_assume!(body_bits > 0);
        let bit = place.index(body_bits);
        bytes[HEADER_BYTES + bit / 8] ^= 1 << (bit % 8);
        seal(&mut bytes);
        prop_assert!(decode_header(&bytes).is_ok());
        match decode_twice(&bytes) {
            Ok(_) => {}
            Err(error) => prop_assert_eq!(error, DecodeError::Body { kind: message.kind() }),
        }
    }

    #[test]
    fn pack_comes_back_whole_and_in_one_form((rows, streams) in intervals(0)) {
        let pack = IntervalPack::from_intervals(&rows, streams).unwrap();
        prop_assert_eq!(pack.len(), rows.len());
        prop_assert_eq!(pack.iter(streams).collect::<Vec<_>>(), rows);
        let count = pack.len() as u8;
        prop_assert_eq!(IntervalPack::from_parts(count, pack.bytes(), streams), Some(pack));
    }

    #[test]
    fn pack_with_too_few_or_too_many_bytes_is_refused(
        (rows, streams) in intervals(1),
        place in any::<prop::sample::Index>(),
    ) {
        let pack = IntervalPack::from_intervals(&rows, streams).unwrap();
        let count = pack.len() as u8;
        let length = pack.bytes().len();
        for cut in [0, place.index(length), length - 1] {
            prop_assert_eq!(IntervalPack::from_parts(count, &pack.bytes()[..cut], streams), None);
        }
        for behind in [0x00, 0x01, 0xff] {
            let longer = [pack.bytes(), &[behind]].concat();
            prop_assert_eq!(IntervalPack::from_parts(count, &longer, streams), None);
        }
    }

    #[test]
    fn pack_that_decodes_has_no_other_form(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        count in 0..=7u8,
        streams in 0..=17usize,
    ) {
        if let Some(pack) = IntervalPack::from_parts(count, &bytes, streams) {
            let rows: Vec<_> = pack.iter(streams).collect();
            prop_assert_eq!(IntervalPack::from_intervals(&rows, streams), Ok(pack));
        }
    }

    #[test]
    fn row_of_a_stream_beyond_the_table_is_refused((rows, streams) in intervals(1)) {
        let highest = rows.iter().flat_map(|row| &row.streams).map(|row| row.stream).max();
        prop_assume!(highest.is_some());
        let table = usize::from(highest.unwrap());
        prop_assert_eq!(IntervalPack::from_intervals(&rows, table), Err(PackError::StreamOrder));
        let pack = IntervalPack::from_intervals(&rows, streams).unwrap();
        prop_assert_eq!(IntervalPack::from_parts(rows.len() as u8, pack.bytes(), table), None);
    }
}
