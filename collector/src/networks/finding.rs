//! What is wrong with which line of a file, within bounds: the first [`TOLD_MAX`] are told, all are counted.

use std::collections::BinaryHeap;
use std::fmt;
use std::net::IpAddr;

/// The most findings that are told of a file; those that cost a row go before the others.
pub const TOLD_MAX: usize = 1_000;

/// The most characters of a wrong value that a finding quotes.
const QUOTED_MAX: usize = 40;

/// A network: an address and how many of its leading bits all addresses of it share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// The lowest address.
    pub address: IpAddr,
    /// 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub range: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.range)
    }
}

/// What is wrong, and what to do about it. Quoted values are as the file has them: escape them for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say what each is.
pub enum What {
    #[error("the line has {found} bytes, at most {most} are read: is a line break missing?")]
    LineTooLong { found: usize, most: usize },
    #[error("a quote does not end on this line: close it, and keep line breaks out of fields")]
    QuoteNeverEnds,
    #[error("this is a header and the file has none: take the line out")]
    Header,
    #[error(
        "{found} columns where {expected} are expected: keep the separator of empty ones, quote fields that hold it"
    )]
    ColumnCount { found: usize, expected: usize },
    #[error("6 columns as in older files: put EndpointMake, or an empty column, behind the name")]
    NoMakeColumn,
    #[error("it is not UTF-8: save the file as UTF-8")]
    NotUtf8,
    #[error("it holds a control character: take it out")]
    ControlCharacter,
    #[error("{found} characters, at most {most} are taken: shorten it")]
    TextTooLong { found: usize, most: usize },
    #[error("it is empty and must not be")]
    Missing,
    #[error("`{found}` names the range too: put the address here and the range into NetworkRange")]
    AddressWithRange { found: String },
    #[error("`{found}` is no IP address: use one like 10.1.2.0 or 2001:db8::")]
    NotAnAddress { found: String },
    #[error("{found} is IPv4 in IPv6 clothes: write it as IPv4")]
    MappedAddress { found: IpAddr },
    #[error("`{found}` is no prefix length: use a whole number like 24, not a mask")]
    RangeNotANumber { found: String },
    #[error("{found} is longer than such an address has bits: use 0 to {most}")]
    RangeTooLong { found: u32, most: u8 },
    #[error("`{found}` is neither 1 nor 0: use one of them")]
    NotABool { found: String },
    #[error("line {first} has {network} already and wins: take one of them out")]
    SameNetwork { network: Network, first: u32 },
    #[error("line {first} has this name already and wins: take one of them out")]
    SameName { first: u32 },
    #[error(
        "with it the file has {expanded} rows, each address of a VPN counted, and {most} are taken: narrow the VPNs"
    )]
    TooManyRows { expanded: u64, most: u64 },

    #[error("14 columns as in older files: taken as VPN = 0")]
    NoVpnColumn,
    #[error("it has bits beyond the range: taken as {network}")]
    HostBits { network: Network },
    #[error("{network} is wider than CQD takes, which is 8 and up: name its parts")]
    TooWide { network: Network },
    #[error("{common} is what homes and phones use too: whoever works there counts as here")]
    CommonInHomes { common: Network },
    #[error("it is empty: reports cannot name this network")]
    NoName,
    #[error("{network} lies in {wider} of line {line}: the longer range wins, CQD may refuse it")]
    LiesIn { network: Network, wider: Network, line: u32 },
    #[error("it begins or ends with a space: machine names are compared exactly")]
    SpaceAround,
}

impl What {
    /// Whether the row is lost.
    #[must_use]
    pub fn drops(&self) -> bool {
        match self {
            Self::LineTooLong { .. }
            | Self::QuoteNeverEnds
            | Self::Header
            | Self::ColumnCount { .. }
            | Self::NoMakeColumn
            | Self::NotUtf8
            | Self::ControlCharacter
            | Self::TextTooLong { .. }
            | Self::Missing
            | Self::AddressWithRange { .. }
            | Self::NotAnAddress { .. }
            | Self::MappedAddress { .. }
            | Self::RangeNotANumber { .. }
            | Self::RangeTooLong { .. }
            | Self::NotABool { .. }
            | Self::SameNetwork { .. }
            | Self::SameName { .. }
            | Self::TooManyRows { .. } => true,
            Self::NoVpnColumn
            | Self::HostBits { .. }
            | Self::TooWide { .. }
            | Self::CommonInHomes { .. }
            | Self::NoName
            | Self::LiesIn { .. }
            | Self::SpaceAround => false,
        }
    }
}

