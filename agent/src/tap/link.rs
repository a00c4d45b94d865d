//! From a captured frame to the head of a UDP datagram, or to the reason why there is none.
//!
//! Hand-coded because it runs for every packet of a call and of everything else on the interface: no allocation, no
//! copy, a few nanoseconds, and every loop has a bound. General packet libraries build the whole header tree first.
//! Reads Ethernet with VLAN tags, Linux cooked v1 and v2, raw IP and BSD loopback; IPv4 with options, IPv6 with
//! extension headers. Checksums are left alone: network cards fill them in after the tap.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Datagram, SkipReason};
use crate::clock::Moment;

/// IEEE 802.1ad stacks two tags; some provider equipment nests two more.
const VLAN_TAGS_MAX: usize = 4;

/// RFC 8200 4.1 names seven extension headers, one of them twice.
const IPV6_EXTENSIONS_MAX: usize = 8;

const UDP_HEAD_BYTES: usize = 8;

const PROTOCOL_UDP: u8 = 17;

/// How the frames of one interface begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet, with or without VLAN tags.
    Ethernet,
    /// Linux cooked capture v1, 16 bytes: what `any` delivers.
    LinuxCooked,
    /// Linux cooked capture v2, 20 bytes.
    LinuxCooked2,
    /// An IPv4 or IPv6 header at once.
    RawIp,
    /// An IPv4 header at once.
    RawIpv4,
    /// An IPv6 header at once.
    RawIpv6,
    /// BSD loopback: an address family of 4 bytes, in the order of the machine that captured or of the network.
    BsdLoopback,
}

impl LinkType {
    /// By the number in a capture file (LINKTYPE) or libpcap's own (DLT), which differ for raw IP only.
    ///
    /// Source: the registry at <https://www.tcpdump.org/linktypes.html>.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            113 => Some(Self::LinuxCooked),
            276 => Some(Self::LinuxCooked2),
            12 | 14 | 101 => Some(Self::RawIp),
            228 => Some(Self::RawIpv4),
            229 => Some(Self::RawIpv6),
            0 | 108 => Some(Self::BsdLoopback),
            _ => None,
        }
    }
}

/// Where a UDP datagram lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpHead {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// The differentiated-services code point of its IP header, 0..=63.
    pub dscp: u8,
    /// Where its payload begins, in bytes from the start of the frame.
    pub payload_start: usize,
    /// Where the captured part of its payload ends; never before `payload_start`, never after the frame.
    pub payload_end: usize,
    /// The length of its payload on the wire, in bytes, by the UDP header.
    pub wire_bytes: u16,
}

impl UdpHead {
    /// The datagram itself; `frame` is the one in which this head was found.
    #[must_use]
    pub fn datagram(self, at: Moment, frame: &[u8]) -> Datagram<'_> {
        Datagram {
            at,
            source: self.source,
            destination: self.destination,
            dscp: self.dscp,
            payload: frame.get(self.payload_start..self.payload_end).unwrap_or_default(),
            wire_bytes: self.wire_bytes,
        }
    }
}

/// Finds the UDP datagram in a captured frame.
///
/// `original_bytes` is the length of the frame on the wire; where the capture is shorter, a missing header is
/// `TruncatedHead` and not malformed.
///
/// # Errors
/// The reason why the frame has no usable UDP head.
pub fn dissect(link: LinkType, frame: &[u8], original_bytes: u32) -> Result<UdpHead, SkipReason> {
    let frame = Frame { bytes: frame, cut: (frame.len() as u64) < u64::from(original_bytes) };
    match link {
        LinkType::Ethernet => frame.ether_type(12),
        LinkType::LinuxCooked => frame.ether_type(14),
        LinkType::LinuxCooked2 => {
            let [high, low] = frame.take(0, SkipReason::MalformedLink)?;
            // The protocol comes first here, so a tag's successor is 4 bytes into the payload all the same.
            frame.tagged(u16::from_be_bytes([high, low]), 20)
        }
        LinkType::RawIp => {
            let [first] = frame.take(0, SkipReason::MalformedIp)?;
            match first >> 4 {
                4 => frame.ipv4(0),
                6 => frame.ipv6(0),
                _ => Err(SkipReason::NotIp),
            }
        }
        LinkType::RawIpv4 => frame.ipv4(0),
        LinkType::RawIpv6 => frame.ipv6(0),
        LinkType::BsdLoopback => frame.bsd_loopback(),
    }
}

