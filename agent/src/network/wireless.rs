//! What nl80211 tells of a Wi-Fi (include/uapi/linux/nl80211.h).
//!
//! A core: questions as bytes, answers as numbers. Nothing is scanned for: what is asked for, every process may read.
//! With a multi-link association (802.11be) the access point is known by the address that its links share.

use heapless::String as Bounded;
use roomtone_protocol::limits::SSID_BYTES_MAX;
use roomtone_protocol::network::{Wifi, WifiRadio};

use super::message::{Ask, array, attribute, attributes, number, request};

/// The family that knows the numbers of all others.
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
const ATTRIBUTE_INTERFACE: u16 = 3;
const ATTRIBUTE_INTERFACE_TYPE: u16 = 5;
const ATTRIBUTE_MAC: u16 = 6;
const ATTRIBUTE_STATION: u16 = 21;
const ATTRIBUTE_FREQUENCY: u16 = 38;
const ATTRIBUTE_SSID: u16 = 52;
/// A station of an access point, not one itself.
const TYPE_STATION: u32 = 2;

const STATION_SIGNAL: u16 = 7;
const STATION_TRANSMIT: u16 = 8;
const RATE: u16 = 1;
const RATE_32: u16 = 5;
/// What only rates of a generation have, the latest first: `MCS`, `VHT_MCS`, `HE_MCS`, `EHT_MCS`.
const GENERATIONS: [(u16, WifiRadio); 4] =
    [(19, WifiRadio::Be), (13, WifiRadio::Ax), (6, WifiRadio::Ac), (2, WifiRadio::N)];

/// The head of a message: command, version, two bytes of nothing.
const HEAD_BYTES: usize = 4;

/// What an interface is tuned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// The network's name, as its bytes.
    pub ssid: Vec<u8>,
    /// Centre of the primary channel.
    pub frequency_mhz: u16,
}

/// The access point that an interface is associated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its address.
    pub bssid: [u8; 6],
    /// Strength of its last frame, in dBm.
    pub signal_dbm: Option<i16>,
    /// What is sent to it, in Mbit/s.
    pub transmit_mbps: Option<u32>,
    /// The generation of that.
    pub radio: WifiRadio,
}

/// Asks for the number of nl80211 on this machine.
#[must_use]
pub fn ask_family() -> Vec<u8> {
    let head = [CONTROL_GET_FAMILY, 1, 0, 0];
    request(CONTROL, Ask::One, &head, &[(CONTROL_FAMILY_NAME, b"nl80211\0")])
}

/// The number.
#[must_use]
pub fn family(object: &[u8]) -> Option<u16> {
    let payload = attribute(object.get(HEAD_BYTES..)?, CONTROL_FAMILY_ID)?;
    payload.try_into().ok().map(u16::from_ne_bytes)
}

/// Asks what an interface is tuned to.
#[must_use]
pub fn ask_interface(family: u16, interface: u32) -> Vec<u8> {
    let number = interface.to_ne_bytes();
    request(family, Ask::One, &[GET_INTERFACE, 0, 0, 0], &[(ATTRIBUTE_INTERFACE, &number)])
}

/// What it is tuned to; `None` while it is associated with nothing, and where it is no station.
#[must_use]
pub fn tuned(object: &[u8]) -> Option<Tuned> {
    let rest = object.get(HEAD_BYTES..)?;
    let is_station =
        attribute(rest, ATTRIBUTE_INTERFACE_TYPE).and_then(number) == Some(TYPE_STATION);
    let ssid = attribute(rest, ATTRIBUTE_SSID).filter(|ssid| (1..=32).contains(&ssid.len()))?;
    let frequency = attribute(rest, ATTRIBUTE_FREQUENCY).and_then(number)?;
    let frequency_mhz = u16::try_from(frequency).ok()?;
    is_station.then(|| Tuned { ssid: ssid.to_vec(), frequency_mhz })
}

/// Asks for the other ends of an interface; of a station that is its access point.
#[must_use]
pub fn ask_stations(family: u16, interface: u32) -> Vec<u8> {
    let number = interface.to_ne_bytes();
    request(family, Ask::All, &[GET_STATION, 0, 0, 0], &[(ATTRIBUTE_INTERFACE, &number)])
}

/// One of them.
#[must_use]
pub fn station(object: &[u8]) -> Option<Station> {
    let rest = object.get(HEAD_BYTES..)?;
    let bssid = attribute(rest, ATTRIBUTE_MAC)?.try_into().ok()?;
    let info = attribute(rest, ATTRIBUTE_STATION)?;
    // One byte with a sign; 0 is what drivers tell that know none.
    let signal = attribute(info, STATION_SIGNAL).and_then(|payload| array::<1>(payload, 0));
    let signal = signal.map(|byte| i16::from(i8::from_ne_bytes(byte))).filter(|dbm| *dbm < 0);
    let transmit = attribute(info, STATION_TRANSMIT);
    Some(Station {
        bssid,
        signal_dbm: signal,
        transmit_mbps: transmit.and_then(rate_mbps),
        radio: transmit.map_or(WifiRadio::Unknown, radio),
    })
}

