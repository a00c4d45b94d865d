//! QUIC, carried by quinn: the only file that names it.
//!
//! Per connection one task and one bidirectional stream. What a peer can make us hold before it has shown a valid
//! certificate is bounded by `handshakes_max`; after it, by one connection per endpoint (a newer one replaces the
//! older) of 64 KiB stream window and one exchange. Every wait for a peer has a limit of its own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Incoming, RecvStream, SendStream, TransportConfig, VarInt};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::control::Control;
use roomtone_protocol::id::{EndpointId, RecordId};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::record::Record;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::certificate::{self, Identity};
use super::downlink::{Downlink, Downlinks};
use super::exchange::{CloseReason, Exchange, Greeting, Step};
use super::request::EndpointClock;
use super::writer::{Answer, Run, WriterQueue};
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
    wall_us: fn() -> u64,
    handshakes: Arc<Semaphore>,
    links: Mutex<HashMap<EndpointId, Current>>,
    link_numbers: AtomicU64,
}

/// The connection that an endpoint has now.
#[derive(Debug)]
struct Current {
    link: u64,
    connection: Connection,
}

impl QuicListener {
    /// Binds `address`; call it within a tokio runtime. Connected endpoints are reached by `downlinks`.
    ///
    /// # Errors
    /// [`ListenError`] where the address or the TLS configuration cannot be used.
    pub fn bind(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        limits: Limits,
        writer: WriterQueue,
        downlinks: Downlinks,
        wall_us: fn() -> u64,
    ) -> Result<Self, ListenError> {
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
            wall_us,
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            links: Mutex::default(),
            link_numbers: AtomicU64::new(0),
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
        .datagram_receive_buffer_size(None)
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
                return;
            }
            Err(_) => {
                tracing::debug!(%remote, "handshake took too long");
                return;
            }
        },
        Err(error) => {
            tracing::debug!(%remote, %error, "attempt was not accepted");
            return;
        }
    };
    drop(permit);
    let identity = match peer(&connection) {
        Ok(identity) => identity,
        Err(error) => {
            tracing::warn!(%error, "closed a connection");
            close(&connection, CloseReason::NoEndpoint);
            return;
        }
    };
    let hello_until = Instant::now() + shared.limits.hello_wait;
    let exchange = if is_busy {
        Exchange::refusing_busy(identity.endpoint, hello_until)
    } else {
        Exchange::new(identity.endpoint, hello_until)
    };
    // The newer connection is the live one: the older may be a path that died.
    let link = (!is_busy).then(|| shared.register(&identity, &connection));
    let stream = timeout_at(hello_until.into(), connection.accept_bi());
    let reason = match stream.await {
        Ok(Ok((sender, receiver))) => {
            let mut task = Link {
                shared: &shared,
                identity: &identity,
                connection: &connection,
                exchange,
                sender,
                receiver,
                run: Run::default(),
                clock: None,
                downlink: None,
                greeting: None,
                commits: VecDeque::new(),
            };
            task.run(shutdown).await
        }
        Ok(Err(_)) => CloseReason::Done,
        Err(_) => CloseReason::HelloTimeout,
    };
    close(&connection, reason);
    let endpoint = identity.endpoint;
    if matches!(reason, CloseReason::Done | CloseReason::GoingAway | CloseReason::Replaced) {
        tracing::debug!(%endpoint, %reason, "connection ended");
    } else {
        tracing::warn!(%endpoint, %reason, "closed a connection");
    }
    if link.is_some_and(|link| shared.unregister(endpoint, link))
        && let Ok(slot) = shared.writer.reserve().await
    {
        // Whether it was stored is of no interest: the next start marks every endpoint as gone.
        let _ = slot.submit(vec![Operation::Detach { endpoint }], &Run::default()).await;
    }
}

/// Reads the endpoint off the certificate that TLS has verified.
fn peer(connection: &Connection) -> Result<Identity, certificate::IdentityError> {
    let chain = connection
        .peer_identity()
        .and_then(|it| it.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok())
        .ok_or(certificate::IdentityError::Malformed)?;
    certificate::identity(chain.first().ok_or(certificate::IdentityError::Malformed)?)
}

