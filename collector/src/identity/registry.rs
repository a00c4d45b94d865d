//! The registry on disk: tokens, endpoints and the machines that spoke as them, in one SQLite file.
//!
//! It is the truth: `serve` and the commands beside it read and write the same file, each step in a transaction that
//! takes the write lock first, so that a token is used once however many ask at the same moment. What a step may do is
//! decided by [`token`](super::token) and [`standing`](super::standing). Times are microseconds since 1970.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roomtone_protocol::enroll::{BootId, TokenId};
use roomtone_protocol::id::EndpointId;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};

use super::refusal::Refusal;
use super::standing::{self, Boot, EndpointStanding, KeyFingerprint, Live, MACHINES_MAX, Machine};
use super::token::{self, TokenFacts};
use crate::private_file;

/// `PRAGMA application_id`: "RTMI".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"RTMI");
/// `PRAGMA user_version`. A file with a higher one is a later collector's.
const SCHEMA_VERSION: i32 = 1;
/// How long a step waits for another process.
const BUSY_WAIT: Duration = Duration::from_secs(5);

const CREATE: &str = "
CREATE TABLE token (
  id BLOB PRIMARY KEY, secret_hash BLOB NOT NULL, site TEXT NOT NULL,
  uses_max INTEGER NOT NULL, uses INTEGER NOT NULL,
  created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, revoked_us INTEGER
) STRICT;
CREATE TABLE endpoint (
  id BLOB PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, token BLOB NOT NULL,
  key BLOB NOT NULL, key_seen INTEGER NOT NULL, key_before BLOB, serial BLOB NOT NULL,
  enrolled_us INTEGER NOT NULL, issued_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,
  revoked_us INTEGER, boot BLOB, cloned_us INTEGER
) STRICT;
CREATE TABLE machine (
  endpoint BLOB NOT NULL, boot BLOB NOT NULL, remote TEXT NOT NULL, first_us INTEGER NOT NULL,
  PRIMARY KEY (endpoint, boot)
) STRICT;
";

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be opened or made.
    #[error("cannot use the registry {}: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A step was not done.
    #[error("the registry: {0}")]
    Step(#[from] rusqlite::Error),
}

/// What was issued, as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Its key.
    pub key: KeyFingerprint,
    /// Its serial number.
    pub serial: Vec<u8>,
    /// When it ends.
    pub expires_us: u64,
}

/// A Hello, as far as the registry judges it.
#[derive(Debug, Clone, Copy)]
pub struct Greeting<'a> {
    /// The key of the certificate.
    pub key: KeyFingerprint,
    /// The boot id, where one was told.
    pub boot: Option<BootId>,
    /// Where it came from.
    pub remote: &'a str,
    /// The other connection of the endpoint.
    pub live: Live,
}

/// An open registry.
#[derive(Debug)]
pub struct Registry {
    connection: Connection,
    reader: RegistryReader,
}

/// A second way into the file, which reads what was committed and waits for nobody who writes; cheap to clone.
#[derive(Debug, Clone)]
pub struct RegistryReader {
    connection: Arc<Mutex<Connection>>,
}

impl RegistryReader {
    /// One endpoint.
    ///
    /// # Errors
    /// [`RegistryError::Step`].
    pub fn endpoint(&self, id: EndpointId) -> Result<Option<EndpointStanding>, RegistryError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(endpoint(&connection, id)?)
    }
}

