//! A small agent and a collector in this process, over real QUIC on the loopback interface.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use roomtone_collector::dev_certificates;
use roomtone_collector::fleet::live::Fleet;
use roomtone_collector::identity::authority::Authority;
use roomtone_collector::identity::refusal::Refusals;
use roomtone_collector::identity::registrar::{Registrar, Settings};
use roomtone_collector::identity::registry::Registry;
use roomtone_collector::identity::standing::Required;
use roomtone_collector::ingest::allowance::Allowance;
use roomtone_collector::ingest::downlink::Downlinks;
use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_collector::ingest::pacer::Pacer;
use roomtone_collector::ingest::quic::{Limits, Links, QuicListener, Surroundings};
use roomtone_collector::ingest::tls::{self, ServerCertificate, TlsFiles};
use roomtone_collector::ingest::writer::{self, WriterQueue};
use roomtone_collector::store::Store;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::enroll::BootId;
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame;
use roomtone_protocol::hello::{Hello, HelloReply};
use roomtone_protocol::id::{EndpointId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::fixture::*;

/// Far beyond what anything takes; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// An authority, a collector and some endpoints.
pub struct Pki {
    pub directory: tempfile::TempDir,
    pub endpoints: Vec<EndpointId>,
}

impl Pki {
    pub fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = dev_certificates::make(directory.path(), &names).unwrap();
        Self { endpoints: made.iter().filter_map(|it| it.endpoint).collect(), directory }
    }

    pub fn authority(&self) -> Authority {
        Authority::load(&self.file("ca.pem"), &self.file("ca.key")).unwrap()
    }

    pub fn registry(&self) -> Registry {
        Registry::open(&self.file("identity.sqlite")).unwrap()
    }

    /// Who is heard, by this authority and the registry beside it.
    pub fn registrar(
        &self,
        required: Required,
        wall_us: fn() -> u64,
    ) -> (Arc<Registrar>, Arc<Refusals>) {
        let refusals = Arc::new(Refusals::default());
        let authority = Some(self.authority());
        let settings = Settings { authority, required, server_name: "localhost".to_owned() };
        let registrar = Registrar::new(settings, self.registry(), refusals.clone(), wall_us);
        (Arc::new(registrar), refusals)
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A client's TLS with the certificate of `identity`, signed by `signer`'s authority; it trusts this one.
    pub fn client(&self, identity: Option<(&Self, &str)>, alpn: &[u8]) -> quinn::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((signer, name)) => builder
                .with_client_auth_cert(
                    vec![
                        CertificateDer::from_pem_file(signer.file(&format!("{name}.pem"))).unwrap(),
                    ],
                    PrivateKeyDer::from_pem_file(signer.file(&format!("{name}.key"))).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
    }
}

/// A collector in this process.
pub struct Collector {
    pub address: SocketAddr,
    pub registrar: Arc<Registrar>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    writer: std::thread::JoinHandle<()>,
}

pub const LIMITS: Limits =
    Limits { connections_max: 100, handshakes_max: 64, hello_wait: Duration::from_secs(20) };

/// More than any test brings.
const AMPLE: Allowance = Allowance { burst_bytes: 1 << 30, minute_bytes: 1 << 30 };

impl Collector {
    pub fn start(pki: &Pki, store: impl Store + 'static, limits: Limits) -> Self {
        Self::start_with(pki, store, limits, pki.registrar(Required::No, || NOW_US))
    }

    pub fn start_with(
        pki: &Pki,
        store: impl Store + 'static,
        limits: Limits,
        heard: (Arc<Registrar>, Arc<Refusals>),
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let writer = writer::spawn(Box::new(store), || NOW_US, runtime).unwrap();
        Self::start_over(pki, writer, limits, heard)
    }

    /// One whose writer is made already.
    pub fn start_over(
        pki: &Pki,
        writer: (WriterQueue, std::thread::JoinHandle<()>),
        limits: Limits,
        heard: (Arc<Registrar>, Arc<Refusals>),
    ) -> Self {
        Self::start_paced(pki, writer, limits, heard, AMPLE)
    }

    /// One that gives each endpoint this allowance.
    pub fn start_paced(
        pki: &Pki,
        (queue, writer): (WriterQueue, std::thread::JoinHandle<()>),
        limits: Limits,
        (registrar, refusals): (Arc<Registrar>, Arc<Refusals>),
        allowance: Allowance,
    ) -> Self {
        let (certificate, key, client_ca) =
            (pki.file("collector.pem"), pki.file("collector.key"), pki.file("ca.pem"));
        let files = TlsFiles { certificate: &certificate, key: &key, client_ca: &client_ca };
        let shown = ServerCertificate::load(files, Some(pki.authority().der())).unwrap();
        let tls = tls::server_config(files, shown, refusals).unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let downlinks = Downlinks::default();
        let surroundings = Surroundings {
            limits,
            writer: queue,
            fleet: Arc::new(Fleet::without_book(downlinks.clone(), || NOW_US)),
            downlinks,
            links: Links::default(),
            pacer: Pacer::new(allowance),
            registrar: registrar.clone(),
            wall_us: || NOW_US,
        };
        let listener = QuicListener::bind(loopback, tls, surroundings).unwrap();
        let (stop, shutdown) = watch::channel(false);
        let address = listener.local_address();
        let serving = tokio::spawn(listener.run(shutdown));
        Self { address, registrar, stop, serving, writer }
    }

    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        patiently("the listener's end", self.serving).await.unwrap();
        patiently("the writer's end", tokio::task::spawn_blocking(|| self.writer.join()))
            .await
            .unwrap()
            .unwrap();
    }
}

