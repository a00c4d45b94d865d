//! The uplink over real QUIC on loopback, against a collector of this test's own and against things that are none.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use roomtone_agent::config::{Collector, Identity};
use roomtone_agent::uplink::exchange::{Limits, Position};
use roomtone_agent::uplink::{Backlog, LinkStatus, Settings, Uplink};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed};
use roomtone_protocol::frame::{decode, encode_link, encode_record};
use roomtone_protocol::hello::HelloReply;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::path_watch::echo;

const EPOCH: Epoch = Epoch(0xfeed);
const ENDPOINT: EndpointId = EndpointId([7; 16]);

#[tokio::test]
async fn records_arrive_are_acknowledged_and_the_end_is_orderly() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let bench = Bench::new(&pki, &collector, 500);
    let (uplink, mut status) = bench.uplink();
    let (stop, stopped) = oneshot::channel::<()>();
    let story = async {
        status.wait_for(|s| s.acked == Some(ack(500))).await.unwrap();
        // Records that come later travel without any timer.
        bench.backlog.borrow_mut().append(500..600);
        bench.appended.notify_one();
        status.wait_for(|s| s.acked == Some(ack(600))).await.unwrap();
        assert!(status.borrow().connected_since.is_some());
        assert_eq!((status.borrow().transport, &status.borrow().last_error), ("quic", &None));
        stop.send(()).unwrap();
    };
    let run = uplink.run(async move { stopped.await.unwrap() });
    within(async { tokio::join!(run, story) }).await;
    assert_eq!(collector.stored(), 600);
    within(collector.ends.clone().wait_for(|ends| ends == &["0 the agent ends"])).await.unwrap();
}

#[tokio::test]
async fn end_of_the_agent_flushes_what_was_appended_just_before() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let bench = Bench::new(&pki, &collector, 10);
    let (uplink, mut status) = bench.uplink();
    let (stop, stopped) = oneshot::channel::<()>();
    let story = async {
        status.wait_for(|s| s.acked == Some(ack(10))).await.unwrap();
        bench.backlog.borrow_mut().append(10..2000);
        bench.appended.notify_one();
        stop.send(()).unwrap();
    };
    let run = uplink.run(async move { stopped.await.unwrap() });
    within(async { tokio::join!(run, story) }).await;
    assert_eq!((collector.stored(), bench.backlog.borrow().acked), (2000, 2000));
}

#[tokio::test]
async fn collector_killed_in_mid_stream_loses_nothing_that_it_acknowledged() {
    let pki = Pki::new();
    let port = socket();
    let mut collector = CollectorDouble::start(&pki, Manner::Stores, port.try_clone().unwrap());
    let bench = Bench::new(&pki, &collector, 20_000);
    let (uplink, mut status) = bench.uplink();
    let story = async {
        for stored in [1_000, 5_000, 12_000] {
            collector.count.wait_for(|count| *count >= stored).await.unwrap();
            // No farewell: the runtime is dropped with its tasks, and the store stays as on a disk.
            collector.kill();
            let store = Arc::clone(&collector.store);
            let socket = port.try_clone().unwrap();
            collector = CollectorDouble::resume(&pki, Manner::Stores, socket, store);
        }
        status.wait_for(|s| s.acked == Some(ack(20_000))).await.unwrap();
    };
    bench.drive(uplink, story).await;
    // `Records::acknowledge` compared every ack with the store while it went.
    assert_eq!(collector.stored(), 20_000);
}

#[tokio::test]
async fn wrong_authority_is_told_as_such() {
    let (pki, other) = (Pki::new(), Pki::new());
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let mut bench = Bench::new(&pki, &collector, 1);
    bench.settings.identity.ca = other.path("ca.crt");
    bench.expect_error("is not issued by the authority in identity.ca").await;
}

#[tokio::test]
async fn expired_collector_is_told_as_such() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Expired, socket());
    Bench::new(&pki, &collector, 1).expect_error("is expired or not yet valid").await;
}

