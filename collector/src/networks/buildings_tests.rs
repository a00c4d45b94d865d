//! The building file: each wrong row by its line, and lookups against a search through all rows.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::networks::finding::{Account, TOLD_MAX};

fn read(file: impl AsRef<[u8]>) -> Reading<Buildings> {
    Buildings::read(file.as_ref()).unwrap()
}

/// A row of a file, all good but its network.
fn row(address: &str, range: impl std::fmt::Display, building: &str) -> String {
    format!("{address},net,{range},{building},,,,Oslo,0150,NO,,EMEA,1,0,0\n")
}

fn found(table: &Buildings, address: &str) -> Option<u32> {
    table.lookup(address.parse().unwrap()).map(Building::line)
}

#[test]
fn columns_of_the_documentation_come_back() {
    let file = "192.168.99.0\tUSA/Seattle/SEA-1\t26\tSEATTLE-SEA-1\tContoso\tIT\tEngineering\tSeattle\t01001\tUS\tWA\tMSUS\t1\t0\t1";
    let reading = read(file);
    assert_eq!(reading.account, Account { rows: 1, ..Account::default() });
    // 192.168.99.0/26 ends at .63.
    let it = reading.table.lookup("192.168.99.63".parse().unwrap()).unwrap();
    assert_eq!(found(&reading.table, "192.168.99.64"), None);
    assert_eq!(it.network().to_string(), "192.168.99.0/26");
    assert_eq!((it.is_inside_corp(), it.is_express_route(), it.is_vpn()), (true, false, true));
    let texts = [
        (TextColumn::NetworkName, "USA/Seattle/SEA-1"),
        (TextColumn::BuildingName, "SEATTLE-SEA-1"),
        (TextColumn::OwnershipType, "Contoso"),
        (TextColumn::BuildingType, "IT"),
        (TextColumn::BuildingOfficeType, "Engineering"),
        (TextColumn::City, "Seattle"),
        (TextColumn::ZipCode, "01001"),
        (TextColumn::Country, "US"),
        (TextColumn::State, "WA"),
        (TextColumn::Region, "MSUS"),
    ];
    for (column, text) in texts {
        assert_eq!(it.text(column), text, "{column:?}");
    }
}

#[test]
fn longest_prefix_wins_whatever_the_order_of_lines() {
    let rows = [
        row("10.1.2.0", 24, "floor"),
        row("10.0.0.0", 8, "country"),
        row("10.1.0.0", 16, "house"),
        row("2001:db8::", 32, "country"),
        row("2001:db8:1::", 48, "house"),
    ];
    let reading = read(rows.concat());
    let table = &reading.table;
    assert_eq!(found(table, "10.1.2.3"), Some(1));
    assert_eq!(found(table, "10.1.3.3"), Some(3));
    assert_eq!(found(table, "10.2.0.0"), Some(2));
    assert_eq!(found(table, "11.0.0.0"), None);
    assert_eq!(found(table, "2001:db8:1::1"), Some(5));
    assert_eq!(found(table, "2001:db8:2::1"), Some(4));
    assert_eq!(found(table, "::ffff:10.1.2.3"), Some(1), "as a socket of both families tells it");
    let floor = table.lookup("10.1.2.3".parse().unwrap()).unwrap();
    let around: Vec<_> = std::iter::successors(Some(floor), |it| it.wider()).collect();
    assert_eq!(around.iter().map(|it| it.line()).collect::<Vec<_>>(), [1, 3, 2]);
    // 10.1.2.0/24 and 10.1.0.0/16 lie in another network, and so does 2001:db8:1::/48.
    assert_eq!((reading.account.overlaps, reading.account.dropped), (3, 0));
    // Floor and house, country: three names, all in Oslo.
    assert_eq!((table.networks(), table.buildings()), (5, 3));
}

