//! The pack: intervals as differences from a prediction, in bits (`WIRE.md` section 6).
//!
//! Each field is predicted to be what it was in the interval before *in the same pack*, and the difference modulo 2^32
//! is coded with an order that suits the field. All fields are 32 bits wide and differences wrap, so each difference
//! leads to a valid value and there is nothing to check but the end of the bytes and the presence of streams.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::interval::bits::{BitReader, BitWriter, CODE_BITS_MAX, Order};
use crate::interval::{INTERVAL_MS, LegInterval, StreamInterval};
use crate::limits::{INTERVAL_PACK_BYTES_MAX, INTERVALS_PER_FRAME_MAX, STREAMS_PER_LEG_MAX};

/// Why intervals did not become a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackError {
    /// There are more than [`INTERVALS_PER_FRAME_MAX`] intervals. Start another pack.
    Full,
    /// A row names a stream beyond the table, or its rows are not in ascending order of stream.
    StreamOrder,
}

/// Delta-coded intervals. Bytes from a peer are checked when the frame is decoded, so that reading cannot fail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IntervalPack {
    count: u8,
    bytes: Vec<u8, INTERVAL_PACK_BYTES_MAX>,
}

type Writer = BitWriter<INTERVAL_PACK_BYTES_MAX>;

const LEG_FIELDS: usize = 7;
const STREAM_FIELDS: usize = 7;

/// Orders of a leg's fields: duration, RTT count, minimum, mean above minimum, maximum above mean, unanswered, tap
/// dropped. Those that rest at their prediction in a sound leg take one bit there.
const LEG_ORDERS: [Order; LEG_FIELDS] = [0, 0, 6, 5, 5, 0, 0];

/// Orders of a stream's fields: expected, lost, duplicate, reordered, jitter mean, jitter maximum above mean, restarts.
const STREAM_ORDERS: [Order; STREAM_FIELDS] = [0, 2, 0, 2, 4, 4, 0];

/// What a stream's first interval is predicted to expect: packets of 20 ms, as nearly all speech is sent.
const FIRST_EXPECTED: u32 = 500;

const INTERVAL_BITS_MAX: usize = LEG_FIELDS * CODE_BITS_MAX
    + 1
    + STREAMS_PER_LEG_MAX
    + STREAMS_PER_LEG_MAX * STREAM_FIELDS * CODE_BITS_MAX;
const _: () = assert!(
    (INTERVALS_PER_FRAME_MAX * INTERVAL_BITS_MAX).div_ceil(8) == INTERVAL_PACK_BYTES_MAX,
    "the pack's capacity is that of six intervals whose fields all take the longest code"
);

/// What the next interval is predicted to be: the one before it, per stream.
#[derive(Debug, Clone)]
struct Prediction {
    leg: [u32; LEG_FIELDS],
    present: u16,
    streams: [[u32; STREAM_FIELDS]; STREAMS_PER_LEG_MAX],
}

impl Prediction {
    fn new() -> Self {
        let mut leg = [0; LEG_FIELDS];
        leg[0] = INTERVAL_MS;
        let mut stream = [0; STREAM_FIELDS];
        stream[0] = FIRST_EXPECTED;
        Self { leg, present: 0, streams: [stream; STREAMS_PER_LEG_MAX] }
    }
}

impl LegInterval {
    /// Mean and maximum are told by their distance from the value below: distances are small and steady where the
    /// values themselves are not.
    fn to_fields(&self) -> [u32; LEG_FIELDS] {
        [
            self.duration_ms,
            self.rtt_count,
            self.rtt_min_dms,
            self.rtt_mean_dms.wrapping_sub(self.rtt_min_dms),
            self.rtt_max_dms.wrapping_sub(self.rtt_mean_dms),
            self.rtt_unanswered,
            self.tap_dropped,
        ]
    }

    fn from_fields(fields: [u32; LEG_FIELDS]) -> Self {
        let [duration_ms, rtt_count, rtt_min_dms, above_min, above_mean, unanswered, dropped] =
            fields;
        let rtt_mean_dms = rtt_min_dms.wrapping_add(above_min);
        Self {
            duration_ms,
            rtt_count,
            rtt_min_dms,
            rtt_mean_dms,
            rtt_max_dms: rtt_mean_dms.wrapping_add(above_mean),
            rtt_unanswered: unanswered,
            tap_dropped: dropped,
            streams: Vec::new(),
        }
    }
}

