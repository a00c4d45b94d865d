//! What must hold for any answer over netlink: parts and attributes lie inside of it, and what is made of them keeps
//! the bounds of a record.

use std::net::IpAddr;

use roomtone_agent::network::message::{Part, attributes, parts};
use roomtone_agent::network::{route, wireless};

/// Input: an answer as one read brings it.
pub(crate) fn body(input: &[u8]) {
    let mut taken = 0;
    for part in parts(input) {
        taken += 16;
        let Part::Object(object) = part else { continue };
        taken += object.len();
        assert!(
            attributes(object).map(|(_, payload)| payload.len() + 4).sum::<usize>() <= object.len()
        );
        for address in [IpAddr::from([192, 0, 2, 7]), IpAddr::from([0; 16])] {
            if let Some(place) = route::place_of(address, object) {
                assert!(place.prefix <= if address.is_ipv4() { 32 } else { 128 });
            }
        }
        if let Some(interface) = object.get(4..8) {
            let number = u32::from_ne_bytes(interface.try_into().expect("four bytes"));
            if let Some(link) = route::link(number, object) {
                assert!(!link.name.is_empty() && link.name.len() <= 15 && !link.name.contains('/'));
                assert!(link.kind.len() <= 15);
            }
        }
        let _ = route::way_out(object);
        let _ = wireless::family(object);
        let station = wireless::station(object);
        if let Some(station) = station {
            assert!(station.signal_dbm.is_none_or(|dbm| (-128..0).contains(&dbm)));
            assert_ne!(station.transmit_mbps, Some(0));
        }
        if let Some(tuned) = wireless::tuned(object)
            && let Some(station) = station
        {
            let ssid = wireless::wifi(&tuned, &station).ssid;
            assert!(!ssid.is_empty() && ssid.len() <= 96);
        }
    }
    assert!(taken <= input.len());
}
