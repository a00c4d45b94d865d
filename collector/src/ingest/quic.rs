//! QUIC, carried by quinn: only this file and those below it name it.
//!
//! Per connection one task and one bidirectional stream. What a peer can make us hold before it has shown a valid
//! certificate is bounded by `handshakes_max`; after it, by two connections per endpoint (`links`) of 64 KiB stream
//! window and one exchange. Every wait for a peer has a limit of its own. Which protocol a connection speaks is known
//! after the handshake: that of `enrolment` needs no certificate, the other one does.

mod echo;
mod ending;
mod enrolment;
mod handshake;
mod links;
mod lobby;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Incoming, RecvStream, SendStream, TransportConfig, VarInt};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::enroll::{BootId, Der, RenewRefusal, RenewReply};
use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::id::{EndpointId, RecordId};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::record::Record;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{timeout, timeout_at};

pub use self::links::Links;

use self::links::Place;
use super::certificate::{self, Identity};
use super::downlink::{Down, Downlink, Downlinks};
use super::exchange::{CloseReason, Exchange, Greeting, Report, Step};
use super::pacer::Pacer;
use super::request::EndpointClock;
use super::tls::ENROLL_ALPN;
use super::writer::{Answer, Run, WriterQueue};
use crate::fleet::live::{Arrival, Fleet, Presence};
use crate::identity::refusal::Refusal;
use crate::identity::registrar::{Admitted, Denied, Registrar};
use crate::identity::standing::Admission;
use crate::store::{self, Attach, Content, LinkTransport, Operation};

/// How long a TLS handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a peer may leave an ack unread before it is given up.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// How long the last acks and the last word may take to reach the peer.
pub const FLUSH_WAIT: Duration = Duration::from_millis(1_500);
/// Without a packet for this long a connection is dead; agents send one every 15 s.
const IDLE_WAIT: Duration = Duration::from_secs(60);
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
/// Acks are small and coalesced; this is far more than a peer ever leaves unacknowledged.
const SEND_WINDOW_BYTES: u64 = 64 * 1024;
/// Attempts that quinn keeps before we have looked at them, and the bytes that they may bring.
const INCOMING_MAX: usize = 4_096;
const INCOMING_BYTES_MAX: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL_MAX: u64 = 16 * 1024 * 1024;
/// Above this many handshakes at once, addresses must prove themselves (RFC 9000 section 8.1.2).
const RETRY_ABOVE: usize = 64;

/// How much the listener takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of endpoints at once. Some more are told `Busy`, the rest is refused unheard.
    pub connections_max: usize,
    /// Handshakes at once. More are refused unheard.
    pub handshakes_max: usize,
    /// How long a peer may take from the handshake to a whole Hello.
    pub hello_wait: Duration,
}

/// Why the listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port. Stop it, or choose another address.
    #[error("{address} (UDP) is in use: stop the other program, or set another listen.address")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address} (UDP): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The TLS configuration does not suit QUIC.
    #[error("the TLS configuration does not suit QUIC: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

/// Accepts connections of agents.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    writer: WriterQueue,
    downlinks: Downlinks,
    fleet: Arc<Fleet>,
    links: Links,
    pacer: Pacer,
    registrar: Arc<Registrar>,
    wall_us: fn() -> u64,
    handshakes: Arc<Semaphore>,
    enrolments: enrolment::Desk,
}

/// What a listener works with, besides its address and TLS.
#[derive(Debug)]
pub struct Surroundings {
    /// How much it takes on.
    pub limits: Limits,
    /// The way to the store.
    pub writer: WriterQueue,
    /// The ways down to connected endpoints.
    pub downlinks: Downlinks,
    /// What endpoints are to be set to and how they are; it uses the same ways down.
    pub fleet: Arc<Fleet>,
    /// The connections of endpoints, for whoever must end one.
    pub links: Links,
    /// How much endpoints may bring.
    pub pacer: Pacer,
    /// Who is heard.
    pub registrar: Arc<Registrar>,
    /// The collector's clock, in microseconds since 1970.
    pub wall_us: fn() -> u64,
}