impl StreamInterval {
    /// Expected stands for received: a sender's packet rate is steady, what arrives is not.
    fn to_fields(self) -> [u32; STREAM_FIELDS] {
        [
            self.received.wrapping_add_signed(self.lost),
            self.lost.cast_unsigned(),
            self.duplicate,
            self.reordered,
            self.jitter_mean_dms,
            self.jitter_max_dms.wrapping_sub(self.jitter_mean_dms),
            self.sequence_restarts,
        ]
    }

    fn from_fields(stream: u8, fields: [u32; STREAM_FIELDS]) -> Self {
        let [expected, lost, duplicate, reordered, jitter_mean_dms, above_mean, sequence_restarts] =
            fields;
        Self {
            stream,
            received: expected.wrapping_sub(lost),
            lost: lost.cast_signed(),
            duplicate,
            reordered,
            jitter_mean_dms,
            jitter_max_dms: jitter_mean_dms.wrapping_add(above_mean),
            sequence_restarts,
        }
    }
}

impl IntervalPack {
    /// Makes an empty pack.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, bytes: Vec::new() }
    }

    /// How many intervals it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The coded bytes, as a store may keep them beside `len`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Builds a pack from intervals in their order.
    ///
    /// `streams` is the length of the frame's stream table.
    ///
    /// # Errors
    /// [`PackError::Full`] beyond six intervals; [`PackError::StreamOrder`] where rows are not in ascending order of
    /// stream, each below `streams`.
    pub fn from_intervals(intervals: &[LegInterval], streams: usize) -> Result<Self, PackError> {
        if intervals.len() > INTERVALS_PER_FRAME_MAX {
            return Err(PackError::Full);
        }
        let mut writer = Writer::new();
        let mut prediction = Prediction::new();
        for interval in intervals {
            let present = presence(interval, streams)?;
            write(interval, present, &mut prediction, &mut writer)
                .expect("INTERVAL_PACK_BYTES_MAX is six times INTERVAL_BITS_MAX");
        }
        Ok(Self { count: intervals.len() as u8, bytes: writer.into_bytes() })
    }

    /// Rebuilds a pack from what [`bytes`](Self::bytes) and [`len`](Self::len) gave, checking every row.
    ///
    /// `streams` is the length of the frame's stream table. `None` where the bytes are not a valid pack.
    #[must_use]
    pub fn from_parts(count: u8, bytes: &[u8], streams: usize) -> Option<Self> {
        if usize::from(count) > INTERVALS_PER_FRAME_MAX {
            return None;
        }
        let mut rows = Rows::new(count, bytes, streams);
        for _ in 0..count {
            rows.read()?;
        }
        if !rows.bits.is_at_end() {
            return None;
        }
        Some(Self { count, bytes: Vec::from_slice(bytes).ok()? })
    }

    /// Reads the intervals back, in order.
    ///
    /// `streams` is the length of the frame's stream table.
    pub fn iter(&self, streams: usize) -> impl Iterator<Item = LegInterval> + '_ {
        Rows::new(self.count, &self.bytes, streams)
    }
}

/// Returns the streams of an interval, one bit each.
fn presence(interval: &LegInterval, streams: usize) -> Result<u16, PackError> {
    let mut present = 0u16;
    let mut lowest = 0;
    for row in &interval.streams {
        let stream = usize::from(row.stream);
        if stream < lowest || stream >= streams.min(STREAMS_PER_LEG_MAX) {
            return Err(PackError::StreamOrder);
        }
        present |= 1 << stream;
        lowest = stream + 1;
    }
    Ok(present)
}

/// Writes one interval; `None` where the writer is full.
fn write(
    interval: &LegInterval,
    present: u16,
    prediction: &mut Prediction,
    writer: &mut Writer,
) -> Option<()> {
    write_fields(interval.to_fields(), &mut prediction.leg, &LEG_ORDERS, writer)?;
    let changed = present != prediction.present;
    writer.put_bit(changed)?;
    if changed {
        writer.put_plain(u32::from(present), STREAMS_PER_LEG_MAX as u32)?;
        prediction.present = present;
    }
    for row in &interval.streams {
        let predicted = &mut prediction.streams[usize::from(row.stream)];
        write_fields(row.to_fields(), predicted, &STREAM_ORDERS, writer)?;
    }
    Some(())
}

