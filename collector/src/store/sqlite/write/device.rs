//! What is told of microphones and loudspeakers.

use roomtone_protocol::device::{DeviceEpisode, DeviceSummary, SelfTest};
use roomtone_protocol::id::RecordId;
use rusqlite::params;

use super::Group;
use crate::store::code::Code;

impl Group<'_> {
    pub(super) fn store_episode(
        &self,
        key: i64,
        id: RecordId,
        it: &DeviceEpisode,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO device_episode VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 call = excluded.call, device = excluded.device, side = excluded.side, cause = excluded.cause, \
                 onset_wall_us = excluded.onset_wall_us, onset_uptime_us = excluded.onset_uptime_us, \
                 bad_us = excluded.bad_us, state = excluded.state \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.episode as i64,
                id.epoch.0,
                id.sequence.0,
                it.call.map(|call| call.0 as i64),
                it.device.as_str(),
                it.side.code(),
                it.cause.code(),
                it.onset.wall_us as i64,
                it.onset.uptime_us as i64,
                it.bad_us as i64,
                it.state.code(),
            ])?;
        Ok(())
    }

    pub(super) fn store_device(
        &self,
        key: i64,
        id: RecordId,
        it: &DeviceSummary,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO device_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 not_functioning_part_us = excluded.not_functioning_part_us, \
                 not_functioning_whole_us = excluded.not_functioning_whole_us, \
                 muted_part_us = excluded.muted_part_us, muted_whole_us = excluded.muted_whole_us, \
                 episodes = excluded.episodes, detector = excluded.detector, \
                 zero_volume_part_us = excluded.zero_volume_part_us, \
                 zero_volume_whole_us = excluded.zero_volume_whole_us, glitches = excluded.glitches \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                it.side.code(),
                it.device.as_str(),
                id.epoch.0,
                id.sequence.0,
                it.not_functioning.part_us() as i64,
                it.not_functioning.whole_us() as i64,
                it.muted.part_us() as i64,
                it.muted.whole_us() as i64,
                it.episodes,
                it.detector,
                it.zero_volume.map(|ratio| ratio.part_us() as i64),
                it.zero_volume.map(|ratio| ratio.whole_us() as i64),
                it.glitches,
            ])?;
        Ok(())
    }

    pub(super) fn store_self_test(
        &self,
        key: i64,
        id: RecordId,
        it: &SelfTest,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO self_test VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                self.received_us,
                it.ended.wall_us as i64,
                it.ended.uptime_us as i64,
                it.requested,
                it.capture.as_str(),
                it.render.as_str(),
                it.outcome.code(),
                it.level_db_tenths,
                it.delay_us,
            ])?;
        Ok(())
    }
}
