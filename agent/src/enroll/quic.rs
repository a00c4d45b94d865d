//! The connection of an enrolment: ALPN `roomtone-enroll/1`, no client certificate, one frame each way.
//!
//! All that is known of the collector is its address and the SHA-256 of its authority, both from the token. The
//! collector is who the token means if its chain holds that authority, its certificate leads to it, is in its time and
//! carries the name that was dialled. Nothing is sent to anybody else.
//!
//! Bounds: `ADDRESSES_MAX` addresses, one frame from the collector.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use roomtone_protocol::enroll::{AuthorityFingerprint, EnrollReply, EnrollRequest};
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{decode, encode_link};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::token::Token;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::identity::digest::sha256;
use crate::show::rfc3339;

/// Why nobody answered, or who answered instead; each message with what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The name server knows no such host, or cannot be asked.
    #[error(
        "{host:?} cannot be resolved: {source}; check this machine's name servers, or make a token with an address"
    )]
    Resolve {
        /// The host of the token.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// No way leads there.
    #[error("no route to {target}: {source}; check this machine's network")]
    Route {
        /// `HOST:PORT`.
        target: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Nothing came back.
    #[error(
        "no answer from {target} over UDP; is the collector running there, and does a firewall block UDP?"
    )]
    NoAnswer {
        /// `HOST:PORT`.
        target: String,
    },
    /// The machine is there and says that nobody listens.
    #[error(
        "nothing listens on UDP port of {target}; start the collector there, or make a token with the right port"
    )]
    NobodyListens {
        /// `HOST:PORT`.
        target: String,
    },
    /// The server that answered does not have the token's authority.
    #[error(
        "{target} is not the collector that made this token: its authority is another one; \
         it may be another collector, or somebody in between. The token was not sent"
    )]
    OtherAuthority {
        /// `HOST:PORT`.
        target: String,
    },
    /// The collector's certificate is out of its time, by this machine's clock.
    #[error(
        "the certificate of {target} is good {side} {limit}, and this machine's clock says {clock}; \
         set the clock, or renew the collector's certificate",
        limit = rfc3339(*limit_us), clock = rfc3339(*clock_us)
    )]
    Clock {
        /// `HOST:PORT`.
        target: String,
        /// `from` or `until`.
        side: &'static str,
        /// The end of the validity that was passed, in microseconds since 1970.
        limit_us: u64,
        /// This machine's clock, in microseconds since 1970.
        clock_us: u64,
    },
    /// The collector's certificate carries other names than the token's host.
    #[error(
        "the certificate of {target} is for other names than {host:?}; \
         make a token with one of its names, or a certificate with this one"
    )]
    WrongName {
        /// `HOST:PORT`.
        target: String,
        /// The host of the token.
        host: String,
    },
    /// The certificate does not lead to the authority, or is otherwise none.
    #[error("the certificate of {target} is not acceptable: {detail}; the token was not sent")]
    Certificate {
        /// `HOST:PORT`.
        target: String,
        /// The TLS library's words.
        detail: String,
    },
    /// Another service, or a collector that is older than enrolment.
    #[error(
        "{target} does not speak roomtone-enroll/1; is another service listening there, or an older collector?"
    )]
    WrongProtocol {
        /// `HOST:PORT`.
        target: String,
    },
    /// The connection ended without an answer.
    #[error(
        "{target} ended the connection without an answer ({detail}); try again, and look into the collector's log"
    )]
    Lost {
        /// `HOST:PORT`.
        target: String,
        /// The transport's words.
        detail: String,
    },
    /// What came back is no answer to an enrolment.
    #[error(
        "{target} answered with something else ({detail}); is it of a later version than this agent?"
    )]
    Garbage {
        /// `HOST:PORT`.
        target: String,
        /// What it was.
        detail: String,
    },
    /// The process gets no socket or no runtime.
    #[error("this machine gives no UDP socket: {0}")]
    System(io::Error),
}

/// Asks the token's collector, and blocks until it has answered; `timeout` is for each address and each step.
///
/// # Errors
/// [`ReachError`]; of several addresses the first answer that says more than silence.
pub fn ask(
    token: &Token,
    request: EnrollRequest,
    timeout: Duration,
) -> Result<EnrollReply, ReachError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ReachError::System)?;
    let asking = Asking { token, target: target(token), timeout };
    runtime.block_on(asking.ask(request))
}

struct Asking<'a> {
    token: &'a Token,
    target: String,
    timeout: Duration,
}

