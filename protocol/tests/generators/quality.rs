//! What judgements are made of: what was heard, markings, reports, host, path and network, client events.

use core::net::IpAddr;

use heapless::Vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use roomtone_protocol::client_event::{
    ClientEvent, ClientEventKind, ClientEventValue, ClientEvents, UnknownBecause,
};
use roomtone_protocol::heard::{
    HeardInterval, MosFormula, NetworkMos, NetworkRating, RatedCodec, StreamHeard, Stretches,
};
use roomtone_protocol::host::HostDetail;
use roomtone_protocol::limits::{
    CLIENT_EVENTS_MAX, HEARD_PER_FRAME_MAX, HEARD_PER_LEG_MAX, REPORTED_PER_LEG_MAX,
    STREAMS_PER_LEG_MAX,
};
use roomtone_protocol::media::{RttSummary, StreamMarking, StreamReported};
use roomtone_protocol::network::{ConnectionType, NetworkAttachment, Wifi, WifiRadio};
use roomtone_protocol::path::{PathConnection, PathDetail};

use super::{call, leg, n32, n64, ratio, signed, stamp, text};

fn within<T: Ord + Copy>((a, b): (T, T)) -> (T, T) {
    (a.min(b), a.max(b))
}

/// Some of the positions below `there`, at most `max`, in order.
fn positions(there: usize, max: usize) -> impl Strategy<Value = std::vec::Vec<u8>> {
    let all: std::vec::Vec<u8> = (0..there as u8).collect();
    subsequence(all, 0..=there.min(max))
}

/// Rows for a pack of so many intervals and streams.
pub(super) fn heard_intervals(
    intervals: usize,
    streams: usize,
) -> impl Strategy<Value = Option<Vec<HeardInterval, HEARD_PER_FRAME_MAX>>> {
    let row = (prop::array::uniform5(n32()), (n32(), n32()).prop_map(within));
    let rows = prop::collection::vec(row, HEARD_PER_FRAME_MAX);
    let places = positions(intervals * streams, HEARD_PER_FRAME_MAX);
    prop::option::of((places, rows).prop_map(move |(places, rows)| {
        let rows = places.into_iter().zip(rows).map(|(place, (numbers, (concealed, total)))| {
            let [worst_second_us, played, discarded, delay_mean_dms, _] = numbers;
            HeardInterval {
                interval: place / streams as u8,
                stream: place % streams as u8,
                total_us: total,
                concealed_us: concealed,
                worst_second_us,
                played,
                discarded,
                delay_mean_dms,
            }
        });
        rows.collect()
    }))
}

fn stretches() -> impl Strategy<Value = Stretches> {
    (n32(), (n32(), n32()).prop_map(within)).prop_map(|(count, (missing, frames))| Stretches {
        count,
        frames,
        missing,
    })
}

prop_compose! {
    fn network_mos()(
        formula in select(vec![MosFormula::G107V1, MosFormula::G1071V1, MosFormula::G1072V1]),
        codec in select(vec![
            RatedCodec::G711, RatedCodec::G723, RatedCodec::G729, RatedCodec::G722,
            RatedCodec::Opus,
        ]),
        (assumption, mos_milli, best_milli) in any::<(u16, u16, u16)>(),
    ) -> NetworkMos {
        NetworkMos { formula, codec, assumption, mos_milli, best_milli }
    }
}

fn rating() -> impl Strategy<Value = NetworkRating> {
    prop_oneof![
        select(vec![
            NetworkRating::CodecUnknown,
            NetworkRating::NoFactors,
            NetworkRating::NothingHeard,
        ]),
        network_mos().prop_map(NetworkRating::Mos),
    ]
}

