//! The collector's side of mutual TLS: TLS 1.3 only, ring, a client shows a certificate of our authority or none.
//!
//! No tickets and no early data: a resumed session would skip the look at the client's certificate (RFC 8446 section
//! 2.2), and handshakes are rare here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::identity::refusal::{Refusal, Refusals};

/// The ALPN protocol of the frames in this crate's [`roomtone_protocol`].
pub const ALPN: &[u8] = b"roomtone/1";
/// The ALPN protocol of enrolment (`WIRE.md` 7.5).
pub const ENROLL_ALPN: &[u8] = b"roomtone-enroll/1";

/// What a listener is given; its content is this file's and quinn's affair.
pub use rustls::ServerConfig as TlsConfig;

/// Why TLS cannot be set up. Each names the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no such thing. Check its path, its rights and that it is PEM.
    #[error("cannot read {what} from {}: {reason} (see tls.{key} in the config)", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// The config key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The files are readable and do not fit together, as a key of another certificate.
    #[error("the certificates cannot be used: {reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
}

/// The files that TLS is made of, all PEM.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'a> {
    /// The collector's certificate chain, leaf first.
    pub certificate: &'a Path,
    /// Its private key.
    pub key: &'a Path,
    /// The authorities whose client certificates are agents.
    pub client_ca: &'a Path,
}

/// The certificate that is shown to peers; it can be changed while connections go on.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    current: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl ServerCertificate {
    /// Reads chain and key from their files. Where `authority` (DER) is given and the chain lacks it, it is added at
    /// the end, where agents that enrol look for it.
    ///
    /// # Errors
    /// [`TlsError`] naming the file at fault.
    pub fn load(files: TlsFiles<'_>, authority: Option<&[u8]>) -> Result<Self, TlsError> {
        let key = certified(files, authority)?;
        Ok(Self { current: Arc::new(RwLock::new(Arc::new(key))) })
    }

    /// Reads the files again; new connections are shown what they hold.
    ///
    /// # Errors
    /// [`TlsError`]; what was shown before goes on being shown.
    pub fn reload(&self, files: TlsFiles<'_>, authority: Option<&[u8]>) -> Result<(), TlsError> {
        let key = Arc::new(certified(files, authority)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    /// The leaf in DER.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        self.shown().cert.first().map(|it| it.to_vec()).unwrap_or_default()
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}

fn certified(files: TlsFiles<'_>, authority: Option<&[u8]>) -> Result<CertifiedKey, TlsError> {
    let mut chain = certificates(files.certificate, "certificate")?;
    if let Some(authority) = authority
        && !chain.iter().any(|it| it.as_ref() == authority)
    {
        chain.push(CertificateDer::from(authority.to_vec()));
    }
    let key = PrivateKeyDer::from_pem_file(files.key).map_err(|error| TlsError::File {
        what: "a private key",
        key: "key",
        path: files.key.to_owned(),
        reason: describe(&error),
    })?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(unusable)
}

/// Reads the client authorities and builds the configuration around the collector's own certificate.
///
/// A client certificate is asked for and not demanded: enrolment has none, and what the other protocol needs is
/// demanded where the protocol is known. What TLS refuses is counted in `refusals`.
///
/// # Errors
/// [`TlsError`] naming the file at fault.
pub fn server_config(
    files: TlsFiles<'_>,
    shown: ServerCertificate,
    refusals: Arc<Refusals>,
) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(files.client_ca, "client_ca")? {
        roots.add(authority).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(unusable)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(EndpointVerifier { inner, refusals }))
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![ALPN.to_vec(), ENROLL_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Takes certificates of our authorities, also those that have expired: what an expired one is good for is decided by
/// [`standing`](crate::identity::standing), which can tell the agent why, as an alert cannot.
#[derive(Debug)]
struct EndpointVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    refusals: Arc<Refusals>,
}

impl ClientCertVerifier for EndpointVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.inner.verify_client_cert(end_entity, intermediates, at);
        let verified = match verify(now) {
            // At its last moment everything else about it must still be right.
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => verify(not_after),
            other => other,
        };
        verified.inspect_err(|error| self.refusals.add(why(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
            .inspect_err(|_| self.refusals.add(Refusal::CertificateWithoutKey))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Another authority may carry the name of ours; then it is the signature that is wrong.
fn why(error: &Error) -> Refusal {
    let Error::InvalidCertificate(wrong) = error else { return Refusal::BadCertificate };
    if matches!(wrong, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
        Refusal::WrongAuthority
    } else {
        Refusal::BadCertificate
    }
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error =
        |reason| TlsError::File { what: "certificates", key, path: path.to_owned(), reason };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| error(describe(&source)))?;
    if found.is_empty() { Err(error("there is none in it".to_owned())) } else { Ok(found) }
}

/// The library says "I/O error: ..." and shows absence as a debug form; a person needs the plain reason.
fn describe(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    if let Error::Io(error) = error {
        error.to_string()
    } else if matches!(error, Error::NoItemsFound) {
        "there is none in it".to_owned()
    } else {
        error.to_string()
    }
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { reason: error.to_string() }
}
