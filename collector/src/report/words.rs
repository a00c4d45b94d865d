//! The words of networks, client events and ratings, the same in tables and JSON: of Graph and MS-QoE where they have
//! one.

use std::net::IpAddr;

use roomtone_protocol::client_event::{ClientEventKind, UnknownBecause};
use roomtone_protocol::heard::{MosFormula, NetworkRating, RatedCodec};
use roomtone_protocol::network::{ConnectionType, WifiRadio};
use roomtone_protocol::path::PathTarget;

pub(super) fn connection(connection: ConnectionType) -> &'static str {
    match connection {
        ConnectionType::Unknown => "unknown",
        ConnectionType::Wired => "wired",
        ConnectionType::Wifi => "wifi",
        ConnectionType::Mobile => "mobile",
        ConnectionType::Tunnel => "tunnel",
    }
}

pub(super) fn radio(radio: WifiRadio) -> &'static str {
    match radio {
        WifiRadio::Unknown => "unknown",
        WifiRadio::Legacy => "legacy",
        WifiRadio::N => "wifi80211n",
        WifiRadio::Ac => "wifi80211ac",
        WifiRadio::Ax => "wifi80211ax",
        WifiRadio::Be => "wifi80211be",
    }
}

pub(super) fn target(target: PathTarget) -> &'static str {
    match target {
        PathTarget::Collector => "collector",
        PathTarget::Stamp => "stamp",
    }
}

pub(super) fn event(kind: ClientEventKind) -> &'static str {
    match kind {
        ClientEventKind::NetworkSendQuality => "networkSendQuality",
        ClientEventKind::NetworkReceiveQuality => "networkReceiveQuality",
        ClientEventKind::NetworkDelay => "networkDelay",
        ClientEventKind::NetworkBandwidthLow => "networkBandwidthLow",
        ClientEventKind::CpuInsufficient => "cpuInsufficient",
        ClientEventKind::DeviceHalfDuplexAec => "deviceHalfDuplexAec",
        ClientEventKind::DeviceRenderNotFunctioning => "deviceRenderNotFunctioning",
        ClientEventKind::DeviceCaptureNotFunctioning => "deviceCaptureNotFunctioning",
        ClientEventKind::DeviceGlitches => "deviceGlitches",
        ClientEventKind::DeviceLowSnr => "deviceLowSnr",
        ClientEventKind::DeviceLowSpeechLevel => "deviceLowSpeechLevel",
        ClientEventKind::DeviceClipping => "deviceClipping",
        ClientEventKind::DeviceEcho => "deviceEcho",
        ClientEventKind::DeviceNearEndToEchoRatio => "deviceNearEndToEchoRatio",
        ClientEventKind::DeviceMultipleEndpoints => "deviceMultipleEndpoints",
        ClientEventKind::DeviceHowling => "deviceHowling",
        ClientEventKind::DeviceRenderZeroVolume => "deviceRenderZeroVolume",
        ClientEventKind::DeviceRenderMute => "deviceRenderMute",
    }
}

pub(super) fn because(because: UnknownBecause) -> &'static str {
    match because {
        UnknownBecause::LevelsNotRead => "levelsNotRead",
        UnknownBecause::NoDevice => "noDevice",
        UnknownBecause::NoReports => "noReports",
        UnknownBecause::NoSource => "noSource",
        UnknownBecause::NothingObserved => "nothingObserved",
        UnknownBecause::InsideProgram => "insideProgram",
        UnknownBecause::SwitchedOff => "switchedOff",
    }
}

/// The name of a formula, as `roomtone-agent analyze` has it.
pub(super) fn formula(formula: MosFormula) -> &'static str {
    match formula {
        MosFormula::G107V1 => "g107-1",
        MosFormula::G1071V1 => "g107.1-1",
        MosFormula::G1072V1 => "g107.2-1",
    }
}

pub(super) fn codec(codec: RatedCodec) -> &'static str {
    match codec {
        RatedCodec::G711 => "g711",
        RatedCodec::G723 => "g723",
        RatedCodec::G729 => "g729",
        RatedCodec::G722 => "g722",
        RatedCodec::Opus => "opus",
    }
}

/// Why a stream has no score; `None` where it has one.
pub(super) fn unrated(rating: NetworkRating) -> Option<&'static str> {
    match rating {
        NetworkRating::CodecUnknown => Some("codecUnknown"),
        NetworkRating::NoFactors => Some("noFactors"),
        NetworkRating::NothingHeard => Some("nothingHeard"),
        NetworkRating::Mos(_) => None,
    }
}

/// The network that an address with a prefix of so many bits lies in, as `address/bits`.
pub(super) fn subnet(address: IpAddr, prefix: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            format!("{}/{prefix}", std::net::Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// The channel of a centre frequency in MHz (IEEE 802.11 annex E), `None` for one of another band.
pub(super) fn channel(frequency_mhz: u16) -> Option<u16> {
    match frequency_mhz {
        2_412..=2_472 => Some((frequency_mhz - 2_407) / 5),
        2_484 => Some(14),
        5_160..=5_895 => Some((frequency_mhz - 5_000) / 5),
        5_955..=7_115 => Some((frequency_mhz - 5_950) / 5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_keeps_the_bits_of_the_prefix() {
        let of = |address: &str, prefix| subnet(address.parse().unwrap(), prefix);
        assert_eq!(of("192.0.2.77", 26), "192.0.2.64/26");
        assert_eq!(of("192.0.2.77", 0), "0.0.0.0/0");
        assert_eq!(of("192.0.2.77", 255), "192.0.2.77/255");
        assert_eq!(of("2001:db8::7:1", 64), "2001:db8::/64");
        assert_eq!(of("2001:db8::7", 0), "::/0");
    }

    #[test]
    fn channels_of_all_three_bands() {
        let channels = [2_437, 2_484, 5_180, 5_955, 900].map(channel);
        assert_eq!(channels, [Some(6), Some(14), Some(36), Some(1), None]);
    }
}
