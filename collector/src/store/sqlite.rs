//! The embedded store: one SQLite file per UTC day of receipt, so that one commit touches one file and retention is
//! an unlink.
//!
//! Invariants: the watermark is written in the same transaction as the rows that it speaks of; `synchronous = FULL`
//! in WAL mode, so a returned commit is on disk; one process writes (a lock on `lock`), any number read. A file that
//! is damaged or a later collector's is renamed to `.quarantine`, told once, and the store goes on with the state of
//! the newest file left; what was lost with it shows as missing records. A file that is removed while in use is no
//! store any more, whatever the engine says: nothing is acked from it and a new one is begun. The layout is in
//! `sqlite/schema.rs`.

mod day;
mod read;
mod schema;
mod write;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use roomtone_protocol::ack::Ack;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

pub use self::read::{CallPlace, SqliteReader};

use self::day::Day;
use self::schema::Fitness;
use super::{Operation, Store, StoreError};

/// The writing side of a directory of day files.
#[derive(Debug)]
pub struct SqliteStore {
    directory: PathBuf,
    retention_days: u32,
    /// The latest day that was begun: an earlier one never comes back.
    day: Day,
    /// `None` only after a file was set aside and the next could not be begun; the next commit tries again.
    current: Option<Current>,
    /// Held for as long as this store lives; the kernel lets go of it when the process dies.
    lock: File,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    connection: Connection,
    generation: i64,
    /// Device and inode, by which a file that was removed or replaced is told.
    identity: (u64, u64),
}

impl SqliteStore {
    /// Opens the store in `directory`, making it where it is missing, and expires what is older than the retention.
    ///
    /// `now_us` is the wall clock in microseconds since 1970; `retention_days` counts whole days before today.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another collector writes there, [`StoreError::Open`] where the directory or its
    /// newest file cannot be used, [`StoreError::Write`] where the day cannot begin.
    pub fn open(directory: &Path, retention_days: u32, now_us: u64) -> Result<Self, StoreError> {
        make_private(directory)?;
        let lock = lock_exclusive(directory)?;
        set_aside_unfit(directory)?;
        let day = Day::of(now_us);
        expire(directory, retention_days, day);
        let mut store =
            Self { directory: directory.to_owned(), retention_days, day, current: None, lock };
        let nobody_is_connected = |connection: &mut Connection| {
            connection.execute("UPDATE endpoint SET connected = 0 WHERE connected <> 0", [])
        };
        match store.write(nobody_is_connected) {
            // The damaged file is out of the way now.
            Err(StoreError::Damaged { .. }) => store.write(nobody_is_connected)?,
            other => other?,
        };
        Ok(store)
    }

    /// Moves on to the day of `received_us`. A wall clock that steps back does not bring an earlier day back.
    fn roll(&mut self, received_us: u64) -> Result<(), StoreError> {
        let day = Day::of(received_us);
        if day <= self.day {
            return Ok(());
        }
        let before = self.current.as_ref().map(|it| (it.path.clone(), it.generation));
        let next = begin_day(&self.directory, day, horizon_us(self.retention_days, day), before)?;
        self.day = day;
        if let Some(ended) = self.current.replace(next) {
            seal(&ended);
        }
        expire(&self.directory, self.retention_days, day);
        Ok(())
    }

    /// Writes to the current day; a file that turns out damaged is set aside and the day begins anew.
    fn write<T>(
        &mut self,
        write: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(begin_day(
                &self.directory,
                self.day,
                horizon_us(self.retention_days, self.day),
                None,
            )?),
        };
        match write(&mut current.connection) {
            // After the commit: SQLite goes on writing to a file that has no name any more.
            Ok(written) if identity(&current.path).is_ok_and(|it| it == current.identity) => {
                Ok(written)
            }
            Ok(_) => {
                let path = current.path.clone();
                self.current = None;
                make_private(&self.directory)?;
                if !self.directory.join(LOCK_FILE).exists() {
                    self.lock = lock_exclusive(&self.directory)?;
                }
                Err(StoreError::Vanished { path })
            }
            Err(source) if is_damage(&source) => {
                let path = current.path.clone();
                // Closed before it is renamed: SQLite unlinks a log by its name, and that name is the next file's.
                self.current = None;
                quarantine(&path, &source.to_string())?;
                Err(StoreError::Damaged { path })
            }
            Err(source) => Err(write_error(&current.path, source)),
        }
    }
}

