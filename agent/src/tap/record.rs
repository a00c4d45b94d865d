//! The records of a capture file: pcap and pcapng, any byte order, any time resolution.
//!
//! Takes bytes and says what the next record is, or how many bytes that takes; holds no packet and does no I/O. An own
//! reader rather than libpcap's, which refuses a pcapng file whose interfaces differ in link type.
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A record wants at most [`RECORD_BYTES_MAX`] bytes of
//! memory, a file at most [`INTERFACES_MAX`] interfaces, whatever its length fields say.

use super::link::LinkType;

/// What libpcap and Wireshark take as the longest packet that an honest file can hold.
pub(super) const PACKET_BYTES_MAX: u32 = 256 * 1024;

/// The longest record that is looked at: a packet and as many options as an option's 16-bit length allows.
pub(super) const RECORD_BYTES_MAX: usize = PACKET_BYTES_MAX as usize + 64 * 1024;

/// More than any machine has; beyond it, packets count as being of an unknown interface.
pub(super) const INTERFACES_MAX: usize = 1024;

const PCAP_HEAD_BYTES: usize = 24;
const PCAP_RECORD_HEAD_BYTES: usize = 16;
/// Type, length, byte-order magic, version, section length, length again.
const SECTION_BYTES_MIN: usize = 28;
/// Type, length, interface, two words of time, captured length, original length.
const PACKET_BLOCK_HEAD_BYTES: usize = 28;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What comes next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// At least `wanted` bytes must be there to say it, never more than [`RECORD_BYTES_MAX`].
    More { wanted: usize },
    /// `length` bytes without a packet; they need not all be there.
    Pass { length: u64 },
    /// A packet, all of it there.
    Packet(PacketRecord),
}

/// A packet in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketRecord {
    /// How its interface frames; `None` where the file does not describe the interface.
    pub(super) link: Option<Link>,
    /// Nanoseconds since 1970; `None` where the record has no time.
    pub(super) at_nanos: Option<u64>,
    /// Where its bytes begin, from the start of the record.
    pub(super) start: usize,
    /// How many bytes of it the file has.
    pub(super) captured: usize,
    /// How many bytes it had on the wire.
    pub(super) original: u32,
    /// The length of the whole record in bytes.
    pub(super) length: usize,
}

/// The link type of an interface, which may be one that nobody here can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Known(LinkType),
    Unsupported,
}

impl Link {
    const fn from_number(number: u32) -> Self {
        match LinkType::from_number(number) {
            Some(link) => Self::Known(link),
            None => Self::Unsupported,
        }
    }
}

/// Why a file cannot be read on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordError {
    /// The first bytes are those of no capture file.
    NotACapture { first: [u8; 4] },
    /// The record breaks its format.
    Corrupt(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    #[inline]
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = bytes[at..].first_chunk().copied().expect("callers check the length first");
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    #[inline]
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = bytes[at..].first_chunk().copied().expect("callers check the length first");
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// Reads the records of one file in turn.
#[derive(Debug)]
pub(super) struct Scanner {
    format: Format,
}

#[derive(Debug)]
enum Format {
    /// Nothing was read yet.
    Unknown,
    Pcap {
        order: ByteOrder,
        link: Link,
        nanos_per_fraction: u64,
    },
    PcapNg {
        order: ByteOrder,
        interfaces: Vec<Interface>,
    },
}

impl Scanner {
    pub(super) const fn new() -> Self {
        Self { format: Format::Unknown }
    }

    /// Whether the file's own header was read.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.format, Format::Unknown)
    }

    /// Says what `input` begins with. After `Pass` or `Packet`, the next input begins behind it.
    #[inline]
    pub(super) fn scan(&mut self, input: &[u8]) -> Result<Step, RecordError> {
        match &mut self.format {
            Format::Pcap { order, link, nanos_per_fraction } => {
                pcap_record(*order, *link, *nanos_per_fraction, input)
            }
            Format::PcapNg { order, interfaces } => block(order, interfaces, input),
            Format::Unknown => self.file_head(input),
        }
    }

    fn file_head(&mut self, input: &[u8]) -> Result<Step, RecordError> {
        let Some(&first) = input.first_chunk::<4>() else {
            return Ok(Step::More { wanted: 4 });
        };
        let (order, nanos_per_fraction) = match first {
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1_000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1_000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1),
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                let (mut order, mut interfaces) = (ByteOrder::Little, Vec::new());
                let step = block(&mut order, &mut interfaces, input)?;
                if !matches!(step, Step::More { .. }) {
                    self.format = Format::PcapNg { order, interfaces };
                }
                return Ok(step);
            }
            _ => return Err(RecordError::NotACapture { first }),
        };
        if input.len() < PCAP_HEAD_BYTES {
            return Ok(Step::More { wanted: PCAP_HEAD_BYTES });
        }
        if order.u16(input, 4) != 2 {
            return Err(RecordError::Corrupt("its pcap version is not 2"));
        }
        // The upper half of the word holds the length of a frame check sequence.
        let link = Link::from_number(order.u32(input, 20) & 0xffff);
        self.format = Format::Pcap { order, link, nanos_per_fraction };
        Ok(Step::Pass { length: PCAP_HEAD_BYTES as u64 })
    }
}

