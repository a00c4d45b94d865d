//! The bytes of wire version 1, which never change.
//!
//! A file under `golden/v1` is one frame in hexadecimal: the first line is the header with a space between its fields,
//! the lines below are the body. `ROOMTONE_GOLDEN=write` makes the files of new vectors; it refuses to touch one that
//! exists. Other bytes for the same message mean a new wire version and a `golden/v2` beside this one.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod sealing;
mod vectors;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{Frame, HEADER_BYTES, decode, encode_link, encode_record};
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::{Message, kind};
use roomtone_protocol::record::Record;
use sealing::seal;
use vectors::{ID, vectors};

/// Where the fields of the header end.
const HEADER_FIELDS: [usize; 7] = [2, 3, 4, 5, 7, 11, 15];

/// A record kind that no version 1 reader knows.
const UNKNOWN_KIND: u8 = 0x7f;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", "v1"].iter().collect()
}

fn file(name: &str) -> PathBuf {
    folder().join(name).with_extension("hex")
}

fn to_text(frame: &[u8]) -> String {
    let (header, body) = frame.split_at(HEADER_BYTES);
    let mut text = String::new();
    for (position, byte) in header.iter().enumerate() {
        if HEADER_FIELDS.contains(&position) {
            text.push(' ');
        }
        write!(text, "{byte:02x}").unwrap();
    }
    text.push('\n');
    for line in body.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn read(name: &str) -> Vec<u8> {
    let path = file(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; ROOMTONE_GOLDEN=write makes it", path.display())
    });
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(
        text,
        to_text(&bytes),
        "{} is not in the form that this test writes",
        path.display()
    );
    bytes
}

/// Compares, or makes the file where that was asked for and there is none.
fn check(name: &str, frame: &[u8]) {
    let wants_write = std::env::var_os("ROOMTONE_GOLDEN").is_some_and(|value| value == "write");
    if wants_write && !file(name).exists() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(file(name), to_text(frame)).unwrap();
    }
    assert_eq!(
        read(name),
        frame,
        "{name}: the bytes of version 1 never change; other bytes are a new version"
    );
}

fn encode(message: &Message) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = match message {
        Message::Record(record) => encode_record(ID, record.clone(), &mut buffer),
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
        | Message::Health(_) => encode_link(message, &mut buffer),
    };
    buffer.truncate(length.unwrap());
    buffer
}

/// Puts `body` behind the header of `frame`, under the kind given, and makes length and checksum right.
fn with_body(frame: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&frame[..HEADER_BYTES], body].concat();
    bytes[3] = kind;
    seal(&mut bytes);
    bytes
}

#[test]
fn every_message_has_exactly_the_bytes_of_its_file() {
    for (name, message) in vectors() {
        let bytes = encode(&message);
        check(name, &bytes);
        let (frame, consumed) = decode(&bytes).unwrap();
        assert_eq!(consumed, bytes.len(), "{name}");
        assert_eq!(frame.header.id, id_of(&message), "{name}");
        assert_eq!(frame.message, Some(message), "{name}");
    }
}

fn id_of(message: &Message) -> RecordId {
    match message {
        Message::Record(_) => ID,
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
        | Message::Health(_) => RecordId { epoch: Epoch(0), sequence: Sequence(0) },
    }
}

#[test]
fn record_of_an_unknown_kind_keeps_its_id_and_has_no_content() {
    let (_, known) = vectors().pop().unwrap();
    let bytes = with_body(&encode(&known), UNKNOWN_KIND, b"of a later version");
    check("unknown_record_kind", &bytes);
    let (Frame { header, message }, consumed) = decode(&bytes).unwrap();
    assert_eq!((header.kind, header.id), (UNKNOWN_KIND, ID));
    assert!(kind::is_record(header.kind));
    assert_eq!((message, consumed), (None, bytes.len()));
}

/// Whether the message's last field is absent, so that bytes behind the body would be read as it.
fn ends_before_a_field(message: &Message) -> bool {
    matches!(message, Message::Hello(hello) if hello.boot.is_none())
        || matches!(message, Message::Record(Record::DeviceSummary(it)) if it.glitches.is_none())
        || matches!(message, Message::Record(Record::LegIntervals(it)) if it.heard.is_none())
        || matches!(message, Message::Record(Record::LegSummary(it)) if it.reflexive.is_none())
        || matches!(message, Message::Record(Record::HostInterval(it)) if it.detail.is_none())
        || matches!(message, Message::Record(Record::PathInterval(it)) if it.connection.is_none())
}

#[test]
fn bytes_behind_the_last_field_change_nothing() {
    for (name, message) in vectors() {
        if ends_before_a_field(&message) {
            continue;
        }
        let plain = encode(&message);
        let body = [&plain[HEADER_BYTES..], &[0x01, 0xff, 0x00]].concat();
        let bytes = with_body(&plain, message.kind(), &body);
        if name == "call_closed_idle" {
            check("call_closed_idle_with_extension", &bytes);
        }
        let (frame, consumed) = decode(&bytes).unwrap();
        assert_eq!((frame.message, consumed), (Some(message), bytes.len()), "{name}");
    }
}

/// The block: `01`, a part of 60,000,000 and a whole of 600,000,000; `01` and 7, or `00` for what is absent before it.
#[test]
fn summary_with_a_block_is_the_one_without_and_the_block_behind_it() {
    let body = |name| encode_vector(name)[HEADER_BYTES..].to_vec();
    let plain = body("device_summary");
    let zero_volume = [&[1][..], &varint(60_000_000), &varint(600_000_000)].concat();
    assert_eq!(body("device_summary_zero_volume"), [&plain[..], &zero_volume].concat());
    assert_eq!(
        body("device_summary_zero_volume_and_glitches"),
        [&plain[..], &zero_volume, &[1, 7]].concat()
    );
    assert_eq!(body("device_summary_glitches"), [&plain[..], &[0, 1, 7]].concat());
}