impl QuicListener {
    /// Binds `address`; call it within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`] where the address or the TLS configuration cannot be used.
    pub fn bind(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        surroundings: Surroundings,
    ) -> Result<Self, ListenError> {
        let Surroundings { limits, writer, downlinks, fleet, links, pacer, registrar, wall_us } =
            surroundings;
        let crypto = QuicServerConfig::try_from(tls)
            .map_err(|error| ListenError::Tls { reason: error.to_string() })?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport()))
            .migration(true)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
        let bind = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                ListenError::InUse { address }
            } else {
                ListenError::Bind { address, source }
            }
        };
        let socket = UdpSocket::bind(address).map_err(bind)?;
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            Some(config),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .map_err(bind)?;
        let address = endpoint.local_addr().map_err(bind)?;
        let shared = Arc::new(Shared {
            limits,
            writer,
            downlinks,
            fleet,
            links,
            pacer,
            registrar,
            wall_us,
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            enrolments: enrolment::Desk::new(limits.connections_max),
        });
        Ok(Self { endpoint, address, shared })
    }

    /// The address in use, with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` turns true, then lets every connection flush and returns within about two seconds.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                Some(_) = tasks.join_next() => continue,
                _ = shutdown.wait_for(|is_over| *is_over) => None,
            };
            match incoming {
                Some(incoming) => self.admit(incoming, &mut tasks, &shutdown),
                None => break,
            }
        }
        let flushed = timeout(FLUSH_WAIT, async { while tasks.join_next().await.is_some() {} });
        if flushed.await.is_err() {
            tracing::debug!(connections = tasks.len(), "connections did not flush in time");
        }
        self.endpoint.close(code(CloseReason::GoingAway), b"going away");
        let _ = timeout(Duration::from_millis(300), self.endpoint.wait_idle()).await;
    }

    /// Decides, before any cryptography, what becomes of an attempt.
    fn admit(&self, incoming: Incoming, tasks: &mut JoinSet<()>, shutdown: &watch::Receiver<bool>) {
        let Limits { connections_max, handshakes_max, .. } = self.shared.limits;
        // A tenth more than the limit are heard far enough to be told `Busy`.
        if tasks.len() > connections_max + connections_max / 10 {
            incoming.refuse();
            return;
        }
        let handshakes = handshakes_max - self.shared.handshakes.available_permits();
        if handshakes >= RETRY_ABOVE.min(handshakes_max / 2) && incoming.may_retry() {
            // Only an attempt that was validated already cannot be asked to retry.
            let _ = incoming.retry();
            return;
        }
        let Ok(permit) = self.shared.handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            return;
        };
        let is_busy = tasks.len() >= connections_max;
        tasks.spawn(attempt(self.shared.clone(), incoming, permit, shutdown.clone(), is_busy));
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(echo::BUFFER_BYTES))
        .datagram_send_buffer_size(echo::BUFFER_BYTES)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(
            quinn::IdleTimeout::try_from(IDLE_WAIT).expect("60 s is below the limit of 2^62 ms"),
        ));
    transport
}

/// One connection from its first packet to its end.
async fn attempt(
    shared: Arc<Shared>,
    incoming: Incoming,
    permit: OwnedSemaphorePermit,
    shutdown: watch::Receiver<bool>,
    is_busy: bool,
) {
    let remote = incoming.remote_address();
    let connection = match incoming.accept() {
        Ok(connecting) => match timeout(HANDSHAKE_WAIT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "handshake failed");
                shared.count_handshake(&error);
                return;
            }
            Err(_) => {
                tracing::debug!(%remote, "handshake took too long");
                shared.registrar.refusals().add(Refusal::HandshakeFailed);
                return;
            }
        },
        Err(error) => {
            tracing::debug!(%remote, %error, "attempt was not accepted");
            return;
        }
    };
    drop(permit);
    let hello_until = Instant::now() + shared.limits.hello_wait;
    if protocol(&connection).is_some_and(|protocol| protocol == ENROLL_ALPN) {
        return enrolment::serve(&shared.registrar, &shared.enrolments, connection, hello_until)
            .await;
    }
    let identity = match peer(&connection) {
        Ok(identity) => identity,
        Err((refusal, reason)) => {
            shared.registrar.refusals().add(refusal);
            close(&connection, reason);
            return;
        }
    };
    let newcomer = Newcomer { identity, connection, hello_until, is_busy };
    let Some((endpoint, boot)) = serve_endpoint(&shared, newcomer, shutdown).await else { return };
    // Refused because another machine is connected: is it?
    if shared.is_alive(endpoint).await {
        let registrar = shared.registrar.clone();
        let _ = blocking(move || registrar.mark_cloned(endpoint, boot, remote)).await;
    }
}

