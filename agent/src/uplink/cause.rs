//! Why the exchange ends a connection, in words that tell an operator what to do.

use std::fmt;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::id::{Epoch, Sequence};
use roomtone_protocol::limits::REASON_BYTES_MAX;

/// Why the exchange ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No answer to the Hello in time.
    HelloTimeout,
    /// Records in flight and no ack progress in time.
    NoProgress,
    /// The collector broke the rules of the wire.
    Violation(Violation),
    /// The collector does not take this endpoint's records.
    Refused {
        /// Why; `None` where this version does not know the reason.
        reason: Option<RefuseReason>,
        /// The collector's own words.
        detail: heapless::String<REASON_BYTES_MAX>,
    },
    /// The collector has records of this epoch that the spool never wrote. Tell the spool, which begins a new epoch.
    CollectorAhead {
        /// The Hello's epoch.
        epoch: Epoch,
        /// The first record that the collector lacks.
        next: Sequence,
        /// The next record that the spool would have written.
        newest: Sequence,
    },
    /// The collector did not answer a request for a certificate in time.
    RenewTimeout,
    /// The certificate has expired, and no other came.
    NotRenewed,
    /// Another identity is in force than the one that the connection was made with.
    NewIdentity,
    /// The collector announced its departure.
    GoingAway,
    /// The agent ends.
    Shutdown,
}

/// How a collector can break the rules of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Its bytes are no frames.
    Frame(DecodeError),
    /// A frame of this kind has no place here.
    Unexpected {
        /// The kind byte.
        kind: u8,
    },
    /// A frame of this kind does not decode.
    Unreadable {
        /// The kind byte.
        kind: u8,
    },
    /// It chose a wire version that the Hello did not offer.
    WireVersion {
        /// The version chosen.
        found: u8,
    },
    /// It acknowledged records that were never sent.
    AckAhead {
        /// What it acknowledged.
        ack: Ack,
        /// The number behind the last record sent in that epoch.
        sent: Sequence,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HelloTimeout => {
                f.write_str("the collector did not answer the hello in time; is it overloaded?")
            }
            Self::NoProgress => f.write_str("no ack progress in time, connecting anew"),
            Self::Violation(violation) => {
                write!(f, "{violation}; is another service listening there?")
            }
            Self::Refused { reason, detail } => {
                let advice = match reason {
                    Some(RefuseReason::EndpointMismatch) => {
                        "identity.endpoint differs from the id in the certificate, \
                         correct one of them or enrol anew; asking again in hours"
                    }
                    Some(RefuseReason::WireVersion) => {
                        "no wire version in common, upgrade the collector first, then the agents"
                    }
                    Some(RefuseReason::Busy) => "it has no room now, trying again later",
                    Some(RefuseReason::NoHello) => {
                        "it saw no hello, is something between the two altering the traffic?"
                    }
                    Some(RefuseReason::Revoked) => {
                        "this identity was revoked, enrol anew (`roomtone-agent enroll --force`); \
                         asking again in hours"
                    }
                    Some(RefuseReason::Expired) => {
                        "the certificate expired too long ago to be renewed, or is not the last one issued, \
                         enrol anew (`roomtone-agent enroll --force`); asking again in hours"
                    }
                    Some(RefuseReason::Cloned) => {
                        "another machine uses this identity too, enrol this one anew \
                         (`roomtone-agent enroll --force`); asking again in hours"
                    }
                    Some(RefuseReason::InUse) => {
                        "another machine is connected with this identity, trying again later"
                    }
                    Some(RefuseReason::UnknownEndpoint) => {
                        "it takes only endpoints that it enrolled, enrol this one \
                         (`roomtone-agent enroll --force`); asking again in hours"
                    }
                    None => "for a reason that this version does not know, upgrade this agent",
                };
                write!(f, "the collector refused: {advice}")?;
                if detail.is_empty() { Ok(()) } else { write!(f, " ({:?})", detail.as_str()) }
            }
            Self::CollectorAhead { epoch, next, newest } => write!(
                f,
                "the collector has records of epoch {epoch} up to {next}, the spool only up to {newest}: \
                 was a disk image restored? going on in a new epoch"
            ),
            Self::RenewTimeout => {
                f.write_str("the collector did not answer a request for a certificate in time")
            }
            Self::NotRenewed => f.write_str(
                "the certificate has expired and was not renewed; the line before says why",
            ),
            Self::NewIdentity => f.write_str("another identity is in force"),
            Self::GoingAway => f.write_str("the collector is going away"),
            Self::Shutdown => f.write_str("the agent ends"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => write!(f, "the collector sent no valid frame: {error}"),
            Self::Unexpected { kind } => {
                write!(f, "the collector sent a frame of kind {kind:#04x} out of place")
            }
            Self::Unreadable { kind } => {
                write!(f, "the collector sent a frame of kind {kind:#04x} that does not decode")
            }
            Self::WireVersion { found } => {
                write!(f, "the collector chose wire version {found}, which was not offered")
            }
            Self::AckAhead { ack, sent } => write!(
                f,
                "the collector acknowledged up to {} of epoch {}, sent was up to {sent}",
                ack.next, ack.epoch
            ),
        }
    }
}
