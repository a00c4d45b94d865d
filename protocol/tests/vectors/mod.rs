//! The messages whose bytes are pinned under `golden/v1`, by file name.
//!
//! Values are told apart easily in a hex dump: ids count up (`11 22 33 ..`), clocks are round.

mod quality;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use heapless::{String, Vec};
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
    AuthorityFingerprint, BootId, Der, EnrollRefusal, EnrollReply, EnrollRequest, RenewRefusal,
    RenewReply, RenewRequest, TokenId, TokenSecret,
};
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::hello::{Hello, HelloReply, RefuseReason};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
use roomtone_protocol::interval::{IntervalPack, LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::limits::STREAMS_PER_LEG_MAX;
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::media::{
    ClockRateSource, Direction, LegOpened, LegSummary, Media, RttSummary, StreamKey, StreamSummary,
    Transport,
};
use roomtone_protocol::message::Message;
use roomtone_protocol::path::{PathInterval, PathTarget};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

/// The id of every record here.
pub(crate) const ID: RecordId = RecordId { epoch: Epoch(0x4433_2211), sequence: Sequence(70_000) };

const CALL: CallId = CallId(0x8877_6655_4433_2211);
const LEG: LegNumber = LegNumber(1);

/// 2026-11-22T15:00:00Z, and two hours after boot.
const STAMP: Stamp = Stamp { wall_us: 1_795_359_600_000_000, uptime_us: 7_200_000_000 };

const INGRESS: StreamKey = StreamKey {
    ssrc: [0x0a, 0x0b, 0x0c, 0x0d],
    direction: Direction::Ingress,
    media: Media::Audio,
};
const EGRESS: StreamKey =
    StreamKey { ssrc: [0xa0, 0xb0, 0xc0, 0xd0], direction: Direction::Egress, media: Media::Audio };

fn record(record: Record) -> Message {
    Message::Record(record)
}

/// Every vector: the file's name without `.hex`, and what it means.
pub(crate) fn vectors() -> std::vec::Vec<(&'static str, Message)> {
    let mut all = link();
    all.extend(enrolment());
    all.extend(fleet());
    all.extend(calls());
    all.extend(intervals());
    all.extend(summaries());
    all.extend(devices());
    all.extend(self_tests());
    all.extend(quality::vectors());
    all.extend(surroundings());
    all
}

fn link() -> std::vec::Vec<(&'static str, Message)> {
    let mut endpoint = EndpointId([0; 16]);
    for (value, byte) in (0u8..).zip(&mut endpoint.0) {
        *byte = value * 0x11;
    }
    let hello = Hello {
        endpoint,
        wire_min: 1,
        wire_max: 1,
        agent_version: "0.1.0".try_into().unwrap(),
        epoch: ID.epoch,
        oldest: Sequence(69_500),
        now: STAMP,
        boot: None,
    };
    let boot = Some(BootId(core::array::from_fn(|i| 0xf0 + i as u8)));
    let hello_boot = Hello { boot, ..hello.clone() };
    let welcome = HelloReply::Welcome {
        wire: 1,
        collector_version: "0.1.0".try_into().unwrap(),
        next: Sequence(69_900),
        wall_us: STAMP.wall_us + 250_000,
    };
    let refused = |reason, detail: &str| {
        Message::HelloReply(HelloReply::Refused { reason, detail: detail.try_into().unwrap() })
    };
    vec![
        ("hello", Message::Hello(hello)),
        ("hello_boot", Message::Hello(hello_boot)),
        ("hello_reply_welcome", Message::HelloReply(welcome)),
        (
            "hello_reply_refused_endpoint_mismatch",
            refused(RefuseReason::EndpointMismatch, "the certificate is another endpoint's"),
        ),
        (
            "hello_reply_refused_wire_version",
            refused(RefuseReason::WireVersion, "this collector speaks wire 1"),
        ),
        ("hello_reply_refused_busy", refused(RefuseReason::Busy, "")),
        (
            "hello_reply_refused_no_hello",
            refused(RefuseReason::NoHello, "the first frame was no hello"),
        ),
        (
            "hello_reply_refused_revoked",
            refused(RefuseReason::Revoked, "an operator revoked this identity"),
        ),
        ("hello_reply_refused_expired", refused(RefuseReason::Expired, "expired too long ago")),
        (
            "hello_reply_refused_cloned",
            refused(RefuseReason::Cloned, "two machines use this identity"),
        ),
        (
            "hello_reply_refused_in_use",
            refused(RefuseReason::InUse, "another machine is connected"),
        ),
        (
            "hello_reply_refused_unknown_endpoint",
            refused(RefuseReason::UnknownEndpoint, "this collector did not enrol it"),
        ),
        (
            "hello_reply_renew_first",
            Message::HelloReply(HelloReply::RenewFirst {
                collector_version: "0.1.0".try_into().unwrap(),
                wall_us: STAMP.wall_us + 250_000,
            }),
        ),
        ("ack", Message::Ack(Ack { epoch: ID.epoch, next: Sequence(70_001) })),
        ("control_going_away", Message::Control(Control::GoingAway)),
        ("control_self_test", Message::Control(Control::SelfTest)),
        ("control_probe", Message::Control(Control::Probe)),
    ]
}

fn fleet() -> std::vec::Vec<(&'static str, Message)> {
    // Not real hashes: whoever reads a text holds it against its hash, the wire does not.
    let (first, second) =
        (ConfigurationHash([0x1a; 8]), ConfigurationHash(core::array::from_fn(|i| i as u8)));
    let configuration = |text: &str| {
        Message::Configuration(Configuration { hash: first, text: text.try_into().unwrap() })
    };
    let health = Health {
        now: STAMP,
        interval_s: 60,
        running_s: 86_400,
        resident_kib: 9_748,
        cpu_ms: 17_280,
        spool_bytes: 131_072,
        tap_received: 4_320_000,
        tap_dropped: 12,
        clock: ClockState::Synchronised,
        transport: LinkTransport::Quic,
        troubles: Troubles::default(),
        configuration: ConfigurationState { effective: second, in_force: None, latest: None },
    };
    let configured = |in_force, outcome, detail: &str| {
        let latest = Arrival { hash: first, outcome, detail: detail.try_into().unwrap() };
        let configuration =
            ConfigurationState { effective: second, in_force, latest: Some(latest) };
        Message::Health(Health { configuration, ..health.clone() })
    };
    let troubled = Health {
        clock: ClockState::Unsynchronised,
        transport: LinkTransport::Tcp,
        troubles: Troubles::MEMORY | Troubles::TAP_DROPS | Troubles::CERTIFICATE,
        ..health.clone()
    };
    let clock_unknown = Health { clock: ClockState::Unknown, ..health.clone() };
    vec![
        ("configuration", configuration("[audio]\nlevels = true\n\n[log]\nlevel = \"debug\"\n")),
        ("configuration_of_nothing", configuration("")),
        (
            "effective_configuration",
            Message::EffectiveConfiguration(EffectiveConfiguration {
                hash: second,
                text: "[spool]\nbytes_max = \"100MiB\"\n".try_into().unwrap(),
            }),
        ),
        ("health_in_force", configured(Some(first), Outcome::InForce, "")),
        ("health_on_trial", configured(Some(first), Outcome::OnTrial, "")),
        ("health_waits_for_call", configured(None, Outcome::WaitsForCall, "")),
        ("health_refused", configured(None, Outcome::Refused, "audio.stall: 500ms to 1m")),
        ("health_rolled_back", configured(None, Outcome::RolledBack, "no collector for 5m")),
        ("health_troubled", Message::Health(troubled)),
        ("health_clock_unknown", Message::Health(clock_unknown)),
    ]
}

/// Not real DER: the wire carries it as bytes. `30` and a length as DER has them, then the same byte.
fn der(bytes: usize, fill: u8) -> Der {
    let head = [0x30, 0x82, ((bytes - 4) >> 8) as u8, (bytes - 4) as u8];
    head.into_iter().chain(core::iter::repeat_n(fill, bytes - 4)).collect()
}

fn enrolment() -> std::vec::Vec<(&'static str, Message)> {
    let request = EnrollRequest {
        token: TokenId([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]),
        secret: TokenSecret([0xa5; 32]),
        authority: AuthorityFingerprint(core::array::from_fn(|i| i as u8)),
        csr: der(200, 0xc5),
        host_name: "oslo-4".try_into().unwrap(),
        agent_version: "0.1.0".try_into().unwrap(),
    };
    let enrolled = EnrollReply::Enrolled {
        endpoint: EndpointId(core::array::from_fn(|i| i as u8 * 0x11)),
        certificate: der(300, 0xce),
        authority: der(260, 0xca),
        server_name: "rooms.example.test".try_into().unwrap(),
    };
    let not_enrolled = |why| Message::EnrollReply(EnrollReply::Refused(why));
    let not_renewed = |why| Message::RenewReply(RenewReply::Refused(why));
    vec![
        ("enroll_request", Message::EnrollRequest(request)),
        ("enroll_reply_enrolled", Message::EnrollReply(enrolled)),
        ("enroll_reply_refused_unknown_token", not_enrolled(EnrollRefusal::UnknownToken)),
        ("enroll_reply_refused_expired_token", not_enrolled(EnrollRefusal::ExpiredToken)),
        ("enroll_reply_refused_used_token", not_enrolled(EnrollRefusal::UsedToken)),
        ("enroll_reply_refused_revoked_token", not_enrolled(EnrollRefusal::RevokedToken)),
        ("enroll_reply_refused_bad_request", not_enrolled(EnrollRefusal::BadRequest)),
        ("enroll_reply_refused_busy", not_enrolled(EnrollRefusal::Busy)),
        ("enroll_reply_refused_other_collector", not_enrolled(EnrollRefusal::OtherCollector)),
        ("enroll_reply_refused_not_enrolling", not_enrolled(EnrollRefusal::NotEnrolling)),
        ("renew_request", Message::RenewRequest(RenewRequest { csr: der(200, 0xc5) })),
        (
            "renew_reply_renewed",
            Message::RenewReply(RenewReply::Renewed { certificate: der(300, 0xce) }),
        ),
        ("renew_reply_refused_bad_request", not_renewed(RenewRefusal::BadRequest)),
        ("renew_reply_refused_unknown_endpoint", not_renewed(RenewRefusal::UnknownEndpoint)),
        ("renew_reply_refused_revoked", not_renewed(RenewRefusal::Revoked)),
        ("renew_reply_refused_busy", not_renewed(RenewRefusal::Busy)),
        ("renew_reply_refused_not_enrolling", not_renewed(RenewRefusal::NotEnrolling)),
    ]
}

fn calls() -> std::vec::Vec<(&'static str, Message)> {
    let opened =
        |purpose| record(Record::CallOpened(CallOpened { call: CALL, opened: STAMP, purpose }));
    let closed = |reason| {
        record(Record::CallClosed(CallClosed { call: CALL, closed: STAMP, reason, legs: 2 }))
    };
    let leg = |local, remote, transport| {
        let opened = STAMP;
        record(Record::LegOpened(LegOpened {
            call: CALL,
            leg: LEG,
            opened,
            local,
            remote,
            transport,
        }))
    };
    let v4 = |last, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), port));
    let v6 =
        |last, port| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), port));
    vec![
        ("call_opened_meeting", opened(CallPurpose::Meeting)),
        ("call_opened_rehearsal", opened(CallPurpose::Rehearsal)),
        ("call_closed_idle", closed(CallCloseReason::Idle)),
        ("call_closed_agent_stopped", closed(CallCloseReason::AgentStopped)),
        ("leg_opened_ipv4_udp", leg(v4(17, 50_004), v4(99, 3_479), Transport::Udp)),
        ("leg_opened_ipv6_turn", leg(v6(0x17, 50_004), v6(0x99, 3_478), Transport::Turn)),
    ]
}