impl Shared {
    /// Makes a connection its endpoint's current one and returns its number.
    fn register(&self, identity: &Identity, connection: &Connection) -> u64 {
        let link = self.link_numbers.fetch_add(1, Ordering::Relaxed);
        let current = Current { link, connection: connection.clone() };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = links.insert(identity.endpoint, current) {
            tracing::info!(endpoint = %identity.endpoint, "a newer connection replaces the older");
            close(&older.connection, CloseReason::Replaced);
        }
        link
    }

    /// Forgets a connection; whether it was still its endpoint's current one.
    fn unregister(&self, endpoint: EndpointId, link: u64) -> bool {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = links.get(&endpoint).is_some_and(|current| current.link == link);
        if is_current {
            links.remove(&endpoint);
        }
        is_current
    }
}

/// The stream of one connection and what is under way for it.
struct Link<'a> {
    shared: &'a Shared,
    identity: &'a Identity,
    connection: &'a Connection,
    exchange: Exchange,
    sender: SendStream,
    receiver: RecvStream,
    run: Run,
    /// From the Hello.
    clock: Option<EndpointClock>,
    /// From the Welcome until a newer connection takes it over.
    downlink: Option<Downlink>,
    greeting: Option<oneshot::Receiver<Answer>>,
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
        if reason != CloseReason::Replaced {
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
                        error = closed() => return Err(ended(&error)),
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
                    }
                    (Step::Submit(_), None) => unreachable!("`may_submit` comes before `Submit`"),
                    (Step::Greet(greeting), _) => self.greet(greeting).await?,
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
                    Err(quinn::ReadError::ConnectionLost(error)) => return Err(ended(&error)),
                    Err(_) => return Err(CloseReason::Done),
                },
                answer = oldest(&mut self.commits), if !self.commits.is_empty() => {
                    let commit = self.commits.pop_front();
                    self.exchange.handle_commit(acks(answer)?);
                    commit.into_iter().for_each(|it| self.tell_self_tests(&it.self_tests));
                }
                control = next_control(&mut self.downlink),
                    if self.downlink.is_some() && self.exchange.takes_control() =>
                {
                    match control {
                        Some(control) => self.exchange.handle_control(control),
                        None => self.downlink = None,
                    }
                }
                answer = greeted(&mut self.greeting), if self.greeting.is_some() => {
                    self.greeting = None;
                    self.welcome(answer)?;
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()),
                    if deadline.is_some() =>
                {
                    if let Step::Close(reason) = self.exchange.handle_timeout(Instant::now()) {
                        return Ok(reason);
                    }
                }
                error = self.connection.closed() => return Err(ended(&error)),
                _ = shutdown.wait_for(|is_over| *is_over) => return Ok(CloseReason::GoingAway),
            }
        }
    }

    async fn greet(&mut self, greeting: Greeting) -> Result<(), CloseReason> {
        let remote = self.connection.remote_address();
        let endpoint = self.identity.endpoint;
        self.clock = Some(EndpointClock { uptime_us: greeting.uptime_us, at: Instant::now() });
        tracing::debug!(%endpoint, name = ?self.identity.name, %remote, "hello");
        let attach = Attach {
            endpoint,
            name: self.identity.name.clone(),
            agent_version: greeting.agent_version,
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
        let connect = |clock| self.shared.downlinks.connect(self.identity.endpoint, clock);
        self.downlink = self.clock.map(connect);
        Ok(())
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

async fn next_control(downlink: &mut Option<Downlink>) -> Option<Control> {
    downlink.as_mut()?.next().await
}

/// The id of a record that tells of a self-test on request, and when that ended.
fn requested_self_test(incoming: &store::Incoming) -> Option<(RecordId, u64)> {
    let Content::Known(record) = &incoming.content else { return None };
    let Record::SelfTest(test) = &**record else { return None };
    test.requested.then_some((incoming.id, test.ended.uptime_us))
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

/// Why a connection was lost, as far as we did it ourselves.
fn ended(error: &quinn::ConnectionError) -> CloseReason {
    match error {
        // Only `register` closes a connection beside its own task.
        quinn::ConnectionError::LocallyClosed => CloseReason::Replaced,
        quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::CidsExhausted => CloseReason::Done,
    }
}

fn close(connection: &Connection, reason: CloseReason) {
    connection.close(code(reason), reason.to_string().as_bytes());
}

fn code(reason: CloseReason) -> VarInt {
    VarInt::from_u32(reason as u32)
}