fn write_fields<const N: usize>(
    fields: [u32; N],
    predicted: &mut [u32; N],
    orders: &[Order; N],
    writer: &mut Writer,
) -> Option<()> {
    for ((now, before), order) in fields.iter().zip(*predicted).zip(orders) {
        writer.put(zigzag(now.wrapping_sub(before).cast_signed()), *order)?;
    }
    *predicted = fields;
    Some(())
}

/// Small differences of either sign become small numbers: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
fn zigzag(difference: i32) -> u32 {
    (difference << 1 ^ difference >> 31).cast_unsigned()
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

struct Rows<'a> {
    bits: BitReader<'a>,
    streams: usize,
    prediction: Prediction,
    left: u8,
}

impl Iterator for Rows<'_> {
    type Item = LegInterval;

    fn next(&mut self) -> Option<LegInterval> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }
}

impl<'a> Rows<'a> {
    fn new(count: u8, bytes: &'a [u8], streams: usize) -> Self {
        let prediction = Prediction::new();
        Self { bits: BitReader::new(bytes), streams, prediction, left: count }
    }

    /// Reads one interval; `None` where the bytes are not one.
    fn read(&mut self) -> Option<LegInterval> {
        read_fields(&mut self.prediction.leg, &LEG_ORDERS, &mut self.bits)?;
        let mut interval = LegInterval::from_fields(self.prediction.leg);
        if self.bits.take_bit()? {
            let present = u16::try_from(self.bits.take_plain(STREAMS_PER_LEG_MAX as u32)?).ok()?;
            if present == self.prediction.present {
                return None;
            }
            self.prediction.present = present;
        }
        let present = self.prediction.present;
        for stream in (0..STREAMS_PER_LEG_MAX).filter(|stream| present >> stream & 1 == 1) {
            if stream >= self.streams {
                return None;
            }
            let fields = &mut self.prediction.streams[stream];
            read_fields(fields, &STREAM_ORDERS, &mut self.bits)?;
            interval.streams.push(StreamInterval::from_fields(stream as u8, *fields)).ok()?;
        }
        Some(interval)
    }
}

fn read_fields<const N: usize>(
    fields: &mut [u32; N],
    orders: &[Order; N],
    bits: &mut BitReader<'_>,
) -> Option<()> {
    for (field, order) in fields.iter_mut().zip(orders) {
        *field = field.wrapping_add_signed(unzigzag(bits.take(*order)?));
    }
    Some(())
}

#[derive(Deserialize)]
struct RawPack<'a> {
    count: u8,
    #[serde(borrow)]
    bytes: &'a [u8],
}

// The stream table is not at hand here; `LegIntervals::is_consistent` checks the rows against it.
impl<'de> Deserialize<'de> for IntervalPack {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawPack::deserialize(deserializer)?;
        Self::from_parts(raw.count, raw.bytes, STREAMS_PER_LEG_MAX)
            .ok_or_else(|| serde::de::Error::custom("not a valid interval pack"))
    }
}

#[cfg(test)]
mod tests {
    use heapless::Vec;

    use super::{IntervalPack, PackError, unzigzag, zigzag};
    use crate::interval::{LegInterval, StreamInterval};

    fn row(stream: u8) -> StreamInterval {
        StreamInterval { stream, ..StreamInterval::default() }
    }

    fn interval_of(rows: &[StreamInterval]) -> LegInterval {
        LegInterval { streams: Vec::from_slice(rows).unwrap(), ..LegInterval::default() }
    }