fn intervals() -> std::vec::Vec<(&'static str, Message)> {
    let body = |keys: &[StreamKey], rows: &[LegInterval]| {
        record(Record::LegIntervals(LegIntervals {
            call: CALL,
            leg: LEG,
            first: 6,
            started_wall_ms: 1_795_359_660_000,
            streams: Vec::from_slice(keys).unwrap(),
            pack: IntervalPack::from_intervals(rows, keys.len()).unwrap(),
            heard: None,
        }))
    };
    let quiet = LegInterval { duration_ms: 10_000, ..LegInterval::default() };
    let two = worked_example();
    let six: std::vec::Vec<_> = (0..6).map(busy).collect();
    let short = LegInterval { duration_ms: 3_120, ..busy(0) };
    let extremes = [extreme(u32::MAX, i32::MIN), extreme(0, i32::MAX), extreme(u32::MAX, 0)];
    vec![
        ("leg_intervals_one_without_streams", body(&[], &[quiet])),
        ("leg_intervals_one_short", body(&[INGRESS, EGRESS], &[short])),
        ("leg_intervals_two_worked_example", body(&[INGRESS], &two)),
        ("leg_intervals_six", body(&[INGRESS, EGRESS], &six)),
        ("leg_intervals_extremes", body(&[INGRESS; STREAMS_PER_LEG_MAX], &extremes)),
    ]
}

