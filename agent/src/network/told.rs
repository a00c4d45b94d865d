//! What the collector has been told of the interfaces of a call: each address once, and again when it changes.
//!
//! A core. A change is what moves a call to another network or another speed: interface, kind, VPN, subnet, default
//! route, MTU, speed of a wire, the access point, its channel, its network's name, a newer generation. Signal and
//! transmit rate of a Wi-Fi go up and down by the second and are none; the signal stands in every host interval. Where
//! an address is gone, the last that was told of it stays.

use std::net::IpAddr;

use roomtone_protocol::id::CallId;
use roomtone_protocol::network::{NetworkAttachment, WifiRadio};

/// Addresses of one call that are followed, at most: an endpoint has a wire, a Wi-Fi and a VPN, each with some
/// addresses, and IPv6 may change its own now and then.
pub const ADDRESSES_MAX: usize = 16;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Told {
    call: Option<CallId>,
    addresses: Vec<(IpAddr, Option<NetworkAttachment>)>,
}

impl Told {
    /// A call began: nothing was told in it.
    pub fn handle_call_opened(&mut self, call: CallId) {
        self.call = Some(call);
        self.addresses.clear();
    }

    /// It ended: nothing is followed any more.
    pub fn handle_call_closed(&mut self, call: CallId) {
        if self.call == Some(call) {
            *self = Self::default();
        }
    }

    /// A leg began; true where its address has to be looked at now.
    pub fn handle_leg(&mut self, call: CallId, address: IpAddr) -> bool {
        let is_known = self.addresses.iter().any(|(known, _)| *known == address);
        let is_new = self.call == Some(call) && !is_known && self.addresses.len() < ADDRESSES_MAX;
        if is_new {
            self.addresses.push((address, None));
        }
        is_new
    }

    /// The call, and the addresses of its legs.
    pub fn addresses(&self) -> impl Iterator<Item = (CallId, IpAddr)> + '_ {
        let call = self.call;
        self.addresses.iter().filter_map(move |(address, _)| Some((call?, *address)))
    }

    /// Takes what was seen of an address; true where the collector has to be told.
    pub fn handle_seen(&mut self, seen: &NetworkAttachment) -> bool {
        let Some((_, told)) = self.addresses.iter_mut().find(|(it, _)| *it == seen.address) else {
            return false;
        };
        let is_news = told.as_ref().is_none_or(|told| is_change(told, seen));
        if is_news {
            *told = Some(seen.clone());
        }
        is_news
    }
}

fn is_change(told: &NetworkAttachment, seen: &NetworkAttachment) -> bool {
    let place = |it: &NetworkAttachment| {
        (it.interface.clone(), it.connection, it.prefix, it.mtu, it.is_vpn, it.is_default_route)
    };
    if place(told) != place(seen) {
        return true;
    }
    match (&told.wifi, &seen.wifi) {
        (Some(told), Some(seen)) => {
            let point = |it: &roomtone_protocol::network::Wifi| (it.bssid, it.frequency_mhz);
            // Frames of management go out at old rates: a generation is what was seen best.
            let is_newer = generation(seen.radio) > generation(told.radio);
            point(told) != point(seen) || told.ssid != seen.ssid || is_newer
        }
        (None, None) => told.speed_mbps != seen.speed_mbps,
        // Between two access points there is none for a moment; the next look has the new one.
        (Some(_), None) => false,
        (None, Some(_)) => true,
    }
}