impl Registry {
    /// Opens the file, making it and its folder where they are missing: a token may be made before `serve` has run.
    /// Only their owner may read them.
    ///
    /// # Errors
    /// [`RegistryError::Open`] where the path cannot be used or the file is something else.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let open = |reason: String| RegistryError::Open { path: path.to_owned(), reason };
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            private_file::make_folder(folder).map_err(|error| open(error.to_string()))?;
        }
        match File::options().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => private_file::give_to_folder_owner(path).map_err(|e| open(e.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(open(error.to_string())),
        }
        let sqlite = |error: rusqlite::Error| open(error.to_string());
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;",
            )
            .map_err(sqlite)?;
        let step =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let pragma = |name: &str| -> Result<i32, RegistryError> {
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
            _ => return Err(open("it is no registry of roomtone".to_owned())),
        }
        step.commit().map_err(sqlite)?;
        // It may still wait for whoever recovers the log after a crash.
        let reading = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let reading = reading.map_err(sqlite)?;
        reading.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
        reading.execute_batch("PRAGMA trusted_schema = OFF;").map_err(sqlite)?;
        let reader = RegistryReader { connection: Arc::new(Mutex::new(reading)) };
        Ok(Self { connection, reader })
    }

    /// The way in for those who only read.
    #[must_use]
    pub fn reader(&self) -> RegistryReader {
        self.reader.clone()
    }

    /// All tokens, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Step`], as all below.
    pub fn tokens(&self) -> Result<Vec<TokenFacts>, RegistryError> {
        let sql = "SELECT * FROM token ORDER BY created_us DESC, id";
        let mut query = self.connection.prepare_cached(sql)?;
        let found = query.query_map([], token_of)?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// Adds a token.
    pub fn add_token(&mut self, token: &TokenFacts) -> Result<(), RegistryError> {
        self.connection.execute(
            "INSERT INTO token VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                token.id.0,
                token.secret_hash,
                token.site,
                token.uses_max,
                token.uses,
                stored(token.created_us),
                stored(token.expires_us),
                token.revoked_us.map(stored),
            ],
        )?;
        Ok(())
    }

    /// Takes a token back; whether there is such a token.
    pub fn revoke_token(&mut self, id: TokenId, now_us: u64) -> Result<bool, RegistryError> {
        let sql = "UPDATE token SET revoked_us = coalesce(revoked_us, ?2) WHERE id = ?1";
        Ok(self.connection.execute(sql, params![id.0, stored(now_us)])? > 0)
    }

    /// All endpoints, by name.
    pub fn endpoints(&self) -> Result<Vec<EndpointStanding>, RegistryError> {
        let mut query =
            self.connection.prepare_cached("SELECT * FROM endpoint ORDER BY name, id")?;
        let found = query.query_map([], endpoint_of)?.collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// One endpoint.
    pub fn endpoint(&self, id: EndpointId) -> Result<Option<EndpointStanding>, RegistryError> {
        Ok(endpoint(&self.connection, id)?)
    }

    /// The machines that spoke as an endpoint, oldest first.
    pub fn machines(&self, id: EndpointId) -> Result<Vec<Machine>, RegistryError> {
        Ok(machines(&self.connection, id)?)
    }

    /// Takes an identity back; whether there is such an endpoint.
    pub fn revoke_endpoint(&mut self, id: EndpointId, now_us: u64) -> Result<bool, RegistryError> {
        let sql = "UPDATE endpoint SET revoked_us = coalesce(revoked_us, ?2) WHERE id = ?1";
        Ok(self.connection.execute(sql, params![id.0, stored(now_us)])? > 0)
    }

    /// Gives an endpoint another name; whether there is such an endpoint.
    pub fn rename_endpoint(&mut self, id: EndpointId, name: &str) -> Result<bool, RegistryError> {
        let sql = "UPDATE endpoint SET name = ?2 WHERE id = ?1";
        Ok(self.connection.execute(sql, params![id.0, name])? > 0)
    }

    /// Forgets the machines of an endpoint and that it was cloned: the next one that connects holds it.
    pub fn clear_endpoint(&mut self, id: EndpointId) -> Result<bool, RegistryError> {
        let step = self.step()?;
        step.execute("DELETE FROM machine WHERE endpoint = ?1", [id.0])?;
        let sql = "UPDATE endpoint SET boot = NULL, cloned_us = NULL WHERE id = ?1";
        let found = step.execute(sql, [id.0])? > 0;
        step.commit()?;
        Ok(found)
    }

    /// Uses a token once, for the endpoint that `issue` makes a certificate for.
    ///
    /// Token and endpoint change together or not at all.
    pub fn enroll<T>(
        &mut self,
        (id, secret_hash): (TokenId, &[u8; 32]),
        endpoint: EndpointId,
        name: &str,
        now_us: u64,
        issue: impl FnOnce() -> Result<(NewCertificate, T), Refusal>,
    ) -> Result<Result<T, Refusal>, RegistryError> {
        let step = self.step()?;
        let sql = "SELECT * FROM token WHERE id = ?1";
        let found = step.query_row(sql, [id.0], token_of).optional()?;
        let issued = token::judge(found.as_ref(), secret_hash, now_us).and_then(|()| issue());
        let (certificate, result) = match issued {
            Ok(issued) => issued,
            Err(refusal) => return Ok(Err(refusal)),
        };
        step.execute("UPDATE token SET uses = uses + 1 WHERE id = ?1", [id.0])?;
        step.execute(
            "INSERT INTO endpoint VALUES (?1, ?2, ?3, ?4, ?5, 0, NULL, ?6, ?7, ?7, ?8, NULL, NULL, NULL)",
            params![
                endpoint.0,
                name,
                found.map(|it| it.site).unwrap_or_default(),
                id.0,
                certificate.key.0,
                certificate.serial,
                stored(now_us),
                stored(certificate.expires_us),
            ],
        )?;
        step.commit()?;
        Ok(Ok(result))
    }

    /// Notes the next certificate of an endpoint, which `issue` makes.
    pub fn renew<T>(
        &mut self,
        id: EndpointId,
        now_us: u64,
        issue: impl FnOnce(&EndpointStanding) -> Result<(NewCertificate, T), Refusal>,
    ) -> Result<Result<T, Refusal>, RegistryError> {
        let step = self.step()?;
        let issued = match endpoint(&step, id)? {
            None => Err(Refusal::UnknownEndpoint),
            Some(known) if known.revoked_us.is_some() => Err(Refusal::Revoked),
            Some(known) => issue(&known),
        };
        let (certificate, result) = match issued {
            Ok(issued) => issued,
            Err(refusal) => return Ok(Err(refusal)),
        };
        step.execute(
            "UPDATE endpoint SET
               key_before = CASE WHEN key_seen AND key <> ?2 THEN key ELSE key_before END,
               key_seen = key_seen AND key = ?2, key = ?2,
               serial = ?3, issued_us = ?4, expires_us = ?5 WHERE id = ?1",
            params![
                id.0,
                certificate.key.0,
                certificate.serial,
                stored(now_us),
                stored(certificate.expires_us)
            ],
        )?;
        step.commit()?;
        Ok(Ok(result))
    }

    /// Judges a Hello and keeps what it tells; `None` where the endpoint is not in the registry. Only what is new is
    /// written, so that a fleet that reconnects writes nothing.
    pub fn greet(
        &mut self,
        id: EndpointId,
        greeting: Greeting<'_>,
        now_us: u64,
    ) -> Result<Option<Result<Boot, Refusal>>, RegistryError> {
        let Some(known) = endpoint(&self.connection, id)? else { return Ok(None) };
        let machines = machines(&self.connection, id)?;
        if known.revoked_us.is_some() {
            return Ok(Some(Err(Refusal::Revoked)));
        }
        let verdict = standing::judge_boot(&known, &machines, greeting.boot, greeting.live);
        let is_new_key = known.key == greeting.key && !known.key_seen;
        if is_new_key && matches!(verdict, Boot::Holder | Boot::NewLife) {
            let sql = "UPDATE endpoint SET key_seen = 1 WHERE id = ?1 AND key = ?2";
            self.connection.execute(sql, params![id.0, greeting.key.0])?;
        }
        if let Some(boot) = greeting.boot {
            let machine = Machine { boot, remote: greeting.remote.to_owned(), first_us: now_us };
            match verdict {
                Boot::NewLife => self.hand_over(id, &machine)?,
                Boot::SecondMachine => self.mark_cloned(id, &machine, now_us)?,
                Boot::Cloned if !machines.iter().any(|it| it.boot == boot) => {
                    self.mark_cloned(id, &machine, now_us)?;
                }
                Boot::Holder | Boot::InUse | Boot::Cloned => {}
            }
        }
        Ok(Some(Ok(verdict)))
    }

    /// Marks an endpoint as used by a second machine; the holder stays.
    pub fn mark_cloned(
        &mut self,
        id: EndpointId,
        second: &Machine,
        now_us: u64,
    ) -> Result<(), RegistryError> {
        let step = self.step()?;
        let sql = "UPDATE endpoint SET cloned_us = coalesce(cloned_us, ?2) WHERE id = ?1";
        step.execute(sql, params![id.0, stored(now_us)])?;
        remember(&step, id, second)?;
        step.commit()?;
        Ok(())
    }

    fn hand_over(&mut self, id: EndpointId, machine: &Machine) -> Result<(), RegistryError> {
        let step = self.step()?;
        let sql = "UPDATE endpoint SET boot = ?2 WHERE id = ?1";
        step.execute(sql, params![id.0, machine.boot.0])?;
        remember(&step, id, machine)?;
        step.commit()?;
        Ok(())
    }

    fn step(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }
}

