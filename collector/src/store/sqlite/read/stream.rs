//! What one file knows of the streams of a leg that has ended.

use heapless::Vec as Row;
use roomtone_protocol::heard::{NetworkMos, StreamHeard, Stretches};
use roomtone_protocol::limits::LOSS_RUNS;
use roomtone_protocol::media::{
    LegSummary, RttSummary, StreamKey, StreamMarking, StreamReported, StreamSummary,
};
use rusqlite::{Connection, params};

use super::row::{read_code, read_optional_code, unreadable};
use crate::store::code::rating_from;

pub(super) fn read_streams(
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

pub(super) fn read_heard(
    connection: &Connection,
    key: i64,
    summary: &mut LegSummary,
) -> rusqlite::Result<()> {
    let of_leg = params![key, summary.call.0 as i64, summary.leg.0];
    let Some(heard) = &mut summary.heard else {
        return Ok(());
    };
    let mut statement = connection.prepare_cached(
        "SELECT stream, model, total_us, concealed_us, stretched_us, compressed_us, played, discarded, delay_mean_dms, \
         delay_max_dms, worst_second_us, worst_interval_total_us, worst_interval_concealed_us, resets, frame_us, \
         bursts, burst_frames, burst_missing, gaps, gap_frames, gap_missing, runs, rating, formula, codec, assumption, \
         mos_milli, best_milli FROM stream_heard WHERE endpoint = ?1 AND call = ?2 AND leg = ?3 ORDER BY stream",
    )?;
    for row in statement.query_map(of_leg, read_heard_row)? {
        // The wire holds no more rows than fit here, as in the next two.
        if heard.push(row?).is_err() {
            break;
        }
    }
    Ok(())
}

fn read_heard_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<StreamHeard> {
    let count = |column: usize| row.get::<_, i64>(column).map(|it| it as u64);
    let stretches = |column: usize| {
        Ok::<_, rusqlite::Error>(Stretches {
            count: row.get(column)?,
            frames: row.get(column + 1)?,
            missing: row.get(column + 2)?,
        })
    };
    let (runs, rest) = row.get_ref(21)?.as_blob()?.as_chunks::<4>();
    let runs: &[[u8; 4]; LOSS_RUNS] = runs.try_into().map_err(|_| unreadable(row, 21))?;
    if !rest.is_empty() {
        return Err(unreadable(row, 21));
    }
    let mos = read_optional_code(row, 23)?
        .map(|formula| {
            Ok::<_, rusqlite::Error>(NetworkMos {
                formula,
                codec: read_code(row, 24)?,
                assumption: row.get(25)?,
                mos_milli: row.get(26)?,
                best_milli: row.get(27)?,
            })
        })
        .transpose()?;
    Ok(StreamHeard {
        stream: row.get(0)?,
        model: row.get(1)?,
        total_us: count(2)?,
        concealed_us: count(3)?,
        stretched_us: count(4)?,
        compressed_us: count(5)?,
        played: count(6)?,
        discarded: count(7)?,
        delay_mean_dms: row.get(8)?,
        delay_max_dms: row.get(9)?,
        worst_second_us: row.get(10)?,
        worst_interval_total_us: row.get(11)?,
        worst_interval_concealed_us: row.get(12)?,
        resets: row.get(13)?,
        frame_us: row.get(14)?,
        bursts: stretches(15)?,
        gaps: stretches(18)?,
        runs: runs.map(u32::from_le_bytes),
        rating: rating_from(row.get(22)?, mos).ok_or_else(|| unreadable(row, 22))?,
    })
}

pub(super) fn read_markings(
    connection: &Connection,
    key: i64,
    summary: &mut LegSummary,
) -> rusqlite::Result<()> {
    let of_leg = params![key, summary.call.0 as i64, summary.leg.0];
    let Some(markings) = &mut summary.markings else {
        return Ok(());
    };
    let mut statement = connection.prepare_cached(
        "SELECT stream, dscp, others FROM stream_marking WHERE endpoint = ?1 AND call = ?2 AND leg = ?3 ORDER BY stream",
    )?;
    for row in statement.query_map(of_leg, |row| {
        Ok(StreamMarking { stream: row.get(0)?, dscp: row.get(1)?, others: row.get(2)? })
    })? {
        if markings.push(row?).is_err() {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_reported(
    connection: &Connection,
    key: i64,
    summary: &mut LegSummary,
) -> rusqlite::Result<()> {
    let of_leg = params![key, summary.call.0 as i64, summary.leg.0];
    let Some(reported) = &mut summary.reported else {
        return Ok(());
    };
    let mut statement = connection.prepare_cached(
        "SELECT stream, reports, lost, fraction_lost_max, jitter_mean_dms, jitter_max_dms, rtt_count, rtt_unanswered, \
         rtt_min_dms, rtt_mean_dms, rtt_max_dms, rtt_last_dms FROM stream_reported \
         WHERE endpoint = ?1 AND call = ?2 AND leg = ?3 ORDER BY stream",
    )?;
    for row in statement.query_map(of_leg, |row| {
        Ok(StreamReported {
            stream: row.get(0)?,
            reports: row.get(1)?,
            lost: row.get(2)?,
            fraction_lost_max: row.get(3)?,
            jitter_mean_dms: row.get(4)?,
            jitter_max_dms: row.get(5)?,
            rtt: read_rtt(row, 6)?,
        })
    })? {
        if reported.push(row?).is_err() {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_rtt(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<RttSummary> {
    Ok(RttSummary {
        count: row.get(column)?,
        unanswered: row.get(column + 1)?,
        min_dms: row.get(column + 2)?,
        mean_dms: row.get(column + 3)?,
        max_dms: row.get(column + 4)?,
        last_dms: row.get(column + 5)?,
    })
}
