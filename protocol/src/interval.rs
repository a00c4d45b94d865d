//! Ten seconds of a leg, and the pack in which up to six of them travel.
//!
//! A pack delta-codes each interval against the one before it *in the same pack*, so that a frame decodes alone. The
//! layout is in `WIRE.md` section 6.

mod bits;
mod pack;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::heard::HeardInterval;
use crate::id::{CallId, LegNumber};
use crate::limits::{HEARD_PER_FRAME_MAX, STREAMS_PER_LEG_MAX};
use crate::media::StreamKey;

pub use pack::{IntervalPack, PackError};

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
    /// The rows: one interval or more, built for a table of this length. A reader refuses anything else.
    pub pack: IntervalPack,
    /// What was heard of the received audio streams, in ascending order of interval and stream.
    ///
    /// In the extension block: `None` where the writer is older than the field. A stream without a row was not heard
    /// in that interval, or there was no room.
    #[serde(skip)]
    pub heard: Option<Vec<HeardInterval, HEARD_PER_FRAME_MAX>>,
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
    /// Largest value of the running estimate, in 0.1 ms; 0 where none was measured, as before the clock rate is known.
    pub jitter_max_dms: u32,
    /// Sequence restarts.
    pub sequence_restarts: u32,
}

impl LegIntervals {
    /// Reads the intervals, in order.
    pub fn intervals(&self) -> impl Iterator<Item = LegInterval> + '_ {
        self.pack.iter(self.streams.len())
    }

    /// Whether every row names a stream of the table, and every row of `heard` an interval and a stream that are
    /// there. The frame decoder asks before it hands the record on.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let heard = self.heard.as_deref().unwrap_or_default();
        !self.pack.is_empty()
            && self.intervals().count() == self.pack.len()
            && heard.iter().all(|row| {
                usize::from(row.interval) < self.pack.len()
                    && usize::from(row.stream) < self.streams.len()
                    && row.is_consistent()
            })
            && heard.is_sorted_by(|a, b| (a.interval, a.stream) < (b.interval, b.stream))
    }
}
