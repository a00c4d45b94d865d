//! One row of a building file: 15 columns to a network, what it is called, and three yes or no.
//!
//! All that is wrong with a row is told at once. What decides (address, range, `InsideCorp`, `ExpressRoute`, `VPN`)
//! is never guessed: a row in which it is wrong is dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checked_text;
use super::finding::{Findings, Network, What, quoted};
use super::rows::Row;

/// The columns, in the order of the file.
pub(super) const COLUMNS: [&str; 15] = [
    "NetworkIP",
    "NetworkName",
    "NetworkRange",
    "BuildingName",
    "OwnershipType",
    "BuildingType",
    "BuildingOfficeType",
    "City",
    "ZipCode",
    "Country",
    "State",
    "Region",
    "InsideCorp",
    "ExpressRoute",
    "VPN",
];

const NETWORK_IP: usize = 0;
const NETWORK_NAME: usize = 1;
const NETWORK_RANGE: usize = 2;
/// The first of those that tell about the building.
const BUILDING_NAME: usize = 3;
const INSIDE_CORP: usize = 12;
const EXPRESS_ROUTE: usize = 13;
const VPN: usize = 14;

/// How many columns tell about the building: from `BuildingName` to `Region`.
pub(super) const PLACE_COLUMNS: usize = INSIDE_CORP - BUILDING_NAME;

/// The longest text, in characters. CQD's documentation names no limit; with this one a row whose texts may all be kept
/// is no longer than a line may be ([`super::rows::LINE_BYTES_MAX`]).
const TEXT_CHARACTERS_MAX: usize = 256;

/// The widest IPv4 network, as a prefix length (CQD: masks of 8 to 28 bits).
const RANGE_MIN: u8 = 8;

/// Networks that routers and phones come with (Microsoft on building maps for CQD).
const COMMON_IN_HOMES: [([u8; 3], u8); 6] = [
    ([10, 0, 0], 24),
    ([192, 168, 0], 24),
    ([192, 168, 1], 24),
    ([192, 168, 2], 24),
    ([172, 20, 10], 24),
    ([192, 168, 43], 24),
];

/// A row that can be used.
#[derive(Debug)]
pub(super) struct BuildingRow<'a> {
    pub line: u32,
    pub key: Key,
    pub network_name: &'a str,
    /// `BuildingName` to `Region`.
    pub place: [&'a str; PLACE_COLUMNS],
    pub inside_corp: bool,
    pub express_route: bool,
    pub vpn: bool,
}

impl BuildingRow<'_> {
    /// How many rows CQD makes of it: one, or one for each address of a VPN. It expands IPv4 only.
    pub(super) fn expanded(&self) -> u64 {
        match (self.vpn, self.key.network().address) {
            (true, IpAddr::V4(_)) => 1 << (128 - u32::from(self.key.length)),
            (true, IpAddr::V6(_)) | (false, IpAddr::V4(_) | IpAddr::V6(_)) => 1,
        }
    }
}

/// A network in one order for both families: IPv4 has its place in IPv6 (RFC 4291 section 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The lowest address.
    pub start: u128,
    /// Shared leading bits of 128; of IPv4 96 more than its range.
    pub length: u8,
}

/// How many bits precede an IPv4 address.
const IPV4_BITS_BEFORE: u8 = 96;

/// The place of an address in the order.
pub(super) fn place(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether a place is that of an IPv4 address.
pub(super) fn is_ipv4(place: u128) -> bool {
    place >> 32 == 0xffff
}

impl Key {
    fn new(address: IpAddr, range: u8) -> Self {
        let before = if address.is_ipv4() { IPV4_BITS_BEFORE } else { 0 };
        let length = range.saturating_add(before).min(128);
        Self { start: place(address) & mask(length), length }
    }

    /// Whether an address of the order lies in the network.
    pub(super) fn contains(self, place: u128) -> bool {
        place & mask(self.length) == self.start
    }

    /// As people write it.
    pub(super) fn network(self) -> Network {
        if is_ipv4(self.start) {
            // The low half of the low half is the IPv4 address.
            let address = Ipv4Addr::from_bits((self.start & 0xffff_ffff) as u32);
            let range = self.length.saturating_sub(IPV4_BITS_BEFORE);
            return Network { address: address.into(), range };
        }
        Network { address: Ipv6Addr::from_bits(self.start).into(), range: self.length }
    }
}

fn mask(length: u8) -> u128 {
    // A shift by all 128 bits is none: length 0 has no bit set.
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

/// Reads a row; `None` where it cannot be used, with findings that say why.
pub(super) fn read<'a>(row: Row<'a>, findings: &mut Findings) -> Option<BuildingRow<'a>> {
    if row.is_first && is_header(row.field(NETWORK_IP)) {
        findings.add(row.line, None, What::Header);
        return None;
    }
    if row.columns == VPN {
        findings.add(row.line, Some(COLUMNS[VPN]), What::NoVpnColumn);
    } else if row.columns != COLUMNS.len() {
        let what = What::ColumnCount { found: row.columns, expected: COLUMNS.len() };
        findings.add(row.line, None, what);
        return None;
    }
    let network_name = text(row, NETWORK_NAME, findings);
    let mut place = [""; PLACE_COLUMNS];
    let mut is_good = true;
    for (at, told) in place.iter_mut().enumerate() {
        match text(row, BUILDING_NAME + at, findings) {
            Some(text) => *told = text,
            None => is_good = false,
        }
    }
    let key = network(row, findings);
    let inside_corp = yes_or_no(row, INSIDE_CORP, findings);
    let express_route = yes_or_no(row, EXPRESS_ROUTE, findings);
    let vpn =
        if trimmed(row, VPN).is_empty() { Some(false) } else { yes_or_no(row, VPN, findings) };
    let told = BuildingRow {
        line: row.line,
        key: key?,
        network_name: network_name?,
        place,
        inside_corp: inside_corp?,
        express_route: express_route?,
        vpn: vpn?,
    };
    is_good.then_some(told)
}

