//! Who this endpoint is: the certificate and its key, and where they lie.
//!
//! The private key is made here and never leaves. What lies on disk is one file with both, so that one rename puts
//! both in force and no moment has a certificate with another's key.

pub mod certificate;
pub mod digest;
pub mod folder;
pub mod issuer;
pub mod key;
pub mod renewal;
pub mod seen;
pub mod trusted_time;

mod pem;