/// A connection whose certificate names an endpoint.
struct Newcomer {
    identity: Identity,
    connection: Connection,
    hello_until: Instant,
    is_busy: bool,
}

/// Serves an endpoint; returns it with its boot id where it was refused for another machine that is connected.
async fn serve_endpoint(
    shared: &Arc<Shared>,
    newcomer: Newcomer,
    shutdown: watch::Receiver<bool>,
) -> Option<(EndpointId, BootId)> {
    let Newcomer { mut identity, connection, hello_until, is_busy } = newcomer;
    let endpoint = identity.endpoint;
    let admitted = if is_busy {
        Err((RefuseReason::Busy, "the collector has no room now, come back later"))
    } else {
        shared.admit(&identity).await.map_err(Denied::told)
    };
    let (mut site, mut turned_away) = (String::new(), None);
    let (exchange, place, admission) = match admitted {
        Ok(Admitted { admission, name, site: of_registry }) => {
            (identity.name, site) = (name, of_registry);
            let place = shared.links.wait(endpoint, &connection);
            (Exchange::new(endpoint, hello_until), Some(place), admission)
        }
        Err(told) => {
            turned_away = Some(shared.links.turn_away(endpoint, &connection));
            (Exchange::refusing(endpoint, hello_until, told), None, Admission::RenewOnly)
        }
    };
    let stream = timeout_at(hello_until.into(), connection.accept_bi());
    let (mut in_use, mut refused) = (None, None);
    let reason = match stream.await {
        Ok(Ok((sender, receiver))) => {
            let mut task = Link {
                shared,
                identity: &identity,
                site,
                connection: &connection,
                place: place.as_ref(),
                admission,
                exchange,
                sender,
                receiver,
                run: Run::default(),
                clock: None,
                downlink: None,
                arrival: None,
                presence: None,
                greeting: None,
                renewal: None,
                commits: VecDeque::new(),
                in_use: None,
            };
            let reason = echo::beside(&connection, pin!(task.run(shutdown))).await;
            refused = task.exchange.refused();
            in_use = task.in_use;
            reason
        }
        Ok(Err(_)) => {
            let place = place.as_ref().or(turned_away.as_ref());
            place.and_then(Place::ended).unwrap_or(CloseReason::Done)
        }
        Err(_) => CloseReason::HelloTimeout,
    };
    if reason == CloseReason::BadFrame {
        shared.registrar.refusals().add(Refusal::Garbage);
    }
    if refused == Some(RefuseReason::EndpointMismatch) {
        shared.registrar.refusals().add(Refusal::EndpointMismatch);
    }
    close(&connection, reason);
    shared.links.tell_end(endpoint, reason, refused);
    if place.is_some_and(Place::leave)
        && let Ok(slot) = shared.writer.reserve().await
    {
        // Whether it was stored is of no interest: the next start marks every endpoint as gone.
        let _ = slot.submit(vec![Operation::Detach { endpoint }], &Run::default()).await;
    }
    in_use.map(|boot| (endpoint, boot))
}

/// The protocol that was agreed on.
fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Reads the endpoint off the certificate that TLS has verified.
fn peer(connection: &Connection) -> Result<Identity, (Refusal, CloseReason)> {
    let chain = connection
        .peer_identity()
        .and_then(|it| it.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or((Refusal::NoCertificate, CloseReason::NoCertificate))?;
    certificate::identity(leaf).map_err(|_| (Refusal::NoEndpoint, CloseReason::NoEndpoint))
}

/// How long a connection may take to show that somebody lives behind it: a QUIC stack repeats a lost probe after
/// three round trips and on, so five seconds are many tries.
const PROBE_WAIT: Duration = Duration::from_secs(5);
/// How often to look whether it did.
const PROBE_LOOK: Duration = Duration::from_millis(50);

impl Shared {
    async fn admit(&self, identity: &Identity) -> Result<Admitted, Denied> {
        let (registrar, identity) = (self.registrar.clone(), identity.clone());
        blocking(move || registrar.admit(&identity)).await.unwrap_or(Err(Denied::Unavailable))
    }

    /// Whether somebody lives behind the connection that an endpoint has; one that does not answer is closed.
    async fn is_alive(&self, endpoint: EndpointId) -> bool {
        let Some(probed) = self.links.probe(endpoint) else { return false };
        self.downlinks.probe(endpoint);
        let answered = timeout(PROBE_WAIT, async {
            while !probed.has_answered() && !probed.is_gone() {
                tokio::time::sleep(PROBE_LOOK).await;
            }
            probed.has_answered()
        });
        let Ok(is_alive) = answered.await else {
            probed.close();
            return false;
        };
        is_alive
    }
}

/// Runs what waits for a disk where that holds up nobody; `None` where it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// The stream of one connection and what is under way for it.
struct Link<'a> {
    shared: &'a Shared,
    identity: &'a Identity,
    /// By the registry; empty for none.
    site: String,
    connection: &'a Connection,
    /// Unless it is refused.
    place: Option<&'a Place>,
    admission: Admission,
    exchange: Exchange,
    sender: SendStream,
    receiver: RecvStream,
    run: Run,
    /// From the Hello.
    clock: Option<EndpointClock>,
    /// From the Welcome until a newer connection takes it over.
    downlink: Option<Downlink>,
    /// From the Hello until the Welcome.
    arrival: Option<Arrival>,
    /// From the Welcome, where there is a fleet.
    presence: Option<Presence>,
    greeting: Option<oneshot::Receiver<Answer>>,
    renewal: Option<JoinHandle<Box<RenewReply>>>,
    /// The boot id of an agent that was refused for another machine that is connected.
    in_use: Option<BootId>,
    /// Oldest first; at most [`super::exchange::SUBMITTED_MAX`].
    commits: VecDeque<Commit>,
}

