//! The building and endpoint files that were imported: kept as they came, each version with the day that it is valid
//! from, in the folder `networks` beside the day files.
//!
//! ```text
//! networks/buildings-1-from-1970-01-01.txt     the first, valid for all days
//! networks/buildings-2-from-2026-11-01.txt     the second, for legs that began on that day or later
//! networks/endpoints-1-from-1970-01-01.txt
//! ```
//!
//! Of a day the version with the highest number that is valid counts, and no other: files are not cumulative, as in
//! Call Quality Dashboard. Of each kind the last [`VERSIONS_MAX`] are kept. A running `serve` sees a new one within a
//! second, for a name comes into the folder only with its whole file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::classify::place::BuildingFile;
use crate::networks::buildings::Buildings;
use crate::networks::endpoints::Endpoints;
use crate::private_file;
use crate::text;

/// The folder's name in the store's.
pub const FOLDER: &str = "networks";
/// The most versions of one kind that are kept.
pub const VERSIONS_MAX: usize = 64;
/// The most tables in memory: the one of today, and one for history.
const TABLES_MAX: usize = 2;

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Buildings.
    Buildings,
    /// Endpoints.
    Endpoints,
}

impl FileKind {
    /// The head of its files' names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Buildings => "buildings",
            Self::Endpoints => "endpoints",
        }
    }
}

/// A file that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1 in the order of imports.
    pub number: u32,
    /// From when on it is valid, microseconds since 1970.
    pub start_us: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// The folder and the tables of it that are in memory.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    versions: Vec<Version>,
    /// The one that was used last comes last.
    tables: Vec<(u32, Option<Buildings>)>,
}

impl Shelf {
    /// The shelf of the store in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { folder: directory.join(FOLDER), versions: Vec::new(), tables: Vec::new() }
    }

    /// The versions of a kind, oldest first; none where nothing was ever imported.
    ///
    /// # Errors
    /// [`io::Error`] where the folder cannot be listed.
    pub fn list(&self, kind: FileKind) -> io::Result<Vec<Version>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry?;
            let named = entry.file_name().to_str().and_then(|name| parse_name(kind, name));
            if let Some((number, start_us)) = named {
                let bytes = entry.metadata()?.len();
                versions.push(Version { number, start_us, path: entry.path(), bytes });
            }
        }
        versions.sort_unstable_by_key(|it| it.number);
        Ok(versions)
    }

    /// Keeps a file that was found good, and drops the oldest beyond [`VERSIONS_MAX`].
    ///
    /// # Errors
    /// [`io::Error`] of the first step that went wrong; the file was not kept then.
    pub fn import(&self, kind: FileKind, text: &str, start_us: u64) -> io::Result<Version> {
        private_file::make_folder(&self.folder)?;
        let versions = self.list(kind)?;
        let number = versions.last().map_or(1, |it| it.number.saturating_add(1));
        let path = self.folder.join(name(kind, number, start_us));
        private_file::write(&path, text, 0o640)?;
        let surplus = (versions.len() + 1).saturating_sub(VERSIONS_MAX);
        for old in versions.iter().take(surplus) {
            fs::remove_file(&old.path)?;
        }
        Ok(Version { number, start_us, path, bytes: text.len() as u64 })
    }

    /// Looks which building files there are now.
    pub fn refresh(&mut self) {
        match self.list(FileKind::Buildings) {
            Ok(versions) => self.versions = versions,
            Err(error) => {
                tracing::debug!(%error, "the folder of networks cannot be listed");
                self.versions.clear();
            }
        }
    }

    /// The building file for a moment, as the last [`refresh`](Self::refresh) knew; `None` where none is valid then.
    pub fn buildings_at(&mut self, at_us: u64) -> Option<BuildingFile<'_>> {
        let version = valid_at(&self.versions, at_us)?;
        let number = version.number;
        if let Some(place) = self.tables.iter().position(|(it, _)| *it == number) {
            let used = self.tables.remove(place);
            self.tables.push(used);
        } else {
            let table = load(&version.path);
            if self.tables.len() >= TABLES_MAX {
                self.tables.remove(0);
            }
            self.tables.push((number, table));
        }
        let table = self.tables.last()?.1.as_ref()?;
        Some(BuildingFile { number, table })
    }
}

