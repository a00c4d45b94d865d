//! What a building or an endpoint file is worth, by line, and which row of it an address belongs to.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use crate::judge::shelf::{FileKind, Version};
use crate::networks::buildings::{Building, Buildings, TextColumn};
use crate::networks::endpoints::Endpoints;
use crate::networks::finding::{Account, Finding, Network};
use crate::text::{day, escape};

/// What was kept of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Size {
    /// Of a building file.
    Buildings {
        /// Networks, one a row.
        networks: usize,
        /// Buildings they are in.
        buildings: usize,
    },
    /// Of an endpoint file.
    Endpoints {
        /// Machines, one a row.
        endpoints: usize,
    },
}

impl Size {
    /// Of a building file.
    #[must_use]
    pub fn of_buildings(table: &Buildings) -> Self {
        Self::Buildings { networks: table.networks(), buildings: table.buildings() }
    }

    /// Of an endpoint file.
    #[must_use]
    pub fn of_endpoints(table: &Endpoints) -> Self {
        Self::Endpoints { endpoints: table.endpoints() }
    }
}

/// `network check --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    rows: u64,
    rows_dropped: u64,
    #[serde(flatten)]
    size: Size,
    overlaps: u64,
    findings: Vec<CheckFinding>,
    findings_untold: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckFinding {
    line: u32,
    column: Option<&'static str>,
    drops_row: bool,
    message: String,
}

impl Check {
    /// What is to be said of a file.
    #[must_use]
    pub fn new(account: &Account, size: Size) -> Self {
        let finding = |it: &Finding| CheckFinding {
            line: it.line,
            column: it.column,
            drops_row: it.what.drops(),
            message: it.what.to_string(),
        };
        Self {
            rows: account.rows,
            rows_dropped: account.dropped,
            size,
            overlaps: account.overlaps,
            findings: account.findings.iter().map(finding).collect(),
            findings_untold: account.untold,
        }
    }
}

/// `network check`: a line for each finding, and one for the file.
#[must_use]
pub fn check(account: &Account, size: Size) -> String {
    let mut out = String::new();
    for Finding { line, column, what } in &account.findings {
        let weight = if what.drops() { "dropped" } else { "kept" };
        let column = column.map(|column| format!("{column}: ")).unwrap_or_default();
        out += &format!("line {line}, {weight}: {column}{}\n", escape(&what.to_string()));
    }
    if account.untold > 0 {
        out += &format!("and {} more\n", account.untold);
    }
    let Account { rows, dropped, overlaps, .. } = account;
    out += &match size {
        Size::Buildings { networks, buildings } => format!(
            "{rows} rows, {dropped} dropped; {networks} networks in {buildings} buildings, {overlaps} in another network\n"
        ),
        Size::Endpoints { endpoints } => {
            format!("{rows} rows, {dropped} dropped; {endpoints} endpoints\n")
        }
    };
    out
}

/// `network find --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found<'a> {
    address: IpAddr,
    line: u32,
    network: String,
    network_name: &'a str,
    building_name: &'a str,
    ownership_type: &'a str,
    building_type: &'a str,
    building_office_type: &'a str,
    city: &'a str,
    zip_code: &'a str,
    country: &'a str,
    state: &'a str,
    region: &'a str,
    inside_corp: bool,
    express_route: bool,
    vpn: bool,
    wins_over: Vec<Wider<'a>>,
    rows_dropped: u64,
}

/// A wider network that has the address too, the narrowest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wider<'a> {
    line: u32,
    network: String,
    building_name: &'a str,
}

fn wider(row: Building<'_>) -> impl Iterator<Item = Building<'_>> {
    std::iter::successors(row.wider(), |it| it.wider())
}

impl<'a> Found<'a> {
    /// The row that wins.
    #[must_use]
    pub fn new(address: IpAddr, row: Building<'a>, rows_dropped: u64) -> Self {
        let wider = wider(row).map(|it| Wider {
            line: it.line(),
            network: it.network().to_string(),
            building_name: it.text(TextColumn::BuildingName),
        });
        Self {
            address,
            line: row.line(),
            network: row.network().to_string(),
            network_name: row.text(TextColumn::NetworkName),
            building_name: row.text(TextColumn::BuildingName),
            ownership_type: row.text(TextColumn::OwnershipType),
            building_type: row.text(TextColumn::BuildingType),
            building_office_type: row.text(TextColumn::BuildingOfficeType),
            city: row.text(TextColumn::City),
            zip_code: row.text(TextColumn::ZipCode),
            country: row.text(TextColumn::Country),
            state: row.text(TextColumn::State),
            region: row.text(TextColumn::Region),
            inside_corp: row.is_inside_corp(),
            express_route: row.is_express_route(),
            vpn: row.is_vpn(),
            wins_over: wider.collect(),
            rows_dropped,
        }
    }
}

/// `network find`: the row that wins, and why.
#[must_use]
pub fn found(address: IpAddr, row: Building<'_>, rows_dropped: u64) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{name:<15} {}", escape(value));
        }
    };
    line("address", &address.to_string());
    line("network", &place(row.network(), row.line()));
    line("network name", row.text(TextColumn::NetworkName));
    line("building", row.text(TextColumn::BuildingName));
    line("ownership", row.text(TextColumn::OwnershipType));
    line("building type", row.text(TextColumn::BuildingType));
    line("office type", row.text(TextColumn::BuildingOfficeType));
    line("city", row.text(TextColumn::City));
    line("zip code", row.text(TextColumn::ZipCode));
    line("state", row.text(TextColumn::State));
    line("country", row.text(TextColumn::Country));
    line("region", row.text(TextColumn::Region));
    line("inside", yes_no(row.is_inside_corp()));
    line("express route", yes_no(row.is_express_route()));
    line("vpn", yes_no(row.is_vpn()));
    for it in wider(row) {
        let building = it.text(TextColumn::BuildingName);
        line("wins over", format!("{} {building}", place(it.network(), it.line())).trim_end());
    }
    if rows_dropped > 0 {
        line("dropped", &format!("{rows_dropped} rows: `network check` says which"));
    }
    out
}

