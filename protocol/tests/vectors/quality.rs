//! What judgements are made of: what was heard, markings, reports, host, path and network, client events.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use heapless::Vec;
use roomtone_protocol::client_event::{
    ClientEvent, ClientEventKind, ClientEventValue, ClientEvents, UnknownBecause,
};
use roomtone_protocol::heard::{
    HeardInterval, MosFormula, NetworkMos, NetworkRating, RatedCodec, StreamHeard, Stretches,
};
use roomtone_protocol::host::{HostDetail, HostInterval};
use roomtone_protocol::interval::{IntervalPack, LegIntervals};
use roomtone_protocol::media::{
    ClockRateSource, LegSummary, RttSummary, StreamKey, StreamMarking, StreamReported,
    StreamSummary,
};
use roomtone_protocol::message::Message;
use roomtone_protocol::network::{ConnectionType, NetworkAttachment, Wifi, WifiRadio};
use roomtone_protocol::path::{PathConnection, PathDetail, PathInterval, PathTarget};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;

use super::{CALL, INGRESS, LEG, STAMP, plain_path, record, worked_example};

pub(super) fn vectors() -> std::vec::Vec<(&'static str, Message)> {
    let mut all = listening();
    all.extend(events());
    all.extend(networks());
    all.extend(details());
    all
}

/// One received stream in two intervals, and over its leg.
fn listening() -> std::vec::Vec<(&'static str, Message)> {
    let heard = |interval, concealed_us| HeardInterval {
        interval,
        stream: 0,
        total_us: 9_980_000,
        concealed_us,
        worst_second_us: 140_000,
        played: 490,
        discarded: 2,
        delay_mean_dms: 612,
    };
    let intervals = |rows: &[HeardInterval]| {
        let pack = IntervalPack::from_intervals(&worked_example(), 1).unwrap();
        record(Record::LegIntervals(LegIntervals {
            call: CALL,
            leg: LEG,
            first: 2,
            started_wall_ms: 1_795_359_600_000,
            streams: Vec::from_slice(&[INGRESS]).unwrap(),
            pack,
            heard: Some(Vec::from_slice(rows).unwrap()),
        }))
    };
    let stream = |stream, rating| StreamHeard {
        stream,
        model: 1,
        total_us: 599_980_000,
        concealed_us: 12_340_000,
        stretched_us: 800_000,
        compressed_us: 760_000,
        played: 29_380,
        discarded: 9,
        delay_mean_dms: 598,
        delay_max_dms: 2_100,
        worst_second_us: 420_000,
        worst_interval_total_us: 9_990_000,
        worst_interval_concealed_us: 1_200_000,
        resets: 1,
        frame_us: 20_000,
        bursts: Stretches { count: 12, frames: 300, missing: 120 },
        gaps: Stretches { count: 13, frames: 29_700, missing: 500 },
        runs: [400, 40, 20, 5, 4, 3, 2, 1],
        rating,
    };
    let mos = NetworkMos {
        formula: MosFormula::G1072V1,
        codec: RatedCodec::Opus,
        assumption: 2,
        mos_milli: 4_112,
        best_milli: 4_500,
    };
    let key = |ssrc| StreamSummary {
        key: StreamKey { ssrc: [ssrc; 4], ..INGRESS },
        payload_types: Vec::from_slice(&[111]).unwrap(),
        clock_rate_hz: 48_000,
        clock_rate_source: ClockRateSource::Slope,
        first_us: 0,
        last_us: 599_980_000,
        received: 29_389,
        expected: 30_000,
        lost: 611,
        duplicate: 0,
        reordered: 0,
        sequence_restarts: 0,
        jitter_mean_dms: 117,
        jitter_max_dms: 204,
        jitter_last_dms: 98,
    };
    let summary = |heard, markings, reported, reflexive| {
        record(Record::LegSummary(LegSummary {
            call: CALL,
            leg: LEG,
            closed: STAMP,
            rtt: RttSummary::default(),
            tap_dropped: 0,
            streams: Vec::from_slice(&[key(1), key(2), key(3), key(4)]).unwrap(),
            heard,
            markings,
            reported,
            reflexive,
        }))
    };
    let rows = [
        stream(0, NetworkRating::Mos(mos)),
        stream(1, NetworkRating::CodecUnknown),
        stream(2, NetworkRating::NoFactors),
        stream(3, NetworkRating::NothingHeard),
    ];
    let reported = StreamReported {
        stream: 1,
        reports: 120,
        lost: -3,
        fraction_lost_max: 12,
        jitter_mean_dms: Some(31),
        jitter_max_dms: None,
        rtt: RttSummary {
            count: 119,
            unanswered: 0,
            min_dms: 401,
            mean_dms: 420,
            max_dms: 777,
            last_dms: 415,
        },
    };
    let markings = [
        StreamMarking { stream: 0, dscp: 0, others: 0 },
        StreamMarking { stream: 3, dscp: 46, others: 17 },
    ];
    let reflexive = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 50_006));
    vec![
        ("leg_intervals_heard", intervals(&[heard(0, 0), heard(1, 380_000)])),
        ("leg_intervals_nothing_heard", intervals(&[])),
        (
            "leg_summary_heard_and_more",
            summary(
                Some(rows.into_iter().collect()),
                Some(markings.into_iter().collect()),
                Some([reported].into_iter().collect()),
                Some(reflexive),
            ),
        ),
        ("leg_summary_reflexive_only", summary(None, None, None, Some(reflexive))),
    ]
}