impl Store for SqliteStore {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        self.roll(received_us)?;
        self.write(|connection| write::commit(connection, operations, received_us))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Some(current) = &self.current {
            seal(current);
        }
    }
}

/// Makes the directory where it is missing, closed to others: the store holds names and addresses.
fn make_private(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(|source| open_error(directory, source))
}

/// How long to wait for a reader that looks at the lock at this very moment, or for a predecessor that still exits.
const LOCK_WAIT: Duration = Duration::from_secs(1);

fn lock_exclusive(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| open_error(&path, source))?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(open_error(&path, source)),
            Err(fs::TryLockError::WouldBlock) if since.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { directory: directory.to_owned() });
            }
        }
    }
}

const LOCK_FILE: &str = "lock";

/// Sets aside every day file that this collector must not or cannot read.
fn set_aside_unfit(directory: &Path) -> Result<(), StoreError> {
    let days = day::list(directory).map_err(|source| open_error(directory, source))?;
    for (_, path) in days {
        let reason = match open_writable(&path).and_then(|it| schema::fitness(&it)) {
            Ok(Fitness::Fit(_) | Fitness::Empty) => continue,
            Ok(Fitness::Newer(version)) => {
                format!("it has schema {version}, this collector knows {}", schema::SCHEMA_VERSION)
            }
            Ok(Fitness::Foreign) => "it is not a day file".to_owned(),
            Err(source) if is_damage(&source) => source.to_string(),
            Err(source) => return Err(open_error(&path, source)),
        };
        quarantine(&path, &reason)?;
    }
    Ok(())
}

fn quarantine(path: &Path, reason: &str) -> Result<(), StoreError> {
    let aside = day::set_aside(path).map_err(|source| open_error(path, source))?;
    tracing::warn!(file = %aside.display(), reason, "set a day file aside");
    Ok(())
}

/// Opens the file of a day and, where another file is ahead of it, carries the state over from there.
///
/// `before` is the file in use until now and its generation; without it the directory is searched.
fn begin_day(
    directory: &Path,
    day: Day,
    horizon_us: u64,
    before: Option<(PathBuf, i64)>,
) -> Result<Current, StoreError> {
    let path = day.file(directory);
    let opened = match open_day(&path) {
        Err(source) if is_damage(&source) => {
            quarantine(&path, &source.to_string())?;
            open_day(&path)
        }
        opened => opened,
    };
    let (mut connection, mut generation) = opened.map_err(|source| open_error(&path, source))?;
    let ahead = match before {
        Some(before) => vec![before],
        None => files_ahead(directory, &path, generation)?,
    };
    for (source, ahead_generation) in ahead {
        match carry_over(&mut connection, &source, horizon_us, ahead_generation + 1) {
            Ok(()) => {
                generation = ahead_generation + 1;
                break;
            }
            Err(error) => {
                tracing::warn!(file = %source.display(), %error, "cannot take the state of a day file");
            }
        }
    }
    if generation == 0 {
        connection
            .execute("UPDATE file SET generation = 1", [])
            .map_err(|source| write_error(&path, source))?;
        generation = 1;
    }
    let identity = identity(&path).map_err(|source| open_error(&path, source))?;
    Ok(Current { path, connection, generation, identity })
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|it| (it.dev(), it.ino()))
}

