//! What must hold for any file: every packet is either handed over or counted, nothing is longer than the input, and
//! the size of the reads changes nothing.

use std::io::Read;

use roomtone_agent::tap::FileTap;

/// Gives a slice in pieces of one size.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let (piece, rest) = self.rest.split_at(self.size.min(self.rest.len()).min(into.len()));
        into[..piece.len()].copy_from_slice(piece);
        self.rest = rest;
        Ok(piece.len())
    }
}

/// Everything that a tap says about a file, folded so that two readings can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    datagrams: u64,
    payload_bytes: usize,
    times: u64,
    packets: u64,
    bytes: u64,
    skipped: Vec<(&'static str, u64)>,
    error: Option<String>,
}

fn read(input: &[u8], size: usize) -> Result<Summary, String> {
    let mut tap =
        FileTap::from_reader(Pieces { rest: input, size }).map_err(|error| error.to_string())?;
    let (mut datagrams, mut payload_bytes, mut times) = (0, 0, 0_u64);
    let error = loop {
        match tap.next() {
            Ok(Some(datagram)) => {
                assert!(datagram.payload.len() <= usize::from(datagram.wire_bytes));
                datagrams += 1;
                payload_bytes += datagram.payload.len();
                times = times.rotate_left(1) ^ datagram.at.as_nanos();
            }
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    assert!(matches!(tap.next(), Ok(None)), "the end stays the end");
    assert_eq!(tap.packets(), datagrams + tap.skips().total());
    // A record has 12 bytes at least, and a payload is part of the file.
    assert!(tap.packets() <= input.len() as u64 / 12 + 1);
    assert!(payload_bytes <= input.len());
    let skipped = tap.skips().iter().collect();
    Ok(Summary {
        datagrams,
        payload_bytes,
        times,
        packets: tap.packets(),
        bytes: tap.bytes(),
        skipped,
        error,
    })
}

/// Input: a file.
pub(crate) fn body(input: &[u8]) {
    let whole = read(input, usize::MAX);
    assert_eq!(read(input, input.len() % 61 + 1), whole);
}