impl Asking<'_> {
    async fn ask(&self, request: EnrollRequest) -> Result<EnrollReply, ReachError> {
        let message = Message::EnrollRequest(request);
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let length =
            encode_link(&message, &mut frame).expect("FRAME_BYTES_MAX takes every message");
        frame.truncate(length);
        let mut telling = None;
        for address in self.resolve().await? {
            match self.connect(address).await {
                Ok((connection, endpoint)) => {
                    let reply = self.converse(&connection, &frame).await;
                    connection.close(VarInt::from_u32(0), b"done");
                    // Best effort: the collector's idle time-out covers a message that is lost.
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
                    return reply;
                }
                Err(ReachError::NoAnswer { .. }) => {}
                Err(error) => telling = telling.or(Some(error)),
            }
        }
        Err(telling.unwrap_or_else(|| ReachError::NoAnswer { target: self.target.clone() }))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ReachError> {
        let host = self.token.host();
        let failed = |source| ReachError::Resolve { host: host.to_owned(), source };
        let lookup = tokio::net::lookup_host((host, self.token.port()));
        let silent = || failed(io::Error::new(io::ErrorKind::TimedOut, "no name server answered"));
        let found = tokio::time::timeout(self.timeout, lookup).await.map_err(|_| silent())?;
        Ok(found.map_err(failed)?.take(ADDRESSES_MAX).collect())
    }

    async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<(quinn::Connection, quinn::Endpoint), ReachError> {
        let target = self.target.clone();
        let probe = route(address)
            .map_err(|source| ReachError::Route { target: target.clone(), source })?;
        let endpoint = quinn::Endpoint::client(any(address)).map_err(ReachError::System)?;
        let (config, verdict) = client_config(self.token.authority);
        let connecting = endpoint
            .connect_with(config, address, self.token.host())
            .map_err(|error| ReachError::System(io::Error::other(error)))?;
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(connection)) => Ok((connection, endpoint)),
            Ok(Err(error)) => Err(verdict
                .take()
                .map_or_else(|| self.lost(error), |refused| self.refused(refused))),
            Err(_) if is_refused(probe).await => Err(ReachError::NobodyListens { target }),
            Err(_) => Err(ReachError::NoAnswer { target }),
        }
    }

    async fn converse(
        &self,
        connection: &quinn::Connection,
        frame: &[u8],
    ) -> Result<EnrollReply, ReachError> {
        let ended = |detail: String| ReachError::Lost { target: self.target.clone(), detail };
        let (mut sender, mut receiver) =
            connection.open_bi().await.map_err(|error| self.lost(error))?;
        let dialogue = async {
            let sent = sender.write_all(frame).await;
            sent.map_err(|error| ended(error.to_string()))?;
            let _ = sender.finish();
            let mut bytes = Vec::new();
            loop {
                match decode(&bytes) {
                    Ok((whole, _)) => return self.reply(whole.message),
                    Err(DecodeError::Incomplete { .. }) => {}
                    Err(error) => return Err(self.garbage(error.to_string())),
                }
                let chunk = receiver.read_chunk(FRAME_BYTES_MAX - bytes.len(), true).await;
                match chunk {
                    Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
                    Ok(None) => return Err(ended("it ended the stream".to_owned())),
                    Err(quinn::ReadError::ConnectionLost(error)) => return Err(self.lost(error)),
                    Err(error) => return Err(ended(error.to_string())),
                }
            }
        };
        let silent = ended("nothing came in time".to_owned());
        tokio::time::timeout(self.timeout, dialogue).await.unwrap_or(Err(silent))
    }

    fn reply(&self, message: Option<Message>) -> Result<EnrollReply, ReachError> {
        match message {
            Some(Message::EnrollReply(reply)) => Ok(reply),
            Some(other) => Err(self.garbage(format!("a frame of kind {:#04x}", other.kind()))),
            None => Err(self.garbage("a frame of an unknown kind".to_owned())),
        }
    }

    fn garbage(&self, detail: String) -> ReachError {
        ReachError::Garbage { target: self.target.clone(), detail }
    }

    /// What the verifier had against the server.
    fn refused(&self, refused: Refused) -> ReachError {
        let target = self.target.clone();
        match refused {
            Refused::OtherAuthority => ReachError::OtherAuthority { target },
            Refused::Time { side, limit, clock } => ReachError::Clock {
                target,
                side,
                limit_us: limit.as_secs().saturating_mul(1_000_000),
                clock_us: clock.as_secs().saturating_mul(1_000_000),
            },
            Refused::Name => ReachError::WrongName { target, host: self.token.host().to_owned() },
            Refused::Other(detail) => ReachError::Certificate { target, detail },
        }
    }

    fn lost(&self, error: ConnectionError) -> ReachError {
        let target = self.target.clone();
        let code = match &error {
            ConnectionError::TransportError(error) => Some(error.code),
            ConnectionError::ConnectionClosed(close) => Some(close.error_code),
            ConnectionError::VersionMismatch
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => None,
        };
        if code == Some(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL))
            || matches!(error, ConnectionError::VersionMismatch)
        {
            return ReachError::WrongProtocol { target };
        }
        // From outside, perhaps before any certificate was seen: cut and escaped.
        let words: String = error.to_string().chars().take(REASON_CHARS_MAX).collect();
        ReachError::Lost { target, detail: words.escape_debug().to_string() }
    }
}

