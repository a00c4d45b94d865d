//! Where an address is and what a machine is: the two data files that an operator keeps for Call Quality Dashboard.
//!
//! [`buildings`] reads the building file (15 columns) and finds the row of an address, [`endpoints`] reads the
//! endpoint file (7 columns) and finds the row of a machine. Both files have a row a line, no header, columns between
//! commas or TABs, UTF-8 with or without a byte order mark (Microsoft, "Upload tenant and building data in CQD").
//!
//! A row that cannot be used is dropped and told by its line; it never takes another one along. What can be used and
//! is likely a slip is kept and told too. Legs are joined with rows by [`place`](crate::classify::place).

mod building_row;
pub mod buildings;
pub mod endpoints;
pub mod finding;
mod rows;
mod texts;

use finding::{Account, Findings};

/// The most rows of a file, each row of a VPN counted as all its addresses (CQD: 1,000,000 expanded rows).
pub const ROWS_MAX: u64 = 1_000_000;

/// The largest file, in bytes: a million rows of 268 bytes each.
pub const FILE_BYTES_MAX: usize = 256 << 20;

/// A file that was read: what can be used of it, and what is to be said about it.
#[derive(Debug)]
pub struct Reading<T> {
    /// The rows that were kept.
    pub table: T,
    /// What was found.
    pub account: Account,
}

/// Why nothing of a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is larger than [`FILE_BYTES_MAX`].
    #[error("more than {} MiB: no file of a million rows is that large; split it", FILE_BYTES_MAX >> 20)]
    TooLarge,
    /// It begins with the byte order mark of UTF-16, as Excel's "Unicode text" does.
    #[error("it is UTF-16: save it as UTF-8, in Excel as \"CSV UTF-8\"")]
    Utf16,
}

fn check_whole(file: &[u8]) -> Result<(), FileError> {
    if file.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    if file.starts_with(&[0xff, 0xfe]) || file.starts_with(&[0xfe, 0xff]) {
        return Err(FileError::Utf16);
    }
    Ok(())
}

/// The text of a field, or `None` and a finding.
fn checked_text<'a>(
    field: &'a [u8],
    characters_max: usize,
    (line, column): (u32, &'static str),
    findings: &mut Findings,
) -> Option<&'a str> {
    use finding::What;
    let wrong = match std::str::from_utf8(field) {
        Err(_) => What::NotUtf8,
        Ok(text) if text.chars().any(char::is_control) => What::ControlCharacter,
        // Each character has a byte or more: most texts need not be counted.
        Ok(text) if text.len() <= characters_max => return Some(text),
        Ok(text) => match text.chars().count() {
            found if found > characters_max => What::TextTooLong { found, most: characters_max },
            _ => return Some(text),
        },
    };
    findings.add(line, Some(column), wrong);
    None
}