/// The two intervals of `WIRE.md` section 6.4.
fn worked_example() -> [LegInterval; 2] {
    let row = |received, lost, reordered, jitter_mean_dms, jitter_max_dms| StreamInterval {
        received,
        lost,
        reordered,
        jitter_mean_dms,
        jitter_max_dms,
        ..StreamInterval::default()
    };
    let interval = |min, mean, max, row| LegInterval {
        duration_ms: 10_000,
        rtt_count: 4,
        rtt_min_dms: min,
        rtt_mean_dms: mean,
        rtt_max_dms: max,
        streams: Vec::from_slice(&[row]).unwrap(),
        ..LegInterval::default()
    };
    [
        interval(912, 950, 1003, row(490, 10, 3, 110, 142)),
        interval(905, 948, 1010, row(493, 7, 1, 104, 150)),
    ]
}

/// An interval of a two-way call; the ingress stream pauses in interval 3, the tap drops in interval 4.
fn busy(number: u8) -> LegInterval {
    let step = u32::from(number);
    let ingress = StreamInterval {
        stream: 0,
        received: 488 + step,
        // A late packet of interval 4 arrived in interval 5.
        lost: if number == 5 { -1 } else { 12 - i32::from(number) },
        duplicate: step / 2,
        reordered: 3 * step,
        jitter_mean_dms: 110 + 7 * step,
        jitter_max_dms: 150 + 11 * step,
        sequence_restarts: u32::from(number == 2),
    };
    let egress = StreamInterval {
        stream: 1,
        received: 500,
        jitter_mean_dms: 4,
        jitter_max_dms: 9,
        ..StreamInterval::default()
    };
    let streams = if number == 3 { vec![egress] } else { vec![ingress, egress] };
    LegInterval {
        duration_ms: 10_000,
        rtt_count: 4,
        rtt_min_dms: 830 - 5 * step,
        rtt_mean_dms: 910 + 3 * step,
        rtt_max_dms: 1_040 + 20 * step,
        rtt_unanswered: u32::from(number == 1),
        tap_dropped: if number == 4 { 300 } else { 0 },
        streams: streams.into_iter().collect(),
    }
}