/// As much of a wrong value as is quoted.
pub(super) fn quoted(field: &[u8]) -> String {
    // Four bytes a character at most, and one more so that a cut shows.
    let head = field.get(..4 * QUOTED_MAX + 4).unwrap_or(field);
    let text = String::from_utf8_lossy(head);
    let mut quoted: String = text.chars().take(QUOTED_MAX).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1.
    pub line: u32,
    /// The column by the name that the documentation gives it; `None` for the whole line.
    pub column: Option<&'static str>,
    /// What.
    pub what: What,
}

/// Everything that is to be said of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// By line, at most [`TOLD_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub untold: u64,
    /// Lines that are not empty.
    pub rows: u64,
    /// Of these, the ones that cannot be used.
    pub dropped: u64,
    /// Kept rows whose network lies in another one's.
    pub overlaps: u64,
}

/// A finding in its order: those that cost a row first, then by line, then as they were found.
#[derive(Debug)]
struct Ranked {
    rank: (bool, u32, u64),
    finding: Finding,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// Findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The last in order on top.
    told: BinaryHeap<Ranked>,
    all: u64,
    rows: u64,
    dropped: u64,
    overlaps: u64,
}

impl Findings {
    /// Counts a row of the file.
    pub(super) fn count_row(&mut self) {
        self.rows += 1;
    }

    /// Counts a row that cannot be used; why was told.
    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Counts a kept row whose network lies in another one's.
    pub(super) fn count_overlap(&mut self) {
        self.overlaps += 1;
    }

    /// Tells why a row cannot be used, and counts it.
    pub(super) fn drop_row(&mut self, line: u32, column: Option<&'static str>, what: What) {
        self.add(line, column, what);
        self.count_dropped();
    }

    /// Tells what is wrong, or counts it if there is no room.
    pub(super) fn add(&mut self, line: u32, column: Option<&'static str>, what: What) {
        self.all += 1;
        let rank = (!what.drops(), line, self.all);
        if self.told.len() >= TOLD_MAX {
            if self.told.peek().is_some_and(|last| last.rank <= rank) {
                return;
            }
            self.told.pop();
        }
        self.told.push(Ranked { rank, finding: Finding { line, column, what } });
    }

    /// Everything that was found, by line.
    pub(super) fn finish(self) -> Account {
        let mut told: Vec<Ranked> = self.told.into_vec();
        told.sort_unstable_by_key(|it| (it.finding.line, it.rank.2));
        Account {
            untold: self.all - told.len() as u64,
            findings: told.into_iter().map(|it| it.finding).collect(),
            rows: self.rows,
            dropped: self.dropped,
            overlaps: self.overlaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_rows_is_told_before_what_does_not() {
        let mut findings = Findings::default();
        for line in 1..=2_000 {
            findings.add(line, None, What::NoName);
        }
        findings.drop_row(5_000, None, What::Header);
        let account = findings.finish();
        assert_eq!((account.findings.len(), account.untold), (TOLD_MAX, 1_001));
        assert_eq!((account.findings[0].line, account.findings[998].line), (1, 999));
        assert_eq!(account.findings[999].what, What::Header);
        assert_eq!(account.dropped, 1);
    }

    #[test]
    fn wrong_values_are_quoted_in_part() {
        assert_eq!(quoted(b"abc"), "abc");
        assert_eq!(quoted(&[b'x'; 40]), "x".repeat(40));
        assert_eq!(quoted("ø".repeat(9_999).as_bytes()), "ø".repeat(40) + "…");
        assert_eq!(quoted(&[0xff; 500]).chars().count(), 41);
    }
}
