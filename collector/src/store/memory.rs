//! The reference store: what the others must answer, in maps, forgetting everything at the end of the process.
//!
//! For tests and for reading: it has no retention and no bound but its endpoints' diligence.

use std::collections::BTreeMap;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::device::{DeviceEpisode, SelfTest};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId};
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::path::PathInterval;
use roomtone_protocol::record::Record;

use super::ledger::{Admission, EpochLedger};
use super::rollup::{self, HourTotals};
use super::{
    Attach, Content, EPOCHS_PER_ENDPOINT_MAX, EndpointFacts, Incoming, OpaqueReason, OpaqueRecord,
    Operation, RecordCounts, SelfTestFacts, Store, StoreError, StoreReader, latest_self_tests,
};
use crate::call::{CallFacts, Told, call_of, tell};

/// Everything, by endpoint.
#[derive(Debug, Default)]
pub struct MemoryStore {
    endpoints: BTreeMap<EndpointId, Held>,
}

#[derive(Debug, Default)]
struct Held {
    attach: Option<Attach>,
    is_connected: bool,
    first_seen_us: u64,
    last_seen_us: u64,
    counts: RecordCounts,
    ledgers: BTreeMap<Epoch, (u64, EpochLedger)>,
    calls: BTreeMap<CallId, CallFacts>,
    episodes: BTreeMap<u64, Told<DeviceEpisode>>,
    hours: BTreeMap<u64, HourTotals>,
    host: BTreeMap<RecordId, HostInterval>,
    path: BTreeMap<RecordId, PathInterval>,
    networks: BTreeMap<RecordId, NetworkAttachment>,
    opaque: BTreeMap<RecordId, OpaqueRecord>,
    /// With the time of receipt.
    self_tests: BTreeMap<RecordId, (u64, SelfTest)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn held(&mut self, endpoint: EndpointId, received_us: u64) -> &mut Held {
        let held = self
            .endpoints
            .entry(endpoint)
            .or_insert_with(|| Held { first_seen_us: received_us, ..Held::default() });
        held.last_seen_us = held.last_seen_us.max(received_us);
        held
    }
}

impl Store for MemoryStore {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            answers.push(match operation {
                Operation::Attach(attach) => {
                    let held = self.held(attach.endpoint, received_us);
                    held.is_connected = true;
                    held.attach = Some(attach.clone());
                    let next = held
                        .ledgers
                        .get(&attach.epoch)
                        .map_or(EpochLedger::default().next(), |(_, ledger)| ledger.next());
                    Some(Ack { epoch: attach.epoch, next })
                }
                Operation::Detach { endpoint } => {
                    self.held(*endpoint, received_us).is_connected = false;
                    None
                }
                Operation::Record(incoming) => {
                    let held = self.held(incoming.endpoint, received_us);
                    Some(held.handle_record(incoming, received_us))
                }
            });
        }
        for held in self.endpoints.values_mut() {
            held.forget_surplus_epochs();
        }
        Ok(answers)
    }
}

impl Held {
    fn handle_record(&mut self, incoming: &Incoming, received_us: u64) -> Ack {
        let id = incoming.id;
        let (changed_us, ledger) = self.ledgers.entry(id.epoch).or_default();
        *changed_us = received_us;
        match ledger.admit(id.sequence) {
            Admission::Duplicate => self.counts.duplicate += 1,
            Admission::New => {
                self.counts.stored += 1;
                self.store(incoming, received_us);
            }
        }
        let next = self.ledgers.entry(id.epoch).or_default().1.next();
        Ack { epoch: id.epoch, next }
    }

    fn store(&mut self, incoming: &Incoming, received_us: u64) {
        let id = incoming.id;
        let record = match &incoming.content {
            Content::Known(record) => record,
            Content::Opaque(opaque) => {
                match opaque.reason {
                    OpaqueReason::UnknownKind => self.counts.unknown += 1,
                    OpaqueReason::Refused => self.counts.refused += 1,
                }
                self.opaque.insert(id, opaque.clone());
                return;
            }
        };
        if let Some(call) = call_of(record) {
            let facts = self
                .calls
                .entry(call)
                .or_insert_with(|| CallFacts::new(incoming.endpoint, call, received_us));
            facts.last_received_us = facts.last_received_us.max(received_us);
            facts.handle_record(id, record);
        }
        match &**record {
            Record::LegOpened(leg) => {
                let (hour, totals) = rollup::of_leg(leg);
                self.hours.entry(hour).or_default().add(&totals);
            }
            Record::LegIntervals(pack) => {
                for (hour, totals) in rollup::of_intervals(pack) {
                    self.hours.entry(hour).or_default().add(&totals);
                }
            }
            Record::HostInterval(interval) => {
                self.host.insert(id, *interval);
            }
            Record::PathInterval(interval) => {
                self.path.insert(id, *interval);
            }
            Record::NetworkAttachment(attachment) => {
                self.networks.insert(id, attachment.clone());
            }
            Record::LossReceipt(receipt) => {
                let (changed_us, ledger) = self.ledgers.entry(receipt.epoch).or_default();
                *changed_us = received_us;
                ledger.report_lost(receipt.first, receipt.last);
            }
            Record::DeviceEpisode(episode) => {
                let mut slot = self.episodes.remove(&episode.episode);
                tell(&mut slot, Told { by: id, value: episode.clone() });
                self.episodes.extend(slot.map(|told| (episode.episode, told)));
            }
            Record::SelfTest(test) => {
                self.self_tests.insert(id, (received_us, test.clone()));
            }
            Record::CallOpened(_)
            | Record::CallClosed(_)
            | Record::LegSummary(_)
            | Record::DeviceSummary(_)
            | Record::ClientEvents(_) => {}
        }
    }