/// `HOST:PORT`, as an operator would write it.
#[must_use]
pub fn target(token: &Token) -> String {
    let (host, port) = (token.host(), token.port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks the kernel for a way to an address: a connected UDP socket sends nothing and knows its route.
///
/// # Errors
/// The system's answer, as `Network is unreachable`.
fn route(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any(address))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the machine at the other end answers that nobody listens (ICMP port unreachable).
async fn is_refused(socket: UdpSocket) -> bool {
    let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else { return false };
    // One byte is no QUIC packet: whoever does listen throws it away.
    let _ = socket.send(&[0]).await;
    let answer = tokio::time::timeout(REFUSAL_TIMEOUT, socket.recv(&mut [0; 1])).await;
    matches!(answer, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn any(address: SocketAddr) -> SocketAddr {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    (any, 0).into()
}

fn client_config(authority: AuthorityFingerprint) -> (quinn::ClientConfig, Verdict) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verdict = Verdict::default();
    let verifier = FingerprintVerifier {
        authority,
        provider: Arc::clone(&provider),
        verdict: verdict.clone(),
    };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).expect("ring has AES-128-GCM for Initial keys");
    (quinn::ClientConfig::new(Arc::new(crypto)), verdict)
}

/// What the verifier had against the server; quinn hands on an alert's number and no more.
#[derive(Debug, Clone, Default)]
struct Verdict(Arc<Mutex<Option<Refused>>>);

#[derive(Debug, Clone)]
enum Refused {
    OtherAuthority,
    Time { side: &'static str, limit: UnixTime, clock: UnixTime },
    Name,
    Other(String),
}

impl Verdict {
    fn take(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, refused: Refused) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }
}

/// Trusts the one authority whose SHA-256 the token holds, and lets webpki do the rest.
#[derive(Debug)]
struct FingerprintVerifier {
    authority: AuthorityFingerprint,
    provider: Arc<CryptoProvider>,
    verdict: Verdict,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let meant = intermediates.iter().find(|it| sha256(it) == self.authority.0);
        let Some(authority) = meant else {
            self.verdict.note(Refused::OtherAuthority);
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).inspect_err(|error| self.other(error))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        );
        let verifier = verifier.build().map_err(|error| {
            self.other(&error);
            rustls::Error::General(error.to_string())
        })?;
        verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|error| self.note(error))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
            .inspect_err(|error| self.other(error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl FingerprintVerifier {
    fn note(&self, error: &rustls::Error) {
        let rustls::Error::InvalidCertificate(why) = error else { return self.other(error) };
        // The list is the library's and grows.
        #[allow(clippy::wildcard_enum_match_arm)]
        let refused = match why {
            CertificateError::ExpiredContext { time, not_after } => {
                Refused::Time { side: "until", limit: *not_after, clock: *time }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Refused::Time { side: "from", limit: *not_before, clock: *time }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Refused::Name
            }
            _ => Refused::Other(error.to_string()),
        };
        self.verdict.note(refused);
    }

    fn other(&self, error: &dyn std::fmt::Display) {
        self.verdict.note(Refused::Other(error.to_string()));
    }
}

/// The application protocol of enrolment, `protocol/WIRE.md` section 8.1.
const ALPN: &[u8] = b"roomtone-enroll/1";
/// The TLS alert for it, RFC 7301 section 3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// A host has an address or two per family.
const ADDRESSES_MAX: usize = 8;
/// One flight of the closing message on any path.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// One round trip on any path.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest reason of a peer that is repeated.
const REASON_CHARS_MAX: usize = 120;
