//! Where a leg was: the row of the building file that its endpoint's own address belongs to.
//!
//! The address is the leg's local one. Homes and hot spots all use the same few private subnets, so there the address
//! that the far end saw decides (Microsoft, "Upload tenant and building data in CQD"). A leg without a row is outside.

use std::net::{IpAddr, Ipv4Addr};

use crate::call::{CallFacts, LegFacts};
use crate::networks::buildings::{Buildings, TextColumn};

/// A building file with its number.
#[derive(Debug, Clone, Copy)]
pub struct BuildingFile<'a> {
    /// The number that it got when it was imported.
    pub number: u32,
    /// Its rows.
    pub table: &'a Buildings,
}

/// Where a leg was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number of the building file that told.
    pub file: u32,
    /// The network of its row, or the endpoint's own subnet where no row has it; `None` where neither is known.
    pub subnet: Option<String>,
    /// The building's name; `None` where no row has it. From an operator's file: escape before printing.
    pub building: Option<String>,
    /// Whether that is inside of the organisation.
    pub is_inside: bool,
}

/// Subnets of a /24 that homes, phones and routers come with.
const COMMON: [[u8; 3]; 6] =
    [[10, 0, 0], [192, 168, 0], [192, 168, 1], [192, 168, 2], [172, 20, 10], [192, 168, 43]];

impl Place {
    /// The place of a leg; `None` where its address is not known.
    #[must_use]
    pub fn new(call: &CallFacts, leg: &LegFacts, file: BuildingFile<'_>) -> Option<Self> {
        let own = leg.opened.map(|told| told.value.local.ip().to_canonical());
        let summary = leg.summary.as_ref();
        let reflexive =
            summary.and_then(|told| told.value.reflexive).map(|it| it.ip().to_canonical());
        let address = match (own, reflexive) {
            (Some(own), Some(reflexive)) if is_common(own) => reflexive,
            (Some(own), Some(_) | None) => own,
            (None, reflexive) => reflexive?,
        };
        let row = file.table.lookup(address);
        let attached = own.and_then(|own| call.networks.get(&own)).map(|told| &told.value);
        let subnet = row.map(|row| row.network().to_string());
        let subnet = subnet.or_else(|| attached.map(|it| subnet_text(it.address, it.prefix)));
        let name = row.map(|row| row.text(TextColumn::BuildingName).to_owned());
        Some(Self {
            file: file.number,
            subnet,
            building: name.filter(|name| !name.is_empty()),
            is_inside: row.is_some_and(|row| row.is_inside_corp()),
        })
    }
}

fn is_common(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            COMMON.contains(&[a, b, c])
        }
        IpAddr::V6(_) => false,
    }
}

/// The network of an address as `10.1.2.0/24`.
fn subnet_text(address: IpAddr, prefix: u8) -> String {
    let start: IpAddr = match address {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(it.to_bits() & mask).into()
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(it.to_bits() & mask).into()
        }
    };
    format!("{start}/{prefix}")
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
    use roomtone_protocol::media::{LegOpened, LegSummary, RttSummary, Transport};
    use roomtone_protocol::network::{ConnectionType, NetworkAttachment};
    use roomtone_protocol::time::Stamp;

    use super::*;
    use crate::call::Told;

    const FILE: &[u8] = b"10.1.0.0,all,16,House,,,,,,,,,1,0,0\n\
        10.1.2.0,floor,24,Fjord,,,,,,,,,1,0,0\n\
        203.0.113.0,dsl,24,Home office,,,,,,,,,0,0,0\n";

    fn place(local: &str, reflexive: Option<&str>, prefix: Option<u8>) -> Option<Place> {
        let by = RecordId { epoch: Epoch(1), sequence: Sequence(1) };
        let at = Stamp { wall_us: 0, uptime_us: 0 };
        let local: IpAddr = local.parse().unwrap();
        let mut call = CallFacts::new(EndpointId([1; 16]), CallId(1), 0);
        if let Some(prefix) = prefix {
            let attachment = NetworkAttachment {
                at,
                call: None,
                interface: "eth0".try_into().unwrap(),
                connection: ConnectionType::Wired,
                is_vpn: false,
                is_default_route: true,
                address: local,
                prefix,
                mtu: None,
                speed_mbps: None,
                wifi: None,
            };
            call.handle_network(Told { by, value: attachment });
        }
        let opened = LegOpened {
            call: CallId(1),
            leg: LegNumber(0),
            opened: at,
            local: (local, 50_000).into(),
            remote: "198.51.100.9:3478".parse().unwrap(),
            transport: Transport::Udp,
        };
        let summary = LegSummary {
            call: CallId(1),
            leg: LegNumber(0),
            closed: at,
            rtt: RttSummary::default(),
            tap_dropped: 0,
            streams: heapless::Vec::new(),
            heard: None,
            markings: None,
            reported: None,
            reflexive: reflexive.map(|it| (it.parse::<IpAddr>().unwrap(), 50_000).into()),
        };
        let leg = LegFacts {
            opened: Some(Told { by, value: opened }),
            summary: Some(Told { by, value: summary }),
            ..LegFacts::default()
        };
        let table = Buildings::read(FILE).unwrap().table;
        Place::new(&call, &leg, BuildingFile { number: 7, table: &table })
    }

    fn found(place: Option<Place>) -> (Option<String>, Option<String>, bool) {
        let place = place.unwrap();
        assert_eq!(place.file, 7);
        (place.subnet, place.building, place.is_inside)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn leg_is_where_the_narrowest_row_of_its_own_address_is() {
        let fjord = (some("10.1.2.0/24"), some("Fjord"), true);
        assert_eq!(found(place("10.1.2.3", Some("203.0.113.5"), None)), fjord);
        let house = (some("10.1.0.0/16"), some("House"), true);
        assert_eq!(found(place("10.1.3.3", None, None)), house);
    }

    #[test]
    fn subnet_that_every_home_has_gives_way_to_the_reflexive_address() {
        let home = (some("203.0.113.0/24"), some("Home office"), false);
        assert_eq!(found(place("192.168.1.7", Some("203.0.113.5"), Some(24))), home);
        // Nobody told another address: it has no row, and its own subnet is all that is known.
        let nowhere = (some("192.168.1.0/24"), None, false);
        assert_eq!(found(place("192.168.1.7", None, Some(24))), nowhere);
        assert_eq!(found(place("172.16.0.1", None, None)), (None, None, false));
    }
}
