//! The uplink: carries the spool's records to the collector and its acks back.
//!
//! [`exchange`] decides, [`quic`] carries, [`Uplink::run`] joins them with the spool on the agent's one tokio thread.
//! It wakes for new records, for bytes from the collector, for a keep-alive every 15 s, for the exchange's deadlines,
//! and every 30 s to see whether another identity was put in force, as by `enroll --force`: then it connects with that
//! one.
//!
//! A certificate that was renewed is used at once: the connection that brought it is left in order and the next one
//! made with the new key. So the collector knows that the answer arrived, the certificate before is not renewable any
//! more, and whether the new one works shows while the agent is there to say so. Records wait on disk for that moment.
//!
//! Bounds: one read of the spool waiting to be sent, 4 KiB of bytes from the collector, the exchange's window.

pub mod cause;
pub mod exchange;
pub mod quic;

pub(crate) mod backoff;
mod event;
mod inbox;
mod limits;
mod renewing;
mod window;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::{Configuration, EffectiveConfiguration};
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::RenewReply;
use roomtone_protocol::health::Health;
use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::time::Stamp;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::Moment;
use crate::clock::system;
use crate::config::{Collector, Identity};
use crate::identity::seen::Seen;
use crate::identity::trusted_time::TrustedTime;
use cause::Cause;
use exchange::{Event, Exchange, Held, Limits, NoRenewal, Position};
use quic::{Connector, Line, Link, LinkError};
use renewing::Renewing;

/// What the uplink needs of the spool.
pub trait Backlog {
    /// Why the spool could not serve.
    type Error: fmt::Display;

    /// The next record that will be written.
    fn position(&self) -> Position;

    /// The oldest record that is held, or the next that will be written.
    fn oldest(&self) -> Position;

    /// Appends whole frames from `from` on to `buffer`, at most `bytes_max` bytes, and returns the position behind
    /// them. Where it returns `from` there is nothing more until the next notification. Records that are gone are
    /// passed over; behind an epoch's last record comes the next epoch's first.
    ///
    /// # Errors
    /// Where the disk does not answer; the buffer is left as it was.
    fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, Self::Error>;

    /// Takes note that records need not be kept any more. What it says may be known already.
    ///
    /// # Errors
    /// Where the disk does not take the note; the records will be sent again. Where the ack reaches beyond what was
    /// ever written in the epoch being written: nothing is forgotten, and a new epoch begins.
    fn acknowledge(&mut self, ack: Ack) -> Result<(), Self::Error>;
}

/// For a spool whose writer lives on the same thread as the uplink.
impl<B: Backlog> Backlog for Rc<RefCell<B>> {
    type Error = B::Error;

    fn position(&self) -> Position {
        self.borrow().position()
    }

    fn oldest(&self) -> Position {
        self.borrow().oldest()
    }

    fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, Self::Error> {
        self.borrow_mut().read(from, buffer, bytes_max)
    }

    fn acknowledge(&mut self, ack: Ack) -> Result<(), Self::Error> {
        self.borrow_mut().acknowledge(ack)
    }
}

/// Where to, as whom, and within which bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector.
    pub collector: Collector,
    /// This endpoint.
    pub identity: Identity,
    /// Bounds of the exchange.
    pub limits: Limits,
    /// How long one address of the collector may take to complete a handshake.
    pub attempt_timeout: Duration,
    /// How often the identity's files are looked at.
    pub look_every: Duration,
}

impl Settings {
    /// The default bounds; 5 s for a handshake are ten round trips to a geostationary satellite. Whoever enrols a room
    /// anew waits half a minute at most; three calls of stat(2) in that time cost nothing.
    #[must_use]
    pub fn new(collector: Collector, identity: Identity) -> Self {
        let attempt_timeout = Duration::from_secs(5);
        let look_every = Duration::from_secs(30);
        Self { collector, identity, limits: Limits::default(), attempt_timeout, look_every }
    }
}

/// The state of the link, for logs and for `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Since when the collector takes records; `None` while it does not.
    pub connected_since: Option<Stamp>,
    /// What carries the link, `quic`; empty before the first connection.
    pub transport: &'static str,
    /// Why the last connection ended or did not come to be; `None` before the first failure.
    pub last_error: Option<String>,
    /// Why the collector does not hear this endpoint, where only a person can help; `None` again once it takes
    /// records.
    pub refused: Option<RefuseReason>,
    /// The last ack handed to the spool.
    pub acked: Option<Ack>,
    /// The collector claimed records that the spool never wrote, as after a restored disk image. `None` again once it
    /// takes records.
    pub collector_ahead: Option<Ack>,
}

