//! Who is let in and who is not, over real QUIC: every refusal has its reason and its counter, and leaves nothing.

use std::net::SocketAddr;
use std::time::Duration;

use roomtone_collector::clock;
use roomtone_collector::identity::digest::sha256;
use roomtone_collector::identity::refusal::Refusal;
use roomtone_collector::identity::registrar::Registrar;
use roomtone_collector::identity::standing::Required;
use roomtone_collector::identity::token::TokenFacts;
use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_collector::ingest::tls;
use roomtone_collector::store::StoreReader;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::{
    BootId, Der, EnrollRefusal, EnrollReply, EnrollRequest, RenewRefusal, RenewReply, RenewRequest,
    TokenId, TokenSecret,
};
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::message::Message;
use roomtone_protocol::token::Token;

use crate::agent::{Anchor, Badge, client_config, csr, enroll, link};
use crate::client::*;
use crate::fixture::*;

const SECRET: TokenSecret = TokenSecret([0xa5; 32]);
const A: BootId = BootId([0xa; 16]);
const B: BootId = BootId([0xb; 16]);

fn days_ago(days: u64) -> u64 {
    clock::wall_us() - days * DAY_US
}

async fn welcomed(badge: &Badge, address: SocketAddr, boot: Option<BootId>) -> Client {
    let (client, reply) = badge.greet(address, boot).await;
    assert!(matches!(reply, HelloReply::Welcome { .. }), "{reply:?}");
    client
}

async fn refused(badge: &Badge, address: SocketAddr, boot: Option<BootId>) -> RefuseReason {
    let (client, reply) = badge.greet(address, boot).await;
    let HelloReply::Refused { reason, .. } = reply else { panic!("a refusal, found {reply:?}") };
    assert_eq!(client.closed().await, CloseReason::Refused);
    reason
}

fn anchor(pki: &Pki) -> Anchor {
    Anchor::Pinned(pki.authority().fingerprint())
}

fn request(pki: &Pki, id: TokenId, key: &rcgen::KeyPair) -> EnrollRequest {
    let token = Token::new(pki.authority().fingerprint(), id, SECRET, "localhost", 1).unwrap();
    crate::agent::request(&token, csr(key))
}

/// Adds a token whose secret is [`SECRET`].
fn token(pki: &Pki, number: u8, uses_max: u32, expires_us: u64) -> TokenId {
    let id = TokenId([number; 8]);
    let facts = TokenFacts {
        id,
        secret_hash: sha256(&SECRET.0),
        site: "oslo".to_owned(),
        uses_max,
        uses: 0,
        created_us: days_ago(1),
        expires_us,
        revoked_us: None,
    };
    pki.registry().add_token(&facts).unwrap();
    id
}

fn open_token(pki: &Pki, number: u8, uses_max: u32) -> TokenId {
    token(pki, number, uses_max, clock::wall_us() + DAY_US)
}

/// Enrols by the registrar itself, at its own time.
fn badge(pki: &Pki, registrar: &Registrar, token: TokenId) -> Badge {
    let key = rcgen::KeyPair::generate().unwrap();
    let source = "192.0.2.1".parse().unwrap();
    let reply = registrar.enroll(&request(pki, token, &key), source, std::time::Instant::now());
    let EnrollReply::Enrolled { endpoint, certificate, .. } = reply else { panic!("{reply:?}") };
    Badge { endpoint, key, certificate: certificate.to_vec(), anchor: anchor(pki) }
}

/// A collector that hears only whom it enrolled, and its store.
struct Scene {
    pki: Pki,
    directory: tempfile::TempDir,
    collector: Collector,
}

impl Scene {
    fn new() -> Self {
        let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
        let who = pki.registrar(Required::Yes, clock::wall_us);
        let collector = Collector::start_with(&pki, open_store(directory.path()), LIMITS, who);
        Self { pki, directory, collector }
    }

    /// An endpoint that was enrolled `days` ago, for 30 days.
    fn enrolled(&self, number: u8, wall_us: fn() -> u64) -> Badge {
        let id = open_token(&self.pki, number, 1);
        badge(&self.pki, &self.pki.registrar(Required::Yes, wall_us).0, id)
    }

    fn address(&self) -> SocketAddr {
        self.collector.address
    }

    fn count(&self, refusal: Refusal) -> u64 {
        self.collector.registrar.refusals().count(refusal)
    }

