//! The unit of spool, uplink and store.

use crate::call::{CallClosed, CallOpened};
use crate::client_event::ClientEvents;
use crate::device::{DeviceEpisode, DeviceSummary, SelfTest};
use crate::host::HostInterval;
use crate::interval::LegIntervals;
use crate::loss::LossReceipt;
use crate::media::{LegOpened, LegSummary};
use crate::network::NetworkAttachment;
use crate::path::PathInterval;

/// What happened, as it is spooled, sent and stored.
// A record lives on the stack of one function at a time; boxing the large variants would need an allocator.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A call began.
    CallOpened(CallOpened),
    /// A call ended.
    CallClosed(CallClosed),
    /// A leg began.
    LegOpened(LegOpened),
    /// Up to a minute of a leg.
    LegIntervals(LegIntervals),
    /// A leg's totals.
    LegSummary(LegSummary),
    /// A device does not function, or does again.
    DeviceEpisode(DeviceEpisode),
    /// A device's totals in a call.
    DeviceSummary(DeviceSummary),
    /// The host's load.
    HostInterval(HostInterval),
    /// The path to a collector or reflector.
    PathInterval(PathInterval),
    /// Records that will never arrive.
    LossReceipt(LossReceipt),
    /// A self-test of a microphone and a loudspeaker ended.
    SelfTest(SelfTest),
    /// The interface that calls go through.
    NetworkAttachment(NetworkAttachment),
    /// The client events of a call or of a leg.
    ClientEvents(ClientEvents),
}
