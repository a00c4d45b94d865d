//! The interface that a call goes through: looks at it for an address of this machine.
//!
//! A shell: it asks rtnetlink and nl80211 and reads `/sys/class/net`; `route`, `wireless` and `carrier` know what the
//! answers mean, `told` what the collector has to hear of it. Nothing is kept between two looks but what was logged. A
//! reader of our own: crates that speak nl80211 bring an async stack and some thirty crates of code into a process that
//! asks five questions every ten seconds. Names and addresses are logged at debug only.

pub mod carrier;
pub mod message;
pub mod route;
pub mod socket;
pub mod told;
pub mod wireless;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use heapless::String as Bounded;
use roomtone_protocol::id::CallId;
use roomtone_protocol::network::{ConnectionType, NetworkAttachment, Wifi};
use roomtone_protocol::time::Stamp;
use rustix::io::Errno;

use carrier::Evidence;
use socket::{Whom, find};

/// The files of an interface have one line, its uevent a handful.
const FILE_BYTES_MAX: u64 = 4096;

/// See the head of this file.
#[derive(Debug)]
pub struct Network {
    /// `/sys/class/net` outside tests.
    folder: PathBuf,
    /// It was said that the kernel does not answer.
    said: bool,
}

impl Network {
    /// `root` is `/` outside tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("sys/class/net"), said: false }
    }

    /// What is known of the interface with this address; `None` where no interface has it, or the kernel does not tell.
    pub fn look(&mut self, call: CallId, address: IpAddr, at: Stamp) -> Option<NetworkAttachment> {
        let seen = self.attachment(call, address, at);
        seen.unwrap_or_else(|error| {
            // Once: it would be said every ten seconds.
            if !std::mem::replace(&mut self.said, true) {
                tracing::warn!(%error, "the kernel does not tell of network interfaces; the log's last word on it");
            }
            None
        })
    }

    /// The signal of the Wi-Fi that packets to everywhere leave through, in dBm; `None` where that is no Wi-Fi.
    #[must_use]
    pub fn default_signal_dbm(&self) -> Option<i16> {
        let anywhere = IpAddr::from([0, 0, 0, 0]);
        let interface = way_out(anywhere).or_else(|| way_out(IpAddr::from([0; 16])))?;
        let link = link(interface).ok().flatten()?;
        self.is_wireless(&link.name).then(|| station(interface))??.signal_dbm
    }

    fn attachment(
        &self,
        call: CallId,
        address: IpAddr,
        at: Stamp,
    ) -> io::Result<Option<NetworkAttachment>> {
        let question = route::ask_addresses(address);
        let place = find(Whom::Route, &question, |it| route::place_of(address, it))?;
        let Some(place) = place else { return Ok(None) };
        let link = match link(place.interface) {
            // It went between the two questions.
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => None,
            found => found?,
        };
        let Some(link) = link else { return Ok(None) };
        let Ok(interface) = Bounded::try_from(link.name.as_str()) else { return Ok(None) };
        let uevent = self.read(&link.name, "uevent");
        let evidence = Evidence {
            hardware: link.hardware,
            kind: &link.kind,
            devtype: carrier::devtype(&uevent),
            is_wireless: self.is_wireless(&link.name),
            is_tun: self.folder.join(&link.name).join("tun_flags").exists(),
        };
        let connection = carrier::connection(&evidence);
        let (wifi, speed_mbps) = match connection {
            ConnectionType::Wifi => wifi(place.interface),
            ConnectionType::Wired => (None, carrier::speed_mbps(&self.read(&link.name, "speed"))),
            // What a tunnel or a modem names as its speed is made up.
            ConnectionType::Mobile | ConnectionType::Tunnel | ConnectionType::Unknown => {
                (None, None)
            }
        };
        tracing::debug!(%address, interface = link.name, ?connection, "a leg's interface");
        Ok(Some(NetworkAttachment {
            at,
            call: Some(call),
            interface,
            connection,
            is_vpn: connection == ConnectionType::Tunnel,
            is_default_route: way_out(address) == Some(place.interface),
            address,
            prefix: place.prefix,
            mtu: link.mtu,
            speed_mbps,
            wifi,
        }))
    }

    fn is_wireless(&self, name: &str) -> bool {
        self.folder.join(name).join("phy80211").exists()
    }

    fn read(&self, name: &str, file: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let file = File::open(self.folder.join(name).join(file));
        // A driver without the figure refuses to be read.
        let read = file.and_then(|it| it.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        read.map(|_| bytes).unwrap_or_default()
    }
}

fn link(interface: u32) -> io::Result<Option<route::Link>> {
    find(Whom::Route, &route::ask_link(interface), |it| route::link(interface, it))
}

/// Without a way out the kernel refuses the question.
fn way_out(of: IpAddr) -> Option<u32> {
    find(Whom::Route, &route::ask_route(of), route::way_out).ok().flatten()
}

fn station(interface: u32) -> Option<wireless::Station> {
    let family = find(Whom::Generic, &wireless::ask_family(), wireless::family).ok().flatten()?;
    let question = wireless::ask_stations(family, interface);
    find(Whom::Generic, &question, wireless::station).ok().flatten()
}

/// The association, and the rate at which is sent.
fn wifi(interface: u32) -> (Option<Wifi>, Option<u32>) {
    let family = find(Whom::Generic, &wireless::ask_family(), wireless::family).ok().flatten();
    let tuned = family.and_then(|family| {
        let question = wireless::ask_interface(family, interface);
        find(Whom::Generic, &question, wireless::tuned).ok().flatten()
    });
    let station = tuned.as_ref().and_then(|_| station(interface));
    let wifi = tuned.zip(station).map(|(tuned, station)| wireless::wifi(&tuned, &station));
    (wifi, station.and_then(|station| station.transmit_mbps))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Stamp = Stamp { wall_us: 1, uptime_us: 2 };

    #[test]
    fn loopback_is_an_interface_and_no_way_to_everywhere() {
        let mut network = Network::new(Path::new("/"));
        let seen = network.look(CallId(7), "127.0.0.1".parse().unwrap(), AT).unwrap();
        assert_eq!((seen.interface.as_str(), seen.prefix, seen.at), ("lo", 8, AT));
        assert_eq!((seen.connection, seen.is_vpn), (ConnectionType::Unknown, false));
        assert!(!seen.is_default_route);
        assert_eq!((seen.mtu, seen.speed_mbps, seen.wifi), (Some(65_536), None, None));
    }

    #[test]
    fn address_of_somebody_else_is_on_no_interface() {
        let mut network = Network::new(Path::new("/"));
        let elsewhere = ["192.0.2.77", "2001:db8::77"];
        for address in elsewhere {
            assert_eq!(network.look(CallId(7), address.parse().unwrap(), AT), None);
        }
    }
}
