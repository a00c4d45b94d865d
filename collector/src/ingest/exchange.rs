//! The protocol of one connection, from the collector's side, without its bytes' carrier, the clock or the store.
//!
//! ```text
//!   bytes ──handle_bytes──► [one partial frame] ──poll_batch──► records for the store
//!   store ──handle_welcome, handle_commit──► poll_transmit ──► HelloReply, Ack, Configuration, Control
//! ```
//! The first frame must be a Hello of the certificate's endpoint, in time. Then records flow; the ack follows the
//! commit and is cumulative, so that only the latest of an epoch is kept. An unknown kind is skipped, counted and
//! acked; a body that does not decode is kept unread and acked, since the writer of it would only send it again.
//! Bytes that are no frames end the connection: nothing behind them can be trusted. An endpoint that has brought more
//! than it may is held: its next record stays in the buffer, which fills, so that nothing more is read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::{Configuration, EffectiveConfiguration};
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::{BootId, Der, RenewRefusal, RenewReply};
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{self, HEADER_BYTES, WIRE_VERSION};
use roomtone_protocol::health::Health;
use roomtone_protocol::hello::{Hello, HelloReply, RefuseReason};
use roomtone_protocol::id::{EndpointId, Epoch, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::{Message, kind};

use crate::store::{Content, Incoming, OpaqueReason, OpaqueRecord};

/// The most records of one batch: with frames of one interval, what an agent spools in ten minutes of one leg.
pub const BATCH_RECORDS_MAX: usize = 64;
/// The most batches of one connection that wait for their commit: enough to keep the disk busy through a round trip.
pub const SUBMITTED_MAX: usize = 4;
/// The most bytes that wait to be read: two frames, so that one can arrive while another is looked at.
const BUFFER_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// One connection.
#[derive(Debug)]
pub struct Exchange {
    endpoint: EndpointId,
    state: State,
    buffer: Vec<u8>,
    submitted: usize,
    /// Bytes of records taken that nobody has asked about yet.
    taken_bytes: u64,
    /// Until when no record is taken.
    held_until: Option<Instant>,
    transmit: Transmit,
    counts: LinkCounts,
    /// Whether the next certificate was asked for and has not come.
    renewing: bool,
    refused: Option<RefuseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitHello {
        until: Instant,
    },
    AwaitWelcome {
        wire: u8,
    },
    Open,
    /// The certificate has expired: only a request for the next one is taken.
    RenewFirst {
        until: Instant,
    },
    /// Says its last word and takes nothing more.
    Closing {
        reason: CloseReason,
    },
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Transmit {
    reply: Option<HelloReply>,
    /// One per epoch, so at most as many as the records of [`SUBMITTED_MAX`] batches.
    acks: VecDeque<Ack>,
    renewed: Option<Box<RenewReply>>,
    /// The latest; an earlier one that was not sent is worth nothing.
    configuration: Option<Arc<Configuration>>,
    control: Option<Control>,
    going_away: bool,
}

/// What happened on a connection that nobody else counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// Records taken.
    pub records: u64,
    /// Records of unknown kinds among them.
    pub unknown: u64,
    /// Records whose body did not decode among them.
    pub refused: u64,
    /// Link frames of unknown kinds, and reports whose body is not one, skipped.
    pub skipped: u64,
}

/// Why a connection ends. The number is the QUIC application error code; numbers are appended, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u32)]
pub enum CloseReason {
    /// The peer closed its side, or we are done.
    #[error("done")]
    Done = 0,
    /// Bytes that are not a frame, or of an unknown wire version.
    #[error("not a roomtone frame")]
    BadFrame = 1,
    /// A frame that the agent must not send, or not now.
    #[error("unexpected frame")]
    UnexpectedFrame = 2,
    /// No Hello in time.
    #[error("no hello in time")]
    HelloTimeout = 3,
    /// A [`HelloReply::Refused`] told the reason.
    #[error("refused")]
    Refused = 4,
    /// The endpoint has a newer connection.
    #[error("replaced by a newer connection of the same endpoint")]
    Replaced = 5,
    /// The store does not take records now; come back after a back-off.
    #[error("store unavailable")]
    StoreUnavailable = 6,
    /// The collector goes away; come back after a back-off.
    #[error("going away")]
    GoingAway = 7,
    /// The peer does not read what it is sent.
    #[error("acks are not read")]
    NotReading = 8,
    /// The certificate names no endpoint.
    #[error("the certificate names no endpoint")]
    NoEndpoint = 9,
    /// An operator revoked the endpoint.
    #[error("the identity was revoked")]
    Revoked = 10,
    /// A client certificate is needed for this protocol.
    #[error("no client certificate")]
    NoCertificate = 11,
    /// The machine does not answer, and another one came with its identity.
    #[error("no answer, and another machine came with this identity")]
    NoAnswer = 12,
}

/// A Hello that the store must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The agent's version.
    pub agent_version: String,
    /// The epoch that it asks about.
    pub epoch: Epoch,
    /// Its clock since boot, in microseconds.
    pub uptime_us: u64,
    /// The life of its machine's kernel, where it tells that.
    pub boot: Option<BootId>,
}

