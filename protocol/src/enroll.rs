//! How an endpoint gets its identity, and keeps it: a token and a signing request for a first certificate, a signing
//! request alone for the next ones.
//!
//! Private keys never travel. What the token's text looks like is [`token`](crate::token)'s affair.

use core::fmt;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::id::EndpointId;
use crate::limits::{DER_BYTES_MAX, HOST_NAME_BYTES_MAX, SERVER_NAME_BYTES_MAX, VERSION_BYTES_MAX};

/// A certificate or a signing request, in DER.
pub type Der = Vec<u8, DER_BYTES_MAX>;

/// Names a token. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 8]);

/// What proves that a token was given to the bearer: 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSecret(pub [u8; 32]);

/// The SHA-256 of an authority's certificate in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuthorityFingerprint(pub [u8; 32]);

/// One life of a machine's kernel (Linux: `/proc/sys/kernel/random/boot_id`). It never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// Asks for an identity; the only frame of an endpoint on an enrolment connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The token.
    pub token: TokenId,
    /// Its secret.
    pub secret: TokenSecret,
    /// The authority that the token speaks of, so that a token of another collector is told as such.
    pub authority: AuthorityFingerprint,
    /// The signing request (PKCS#10) for a key made on the endpoint. Of its content only the key counts.
    pub csr: Der,
    /// What the machine calls itself: the endpoint's first display name, and nothing else.
    pub host_name: String<HOST_NAME_BYTES_MAX>,
    /// The agent's own version.
    pub agent_version: String<VERSION_BYTES_MAX>,
}

/// Answers an [`EnrollRequest`].
// One at a time, on the stack of whoever enrols; boxing would need an allocator.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollReply {
    /// The endpoint has an identity.
    Enrolled {
        /// Its id from now on.
        endpoint: EndpointId,
        /// Its first certificate.
        certificate: Der,
        /// The authority that issued it, and the collector's own certificate.
        authority: Der,
        /// The name that the collector's certificate carries.
        server_name: String<SERVER_NAME_BYTES_MAX>,
    },
    /// Nothing was issued, and the token is as it was.
    Refused(EnrollRefusal),
}

/// Why nobody was enrolled. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EnrollRefusal {
    /// There is no such token, or the secret is not its secret.
    UnknownToken,
    /// Its time is over.
    ExpiredToken,
    /// It has been used as often as it may be.
    UsedToken,
    /// An operator took it back.
    RevokedToken,
    /// The request is not one: a signing request that does not parse or is not signed by its own key.
    BadRequest,
    /// Too many ask at once. Come back after a back-off.
    Busy,
    /// The token speaks of another authority: it was made by another collector.
    OtherCollector,
    /// This collector has no authority of its own and enrols nobody.
    NotEnrolling,
}

/// Asks for the next certificate of the connection's own endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The signing request (PKCS#10), for the same key or a new one. Of its content only the key counts.
    pub csr: Der,
}

/// Answers a [`RenewRequest`].
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewReply {
    /// The next certificate. The one before stays good until it expires.
    Renewed {
        /// The certificate.
        certificate: Der,
    },
    /// Nothing was issued.
    Refused(RenewRefusal),
}

/// Why no certificate was renewed. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RenewRefusal {
    /// The signing request does not parse or is not signed by its own key.
    BadRequest,
    /// This collector did not enrol the endpoint: its certificate comes from elsewhere.
    UnknownEndpoint,
    /// An operator took the identity back.
    Revoked,
    /// Not now. Ask again after a back-off.
    Busy,
    /// This collector has no authority of its own and renews nothing.
    NotEnrolling,
}

impl fmt::Debug for TokenSecret {
    /// Never the secret: what is shown ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

impl fmt::Display for TokenId {
    /// Sixteen lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for AuthorityFingerprint {
    /// Sixty-four lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for BootId {
    /// The 8-4-4-4-12 form, as the kernel shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EndpointId(self.0).fmt(f)
    }
}
