//! Calls as their records tell them: facts gathered from any number of records, in any order, from any number of days.
//!
//! [`CallFacts`] holds what was said, [`view::CallView`] what it comes to. Where two records tell the same thing the
//! later one wins ([`supersedes`]).

pub mod device;
pub mod ends;
pub mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::client_event::ClientEvents;
use roomtone_protocol::device::{DeviceEpisode, DeviceSide, DeviceSummary};
use roomtone_protocol::heard::HeardInterval;
use roomtone_protocol::id::{CallId, EndpointId, RecordId};
use roomtone_protocol::interval::{LegInterval, LegIntervals, StreamInterval};
use roomtone_protocol::media::{LegOpened, LegSummary, StreamKey};
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

/// A value and the record that told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<T> {
    /// The record.
    pub by: RecordId,
    /// What it said.
    pub value: T,
}

/// Whether a record that arrives now replaces one that was stored: later in the same epoch, or of another epoch.
#[must_use]
pub fn supersedes(arriving: RecordId, stored: RecordId) -> bool {
    arriving.epoch != stored.epoch || arriving.sequence > stored.sequence
}

/// Puts an arriving value in place unless the one there is later.
pub(crate) fn tell<T>(slot: &mut Option<Told<T>>, arriving: Told<T>) {
    if slot.as_ref().is_none_or(|stored| supersedes(arriving.by, stored.by)) {
        *slot = Some(arriving);
    }
}

/// All that one endpoint said of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts {
    /// Whose call.
    pub endpoint: EndpointId,
    /// Which.
    pub call: CallId,
    /// When the first record of it came, microseconds since 1970, collector's clock.
    pub first_received_us: u64,
    /// When the latest came, likewise.
    pub last_received_us: u64,
    /// When it began and why it took place.
    pub opened: Option<Told<(Stamp, CallPurpose)>>,
    /// When and why it ended.
    pub closed: Option<Told<(Stamp, CallCloseReason)>>,
    /// Its legs by number.
    pub legs: BTreeMap<u16, LegFacts>,
    /// The device episodes in it, by episode.
    pub episodes: BTreeMap<u64, Told<DeviceEpisode>>,
    /// The device totals of it, by side and device name.
    pub devices: BTreeMap<DeviceKey, Told<DeviceSummary>>,
    /// The interfaces that it went through, by the endpoint's address on them.
    pub networks: BTreeMap<IpAddr, Told<NetworkAttachment>>,
    /// The client events of it: the call's own under `None`, those of its legs by number.
    pub events: BTreeMap<Option<u16>, Told<ClientEvents>>,
}

/// One device of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKey {
    /// Whether it renders; capture sorts first.
    pub is_render: bool,
    /// Its name.
    pub name: String,
}

impl DeviceKey {
    /// The key of a device.
    #[must_use]
    pub fn new(side: DeviceSide, name: &str) -> Self {
        let is_render = match side {
            DeviceSide::Capture => false,
            DeviceSide::Render => true,
        };
        Self { is_render, name: name.to_owned() }
    }
}

/// All that was said of one leg.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegFacts {
    /// When it began and between whom.
    pub opened: Option<Told<LegOpened>>,
    /// Its totals.
    pub summary: Option<Told<LegSummary>>,
    /// Its intervals by number.
    pub intervals: BTreeMap<u32, Told<IntervalFacts>>,
}

/// One interval, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalFacts {
    /// When it began, milliseconds since 1970, endpoint's clock.
    pub started_wall_ms: u64,
    /// The leg's own numbers; its rows are moved to `streams`.
    pub leg: LegInterval,
    /// The streams of it.
    pub streams: Vec<(StreamKey, StreamInterval)>,
    /// What was heard of its received audio streams; `None` where the endpoint's agent is older than that.
    pub heard: Option<Vec<(StreamKey, HeardInterval)>>,
}