    fn forget_surplus_epochs(&mut self) {
        while self.ledgers.len() > EPOCHS_PER_ENDPOINT_MAX
            && let Some(oldest) = self
                .ledgers
                .iter()
                .min_by_key(|(epoch, (changed_us, _))| (*changed_us, **epoch))
                .map(|(epoch, _)| *epoch)
        {
            self.ledgers.remove(&oldest);
        }
    }

    /// The facts of a call with the episodes that name it.
    fn call(&self, facts: &CallFacts) -> CallFacts {
        let mut facts = facts.clone();
        let call = Some(facts.call);
        for told in self.episodes.values().filter(|told| told.value.call == call) {
            facts.handle_episode(told.clone());
        }
        facts
    }

    fn facts(&self, endpoint: EndpointId) -> EndpointFacts {
        let attach = self.attach.as_ref();
        EndpointFacts {
            endpoint,
            name: attach.map(|it| it.name.clone()).unwrap_or_default(),
            agent_version: attach.map(|it| it.agent_version.clone()).unwrap_or_default(),
            link: attach.map(|it| (it.transport, it.remote)),
            first_seen_us: self.first_seen_us,
            last_seen_us: self.last_seen_us,
            connected: self.is_connected,
            calls: self.calls.len() as u64,
            counts: RecordCounts {
                missing: self.ledgers.values().map(|(_, it)| it.missing()).sum(),
                reported_lost: self.ledgers.values().map(|(_, it)| it.reported_lost()).sum(),
                ..self.counts
            },
        }
    }
}

impl StoreReader for MemoryStore {
    fn recent_calls(&self, since_us: u64, limit: usize) -> Result<Vec<CallFacts>, StoreError> {
        let mut calls: Vec<CallFacts> = self
            .endpoints
            .values()
            .flat_map(|held| held.calls.values().map(move |facts| (held, facts)))
            .filter(|(_, facts)| facts.last_received_us >= since_us)
            .map(|(held, facts)| held.call(facts))
            .collect();
        calls.sort_by_key(|it| (std::cmp::Reverse(it.first_received_us), it.endpoint, it.call));
        calls.truncate(limit);
        Ok(calls)
    }

    fn call(&self, call: CallId) -> Result<Vec<CallFacts>, StoreError> {
        let held = self.endpoints.values();
        Ok(held.filter_map(|held| Some(held.call(held.calls.get(&call)?))).collect())
    }

    fn endpoints(&self) -> Result<Vec<EndpointFacts>, StoreError> {
        Ok(self.endpoints.iter().map(|(endpoint, held)| held.facts(*endpoint)).collect())
    }

    fn episodes(
        &self,
        endpoint: Option<EndpointId>,
    ) -> Result<BTreeMap<(EndpointId, u64), Told<DeviceEpisode>>, StoreError> {
        let asked = |id: &EndpointId| endpoint.is_none_or(|endpoint| endpoint == *id);
        let held = self.endpoints.iter().filter(|(id, _)| asked(id));
        let episodes = held.flat_map(|(id, held)| {
            held.episodes.iter().map(|(episode, told)| ((*id, *episode), told.clone()))
        });
        Ok(episodes.collect())
    }

    fn hours(&self, endpoint: EndpointId) -> Result<BTreeMap<u64, HourTotals>, StoreError> {
        Ok(self.endpoints.get(&endpoint).map(|held| held.hours.clone()).unwrap_or_default())
    }

    fn host_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, HostInterval>, StoreError> {
        Ok(self.endpoints.get(&endpoint).map(|held| held.host.clone()).unwrap_or_default())
    }

    fn path_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, PathInterval>, StoreError> {
        Ok(self.endpoints.get(&endpoint).map(|held| held.path.clone()).unwrap_or_default())
    }

    fn networks(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, NetworkAttachment>, StoreError> {
        Ok(self.endpoints.get(&endpoint).map(|held| held.networks.clone()).unwrap_or_default())
    }

    fn self_tests(
        &self,
        endpoint: Option<EndpointId>,
        since_us: u64,
        limit: usize,
    ) -> Result<Vec<SelfTestFacts>, StoreError> {
        let found = self
            .endpoints
            .iter()
            .filter(|(id, _)| endpoint.is_none_or(|wanted| wanted == **id))
            .flat_map(|(id, held)| held.self_tests.iter().map(move |told| (*id, told)))
            .filter(|(_, (_, (received_us, _)))| *received_us >= since_us)
            .map(|(endpoint, (&by, (received_us, test)))| SelfTestFacts {
                endpoint,
                by,
                received_us: *received_us,
                test: test.clone(),
            })
            .collect();
        Ok(latest_self_tests(found, limit))
    }

    fn opaque_records(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, OpaqueRecord>, StoreError> {
        Ok(self.endpoints.get(&endpoint).map(|held| held.opaque.clone()).unwrap_or_default())
    }
}