/// Opens a day file for writing, making its tables where there are none or bringing those of an earlier schema up to
/// date, and reads its generation.
fn open_day(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let mut connection = open_writable(path)?;
    connection.execute_batch(schema::WRITER_PRAGMAS)?;
    let upgrades = match schema::fitness(&connection)? {
        Fitness::Empty => None,
        Fitness::Fit(version) => schema::UPGRADES.get(version as usize - 1..),
        // `set_aside_unfit` was here before; whoever put such a file here since is heard at the first statement.
        Fitness::Newer(_) | Fitness::Foreign => Some(&[][..]),
    };
    if upgrades.is_none_or(|upgrades| !upgrades.is_empty()) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match upgrades {
            None => {
                transaction.execute_batch(schema::CREATE)?;
                transaction.execute("INSERT INTO file (generation) VALUES (0)", [])?;
                transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
            }
            Some(upgrades) => {
                upgrades.iter().try_for_each(|upgrade| transaction.execute_batch(upgrade))?;
            }
        }
        transaction.pragma_update(None, "user_version", schema::SCHEMA_VERSION)?;
        transaction.commit()?;
    }
    let generation = schema::generation(&connection)?;
    Ok((connection, generation))
}

/// The fit files of a higher generation, highest first.
fn files_ahead(
    directory: &Path,
    than: &Path,
    generation: i64,
) -> Result<Vec<(PathBuf, i64)>, StoreError> {
    let days = day::list(directory).map_err(|source| open_error(directory, source))?;
    let mut ahead: Vec<(PathBuf, i64)> = days
        .into_iter()
        .filter(|(_, path)| path != than)
        .filter_map(|(_, path)| {
            let connection = open_writable(&path).ok()?;
            let found = schema::generation(&connection).ok()?;
            (found > generation).then_some((path, found))
        })
        .collect();
    ahead.sort_unstable_by_key(|(_, generation)| std::cmp::Reverse(*generation));
    Ok(ahead)
}

fn carry_over(
    connection: &mut Connection,
    before: &Path,
    horizon_us: u64,
    generation: i64,
) -> rusqlite::Result<()> {
    connection.execute("ATTACH ?1 AS before", [before.to_string_lossy()])?;
    let copied = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statement in schema::CARRY_OVER {
            let mut statement = transaction.prepare(statement)?;
            match statement.parameter_count() {
                0 => statement.execute([])?,
                1 => statement.execute([horizon_us as i64])?,
                _ => statement.execute(params![horizon_us as i64, generation])?,
            };
        }
        transaction.commit()
    })();
    connection.execute("DETACH before", [])?;
    copied
}

/// Folds the log into its file, so that those who may not write here can read it as one plain file.
fn seal(ended: &Current) {
    let sealed = ended
        .connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;");
    if let Err(error) = sealed {
        tracing::debug!(file = %ended.path.display(), %error, "a reader keeps a day file open");
    }
}

/// A collector whose newest day is further back has a wrong clock rather than a year of rest.
const JUMP_DAYS: u32 = 366;

fn expire(directory: &Path, retention_days: u32, today: Day) {
    let newest = day::list(directory)
        .ok()
        .and_then(|days| days.into_iter().map(|(day, _)| day).filter(|day| *day < today).max());
    if let Some(newest) = newest.filter(|newest| today.0 - newest.0 > JUMP_DAYS) {
        tracing::error!(%today, %newest, "is the clock right? nothing expires on a day this far behind the last one");
        return;
    }
    let horizon = Day(today.0.saturating_sub(retention_days));
    match day::expire(directory, horizon) {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, before = %horizon, "expired day files"),
        Err(error) => tracing::warn!(%error, "cannot expire day files"),
    }
}

fn horizon_us(retention_days: u32, today: Day) -> u64 {
    Day(today.0.saturating_sub(retention_days)).start_us()
}

fn open_writable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// How long to wait for a reader that recovers or seals a file; readers never hold a write lock for longer.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// More than the statements of `write.rs` and `read.rs` together, so that none is compiled twice.
const STATEMENTS_MAX: usize = 64;

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn open_error(
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Open { path: path.to_owned(), source: source.into() }
}

fn write_error(path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Write { path: path.to_owned(), source: source.into() }
}