/// What the agent says of itself, now.
#[derive(Debug)]
pub enum Word {
    /// What it is set to.
    Effective(Box<EffectiveConfiguration>),
    /// How it is.
    Health(Box<Health>),
}

/// The way for what is neither a record nor a request.
#[derive(Debug)]
struct Talk {
    words: mpsc::Receiver<Word>,
    configurations: watch::Sender<Option<Configuration>>,
}

/// The task that keeps the link.
pub struct Uplink<B, C> {
    connector: Rc<Connector>,
    exchange: Exchange,
    renewing: Renewing,
    /// The SHA-256 of the certificate that the last connection was made with.
    in_use: Option<[u8; 32]>,
    /// The identity's files when they were read last.
    seen: Seen,
    look_every: Duration,
    look_at: Moment,
    backlog: B,
    appended: Arc<Notify>,
    requests: mpsc::Sender<Control>,
    talk: Option<Talk>,
    /// Where the connection is lent to whoever probes the path.
    lines: Option<watch::Sender<Option<Line>>>,
    status: watch::Sender<LinkStatus>,
    clock: C,
    transport: Transport,
    /// Whether this connection's log has a line about requests that nobody served.
    unserved_told: bool,
    /// Bytes to send, of which the first `sent` are gone.
    outbox: Vec<u8>,
    sent: usize,
}

enum Transport {
    Down,
    Connecting(Pin<Box<dyn Future<Output = Result<Link, LinkError>>>>),
    Up(Link),
}

/// What a wait ended with.
enum Input {
    Connected(Result<Link, LinkError>),
    Received(Result<usize, LinkError>),
    Sent(Result<usize, LinkError>),
    Appended,
    Said(Word),
    Due,
    Shutdown,
}

impl<B: Backlog, C: Fn() -> Stamp> Uplink<B, C> {
    /// Prepares the link; nothing is sent before [`run`](Self::run).
    ///
    /// `appended` is notified whenever the backlog has more to read, from any thread; `requests` takes what the
    /// collector asks for; `clock` reads both clocks of the endpoint.
    ///
    /// # Errors
    /// Where the identity's files are unusable, see [`Connector::new`].
    pub fn new(
        settings: Settings,
        backlog: B,
        appended: Arc<Notify>,
        requests: mpsc::Sender<Control>,
        clock: C,
    ) -> Result<(Self, watch::Receiver<LinkStatus>), LinkError> {
        let Settings { collector, identity, limits, attempt_timeout, look_every } = settings;
        let (renewing, seen) = (Renewing::new(&identity), Seen::look(&identity));
        let connector = Connector::new(collector, identity, attempt_timeout)?;
        let now = moment(clock());
        let exchange =
            Exchange::new(connector.bearer()?.endpoint, limits, now).of_boot(system::boot_id());
        let (status, watcher) = watch::channel(LinkStatus::default());
        let uplink = Self {
            connector: Rc::new(connector),
            exchange,
            renewing,
            in_use: None,
            seen,
            look_every,
            look_at: now + look_every,
            backlog,
            appended,
            requests,
            talk: None,
            lines: None,
            status,
            clock,
            transport: Transport::Down,
            unserved_told: false,
            outbox: Vec::new(),
            sent: 0,
        };
        Ok((uplink, watcher))
    }

    /// The same link for an agent that says how it is, and that a collector may set: of configurations the latest
    /// waits.
    #[must_use]
    pub fn with_talk(
        self,
        words: mpsc::Receiver<Word>,
        configurations: watch::Sender<Option<Configuration>>,
    ) -> Self {
        Self { talk: Some(Talk { words, configurations }), ..self }
    }

