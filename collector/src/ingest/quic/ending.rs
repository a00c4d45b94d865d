//! What the log says of a connection's end.

use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::id::EndpointId;

use crate::ingest::exchange::CloseReason;

/// Tells of an end.
pub(super) fn tell(endpoint: EndpointId, reason: CloseReason, refused: Option<RefuseReason>) {
    if is_quiet(reason, refused) {
        tracing::debug!(%endpoint, %reason, "connection ended");
    } else {
        tracing::warn!(%endpoint, %reason, "closed a connection");
    }
}

/// Whether an end needs no warning: it is ordinary, or was counted and told as a refusal.
fn is_quiet(reason: CloseReason, refused: Option<RefuseReason>) -> bool {
    match reason {
        CloseReason::Done
        | CloseReason::GoingAway
        | CloseReason::Replaced
        | CloseReason::Revoked
        | CloseReason::NoCertificate
        | CloseReason::NoEndpoint => true,
        CloseReason::Refused => match refused {
            Some(
                RefuseReason::EndpointMismatch
                | RefuseReason::Revoked
                | RefuseReason::Expired
                | RefuseReason::Cloned
                | RefuseReason::InUse
                | RefuseReason::UnknownEndpoint,
            ) => true,
            Some(RefuseReason::WireVersion | RefuseReason::Busy | RefuseReason::NoHello) | None => {
                false
            }
        },
        CloseReason::BadFrame
        | CloseReason::UnexpectedFrame
        | CloseReason::HelloTimeout
        | CloseReason::StoreUnavailable
        | CloseReason::NotReading
        | CloseReason::NoAnswer => false,
    }
}
