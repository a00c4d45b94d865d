//! Every capacity of the wire in one place, with its arithmetic.

/// The largest body of a frame, in bytes.
///
/// The largest real body is a [`LegIntervals`](crate::interval::LegIntervals) of the worst pack: a head of 28 bytes, a
/// table of 16 streams of 6 bytes, a pack of [`INTERVAL_PACK_BYTES_MAX`], 3,707 bytes, and 8 rows of 32 bytes of what
/// was heard, 3,965 bytes in all. A [`LegSummary`](crate::media::LegSummary) is at most 72 bytes and 16 streams of 107
/// bytes, 1,784 bytes, and 2,019 bytes of its block. 4 KiB leaves room for more and still lets a headset keep a whole
/// frame in RAM.
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

/// The most rows of what was heard that travel with a frame of intervals: a leg has one received audio stream as a
/// rule, so a frame of six intervals has six.
pub const HEARD_PER_FRAME_MAX: usize = 8;

/// The most received audio streams of a leg whose totals of what was heard travel.
pub const HEARD_PER_LEG_MAX: usize = 8;

/// The most streams of a leg whose receivers' reports travel.
pub const REPORTED_PER_LEG_MAX: usize = 8;

/// Classes of runs of missing frames: 1 to 7, and 8 and more (MS-QoE `BurstLossLength1` to `8OrHigher`).
pub const LOSS_RUNS: usize = 8;

/// The client events of MS-QoE 2.2.1.29.
pub const CLIENT_EVENTS_MAX: usize = 18;

/// The longest name of an interface, in bytes (Linux IFNAMSIZ without its zero).
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// The longest name of a Wi-Fi network, in bytes of UTF-8: 32 bytes of any kind (IEEE 802.11 section 9.4.2.2), each of
/// which may have to be replaced by the 3 bytes of U+FFFD.
pub const SSID_BYTES_MAX: usize = 96;

/// The longest device name, in bytes of UTF-8 (ALSA card long names are at most 80).
pub const DEVICE_NAME_BYTES_MAX: usize = 80;

/// The longest version string, in bytes.
pub const VERSION_BYTES_MAX: usize = 32;

/// The longest explanation that travels with a refusal or a control message, in bytes.
pub const REASON_BYTES_MAX: usize = 120;

/// The longest text of a configuration, in bytes: its 18 keys take some 500, with values of their longest form 900.
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
/// A row of [`HeardInterval`](crate::heard::HeardInterval): 2 bytes and 6 numbers of 5.
const HEARD_INTERVAL_BYTES_MAX: usize = 2 + 6 * 5;
/// A row of [`StreamHeard`](crate::heard::StreamHeard): position and model 4, 6 numbers of 10, 7 of 5, two stretches of
/// 3 times 5, the runs, and a rating of 3 enums and 3 numbers of 3.
const STREAM_HEARD_BYTES_MAX: usize = 4 + 6 * 10 + 7 * 5 + 2 * 15 + LOSS_RUNS * 5 + 12;
/// A row of [`StreamReported`](crate::media::StreamReported): 2 bytes, 2 numbers of 5, 2 options of 6, round trips.
const STREAM_REPORTED_BYTES_MAX: usize = 2 + 2 * 5 + 2 * 6 + 6 * 5;
/// The block of a [`LegSummary`](crate::media::LegSummary): 3 lists of one byte each for option and count, and an
/// address of 20 bytes.
const LEG_SUMMARY_BLOCK_BYTES_MAX: usize = 3 * 2
    + HEARD_PER_LEG_MAX * STREAM_HEARD_BYTES_MAX
    + STREAMS_PER_LEG_MAX * (2 + 5)
    + REPORTED_PER_LEG_MAX * STREAM_REPORTED_BYTES_MAX
    + 1
    + 20;

const _: () = assert!(
    28 + 6 * STREAMS_PER_LEG_MAX
        + INTERVAL_PACK_BYTES_MAX
        + 2
        + HEARD_PER_FRAME_MAX * HEARD_INTERVAL_BYTES_MAX
        <= BODY_BYTES_MAX,
    "the head of the widest intervals body, its stream table, its pack and its block fit into one body"
);
const _: () = assert!(
    72 + 107 * STREAMS_PER_LEG_MAX + LEG_SUMMARY_BLOCK_BYTES_MAX <= BODY_BYTES_MAX,
    "the widest summary of a leg and its block fit into one body"
);
const _: () = assert!(
    1 + 16 + 2 * (2 + DER_BYTES_MAX) + 2 + SERVER_NAME_BYTES_MAX <= BODY_BYTES_MAX,
    "the widest answer to an enrolment fits into one body"
);