/// What an endpoint says of itself; worth nothing later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// How it is.
    Health(Box<Health>),
    /// What it is set to.
    Effective(Box<EffectiveConfiguration>),
}

/// What the shell must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the store for the watermark of the greeting's epoch, then call [`Exchange::handle_welcome`]; or call
    /// [`Exchange::handle_renew_first`] or [`Exchange::handle_refusal`].
    Greet(Greeting),
    /// Commit these, then call [`Exchange::handle_commit`]. Never empty.
    Submit(Vec<Incoming>),
    /// Issue the next certificate for the key of this signing request, then call [`Exchange::handle_renewed`].
    Renew(Box<Der>),
    /// Keep what the endpoint says of itself.
    Keep(Report),
    /// Send what [`Exchange::poll_transmit`] gives, then close.
    Close(CloseReason),
    /// Read more bytes, or wait for a commit.
    Wait,
}

impl Exchange {
    /// A connection whose certificate names `endpoint`, and whose Hello must be whole by `hello_until`.
    #[must_use]
    pub fn new(endpoint: EndpointId, hello_until: Instant) -> Self {
        Self {
            endpoint,
            state: State::AwaitHello { until: hello_until },
            buffer: Vec::new(),
            submitted: 0,
            taken_bytes: 0,
            held_until: None,
            transmit: Transmit::default(),
            counts: LinkCounts::default(),
            renewing: false,
            refused: None,
        }
    }

    /// A connection that is told at once why it is not heard.
    #[must_use]
    pub fn refusing(
        endpoint: EndpointId,
        hello_until: Instant,
        (reason, detail): (RefuseReason, &str),
    ) -> Self {
        let mut exchange = Self::new(endpoint, hello_until);
        exchange.refuse(reason, detail);
        exchange
    }

    /// How many bytes the next [`handle_bytes`](Self::handle_bytes) may bring; 0 while records wait to be taken.
    #[must_use]
    pub fn room(&self) -> usize {
        match self.state {
            State::Closing { .. } | State::AwaitWelcome { .. } => 0,
            State::AwaitHello { .. } | State::Open | State::RenewFirst { .. } => {
                BUFFER_BYTES_MAX - self.buffer.len()
            }
        }
    }

