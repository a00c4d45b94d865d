//! The uplink: carries the spool's records to the collector and its acks back.
//!
//! [`exchange`] decides, [`quic`] carries, [`Uplink::run`] joins them with the spool on the agent's one tokio thread.
//! It wakes for new records, for bytes from the collector, for a keep-alive every 15 s, and for the exchange's
//! deadlines; there is no polling timer.
//!
//! Bounds: one read of the spool waiting to be sent, 4 KiB of bytes from the collector, the exchange's window.

pub mod cause;
pub mod exchange;
pub mod quic;

pub(crate) mod backoff;
mod inbox;
mod window;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::control::Control;
use roomtone_protocol::time::Stamp;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::Moment;
use crate::clock::system;
use crate::config::{Collector, Identity};
use cause::Cause;
use exchange::{Event, Exchange, Held, Limits, Position};
use quic::{Connector, Link, LinkError};

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
}

impl Settings {
    /// The default bounds; 5 s for a handshake are ten round trips to a geostationary satellite.
    #[must_use]
    pub fn new(collector: Collector, identity: Identity) -> Self {
        let attempt_timeout = Duration::from_secs(5);
        Self { collector, identity, limits: Limits::default(), attempt_timeout }
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
    /// The last ack handed to the spool.
    pub acked: Option<Ack>,
    /// The collector claimed records that the spool never wrote, as after a restored disk image. `None` again once it
    /// takes records.
    pub collector_ahead: Option<Ack>,
}

/// The task that keeps the link.
pub struct Uplink<B, C> {
    connector: Rc<Connector>,
    exchange: Exchange,
    backlog: B,
    appended: Arc<Notify>,
    requests: mpsc::Sender<Control>,
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
        let Settings { collector, identity, limits, attempt_timeout } = settings;
        let connector = Connector::new(collector, identity, attempt_timeout)?;
        let exchange = Exchange::new(connector.endpoint()?, limits, moment(clock()))
            .of_boot(system::boot_id());
        let (status, watcher) = watch::channel(LinkStatus::default());
        let uplink = Self {
            connector: Rc::new(connector),
            exchange,
            backlog,
            appended,
            requests,
            status,
            clock,
            transport: Transport::Down,
            unserved_told: false,
            outbox: Vec::new(),
            sent: 0,
        };
        Ok((uplink, watcher))
    }

    /// Keeps the link until `shutdown` resolves, then sends what the backlog still has, within the flush time-out.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut stopping = false;
        let mut received = vec![0; RECEIVE_BYTES];
        let appended = Arc::clone(&self.appended);
        loop {
            self.refill();
            while let Some(event) = self.exchange.poll_event() {
                self.act(event).await;
            }
            if self.exchange.is_finished() {
                break;
            }
            let due = self.exchange.poll_timeout().map(|(at, _)| at.since(self.now()));
            let input = tokio::select! {
                // In this order: a collector that never stops talking must not starve a deadline.
                biased;
                () = &mut shutdown, if !stopping => Input::Shutdown,
                () = sleep(due) => Input::Due,
                () = appended.notified() => Input::Appended,
                input = transport_input(
                    &mut self.transport,
                    &self.outbox[self.sent..],
                    &mut received,
                ) => input,
            };
            let now = self.now();
            match input {
                Input::Connected(Ok(link)) => {
                    self.transport = Transport::Up(link);
                    self.unserved_told = false;
                    self.status.send_modify(|status| status.transport = quic::TRANSPORT);
                    let held = self.held();
                    self.exchange.handle_connected(held, (self.clock)(), now);
                }
                Input::Connected(Err(error))
                | Input::Received(Err(error))
                | Input::Sent(Err(error)) => self.disconnect(&error),
                Input::Received(Ok(length)) => {
                    self.exchange.handle_bytes(&received[..length], now);
                }
                Input::Sent(Ok(length)) => self.sent += length,
                Input::Appended => self.exchange.handle_appended(),
                Input::Due => self.exchange.handle_timeout(now),
                Input::Shutdown => {
                    stopping = true;
                    self.exchange.handle_shutdown(now);
                }
            }
        }
        if let Transport::Up(link) = std::mem::replace(&mut self.transport, Transport::Down) {
            link.close(CLOSE_DONE, "the agent ends").await;
        }
    }

    async fn act(&mut self, event: Event) {
        match event {
            Event::Connect => {
                let connector = Rc::clone(&self.connector);
                self.transport =
                    Transport::Connecting(Box::pin(async move { connector.connect().await }));
            }
            Event::Welcomed { collector_version, from } => {
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
            Event::Close(cause) => {
                if let Cause::CollectorAhead { epoch, next, .. } = cause {
                    let claim = Ack { epoch, next };
                    if let Err(error) = self.backlog.acknowledge(claim) {
                        tracing::debug!(%error, "the spool refused the claim, as it should");
                    }
                    self.status.send_modify(|status| status.collector_ahead = Some(claim));
                }
                let code = if cause == Cause::Shutdown { CLOSE_DONE } else { CLOSE_REBUILD };
                if let Transport::Up(link) = std::mem::replace(&mut self.transport, Transport::Down)
                {
                    link.close(code, close_reason(&cause)).await;
                }
                self.disconnect(&cause);
            }
        }
    }

    /// Takes the next bytes to send, once the last ones are gone.
    fn refill(&mut self) {
        if self.sent < self.outbox.len() {
            return;
        }
        self.sent = 0;
        self.outbox.clear();
        if let Some(hello) = self.exchange.poll_transmit() {
            self.outbox = hello;
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

    fn disconnect(&mut self, why: &dyn fmt::Display) {
        self.transport = Transport::Down;
        self.outbox.clear();
        self.sent = 0;
        let now = self.now();
        self.exchange.handle_disconnected(random(now), now);
        if self.exchange.is_finished() {
            return;
        }
        let text = why.to_string();
        // A collector that is away for a day is one line, not one a minute.
        if self.status.borrow().last_error.as_ref() == Some(&text)
            && self.status.borrow().connected_since.is_none()
        {
            tracing::debug!(reason = %text, "no link");
        } else {
            tracing::warn!(reason = %text, "no link");
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

async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

fn moment(stamp: Stamp) -> Moment {
    Moment::from_nanos(stamp.uptime_us.saturating_mul(1_000))
}

/// Chance for the back-off; a system without any still has a clock that differs from its neighbours'.
fn random(now: Moment) -> u64 {
    getrandom::u64().unwrap_or_else(|_| now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What the collector is told; its own log has no use for this machine's advice to its operator.
fn close_reason(cause: &Cause) -> &'static str {
    match cause {
        Cause::HelloTimeout => "no answer to the hello",
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
