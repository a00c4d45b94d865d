//! The totals of a leg and of its streams.

use roomtone_protocol::heard::NetworkRating;
use roomtone_protocol::id::RecordId;
use roomtone_protocol::media::LegSummary;
use rusqlite::params;

use super::Group;
use crate::store::code::{Code, rating_code};

impl Group<'_> {
    pub(super) fn store_summary(
        &self,
        key: i64,
        id: RecordId,
        it: &LegSummary,
    ) -> rusqlite::Result<()> {
        let call = it.call.0 as i64;
        let written = self
            .transaction
            .prepare_cached(
                "INSERT INTO leg_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
                 ?15, ?16, ?17, ?18) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 closed_wall_us = excluded.closed_wall_us, closed_uptime_us = excluded.closed_uptime_us, \
                 rtt_count = excluded.rtt_count, rtt_unanswered = excluded.rtt_unanswered, \
                 rtt_min_dms = excluded.rtt_min_dms, rtt_mean_dms = excluded.rtt_mean_dms, \
                 rtt_max_dms = excluded.rtt_max_dms, rtt_last_dms = excluded.rtt_last_dms, \
                 tap_dropped = excluded.tap_dropped, heard = excluded.heard, \
                 markings = excluded.markings, reported = excluded.reported, reflexive = excluded.reflexive \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                call,
                it.leg.0,
                id.epoch.0,
                id.sequence.0,
                it.closed.wall_us as i64,
                it.closed.uptime_us as i64,
                it.rtt.count,
                it.rtt.unanswered,
                it.rtt.min_dms,
                it.rtt.mean_dms,
                it.rtt.max_dms,
                it.rtt.last_dms,
                it.tap_dropped as i64,
                it.heard.as_ref().map(|rows| rows.len() as i64),
                it.markings.as_ref().map(|rows| rows.len() as i64),
                it.reported.as_ref().map(|rows| rows.len() as i64),
                it.reflexive.map(|it| it.to_string()),
            ])?;
        if written == 0 {
            return Ok(());
        }
        for statement in FORGET_STREAMS {
            self.transaction.prepare_cached(statement)?.execute(params![key, call, it.leg.0])?;
        }
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO stream_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
             ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
        )?;
        for (position, stream) in it.streams.iter().enumerate() {
            insert.execute(params![
                key,
                call,
                it.leg.0,
                position as i64,
                u32::from_le_bytes(stream.key.ssrc),
                stream.key.direction.code(),
                stream.key.media.code(),
                &stream.payload_types[..],
                stream.clock_rate_hz,
                stream.clock_rate_source.code(),
                stream.first_us as i64,
                stream.last_us as i64,
                stream.received as i64,
                stream.expected as i64,
                stream.lost as i64,
                stream.duplicate as i64,
                stream.reordered as i64,
                stream.sequence_restarts,
                stream.jitter_mean_dms,
                stream.jitter_max_dms,
                stream.jitter_last_dms,
            ])?;
        }
        self.store_heard(key, it)?;
        self.store_markings(key, it)?;
        self.store_reported(key, it)
    }

    fn store_heard(&self, key: i64, summary: &LegSummary) -> rusqlite::Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO stream_heard VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
             ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)",
        )?;
        for it in summary.heard.iter().flatten() {
            let mos = match it.rating {
                NetworkRating::Mos(mos) => Some(mos),
                NetworkRating::CodecUnknown
                | NetworkRating::NoFactors
                | NetworkRating::NothingHeard => None,
            };
            insert.execute(params![
                key,
                summary.call.0 as i64,
                summary.leg.0,
                it.stream,
                it.model,
                it.total_us as i64,
                it.concealed_us as i64,
                it.stretched_us as i64,
                it.compressed_us as i64,
                it.played as i64,
                it.discarded as i64,
                it.delay_mean_dms,
                it.delay_max_dms,
                it.worst_second_us,
                it.worst_interval_total_us,
                it.worst_interval_concealed_us,
                it.resets,
                it.frame_us,
                it.bursts.count,
                it.bursts.frames,
                it.bursts.missing,
                it.gaps.count,
                it.gaps.frames,
                it.gaps.missing,
                it.runs.map(u32::to_le_bytes).as_flattened(),
                rating_code(it.rating),
                mos.map(|mos| mos.formula.code()),
                mos.map(|mos| mos.codec.code()),
                mos.map(|mos| mos.assumption),
                mos.map(|mos| mos.mos_milli),
                mos.map(|mos| mos.best_milli),
            ])?;
        }
        Ok(())
    }

    fn store_markings(&self, key: i64, summary: &LegSummary) -> rusqlite::Result<()> {
        let mut insert = self
            .transaction
            .prepare_cached("INSERT INTO stream_marking VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for it in summary.markings.iter().flatten() {
            let (call, leg) = (summary.call.0 as i64, summary.leg.0);
            insert.execute(params![key, call, leg, it.stream, it.dscp, it.others])?;
        }
        Ok(())
    }

    fn store_reported(&self, key: i64, summary: &LegSummary) -> rusqlite::Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO stream_reported VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        for it in summary.reported.iter().flatten() {
            insert.execute(params![
                key,
                summary.call.0 as i64,
                summary.leg.0,
                it.stream,
                it.reports,
                it.lost,
                it.fraction_lost_max,
                it.jitter_mean_dms,
                it.jitter_max_dms,
                it.rtt.count,
                it.rtt.unanswered,
                it.rtt.min_dms,
                it.rtt.mean_dms,
                it.rtt.max_dms,
                it.rtt.last_dms,
            ])?;
        }
        Ok(())
    }
}

/// What goes before the streams of a later summary of the same leg are written.
const FORGET_STREAMS: [&str; 4] = [
    "DELETE FROM stream_summary WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
    "DELETE FROM stream_heard WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
    "DELETE FROM stream_marking WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
    "DELETE FROM stream_reported WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
];
