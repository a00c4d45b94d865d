//! The endpoint file as a table: what a machine is, by its name.
//!
//! Names are compared exactly, as CQD does: `ROOM-1` and `room-1` are two machines.

use super::finding::{Findings, What};
use super::rows::Row;
use super::texts::{Gathering, TextId, Texts};
use super::{FileError, ROWS_MAX, Reading, check_whole, checked_text, rows};

/// The columns, in the order of the file.
const COLUMNS: [&str; 7] = [
    "EndpointName",
    "EndpointMake",
    "EndpointModel",
    "EndpointType",
    "EndpointLabel1",
    "EndpointLabel2",
    "EndpointLabel3",
];

/// The longest text, in characters (CQD: 64).
const TEXT_CHARACTERS_MAX: usize = 64;

/// The table of an endpoint file: 32 bytes a row and its texts, each different one kept once.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// By name.
    rows: Vec<KeptRow>,
    texts: Texts,
}

#[derive(Debug, Clone, Copy)]
struct KeptRow {
    line: u32,
    columns: [TextId; COLUMNS.len()],
}

/// A row of the table. Texts are empty where the file has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// The number of its line in the file, from 1.
    pub line: u32,
    /// The machine's name, exactly.
    pub name: &'a str,
    /// Who made it.
    pub make: &'a str,
    /// Which of the maker's it is.
    pub model: &'a str,
    /// What it is.
    pub kind: &'a str,
    /// What the operator says of it.
    pub labels: [&'a str; 3],
}

impl Endpoints {
    /// Reads an endpoint file.
    ///
    /// # Errors
    /// [`FileError`] where no line of it can be read; a row that is wrong is a finding.
    pub fn read(file: &[u8]) -> Result<Reading<Self>, FileError> {
        check_whole(file)?;
        let (mut findings, mut texts) = (Findings::default(), Gathering::default());
        let mut rows = Vec::new();
        rows::each(file, &mut findings, |row, findings| match read(row, findings) {
            Some(_) if rows.len() as u64 >= ROWS_MAX => {
                let what = What::TooManyRows { expanded: rows.len() as u64 + 1, most: ROWS_MAX };
                findings.drop_row(row.line, None, what);
            }
            Some(columns) => {
                let columns = columns.map(|text| texts.id(text));
                rows.push(KeptRow { line: row.line, columns });
            }
            None => findings.count_dropped(),
        });
        let texts = texts.finish();
        rows.sort_unstable_by_key(|row| (texts.of(row.columns[0]), row.line));
        rows.dedup_by(|row, first| {
            let is_same = row.columns[0] == first.columns[0];
            if is_same {
                let what = What::SameName { first: first.line };
                findings.drop_row(row.line, Some(COLUMNS[0]), what);
            }
            is_same
        });
        Ok(Reading { table: Self { rows, texts }, account: findings.finish() })
    }

    /// The row of a machine.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Endpoint<'_>> {
        let at = self.rows.binary_search_by_key(&name, |row| self.texts.of(row.columns[0])).ok()?;
        let row = self.rows.get(at)?;
        let [name, make, model, kind, labels @ ..] = row.columns.map(|id| self.texts.of(id));
        Some(Endpoint { line: row.line, name, make, model, kind, labels })
    }

    /// How many machines there are.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.rows.len()
    }

    /// The memory of the table, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<KeptRow>() + self.texts.bytes()
    }
}

fn read<'a>(row: Row<'a>, findings: &mut Findings) -> Option<[&'a str; COLUMNS.len()]> {
    if row.is_first && row.field(0).trim_ascii().eq_ignore_ascii_case(b"endpointname") {
        findings.add(row.line, None, What::Header);
        return None;
    }
    if row.columns != COLUMNS.len() {
        let expected = COLUMNS.len();
        let what = match row.columns {
            6 => What::NoMakeColumn,
            found => What::ColumnCount { found, expected },
        };
        findings.add(row.line, None, what);
        return None;
    }
    let mut columns = [""; COLUMNS.len()];
    let mut is_good = true;
    for (at, told) in columns.iter_mut().enumerate() {
        let place = (row.line, COLUMNS[at]);
        match checked_text(row.field(at), TEXT_CHARACTERS_MAX, place, findings) {
            Some(text) => *told = text,
            None => is_good = false,
        }
    }
    let name = columns[0];
    if is_good && name.trim().is_empty() {
        findings.add(row.line, Some(COLUMNS[0]), What::Missing);
        return None;
    }
    if is_good && name.trim() != name {
        findings.add(row.line, Some(COLUMNS[0]), What::SpaceAround);
    }
    is_good.then_some(columns)
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
