//! Who a client certificate speaks for.
//!
//! The endpoint's id is the subject alternative name `URI:urn:uuid:<id>`, its display name the subject's common name.
//! That the certificate is valid was proven by TLS before; this only reads it.

use std::net::IpAddr;

use roomtone_protocol::id::EndpointId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::identity::digest::sha256;
use crate::identity::standing::{KeyFingerprint, Shown};

/// The longest display name, in characters (RFC 5280 appendix A.1, ub-common-name).
pub const NAME_CHARACTERS_MAX: usize = 64;

/// The prefix of an endpoint's URI (RFC 9562 section 4).
pub const URN_PREFIX: &str = "urn:uuid:";

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its display name, empty where there is none. From outside: escape before printing.
    pub name: String,
    /// Its key and its end.
    pub shown: Shown,
    /// Its serial number, without leading zeros.
    pub serial: Vec<u8>,
}

/// Why a certificate speaks for no endpoint. All of them end the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not X.509 in DER.
    #[error("the client certificate does not parse")]
    Malformed,
    /// It has no `urn:uuid:` name.
    #[error("the client certificate has no subject alternative name urn:uuid:<endpoint id>")]
    NoEndpoint,
    /// It has more than one.
    #[error("the client certificate names more than one endpoint")]
    Ambiguous,
}

/// Reads an end-entity certificate in DER.
///
/// # Errors
/// [`IdentityError`] where it does not name exactly one endpoint.
pub fn identity(der: &[u8]) -> Result<Identity, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let mut endpoints =
        names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            uri.strip_prefix(URN_PREFIX)?.parse().ok()
        });
    let endpoint = endpoints.next().ok_or(IdentityError::NoEndpoint)?;
    if endpoints.next().is_some() {
        return Err(IdentityError::Ambiguous);
    }
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    Ok(Identity {
        endpoint,
        name: name.chars().take(NAME_CHARACTERS_MAX).collect(),
        shown: Shown {
            key: KeyFingerprint(sha256(certificate.public_key().raw)),
            not_after_us: end_us(&certificate),
        },
        serial: certificate.serial.to_bytes_be(),
    })
}

/// A server's certificate, as far as renewing it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    /// The DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// When it ends, in microseconds since 1970.
    pub not_after_us: u64,
    /// Whether its issuer carries the name of the authority that was asked about.
    pub is_of_authority: bool,
}

/// Reads a server's certificate in DER, beside that of an authority.
///
/// # Errors
/// [`IdentityError::Malformed`] where one of them does not parse.
pub fn server_names(der: &[u8], authority: &[u8]) -> Result<ServerNames, IdentityError> {
    let parse = |der| X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed);
    let ((_, certificate), (_, authority)) = (parse(der)?, parse(authority)?);
    let alternative =
        certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let mut names = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.push((*name).to_owned());
        } else if let GeneralName::IPAddress(bytes) = name {
            names.extend(address(bytes).map(|address| address.to_string()));
        }
    }
    Ok(ServerNames {
        names,
        not_after_us: end_us(&certificate),
        is_of_authority: certificate.issuer().as_raw() == authority.subject().as_raw(),
    })
}

/// Whether a certificate in DER is for the key whose SubjectPublicKeyInfo is given.
#[must_use]
pub fn has_key(der: &[u8], key: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, it)| it.public_key().raw == key)
}

fn end_us(certificate: &X509Certificate<'_>) -> u64 {
    let end = certificate.validity().not_after.timestamp();
    u64::try_from(end).unwrap_or(0).saturating_mul(1_000_000)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str], name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names =
            uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    const OSLO: &str = "urn:uuid:00010203-0405-0607-0809-0a0b0c0d0e0f";

    #[test]
    fn endpoint_and_name_are_read() {
        let found = identity(&certificate(&["https://example.test/", OSLO], "Oslo 4")).unwrap();
        let endpoint = EndpointId(std::array::from_fn(|i| i as u8));
        assert_eq!((found.endpoint, found.name.as_str()), (endpoint, "Oslo 4"));
        // rcgen's default end is 4096-01-01, in seconds since 1970: 67,090,377,600.
        assert_eq!(
            found.shown.not_after_us / 1_000_000 / 86_400 / 365,
            67_090_377_600 / 86_400 / 365
        );
    }

    #[test]
    fn certificate_that_names_no_or_two_endpoints_is_refused() {
        let other = "urn:uuid:ffffffff-0405-0607-0809-0a0b0c0d0e0f";
        let read = |uris: &[&str]| identity(&certificate(uris, "x"));
        assert_eq!(read(&[]), Err(IdentityError::NoEndpoint));
        assert_eq!(read(&["urn:uuid:oslo"]), Err(IdentityError::NoEndpoint));
        assert_eq!(read(&[OSLO, other]), Err(IdentityError::Ambiguous));
        assert_eq!(identity(b"\x30\x03nonsense"), Err(IdentityError::Malformed));
    }
}