/// A batch on its way to the disk.
struct Commit {
    answer: oneshot::Receiver<Answer>,
    /// The self-tests on request in it, and when each ended by the endpoint's clock since boot, in microseconds.
    self_tests: Vec<(RecordId, u64)>,
}

impl Link<'_> {
    async fn run(&mut self, mut shutdown: watch::Receiver<bool>) -> CloseReason {
        let reason = match self.serve(&mut shutdown).await {
            Ok(reason) | Err(reason) => reason,
        };
        if reason == CloseReason::GoingAway {
            self.exchange.handle_shutdown();
        }
        let is_cut =
            matches!(reason, CloseReason::Replaced | CloseReason::Revoked | CloseReason::NoAnswer);
        if !is_cut {
            // What was taken is still acked, and the last word is still heard, within limits.
            let _ = timeout(FLUSH_WAIT, self.flush()).await;
        }
        reason
    }

    /// Moves bytes until the connection ends. `Ok` and `Err` both end it; `Err` is where it broke.
    async fn serve(
        &mut self,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<CloseReason, CloseReason> {
        loop {
            loop {
                // A place in the queue comes before the decoding of a batch: that bounds memory.
                let slot = if self.exchange.may_submit() {
                    let closed = || self.connection.closed();
                    Some(tokio::select! {
                        // In this order: a connection that was replaced hands nothing over behind its successor's
                        // Hello.
                        biased;
                        error = closed() => return Err(self.ended(&error)),
                        slot = self.shared.writer.reserve() => {
                            slot.map_err(|_| CloseReason::StoreUnavailable)?
                        }
                    })
                } else {
                    None
                };
                match (self.exchange.poll_step(), slot) {
                    (Step::Submit(batch), Some(slot)) => {
                        let self_tests = batch.iter().filter_map(requested_self_test).collect();
                        let operations = batch.into_iter().map(Operation::Record).collect();
                        let answer = slot.submit(operations, &self.run);
                        self.commits.push_back(Commit { answer, self_tests });
                        self.pace();
                    }
                    (Step::Submit(_), None) => unreachable!("`may_submit` comes before `Submit`"),
                    (Step::Greet(greeting), _) => self.greet(greeting).await?,
                    (Step::Renew(csr), _) => self.renewal = Some(self.renew(csr)),
                    (Step::Keep(report), _) => self.keep(report),
                    (Step::Close(reason), _) => return Ok(reason),
                    (Step::Wait, _) => break,
                }
            }
            self.transmit().await?;
            let room = self.exchange.room();
            let deadline = self.exchange.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                chunk = self.receiver.read_chunk(room, true), if room > 0 => match chunk {
                    Ok(Some(chunk)) => self.exchange.handle_bytes(&chunk.bytes),
                    Ok(None) => return Ok(CloseReason::Done),
                    Err(quinn::ReadError::ConnectionLost(error)) => return Err(self.ended(&error)),
                    Err(_) => return Err(CloseReason::Done),
                },
                answer = oldest(&mut self.commits), if !self.commits.is_empty() => {
                    let commit = self.commits.pop_front();
                    self.exchange.handle_commit(acks(answer)?);
                    commit.into_iter().for_each(|it| self.tell_self_tests(&it.self_tests));
                }
                down = next_down(&mut self.downlink),
                    if self.downlink.is_some() && self.exchange.takes_control() =>
                {
                    match down {
                        Some(Down::Control(control)) => self.exchange.handle_control(control),
                        Some(Down::Configuration(it)) => self.exchange.handle_configuration(it),
                        None => self.downlink = None,
                    }
                }
                answer = greeted(&mut self.greeting), if self.greeting.is_some() => {
                    self.greeting = None;
                    self.welcome(answer)?;
                }
                reply = renewed(&mut self.renewal), if self.renewal.is_some() => {
                    self.renewal = None;
                    self.exchange.handle_renewed(reply);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()),
                    if deadline.is_some() =>
                {
                    if let Step::Close(reason) = self.exchange.handle_timeout(Instant::now()) {
                        return Ok(reason);
                    }
                }
                error = self.connection.closed() => return Err(self.ended(&error)),
                _ = shutdown.wait_for(|is_over| *is_over) => return Ok(CloseReason::GoingAway),
            }
        }
    }

    async fn greet(&mut self, greeting: Greeting) -> Result<(), CloseReason> {
        let remote = self.connection.remote_address();
        let endpoint = self.identity.endpoint;
        self.clock = Some(EndpointClock { uptime_us: greeting.uptime_us, at: Instant::now() });
        tracing::debug!(%endpoint, name = ?self.identity.name, %remote, "hello");
        let Some(place) = self.place else { return Err(CloseReason::Refused) };
        let live = self.shared.links.live(endpoint);
        let (registrar, identity) = (self.shared.registrar.clone(), self.identity.clone());
        let fleet = self.shared.fleet.clone();
        let judged = blocking(move || {
            registrar.greet(&identity, greeting.boot, remote, live, Instant::now())?;
            Ok(fleet.recall(endpoint))
        });
        let reported = match judged.await.unwrap_or(Err(Denied::Unavailable)) {
            Ok(reported) => reported,
            Err(denied) => {
                if denied == Denied::Refused(Refusal::InUse) {
                    self.in_use = greeting.boot;
                }
                self.exchange.handle_refusal(denied.told());
                return Ok(());
            }
        };
        if self.admission == Admission::RenewOnly {
            let until = Instant::now() + self.shared.limits.hello_wait;
            self.exchange.handle_renew_first((self.shared.wall_us)(), until);
            return Ok(());
        }
        place.promote(greeting.boot);
        // Revoked since it was judged: whoever revokes looks at connections first, and then this does.
        if self.shared.registrar.is_revoked(endpoint) {
            return Err(CloseReason::Revoked);
        }
        let (name, agent_version) = (self.identity.name.clone(), greeting.agent_version);
        let site = std::mem::take(&mut self.site);
        let arrival = Arrival {
            endpoint,
            name: name.clone(),
            site,
            agent_version: agent_version.clone(),
            reported,
        };
        self.arrival = Some(arrival);
        let attach = Attach {
            endpoint,
            name,
            agent_version,
            transport: LinkTransport::Quic,
            remote,
            epoch: greeting.epoch,
        };
        let slot = self.shared.writer.reserve().await.map_err(|_| CloseReason::StoreUnavailable)?;
        self.greeting = Some(slot.submit(vec![Operation::Attach(attach)], &self.run));
        Ok(())
    }

    fn welcome(&mut self, answer: Option<Answer>) -> Result<(), CloseReason> {
        let next = acks(answer)?.next().ok_or(CloseReason::StoreUnavailable)?.next;
        self.exchange.handle_welcome(next, (self.shared.wall_us)());
        self.pace();
        let connect = |clock| self.shared.downlinks.connect(self.identity.endpoint, clock);
        self.downlink = self.clock.map(connect);
        let arrival = self.arrival.take();
        self.presence = arrival.and_then(|it| self.shared.fleet.connect(it, Instant::now()));
        Ok(())
    }

    fn pace(&mut self) {
        let bytes = self.exchange.take_taken_bytes();
        self.exchange.handle_hold(self.shared.pacer.take(self.identity.endpoint, bytes));
    }

    fn keep(&self, report: Report) {
        let Some(presence) = &self.presence else { return };
        match report {
            Report::Health(health) => presence.handle_health(*health, Instant::now()),
            Report::Effective(effective) => presence.handle_effective(*effective, Instant::now()),
        }
    }

    fn renew(&self, csr: Box<Der>) -> JoinHandle<Box<RenewReply>> {
        let (registrar, endpoint) = (self.shared.registrar.clone(), self.identity.endpoint);
        tokio::task::spawn_blocking(move || {
            Box::new(registrar.renew(endpoint, &csr, Instant::now()))
        })
    }

    /// Why a connection was lost, as far as we did it ourselves.
    fn ended(&self, error: &quinn::ConnectionError) -> CloseReason {
        match error {
            // Only `links` closes a connection beside its own task, and keeps why.
            quinn::ConnectionError::LocallyClosed => {
                self.place.and_then(Place::ended).unwrap_or(CloseReason::Replaced)
            }
            quinn::ConnectionError::VersionMismatch
            | quinn::ConnectionError::TransportError(_)
            | quinn::ConnectionError::ConnectionClosed(_)
            | quinn::ConnectionError::ApplicationClosed(_)
            | quinn::ConnectionError::Reset
            | quinn::ConnectionError::TimedOut
            | quinn::ConnectionError::CidsExhausted => CloseReason::Done,
        }
    }

    /// Tells those who asked for self-tests of the ones that are on disk now.
    fn tell_self_tests(&self, self_tests: &[(RecordId, u64)]) {
        for &(by, ended_us) in self_tests {
            self.shared.downlinks.handle_self_test(self.identity.endpoint, by, ended_us);
        }
    }

    async fn transmit(&mut self) -> Result<(), CloseReason> {
        while let Some(frame) = next_frame(&mut self.exchange) {
            match timeout(WRITE_WAIT, self.sender.write_all(&frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(CloseReason::Done),
                Err(_) => return Err(CloseReason::NotReading),
            }
        }
        Ok(())
    }

    /// Waits for what is under way, tells the peer, and waits until it has heard.
    async fn flush(&mut self) {
        while let Some(commit) = self.commits.pop_front() {
            let Commit { answer, self_tests } = commit;
            if let Ok(acks) = acks(answer.await.ok()) {
                self.exchange.handle_commit(acks);
                self.tell_self_tests(&self_tests);
            }
        }
        if self.transmit().await.is_ok() && self.sender.finish().is_ok() {
            let _ = self.sender.stopped().await;
        }
    }
}

