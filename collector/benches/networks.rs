//! What a building file of a million rows costs: reading it, keeping it, and finding an address in it.
//!
//! `cargo bench -p roomtone-collector --bench networks` prints one JSON line: a file in memory of 700,000 networks of
//! 16 IPv4 addresses in 2,735 wider ones, the rest IPv6, 5,000 buildings; then random addresses, seven of eight of
//! them inside, the name of each one's building read. Three rounds; of each figure the slowest.
// A bench may unwrap as a test may.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use roomtone_collector::networks::buildings::{Buildings, TextColumn};

const ROWS: u32 = 1_000_000;
const NARROW_IPV4: u32 = 700_000;
/// One around each 256 of these: 700,000 / 256, rounded up.
const WIDE_IPV4: u32 = 2_735;
const LOOKUPS: u32 = 5_000_000;
const ROUNDS: u32 = 3;

fn main() {
    let file = file();
    let (mut load, mut lookup, mut hits, mut bytes) = (0f64, 0f64, 0, 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let reading = Buildings::read(file.as_bytes()).unwrap();
        load = load.max(began.elapsed().as_secs_f64());
        assert_eq!(reading.table.networks(), ROWS as usize);
        assert_eq!((reading.table.buildings(), reading.account.dropped), (5_000, 0));
        bytes = reading.table.bytes();
        let addresses = addresses();
        let began = Instant::now();
        hits = 0;
        for address in &addresses {
            let found = reading.table.lookup(black_box(*address));
            // What a user of a lookup reads: a flag and a name.
            let name = found.map_or("", |it| it.text(TextColumn::BuildingName));
            hits += u32::from(!black_box(name).is_empty());
        }
        lookup = lookup.max(began.elapsed().as_secs_f64() / f64::from(LOOKUPS));
    }
    println!(
        "{{\"name\":\"networks\",\"rows\":{ROWS},\"fileBytes\":{},\"loadSeconds\":{load:.2},\"tableBytes\":{bytes},\
         \"peakKilobytes\":{},\"lookupNanoseconds\":{:.0},\"hits\":{:.3}}}",
        file.len(),
        peak_kilobytes(),
        lookup * 1e9,
        f64::from(hits) / f64::from(LOOKUPS),
    );
}

/// Rows in no order of their networks, as files grow.
fn file() -> String {
    let mut file = String::new();
    for index in 0..ROWS {
        // Odd and no multiple of 5, so without a divisor in common with a million: each row once.
        let row = (u64::from(index) * 617_071 % u64::from(ROWS)) as u32;
        let (address, range) = network(row);
        let building = row % 5_000;
        writeln!(
            file,
            "{address},EMEA/City {}/Building {building}/{row},{range},Building {building},Contoso,Office,Sales,\
             City {},{:05},NO,Viken,EMEA,1,{},0",
            building % 300,
            building % 300,
            building,
            row % 2,
        )
        .unwrap();
    }
    file
}

fn network(row: u32) -> (IpAddr, u8) {
    let base = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    if row < NARROW_IPV4 {
        (IpAddr::V4((base + row * 16).into()), 28)
    } else if row < NARROW_IPV4 + WIDE_IPV4 {
        (IpAddr::V4((base + (row - NARROW_IPV4) * 4_096).into()), 20)
    } else {
        (IpAddr::V6(ipv6(row - NARROW_IPV4 - WIDE_IPV4, 0)), 64)
    }
}

fn ipv6(subnet: u32, host: u64) -> Ipv6Addr {
    let high = 0x2001_0db8_0000_0000_u128 | u128::from(subnet);
    Ipv6Addr::from_bits(high << 64 | u128::from(host))
}

fn addresses() -> Vec<IpAddr> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut address = || match random() % 8 {
        0 => IpAddr::V4((random() as u32 | 0x8000_0000).into()),
        1..=4 => {
            let (IpAddr::V4(it), _) = network((random() % u64::from(NARROW_IPV4)) as u32) else {
                unreachable!("the first rows are IPv4")
            };
            IpAddr::V4((u32::from(it) + (random() % 16) as u32).into())
        }
        _ => {
            let subnets = u64::from(ROWS - NARROW_IPV4 - WIDE_IPV4);
            IpAddr::V6(ipv6((random() % subnets) as u32, random()))
        }
    };
    (0..LOOKUPS).map(|_| address()).collect()
}

/// The most memory this process had, the file and the addresses included (`VmHWM`, proc(5)).
fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
