//! The interface that the endpoint's calls go through.

use core::net::IpAddr;

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::limits::{INTERFACE_NAME_BYTES_MAX, SSID_BYTES_MAX};
use crate::time::Stamp;

/// One interface, as it was when a call's leg began there, or when it changed. The last one of an address wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// When it was looked at.
    pub at: Stamp,
    /// The call that it matters to, if one was on.
    pub call: Option<CallId>,
    /// Its name (Linux IFNAMSIZ).
    pub interface: String<INTERFACE_NAME_BYTES_MAX>,
    /// What carries it (Graph `networkConnectionType`).
    pub connection: ConnectionType,
    /// Whether it leads through a VPN: a tunnel, or a device that a VPN made.
    pub is_vpn: bool,
    /// Whether packets to everywhere leave through it.
    pub is_default_route: bool,
    /// The endpoint's address on it.
    pub address: IpAddr,
    /// Bits of the subnet, 0..=32 or 0..=128.
    pub prefix: u8,
    /// Its maximum transmission unit, in bytes; `None` where unknown.
    pub mtu: Option<u32>,
    /// Its speed, in Mbit/s (ethtool; of Wi-Fi the current transmit rate); `None` where unknown.
    pub speed_mbps: Option<u32>,
    /// Of Wi-Fi, the network and its signal.
    pub wifi: Option<Wifi>,
}

/// What carries an interface (Graph `networkConnectionType`). Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionType {
    /// Not told apart.
    Unknown,
    /// Ethernet or alike.
    Wired,
    /// IEEE 802.11.
    Wifi,
    /// A cellular network.
    Mobile,
    /// Something inside something else.
    Tunnel,
}

/// An association with an access point (nl80211).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wifi {
    /// The network's name; what is no UTF-8 in it is replaced.
    pub ssid: String<SSID_BYTES_MAX>,
    /// The access point.
    pub bssid: [u8; 6],
    /// Centre of its primary channel, in MHz; it gives band and channel number (IEEE 802.11 annex E).
    pub frequency_mhz: u16,
    /// Strength of the last frame or beacon, in dBm; `None` where the driver does not tell.
    pub signal_dbm: Option<i16>,
    /// The generation.
    pub radio: WifiRadio,
}

/// A generation of Wi-Fi (Graph `wifiRadioType`, and what came since). Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WifiRadio {
    /// Not told.
    Unknown,
    /// 802.11a, b or g: no newer rate is in use.
    Legacy,
    /// 802.11n.
    N,
    /// 802.11ac.
    Ac,
    /// 802.11ax.
    Ax,
    /// 802.11be.
    Be,
}
