//! Makes frames and capture files of every kind, so that no test depends on a binary file.

use std::net::{IpAddr, SocketAddr};

/// Ethernet.
pub(crate) const ETHERNET: u32 = 1;
/// Linux cooked v1.
pub(crate) const COOKED: u32 = 113;
/// Linux cooked v2.
pub(crate) const COOKED2: u32 = 276;
/// Raw IP.
pub(crate) const RAW: u32 = 101;

/// The byte order of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::Little, Self::Big];

    /// A word of 16 bits.
    pub(crate) fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// A word of 32 bits.
    pub(crate) fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// A word of 64 bits.
    pub(crate) fn i64(self, value: i64) -> [u8; 8] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// An address from its text.
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A UDP datagram without IP header.
pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let words = [source.port(), destination.port(), length, 0];
    [&words.map(u16::to_be_bytes).concat(), payload].concat()
}

/// An IPv4 packet; `options` is a multiple of 4 bytes, `fragment` is the word of flags and offset.
pub(crate) fn ipv4(
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    options: &[u8],
    fragment: u16,
    body: &[u8],
) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) else {
        panic!("two IPv4 addresses are needed")
    };
    let head_bytes = 20 + options.len();
    let total = u16::try_from(head_bytes + body.len()).unwrap().to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let version = 0x40 | u8::try_from(head_bytes / 4).unwrap();
    let head = [version, 0, total[0], total[1], 0, 1, high, low, 64, protocol, 0, 0];
    [&head, &from.octets()[..], &to.octets(), options, body].concat()
}

/// An IPv6 packet; `next` names what `body` begins with.
pub(crate) fn ipv6(source: SocketAddr, destination: SocketAddr, next: u8, body: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (source.ip(), destination.ip()) else {
        panic!("two IPv6 addresses are needed")
    };
    let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, next, 64], &from.octets()[..], &to.octets(), body].concat()
}

/// A whole IP packet with a UDP datagram in it, of the family of its addresses.
pub(crate) fn datagram(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (address(source), address(destination));
    let body = udp(source, destination, payload);
    if source.is_ipv4() {
        ipv4(source, destination, 17, &[], 0, &body)
    } else {
        ipv6(source, destination, 17, &body)
    }
}

/// The EtherType of an IP packet.
pub(crate) fn ether_type(packet: &[u8]) -> [u8; 2] {
    if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] }
}

/// An Ethernet frame around an IP packet, with VLAN tags of these protocols, outermost first.
pub(crate) fn ethernet(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let tags: Vec<u8> =
        tags.iter().flat_map(|tag| [tag.to_be_bytes(), [0, 100]].concat()).collect();
    [&[2; 12], &tags[..], &ether_type(packet), packet].concat()
}

/// A Linux cooked v1 frame around an IP packet.
pub(crate) fn cooked(packet: &[u8]) -> Vec<u8> {
    [&[0, 4, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &ether_type(packet)[..], packet].concat()
}

/// A Linux cooked v2 frame around an IP packet.
pub(crate) fn cooked2(packet: &[u8]) -> Vec<u8> {
    [&ether_type(packet)[..], &[0, 0, 0, 0, 0, 1, 3, 4, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0], packet]
        .concat()
}

/// A BSD loopback frame around an IP packet.
pub(crate) fn bsd_loopback(order: Order, family: u32, packet: &[u8]) -> Vec<u8> {
    [&order.u32(family), packet].concat()
}

/// A pcap file's header, with microseconds or nanoseconds by its magic.
pub(crate) fn pcap_head(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let (major, minor) = (order.u16(2), order.u16(4));
    let words = [0, 0, 262_144, link].map(|word| order.u32(word)).concat();
    [&order.u32(magic)[..], &major, &minor, &words].concat()
}

/// A pcap file's magic for microseconds.
pub(crate) const MICROS: u32 = 0xa1b2_c3d4;
/// A pcap file's magic for nanoseconds.
pub(crate) const NANOS: u32 = 0xa1b2_3c4d;

/// A record of a pcap file.
pub(crate) fn pcap_record(
    order: Order,
    seconds: u32,
    fraction: u32,
    original: usize,
    captured: &[u8],
) -> Vec<u8> {
    let words = [seconds, fraction, captured.len() as u32, original as u32];
    [&words.map(|word| order.u32(word)).concat(), captured].concat()
}

/// A pcapng block; pads its body.
pub(crate) fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = order.u32(u32::try_from(12 + body.len() + padding.len()).unwrap());
    [&order.u32(kind)[..], &length, body, &padding, &length].concat()
}

/// A pcapng section header.
pub(crate) fn section(order: Order) -> Vec<u8> {
    let body = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &order.i64(-1)].concat();
    block(order, 0x0a0d_0d0a, &body)
}

/// A pcapng interface with options as (code, value).
pub(crate) fn interface(order: Order, link: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [&order.u16(link as u16)[..], &order.u16(0), &order.u32(262_144)].concat();
    for (code, value) in options {
        body.extend([order.u16(*code), order.u16(value.len() as u16)].concat());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    if !options.is_empty() {
        body.extend([0; 4]);
    }
    block(order, 1, &body)
}

/// A pcapng enhanced packet.
pub(crate) fn enhanced_packet(
    order: Order,
    interface: u32,
    ticks: u64,
    original: usize,
    captured: &[u8],
) -> Vec<u8> {
    let words =
        [interface, (ticks >> 32) as u32, ticks as u32, captured.len() as u32, original as u32];
    block(order, 6, &[&words.map(|word| order.u32(word)).concat(), captured].concat())
}

/// A pcapng simple packet, which has no time.
pub(crate) fn simple_packet(order: Order, original: usize, captured: &[u8]) -> Vec<u8> {
    block(order, 3, &[&order.u32(original as u32), captured].concat())
}

/// A packet block of the first drafts of pcapng.
pub(crate) fn obsolete_packet(
    order: Order,
    interface: u16,
    ticks: u64,
    captured: &[u8],
) -> Vec<u8> {
    let words = [(ticks >> 32) as u32, ticks as u32, captured.len() as u32, captured.len() as u32];
    let words = words.map(|word| order.u32(word)).concat();
    block(order, 2, &[&order.u16(interface)[..], &order.u16(0), &words, captured].concat())
}
