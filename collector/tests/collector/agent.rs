//! An agent's side of identity: a key of its own, a token or a certificate, and what it trusts.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use roomtone_collector::identity::digest::sha256;
use roomtone_collector::ingest::tls;
use roomtone_protocol::enroll::{AuthorityFingerprint, BootId, Der, EnrollReply, EnrollRequest};
use roomtone_protocol::frame;
use roomtone_protocol::hello::HelloReply;
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::token::Token;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::client::*;

/// By what an agent knows its collector.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// The authority whose certificate, in the collector's chain, has this SHA-256.
    Pinned(AuthorityFingerprint),
    /// The authority's certificate in DER.
    Authority(Vec<u8>),
}

fn verifier(authority: &[u8]) -> Arc<dyn ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

/// Looks for the pinned authority in what the collector shows, and then trusts that alone.
#[derive(Debug)]
struct Pinned(AuthorityFingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|it| sha256(it) == self.0.0)
            .ok_or(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))?;
        verifier(authority).verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS for one protocol, with a certificate or without; key and certificate need not fit together.
pub fn client_config(anchor: &Anchor, badge: Option<&Badge>, alpn: &[u8]) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match anchor {
        Anchor::Pinned(fingerprint) => Arc::new(Pinned(*fingerprint)),
        Anchor::Authority(der) => verifier(der),
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match badge {
        Some(badge) => {
            let key = PrivatePkcs8KeyDer::from(badge.key.serialize_der());
            let key = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(key)).unwrap();
            let chain = vec![CertificateDer::from(badge.certificate.clone())];
            let shown: Arc<dyn ResolvesClientCert> =
                Arc::new(SingleCertAndKey::from(Arc::new(CertifiedKey::new(chain, key))));
            builder.with_client_cert_resolver(shown)
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

/// A signing request for a key.
pub fn csr(key: &rcgen::KeyPair) -> Der {
    let request = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    request.der().iter().copied().collect()
}

/// What the bearer of a token sends.
pub fn request(token: &Token, csr: Der) -> EnrollRequest {
    EnrollRequest {
        token: token.id,
        secret: token.secret,
        authority: token.authority,
        csr,
        host_name: "oslo-4".try_into().unwrap(),
        agent_version: "0.1.0".try_into().unwrap(),
    }
}

/// Asks over the wire to be enrolled.
pub async fn enroll(address: SocketAddr, anchor: &Anchor, request: EnrollRequest) -> EnrollReply {
    let connection = connect(address, client_config(anchor, None, tls::ENROLL_ALPN)).await.unwrap();
    let mut client = Client::over(connection).await.unwrap();
    client.bytes(&link(&Message::EnrollRequest(request))).await;
    match client.next().await {
        Some(Message::EnrollReply(reply)) => reply,
        other => panic!("an answer, found {other:?}"),
    }
}

/// The frame of a message that is no record.
pub fn link(message: &Message) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = frame::encode_link(message, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// A key with the certificate that was issued for it.
pub struct Badge {
    pub endpoint: EndpointId,
    pub key: rcgen::KeyPair,
    pub certificate: Vec<u8>,
    pub anchor: Anchor,
}

impl Badge {
    /// The same endpoint with its next certificate.
    pub fn renewed(&self, key: rcgen::KeyPair, certificate: &[u8]) -> Self {
        let (endpoint, anchor) = (self.endpoint, self.anchor.clone());
        Self { endpoint, key, certificate: certificate.to_vec(), anchor }
    }

    /// TLS with this certificate.
    pub fn config(&self) -> quinn::ClientConfig {
        client_config(&self.anchor, Some(self), tls::ALPN)
    }

    /// Connects and opens the stream.
    pub async fn connect(&self, address: SocketAddr) -> Client {
        Client::over(connect(address, self.config()).await.unwrap()).await.unwrap()
    }

    /// Connects and says Hello; returns the answer.
    pub async fn greet(&self, address: SocketAddr, boot: Option<BootId>) -> (Client, HelloReply) {
        let mut client = self.connect(address).await;
        client.bytes(&hello_of(self.endpoint, boot)).await;
        match client.next().await {
            Some(Message::HelloReply(reply)) => (client, reply),
            other => panic!("an answer to the hello, found {other:?}"),
        }
    }
}
