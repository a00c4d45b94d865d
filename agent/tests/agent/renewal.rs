//! Renewal over real QUIC on loopback, against a collector of this test's own: when the agent asks, what it takes, what
//! is on disk at each step, and who it is afterwards.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
    PublicKeyData, SanType,
};
use roomtone_agent::config::{Collector, Identity};
use roomtone_agent::identity::certificate::Certificate;
use roomtone_agent::identity::folder::read_certificate;
use roomtone_agent::identity::renewal::due_us;
use roomtone_agent::uplink::exchange::{Limits, Position};
use roomtone_agent::uplink::{Backlog, LinkStatus, Settings, Uplink};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::enroll::{Der, RenewRefusal, RenewReply};
use roomtone_protocol::frame::{decode, encode_link};
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::id::{EndpointId, Epoch, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::time::Stamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};

const DAY_US: u64 = 86_400_000_000;
const YEAR_US: i64 = 365 * 86_400_000_000;
const ENDPOINT: EndpointId = EndpointId([7; 16]);
const LOOK: Duration = Duration::from_millis(20);
const OTHER: EndpointId = EndpointId([8; 16]);

/// The clock that is right.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// How the collector answers a request to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Issue,
    /// Issues, and the connection breaks before the answer is out.
    Lose,
    Silent,
    Busy,
    /// A certificate of another endpoint.
    Foreign,
    /// One that begins next year.
    NextYear,
}

/// What the collector has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    /// Endpoint of the Hello and public key of each connection.
    hellos: Vec<(EndpointId, Vec<u8>)>,
    requests: usize,
}

/// What the collector does.
struct Plan {
    wall_us: u64,
    answers: Mutex<VecDeque<Answer>>,
    refuses: Mutex<Option<(EndpointId, RefuseReason)>>,
    on_request: Box<dyn Fn() + Send + Sync>,
}

struct Scene {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    plan: Plan,
    seen: watch::Sender<Seen>,
}

impl Scene {
    /// An endpoint that was enrolled `days` ago, by the collector's clock, and a collector that answers in this order.
    fn new(days: u64, answers: &[Answer]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let plan = Plan {
            wall_us: now_us(),
            answers: Mutex::new(answers.iter().copied().collect()),
            refuses: Mutex::default(),
            on_request: Box::new(|| {}),
        };
        let scene = Self { folder, authority, plan, seen: watch::channel(Seen::default()).0 };
        scene.place(ENDPOINT, now_us() - days * DAY_US);
        scene
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("room.pem")
    }

    /// Puts an identity in force as `enroll` does, by one rename.
    fn place(&self, endpoint: EndpointId, issued_us: u64) {
        let key = KeyPair::generate().unwrap();
        let certificate = self.issue(&key, endpoint, issued_us);
        let text = certificate.pem() + &key.serialize_pem();
        let partial = self.folder.path().join("placed");
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(&partial, self.file()).unwrap();
    }

