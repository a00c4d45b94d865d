//! The fleet's book on disk: what an operator wants, and how endpoints are, in one SQLite file beside the registry.
//!
//! `serve` and the commands beside it read and write the same file. A command's step is synced before it is reported
//! done. A heartbeat is not: with `synchronous=NORMAL` a power cut loses the last ones, since the last checkpoint at
//! most, and harms nothing else; each endpoint sends its next within a minute, and 20,000 of them must not cost the
//! records' disk a sync a second.
//!
//! A damaged file is set aside by `serve`, beside the new one and under a name that says so. No settings are taken
//! away for it: where the book is empty nothing is sent ([`plan`](super::plan)). Times are microseconds since 1970.

mod row;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roomtone_protocol::configuration::EffectiveConfiguration;
use roomtone_protocol::id::EndpointId;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::heartbeat::Heard;
use super::plan::{Plan, Revision};
use super::scope::Scope;
use super::session::Reported;
use super::settings::{Settings, SettingsError};
use crate::private_file;

/// The book's name in the store's folder.
pub const FILE: &str = "fleet.sqlite";
/// `PRAGMA application_id`: "RTMF".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"RTMF");
/// `PRAGMA user_version`. A file with a higher one is a later collector's.
const SCHEMA_VERSION: i32 = 1;
/// How long a step waits for another process.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// No sync but at a checkpoint, and those every 8,192 pages (32 MiB): 20,000 endpoints change 300 pages a second.
const SERVE_DURABILITY: &str = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 8192;";

const CREATE: &str = "
CREATE TABLE revision (
  scope TEXT NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL, percent INTEGER NOT NULL,
  created_us INTEGER NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL,
  PRIMARY KEY (scope, number)
) STRICT;
CREATE TABLE step (
  scope TEXT NOT NULL, number INTEGER NOT NULL, percent INTEGER NOT NULL,
  at_us INTEGER NOT NULL, who TEXT NOT NULL
) STRICT;
CREATE INDEX step_of ON step (scope, number);
CREATE TABLE endpoint (
  id BLOB PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, agent_version TEXT NOT NULL,
  connected_us INTEGER NOT NULL, ended_us INTEGER,
  heard_us INTEGER, heartbeat BLOB, cpu_part_us INTEGER, cpu_whole_us INTEGER
) STRICT;
CREATE TABLE effective (
  id BLOB PRIMARY KEY, hash BLOB NOT NULL, text TEXT NOT NULL
) STRICT;
";

/// Why the book cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file cannot be opened or made.
    #[error("cannot use the fleet's book {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is damaged. `serve` sets it aside when it starts.
    #[error("the fleet's book {} is damaged: restart `serve`, which sets it aside", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A step was not done.
    #[error("the fleet's book: {0}")]
    Step(#[from] rusqlite::Error),
    /// What is to be changed is of a later version. Take it back, replace all of it, or use that version.
    #[error(
        "{scope}, revision {number}, is of a later version ({source}): roll it back, replace it with --file, or use that version"
    )]
    Row {
        /// Of which scope.
        scope: Scope,
        /// Which of its revisions.
        number: u32,
        /// Why.
        source: SettingsError,
    },
    /// What was asked for is no setting.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Who opens the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A command, whose steps are few and must last.
    Command,
    /// `serve`, which writes heartbeats.
    Serve,
}

/// One revision with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionFacts {
    /// Whom it is for.
    pub scope: Scope,
    /// Its number, its share as it is now, and its settings.
    pub revision: Revision,
    /// When it was made.
    pub created_us: u64,
    /// By whom. From an operator: escape before printing.
    pub who: String,
    /// What they said about it, likewise.
    pub note: String,
    /// How its share changed later, oldest first.
    pub steps: Vec<Step>,
}

/// A change of a revision's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The share from then on, 0 to 100.
    pub percent: u8,
    /// When.
    pub at_us: u64,
    /// By whom.
    pub who: String,
}

/// What somebody does, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// How much of the scope it reaches, 0 to 100.
    pub percent: u8,
    /// By whom.
    pub who: String,
    /// What they say about it; empty for nothing.
    pub note: String,
    /// When.
    pub now_us: u64,
}