/// Keeps a machine; beyond [`MACHINES_MAX`] the oldest that does not hold the identity is forgotten.
fn remember(step: &Transaction<'_>, id: EndpointId, machine: &Machine) -> rusqlite::Result<()> {
    step.execute(
        "INSERT INTO machine VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET remote = excluded.remote",
        params![id.0, machine.boot.0, machine.remote, stored(machine.first_us)],
    )?;
    step.execute(
        "DELETE FROM machine WHERE endpoint = ?1
           AND boot IS NOT (SELECT boot FROM endpoint WHERE id = ?1)
           AND boot NOT IN (SELECT boot FROM machine WHERE endpoint = ?1
                            ORDER BY first_us DESC, rowid DESC LIMIT ?2)",
        params![id.0, MACHINES_MAX as i64],
    )?;
    Ok(())
}

fn endpoint(connection: &Connection, id: EndpointId) -> rusqlite::Result<Option<EndpointStanding>> {
    let mut query = connection.prepare_cached("SELECT * FROM endpoint WHERE id = ?1")?;
    query.query_row([id.0], endpoint_of).optional()
}

fn machines(connection: &Connection, id: EndpointId) -> rusqlite::Result<Vec<Machine>> {
    let sql = "SELECT * FROM machine WHERE endpoint = ?1 ORDER BY first_us, rowid";
    let mut query = connection.prepare_cached(sql)?;
    let machine = |row: &Row<'_>| {
        Ok(Machine {
            boot: BootId(row.get("boot")?),
            remote: row.get("remote")?,
            first_us: read(row, "first_us")?,
        })
    };
    query.query_map([id.0], machine)?.collect()
}