/// All fields at their limits, for every stream of the largest table.
fn extreme(value: u32, lost: i32) -> LegInterval {
    let row = |stream| StreamInterval {
        stream,
        received: value,
        lost,
        duplicate: value,
        reordered: value,
        jitter_mean_dms: value,
        jitter_max_dms: u32::MAX - value,
        sequence_restarts: value,
    };
    LegInterval {
        duration_ms: value,
        rtt_count: value,
        rtt_min_dms: u32::MAX - value,
        rtt_mean_dms: value,
        rtt_max_dms: u32::MAX - value,
        rtt_unanswered: value,
        tap_dropped: value,
        streams: (0..STREAMS_PER_LEG_MAX as u8).map(row).collect(),
    }
}

fn summaries() -> std::vec::Vec<(&'static str, Message)> {
    let body = |rtt, streams: &[StreamSummary]| {
        record(Record::LegSummary(LegSummary {
            call: CALL,
            leg: LEG,
            closed: STAMP,
            rtt,
            tap_dropped: 3,
            streams: Vec::from_slice(streams).unwrap(),
            heard: None,
            markings: None,
            reported: None,
            reflexive: None,
        }))
    };
    let rtt = RttSummary {
        count: 240,
        unanswered: 2,
        min_dms: 812,
        mean_dms: 934,
        max_dms: 2_210,
        last_dms: 901,
    };
    let ingress = StreamSummary {
        key: INGRESS,
        payload_types: Vec::from_slice(&[111, 13]).unwrap(),
        clock_rate_hz: 48_000,
        clock_rate_source: ClockRateSource::Slope,
        first_us: 0,
        last_us: 599_980_000,
        received: 29_389,
        expected: 30_000,
        lost: 611,
        duplicate: 14,
        reordered: 190,
        sequence_restarts: 1,
        jitter_mean_dms: 117,
        jitter_max_dms: 204,
        jitter_last_dms: 98,
    };
    let egress = StreamSummary {
        key: EGRESS,
        payload_types: Vec::from_slice(&[0]).unwrap(),
        clock_rate_hz: 8_000,
        clock_rate_source: ClockRateSource::Static,
        first_us: 12_000,
        received: 30_000,
        lost: 0,
        duplicate: 0,
        reordered: 0,
        sequence_restarts: 0,
        jitter_mean_dms: 3,
        jitter_max_dms: 11,
        jitter_last_dms: 3,
        ..ingress.clone()
    };
    let video = StreamSummary {
        key: StreamKey { media: Media::Video, ..INGRESS },
        clock_rate_hz: 0,
        clock_rate_source: ClockRateSource::Unknown,
        jitter_mean_dms: 0,
        jitter_max_dms: 0,
        jitter_last_dms: 0,
        ..ingress.clone()
    };
    let rtx = StreamSummary {
        key: StreamKey { media: Media::Rtx, ..EGRESS },
        payload_types: Vec::new(),
        ..video.clone()
    };
    let unknown =
        StreamSummary { key: StreamKey { media: Media::Unknown, ..EGRESS }, ..video.clone() };
    vec![
        ("leg_summary_without_streams", body(RttSummary::default(), &[])),
        ("leg_summary_five_streams", body(rtt, &[ingress, egress, video, rtx, unknown])),
    ]
}