/// Says of a row that is kept what is likely a slip.
pub(super) fn doubt(row: &BuildingRow<'_>, findings: &mut Findings) {
    for (name, column) in [(row.network_name, NETWORK_NAME), (row.place[0], BUILDING_NAME)] {
        if name.is_empty() {
            findings.add(row.line, Some(COLUMNS[column]), What::NoName);
        }
    }
    let network = row.key.network();
    if network.address.is_ipv4() && network.range < RANGE_MIN {
        findings.add(row.line, Some(COLUMNS[NETWORK_RANGE]), What::TooWide { network });
    }
    let common = COMMON_IN_HOMES.iter().find_map(|([a, b, c], range)| {
        let common = Key::new(Ipv4Addr::new(*a, *b, *c, 0).into(), *range);
        let is_it = common.length <= row.key.length && common.contains(row.key.start);
        is_it.then(|| common.network())
    });
    if let Some(common) = common {
        findings.add(row.line, Some(COLUMNS[NETWORK_IP]), What::CommonInHomes { common });
    }
}

fn is_header(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    [b"networkip".as_slice(), b"network ip", b"network", b"subnet"]
        .iter()
        .any(|head| field.eq_ignore_ascii_case(head))
}

fn trimmed(row: Row<'_>, at: usize) -> &[u8] {
    row.field(at).trim_ascii()
}

fn text<'a>(row: Row<'a>, at: usize, findings: &mut Findings) -> Option<&'a str> {
    checked_text(row.field(at), TEXT_CHARACTERS_MAX, (row.line, COLUMNS[at]), findings)
}

fn network(row: Row<'_>, findings: &mut Findings) -> Option<Key> {
    let address = address(trimmed(row, NETWORK_IP));
    if let Err(what) = &address {
        findings.add(row.line, Some(COLUMNS[NETWORK_IP]), what.clone());
    }
    let most = match &address {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) | Err(_) => 128,
    };
    let range = range(trimmed(row, NETWORK_RANGE), most);
    if let Err(what) = &range {
        findings.add(row.line, Some(COLUMNS[NETWORK_RANGE]), what.clone());
    }
    let (address, range) = (address.ok()?, range.ok()?);
    let key = Key::new(address, range);
    if key.start != place(address) {
        let what = What::HostBits { network: key.network() };
        findings.add(row.line, Some(COLUMNS[NETWORK_IP]), what);
    }
    Some(key)
}

fn address(field: &[u8]) -> Result<IpAddr, What> {
    if field.is_empty() {
        return Err(What::Missing);
    }
    if let Some(address) = parse::<IpAddr>(field) {
        return if address == address.to_canonical() {
            Ok(address)
        } else {
            Err(What::MappedAddress { found: address })
        };
    }
    let head = field.split(|byte| *byte == b'/').next().unwrap_or_default();
    if head.len() < field.len() && parse::<IpAddr>(head).is_some() {
        return Err(What::AddressWithRange { found: quoted(field) });
    }
    Err(What::NotAnAddress { found: quoted(field) })
}

fn range(field: &[u8], most: u8) -> Result<u8, What> {
    if field.is_empty() {
        return Err(What::Missing);
    }
    // `u32` takes a sign, which is no digit.
    let digits = field.iter().all(u8::is_ascii_digit).then_some(field);
    let Some(found) = digits.and_then(parse::<u32>) else {
        return Err(What::RangeNotANumber { found: quoted(field) });
    };
    u8::try_from(found)
        .ok()
        .filter(|range| *range <= most)
        .ok_or(What::RangeTooLong { found, most })
}

fn yes_or_no(row: Row<'_>, at: usize, findings: &mut Findings) -> Option<bool> {
    let what = match trimmed(row, at) {
        b"1" => return Some(true),
        b"0" => return Some(false),
        b"" => What::Missing,
        other => What::NotABool { found: quoted(other) },
    };
    findings.add(row.line, Some(COLUMNS[at]), what);
    None
}

fn parse<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}