fn token_of(row: &Row<'_>) -> rusqlite::Result<TokenFacts> {
    Ok(TokenFacts {
        id: TokenId(row.get("id")?),
        secret_hash: row.get("secret_hash")?,
        site: row.get("site")?,
        uses_max: row.get("uses_max")?,
        uses: row.get("uses")?,
        created_us: read(row, "created_us")?,
        expires_us: read(row, "expires_us")?,
        revoked_us: read_option(row, "revoked_us")?,
    })
}

fn endpoint_of(row: &Row<'_>) -> rusqlite::Result<EndpointStanding> {
    Ok(EndpointStanding {
        endpoint: EndpointId(row.get("id")?),
        name: row.get("name")?,
        site: row.get("site")?,
        key: KeyFingerprint(row.get("key")?),
        key_seen: row.get("key_seen")?,
        key_before: row.get::<_, Option<[u8; 32]>>("key_before")?.map(KeyFingerprint),
        serial: row.get("serial")?,
        enrolled_us: read(row, "enrolled_us")?,
        issued_us: read(row, "issued_us")?,
        expires_us: read(row, "expires_us")?,
        revoked_us: read_option(row, "revoked_us")?,
        boot: row.get::<_, Option<[u8; 16]>>("boot")?.map(BootId),
        cloned_us: read_option(row, "cloned_us")?,
    })
}

/// SQLite's integers are signed; a moment beyond 292,000 years is the last one.
fn stored(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn read_option(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|us| u64::try_from(us).unwrap_or(0)))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