    /// As a collector does: 30 days, begun a day early.
    fn issue(
        &self,
        key: &impl PublicKeyData,
        endpoint: EndpointId,
        issued_us: u64,
    ) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        let urn = format!("urn:uuid:{endpoint}");
        params.subject_alt_names = vec![SanType::URI(urn.as_str().try_into().unwrap())];
        let at = |us: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(us / 1_000_000);
        params.not_before = at(issued_us - DAY_US);
        params.not_after = at(issued_us + 30 * DAY_US);
        params.signed_by(key, &self.authority).unwrap()
    }

    fn certificate(&self) -> Certificate {
        read_certificate(&self.file()).unwrap()
    }

    fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    fn listen(&self) -> quinn::Endpoint {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["collector.test".to_owned()]).unwrap();
        // The collector's own certificate is good around its own clock only.
        let at = |us: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(us / 1_000_000);
        params.not_before = at(self.plan.wall_us - 10 * DAY_US);
        params.not_after = at(self.plan.wall_us + 90 * DAY_US);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(TakesAll))
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"roomtone/1".to_vec()];
        let config =
            quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// Serves one connection after the other.
    async fn serve(&self, endpoint: &quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let Ok((mut send, mut recv)) = connection.accept_bi().await else { continue };
            let chain = connection.peer_identity().unwrap();
            let chain = chain.downcast::<Vec<CertificateDer<'static>>>().unwrap();
            let shown = Certificate::read(&chain[0]).unwrap();
            let mut bytes = Vec::new();
            let mut chunk = vec![0; 64 * 1024];
            'connection: while let Ok(Some(length)) = recv.read(&mut chunk).await {
                bytes.extend_from_slice(&chunk[..length]);
                while let Ok((frame, length)) = decode(&bytes) {
                    bytes.drain(..length);
                    let reply = match frame.message.unwrap() {
                        Message::Hello(hello) => self.greet(hello.endpoint, &shown),
                        Message::RenewRequest(request) => match self.renew(&request.csr) {
                            Some(Ok(reply)) => Message::RenewReply(reply),
                            Some(Err(())) => break 'connection,
                            None => continue,
                        },
                        Message::EffectiveConfiguration(_) | Message::Health(_) => continue,
                        other @ (Message::HelloReply(_)
                        | Message::Ack(_)
                        | Message::Control(_)
                        | Message::EnrollRequest(_)
                        | Message::EnrollReply(_)
                        | Message::RenewReply(_)
                        | Message::Configuration(_)
                        | Message::Record(_)) => panic!("the agent sent {other:?}"),
                    };
                    let mut frame = vec![0; FRAME_BYTES_MAX];
                    let length = encode_link(&reply, &mut frame).unwrap();
                    send.write_all(&frame[..length]).await.unwrap();
                }
            }
            connection.close(0u32.into(), b"");
        }
    }

    fn greet(&self, endpoint: EndpointId, shown: &Certificate) -> Message {
        assert_eq!(endpoint, shown.endpoint, "a Hello that its certificate does not bear out");
        let key = shown.public_key.clone();
        self.seen.send_modify(|seen| seen.hellos.push((endpoint, key)));
        let collector_version = "double".try_into().unwrap();
        let wall_us = self.plan.wall_us;
        let refused = *self.plan.refuses.lock().unwrap();
        Message::HelloReply(match refused {
            Some((refused, reason)) if refused == endpoint => {
                HelloReply::Refused { reason, detail: heapless::String::new() }
            }
            _ if wall_us >= shown.not_after_us => {
                HelloReply::RenewFirst { collector_version, wall_us }
            }
            _ => HelloReply::Welcome { wire: 1, collector_version, next: Sequence(0), wall_us },
        })
    }

    /// `None` for silence, an error for the end of the connection.
    fn renew(&self, csr: &[u8]) -> Option<Result<RenewReply, ()>> {
        self.seen.send_modify(|seen| seen.requests += 1);
        (self.plan.on_request)();
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let wall_us = self.plan.wall_us;
        let issue = |endpoint, issued_us| {
            let issued = self.issue(&request.public_key, endpoint, issued_us);
            RenewReply::Renewed { certificate: Der::from_slice(issued.der()).unwrap() }
        };
        let answer = self.plan.answers.lock().unwrap().pop_front().expect("a planned request");
        match answer {
            Answer::Issue => Some(Ok(issue(ENDPOINT, wall_us))),
            Answer::Lose => Some(Err(())),
            Answer::Silent => None,
            Answer::Busy => Some(Ok(RenewReply::Refused(RenewRefusal::Busy))),
            Answer::Foreign => Some(Ok(issue(OTHER, wall_us))),
            Answer::NextYear => Some(Ok(issue(ENDPOINT, wall_us + YEAR_US.unsigned_abs()))),
        }
    }
}

/// Whatever certificate comes is taken, expired or not, as the real collector does.
#[derive(Debug)]
struct TakesAll;