/// Finds the UDP datagram in a packet whose link header the kernel has taken off.
///
/// `ether_type` is what the kernel says of its first byte. It may be a VLAN tag's where the packet begins behind that
/// tag, and the inner one's where it begins at it, by the kernel's version and by who made the tag: only where the
/// bytes behind a tag begin an IP header, they do, and else the packet does. `original_bytes` as for [`dissect`].
///
/// # Errors
/// The reason why the packet has no usable UDP head.
pub fn network(ether_type: u16, packet: &[u8], original_bytes: u32) -> Result<UdpHead, SkipReason> {
    let frame = Frame { bytes: packet, cut: (packet.len() as u64) < u64::from(original_bytes) };
    let version = |at: usize| packet.get(at).map(|byte| byte >> 4);
    let fits = |ether_type, at| {
        matches!((ether_type, version(at)), (ETHER_IPV4, Some(4)) | (ETHER_IPV6, Some(6)))
    };
    if fits(ether_type, 0) {
        return frame.tagged(ether_type, 0);
    }
    let is_tag = matches!(ether_type, 0x8100 | 0x88a8);
    let inner = packet.get(2..).and_then(<[u8]>::first_chunk).map(|it| u16::from_be_bytes(*it));
    match (inner, version(0)) {
        (Some(inner), _) if fits(inner, 4) => frame.tagged(inner, 4),
        (_, Some(4)) if is_tag => frame.ipv4(0),
        (_, Some(6)) if is_tag => frame.ipv6(0),
        _ => frame.tagged(ether_type, 0),
    }
}

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;

/// What is left of a packet after the capture.
#[derive(Clone, Copy)]
struct Frame<'a> {
    bytes: &'a [u8],
    /// The wire had more than was captured.
    cut: bool,
}

