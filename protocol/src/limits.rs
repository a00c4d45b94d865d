//! Every capacity of the wire in one place, with its arithmetic.

/// The largest body of a frame, in bytes.
///
/// The largest real body is a [`LegIntervals`](crate::interval::LegIntervals) of the worst pack: a head of 28 bytes, a
/// table of 16 streams of 6 bytes, a pack of [`INTERVAL_PACK_BYTES_MAX`], 3,707 bytes in all. A
/// [`LegSummary`](crate::media::LegSummary) is at most 72 bytes and 16 streams of 107 bytes, 1,784 bytes. 4 KiB leaves
/// room for extension blocks and still lets a headset keep a whole frame in RAM.
pub const BODY_BYTES_MAX: usize = 4096;

/// The length of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 19;

/// The largest frame, in bytes: header and body.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

/// The most intervals that one frame carries: one minute of a leg at 10 s each.
pub const INTERVALS_PER_FRAME_MAX: usize = 6;

/// The most streams of one leg that the wire can tell apart: a Teams leg has at most audio, video, screen sharing and
/// their retransmission streams in both directions, ten in all.
pub const STREAMS_PER_LEG_MAX: usize = 16;

/// The most payload types that are remembered for one stream.
pub const PAYLOAD_TYPES_MAX: usize = 4;

/// The largest delta-coded pack of intervals, in bytes.
///
/// The longest code of a field has 40 bits. The worst interval: 7 fields of the leg, 17 bits of presence, 16 streams of
/// 7 fields, 4,777 bits; six of them are 28,662 bits or 3,583 bytes. Real packs are 40 times smaller.
pub const INTERVAL_PACK_BYTES_MAX: usize = 3583;

/// The longest device name, in bytes of UTF-8 (ALSA card long names are at most 80).
pub const DEVICE_NAME_BYTES_MAX: usize = 80;

/// The longest version string, in bytes.
pub const VERSION_BYTES_MAX: usize = 32;

/// The longest explanation that travels with a refusal or a control message, in bytes.
pub const REASON_BYTES_MAX: usize = 120;

/// The longest text of a configuration, in bytes: its 17 keys take some 500, with values of their longest form 900.
pub const CONFIGURATION_BYTES_MAX: usize = 2048;

/// The largest certificate or signing request, in bytes of DER.
///
/// A P-256 leaf with one name of 64 characters and one URI is some 500 bytes, a signing request some 300; RSA keys of
/// 2,048 bits would need more and are not taken.
pub const DER_BYTES_MAX: usize = 1024;

/// The longest host name of an endpoint, in bytes (Linux HOST_NAME_MAX).
pub const HOST_NAME_BYTES_MAX: usize = 64;

/// The longest name of a collector, in bytes (RFC 1035 section 2.3.4, as text).
pub const SERVER_NAME_BYTES_MAX: usize = 253;

/// The longest text of a token, in bytes: a prefix of 4, then 76 + 253 + 4 bytes at five bits a character.
pub const TOKEN_TEXT_BYTES_MAX: usize = 4 + (333usize * 8).div_ceil(5);

const _: () =
    assert!(BODY_BYTES_MAX <= u16::MAX as usize, "the header's length field is 16 bits wide");
const _: () = assert!(
    28 + 6 * STREAMS_PER_LEG_MAX + INTERVAL_PACK_BYTES_MAX <= BODY_BYTES_MAX,
    "the head of the widest intervals body, its stream table and its pack fit into one body"
);
const _: () = assert!(
    1 + 16 + 2 * (2 + DER_BYTES_MAX) + 2 + SERVER_NAME_BYTES_MAX <= BODY_BYTES_MAX,
    "the widest answer to an enrolment fits into one body"
);