#[tokio::test]
async fn wrong_server_name_is_told_with_the_name() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let mut bench = Bench::new(&pki, &collector, 1);
    bench.settings.collector.server_name = "other.test".to_owned();
    bench.expect_error("does not fit the name \"other.test\"").await;
}

#[tokio::test]
async fn certificate_that_the_collector_refuses_is_told_as_such_and_no_record_leaves() {
    let (pki, other) = (Pki::new(), Pki::new());
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let mut bench = Bench::new(&pki, &collector, 1);
    bench.settings.identity.certificate = other.path("endpoint.crt");
    bench.settings.identity.key = other.path("endpoint.key");
    bench.expect_error("the collector refused this agent's certificate").await;
    assert_eq!(bench.backlog.borrow().reads, 0);
}

#[tokio::test]
async fn other_quic_service_is_told_as_such() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::OtherProtocol, socket());
    Bench::new(&pki, &collector, 1).expect_error("does not speak roomtone/1").await;
}

#[tokio::test]
async fn silent_port_is_told_with_its_address() {
    let pki = Pki::new();
    let silent = socket();
    let address = silent.local_addr().unwrap();
    let mut bench = Bench::new(&pki, &CollectorDouble::start(&pki, Manner::Stores, socket()), 1);
    bench.settings.collector.port = address.port();
    bench.settings.attempt_timeout = Duration::from_millis(100);
    bench.expect_error(&format!("no answer from {address} over UDP")).await;
}

#[tokio::test]
async fn collector_that_never_answers_the_hello_gets_no_record() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Mute, socket());
    let mut bench = Bench::new(&pki, &collector, 1);
    bench.settings.limits.hello_timeout = Duration::from_millis(100);
    bench.expect_error("did not answer the hello in time").await;
    assert_eq!(bench.backlog.borrow().reads, 0);
}

#[tokio::test]
async fn collector_that_sends_garbage_is_left() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Garbage, socket());
    let bench = Bench::new(&pki, &collector, 1);
    bench.expect_error("the collector sent no valid frame: not a roomtone frame").await;
    assert_eq!(bench.backlog.borrow().reads, 0);
}

#[tokio::test]
async fn collector_that_acknowledges_nothing_is_left_and_called_again() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::NeverAcknowledges, socket());
    let mut bench = Bench::new(&pki, &collector, 1);
    bench.settings.limits.progress_timeout = Duration::from_millis(100);
    bench.expect_error("no ack progress in time").await;
    assert_eq!(bench.backlog.borrow().acked, 0);
}

#[tokio::test]
async fn collector_ahead_of_the_spool_is_told_to_the_spool_and_shown_in_the_status() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    // The store knows 0 to 4, the restored image only 0 to 2.
    let known = (0..5).map(|n| RecordId { epoch: EPOCH, sequence: Sequence(n) });
    collector.store.lock().unwrap().extend(known);
    let bench = Bench::new(&pki, &collector, 3);
    let (uplink, mut status) = bench.uplink();
    let story = async {
        status.wait_for(|s| s.collector_ahead == Some(ack(5))).await.unwrap();
        assert_eq!((bench.backlog.borrow().acked, bench.backlog.borrow().reads), (0, 0));
        assert!(bench.backlog.borrow().refused > 0, "the spool was told");
        // What a spool would do with a new epoch, this one does with more numbers.
        bench.backlog.borrow_mut().append(3..6);
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        assert_eq!(status.borrow().collector_ahead, None);
    };
    bench.drive(uplink, story).await;
}