fn events() -> std::vec::Vec<(&'static str, Message)> {
    use ClientEventKind as Kind;
    use UnknownBecause as Because;
    let ratio = |part_us| ClientEventValue::Ratio(Ratio::new(part_us, 600_000_000).unwrap());
    let body = |leg, rows: &[(ClientEventKind, ClientEventValue)]| {
        let events = rows.iter().map(|&(kind, value)| ClientEvent { kind, value }).collect();
        record(Record::ClientEvents(ClientEvents { call: CALL, leg, rules: 1, events }))
    };
    let unknown = ClientEventValue::Unknown;
    vec![
        (
            "client_events_of_a_leg",
            body(
                Some(LEG),
                &[
                    (Kind::NetworkSendQuality, unknown(Because::NoReports)),
                    (Kind::NetworkReceiveQuality, ratio(20_000_000)),
                    (Kind::NetworkDelay, ratio(0)),
                    (Kind::NetworkBandwidthLow, unknown(Because::NoSource)),
                ],
            ),
        ),
        (
            "client_events_of_a_call",
            body(
                None,
                &[
                    (Kind::CpuInsufficient, ratio(5_000_000)),
                    (Kind::DeviceHalfDuplexAec, unknown(Because::InsideProgram)),
                    (Kind::DeviceRenderNotFunctioning, unknown(Because::NoDevice)),
                    (Kind::DeviceCaptureNotFunctioning, ratio(3_000_000)),
                    (Kind::DeviceGlitches, ratio(10_000)),
                    (Kind::DeviceLowSnr, unknown(Because::LevelsNotRead)),
                    (Kind::DeviceLowSpeechLevel, unknown(Because::NothingObserved)),
                    (Kind::DeviceClipping, ratio(1)),
                    (Kind::DeviceEcho, unknown(Because::InsideProgram)),
                    (Kind::DeviceNearEndToEchoRatio, unknown(Because::InsideProgram)),
                    (Kind::DeviceMultipleEndpoints, unknown(Because::SwitchedOff)),
                    (Kind::DeviceHowling, ClientEventValue::Count(2)),
                    (Kind::DeviceRenderZeroVolume, ratio(0)),
                    (Kind::DeviceRenderMute, ratio(600_000_000)),
                ],
            ),
        ),
    ]
}

fn networks() -> std::vec::Vec<(&'static str, Message)> {
    let wired = NetworkAttachment {
        at: STAMP,
        call: None,
        interface: "eno1".try_into().unwrap(),
        connection: ConnectionType::Wired,
        is_vpn: false,
        is_default_route: true,
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 17)),
        prefix: 24,
        mtu: Some(1_500),
        speed_mbps: Some(1_000),
        wifi: None,
    };
    let of = |connection| NetworkAttachment { connection, ..wired.clone() };
    let wifi = |radio| NetworkAttachment {
        call: Some(CALL),
        interface: "wlp3s0".try_into().unwrap(),
        address: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x17)),
        prefix: 64,
        wifi: Some(Wifi {
            ssid: "Räume".try_into().unwrap(),
            bssid: [0x02, 0x11, 0x22, 0x33, 0x44, 0x55],
            frequency_mhz: 5_180,
            signal_dbm: Some(-61),
            radio,
        }),
        ..of(ConnectionType::Wifi)
    };
    let body = |attachment| record(Record::NetworkAttachment(attachment));
    vec![
        ("network_attachment_wired", body(wired.clone())),
        ("network_attachment_unknown", body(of(ConnectionType::Unknown))),
        ("network_attachment_mobile", body(of(ConnectionType::Mobile))),
        (
            "network_attachment_vpn",
            body(NetworkAttachment {
                is_vpn: true,
                mtu: None,
                speed_mbps: None,
                ..of(ConnectionType::Tunnel)
            }),
        ),
        ("network_attachment_wifi_unknown", body(wifi(WifiRadio::Unknown))),
        ("network_attachment_wifi_legacy", body(wifi(WifiRadio::Legacy))),
        ("network_attachment_wifi_n", body(wifi(WifiRadio::N))),
        ("network_attachment_wifi_ac", body(wifi(WifiRadio::Ac))),
        ("network_attachment_wifi_ax", body(wifi(WifiRadio::Ax))),
        ("network_attachment_wifi_be", body(wifi(WifiRadio::Be))),
    ]
}

fn details() -> std::vec::Vec<(&'static str, Message)> {
    // 150 sent: 3 and 1 lost, 2 more in a direction that nothing tells.
    let detail = |call| PathDetail {
        call,
        returned: 144,
        unplaced: 2,
        reordered_up: 5,
        reordered_down: 6,
        duplicate: 1,
        wire_bytes: 29_000,
    };
    vec![
        (
            "host_interval_detail",
            record(Record::HostInterval(HostInterval {
                started: STAMP,
                duration_ms: 10_000,
                cpu_permille: 910,
                memory_permille: 610,
                cpu_pressure_permille: Some(130),
                temperature_deci_celsius: Some(781),
                detail: Some(HostDetail {
                    busiest_core_permille: Some(1_000),
                    memory_pressure_permille: Some(0),
                    io_pressure_permille: None,
                    wifi_signal_dbm: Some(-67),
                    is_throttled: Some(true),
                }),
            })),
        ),
        (
            "path_interval_collector_detail",
            record(Record::PathInterval(PathInterval {
                detail: Some(detail(Some(CALL))),
                connection: Some(PathConnection {
                    rtt_dms: 233,
                    sent_packets: 330,
                    lost_packets: 4,
                    congestion_events: 1,
                    mtu: 1_452,
                }),
                ..plain_path(PathTarget::Collector)
            })),
        ),
        (
            "path_interval_stamp_detail",
            record(Record::PathInterval(PathInterval {
                detail: Some(detail(None)),
                reflector: Some(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 862))),
                ..plain_path(PathTarget::Stamp)
            })),
        ),
    ]
}
