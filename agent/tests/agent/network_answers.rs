//! Answers of a real kernel (Debian's 6.1, two access points and a station of mac80211_hwsim, a WireGuard tunnel) give
//! what `ip` and `iw` printed on the same machine at the same moment. They lie in the corpus of the fuzz target.

use std::net::IpAddr;
use std::path::Path;

use roomtone_agent::network::message::{Part, parts};
use roomtone_agent::network::route::{self, Link, Place};
use roomtone_agent::network::wireless::{self, Station, Tuned};
use roomtone_protocol::network::WifiRadio;

/// The first object in which `what` is found.
fn find<T>(name: &str, what: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/netlink");
    let bytes = std::fs::read(folder.join(format!("kernel-{name}"))).unwrap();
    let found = parts(&bytes).find_map(|part| match part {
        Part::Object(object) => what(object),
        Part::End | Part::Refused(_) => None,
    });
    assert!(parts(&bytes).count() > 0, "{name}");
    found
}

#[test]
fn addresses_interfaces_and_ways_are_those_that_ip_shows() {
    let place = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        find("addresses", |object| route::place_of(address, object))
    };
    assert_eq!(place("10.9.0.2"), Some(Place { interface: 4, prefix: 24 }));
    assert_eq!(place("10.7.0.1"), Some(Place { interface: 8, prefix: 30 }));
    assert_eq!(place("10.9.0.1"), None, "the access point's own, in another namespace");
    let wireguard = Link {
        name: "wg0".to_owned(),
        hardware: 65_534,
        kind: "wireguard".to_owned(),
        mtu: Some(1_420),
    };
    assert_eq!(find("link-wireguard", |object| route::link(8, object)), Some(wireguard));
    let wifi =
        Link { name: "wlan1".to_owned(), hardware: 1, kind: String::new(), mtu: Some(1_500) };
    assert_eq!(find("link-wifi", |object| route::link(4, object)), Some(wifi));
    // `default via 10.9.0.1 dev wlan1`; then `0.0.0.0/1` and `128.0.0.0/1 dev wg0` go before it.
    assert_eq!(find("route-wifi", route::way_out), Some(4));
    assert_eq!(find("route-wireguard", route::way_out), Some(8));
}

#[test]
fn association_is_the_one_that_iw_shows() {
    assert_eq!(find("family", wireless::family), Some(33));
    let tuned = Tuned { ssid: b"rt-room".to_vec(), frequency_mhz: 2_437 };
    assert_eq!(find("interface-associated", wireless::tuned), Some(tuned));
    assert_eq!(find("interface-between", wireless::tuned), None, "Not connected.");
    assert_eq!(find("interface-access-point", wireless::tuned), None, "type AP");
    // `tx bitrate: 13.0 MBit/s MCS 8`, and after roaming `58.5 MBit/s MCS 6`: an MCS without VHT, HE or EHT is 802.11n.
    let station = |last, mbps| Station {
        bssid: [2, 0, 0, 0, last, 0],
        signal_dbm: Some(-30),
        transmit_mbps: Some(mbps),
        radio: WifiRadio::N,
    };
    assert_eq!(find("station-first", wireless::station), Some(station(0, 13)));
    assert_eq!(find("station-roamed", wireless::station), Some(station(2, 59)));
}