impl ClientCertVerifier for TakesAll {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("QUIC has TLS 1.3")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A spool that has nothing: what is renewed here is who the agent is.
struct Nothing;

impl Backlog for Nothing {
    type Error = &'static str;

    fn position(&self) -> Position {
        Position { epoch: Epoch(1), sequence: Sequence(0) }
    }

    fn oldest(&self) -> Position {
        self.position()
    }

    fn read(
        &mut self,
        from: Position,
        _: &mut Vec<u8>,
        _: usize,
    ) -> Result<Position, &'static str> {
        Ok(from)
    }

    fn acknowledge(&mut self, _: Ack) -> Result<(), &'static str> {
        Ok(())
    }
}

/// One life of an agent, whose wall clock is off by `skew_us`.
struct Life<'a> {
    scene: &'a Scene,
    listener: quinn::Endpoint,
    identity: Identity,
    skew_us: Cell<i64>,
    /// Longer than any test, unless a test is about replaced files: a look wakes the agent, which must need no waking.
    look_every: Duration,
}

impl<'a> Life<'a> {
    fn new(scene: &'a Scene) -> Self {
        let identity = Identity {
            endpoint: None,
            certificate: scene.file(),
            key: scene.file(),
            ca: scene.folder.path().join("ca.pem"),
        };
        Self {
            scene,
            listener: scene.listen(),
            identity,
            skew_us: Cell::new(0),
            look_every: Duration::from_secs(3_600),
        }
    }