#[inline]
fn pcap_record(
    order: ByteOrder,
    link: Link,
    nanos_per_fraction: u64,
    input: &[u8],
) -> Result<Step, RecordError> {
    let Some(head) = input.first_chunk::<PCAP_RECORD_HEAD_BYTES>() else {
        return Ok(Step::More { wanted: PCAP_RECORD_HEAD_BYTES });
    };
    let captured = order.u32(head, 8);
    if captured > PACKET_BYTES_MAX {
        return Err(RecordError::Corrupt("a packet longer than 256 KiB"));
    }
    let captured = captured as usize;
    let length = PCAP_RECORD_HEAD_BYTES + captured;
    if input.len() < length {
        return Ok(Step::More { wanted: length });
    }
    // No overflow: both words are below 2^32, so the sum is below 2^32 * 1_000_001_000 < 2^63.
    let at_nanos = u64::from(order.u32(head, 0)) * NANOS_PER_SECOND
        + u64::from(order.u32(head, 4)) * nanos_per_fraction;
    Ok(Step::Packet(PacketRecord {
        link: Some(link),
        at_nanos: Some(at_nanos),
        start: PCAP_RECORD_HEAD_BYTES,
        captured,
        original: order.u32(head, 12),
        length,
    }))
}

/// One pcapng block. A section header sets the byte order anew and forgets the interfaces.
#[inline]
fn block(
    order: &mut ByteOrder,
    interfaces: &mut Vec<Interface>,
    input: &[u8],
) -> Result<Step, RecordError> {
    if input.len() < 12 {
        return Ok(Step::More { wanted: 12 });
    }
    let kind = order.u32(input, 0);
    // A palindrome: it reads the same in either order, and only its third word tells which one holds.
    if kind == SECTION_HEADER {
        *order = match input[8..12] {
            [0x4d, 0x3c, 0x2b, 0x1a] => ByteOrder::Little,
            [0x1a, 0x2b, 0x3c, 0x4d] => ByteOrder::Big,
            _ => return Err(RecordError::Corrupt("a pcapng section without its byte-order magic")),
        };
    }
    let length = order.u32(input, 4);
    if length < 12 || !length.is_multiple_of(4) {
        return Err(RecordError::Corrupt("a pcapng block with an impossible length"));
    }
    let is_known = matches!(
        kind,
        SECTION_HEADER | INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
    );
    if !is_known {
        return Ok(Step::Pass { length: u64::from(length) });
    }
    let length = length as usize;
    if length > RECORD_BYTES_MAX {
        return Err(RecordError::Corrupt("a pcapng block longer than 320 KiB"));
    }
    if input.len() < length {
        return Ok(Step::More { wanted: length });
    }
    let block = &input[..length];
    if order.u32(block, length - 4) as usize != length {
        return Err(RecordError::Corrupt("a pcapng block whose two lengths differ"));
    }
    match kind {
        SECTION_HEADER => {
            if length < SECTION_BYTES_MIN || order.u16(block, 12) != 1 {
                return Err(RecordError::Corrupt("its pcapng version is not 1"));
            }
            interfaces.clear();
            Ok(Step::Pass { length: length as u64 })
        }
        INTERFACE_DESCRIPTION => {
            if length < 20 {
                return Err(RecordError::Corrupt("a pcapng interface block that is too short"));
            }
            if interfaces.len() < INTERFACES_MAX {
                interfaces.push(Interface::read(*order, block));
            }
            Ok(Step::Pass { length: length as u64 })
        }
        SIMPLE_PACKET => simple_packet(*order, interfaces, block),
        _ => timed_packet(*order, interfaces, kind, block),
    }
}

