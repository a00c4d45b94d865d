//! What is told of the endpoint's own surroundings: its host, its path, its networks.

use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::RecordId;
use roomtone_protocol::network::NetworkAttachment;
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
            .prepare_cached("INSERT OR IGNORE INTO host_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
 ?12, ?13, ?14, ?15, ?16)")?
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
                it.detail.is_some(),
                it.detail.and_then(|it| it.busiest_core_permille),
                it.detail.and_then(|it| it.memory_pressure_permille),
                it.detail.and_then(|it| it.io_pressure_permille),
                it.detail.and_then(|it| it.wifi_signal_dbm),
                it.detail.and_then(|it| it.is_throttled),
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
                "INSERT OR IGNORE INTO path_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
                 ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)",
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
                it.detail.and_then(|it| it.call).map(|call| call.0 as i64),
                it.detail.map(|it| it.returned),
                it.detail.map(|it| it.unplaced),
                it.detail.map(|it| it.reordered_up),
                it.detail.map(|it| it.reordered_down),
                it.detail.map(|it| it.duplicate),
                it.detail.map(|it| it.wire_bytes),
                it.reflector.map(|it| it.to_string()),
                it.connection.map(|it| it.rtt_dms),
                it.connection.map(|it| it.sent_packets),
                it.connection.map(|it| it.lost_packets),
                it.connection.map(|it| it.congestion_events),
                it.connection.map(|it| it.mtu),
            ])?;
        Ok(())
    }

    pub(super) fn store_network(
        &self,
        key: i64,
        id: RecordId,
        it: &NetworkAttachment,
    ) -> rusqlite::Result<()> {
        let wifi = it.wifi.as_ref();
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO network_attachment VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
                 ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.call.map(|call| call.0 as i64),
                it.at.wall_us as i64,
                it.at.uptime_us as i64,
                it.interface.as_str(),
                it.connection.code(),
                it.is_vpn,
                it.is_default_route,
                it.address.to_string(),
                it.prefix,
                it.mtu,
                it.speed_mbps,
                wifi.map(|wifi| wifi.ssid.as_str()),
                wifi.map(|wifi| wifi.bssid),
                wifi.map(|wifi| wifi.frequency_mhz),
                wifi.and_then(|wifi| wifi.signal_dbm),
                wifi.map(|wifi| wifi.radio.code()),
            ])?;
        Ok(())
    }
}