#[tokio::test]
async fn unusable_identity_files_are_told_before_anything_starts() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let empty = pki.path("empty");
    std::fs::write(&empty, "").unwrap();
    type Spoil = fn(&mut Identity, PathBuf);
    let table: [(&str, Spoil, PathBuf); 4] = [
        ("identity.ca", |i, p| i.ca = p, pki.path("absent")),
        ("holds no certificate in PEM form", |i, p| i.certificate = p, empty.clone()),
        ("holds no private key in PEM form", |i, p| i.key = p, empty),
        ("identity.key", |i, p| i.key = p, pki.path("collector.key")),
    ];
    for (expected, spoil, path) in table {
        let mut bench = Bench::new(&pki, &collector, 1);
        spoil(&mut bench.settings.identity, path);
        let error = bench.try_uplink().err().expect("refused").to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

fn ack(next: u32) -> Ack {
    Ack { epoch: EPOCH, next: Sequence(next) }
}

pub(super) fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// Fails instead of hanging; everything here takes milliseconds.
pub(super) async fn within<T>(story: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), story).await.expect("the story ends in time")
}

/// An authority with one collector and one endpoint, as files.
pub(super) struct Pki {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { directory: tempfile::tempdir().unwrap(), authority };
        std::fs::write(pki.path("ca.crt"), pki.authority.pem()).unwrap();
        for (name, usage) in [
            ("collector", ExtendedKeyUsagePurpose::ServerAuth),
            ("endpoint", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let (certificate, key) = pki.issue(name, usage, 2100);
            std::fs::write(pki.path(&format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(pki.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        pki
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An endpoint for a collector that a test plays by hand.
    pub(super) fn listen(&self) -> quinn::Endpoint {
        let (certificate, key) = self.issue("collector", ExtendedKeyUsagePurpose::ServerAuth, 2100);
        let config = server_config(self, Manner::Stores, certificate.der().clone(), &key);
        quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        last_year: i32,
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        if usage == ExtendedKeyUsagePurpose::ClientAuth {
            let urn = format!("urn:uuid:{ENDPOINT}");
            params.subject_alt_names.push(SanType::URI(urn.as_str().try_into().unwrap()));
        }
        params.extended_key_usages = vec![usage];
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }
}

/// How a collector behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Stores,
    NeverAcknowledges,
    Mute,
    Garbage,
    OtherProtocol,
    Expired,
}

type Store = Arc<Mutex<BTreeSet<RecordId>>>;

/// A collector in a thread of its own, which can be killed without a word.
pub(super) struct CollectorDouble {
    pub(super) port: u16,
    store: Store,
    count: watch::Receiver<usize>,
    /// How many path probes came on the latest connection.
    pub(super) probes: watch::Receiver<u32>,
    /// How connections ended, as code and reason.
    ends: watch::Receiver<Vec<String>>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl CollectorDouble {
    pub(super) fn start(pki: &Pki, manner: Manner, socket: UdpSocket) -> Self {
        Self::resume(pki, manner, socket, Store::default())
    }

    fn resume(pki: &Pki, manner: Manner, socket: UdpSocket, store: Store) -> Self {
        let last_year = if manner == Manner::Expired { 2001 } else { 2100 };
        let (certificate, key) =
            pki.issue("collector", ExtendedKeyUsagePurpose::ServerAuth, last_year);
        let config = server_config(pki, manner, certificate.der().clone(), &key);
        let port = socket.local_addr().unwrap().port();
        let (kill, killed) = oneshot::channel();
        let (counted, count) = watch::channel(0);
        let (ended, ends) = watch::channel(Vec::new());
        let (probed, probes) = watch::channel(0);
        let shared = Arc::clone(&store);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = quinn::Endpoint::new(
                    quinn::EndpointConfig::default(),
                    Some(config),
                    socket,
                    Arc::new(quinn::TokioRuntime),
                )
                .unwrap();
                tokio::select! {
                    _ = killed => {}
                    () = serve(&endpoint, manner, &shared, &counted, &ended, &probed) => {}
                }
            });
        });
        Self { port, store, count, probes, ends, kill: Some(kill), thread: Some(thread) }
    }

    fn stored(&self) -> usize {
        self.store.lock().unwrap().len()
    }

    fn kill(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for CollectorDouble {
    fn drop(&mut self) {
        self.kill();
    }
}

fn server_config(
    pki: &Pki,
    manner: Manner,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) -> quinn::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.authority.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let other = manner == Manner::OtherProtocol;
    tls.alpn_protocols = vec![if other { b"h3".to_vec() } else { b"roomtone/1".to_vec() }];
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

async fn serve(
    endpoint: &quinn::Endpoint,
    manner: Manner,
    store: &Store,
    counted: &watch::Sender<usize>,
    ended: &watch::Sender<Vec<String>>,
    probed: &watch::Sender<u32>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else { continue };
        let Ok((mut send, mut recv)) = connection.accept_bi().await else { continue };
        tokio::spawn(echo(connection.clone(), probed.clone()));
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(Some(length)) = recv.read(&mut chunk).await {
            bytes.extend_from_slice(&chunk[..length]);
            let mut taken = 0;
            let mut reply = None;
            while let Ok((frame, length)) = decode(&bytes[taken..]) {
                taken += length;
                match frame.message.unwrap() {
                    Message::Hello(_) => {
                        let collector_version = "double".try_into().unwrap();
                        let next = watermark(store);
                        reply = Some(Message::HelloReply(HelloReply::Welcome {
                            wire: 1,
                            collector_version,
                            next,
                            wall_us: 0,
                        }));
                    }
                    Message::Record(_) => {
                        store.lock().unwrap().insert(frame.header.id);
                        if manner == Manner::Stores {
                            reply = Some(Message::Ack(ack(watermark(store).0)));
                        }
                    }
                    other @ (Message::HelloReply(_)
                    | Message::Ack(_)
                    | Message::Control(_)
                    | Message::EnrollRequest(_)
                    | Message::EnrollReply(_)
                    | Message::RenewRequest(_)
                    | Message::RenewReply(_)
                    | Message::Configuration(_)
                    | Message::EffectiveConfiguration(_)
                    | Message::Health(_)) => {
                        panic!("the agent sent {other:?}")
                    }
                }
            }
            bytes.drain(..taken);
            counted.send_replace(store.lock().unwrap().len());
            let reply = match manner {
                Manner::Mute => continue,
                Manner::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
                Manner::Stores
                | Manner::NeverAcknowledges
                | Manner::OtherProtocol
                | Manner::Expired => reply.as_ref().map(link).unwrap_or_default(),
            };
            if send.write_all(&reply).await.is_err() {
                break;
            }
        }
        if let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            ended.send_modify(|ends| ends.push(format!("{} {reason}", close.error_code)));
        }
    }
}

fn link(message: &Message) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let length = encode_link(message, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// The first record that the store lacks. All records are of one epoch and arrive in order.
fn watermark(store: &Store) -> Sequence {
    let store = store.lock().unwrap();
    let next = store.last().map_or(0, |id| id.sequence.0 + 1);
    assert_eq!(next as usize, store.len(), "a record was passed over");
    Sequence(next)
}

/// A spool in memory that checks each ack against the collector's store.
pub(super) struct Records {
    newest: u32,
    acked: u32,
    reads: u32,
    refused: u32,
    store: Store,
}

impl Records {
    fn append(&mut self, numbers: std::ops::Range<u32>) {
        assert_eq!(numbers.start, self.newest);
        self.newest = numbers.end;
    }
}

impl Backlog for Records {
    type Error = &'static str;

    fn position(&self) -> Position {
        Position { epoch: EPOCH, sequence: Sequence(self.newest) }
    }

    fn oldest(&self) -> Position {
        Position { epoch: EPOCH, sequence: Sequence(self.acked) }
    }

    fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, &'static str> {
        self.reads += 1;
        let end = buffer.len() + bytes_max;
        let mut next = from.sequence.0;
        while next < self.newest {
            let record = Record::CallClosed(CallClosed {
                call: CallId(u64::from(next)),
                closed: Stamp { wall_us: 0, uptime_us: u64::from(next) },
                reason: CallCloseReason::Idle,
                legs: 1,
            });
            let mut frame = [0; FRAME_BYTES_MAX];
            let id = RecordId { epoch: EPOCH, sequence: Sequence(next) };
            let length = encode_record(id, record, &mut frame).unwrap();
            if buffer.len() + length > end {
                break;
            }
            buffer.extend_from_slice(&frame[..length]);
            next += 1;
        }
        Ok(Position { epoch: EPOCH, sequence: Sequence(next) })
    }

    fn acknowledge(&mut self, ack: Ack) -> Result<(), &'static str> {
        assert_eq!(ack.epoch, EPOCH);
        if ack.next.0 > self.newest {
            self.refused += 1;
            return Err("never written");
        }
        let stored = self.store.lock().unwrap().len();
        assert!(ack.next.0 as usize <= stored, "acknowledged before it was stored");
        self.acked = self.acked.max(ack.next.0);
        Ok(())
    }
}

