//! QUIC as the uplink uses it. Beside it only `enroll/quic.rs` names quinn or rustls.
//!
//! One connection with mutual certificates, TLS 1.3 by ring, ALPN `roomtone/1`, and one bidirectional stream that the
//! agent opens. The collector may open none. No resumption and no 0-RTT: both would let a connection live on a
//! certificate that was not looked at again (RFC 8446 section 2.2), and a handshake an hour costs nothing.
//!
//! Certificate files are read anew for each attempt, so a renewed certificate needs no restart, and an endpoint that
//! was enrolled anew is the new one from its next connection on. The collector's certificate is judged at the times of
//! [`TrustedTime`]. A local socket lives
//! as long as its connection: an agent without a link has no timer and no wake-up here.
//!
//! Bounds: `ADDRESSES_MAX` addresses per attempt, `PEM_BYTES_MAX` per file, 64 KiB of unread bytes from the
//! collector, 1 MiB of unacknowledged bytes to it.

mod line;

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, IdleTimeout, ReadError, TransportConfig, VarInt, WriteError};
use roomtone_protocol::id::EndpointId;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use crate::config::{Collector, Identity};
use crate::identity::certificate::{Certificate, CertificateError as NoEndpoint};
use crate::identity::digest::sha256;
use crate::identity::trusted_time::TrustedTime;

pub use self::line::Line;

/// What the link is called in logs and in the link's status.
pub const TRANSPORT: &str = "quic";

/// Why there is no link, each variant with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of the identity cannot be read. Correct the path or its permissions.
    #[error("{what} {path:?} cannot be read: {source}; enrol this endpoint, or check identity.{key} in the config", path = path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The config key that names it.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of the identity is not what it should be. Replace it.
    #[error("{what} {path:?} {problem}; check identity.{key} in the config", path = path.display())]
    Unusable {
        /// What the file is for.
        what: &'static str,
        /// The config key that names it.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The collector's name is none that a certificate can carry. Correct the config.
    #[error("collector.server_name {name:?} is neither a host name nor an address")]
    ServerName {
        /// The name.
        name: String,
    },
    /// The name server knows no such host, or cannot be asked. Try again later.
    #[error("{host:?} cannot be resolved: {source}; check collector.address and the name servers")]
    Resolve {
        /// The host.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// This machine gives no socket, or has no route. Try again later.
    #[error("no UDP socket towards {target}: {source}")]
    Socket {
        /// `HOST:PORT`.
        target: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Nothing came back. Try again later.
    #[error(
        "no answer from {target} over UDP; is the collector running there, and does a firewall block UDP?"
    )]
    NoAnswer {
        /// `HOST:PORT`.
        target: String,
    },
    /// The collector's certificate comes from another authority.
    #[error(
        "the certificate of {target} is not issued by the authority in identity.ca ({detail}); \
         is it the right collector?"
    )]
    UntrustedCollector {
        /// `HOST:PORT`.
        target: String,
        /// The TLS library's words.
        detail: String,
    },
    /// The collector's certificate is out of its time.
    #[error(
        "the certificate of {target} is expired or not yet valid ({detail}); renew it, or set this clock"
    )]
    ExpiredCollector {
        /// `HOST:PORT`.
        target: String,
        /// The TLS library's words.
        detail: String,
    },
    /// The collector's certificate carries other names.
    #[error(
        "the certificate of {target} does not fit the name {name:?} ({detail}); set collector.server_name"
    )]
    WrongName {
        /// `HOST:PORT`.
        target: String,
        /// The name expected.
        name: String,
        /// The TLS library's words.
        detail: String,
    },
    /// A QUIC server of another kind.
    #[error("{target} does not speak roomtone/1; is another service listening there?")]
    WrongProtocol {
        /// `HOST:PORT`.
        target: String,
    },
    /// The collector does not accept this agent's certificate. Trying soon does not help.
    #[error("the collector refused this agent's certificate: {why}; enrol this endpoint anew")]
    CertificateRefused {
        /// What the TLS alert says.
        why: &'static str,
    },
    /// The collector closed the connection on purpose.
    #[error("the collector closed the connection (code {code}, {reason:?})")]
    Closed {
        /// The application's code.
        code: u64,
        /// The collector's words.
        reason: String,
    },
    /// The collector ended its half of the stream.
    #[error("the collector ended the stream")]
    Ended,
    /// The connection broke.
    #[error("the connection to {target} broke: {detail}")]
    Lost {
        /// `HOST:PORT`.
        target: String,
        /// The transport's words.
        detail: String,
    },
}