    /// The example of `WIRE.md` section 6.4.
    #[test]
    fn worked_example_of_the_wire_text_has_these_bytes() {
        let first = LegInterval {
            duration_ms: 10_000,
            rtt_count: 4,
            rtt_min_dms: 912,
            rtt_mean_dms: 950,
            rtt_max_dms: 1003,
            rtt_unanswered: 0,
            tap_dropped: 0,
            streams: Vec::from_slice(&[StreamInterval {
                stream: 0,
                received: 490,
                lost: 10,
                duplicate: 0,
                reordered: 3,
                jitter_mean_dms: 110,
                jitter_max_dms: 142,
                sequence_restarts: 0,
            }])
            .unwrap(),
        };
        let second = LegInterval {
            rtt_min_dms: 905,
            rtt_mean_dms: 948,
            rtt_max_dms: 1010,
            streams: Vec::from_slice(&[StreamInterval {
                received: 493,
                lost: 7,
                reordered: 1,
                jitter_mean_dms: 104,
                jitter_max_dms: 150,
                ..first.streams[0]
            }])
            .unwrap(),
            ..first
        };
        let pack = IntervalPack::from_intervals(&[first, second], 1).unwrap();
        assert_eq!(
            pack.bytes(),
            [
                0x89, 0x0e, 0xc0, 0xd8, 0x45, 0x70, 0x00, 0x19, 0x8a, 0x87, 0x61, 0x43, 0xcd, 0xab,
                0x2d, 0x4f, 0xed, 0x64
            ]
        );
    }

    #[test]
    fn seventh_interval_is_refused() {
        let intervals = core::array::from_fn::<_, 7, _>(|_| LegInterval::default());
        assert_eq!(IntervalPack::from_intervals(&intervals, 0), Err(PackError::Full));
        assert_eq!(IntervalPack::from_intervals(&intervals[..6], 0).map(|pack| pack.len()), Ok(6));
    }

    #[test]
    fn rows_must_ascend_below_the_length_of_the_table() {
        let try_rows = |rows: &[_]| IntervalPack::from_intervals(&[interval_of(rows)], 2).err();
        assert_eq!(try_rows(&[row(0), row(1)]), None);
        assert_eq!(try_rows(&[row(1), row(0)]), Some(PackError::StreamOrder));
        assert_eq!(try_rows(&[row(1), row(1)]), Some(PackError::StreamOrder));
        assert_eq!(try_rows(&[row(2)]), Some(PackError::StreamOrder));
    }

    #[test]
    fn table_longer_than_the_wire_allows_adds_no_stream() {
        let pack = IntervalPack::from_intervals(&[interval_of(&[row(16)])], 17);
        assert_eq!(pack, Err(PackError::StreamOrder));
    }

    #[test]
    fn stream_that_paused_is_predicted_by_its_last_row() {
        let busy = StreamInterval { received: 750, jitter_mean_dms: 80, ..row(1) };
        let intervals = [interval_of(&[busy]), interval_of(&[]), interval_of(&[busy])];
        let pack = IntervalPack::from_intervals(&intervals, 2).unwrap();
        // The last interval: 7 fields of the leg at their prediction (6 + 5 + 5 + 7 bits), presence 17 bits, 7 fields
        // of the stream at theirs (2 + 2 + 4 + 4 + 7 bits): 59 bits.
        let without = IntervalPack::from_intervals(&intervals[..2], 2).unwrap();
        let more_bits = (pack.bytes().len() - without.bytes().len()) * 8;
        assert!((59 - 7..=59 + 7).contains(&more_bits), "{more_bits}");
        assert!(pack.iter(2).eq(intervals));
    }

    #[test]
    fn presence_that_repeats_itself_is_refused() {
        // An interval that predicts itself: 7 codes of zero, of orders 0 0 6 5 5 0 0, then presence.
        let bits = |presence: &str| -> Vec<u8, 8> {
            let text = ["1 1 1000000 100000 100000 1 1", presence].concat();
            let mut bits = text.bytes().filter(|b| *b != b' ').map(|b| b - b'0').peekable();
            let mut bytes = Vec::new();
            while bits.peek().is_some() {
                let byte = (0..8).fold(0, |byte, _| byte << 1 | bits.next().unwrap_or(0));
                bytes.push(byte).unwrap();
            }
            bytes
        };
        assert!(IntervalPack::from_parts(1, &bits("0"), 1).is_some());
        assert_eq!(IntervalPack::from_parts(1, &bits("1 0000000000000000"), 1), None);
    }

    #[test]
    fn zigzag_counts_outwards_from_zero() {
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
        assert_eq!([i32::MIN, i32::MAX].map(zigzag), [u32::MAX, u32::MAX - 1]);
        assert_eq!([0, 1, 2, u32::MAX - 1, u32::MAX].map(unzigzag), [0, -1, 1, i32::MAX, i32::MIN]);
    }
}
