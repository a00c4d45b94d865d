//! What one file knows of a call.

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary};
use roomtone_protocol::id::{CallId, EndpointId};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::schema;
use super::leg::{read_intervals, read_legs, read_summaries};
use super::row::{read_code, read_id, read_optional_ratio, read_ratio, read_stamp, read_text};
use crate::call::{CallFacts, Told};

/// The most episodes of one call that are read from one day.
const EPISODES_MAX: i64 = 10_000;

/// What one file knows of a call.
pub(super) fn read_call(
    connection: &Connection,
    version: i32,
    endpoint: EndpointId,
    call: CallId,
) -> rusqlite::Result<Option<CallFacts>> {
    let key: Option<i64> = connection
        .prepare_cached("SELECT key FROM endpoint WHERE id = ?1")?
        .query_row([endpoint.0], |row| row.get(0))
        .optional()?;
    let Some(key) = key else {
        return Ok(None);
    };
    let of_call = params![key, call.0 as i64];
    let received = connection
        .prepare_cached(
            "SELECT first_received_us, last_received_us FROM call WHERE endpoint = ?1 AND call = ?2",
        )?
        .query_row(of_call, |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
        .optional()?;
    let Some((first_received_us, last_received_us)) = received else {
        return Ok(None);
    };
    let mut facts = CallFacts::new(endpoint, call, first_received_us);
    facts.last_received_us = last_received_us;
    facts.opened = connection
        .prepare_cached(
            "SELECT epoch, sequence, opened_wall_us, opened_uptime_us, purpose FROM call_opened \
             WHERE endpoint = ?1 AND call = ?2",
        )?
        .query_row(of_call, |row| {
            let purpose: CallPurpose = read_code(row, 4)?;
            Ok(Told { by: read_id(row, 0)?, value: (read_stamp(row, 2)?, purpose) })
        })
        .optional()?;
    facts.closed = connection
        .prepare_cached(
            "SELECT epoch, sequence, closed_wall_us, closed_uptime_us, reason FROM call_closed \
             WHERE endpoint = ?1 AND call = ?2",
        )?
        .query_row(of_call, |row| {
            let reason: CallCloseReason = read_code(row, 4)?;
            Ok(Told { by: read_id(row, 0)?, value: (read_stamp(row, 2)?, reason) })
        })
        .optional()?;
    read_legs(connection, key, &mut facts)?;
    read_intervals(connection, key, &mut facts)?;
    read_summaries(connection, key, &mut facts)?;
    let mut episodes = connection.prepare_cached(&format!(
        "SELECT {EPISODE} FROM device_episode WHERE endpoint = ?1 AND call = ?2 LIMIT ?3"
    ))?;
    for told in episodes.query_map(params![key, call.0 as i64, EPISODES_MAX], read_episode)? {
        facts.handle_episode(told?);
    }
    let added = if version < schema::SELF_TESTS_SINCE {
        "NULL, NULL, NULL"
    } else {
        "zero_volume_part_us, zero_volume_whole_us, glitches"
    };
    let mut devices = connection.prepare_cached(&format!(
        "SELECT epoch, sequence, side, device, not_functioning_part_us, not_functioning_whole_us, muted_part_us, \
         muted_whole_us, episodes, detector, {added} FROM device_summary WHERE endpoint = ?1 AND call = ?2 LIMIT ?3"
    ))?;
    for told in devices.query_map(params![key, call.0 as i64, EPISODES_MAX], |row| {
        Ok(Told {
            by: read_id(row, 0)?,
            value: DeviceSummary {
                call,
                side: read_code(row, 2)?,
                device: read_text(row, 3)?,
                not_functioning: read_ratio(row, 4)?,
                muted: read_ratio(row, 6)?,
                episodes: row.get(8)?,
                detector: row.get(9)?,
                zero_volume: read_optional_ratio(row, 10)?,
                glitches: row.get(12)?,
            },
        })
    })? {
        facts.handle_device(told?);
    }
    Ok(Some(facts))
}

/// The columns that [`read_episode`] reads.
pub(super) const EPISODE: &str = "epoch, sequence, episode, call, device, side, cause, onset_wall_us, onset_uptime_us, bad_us, state";

pub(super) fn read_episode(row: &rusqlite::Row<'_>) -> rusqlite::Result<Told<DeviceEpisode>> {
    Ok(Told {
        by: read_id(row, 0)?,
        value: DeviceEpisode {
            episode: row.get::<_, i64>(2)? as u64,
            call: row.get::<_, Option<i64>>(3)?.map(|call| CallId(call as u64)),
            device: read_text(row, 4)?,
            side: read_code(row, 5)?,
            cause: read_code(row, 6)?,
            onset: read_stamp(row, 7)?,
            bad_us: row.get::<_, i64>(9)? as u64,
            state: read_code(row, 10)?,
        },
    })
}