impl LinkError {
    /// The same in words that hold no name and no address, for a log that is read by others than the operator.
    #[must_use]
    pub fn without_names(&self) -> String {
        const THERE: &str = "the collector";
        match self {
            Self::Unreadable { .. }
            | Self::Unusable { .. }
            | Self::CertificateRefused { .. }
            | Self::Ended => self.to_string(),
            Self::ServerName { .. } => {
                "collector.server_name is neither a host name nor an address".to_owned()
            }
            Self::Resolve { source, .. } => format!(
                "collector.address cannot be resolved: {source}; check it and the name servers"
            ),
            Self::Socket { source, .. } => format!("no UDP socket towards {THERE}: {source}"),
            Self::NoAnswer { .. } => Self::NoAnswer { target: THERE.to_owned() }.to_string(),
            Self::UntrustedCollector { .. } => format!(
                "the certificate of {THERE} is not issued by the authority in identity.ca; is it the right collector?"
            ),
            Self::ExpiredCollector { .. } => format!(
                "the certificate of {THERE} is expired or not yet valid; renew it, or set this clock"
            ),
            Self::WrongName { .. } => format!(
                "the certificate of {THERE} does not fit collector.server_name; correct one of them"
            ),
            Self::WrongProtocol { .. } => {
                Self::WrongProtocol { target: "what answers at collector.address".to_owned() }
                    .to_string()
            }
            Self::Closed { code, .. } => format!("{THERE} closed the connection (code {code})"),
            Self::Lost { .. } => format!("the connection to {THERE} broke"),
        }
    }
}

/// Makes connections to one collector.
#[derive(Debug)]
pub struct Connector {
    collector: Collector,
    identity: Identity,
    attempt_timeout: Duration,
}

/// One connection with its stream.
#[derive(Debug)]
pub struct Link {
    /// The way up.
    pub sender: Sender,
    /// The way down.
    pub receiver: Receiver,
    /// As whom it was made.
    pub bearer: Box<Bearer>,
    connection: quinn::Connection,
    endpoint: quinn::Endpoint,
}

/// Who a set of identity files makes this endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The endpoint: as configured, else as the certificate says.
    pub endpoint: EndpointId,
    /// Its certificate; `None` where it names no endpoint, as one that is configured need not.
    pub certificate: Option<Certificate>,
    /// The SHA-256 of that certificate.
    pub fingerprint: [u8; 32],
}

/// A set of identity files, read and found to fit together.
struct Loaded {
    bearer: Bearer,
    client: quinn::ClientConfig,
}

/// The way up of a [`Link`].
#[derive(Debug)]
pub struct Sender {
    stream: quinn::SendStream,
    target: String,
}

/// The way down of a [`Link`].
#[derive(Debug)]
pub struct Receiver {
    stream: quinn::RecvStream,
    target: String,
}

impl Connector {
    /// Checks the identity's files once, so that a wrong path is told at the start.
    ///
    /// # Errors
    /// [`LinkError::Unreadable`], [`LinkError::Unusable`] or [`LinkError::ServerName`].
    pub fn new(
        collector: Collector,
        identity: Identity,
        attempt_timeout: Duration,
    ) -> Result<Self, LinkError> {
        let connector = Self { collector, identity, attempt_timeout };
        connector.bearer()?;
        Ok(connector)
    }

    /// Who the files make this endpoint now.
    ///
    /// # Errors
    /// As [`new`](Self::new): where they are unusable, or do not fit together, as while they are being replaced.
    pub fn bearer(&self) -> Result<Bearer, LinkError> {
        // Nobody is met, so any time will do.
        Ok(self.load(TrustedTime::own(0))?.bearer)
    }

