//! Records as an agent would write them.

use roomtone_collector::store::{Attach, Content, Incoming, LinkTransport, Operation};
use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
use roomtone_protocol::device::{
    DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest, SelfTestOutcome,
};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, RttSummary, StreamKey, StreamSummary,
    Transport,
};
use roomtone_protocol::path::{PathInterval, PathTarget};
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

/// One interval: 490 of 500 packets each way, jitter mean 3.0 and max 9.5 ms, two round trips of 40 ms mean.
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
        heard: None,
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
        heard: None,
        markings: None,
        reported: None,
        reflexive: None,
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
        detail: None,
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
        detail: None,
        reflector: None,
        connection: None,
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
        self_test(SelfTestOutcome::NotHeard),
        episode(Some(call), EpisodeState::Recovered, 3 * SECOND_US),
        summary(call, 61),
        summary(call, 60),
        device_summary(call),
        call_closed(call),
    ]);
    records
}
