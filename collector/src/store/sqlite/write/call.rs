//! What is told of calls and their legs.

use roomtone_protocol::call::{CallClosed, CallOpened};
use roomtone_protocol::id::{CallId, RecordId};
use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::media::{LegOpened, LegSummary};
use rusqlite::params;

use super::Group;
use crate::store::code::{Code, pack_streams};
use crate::store::rollup::{self, HourTotals, SUM_MAX};

impl Group<'_> {
    pub(super) fn touch_call(&self, key: i64, call: CallId) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call (endpoint, call, first_received_us, last_received_us) VALUES (?1, ?2, ?3, ?3) \
                 ON CONFLICT DO UPDATE SET last_received_us = max(last_received_us, excluded.last_received_us)",
            )?
            .execute(params![key, call.0 as i64, self.received_us])?;
        Ok(())
    }

    pub(super) fn store_call_opened(
        &self,
        key: i64,
        id: RecordId,
        it: &CallOpened,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call_opened VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, opened_wall_us = excluded.opened_wall_us, \
                 opened_uptime_us = excluded.opened_uptime_us, purpose = excluded.purpose \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                id.epoch.0,
                id.sequence.0,
                it.opened.wall_us as i64,
                it.opened.uptime_us as i64,
                it.purpose.code(),
            ])?;
        Ok(())
    }

    pub(super) fn store_call_closed(
        &self,
        key: i64,
        id: RecordId,
        it: &CallClosed,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call_closed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, closed_wall_us = excluded.closed_wall_us, \
                 closed_uptime_us = excluded.closed_uptime_us, reason = excluded.reason, legs = excluded.legs \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                id.epoch.0,
                id.sequence.0,
                it.closed.wall_us as i64,
                it.closed.uptime_us as i64,
                it.reason.code(),
                it.legs,
            ])?;
        Ok(())
    }

    pub(super) fn store_leg(&self, key: i64, id: RecordId, it: &LegOpened) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO leg VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, opened_wall_us = excluded.opened_wall_us, \
                 opened_uptime_us = excluded.opened_uptime_us, local = excluded.local, remote = excluded.remote, \
                 transport = excluded.transport WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                it.leg.0,
                id.epoch.0,
                id.sequence.0,
                it.opened.wall_us as i64,
                it.opened.uptime_us as i64,
                it.local.to_string(),
                it.remote.to_string(),
                it.transport.code(),
            ])?;
        let (hour, totals) = rollup::of_leg(it);
        self.add_hour(key, hour, &totals)
    }

    pub(super) fn store_intervals(
        &self,
        key: i64,
        id: RecordId,
        it: &LegIntervals,
    ) -> rusqlite::Result<()> {
        // Known already only where its epoch's watermark was forgotten: then it must not count twice.
        let written = self
            .transaction
            .prepare_cached("INSERT OR IGNORE INTO leg_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                key,
                it.call.0 as i64,
                it.leg.0,
                it.first,
                id.epoch.0,
                id.sequence.0,
                it.started_wall_ms as i64,
                it.pack.len() as i64,
                pack_streams(&it.streams),
                it.pack.bytes(),
            ])?;
        if written == 0 {
            return Ok(());
        }
        for (hour, totals) in rollup::of_intervals(it) {
            self.add_hour(key, hour, &totals)?;
        }
        Ok(())
    }

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
                "INSERT INTO leg_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 closed_wall_us = excluded.closed_wall_us, closed_uptime_us = excluded.closed_uptime_us, \
                 rtt_count = excluded.rtt_count, rtt_unanswered = excluded.rtt_unanswered, \
                 rtt_min_dms = excluded.rtt_min_dms, rtt_mean_dms = excluded.rtt_mean_dms, \
                 rtt_max_dms = excluded.rtt_max_dms, rtt_last_dms = excluded.rtt_last_dms, \
                 tap_dropped = excluded.tap_dropped \
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
            ])?;
        if written == 0 {
            return Ok(());
        }
        self.transaction
            .prepare_cached(
                "DELETE FROM stream_summary WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
            )?
            .execute(params![key, call, it.leg.0])?;
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
        Ok(())
    }

    fn add_hour(&self, key: i64, hour: u64, it: &HourTotals) -> rusqlite::Result<()> {
        // SQL integers that overflow become floats, which a STRICT table refuses: sums stop at SUM_MAX (?13).
        self.transaction
            .prepare_cached(
                "INSERT INTO endpoint_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                 ON CONFLICT DO UPDATE SET \
                 legs = min(legs + excluded.legs, ?13), \
                 intervals = min(intervals + excluded.intervals, ?13), \
                 packets = min(packets + excluded.packets, ?13), \
                 lost = max(min(lost + excluded.lost, ?13), -?13), \
                 jitter_sum_dms = min(jitter_sum_dms + excluded.jitter_sum_dms, ?13), \
                 jitter_count = min(jitter_count + excluded.jitter_count, ?13), \
                 jitter_max_dms = max(jitter_max_dms, excluded.jitter_max_dms), \
                 rtt_sum_dms = min(rtt_sum_dms + excluded.rtt_sum_dms, ?13), \
                 rtt_count = min(rtt_count + excluded.rtt_count, ?13), \
                 rtt_max_dms = max(rtt_max_dms, excluded.rtt_max_dms)",
            )?
            .execute(params![
                key,
                hour as i64,
                it.legs,
                it.intervals,
                it.packets,
                it.lost,
                it.jitter_sum_dms,
                it.jitter_count,
                it.jitter_max_dms,
                it.rtt_sum_dms,
                it.rtt_count,
                it.rtt_max_dms,
                SUM_MAX,
            ])?;
        Ok(())
    }
}
