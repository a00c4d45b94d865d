//! How a connection begins: the agent says who it is and what it has, the collector says from where to go on.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::enroll::BootId;
use crate::id::{EndpointId, Epoch, Sequence};
use crate::limits::{REASON_BYTES_MAX, VERSION_BYTES_MAX};
use crate::time::Stamp;

/// The first frame of every connection, from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must be the endpoint of the client certificate, else the connection ends.
    pub endpoint: EndpointId,
    /// The lowest wire version that the agent speaks.
    pub wire_min: u8,
    /// The highest wire version that the agent speaks.
    pub wire_max: u8,
    /// The agent's own version.
    pub agent_version: String<VERSION_BYTES_MAX>,
    /// The epoch of the oldest record that it holds, or of the next one that it will write.
    pub epoch: Epoch,
    /// The oldest record of that epoch that it holds, or the next that it will write.
    pub oldest: Sequence,
    /// The agent's clocks when it wrote this.
    pub now: Stamp,
    /// The life of the machine's kernel, which never comes back: by it two machines with one identity are noticed.
    ///
    /// In the extension block: `None` where the system tells none or the writer is older than the field.
    #[serde(skip)]
    pub boot: Option<BootId>,
}

/// The collector's answer. TLS 1.3 tells a client nothing about its certificate: this frame does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// Send records.
    Welcome {
        /// The wire version to use.
        wire: u8,
        /// The collector's own version.
        collector_version: String<VERSION_BYTES_MAX>,
        /// The first record of the Hello's epoch that the collector does not have.
        next: Sequence,
        /// The collector's wall clock, in microseconds since 1970.
        wall_us: u64,
    },
    /// Do not send; the collector closes.
    Refused {
        /// Why.
        reason: RefuseReason,
        /// One line for a person.
        detail: String<REASON_BYTES_MAX>,
    },
    /// The certificate has expired, and only a renewal is taken: send a RenewRequest, then come back with its answer.
    RenewFirst {
        /// The collector's own version.
        collector_version: String<VERSION_BYTES_MAX>,
        /// The collector's wall clock, in microseconds since 1970.
        wall_us: u64,
    },
}

/// Why a collector does not take an endpoint's records. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// The Hello names another endpoint than the certificate.
    EndpointMismatch,
    /// No wire version in common.
    WireVersion,
    /// The collector has no room now. Come back after a back-off.
    Busy,
    /// The first frame was not a Hello.
    NoHello,
    /// An operator took the identity back. Only a new enrolment helps.
    Revoked,
    /// The certificate expired longer ago than is forgiven, or is not the last one issued. Enrol anew.
    Expired,
    /// Two machines use this identity, and this one is not the one that keeps it. Enrol it anew.
    Cloned,
    /// Another machine is connected with this identity. Come back after a back-off: it may be this one's last life.
    InUse,
    /// The collector takes only endpoints that it enrolled, and did not enrol this one.
    UnknownEndpoint,
}
