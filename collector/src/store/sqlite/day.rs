//! Names of day files, and what stands in a store's directory.
//!
//! ```text
//! lock                             held by the collector that writes
//! day-2026-11-22.db, -wal, -shm    what was received on that day, UTC
//! day-2026-11-20.db.quarantine     set aside: damaged, or a later collector's
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A day of the proleptic Gregorian calendar in UTC, as days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(pub u32);

const DAY_US: u64 = 86_400_000_000;

impl Day {
    /// The day of a moment in microseconds since 1970; the year stops at 9999.
    pub(super) fn of(wall_us: u64) -> Self {
        Self(u32::try_from(wall_us / DAY_US).unwrap_or(u32::MAX).min(LAST_DAY))
    }

    /// When the day begins, in microseconds since 1970.
    pub(super) fn start_us(self) -> u64 {
        u64::from(self.0) * DAY_US
    }

    pub(super) fn file(self, directory: &Path) -> PathBuf {
        directory.join(format!("day-{self}.db"))
    }

    fn from_name(name: &str) -> Option<Self> {
        let date = name.strip_prefix("day-")?.get(..10)?;
        let mut parts = date.split('-').map(str::parse::<i64>);
        let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let days = u32::try_from(days_from_civil(year, month, day)).ok()?;
        // Only the one spelling that we write, so that 2026-02-31 or 2026-2-03x are not ours.
        (Self(days).to_string() == date).then_some(Self(days))
    }
}

/// 9999-12-31.
const LAST_DAY: u32 = 2_932_896;

/// Days since 1970 of a date, by H. Hinnant's `days_from_civil` (chrono-compatible low-level date algorithms).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl fmt::Display for Day {
    /// `2026-11-22`, by H. Hinnant's `civil_from_days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = i64::from(self.0) + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The day files of a directory, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(Day, PathBuf)>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && let Some(day) = Day::from_name(name)
            && name.len() == "day-2026-11-22.db".len()
            && name.ends_with(".db")
        {
            days.push((day, entry.path()));
        }
    }
    days.sort_unstable();
    Ok(days)
}

/// Unlinks every file of days before `horizon`, set-aside ones included; returns how many day files went.
pub(super) fn expire(directory: &Path, horizon: Day) -> io::Result<usize> {
    let mut expired = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(Day::from_name).is_some_and(|day| day < horizon) {
            fs::remove_file(entry.path())?;
            expired += usize::from(name.to_str().is_some_and(|name| name.ends_with(".db")));
        }
    }
    Ok(expired)
}

/// Renames a day file and its companions out of the way and returns the new name.
pub(super) fn set_aside(file: &Path) -> io::Result<PathBuf> {
    for attempt in 1..=ASIDE_MAX {
        let aside = |suffix: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            if attempt > 1 {
                name.push(format!(".{attempt}"));
            }
            name.push(".quarantine");
            PathBuf::from(name)
        };
        let target = aside("");
        if target.exists() {
            continue;
        }
        fs::rename(file, &target)?;
        for suffix in ["-wal", "-shm"] {
            let mut companion = file.as_os_str().to_owned();
            companion.push(suffix);
            match fs::rename(PathBuf::from(companion), aside(suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => {}
            }
        }
        return Ok(target);
    }
    Err(io::Error::other("too many files of this day have been set aside"))
}

/// How often one day's file may be set aside: a disk that damages more than this is past help.
const ASIDE_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_as_the_calendar_names_them() {
        // `date -u -d 2024-02-29 +%s` / 86400 = 19782; 2026-11-22 = 20779; 9999-12-31 = 2932896.
        for (days, name) in [
            (0, "1970-01-01"),
            (19_782, "2024-02-29"),
            (20_779, "2026-11-22"),
            (LAST_DAY, "9999-12-31"),
        ] {
            assert_eq!(Day(days).to_string(), name);
            assert_eq!(Day::from_name(&format!("day-{name}.db")), Some(Day(days)));
        }
        assert_eq!(Day::of(u64::MAX), Day(LAST_DAY));
    }

    #[test]
    fn other_files_are_not_days() {
        for name in ["day-2026-02-31.db", "day-2026-1-01.dbx", "lock", "day-", "day-ä026-11-22.db"]
        {
            assert_eq!(Day::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn second_file_of_a_day_set_aside_keeps_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let file = Day(20_779).file(directory.path());
        for content in ["first", "second"] {
            fs::write(&file, content).unwrap();
            set_aside(&file).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("day-2026-11-22.db.quarantine"), "first");
        assert_eq!(read("day-2026-11-22.db.2.quarantine"), "second");
        assert_eq!(list(directory.path()).unwrap(), []);
        assert_eq!(expire(directory.path(), Day(20_780)).unwrap(), 0, "no day file went");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