#[test]
fn all_of_ipv6_is_not_ipv4() {
    let reading = read(row("::", 0, "v6") + &row("10.0.0.0", 8, "v4"));
    assert_eq!(found(&reading.table, "10.1.1.1"), Some(2));
    assert_eq!(found(&reading.table, "192.0.2.1"), None);
    assert_eq!(found(&reading.table, "2001:db8::1"), Some(1), "the row before it is of IPv4");
    assert_eq!(found(&reading.table, "::1"), Some(1));
    assert_eq!(reading.account.overlaps, 0);
    assert_eq!(
        reading.table.lookup("10.1.1.1".parse().unwrap()).unwrap().wider().map(Building::line),
        None
    );
}

/// Every kind of mistake, each on a line of its own, among rows that are good.
#[test]
fn each_mistake_is_told_by_its_line_and_good_rows_stay() {
    let tail = "B,,,,Oslo,,NO,,,1,0,0";
    let long = "x".repeat(257);
    let giant = "y".repeat(40_000);
    // Line, what stands there, and what is said of it: the column and a piece of the message.
    let lines: Vec<(String, &[(&str, &str)])> = vec![
        (format!("NetworkIP,NetworkName,NetworkRange,{tail}"), &[("", "header")]), // 1
        (format!("10.1.1.0,n,24,{tail}"), &[]),
        (format!("10.1.2.0,n,24,{tail},x"), &[("", "16 columns where 15")]),
        ("10.1.2.0,n,24".into(), &[("", "3 columns where 15")]),
        ("10.1.3.0;n;24;B;;;;Oslo;;NO;;;1;0;0".into(), &[("", "1 columns where 15")]),
        (format!("10.1.4.0,\"n,24,{tail}"), &[("", "quote does not end")]),
        (format!("{giant},n,24,{tail}"), &[("", "bytes, at most 32768")]),
        (format!("10.1.5.0,n\u{0},24,{tail}"), &[("NetworkName", "control character")]),
        (format!("10.1.6.0,{long},24,{tail}"), &[("NetworkName", "257 characters, at most 256")]),
        (format!(",n,24,{tail}"), &[("NetworkIP", "is empty")]), // 10
        (format!("10.1.7.0/24,n,24,{tail}"), &[("NetworkIP", "names the range too")]),
        (format!("10.1.8.256,n,24,{tail}"), &[("NetworkIP", "`10.1.8.256` is no IP address")]),
        (format!("::ffff:10.1.9.0,n,120,{tail}"), &[("NetworkIP", "write it as IPv4")]),
        (format!("10.1.10.0,n,,{tail}"), &[("NetworkRange", "is empty")]),
        (format!("10.1.11.0,n,255.255.255.0,{tail}"), &[("NetworkRange", "not a mask")]),
        (format!("10.1.12.0,n,33,{tail}"), &[("NetworkRange", "33 is longer")]),
        (format!("2001:db8::,n,129,{tail}"), &[("NetworkRange", "use 0 to 128")]),
        (format!("10.1.13.0,n,+24,{tail}"), &[("NetworkRange", "`+24` is no prefix length")]),
        ("10.1.14.0,n,24,B,,,,Oslo,,NO,,,yes,0,0".into(), &[("InsideCorp", "`yes` is neither")]),
        ("10.1.15.0,n,24,B,,,,Oslo,,NO,,,,0,0".into(), &[("InsideCorp", "is empty")]), // 20
        ("10.1.16.0,n,24,B,,,,Oslo,,NO,,,1,2,0".into(), &[("ExpressRoute", "`2` is neither")]),
        ("10.1.17.0,n,24,B,,,,Oslo,,NO,,,1,0,TRUE".into(), &[("VPN", "`TRUE` is neither")]),
        (format!("10.1.1.0,n,24,{tail}"), &[("NetworkIP", "line 2 has 10.1.1.0/24 already")]),
        ("10.64.0.0,n,10,B,,,,Oslo,,NO,,,1,0,1".into(), &[("", "each address of a VPN")]),
        (
            "10.1.x,n,x,B,,,,Oslo,,NO,,,x,0,0".into(),
            &[("NetworkIP", "no IP"), ("NetworkRange", "no prefix"), ("InsideCorp", "neither")],
        ),
        // From here on rows are kept.
        (format!("10.1.1.128,n,25,{tail}"), &[("NetworkIP", "lies in 10.1.1.0/24 of line 2")]),
        (format!("10.2.1.5,n,24,{tail}"), &[("NetworkIP", "taken as 10.2.1.0/24")]),
        (format!("64.0.0.0,n,7,{tail}"), &[("NetworkRange", "64.0.0.0/7 is wider")]),
        (format!("192.168.1.64,n,26,{tail}"), &[("NetworkIP", "192.168.1.0/24 is what homes")]),
        ("10.3.1.0,n,24,,,,,Oslo,,NO,,,1,0,0".into(), &[("BuildingName", "cannot name")]), // 30
        ("10.3.2.0,n,24,B,,,,Oslo,,NO,,,1,0".into(), &[("VPN", "14 columns")]),
        ("10.3.3.0,n,24,B,,,,Oslo,,NO,,,1,0,".into(), &[]),
        (" 10.3.4.0 ,\"n, \"\"x\"\"\", 24 ,B,,,,Oslo,,NO,,, 1 ,0,0".into(), &[]),
    ];
    let mut file = Vec::new();
    for (line, _) in &lines {
        file.extend(line.as_bytes());
        file.extend(b"\r\n");
    }
    // 34: Latin-1, as an old Excel writes `Tromsø`.
    file.extend(b"10.4.1.0,n,24,Troms\xf8,,,,Oslo,,NO,,,1,0,0\r\n");
    let Reading { table, account } = read(&file);
    let mut told = account.findings.iter();
    let last: &[(&str, &str)] = &[("BuildingName", "not UTF-8")];
    let expected = lines.iter().map(|(_, expected)| *expected).chain([last]);
    for (line, expected) in (1..).zip(expected) {
        for (column, piece) in expected {
            let finding = told.next().unwrap();
            let said = (finding.line, finding.column.unwrap_or_default());
            assert_eq!(said, (line, *column), "{}", finding.what);
            assert!(finding.what.to_string().contains(piece), "line {line}: {}", finding.what);
        }
    }
    assert_eq!(told.next(), None);
    // Kept: line 2 and 26 to 33, nine rows of 34.
    assert_eq!((account.rows, account.dropped, table.networks()), (34, 25, 9));
    let kept: Vec<u32> = table.iter().map(Building::line).collect();
    assert_eq!(kept, [2, 26, 27, 30, 31, 32, 33, 28, 29], "by network");
    assert_eq!(
        table.lookup("10.3.4.1".parse().unwrap()).unwrap().text(TextColumn::NetworkName),
        "n, \"x\""
    );
}

