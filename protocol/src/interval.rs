//! Ten seconds of a leg, and the pack in which up to six of them travel.
//!
//! A pack delta-codes each interval against the one before it *in the same pack*, so that a frame decodes alone. The
//! layout is in `WIRE.md` section 6. In a quiet leg a field that did not change costs nothing: its mask bit is 0.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{CallId, LegNumber};
use crate::limits::{INTERVAL_PACK_BYTES_MAX, INTERVALS_PER_FRAME_MAX, STREAMS_PER_LEG_MAX};
use crate::media::StreamKey;

/// The length of a whole interval, in milliseconds: what an interval's duration is predicted to be.
pub const INTERVAL_MS: u32 = 10_000;

/// Up to six consecutive intervals of one leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegIntervals {
    /// The call.
    pub call: CallId,
    /// The leg's number in the call.
    pub leg: LegNumber,
    /// The number of the pack's first interval within the leg; interval 0 starts when the leg opens.
    pub first: u16,
    /// When the pack's first interval began, in milliseconds since 1970 by the endpoint's wall clock.
    pub started_wall_ms: u64,
    /// The streams that the rows speak of, by position.
    pub streams: Vec<StreamKey, STREAMS_PER_LEG_MAX>,
    /// The rows.
    pub pack: IntervalPack,
}

/// One interval of one leg.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegInterval {
    /// How long it lasted, in milliseconds; the last one of a leg is shorter.
    pub duration_ms: u32,
    /// Answered STUN transactions that the endpoint began.
    pub rtt_count: u32,
    /// Smallest round trip, in 0.1 ms; 0 where `rtt_count` is 0, as the next two.
    pub rtt_min_dms: u32,
    /// Mean round trip, in 0.1 ms.
    pub rtt_mean_dms: u32,
    /// Largest round trip, in 0.1 ms.
    pub rtt_max_dms: u32,
    /// Transactions given up in this interval.
    pub rtt_unanswered: u32,
    /// Packets of the interface that the tap itself lost.
    pub tap_dropped: u32,
    /// The streams that had packets or an expectation of some.
    pub streams: Vec<StreamInterval, STREAMS_PER_LEG_MAX>,
}

/// One stream in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamInterval {
    /// Position in [`LegIntervals::streams`].
    pub stream: u8,
    /// Packets received, duplicates excluded.
    pub received: u32,
    /// Packets expected minus received, RFC 3550 A.3 over the interval; negative where a late packet belongs to the
    /// interval before, so that the sum over a leg is exact.
    pub lost: i32,
    /// Packets whose sequence number had been received before.
    pub duplicate: u32,
    /// Packets that arrived behind a later one.
    pub reordered: u32,
    /// Mean over the interval's packets of the running jitter estimate, in 0.1 ms.
    pub jitter_mean_dms: u32,
    /// Largest value of the running estimate, in 0.1 ms.
    pub jitter_max_dms: u32,
    /// Sequence restarts.
    pub sequence_restarts: u32,
}

/// Why an interval did not go into a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackError {
    /// The pack holds [`INTERVALS_PER_FRAME_MAX`] intervals. Start another.
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

/// What the next interval is predicted to be: the one before it, per stream.
#[derive(Debug, Clone)]
struct Prediction {
    leg: [i64; LEG_FIELDS],
    present: u16,
    streams: [[i64; STREAM_FIELDS]; STREAMS_PER_LEG_MAX],
}

const LEG_FIELDS: usize = 7;
const STREAM_FIELDS: usize = 7;
/// The mask bit that says that a presence varint follows.
const PRESENCE_BIT: u8 = 1 << LEG_FIELDS;
/// Bits of a stream's mask that this version does not use; a set one makes the pack invalid.
const STREAM_MASK_UNUSED: u8 = 1 << STREAM_FIELDS;

