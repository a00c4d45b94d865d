//! What carries an interface, by what the kernel shows of it.
//!
//! A core. A rule that cannot tell says `Unknown` (loopback) or what the frames look like: a bridge, a bond and a VLAN
//! are wired, whatever is below them. A VPN without an interface of its own (IPsec by policy) cannot be seen: only
//! CAP_NET_ADMIN may read the kernel's table of it.

use roomtone_protocol::network::ConnectionType;

/// What is known of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence<'a> {
    /// What its frames are (`ARPHRD_*`, include/uapi/linux/if_arp.h).
    pub hardware: u16,
    /// Which driver made it, of those that are made by software (`IFLA_INFO_KIND`).
    pub kind: &'a str,
    /// `DEVTYPE` of its uevent.
    pub devtype: &'a str,
    /// It is a radio's (`/sys/class/net/X/phy80211`).
    pub is_wireless: bool,
    /// It has `tun_flags`: a program's tunnel, with frames or without.
    pub is_tun: bool,
}

/// Drivers that put packets into others.
const TUNNELS: [&str; 18] = [
    "tun",
    "wireguard",
    "ovpn",
    "ppp",
    "xfrm",
    "vti",
    "vti6",
    "ipip",
    "ip6tnl",
    "sit",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "vxlan",
    "geneve",
    "bareudp",
    "l2tp",
];
/// PPP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE: what has no hardware below it that a frame belongs to.
const TUNNEL_FRAMES: [u16; 7] = [512, 768, 769, 776, 778, 823, 65_534];
/// ETHER, INFINIBAND.
const WIRED_FRAMES: [u16; 2] = [1, 32];
/// RAWIP: a modem's.
const RAW_IP: u16 = 519;

/// What carries it.
#[must_use]
pub fn connection(of: &Evidence<'_>) -> ConnectionType {
    let is_made_as = |names: &[&str]| names.contains(&of.kind) || names.contains(&of.devtype);
    // Before frames: a modem's may be of no kind at all, and a tap's are Ethernet.
    if of.is_wireless || of.devtype == "wlan" {
        ConnectionType::Wifi
    } else if of.devtype == "wwan" || of.kind == "wwan" || of.hardware == RAW_IP {
        ConnectionType::Mobile
    } else if of.is_tun || is_made_as(&TUNNELS) || TUNNEL_FRAMES.contains(&of.hardware) {
        ConnectionType::Tunnel
    } else if WIRED_FRAMES.contains(&of.hardware) {
        ConnectionType::Wired
    } else {
        ConnectionType::Unknown
    }
}

/// `DEVTYPE=wlan` in the uevent of an interface.
#[must_use]
pub fn devtype(uevent: &[u8]) -> &str {
    let lines = uevent.split(|byte| *byte == b'\n');
    let texts = lines.filter_map(|line| str::from_utf8(line).ok());
    texts.filter_map(|line| line.strip_prefix("DEVTYPE=")).next().unwrap_or_default()
}

/// Mbit/s in `/sys/class/net/X/speed`, which is -1 where the driver knows none.
#[must_use]
pub fn speed_mbps(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.trim().parse().ok().filter(|mbps| *mbps > 0 && *mbps < u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHER: u16 = 1;
    const NONE: u16 = 65_534;

    #[test]
    fn what_carries_an_interface_is_told_by_what_the_kernel_shows() {
        let none = Evidence::default();
        let table = [
            ("eth0", Evidence { hardware: ETHER, ..none }, ConnectionType::Wired),
            ("vlan", Evidence { hardware: ETHER, kind: "vlan", ..none }, ConnectionType::Wired),
            ("veth", Evidence { hardware: ETHER, kind: "veth", ..none }, ConnectionType::Wired),
            ("wlan0", Evidence { hardware: ETHER, devtype: "wlan", ..none }, ConnectionType::Wifi),
            (
                "wlan0 by its radio",
                Evidence { hardware: ETHER, is_wireless: true, ..none },
                ConnectionType::Wifi,
            ),
            ("wwan0", Evidence { hardware: NONE, devtype: "wwan", ..none }, ConnectionType::Mobile),
            ("rmnet", Evidence { hardware: 519, ..none }, ConnectionType::Mobile),
            ("tun0", Evidence { hardware: NONE, is_tun: true, ..none }, ConnectionType::Tunnel),
            ("tap0", Evidence { hardware: ETHER, is_tun: true, ..none }, ConnectionType::Tunnel),
            (
                "wg0",
                Evidence { hardware: NONE, devtype: "wireguard", ..none },
                ConnectionType::Tunnel,
            ),
            ("ppp0", Evidence { hardware: 512, ..none }, ConnectionType::Tunnel),
            ("ipsec0", Evidence { hardware: NONE, kind: "xfrm", ..none }, ConnectionType::Tunnel),
            ("vti0", Evidence { hardware: 768, kind: "vti", ..none }, ConnectionType::Tunnel),
            ("vxlan0", Evidence { hardware: ETHER, kind: "vxlan", ..none }, ConnectionType::Tunnel),
            ("lo", Evidence { hardware: 772, ..none }, ConnectionType::Unknown),
        ];
        for (name, evidence, expected) in table {
            assert_eq!(connection(&evidence), expected, "{name}");
        }
    }

    #[test]
    fn devtype_is_one_line_of_the_uevent() {
        assert_eq!(devtype(b"DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=3\n"), "wlan");
        assert_eq!(devtype(b"INTERFACE=eth0\nIFINDEX=2\n"), "");
        assert_eq!(devtype(b"\xff\nXDEVTYPE=wlan"), "");
    }

    #[test]
    fn speed_that_no_driver_knows_is_unknown() {
        assert_eq!(speed_mbps(b"1000\n"), Some(1_000));
        for text in [b"-1\n".as_slice(), b"0\n", b"4294967295\n", b"", b"fast\n"] {
            assert_eq!(speed_mbps(text), None, "{text:?}");
        }
    }
}
