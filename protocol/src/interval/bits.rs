//! Whole numbers as bits: Exp-Golomb codes with an escape, most significant bit first (`WIRE.md` section 6.2).
//!
//! Each number has exactly one code, and the bits behind the last one up to the byte's end are 0. The reader refuses
//! anything else, so two packs with the same content have the same bytes.

use heapless::Vec;

/// A prefix of this many zeros announces a plain number of 32 bits.
const ESCAPE_ZEROS: u32 = 8;

/// The longest code: the escape and the plain number.
pub(super) const CODE_BITS_MAX: usize = ESCAPE_ZEROS as usize + 32;

/// The number of bits in which small numbers of a field end, 0..=7: numbers below `2^order` take `order + 1` bits.
pub(super) type Order = u32;

/// Returns the smallest number whose code of `order` has `zeros` leading zeros.
const fn base(order: Order, zeros: u32) -> u32 {
    ((1 << zeros) - 1) << order
}

/// Writes bits into at most `N` bytes.
#[derive(Debug)]
pub(super) struct BitWriter<const N: usize> {
    bytes: Vec<u8, N>,
    /// Bits of the last byte that are not yet written, 0..=7.
    free: u32,
}

impl<const N: usize> BitWriter<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), free: 0 }
    }

    /// Writes one bit; `None` beyond `N` bytes.
    pub(super) fn put_bit(&mut self, bit: bool) -> Option<()> {
        if self.free == 0 {
            self.bytes.push(0).ok()?;
            self.free = 8;
        }
        self.free -= 1;
        *self.bytes.last_mut()? |= u8::from(bit) << self.free;
        Some(())
    }

    /// Writes the low `count` bits of `value`; `None` beyond `N` bytes.
    pub(super) fn put_plain(&mut self, value: u32, count: u32) -> Option<()> {
        (0..count).rev().try_for_each(|shift| self.put_bit(value >> shift & 1 == 1))
    }

    /// Writes the code of `value`; `None` beyond `N` bytes.
    pub(super) fn put(&mut self, value: u32, order: Order) -> Option<()> {
        match (0..ESCAPE_ZEROS).find(|zeros| value < base(order, zeros + 1)) {
            Some(zeros) => {
                self.put_plain(1, zeros + 1)?;
                self.put_plain(value - base(order, zeros), order + zeros)
            }
            None => {
                self.put_plain(0, ESCAPE_ZEROS)?;
                self.put_plain(value, 32)
            }
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8, N> {
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits of the first byte that are already read, 0..=7.
    taken: u32,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Reads one bit; `None` at the end.
    pub(super) fn take_bit(&mut self) -> Option<bool> {
        let (first, rest) = self.bytes.split_first()?;
        let bit = first >> (7 - self.taken) & 1 == 1;
        self.taken += 1;
        if self.taken == 8 {
            self.taken = 0;
            self.bytes = rest;
        }
        Some(bit)
    }

    /// Reads `count` bits, at most 32, as a number; `None` where fewer are left.
    pub(super) fn take_plain(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.take_bit()?)))
    }

    /// Reads one code; `None` where it is cut off, or an escape stands for a number that has a shorter code.
    pub(super) fn take(&mut self, order: Order) -> Option<u32> {
        for zeros in 0..ESCAPE_ZEROS {
            if self.take_bit()? {
                return Some(base(order, zeros) + self.take_plain(order + zeros)?);
            }
        }
        self.take_plain(32).filter(|value| *value >= base(order, ESCAPE_ZEROS))
    }

    /// Whether nothing but the zeros that fill the last byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        match self.bytes {
            [] => true,
            [last] => self.taken > 0 && last << self.taken == 0,
            [_, _, ..] => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BitReader, BitWriter, CODE_BITS_MAX, ESCAPE_ZEROS, base};

    fn code(value: u32, order: u32) -> heapless::Vec<u8, 5> {
        let mut writer = BitWriter::new();
        writer.put(value, order).unwrap();
        writer.into_bytes()
    }

    #[test]
    fn codes_are_those_of_the_wire_text() {
        // Order 0: 0 is "1", 1 is "010", 2 is "011", 3 is "00100".
        assert_eq!(code(0, 0), [0b1000_0000]);
        assert_eq!(code(1, 0), [0b0100_0000]);
        assert_eq!(code(2, 0), [0b0110_0000]);
        assert_eq!(code(3, 0), [0b0010_0000]);
        // Order 3: 7 is "1" and "111", 8 is "01" and "0000", 23 is "01" and "1111", 24 is "001" and "00000".
        assert_eq!(code(7, 3), [0b1111_0000]);
        assert_eq!(code(8, 3), [0b0100_0000]);
        assert_eq!(code(23, 3), [0b0111_1100]);
        assert_eq!(code(24, 3), [0b0010_0000]);
        // Order 0: 254 is the last with seven zeros and seven bits; 255 is the first escape.
        assert_eq!(code(254, 0), [0b0000_0001, 0b1111_1110]);
        assert_eq!(code(255, 0), [0, 0, 0, 0, 255]);
        assert_eq!(code(u32::MAX, 7), [0, 255, 255, 255, 255]);
    }

    #[test]
    fn numbers_at_every_change_of_length_come_back() {
        for order in 0..=7 {
            let edges = (0..=ESCAPE_ZEROS).map(|zeros| base(order, zeros)).chain([u32::MAX]);
            for value in edges.flat_map(|edge| [edge.saturating_sub(1), edge]) {
                let bytes = code(value, order);
                assert!(bytes.len() * 8 < CODE_BITS_MAX + 8);
                let mut reader = BitReader::new(&bytes);
                assert_eq!(reader.take(order), Some(value), "order {order}");
                assert!(reader.is_at_end());
            }
        }
    }

    #[test]
    fn escape_for_a_number_with_a_shorter_code_is_refused() {
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 254]).take(0), None);
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 255]).take(0), Some(255));
    }

    #[test]
    fn filling_must_be_zeros_of_less_than_a_byte() {
        let after_one_bit = |bytes| {
            let mut reader = BitReader::new(bytes);
            reader.take_bit();
            reader.is_at_end()
        };
        assert!(after_one_bit(&[0x80]));
        assert!(!after_one_bit(&[0x81]));
        assert!(!after_one_bit(&[0x80, 0x00]));
        assert!(!BitReader::new(&[0x00]).is_at_end());
    }

    #[test]
    fn full_writer_says_so() {
        let mut writer = BitWriter::<1>::new();
        assert_eq!(writer.put_plain(0, 8), Some(()));
        assert_eq!(writer.put_bit(false), None);
    }
}