impl Prediction {
    fn new() -> Self {
        let mut leg = [0; LEG_FIELDS];
        leg[0] = i64::from(INTERVAL_MS);
        Self { leg, present: 0, streams: [[0; STREAM_FIELDS]; STREAMS_PER_LEG_MAX] }
    }
}

impl LegInterval {
    fn fields(&self) -> [i64; LEG_FIELDS] {
        [
            i64::from(self.duration_ms),
            i64::from(self.rtt_count),
            i64::from(self.rtt_min_dms),
            i64::from(self.rtt_mean_dms),
            i64::from(self.rtt_max_dms),
            i64::from(self.rtt_unanswered),
            i64::from(self.tap_dropped),
        ]
    }
}

impl StreamInterval {
    fn fields(&self) -> [i64; STREAM_FIELDS] {
        [
            i64::from(self.received),
            i64::from(self.lost),
            i64::from(self.duplicate),
            i64::from(self.reordered),
            i64::from(self.jitter_mean_dms),
            i64::from(self.jitter_max_dms),
            i64::from(self.sequence_restarts),
        ]
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

    /// Rebuilds a pack from what [`bytes`](Self::bytes) and [`len`](Self::len) gave, checking every row.
    ///
    /// `streams` is the length of the frame's stream table. `None` where the bytes are not a valid pack.
    #[must_use]
    pub fn from_parts(count: u8, bytes: &[u8], streams: usize) -> Option<Self> {
        if usize::from(count) > INTERVALS_PER_FRAME_MAX {
            return None;
        }
        let mut reader = Reader { bytes, streams, prediction: Prediction::new(), left: count };
        for _ in 0..count {
            reader.read()?;
        }
        if !reader.bytes.is_empty() {
            return None;
        }
        Some(Self { count, bytes: Vec::from_slice(bytes).ok()? })
    }

    /// Builds a pack from intervals in their order.
    ///
    /// # Errors
    /// [`PackError::Full`] beyond six intervals; [`PackError::StreamOrder`] where rows are not in ascending order of
    /// stream, each below `streams`.
    pub fn from_intervals(intervals: &[LegInterval], streams: usize) -> Result<Self, PackError> {
        if intervals.len() > INTERVALS_PER_FRAME_MAX {
            return Err(PackError::Full);
        }
        let mut pack = Self::new();
        let mut prediction = Prediction::new();
        for interval in intervals {
            pack.push(interval, streams, &mut prediction)?;
        }
        Ok(pack)
    }

    fn push(
        &mut self,
        interval: &LegInterval,
        streams: usize,
        prediction: &mut Prediction,
    ) -> Result<(), PackError> {
        let mut present = 0u16;
        let mut above: Option<u8> = None;
        for row in &interval.streams {
            if usize::from(row.stream) >= streams.min(STREAMS_PER_LEG_MAX)
                || above.is_some_and(|before| before >= row.stream)
            {
                return Err(PackError::StreamOrder);
            }
            present |= 1 << row.stream;
            above = Some(row.stream);
        }
        let fields = interval.fields();
        let presence = if present == prediction.present { 0 } else { PRESENCE_BIT };
        self.put(presence | changed(&fields, &prediction.leg));
        self.put_changes(&fields, &prediction.leg);
        prediction.leg = fields;
        if presence != 0 {
            self.put_varint(u64::from(present));
            prediction.present = present;
        }
        for row in &interval.streams {
            let fields = row.fields();
            let before = &mut prediction.streams[usize::from(row.stream)];
            self.put(changed(&fields, before));
            self.put_changes(&fields, before);
            *before = fields;
        }
        self.count += 1;
        Ok(())
    }

    fn put_changes<const N: usize>(&mut self, fields: &[i64; N], before: &[i64; N]) {
        for (now, before) in fields.iter().zip(before) {
            if now != before {
                self.put_varint(zigzag(now - before));
            }
        }
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value as u8 | 0x80);
            value >>= 7;
        }
        self.put(value as u8);
    }

    fn put(&mut self, byte: u8) {
        self.bytes
            .push(byte)
            .expect("INTERVAL_PACK_BYTES_MAX holds six intervals of the widest fields");
    }

    /// Reads the intervals back, in order.
    ///
    /// `streams` is the length of the frame's stream table.
    pub fn iter(&self, streams: usize) -> impl Iterator<Item = LegInterval> + '_ {
        Reader { bytes: &self.bytes, streams, prediction: Prediction::new(), left: self.count }
    }
}

