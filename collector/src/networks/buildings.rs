//! The building file as a table: which row an address belongs to, by the longest prefix.
//!
//! Rows lie in the order of their networks, IPv4 at its place within IPv6. Two networks are apart or one lies in the
//! other, so the row of an address is the last one that does not begin behind it, or one of those around that row:
//! each row knows the next wider one. A lookup is a binary search and as many steps as networks lie in each other.
//!
//! A row takes 36 bytes and its texts: each different text is kept once, and so is each different set of the nine
//! columns from `BuildingName` to `Region`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::building_row::{self, BuildingRow, COLUMNS, Key, PLACE_COLUMNS, is_ipv4, place};
use super::finding::{Findings, Network, What};
use super::texts::{Gathering, TextId, Texts};
use super::{FileError, ROWS_MAX, Reading, check_whole, rows};

/// A column of text, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextColumn {
    /// Like `USA/Seattle/SEATTLE-SEA-1`.
    NetworkName,
    /// What reports call the building.
    BuildingName,
    /// Free text.
    OwnershipType,
    /// Free text.
    BuildingType,
    /// Free text.
    BuildingOfficeType,
    /// Free text.
    City,
    /// Text: leading zeros are kept.
    ZipCode,
    /// Free text.
    Country,
    /// Free text.
    State,
    /// Free text.
    Region,
}

/// The table of a building file.
#[derive(Debug, Default)]
pub struct Buildings {
    /// Where each network begins, ascending; apart from the rest so that a search touches little memory.
    starts: Vec<u128>,
    rows: Vec<KeptRow>,
    places: Vec<Place>,
    texts: Texts,
    buildings: usize,
}

#[derive(Debug, Clone, Copy)]
struct KeptRow {
    line: u32,
    /// The row of the next wider network around this one, [`NO_ROW`] where there is none.
    wider: u32,
    network_name: TextId,
    place: u32,
    length: u8,
    inside_corp: bool,
    express_route: bool,
    vpn: bool,
}

// With its place in the order, 16 bytes more.
const _: () = assert!(size_of::<KeptRow>() == 20);

/// More rows than a table has.
const NO_ROW: u32 = u32::MAX;
const _: () = assert!(ROWS_MAX < NO_ROW as u64);

/// `BuildingName` to `Region`.
type Place = [TextId; PLACE_COLUMNS];

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Building<'a> {
    table: &'a Buildings,
    at: usize,
}

impl Buildings {
    /// Reads a building file.
    ///
    /// # Errors
    /// [`FileError`] where no line of it can be read; a row that is wrong is a finding.
    pub fn read(file: &[u8]) -> Result<Reading<Self>, FileError> {
        check_whole(file)?;
        let mut findings = Findings::default();
        let mut making = Making::default();
        rows::each(file, &mut findings, |row, findings| match building_row::read(row, findings) {
            Some(row) => making.add(&row, findings),
            None => findings.count_dropped(),
        });
        let table = making.finish(&mut findings);
        Ok(Reading { table, account: findings.finish() })
    }

    /// The row of the narrowest network that has this address.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Building<'_>> {
        let place = place(address);
        let mut at = self.starts.partition_point(|start| *start <= place).checked_sub(1)?;
        loop {
            let building = Building { table: self, at };
            if building.key().contains(place) {
                // Where IPv4 has its place in IPv6 there is IPv4 only: `::/0` has no IPv4 address.
                return (is_ipv4(place) == is_ipv4(self.starts[at])).then_some(building);
            }
            at = self.around(at)?;
        }
    }

    fn around(&self, at: usize) -> Option<usize> {
        let wider = self.rows.get(at)?.wider;
        (wider != NO_ROW).then_some(wider as usize)
    }

    /// The rows, by network.
    pub fn iter(&self) -> impl Iterator<Item = Building<'_>> {
        (0..self.rows.len()).map(|at| Building { table: self, at })
    }

    /// How many networks there are, one a row.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.rows.len()
    }

    /// How many buildings they are in: different sets of `BuildingName`, `City`, `State`, `Country` and `Region`.
    #[must_use]
    pub fn buildings(&self) -> usize {
        self.buildings
    }

    /// The memory of the table, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u128>()
            + self.rows.capacity() * size_of::<KeptRow>()
            + self.places.capacity() * size_of::<Place>()
            + self.texts.bytes()
    }
}

impl<'a> Building<'a> {
    /// The number of its line in the file, from 1.
    #[must_use]
    pub fn line(self) -> u32 {
        self.row().line
    }

    /// The network.
    #[must_use]
    pub fn network(self) -> Network {
        self.key().network()
    }

    /// Whether it is inside of the organisation.
    #[must_use]
    pub fn is_inside_corp(self) -> bool {
        self.row().inside_corp
    }

    /// Whether it has an `ExpressRoute` connection.
    #[must_use]
    pub fn is_express_route(self) -> bool {
        self.row().express_route
    }