prop_compose! {
    fn stream_heard(stream: u8)(
        model in any::<u16>(),
        (concealed_us, total_us) in (n64(), n64()).prop_map(within),
        large in prop::array::uniform4(n64()),
        small in prop::array::uniform5(n32()),
        worst in (n32(), n32()).prop_map(within),
        (bursts, gaps) in (stretches(), stretches()),
        runs in prop::array::uniform8(n32()),
        rating in rating(),
    ) -> StreamHeard {
        let [stretched_us, compressed_us, played, discarded] = large;
        let [delay_mean_dms, delay_max_dms, worst_second_us, resets, frame_us] = small;
        let (worst_interval_concealed_us, worst_interval_total_us) = worst;
        StreamHeard {
            stream, model, total_us, concealed_us, stretched_us, compressed_us, played, discarded,
            delay_mean_dms, delay_max_dms, worst_second_us, worst_interval_total_us,
            worst_interval_concealed_us, resets, frame_us, bursts, gaps, runs, rating,
        }
    }
}

/// Rows for a leg of so many streams.
pub(super) fn heard_streams(
    streams: usize,
) -> impl Strategy<Value = Option<Vec<StreamHeard, HEARD_PER_LEG_MAX>>> {
    let rows = prop::collection::vec(stream_heard(0), HEARD_PER_LEG_MAX);
    prop::option::of((positions(streams, HEARD_PER_LEG_MAX), rows).prop_map(|(places, rows)| {
        places.into_iter().zip(rows).map(|(stream, row)| StreamHeard { stream, ..row }).collect()
    }))
}

/// Markings for a leg of so many streams.
pub(super) fn markings(
    streams: usize,
) -> impl Strategy<Value = Option<Vec<StreamMarking, STREAMS_PER_LEG_MAX>>> {
    let rows = prop::collection::vec((0..64u8, n32()), STREAMS_PER_LEG_MAX);
    prop::option::of((positions(streams, STREAMS_PER_LEG_MAX), rows).prop_map(|(places, rows)| {
        let rows = places.into_iter().zip(rows);
        rows.map(|(stream, (dscp, others))| StreamMarking { stream, dscp, others }).collect()
    }))
}

pub(super) fn round_trips() -> impl Strategy<Value = RttSummary> {
    prop::array::uniform6(n32()).prop_map(
        |[count, unanswered, min_dms, mean_dms, max_dms, last_dms]| RttSummary {
            count,
            unanswered,
            min_dms,
            mean_dms,
            max_dms,
            last_dms,
        },
    )
}

prop_compose! {
    fn stream_reported()(
        reports in n32(),
        lost in signed(),
        fraction_lost_max in any::<u8>(),
        jitter_mean_dms in prop::option::of(n32()),
        jitter_max_dms in prop::option::of(n32()),
        rtt in round_trips(),
    ) -> StreamReported {
        let stream = 0;
        StreamReported {
            stream, reports, lost, fraction_lost_max, jitter_mean_dms, jitter_max_dms, rtt,
        }
    }
}

/// Reports for a leg of so many streams.
pub(super) fn reported(
    streams: usize,
) -> impl Strategy<Value = Option<Vec<StreamReported, REPORTED_PER_LEG_MAX>>> {
    let rows = prop::collection::vec(stream_reported(), REPORTED_PER_LEG_MAX);
    prop::option::of((positions(streams, REPORTED_PER_LEG_MAX), rows).prop_map(|(places, rows)| {
        places.into_iter().zip(rows).map(|(stream, row)| StreamReported { stream, ..row }).collect()
    }))
}

prop_compose! {
    pub(super) fn host_detail()(
        (busiest_core_permille, memory_pressure_permille) in any::<(Option<u16>, Option<u16>)>(),
        (io_pressure_permille, wifi_signal_dbm) in any::<(Option<u16>, Option<i16>)>(),
        is_throttled in any::<Option<bool>>(),
    ) -> HostDetail {
        HostDetail {
            busiest_core_permille, memory_pressure_permille, io_pressure_permille,
            wifi_signal_dbm, is_throttled,
        }
    }
}

prop_compose! {
    pub(super) fn path_detail()(
        call in prop::option::of(call()),
        counts in prop::array::uniform6(n32()),
    ) -> PathDetail {
        let [returned, unplaced, reordered_up, reordered_down, duplicate, wire_bytes] = counts;
        PathDetail {
            call, returned, unplaced, reordered_up, reordered_down, duplicate, wire_bytes,
        }
    }
}

