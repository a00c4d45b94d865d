//! Rows of the fleet's book to values and back. A heartbeat is kept as the frame that it came in.

use roomtone_protocol::configuration::{ConfigurationHash, EffectiveConfiguration, Text};
use roomtone_protocol::frame;
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use rusqlite::{Connection, Row, params};

use super::{BookError, HeardRow, RevisionFacts, Step};
use crate::fleet::heartbeat::{CpuShare, Heard, Heartbeat};
use crate::fleet::plan::Revision;
use crate::fleet::scope::Scope;
use crate::fleet::settings::Settings;

/// The revisions of one scope or of all, newest first.
pub(super) fn revisions(
    connection: &Connection,
    scope: Option<&Scope>,
) -> Result<Vec<RevisionFacts>, BookError> {
    let key = scope.map(Scope::key);
    let sql = "SELECT * FROM step WHERE scope = ?1 OR ?1 IS NULL ORDER BY at_us, rowid";
    let mut query = connection.prepare_cached(sql)?;
    let step = |row: &Row<'_>| {
        let of: (String, u32) = (row.get("scope")?, row.get("number")?);
        Ok((of, Step { percent: percent(row)?, at_us: read(row, "at_us")?, who: row.get("who")? }))
    };
    let steps: Vec<_> = query.query_map([&key], step)?.collect::<Result<_, _>>()?;
    let sql = "SELECT * FROM revision WHERE scope = ?1 OR ?1 IS NULL
               ORDER BY created_us DESC, number DESC";
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query([&key])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, number): (String, u32) = (row.get("scope")?, row.get("number")?);
        // A scope of a later version is not for this one.
        let Some(scope) = Scope::from_key(&key) else { continue };
        let text: String = row.get("text")?;
        // One key that this version does not know, taken back long ago, must not take the fleet away.
        let settings = Settings::parse(&text).unwrap_or_else(|_| Settings::of_later_version(&text));
        let own = steps.iter().filter(|((of, it), _)| (of, *it) == (&key, number));
        found.push(RevisionFacts {
            scope,
            revision: Revision { number, percent: percent(row)?, settings },
            created_us: read(row, "created_us")?,
            who: row.get("who")?,
            note: row.get("note")?,
            steps: own.map(|(_, step)| step.clone()).collect(),
        });
    }
    found.sort_by_key(|it| {
        (std::cmp::Reverse(it.created_us), std::cmp::Reverse(it.revision.number))
    });
    if scope.is_some() {
        // The clock may have been set back between two; within a scope the numbers tell.
        found.sort_by_key(|it| std::cmp::Reverse(it.revision.number));
    }
    Ok(found)
}

fn percent(row: &Row<'_>) -> rusqlite::Result<u8> {
    Ok(u8::try_from(row.get::<_, i64>("percent")?.clamp(0, 100)).unwrap_or(100))
}

/// Writes one endpoint. What was heard before stays where nothing was heard since.
pub(super) fn write(connection: &Connection, row: &HeardRow) -> rusqlite::Result<()> {
    let Heard { endpoint, name, site, agent_version, connected_us, ended_us, heartbeat } =
        &row.heard;
    let share = heartbeat.as_ref().and_then(|it| it.cpu);
    let mut query = connection.prepare_cached(
        "INSERT INTO endpoint VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET name = ?2, site = ?3, agent_version = ?4,
           connected_us = ?5, ended_us = ?6, heard_us = coalesce(?7, heard_us),
           heartbeat = coalesce(?8, heartbeat),
           cpu_part_us = CASE WHEN ?8 IS NULL THEN cpu_part_us ELSE ?9 END,
           cpu_whole_us = CASE WHEN ?8 IS NULL THEN cpu_whole_us ELSE ?10 END",
    )?;
    query.execute(params![
        endpoint.0,
        name,
        site,
        agent_version,
        stored(*connected_us),
        ended_us.map(stored),
        heartbeat.as_ref().map(|it| stored(it.heard_us)),
        heartbeat.as_ref().map(frame_of),
        share.map(|it| stored(it.part_us)),
        share.map(|it| stored(it.whole_us)),
    ])?;
    if let Some(effective) = &row.effective {
        let sql = "INSERT INTO effective VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET hash = ?2, text = ?3";
        let mut query = connection.prepare_cached(sql)?;
        query.execute(params![endpoint.0, effective.hash.0, effective.text.as_str()])?;
    }
    Ok(())
}

fn frame_of(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let length = frame::encode_link(&Message::Health(heartbeat.health.clone()), &mut buffer)
        .expect("FRAME_BYTES_MAX suffices for any frame");
    buffer[..length].to_vec()
}

pub(super) fn heard(row: &Row<'_>) -> rusqlite::Result<Heard> {
    let frame: Option<Vec<u8>> = row.get("heartbeat")?;
    // What does not decode is a later version's: the endpoint is known, its heartbeat is not.
    let health = frame.and_then(|bytes| match frame::decode(&bytes) {
        Ok((frame::Frame { message: Some(Message::Health(health)), .. }, _)) => Some(health),
        Ok(_) | Err(_) => None,
    });
    let share = read_option(row, "cpu_part_us")?.zip(read_option(row, "cpu_whole_us")?);
    let cpu = share
        .filter(|(_, whole_us)| *whole_us > 0)
        .map(|(part_us, whole_us)| CpuShare { part_us, whole_us });
    let heard_us = read_option(row, "heard_us")?.unwrap_or(0);
    Ok(Heard {
        endpoint: EndpointId(row.get("id")?),
        name: row.get("name")?,
        site: row.get("site")?,
        agent_version: row.get("agent_version")?,
        connected_us: read(row, "connected_us")?,
        ended_us: read_option(row, "ended_us")?,
        heartbeat: health.map(|health| Heartbeat { heard_us, health, cpu }),
    })
}

pub(super) fn effective(row: &Row<'_>) -> rusqlite::Result<(EndpointId, EffectiveConfiguration)> {
    let hash = ConfigurationHash(row.get("hash")?);
    let text = Text::try_from(row.get::<_, String>("text")?.as_str()).unwrap_or_default();
    Ok((EndpointId(row.get("id")?), EffectiveConfiguration { hash, text }))
}

/// SQLite's integers are signed; a number beyond them is the last one.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn read_option(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|number| u64::try_from(number).unwrap_or(0)))
}
