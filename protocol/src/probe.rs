//! Probes of the path: what travels in QUIC datagrams beside the frames.
//!
//! Fixed layouts, hand-coded, without a checksum: QUIC authenticates each packet (RFC 9001 section 5.3). Each datagram
//! stands alone, so loss, reordering and repetition are harmless. All numbers are little-endian.
//!
//! ```text
//!            0    1     2          6         10          18        22       26
//! Probe      01 | flags | sequence |
//! Echo       02 | flags | probe    | echo    | received  | held    | latest | window  |   34 bytes
//! Receipt    03 | flags | latest   | bitmap, 128 bytes                                |  134 bytes
//! ```
//! A Probe does not carry when it was sent: the agent remembers that, and nobody else needs it. What tells the
//! directions of a loss apart is the collector's account of what arrived: the latest 64 probes in each Echo, the latest
//! 1,024 in a Receipt.
//!
//! A reader ignores flags that it does not know and bytes behind the layout that it knows: both are for later versions.

use crate::error::EncodeError;

/// How many probes a [`Receipt`] tells of.
pub const RECEIPT_PROBES: usize = 1024;
/// How many probes an [`Echo`] tells of.
pub const WINDOW_PROBES: usize = 64;
/// The length of a [`Probe`], in bytes.
pub const PROBE_BYTES: usize = 6;
/// The length of an [`Echo`], in bytes.
pub const ECHO_BYTES: usize = 34;
/// The length of a [`Receipt`], in bytes.
pub const RECEIPT_BYTES: usize = 6 + RECEIPT_PROBES / 8;
/// The longest datagram, in bytes.
pub const DATAGRAM_BYTES_MAX: usize = RECEIPT_BYTES;

/// The kind byte of a [`Probe`].
const KIND_PROBE: u8 = 0x01;
/// The kind byte of an [`Echo`].
const KIND_ECHO: u8 = 0x02;
/// The kind byte of a [`Receipt`].
const KIND_RECEIPT: u8 = 0x03;
/// The flag of a [`Probe`] that asks for a [`Receipt`] behind the [`Echo`].
const FLAG_RECEIPT: u8 = 0x01;

/// A probe of the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its number: from 0 on each connection, without gaps, wrapping.
    pub sequence: u32,
    /// Whether a [`Receipt`] is to follow the [`Echo`].
    pub wants_receipt: bool,
}

/// The collector's answer to one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The probe that it answers.
    pub probe: u32,
    /// Its own number: from 0 on each connection, without gaps, wrapping.
    pub echo: u32,
    /// When the probe arrived, in microseconds of a clock of the collector's that never steps; its origin is any.
    pub received_us: u64,
    /// How long the collector held the probe before it answered, in microseconds; the largest value and more alike.
    pub held_us: u32,
    /// The latest probe that arrived, by its number.
    pub latest: u32,
    /// What arrived: bit n, from the least significant, is the probe `latest - n`.
    pub window: u64,
}

/// The collector's account of the latest probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The latest probe that arrived, by its number.
    pub latest: u32,
    /// What arrived: bit n % 64, from the least significant, of word n / 64 is the probe `latest - n`.
    pub bitmap: [u64; RECEIPT_PROBES / 64],
}

/// What one datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// From the agent.
    Probe(Probe),
    /// From the collector.
    Echo(Echo),
    /// From the collector.
    Receipt(Receipt),
}

/// Why bytes are no datagram of this version. Both are to be skipped and counted: a connection never ends for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeError {
    /// A kind of a later version, or garbage; `None` where there is no byte at all.
    Kind {
        /// The kind byte.
        found: Option<u8>,
    },
    /// The bytes end before the layout of their kind does.
    Short {
        /// The kind byte.
        kind: u8,
        /// How many bytes there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
}

