//! Arbitrary values of every type on the wire, extremes more often than chance would have them.

mod quality;

use core::net::{IpAddr, SocketAddr};

use heapless::{String, Vec};
use proptest::prelude::*;
use proptest::sample::select;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
use roomtone_protocol::configuration::{
    Arrival, Configuration, ConfigurationHash, ConfigurationState, EffectiveConfiguration, Outcome,
};
use roomtone_protocol::control::Control;
use roomtone_protocol::device::{
    DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest, SelfTestOutcome,
};
use roomtone_protocol::enroll::{
    AuthorityFingerprint, BootId, EnrollRefusal, EnrollReply, EnrollRequest, RenewRefusal,
    RenewReply, RenewRequest, TokenId, TokenSecret,
};
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::hello::{Hello, HelloReply, RefuseReason};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::{INTERVALS_PER_FRAME_MAX, PAYLOAD_TYPES_MAX, STREAMS_PER_LEG_MAX};
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, StreamKey, StreamSummary, Transport,
};
use roomtone_protocol::message::Message;
use roomtone_protocol::path::{PathInterval, PathTarget};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

fn n32() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![0..600u32, any::<u32>(), select(vec![0, 1, u32::MAX - 1, u32::MAX])]
}

fn n64() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..600u64, any::<u64>(), select(vec![0, 1, u64::MAX - 1, u64::MAX])]
}

fn signed() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![-20..20i32, any::<i32>(), select(vec![i32::MIN, -1, 0, i32::MAX])]
}

fn text<const N: usize>() -> impl Strategy<Value = String<N>> {
    prop::collection::vec(any::<char>(), 0..=N).prop_map(|characters| {
        let mut text = String::new();
        for character in characters {
            // A character too wide for what is left is skipped, so that full strings occur.
            let _ = text.push(character);
        }
        text
    })
}

