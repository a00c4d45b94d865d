//! The agent's side of the link to its collector, across connections: a core without socket, clock or chance.
//!
//! ```text
//!            Connect                handle_connected           Welcome
//!  Waiting ──────────► Connecting ─────────────────► Greeting ─────────► Flowing
//!     ▲                     │                            │                  │
//!     └──── back-off ───────┴──── handle_disconnected ───┴── Closing ◄──────┘
//! ```
//! Rules, each of them tested below:
//! - No record leaves before the collector's Welcome. TLS 1.3 lets a client finish its handshake before the server has
//!   looked at the client's certificate, so only the first frame from the collector proves the link.
//! - After a Welcome the link goes on at its `next`, which counts as an ack: the collector says that it has on disk all
//!   of the Hello's epoch below. Where `next` lies before the oldest record held, the collector lost data that it had
//!   acknowledged: the link goes on at the oldest record and reports it.
//! - Where `next` lies behind the newest record of the epoch being written, the collector knows more than the agent: a
//!   disk image was restored (or the collector lies). Nothing is sent, since new records under numbers already used
//!   would be taken for repetitions and vanish. [`Cause::CollectorAhead`] carries the claim to the spool, which
//!   refuses it as an ack and begins a new epoch; the next connection goes on from there. A Welcome within what is
//!   held is trusted as every ack is: a collector that lies could as well throw away what it acknowledges.
//! - An ack for what was never sent ends the connection, unless a later epoch was sent since: its loss receipts may
//!   have told the collector of numbers that no longer exist. An ack repeated, or for an epoch not in flight, is
//!   counted.
//! - At most [`Limits::window_bytes`] are in flight. No ack progress for [`Limits::progress_timeout`] while records are
//!   in flight ends the connection, whatever the transport believes of itself.
//! - A request for the next certificate travels between records, one at a time; no answer within
//!   [`Limits::renew_timeout`] ends the connection, since WIRE.md section 7.6 allows no second request on it. After
//!   RenewFirst it is all that travels.
//! - An identity that is put in force ends the connection in order: what is in flight may still be acknowledged, and
//!   the next connection follows without a pause, once between two Welcomes.
//! - A collector that refuses who this endpoint is (revoked, expired, cloned, unknown, or named otherwise) is asked
//!   again in hours, not in seconds: only a person can help, who may also put another identity in force.
//! - Everything unacknowledged is sent again on the next connection: a record is known by (endpoint, epoch, sequence).
//! - What speaks of now (a heartbeat, the effective configuration) goes out between runs of records while they flow; of
//!   each the latest waits, and none of them is kept for another connection.
//!
//! Left out: what to keep and to shed (the spool), how bytes travel (`quic`).

use std::collections::VecDeque;
use std::time::Duration;

pub use super::event::{Counters, Event, Held, NoRenewal, Want};
pub use super::limits::Limits;
pub use crate::spool::Position;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::{Configuration, EffectiveConfiguration};
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::{BootId, Der, RenewReply, RenewRequest};
use roomtone_protocol::frame::{Frame, WIRE_VERSION, decode_header, encode_link};
use roomtone_protocol::health::Health;
use roomtone_protocol::hello::{Hello, HelloReply, RefuseReason};
use roomtone_protocol::id::{EndpointId, Sequence};
use roomtone_protocol::limits::{FRAME_BYTES_MAX, REASON_BYTES_MAX, VERSION_BYTES_MAX};
use roomtone_protocol::message::{Message, kind};
use roomtone_protocol::time::Stamp;

use super::backoff::{Backoff, Refusals};
use super::cause::{Cause, Violation};
use super::inbox::{Inbox, Step};
use super::window::{Verdict, Window};
use crate::clock::Moment;
use crate::configuration::hash;

