//! What an endpoint's certificate says: the only file that reads X.509.
//!
//! The endpoint's id is the subject alternative name `URI:urn:uuid:<id>`. Nothing is verified here: that is TLS's
//! affair, on the other side.

use roomtone_protocol::id::EndpointId;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, Pem, X509Certificate};

/// What a certificate says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// From when on it is good, in microseconds since 1970.
    pub not_before_us: u64,
    /// Until when it is good, in microseconds since 1970.
    pub not_after_us: u64,
    /// Its key, as SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

/// Why a certificate is of no use to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text holds none.
    #[error("it holds no certificate in PEM form")]
    Absent,
    /// It is not X.509 in DER.
    #[error("it is no X.509 certificate")]
    Malformed,
    /// It has no `urn:uuid:` name, or more than one.
    #[error("it does not name exactly one endpoint (urn:uuid:...)")]
    Endpoint,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let names =
            certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
        let mut endpoints =
            names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| {
                let GeneralName::URI(uri) = name else { return None };
                uri.strip_prefix(URN_PREFIX)?.parse().ok()
            });
        let (Some(endpoint), None) = (endpoints.next(), endpoints.next()) else {
            return Err(CertificateError::Endpoint);
        };
        Ok(Self {
            endpoint,
            not_before_us: micros(certificate.validity().not_before),
            not_after_us: micros(certificate.validity().not_after),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Reads the first certificate of a text in PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let mut blocks = Pem::iter_from_buffer(text).map_while(Result::ok);
        let block = blocks.find(|block| block.label == "CERTIFICATE");
        Self::read(&block.ok_or(CertificateError::Absent)?.contents)
    }

    /// From when on any certificate in DER is good, in microseconds since 1970; `None` for what is none.
    #[must_use]
    pub fn begin_us(der: &[u8]) -> Option<u64> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(micros(certificate.validity().not_before))
    }

    /// Where a wall clock stands towards its validity.
    #[must_use]
    pub fn age(&self, wall_us: u64) -> Age {
        if wall_us < self.not_before_us {
            Age::NotYetValid
        } else if wall_us >= self.not_after_us {
            Age::Expired
        } else {
            Age::Valid
        }
    }
}

/// Where a wall clock stands towards a certificate's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Before its beginning: the clock is wrong.
    NotYetValid,
    /// Within it.
    Valid,
    /// Behind its end.
    Expired,
}

fn micros(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000_000)
}

/// The prefix of an endpoint's URI (RFC 9562 section 4).
const URN_PREFIX: &str = "urn:uuid:";

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;
    use crate::identity::key::Key;

    /// A certificate for an endpoint's own key, of an authority that nobody asks for.
    pub(in crate::identity) fn certificate_for(key: &Key) -> Vec<u8> {
        let request = rcgen::CertificateSigningRequestParams::from_der(
            &key.request().unwrap().to_vec().into(),
        );
        let issuer = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(URN.try_into().unwrap())];
        let issuer = rcgen::Issuer::new(CertificateParams::default(), issuer);
        params.signed_by(&request.unwrap().public_key, &issuer).unwrap().der().to_vec()
    }

    fn der(uris: &[&str]) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_before = date_time_ymd(2026, 11, 22);
        params.not_after = date_time_ymd(2026, 12, 22);
        (params.self_signed(&key).unwrap().der().to_vec(), key)
    }

    const URN: &str = "urn:uuid:00112233-4455-6677-8899-aabbccddeeff";

    #[test]
    fn endpoint_validity_and_key_are_read() {
        let (der, key) = der(&["https://rooms.example", URN]);
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.endpoint.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        // 2026-11-22 is day 20,779 since 1970; 30 days are 2,592,000 s.
        assert_eq!(read.not_before_us, 20_779 * 86_400 * 1_000_000);
        assert_eq!(read.not_after_us - read.not_before_us, 2_592_000 * 1_000_000);
        assert_eq!(read.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
    }

    #[test]
    fn no_endpoint_two_endpoints_and_garbage_are_refused() {
        assert_eq!(Certificate::read(&der(&[]).0), Err(CertificateError::Endpoint));
        let two = der(&[URN, "urn:uuid:ffffffff-4455-6677-8899-aabbccddeeff"]).0;
        assert_eq!(Certificate::read(&two), Err(CertificateError::Endpoint));
        let whole = der(&[URN]).0;
        for length in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..length]), Err(CertificateError::Malformed));
        }
    }

    #[test]
    fn validity_begins_with_its_first_moment_and_ends_before_its_last() {
        let read = Certificate::read(&der(&[URN]).0).unwrap();
        let (begin, end) = (read.not_before_us, read.not_after_us);
        assert_eq!(
            [begin - 1, begin, end - 1, end].map(|at| read.age(at)),
            [Age::NotYetValid, Age::Valid, Age::Valid, Age::Expired]
        );
    }
}