fn devices() -> std::vec::Vec<(&'static str, Message)> {
    let episode = |call, side, cause, state| {
        record(Record::DeviceEpisode(DeviceEpisode {
            episode: 0x0102_0304_0506_0708,
            call,
            device: "Jabra SPEAK 510 USB".try_into().unwrap(),
            side,
            cause,
            onset: STAMP,
            bad_us: 4_250_000,
            state,
        }))
    };
    let (capture, render) = (DeviceSide::Capture, DeviceSide::Render);
    let open = |cause| episode(Some(CALL), capture, cause, EpisodeState::Open);
    let summary = |not_functioning, zero_volume, glitches| {
        record(Record::DeviceSummary(DeviceSummary {
            call: CALL,
            device: "Jabra SPEAK 510 USB".try_into().unwrap(),
            side: render,
            not_functioning,
            muted: Ratio::new(30_000_000, 600_000_000).unwrap(),
            episodes: 1,
            detector: 1,
            zero_volume,
            glitches,
        }))
    };
    let bad = Ratio::new(4_250_000, 600_000_000).unwrap();
    let zero_volume = Ratio::new(60_000_000, 600_000_000);
    vec![
        ("device_episode_removed", open(DeviceCause::Removed)),
        ("device_episode_never_started", open(DeviceCause::NeverStarted)),
        (
            "device_episode_stalled_recovered",
            episode(Some(CALL), render, DeviceCause::Stalled, EpisodeState::Recovered),
        ),
        (
            "device_episode_zero_signal_unrecovered",
            episode(Some(CALL), capture, DeviceCause::ZeroSignal, EpisodeState::Unrecovered),
        ),
        ("device_episode_constant_signal", open(DeviceCause::ConstantSignal)),
        ("device_episode_open_failed", open(DeviceCause::OpenFailed)),
        ("device_episode_stream_error", open(DeviceCause::StreamError)),
        ("device_episode_suspended", open(DeviceCause::Suspended)),
        ("device_episode_wrong_route", open(DeviceCause::WrongRoute)),
        ("device_episode_server_lost", open(DeviceCause::ServerLost)),
        (
            "device_episode_self_test_failed_without_call",
            episode(None, capture, DeviceCause::SelfTestFailed, EpisodeState::Open),
        ),
        ("device_summary", summary(bad, None, None)),
        ("device_summary_unobserved", summary(Ratio::UNOBSERVED, None, None)),
        ("device_summary_zero_volume_and_glitches", summary(bad, zero_volume, Some(7))),
        ("device_summary_zero_volume", summary(bad, zero_volume, None)),
        ("device_summary_glitches", summary(bad, None, Some(7))),
    ]
}