    /// Runs the agent until `story` has ended; then it is killed, in whatever it does.
    async fn tell<F: Future>(&self, story: impl FnOnce(watch::Receiver<LinkStatus>) -> F) {
        let started = Instant::now();
        let clock = || {
            let uptime_us = u64::try_from(started.elapsed().as_micros()).unwrap();
            Stamp { wall_us: now_us().saturating_add_signed(self.skew_us.get()), uptime_us }
        };
        let target = Collector {
            host: "127.0.0.1".to_owned(),
            port: self.listener.local_addr().unwrap().port(),
            server_name: "collector.test".to_owned(),
        };
        let mut settings = Settings::new(target, self.identity.clone());
        settings.look_every = self.look_every;
        settings.limits = Limits {
            backoff_base: Duration::from_millis(1),
            backoff_ceiling: Duration::from_millis(10),
            ..Limits::default()
        };
        let (requests, _) = mpsc::channel(1);
        let (uplink, status) =
            Uplink::new(settings, Nothing, Arc::new(Notify::new()), requests, clock).unwrap();
        let told = async {
            tokio::select! {
                () = uplink.run(pending()) => panic!("the uplink ended by itself"),
                () = self.scene.serve(&self.listener) => panic!("the collector ended by itself"),
                _ = story(status) => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("the story ends in time");
    }

    /// Until the collector has seen that.
    async fn until(&self, done: impl FnMut(&Seen) -> bool) {
        self.scene.seen.subscribe().wait_for(done).await.unwrap();
    }
}

/// Long enough for a hundred looks and back-offs of the shortened kind: what is to happen at once would have.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn certificate_is_renewed_at_two_thirds_of_its_life_and_the_next_connection_shows_it() {
    let mut scene = Scene::new(20, &[Answer::Issue]);
    let before = scene.certificate();
    // The due moment comes while the link stands.
    scene.plan.wall_us = due_us(&before) - 200_000;
    let life = Life::new(&scene);
    life.tell(async |mut status| {
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        assert_eq!(scene.seen().requests, 0, "not before it is due");
        life.until(|seen| seen.hellos.len() == 2).await;
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        assert_eq!(status.borrow().last_error, None, "a renewal is no failure");
    })
    .await;
    let after = scene.certificate();
    assert_ne!(after.public_key, before.public_key, "each has a key of its own");
    let keys = [before.public_key, after.public_key].map(|key| (ENDPOINT, key));
    assert_eq!(scene.seen(), Seen { hellos: keys.to_vec(), requests: 1 });
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(scene.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn expired_certificate_is_renewed_first_and_comes_back_at_once() {
    let scene = Scene::new(100, &[Answer::Issue]);
    let life = Life::new(&scene);
    life.tell(async |mut status| status.wait_for(|s| s.connected_since.is_some()).await.map(drop))
        .await;
    let Seen { hellos, requests } = scene.seen();
    assert_eq!((hellos.len(), requests), (2, 1));
    assert_eq!(hellos[1].1, scene.certificate().public_key);
}

#[tokio::test]
async fn clock_that_is_a_year_behind_renews_once() {
    let scene = Scene::new(25, &[Answer::Issue]);
    let life = Life::new(&scene);
    // Before this endpoint's own certificate began, and before the collector's.
    life.skew_us.set(-YEAR_US);
    life.tell(async |_| {
        life.until(|seen| seen.hellos.len() == 2).await;
        a_while().await;
    })
    .await;
    assert_eq!((scene.seen().hellos.len(), scene.seen().requests), (2, 1));
}

#[tokio::test]
async fn clock_that_jumps_a_year_ahead_renews_once_and_reconnects() {
    let mut scene = Scene::new(25, &[Answer::Issue]);
    scene.plan.wall_us = due_us(&scene.certificate()) - 200_000;
    let life = Life::new(&scene);
    life.tell(async |mut status| {
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        // By this clock both certificates have expired long ago.
        life.skew_us.set(YEAR_US);
        life.until(|seen| seen.hellos.len() == 2).await;
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        a_while().await;
    })
    .await;
    assert_eq!((scene.seen().hellos.len(), scene.seen().requests), (2, 1));
}

#[tokio::test]
async fn expired_certificate_is_renewed_whatever_this_clock_says() {
    for skew_us in [-YEAR_US, 40 * 86_400_000_000] {
        let scene = Scene::new(100, &[Answer::Issue]);
        let life = Life::new(&scene);
        life.skew_us.set(skew_us);
        life.tell(async |mut status| {
            status.wait_for(|s| s.connected_since.is_some()).await.map(drop)
        })
        .await;
        assert_eq!(scene.seen().requests, 1);
    }
}

#[tokio::test]
async fn lost_answer_leaves_the_identity_and_the_next_life_asks_again() {
    let scene = Scene::new(25, &[Answer::Lose, Answer::Issue]);
    let before = scene.certificate();
    let life = Life::new(&scene);
    life.tell(async |mut status| {
        // Broken with the request, and back with the same key; the next request has time.
        life.until(|seen| seen.hellos.len() == 2).await;
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        a_while().await;
    })
    .await;
    assert_eq!((scene.seen().requests, scene.certificate()), (1, before.clone()));
    let next = Life::new(&scene);
    next.tell(async |_| next.until(|seen| seen.hellos.len() == 4).await).await;
    let Seen { hellos, requests } = scene.seen();
    assert_eq!(requests, 2);
    let shown: Vec<bool> = hellos.iter().map(|(_, key)| *key == before.public_key).collect();
    assert_eq!(shown, [true, true, true, false]);
}

#[tokio::test]
async fn agent_killed_while_it_waits_for_the_answer_comes_back_as_it_was() {
    let scene = Scene::new(25, &[Answer::Silent, Answer::Issue]);
    let before = scene.certificate();
    let life = Life::new(&scene);
    life.tell(async |_| life.until(|seen| seen.requests == 1).await).await;
    assert_eq!(scene.certificate(), before);
    let next = Life::new(&scene);
    next.tell(async |_| next.until(|seen| seen.hellos.len() == 3).await).await;
    assert_ne!(scene.certificate(), before);
}

#[tokio::test]
async fn refusals_and_nonsense_change_nothing_and_keep_the_link() {
    for answer in [Answer::Busy, Answer::Foreign, Answer::NextYear] {
        let scene = Scene::new(25, &[answer]);
        let before = scene.certificate();
        let life = Life::new(&scene);
        life.tell(async |status| {
            life.until(|seen| seen.requests == 1).await;
            a_while().await;
            assert!(status.borrow().connected_since.is_some(), "{answer:?}");
        })
        .await;
        assert_eq!((scene.seen().hellos.len(), scene.seen().requests), (1, 1), "{answer:?}");
        assert_eq!(scene.certificate(), before, "{answer:?}");
    }
}

/// Makes every write of the identity fail, for root too: its name until it is whole is taken by a folder.
fn block(file: &Path) {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::create_dir_all(Path::new(&partial).join("x")).unwrap();
}

#[tokio::test]
async fn nothing_is_asked_for_that_could_not_be_kept() {
    let scene = Scene::new(25, &[]);
    block(&scene.file());
    let life = Life::new(&scene);
    life.tell(async |mut status| {
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        a_while().await;
        assert!(status.borrow().connected_since.is_some());
    })
    .await;
    assert_eq!((scene.seen().hellos.len(), scene.seen().requests), (1, 0));
}

#[tokio::test]
async fn disk_that_fills_before_the_answer_leaves_the_old_identity_in_use() {
    let mut scene = Scene::new(25, &[Answer::Issue]);
    let (before, file) = (scene.certificate(), scene.file());
    scene.plan.on_request = Box::new(move || block(&file));
    let life = Life::new(&scene);
    life.tell(async |status| {
        life.until(|seen| seen.requests == 1).await;
        a_while().await;
        assert!(status.borrow().connected_since.is_some());
    })
    .await;
    assert_eq!((scene.seen().hellos.len(), scene.certificate()), (1, before));
}

#[tokio::test]
async fn identity_of_two_files_is_left_to_whoever_placed_them() {
    let scene = Scene::new(100, &[]);
    let key = scene.folder.path().join("room.key");
    std::fs::copy(scene.file(), &key).unwrap();
    let mut life = Life::new(&scene);
    life.identity.key = key.clone();
    life.look_every = LOOK;
    life.tell(async |mut status| {
        status.wait_for(|s| s.refused == Some(RefuseReason::Expired)).await.unwrap();
        a_while().await;
        assert_eq!(scene.seen().hellos.len(), 1, "asked again in hours");
        // They are replaced, one after the other.
        scene.place(ENDPOINT, now_us());
        a_while().await;
        assert_eq!(scene.seen().hellos.len(), 1, "a certificate with another's key is none");
        std::fs::copy(scene.file(), &key).unwrap();
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        assert_eq!(status.borrow().refused, None);
    })
    .await;
    assert_eq!((scene.seen().hellos.len(), scene.seen().requests), (2, 0));
}

#[tokio::test]
async fn refused_endpoint_that_is_enrolled_anew_is_the_new_one_without_a_restart() {
    for reason in [RefuseReason::Revoked, RefuseReason::Cloned, RefuseReason::UnknownEndpoint] {
        let scene = Scene::new(1, &[]);
        *scene.plan.refuses.lock().unwrap() = Some((ENDPOINT, reason));
        let mut life = Life::new(&scene);
        life.look_every = LOOK;
        life.tell(async |mut status| {
            status.wait_for(|s| s.refused == Some(reason)).await.unwrap();
            a_while().await;
            assert_eq!(scene.seen().hellos.len(), 1, "asked again in hours");
            scene.place(OTHER, now_us());
            status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        })
        .await;
        let who: Vec<_> = scene.seen().hellos.iter().map(|(endpoint, _)| *endpoint).collect();
        assert_eq!(who, [ENDPOINT, OTHER]);
    }
}

#[tokio::test]
async fn endpoint_that_is_enrolled_anew_while_it_is_heard_changes_over() {
    let scene = Scene::new(1, &[]);
    let mut life = Life::new(&scene);
    life.look_every = LOOK;
    life.tell(async |mut status| {
        status.wait_for(|s| s.connected_since.is_some()).await.unwrap();
        scene.place(OTHER, now_us());
        life.until(|seen| seen.hellos.len() == 2).await;
    })
    .await;
    assert_eq!(scene.seen().hellos[1].0, OTHER);
}
