//! What the log says of a connection's end: a line per endpoint and minute at most, or a peer would fill the log.

use std::time::Instant;

use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::id::EndpointId;

use super::Links;
use crate::ingest::exchange::CloseReason;

impl Links {
    /// Tells of an end.
    pub(super) fn tell_end(
        &self,
        endpoint: EndpointId,
        reason: CloseReason,
        refused: Option<RefuseReason>,
    ) {
        if !is_quiet(reason, refused) && self.may_tell(endpoint, Instant::now()) {
            tracing::warn!(%endpoint, %reason, "closed a connection");
        } else {
            tracing::debug!(%endpoint, %reason, "connection ended");
        }
    }
}

/// Whether an end needs no warning: it is ordinary, or was counted and told as a refusal.
fn is_quiet(reason: CloseReason, refused: Option<RefuseReason>) -> bool {
    match reason {
        CloseReason::Done
        | CloseReason::GoingAway
        | CloseReason::Replaced
        | CloseReason::Revoked
        // The writer has said so, once for all of them.
        | CloseReason::StoreUnavailable
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
        | CloseReason::NotReading
        | CloseReason::NoAnswer => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn endpoint_has_one_line_a_minute_and_others_have_their_own() {
        let (links, start) = (Links::default(), Instant::now());
        let (oslo, bergen) = (EndpointId([1; 16]), EndpointId([2; 16]));
        assert!(links.may_tell(oslo, start));
        assert!(!links.may_tell(oslo, start + Duration::from_secs(59)));
        assert!(links.may_tell(bergen, start + Duration::from_secs(59)));
        assert!(links.may_tell(oslo, start + Duration::from_secs(60)));
    }

    #[test]
    fn store_that_takes_nothing_is_not_told_once_more_by_each_connection() {
        assert!(is_quiet(CloseReason::StoreUnavailable, None));
        assert!(!is_quiet(CloseReason::BadFrame, None));
    }
}
