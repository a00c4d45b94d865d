//! What a store promises, whatever holds it: [`memory`] is the reference, [`sqlite`] the default.
//!
//! The writing side takes groups of [`Operation`]s and answers only when all of them are durable; the answer is what
//! may be acked. A record is known by (endpoint, epoch, sequence): one that was stored or reported lost before is
//! acked again and changes nothing. Where two records tell the same thing (a leg's totals, the state of an episode)
//! the later one wins: the higher sequence within an epoch, the later arrival between epochs.
//!
//! The reading side gives facts, never judgements; [`crate::call`] makes views of them.

pub(crate) mod code;
pub mod ledger;
pub mod memory;
pub mod rollup;
pub mod sqlite;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::device::{DeviceEpisode, SelfTest};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId};
use roomtone_protocol::network::NetworkAttachment;
use roomtone_protocol::path::PathInterval;
use roomtone_protocol::record::Record;

use crate::call::{CallFacts, Told};
use crate::store::rollup::HourTotals;

/// The most epochs of one endpoint whose watermarks are kept; the one that changed longest ago goes first.
///
/// A healthy endpoint draws a new epoch only when its spool is lost: 64 in one retention time are two a day.
pub const EPOCHS_PER_ENDPOINT_MAX: usize = 64;

/// The writing side. One thread owns it.
pub trait Store: Send {
    /// Makes all operations durable in their order, as one step, and returns one answer per operation.
    ///
    /// The answer to a record or an attach is the watermark of its epoch; a detach has none. `received_us` is the
    /// collector's wall clock in microseconds since 1970: it chooses the day that the rows belong to.
    ///
    /// # Errors
    /// After any error nothing of the group counts as stored: do not ack, let the endpoint send again.
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError>;
}

/// The reading side. Any number of them may read beside the writer.
pub trait StoreReader {
    /// The latest calls that were heard of at or after `since_us` (collector's clock), newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn recent_calls(&self, since_us: u64, limit: usize) -> Result<Vec<CallFacts>, StoreError>;

    /// Every endpoint's call of this id; ids are random, so more than one means a cloned endpoint.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn call(&self, call: CallId) -> Result<Vec<CallFacts>, StoreError>;

    /// All endpoints, by id.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn endpoints(&self) -> Result<Vec<EndpointFacts>, StoreError>;

    /// The device episodes of one endpoint or of all, in calls and outside, by endpoint and episode.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn episodes(
        &self,
        endpoint: Option<EndpointId>,
    ) -> Result<BTreeMap<(EndpointId, u64), Told<DeviceEpisode>>, StoreError>;

    /// The hourly totals of an endpoint, keyed by hours since 1970 on the endpoint's clock.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn hours(&self, endpoint: EndpointId) -> Result<BTreeMap<u64, HourTotals>, StoreError>;

    /// What an endpoint said of its host, by record id.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn host_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, HostInterval>, StoreError>;

    /// What an endpoint said of its path, by record id.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn path_intervals(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, PathInterval>, StoreError>;

    /// The interfaces that an endpoint told of, in calls and outside, by record id.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn networks(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, NetworkAttachment>, StoreError>;

    /// The latest self-tests that were received at or after `since_us` (collector's clock), of one endpoint or of all,
    /// newest receipt first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn self_tests(
        &self,
        endpoint: Option<EndpointId>,
        since_us: u64,
        limit: usize,
    ) -> Result<Vec<SelfTestFacts>, StoreError>;

    /// The records of an endpoint that this version could not read, by record id.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    fn opaque_records(
        &self,
        endpoint: EndpointId,
    ) -> Result<BTreeMap<RecordId, OpaqueRecord>, StoreError>;
}

/// One step of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An endpoint said Hello.
    Attach(Attach),
    /// Its connection ended.
    Detach {
        /// Whose.
        endpoint: EndpointId,
    },
    /// It sent a record.
    Record(Incoming),
}

