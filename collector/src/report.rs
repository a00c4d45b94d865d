//! What a person or a script gets to read: [`json`], [`table`] and [`devices`] make text of views, [`watch`] follows
//! live calls, [`fleet`] and [`configuration`] show the endpoints themselves and what they are set to, [`networks`]
//! what a file of buildings says, [`series`] what an endpoint told of its host, path and networks over time,
//! [`verdict`] how calls were judged.
//!
//! Numbers become milliseconds and ratios only here. Whatever came from a peer is escaped before it reaches a terminal.

pub mod configuration;
pub mod devices;
pub mod fleet;
pub mod identity;
pub mod json;
pub mod networks;
pub mod series;
pub mod table;
pub mod verdict;
pub mod watch;
mod words;

use std::collections::BTreeMap;

use roomtone_protocol::device::{DeviceCause, DeviceSide, EpisodeState, SelfTestOutcome};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::media::{ClockRateSource, Direction, Media, Transport};

use crate::call::view::CallState;
use crate::store::EndpointFacts;

/// The display names of endpoints, unescaped.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<EndpointId, String>);

impl Names {
    /// The names that a store knows.
    #[must_use]
    pub fn new(endpoints: &[EndpointFacts]) -> Self {
        Self(endpoints.iter().map(|it| (it.endpoint, it.name.clone())).collect())
    }

    /// An endpoint's name, its id where it has none.
    #[must_use]
    pub fn of(&self, endpoint: EndpointId) -> String {
        match self.0.get(&endpoint) {
            Some(name) if !name.is_empty() => name.clone(),
            Some(_) | None => endpoint.to_string(),
        }
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn media(media: Media) -> &'static str {
    match media {
        Media::Unknown => "unknown",
        Media::Audio => "audio",
        Media::Video => "video",
        Media::Rtx => "rtx",
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Turn => "turn",
    }
}

fn clock_rate_source(source: ClockRateSource) -> &'static str {
    match source {
        ClockRateSource::Static => "static",
        ClockRateSource::Slope => "slope",
        ClockRateSource::Unknown => "unknown",
    }
}

fn state(state: CallState) -> &'static str {
    match state {
        CallState::Live => "live",
        CallState::Silent => "silent",
        CallState::Unknown => "unknown",
        CallState::Closed(_) => "closed",
    }
}

fn side(side: DeviceSide) -> &'static str {
    match side {
        DeviceSide::Capture => "capture",
        DeviceSide::Render => "render",
    }
}

fn cause(cause: DeviceCause) -> &'static str {
    match cause {
        DeviceCause::Removed => "removed",
        DeviceCause::NeverStarted => "neverStarted",
        DeviceCause::Stalled => "stalled",
        DeviceCause::ZeroSignal => "zeroSignal",
        DeviceCause::ConstantSignal => "constantSignal",
        DeviceCause::OpenFailed => "openFailed",
        DeviceCause::StreamError => "streamError",
        DeviceCause::Suspended => "suspended",
        DeviceCause::WrongRoute => "wrongRoute",
        DeviceCause::ServerLost => "serverLost",
        DeviceCause::SelfTestFailed => "selfTestFailed",
    }
}

fn episode_state(state: EpisodeState) -> &'static str {
    match state {
        EpisodeState::Open => "open",
        EpisodeState::Recovered => "recovered",
        EpisodeState::Unrecovered => "unrecovered",
    }
}

fn outcome(outcome: SelfTestOutcome) -> &'static str {
    match outcome {
        SelfTestOutcome::Heard => "heard",
        SelfTestOutcome::NotHeard => "notHeard",
        SelfTestOutcome::NoSignal => "noSignal",
        SelfTestOutcome::CaptureFailed => "captureFailed",
        SelfTestOutcome::RenderFailed => "renderFailed",
        SelfTestOutcome::Busy => "busy",
        SelfTestOutcome::InCall => "inCall",
        SelfTestOutcome::NoDevice => "noDevice",
    }
}

/// 0.1 ms as milliseconds.
fn ms(dms: u32) -> f64 {
    f64::from(dms) / 10.0
}

/// Tenths as a number with a point.
fn tenths(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

/// Tenths of either sign as a number with a point.
fn tenths_signed(tenths: i16) -> f64 {
    f64::from(tenths) / 10.0
}

/// A part of a whole, `None` without a whole.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