/// The state machine of the link.
#[derive(Debug)]
pub struct Exchange {
    endpoint: EndpointId,
    boot: Option<BootId>,
    limits: Limits,
    phase: Phase,
    backoff: Backoff,
    refusals: Refusals,
    inbox: Inbox,
    window: Window,
    transmit: Option<Vec<u8>>,
    pace: Pace,
    /// The connection that ended last was to be followed by the next at once, and no Welcome came since.
    hurried: bool,
    /// What the endpoint is set to, and how the agent is, not sent yet.
    effective: Option<Box<EffectiveConfiguration>>,
    health: Option<Health>,
    /// At most one `Connect`, `Welcomed`, `RenewFirst`, `Renewed`, `CollectorBehind`, `Configured`, `Close`, one
    /// `Requested` per kind of request, and one `Acknowledged` per epoch in flight.
    events: VecDeque<Event>,
    flush_until: Option<Moment>,
    counters: Counters,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        until: Moment,
    },
    Connecting,
    Greeting {
        held: Held,
        deadline: Moment,
    },
    /// After RenewFirst.
    Renewing {
        deadline: Moment,
    },
    Flowing(Flow),
    Closing,
    Finished,
}

#[derive(Debug)]
struct Flow {
    welcomed: Moment,
    cursor: Position,
    /// The spool had nothing more at the last read.
    caught_up: bool,
    /// When an ack last settled something, or when the first record went out after a quiet time.
    progress_at: Moment,
    progressed: bool,
    /// Set once one of the two is to go.
    leave: Option<Leave>,
    /// Until when the answer to a request for a certificate is awaited.
    renew_until: Option<Moment>,
}

/// A departure in order.
#[derive(Debug)]
struct Leave {
    until: Moment,
    cause: Cause,
}

/// When to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Pace {
    /// With the usual back-off.
    #[default]
    Usual,
    /// At once.
    AtOnce,
    /// In hours.
    Late,
}

impl Exchange {
    /// A link that connects at once.
    #[must_use]
    pub fn new(endpoint: EndpointId, limits: Limits, now: Moment) -> Self {
        assert!(limits.window_bytes >= FRAME_BYTES_MAX, "the window takes one frame at least");
        Self {
            endpoint,
            boot: None,
            limits,
            phase: Phase::Waiting { until: now },
            backoff: Backoff::new(limits.backoff_base, limits.backoff_ceiling),
            refusals: Refusals::new(limits.refusal_base, limits.refusal_ceiling),
            inbox: Inbox::default(),
            window: Window::new(limits.window_bytes),
            transmit: None,
            pace: Pace::Usual,
            hurried: false,
            effective: None,
            health: None,
            events: VecDeque::new(),
            flush_until: None,
            counters: Counters::default(),
        }
    }

    /// The same link, told by its Hello from that of a machine that was cloned from this one.
    #[must_use]
    pub fn of_boot(self, boot: Option<BootId>) -> Self {
        Self { boot, ..self }
    }

    /// Who this endpoint is from the next Hello on.
    pub fn handle_endpoint(&mut self, endpoint: EndpointId) {
        self.endpoint = endpoint;
    }