/// A file that was kept: an entry of `network list --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    kind: &'static str,
    version: u32,
    start: Option<String>,
    bytes: u64,
    active: bool,
}

/// `network list --json`.
#[derive(Debug, Serialize)]
pub struct KeptFiles {
    /// The files, buildings first, oldest first.
    pub files: Vec<Kept>,
}

impl Kept {
    /// An entry; of each kind one counts now, where any does.
    #[must_use]
    pub fn new(kind: FileKind, active: bool, version: &Version) -> Self {
        let start = day(version.start_us);
        let (kind, bytes) = (kind.word(), version.bytes);
        Self { kind, version: version.number, start, bytes, active }
    }
}

/// `network list`.
#[must_use]
pub fn kept_files(files: &[Kept]) -> String {
    if files.is_empty() {
        return "no files of networks: `network import` keeps one\n".to_owned();
    }
    let line = |it: &Kept| {
        let mark = if it.active { "*" } else { " " };
        let start = it.start.as_deref().unwrap_or("-");
        format!("{mark} {:<9} {:>4}  from {start}  {} bytes\n", it.kind, it.version, it.bytes)
    };
    files.iter().map(line).collect::<String>() + "* = counts now\n"
}

/// `network import`: what was kept, and what comes next.
#[must_use]
pub fn kept(kind: FileKind, version: &Version) -> String {
    let start = day(version.start_us).unwrap_or_else(|| "-".to_owned());
    let next = match kind {
        FileKind::Buildings => "; `reclassify --since TIME` joins calls of the past with it",
        FileKind::Endpoints => "",
    };
    format!("kept as {} {}, valid from {start}{next}\n", kind.word(), version.number)
}

fn place(network: Network, line: u32) -> String {
    format!("{network} of line {line}")
}

fn yes_no(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"10.0.0.0,all,8,House,,,,Oslo,,NO,,,1,0,0\n\
        10.1.0.0,floor,16,\"Fjord, north\",,,,Oslo,0150,NO,,,1,1,0\n\
        10.1.\x1b[2J,x,16,B,,,,,,,,,1,0,0\n";

    #[test]
    fn findings_are_told_by_line_and_steer_no_terminal() {
        let reading = Buildings::read(FILE).unwrap();
        assert_eq!(
            check(&reading.account, Size::of_buildings(&reading.table)),
            "line 2, kept: NetworkIP: 10.1.0.0/16 lies in 10.0.0.0/8 of line 1: the longer range wins, CQD may refuse it\n\
             line 3, dropped: NetworkIP: `10.1.\\u{1b}[2J` is no IP address: use one like 10.1.2.0 or 2001:db8::\n\
             3 rows, 1 dropped; 2 networks in 2 buildings, 1 in another network\n"
        );
        let size = Size::of_buildings(&reading.table);
        let json = serde_json::to_value(Check::new(&reading.account, size)).unwrap();
        assert_eq!((&json["rows"], &json["rowsDropped"]), (&3.into(), &1.into()));
        assert_eq!((&json["networks"], &json["buildings"]), (&2.into(), &2.into()));
        assert_eq!(json["findings"][1]["column"], "NetworkIP");
        assert_eq!(json["findings"][1]["dropsRow"], true);
    }

    #[test]
    fn winner_is_shown_with_what_it_wins_over() {
        let table = Buildings::read(FILE).unwrap().table;
        let address = "10.1.2.3".parse().unwrap();
        let row = table.lookup(address).unwrap();
        assert_eq!(
            found(address, row, 1),
            "address         10.1.2.3\n\
             network         10.1.0.0/16 of line 2\n\
             network name    floor\n\
             building        Fjord, north\n\
             city            Oslo\n\
             zip code        0150\n\
             country         NO\n\
             inside          yes\n\
             express route   yes\n\
             vpn             no\n\
             wins over       10.0.0.0/8 of line 1 House\n\
             dropped         1 rows: `network check` says which\n"
        );
        let json = serde_json::to_value(Found::new(address, row, 1)).unwrap();
        assert_eq!((&json["zipCode"], &json["expressRoute"]), (&"0150".into(), &true.into()));
        assert_eq!(json["winsOver"][0]["network"], "10.0.0.0/8");
    }
}
