//! Records as an agent would write them.

use roomtone_collector::store::{Attach, Content, Incoming, LinkTransport, Operation};
use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
use roomtone_protocol::client_event::{
    ClientEvent, ClientEventKind, ClientEventValue, ClientEvents, UnknownBecause,
};
use roomtone_protocol::device::{
    DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest, SelfTestOutcome,
};
use roomtone_protocol::heard::{
    HeardInterval, MosFormula, NetworkMos, NetworkRating, RatedCodec, StreamHeard, Stretches,
};
use roomtone_protocol::host::{HostDetail, HostInterval};
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, RttSummary, StreamKey, StreamMarking,
    StreamReported, StreamSummary, Transport,
};
use roomtone_protocol::network::{ConnectionType, NetworkAttachment, Wifi, WifiRadio};
use roomtone_protocol::path::{PathConnection, PathDetail, PathInterval, PathTarget};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

/// 2026-11-22T23:59:00Z: one minute before the day of receipt changes.
pub const NOW_US: u64 = 1_795_391_940_000_000;
pub const SECOND_US: u64 = 1_000_000;
pub const DAY_US: u64 = 86_400 * SECOND_US;

pub const OSLO: EndpointId = EndpointId(*b"oslo-4..........");
pub const TROMSO: EndpointId = EndpointId(*b"tromso-1........");
pub const CALL: CallId = CallId(0xf00d_0000_0000_0001);
pub const EPOCH: Epoch = Epoch(7);

pub fn stamp(seconds: u64) -> Stamp {
    Stamp {
        wall_us: NOW_US + seconds * SECOND_US,
        uptime_us: 1_000 * SECOND_US + seconds * SECOND_US,
    }
}

pub fn id(epoch: Epoch, sequence: u32) -> RecordId {
    RecordId { epoch, sequence: Sequence(sequence) }
}

pub fn record(endpoint: EndpointId, sequence: u32, record: Record) -> Operation {
    Operation::Record(Incoming {
        endpoint,
        id: id(EPOCH, sequence),
        content: Content::Known(Box::new(record)),
    })
}

pub fn attach(endpoint: EndpointId, name: &str) -> Operation {
    Operation::Attach(Attach {
        endpoint,
        name: name.to_owned(),
        agent_version: "0.1.0".to_owned(),
        transport: LinkTransport::Quic,
        remote: "[2001:db8::7]:50000".parse().unwrap(),
        epoch: EPOCH,
    })
}

pub fn call_opened(call: CallId, purpose: CallPurpose) -> Record {
    Record::CallOpened(CallOpened { call, opened: stamp(0), purpose })
}

pub fn call_closed(call: CallId) -> Record {
    Record::CallClosed(CallClosed {
        call,
        closed: stamp(70),
        reason: CallCloseReason::Idle,
        legs: 1,
    })
}

pub fn leg_opened(call: CallId) -> Record {
    Record::LegOpened(LegOpened {
        call,
        leg: LegNumber(0),
        opened: stamp(0),
        local: "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:50010".parse().unwrap(),
        remote: "[2001:db8:1111:2222:3333:4444:5555:6666]:3480".parse().unwrap(),
        transport: Transport::Turn,
    })
}

pub fn stream_key(direction: Direction) -> StreamKey {
    StreamKey { ssrc: [1, 2, 3, 4], direction, media: Media::Audio }
}

/// One interval, of which 10 s were heard and 0.15 s concealed: 490 of 500 packets each way, jitter mean 3.0 and max
/// 9.5 ms, two round trips of 40 ms mean.
pub fn intervals(call: CallId, first: u16) -> Record {
    let row = StreamInterval {
        stream: 0,
        received: 490,
        lost: 10,
        duplicate: 1,
        reordered: 2,
        jitter_mean_dms: 30,
        jitter_max_dms: 95,
        sequence_restarts: 0,
    };
    let interval = LegInterval {
        duration_ms: 10_000,
        rtt_count: 2,
        rtt_min_dms: 390,
        rtt_mean_dms: 400,
        rtt_max_dms: 410,
        rtt_unanswered: 0,
        tap_dropped: 0,
        streams: [row, StreamInterval { stream: 1, ..row }].into_iter().collect(),
    };
    Record::LegIntervals(LegIntervals {
        call,
        leg: LegNumber(0),
        first,
        started_wall_ms: NOW_US / 1_000 + u64::from(first) * 10_000,
        streams: [stream_key(Direction::Ingress), stream_key(Direction::Egress)]
            .into_iter()
            .collect(),
        pack: IntervalPack::from_intervals(&[interval], 2).unwrap(),
        heard: Some(
            [HeardInterval {
                interval: 0,
                stream: 0,
                total_us: 10_000_000,
                concealed_us: 150_000,
                worst_second_us: 90_000,
                played: 490,
                discarded: 2,
                delay_mean_dms: 420,
            }]
            .into_iter()
            .collect(),
        ),
    })
}

