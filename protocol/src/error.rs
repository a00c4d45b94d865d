//! What can be wrong with bytes, split by what the reader does next.

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes are needed: `needed` in all. On a stream: read on. In a file: a torn tail.
    Incomplete {
        /// How many bytes the frame has from its first byte.
        needed: usize,
    },
    /// The first two bytes are not the magic. On a stream: the peer speaks something else, close.
    Magic {
        /// The two bytes found, little-endian.
        found: u16,
    },
    /// A wire version that this reader does not know. The length is not trusted either: close.
    Version {
        /// The version byte found.
        found: u8,
    },
    /// The header announces a body beyond [`BODY_BYTES_MAX`](crate::limits::BODY_BYTES_MAX): close.
    TooLong {
        /// The length announced, in bytes.
        length: usize,
    },
    /// The bytes changed after they were written. In a spool: set the record aside and go on behind it.
    Checksum {
        /// The CRC32C in the header.
        stored: u32,
        /// The CRC32C of the bytes at hand.
        computed: u32,
    },
    /// The checksum holds but the body does not decode as its kind: the writer is wrong. Skip, count, go on.
    Body {
        /// The kind byte.
        kind: u8,
    },
}

/// Why a message did not become bytes. Both are the writer's own mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The buffer is shorter than the frame; [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) always suffices.
    BufferTooSmall,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Incomplete { needed } => write!(f, "incomplete frame, {needed} bytes needed"),
            Self::Magic { found } => write!(f, "not a roomtone frame (first bytes {found:#06x})"),
            Self::Version { found } => write!(f, "unknown wire version {found}"),
            Self::TooLong { length } => write!(f, "frame body of {length} bytes exceeds the limit"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum mismatch (stored {stored:#010x}, computed {computed:#010x})")
            }
            Self::Body { kind } => write!(f, "body does not decode as kind {kind:#04x}"),
        }
    }
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BufferTooSmall => write!(f, "buffer too small for the frame"),
        }
    }
}

impl core::error::Error for DecodeError {}
impl core::error::Error for EncodeError {}
