//! Which codec a stream has, as far as a passive watcher can know, and what the E-model takes it for.
//!
//! No SDP is seen. A static payload type names its codec (RFC 3551); a dynamic one is guessed by its clock where one
//! codec only has it in practice. Each row says where its factors come from: [`Basis::Table`] for ITU-T G.113
//! appendix I, [`Basis::Assumed`] for what has no official row, with a number that changes when the assumption does.

use roomtone_protocol::heard::RatedCodec;

use super::e_model::{Impairment, Scale};

/// A codec and its factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codec {
    /// Which it is.
    pub kind: RatedCodec,
    /// The scale it is rated on.
    pub scale: Scale,
    /// Its factors on that scale.
    pub impairment: Impairment,
    /// Where they come from.
    pub basis: Basis,
}

impl Codec {
    /// As it stands in outputs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            RatedCodec::G711 => "g711",
            RatedCodec::G723 => "g723",
            RatedCodec::G729 => "g729",
            RatedCodec::G722 => "g722",
            RatedCodec::Opus => "opus",
        }
    }
}

/// Where factors come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// ITU-T G.113 appendix I.
    Table,
    /// Ours, under this number.
    Assumed(u16),
}

/// Why there is no rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrated {
    /// A dynamic payload type whose clock several codecs have, or a clock that is not known.
    CodecUnknown,
    /// A codec that is known and has no factors.
    NoFactors,
    /// Not one frame was heard.
    NothingHeard,
}

impl Unrated {
    /// As it stands in outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CodecUnknown => "codecUnknown",
            Self::NoFactors => "noFactors",
            Self::NothingHeard => "nothingHeard",
        }
    }
}

/// G.711 with concealment: our playout model conceals, and so does every receiver in use.
const G711: Codec = narrowband(RatedCodec::G711, 0.0, 25.1);
const G723: Codec = narrowband(RatedCodec::G723, 15.0, 16.1);
/// With voice activity detection; without it Ie is 10.
const G729: Codec = narrowband(RatedCodec::G729, 11.0, 19.0);
/// Assumption 1: G.722 at 64 kbit/s has Ie,wb 13, the value that G.107.1 users take; it has no concealment of its own
/// and stands loss as the middle of what other programs take, Bpl 10.
const G722: Codec = assumed(RatedCodec::G722, Scale::Wideband, 13.0, 10.0, 1);
/// Assumption 2: a dynamic type of 48 kHz is Opus at a rate where it is transparent, Ie 0; of the Bpl that other
/// programs take, 10 to 20, the lower end, because redundancy inside the payload is not seen.
const OPUS: Codec = assumed(RatedCodec::Opus, Scale::Fullband, 0.0, 10.0, 2);

const fn narrowband(kind: RatedCodec, ie: f64, bpl: f64) -> Codec {
    let impairment = Impairment { ie, bpl };
    Codec { kind, scale: Scale::Narrowband, impairment, basis: Basis::Table }
}

const fn assumed(kind: RatedCodec, scale: Scale, ie: f64, bpl: f64, number: u16) -> Codec {
    Codec { kind, scale, impairment: Impairment { ie, bpl }, basis: Basis::Assumed(number) }
}

/// The codec of a payload type on a clock.
///
/// # Errors
/// Where no codec, or no factors of it, are known.
pub fn codec_of(payload_type: u8, clock_rate_hz: Option<u32>) -> Result<Codec, Unrated> {
    match (payload_type, clock_rate_hz) {
        (0 | 8, _) => Ok(G711),
        (4, _) => Ok(G723),
        (9, _) => Ok(G722),
        (18, _) => Ok(G729),
        // Dynamic are 96 to 127, and 35 to 63 where those do not suffice (RFC 5761 section 4).
        (35..=63 | 96.., Some(48_000)) => Ok(OPUS),
        // SILK, Siren, Satin and others share 8, 16, 24 and 32 kHz.
        (35..=63 | 96.., _) => Err(Unrated::CodecUnknown),
        (0..=95, _) => Err(Unrated::NoFactors),
    }
}

#[cfg(test)]
mod tests {
    use super::{Basis, Unrated, codec_of};

    #[test]
    fn static_types_have_official_factors_and_guesses_say_so() {
        assert_eq!(codec_of(8, Some(8_000)).unwrap().basis, Basis::Table);
        assert_eq!(codec_of(9, Some(8_000)).unwrap().basis, Basis::Assumed(1));
        assert_eq!(codec_of(111, Some(48_000)).unwrap().name(), "opus");
        assert_eq!(codec_of(63, Some(48_000)).unwrap().name(), "opus", "Chromium numbers RED so");
    }

    #[test]
    fn what_nobody_knows_is_not_rated() {
        assert_eq!(codec_of(104, Some(16_000)), Err(Unrated::CodecUnknown));
        assert_eq!(codec_of(104, None), Err(Unrated::CodecUnknown));
        assert_eq!(codec_of(3, Some(8_000)), Err(Unrated::NoFactors), "GSM full rate");
    }
}