    /// Ends; the store knows exactly these endpoints.
    async fn end(self, stored: &[EndpointId]) {
        self.collector.stop().await;
        let known = SqliteReader::open(self.directory.path()).unwrap().endpoints().unwrap();
        let known: Vec<_> = known.iter().map(|it| it.endpoint).collect();
        assert_eq!(known.len(), stored.len(), "{known:?}");
        assert!(stored.iter().all(|it| known.contains(it)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_with_a_token_becomes_an_endpoint_and_is_heard() {
    let scene = Scene::new();
    let id = open_token(&scene.pki, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let reply = enroll(scene.address(), &anchor(&scene.pki), request(&scene.pki, id, &key)).await;
    let EnrollReply::Enrolled { endpoint, certificate, authority, server_name } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(authority, *scene.pki.authority().der());
    assert_eq!(server_name, "localhost");
    let anchor = Anchor::Authority(authority.to_vec());
    let badge = Badge { endpoint, key, certificate: certificate.to_vec(), anchor };
    let mut client = welcomed(&badge, scene.address(), Some(A)).await;
    client.record(0, host_interval()).await;
    client.acked(1).await;
    let known = scene.pki.registry().endpoint(endpoint).unwrap().unwrap();
    assert_eq!((known.site.as_str(), known.boot, known.key_seen), ("oslo", Some(A), true));
    scene.end(&[endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_token_is_told_apart_and_enrols_nobody() {
    let scene = Scene::new();
    let pki = &scene.pki;
    let used = open_token(pki, 1, 1);
    badge(pki, &pki.registrar(Required::Yes, clock::wall_us).0, used);
    let expired = token(pki, 2, 1, days_ago(0));
    let revoked = open_token(pki, 3, 1);
    pki.registry().revoke_token(revoked, clock::wall_us()).unwrap();
    let open = open_token(pki, 4, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let of = |token| request(pki, token, &key);
    let stranger = Pki::new(&[]);
    let other_authority =
        EnrollRequest { authority: stranger.authority().fingerprint(), ..of(open) };
    let wrong_secret = EnrollRequest { secret: TokenSecret([1; 32]), ..of(open) };
    let mut forged = of(open);
    *forged.csr.last_mut().unwrap() ^= 1;
    for (request, told, counted) in [
        (of(TokenId([9; 8])), EnrollRefusal::UnknownToken, Refusal::TokenUnknown),
        (wrong_secret, EnrollRefusal::UnknownToken, Refusal::TokenWrongSecret),
        (of(used), EnrollRefusal::UsedToken, Refusal::TokenUsed),
        (of(expired), EnrollRefusal::ExpiredToken, Refusal::TokenExpired),
        (of(revoked), EnrollRefusal::RevokedToken, Refusal::TokenRevoked),
        (other_authority, EnrollRefusal::OtherCollector, Refusal::TokenOfOtherCollector),
        (forged, EnrollRefusal::BadRequest, Refusal::BadRequest),
    ] {
        let reply = enroll(scene.address(), &anchor(pki), request).await;
        assert_eq!(reply, EnrollReply::Refused(told));
        assert_eq!(scene.count(counted), 1, "{counted:?}");
    }
    assert_eq!(pki.registry().endpoints().unwrap().len(), 1);
    let tokens = pki.registry().tokens().unwrap();
    assert_eq!(tokens.iter().find(|it| it.id == open).unwrap().uses, 0, "it is as it was");
    scene.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_for_one_that_many_use_at_once_enrols_one() {
    let scene = Scene::new();
    let id = open_token(&scene.pki, 1, 1);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let key = rcgen::KeyPair::generate().unwrap();
        let config = client_config(&anchor(&scene.pki), None, tls::ENROLL_ALPN);
        let bytes = link(&Message::EnrollRequest(request(&scene.pki, id, &key)));
        let address = scene.address();
        asking.spawn(async move {
            let mut client = Client::over(connect(address, config).await.unwrap()).await.unwrap();
            client.bytes(&bytes).await;
            client.next().await
        });
    }
    let replies = asking.join_all().await;
    let enrolled = |it: &&Option<Message>| {
        matches!(it, Some(Message::EnrollReply(EnrollReply::Enrolled { .. })))
    };
    assert_eq!(replies.iter().filter(enrolled).count(), 1, "{replies:?}");
    assert_eq!(scene.count(Refusal::TokenUsed), 7);
    assert_eq!(scene.pki.registry().endpoints().unwrap().len(), 1);
    scene.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_request_harms_nobody() {
    let scene = Scene::new();
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), CloseReason::BadFrame),
        (hello(EndpointId([1; 16])), CloseReason::Refused),
    ] {
        let config = client_config(&anchor(&scene.pki), None, tls::ENROLL_ALPN);
        let mut client =
            Client::over(connect(scene.address(), config).await.unwrap()).await.unwrap();
        client.bytes(&bytes).await;
        assert_eq!(client.closed().await, reason);
    }
    assert_eq!((scene.count(Refusal::Garbage), scene.count(Refusal::BadRequest)), (1, 1));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 1..200 {
        let bytes: Vec<u8> = (0..length * 6).map(|i| (i * 37 + length) as u8).collect();
        socket.send_to(&bytes, scene.address()).unwrap();
    }
    let other = client_config(&anchor(&scene.pki), None, b"h3");
    assert!(connect(scene.address(), other).await.is_err());
    let badge = scene.enrolled(1, clock::wall_us);
    welcomed(&badge, scene.address(), None).await;
    scene.end(&[badge.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_ones_own_are_refused_and_nothing_is_stored() {
    let scene = Scene::new();
    let (address, pki) = (scene.address(), &scene.pki);
    // Another authority, with the same names in it.
    let stranger = Pki::new(&["oslo-4"]);
    let foreign = pki.client(Some((&stranger, "endpoint-oslo-4")), tls::ALPN);
    let turned_away = async |config| match connect(address, config).await {
        Ok(connection) => patiently("the close", connection.closed()).await,
        Err(error) => error,
    };
    turned_away(foreign).await;
    assert_eq!(scene.count(Refusal::WrongAuthority), 1);
    // The certificate of another endpoint, shown without its key.
    let (victim, thief) = (scene.enrolled(1, clock::wall_us), scene.enrolled(2, clock::wall_us));
    let stolen = Badge { certificate: victim.certificate.clone(), ..thief };
    turned_away(stolen.config()).await;
    assert_eq!(scene.count(Refusal::CertificateWithoutKey), 1);
    // Of this authority, and nobody enrolled it.
    let mut unknown = Client::connect(address, pki, "endpoint-oslo-4").await;
    unknown.hello(pki.endpoints[0]).await;
    let reply = unknown.next().await;
    let Some(Message::HelloReply(HelloReply::Refused { reason, .. })) = reply else {
        panic!("a refusal, found {reply:?}");
    };
    assert_eq!(reason, RefuseReason::UnknownEndpoint);
    assert_eq!(scene.count(Refusal::UnknownEndpoint), 1);
    // An endpoint that names itself as another.
    let mut liar = victim.connect(address).await;
    liar.hello(EndpointId([9; 16])).await;
    assert!(matches!(liar.next().await, Some(Message::HelloReply(HelloReply::Refused { .. }))));
    assert_eq!(liar.closed().await, CloseReason::Refused);
    assert_eq!(scene.count(Refusal::EndpointMismatch), 1);
    // None at all.
    let none = connect(address, client_config(&anchor(pki), None, tls::ALPN)).await.unwrap();
    assert_eq!(close_reason(&none).await, CloseReason::NoCertificate);
    assert_eq!(scene.count(Refusal::NoCertificate), 1);
    scene.end(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_trusts_another_authority_is_counted() {
    let scene = Scene::new();
    let stranger = Pki::new(&[]);
    let config = client_config(&anchor(&stranger), None, tls::ENROLL_ALPN);
    assert!(connect(scene.address(), config).await.is_err());
    let counted = async {
        while scene.count(Refusal::NotTrusted) == 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the count", counted).await;
    scene.end(&[]).await;
}

async fn renew(client: &mut Client, csr: Der) -> RenewReply {
    client.bytes(&link(&Message::RenewRequest(RenewRequest { csr }))).await;
    loop {
        match client.next().await {
            Some(Message::RenewReply(reply)) => return reply,
            Some(Message::Ack(_)) => {}
            other => panic!("an answer, found {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_renewed_over_the_live_connection_with_a_new_key() {
    let scene = Scene::new();
    let badge = scene.enrolled(1, || days_ago(20));
    let mut client = welcomed(&badge, scene.address(), Some(A)).await;
    client.record(0, host_interval()).await;
    let bad = [0x30].into_iter().collect();
    assert_eq!(renew(&mut client, bad).await, RenewReply::Refused(RenewRefusal::BadRequest));
    let key = rcgen::KeyPair::generate().unwrap();
    let reply = renew(&mut client, csr(&key)).await;
    let RenewReply::Renewed { certificate } = reply else { panic!("{reply:?}") };
    // Five at once; this is the sixth.
    for _ in 0..3 {
        assert!(matches!(renew(&mut client, csr(&key)).await, RenewReply::Renewed { .. }));
    }
    let sixth = renew(&mut client, csr(&key)).await;
    assert_eq!(sixth, RenewReply::Refused(RenewRefusal::Busy));
    // The connection goes on as it was.
    client.record(1, host_interval()).await;
    client.record(2, host_interval()).await;
    client.acked(3).await;
    let next = badge.renewed(key, &certificate);
    welcomed(&next, scene.address(), Some(A)).await;
    assert_eq!(client.closed().await, CloseReason::Replaced);
    // The one before is good until its own end.
    welcomed(&badge, scene.address(), Some(A)).await;
    scene.end(&[badge.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_certificate_is_good_for_a_renewal_within_the_grace_only() {
    let scene = Scene::new();
    let address = scene.address();
    // Issued 119 days ago for 30: expired for 89. Then 121 and 91.
    let within = scene.enrolled(1, || days_ago(119));
    let beyond = scene.enrolled(2, || days_ago(121));
    assert_eq!(refused(&beyond, address, None).await, RefuseReason::Expired);
    assert_eq!(scene.count(Refusal::Expired), 1);
    let (mut smuggler, reply) = within.greet(address, Some(A)).await;
    assert!(matches!(reply, HelloReply::RenewFirst { .. }), "{reply:?}");
    smuggler.record(0, host_interval()).await;
    assert_eq!(smuggler.closed().await, CloseReason::UnexpectedFrame);
    let (mut client, _) = within.greet(address, Some(A)).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let reply = renew(&mut client, csr(&key)).await;
    let RenewReply::Renewed { certificate } = reply else { panic!("{reply:?}") };
    assert_eq!(client.closed().await, CloseReason::Done);
    let next = within.renewed(key, &certificate);
    welcomed(&next, address, Some(A)).await;
    // The new key was shown: the expired certificate of the older one is nobody's any more.
    assert_eq!(refused(&within, address, Some(A)).await, RefuseReason::Expired);
    scene.end(&[within.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_at_once_are_noticed_and_the_first_goes_on() {
    let scene = Scene::new();
    let (address, pki) = (scene.address(), &scene.pki);
    let badge = scene.enrolled(1, clock::wall_us);
    let mut first = welcomed(&badge, address, Some(A)).await;
    assert_eq!(refused(&badge, address, Some(B)).await, RefuseReason::InUse);
    // Its transport acknowledges the probe by itself.
    let marked = async {
        while pki.registry().endpoint(badge.endpoint).unwrap().unwrap().cloned_us.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("the mark", marked).await;
    assert_eq!(refused(&badge, address, Some(B)).await, RefuseReason::Cloned);
    assert_eq!((scene.count(Refusal::InUse), scene.count(Refusal::Cloned)), (1, 1));
    first.record(0, host_interval()).await;
    loop {
        match first.next().await {
            Some(Message::Control(Control::Probe)) => {}
            Some(Message::Ack(_)) => break,
            other => panic!("an ack, found {other:?}"),
        }
    }
    let machines = pki.registry().machines(badge.endpoint).unwrap();
    assert_eq!(machines.iter().map(|it| it.boot).collect::<Vec<_>>(), [A, B]);
    assert!(machines.iter().all(|it| it.remote == "127.0.0.1"));
    scene.end(&[badge.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_in_turns_are_noticed_by_a_boot_that_comes_back() {
    let scene = Scene::new();
    let address = scene.address();
    let badge = scene.enrolled(1, clock::wall_us);
    for boot in [A, B] {
        let client = welcomed(&badge, address, Some(boot)).await;
        client.connection.close(0u32.into(), b"");
        let gone = async {
            while SqliteReader::open(scene.directory.path())
                .unwrap()
                .endpoints()
                .unwrap()
                .iter()
                .any(|it| it.connected)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently("the end of the connection", gone).await;
    }
    assert_eq!(refused(&badge, address, Some(A)).await, RefuseReason::Cloned);
    assert_eq!(scene.count(Refusal::Cloned), 1);
    welcomed(&badge, address, Some(B)).await;
    scene.end(&[badge.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_endpoint_is_refused_with_its_reason() {
    let scene = Scene::new();
    let badge = scene.enrolled(1, clock::wall_us);
    scene.pki.registry().revoke_endpoint(badge.endpoint, clock::wall_us()).unwrap();
    assert_eq!(refused(&badge, scene.address(), Some(A)).await, RefuseReason::Revoked);
    assert_eq!(scene.count(Refusal::Revoked), 1);
    scene.end(&[]).await;
}

/// The first machine's network stack stops as if the power had gone: no close, no acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn machine_that_lost_power_is_heard_again_once_its_old_connection_answers_no_probe() {
    let scene = Scene::new();
    let badge = std::sync::Arc::new(scene.enrolled(1, clock::wall_us));
    let address = scene.address();
    let (sent, first) = tokio::sync::oneshot::channel();
    let powered = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let machine = badge.clone();
    powered.spawn(async move {
        let client = welcomed(&machine, address, Some(A)).await;
        sent.send(()).unwrap();
        patiently("nothing", client.connection.closed()).await;
    });
    first.await.unwrap();
    // Its tasks stop where they are and its socket is gone; nothing is said to the collector.
    powered.shutdown_background();
    let welcome = async {
        loop {
            let (_, reply) = badge.greet(address, Some(B)).await;
            match reply {
                HelloReply::Welcome { .. } => return,
                HelloReply::Refused { reason: RefuseReason::InUse, .. } => {}
                other @ (HelloReply::Refused { .. } | HelloReply::RenewFirst { .. }) => {
                    panic!("in use or welcome, found {other:?}")
                }
            }
            // The probe takes 5 s: some ten hellos, fewer than are heard at once.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    patiently("the welcome", welcome).await;
    assert!(scene.count(Refusal::InUse) > 0, "the old connection was there");
    let known = scene.pki.registry().endpoint(badge.endpoint).unwrap().unwrap();
    assert_eq!((known.boot, known.cloned_us), (Some(B), None));
    scene.end(&[badge.endpoint]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_guesses_tokens_is_slowed_down_and_another_is_not() {
    let scene = Scene::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let guess = request(&scene.pki, TokenId([9; 8]), &key);
    let registrar = &scene.collector.registrar;
    let ask =
        |source: &str| registrar.enroll(&guess, source.parse().unwrap(), std::time::Instant::now());
    let unknown = EnrollReply::Refused(EnrollRefusal::UnknownToken);
    // Sixty at once, and one more for each second that this takes.
    let heard = (0..200).take_while(|_| ask("192.0.2.1") == unknown).count();
    assert!((60..200).contains(&heard), "{heard} were heard");
    assert_eq!(scene.count(Refusal::TooMany), 1);
    assert_eq!(ask("192.0.2.2"), unknown);
    scene.end(&[]).await;
}

/// The oldest goes, so that whoever asks for something is heard however many sit and wait.
#[tokio::test(flavor = "multi_thread")]
async fn peers_that_ask_for_nothing_hold_a_fixed_number_of_connections_and_keep_nobody_from_enrolling()
 {
    let scene = Scene::new();
    let config = client_config(&anchor(&scene.pki), None, tls::ENROLL_ALPN);
    let mut idle = Vec::new();
    // A tenth of 100 connections have a seat: 10.
    for _ in 0..10 {
        idle.push(connect(scene.address(), config.clone()).await.unwrap());
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let id = open_token(&scene.pki, 1, 3);
    for _ in 0..3 {
        let request = request(&scene.pki, id, &key);
        let reply = enroll(scene.address(), &anchor(&scene.pki), request).await;
        assert!(matches!(reply, EnrollReply::Enrolled { .. }), "{reply:?}");
    }
    // Each puts out the oldest while it asks, and leaves its own seat free for the next.
    patiently("the close of one", async {
        while idle.iter().all(|it| it.close_reason().is_none()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let closed: Vec<_> = idle.iter().filter(|it| it.close_reason().is_some()).collect();
    assert_eq!(closed.len(), 1, "the others keep their seats");
    assert_eq!(close_reason(closed[0]).await, CloseReason::HelloTimeout);
    scene.collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_endpoint_holds_one_connection() {
    let scene = Scene::new();
    let badge = scene.enrolled(1, clock::wall_us);
    let now_us = clock::wall_us();
    assert!(scene.pki.registry().revoke_endpoint(badge.endpoint, now_us).unwrap());
    // Neither opens its stream, so neither can be told.
    let first = connect(scene.address(), badge.config()).await.unwrap();
    let second = connect(scene.address(), badge.config()).await.unwrap();
    // The one that was judged first goes.
    let reason = tokio::select! {
        reason = close_reason(&first) => reason,
        reason = close_reason(&second) => reason,
    };
    assert_eq!(reason, CloseReason::Replaced);
    scene.collector.stop().await;
}