fn self_tests() -> std::vec::Vec<(&'static str, Message)> {
    let test = |outcome, level_db_tenths, delay_us| {
        record(Record::SelfTest(SelfTest {
            ended: STAMP,
            requested: true,
            capture: "Jabra SPEAK 510 USB".try_into().unwrap(),
            render: "HDA Intel PCH".try_into().unwrap(),
            outcome,
            level_db_tenths,
            delay_us,
        }))
    };
    let nameless = SelfTest {
        ended: STAMP,
        requested: false,
        capture: String::new(),
        render: String::new(),
        outcome: SelfTestOutcome::NoDevice,
        level_db_tenths: None,
        delay_us: None,
    };
    vec![
        ("self_test_heard", test(SelfTestOutcome::Heard, Some(-312), Some(187_250))),
        ("self_test_not_heard", test(SelfTestOutcome::NotHeard, Some(-604), None)),
        ("self_test_no_signal", test(SelfTestOutcome::NoSignal, None, None)),
        ("self_test_capture_failed", test(SelfTestOutcome::CaptureFailed, None, None)),
        ("self_test_render_failed", test(SelfTestOutcome::RenderFailed, None, None)),
        ("self_test_busy", test(SelfTestOutcome::Busy, None, None)),
        ("self_test_in_call", test(SelfTestOutcome::InCall, None, None)),
        ("self_test_no_device_at_the_endpoint", record(Record::SelfTest(nameless))),
    ]
}

fn surroundings() -> std::vec::Vec<(&'static str, Message)> {
    let host = |cpu_pressure_permille, temperature_deci_celsius| {
        record(Record::HostInterval(HostInterval {
            started: STAMP,
            duration_ms: 60_000,
            cpu_permille: 230,
            memory_permille: 610,
            cpu_pressure_permille,
            temperature_deci_celsius,
            detail: None,
        }))
    };
    let path = |target| record(Record::PathInterval(plain_path(target)));
    let receipt = |cause| {
        record(Record::LossReceipt(LossReceipt {
            epoch: Epoch(0x0d0c_0b0a),
            first: Sequence(300),
            last: Sequence(411),
            cause,
            noticed: STAMP,
        }))
    };
    vec![
        ("host_interval", host(Some(45), Some(-15))),
        ("host_interval_without_pressure_and_sensor", host(None, None)),
        ("path_interval_collector", path(PathTarget::Collector)),
        ("path_interval_stamp", path(PathTarget::Stamp)),
        ("loss_receipt_shed", receipt(LossCause::Shed)),
        ("loss_receipt_corrupt", receipt(LossCause::Corrupt)),
        ("loss_receipt_torn", receipt(LossCause::Torn)),
        ("loss_receipt_write_failed", receipt(LossCause::WriteFailed)),
    ]
}

pub(super) fn plain_path(target: PathTarget) -> PathInterval {
    PathInterval {
        started: STAMP,
        duration_ms: 30_000,
        target,
        sent: 150,
        lost_up: 3,
        lost_down: 1,
        rtt_min_dms: 205,
        rtt_mean_dms: 231,
        rtt_max_dms: 398,
        jitter_up_dms: 12,
        jitter_down_dms: 9,
        detail: None,
        reflector: None,
        connection: None,
    }
}
