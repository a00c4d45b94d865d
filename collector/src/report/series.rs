//! What an endpoint told of its path, host and networks over time, oldest first: tables and JSON.

use roomtone_protocol::host::HostInterval;
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::path::PathInterval;
use serde::Serialize;

use super::json::Network;
use super::table::{COLUMNS, NARROW, compact, millis, plain, right, surroundings, text};
use super::{ms, ratio, tenths_signed, words};
use crate::text::{fit, rfc3339, short_time};

/// `endpoint path --json`.
#[derive(Debug, Serialize)]
pub struct Paths {
    /// The intervals, oldest first.
    pub path: Vec<Path>,
}

/// One interval of probes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    start: Option<String>,
    duration_ms: u32,
    target: &'static str,
    reflector: Option<String>,
    call: Option<String>,
    probes_sent: u32,
    probes_returned: Option<u32>,
    probes_lost_up: u32,
    probes_lost_down: u32,
    probes_lost_unplaced: Option<u32>,
    loss_ratio_up: Option<f64>,
    probes_reordered_up: Option<u32>,
    probes_reordered_down: Option<u32>,
    probes_duplicate: Option<u32>,
    wire_bytes: Option<u32>,
    rtt_min_ms: Option<f64>,
    rtt_mean_ms: Option<f64>,
    rtt_max_ms: Option<f64>,
    jitter_up_ms: f64,
    jitter_down_ms: f64,
    connection: Option<Connection>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    rtt_ms: f64,
    packets_sent: u32,
    packets_lost: u32,
    congestion_events: u32,
    mtu: u16,
}

/// `endpoint host --json`.
#[derive(Debug, Serialize)]
pub struct Hosts {
    /// The intervals, oldest first.
    pub host: Vec<Host>,
}

/// One interval of a host's load; shares in permille.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    start: Option<String>,
    duration_ms: u32,
    cpu_permille: u16,
    busiest_core_permille: Option<u16>,
    memory_permille: u16,
    cpu_pressure_permille: Option<u16>,
    memory_pressure_permille: Option<u16>,
    io_pressure_permille: Option<u16>,
    temperature_celsius: Option<f64>,
    wifi_signal_dbm: Option<i16>,
    throttled: Option<bool>,
}

/// `endpoint networks --json`.
#[derive(Debug, Serialize)]
pub struct Networks {
    /// The interfaces as they were looked at, oldest first.
    pub networks: Vec<Network>,
}

impl Path {
    /// The JSON of an interval.
    #[must_use]
    pub fn new(it: &PathInterval) -> Self {
        let has_answers = it.rtt_max_dms > 0 || it.detail.is_some_and(|it| it.returned > 0);
        let measured = |dms| has_answers.then(|| ms(dms));
        Self {
            start: rfc3339(it.started.wall_us),
            duration_ms: it.duration_ms,
            target: words::target(it.target),
            reflector: it.reflector.map(|it| it.to_string()),
            call: it.detail.and_then(|it| it.call).map(|call| call.to_string()),
            probes_sent: it.sent,
            probes_returned: it.detail.map(|it| it.returned),
            probes_lost_up: it.lost_up,
            probes_lost_down: it.lost_down,
            probes_lost_unplaced: it.detail.map(|it| it.unplaced),
            loss_ratio_up: ratio(u64::from(it.lost_up), u64::from(it.sent)),
            probes_reordered_up: it.detail.map(|it| it.reordered_up),
            probes_reordered_down: it.detail.map(|it| it.reordered_down),
            probes_duplicate: it.detail.map(|it| it.duplicate),
            wire_bytes: it.detail.map(|it| it.wire_bytes),
            rtt_min_ms: measured(it.rtt_min_dms),
            rtt_mean_ms: measured(it.rtt_mean_dms),
            rtt_max_ms: measured(it.rtt_max_dms),
            jitter_up_ms: ms(it.jitter_up_dms),
            jitter_down_ms: ms(it.jitter_down_dms),
            connection: it.connection.map(|it| Connection {
                rtt_ms: ms(it.rtt_dms),
                packets_sent: it.sent_packets,
                packets_lost: it.lost_packets,
                congestion_events: it.congestion_events,
                mtu: it.mtu,
            }),
        }
    }
}

impl Host {
    /// The JSON of an interval.
    #[must_use]
    pub fn new(it: &HostInterval) -> Self {
        Self {
            start: rfc3339(it.started.wall_us),
            duration_ms: it.duration_ms,
            cpu_permille: it.cpu_permille,
            busiest_core_permille: it.detail.and_then(|it| it.busiest_core_permille),
            memory_permille: it.memory_permille,
            cpu_pressure_permille: it.cpu_pressure_permille,
            memory_pressure_permille: it.detail.and_then(|it| it.memory_pressure_permille),
            io_pressure_permille: it.detail.and_then(|it| it.io_pressure_permille),
            temperature_celsius: it.temperature_deci_celsius.map(tenths_signed),
            wifi_signal_dbm: it.detail.and_then(|it| it.wifi_signal_dbm),
            throttled: it.detail.and_then(|it| it.is_throttled),
        }
    }
}