/// Who connected, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The certificate's endpoint.
    pub endpoint: EndpointId,
    /// The certificate's common name.
    pub name: String,
    /// The agent's version, from its Hello.
    pub agent_version: String,
    /// What carries the connection.
    pub transport: LinkTransport,
    /// Where it came from.
    pub remote: SocketAddr,
    /// The epoch that the Hello asked about.
    pub epoch: Epoch,
}

/// What carries frames from an endpoint to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkTransport {
    /// QUIC over UDP.
    Quic,
}

/// One record as it came from an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The certificate's endpoint.
    pub endpoint: EndpointId,
    /// The record's id, from the frame's header.
    pub id: RecordId,
    /// What it says.
    pub content: Content,
}

/// A record's content, read or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Read.
    Known(Box<Record>),
    /// Not readable by this version; kept as it came.
    Opaque(OpaqueRecord),
}

/// A record that this version cannot read. Its body is at most [`roomtone_protocol::limits::BODY_BYTES_MAX`] long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaqueRecord {
    /// The kind byte.
    pub kind: u8,
    /// Why it was not read.
    pub reason: OpaqueReason,
    /// The body.
    pub body: Box<[u8]>,
}

/// Why a record is kept unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpaqueReason {
    /// A later version's kind.
    UnknownKind,
    /// The body does not decode as its kind: the agent is wrong.
    Refused,
}

/// A self-test as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTestFacts {
    /// Whose.
    pub endpoint: EndpointId,
    /// The record that told it.
    pub by: RecordId,
    /// When it was received, microseconds since 1970, collector's clock.
    pub received_us: u64,
    /// What it found.
    pub test: SelfTest,
}

/// Puts self-tests in the order of [`StoreReader::self_tests`] and leaves the first `limit`.
fn latest_self_tests(mut tests: Vec<SelfTestFacts>, limit: usize) -> Vec<SelfTestFacts> {
    use std::cmp::Reverse;
    tests.sort_by_key(|it| (Reverse(it.received_us), Reverse(it.by), it.endpoint));
    tests.truncate(limit);
    tests
}

/// What is known of one endpoint. Counts are since its first record within the retention time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    /// Its id.
    pub endpoint: EndpointId,
    /// The common name of its certificate; from outside, escape before printing.
    pub name: String,
    /// Its agent's version; from outside, escape before printing.
    pub agent_version: String,
    /// What carried its latest connection and from where; `None` before the first.
    pub link: Option<(LinkTransport, SocketAddr)>,
    /// First heard of, microseconds since 1970, collector's clock.
    pub first_seen_us: u64,
    /// Last heard of, likewise.
    pub last_seen_us: u64,
    /// Whether its connection stands, as far as the writer knew.
    pub connected: bool,
    /// Calls within the retention time.
    pub calls: u64,
    /// Counts of its records.
    pub counts: RecordCounts,
}

/// What became of an endpoint's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts {
    /// Stored once, the next two included.
    pub stored: u64,
    /// Of a kind that this version does not know.
    pub unknown: u64,
    /// Of a known kind with a body that does not decode.
    pub refused: u64,
    /// Received again: acked, nothing changed.
    pub duplicate: u64,
    /// Reported lost by the endpoint itself.
    pub reported_lost: u64,
    /// Neither stored nor reported lost: unexplained.
    pub missing: u64,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another collector writes there. Stop it, or choose another directory.
    #[error("{} is in use by another roomtone-collector: stop it, or set another store.directory", directory.display())]
    InUse {
        /// The store's directory.
        directory: PathBuf,
    },
    /// The directory or one of its files cannot be opened or listed. Mend its path or its rights.
    #[error("cannot use the store at {}: {source}", path.display())]
    Open {
        /// What could not be opened.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk or the engine refused a write, as when the disk is full. Nothing was stored; try again later.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine could not read a file. The rows in it are not shown.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was removed or replaced while in use. Nothing of this group was stored; try again, in a new file.
    #[error("{} was removed while in use, its records are lost: beginning a new one", path.display())]
    Vanished {
        /// The file that was in use.
        path: PathBuf,
    },
    /// The file was damaged while in use; it was set aside. Nothing of this group was stored; try again.
    #[error("{} was damaged and has been set aside", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}
