//! An endpoint's private key and the signing requests for it: the only file that names rcgen.
//!
//! ECDSA on P-256, which every TLS 1.3 stack verifies and whose certificates fit a frame.

use std::fmt;

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use roomtone_protocol::enroll::Der;

/// A private key. It has no way out but its PEM text, which belongs into a file of mode 0600.
pub struct Key {
    pair: KeyPair,
}

/// The system gave no random numbers, or the request could not be signed with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no key can be made on this machine: {reason}")]
pub struct KeyError {
    reason: String,
}

impl Key {
    /// Makes a key.
    ///
    /// # Errors
    /// [`KeyError`] where the system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { pair: KeyPair::generate().map_err(failed)? })
    }

    /// A signing request (PKCS#10) without any name: the collector chooses all of them.
    ///
    /// # Errors
    /// [`KeyError`] where it cannot be signed.
    pub fn request(&self) -> Result<Der, KeyError> {
        let request = CertificateParams::default().serialize_request(&self.pair).map_err(failed)?;
        Der::from_slice(request.der()).map_err(|_| failed("the request is larger than a frame"))
    }

    /// The public half, as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// PKCS#8 in PEM: secret.
    pub(super) fn pem(&self) -> String {
        self.pair.serialize_pem()
    }
}

impl fmt::Debug for Key {
    /// Never the key: what is shown ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn failed(reason: impl fmt::Display) -> KeyError {
    KeyError { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_for_the_key_and_holds_no_private_half() {
        let key = Key::generate().unwrap();
        let request = key.request().unwrap();
        let public = key.public_key();
        assert!(request.windows(public.len()).any(|window| window == public));
        let secret = key.pair.serialized_der();
        // PKCS#8 of P-256: the private half is 32 bytes from byte 36 on (RFC 5915).
        assert!(!request.windows(32).any(|window| window == &secret[36..68]));
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
