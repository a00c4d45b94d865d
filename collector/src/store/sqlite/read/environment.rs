//! What one file knows of an endpoint's surroundings: its host, its path, its networks.
//!
//! The statements take the endpoint's id and the most rows.

use std::net::IpAddr;

use roomtone_protocol::host::{HostDetail, HostInterval};
use roomtone_protocol::id::{CallId, RecordId};
use roomtone_protocol::network::{NetworkAttachment, Wifi};
use roomtone_protocol::path::{PathConnection, PathDetail, PathInterval};
use rusqlite::Row;

use super::super::schema::{HEARD_SINCE, columns_since};
use super::row::{
    read_code, read_id, read_optional_code, read_optional_parsed, read_parsed, read_stamp,
    read_text, unreadable,
};

const OF_ENDPOINT: &str = "endpoint = (SELECT key FROM endpoint WHERE id = ?1) LIMIT ?2";

pub(super) fn hosts(version: i32) -> String {
    let added = columns_since(
        HEARD_SINCE,
        version,
        "has_detail, busiest_core_permille, memory_pressure_permille, io_pressure_permille, wifi_signal_dbm, is_throttled",
    );
    format!(
        "SELECT epoch, sequence, started_wall_us, started_uptime_us, duration_ms, cpu_permille, memory_permille, \
         cpu_pressure_permille, temperature_deci_celsius, {added} FROM host_interval WHERE {OF_ENDPOINT}"
    )
}

pub(super) fn read_host(row: &Row<'_>) -> rusqlite::Result<(RecordId, HostInterval)> {
    let detail = if row.get::<_, Option<bool>>(9)? == Some(true) {
        Some(HostDetail {
            busiest_core_permille: row.get(10)?,
            memory_pressure_permille: row.get(11)?,
            io_pressure_permille: row.get(12)?,
            wifi_signal_dbm: row.get(13)?,
            is_throttled: row.get(14)?,
        })
    } else {
        None
    };
    let interval = HostInterval {
        started: read_stamp(row, 2)?,
        duration_ms: row.get(4)?,
        cpu_permille: row.get(5)?,
        memory_permille: row.get(6)?,
        cpu_pressure_permille: row.get(7)?,
        temperature_deci_celsius: row.get(8)?,
        detail,
    };
    Ok((read_id(row, 0)?, interval))
}

pub(super) fn paths(version: i32) -> String {
    let added = columns_since(
        HEARD_SINCE,
        version,
        "call, returned, unplaced, reordered_up, reordered_down, duplicate, wire_bytes, reflector, quic_rtt_dms, \
         quic_sent, quic_lost, quic_congestion_events, quic_mtu",
    );
    format!(
        "SELECT epoch, sequence, started_wall_us, started_uptime_us, duration_ms, target, sent, lost_up, lost_down, \
         rtt_min_dms, rtt_mean_dms, rtt_max_dms, jitter_up_dms, jitter_down_dms, {added} FROM path_interval \
         WHERE {OF_ENDPOINT}"
    )
}

pub(super) fn read_path(row: &Row<'_>) -> rusqlite::Result<(RecordId, PathInterval)> {
    let detail = match row.get(15)? {
        None => None,
        Some(returned) => Some(PathDetail {
            call: row.get::<_, Option<i64>>(14)?.map(|call| CallId(call as u64)),
            returned,
            unplaced: row.get(16)?,
            reordered_up: row.get(17)?,
            reordered_down: row.get(18)?,
            duplicate: row.get(19)?,
            wire_bytes: row.get(20)?,
        }),
    };
    let connection = match row.get(22)? {
        None => None,
        Some(rtt_dms) => Some(PathConnection {
            rtt_dms,
            sent_packets: row.get(23)?,
            lost_packets: row.get(24)?,
            congestion_events: row.get(25)?,
            mtu: row.get(26)?,
        }),
    };
    let interval = PathInterval {
        started: read_stamp(row, 2)?,
        duration_ms: row.get(4)?,
        target: read_code(row, 5)?,
        sent: row.get(6)?,
        lost_up: row.get(7)?,
        lost_down: row.get(8)?,
        rtt_min_dms: row.get(9)?,
        rtt_mean_dms: row.get(10)?,
        rtt_max_dms: row.get(11)?,
        jitter_up_dms: row.get(12)?,
        jitter_down_dms: row.get(13)?,
        detail,
        reflector: read_optional_parsed(row, 21)?,
        connection,
    };
    Ok((read_id(row, 0)?, interval))
}

/// `None` for a file that has no networks.
pub(super) fn networks(version: i32) -> Option<String> {
    (version >= HEARD_SINCE)
        .then(|| format!("SELECT {NETWORK} FROM network_attachment WHERE {OF_ENDPOINT}"))
}

/// The columns that [`read_network`] reads.
pub(super) const NETWORK: &str = "epoch, sequence, call, at_wall_us, at_uptime_us, interface, connection, is_vpn, \
     is_default_route, address, prefix, mtu, speed_mbps, ssid, bssid, frequency_mhz, signal_dbm, radio";

pub(super) fn read_network(row: &Row<'_>) -> rusqlite::Result<(RecordId, NetworkAttachment)> {
    let wifi = match read_optional_code(row, 17)? {
        None => None,
        Some(radio) => Some(Wifi {
            ssid: read_text(row, 13)?,
            bssid: row.get_ref(14)?.as_blob()?.try_into().map_err(|_| unreadable(row, 14))?,
            frequency_mhz: row.get(15)?,
            signal_dbm: row.get(16)?,
            radio,
        }),
    };
    let attachment = NetworkAttachment {
        at: read_stamp(row, 3)?,
        call: row.get::<_, Option<i64>>(2)?.map(|call| CallId(call as u64)),
        interface: read_text(row, 5)?,
        connection: read_code(row, 6)?,
        is_vpn: row.get(7)?,
        is_default_route: row.get(8)?,
        address: read_parsed::<IpAddr>(row, 9)?,
        prefix: row.get(10)?,
        mtu: row.get(11)?,
        speed_mbps: row.get(12)?,
        wifi,
    };
    Ok((read_id(row, 0)?, attachment))
}