#[test]
fn a_million_rows_with_vpns_expanded_are_kept_and_not_one_more() {
    let vpn = |address: &str, range: u8| format!("{address},n,{range},B,,,,Oslo,,NO,,,1,0,1\n");
    // 2^19 + 2^18 + 2^17 + 2^16 = 983,040 addresses; 2^14 = 16,384 bring it to 999,424; 576 are left.
    let mut file = vpn("10.0.0.0", 13) + &vpn("11.0.0.0", 14) + &vpn("12.0.0.0", 15);
    file += &(vpn("13.0.0.0", 16) + &vpn("14.0.0.0", 18));
    // 512 of them, then 256 are too many, and 64 more end it; a network of IPv6 is one row.
    file += &(vpn("15.0.0.0", 23) + &vpn("16.0.0.0", 24) + &vpn("17.0.0.0", 26));
    file += &vpn("2001:db8::", 32);
    let account = read(file).account;
    // The row of IPv6 is number 1,000,001.
    let lines: Vec<u32> = account.findings.iter().map(|it| it.line).collect();
    assert_eq!((lines, account.dropped), (vec![7, 9], 2));
}

#[test]
fn file_of_nothing_but_mistakes_is_told_in_part_and_counted_whole() {
    let Reading { table, account } = read("1.2.3,\n".repeat(5_000));
    assert_eq!((account.rows, account.dropped, table.networks()), (5_000, 5_000, 0));
    assert_eq!((account.findings.len(), account.untold), (TOLD_MAX, 4_000));
    assert_eq!(account.findings[TOLD_MAX - 1].line, 1_000);
}

