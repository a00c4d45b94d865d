//! Why somebody was turned away: one name per reason, counted since the start, told in the log within bounds.
//!
//! A log line never holds a name, an address, a token or a key; names and addresses of the same event are at DEBUG.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reason to turn somebody away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The certificate was issued by another authority.
    WrongAuthority,
    /// The certificate is not one for an endpoint: another purpose, or it does not parse.
    BadCertificate,
    /// The peer showed a certificate and not that it has its key.
    CertificateWithoutKey,
    /// `roomtone/1` without a certificate.
    NoCertificate,
    /// The certificate names no endpoint, or more than one.
    NoEndpoint,
    /// The certificate expired longer ago than is forgiven, or is not the last one issued.
    Expired,
    /// An operator revoked the endpoint.
    Revoked,
    /// The registry does not know the endpoint, and `identity.required` is set.
    UnknownEndpoint,
    /// Two machines use the identity, and this is not the one that keeps it.
    Cloned,
    /// Another machine is connected with the identity.
    InUse,
    /// The Hello names another endpoint than the certificate.
    EndpointMismatch,
    /// Bytes that are no frames.
    Garbage,
    /// A handshake that came to nothing: another protocol, or none.
    HandshakeFailed,
    /// The peer does not take this collector's certificate: its token or its CA is of another collector.
    NotTrusted,
    /// No such token.
    TokenUnknown,
    /// The token's secret is another.
    TokenWrongSecret,
    /// The token's time is over.
    TokenExpired,
    /// The token was used as often as it may be.
    TokenUsed,
    /// The token was revoked.
    TokenRevoked,
    /// The token speaks of another authority.
    TokenOfOtherCollector,
    /// The request to enrol or renew is not one.
    BadRequest,
    /// More requests to enrol than are taken on.
    TooMany,
    /// This collector has no authority and enrols nobody.
    NotEnrolling,
}

impl Refusal {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 23] = [
        Self::WrongAuthority,
        Self::BadCertificate,
        Self::CertificateWithoutKey,
        Self::NoCertificate,
        Self::NoEndpoint,
        Self::Expired,
        Self::Revoked,
        Self::UnknownEndpoint,
        Self::Cloned,
        Self::InUse,
        Self::EndpointMismatch,
        Self::Garbage,
        Self::HandshakeFailed,
        Self::NotTrusted,
        Self::TokenUnknown,
        Self::TokenWrongSecret,
        Self::TokenExpired,
        Self::TokenUsed,
        Self::TokenRevoked,
        Self::TokenOfOtherCollector,
        Self::BadRequest,
        Self::TooMany,
        Self::NotEnrolling,
    ];

    /// The name in logs and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongAuthority => "wrongAuthority",
            Self::BadCertificate => "badCertificate",
            Self::CertificateWithoutKey => "certificateWithoutKey",
            Self::NoCertificate => "noCertificate",
            Self::NoEndpoint => "noEndpoint",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::UnknownEndpoint => "unknownEndpoint",
            Self::Cloned => "cloned",
            Self::InUse => "inUse",
            Self::EndpointMismatch => "endpointMismatch",
            Self::Garbage => "garbage",
            Self::HandshakeFailed => "handshakeFailed",
            Self::NotTrusted => "notTrusted",
            Self::TokenUnknown => "tokenUnknown",
            Self::TokenWrongSecret => "tokenWrongSecret",
            Self::TokenExpired => "tokenExpired",
            Self::TokenUsed => "tokenUsed",
            Self::TokenRevoked => "tokenRevoked",
            Self::TokenOfOtherCollector => "tokenOfOtherCollector",
            Self::BadRequest => "badRequest",
            Self::TooMany => "tooMany",
            Self::NotEnrolling => "notEnrolling",
        }
    }
}

/// How often each reason occurred since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
}

/// Of each reason the first ten are told, then every thousandth: a scan must not fill the log.
const TOLD_ALL: u64 = 10;
const TOLD_EVERY: u64 = 1_000;

impl Refusals {
    /// Counts one and tells it.
    pub fn add(&self, refusal: Refusal) {
        let count = self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if count <= TOLD_ALL || count.is_multiple_of(TOLD_EVERY) {
            tracing::info!(reason = refusal.name(), count, "turned away");
        }
    }

    /// How often one occurred.
    #[must_use]
    pub fn count(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let refusals = Refusals::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "ALL is in the order of the enum");
            refusals.add(refusal);
            assert_eq!(refusals.count(refusal), 1);
        }
        let names: BTreeSet<_> = Refusal::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
