//! What a listener heard of a received audio stream, by the agent's model of a jitter buffer, and what the network
//! did to it.
//!
//! The model and the formulas are versioned by number; figures of two versions do not compare. All inputs of a rating
//! travel beside it, so that a reader may rate anew.

use serde::{Deserialize, Serialize};

use crate::limits::LOSS_RUNS;

/// One received audio stream in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeardInterval {
    /// Position of the interval in its pack.
    pub interval: u8,
    /// Position in [`LegIntervals::streams`](crate::interval::LegIntervals::streams).
    pub stream: u8,
    /// All that was heard, in microseconds: played, concealed, and silence of the sender's.
    pub total_us: u32,
    /// Made up because no frame was there, in microseconds; at most `total_us`.
    pub concealed_us: u32,
    /// Concealed in the second with most of it, in microseconds, 0..=1,000,000.
    pub worst_second_us: u32,
    /// Frames that were played.
    pub played: u32,
    /// Frames that came after a later one had been played.
    pub discarded: u32,
    /// Mean waiting time of the frames that were played, in 0.1 ms.
    pub delay_mean_dms: u32,
}

impl HeardInterval {
    /// Whether no part is more than its whole.
    pub(crate) const fn is_consistent(&self) -> bool {
        self.concealed_us <= self.total_us
    }
}

/// One received audio stream from its first to its last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHeard {
    /// Position in [`LegSummary::streams`](crate::media::LegSummary::streams).
    pub stream: u8,
    /// Version of the jitter-buffer model.
    pub model: u16,
    /// All that was heard, in microseconds: played, concealed, and silence of the sender's.
    pub total_us: u64,
    /// Made up because no frame was there, in microseconds; at most `total_us`.
    pub concealed_us: u64,
    /// Added by stretching, in microseconds.
    pub stretched_us: u64,
    /// Taken away by compressing, in microseconds.
    pub compressed_us: u64,
    /// Frames that were played.
    pub played: u64,
    /// Frames that came after a later one had been played.
    pub discarded: u64,
    /// Mean waiting time of the frames that were played, in 0.1 ms.
    pub delay_mean_dms: u32,
    /// Longest of them, in 0.1 ms.
    pub delay_max_dms: u32,
    /// Concealed in the second with most of it, in microseconds, 0..=1,000,000.
    pub worst_second_us: u32,
    /// Heard in the interval with the highest concealed ratio, in microseconds; 0 where none was long enough.
    pub worst_interval_total_us: u32,
    /// Concealed in it, in microseconds; at most its total.
    pub worst_interval_concealed_us: u32,
    /// New time lines: restarts of the sender, and jumps of its clock.
    pub resets: u32,
    /// The length of a frame, as it was last, in microseconds.
    pub frame_us: u32,
    /// Bursts of RFC 3611 section 4.7.2: two missing frames or more, with fewer than 16 received in a row between.
    pub bursts: Stretches,
    /// Everything else. Frames of bursts and gaps together are all that should have been heard.
    pub gaps: Stretches,
    /// How many runs had 1, 2, … 7, and 8 or more missing frames (MS-QoE `BurstLossLength1` to `8OrHigher`).
    pub runs: [u32; LOSS_RUNS],
    /// What the network did to it.
    pub rating: NetworkRating,
}

impl StreamHeard {
    /// Whether no part is more than its whole.
    pub(crate) const fn is_consistent(&self) -> bool {
        self.concealed_us <= self.total_us
            && self.worst_interval_concealed_us <= self.worst_interval_total_us
            && self.bursts.missing <= self.bursts.frames
            && self.gaps.missing <= self.gaps.frames
    }
}

/// Frames, and how many of them were missing (lost or discarded), in some number of stretches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stretches {
    /// How many stretches.
    pub count: u32,
    /// Their frames.
    pub frames: u32,
    /// Those of them that were missing; at most `frames`.
    pub missing: u32,
}

/// A network MOS, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkRating {
    /// A dynamic payload type whose clock several codecs have, or a clock that is not known.
    CodecUnknown,
    /// A codec that is known and has no factors.
    NoFactors,
    /// Not one frame was heard.
    NothingHeard,
    /// A listening score.
    Mos(NetworkMos),
}

/// A listening score by the E-model, 1,000..=4,500 thousandths (ITU-T G.107, G.107.1, G.107.2; MS-QoE 2.2.1.22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMos {
    /// Which formula; scores of two formulas do not compare.
    pub formula: MosFormula,
    /// Which codec it was taken for.
    pub codec: RatedCodec,
    /// 0 where the codec's factors are those of ITU-T G.113 appendix I, else the number of the assumption.
    pub assumption: u16,
    /// The score, in thousandths.
    pub mos_milli: u16,
    /// The best score of the codec, in thousandths; the degradation is the difference.
    pub best_milli: u16,
}

/// Which formula made a score. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MosFormula {
    /// G.107 with its defaults, narrowband.
    G107V1,
    /// G.107.1 with its defaults, wideband.
    G1071V1,
    /// G.107.2 with its defaults, fullband.
    G1072V1,
}

/// Which codec a stream was taken for. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RatedCodec {
    /// ITU-T G.711, either law.
    G711,
    /// ITU-T G.723.1.
    G723,
    /// ITU-T G.729.
    G729,
    /// ITU-T G.722.
    G722,
    /// Opus (RFC 6716).
    Opus,
}