/// An enhanced or an obsolete packet block, which differ in the width of the interface number only.
#[inline]
fn timed_packet(
    order: ByteOrder,
    interfaces: &[Interface],
    kind: u32,
    block: &[u8],
) -> Result<Step, RecordError> {
    if block.len() < PACKET_BLOCK_HEAD_BYTES + 4 {
        return Err(RecordError::Corrupt("a pcapng packet block that is too short"));
    }
    let number = match kind {
        OBSOLETE_PACKET => u32::from(order.u16(block, 8)),
        _ => order.u32(block, 8),
    };
    let captured = order.u32(block, 20) as usize;
    if captured > block.len() - PACKET_BLOCK_HEAD_BYTES - 4 {
        return Err(RecordError::Corrupt("a pcapng packet longer than its block"));
    }
    let interface = interfaces.get(number as usize);
    let ticks = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
    Ok(Step::Packet(PacketRecord {
        link: interface.map(|interface| interface.link),
        at_nanos: interface.map(|interface| interface.nanos(ticks)),
        start: PACKET_BLOCK_HEAD_BYTES,
        captured,
        original: order.u32(block, 24),
        length: block.len(),
    }))
}

/// A packet of interface 0 without a time, nor a captured length: up to 3 bytes of it may be padding.
fn simple_packet(
    order: ByteOrder,
    interfaces: &[Interface],
    block: &[u8],
) -> Result<Step, RecordError> {
    if block.len() < 16 {
        return Err(RecordError::Corrupt("a pcapng packet block that is too short"));
    }
    let original = order.u32(block, 8);
    Ok(Step::Packet(PacketRecord {
        link: interfaces.first().map(|interface| interface.link),
        at_nanos: None,
        start: 12,
        captured: (block.len() - 16).min(original as usize),
        original,
        length: block.len(),
    }))
}

/// What a pcapng file says about one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interface {
    link: Link,
    resolution: Resolution,
    offset_seconds: i64,
}

/// How long one tick of an interface's time stamps lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolution {
    /// A tick is this many nanoseconds.
    Multiple(u64),
    /// This many ticks are one nanosecond.
    Fraction(u64),
    /// 2 to the power of this many ticks are one second.
    Binary(u32),
}

impl Interface {
    const OPTION_END: u16 = 0;
    const OPTION_RESOLUTION: u16 = 9;
    const OPTION_OFFSET: u16 = 14;

    /// From a whole block of at least 20 bytes. An option that runs out of its block ends the options.
    fn read(order: ByteOrder, block: &[u8]) -> Self {
        let mut interface = Self {
            link: Link::from_number(u32::from(order.u16(block, 8))),
            resolution: Resolution::Multiple(1_000),
            offset_seconds: 0,
        };
        let mut options = &block[16..block.len() - 4];
        while let [_, _, _, _, values @ ..] = options {
            let (code, length) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let Some(value) = values.get(..length) else { break };
            match (code, value) {
                (Self::OPTION_END, _) => break,
                (Self::OPTION_RESOLUTION, &[exponent, ..]) => {
                    interface.resolution = Resolution::from_exponent(exponent);
                }
                (Self::OPTION_OFFSET, value) => {
                    if let Some(&value) = value.first_chunk::<8>() {
                        interface.offset_seconds = match order {
                            ByteOrder::Little => i64::from_le_bytes(value),
                            ByteOrder::Big => i64::from_be_bytes(value),
                        };
                    }
                }
                _ => {}
            }
            options = values.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        interface
    }

    /// Nanoseconds since 1970, held to what a `u64` can say.
    #[inline]
    fn nanos(self, ticks: u64) -> u64 {
        let nanos = match self.resolution {
            Resolution::Multiple(nanos) => ticks.saturating_mul(nanos),
            Resolution::Fraction(ticks_per_nano) => ticks / ticks_per_nano,
            Resolution::Binary(exponent) => {
                // 2^64 * 10^9 < 2^94 fits, and an exponent is at most 127.
                let nanos = (u128::from(ticks) * u128::from(NANOS_PER_SECOND)) >> exponent;
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        };
        if self.offset_seconds == 0 {
            return nanos;
        }
        let nanos =
            i128::from(nanos) + i128::from(self.offset_seconds) * i128::from(NANOS_PER_SECOND);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }
}

impl Resolution {
    /// From the value of `if_tsresol`: a power of 10, or with the highest bit set a power of 2.
    fn from_exponent(value: u8) -> Self {
        let exponent = u32::from(value & 0x7f);
        if value & 0x80 != 0 {
            return Self::Binary(exponent);
        }
        match 9_u32.checked_sub(exponent) {
            Some(missing) => Self::Multiple(10_u64.pow(missing)),
            None => match 10_u64.checked_pow(exponent - 9) {
                Some(ticks_per_nano) => Self::Fraction(ticks_per_nano),
                // 2^64 ticks of 10^-29 s or less are not one nanosecond.
                None => Self::Multiple(0),
            },
        }
    }
}