pub async fn connect(
    address: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
    patiently("the handshake", connecting).await
}

/// An agent's connection.
pub struct Client {
    pub connection: Connection,
    pub send: SendStream,
    recv: RecvStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr, pki: &Pki, name: &str) -> Self {
        Self::try_connect(address, pki, name).await.unwrap()
    }

    pub async fn try_connect(
        address: SocketAddr,
        pki: &Pki,
        name: &str,
    ) -> Result<Self, ConnectionError> {
        Self::over(connect(address, pki.client(Some((pki, name)), tls::ALPN)).await?).await
    }

    /// Opens the stream on a connection that stands.
    pub async fn over(connection: Connection) -> Result<Self, ConnectionError> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self { connection, send, recv, buffer: Vec::new() })
    }

    /// Connects and says Hello; returns the watermark.
    pub async fn welcome(address: SocketAddr, pki: &Pki, index: usize, name: &str) -> (Self, u32) {
        let mut client = Self::connect(address, pki, name).await;
        client.hello(pki.endpoints[index]).await;
        match client.next().await {
            Some(Message::HelloReply(HelloReply::Welcome { next, .. })) => (client, next.0),
            other => panic!("a welcome, found {other:?}"),
        }
    }

    pub async fn hello(&mut self, endpoint: EndpointId) {
        self.bytes(&hello(endpoint)).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        // A peer that closed meanwhile is seen by whoever reads next.
        let _ = patiently("room to send", self.send.write_all(bytes)).await;
    }

    pub async fn record(&mut self, sequence: u32, record: Record) {
        self.bytes(&record_frame(sequence, record)).await;
    }

    /// The next message, `None` where the connection or the stream ended.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match frame::decode(&self.buffer) {
                Ok((frame, length)) => {
                    self.buffer.drain(..length);
                    return frame.message;
                }
                Err(DecodeError::Incomplete { .. }) => {}
                Err(error) => panic!("the collector sent {error}"),
            }
            let chunk = patiently("a message", self.recv.read_chunk(4_096, true)).await;
            self.buffer.extend_from_slice(&chunk.ok()??.bytes);
        }
    }

    /// Waits until everything below `next` is acked.
    pub async fn acked(&mut self, next: u32) {
        loop {
            match self.next().await {
                Some(Message::Ack(Ack { epoch: EPOCH, next: Sequence(acked) })) => {
                    assert!(acked <= next, "acked {acked} of {next}");
                    if acked == next {
                        return;
                    }
                }
                other => panic!("an ack, found {other:?}"),
            }
        }
    }

    /// The code that the collector closed with.
    pub async fn closed(&self) -> CloseReason {
        close_reason(&self.connection).await
    }
}

pub async fn close_reason(connection: &Connection) -> CloseReason {
    let error = patiently("the close", connection.closed()).await;
    let ConnectionError::ApplicationClosed(close) = &error else {
        panic!("an application close, found {error:?}");
    };
    [
        CloseReason::Done,
        CloseReason::BadFrame,
        CloseReason::UnexpectedFrame,
        CloseReason::HelloTimeout,
        CloseReason::Refused,
        CloseReason::Replaced,
        CloseReason::StoreUnavailable,
        CloseReason::GoingAway,
        CloseReason::NotReading,
        CloseReason::NoEndpoint,
        CloseReason::Revoked,
        CloseReason::NoCertificate,
        CloseReason::NoAnswer,
    ]
    .into_iter()
    .find(|reason| VarInt::from_u32(*reason as u32) == close.error_code)
    .unwrap()
}

pub fn hello(endpoint: EndpointId) -> Vec<u8> {
    hello_of(endpoint, None)
}

pub fn hello_of(endpoint: EndpointId, boot: Option<BootId>) -> Vec<u8> {
    let hello = Hello {
        endpoint,
        wire_min: 1,
        wire_max: 1,
        agent_version: "0.1.0".try_into().unwrap(),
        epoch: EPOCH,
        oldest: Sequence(0),
        now: stamp(0),
        boot,
    };
    let mut buffer = [0; FRAME_BYTES_MAX];
    let length = frame::encode_link(&Message::Hello(hello), &mut buffer).unwrap();
    buffer[..length].to_vec()
}

pub fn record_frame(sequence: u32, record: Record) -> Vec<u8> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let length = frame::encode_record(id(EPOCH, sequence), record, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

pub fn open_store(directory: &Path) -> roomtone_collector::store::sqlite::SqliteStore {
    roomtone_collector::store::sqlite::SqliteStore::open(directory, 30, NOW_US).unwrap()
}
