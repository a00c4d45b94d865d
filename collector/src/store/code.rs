//! How the wire's enums are written in columns: as small integers that are never reused.
//!
//! Each mapping is exhaustive, so a variant appended to the wire must be given a number here before this compiles.

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::device::{DeviceCause, DeviceSide, EpisodeState, SelfTestOutcome};
use roomtone_protocol::loss::LossCause;
use roomtone_protocol::media::{ClockRateSource, Direction, Media, StreamKey, Transport};
use roomtone_protocol::path::PathTarget;

use super::{LinkTransport, OpaqueReason};

/// An enum that has a number per variant.
pub(crate) trait Code: Copy + Sized {
    /// The variant's number.
    fn code(self) -> u8;
    /// The variant of a number, `None` where there is none.
    fn from_code(code: u8) -> Option<Self>;
}

macro_rules! codes {
    ($($enum:ident { $($variant:ident = $code:literal),+ $(,)? })+) => {$(
        impl Code for $enum {
            fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }
            fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    )+};
}

codes! {
    CallPurpose { Meeting = 0, Rehearsal = 1 }
    CallCloseReason { Idle = 0, AgentStopped = 1 }
    DeviceSide { Capture = 0, Render = 1 }
    DeviceCause {
        Removed = 0, NeverStarted = 1, Stalled = 2, ZeroSignal = 3, ConstantSignal = 4, OpenFailed = 5,
        StreamError = 6, Suspended = 7, WrongRoute = 8, ServerLost = 9, SelfTestFailed = 10,
    }
    EpisodeState { Open = 0, Recovered = 1, Unrecovered = 2 }
    SelfTestOutcome {
        Heard = 0, NotHeard = 1, NoSignal = 2, CaptureFailed = 3, RenderFailed = 4, Busy = 5, InCall = 6,
        NoDevice = 7,
    }
    LossCause { Shed = 0, Corrupt = 1, Torn = 2, WriteFailed = 3 }
    ClockRateSource { Static = 0, Slope = 1, Unknown = 2 }
    Direction { Ingress = 0, Egress = 1 }
    Media { Unknown = 0, Audio = 1, Video = 2, Rtx = 3 }
    Transport { Udp = 0, Turn = 1 }
    PathTarget { Collector = 0, Stamp = 1 }
    LinkTransport { Quic = 0 }
    OpaqueReason { UnknownKind = 0, Refused = 1 }
}

/// The length of one stream in a packed stream table, in bytes: SSRC, direction, media.
const STREAM_BYTES: usize = 6;

/// Writes a frame's stream table.
pub(crate) fn pack_streams(streams: &[StreamKey]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(streams.len() * STREAM_BYTES);
    for stream in streams {
        bytes.extend_from_slice(&stream.ssrc);
        bytes.push(stream.direction.code());
        bytes.push(stream.media.code());
    }
    bytes
}

/// Reads what [`pack_streams`] wrote; `None` for anything else.
pub(crate) fn unpack_streams(bytes: &[u8]) -> Option<Vec<StreamKey>> {
    let (rows, rest) = bytes.as_chunks::<STREAM_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    rows.iter()
        .map(|&[a, b, c, d, direction, media]| {
            Some(StreamKey {
                ssrc: [a, b, c, d],
                direction: Direction::from_code(direction)?,
                media: Media::from_code(media)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_the_next_one_does_not() {
        for code in 0..=10 {
            assert_eq!(DeviceCause::from_code(code).map(Code::code), Some(code));
        }
        assert_eq!(DeviceCause::from_code(11), None);
    }

    #[test]
    fn stream_table_of_a_broken_length_is_refused() {
        let key =
            StreamKey { ssrc: [1, 2, 3, 4], direction: Direction::Egress, media: Media::Video };
        let mut bytes = pack_streams(&[key, key]);
        assert_eq!(unpack_streams(&bytes), Some(vec![key, key]));
        bytes.pop();
        assert_eq!(unpack_streams(&bytes), None);
    }
}
