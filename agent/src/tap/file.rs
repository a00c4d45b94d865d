//! Reads datagrams from a capture file.
//!
//! One buffer, read in large pieces and handed out in place: no packet is copied or allocated. The buffer holds one
//! record at least and grows to no more than the longest record that `record` accepts. Moments are the file's own,
//! which may go backwards.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::link::{self, UdpHead};
use super::record::{Link, PacketRecord, RECORD_BYTES_MAX, RecordError, Scanner, Step};
use super::{Datagram, SkipReason, Skips, TapError};
use crate::clock::Moment;

/// Large enough that a read's cost vanishes among some thousand packets, small enough to stay in a core's own cache.
const READ_BYTES: usize = 128 * 1024;

/// A capture file, pcap or pcapng.
pub struct FileTap<R = File> {
    input: R,
    scanner: Scanner,
    /// `buffer[start..end]` was read and not yet passed; the rest is free.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where `start` is in the file, in bytes.
    offset: u64,
    /// The record at `start` was handed out and is passed at the next call.
    handed_out: usize,
    /// Nothing more will come, because of the file's end or an error.
    is_done: bool,
    packets: u64,
    bytes: u64,
    skips: Skips,
}

impl<R> fmt::Debug for FileTap<R> {
    /// Without the buffer, which holds what others said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTap")
            .field("scanner", &self.scanner)
            .field("offset", &self.offset)
            .field("packets", &self.packets)
            .field("skips", &self.skips)
            .finish_non_exhaustive()
    }
}

impl FileTap<File> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// `Open` or `Read` by the file system, `NotACapture` or `Corrupt` by the file's first bytes.
    pub fn open(path: &Path) -> Result<Self, TapError> {
        let file = File::open(path).map_err(TapError::Open)?;
        if file.metadata().map_err(TapError::Open)?.is_dir() {
            return Err(TapError::NotACapture("it is a directory".to_owned()));
        }
        Self::from_reader(file)
    }
}

impl<R: Read> FileTap<R> {
    /// Reads a capture from anywhere, and its header at once.
    ///
    /// # Errors
    /// `Read` by the reader, `NotACapture` or `Corrupt` by the first bytes.
    pub fn from_reader(input: R) -> Result<Self, TapError> {
        let mut tap = Self {
            input,
            scanner: Scanner::new(),
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            offset: 0,
            handed_out: 0,
            is_done: false,
            packets: 0,
            bytes: 0,
            skips: Skips::default(),
        };
        while !tap.scanner.is_open() {
            match tap.scan()? {
                Step::More { wanted } => {
                    if !tap.fill(wanted)? {
                        let first = &tap.buffer[..tap.end];
                        return Err(TapError::NotACapture(match first {
                            [_, _, _, _, ..] => {
                                format!("it ends inside its header, after {} bytes", tap.end)
                            }
                            _ => describe(first),
                        }));
                    }
                }
                Step::Pass { length } => {
                    tap.pass(length)?;
                }
                Step::Packet(_) => unreachable!("a file's first record is its header"),
            }
        }
        Ok(tap)
    }

    /// The next UDP datagram, or `None` at the end. Whatever lies between is counted.
    ///
    /// # Errors
    /// `Corrupt` or `Read`, once: what came before holds, and the next call says `None`.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot lend from its own buffer"
    )]
    pub fn next(&mut self) -> Result<Option<Datagram<'_>>, TapError> {
        if self.is_done {
            return Ok(None);
        }
        let found = self.next_head();
        self.is_done = !matches!(found, Ok(Some(_)));
        Ok(found?.map(|(at, packet, head)| {
            let from = self.start + packet.start;
            head.datagram(at, &self.buffer[from..from + packet.captured])
        }))
    }

    /// Packets in the file so far, with one that the end of the file cut.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The length of these packets on the wire, link headers included, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What did not become a datagram so far: `packets()` is the datagrams and these.
    pub const fn skips(&self) -> &Skips {
        &self.skips
    }

    /// Goes on to the next packet with a UDP head; its record stays at `start`.
    fn next_head(&mut self) -> Result<Option<(Moment, PacketRecord, UdpHead)>, TapError> {
        let handed_out = std::mem::take(&mut self.handed_out);
        self.advance(handed_out);
        loop {
            match self.scan()? {
                Step::Packet(packet) => {
                    self.packets += 1;
                    self.bytes += u64::from(packet.original);
                    match self.dissect(&packet) {
                        Ok((at, head)) => {
                            self.handed_out = packet.length;
                            return Ok(Some((at, packet, head)));
                        }
                        Err(reason) => {
                            self.skips.count(reason);
                            self.advance(packet.length);
                        }
                    }
                }
                Step::Pass { length } => {
                    if !self.pass(length)? {
                        self.count_cut_record();
                        return Ok(None);
                    }
                }
                Step::More { wanted } => {
                    if !self.fill(wanted)? {
                        if self.start < self.end {
                            self.count_cut_record();
                        }
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn dissect(&self, packet: &PacketRecord) -> Result<(Moment, UdpHead), SkipReason> {
        let link = match packet.link {
            Some(Link::Known(link)) => link,
            Some(Link::Unsupported) => return Err(SkipReason::UnsupportedLink),
            None => return Err(SkipReason::UnknownInterface),
        };
        let at = Moment::from_nanos(packet.at_nanos.ok_or(SkipReason::NoTimestamp)?);
        let from = self.start + packet.start;
        let head =
            link::dissect(link, &self.buffer[from..from + packet.captured], packet.original)?;
        Ok((at, head))
    }

    /// A capture that was interrupted ends like this; all before it is sound.
    const fn count_cut_record(&mut self) {
        self.packets += 1;
        self.skips.count(SkipReason::TruncatedRecord);
    }

    fn scan(&mut self) -> Result<Step, TapError> {
        self.scanner.scan(&self.buffer[self.start..self.end]).map_err(|error| match error {
            RecordError::NotACapture { first } => TapError::NotACapture(describe(&first)),
            RecordError::Corrupt(detail) => TapError::Corrupt { offset: self.offset, detail },
        })
    }

    fn advance(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// Passes `length` bytes, read or not; false where the file ends before.
    fn pass(&mut self, length: u64) -> Result<bool, TapError> {
        let mut left = length;
        loop {
            let there = self.end - self.start;
            if left <= there as u64 {
                self.advance(left as usize);
                return Ok(true);
            }
            self.advance(there);
            left -= there as u64;
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }

    /// Reads until `wanted` bytes are there; false where the file ends before.
    fn fill(&mut self, wanted: usize) -> Result<bool, TapError> {
        assert!(wanted <= RECORD_BYTES_MAX, "a record was asked for that is longer than any");
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(RECORD_BYTES_MAX, 0);
        }
        while self.end < wanted {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TapError::Read(error)),
            }
        }
        Ok(true)
    }
}

/// What a file is that is no capture.
fn describe(first: &[u8]) -> String {
    match first {
        [] => "it is empty".to_owned(),
        [0x1f, 0x8b, ..] => "it is compressed with gzip, unpack it first".to_owned(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd, unpack it first".to_owned(),
        _ => {
            let shown: Vec<String> =
                first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("first bytes {} are neither pcap nor pcapng", shown.join(" "))
        }
    }
}
