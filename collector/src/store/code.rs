//! How the wire's enums are written in columns: as small integers that are never reused.
//!
//! Each mapping is exhaustive, so a variant appended to the wire must be given a number here before this compiles.

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::client_event::{ClientEventKind, UnknownBecause};
use roomtone_protocol::device::{DeviceCause, DeviceSide, EpisodeState, SelfTestOutcome};
use roomtone_protocol::heard::{HeardInterval, MosFormula, NetworkMos, NetworkRating, RatedCodec};
use roomtone_protocol::loss::LossCause;
use roomtone_protocol::media::{ClockRateSource, Direction, Media, StreamKey, Transport};
use roomtone_protocol::network::{ConnectionType, WifiRadio};
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
    MosFormula { G107V1 = 0, G1071V1 = 1, G1072V1 = 2 }
    RatedCodec { G711 = 0, G723 = 1, G729 = 2, G722 = 3, Opus = 4 }
    ConnectionType { Unknown = 0, Wired = 1, Wifi = 2, Mobile = 3, Tunnel = 4 }
    WifiRadio { Unknown = 0, Legacy = 1, N = 2, Ac = 3, Ax = 4, Be = 5 }
    ClientEventKind {
        NetworkSendQuality = 0, NetworkReceiveQuality = 1, NetworkDelay = 2, NetworkBandwidthLow = 3,
        CpuInsufficient = 4, DeviceHalfDuplexAec = 5, DeviceRenderNotFunctioning = 6,
        DeviceCaptureNotFunctioning = 7, DeviceGlitches = 8, DeviceLowSnr = 9, DeviceLowSpeechLevel = 10,
        DeviceClipping = 11, DeviceEcho = 12, DeviceNearEndToEchoRatio = 13, DeviceMultipleEndpoints = 14,
        DeviceHowling = 15, DeviceRenderZeroVolume = 16, DeviceRenderMute = 17,
    }
    UnknownBecause {
        LevelsNotRead = 0, NoDevice = 1, NoReports = 2, NoSource = 3, NothingObserved = 4, InsideProgram = 5,
        SwitchedOff = 6,
    }
    LinkTransport { Quic = 0 }
    OpaqueReason { UnknownKind = 0, Refused = 1 }
}

/// The number of a rating's kind; a score's parts stand beside it.
pub(crate) fn rating_code(rating: NetworkRating) -> u8 {
    match rating {
        NetworkRating::CodecUnknown => 0,
        NetworkRating::NoFactors => 1,
        NetworkRating::NothingHeard => 2,
        NetworkRating::Mos(_) => 3,
    }
}

/// The rating of a number and of the score beside it; `None` where they do not fit.
pub(crate) fn rating_from(code: u8, mos: Option<NetworkMos>) -> Option<NetworkRating> {
    match (code, mos) {
        (0, None) => Some(NetworkRating::CodecUnknown),
        (1, None) => Some(NetworkRating::NoFactors),
        (2, None) => Some(NetworkRating::NothingHeard),
        (3, Some(mos)) => Some(NetworkRating::Mos(mos)),
        _ => None,
    }
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

/// Writes what was heard in a frame: two bytes and six LEB128 numbers a row, which take as little as most of them need.
pub(crate) fn pack_heard(rows: &[HeardInterval]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 16);
    for row in rows {
        bytes.extend([row.interval, row.stream]);
        for number in [
            row.total_us,
            row.concealed_us,
            row.worst_second_us,
            row.played,
            row.discarded,
            row.delay_mean_dms,
        ] {
            let mut left = number;
            while left > 0x7f {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
    }
    bytes
}

/// Reads what [`pack_heard`] wrote; `None` for anything else.
pub(crate) fn unpack_heard(mut bytes: &[u8]) -> Option<Vec<HeardInterval>> {
    let mut rows = Vec::new();
    while let [interval, stream, rest @ ..] = bytes {
        bytes = rest;
        rows.push(HeardInterval {
            interval: *interval,
            stream: *stream,
            total_us: unpack_number(&mut bytes)?,
            concealed_us: unpack_number(&mut bytes)?,
            worst_second_us: unpack_number(&mut bytes)?,
            played: unpack_number(&mut bytes)?,
            discarded: unpack_number(&mut bytes)?,
            delay_mean_dms: unpack_number(&mut bytes)?,
        });
    }
    bytes.is_empty().then_some(rows)
}

fn unpack_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_what_was_heard_read_back_and_a_broken_one_is_refused() {
        let widest = HeardInterval {
            interval: 5,
            stream: 15,
            total_us: u32::MAX,
            concealed_us: u32::MAX,
            worst_second_us: 1_000_000,
            played: 127,
            discarded: 128,
            delay_mean_dms: 0,
        };
        let rows = [HeardInterval::default(), widest];
        let bytes = pack_heard(&rows);
        // 2 + 6 bytes of zeros; 2 + 5 + 5 + 3 + 1 + 2 + 1.
        assert_eq!(bytes.len(), 8 + 19);
        assert_eq!(unpack_heard(&bytes), Some(rows.to_vec()));
        assert_eq!(unpack_heard(&[]), Some(Vec::new()));
        for length in (1..bytes.len()).filter(|length| *length != 8) {
            assert_eq!(unpack_heard(&bytes[..length]), None, "{length} bytes");
        }
        // 2^35 - 1 needs five bytes and does not fit.
        assert_eq!(unpack_heard(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0]), None);
    }

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