/// Higher is newer.
fn generation(radio: WifiRadio) -> u8 {
    match radio {
        WifiRadio::Unknown => 0,
        WifiRadio::Legacy => 1,
        WifiRadio::N => 2,
        WifiRadio::Ac => 3,
        WifiRadio::Ax => 4,
        WifiRadio::Be => 5,
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::network::{ConnectionType, Wifi};
    use roomtone_protocol::time::Stamp;

    use super::*;

    const CALL: CallId = CallId(7);

    fn wired(address: &str) -> NetworkAttachment {
        NetworkAttachment {
            at: Stamp { wall_us: 0, uptime_us: 0 },
            call: Some(CALL),
            interface: "eth0".try_into().unwrap(),
            connection: ConnectionType::Wired,
            is_vpn: false,
            is_default_route: true,
            address: address.parse().unwrap(),
            prefix: 24,
            mtu: Some(1_500),
            speed_mbps: Some(1_000),
            wifi: None,
        }
    }

    fn wifi(bssid: u8, dbm: i16, radio: WifiRadio) -> NetworkAttachment {
        let wifi = Wifi {
            ssid: "room".try_into().unwrap(),
            bssid: [2, 0, 0, 0, 0, bssid],
            frequency_mhz: 5_180,
            signal_dbm: Some(dbm),
            radio,
        };
        let speed_mbps = Some(dbm.unsigned_abs().into());
        NetworkAttachment { speed_mbps, wifi: Some(wifi), ..wired("192.0.2.7") }
    }

    fn in_call() -> Told {
        let mut told = Told::default();
        told.handle_call_opened(CALL);
        assert!(told.handle_leg(CALL, "192.0.2.7".parse().unwrap()));
        told
    }

    #[test]
    fn each_address_of_a_call_is_looked_at_once() {
        let mut told = in_call();
        assert!(!told.handle_leg(CALL, "192.0.2.7".parse().unwrap()));
        assert!(!told.handle_leg(CallId(8), "192.0.2.8".parse().unwrap()));
        assert!(told.handle_seen(&wired("192.0.2.7")));
        assert!(!told.handle_seen(&wired("192.0.2.7")));
        assert!(!told.handle_seen(&wired("192.0.2.9")), "no leg of the call is there");
        // The next call is told anew.
        told.handle_call_closed(CALL);
        assert_eq!(told.addresses().count(), 0);
        told.handle_call_opened(CallId(8));
        assert!(told.handle_leg(CallId(8), "192.0.2.7".parse().unwrap()));
        assert!(told.handle_seen(&wired("192.0.2.7")));
    }

    #[test]
    fn change_of_speed_of_a_wire_is_told_and_that_of_a_radio_is_not() {
        let mut told = in_call();
        told.handle_seen(&wired("192.0.2.7"));
        assert!(
            told.handle_seen(&NetworkAttachment { speed_mbps: Some(100), ..wired("192.0.2.7") })
        );
        let mut told = in_call();
        told.handle_seen(&wifi(1, -40, WifiRadio::Ax));
        assert!(!told.handle_seen(&wifi(1, -70, WifiRadio::Ax)));
    }

    #[test]
    fn roaming_is_told_and_the_moment_between_is_not() {
        let mut told = in_call();
        assert!(told.handle_seen(&wifi(1, -70, WifiRadio::Legacy)));
        assert!(told.handle_seen(&wifi(1, -70, WifiRadio::Ax)), "a newer generation");
        assert!(!told.handle_seen(&wifi(1, -70, WifiRadio::Legacy)));
        let between = NetworkAttachment { wifi: None, ..wifi(1, -70, WifiRadio::Ax) };
        assert!(!told.handle_seen(&between));
        assert!(told.handle_seen(&wifi(2, -50, WifiRadio::Ax)));
    }

    #[test]
    fn default_route_that_leaves_for_a_vpn_is_told() {
        let mut told = in_call();
        told.handle_seen(&wired("192.0.2.7"));
        assert!(
            told.handle_seen(&NetworkAttachment { is_default_route: false, ..wired("192.0.2.7") })
        );
    }

    #[test]
    fn addresses_beyond_the_bound_are_not_followed() {
        let mut told = in_call();
        for last in 0..40u8 {
            told.handle_leg(CALL, IpAddr::from([198, 51, 100, last]));
        }
        assert_eq!(told.addresses().count(), ADDRESSES_MAX);
    }
}
