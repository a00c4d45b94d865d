//! What a handshake that came to nothing is counted as.

use crate::identity::refusal::Refusal;

use super::Shared;

impl Shared {
    /// Counts a handshake that failed, where TLS has not done so already.
    pub(super) fn count_handshake(&self, error: &quinn::ConnectionError) {
        match error {
            // An alert of the peer's: it does not take our certificate (RFC 9001 section 4.8, RFC 8446 section 6.2).
            quinn::ConnectionError::ConnectionClosed(close)
                if CERTIFICATE_ALERTS.contains(&u64::from(close.error_code)) =>
            {
                self.registrar.refusals().add(Refusal::NotTrusted);
            }
            // Alerts of our own about the peer's certificate were counted by their reason.
            quinn::ConnectionError::TransportError(error)
                if CERTIFICATE_ALERTS.contains(&u64::from(error.code)) => {}
            quinn::ConnectionError::VersionMismatch
            | quinn::ConnectionError::TransportError(_)
            | quinn::ConnectionError::ConnectionClosed(_)
            | quinn::ConnectionError::ApplicationClosed(_)
            | quinn::ConnectionError::Reset
            | quinn::ConnectionError::TimedOut
            | quinn::ConnectionError::CidsExhausted => {
                self.registrar.refusals().add(Refusal::HandshakeFailed);
            }
            quinn::ConnectionError::LocallyClosed => {}
        }
    }
}

/// 0x100 and a TLS alert from bad_certificate (42) to unknown_ca (48), or decrypt_error (51).
const CERTIFICATE_ALERTS: [u64; 8] = [0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x12f, 0x130, 0x133];