prop_compose! {
    pub(super) fn path_connection()(
        counts in prop::array::uniform4(n32()),
        mtu in any::<u16>(),
    ) -> PathConnection {
        let [rtt_dms, sent_packets, lost_packets, congestion_events] = counts;
        PathConnection { rtt_dms, sent_packets, lost_packets, congestion_events, mtu }
    }
}

prop_compose! {
    fn wifi()(
        ssid in text(),
        bssid in any::<[u8; 6]>(),
        frequency_mhz in any::<u16>(),
        signal_dbm in any::<Option<i16>>(),
        radio in select(vec![
            WifiRadio::Unknown, WifiRadio::Legacy, WifiRadio::N, WifiRadio::Ac, WifiRadio::Ax,
            WifiRadio::Be,
        ]),
    ) -> Wifi {
        Wifi { ssid, bssid, frequency_mhz, signal_dbm, radio }
    }
}

prop_compose! {
    pub(super) fn network_attachment()(
        at in stamp(),
        call in prop::option::of(call()),
        interface in text(),
        connection in select(vec![
            ConnectionType::Unknown, ConnectionType::Wired, ConnectionType::Wifi,
            ConnectionType::Mobile, ConnectionType::Tunnel,
        ]),
        (is_vpn, is_default_route) in any::<(bool, bool)>(),
        address in any::<IpAddr>(),
        prefix in any::<u8>(),
        (mtu, speed_mbps) in (prop::option::of(n32()), prop::option::of(n32())),
        wifi in prop::option::of(wifi()),
    ) -> NetworkAttachment {
        NetworkAttachment {
            at, call, interface, connection, is_vpn, is_default_route, address, prefix, mtu,
            speed_mbps, wifi,
        }
    }
}

const KINDS: [ClientEventKind; CLIENT_EVENTS_MAX] = [
    ClientEventKind::NetworkSendQuality,
    ClientEventKind::NetworkReceiveQuality,
    ClientEventKind::NetworkDelay,
    ClientEventKind::NetworkBandwidthLow,
    ClientEventKind::CpuInsufficient,
    ClientEventKind::DeviceHalfDuplexAec,
    ClientEventKind::DeviceRenderNotFunctioning,
    ClientEventKind::DeviceCaptureNotFunctioning,
    ClientEventKind::DeviceGlitches,
    ClientEventKind::DeviceLowSnr,
    ClientEventKind::DeviceLowSpeechLevel,
    ClientEventKind::DeviceClipping,
    ClientEventKind::DeviceEcho,
    ClientEventKind::DeviceNearEndToEchoRatio,
    ClientEventKind::DeviceMultipleEndpoints,
    ClientEventKind::DeviceHowling,
    ClientEventKind::DeviceRenderZeroVolume,
    ClientEventKind::DeviceRenderMute,
];

fn client_event_value() -> impl Strategy<Value = ClientEventValue> {
    prop_oneof![
        ratio().prop_map(ClientEventValue::Ratio),
        n32().prop_map(ClientEventValue::Count),
        select(vec![
            UnknownBecause::LevelsNotRead,
            UnknownBecause::NoDevice,
            UnknownBecause::NoReports,
            UnknownBecause::NoSource,
            UnknownBecause::NothingObserved,
            UnknownBecause::InsideProgram,
            UnknownBecause::SwitchedOff,
        ])
        .prop_map(ClientEventValue::Unknown),
    ]
}

prop_compose! {
    pub(super) fn client_events()(
        call in call(),
        leg in prop::option::of(leg()),
        rules in any::<u16>(),
        kinds in subsequence(KINDS.to_vec(), 0..=CLIENT_EVENTS_MAX),
        values in prop::collection::vec(client_event_value(), CLIENT_EVENTS_MAX),
    ) -> ClientEvents {
        let events = kinds.into_iter().zip(values);
        let events = events.map(|(kind, value)| ClientEvent { kind, value }).collect();
        ClientEvents { call, leg, rules, events }
    }
}
