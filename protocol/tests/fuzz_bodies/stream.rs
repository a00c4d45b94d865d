//! A stream of frames, as it arrives from a peer: however it is cut into reads, the same frames come out.

use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{HEADER_BYTES, Header, decode_body, decode_header};
use roomtone_protocol::limits::BODY_BYTES_MAX;
use roomtone_protocol::message::Message;

use crate::sealing::seal;

type Item = (Header, Result<Option<Message>, DecodeError>);

/// What came out of a stream, and why no more did: in a sound one, the next header is incomplete.
#[derive(Debug, PartialEq)]
struct Reading {
    items: Vec<Item>,
    end: DecodeError,
}

/// Takes the sizes of the reads from the first four bytes, the stream from the rest.
pub(crate) fn run(bytes: &[u8]) {
    let Some((cuts, stream)) = bytes.split_first_chunk::<4>() else { return };
    check(cuts, stream);
    let mut sealed = stream.to_vec();
    seal_all(&mut sealed);
    check(cuts, &sealed);
}

fn check(cuts: &[u8; 4], stream: &[u8]) {
    let whole = read([stream]);
    let consumed: usize =
        whole.items.iter().map(|(header, _)| HEADER_BYTES + usize::from(header.body_bytes)).sum();
    assert!(consumed <= stream.len());
    let mut rest = stream;
    let mut sizes = cuts.iter().cycle();
    let reads = core::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let size = usize::from(*sizes.next()?).clamp(1, rest.len());
        let (now, later) = rest.split_at(size);
        rest = later;
        Some(now)
    });
    assert_eq!(read(reads), whole);
}

/// Reads as a link does: what is there is decoded at once, a body that is wrong is stepped over, the rest ends it.
fn read<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let end = DecodeError::Incomplete { needed: HEADER_BYTES };
    let mut reading = Reading { items: Vec::new(), end };
    let mut buffer = Vec::new();
    for bytes in reads {
        buffer.extend_from_slice(bytes);
        loop {
            match decode_header(&buffer) {
                Ok((header, length)) => {
                    let message = decode_body(&header, &buffer[HEADER_BYTES..length]);
                    reading.items.push((header, message));
                    buffer.drain(..length);
                }
                Err(error @ DecodeError::Incomplete { .. }) => {
                    reading.end = error;
                    break;
                }
                Err(error) => {
                    reading.end = error;
                    return reading;
                }
            }
        }
    }
    reading
}

/// Follows the lengths from frame to frame and makes each header right.
fn seal_all(mut stream: &mut [u8]) {
    while stream.len() >= HEADER_BYTES {
        let length = usize::from(u16::from_le_bytes([stream[5], stream[6]]));
        let body = length.min(BODY_BYTES_MAX).min(stream.len() - HEADER_BYTES);
        let (frame, rest) = stream.split_at_mut(HEADER_BYTES + body);
        seal(frame);
        stream = rest;
    }
}