impl Frame<'_> {
    /// The `N` bytes at `at`; where they are missing, the frame is cut or else wrong as `otherwise` says.
    #[inline]
    fn take<const N: usize>(self, at: usize, otherwise: SkipReason) -> Result<[u8; N], SkipReason> {
        match self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => Ok(*bytes),
            None if self.cut => Err(SkipReason::TruncatedHead),
            None => Err(otherwise),
        }
    }

    /// Goes on by the EtherType at `at`.
    #[inline]
    fn ether_type(self, at: usize) -> Result<UdpHead, SkipReason> {
        let ether_type = self.take(at, SkipReason::MalformedLink)?;
        self.tagged(u16::from_be_bytes(ether_type), at + 2)
    }

    /// Goes on by an EtherType whose payload begins at `at`, through the VLAN tags that it may announce.
    #[inline]
    fn tagged(self, mut ether_type: u16, mut at: usize) -> Result<UdpHead, SkipReason> {
        for _ in 0..=VLAN_TAGS_MAX {
            match ether_type {
                ETHER_IPV4 => return self.ipv4(at),
                ETHER_IPV6 => return self.ipv6(at),
                // 802.1Q, 802.1ad, and what was used before 802.1ad: 2 bytes of tag, then the next EtherType.
                0x8100 | 0x88a8 | 0x9100 => {
                    let [_, _, high, low] = self.take(at, SkipReason::MalformedLink)?;
                    ether_type = u16::from_be_bytes([high, low]);
                    at += 4;
                }
                _ => return Err(SkipReason::NotIp),
            }
        }
        Err(SkipReason::MalformedLink)
    }

    /// BSD loopback: the order of the capturing machine is not told, but no family exceeds one byte.
    fn bsd_loopback(self) -> Result<UdpHead, SkipReason> {
        let family: [u8; 4] = self.take(0, SkipReason::MalformedLink)?;
        match u32::from_be_bytes(family).min(u32::from_le_bytes(family)) {
            2 => self.ipv4(4),
            // AF_INET6 of Linux, of NetBSD and OpenBSD, of FreeBSD, of Darwin.
            10 | 24 | 28 | 30 => self.ipv6(4),
            _ => Err(SkipReason::NotIp),
        }
    }

    /// RFC 791 3.1.
    #[inline]
    fn ipv4(self, at: usize) -> Result<UdpHead, SkipReason> {
        let head: [u8; 20] = self.take(at, SkipReason::MalformedIp)?;
        let head_bytes = usize::from(head[0] & 0x0f) * 4;
        let total_bytes = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] >> 4 != 4 || head_bytes < 20 || total_bytes < head_bytes {
            return Err(SkipReason::MalformedIp);
        }
        if head[9] != PROTOCOL_UDP {
            return Err(SkipReason::NotUdp);
        }
        let fragment = u16::from_be_bytes([head[6], head[7]]);
        if fragment & 0x1fff != 0 {
            return Err(SkipReason::Fragment);
        }
        let extent = Extent { end: at + total_bytes, more_fragments: fragment & 0x2000 != 0 };
        let udp = self.udp(at + head_bytes, extent)?;
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = head;
        let (source, destination) =
            (Ipv4Addr::new(s0, s1, s2, s3).into(), Ipv4Addr::new(d0, d1, d2, d3).into());
        // The lower two bits are those of congestion notification (RFC 3168).
        Ok(udp.between(source, destination, head[1] >> 2))
    }

    /// RFC 8200 3 and 4. A jumbogram (payload length 0) is malformed here: no UDP over it fits a `u16`.
    #[inline]
    fn ipv6(self, at: usize) -> Result<UdpHead, SkipReason> {
        let head: [u8; 40] = self.take(at, SkipReason::MalformedIp)?;
        if head[0] >> 4 != 6 {
            return Err(SkipReason::MalformedIp);
        }
        let payload_bytes = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut extent = Extent { end: at + 40 + payload_bytes, more_fragments: false };
        let mut position = at + 40;
        let mut next = head[6];
        for _ in 0..=IPV6_EXTENSIONS_MAX {
            match next {
                PROTOCOL_UDP => {
                    let udp = self.udp(position, extent)?;
                    let (source, destination) = (ipv6_address(&head, 8), ipv6_address(&head, 24));
                    // The traffic class lies across the first two bytes.
                    let dscp = head[0] << 2 & 0x3c | head[1] >> 6;
                    return Ok(udp.between(source, destination, dscp));
                }
                // Hop-by-hop options, routing, destination options: next header, then length in 8 bytes beyond the
                // first.
                0 | 43 | 60 => {
                    let [following, length] = self.take(position, SkipReason::MalformedIp)?;
                    next = following;
                    position += (usize::from(length) + 1) * 8;
                }
                44 => {
                    let [following, _, high, low, ..]: [u8; 8] =
                        self.take(position, SkipReason::MalformedIp)?;
                    let fragment = u16::from_be_bytes([high, low]);
                    if fragment & 0xfff8 != 0 {
                        return Err(match following {
                            PROTOCOL_UDP | 43 | 60 => SkipReason::Fragment,
                            _ => SkipReason::NotUdp,
                        });
                    }
                    extent.more_fragments |= fragment & 1 != 0;
                    next = following;
                    position += 8;
                }
                _ => return Err(SkipReason::NotUdp),
            }
            if position > extent.end {
                return Err(SkipReason::MalformedIp);
            }
        }
        Err(SkipReason::MalformedIp)
    }

    /// RFC 768.
    #[inline]
    fn udp(self, at: usize, extent: Extent) -> Result<Udp, SkipReason> {
        if extent.end < at + UDP_HEAD_BYTES {
            return Err(SkipReason::MalformedUdp);
        }
        let head: [u8; UDP_HEAD_BYTES] = self.take(at, SkipReason::MalformedUdp)?;
        let length = u16::from_be_bytes([head[4], head[5]]);
        let Some(wire_bytes) = length.checked_sub(UDP_HEAD_BYTES as u16) else {
            return Err(SkipReason::MalformedUdp);
        };
        let end = at + usize::from(length);
        // A first fragment announces the whole datagram and carries a part of it.
        if end > extent.end && !extent.more_fragments {
            return Err(SkipReason::MalformedUdp);
        }
        Ok(Udp {
            source: u16::from_be_bytes([head[0], head[1]]),
            destination: u16::from_be_bytes([head[2], head[3]]),
            payload_start: at + UDP_HEAD_BYTES,
            payload_end: end.min(extent.end).min(self.bytes.len()),
            wire_bytes,
        })
    }
}

/// How far an IP packet reaches, by its own header.
#[derive(Clone, Copy)]
struct Extent {
    /// In bytes from the start of the frame; may lie beyond what was captured.
    end: usize,
    /// The rest of its datagram travels in other packets.
    more_fragments: bool,
}

/// What the UDP header tells of a [`UdpHead`].
struct Udp {
    source: u16,
    destination: u16,
    payload_start: usize,
    payload_end: usize,
    wire_bytes: u16,
}

impl Udp {
    #[inline]
    fn between(self, source: IpAddr, destination: IpAddr, dscp: u8) -> UdpHead {
        UdpHead {
            source: SocketAddr::new(source, self.source),
            destination: SocketAddr::new(destination, self.destination),
            dscp,
            payload_start: self.payload_start,
            payload_end: self.payload_end,
            wire_bytes: self.wire_bytes,
        }
    }
}

#[inline]
fn ipv6_address(head: &[u8; 40], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&head[at..at + 16]);
    IpAddr::from(octets)
}