pub fn summary(call: CallId, lost: u64) -> Record {
    let stream = |direction| StreamSummary {
        key: stream_key(direction),
        payload_types: [111, 13].into_iter().collect(),
        clock_rate_hz: 48_000,
        clock_rate_source: ClockRateSource::Slope,
        first_us: 20_000,
        last_us: 59_980_000,
        received: 3_000 - lost,
        expected: 3_000,
        lost,
        duplicate: 6,
        reordered: 12,
        sequence_restarts: 0,
        jitter_mean_dms: 31,
        jitter_max_dms: 95,
        jitter_last_dms: 28,
    };
    Record::LegSummary(LegSummary {
        call,
        leg: LegNumber(0),
        closed: stamp(60),
        rtt: RttSummary {
            count: 12,
            unanswered: 1,
            min_dms: 390,
            mean_dms: 401,
            max_dms: 415,
            last_dms: 399,
        },
        tap_dropped: 0,
        streams: [stream(Direction::Ingress), stream(Direction::Egress)].into_iter().collect(),
        heard: Some([stream_heard(0)].into_iter().collect()),
        markings: Some(
            [
                StreamMarking { stream: 0, dscp: 0, others: 12 },
                StreamMarking { stream: 1, dscp: 46, others: 0 },
            ]
            .into_iter()
            .collect(),
        ),
        reported: Some(
            [StreamReported {
                stream: 1,
                reports: 11,
                lost: -3,
                fraction_lost_max: 26,
                jitter_mean_dms: Some(41),
                jitter_max_dms: None,
                rtt: RttSummary {
                    count: 10,
                    unanswered: 0,
                    min_dms: 400,
                    mean_dms: 410,
                    max_dms: 450,
                    last_dms: 405,
                },
            }]
            .into_iter()
            .collect(),
        ),
        reflexive: Some("198.51.100.7:62001".parse().unwrap()),
    })
}

/// A minute of which 0.9 s were concealed, rated 3.9 of 4.4.
pub fn stream_heard(stream: u8) -> StreamHeard {
    StreamHeard {
        stream,
        model: 1,
        total_us: 60 * SECOND_US,
        concealed_us: 900_000,
        stretched_us: 40_000,
        compressed_us: 20_000,
        played: 2_940,
        discarded: 12,
        delay_mean_dms: 420,
        delay_max_dms: 1_210,
        worst_second_us: 240_000,
        worst_interval_total_us: 10_000_000,
        worst_interval_concealed_us: 500_000,
        resets: 1,
        frame_us: 20_000,
        bursts: Stretches { count: 2, frames: 30, missing: 18 },
        gaps: Stretches { count: 3, frames: 2_970, missing: 42 },
        runs: [40, 5, 2, 0, 0, 0, 0, 1],
        rating: NetworkRating::Mos(NetworkMos {
            formula: MosFormula::G1072V1,
            codec: RatedCodec::Opus,
            assumption: 2,
            mos_milli: 3_900,
            best_milli: 4_400,
        }),
    }
}

pub fn network(call: Option<CallId>, address: &str, signal_dbm: i16) -> Record {
    Record::NetworkAttachment(NetworkAttachment {
        at: stamp(1),
        call,
        interface: "wlp2s0".try_into().unwrap(),
        connection: ConnectionType::Wifi,
        is_vpn: false,
        is_default_route: true,
        address: address.parse().unwrap(),
        prefix: 64,
        mtu: Some(1_500),
        speed_mbps: None,
        wifi: Some(Wifi {
            ssid: "Rooms".try_into().unwrap(),
            bssid: [2, 0, 0, 0, 0, 255],
            frequency_mhz: 5_180,
            signal_dbm: Some(signal_dbm),
            radio: WifiRadio::Ax,
        }),
    })
}

/// One event of each sort, in an order that is not the enum's.
pub fn client_events(call: CallId, leg: Option<u16>, howls: u32) -> Record {
    let event = |kind, value| ClientEvent { kind, value };
    Record::ClientEvents(ClientEvents {
        call,
        leg: leg.map(LegNumber),
        rules: 0x8001,
        events: [
            event(ClientEventKind::DeviceHowling, ClientEventValue::Count(howls)),
            event(
                ClientEventKind::NetworkReceiveQuality,
                ClientEventValue::Ratio(Ratio::new(2 * SECOND_US, 60 * SECOND_US).unwrap()),
            ),
            event(
                ClientEventKind::DeviceClipping,
                ClientEventValue::Unknown(UnknownBecause::LevelsNotRead),
            ),
        ]
        .into_iter()
        .collect(),
    })
}