fn changed<const N: usize>(fields: &[i64; N], before: &[i64; N]) -> u8 {
    let mut mask = 0;
    for (i, (now, before)) in fields.iter().zip(before).enumerate() {
        if now != before {
            mask |= 1 << i;
        }
    }
    mask
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

struct Reader<'a> {
    bytes: &'a [u8],
    streams: usize,
    prediction: Prediction,
    left: u8,
}

impl Iterator for Reader<'_> {
    type Item = LegInterval;

    fn next(&mut self) -> Option<LegInterval> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }
}

impl Reader<'_> {
    fn read(&mut self) -> Option<LegInterval> {
        let mask = self.byte()?;
        let mut leg = self.prediction.leg;
        self.apply(mask, &mut leg)?;
        self.prediction.leg = leg;
        if mask & PRESENCE_BIT != 0 {
            self.prediction.present = u16::try_from(self.varint()?).ok()?;
        }
        let present = self.prediction.present;
        let [duration, count, min, mean, max, unanswered, dropped] = leg;
        let mut interval = LegInterval {
            duration_ms: u32::try_from(duration).ok()?,
            rtt_count: u32::try_from(count).ok()?,
            rtt_min_dms: u32::try_from(min).ok()?,
            rtt_mean_dms: u32::try_from(mean).ok()?,
            rtt_max_dms: u32::try_from(max).ok()?,
            rtt_unanswered: u32::try_from(unanswered).ok()?,
            tap_dropped: u32::try_from(dropped).ok()?,
            streams: Vec::new(),
        };
        for stream in (0..STREAMS_PER_LEG_MAX).filter(|stream| present & (1 << stream) != 0) {
            if stream >= self.streams {
                return None;
            }
            let mask = self.byte()?;
            if mask & STREAM_MASK_UNUSED != 0 {
                return None;
            }
            let mut fields = self.prediction.streams[stream];
            self.apply(mask, &mut fields)?;
            self.prediction.streams[stream] = fields;
            let [received, lost, duplicate, reordered, mean, max, restarts] = fields;
            let row = StreamInterval {
                stream: stream as u8,
                received: u32::try_from(received).ok()?,
                lost: i32::try_from(lost).ok()?,
                duplicate: u32::try_from(duplicate).ok()?,
                reordered: u32::try_from(reordered).ok()?,
                jitter_mean_dms: u32::try_from(mean).ok()?,
                jitter_max_dms: u32::try_from(max).ok()?,
                sequence_restarts: u32::try_from(restarts).ok()?,
            };
            interval.streams.push(row).ok()?;
        }
        Some(interval)
    }

    fn apply<const N: usize>(&mut self, mask: u8, fields: &mut [i64; N]) -> Option<()> {
        for (i, field) in fields.iter_mut().enumerate() {
            if mask & (1 << i) != 0 {
                *field = field.checked_add(unzigzag(self.varint()?))?;
            }
        }
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// At most five bytes: a difference of two 32-bit values has 34 bits after zigzag.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
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

impl LegIntervals {
    /// Reads the intervals, in order.
    pub fn intervals(&self) -> impl Iterator<Item = LegInterval> + '_ {
        self.pack.iter(self.streams.len())
    }

    /// Whether every row names a stream of the table. The frame decoder asks before it hands the record on.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        !self.pack.is_empty() && self.intervals().count() == self.pack.len()
    }
}