/// Rounded up, so that what is slower than 1 Mbit/s is not nothing.
fn rate_mbps(rate: &[u8]) -> Option<u32> {
    let narrow = || Some(u16::from_ne_bytes(attribute(rate, RATE)?.try_into().ok()?).into());
    let tenths = attribute(rate, RATE_32).and_then(number).or_else(narrow)?;
    (tenths > 0).then(|| tenths.div_ceil(10))
}

fn radio(rate: &[u8]) -> WifiRadio {
    let has = |wanted: u16| attributes(rate).any(|(kind, _)| kind == wanted);
    let found = GENERATIONS.into_iter().find(|(kind, _)| has(*kind)).map(|(_, radio)| radio);
    let known = attributes(rate).any(|(kind, _)| kind == RATE || kind == RATE_32);
    found.unwrap_or(if known { WifiRadio::Legacy } else { WifiRadio::Unknown })
}

/// Both together, as a record has them.
#[must_use]
pub fn wifi(tuned: &Tuned, station: &Station) -> Wifi {
    let mut ssid = Bounded::<SSID_BYTES_MAX>::new();
    for letter in String::from_utf8_lossy(&tuned.ssid).chars() {
        // 32 bytes, each of which may become 3.
        let _ = ssid.push(letter);
    }
    Wifi {
        ssid,
        bssid: station.bssid,
        frequency_mhz: tuned.frequency_mhz,
        signal_dbm: station.signal_dbm,
        radio: station.radio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::message::{Part, parts};

    const MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];

    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        request(0, Ask::One, &[], attributes).split_off(16)
    }

    fn object(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let bytes = request(0, Ask::One, &[0; HEAD_BYTES], attributes);
        let Some(Part::Object(body)) = parts(&bytes).next() else { panic!("{bytes:?}") };
        body.to_vec()
    }

    fn of_rate(rate: &[(u16, &[u8])]) -> Station {
        let info = nested(&[(STATION_SIGNAL, &[0xc4]), (STATION_TRANSMIT, &nested(rate))]);
        station(&object(&[(ATTRIBUTE_MAC, &MAC), (ATTRIBUTE_STATION, &info)])).unwrap()
    }

    /// 0xc4 is 196 - 256 = -60 dBm; 8,667 tenths are 866.7, and with 54.0 there is no generation to tell.
    #[test]
    fn generation_is_that_of_the_rate_in_use() {
        let wide = 8_667u32.to_ne_bytes();
        let legacy = 540u16.to_ne_bytes();
        let found = of_rate(&[(RATE_32, &wide), (6, &[9])]);
        assert_eq!((found.bssid, found.signal_dbm), (MAC, Some(-60)));
        assert_eq!((found.transmit_mbps, found.radio), (Some(867), WifiRadio::Ac));
        let found = of_rate(&[(RATE, &legacy)]);
        assert_eq!((found.transmit_mbps, found.radio), (Some(54), WifiRadio::Legacy));
        for (kind, radio) in [(2, WifiRadio::N), (13, WifiRadio::Ax), (19, WifiRadio::Be)] {
            assert_eq!(of_rate(&[(RATE_32, &wide), (kind, &[1])]).radio, radio);
        }
        let found = of_rate(&[]);
        assert_eq!((found.transmit_mbps, found.radio), (None, WifiRadio::Unknown));
    }

    #[test]
    fn access_point_itself_and_one_that_looks_for_a_network_are_tuned_to_nothing() {
        let (station, ap) = (TYPE_STATION.to_ne_bytes(), 3u32.to_ne_bytes());
        let at = 5_180u32.to_ne_bytes();
        let whole = [
            (ATTRIBUTE_INTERFACE_TYPE, station.as_slice()),
            (ATTRIBUTE_SSID, b"room"),
            (ATTRIBUTE_FREQUENCY, &at),
        ];
        let found = tuned(&object(&whole)).unwrap();
        assert_eq!((found.ssid.as_slice(), found.frequency_mhz), (b"room".as_slice(), 5_180));
        assert_eq!(tuned(&object(&[(ATTRIBUTE_INTERFACE_TYPE, &ap), whole[1], whole[2]])), None);
        assert_eq!(tuned(&object(&[whole[0], (ATTRIBUTE_SSID, b""), whole[2]])), None);
        assert_eq!(tuned(&object(&[whole[0], (ATTRIBUTE_SSID, &[65; 33]), whole[2]])), None);
        assert_eq!(tuned(&object(&whole[..2])), None);
    }

    #[test]
    fn name_that_is_no_text_fits_all_the_same() {
        let tuned = Tuned { ssid: vec![0xff; 32], frequency_mhz: 2_412 };
        let wifi = wifi(&tuned, &of_rate(&[]));
        assert_eq!(wifi.ssid.chars().count(), 32);
        assert!(wifi.ssid.chars().all(|letter| letter == char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn signal_of_zero_is_a_driver_that_knows_none() {
        let info = nested(&[(STATION_SIGNAL, &[0])]);
        let found = station(&object(&[(ATTRIBUTE_MAC, &MAC), (ATTRIBUTE_STATION, &info)]));
        assert_eq!(found.unwrap().signal_dbm, None);
    }
}
