//! The collector's own authority: a P-256 key that signs its server's certificate and those of its endpoints.
//!
//! What a signing request asks for is not read, only its key: the endpoint's id, name, purpose and times are ours. A
//! certificate for an endpoint is good for TLS clients alone, so that no endpoint can pose as the collector.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use roomtone_protocol::enroll::{AuthorityFingerprint, Der};
use roomtone_protocol::id::EndpointId;

use super::digest::sha256;
use super::standing::CERTIFICATE_LIFE_US;
use crate::ingest::certificate::{self, NAME_CHARACTERS_MAX, URN_PREFIX};

/// How long the authority lives: 20 years, longer than any room's equipment.
const AUTHORITY_LIFE_US: u64 = 20 * 365 * DAY_US;
/// How long the server's certificate lives: 90 days; `serve` renews it.
const SERVER_LIFE_US: u64 = 90 * DAY_US;
/// From when on `serve` renews it: 30 days before its end.
pub const SERVER_RENEW_US: u64 = 30 * DAY_US;
/// Certificates begin this much earlier, so that a clock that is behind takes them: one day.
const CLOCK_SLACK_US: u64 = DAY_US;

const DAY_US: u64 = 86_400_000_000;

/// Why the authority cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read, or is no such thing.
    #[error("cannot use the authority's {what} {}: {reason} (see identity.authority_key and tls.client_ca in the config)", path.display())]
    File {
        /// Which of the two.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {reason}")]
    Make {
        /// Why.
        reason: String,
    },
}

/// The signing request is not one, or its key is of a kind that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCsr;

/// A key and its certificate, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key. Write it where nobody else reads.
    pub key: String,
}

/// A certificate that was issued to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// In DER.
    pub der: Der,
    /// What the registry keeps of it.
    pub identity: certificate::Identity,
}

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Der,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads an authority's certificate and key (PEM).
    ///
    /// # Errors
    /// [`AuthorityError::File`] naming the file at fault.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let file = |what, path: &Path, reason: String| AuthorityError::File {
            what,
            path: path.to_owned(),
            reason,
        };
        let read = |what, path| {
            std::fs::read_to_string(path).map_err(|error| file(what, path, error.to_string()))
        };
        let (pem, key_pem) = (read("certificate", certificate)?, read("key", key)?);
        let pair = KeyPair::from_pem(&key_pem)
            .map_err(|_| file("key", key, "it is no private key in PEM".to_owned()))?;
        Self::new(pem, pair).map_err(|reason| file("certificate", certificate, reason))
    }

    fn new(pem: String, key: KeyPair) -> Result<Self, String> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "it is no certificate in PEM".to_owned())?;
        if !certificate::has_key(&certificate, &key.subject_public_key_info()) {
            return Err("the key is another certificate's".to_owned());
        }
        let der = Der::from_slice(&certificate)
            .map_err(|_| "it is larger than the protocol carries".to_owned())?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, der, pem })
    }

    /// Makes an authority.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] where the system gives no random numbers.
    pub fn generate(name: &str, now_us: u64) -> Result<(Self, Pair), AuthorityError> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = params(name, now_us, AUTHORITY_LIFE_US)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(make)?.pem();
        let pair = Pair { certificate: pem.clone(), key: key.serialize_pem() };
        let authority = Self::new(pem, key).map_err(make)?;
        Ok((authority, pair))
    }

    /// Its certificate in DER.
    #[must_use]
    pub fn der(&self) -> &Der {
        &self.der
    }

    /// The SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> AuthorityFingerprint {
        AuthorityFingerprint(sha256(&self.der))
    }

    /// Signs a certificate of 30 days for `endpoint`, with the key of a signing request.
    ///
    /// # Errors
    /// [`BadCsr`] where the request does not parse, or is not signed by its own key.
    pub fn issue_endpoint(
        &self,
        csr: &[u8],
        endpoint: EndpointId,
        name: &str,
        now_us: u64,
    ) -> Result<Issued, BadCsr> {
        let request = CertificateSigningRequestParams::from_der(&csr.into()).map_err(|_| BadCsr)?;
        let mut params = params(name, now_us, CERTIFICATE_LIFE_US).map_err(|_| BadCsr)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let urn = Ia5String::try_from(format!("{URN_PREFIX}{endpoint}")).map_err(|_| BadCsr)?;
        params.subject_alt_names = vec![SanType::URI(urn)];
        let certificate =
            params.signed_by(&request.public_key, &self.issuer).map_err(|_| BadCsr)?;
        let der = Der::from_slice(certificate.der()).map_err(|_| BadCsr)?;
        let identity = certificate::identity(&der).map_err(|_| BadCsr)?;
        Ok(Issued { der, identity })
    }

    /// Signs a certificate of 90 days for a server with these names; returns its chain with the authority at its end,
    /// where agents that enrol look for it. `key` is the server's own in PEM, or `None` to make one.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] where a name or the key is unusable.
    pub fn issue_server(
        &self,
        key: Option<&str>,
        names: &[String],
        now_us: u64,
    ) -> Result<Pair, AuthorityError> {
        let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem).map_err(make)?;
        let mut params = params("roomtone collector", now_us, SERVER_LIFE_US)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(name.as_str()).map_err(make)?),
            });
        }
        let leaf = params.signed_by(&key, &self.issuer).map_err(make)?.pem();
        Ok(Pair { certificate: leaf + &self.pem, key: key.serialize_pem() })
    }
}

