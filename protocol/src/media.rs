//! Legs and streams: who sent what to whom, and the totals of it.
//!
//! Jitter is the RFC 3550 A.8 estimate in units of 0.1 ms (`_dms`, tenths of a millisecond); RTT likewise.

use core::net::SocketAddr;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::heard::StreamHeard;
use crate::id::{CallId, LegNumber};
use crate::limits::{
    HEARD_PER_LEG_MAX, PAYLOAD_TYPES_MAX, REPORTED_PER_LEG_MAX, STREAMS_PER_LEG_MAX,
};
use crate::time::Stamp;

/// Seen from the endpoint. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Towards the endpoint: what the network did shows here.
    Ingress,
    /// From the endpoint: what the sender itself did shows here.
    Egress,
}

/// What a stream carries. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Media {
    /// Not told apart.
    Unknown,
    /// Speech.
    Audio,
    /// Camera or screen.
    Video,
    /// Retransmissions of another stream (RFC 4588) or padding probes: its loss is nobody's loss.
    Rtx,
}

/// How media packets travel between the two addresses of a leg. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// RTP directly in UDP.
    Udp,
    /// Through a TURN relay, in ChannelData (RFC 8656 section 12) or Send/Data messages.
    Turn,
}

/// Where a stream's clock rate comes from. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClockRateSource {
    /// RFC 3551 assigns it to the payload type.
    Static,
    /// Inferred from the slope of RTP time over arrival time.
    Slope,
    /// Not known: jitter is not computed.
    Unknown,
}

/// A leg's first proven stream was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegOpened {
    /// The call that it belongs to.
    pub call: CallId,
    /// Its number in the call.
    pub leg: LegNumber,
    /// When its first packet was seen; interval 0 starts here.
    pub opened: Stamp,
    /// The endpoint's own UDP address. Flow label and zone of an IPv6 address do not travel, here and in `remote`.
    pub local: SocketAddr,
    /// The other UDP address: the far end's, or a relay's.
    pub remote: SocketAddr,
    /// How its media packets travel.
    pub transport: Transport,
}

/// Which stream a row of an interval speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKey {
    /// The synchronisation source, RFC 3550 section 3, as four little-endian bytes.
    pub ssrc: [u8; 4],
    /// Seen from the endpoint.
    pub direction: Direction,
    /// What it carries, as far as known when the frame was made.
    pub media: Media,
}

/// Round-trip times of one leg, from STUN transactions that the endpoint itself began, in 0.1 ms.
///
/// With `count` 0 nothing was measured and the other fields are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RttSummary {
    /// Answered transactions.
    pub count: u32,
    /// Transactions whose answer did not come within the RFC 8489 give-up time.
    pub unanswered: u32,
    /// Smallest, in 0.1 ms.
    pub min_dms: u32,
    /// Arithmetic mean, in 0.1 ms.
    pub mean_dms: u32,
    /// Largest, in 0.1 ms.
    pub max_dms: u32,
    /// Latest, in 0.1 ms.
    pub last_dms: u32,
}

/// One stream from its first to its last packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// Which stream.
    pub key: StreamKey,
    /// The payload types seen, most frequent first.
    pub payload_types: Vec<u8, PAYLOAD_TYPES_MAX>,
    /// RTP clock rate in Hz, 0 exactly where the source is `Unknown`.
    pub clock_rate_hz: u32,
    /// Where the rate comes from.
    pub clock_rate_source: ClockRateSource,
    /// First packet, in microseconds after the leg opened.
    pub first_us: u64,
    /// Last packet, in microseconds after the leg opened.
    pub last_us: u64,
    /// Packets received, duplicates excluded.
    pub received: u64,
    /// Packets that the sequence numbers announce, RFC 3550 A.3.
    pub expected: u64,
    /// `expected - received`; never negative, since duplicates do not count as received.
    pub lost: u64,
    /// Packets whose sequence number had been received before.
    pub duplicate: u64,
    /// Packets that arrived behind a later one.
    pub reordered: u64,
    /// How often the sender began a new, unrelated sequence.
    pub sequence_restarts: u32,
    /// Mean over the packets of the running estimate, in 0.1 ms.
    pub jitter_mean_dms: u32,
    /// Largest value of the running estimate, in 0.1 ms.
    pub jitter_max_dms: u32,
    /// Its last value, in 0.1 ms.
    pub jitter_last_dms: u32,
}

