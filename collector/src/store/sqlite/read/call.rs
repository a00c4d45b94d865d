//! What one file knows of a call.

use heapless::Vec as Row;
use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::client_event::{ClientEvent, ClientEventValue, ClientEvents};
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary};
use roomtone_protocol::id::{CallId, EndpointId, LegNumber};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::schema;
use super::environment::{NETWORK, read_network};
use super::leg::{LEGS_MAX, read_intervals, read_legs, read_summaries};
use super::row::{
    read_code, read_id, read_optional_ratio, read_ratio, read_stamp, read_text, unreadable,
};
use crate::call::{CallFacts, Told};

/// The most networks of one call that are read from one day, the latest: a phone that walks changes some a minute.
const NETWORKS_MAX: i64 = 1_000;
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
    read_intervals(connection, version, key, &mut facts)?;
    read_summaries(connection, version, key, &mut facts)?;
    if version >= schema::HEARD_SINCE {
        read_networks(connection, key, &mut facts)?;
        read_events(connection, key, &mut facts)?;
    }
    let mut episodes = connection.prepare_cached(&format!(
        "SELECT {EPISODE} FROM device_episode WHERE endpoint = ?1 AND call = ?2 LIMIT ?3"
    ))?;
    for told in episodes.query_map(params![key, call.0 as i64, EPISODES_MAX], read_episode)? {
        facts.handle_episode(told?);
    }
    let added = schema::columns_since(
        schema::SELF_TESTS_SINCE,
        version,
        "zero_volume_part_us, zero_volume_whole_us, glitches",
    );
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

fn read_networks(connection: &Connection, key: i64, facts: &mut CallFacts) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {NETWORK} FROM network_attachment WHERE endpoint = ?1 AND call = ?2 \
         ORDER BY arrival DESC LIMIT ?3"
    ))?;
    let told = statement
        .query_map(params![key, facts.call.0 as i64, NETWORKS_MAX], read_network)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // Oldest first: of two epochs the later arrival wins.
    for (by, value) in told.into_iter().rev() {
        facts.handle_network(Told { by, value });
    }
    Ok(())
}

fn read_events(connection: &Connection, key: i64, facts: &mut CallFacts) -> rusqlite::Result<()> {
    let call = facts.call;
    let mut statement = connection.prepare_cached(
        "SELECT epoch, sequence, leg, rules FROM client_events WHERE endpoint = ?1 AND call = ?2 LIMIT ?3",
    )?;
    let all = statement.query_map(params![key, call.0 as i64, LEGS_MAX], |row| {
        let leg: i64 = row.get(2)?;
        let number = match leg {
            schema::EVENTS_OF_CALL => None,
            leg => Some(LegNumber(u16::try_from(leg).map_err(|_| unreadable(row, 2))?)),
        };
        Ok((leg, read_id(row, 0)?, number, row.get(3)?))
    })?;
    let mut rows = connection.prepare_cached(
        "SELECT kind, part_us, whole_us, count, because FROM client_event \
         WHERE endpoint = ?1 AND call = ?2 AND leg = ?3 ORDER BY position",
    )?;
    for events in all {
        let (leg, by, number, rules) = events?;
        let mut value = ClientEvents { call, leg: number, rules, events: Row::new() };
        for event in rows.query_map(params![key, call.0 as i64, leg], read_event)? {
            // The wire holds no more events than fit here; a file with more was not written by us.
            if value.events.push(event?).is_err() {
                break;
            }
        }
        facts.handle_events(Told { by, value });
    }
    Ok(())
}

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<ClientEvent> {
    let value = match (read_optional_ratio(row, 1)?, row.get(3)?, row.get::<_, Option<u8>>(4)?) {
        (Some(ratio), None, None) => ClientEventValue::Ratio(ratio),
        (None, Some(count), None) => ClientEventValue::Count(count),
        (None, None, Some(_)) => ClientEventValue::Unknown(read_code(row, 4)?),
        _ => return Err(unreadable(row, 4)),
    };
    Ok(ClientEvent { kind: read_code(row, 0)?, value })
}