    /// Takes bytes off the connection.
    ///
    /// # Panics
    /// Where there are more of them than [`room`](Self::room): the shell's promise, not the peer's.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(), "the shell reads no more than there is room for");
        self.buffer.extend_from_slice(bytes);
    }

    /// Says what to do next.
    ///
    /// Call it before [`room`](Self::room) is trusted: whole frames in the buffer go first. `Submit` is answered only
    /// while fewer than [`SUBMITTED_MAX`] batches wait.
    pub fn poll_step(&mut self) -> Step {
        match self.state {
            State::AwaitHello { .. } => self.poll_hello(),
            State::AwaitWelcome { .. } => Step::Wait,
            State::Open => self.poll_records(),
            State::RenewFirst { .. } => self.poll_renewal(),
            State::Closing { reason } => Step::Close(reason),
        }
    }

    /// Whether [`poll_step`](Self::poll_step) may answer `Submit`, so that a place in the store's queue is needed
    /// first.
    #[must_use]
    pub fn may_submit(&self) -> bool {
        self.state == State::Open
            && self.submitted < SUBMITTED_MAX
            && self.held_until.is_none()
            && !matches!(frame::decode_header(&self.buffer), Err(DecodeError::Incomplete { .. }))
    }

    /// How many bytes of records were taken since the last call.
    pub fn take_taken_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.taken_bytes)
    }

    /// Takes no record until `until`; `None` for no such hold.
    pub fn handle_hold(&mut self, until: Option<Instant>) {
        self.held_until = until;
    }

    /// Takes the store's answer to a greeting.
    pub fn handle_welcome(&mut self, next: Sequence, wall_us: u64) {
        let State::AwaitWelcome { wire } = self.state else { return };
        self.state = State::Open;
        self.transmit.reply = Some(HelloReply::Welcome {
            wire,
            collector_version: bounded(env!("CARGO_PKG_VERSION")),
            next,
            wall_us,
        });
    }

    /// Takes the verdict that the certificate has expired and may still be renewed, until `until`.
    pub fn handle_renew_first(&mut self, wall_us: u64, until: Instant) {
        let State::AwaitWelcome { .. } = self.state else { return };
        self.state = State::RenewFirst { until };
        let collector_version = bounded(env!("CARGO_PKG_VERSION"));
        self.transmit.reply = Some(HelloReply::RenewFirst { collector_version, wall_us });
    }

    /// Takes the verdict that the agent is not heard.
    pub fn handle_refusal(&mut self, (reason, detail): (RefuseReason, &str)) {
        self.refuse(reason, detail);
    }

    /// Takes the answer to [`Step::Renew`].
    pub fn handle_renewed(&mut self, reply: Box<RenewReply>) {
        self.renewing = false;
        self.transmit.renewed = Some(reply);
        if matches!(self.state, State::RenewFirst { .. }) {
            self.state = State::Closing { reason: CloseReason::Done };
        }
    }

    /// Why the agent was refused, if it was.
    #[must_use]
    pub fn refused(&self) -> Option<RefuseReason> {
        self.refused
    }

    /// Takes the news that the oldest submitted batch is on disk, with the answer to its last record of each epoch.
    pub fn handle_commit(&mut self, acks: impl IntoIterator<Item = Ack>) {
        self.submitted = self.submitted.saturating_sub(1);
        for ack in acks {
            match self.transmit.acks.iter_mut().find(|pending| pending.epoch == ack.epoch) {
                // A group answers each record in turn and numbers below the watermark may lie among them.
                Some(pending) => pending.next = pending.next.max(ack.next),
                None => self.transmit.acks.push_back(ack),
            }
        }
    }

    /// Whether [`handle_control`](Self::handle_control) may bring one: the agent is welcomed and took the one before.
    #[must_use]
    pub fn takes_control(&self) -> bool {
        self.state == State::Open && self.transmit.control.is_none()
    }

    /// Takes a request to the agent.
    ///
    /// # Panics
    /// Where it does not [take](Self::takes_control) one: the shell's promise.
    pub fn handle_control(&mut self, control: Control) {
        assert!(self.takes_control(), "the shell takes a control when there is room for it");
        self.transmit.control = Some(control);
    }

    /// Takes what the agent is to be set to, in place of an earlier one that was not sent yet.
    ///
    /// # Panics
    /// Where it does not [take](Self::takes_control) anything: the shell's promise.
    pub fn handle_configuration(&mut self, wanted: Arc<Configuration>) {
        assert!(self.takes_control(), "the shell takes a configuration after the welcome");
        self.transmit.configuration = Some(wanted);
    }

    /// Tells the agent, once, that the collector goes away.
    pub fn handle_shutdown(&mut self) {
        if self.state == State::Open {
            self.transmit.going_away = true;
        }
    }

    /// Gives the next frame to send, in `buffer`, and its length.
    pub fn poll_transmit(&mut self, buffer: &mut [u8; FRAME_BYTES_MAX]) -> Option<usize> {
        let transmit = &mut self.transmit;
        let message = if let Some(reply) = transmit.reply.take() {
            Message::HelloReply(reply)
        } else if let Some(ack) = transmit.acks.pop_front() {
            Message::Ack(ack)
        } else if let Some(reply) = transmit.renewed.take() {
            Message::RenewReply(*reply)
        } else if let Some(wanted) = transmit.configuration.take() {
            Message::Configuration(Configuration::clone(&wanted))
        } else if let Some(control) = transmit.control.take() {
            Message::Control(control)
        } else if std::mem::take(&mut transmit.going_away) {
            Message::Control(Control::GoingAway)
        } else {
            return None;
        };
        Some(frame::encode_link(&message, buffer).expect("FRAME_BYTES_MAX suffices for any frame"))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::AwaitHello { until } => Some((until, "hello")),
            State::RenewFirst { until } => Some((until, "request to renew")),
            State::Open => self.held_until.map(|until| (until, "allowance")),
            State::AwaitWelcome { .. } | State::Closing { .. } => None,
        }
    }

    /// Ends a connection or a hold whose time is over at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Step {
        self.held_until = self.held_until.filter(|until| now < *until);
        match self.state {
            State::AwaitHello { until } | State::RenewFirst { until } if now >= until => {
                Step::Close(CloseReason::HelloTimeout)
            }
            State::AwaitHello { .. }
            | State::AwaitWelcome { .. }
            | State::Open
            | State::RenewFirst { .. }
            | State::Closing { .. } => Step::Wait,
        }
    }

    /// Whether batches wait for their commit.
    #[must_use]
    pub fn has_submitted(&self) -> bool {
        self.submitted > 0
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    fn poll_hello(&mut self) -> Step {
        let hello = match frame::decode(&self.buffer) {
            Err(DecodeError::Incomplete { .. }) => return Step::Wait,
            Ok((frame::Frame { message: Some(Message::Hello(hello)), .. }, length)) => {
                self.consume(length);
                hello
            }
            // A frame, but not the first one: say so, then close.
            Ok(_) | Err(DecodeError::Body { .. }) => {
                self.refuse(RefuseReason::NoHello, "the first frame must be a hello");
                return Step::Close(CloseReason::Refused);
            }
            Err(
                DecodeError::Magic { .. }
                | DecodeError::Version { .. }
                | DecodeError::TooLong { .. }
                | DecodeError::Checksum { .. },
            ) => return Step::Close(CloseReason::BadFrame),
        };
        self.handle_hello(&hello)
    }

    fn handle_hello(&mut self, hello: &Hello) -> Step {
        if hello.endpoint != self.endpoint {
            self.refuse(
                RefuseReason::EndpointMismatch,
                "the hello names another endpoint than the certificate",
            );
            return Step::Close(CloseReason::Refused);
        }
        if !(hello.wire_min..=hello.wire_max).contains(&WIRE_VERSION) {
            self.refuse(RefuseReason::WireVersion, "this collector speaks wire version 1");
            return Step::Close(CloseReason::Refused);
        }
        self.state = State::AwaitWelcome { wire: WIRE_VERSION };
        Step::Greet(Greeting {
            agent_version: hello.agent_version.as_str().to_owned(),
            epoch: hello.epoch,
            uptime_us: hello.now.uptime_us,
            boot: hello.boot,
        })
    }

    fn refuse(&mut self, reason: RefuseReason, detail: &str) {
        self.state = State::Closing { reason: CloseReason::Refused };
        self.refused = Some(reason);
        self.transmit.reply = Some(HelloReply::Refused { reason, detail: bounded(detail) });
    }

    fn poll_records(&mut self) -> Step {
        if self.submitted >= SUBMITTED_MAX {
            return Step::Wait;
        }
        let mut batch = Vec::new();
        let mut taken = 0;
        let end = loop {
            if batch.len() == BATCH_RECORDS_MAX {
                break None;
            }
            match take_frame(&self.buffer[taken..]) {
                Ok(Some((Taken::Record(..), _))) if self.held_until.is_some() => break None,
                Ok(Some((Taken::Record(id, content), length))) => {
                    taken += length;
                    self.taken_bytes += length as u64;
                    self.counts.records += 1;
                    if let Content::Opaque(opaque) = &content {
                        match opaque.reason {
                            OpaqueReason::UnknownKind => self.counts.unknown += 1,
                            OpaqueReason::Refused => self.counts.refused += 1,
                        }
                    }
                    batch.push(Incoming { endpoint: self.endpoint, id, content });
                }
                Ok(Some((Taken::Skip, length))) => {
                    taken += length;
                    self.counts.skipped += 1;
                }
                // Behind the records before it, which go first: it is met again.
                Ok(Some((Taken::Renew(_) | Taken::Keep(_), _))) if !batch.is_empty() => break None,
                Ok(Some((Taken::Renew(csr), length))) => {
                    self.consume(taken + length);
                    return self.renew(csr);
                }
                Ok(Some((Taken::Keep(report), length))) => {
                    self.consume(taken + length);
                    return Step::Keep(report);
                }
                Ok(None) => break None,
                Err(reason) => break Some(reason),
            }
        };
        self.consume(taken);
        if !batch.is_empty() {
            // What ended the loop is still at the front of the buffer and is met again.
            self.submitted += 1;
            return Step::Submit(batch);
        }
        end.map_or(Step::Wait, Step::Close)
    }

    /// The only frame that an agent with an expired certificate sends.
    fn poll_renewal(&mut self) -> Step {
        loop {
            match take_frame(&self.buffer) {
                Ok(None) => return Step::Wait,
                Ok(Some((Taken::Renew(csr), length))) => {
                    self.consume(length);
                    return self.renew(csr);
                }
                Ok(Some((Taken::Skip, length))) => {
                    self.counts.skipped += 1;
                    self.consume(length);
                }
                Ok(Some((Taken::Record(..) | Taken::Keep(_), _))) => {
                    return Step::Close(CloseReason::UnexpectedFrame);
                }
                Err(reason) => return Step::Close(reason),
            }
        }
    }

    fn renew(&mut self, csr: Option<Box<Der>>) -> Step {
        if self.renewing || self.transmit.renewed.is_some() {
            return Step::Close(CloseReason::UnexpectedFrame);
        }
        let Some(csr) = csr else {
            self.handle_renewed(Box::new(RenewReply::Refused(RenewRefusal::BadRequest)));
            return self.poll_step();
        };
        self.renewing = true;
        Step::Renew(csr)
    }

    fn consume(&mut self, bytes: usize) {
        if bytes == self.buffer.len() {
            // Most connections are idle most of the time and must not hold a buffer meanwhile.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..bytes);
        }
    }
}

