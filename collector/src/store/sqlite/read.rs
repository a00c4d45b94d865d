//! Reading day files, beside a collector that writes them or without one.
//!
//! Every answer is put together from all files that can be read; one that cannot is told and left out. Files are
//! opened read-only for each question, so that a reader never keeps a day from being sealed or unlinked.

mod call;
mod environment;
mod leg;
mod row;
mod scan;
mod stream;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use roomtone_protocol::device::{DeviceEpisode, SelfTest};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, RecordId};
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::path::PathInterval;
use rusqlite::{Connection, OpenFlags, params};

pub use self::scan::CallPlace;

use self::call::{EPISODE, read_call, read_episode};
use self::environment::{hosts, networks, paths, read_host, read_network, read_path};
use self::row::{read_code, read_id, read_stamp, read_text};
use super::day::{self, Day};
use super::schema::{self, Fitness};
use super::{BUSY_WAIT, LOCK_FILE, STATEMENTS_MAX, open_error};
use crate::call::{CallFacts, Told, tell};
use crate::store::code::Code;
use crate::store::rollup::HourTotals;
use crate::store::{
    EndpointFacts, LinkTransport, OpaqueReason, OpaqueRecord, RecordCounts, SelfTestFacts,
    StoreError, StoreReader, latest_self_tests,
};

/// The most episodes of all endpoints that are read from one day: fifty of each of 2,000.
const EPISODES_OF_ALL_MAX: i64 = 100_000;
/// The most rows of host, path and unread records that are read of one endpoint and day.
const ROWS_MAX: i64 = 20_000;

/// Reads a directory of day files.
#[derive(Debug)]
pub struct SqliteReader {
    directory: PathBuf,
    /// Files that were found unreadable and told of.
    told: RefCell<BTreeSet<PathBuf>>,
}