/// An agent's uplink, ready to run.
pub(super) struct Bench {
    settings: Settings,
    backlog: Rc<RefCell<Records>>,
    appended: Arc<Notify>,
    started: Instant,
}

pub(super) type TestUplink = Uplink<Rc<RefCell<Records>>, Box<dyn Fn() -> Stamp>>;

impl Bench {
    pub(super) fn new(pki: &Pki, collector: &CollectorDouble, records: u32) -> Self {
        let identity = Identity {
            endpoint: None,
            certificate: pki.path("endpoint.crt"),
            key: pki.path("endpoint.key"),
            ca: pki.path("ca.crt"),
        };
        let target = Collector {
            host: "127.0.0.1".to_owned(),
            port: collector.port,
            server_name: "collector.test".to_owned(),
        };
        let mut settings = Settings::new(target, identity);
        settings.limits = Limits {
            progress_timeout: Duration::from_millis(300),
            backoff_base: Duration::from_millis(1),
            backoff_ceiling: Duration::from_millis(10),
            ..Limits::default()
        };
        let store = Arc::clone(&collector.store);
        let backlog = Records { newest: records, acked: 0, reads: 0, refused: 0, store };
        Self {
            settings,
            backlog: Rc::new(RefCell::new(backlog)),
            appended: Arc::new(Notify::new()),
            started: Instant::now(),
        }
    }