impl Shelf {
    /// The endpoint file that counts at a moment; `None` where there is none that can be read.
    #[must_use]
    pub fn endpoints_at(&self, at_us: u64) -> Option<Endpoints> {
        let versions = self.list(FileKind::Endpoints).ok()?;
        let bytes = fs::read(&valid_at(&versions, at_us)?.path).ok()?;
        Some(Endpoints::read(&bytes).ok()?.table)
    }
}

/// The version that counts at a moment.
#[must_use]
pub fn valid_at(versions: &[Version], at_us: u64) -> Option<&Version> {
    versions.iter().rev().find(|it| it.start_us <= at_us)
}

/// A file that cannot be read is told once, for it is kept as none.
fn load(path: &Path) -> Option<Buildings> {
    let read = || -> Result<Buildings, Box<dyn std::error::Error>> {
        Ok(Buildings::read(&fs::read(path)?)?.table)
    };
    read()
        .inspect_err(|error| {
            tracing::warn!(file = %path.display(), %error, "a building file is left out");
        })
        .ok()
}

fn name(kind: FileKind, number: u32, start_us: u64) -> String {
    let day = text::day(start_us).unwrap_or_else(|| "9999-12-31".to_owned());
    format!("{}-{number}-from-{day}.txt", kind.word())
}

fn parse_name(kind: FileKind, found: &str) -> Option<(u32, u64)> {
    let rest = found.strip_prefix(kind.word())?.strip_prefix('-')?.strip_suffix(".txt")?;
    let (number, day) = rest.split_once("-from-")?;
    let (number, start_us) = (number.parse().ok()?, text::parse_day(day)?);
    // Only the one spelling that we write.
    (name(kind, number, start_us) == found).then_some((number, start_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: &str = "10.0.0.0,all,8,House,,,,,,,,,1,0,0\n";
    const TOWER: &str = "10.0.0.0,all,8,Tower,,,,,,,,,1,0,0\n";
    const DAY_US: u64 = 86_400_000_000;

    fn building(shelf: &mut Shelf, at_us: u64) -> Option<(u32, String)> {
        use crate::networks::buildings::TextColumn;
        let file = shelf.buildings_at(at_us)?;
        let row = file.table.lookup("10.1.2.3".parse().unwrap()).unwrap();
        Some((file.number, row.text(TextColumn::BuildingName).to_owned()))
    }

    #[test]
    fn highest_number_that_is_valid_counts_and_a_new_one_is_seen() {
        let store = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(store.path());
        shelf.refresh();
        assert_eq!(building(&mut shelf, 5), None, "nothing was imported");
        let first = shelf.import(FileKind::Buildings, HOUSE, 0).unwrap();
        assert_eq!((first.number, first.bytes), (1, HOUSE.len() as u64));
        shelf.refresh();
        assert_eq!(building(&mut shelf, 3 * DAY_US), Some((1, "House".to_owned())));
        shelf.import(FileKind::Buildings, TOWER, 2 * DAY_US).unwrap();
        shelf.refresh();
        assert_eq!(building(&mut shelf, 2 * DAY_US - 1), Some((1, "House".to_owned())));
        assert_eq!(building(&mut shelf, 2 * DAY_US), Some((2, "Tower".to_owned())));
        // A later import for all days replaces both.
        shelf.import(FileKind::Buildings, HOUSE, 0).unwrap();
        shelf.refresh();
        assert_eq!(building(&mut shelf, 2 * DAY_US), Some((3, "House".to_owned())));
        assert_eq!(shelf.list(FileKind::Endpoints).unwrap(), []);
    }

    #[test]
    fn versions_are_bounded_and_foreign_files_are_none() {
        let store = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(store.path());
        for _ in 0..=VERSIONS_MAX {
            shelf.import(FileKind::Endpoints, "", 0).unwrap();
        }
        let folder = store.path().join(FOLDER);
        for name in
            ["endpoints-1.txt", "endpoints-01-from-1970-01-01.txt", "endpoints-9-from-x.txt"]
        {
            fs::write(folder.join(name), "").unwrap();
        }
        let numbers: Vec<u32> =
            shelf.list(FileKind::Endpoints).unwrap().iter().map(|it| it.number).collect();
        assert_eq!(numbers, (2..=VERSIONS_MAX as u32 + 1).collect::<Vec<_>>());
    }
}