#[test]
fn files_of_another_kind_are_refused_whole() {
    assert_eq!(Buildings::read(b"\xff\xfe1\0").err(), Some(FileError::Utf16));
    assert_eq!(Buildings::read(b"\xfe\xff\x001").err(), Some(FileError::Utf16));
    let huge = vec![0; crate::networks::FILE_BYTES_MAX + 1];
    assert_eq!(Buildings::read(&huge).err(), Some(FileError::TooLarge));
    for nothing in ["", "\n\r\n \n", "\u{feff}"] {
        assert_eq!(read(nothing).account, Account::default());
    }
}

/// A network near others, so that many lie in each other, and now and then the same.
fn network() -> impl Strategy<Value = (IpAddr, u8)> {
    let v4 = (any::<[u8; 2]>(), 0..=32u8)
        .prop_map(|([a, b], range)| (IpAddr::V4(Ipv4Addr::new(10, a & 3, b & 0x81, b)), range));
    let v6 = (any::<[u8; 3]>(), 0..=128u8).prop_map(|([a, b, c], range)| {
        let mut bytes = [0; 16];
        (bytes[0], bytes[7], bytes[15]) = (a & 0x81, b & 3, c);
        (IpAddr::V6(Ipv6Addr::from(bytes)), range)
    });
    prop_oneof![v4, v6]
}

/// Whether an address lies in a network, bit by bit.
fn lies_in(address: IpAddr, (network, range): (IpAddr, u8)) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(it) => it.octets().to_vec(),
            IpAddr::V6(it) => it.octets().to_vec(),
        };
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte & (0x80 >> bit) != 0)).collect()
    };
    let (address, network, range) = (bits(address), bits(network), usize::from(range));
    address.len() == network.len() && address[..range] == network[..range]
}

proptest! {
    #[test]
    fn lookup_finds_what_a_search_through_all_rows_finds(
        networks in prop::collection::vec(network(), 0..60),
        others in prop::collection::vec(network(), 0..60),
    ) {
        let file: String =
            networks.iter().map(|(address, range)| row(&address.to_string(), range, "B")).collect();
        let table = read(file).table;
        for (address, _) in networks.iter().chain(&others) {
            // The longest range, of these the first line.
            let best = (1..).zip(&networks).filter(|(_, it)| lies_in(*address, **it));
            let best = best.max_by_key(|(line, it)| (it.1, u32::MAX - line)).map(|(line, _)| line);
            prop_assert_eq!(table.lookup(*address).map(Building::line), best, "{}", address);
        }
    }

    #[test]
    fn any_bytes_are_read_and_every_row_is_kept_or_dropped(
        lines in prop::collection::vec(
            prop_oneof![
                "[0-9a-f.:,\"\t\r]{0,40}".prop_map(String::into_bytes),
                "10\\.[0-9]{1,2}\\.0\\.0,n,[0-9]{1,2},(B|\"\"),,,,,,,,,[01],[01],[012\"]?".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..60),
            ],
            0..40,
        ),
    ) {
        let file = lines.join(&b'\n');
        if let Ok(Reading { table, account }) = Buildings::read(&file) {
            prop_assert_eq!(account.rows, account.dropped + table.networks() as u64);
            prop_assert_eq!(account.dropped > 0, account.findings.iter().any(|it| it.what.drops()));
            for building in table.iter() {
                let it = table.lookup(building.network().address).unwrap();
                prop_assert!(it.network().range >= building.network().range);
            }
        }
    }
}
