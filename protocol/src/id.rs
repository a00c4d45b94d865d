//! Who and what a record speaks of.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The machine that runs one agent: 128 random bits, fixed at enrolment, written in the client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub [u8; 16]);

/// One life of an endpoint's spool: 32 random bits drawn when the spool is made.
///
/// Sequence numbers start at 0 in each epoch. A spool that was lost, or whose sequence would wrap, starts a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// A record's number within its epoch, from 0 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u32);

/// Names one record of one endpoint for ever: sending it twice changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The life of the spool that the record was written in.
    pub epoch: Epoch,
    /// The record's number in that life.
    pub sequence: Sequence,
}

/// One call of one endpoint: 64 random bits drawn when the call opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A leg's number within its call, from 0 in the order of opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegNumber(pub u16);

// A random 64-bit number costs ten bytes as a varint and eight as it is.
impl Serialize for CallId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_le_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; 8]>::deserialize(deserializer).map(|bytes| Self(u64::from_le_bytes(bytes)))
    }
}

impl Sequence {
    /// Returns the number after this one, or `None` at the end of the epoch.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for EndpointId {
    /// The 8-4-4-4-12 form of RFC 9562, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The text is not 32 hexadecimal digits, with or without hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a hexadecimal id of the expected length")
    }
}

impl core::error::Error for ParseIdError {}

impl core::str::FromStr for EndpointId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0u8; 16];
        let mut digits = 0usize;
        for character in text.chars().filter(|c| *c != '-') {
            let value = character.to_digit(16).ok_or(ParseIdError)?;
            let byte = bytes.get_mut(digits / 2).ok_or(ParseIdError)?;
            *byte = (*byte << 4) | value as u8;
            digits += 1;
        }
        if digits == 32 { Ok(Self(bytes)) } else { Err(ParseIdError) }
    }
}

impl fmt::Display for CallId {
    /// Sixteen lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl core::str::FromStr for CallId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseIdError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseIdError)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write as _;

    use heapless::String;

    use super::{CallId, EndpointId, ParseIdError, Sequence};

    fn text(value: impl core::fmt::Display) -> String<40> {
        let mut text = String::new();
        write!(text, "{value}").unwrap();
        text
    }

    #[test]
    fn endpoint_id_reads_what_it_shows_and_bare_digits() {
        let id = EndpointId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xff]);
        assert_eq!(text(id), "00010203-0405-0607-0809-0a0b0c0d0eff");
        assert_eq!(text(id).parse(), Ok(id));
        assert_eq!("000102030405060708090A0B0C0D0EFF".parse(), Ok(id));
    }

    #[test]
    fn endpoint_id_of_another_length_or_alphabet_is_refused() {
        for wrong in [
            "",
            "000102030405060708090a0b0c0d0ef",
            "000102030405060708090a0b0c0d0eff0",
            "000102030405060708090a0b0c0d0efg",
            "00010203 0405060708090a0b0c0d0eff",
        ] {
            assert_eq!(wrong.parse::<EndpointId>(), Err(ParseIdError), "{wrong}");
        }
    }

    #[test]
    fn call_id_is_sixteen_digits_and_nothing_else() {
        let id = CallId(0x00ab_cdef_0123_4567);
        assert_eq!(text(id), "00abcdef01234567");
        assert_eq!(text(id).parse(), Ok(id));
        for wrong in ["", "abcdef01234567", "+0abcdef01234567", "00abcdef012345678"] {
            assert_eq!(wrong.parse::<CallId>(), Err(ParseIdError), "{wrong}");
        }
    }

    /// Eight bytes as they are, where a varint of a random number would take ten.
    #[test]
    fn call_id_travels_as_eight_bytes_lowest_first() {
        let mut buffer = [0; 16];
        let bytes = postcard::to_slice(&CallId(0x8877_6655_4433_2211), &mut buffer).unwrap();
        assert_eq!(bytes, [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    }

    #[test]
    fn epoch_ends_with_its_last_sequence() {
        assert_eq!(Sequence(7).next(), Some(Sequence(8)));
        assert_eq!(Sequence(u32::MAX).next(), None);
    }
}
