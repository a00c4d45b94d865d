//! The JSON of the reading commands: camelCase, times in RFC 3339 UTC, the same leg and stream fields as
//! `roomtone-agent analyze --json`. Nothing here is a wire type, so either may change alone.

mod heard;
mod surroundings;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::ratio::Ratio;
use serde::Serialize;

pub use self::surroundings::Network;

use self::heard::{Heard, Marking, Reported};
use self::surroundings::Events;
use super::verdict::{Shown, Verdict};
use super::{
    Names, cause, clock_rate_source, direction, episode_state, media, ms, outcome, side, state,
    tenths, transport,
};
use crate::call::device::{self, glitches_per_5_minutes_tenths, is_poor};
use crate::call::view::{
    CallState, CallView, DirectionView, IntervalView, LegView, RttView, Source, StreamView,
};
use crate::store::{EndpointFacts, LinkTransport, RecordCounts, SelfTestFacts};
use crate::text::rfc3339;

/// `calls --json` and `call ID --json`: the second with time lines.
#[derive(Debug, Serialize)]
pub struct Calls {
    /// The calls, newest first.
    pub calls: Vec<Call>,
}

/// One call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    id: String,
    endpoint: CallEndpoint,
    purpose: Option<&'static str>,
    rehearsal: bool,
    state: &'static str,
    start: Option<String>,
    end: Option<String>,
    last_heard: Option<String>,
    close_reason: Option<&'static str>,
    verdict: Option<Verdict>,
    legs: Vec<Leg>,
    devices: Vec<Device>,
    episodes: Vec<Episode>,
    networks: Vec<Network>,
    client_events: Vec<Events>,
}