/// Encodes apart from any `await`, so that no task holds a frame's buffer while it sleeps.
fn next_frame(exchange: &mut Exchange) -> Option<Vec<u8>> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    exchange.poll_transmit(&mut buffer).map(|length| buffer[..length].to_vec())
}

async fn oldest(commits: &mut VecDeque<Commit>) -> Option<Answer> {
    (&mut commits.front_mut()?.answer).await.ok()
}

async fn next_down(downlink: &mut Option<Downlink>) -> Option<Down> {
    downlink.as_mut()?.next().await
}

/// The id of a record that tells of a self-test on request, and when that ended.
fn requested_self_test(incoming: &store::Incoming) -> Option<(RecordId, u64)> {
    let Content::Known(record) = &incoming.content else { return None };
    let Record::SelfTest(test) = &**record else { return None };
    test.requested.then_some((incoming.id, test.ended.uptime_us))
}

async fn renewed(renewal: &mut Option<JoinHandle<Box<RenewReply>>>) -> Box<RenewReply> {
    let busy = || Box::new(RenewReply::Refused(RenewRefusal::Busy));
    match renewal {
        Some(working) => working.await.unwrap_or_else(|_| busy()),
        None => busy(),
    }
}

async fn greeted(greeting: &mut Option<oneshot::Receiver<Answer>>) -> Option<Answer> {
    greeting.as_mut()?.await.ok()
}

/// The acks of an answer; without an answer the store has gone.
fn acks(answer: Option<Answer>) -> Result<impl Iterator<Item = Ack>, CloseReason> {
    match answer {
        Some(Ok(answers)) => Ok(answers.into_iter().flatten()),
        Some(Err(_)) | None => Err(CloseReason::StoreUnavailable),
    }
}

fn close(connection: &Connection, reason: CloseReason) {
    connection.close(code(reason), reason.to_string().as_bytes());
}

fn code(reason: CloseReason) -> VarInt {
    VarInt::from_u32(reason as u32)
}