/// `endpoint path`.
#[must_use]
pub fn paths(intervals: &[PathInterval]) -> String {
    if intervals.is_empty() {
        return "nothing was told of its path\n".to_owned();
    }
    let mut table = plain(
        &[
            "FROM (UTC)",
            "TARGET",
            "SENT",
            "LOST UP",
            "DOWN",
            "?",
            "RTT",
            "MAX",
            "JITTER UP",
            "DOWN",
            "QUIC RTT",
        ],
        NARROW,
    );
    right(&mut table, &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for it in intervals {
        let count = |count: u32| compact(u64::from(count));
        table.add_row([
            short_time(it.started.wall_us),
            words::target(it.target).to_owned(),
            count(it.sent),
            count(it.lost_up),
            count(it.lost_down),
            it.detail.map_or("-".to_owned(), |it| count(it.unplaced)),
            millis(it.rtt_mean_dms),
            millis(it.rtt_max_dms),
            millis(it.jitter_up_dms),
            millis(it.jitter_down_dms),
            it.connection.map_or("-".to_owned(), |it| millis(it.rtt_dms)),
        ]);
    }
    text(&table) + "times in ms; ? = lost in a direction that nothing tells\n"
}

/// `endpoint host`.
#[must_use]
pub fn hosts(intervals: &[HostInterval]) -> String {
    if intervals.is_empty() {
        return "nothing was told of its host\n".to_owned();
    }
    let mut table = plain(
        &[
            "FROM (UTC)",
            "CPU",
            "CORE",
            "MEMORY",
            "WAITS CPU",
            "MEMORY",
            "IO",
            "CELSIUS",
            "WI-FI",
            "THROTTLED",
        ],
        NARROW,
    );
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for it in intervals {
        let dash = || "-".to_owned();
        let share = |permille: u16| format!("{:.1}%", f64::from(permille) / 10.0);
        let optional = |permille: Option<u16>| permille.map_or_else(dash, share);
        let detail = it.detail;
        table.add_row([
            short_time(it.started.wall_us),
            share(it.cpu_permille),
            optional(detail.and_then(|it| it.busiest_core_permille)),
            share(it.memory_permille),
            optional(it.cpu_pressure_permille),
            optional(detail.and_then(|it| it.memory_pressure_permille)),
            optional(detail.and_then(|it| it.io_pressure_permille)),
            it.temperature_deci_celsius.map_or_else(dash, |it| format!("{:.1}", tenths_signed(it))),
            detail.and_then(|it| it.wifi_signal_dbm).map_or_else(dash, |it| format!("{it} dBm")),
            match detail.and_then(|it| it.is_throttled) {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None => dash(),
            },
        ]);
    }
    text(&table)
        + "waits = share of the time in which something waited for it (PSI); - = not known\n"
}

/// `endpoint networks`.
#[must_use]
pub fn networks(attachments: &[NetworkAttachment]) -> String {
    if attachments.is_empty() {
        return "nothing was told of its networks\n".to_owned();
    }
    let mut out = String::new();
    for it in attachments {
        let room = COLUMNS - 15;
        let head = fit(&surroundings::network(it), room);
        out += &format!("{:<15}{head}\n", short_time(it.at.wall_us));
        if let Some(wifi) = surroundings::wifi(it) {
            out += &format!("{:<15}{}\n", "", fit(&wifi, room));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::host::HostDetail;
    use roomtone_protocol::path::{PathConnection, PathDetail, PathTarget};
    use roomtone_protocol::time::Stamp;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn widest_rows_fit_into_a_hundred_columns() {
        let started = Stamp { wall_us: 253_402_300_799_999_999, uptime_us: 0 };
        let path = PathInterval {
            started,
            duration_ms: u32::MAX,
            target: PathTarget::Collector,
            sent: u32::MAX,
            lost_up: u32::MAX,
            lost_down: u32::MAX,
            rtt_min_dms: u32::MAX,
            rtt_mean_dms: 999_999,
            rtt_max_dms: u32::MAX,
            jitter_up_dms: 999_999,
            jitter_down_dms: 999_999,
            detail: Some(PathDetail {
                call: None,
                returned: u32::MAX,
                unplaced: u32::MAX,
                reordered_up: 0,
                reordered_down: 0,
                duplicate: 0,
                wire_bytes: 0,
            }),
            reflector: None,
            connection: Some(PathConnection {
                rtt_dms: 999_999,
                sent_packets: 0,
                lost_packets: 0,
                congestion_events: 0,
                mtu: 0,
            }),
        };
        let host = HostInterval {
            started,
            duration_ms: u32::MAX,
            cpu_permille: u16::MAX,
            memory_permille: u16::MAX,
            cpu_pressure_permille: Some(u16::MAX),
            temperature_deci_celsius: Some(i16::MIN),
            detail: Some(HostDetail {
                busiest_core_permille: Some(u16::MAX),
                memory_pressure_permille: Some(u16::MAX),
                io_pressure_permille: Some(u16::MAX),
                wifi_signal_dbm: Some(i16::MIN),
                is_throttled: Some(false),
            }),
        };
        for line in (paths(&[path]) + &hosts(&[host])).lines() {
            assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
        }
    }

    #[test]
    fn what_a_host_did_not_tell_is_null_and_no_zero() {
        let older = HostInterval {
            started: Stamp { wall_us: 0, uptime_us: 0 },
            duration_ms: 10_000,
            cpu_permille: 120,
            memory_permille: 480,
            cpu_pressure_permille: None,
            temperature_deci_celsius: Some(-15),
            detail: None,
        };
        let json = serde_json::to_value(Host::new(&older)).unwrap();
        assert_eq!(json["throttled"], serde_json::Value::Null);
        assert_eq!(json["busiestCorePermille"], serde_json::Value::Null);
        assert_eq!(json["temperatureCelsius"], -1.5);
    }
}