    /// The same link for an agent that probes the path: `lines` has the connection while the collector takes records.
    #[must_use]
    pub fn with_probing(self, lines: watch::Sender<Option<Line>>) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// Keeps the link until `shutdown` resolves, then sends what the backlog still has, within the flush time-out.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut stopping = false;
        let mut received = vec![0; RECEIVE_BYTES];
        let appended = Arc::clone(&self.appended);
        loop {
            loop {
                // Before each event and behind the last: acting on one may have brought bytes to send.
                self.refill();
                let Some(event) = self.exchange.poll_event() else { break };
                self.act(event).await;
            }
            if self.exchange.is_finished() {
                break;
            }
            let due = [self.exchange.poll_timeout(), self.renewing.core.poll_timeout()];
            let due = due.into_iter().flatten().map(|(at, _)| at).fold(self.look_at, Moment::min);
            let due = due.since(self.now());
            let input = tokio::select! {
                // In this order: a collector that never stops talking must not starve a deadline.
                biased;
                () = &mut shutdown, if !stopping => Input::Shutdown,
                () = tokio::time::sleep(due) => Input::Due,
                () = appended.notified() => Input::Appended,
                word = said(&mut self.talk) => Input::Said(word),
                input = transport_input(
                    &mut self.transport,
                    &self.outbox[self.sent..],
                    &mut received,
                ) => input,
            };
            let now = self.now();
            match input {
                Input::Connected(Ok(link)) => {
                    self.unserved_told = false;
                    self.status.send_modify(|status| status.transport = quic::TRANSPORT);
                    self.bear(&link);
                    self.transport = Transport::Up(link);
                    let held = self.held();
                    self.exchange.handle_connected(held, (self.clock)(), now);
                }
                Input::Connected(Err(error))
                | Input::Received(Err(error))
                | Input::Sent(Err(error)) => {
                    tracing::debug!(%error, "the link's end");
                    self.disconnect(error.to_string(), &error.without_names());
                }
                Input::Received(Ok(length)) => {
                    self.exchange.handle_bytes(&received[..length], now);
                }
                Input::Sent(Ok(length)) => self.sent += length,
                Input::Appended => self.exchange.handle_appended(),
                Input::Said(Word::Effective(effective)) => {
                    self.exchange.handle_effective(effective);
                }
                Input::Said(Word::Health(health)) => self.exchange.handle_health(*health),
                Input::Due => self.handle_due(now),
                Input::Shutdown => {
                    stopping = true;
                    self.exchange.handle_shutdown(now);
                }
            }
        }
        self.lend(None);
        if let Transport::Up(link) = std::mem::replace(&mut self.transport, Transport::Down) {
            link.close(CLOSE_DONE, "the agent ends").await;
        }
    }

    async fn act(&mut self, event: Event) {
        match event {
            Event::Connect => {
                let connector = Rc::clone(&self.connector);
                // Before they are read: what changes meanwhile is found at the next look.
                self.seen = Seen::look(connector.identity());
                let own_us = (self.clock)().wall_us;
                let collector_us = self.renewing.core.collector_us(self.now());
                let time = TrustedTime { collector_us, ..TrustedTime::own(own_us) };
                self.transport =
                    Transport::Connecting(Box::pin(async move { connector.connect(time).await }));
            }
            Event::RenewFirst { wall_us } => self.renew_first(wall_us),
            Event::Renewed(reply) => self.handle_renewed(reply),
            Event::Welcomed { collector_version, from, wall_us } => {
                self.renewing.core.handle_clock(wall_us, self.now());
                self.renewing.core.handle_linked();
                let line = match &self.transport {
                    Transport::Up(link) => Some(link.line()),
                    Transport::Down | Transport::Connecting(_) => None,
                };
                self.lend(line);
                tracing::info!(
                    collector_version = ?collector_version.as_str(),
                    epoch = %from.epoch,
                    sequence = %from.sequence,
                    transport = quic::TRANSPORT,
                    "the collector takes records"
                );
                let stamp = (self.clock)();
                self.status.send_modify(|status| {
                    status.connected_since = Some(stamp);
                    status.collector_ahead = None;
                    status.refused = None;
                });
            }
            Event::CollectorBehind { next, oldest } => tracing::warn!(
                epoch = %oldest.epoch,
                collector_next = %next,
                oldest_held = %oldest.sequence,
                "the collector lacks records that are not held here any more; \
                 was its store restored from a backup?"
            ),
            Event::Acknowledged(ack) => {
                if let Err(error) = self.backlog.acknowledge(ack) {
                    tracing::warn!(%error, "the spool did not take an ack, records will be sent again");
                }
                self.status.send_modify(|status| status.acked = Some(ack));
            }
            Event::Requested(control) => {
                if self.requests.try_send(control).is_err() {
                    // Once per connection: a collector must not fill this machine's log.
                    if std::mem::replace(&mut self.unserved_told, true) {
                        tracing::debug!(?control, "another request found nobody to serve it");
                    } else {
                        tracing::warn!(
                            ?control,
                            "a request of the collector found nobody to serve it"
                        );
                    }
                }
            }
            Event::Configured(configuration) => match &self.talk {
                // Where nobody looks the agent is ending.
                Some(talk) => drop(talk.configurations.send_replace(Some(*configuration))),
                None => tracing::debug!("a configuration came to an agent that is not set by one"),
            },
            Event::Close(cause) => {
                self.lend(None);
                if let Cause::CollectorAhead { epoch, next, .. } = cause {
                    let claim = Ack { epoch, next };
                    if let Err(error) = self.backlog.acknowledge(claim) {
                        tracing::debug!(%error, "the spool refused the claim, as it should");
                    }
                    self.status.send_modify(|status| status.collector_ahead = Some(claim));
                }
                if let Some(refused) = refusal_of_identity(&cause) {
                    self.status.send_modify(|status| status.refused = Some(refused));
                }
                let code = if cause == Cause::Shutdown { CLOSE_DONE } else { CLOSE_REBUILD };
                if let Transport::Up(link) = std::mem::replace(&mut self.transport, Transport::Down)
                {
                    link.close(code, close_reason(&cause)).await;
                }
                if cause == Cause::NewIdentity {
                    // No failure: the next connection is on its way.
                    self.lose();
                    self.status.send_modify(|status| status.connected_since = None);
                } else {
                    let text = cause.to_string();
                    self.disconnect(text.clone(), &text);
                }
            }
        }
    }

    /// Takes note of the identity that a connection was made with.
    fn bear(&mut self, link: &Link) {
        let quic::Bearer { endpoint, certificate, fingerprint } = (*link.bearer).clone();
        self.exchange.handle_endpoint(endpoint);
        self.renewing.core.handle_certificate(certificate);
        self.in_use = Some(fingerprint);
    }

    fn handle_due(&mut self, now: Moment) {
        self.exchange.handle_timeout(now);
        if self.renewing.core.is_due(now) {
            self.ask(now);
        }
        if self.look_at <= now {
            self.look_at = now + self.look_every;
            self.look(now);
        }
    }

    /// Sees whether somebody put another identity in force.
    fn look(&mut self, now: Moment) {
        let seen = Seen::look(self.connector.identity());
        if seen == self.seen {
            return;
        }
        match self.connector.bearer() {
            Ok(bearer) if self.in_use == Some(bearer.fingerprint) => self.seen = seen,
            // Seen is what a connection was made with: until one was, each look finds this anew.
            Ok(_) if self.in_use.is_some() => {
                tracing::info!("the identity's files were replaced, connecting with them");
                self.exchange.handle_identity(now);
            }
            Ok(_) => {}
            // Half replaced, perhaps: the next look finds the rest.
            Err(error) => tracing::debug!(%error, "the identity's files are being replaced"),
        }
    }

    /// Asks for the next certificate.
    fn ask(&mut self, now: Moment) {
        match self.renewing.request(random(now), now) {
            Ok(csr) => {
                if self.exchange.handle_renewal(csr, now) {
                    tracing::debug!("asked for the next certificate");
                } else {
                    self.renewing.core.handle_failed(random(now), now);
                }
            }
            Err(why) => self.exchange.handle_no_renewal(why, now),
        }
    }

    fn renew_first(&mut self, wall_us: u64) {
        let now = self.now();
        self.renewing.core.handle_clock(wall_us, now);
        if self.renewing.core.may_renew_first(now) {
            tracing::info!("the certificate has expired, asking for the next one");
            self.ask(now);
        } else {
            tracing::warn!(
                "the collector takes a certificate that it has just renewed for expired"
            );
            self.exchange.handle_no_renewal(NoRenewal::Unable, now);
        }
    }

    fn handle_renewed(&mut self, reply: Option<Box<RenewReply>>) {
        let now = self.now();
        match self.renewing.handle_reply(reply.map(|reply| *reply), random(now), now) {
            Ok(()) => self.exchange.handle_identity(now),
            Err(why) => self.exchange.handle_no_renewal(why, now),
        }
    }

    /// Takes the next bytes to send, once the last ones are gone.
    fn refill(&mut self) {
        if self.sent < self.outbox.len() {
            return;
        }
        self.sent = 0;
        self.outbox.clear();
        if let Some(frame) = self.exchange.poll_transmit() {
            self.outbox = frame;
            return;
        }
        while let Some(want) = self.exchange.poll_want() {
            let read = self.backlog.read(want.from, &mut self.outbox, want.bytes_max);
            let behind = read.unwrap_or_else(|error| {
                // The next append asks again; until then a sick disk is left in peace.
                tracing::warn!(%error, "the spool could not be read");
                self.outbox.clear();
                want.from
            });
            let length = self.exchange.handle_read(&self.outbox, behind, self.now());
            self.outbox.truncate(length);
            if length > 0 {
                return;
            }
        }
    }

    /// Lends the connection to whoever probes the path, or takes it back.
    fn lend(&self, line: Option<Line>) {
        if let Some(lines) = &self.lines {
            lines.send_if_modified(|lent| {
                let is_news = line.is_some() || lent.is_some();
                *lent = line;
                is_news
            });
        }
    }

    /// The transport is gone.
    fn lose(&mut self) {
        self.lend(None);
        self.transport = Transport::Down;
        self.outbox.clear();
        self.sent = 0;
        let now = self.now();
        self.exchange.handle_disconnected(random(now), now);
        self.renewing.core.handle_unlinked(random(now), now);
    }

    /// `text` says why, and `plain` the same without names and addresses.
    fn disconnect(&mut self, text: String, plain: &str) {
        self.lose();
        if self.exchange.is_finished() {
            return;
        }
        // A collector that is away for a day is one line, not one a minute.
        if self.status.borrow().last_error.as_ref() == Some(&text)
            && self.status.borrow().connected_since.is_none()
        {
            tracing::debug!(reason = plain, "no link");
        } else {
            tracing::warn!(reason = plain, "no link");
        }
        self.status.send_modify(|status| {
            status.connected_since = None;
            status.last_error = Some(text);
        });
    }

    fn held(&self) -> Held {
        Held { oldest: self.backlog.oldest(), newest: self.backlog.position() }
    }

    fn now(&self) -> Moment {
        moment((self.clock)())
    }
}

