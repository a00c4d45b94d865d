//! What one file knows of the legs of a call.

use heapless::Vec as Row;
use roomtone_protocol::id::LegNumber;
use roomtone_protocol::interval::{IntervalPack, LegIntervals};
use roomtone_protocol::media::{LegOpened, LegSummary, RttSummary, StreamKey, StreamSummary};
use rusqlite::{Connection, params};

use super::row::{read_code, read_id, read_parsed, read_stamp, unreadable};
use crate::call::{CallFacts, Told};
use crate::store::code::unpack_streams;

/// The most legs of one call that are read: a Teams call has at most a few; a re-ICE storm has dozens.
const LEGS_MAX: i64 = 1_024;
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
    key: i64,
    facts: &mut CallFacts,
) -> rusqlite::Result<()> {
    let call = facts.call;
    let mut statement = connection.prepare_cached(
        "SELECT epoch, sequence, leg, first, started_wall_ms, count, streams, pack FROM leg_interval \
         WHERE endpoint = ?1 AND call = ?2 LIMIT ?3",
    )?;
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
            heard: None,
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
    key: i64,
    facts: &mut CallFacts,
) -> rusqlite::Result<()> {
    let call = facts.call;
    let mut statement = connection.prepare_cached(
        "SELECT epoch, sequence, leg, closed_wall_us, closed_uptime_us, rtt_count, rtt_unanswered, rtt_min_dms, \
         rtt_mean_dms, rtt_max_dms, rtt_last_dms, tap_dropped FROM leg_summary \
         WHERE endpoint = ?1 AND call = ?2 LIMIT ?3",
    )?;
    let summaries = statement.query_map(params![key, call.0 as i64, LEGS_MAX], |row| {
        Ok(Told {
            by: read_id(row, 0)?,
            value: LegSummary {
                call,
                leg: LegNumber(row.get(2)?),
                closed: read_stamp(row, 3)?,
                rtt: RttSummary {
                    count: row.get(5)?,
                    unanswered: row.get(6)?,
                    min_dms: row.get(7)?,
                    mean_dms: row.get(8)?,
                    max_dms: row.get(9)?,
                    last_dms: row.get(10)?,
                },
                tap_dropped: row.get::<_, i64>(11)? as u64,
                streams: Row::new(),
                heard: None,
                markings: None,
                reported: None,
                reflexive: None,
            },
        })
    })?;
    for told in summaries {
        let mut told = told?;
        read_streams(connection, key, &mut told.value)?;
        let leg = told.value.leg.0;
        facts.leg(leg).summary = Some(told);
    }
    Ok(())
}

fn read_streams(
    connection: &Connection,
    key: i64,
    summary: &mut LegSummary,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT ssrc, direction, media, payload_types, clock_rate_hz, clock_rate_source, first_us, last_us, received, \
         expected, lost, duplicate, reordered, sequence_restarts, jitter_mean_dms, jitter_max_dms, jitter_last_dms \
         FROM stream_summary WHERE endpoint = ?1 AND call = ?2 AND leg = ?3 ORDER BY position",
    )?;
    let of_leg = params![key, summary.call.0 as i64, summary.leg.0];
    let streams = statement.query_map(of_leg, |row| {
        let count = |column: usize| row.get::<_, i64>(column).map(|it| it as u64);
        Ok(StreamSummary {
            key: StreamKey {
                ssrc: row.get::<_, u32>(0)?.to_le_bytes(),
                direction: read_code(row, 1)?,
                media: read_code(row, 2)?,
            },
            payload_types: Row::from_slice(row.get_ref(3)?.as_blob()?)
                .map_err(|_| unreadable(row, 3))?,
            clock_rate_hz: row.get(4)?,
            clock_rate_source: read_code(row, 5)?,
            first_us: count(6)?,
            last_us: count(7)?,
            received: count(8)?,
            expected: count(9)?,
            lost: count(10)?,
            duplicate: count(11)?,
            reordered: count(12)?,
            sequence_restarts: row.get(13)?,
            jitter_mean_dms: row.get(14)?,
            jitter_max_dms: row.get(15)?,
            jitter_last_dms: row.get(16)?,
        })
    })?;
    for stream in streams {
        // The wire holds no more streams than fit here; a file with more was not written by us.
        if summary.streams.push(stream?).is_err() {
            break;
        }
    }
    Ok(())
}