impl Datagram {
    /// Writes the datagram to the start of `buffer` and returns its length.
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`]; [`DATAGRAM_BYTES_MAX`] bytes always suffice.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let mut out = Writer { buffer, at: 0 };
        match self {
            Self::Probe(Probe { sequence, wants_receipt }) => {
                out.put(&[KIND_PROBE, if *wants_receipt { FLAG_RECEIPT } else { 0 }])?;
                out.put(&sequence.to_le_bytes())?;
            }
            Self::Echo(Echo { probe, echo, received_us, held_us, latest, window }) => {
                out.put(&[KIND_ECHO, 0])?;
                out.put(&probe.to_le_bytes())?;
                out.put(&echo.to_le_bytes())?;
                out.put(&received_us.to_le_bytes())?;
                out.put(&held_us.to_le_bytes())?;
                out.put(&latest.to_le_bytes())?;
                out.put(&window.to_le_bytes())?;
            }
            Self::Receipt(Receipt { latest, bitmap }) => {
                out.put(&[KIND_RECEIPT, 0])?;
                out.put(&latest.to_le_bytes())?;
                for word in bitmap {
                    out.put(&word.to_le_bytes())?;
                }
            }
        }
        Ok(out.at)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ProbeError> {
        let kind = *bytes.first().ok_or(ProbeError::Kind { found: None })?;
        let needed = match kind {
            KIND_PROBE => PROBE_BYTES,
            KIND_ECHO => ECHO_BYTES,
            KIND_RECEIPT => RECEIPT_BYTES,
            found => return Err(ProbeError::Kind { found: Some(found) }),
        };
        let short = ProbeError::Short { kind, found: bytes.len(), needed };
        let flags = *bytes.get(1).ok_or(short)?;
        let mut rest = Reader(bytes.get(2..needed).ok_or(short)?);
        let mut u32 = || rest.take().map(u32::from_le_bytes).ok_or(short);
        Ok(match kind {
            KIND_PROBE => {
                Self::Probe(Probe { sequence: u32()?, wants_receipt: flags & FLAG_RECEIPT != 0 })
            }
            KIND_ECHO => {
                let (probe, echo) = (u32()?, u32()?);
                let received_us = rest.take().map(u64::from_le_bytes).ok_or(short)?;
                let mut u32 = || rest.take().map(u32::from_le_bytes).ok_or(short);
                let (held_us, latest) = (u32()?, u32()?);
                let window = rest.take().map(u64::from_le_bytes).ok_or(short)?;
                Self::Echo(Echo { probe, echo, received_us, held_us, latest, window })
            }
            _ => {
                let latest = u32()?;
                let mut bitmap = [0; RECEIPT_PROBES / 64];
                for word in &mut bitmap {
                    *word = rest.take().map(u64::from_le_bytes).ok_or(short)?;
                }
                Self::Receipt(Receipt { latest, bitmap })
            }
        })
    }
}

/// Appends to a buffer that may be too short.
struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let to = self.at + bytes.len();
        let place = self.buffer.get_mut(self.at..to).ok_or(EncodeError::BufferTooSmall)?;
        place.copy_from_slice(bytes);
        self.at = to;
        Ok(())
    }
}

/// Takes from the start of what is left.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

impl core::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Kind { found: Some(found) } => write!(f, "unknown kind of datagram {found:#04x}"),
            Self::Kind { found: None } => write!(f, "empty datagram"),
            Self::Short { kind, found, needed } => {
                write!(f, "datagram of kind {kind:#04x} has {found} of {needed} bytes")
            }
        }
    }
}

impl core::error::Error for ProbeError {}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Datagram = Datagram::Echo(Echo {
        probe: 1,
        echo: 2,
        received_us: 3,
        held_us: 4,
        latest: 5,
        window: 0b10001,
    });

    fn encoded(datagram: Datagram) -> ([u8; DATAGRAM_BYTES_MAX], usize) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let length = datagram.encode(&mut buffer).unwrap();
        (buffer, length)
    }

    #[test]
    fn lengths_are_those_of_the_layouts() {
        let probe = Datagram::Probe(Probe { sequence: 7, wants_receipt: true });
        let receipt = Datagram::Receipt(Receipt { latest: 7, bitmap: [1; 16] });
        assert_eq!(encoded(probe).1, PROBE_BYTES);
        assert_eq!(encoded(ECHO).1, ECHO_BYTES);
        assert_eq!(encoded(receipt).1, RECEIPT_BYTES);
    }

    #[test]
    fn later_flags_and_bytes_behind_the_layout_are_ignored() {
        let (mut bytes, length) = encoded(ECHO);
        bytes[1] = 0xff;
        assert_eq!(Datagram::decode(&bytes[..length + 9]), Ok(ECHO));
        let found = Datagram::decode(&[KIND_PROBE, 0xfe, 9, 0, 0, 0, 1]);
        assert_eq!(found, Ok(Datagram::Probe(Probe { sequence: 9, wants_receipt: false })));
    }

    #[test]
    fn each_missing_byte_is_told_with_what_is_needed() {
        let (bytes, length) = encoded(ECHO);
        for found in 1..length {
            let short = ProbeError::Short { kind: KIND_ECHO, found, needed: ECHO_BYTES };
            assert_eq!(Datagram::decode(&bytes[..found]), Err(short));
        }
        assert_eq!(Datagram::decode(&[]), Err(ProbeError::Kind { found: None }));
        assert_eq!(Datagram::decode(&[0x52; 200]), Err(ProbeError::Kind { found: Some(0x52) }));
    }

    #[test]
    fn buffer_that_is_too_short_is_refused_at_each_length() {
        for length in 0..ECHO_BYTES {
            let mut buffer = [0; ECHO_BYTES];
            let refused = ECHO.encode(&mut buffer[..length]);
            assert_eq!(refused, Err(EncodeError::BufferTooSmall), "{length}");
        }
    }
}