/// Waits for the transport alone.
async fn transport_input(transport: &mut Transport, outbox: &[u8], received: &mut [u8]) -> Input {
    match transport {
        Transport::Down => std::future::pending().await,
        Transport::Connecting(connecting) => Input::Connected(connecting.await),
        Transport::Up(link) => tokio::select! {
            length = link.receiver.receive(received) => Input::Received(length),
            length = link.sender.send(outbox), if !outbox.is_empty() => Input::Sent(length),
        },
    }
}

/// Waits for the next word, for ever where none can come.
async fn said(talk: &mut Option<Talk>) -> Word {
    if let Some(talk) = talk
        && let Some(word) = talk.words.recv().await
    {
        return word;
    }
    std::future::pending().await
}

fn moment(stamp: Stamp) -> Moment {
    Moment::from_nanos(stamp.uptime_us.saturating_mul(1_000))
}

/// Chance for the back-off; a system without any still has a clock that differs from its neighbours'.
fn random(now: Moment) -> u64 {
    getrandom::u64().unwrap_or_else(|_| now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The reason of a refusal that only a person can mend.
fn refusal_of_identity(cause: &Cause) -> Option<RefuseReason> {
    match cause {
        Cause::NotRenewed => Some(RefuseReason::Expired),
        Cause::Refused { reason: Some(reason), .. } => match reason {
            RefuseReason::EndpointMismatch
            | RefuseReason::Revoked
            | RefuseReason::Expired
            | RefuseReason::Cloned
            | RefuseReason::UnknownEndpoint => Some(*reason),
            RefuseReason::WireVersion
            | RefuseReason::Busy
            | RefuseReason::NoHello
            | RefuseReason::InUse => None,
        },
        Cause::Refused { reason: None, .. }
        | Cause::HelloTimeout
        | Cause::NoProgress
        | Cause::Violation(_)
        | Cause::CollectorAhead { .. }
        | Cause::RenewTimeout
        | Cause::NewIdentity
        | Cause::GoingAway
        | Cause::Shutdown => None,
    }
}

/// What the collector is told; its own log has no use for this machine's advice to its operator.
fn close_reason(cause: &Cause) -> &'static str {
    match cause {
        Cause::HelloTimeout => "no answer to the hello",
        Cause::RenewTimeout => "no answer to the request to renew",
        Cause::NotRenewed => "no certificate came of it",
        Cause::NewIdentity => "coming back with another certificate",
        Cause::NoProgress => "no ack progress",
        Cause::Violation(_) => "protocol violation",
        Cause::Refused { .. } => "refused",
        Cause::CollectorAhead { .. } => "next is beyond the newest record",
        Cause::GoingAway => "going away as asked",
        Cause::Shutdown => "the agent ends",
    }
}

/// Acks are 30 bytes; 4 KiB are a hundred of them.
const RECEIVE_BYTES: usize = 4096;
/// The application close code of an orderly end.
pub(crate) const CLOSE_DONE: u32 = 0;
/// The application close code of a connection that is made anew.
const CLOSE_REBUILD: u32 = 1;