fn list<T: Clone + core::fmt::Debug, const N: usize>(
    items: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T, N>> {
    prop::collection::vec(items, 0..=N).prop_map(|items| Vec::from_slice(&items).unwrap())
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (n64(), n64()).prop_map(|(wall_us, uptime_us)| Stamp { wall_us, uptime_us })
}

fn call() -> impl Strategy<Value = CallId> {
    any::<u64>().prop_map(CallId)
}

fn leg() -> impl Strategy<Value = LegNumber> {
    any::<u16>().prop_map(LegNumber)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    n32().prop_map(Epoch)
}

fn sequence() -> impl Strategy<Value = Sequence> {
    n32().prop_map(Sequence)
}

fn ratio() -> impl Strategy<Value = Ratio> {
    (n64(), n64()).prop_map(|(a, b)| Ratio::new(a.min(b), a.max(b)).unwrap())
}

/// Flow label and zone of an IPv6 address do not travel, so they are 0 here.
fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn side() -> impl Strategy<Value = DeviceSide> {
    select(vec![DeviceSide::Capture, DeviceSide::Render])
}

prop_compose! {
    fn stream_key()(
        ssrc in any::<[u8; 4]>(),
        direction in select(vec![Direction::Ingress, Direction::Egress]),
        media in select(vec![Media::Unknown, Media::Audio, Media::Video, Media::Rtx]),
    ) -> StreamKey {
        StreamKey { ssrc, direction, media }
    }
}

prop_compose! {
    fn stream_interval(stream: u8)(
        counts in prop::array::uniform4(n32()),
        lost in signed(),
        jitter in prop::array::uniform2(n32()),
    ) -> StreamInterval {
        let [received, duplicate, reordered, sequence_restarts] = counts;
        let [jitter_mean_dms, jitter_max_dms] = jitter;
        StreamInterval {
            stream,
            received,
            lost,
            duplicate,
            reordered,
            jitter_mean_dms,
            jitter_max_dms,
            sequence_restarts,
        }
    }
}

/// An interval with rows for any of the first `streams` streams.
pub(crate) fn leg_interval(streams: usize) -> impl Strategy<Value = LegInterval> {
    let rows: std::vec::Vec<_> = (0..streams)
        .map(|stream| prop::option::weighted(0.7, stream_interval(stream as u8)))
        .collect();
    (prop::array::uniform7(n32()), rows).prop_map(|(fields, rows)| {
        let [duration_ms, rtt_count, min, mean, max, unanswered, dropped] = fields;
        LegInterval {
            duration_ms,
            rtt_count,
            rtt_min_dms: min,
            rtt_mean_dms: mean,
            rtt_max_dms: max,
            rtt_unanswered: unanswered,
            tap_dropped: dropped,
            streams: rows.into_iter().flatten().collect(),
        }
    })
}

/// Up to six intervals, `least` or more, and the number of streams in their table.
pub(crate) fn intervals(
    least: usize,
) -> impl Strategy<Value = (std::vec::Vec<LegInterval>, usize)> {
    (0..=STREAMS_PER_LEG_MAX).prop_flat_map(move |streams| {
        let rows = prop::collection::vec(leg_interval(streams), least..=INTERVALS_PER_FRAME_MAX);
        (rows, Just(streams))
    })
}

prop_compose! {
    fn leg_intervals()(
        call in call(),
        leg in leg(),
        first in any::<u16>(),
        started_wall_ms in n64(),
        (rows, table) in intervals(1),
        keys in prop::collection::vec(stream_key(), STREAMS_PER_LEG_MAX),
    )(
        heard in quality::heard_intervals(rows.len(), table),
        call in Just(call),
        leg in Just(leg),
        first in Just(first),
        started_wall_ms in Just(started_wall_ms),
        (rows, table) in Just((rows, table)),
        keys in Just(keys),
    ) -> LegIntervals {
        LegIntervals {
            call,
            leg,
            first,
            started_wall_ms,
            streams: Vec::from_slice(&keys[..table]).unwrap(),
            pack: IntervalPack::from_intervals(&rows, table).unwrap(),
            heard,
        }
    }
}

prop_compose! {
    fn stream_summary()(
        key in stream_key(),
        payload_types in list::<u8, PAYLOAD_TYPES_MAX>(0..128u8),
        clock_rate_source in select(vec![
            ClockRateSource::Static, ClockRateSource::Slope, ClockRateSource::Unknown,
        ]),
        small in prop::array::uniform5(n32()),
        large in prop::array::uniform7(n64()),
    ) -> StreamSummary {
        let [clock_rate_hz, sequence_restarts, jitter_mean_dms, jitter_max_dms, jitter_last_dms] =
            small;
        let [first_us, last_us, received, expected, lost, duplicate, reordered] = large;
        StreamSummary {
            key,
            payload_types,
            clock_rate_hz,
            clock_rate_source,
            first_us,
            last_us,
            received,
            expected,
            lost,
            duplicate,
            reordered,
            sequence_restarts,
            jitter_mean_dms,
            jitter_max_dms,
            jitter_last_dms,
        }
    }
}

prop_compose! {
    fn leg_summary()(
        call in call(),
        leg in leg(),
        closed in stamp(),
        rtt in quality::round_trips(),
        tap_dropped in n64(),
        streams in list::<StreamSummary, STREAMS_PER_LEG_MAX>(stream_summary()),
    )(
        heard in quality::heard_streams(streams.len()),
        markings in quality::markings(streams.len()),
        reported in quality::reported(streams.len()),
        reflexive in prop::option::of(address()),
        (call, leg, closed) in Just((call, leg, closed)),
        (rtt, tap_dropped) in Just((rtt, tap_dropped)),
        streams in Just(streams),
    ) -> LegSummary {
        LegSummary {
            call, leg, closed, rtt, tap_dropped, streams, heard, markings, reported, reflexive,
        }
    }
}

prop_compose! {
    fn leg_opened()(
        call in call(),
        leg in leg(),
        opened in stamp(),
        local in address(),
        remote in address(),
        transport in select(vec![Transport::Udp, Transport::Turn]),
    ) -> LegOpened {
        LegOpened { call, leg, opened, local, remote, transport }
    }
}

prop_compose! {
    fn device_episode()(
        episode in n64(),
        call in prop::option::of(call()),
        device in text(),
        side in side(),
        cause in select(vec![
            DeviceCause::Removed, DeviceCause::NeverStarted, DeviceCause::Stalled,
            DeviceCause::ZeroSignal, DeviceCause::ConstantSignal, DeviceCause::OpenFailed,
            DeviceCause::StreamError, DeviceCause::Suspended, DeviceCause::WrongRoute,
            DeviceCause::ServerLost, DeviceCause::SelfTestFailed,
        ]),
        onset in stamp(),
        bad_us in n64(),
        state in select(vec![
            EpisodeState::Open, EpisodeState::Recovered, EpisodeState::Unrecovered,
        ]),
    ) -> DeviceEpisode {
        DeviceEpisode { episode, call, device, side, cause, onset, bad_us, state }
    }
}

prop_compose! {
    fn device_summary()(
        call in call(),
        device in text(),
        side in side(),
        not_functioning in ratio(),
        muted in ratio(),
        episodes in n32(),
        detector in any::<u16>(),
        zero_volume in prop::option::of(ratio()),
        glitches in prop::option::of(n32()),
    ) -> DeviceSummary {
        DeviceSummary {
            call,
            device,
            side,
            not_functioning,
            muted,
            episodes,
            detector,
            zero_volume,
            glitches,
        }
    }
}

prop_compose! {
    fn self_test()(
        ended in stamp(),
        requested in any::<bool>(),
        capture in text(),
        render in text(),
        outcome in select(vec![
            SelfTestOutcome::Heard,
            SelfTestOutcome::NotHeard,
            SelfTestOutcome::NoSignal,
            SelfTestOutcome::CaptureFailed,
            SelfTestOutcome::RenderFailed,
            SelfTestOutcome::Busy,
            SelfTestOutcome::InCall,
            SelfTestOutcome::NoDevice,
        ]),
        level_db_tenths in any::<Option<i16>>(),
        delay_us in prop::option::of(n32()),
    ) -> SelfTest {
        SelfTest { ended, requested, capture, render, outcome, level_db_tenths, delay_us }
    }
}

prop_compose! {
    fn host_interval()(
        started in stamp(),
        duration_ms in n32(),
        cpu_permille in any::<u16>(),
        memory_permille in any::<u16>(),
        cpu_pressure_permille in any::<Option<u16>>(),
        temperature_deci_celsius in any::<Option<i16>>(),
        detail in prop::option::of(quality::host_detail()),
    ) -> HostInterval {
        HostInterval {
            started,
            duration_ms,
            cpu_permille,
            memory_permille,
            cpu_pressure_permille,
            temperature_deci_celsius,
            detail,
        }
    }
}

prop_compose! {
    fn path_interval()(
        started in stamp(),
        target in select(vec![PathTarget::Collector, PathTarget::Stamp]),
        counts in prop::array::uniform4(n32()),
        rtt in prop::array::uniform3(n32()),
        jitter in prop::array::uniform2(n32()),
        detail in prop::option::of(quality::path_detail()),
        reflector in prop::option::of(address()),
        connection in prop::option::of(quality::path_connection()),
    ) -> PathInterval {
        let [duration_ms, sent, lost_up, lost_down] = counts;
        let [rtt_min_dms, rtt_mean_dms, rtt_max_dms] = rtt;
        let [jitter_up_dms, jitter_down_dms] = jitter;
        PathInterval {
            started,
            duration_ms,
            target,
            sent,
            lost_up,
            lost_down,
            rtt_min_dms,
            rtt_mean_dms,
            rtt_max_dms,
            jitter_up_dms,
            jitter_down_dms,
            detail,
            reflector,
            connection,
        }
    }
}

prop_compose! {
    fn loss_receipt()(
        epoch in epoch(),
        first in sequence(),
        last in sequence(),
        cause in select(vec![
            LossCause::Shed, LossCause::Corrupt, LossCause::Torn, LossCause::WriteFailed,
        ]),
        noticed in stamp(),
    ) -> LossReceipt {
        LossReceipt { epoch, first, last, cause, noticed }
    }
}

/// Each arm is boxed: the value trees of all arms side by side do not fit on a test thread's stack.
fn record() -> impl Strategy<Value = Record> {
    let purpose = select(vec![CallPurpose::Meeting, CallPurpose::Rehearsal]);
    let reason = select(vec![CallCloseReason::Idle, CallCloseReason::AgentStopped]);
    let opened = (call(), stamp(), purpose).prop_map(|(call, opened, purpose)| CallOpened {
        call,
        opened,
        purpose,
    });
    let closed = (call(), stamp(), reason, any::<u16>())
        .prop_map(|(call, closed, reason, legs)| CallClosed { call, closed, reason, legs });
    prop_oneof![
        opened.prop_map(Record::CallOpened).boxed(),
        closed.prop_map(Record::CallClosed).boxed(),
        leg_opened().prop_map(Record::LegOpened).boxed(),
        leg_intervals().prop_map(Record::LegIntervals).boxed(),
        leg_summary().prop_map(Record::LegSummary).boxed(),
        device_episode().prop_map(Record::DeviceEpisode).boxed(),
        device_summary().prop_map(Record::DeviceSummary).boxed(),
        host_interval().prop_map(Record::HostInterval).boxed(),
        path_interval().prop_map(Record::PathInterval).boxed(),
        loss_receipt().prop_map(Record::LossReceipt).boxed(),
        self_test().prop_map(Record::SelfTest).boxed(),
        quality::network_attachment().prop_map(Record::NetworkAttachment).boxed(),
        quality::client_events().prop_map(Record::ClientEvents).boxed(),
    ]
}

prop_compose! {
    fn hello()(
        endpoint in any::<[u8; 16]>(),
        wire_min in any::<u8>(),
        wire_max in any::<u8>(),
        agent_version in text(),
        epoch in epoch(),
        oldest in sequence(),
        now in stamp(),
        boot in prop::option::of(any::<[u8; 16]>().prop_map(BootId)),
    ) -> Hello {
        let endpoint = EndpointId(endpoint);
        Hello { endpoint, wire_min, wire_max, agent_version, epoch, oldest, now, boot }
    }
}

fn hello_reply() -> impl Strategy<Value = HelloReply> {
    let reason = select(vec![
        RefuseReason::EndpointMismatch,
        RefuseReason::WireVersion,
        RefuseReason::Busy,
        RefuseReason::NoHello,
        RefuseReason::Revoked,
        RefuseReason::Expired,
        RefuseReason::Cloned,
        RefuseReason::InUse,
        RefuseReason::UnknownEndpoint,
    ]);
    prop_oneof![
        (any::<u8>(), text(), sequence(), n64()).prop_map(
            |(wire, collector_version, next, wall_us)| {
                HelloReply::Welcome { wire, collector_version, next, wall_us }
            }
        ),
        (reason, text()).prop_map(|(reason, detail)| HelloReply::Refused { reason, detail }),
        (text(), n64()).prop_map(|(collector_version, wall_us)| HelloReply::RenewFirst {
            collector_version,
            wall_us
        }),
    ]
}

prop_compose! {
    fn enroll_request()(
        token in any::<[u8; 8]>(),
        secret in any::<[u8; 32]>(),
        authority in any::<[u8; 32]>(),
        csr in list(any::<u8>()),
        host_name in text(),
        agent_version in text(),
    ) -> EnrollRequest {
        let (token, secret) = (TokenId(token), TokenSecret(secret));
        let authority = AuthorityFingerprint(authority);
        EnrollRequest { token, secret, authority, csr, host_name, agent_version }
    }
}

fn enroll_reply() -> impl Strategy<Value = EnrollReply> {
    let refusal = select(vec![
        EnrollRefusal::UnknownToken,
        EnrollRefusal::ExpiredToken,
        EnrollRefusal::UsedToken,
        EnrollRefusal::RevokedToken,
        EnrollRefusal::BadRequest,
        EnrollRefusal::Busy,
        EnrollRefusal::OtherCollector,
        EnrollRefusal::NotEnrolling,
    ]);
    let enrolled = (any::<[u8; 16]>(), list(any::<u8>()), list(any::<u8>()), text());
    prop_oneof![
        enrolled.prop_map(|(endpoint, certificate, authority, server_name)| {
            let endpoint = EndpointId(endpoint);
            EnrollReply::Enrolled { endpoint, certificate, authority, server_name }
        }),
        refusal.prop_map(EnrollReply::Refused),
    ]
}

fn renew_reply() -> impl Strategy<Value = RenewReply> {
    let refusal = select(vec![
        RenewRefusal::BadRequest,
        RenewRefusal::UnknownEndpoint,
        RenewRefusal::Revoked,
        RenewRefusal::Busy,
        RenewRefusal::NotEnrolling,
    ]);
    prop_oneof![
        list(any::<u8>()).prop_map(|certificate| RenewReply::Renewed { certificate }),
        refusal.prop_map(RenewReply::Refused),
    ]
}

fn configuration_hash() -> impl Strategy<Value = ConfigurationHash> {
    any::<[u8; 8]>().prop_map(ConfigurationHash)
}

prop_compose! {
    fn arrival()(
        hash in configuration_hash(),
        outcome in select(vec![
            Outcome::InForce,
            Outcome::OnTrial,
            Outcome::WaitsForCall,
            Outcome::Refused,
            Outcome::RolledBack,
        ]),
        detail in text(),
    ) -> Arrival {
        Arrival { hash, outcome, detail }
    }
}

prop_compose! {
    fn configuration_state()(
        effective in configuration_hash(),
        in_force in prop::option::of(configuration_hash()),
        latest in prop::option::of(arrival()),
    ) -> ConfigurationState {
        ConfigurationState { effective, in_force, latest }
    }
}

prop_compose! {
    fn health()(
        now in stamp(),
        interval_s in any::<u16>(),
        (running_s, resident_kib, troubles) in (n32(), n32(), n32()),
        (cpu_ms, spool_bytes, tap_received, tap_dropped) in (n64(), n64(), n64(), n64()),
        clock in select(vec![
            ClockState::Synchronised,
            ClockState::Unsynchronised,
            ClockState::Unknown,
        ]),
        transport in select(vec![LinkTransport::Quic, LinkTransport::Tcp]),
        configuration in configuration_state(),
    ) -> Health {
        let troubles = Troubles(troubles);
        Health {
            now, interval_s, running_s, resident_kib, cpu_ms, spool_bytes, tap_received,
            tap_dropped, clock, transport, troubles, configuration,
        }
    }
}

/// Any message.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        1 => hello().prop_map(Message::Hello),
        1 => hello_reply().prop_map(Message::HelloReply),
        1 => (epoch(), sequence())
            .prop_map(|(epoch, next)| Message::Ack(Ack { epoch, next })),
        1 => select(vec![Control::GoingAway, Control::SelfTest, Control::Probe])
            .prop_map(Message::Control),
        1 => enroll_request().prop_map(Message::EnrollRequest).boxed(),
        1 => enroll_reply().prop_map(Message::EnrollReply).boxed(),
        1 => list(any::<u8>())
            .prop_map(|csr| Message::RenewRequest(RenewRequest { csr }))
            .boxed(),
        1 => renew_reply().prop_map(Message::RenewReply).boxed(),
        1 => (configuration_hash(), text())
            .prop_map(|(hash, text)| Message::Configuration(Configuration { hash, text }))
            .boxed(),
        1 => (configuration_hash(), text())
            .prop_map(|(hash, text)| {
                Message::EffectiveConfiguration(EffectiveConfiguration { hash, text })
            })
            .boxed(),
        1 => health().prop_map(Message::Health).boxed(),
        8 => record().prop_map(Message::Record).boxed(),
    ]
}

/// Any record id.
pub(crate) fn record_id() -> impl Strategy<Value = RecordId> {
    (epoch(), sequence()).prop_map(|(epoch, sequence)| RecordId { epoch, sequence })
}