/// A leg's totals. Written when the leg closes; the last one wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSummary {
    /// The call.
    pub call: CallId,
    /// The leg's number in the call.
    pub leg: LegNumber,
    /// When its last packet was seen.
    pub closed: Stamp,
    /// Round trips over the whole leg.
    pub rtt: RttSummary,
    /// Packets of the whole interface that the tap itself lost while the leg lasted. Where this is not 0, loss may be
    /// ours.
    pub tap_dropped: u64,
    /// Its streams, in order of appearance.
    pub streams: Vec<StreamSummary, STREAMS_PER_LEG_MAX>,
    /// What was heard of its received audio streams, in ascending order of stream.
    ///
    /// In the extension block: `None` where the writer is older than the field, as the next ones.
    #[serde(skip)]
    pub heard: Option<Vec<StreamHeard, HEARD_PER_LEG_MAX>>,
    /// How the packets of its streams were marked, in ascending order of stream.
    #[serde(skip)]
    pub markings: Option<Vec<StreamMarking, STREAMS_PER_LEG_MAX>>,
    /// What receivers told of streams in RTCP in the clear, in ascending order of stream.
    #[serde(skip)]
    pub reported: Option<Vec<StreamReported, REPORTED_PER_LEG_MAX>>,
    /// The endpoint's address as the far end or a relay sees it: XOR-MAPPED-ADDRESS of the latest answer to a check of
    /// the endpoint's (RFC 8489 section 14.2).
    #[serde(skip)]
    pub reflexive: Option<SocketAddr>,
}

impl LegSummary {
    /// Whether every row of the block names a stream that is there, once and in order, and no part is more than its
    /// whole.
    pub(crate) fn is_consistent(&self) -> bool {
        let there = |stream: u8| usize::from(stream) < self.streams.len();
        let heard = self.heard.as_deref().unwrap_or_default();
        let markings = self.markings.as_deref().unwrap_or_default();
        let reported = self.reported.as_deref().unwrap_or_default();
        heard.iter().all(|row| there(row.stream) && row.is_consistent())
            && heard.is_sorted_by(|a, b| a.stream < b.stream)
            && markings.iter().all(|row| there(row.stream))
            && markings.is_sorted_by(|a, b| a.stream < b.stream)
            && reported.iter().all(|row| there(row.stream))
            && reported.is_sorted_by(|a, b| a.stream < b.stream)
    }
}

/// How the packets of a stream were marked: as sent on egress, as received on ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMarking {
    /// Position in [`LegSummary::streams`].
    pub stream: u8,
    /// The most frequent code point (RFC 2474), 0..=63.
    pub dscp: u8,
    /// Packets with another one.
    pub others: u32,
}

/// What its receiver told of a stream, in RTCP in the clear (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReported {
    /// Position in [`LegSummary::streams`].
    pub stream: u8,
    /// Report blocks about it.
    pub reports: u32,
    /// Cumulative number of packets lost, as the last one says.
    pub lost: i32,
    /// Largest fraction lost, in 1/256.
    pub fraction_lost_max: u8,
    /// Mean of the reported jitter, in 0.1 ms; `None` where the clock rate is not known, as the next one.
    pub jitter_mean_dms: Option<u32>,
    /// Largest of it, in 0.1 ms.
    pub jitter_max_dms: Option<u32>,
    /// Round trips by LSR and DLSR, of streams that the endpoint sends.
    pub rtt: RttSummary,
}
