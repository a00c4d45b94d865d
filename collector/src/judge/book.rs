//! The book of verdicts: one SQLite file beside the day files, a row for each call and leg by each rule set.
//!
//! All of it can be made again from the store, so a write is not synced: after a power cut the last rows and the mark
//! of how far was judged are gone together, and those calls are judged again. A damaged file is set aside by `serve`,
//! under a name that says so, and history judged anew. Rows go with the day files that they were made of.
//!
//! Columns and indexes are for lists of the worst: by time, endpoint, building and subnet of one rule set. The call's
//! own row has the leg [`OF_CALL`]. Beside them stand the addresses of legs, for the other end to be found by. Times
//! are microseconds since 1970.

mod row;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roomtone_protocol::id::{CallId, EndpointId};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use super::Judged;
use super::touched::CallKey;
use crate::call::ends::{CLOCK_UNCERTAINTY_US, LegEnd};
use crate::classify::rules::RulesName;
use crate::classify::verdict::Rating;
use crate::private_file;

/// The book's name in the store's folder.
pub const FILE: &str = "verdicts.sqlite";
/// `PRAGMA application_id`: "RTMV".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"RTMV");
/// `PRAGMA user_version`. A file with a higher one is a later collector's.
const SCHEMA_VERSION: i32 = 1;
/// How long a step waits for another process.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The leg of a call's own row.
const OF_CALL: i64 = -1;

const CREATE: &str = "
CREATE TABLE verdict (
  endpoint BLOB NOT NULL, call INTEGER NOT NULL, rules TEXT NOT NULL, leg INTEGER NOT NULL,
  version INTEGER NOT NULL, hash TEXT NOT NULL,
  started_us INTEGER NOT NULL, facts_us INTEGER NOT NULL, judged_us INTEGER NOT NULL,
  standing INTEGER NOT NULL, rehearsal INTEGER NOT NULL, rating INTEGER NOT NULL, judgement TEXT NOT NULL,
  networks INTEGER, subnet TEXT, building TEXT, inside INTEGER,
  PRIMARY KEY (endpoint, call, rules, leg)
) STRICT, WITHOUT ROWID;
CREATE INDEX verdict_by_time ON verdict (rules, started_us, rating);
CREATE INDEX verdict_by_endpoint ON verdict (rules, endpoint, started_us, rating);
CREATE INDEX verdict_by_building ON verdict (rules, building, started_us, rating) WHERE building IS NOT NULL;
CREATE INDEX verdict_by_subnet ON verdict (rules, subnet, started_us, rating) WHERE subnet IS NOT NULL;
CREATE INDEX verdict_by_age ON verdict (facts_us);
CREATE TABLE leg_end (
  endpoint BLOB NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL,
  remote TEXT NOT NULL, from_us INTEGER NOT NULL, until_us INTEGER NOT NULL, facts_us INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg)
) STRICT, WITHOUT ROWID;
CREATE INDEX leg_end_by_remote ON leg_end (remote, from_us);
CREATE INDEX leg_end_by_age ON leg_end (facts_us);
CREATE TABLE mark (name TEXT PRIMARY KEY, us INTEGER NOT NULL) STRICT;
";

/// Why the book cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file cannot be opened or made.
    #[error("cannot use the book of verdicts {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is damaged. `serve` sets it aside when it starts.
    #[error("the book of verdicts {} is damaged: restart `serve`, which sets it aside", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A step was not done.
    #[error("the book of verdicts: {0}")]
    Step(#[from] rusqlite::Error),
}

/// How far the store was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Every call whose end was told until then.
    Closed,
    /// Every call whose end was never told and that was last heard of until then.
    Silent,
}

impl Mark {
    /// Its name: other rules begin anew.
    fn name(self, rules: &RulesName) -> String {
        let name = match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
        };
        format!("{name} {} {}", rules.id, rules.hash)
    }
}

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The call had none by this rule set.
    First,
    /// It is as it was.
    Same,
    /// The rating is, the findings or legs are not.
    Findings,
    /// The rating changed.
    Rating {
        /// What it was.
        from: Rating,
        /// What it is.
        to: Rating,
    },
}