    /// The files of the identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Connects to the first of the collector's addresses that answers, and opens the stream.
    ///
    /// A handshake that succeeds proves the collector to the agent, not the agent to the collector: a refused client
    /// certificate shows at the first [`Receiver::receive`].
    ///
    /// # Errors
    /// See [`LinkError`]; of several addresses, the first answer that says more than silence.
    pub async fn connect(&self, time: TrustedTime) -> Result<Link, LinkError> {
        let loaded = self.load(time)?;
        let mut telling = None;
        for address in self.resolve().await? {
            match self.attempt(address, &loaded).await {
                Ok(link) => return Ok(link),
                Err(LinkError::NoAnswer { .. }) => {}
                Err(error) => telling = telling.or(Some(error)),
            }
        }
        Err(telling.unwrap_or_else(|| LinkError::NoAnswer { target: self.target() }))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, LinkError> {
        let Collector { host, port, .. } = &self.collector;
        let failed = |source| LinkError::Resolve { host: host.clone(), source };
        let lookup = tokio::net::lookup_host((host.as_str(), *port));
        let found = tokio::time::timeout(self.attempt_timeout, lookup)
            .await
            .map_err(|_| {
                failed(io::Error::new(io::ErrorKind::TimedOut, "no name server answered"))
            })?
            .map_err(failed)?;
        Ok(found.take(ADDRESSES_MAX).collect())
    }

    async fn attempt(&self, address: SocketAddr, loaded: &Loaded) -> Result<Link, LinkError> {
        let target = self.target();
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket_error = |source| LinkError::Socket { target: target.clone(), source };
        let endpoint = quinn::Endpoint::client(local).map_err(socket_error)?;
        let connecting = endpoint
            .connect_with(loaded.client.clone(), address, &self.collector.server_name)
            .map_err(|error| socket_error(io::Error::other(error)))?;
        let connection = tokio::time::timeout(self.attempt_timeout, connecting)
            .await
            .map_err(|_| LinkError::NoAnswer { target: target.clone() })?
            .map_err(|error| self.handshake_error(error))?;
        let (send, recv) = connection.open_bi().await.map_err(|e| link_error(&target, e))?;
        Ok(Link {
            sender: Sender { stream: send, target: target.clone() },
            receiver: Receiver { stream: recv, target },
            bearer: Box::new(loaded.bearer.clone()),
            connection,
            endpoint,
        })
    }

    /// Tells what was wrong with the collector's certificate by the alert that this side sent: rustls derives it from
    /// the verdict, and quinn hands on nothing else that is not text.
    fn handshake_error(&self, error: ConnectionError) -> LinkError {
        let target = self.target();
        let ConnectionError::TransportError(transport) = error else {
            return link_error(&target, error);
        };
        let detail = transport.reason.clone();
        match tls_alert(transport.code) {
            Some(alert::UNKNOWN_CA | alert::DECRYPT_ERROR) => {
                LinkError::UntrustedCollector { target, detail }
            }
            Some(alert::CERTIFICATE_EXPIRED) => LinkError::ExpiredCollector { target, detail },
            Some(alert::BAD_CERTIFICATE) => {
                LinkError::WrongName { target, name: self.collector.server_name.clone(), detail }
            }
            Some(alert::NO_APPLICATION_PROTOCOL) => LinkError::WrongProtocol { target },
            Some(_) | None => link_error(&target, ConnectionError::TransportError(transport)),
        }
    }

    fn target(&self) -> String {
        self.collector.target()
    }

    fn load(&self, time: TrustedTime) -> Result<Loaded, LinkError> {
        let Identity { endpoint: configured, certificate, key, ca } = &self.identity;
        let name = &self.collector.server_name;
        if ServerName::try_from(name.as_str()).is_err() {
            return Err(LinkError::ServerName { name: name.clone() });
        }
        let authority = PemFile { what: "certificate authority", key: "ca", path: ca };
        let own = PemFile { what: "certificate", key: "certificate", path: certificate };
        let secret = PemFile { what: "private key", key: "key", path: key };

        let chain = own.certificates()?;
        let leaf = chain.first().expect("certificates() refuses an empty chain");
        let fingerprint = sha256(leaf);
        let read = Certificate::read(leaf);
        let named = read.as_ref().map(|certificate| certificate.endpoint);
        let endpoint =
            configured.map_or(named, Ok).map_err(|error: &NoEndpoint| own.unusable(error))?;
        let bearer = Bearer { endpoint, certificate: read.ok(), fingerprint };

        let mut roots = rustls::RootCertStore::empty();
        for root in authority.certificates()? {
            roots.add(root).map_err(|error| authority.unusable(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| authority.unusable(&error))?;
        let time = time.beside(bearer.certificate.as_ref());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TimedVerifier { verifier, time }))
            .with_client_auth_cert(chain, secret.private_key()?)
            .map_err(|error| secret.unusable(&error))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        tls.enable_early_data = false;
        let crypto =
            QuicClientConfig::try_from(tls).expect("ring has AES-128-GCM for the Initial keys");
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport_config()));
        Ok(Loaded { bearer, client: config })
    }
}

