//! What rtnetlink tells of addresses, interfaces and routes (rtnetlink(7)).
//!
//! A core: questions as bytes, answers as numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Ask, array, attribute, number, request};

const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;

const INET: u8 = 2;
const INET6: u8 = 10;

/// The fixed parts of an address, an interface, a route.
const ADDRESS_BYTES: usize = 8;
const LINK_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFLA_NAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const RTA_DESTINATION: u16 = 1;
const RTA_INTERFACE: u16 = 4;

/// Leaves out counters, which are most of an answer (`RTEXT_FILTER_SKIP_STATS`).
const SKIP_STATS: u32 = 1 << 3;

/// Where an address of this machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The interface's number.
    pub interface: u32,
    /// Bits of the subnet, 0..=32 or 0..=128.
    pub prefix: u8,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What its frames are (`ARPHRD_*`).
    pub hardware: u16,
    /// Which driver made it, of those that are made by software.
    pub kind: String,
    /// Its maximum transmission unit, in bytes.
    pub mtu: Option<u32>,
}

/// Asks for all addresses of a family.
#[must_use]
pub fn ask_addresses(of: IpAddr) -> Vec<u8> {
    let mut head = [0; ADDRESS_BYTES];
    head[0] = family(of);
    request(GET_ADDRESS, Ask::All, &head, &[])
}

/// Where `wanted` stands, if this part of the answer tells of it.
#[must_use]
pub fn place_of(wanted: IpAddr, object: &[u8]) -> Option<Place> {
    let [found_family, prefix] = array(object, 0)?;
    let interface = u32::from_ne_bytes(array(object, 4)?);
    let rest = object.get(ADDRESS_BYTES..)?;
    // Of a line between two points IFA_ADDRESS is the other one.
    let own = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    let bits = if wanted.is_ipv4() { 32 } else { 128 };
    let is_it = found_family == family(wanted) && address(own) == Some(wanted) && prefix <= bits;
    is_it.then_some(Place { interface, prefix })
}

/// Asks for one interface.
#[must_use]
pub fn ask_link(interface: u32) -> Vec<u8> {
    let mut head = [0; LINK_BYTES];
    head[4..8].copy_from_slice(&interface.to_ne_bytes());
    request(GET_LINK, Ask::One, &head, &[(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes())])
}

/// The interface; `None` where the answer is of another one or has no name that could be a file's.
#[must_use]
pub fn link(wanted: u32, object: &[u8]) -> Option<Link> {
    let hardware = u16::from_ne_bytes(array(object, 2)?);
    let interface = u32::from_ne_bytes(array(object, 4)?);
    let rest = object.get(LINK_BYTES..)?;
    let name = attribute(rest, IFLA_NAME).and_then(word)?;
    let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    let kind = attribute(rest, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let mtu = attribute(rest, IFLA_MTU).and_then(number);
    let kind = kind.and_then(word).unwrap_or_default();
    (interface == wanted && is_plain).then_some(Link { name, hardware, kind, mtu })
}

/// Asks which way packets to everywhere go, in a family; no packet is sent.
#[must_use]
pub fn ask_route(of: IpAddr) -> Vec<u8> {
    let mut head = [0; ROUTE_BYTES];
    head[0] = family(of);
    let bytes: &[u8] = match of {
        IpAddr::V4(_) => {
            head[1] = 32;
            &EVERYWHERE.octets()
        }
        IpAddr::V6(_) => {
            head[1] = 128;
            &EVERYWHERE_V6.octets()
        }
    };
    request(GET_ROUTE, Ask::One, &head, &[(RTA_DESTINATION, bytes)])
}

/// The number of the interface that they leave through.
#[must_use]
pub fn way_out(object: &[u8]) -> Option<u32> {
    attribute(object.get(ROUTE_BYTES..)?, RTA_INTERFACE).and_then(number)
}

/// Root server a.root-servers.net: an address of the Internet that no site gives to a network of its own. Asking for a
/// way there, and not for the route 0/0, also finds the two halves of it that VPNs set, and rules by mark.
const EVERYWHERE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);
const EVERYWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 0x2, 0x30);

fn family(of: IpAddr) -> u8 {
    if of.is_ipv4() { INET } else { INET6 }
}

fn address(payload: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(payload).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(payload).map(IpAddr::from)).ok()
}

/// A word with its zero, of at most 15 bytes, as the kernel bounds names.
fn word(payload: &[u8]) -> Option<String> {
    let text = payload.split(|byte| *byte == 0).next()?;
    (text.len() <= 15).then(|| str::from_utf8(text).ok().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::message::{Part, parts};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    /// What the kernel would answer, by the builder of questions.
    fn object(head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let bytes = request(0, Ask::One, head, attributes);
        let Some(Part::Object(body)) = parts(&bytes).next() else { panic!("{bytes:?}") };
        body.to_vec()
    }

    #[test]
    fn own_end_of_a_line_is_the_local_one() {
        let head = [INET, 32, 0, 0, 9, 0, 0, 0];
        let own = [192, 0, 2, 7];
        let there = [192, 0, 2, 1];
        let line = object(&head, &[(IFA_ADDRESS, &there), (IFA_LOCAL, &own)]);
        let interface = u32::from_ne_bytes([9, 0, 0, 0]);
        assert_eq!(place_of(HERE, &line), Some(Place { interface, prefix: 32 }));
        let other_end = object(&head, &[(IFA_ADDRESS, &own), (IFA_LOCAL, &there)]);
        assert_eq!(place_of(HERE, &other_end), None);
        let too_long = object(&[INET, 33, 0, 0, 9, 0, 0, 0], &[(IFA_LOCAL, &own)]);
        assert_eq!(place_of(HERE, &too_long), None);
    }

    #[test]
    fn interface_is_known_by_number_name_and_maker() {
        let mut head = [0; LINK_BYTES];
        head[2..4].copy_from_slice(&65_534u16.to_ne_bytes());
        head[4..8].copy_from_slice(&7u32.to_ne_bytes());
        let info = request(0, Ask::One, &[], &[(IFLA_INFO_KIND, b"wireguard\0")]).split_off(16);
        let mtu = 1_420u32.to_ne_bytes();
        let answer =
            object(&head, &[(IFLA_NAME, b"wg0\0"), (IFLA_MTU, &mtu), (IFLA_LINKINFO, &info)]);
        let expected = Link {
            name: "wg0".to_owned(),
            hardware: 65_534,
            kind: "wireguard".to_owned(),
            mtu: Some(1_420),
        };
        assert_eq!(link(7, &answer), Some(expected));
        assert_eq!(link(8, &answer), None);
        for name in [b"..\0".as_slice(), b"a/b\0", b"\0", b"sixteen.letters.\0", b"\xff\0"] {
            assert_eq!(link(7, &object(&head, &[(IFLA_NAME, name)])), None, "{name:?}");
        }
    }

    #[test]
    fn way_out_is_the_interface_of_the_route() {
        let answer = object(&[0; ROUTE_BYTES], &[(RTA_INTERFACE, &3u32.to_ne_bytes())]);
        assert_eq!(way_out(&answer), Some(3));
        assert_eq!(way_out(&object(&[0; ROUTE_BYTES], &[(RTA_INTERFACE, &[3])])), None);
        assert_eq!(way_out(&[0; 5]), None);
    }
}