/// An open book.
#[derive(Debug)]
pub struct Book {
    connection: Connection,
}

impl Book {
    /// Opens the file, making it where it is missing; its folder must be there. Only its owner may read it.
    ///
    /// # Errors
    /// [`BookError::Damaged`]; [`BookError::Open`] where the path cannot be used or the file is something else.
    pub fn open(path: &Path) -> Result<Self, BookError> {
        let open = |reason: String| BookError::Open { path: path.to_owned(), reason };
        match File::options().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => private_file::give_to_folder_owner(path).map_err(|e| open(e.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(open(error.to_string())),
        }
        let sqlite = |error: rusqlite::Error| {
            let code = error.sqlite_error_code();
            if matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
                BookError::Damaged { path: path.to_owned() }
            } else {
                open(error.to_string())
            }
        };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;",
            )
            .map_err(sqlite)?;
        let step =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let pragma = |name: &str| -> Result<i32, BookError> {
            step.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).map_err(sqlite)
        };
        match (pragma("application_id")?, pragma("user_version")?) {
            (APPLICATION_ID, SCHEMA_VERSION) => {}
            (0, 0) => {
                step.execute_batch(CREATE).map_err(sqlite)?;
                step.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
                step.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(sqlite)?;
            }
            (APPLICATION_ID, newer) => {
                return Err(open(format!("it is of version {newer}, use a newer collector")));
            }
            _ => return Err(open("it is no book of verdicts".to_owned())),
        }
        step.commit().map_err(sqlite)?;
        Ok(Self { connection })
    }

    /// As [`open`](Self::open) for `serve`: a damaged file is set aside, and the name that it has now returned.
    ///
    /// # Errors
    /// As there; [`BookError::Open`] where the damaged file cannot be renamed.
    pub fn open_or_set_aside(path: &Path) -> Result<(Self, Option<PathBuf>), BookError> {
        let opened = Self::open(path).and_then(|book| {
            let ask = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            match book.connection.query_row("PRAGMA quick_check(1)", [], ask) {
                Ok(found) if found == "ok" => Ok(book),
                Ok(_) | Err(_) => Err(BookError::Damaged { path: path.to_owned() }),
            }
        });
        match opened {
            Err(BookError::Damaged { .. }) => {
                let aside = private_file::set_aside(path).map_err(|error| BookError::Open {
                    path: path.to_owned(),
                    reason: format!("it is damaged and cannot be renamed: {error}"),
                })?;
                Ok((Self::open(path)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Writes the verdicts of a call in place of those by the same rule set.
    ///
    /// # Errors
    /// [`BookError::Step`], as all below; nothing was written then.
    pub fn write(&mut self, judged: &Judged, judged_us: u64) -> Result<Change, BookError> {
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = row::read(&step, (judged.endpoint, judged.call), &judged.verdict.rules.id)?;
        row::write(&step, judged, judged_us)?;
        row::write_ends(&step, judged)?;
        step.commit()?;
        let Some(before) = before else { return Ok(Change::First) };
        let (from, to) = (before.verdict.call.rating, judged.verdict.call.rating);
        let is_same = before.verdict.call == judged.verdict.call
            && before.verdict.legs == judged.verdict.legs
            && before.places == judged.places;
        Ok(match (from == to, is_same) {
            (false, _) => Change::Rating { from, to },
            (true, false) => Change::Findings,
            (true, true) => Change::Same,
        })
    }

    /// The verdict of a call by a rule set, whatever its version; `None` where there is none that this version reads.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn verdict(&self, key: CallKey, rules: &str) -> Result<Option<Judged>, BookError> {
        Ok(row::read(&self.connection, key, rules)?)
    }

    /// When the latest record came that a call's verdict by just these rules was made of; `None` without a verdict.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn facts_us(&self, key: CallKey, rules: &RulesName) -> Result<Option<u64>, BookError> {
        let sql = "SELECT facts_us FROM verdict
                   WHERE endpoint = ?1 AND call = ?2 AND rules = ?3 AND leg = ?4 AND hash = ?5";
        let mut query = self.connection.prepare_cached(sql)?;
        let (endpoint, call) = (key.0.0, key.1.0 as i64);
        let found = query
            .query_row(params![endpoint, call, rules.id, OF_CALL, rules.hash], |row| {
                row.get::<_, i64>(0).map(|us| us as u64)
            });
        Ok(found.optional()?)
    }

    /// The latest calls that are poor by just these rules and began at or after a moment (endpoints' clocks), newest
    /// first, at most `limit`. Rehearsals are left out.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn poor_calls(
        &self,
        rules: &RulesName,
        since_us: u64,
        limit: usize,
    ) -> Result<Vec<CallKey>, BookError> {
        let sql = "SELECT endpoint, call FROM verdict WHERE rules = ?1 AND started_us >= ?2
                   AND rating = ?3 AND leg = ?4 AND hash = ?5 AND rehearsal = 0
                   ORDER BY started_us DESC LIMIT ?6";
        let mut query = self.connection.prepare_cached(sql)?;
        let (since_us, poor) = (row::stored(since_us), row::rating_code(Rating::Poor));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = query
            .query_map(params![rules.id, since_us, poor, OF_CALL, rules.hash, limit], |row| {
                Ok((EndpointId(row.get(0)?), CallId(row.get::<_, i64>(1)? as u64)))
            })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The calls with a leg that may be the other side of this one, by its address and time; at most `limit`.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn calls_towards(&self, end: &LegEnd, limit: usize) -> Result<Vec<CallKey>, BookError> {
        let sql = "SELECT DISTINCT endpoint, call FROM leg_end WHERE remote IN (?1, ?2)
                   AND from_us <= ?3 AND until_us >= ?4 AND endpoint <> ?5 LIMIT ?6";
        let mut query = self.connection.prepare_cached(sql)?;
        let slack_us = 2 * CLOCK_UNCERTAINTY_US;
        let own = [Some(end.local), end.reflexive].map(|it| it.map(|it| it.to_string()));
        let until_us = row::stored(end.until_us.saturating_add(slack_us));
        let from_us = row::stored(end.from_us.saturating_sub(slack_us));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let [local, reflexive] = own;
        let found = query.query_map(
            params![local, reflexive, until_us, from_us, end.endpoint.0, limit],
            |row| Ok((EndpointId(row.get(0)?), CallId(row.get::<_, i64>(1)? as u64))),
        )?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// How far the store was judged by these rules, microseconds since 1970; 0 at the beginning.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn mark(&self, mark: Mark, rules: &RulesName) -> Result<u64, BookError> {
        let sql = "SELECT us FROM mark WHERE name = ?1";
        let found = self.connection.query_row(sql, [mark.name(rules)], |row| row.get::<_, i64>(0));
        Ok(found.optional()?.unwrap_or(0) as u64)
    }

    /// Says how far the store was judged by these rules.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn set_mark(&mut self, mark: Mark, rules: &RulesName, us: u64) -> Result<(), BookError> {
        let sql = "INSERT INTO mark VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET us = ?2";
        self.connection.execute(sql, params![mark.name(rules), row::stored(us)])?;
        Ok(())
    }

    /// Forgets verdicts of calls of which nothing came since `horizon_us`; how many rows went.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn expire(&mut self, horizon_us: u64) -> Result<usize, BookError> {
        let horizon_us = row::stored(horizon_us);
        // Marks of rules that nobody uses any more.
        self.connection.execute("DELETE FROM mark WHERE us < ?1", [horizon_us])?;
        self.connection.execute("DELETE FROM leg_end WHERE facts_us < ?1", [horizon_us])?;
        let sql = "DELETE FROM verdict WHERE facts_us < ?1";
        Ok(self.connection.execute(sql, [horizon_us])?)
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