#[derive(Debug, Serialize)]
struct CallEndpoint {
    id: String,
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leg {
    leg: u16,
    local: Option<String>,
    remote: Option<String>,
    transport: Option<&'static str>,
    reflexive: Option<String>,
    start: Option<String>,
    end: Option<String>,
    source: &'static str,
    tap_dropped: u64,
    rtt: Rtt,
    streams: Vec<Stream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intervals: Option<Vec<Interval>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rtt {
    count: u64,
    min_ms: Option<f64>,
    mean_ms: Option<f64>,
    max_ms: Option<f64>,
    last_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stream {
    ssrc: u32,
    direction: &'static str,
    media: &'static str,
    payload_types: Vec<u8>,
    clock_rate_hz: Option<u32>,
    clock_rate_source: Option<&'static str>,
    packets_received: u64,
    packets_expected: u64,
    packets_lost: u64,
    packets_duplicate: u64,
    packets_reordered: u64,
    sequence_restarts: u64,
    jitter_ms: Jitter,
    loss_ratio: Option<f64>,
    heard: Option<Heard>,
    marking: Option<Marking>,
    reported: Option<Reported>,
    start: Option<String>,
    end: Option<String>,
}

#[derive(Debug, Serialize)]
struct Jitter {
    mean: Option<f64>,
    max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interval {
    number: u32,
    start: Option<String>,
    duration_ms: u32,
    rtt: Rtt,
    rtt_unanswered: u32,
    tap_dropped: u32,
    ingress: Direction,
    egress: Direction,
    marks: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Direction {
    packets_received: u64,
    packets_lost: i64,
    jitter_ms: Jitter,
    ratio_of_concealed_samples: Option<f64>,
    concealed_microseconds: Option<u64>,
    heard_microseconds: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    device: String,
    side: &'static str,
    not_functioning: PartOfWhole,
    poor: bool,
    muted: PartOfWhole,
    zero_volume: Option<PartOfWhole>,
    glitches: Option<u32>,
    glitches_per5_minutes: Option<f64>,
    episodes: u32,
    detector: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartOfWhole {
    part_us: u64,
    whole_us: u64,
    ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Episode {
    id: String,
    device: String,
    side: &'static str,
    cause: &'static str,
    onset: Option<String>,
    bad_us: u64,
    state: &'static str,
}

/// `episodes --json`.
#[derive(Debug, Serialize)]
pub struct Episodes {
    /// The episodes, newest first.
    pub episodes: Vec<EndpointEpisode>,
}

/// One episode with its endpoint, and its call if it was in one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointEpisode {
    endpoint: CallEndpoint,
    call: Option<String>,
    #[serde(flatten)]
    episode: Episode,
}

/// `selftests --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTests {
    /// The self-tests, newest first.
    pub self_tests: Vec<SelfTest>,
}

/// One self-test; `selftest --json` prints one alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfTest {
    endpoint: CallEndpoint,
    ended: Option<String>,
    received: Option<String>,
    requested: bool,
    capture: Option<String>,
    render: Option<String>,
    outcome: &'static str,
    level_db: Option<f64>,
    delay_ms: Option<f64>,
}

/// What became of an endpoint's records: a part of `endpoints --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    id: String,
    name: String,
    agent_version: String,
    connected: bool,
    transport: Option<&'static str>,
    remote: Option<String>,
    first_seen: Option<String>,
    last_seen: Option<String>,
    calls: u64,
    records: u64,
    records_duplicate: u64,
    records_unknown: u64,
    records_refused: u64,
    records_reported_lost: u64,
    records_missing: u64,
}

/// How much of a leg to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Totals.
    Totals,
    /// Totals and the time line.
    Intervals,
}

impl Call {
    /// The JSON of a view.
    #[must_use]
    pub fn new(view: &CallView, names: &Names, detail: Detail) -> Self {
        Self {
            id: view.call.to_string(),
            endpoint: CallEndpoint { id: view.endpoint.to_string(), name: names.of(view.endpoint) },
            purpose: view.purpose.map(|purpose| match purpose {
                CallPurpose::Meeting => "meeting",
                CallPurpose::Rehearsal => "rehearsal",
            }),
            rehearsal: view.is_rehearsal(),
            state: state(view.state),
            start: rfc3339(view.start_us),
            end: view.end_us.and_then(rfc3339),
            last_heard: rfc3339(view.last_heard_us),
            close_reason: match view.state {
                CallState::Closed(CallCloseReason::Idle) => Some("idle"),
                CallState::Closed(CallCloseReason::AgentStopped) => Some("agentStopped"),
                CallState::Live | CallState::Silent | CallState::Unknown => None,
            },
            verdict: None,
            legs: view.legs.iter().map(|leg| Leg::new(leg, detail)).collect(),
            devices: view.devices.iter().map(Device::new).collect(),
            episodes: view.episodes.iter().map(Episode::new).collect(),
            networks: view.networks.iter().map(Network::new).collect(),
            client_events: view.events.iter().map(Events::new).collect(),
        }
    }
}

impl Call {
    /// The same with its verdict.
    #[must_use]
    pub fn judged(self, shown: &Shown) -> Self {
        Self { verdict: Some(Verdict::new(shown)), ..self }
    }
}

impl Leg {
    fn new(view: &LegView, detail: Detail) -> Self {
        Self {
            leg: view.leg,
            local: view.opened.map(|it| it.local.to_string()),
            remote: view.opened.map(|it| it.remote.to_string()),
            transport: view.opened.map(|it| transport(it.transport)),
            reflexive: view.reflexive.map(|it| it.to_string()),
            start: view.start_us.and_then(rfc3339),
            end: view.end_us.and_then(rfc3339),
            source: match view.source {
                Source::Summary => "summary",
                Source::Intervals => "intervals",
            },
            tap_dropped: view.tap_dropped,
            rtt: Rtt::new(&view.rtt),
            streams: view.streams.iter().map(Stream::new).collect(),
            intervals: match detail {
                Detail::Totals => None,
                Detail::Intervals => Some(view.intervals.iter().map(Interval::new).collect()),
            },
        }
    }
}

impl Rtt {
    fn new(view: &RttView) -> Self {
        let measured = |dms: u32| (view.count > 0).then(|| ms(dms));
        Self {
            count: view.count,
            min_ms: measured(view.min_dms),
            mean_ms: measured(view.mean_dms),
            max_ms: measured(view.max_dms),
            last_ms: view.last_dms.and_then(measured),
        }
    }
}

impl Stream {
    fn new(view: &StreamView) -> Self {
        Self {
            ssrc: u32::from_le_bytes(view.key.ssrc),
            direction: direction(view.key.direction),
            media: media(view.key.media),
            payload_types: view.payload_types.clone(),
            clock_rate_hz: view.clock_rate_hz,
            clock_rate_source: view.clock_rate_source.map(clock_rate_source),
            packets_received: view.received,
            packets_expected: view.expected,
            packets_lost: view.lost,
            packets_duplicate: view.duplicate,
            packets_reordered: view.reordered,
            sequence_restarts: view.sequence_restarts,
            jitter_ms: Jitter {
                mean: view.jitter_mean_dms.map(ms),
                max: view.jitter_max_dms.map(ms),
                last: view.jitter_last_dms.map(ms),
            },
            loss_ratio: super::ratio(view.lost, view.expected),
            heard: view.heard.as_ref().map(Heard::new),
            marking: view.marking.as_ref().map(Marking::new),
            reported: view.reported.as_ref().map(Reported::new),
            start: view.span_us.and_then(|(first, _)| rfc3339(first)),
            end: view.span_us.and_then(|(_, last)| rfc3339(last)),
        }
    }
}

impl Interval {
    fn new(view: &IntervalView) -> Self {
        Self {
            number: view.number,
            start: rfc3339(view.started_ms.saturating_mul(1_000)),
            duration_ms: view.duration_ms,
            rtt: Rtt::new(&view.rtt),
            rtt_unanswered: view.rtt_unanswered,
            tap_dropped: view.tap_dropped,
            ingress: Direction::new(&view.ingress),
            egress: Direction::new(&view.egress),
            marks: view.marks(),
        }
    }
}

impl Direction {
    fn new(view: &DirectionView) -> Self {
        Self {
            packets_received: view.received,
            packets_lost: view.lost,
            jitter_ms: Jitter {
                mean: view.jitter_mean_dms.map(ms),
                max: view.jitter_max_dms.map(ms),
                last: None,
            },
            ratio_of_concealed_samples: view
                .heard_us
                .and_then(|(concealed_us, total_us)| super::ratio(concealed_us, total_us)),
            concealed_microseconds: view.heard_us.map(|(concealed_us, _)| concealed_us),
            heard_microseconds: view.heard_us.map(|(_, total_us)| total_us),
        }
    }
}

impl Device {
    fn new(summary: &DeviceSummary) -> Self {
        Self {
            device: summary.device.as_str().to_owned(),
            side: side(summary.side),
            not_functioning: PartOfWhole::new(summary.not_functioning),
            poor: is_poor(summary.not_functioning),
            muted: PartOfWhole::new(summary.muted),
            zero_volume: summary.zero_volume.map(PartOfWhole::new),
            glitches: summary.glitches,
            glitches_per5_minutes: glitches_per_5_minutes_tenths(summary).map(tenths),
            episodes: summary.episodes,
            detector: summary.detector,
        }
    }
}

impl PartOfWhole {
    fn new(ratio: Ratio) -> Self {
        let (part_us, whole_us) = (ratio.part_us(), ratio.whole_us());
        Self { part_us, whole_us, ratio: super::ratio(part_us, whole_us) }
    }
}

impl Episode {
    fn new(episode: &DeviceEpisode) -> Self {
        Self {
            id: format!("{:016x}", episode.episode),
            device: episode.device.as_str().to_owned(),
            side: side(episode.side),
            cause: cause(episode.cause),
            onset: rfc3339(episode.onset.wall_us),
            bad_us: episode.bad_us,
            state: episode_state(episode.state),
        }
    }
}

impl EndpointEpisode {
    /// The JSON of an episode.
    #[must_use]
    pub fn new(it: &device::EndpointEpisode, names: &Names) -> Self {
        Self {
            endpoint: CallEndpoint { id: it.endpoint.to_string(), name: names.of(it.endpoint) },
            call: it.told.call.map(|call| call.to_string()),
            episode: Episode::new(&it.told),
        }
    }
}

impl SelfTest {
    /// The JSON of a self-test.
    #[must_use]
    pub fn new(facts: &SelfTestFacts, names: &Names) -> Self {
        let test = &facts.test;
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Self {
            endpoint: CallEndpoint {
                id: facts.endpoint.to_string(),
                name: names.of(facts.endpoint),
            },
            ended: rfc3339(test.ended.wall_us),
            received: rfc3339(facts.received_us),
            requested: test.requested,
            capture: name(&test.capture),
            render: name(&test.render),
            outcome: outcome(test.outcome),
            level_db: test.level_db_tenths.map(|level| f64::from(level) / 10.0),
            delay_ms: test.delay_us.map(|delay_us| f64::from(delay_us) / 1_000.0),
        }
    }
}

impl Endpoint {
    /// The JSON of an endpoint that has no records and never had a connection.
    #[must_use]
    pub fn unheard(endpoint: EndpointId) -> Self {
        let counts = RecordCounts::default();
        let name = String::new();
        let facts = EndpointFacts {
            endpoint,
            agent_version: name.clone(),
            name,
            link: None,
            first_seen_us: 0,
            last_seen_us: 0,
            connected: false,
            calls: 0,
            counts,
        };
        Self { first_seen: None, last_seen: None, ..Self::new(&facts) }
    }

    /// The same with the name that is shown everywhere else.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The JSON of an endpoint.
    #[must_use]
    pub fn new(facts: &EndpointFacts) -> Self {
        Self {
            id: facts.endpoint.to_string(),
            name: facts.name.clone(),
            agent_version: facts.agent_version.clone(),
            connected: facts.connected,
            transport: facts.link.map(|(transport, _)| match transport {
                LinkTransport::Quic => "quic",
            }),
            remote: facts.link.map(|(_, remote)| remote.to_string()),
            first_seen: rfc3339(facts.first_seen_us),
            last_seen: rfc3339(facts.last_seen_us),
            calls: facts.calls,
            records: facts.counts.stored,
            records_duplicate: facts.counts.duplicate,
            records_unknown: facts.counts.unknown,
            records_refused: facts.counts.refused,
            records_reported_lost: facts.counts.reported_lost,
            records_missing: facts.counts.missing,
        }
    }
}