fn params(name: &str, now_us: u64, life_us: u64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let at = |us: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(us / 1_000_000);
    params.not_before = at(now_us.saturating_sub(CLOCK_SLACK_US));
    params.not_after = at(now_us.saturating_add(life_us));
    let name: String = name.chars().take(NAME_CHARACTERS_MAX).collect();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(make)?;
    // Positive and of full length (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn make(reason: impl std::fmt::Display) -> AuthorityError {
    AuthorityError::Make { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T15:00:00Z.
    const NOW_US: u64 = 1_795_359_600_000_000;

    fn csr() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "somebody else");
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn endpoint_gets_what_we_say_and_not_what_it_asks_for() {
        let (authority, _) = Authority::generate("test", NOW_US).unwrap();
        let endpoint = EndpointId([7; 16]);
        let issued = authority.issue_endpoint(&csr(), endpoint, "Oslo 4", NOW_US).unwrap();
        assert_eq!((issued.identity.endpoint, &*issued.identity.name), (endpoint, "Oslo 4"));
        assert_eq!(issued.identity.shown.not_after_us, NOW_US + 30 * DAY_US);
        assert_eq!(issued.identity.serial.len(), 16);
        assert!(!issued.der.windows(13).any(|window| window == b"somebody else"));
    }

    #[test]
    fn longest_name_fits_the_wire() {
        let (authority, _) = Authority::generate("test", NOW_US).unwrap();
        let name = "\u{1f3e2}".repeat(NAME_CHARACTERS_MAX + 9);
        let issued = authority.issue_endpoint(&csr(), EndpointId([7; 16]), &name, NOW_US).unwrap();
        assert_eq!(issued.identity.name.chars().count(), NAME_CHARACTERS_MAX);
    }

    #[test]
    fn request_that_its_key_did_not_sign_is_refused() {
        let (authority, _) = Authority::generate("test", NOW_US).unwrap();
        let mut forged = csr();
        *forged.last_mut().unwrap() ^= 1;
        for bytes in [&forged[..], b"", b"\x30\x03nonsense"] {
            let refused = authority.issue_endpoint(bytes, EndpointId([7; 16]), "x", NOW_US);
            assert_eq!(refused, Err(BadCsr));
        }
    }

    #[test]
    fn server_certificate_carries_its_names_and_ends_with_the_authority() {
        let (authority, _) = Authority::generate("test", NOW_US).unwrap();
        let names = ["rooms.example.test".to_owned(), "2001:db8::7".to_owned()];
        let first = authority.issue_server(None, &names, NOW_US).unwrap();
        let again = authority.issue_server(Some(&first.key), &names, NOW_US).unwrap();
        assert_eq!(first.key, again.key);
        assert!(first.certificate.ends_with(&authority.pem));
    }
}