    fn try_uplink(
        &self,
    ) -> Result<(TestUplink, watch::Receiver<LinkStatus>), impl std::fmt::Display + use<>> {
        let started = self.started;
        let clock: Box<dyn Fn() -> Stamp> = Box::new(move || {
            let uptime_us = u64::try_from(started.elapsed().as_micros()).unwrap();
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Stamp { wall_us: u64::try_from(wall.as_micros()).unwrap(), uptime_us }
        });
        let (requests, _) = mpsc::channel(1);
        Uplink::new(
            self.settings.clone(),
            Rc::clone(&self.backlog),
            Arc::clone(&self.appended),
            requests,
            clock,
        )
    }

    pub(super) fn uplink(&self) -> (TestUplink, watch::Receiver<LinkStatus>) {
        self.try_uplink().map_err(|error| error.to_string()).unwrap()
    }

    async fn drive(&self, uplink: TestUplink, story: impl Future<Output = ()>) {
        within(async {
            tokio::select! {
                () = uplink.run(pending()) => panic!("the uplink ended by itself"),
                () = story => {}
            }
        })
        .await;
    }

    async fn expect_error(&self, expected: &str) {
        let (uplink, mut status) = self.uplink();
        let story = async {
            let status = status.wait_for(|s| s.last_error.is_some()).await.unwrap().clone();
            let error = status.last_error.unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n') && !error.ends_with('.'), "{error}");
            assert_eq!(status.connected_since, None);
        };
        self.drive(uplink, story).await;
    }
}