/// One endpoint as `serve` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardRow {
    /// What is kept.
    pub heard: Heard,
    /// What it is set to, where it has said so since the last row.
    pub effective: Option<EffectiveConfiguration>,
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
    pub fn open(path: &Path, by: Use) -> Result<Self, BookError> {
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
        let durability = match by {
            Use::Command => "PRAGMA synchronous = FULL;",
            Use::Serve => SERVE_DURABILITY,
        };
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA trusted_schema = OFF;")
            .and_then(|()| connection.execute_batch(durability))
            .map_err(sqlite)?;
        if by == Use::Serve {
            let ask = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let found = connection.query_row("PRAGMA quick_check(1)", [], ask).map_err(sqlite)?;
            if found != "ok" {
                return Err(BookError::Damaged { path: path.to_owned() });
            }
        }
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
            _ => return Err(open("it is no book of roomtone".to_owned())),
        }
        step.commit().map_err(sqlite)?;
        Ok(Self { connection })
    }

    /// As [`open`](Self::open) for `serve`: a damaged file is set aside, and the name that it has now returned.
    ///
    /// # Errors
    /// As there; [`BookError::Open`] where the damaged file cannot be renamed.
    pub fn open_or_set_aside(path: &Path) -> Result<(Self, Option<PathBuf>), BookError> {
        match Self::open(path, Use::Serve) {
            Err(BookError::Damaged { .. }) => {
                let aside = private_file::set_aside(path).map_err(|error| BookError::Open {
                    path: path.to_owned(),
                    reason: format!("it is damaged and cannot be renamed: {error}"),
                })?;
                Ok((Self::open(path, Use::Serve)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// A number that changes when another process has changed the file.
    ///
    /// # Errors
    /// [`BookError::Step`], as all below.
    pub fn data_version(&self) -> Result<i64, BookError> {
        Ok(self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?)
    }

    /// What endpoints are to be set to.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn plan(&self) -> Result<Plan, BookError> {
        let revisions = row::revisions(&self.connection, None)?;
        Ok(Plan::new(revisions.into_iter().map(|it| (it.scope, it.revision))))
    }

    /// The revisions of one scope or of all, newest first.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn history(&self, scope: Option<&Scope>) -> Result<Vec<RevisionFacts>, BookError> {
        row::revisions(&self.connection, scope)
    }

    /// Makes a scope's next revision of what it sets now; `None` where neither that nor the share changes.
    ///
    /// # Errors
    /// [`BookError::Settings`] where `edit` refuses; [`BookError::Row`] where it builds on what this version cannot
    /// read.
    pub fn revise(
        &mut self,
        scope: &Scope,
        deed: &Deed,
        edit: impl FnOnce(&Settings) -> Result<Settings, SettingsError>,
    ) -> Result<Option<u32>, BookError> {
        let step = self.step()?;
        let revisions = row::revisions(&step, Some(scope))?;
        let current = revisions.iter().find(|it| it.revision.percent > 0).map(|it| &it.revision);
        let nothing = Settings::default();
        let settings = edit(current.map_or(&nothing, |it| &it.settings))?;
        if let Some(it) = current.filter(|_| settings.is_of_later_version())
            && let Err(source) = Settings::parse(&it.settings.text())
        {
            return Err(BookError::Row { scope: scope.clone(), number: it.number, source });
        }
        let is_same = match current {
            Some(it) => it.settings == settings && it.percent == deed.percent,
            None => settings.is_empty(),
        };
        if is_same {
            return Ok(None);
        }
        let number = revisions.first().map_or(1, |it| it.revision.number.saturating_add(1));
        step.execute(
            "INSERT INTO revision VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                scope.key(),
                number,
                settings.text(),
                deed.percent,
                row::stored(deed.now_us),
                deed.who,
                deed.note
            ],
        )?;
        step.commit()?;
        Ok(Some(number))
    }

    /// Changes the share of a scope's current revision, if `number` still is that; whether it was.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn set_share(
        &mut self,
        scope: &Scope,
        number: u32,
        deed: &Deed,
    ) -> Result<bool, BookError> {
        let step = self.step()?;
        let changed = step.execute(
            "UPDATE revision SET percent = ?3 WHERE scope = ?1 AND number = ?2 AND number =
               (SELECT max(number) FROM revision WHERE scope = ?1 AND percent > 0)",
            params![scope.key(), number, deed.percent],
        )?;
        if changed > 0 {
            step.execute(
                "INSERT INTO step VALUES (?1, ?2, ?3, ?4, ?5)",
                params![scope.key(), number, deed.percent, row::stored(deed.now_us), deed.who],
            )?;
        }
        step.commit()?;
        Ok(changed > 0)
    }

    /// Writes endpoints as one step.
    ///
    /// # Errors
    /// [`BookError::Step`]; nothing was written then.
    pub fn write(&mut self, rows: &[HeardRow]) -> Result<(), BookError> {
        let step = self.step()?;
        for row in rows {
            row::write(&step, row)?;
        }
        step.commit()?;
        Ok(())
    }

    /// Marks the connections that an earlier `serve` left open as ended when they were last heard.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn end_all(&mut self) -> Result<(), BookError> {
        let sql = "UPDATE endpoint SET ended_us = max(connected_us, coalesce(heard_us, 0))
                   WHERE ended_us IS NULL";
        self.connection.execute(sql, [])?;
        Ok(())
    }

    /// All endpoints that were heard, by id.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn heard(&self) -> Result<Vec<Heard>, BookError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM endpoint ORDER BY id")?;
        let found = query.query_map([], row::heard)?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// What an endpoint reported last of its configuration.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn reported(&self, endpoint: EndpointId) -> Result<Reported, BookError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM endpoint WHERE id = ?1")?;
        let found = query.query_row([endpoint.0], row::heard).optional()?;
        let heartbeat = found.and_then(|it| it.heartbeat);
        Ok(heartbeat.map_or(Reported::Unknown, |it| Reported::from(&it.health.configuration)))
    }

    /// What endpoints said that they are set to, by id.
    ///
    /// # Errors
    /// [`BookError::Step`].
    pub fn effective(&self) -> Result<Vec<(EndpointId, EffectiveConfiguration)>, BookError> {
        let mut query = self.connection.prepare_cached("SELECT * FROM effective ORDER BY id")?;
        let found = query.query_map([], row::effective)?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    fn step(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
