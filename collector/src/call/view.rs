//! What the facts of a call come to: totals per leg and stream, from the summary or, while there is none, from the
//! intervals.
//!
//! All numbers stay integers in the wire's units; only a report turns them into milliseconds and ratios. A call still
//! open shows what its intervals tell so far: sums, packet-weighted means, no last values.

mod heard;
mod interval;
mod leg;

use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::client_event::ClientEvents;
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary};
use roomtone_protocol::id::{CallId, EndpointId};
use roomtone_protocol::media::{Direction, Media};
use roomtone_protocol::network::NetworkAttachment;

pub use self::heard::HeardView;
pub use self::interval::{DirectionView, IntervalView};
pub use self::leg::{LegView, RttView, Source, StreamView};

use super::CallFacts;
use crate::store::EndpointFacts;

/// An open call that was not heard of for this long is no longer live: nine whole intervals went missing.
pub const SILENT_AFTER: Duration = Duration::from_secs(90);

/// One call, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView {
    /// Whose call.
    pub endpoint: EndpointId,
    /// Which.
    pub call: CallId,
    /// Why it took place; `None` where its beginning was lost.
    pub purpose: Option<CallPurpose>,
    /// Whether it goes on.
    pub state: CallState,
    /// First packet, microseconds since 1970 by the endpoint's clock; the collector's where the beginning was lost.
    pub start_us: u64,
    /// Last packet, likewise; `None` while it is not closed.
    pub end_us: Option<u64>,
    /// When the latest record of it came, microseconds since 1970, collector's clock.
    pub last_heard_us: u64,
    /// How long it lasted by the endpoint's uptime, in microseconds: true across steps of its wall clock; `None` while
    /// it goes on, or where its beginning was lost.
    pub lasted_us: Option<u64>,
    /// Its legs in order.
    pub legs: Vec<LegView>,
    /// Its device episodes by onset.
    pub episodes: Vec<DeviceEpisode>,
    /// Its device totals, microphones first.
    pub devices: Vec<DeviceSummary>,
    /// The interfaces that it went through, by address.
    pub networks: Vec<NetworkAttachment>,
    /// Its client events, those of the call itself first, then by leg.
    pub events: Vec<ClientEvents>,
}

/// Whether a call goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Heard of lately and not closed.
    Live,
    /// Not closed and silent for [`SILENT_AFTER`], though its endpoint is connected: its agent measures no more.
    Silent,
    /// Not closed and silent for as long, and its endpoint is not connected: nobody can tell whether the call goes on,
    /// or whether the endpoint will ever come back.
    Unknown,
    /// Over.
    Closed(CallCloseReason),
}

impl CallView {
    /// Makes the view of a call as of `now_us` (collector's clock, microseconds since 1970); `endpoint` is what is
    /// known of its endpoint.
    #[must_use]
    pub fn new(facts: &CallFacts, endpoint: Option<&EndpointFacts>, now_us: u64) -> Self {
        let silent_us = now_us.saturating_sub(facts.last_received_us);
        let state = match facts.closed {
            Some(told) => CallState::Closed(told.value.1),
            None if u128::from(silent_us) < SILENT_AFTER.as_micros() => CallState::Live,
            None if endpoint.is_some_and(|it| it.connected) => CallState::Silent,
            None => CallState::Unknown,
        };
        let mut episodes: Vec<DeviceEpisode> =
            facts.episodes.values().map(|told| told.value.clone()).collect();
        episodes.sort_by_key(|it| (it.onset.wall_us, it.episode));
        Self {
            endpoint: facts.endpoint,
            call: facts.call,
            purpose: facts.opened.map(|told| told.value.1),
            state,
            start_us: facts.opened.map_or(facts.first_received_us, |told| told.value.0.wall_us),
            end_us: facts.closed.map(|told| told.value.0.wall_us),
            last_heard_us: facts.last_received_us,
            lasted_us: facts.opened.zip(facts.closed).and_then(|(opened, closed)| {
                closed.value.0.uptime_us.checked_sub(opened.value.0.uptime_us)
            }),
            legs: facts.legs.iter().map(|(&leg, facts)| LegView::new(leg, facts)).collect(),
            episodes,
            devices: facts.devices.values().map(|told| told.value.clone()).collect(),
            networks: facts.networks.values().map(|told| told.value.clone()).collect(),
            events: facts.events.values().map(|told| told.value.clone()).collect(),
        }
    }

    /// Whether `rehearse` placed it.
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.purpose == Some(CallPurpose::Rehearsal)
    }

    /// The audio streams of one direction over all legs, as (expected, lost, largest mean jitter in 0.1 ms).
    #[must_use]
    pub fn audio(&self, direction: Direction) -> (u64, u64, Option<u32>) {
        let streams = self.legs.iter().flat_map(|leg| &leg.streams);
        streams.filter(|it| it.key.direction == direction && it.key.media == Media::Audio).fold(
            (0u64, 0u64, None),
            |(expected, lost, jitter), it| {
                (
                    expected.saturating_add(it.expected),
                    lost.saturating_add(it.lost),
                    jitter.max(it.jitter_mean_dms),
                )
            },
        )
    }

    /// The mean round trip over all legs, in 0.1 ms.
    #[must_use]
    pub fn rtt_mean_dms(&self) -> Option<u32> {
        weighted_mean(self.legs.iter().map(|leg| (leg.rtt.mean_dms, leg.rtt.count)))
    }
}

/// The mean of values by weight, `None` without weight.
fn weighted_mean(terms: impl Iterator<Item = (u32, u64)>) -> Option<u32> {
    let (sum, weight) = terms.fold((0u128, 0u128), |(sum, total), (value, weight)| {
        (sum + u128::from(value) * u128::from(weight), total + u128::from(weight))
    });
    u32::try_from(sum.checked_div(weight)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordCounts;

    const HEARD_US: u64 = 1_000_000_000;

    fn state(after_us: u64, connected: bool) -> CallState {
        let endpoint = EndpointFacts {
            endpoint: EndpointId([1; 16]),
            name: String::new(),
            agent_version: String::new(),
            link: None,
            first_seen_us: 0,
            last_seen_us: HEARD_US,
            connected,
            calls: 1,
            counts: RecordCounts::default(),
        };
        let facts = CallFacts::new(endpoint.endpoint, CallId(1), HEARD_US);
        let view = CallView::new(&facts, Some(&endpoint), HEARD_US + after_us);
        assert_eq!(view.last_heard_us, HEARD_US);
        view.state
    }

    /// 90 s: [`SILENT_AFTER`].
    #[test]
    fn open_call_of_an_endpoint_that_went_away_is_unknown_and_not_open_for_ever() {
        assert_eq!(state(89_999_999, false), CallState::Live, "a short break tells nothing");
        assert_eq!(state(90_000_000, false), CallState::Unknown);
        assert_eq!(state(90_000_000, true), CallState::Silent);
    }
}