impl SqliteReader {
    /// Reads the store in `directory`.
    ///
    /// # Errors
    /// [`StoreError::Open`] where there is no such directory.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        day::list(directory).map_err(|source| open_error(directory, source))?;
        Ok(Self { directory: directory.to_owned(), told: RefCell::default() })
    }

    /// Whether a collector writes there now.
    fn has_writer(&self) -> bool {
        File::open(self.directory.join(LOCK_FILE))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Puts one question to every readable file from `since` on, oldest first.
    fn ask<T>(
        &self,
        since: Day,
        mut question: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.ask_each(since, |connection, _schema| question(connection))
    }

    /// As [`ask`](Self::ask), for a question that depends on the file's schema version.
    fn ask_each<T>(
        &self,
        since: Day,
        mut question: impl FnMut(&Connection, i32) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let days =
            day::list(&self.directory).map_err(|source| open_error(&self.directory, source))?;
        let mut answers = Vec::new();
        for (_, path) in days.into_iter().filter(|(day, _)| *day >= since) {
            let answer = open_readable(&path).and_then(|connection| {
                let Fitness::Fit(version) = schema::fitness(&connection)? else {
                    return Ok(None);
                };
                // One transaction, so that the statements of a question see one moment.
                connection.execute_batch("BEGIN")?;
                question(&connection, version).map(Some)
            });
            match answer {
                Ok(Some(answer)) => answers.push(answer),
                // Just being made, or set aside at the next start.
                Ok(None) => {}
                // Unlinked by retention between the listing and now.
                Err(_) if !path.exists() => {}
                Err(error) => {
                    if self.told.borrow_mut().insert(path.clone()) {
                        tracing::warn!(file = %path.display(), %error, "left out an unreadable day file");
                    }
                }
            }
        }
        Ok(answers)
    }

    fn facts(&self, endpoint: EndpointId, call: CallId) -> Result<Option<CallFacts>, StoreError> {
        let found = self.ask_each(Day(0), |connection, version| {
            read_call(connection, version, endpoint, call)
        })?;
        Ok(found.into_iter().flatten().reduce(|mut facts, later| {
            facts.merge(later);
            facts
        }))
    }

    /// Collects rows of one endpoint from all files into one map; the latest file wins. `sql` is asked by schema
    /// version and has none for a version without such rows.
    fn rows<K: Ord, V>(
        &self,
        endpoint: EndpointId,
        sql: impl Fn(i32) -> Option<String>,
        read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(K, V)>,
    ) -> Result<BTreeMap<K, V>, StoreError> {
        let days = self.ask_each(Day(0), |connection, version| {
            let Some(sql) = sql(version) else {
                return Ok(Vec::new());
            };
            connection
                .prepare_cached(&sql)?
                .query_map(params![endpoint.0, ROWS_MAX], &read)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(days.into_iter().flatten().collect())
    }
}

impl StoreReader for SqliteReader {
    fn recent_calls(&self, since_us: u64, limit: usize) -> Result<Vec<CallFacts>, StoreError> {
        let found = self.ask(Day::of(since_us), |connection| {
            connection
                .prepare_cached(
                    "SELECT e.id, c.call, c.first_received_us FROM call AS c JOIN endpoint AS e ON e.key = c.endpoint \
                     WHERE c.last_received_us >= ?1 ORDER BY c.first_received_us DESC LIMIT ?2",
                )?
                .query_map(params![since_us as i64, limit as i64], |row| {
                    let call = CallId(row.get::<_, i64>(1)? as u64);
                    Ok(((EndpointId(row.get(0)?), call), row.get::<_, i64>(2)? as u64))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut firsts: BTreeMap<(EndpointId, CallId), u64> = BTreeMap::new();
        for (key, first) in found.into_iter().flatten() {
            firsts.entry(key).and_modify(|it| *it = first.min(*it)).or_insert(first);
        }
        let mut keys: Vec<_> = firsts.into_iter().collect();
        keys.sort_by_key(|&((endpoint, call), first)| (std::cmp::Reverse(first), endpoint, call));
        keys.truncate(limit);
        let mut calls = Vec::with_capacity(keys.len());
        for ((endpoint, call), _) in keys {
            calls.extend(self.facts(endpoint, call)?);
        }
        calls.sort_by_key(|it| (std::cmp::Reverse(it.first_received_us), it.endpoint, it.call));
        Ok(calls)
    }

    fn call(&self, call: CallId) -> Result<Vec<CallFacts>, StoreError> {
        let found = self.ask(Day(0), |connection| {
            connection
                .prepare_cached(
                    "SELECT e.id FROM call AS c JOIN endpoint AS e ON e.key = c.endpoint WHERE c.call = ?1",
                )?
                .query_map([call.0 as i64], |row| row.get(0).map(EndpointId))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let endpoints: BTreeSet<EndpointId> = found.into_iter().flatten().collect();
        let mut calls = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            calls.extend(self.facts(endpoint, call)?);
        }
        Ok(calls)
    }

    fn endpoints(&self) -> Result<Vec<EndpointFacts>, StoreError> {
        let has_writer = self.has_writer();
        let states = self.ask(Day(0), |connection| {
            Ok((schema::generation(connection)?, read_endpoints(connection, has_writer)?))
        })?;
        let Some((_, mut endpoints)) = states.into_iter().max_by_key(|(generation, _)| *generation)
        else {
            return Ok(Vec::new());
        };
        let calls = self.ask(Day(0), |connection| {
            connection
                .prepare_cached(
                    "SELECT e.id, c.call FROM call AS c JOIN endpoint AS e ON e.key = c.endpoint",
                )?
                .query_map([], |row| Ok((EndpointId(row.get(0)?), row.get::<_, i64>(1)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let calls: BTreeSet<(EndpointId, i64)> = calls.into_iter().flatten().collect();
        for endpoint in &mut endpoints {
            let id = endpoint.endpoint;
            endpoint.calls = calls.range((id, i64::MIN)..=(id, i64::MAX)).count() as u64;
        }
        Ok(endpoints)
    }

    fn episodes(
        &self,
        endpoint: Option<EndpointId>,
    ) -> Result<BTreeMap<(EndpointId, u64), Told<DeviceEpisode>>, StoreError> {
        let days = self.ask(Day(0), |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {EPISODE}, e.id FROM device_episode AS d JOIN endpoint AS e ON e.key = d.endpoint \
                     WHERE ?1 IS NULL OR e.id = ?1 LIMIT ?2"
                ))?
                .query_map(params![endpoint.map(|it| it.0), EPISODES_OF_ALL_MAX], |row| {
                    Ok((EndpointId(row.get(11)?), read_episode(row)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut episodes: BTreeMap<(EndpointId, u64), Told<DeviceEpisode>> = BTreeMap::new();
        for (endpoint, told) in days.into_iter().flatten() {
            let key = (endpoint, told.value.episode);
            let mut slot = episodes.remove(&key);
            tell(&mut slot, told);
            episodes.extend(slot.map(|told| (key, told)));
        }
        Ok(episodes)
    }

    fn hours(&self, endpoint: EndpointId) -> Result<BTreeMap<u64, HourTotals>, StoreError> {
        let days = self.ask_each(Day(0), |connection, version| {
            let added =
                schema::columns_since(schema::HEARD_SINCE, version, "heard_us, concealed_us");
            connection
                .prepare_cached(&format!(
                    "SELECT hour, legs, intervals, packets, lost, jitter_sum_dms, jitter_count, jitter_max_dms, \
                     rtt_sum_dms, rtt_count, rtt_max_dms, {added} FROM endpoint_hour WHERE \
                     endpoint = (SELECT key FROM endpoint WHERE id = ?1) LIMIT ?2"
                ))?
                .query_map(params![endpoint.0, ROWS_MAX], |row| {
                    Ok((
                        row.get::<_, i64>(0)? as u64,
                        HourTotals {
                            legs: row.get(1)?,
                            intervals: row.get(2)?,
                            packets: row.get(3)?,
                            lost: row.get(4)?,
                            jitter_sum_dms: row.get(5)?,
                            jitter_count: row.get(6)?,
                            jitter_max_dms: row.get(7)?,
                            rtt_sum_dms: row.get(8)?,
                            rtt_count: row.get(9)?,
                            rtt_max_dms: row.get(10)?,
                            heard_us: row.get::<_, Option<i64>>(11)?.unwrap_or(0),
                            concealed_us: row.get::<_, Option<i64>>(12)?.unwrap_or(0),
                        },
                    ))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut hours: BTreeMap<u64, HourTotals> = BTreeMap::new();
        for (hour, totals) in days.into_iter().flatten() {
            hours.entry(hour).or_default().add(&totals);
        }
        Ok(hours)
    }

    fn host_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, HostInterval>, StoreError> {
        self.rows(endpoint, |version| Some(hosts(version)), read_host)
    }

    fn path_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, PathInterval>, StoreError> {
        self.rows(endpoint, |version| Some(paths(version)), read_path)
    }

    fn networks(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, NetworkAttachment>, StoreError> {
        self.rows(endpoint, networks, read_network)
    }

    fn self_tests(
        &self,
        endpoint: Option<EndpointId>,
        since_us: u64,
        limit: usize,
    ) -> Result<Vec<SelfTestFacts>, StoreError> {
        let days = self.ask_each(Day::of(since_us), |connection, version| {
            if version < schema::SELF_TESTS_SINCE {
                return Ok(Vec::new());
            }
            connection
                .prepare_cached(
                    "SELECT t.epoch, t.sequence, e.id, t.received_us, t.ended_wall_us, t.ended_uptime_us, t.requested, \
                     t.capture, t.render, t.outcome, t.level_db_tenths, t.delay_us \
                     FROM self_test AS t JOIN endpoint AS e ON e.key = t.endpoint \
                     WHERE t.received_us >= ?1 AND (?2 IS NULL OR e.id = ?2) \
                     ORDER BY t.received_us DESC, t.epoch DESC, t.sequence DESC LIMIT ?3",
                )?
                .query_map(
                    params![since_us as i64, endpoint.map(|it| it.0), limit as i64],
                    read_self_test,
                )?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(latest_self_tests(days.into_iter().flatten().collect(), limit))
    }

    fn opaque_records(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, OpaqueRecord>, StoreError> {
        self.rows(
            endpoint,
            |_version| {
                let sql = "SELECT epoch, sequence, kind, reason, body FROM opaque_record WHERE \
                           endpoint = (SELECT key FROM endpoint WHERE id = ?1) LIMIT ?2";
                Some(sql.to_owned())
            },
            |row| {
                let body: Vec<u8> = row.get(4)?;
                let reason: OpaqueReason = read_code(row, 3)?;
                Ok((
                    read_id(row, 0)?,
                    OpaqueRecord { kind: row.get(2)?, reason, body: body.into_boxed_slice() },
                ))
            },
        )
    }
}

fn open_readable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

fn read_endpoints(
    connection: &Connection,
    has_writer: bool,
) -> rusqlite::Result<Vec<EndpointFacts>> {
    connection
        .prepare_cached(
            "SELECT id, name, agent_version, transport, remote, first_seen_us, last_seen_us, connected, \
             stored, unknown, refused, duplicate, \
             (SELECT coalesce(sum(reported_lost), 0) FROM watermark WHERE endpoint = key), \
             (SELECT coalesce(sum(closed_missing), 0) FROM watermark WHERE endpoint = key) + \
             (SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE endpoint = key) \
             FROM endpoint ORDER BY id",
        )?
        .query_map([], |row| {
            let transport: Option<u8> = row.get(3)?;
            let remote: Option<String> = row.get(4)?;
            let count = |column: usize| row.get::<_, i64>(column).map(|it| it as u64);
            Ok(EndpointFacts {
                endpoint: EndpointId(row.get(0)?),
                name: row.get(1)?,
                agent_version: row.get(2)?,
                link: transport
                    .and_then(LinkTransport::from_code)
                    .zip(remote.and_then(|it| it.parse().ok())),
                first_seen_us: count(5)?,
                last_seen_us: count(6)?,
                connected: has_writer && row.get::<_, i64>(7)? != 0,
                calls: 0,
                counts: RecordCounts {
                    stored: count(8)?,
                    unknown: count(9)?,
                    refused: count(10)?,
                    duplicate: count(11)?,
                    reported_lost: count(12)?,
                    missing: count(13)?,
                },
            })
        })?
        .collect()
}

fn read_self_test(row: &rusqlite::Row<'_>) -> rusqlite::Result<SelfTestFacts> {
    Ok(SelfTestFacts {
        endpoint: EndpointId(row.get(2)?),
        by: read_id(row, 0)?,
        received_us: row.get::<_, i64>(3)? as u64,
        test: SelfTest {
            ended: read_stamp(row, 4)?,
            requested: row.get(6)?,
            capture: read_text(row, 7)?,
            render: read_text(row, 8)?,
            outcome: read_code(row, 9)?,
            level_db_tenths: row.get(10)?,
            delay_us: row.get(11)?,
        },
    })
}