#[test]
fn summary_whose_block_is_cut_or_impossible_is_refused() {
    let plain = encode_vector("device_summary");
    let wrong = Err(DecodeError::Body { kind: kind::DEVICE_SUMMARY });
    // Ends inside the ratio; neither there nor absent; a part of 2 in a whole of 1.
    for block in [&[1, 5][..], &[2], &[1, 2, 1]] {
        let body = [&plain[HEADER_BYTES..], block].concat();
        let bytes = with_body(&plain, kind::DEVICE_SUMMARY, &body);
        if block == [1, 5] {
            check("refused_device_summary_cut_block", &bytes);
        }
        assert_eq!(decode(&bytes), wrong, "{block:?}");
    }
}

/// The block: `01` and sixteen bytes.
#[test]
fn hello_with_a_boot_id_is_the_one_without_and_the_id_behind_it() {
    let (plain, with_boot) = (encode_vector("hello"), encode_vector("hello_boot"));
    let boot: Vec<u8> = [1].into_iter().chain((0..16).map(|i| 0xf0 + i)).collect();
    assert_eq!(with_boot[HEADER_BYTES..], [&plain[HEADER_BYTES..], &boot].concat());
    let cut = &with_boot[HEADER_BYTES..with_boot.len() - 1];
    let bytes = with_body(&plain, kind::HELLO, cut);
    check("refused_hello_cut_boot", &bytes);
    assert_eq!(decode(&bytes), Err(DecodeError::Body { kind: kind::HELLO }));
}

/// What was heard in an interval behind the pack, and of a stream that the table does not have.
#[test]
fn row_of_what_was_heard_names_what_is_there() {
    let plain = encode_vector("leg_intervals_two_worked_example");
    // A row is interval, stream, and six numbers: heard, concealed, worst second, played, discarded, delay.
    let row = |interval, stream, total, concealed| [interval, stream, total, concealed, 0, 0, 0, 0];
    let decoded = |rows: &[[u8; 8]]| {
        let block = [&[1, rows.len() as u8][..], &rows.concat()].concat();
        let body = [&plain[HEADER_BYTES..], &block].concat();
        let bytes = with_body(&plain, kind::LEG_INTERVALS, &body);
        (decode(&bytes).map(|_| ()), bytes)
    };
    let wrong = Err(DecodeError::Body { kind: kind::LEG_INTERVALS });
    assert_eq!(decoded(&[row(0, 0, 9, 9), row(1, 0, 9, 0)]).0, Ok(()));
    assert_eq!(decoded(&[row(2, 0, 9, 0)]).0, wrong, "a third interval of two");
    assert_eq!(decoded(&[row(0, 0, 9, 10)]).0, wrong, "more concealed than heard");
    assert_eq!(decoded(&[row(1, 0, 9, 0), row(0, 0, 9, 0)]).0, wrong, "out of order");
    assert_eq!(decoded(&[row(0, 0, 9, 0), row(0, 0, 9, 0)]).0, wrong, "twice");
    let (beyond, bytes) = decoded(&[row(0, 1, 9, 0)]);
    check("refused_leg_intervals_heard_beyond_table", &bytes);
    assert_eq!(beyond, wrong, "a second stream of one");
}

fn encode_vector(name: &str) -> Vec<u8> {
    let (_, message) = vectors().into_iter().find(|(it, _)| *it == name).unwrap();
    encode(&message)
}

/// Section 1: 7 bits a byte, lowest first, the top bit on all but the last.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn intervals_body_without_an_interval_is_refused() {
    // Call 8 bytes, leg, first and start 1 each, no stream, no interval, no pack.
    let body = [&[0x11; 8][..], &[0, 0, 0, 0, 0, 0]].concat();
    let bytes = with_body(&encode(&vectors().pop().unwrap().1), kind::LEG_INTERVALS, &body);
    check("refused_leg_intervals_empty", &bytes);
    assert_eq!(decode(&bytes), Err(DecodeError::Body { kind: kind::LEG_INTERVALS }));
}

/// A kind is known exactly where an empty body is an error and not nothing.
#[test]
fn every_known_kind_has_a_vector() {
    let frame = encode(&vectors().pop().unwrap().1);
    let known = (0..=u8::MAX).filter(|&kind| match decode(&with_body(&frame, kind, &[])) {
        Ok((frame, _)) => frame.message.is_some(),
        Err(error) => {
            assert_eq!(error, DecodeError::Body { kind });
            true
        }
    });
    let pinned: BTreeSet<u8> = vectors().iter().map(|(_, message)| message.kind()).collect();
    assert_eq!(known.collect::<BTreeSet<u8>>(), pinned);
    // Link 0x01..=0x0b and records 0x10..=0x1c.
    assert_eq!(pinned.len(), 24);
}

#[test]
fn every_file_belongs_to_a_vector() {
    let special = [
        "unknown_record_kind",
        "call_closed_idle_with_extension",
        "refused_leg_intervals_empty",
        "refused_device_summary_cut_block",
        "refused_hello_cut_boot",
        "refused_leg_intervals_heard_beyond_table",
    ];
    let expected: BTreeSet<String> = vectors()
        .iter()
        .map(|(name, _)| *name)
        .chain(special)
        .map(|name| format!("{name}.hex"))
        .collect();
    assert_eq!(expected.len(), vectors().len() + special.len(), "a name occurs twice");
    let found: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let orphans: Vec<_> = found.difference(&expected).collect();
    assert!(orphans.is_empty(), "no vector makes {orphans:?}");
}
