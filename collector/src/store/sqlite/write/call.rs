//! What is told of calls and their legs.

use roomtone_protocol::call::{CallClosed, CallOpened};
use roomtone_protocol::client_event::{ClientEventValue, ClientEvents};
use roomtone_protocol::id::{CallId, RecordId};
use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::media::LegOpened;
use rusqlite::params;

use super::Group;
use crate::store::code::{Code, pack_heard, pack_streams};
use crate::store::rollup::{self, HourTotals, SUM_MAX};
use crate::store::sqlite::schema::EVENTS_OF_CALL;

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
            .prepare_cached("INSERT OR IGNORE INTO leg_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
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
                it.heard.as_deref().map(pack_heard),
            ])?;
        if written == 0 {
            return Ok(());
        }
        for (hour, totals) in rollup::of_intervals(it) {
            self.add_hour(key, hour, &totals)?;
        }
        Ok(())
    }

    pub(super) fn store_events(
        &self,
        key: i64,
        id: RecordId,
        it: &ClientEvents,
    ) -> rusqlite::Result<()> {
        let (call, leg) = (it.call.0 as i64, it.leg.map_or(EVENTS_OF_CALL, |leg| i64::from(leg.0)));
        let written = self
            .transaction
            .prepare_cached(
                "INSERT INTO client_events VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, rules = excluded.rules \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![key, call, leg, id.epoch.0, id.sequence.0, it.rules])?;
        if written == 0 {
            return Ok(());
        }
        self.transaction
            .prepare_cached(
                "DELETE FROM client_event WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
            )?
            .execute(params![key, call, leg])?;
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO client_event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for (position, event) in it.events.iter().enumerate() {
            let (ratio, count, because) = match event.value {
                ClientEventValue::Ratio(ratio) => (Some(ratio), None, None),
                ClientEventValue::Count(count) => (None, Some(count), None),
                ClientEventValue::Unknown(because) => (None, None, Some(because.code())),
            };
            insert.execute(params![
                key,
                call,
                leg,
                position as i64,
                event.kind.code(),
                ratio.map(|it| it.part_us() as i64),
                ratio.map(|it| it.whole_us() as i64),
                count,
                because,
            ])?;
        }
        Ok(())
    }

    fn add_hour(&self, key: i64, hour: u64, it: &HourTotals) -> rusqlite::Result<()> {
        // SQL integers that overflow become floats, which a STRICT table refuses: sums stop at SUM_MAX (?15).
        self.transaction
            .prepare_cached(
                "INSERT INTO endpoint_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
                 ON CONFLICT DO UPDATE SET \
                 legs = min(legs + excluded.legs, ?15), \
                 intervals = min(intervals + excluded.intervals, ?15), \
                 packets = min(packets + excluded.packets, ?15), \
                 lost = max(min(lost + excluded.lost, ?15), -?15), \
                 jitter_sum_dms = min(jitter_sum_dms + excluded.jitter_sum_dms, ?15), \
                 jitter_count = min(jitter_count + excluded.jitter_count, ?15), \
                 jitter_max_dms = max(jitter_max_dms, excluded.jitter_max_dms), \
                 rtt_sum_dms = min(rtt_sum_dms + excluded.rtt_sum_dms, ?15), \
                 rtt_count = min(rtt_count + excluded.rtt_count, ?15), \
                 rtt_max_dms = max(rtt_max_dms, excluded.rtt_max_dms), \
                 heard_us = min(heard_us + excluded.heard_us, ?15), \
                 concealed_us = min(concealed_us + excluded.concealed_us, ?15)",
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
                it.heard_us,
                it.concealed_us,
                SUM_MAX,
            ])?;
        Ok(())
    }
}