pub fn episode(call: Option<CallId>, state: EpisodeState, bad_us: u64) -> Record {
    Record::DeviceEpisode(DeviceEpisode {
        episode: 0xe1,
        call,
        device: "USB Room Mic".try_into().unwrap(),
        side: DeviceSide::Capture,
        cause: DeviceCause::Stalled,
        onset: stamp(20),
        bad_us,
        state,
    })
}

pub fn device_summary(call: CallId) -> Record {
    Record::DeviceSummary(DeviceSummary {
        call,
        device: "USB Room Mic".try_into().unwrap(),
        side: DeviceSide::Capture,
        not_functioning: Ratio::new(3 * SECOND_US, 60 * SECOND_US).unwrap(),
        muted: Ratio::new(0, 60 * SECOND_US).unwrap(),
        episodes: 1,
        detector: 1,
        zero_volume: Ratio::new(6 * SECOND_US, 60 * SECOND_US),
        glitches: Some(4),
    })
}

pub fn self_test(outcome: SelfTestOutcome) -> Record {
    let is_heard = outcome == SelfTestOutcome::Heard;
    Record::SelfTest(SelfTest {
        ended: stamp(40),
        requested: true,
        capture: "USB Room Mic".try_into().unwrap(),
        render: "USB Room Speaker".try_into().unwrap(),
        outcome,
        level_db_tenths: is_heard.then_some(-312),
        delay_us: is_heard.then_some(187_250),
    })
}

pub fn host_interval() -> Record {
    Record::HostInterval(HostInterval {
        started: stamp(0),
        duration_ms: 10_000,
        cpu_permille: 120,
        memory_permille: 480,
        cpu_pressure_permille: None,
        temperature_deci_celsius: Some(-15),
        detail: Some(HostDetail {
            busiest_core_permille: Some(900),
            memory_pressure_permille: None,
            io_pressure_permille: Some(0),
            wifi_signal_dbm: Some(-61),
            is_throttled: Some(false),
        }),
    })
}

pub fn path_interval() -> Record {
    Record::PathInterval(PathInterval {
        started: stamp(0),
        duration_ms: 10_000,
        target: PathTarget::Collector,
        sent: 50,
        lost_up: 1,
        lost_down: 0,
        rtt_min_dms: 100,
        rtt_mean_dms: 110,
        rtt_max_dms: 150,
        jitter_up_dms: 3,
        jitter_down_dms: 4,
        detail: Some(PathDetail {
            call: Some(CALL),
            returned: 48,
            unplaced: 1,
            reordered_up: 2,
            reordered_down: 3,
            duplicate: 4,
            wire_bytes: 7_400,
        }),
        reflector: Some("[2001:db8::862]:862".parse().unwrap()),
        connection: Some(PathConnection {
            rtt_dms: 108,
            sent_packets: 70,
            lost_packets: 2,
            congestion_events: 1,
            mtu: 1_452,
        }),
    })
}

pub fn receipt(first: u32, last: u32) -> Record {
    Record::LossReceipt(LossReceipt {
        epoch: EPOCH,
        first: Sequence(first),
        last: Sequence(last),
        cause: LossCause::Shed,
        noticed: stamp(30),
    })
}

/// A whole call as its records, in the order in which an agent writes them; one of each kind at least.
pub fn whole_call(call: CallId) -> Vec<Record> {
    let mut records = vec![call_opened(call, CallPurpose::Meeting), leg_opened(call)];
    records.extend((0..6).map(|first| intervals(call, first)));
    records.extend([
        episode(Some(call), EpisodeState::Open, SECOND_US),
        host_interval(),
        path_interval(),
        network(Some(call), "2001:db8:aaaa::7", -70),
        network(None, "192.0.2.7", -71),
        network(Some(call), "2001:db8:aaaa::7", -60),
        client_events(call, Some(0), 0),
        client_events(call, None, 1),
        client_events(call, None, 2),
        self_test(SelfTestOutcome::NotHeard),
        episode(Some(call), EpisodeState::Recovered, 3 * SECOND_US),
        summary(call, 61),
        summary(call, 60),
        device_summary(call),
        call_closed(call),
    ]);
    records
}