/// The library's own verifier, at times of ours.
#[derive(Debug)]
struct TimedVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    time: TrustedTime,
}

impl ServerCertVerifier for TimedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let at = |us| {
            let time = UnixTime::since_unix_epoch(Duration::from_micros(us));
            let chain = (end_entity, intermediates);
            self.verifier.verify_server_cert(chain.0, chain.1, server_name, ocsp_response, time)
        };
        // What is no certificate the library refuses by itself.
        let [first, second] =
            self.time.candidates(Certificate::begin_us(end_entity).unwrap_or_default());
        let judged = at(first);
        if judged.as_ref().is_err_and(is_of_time) { at(second) } else { judged }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl Link {
    /// The connection's datagrams.
    #[must_use]
    pub fn line(&self) -> Line {
        Line { connection: self.connection.clone() }
    }

    /// Tells the collector that the connection ends and gives the message a moment to leave.
    pub async fn close(self, code: u32, reason: &str) {
        self.connection.close(VarInt::from_u32(code), reason.as_bytes());
        // Best effort: the collector's idle time-out covers a message that is lost.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Sender {
    /// Takes bytes as far as the window allows and returns how many; cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] where the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<usize, LinkError> {
        self.stream.write(bytes).await.map_err(|error| match error {
            WriteError::ConnectionLost(error) => link_error(&self.target, error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                LinkError::Ended
            }
        })
    }
}

impl Receiver {
    /// Waits for bytes and returns how many came; never 0 for a buffer that is not empty; cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] where the connection or the stream is gone.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, LinkError> {
        match self.stream.read(buffer).await {
            Ok(Some(length)) => Ok(length),
            Ok(None) => Err(LinkError::Ended),
            Err(ReadError::ConnectionLost(error)) => Err(link_error(&self.target, error)),
            Err(
                ReadError::Reset(_)
                | ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => Err(LinkError::Ended),
        }
    }
}

/// What ended a connection, where the peer or the path did.
fn link_error(target: &str, error: ConnectionError) -> LinkError {
    let lost = |detail: String| LinkError::Lost { target: target.to_owned(), detail };
    match error {
        ConnectionError::ConnectionClosed(close) => match tls_alert(close.error_code) {
            Some(alert::NO_APPLICATION_PROTOCOL) => {
                LinkError::WrongProtocol { target: target.to_owned() }
            }
            Some(code) => match alert::certificate_refusal(code) {
                Some(why) => LinkError::CertificateRefused { why },
                None => lost(format!("the collector ended the handshake with TLS alert {code}")),
            },
            None => lost(format!("{} ({:?})", close.error_code, words(&close.reason))),
        },
        ConnectionError::ApplicationClosed(close) => {
            LinkError::Closed { code: close.error_code.into_inner(), reason: words(&close.reason) }
        }
        ConnectionError::TimedOut => lost("nothing heard within the idle time-out".to_owned()),
        ConnectionError::Reset => lost("the collector restarted".to_owned()),
        ConnectionError::VersionMismatch => LinkError::WrongProtocol { target: target.to_owned() },
        ConnectionError::TransportError(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => lost(error.to_string()),
    }
}

/// What a peer gives as its reason, cut to a length that fits a line. From outside: escape before printing.
fn words(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).chars().take(REASON_CHARS_MAX).collect()
}