    /// Whether it is a VPN.
    #[must_use]
    pub fn is_vpn(self) -> bool {
        self.row().vpn
    }

    /// The text of a column; empty where the file has none.
    #[must_use]
    pub fn text(self, column: TextColumn) -> &'a str {
        let at = match column {
            TextColumn::NetworkName => return self.table.texts.of(self.row().network_name),
            TextColumn::BuildingName => 0,
            TextColumn::OwnershipType => 1,
            TextColumn::BuildingType => 2,
            TextColumn::BuildingOfficeType => 3,
            TextColumn::City => 4,
            TextColumn::ZipCode => 5,
            TextColumn::Country => 6,
            TextColumn::State => 7,
            TextColumn::Region => 8,
        };
        self.table.texts.of(self.table.places[self.row().place as usize][at])
    }

    /// The row of the next wider network of the same family around this one.
    #[must_use]
    pub fn wider(self) -> Option<Self> {
        let at = self.table.around(self.at)?;
        let is_same_family = is_ipv4(self.table.starts[at]) == is_ipv4(self.table.starts[self.at]);
        is_same_family.then_some(Self { at, ..self })
    }

    fn row(self) -> &'a KeptRow {
        &self.table.rows[self.at]
    }

    fn key(self) -> Key {
        Key { start: self.table.starts[self.at], length: self.row().length }
    }
}

/// A table while its file is read, in the file's order.
#[derive(Debug, Default)]
struct Making {
    rows: Vec<(u128, KeptRow)>,
    places: HashMap<Place, u32>,
    texts: Gathering,
    /// Rows as CQD counts them.
    expanded: u64,
}

impl Making {
    fn add(&mut self, row: &BuildingRow<'_>, findings: &mut Findings) {
        let expanded = self.expanded + row.expanded();
        if expanded > ROWS_MAX {
            let what = What::TooManyRows { expanded, most: ROWS_MAX };
            return findings.drop_row(row.line, None, what);
        }
        self.expanded = expanded;
        building_row::doubt(row, findings);
        let place = row.place.map(|text| self.texts.id(text));
        // Not more places than rows.
        let next = u32::try_from(self.places.len()).unwrap_or(NO_ROW);
        let kept = KeptRow {
            line: row.line,
            wider: NO_ROW,
            network_name: self.texts.id(row.network_name),
            place: *self.places.entry(place).or_insert(next),
            length: row.key.length,
            inside_corp: row.inside_corp,
            express_route: row.express_route,
            vpn: row.vpn,
        };
        self.rows.push((row.key.start, kept));
    }

    fn finish(self, findings: &mut Findings) -> Buildings {
        let mut rows = self.rows;
        rows.sort_unstable_by_key(|(start, row)| (*start, row.length, row.line));
        rows.dedup_by(|(start, row), (first_start, first)| {
            let is_same = (*start, row.length) == (*first_start, first.length);
            if is_same {
                let network = Key { start: *start, length: row.length }.network();
                let what = What::SameNetwork { network, first: first.line };
                findings.drop_row(row.line, Some(COLUMNS[0]), what);
            }
            is_same
        });
        let mut places: Vec<(Place, u32)> = self.places.into_iter().collect();
        places.sort_unstable_by_key(|(_, id)| *id);
        // What makes a building of a place: its name and where it is, not its kind nor its zip code.
        let names: HashSet<_> = rows
            .iter()
            .map(|(_, row)| {
                let (p, _) = places[row.place as usize];
                [p[0], p[4], p[6], p[7], p[8]]
            })
            .collect();
        let mut table = Buildings {
            starts: rows.iter().map(|(start, _)| *start).collect(),
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            buildings: names.len(),
            places: places.into_iter().map(|(place, _)| place).collect(),
            texts: self.texts.finish(),
        };
        table.nest();
        for row in table.iter() {
            if let Some(wider) = row.wider() {
                let (network, line) = (row.network(), wider.line());
                let what = What::LiesIn { network, wider: wider.network(), line };
                findings.add(row.line(), Some(COLUMNS[0]), what);
                findings.count_overlap();
            }
        }
        table
    }
}

impl Buildings {
    /// Tells each row the next wider network around it.
    fn nest(&mut self) {
        // The networks around the row in hand, the widest first: never more than lengths of a prefix, 129.
        let mut around: Vec<usize> = Vec::new();
        for at in 0..self.rows.len() {
            let start = self.starts[at];
            while let Some(&wider) = around.last() {
                if (Building { table: self, at: wider }).key().contains(start) {
                    break;
                }
                around.pop();
            }
            // Not more rows than ROWS_MAX.
            let wider = around.last().and_then(|wider| u32::try_from(*wider).ok());
            self.rows[at].wider = wider.unwrap_or(NO_ROW);
            around.push(at);
        }
    }
}

#[cfg(test)]
#[path = "buildings_tests.rs"]
mod tests;
