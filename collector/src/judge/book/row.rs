//! Rows of the book of verdicts to values and back. Findings are JSON: nothing is searched for in them.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, Row, params};

use super::super::Judged;
use super::super::touched::CallKey;
use super::OF_CALL;
use crate::classify::inputs::Standing;
use crate::classify::place::Place;
use crate::classify::rules::RulesName;
use crate::classify::verdict::{CallVerdict, Judgement, Rating};

/// A time as SQLite has it; what does not fit is as far away as can be.
pub(super) fn stored(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

/// The code of a rating, as the column `rating` has it.
pub(super) fn rating_code(rating: Rating) -> u8 {
    match rating {
        Rating::Good => 0,
        Rating::Poor => 1,
        Rating::Unavailable => 2,
    }
}

fn standing_code(standing: Standing) -> u8 {
    match standing {
        Standing::Closed => 0,
        Standing::Open => 1,
        Standing::Silent => 2,
    }
}

fn standing(code: u8) -> Option<Standing> {
    match code {
        0 => Some(Standing::Closed),
        1 => Some(Standing::Open),
        2 => Some(Standing::Silent),
        _ => None,
    }
}

/// Writes a call and its legs in place of what was there by the same rule set.
pub(super) fn write(connection: &Connection, judged: &Judged, judged_us: u64) -> Result<()> {
    let (endpoint, call) = (judged.endpoint.0, judged.call.0 as i64);
    let verdict = &judged.verdict;
    let rules = &verdict.rules;
    connection
        .prepare_cached("DELETE FROM verdict WHERE endpoint = ?1 AND call = ?2 AND rules = ?3")?
        .execute(params![endpoint, call, rules.id])?;
    let own = std::iter::once((OF_CALL, &verdict.call, None));
    let legs = verdict.legs.iter().map(|(leg, it)| (i64::from(*leg), it, judged.places.get(leg)));
    let mut insert = connection.prepare_cached(
        "INSERT INTO verdict VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    for (leg, judgement, place) in own.chain(legs) {
        let text = serde_json::to_string(judgement)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute(params![
            endpoint,
            call,
            rules.id,
            leg,
            rules.version,
            rules.hash,
            stored(judged.started_us),
            stored(judged.facts_us),
            stored(judged_us),
            standing_code(verdict.standing),
            verdict.is_rehearsal,
            rating_code(judgement.rating),
            text,
            place.map(|it| it.file),
            place.and_then(|it| it.subnet.as_deref()),
            place.and_then(|it| it.building.as_deref()),
            place.map(|it| it.is_inside),
        ])?;
    }
    Ok(())
}

/// Writes where the legs of a call led to in place of what was there.
pub(super) fn write_ends(connection: &Connection, judged: &Judged) -> Result<()> {
    let (endpoint, call) = (judged.endpoint.0, judged.call.0 as i64);
    connection
        .prepare_cached("DELETE FROM leg_end WHERE endpoint = ?1 AND call = ?2")?
        .execute(params![endpoint, call])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO leg_end VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for end in &judged.ends {
        insert.execute(params![
            endpoint,
            call,
            end.leg,
            end.remote.to_string(),
            stored(end.from_us),
            stored(end.until_us),
            stored(judged.facts_us),
        ])?;
    }
    Ok(())
}

/// A call's verdict; `None` where there is none, or where a later version wrote what this one does not read.
pub(super) fn read(connection: &Connection, key: CallKey, rules: &str) -> Result<Option<Judged>> {
    let sql = "SELECT * FROM verdict WHERE endpoint = ?1 AND call = ?2 AND rules = ?3 ORDER BY leg";
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(params![key.0.0, key.1.0 as i64, rules])?;
    // The call's own row comes first: no leg has a lower number.
    let Some(first) = rows.next()? else { return Ok(None) };
    let (Some(call), Some(standing)) = (judgement(first)?, standing(first.get("standing")?)) else {
        return Ok(None);
    };
    let mut judged = Judged {
        endpoint: key.0,
        call: key.1,
        started_us: first.get::<_, i64>("started_us")? as u64,
        facts_us: first.get::<_, i64>("facts_us")? as u64,
        verdict: CallVerdict {
            rules: RulesName {
                id: first.get("rules")?,
                version: first.get("version")?,
                hash: first.get("hash")?,
            },
            standing,
            is_rehearsal: first.get("rehearsal")?,
            call,
            legs: Vec::new(),
        },
        places: BTreeMap::new(),
        ends: Vec::new(),
    };
    while let Some(row) = rows.next()? {
        let (Some(judgement), Ok(leg)) = (judgement(row)?, row.get::<_, u16>("leg")) else {
            return Ok(None);
        };
        judged.verdict.legs.push((leg, judgement));
        judged.places.extend(place(row)?.map(|it| (leg, it)));
    }
    Ok(Some(judged))
}

fn judgement(row: &Row<'_>) -> Result<Option<Judgement>> {
    Ok(serde_json::from_str(&row.get::<_, String>("judgement")?).ok())
}

fn place(row: &Row<'_>) -> Result<Option<Place>> {
    let Some(file) = row.get("networks")? else { return Ok(None) };
    Ok(Some(Place {
        file,
        subnet: row.get("subnet")?,
        building: row.get("building")?,
        is_inside: row.get::<_, Option<bool>>("inside")?.unwrap_or(false),
    }))
}