/// The TLS alert in a QUIC error code, RFC 9001 section 4.8.
fn tls_alert(code: quinn::TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

/// TLS alerts, RFC 8446 section 6.2.
mod alert {
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;

    /// What an alert of the collector says about this agent's certificate, if it speaks of that.
    pub(super) fn certificate_refusal(alert: u8) -> Option<&'static str> {
        match alert {
            BAD_CERTIFICATE => Some("it is malformed"),
            43 => Some("it is of an unsupported kind"),
            44 => Some("it was revoked"),
            CERTIFICATE_EXPIRED => Some("it is expired or not yet valid"),
            46 => Some("it is not acceptable"),
            UNKNOWN_CA => Some("it comes from an authority that the collector does not know"),
            49 => Some("access denied"),
            DECRYPT_ERROR => {
                Some("its signature does not verify, it may come from another authority")
            }
            116 => Some("none was sent"),
            _ => None,
        }
    }
}

/// Whether a certificate is refused for the time and nothing else.
fn is_of_time(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(64 * 1024))
        .receive_window(VarInt::from_u32(64 * 1024))
        .send_window(1024 * 1024)
        .datagram_receive_buffer_size(Some(line::BUFFER_BYTES))
        .datagram_send_buffer_size(line::BUFFER_BYTES)
        // NATs forget an idle UDP flow after 30 s.
        .keep_alive_interval(Some(Duration::from_secs(15)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(60_000))));
    transport
}

/// A file of the identity, and what the config calls it.
struct PemFile<'a> {
    what: &'static str,
    key: &'static str,
    path: &'a Path,
}

impl PemFile<'_> {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, LinkError> {
        let pem = self.read()?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| self.unusable(&error))?;
        if certificates.is_empty() {
            return Err(self.unusable(&"holds no certificate in PEM form"));
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, LinkError> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| self.unusable(&"holds no private key in PEM form"))
    }

    fn read(&self) -> Result<Vec<u8>, LinkError> {
        let mut bytes = Vec::new();
        File::open(self.path)
            .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| LinkError::Unreadable {
                what: self.what,
                key: self.key,
                path: self.path.to_owned(),
                source,
            })?;
        if bytes.len() as u64 > PEM_BYTES_MAX {
            return Err(self.unusable(&"is larger than 64 KiB"));
        }
        Ok(bytes)
    }

    fn unusable(&self, problem: &dyn std::fmt::Display) -> LinkError {
        LinkError::Unusable {
            what: self.what,
            key: self.key,
            path: self.path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// The application protocol of version 1 of the wire.
const ALPN: &[u8] = b"roomtone/1";
/// A host has an address or two per family; a name server must not keep an attempt busy for minutes.
const ADDRESSES_MAX: usize = 8;
/// A chain of four certificates is 6 KiB.
const PEM_BYTES_MAX: u64 = 64 * 1024;
/// One flight of the closing message on any path; beyond that nobody is there to hear it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest closing reason that is kept.
const REASON_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_of_a_stranger_stays_one_short_line() {
        // Whoever answers on the collector's port may say this, before any certificate was seen.
        let reason = format!("\n INFO forged \u{1b}[2J{}", "x".repeat(5_000));
        let error = link_error(
            "collector:4433",
            ConnectionError::ConnectionClosed(quinn::ConnectionClose {
                error_code: quinn::TransportErrorCode::INTERNAL_ERROR,
                frame_type: None,
                reason: reason.into_bytes().into(),
            }),
        );
        let line = error.to_string();
        assert!(!line.chars().any(char::is_control) && line.len() < 400, "{line}");
        assert!(line.contains("forged"), "{line}");
    }
}