impl CallFacts {
    /// A call of which nothing is known yet.
    #[must_use]
    pub fn new(endpoint: EndpointId, call: CallId, received_us: u64) -> Self {
        Self {
            endpoint,
            call,
            first_received_us: received_us,
            last_received_us: received_us,
            opened: None,
            closed: None,
            legs: BTreeMap::new(),
            episodes: BTreeMap::new(),
            devices: BTreeMap::new(),
            networks: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// Adds what one record says of this call; records of other calls or of none must not come here.
    pub fn handle_record(&mut self, by: RecordId, record: &Record) {
        match record {
            Record::CallOpened(it) => {
                tell(&mut self.opened, Told { by, value: (it.opened, it.purpose) });
            }
            Record::CallClosed(it) => {
                tell(&mut self.closed, Told { by, value: (it.closed, it.reason) });
            }
            Record::LegOpened(it) => {
                tell(&mut self.leg(it.leg.0).opened, Told { by, value: *it });
            }
            Record::LegIntervals(it) => self.leg(it.leg.0).handle_intervals(by, it),
            Record::LegSummary(it) => {
                tell(&mut self.leg(it.leg.0).summary, Told { by, value: it.clone() });
            }
            Record::DeviceSummary(it) => {
                self.handle_device(Told { by, value: it.clone() });
            }
            Record::NetworkAttachment(it) => {
                self.handle_network(Told { by, value: it.clone() });
            }
            Record::ClientEvents(it) => self.handle_events(Told { by, value: it.clone() }),
            // An episode outlives calls: who holds the facts keeps it per endpoint and adds it by `handle_episode`.
            Record::DeviceEpisode(_)
            | Record::HostInterval(_)
            | Record::PathInterval(_)
            | Record::LossReceipt(_)
            | Record::SelfTest(_) => {}
        }
    }

    /// Adds the state of an episode.
    pub fn handle_episode(&mut self, told: Told<DeviceEpisode>) {
        let mut slot = self.episodes.remove(&told.value.episode);
        let episode = told.value.episode;
        tell(&mut slot, told);
        self.episodes.extend(slot.map(|told| (episode, told)));
    }

    /// Adds the totals of a device.
    pub fn handle_device(&mut self, told: Told<DeviceSummary>) {
        let key = DeviceKey::new(told.value.side, &told.value.device);
        let mut slot = self.devices.remove(&key);
        tell(&mut slot, told);
        self.devices.extend(slot.map(|told| (key, told)));
    }

    /// Adds an interface.
    pub fn handle_network(&mut self, told: Told<NetworkAttachment>) {
        let mut slot = self.networks.remove(&told.value.address);
        let address = told.value.address;
        tell(&mut slot, told);
        self.networks.extend(slot.map(|told| (address, told)));
    }

    /// Adds the client events of the call or of a leg.
    pub fn handle_events(&mut self, told: Told<ClientEvents>) {
        let key = told.value.leg.map(|leg| leg.0);
        let mut slot = self.events.remove(&key);
        tell(&mut slot, told);
        self.events.extend(slot.map(|told| (key, told)));
    }

    /// The facts of a leg, made where there are none.
    pub fn leg(&mut self, number: u16) -> &mut LegFacts {
        self.legs.entry(number).or_default()
    }

    /// Adds what was stored of the same call on a later day.
    pub fn merge(&mut self, later: Self) {
        self.first_received_us = self.first_received_us.min(later.first_received_us);
        self.last_received_us = self.last_received_us.max(later.last_received_us);
        if let Some(opened) = later.opened {
            tell(&mut self.opened, opened);
        }
        if let Some(closed) = later.closed {
            tell(&mut self.closed, closed);
        }
        for (number, leg) in later.legs {
            self.leg(number).merge(leg);
        }
        later.episodes.into_values().for_each(|told| self.handle_episode(told));
        later.devices.into_values().for_each(|told| self.handle_device(told));
        later.networks.into_values().for_each(|told| self.handle_network(told));
        later.events.into_values().for_each(|told| self.handle_events(told));
    }
}

impl LegFacts {
    /// Adds a pack of intervals.
    pub fn handle_intervals(&mut self, by: RecordId, pack: &LegIntervals) {
        let mut started_wall_ms = pack.started_wall_ms;
        for (position, mut leg) in (0u8..).zip(pack.intervals()) {
            let number = u32::from(pack.first) + u32::from(position);
            let duration_ms = u64::from(leg.duration_ms);
            let streams = std::mem::take(&mut leg.streams)
                .into_iter()
                .filter_map(|row| Some((*pack.streams.get(usize::from(row.stream))?, row)))
                .collect();
            let heard = pack.heard.as_ref().map(|told| {
                told.iter()
                    .filter(|row| row.interval == position)
                    .filter_map(|row| Some((*pack.streams.get(usize::from(row.stream))?, *row)))
                    .collect()
            });
            self.handle_interval(
                number,
                Told { by, value: IntervalFacts { started_wall_ms, leg, streams, heard } },
            );
            started_wall_ms = started_wall_ms.saturating_add(duration_ms);
        }
    }

    fn handle_interval(&mut self, number: u32, told: Told<IntervalFacts>) {
        let mut slot = self.intervals.remove(&number);
        tell(&mut slot, told);
        self.intervals.extend(slot.map(|told| (number, told)));
    }

    fn merge(&mut self, later: Self) {
        if let Some(opened) = later.opened {
            tell(&mut self.opened, opened);
        }
        if let Some(summary) = later.summary {
            tell(&mut self.summary, summary);
        }
        for (number, told) in later.intervals {
            self.handle_interval(number, told);
        }
    }
}

/// The call that a record speaks of, if it speaks of one.
#[must_use]
pub fn call_of(record: &Record) -> Option<CallId> {
    match record {
        Record::CallOpened(it) => Some(it.call),
        Record::CallClosed(it) => Some(it.call),
        Record::LegOpened(it) => Some(it.call),
        Record::LegIntervals(it) => Some(it.call),
        Record::LegSummary(it) => Some(it.call),
        Record::DeviceEpisode(it) => it.call,
        Record::DeviceSummary(it) => Some(it.call),
        Record::HostInterval(_)
        | Record::PathInterval(_)
        | Record::LossReceipt(_)
        | Record::SelfTest(_) => None,
        Record::NetworkAttachment(it) => it.call,
        Record::ClientEvents(it) => Some(it.call),
    }
}
