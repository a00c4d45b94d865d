//! What is told of the endpoint's own surroundings: its host, its path, its networks.

use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::RecordId;
use roomtone_protocol::path::PathInterval;
use rusqlite::params;

use super::Group;
use crate::store::code::Code;

impl Group<'_> {
    pub(super) fn store_host(
        &self,
        key: i64,
        id: RecordId,
        it: &HostInterval,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO host_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.started.wall_us as i64,
                it.started.uptime_us as i64,
                it.duration_ms,
                it.cpu_permille,
                it.memory_permille,
                it.cpu_pressure_permille,
                it.temperature_deci_celsius,
            ])?;
        Ok(())
    }

    pub(super) fn store_path(
        &self,
        key: i64,
        id: RecordId,
        it: &PathInterval,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO path_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.started.wall_us as i64,
                it.started.uptime_us as i64,
                it.duration_ms,
                it.target.code(),
                it.sent,
                it.lost_up,
                it.lost_down,
                it.rtt_min_dms,
                it.rtt_mean_dms,
                it.rtt_max_dms,
                it.jitter_up_dms,
                it.jitter_down_dms,
            ])?;
        Ok(())
    }
}