enum Taken {
    Record(roomtone_protocol::id::RecordId, Content),
    Skip,
    /// `None` where the body is not one.
    Renew(Option<Box<Der>>),
    Keep(Report),
}

/// Takes a frame that may follow a Hello off the front; `None` where it is not all there.
fn take_frame(bytes: &[u8]) -> Result<Option<(Taken, usize)>, CloseReason> {
    let (header, length) = match frame::decode_header(bytes) {
        Ok(found) => found,
        Err(DecodeError::Incomplete { .. }) => return Ok(None),
        Err(
            DecodeError::Magic { .. }
            | DecodeError::Version { .. }
            | DecodeError::TooLong { .. }
            | DecodeError::Checksum { .. }
            | DecodeError::Body { .. },
        ) => return Err(CloseReason::BadFrame),
    };
    let opaque = |reason| {
        let body = Box::from(&bytes[HEADER_BYTES..length]);
        Content::Opaque(OpaqueRecord { kind: header.kind, reason, body })
    };
    if !kind::is_record(header.kind) {
        return match header.kind {
            kind::RENEW_REQUEST => {
                let csr = match frame::decode(&bytes[..length]) {
                    Ok((frame::Frame { message: Some(Message::RenewRequest(it)), .. }, _)) => {
                        Some(Box::new(it.csr))
                    }
                    Ok(_) | Err(_) => None,
                };
                Ok(Some((Taken::Renew(csr), length)))
            }
            kind::HEALTH | kind::EFFECTIVE_CONFIGURATION => {
                let report = match frame::decode(&bytes[..length]) {
                    Ok((frame::Frame { message: Some(Message::Health(it)), .. }, _)) => {
                        Taken::Keep(Report::Health(Box::new(it)))
                    }
                    Ok((
                        frame::Frame { message: Some(Message::EffectiveConfiguration(it)), .. },
                        _,
                    )) => Taken::Keep(Report::Effective(Box::new(it))),
                    Ok(_) | Err(_) => Taken::Skip,
                };
                Ok(Some((report, length)))
            }
            kind::HELLO
            | kind::HELLO_REPLY
            | kind::ACK
            | kind::CONTROL
            | kind::CONFIGURATION
            | kind::ENROLL_REQUEST
            | kind::ENROLL_REPLY
            | kind::RENEW_REPLY => Err(CloseReason::UnexpectedFrame),
            _ => Ok(Some((Taken::Skip, length))),
        };
    }
    // The last number of an epoch cannot be acked: `next` would not fit.
    if header.id.sequence.next().is_none() {
        return Err(CloseReason::UnexpectedFrame);
    }
    let content = match frame::decode(&bytes[..length]) {
        Ok((frame::Frame { message: Some(Message::Record(record)), .. }, _)) => {
            Content::Known(Box::new(record))
        }
        Ok((frame::Frame { message: None, .. }, _)) => opaque(OpaqueReason::UnknownKind),
        Ok(_) | Err(_) => opaque(OpaqueReason::Refused),
    };
    Ok(Some((Taken::Record(header.id, content), length)))
}

/// As much of a text as fits, cut between characters.
fn bounded<const N: usize>(text: &str) -> heapless::String<N> {
    let mut bounded = heapless::String::new();
    for character in text.chars() {
        if bounded.push(character).is_err() {
            break;
        }
    }
    bounded
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
