//! What one file knows of the legs of a call.

use heapless::Vec as Row;
use roomtone_protocol::id::LegNumber;
use roomtone_protocol::interval::{IntervalPack, LegIntervals};
use roomtone_protocol::media::{LegOpened, LegSummary};
use rusqlite::{Connection, params};

use super::super::schema;
use super::row::{read_code, read_id, read_optional_parsed, read_parsed, read_stamp, unreadable};
use super::stream::{read_heard, read_markings, read_reported, read_rtt, read_streams};
use crate::call::{CallFacts, Told};
use crate::store::code::{unpack_heard, unpack_streams};

/// The most legs of one call that are read: a Teams call has at most a few; a re-ICE storm has dozens.
pub(super) const LEGS_MAX: i64 = 1_024;
/// The most packs of one leg that are read from one day: a day has 8,640 intervals of 10 s.
const PACKS_MAX: i64 = 20_000;

pub(super) fn read_legs(
    connection: &Connection,
    key: i64,
    facts: &mut CallFacts,
) -> rusqlite::Result<()> {
    let call = facts.call;
    let mut statement = connection.prepare_cached(
        "SELECT epoch, sequence, leg, opened_wall_us, opened_uptime_us, local, remote, transport FROM leg \
         WHERE endpoint = ?1 AND call = ?2 LIMIT ?3",
    )?;
    let legs = statement.query_map(params![key, call.0 as i64, LEGS_MAX], |row| {
        Ok(Told {
            by: read_id(row, 0)?,
            value: LegOpened {
                call,
                leg: LegNumber(row.get(2)?),
                opened: read_stamp(row, 3)?,
                local: read_parsed(row, 5)?,
                remote: read_parsed(row, 6)?,
                transport: read_code(row, 7)?,
            },
        })
    })?;
    for told in legs {
        let told = told?;
        facts.leg(told.value.leg.0).opened = Some(told);
    }
    Ok(())
}

pub(super) fn read_intervals(
    connection: &Connection,
    version: i32,
    key: i64,
    facts: &mut CallFacts,
) -> rusqlite::Result<()> {
    let call = facts.call;
    let heard = schema::columns_since(schema::HEARD_SINCE, version, "heard");
    let mut statement = connection.prepare_cached(&format!(
        "SELECT epoch, sequence, leg, first, started_wall_ms, count, streams, pack, {heard} FROM leg_interval \
         WHERE endpoint = ?1 AND call = ?2 LIMIT ?3"
    ))?;
    let packs = statement.query_map(params![key, call.0 as i64, PACKS_MAX], |row| {
        let streams = unpack_streams(row.get_ref(6)?.as_blob()?)
            .and_then(|streams| Row::from_slice(&streams).ok())
            .ok_or_else(|| unreadable(row, 6))?;
        let pack = IntervalPack::from_parts(row.get(5)?, row.get_ref(7)?.as_blob()?, streams.len())
            .ok_or_else(|| unreadable(row, 7))?;
        let intervals = LegIntervals {
            call,
            leg: LegNumber(row.get(2)?),
            first: row.get(3)?,
            started_wall_ms: row.get::<_, i64>(4)? as u64,
            streams,
            pack,
            heard: row
                .get_ref(8)?
                .as_blob_or_null()?
                .map(|bytes| {
                    unpack_heard(bytes)
                        .and_then(|rows| Row::from_slice(&rows).ok())
                        .ok_or_else(|| unreadable(row, 8))
                })
                .transpose()?,
        };
        Ok((read_id(row, 0)?, intervals))
    })?;
    for pack in packs {
        let (by, pack) = pack?;
        facts.leg(pack.leg.0).handle_intervals(by, &pack);
    }
    Ok(())
}

pub(super) fn read_summaries(
    connection: &Connection,
    version: i32,
    key: i64,
    facts: &mut CallFacts,
) -> rusqlite::Result<()> {
    let call = facts.call;
    let added =
        schema::columns_since(schema::HEARD_SINCE, version, "heard, markings, reported, reflexive");
    let mut statement = connection.prepare_cached(&format!(
        "SELECT epoch, sequence, leg, closed_wall_us, closed_uptime_us, rtt_count, rtt_unanswered, rtt_min_dms, \
         rtt_mean_dms, rtt_max_dms, rtt_last_dms, tap_dropped, {added} FROM leg_summary \
         WHERE endpoint = ?1 AND call = ?2 LIMIT ?3"
    ))?;
    let summaries = statement.query_map(params![key, call.0 as i64, LEGS_MAX], |row| {
        Ok(Told {
            by: read_id(row, 0)?,
            value: LegSummary {
                call,
                leg: LegNumber(row.get(2)?),
                closed: read_stamp(row, 3)?,
                rtt: read_rtt(row, 5)?,
                tap_dropped: row.get::<_, i64>(11)? as u64,
                streams: Row::new(),
                heard: told(row, 12)?.then(Row::new),
                markings: told(row, 13)?.then(Row::new),
                reported: told(row, 14)?.then(Row::new),
                reflexive: read_optional_parsed(row, 15)?,
            },
        })
    })?;
    for summary in summaries {
        let mut told = summary?;
        read_streams(connection, key, &mut told.value)?;
        if version >= schema::HEARD_SINCE {
            read_heard(connection, key, &mut told.value)?;
            read_markings(connection, key, &mut told.value)?;
            read_reported(connection, key, &mut told.value)?;
        }
        let leg = told.value.leg.0;
        facts.leg(leg).summary = Some(told);
    }
    Ok(())
}

/// Whether a list was told at all: its count stands there.
fn told(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<bool> {
    Ok(row.get::<_, Option<i64>>(column)?.is_some())
}