    /// Another identity is in force than the one that this connection, if there is one, was made with: leaves it in
    /// order and connects at once.
    pub fn handle_identity(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Waiting { until } => {
                self.refusals.forget();
                *until = now;
            }
            Phase::Flowing(flow) if !self.window.is_empty() => {
                if flow.leave.is_none() {
                    let until = now + self.limits.leave_timeout;
                    flow.leave = Some(Leave { until, cause: Cause::NewIdentity });
                }
            }
            Phase::Greeting { .. } | Phase::Renewing { .. } | Phase::Flowing(_) => {
                self.close(Cause::NewIdentity, now);
            }
            // Files are read anew for the next attempt, and one that is under way ends soon.
            Phase::Connecting | Phase::Closing | Phase::Finished => {}
        }
    }

    /// Asks for the next certificate with this signing request; whether that is possible now.
    pub fn handle_renewal(&mut self, csr: Der, now: Moment) -> bool {
        let until = now + self.limits.renew_timeout;
        match &mut self.phase {
            Phase::Flowing(flow) if flow.leave.is_none() && flow.renew_until.is_none() => {
                flow.renew_until = Some(until);
            }
            Phase::Renewing { deadline } => *deadline = until,
            Phase::Flowing(_)
            | Phase::Waiting { .. }
            | Phase::Connecting
            | Phase::Greeting { .. }
            | Phase::Closing
            | Phase::Finished => return false,
        }
        self.transmit = Some(encoded(&Message::RenewRequest(RenewRequest { csr })));
        true
    }

    /// No certificate came of it. After RenewFirst that ends the connection.
    pub fn handle_no_renewal(&mut self, why: NoRenewal, now: Moment) {
        if matches!(self.phase, Phase::Renewing { .. }) {
            if why == NoRenewal::Unable {
                self.pace = Pace::Late;
            }
            self.close(Cause::NotRenewed, now);
        }
    }

    /// The transport stands: prepares the Hello.
    pub fn handle_connected(&mut self, held: Held, stamp: Stamp, now: Moment) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let hello = Message::Hello(Hello {
            endpoint: self.endpoint,
            wire_min: WIRE_VERSION,
            wire_max: WIRE_VERSION,
            agent_version: agent_version(),
            epoch: held.oldest.epoch,
            oldest: held.oldest.sequence,
            now: stamp,
            boot: self.boot,
        });
        self.inbox.clear();
        self.transmit = Some(encoded(&hello));
        self.phase = Phase::Greeting { held, deadline: now + self.limits.hello_timeout };
    }

    /// Takes bytes from the collector, in any cut.
    pub fn handle_bytes(&mut self, mut bytes: &[u8], now: Moment) {
        while matches!(
            self.phase,
            Phase::Greeting { .. } | Phase::Renewing { .. } | Phase::Flowing(_)
        ) {
            match self.inbox.next(&mut bytes) {
                Ok(Step::Frame(frame)) => self.handle_frame(frame, now),
                Ok(Step::Unreadable { kind }) => self.handle_unreadable(kind, now),
                Ok(Step::Starved) => break,
                Err(error) => self.close(Cause::Violation(Violation::Frame(error)), now),
            }
        }
        self.settle_flush(now);
    }

    /// Takes what the spool had from the wanted position on, with the position behind it; returns how many of these
    /// bytes are to be sent. An empty read at the wanted position means that there is nothing more for now.
    ///
    /// Whatever is no record frame cuts the run there and is counted: a damaged byte in the spool must not end every
    /// connection of this agent from now on.
    pub fn handle_read(&mut self, frames: &[u8], behind: Position, now: Moment) -> usize {
        let Phase::Flowing(flow) = &mut self.phase else { return 0 };
        flow.caught_up = frames.is_empty() && behind == flow.cursor;
        flow.cursor = behind;
        let idle = self.window.is_empty();
        let mut sent = 0;
        while sent < frames.len() {
            let record = decode_header(&frames[sent..])
                .ok()
                .filter(|(header, _)| kind::is_record(header.kind))
                .and_then(|(header, length)| Some((header.id, header.id.sequence.next()?, length)));
            let Some((id, next, length)) = record else {
                self.counters.reads_damaged += 1;
                break;
            };
            self.window.sent(id, next, length);
            sent += length;
        }
        if idle {
            flow.progress_at = now;
        }
        self.settle_flush(now);
        sent
    }

    /// The spool has new records.
    pub fn handle_appended(&mut self) {
        if let Phase::Flowing(flow) = &mut self.phase {
            flow.caught_up = false;
        }
    }

    /// How the agent is. Forgotten where no records flow: it speaks of now.
    pub fn handle_health(&mut self, health: Health) {
        if matches!(self.phase, Phase::Flowing(_)) {
            self.health = Some(health);
        }
    }

    /// What the endpoint is set to. Forgotten where no records flow: it is told after each Welcome.
    pub fn handle_effective(&mut self, effective: Box<EffectiveConfiguration>) {
        if matches!(self.phase, Phase::Flowing(_)) {
            self.effective = Some(effective);
        }
    }

    /// Acts on the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.flush_until.is_some_and(|until| until <= now) {
            self.end_flush(now);
        }
        let due = self.phase_deadline().is_some_and(|(deadline, _)| deadline <= now);
        if !due {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Connecting;
                self.events.push_back(Event::Connect);
            }
            Phase::Greeting { .. } => self.close(Cause::HelloTimeout, now),
            Phase::Renewing { .. } => self.close(Cause::RenewTimeout, now),
            Phase::Flowing(flow) => {
                let cause = if let Some(Leave { cause, .. }) = &flow.leave {
                    cause.clone()
                } else if flow.renew_until.is_some_and(|until| until <= now) {
                    Cause::RenewTimeout
                } else {
                    Cause::NoProgress
                };
                self.close(cause, now);
            }
            Phase::Connecting | Phase::Closing | Phase::Finished => {}
        }
    }

    /// The connection is gone, or never came to be. `random` is uniform over all of `u64`.
    pub fn handle_disconnected(&mut self, random: u64, now: Moment) {
        if matches!(self.phase, Phase::Waiting { .. } | Phase::Finished) {
            return;
        }
        self.judge_link(now);
        self.forget();
        // What was asked for or told on the dead connection and not yet picked up stays true, but for the order to
        // close.
        self.events.retain(|event| !matches!(event, Event::Close(_) | Event::Connect));
        self.phase = if self.flush_until.is_some() {
            Phase::Finished
        } else {
            let pause = match std::mem::take(&mut self.pace) {
                Pace::AtOnce if !std::mem::replace(&mut self.hurried, true) => Duration::ZERO,
                Pace::AtOnce | Pace::Usual => self.backoff.pause(random),
                Pace::Late => self.refusals.pause(random),
            };
            Phase::Waiting { until: now + pause }
        };
    }

    /// The agent ends: what the spool has now is still sent, for at most [`Limits::flush_timeout`].
    pub fn handle_shutdown(&mut self, now: Moment) {
        if self.flush_until.is_none() {
            self.flush_until = Some(now + self.limits.flush_timeout);
            // The order to end may overtake the word of a last append: the spool is asked once more.
            self.handle_appended();
            self.settle_flush(now);
        }
    }

    /// The bytes that must go out before any further record: the Hello or a request for a certificate, then what
    /// speaks of now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if let Some(hello) = self.transmit.take() {
            return Some(hello);
        }
        let effective = self.effective.take().map(|it| Message::EffectiveConfiguration(*it));
        effective.or_else(|| self.health.take().map(Message::Health)).map(|it| encoded(&it))
    }

    /// The records wanted next, if any are and the window has room.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        let Phase::Flowing(flow) = &self.phase else { return None };
        let room = self.window.room_bytes();
        let wanted = !flow.caught_up && flow.leave.is_none() && room >= FRAME_BYTES_MAX;
        wanted.then(|| Want { from: flow.cursor, bytes_max: room.min(READ_BYTES_MAX) })
    }

    /// What the shell must do next; `None` once there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` must be called next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let flush = self.flush_until.filter(|_| !self.is_finished()).map(|m| (m, "flush"));
        [self.phase_deadline(), flush].into_iter().flatten().min()
    }

    /// Whether the link ended for good after `handle_shutdown`; drop the connection, if one is left.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// What was noticed so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn phase_deadline(&self) -> Option<(Moment, &'static str)> {
        match &self.phase {
            Phase::Waiting { until } => Some((*until, "connect")),
            Phase::Greeting { deadline, .. } => Some((*deadline, "hello reply")),
            Phase::Renewing { deadline } => Some((*deadline, "renew reply")),
            Phase::Flowing(Flow { leave: Some(leave), .. }) => Some((leave.until, "leave")),
            Phase::Flowing(flow) => {
                let progress = (flow.progress_at + self.limits.progress_timeout, "ack progress");
                let progress = (!self.window.is_empty()).then_some(progress);
                let renewal = flow.renew_until.map(|until| (until, "renew reply"));
                [progress, renewal].into_iter().flatten().min()
            }
            Phase::Connecting | Phase::Closing | Phase::Finished => None,
        }
    }

    fn handle_frame(&mut self, frame: Frame, now: Moment) {
        let Some(message) = frame.message else {
            // A kind of a later version, which a Welcome of this version does not forbid.
            self.counters.frames_skipped += 1;
            return;
        };
        let kind = message.kind();
        match (message, &self.phase) {
            (Message::HelloReply(reply), Phase::Greeting { held, .. }) => {
                let held = *held;
                self.handle_reply(reply, held, now);
            }
            (Message::Ack(ack), Phase::Flowing(_)) => self.handle_ack(ack, now),
            (Message::Control(control), Phase::Flowing(_)) => self.handle_control(control, now),
            (Message::Configuration(configuration), Phase::Flowing(_)) => {
                self.handle_configuration(configuration);
            }
            (Message::RenewReply(reply), _) if self.awaits_renewal() => {
                self.handle_renew_reply(Some(Box::new(reply)), now);
            }
            (
                Message::HelloReply(_)
                | Message::Ack(_)
                | Message::Control(_)
                | Message::Hello(_)
                | Message::EnrollRequest(_)
                | Message::EnrollReply(_)
                | Message::RenewRequest(_)
                | Message::RenewReply(_)
                | Message::Configuration(_)
                | Message::EffectiveConfiguration(_)
                | Message::Health(_)
                | Message::Record(_),
                _,
            ) => self.close(Cause::Violation(Violation::Unexpected { kind }), now),
        }
    }

    /// A body of a later version, or a collector that is wrong: told apart by whether the link can do without it.
    fn handle_unreadable(&mut self, found: u8, now: Moment) {
        match (found, &self.phase) {
            // Requests and refusals are lists that grow: what is new in them is skipped, or taken as a plain refusal.
            (kind::CONTROL | kind::CONFIGURATION, Phase::Flowing(_)) => {
                self.counters.frames_skipped += 1;
            }
            (kind::HELLO_REPLY, Phase::Greeting { .. }) => {
                let detail = heapless::String::new();
                self.refuse(None, detail, now);
            }
            (kind::RENEW_REPLY, _) if self.awaits_renewal() => self.handle_renew_reply(None, now),
            (_, _) => self.close(Cause::Violation(Violation::Unreadable { kind: found }), now),
        }
    }

    fn handle_reply(&mut self, reply: HelloReply, held: Held, now: Moment) {
        match reply {
            HelloReply::Refused { reason, detail } => self.refuse(Some(reason), detail, now),
            HelloReply::RenewFirst { wall_us, .. } => {
                self.events.push_back(Event::RenewFirst { wall_us });
                self.phase = Phase::Renewing { deadline: now + self.limits.renew_timeout };
            }
            HelloReply::Welcome { wire, .. } if wire != WIRE_VERSION => {
                self.close(Cause::Violation(Violation::WireVersion { found: wire }), now);
            }
            HelloReply::Welcome { collector_version, next, wall_us, .. } => {
                self.welcome((collector_version, wall_us), next, held, now);
            }
        }
    }

    /// Whether a request for a certificate has gone out and was not answered.
    fn awaits_renewal(&self) -> bool {
        match &self.phase {
            // Before the request is picked up nothing can answer it.
            Phase::Renewing { .. } => self.transmit.is_none(),
            Phase::Flowing(flow) => flow.renew_until.is_some() && self.transmit.is_none(),
            Phase::Waiting { .. }
            | Phase::Connecting
            | Phase::Greeting { .. }
            | Phase::Closing
            | Phase::Finished => false,
        }
    }

    fn handle_renew_reply(&mut self, reply: Option<Box<RenewReply>>, now: Moment) {
        match &mut self.phase {
            Phase::Flowing(flow) => flow.renew_until = None,
            // What becomes of the certificate takes no longer than this machine's disk.
            Phase::Renewing { deadline } => *deadline = now + self.limits.renew_timeout,
            Phase::Waiting { .. }
            | Phase::Connecting
            | Phase::Greeting { .. }
            | Phase::Closing
            | Phase::Finished => return,
        }
        self.events.push_back(Event::Renewed(reply));
    }

    fn welcome(
        &mut self,
        (collector_version, wall_us): (heapless::String<VERSION_BYTES_MAX>, u64),
        next: Sequence,
        held: Held,
        now: Moment,
    ) {
        let Held { oldest, newest } = held;
        self.hurried = false;
        self.refusals.forget();
        let epoch = oldest.epoch;
        // The end of an epoch before the last is known to the spool alone, and no new record can collide there.
        if newest.epoch == epoch && next > newest.sequence {
            let cause = Cause::CollectorAhead { epoch, next, newest: newest.sequence };
            self.close(cause, now);
            return;
        }
        let from = Position { epoch, sequence: next.max(oldest.sequence) };
        self.window.restart(Ack { epoch, next: from.sequence });
        self.events.push_back(Event::Welcomed { collector_version, from, wall_us });
        if next < oldest.sequence {
            self.events.push_back(Event::CollectorBehind { next, oldest });
        }
        if next > oldest.sequence {
            self.push_ack(Ack { epoch, next });
        }
        self.phase = Phase::Flowing(Flow {
            welcomed: now,
            cursor: from,
            caught_up: false,
            progress_at: now,
            progressed: next > oldest.sequence,
            leave: None,
            renew_until: None,
        });
    }

    fn refuse(
        &mut self,
        reason: Option<RefuseReason>,
        detail: heapless::String<REASON_BYTES_MAX>,
        now: Moment,
    ) {
        match reason {
            Some(RefuseReason::Busy | RefuseReason::InUse) => {}
            // An upgrade on either side helps, or another path: asking every few seconds would not.
            Some(RefuseReason::WireVersion | RefuseReason::NoHello) | None => {
                self.backoff.exhaust();
            }
            Some(
                RefuseReason::EndpointMismatch
                | RefuseReason::Revoked
                | RefuseReason::Expired
                | RefuseReason::Cloned
                | RefuseReason::UnknownEndpoint,
            ) => self.pace = Pace::Late,
        }
        self.close(Cause::Refused { reason, detail }, now);
    }

    fn handle_ack(&mut self, ack: Ack, now: Moment) {
        match self.window.acknowledge(ack) {
            Verdict::Progress => {
                if let Phase::Flowing(flow) = &mut self.phase {
                    flow.progress_at = now;
                    flow.progressed = true;
                    let leaves = flow.leave.as_ref().map(|leave| leave.cause.clone());
                    self.push_ack(ack);
                    if let Some(cause) = leaves
                        && self.window.is_empty()
                    {
                        self.close(cause, now);
                    }
                }
            }
            Verdict::Stale => self.counters.acks_stale += 1,
            Verdict::Ahead { sent } => {
                self.close(Cause::Violation(Violation::AckAhead { ack, sent }), now);
            }
        }
    }

    fn handle_control(&mut self, control: Control, now: Moment) {
        match control {
            Control::GoingAway => {
                if self.window.is_empty() {
                    self.close(Cause::GoingAway, now);
                } else if let Phase::Flowing(flow) = &mut self.phase
                    && flow.leave.is_none()
                {
                    let until = now + self.limits.leave_timeout;
                    flow.leave = Some(Leave { until, cause: Cause::GoingAway });
                }
            }
            // The transport has acknowledged it already.
            Control::Probe => {}
            Control::SelfTest => {
                let event = Event::Requested(Control::SelfTest);
                if !self.events.contains(&event) {
                    self.events.push_back(event);
                }
            }
        }
    }

    fn handle_configuration(&mut self, configuration: Configuration) {
        if hash(&configuration.text) != configuration.hash {
            self.counters.frames_skipped += 1;
            return;
        }
        self.events.retain(|event| !matches!(event, Event::Configured(_)));
        self.events.push_back(Event::Configured(Box::new(configuration)));
    }

    fn push_ack(&mut self, ack: Ack) {
        let waiting = self.events.iter_mut().find_map(|event| match event {
            Event::Acknowledged(waiting) if waiting.epoch == ack.epoch => Some(waiting),
            Event::Acknowledged(_)
            | Event::Connect
            | Event::Welcomed { .. }
            | Event::CollectorBehind { .. }
            | Event::RenewFirst { .. }
            | Event::Renewed(_)
            | Event::Requested(_)
            | Event::Configured(_)
            | Event::Close(_) => None,
        });
        match waiting {
            Some(waiting) => waiting.next = waiting.next.max(ack.next),
            None => self.events.push_back(Event::Acknowledged(ack)),
        }
    }

    fn close(&mut self, cause: Cause, now: Moment) {
        self.judge_link(now);
        self.forget();
        if cause == Cause::NewIdentity {
            self.pace = Pace::AtOnce;
        }
        self.phase = Phase::Closing;
        self.events.push_back(Event::Close(cause));
    }

    /// Drops what was meant for this connection alone.
    fn forget(&mut self) {
        (self.transmit, self.effective, self.health) = (None, None, None);
    }

    /// Forgives earlier failures where this connection was of use. A Welcome alone is not: a collector that greets and
    /// falls over would be called every second by the whole fleet.
    fn judge_link(&mut self, now: Moment) {
        if let Phase::Flowing(flow) = &self.phase
            && (flow.progressed || now.since(flow.welcomed) >= self.limits.backoff_ceiling)
        {
            self.backoff.reset();
        }
    }

    /// Ends the flush early where nothing is left to wait for: an answer to a renewal that is dropped has made a
    /// certificate that nobody has, and spent one of the few that an endpoint is given.
    fn settle_flush(&mut self, now: Moment) {
        if self.flush_until.is_none() {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => self.phase = Phase::Finished,
            Phase::Flowing(flow)
                if flow.caught_up && self.window.is_empty() && flow.renew_until.is_none() =>
            {
                self.close(Cause::Shutdown, now);
            }
            Phase::Flowing(_)
            | Phase::Connecting
            | Phase::Greeting { .. }
            | Phase::Renewing { .. }
            | Phase::Closing
            | Phase::Finished => {}
        }
    }

    fn end_flush(&mut self, now: Moment) {
        match &self.phase {
            Phase::Greeting { .. } | Phase::Renewing { .. } | Phase::Flowing(_) => {
                self.close(Cause::Shutdown, now);
            }
            Phase::Waiting { .. } | Phase::Connecting | Phase::Closing => {
                self.phase = Phase::Finished;
            }
            Phase::Finished => {}
        }
    }
}

/// A frame that steers the connection or speaks of now.
fn encoded(message: &Message) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let length = encode_link(message, &mut frame).expect("FRAME_BYTES_MAX takes every message");
    frame.truncate(length);
    frame
}

/// This agent's version as the Hello carries it, cut to what the wire takes.
fn agent_version() -> heapless::String<VERSION_BYTES_MAX> {
    env!("CARGO_PKG_VERSION").chars().take(VERSION_BYTES_MAX).filter(char::is_ascii).collect()
}

/// The most bytes taken from the spool at once: four of the largest frames, a few hundred usual ones.
const READ_BYTES_MAX: usize = 16 * 1024 + FRAME_BYTES_MAX;
