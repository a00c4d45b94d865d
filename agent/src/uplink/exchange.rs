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
//! - Everything unacknowledged is sent again on the next connection: a record is known by (endpoint, epoch, sequence).
//!
//! Left out: what to keep and to shed (the spool), how bytes travel (`quic`).

use std::collections::VecDeque;
use std::time::Duration;

pub use crate::spool::Position;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::BootId;
use roomtone_protocol::frame::{Frame, WIRE_VERSION, decode_header, encode_link};
use roomtone_protocol::hello::{Hello, HelloReply, RefuseReason};
use roomtone_protocol::id::{EndpointId, Sequence};
use roomtone_protocol::limits::{FRAME_BYTES_MAX, REASON_BYTES_MAX, VERSION_BYTES_MAX};
use roomtone_protocol::message::{Message, kind};
use roomtone_protocol::time::Stamp;

use super::backoff::Backoff;
use super::cause::{Cause, Violation};
use super::inbox::{Inbox, Step};
use super::window::{Verdict, Window};
use crate::clock::Moment;

/// What the spool holds: all records from `oldest` up to, not including, `newest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The oldest record not yet acknowledged, or the next that will be written.
    pub oldest: Position,
    /// The next record that will be written.
    pub newest: Position,
}

/// Bounds of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most record bytes in flight; at least [`FRAME_BYTES_MAX`], else nothing could be sent.
    pub window_bytes: usize,
    /// How long a collector may take to answer the Hello.
    pub hello_timeout: Duration,
    /// How long records may be in flight without any ack progress.
    pub progress_timeout: Duration,
    /// How long a collector that announced its departure may take to acknowledge what it has.
    pub leave_timeout: Duration,
    /// How long the end of the agent waits for the last acks.
    pub flush_timeout: Duration,
    /// The longest pause after a first failure.
    pub backoff_base: Duration,
    /// The longest pause of all.
    pub backoff_ceiling: Duration,
}

impl Default for Limits {
    /// 256 KiB is a day of one room's records, and far below QUIC's send window of 1 MiB. 10 s for the Hello and 30 s
    /// without progress are ten group commits of a slow collector disk and more. 60 s of full jitter spread 10,000
    /// agents to 170 handshakes a second, a sixth of what one collector core does.
    fn default() -> Self {
        Self {
            window_bytes: 256 * 1024,
            hello_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            flush_timeout: Duration::from_secs(2),
            backoff_base: Duration::from_secs(1),
            backoff_ceiling: Duration::from_secs(60),
        }
    }
}

/// What the shell must do, or may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Begin to connect; answer with `handle_connected` or `handle_disconnected`.
    Connect,
    /// The collector takes records.
    Welcomed {
        /// The collector's own version, as it says.
        collector_version: heapless::String<VERSION_BYTES_MAX>,
        /// Where the link goes on.
        from: Position,
    },
    /// The collector lacks records that it once acknowledged, or that were shed: `next` up to the oldest held.
    CollectorBehind {
        /// The first record that the collector lacks.
        next: Sequence,
        /// The oldest record held.
        oldest: Position,
    },
    /// Hand this to the spool.
    Acknowledged(Ack),
    /// The collector asks for something. Repetitions that were not picked up yet are one.
    Requested(Control),
    /// Close the connection, then call `handle_disconnected`.
    Close(Cause),
}

/// A wish for records from the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The first record wanted.
    pub from: Position,
    /// The most bytes of whole frames; never less than [`FRAME_BYTES_MAX`], so that any record fits.
    pub bytes_max: usize,
}

/// What was noticed and needed no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Acks that settled nothing.
    pub acks_stale: u64,
    /// Frames of kinds that this version does not know or need not read.
    pub frames_skipped: u64,
    /// Runs from the spool that held something else than record frames; cut there.
    pub reads_damaged: u64,
}

/// The state machine of the link.
#[derive(Debug)]
pub struct Exchange {
    endpoint: EndpointId,
    boot: Option<BootId>,
    limits: Limits,
    phase: Phase,
    backoff: Backoff,
    inbox: Inbox,
    window: Window,
    transmit: Option<Vec<u8>>,
    /// At most one `Connect`, `Welcomed`, `CollectorBehind`, `Close`, one `Requested` per kind of request, and one
    /// `Acknowledged` per epoch in flight.
    events: VecDeque<Event>,
    flush_until: Option<Moment>,
    counters: Counters,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Moment },
    Connecting,
    Greeting { held: Held, deadline: Moment },
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
    /// Set once the collector announced its departure.
    leave_until: Option<Moment>,
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
            inbox: Inbox::default(),
            window: Window::new(limits.window_bytes),
            transmit: None,
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
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let length = encode_link(&hello, &mut frame).expect("FRAME_BYTES_MAX takes every message");
        frame.truncate(length);
        self.inbox.clear();
        self.transmit = Some(frame);
        self.phase = Phase::Greeting { held, deadline: now + self.limits.hello_timeout };
    }

    /// Takes bytes from the collector, in any cut.
    pub fn handle_bytes(&mut self, mut bytes: &[u8], now: Moment) {
        while matches!(self.phase, Phase::Greeting { .. } | Phase::Flowing(_)) {
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
            Phase::Flowing(flow) if flow.leave_until.is_some() => {
                self.close(Cause::GoingAway, now);
            }
            Phase::Flowing(_) => self.close(Cause::NoProgress, now),
            Phase::Connecting | Phase::Closing | Phase::Finished => {}
        }
    }

    /// The connection is gone, or never came to be. `random` is uniform over all of `u64`.
    pub fn handle_disconnected(&mut self, random: u64, now: Moment) {
        if matches!(self.phase, Phase::Waiting { .. } | Phase::Finished) {
            return;
        }
        self.judge_link(now);
        self.transmit = None;
        // What was asked for or told on the dead connection and not yet picked up stays true, but for the order to
        // close.
        self.events.retain(|event| !matches!(event, Event::Close(_) | Event::Connect));
        self.phase = if self.flush_until.is_some() {
            Phase::Finished
        } else {
            Phase::Waiting { until: now + self.backoff.pause(random) }
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

    /// The bytes that must go out before any record: the Hello.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// The records wanted next, if any are and the window has room.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        let Phase::Flowing(flow) = &self.phase else { return None };
        let room = self.window.room_bytes();
        let wanted = !flow.caught_up && flow.leave_until.is_none() && room >= FRAME_BYTES_MAX;
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
            Phase::Flowing(Flow { leave_until: Some(until), .. }) => Some((*until, "leave")),
            Phase::Flowing(flow) if !self.window.is_empty() => {
                Some((flow.progress_at + self.limits.progress_timeout, "ack progress"))
            }
            Phase::Flowing(_) | Phase::Connecting | Phase::Closing | Phase::Finished => None,
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
            // Nothing here is set by a collector yet.
            (Message::Configuration(_), Phase::Flowing(_)) => self.counters.frames_skipped += 1,
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
            (kind::CONTROL, Phase::Flowing(_)) => self.counters.frames_skipped += 1,
            (kind::HELLO_REPLY, Phase::Greeting { .. }) => {
                let detail = heapless::String::new();
                self.refuse(None, detail, now);
            }
            (_, _) => self.close(Cause::Violation(Violation::Unreadable { kind: found }), now),
        }
    }

    fn handle_reply(&mut self, reply: HelloReply, held: Held, now: Moment) {
        match reply {
            HelloReply::Refused { reason, detail } => self.refuse(Some(reason), detail, now),
            HelloReply::RenewFirst { .. } => {
                self.refuse(Some(RefuseReason::Expired), heapless::String::new(), now);
            }
            HelloReply::Welcome { wire, .. } if wire != WIRE_VERSION => {
                self.close(Cause::Violation(Violation::WireVersion { found: wire }), now);
            }
            HelloReply::Welcome { collector_version, next, .. } => {
                self.welcome(collector_version, next, held, now);
            }
        }
    }

    fn welcome(
        &mut self,
        collector_version: heapless::String<VERSION_BYTES_MAX>,
        next: Sequence,
        held: Held,
        now: Moment,
    ) {
        let Held { oldest, newest } = held;
        let epoch = oldest.epoch;
        // The end of an epoch before the last is known to the spool alone, and no new record can collide there.
        if newest.epoch == epoch && next > newest.sequence {
            let cause = Cause::CollectorAhead { epoch, next, newest: newest.sequence };
            self.close(cause, now);
            return;
        }
        let from = Position { epoch, sequence: next.max(oldest.sequence) };
        self.window.restart(Ack { epoch, next: from.sequence });
        self.events.push_back(Event::Welcomed { collector_version, from });
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
            leave_until: None,
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
            // Only a person can help here; asking every few seconds would not.
            Some(
                RefuseReason::EndpointMismatch
                | RefuseReason::WireVersion
                | RefuseReason::NoHello
                | RefuseReason::Revoked
                | RefuseReason::Expired
                | RefuseReason::Cloned
                | RefuseReason::UnknownEndpoint,
            )
            | None => self.backoff.exhaust(),
        }
        self.close(Cause::Refused { reason, detail }, now);
    }

    fn handle_ack(&mut self, ack: Ack, now: Moment) {
        match self.window.acknowledge(ack) {
            Verdict::Progress => {
                if let Phase::Flowing(flow) = &mut self.phase {
                    flow.progress_at = now;
                    flow.progressed = true;
                    let leaves = flow.leave_until.is_some();
                    self.push_ack(ack);
                    if leaves && self.window.is_empty() {
                        self.close(Cause::GoingAway, now);
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
                    && flow.leave_until.is_none()
                {
                    flow.leave_until = Some(now + self.limits.leave_timeout);
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

    fn push_ack(&mut self, ack: Ack) {
        let waiting = self.events.iter_mut().find_map(|event| match event {
            Event::Acknowledged(waiting) if waiting.epoch == ack.epoch => Some(waiting),
            Event::Acknowledged(_)
            | Event::Connect
            | Event::Welcomed { .. }
            | Event::CollectorBehind { .. }
            | Event::Requested(_)
            | Event::Close(_) => None,
        });
        match waiting {
            Some(waiting) => waiting.next = waiting.next.max(ack.next),
            None => self.events.push_back(Event::Acknowledged(ack)),
        }
    }

    fn close(&mut self, cause: Cause, now: Moment) {
        self.judge_link(now);
        self.transmit = None;
        self.phase = Phase::Closing;
        self.events.push_back(Event::Close(cause));
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

    /// Ends the flush early where nothing is left to wait for.
    fn settle_flush(&mut self, now: Moment) {
        if self.flush_until.is_none() {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => self.phase = Phase::Finished,
            Phase::Flowing(flow) if flow.caught_up && self.window.is_empty() => {
                self.close(Cause::Shutdown, now);
            }
            Phase::Flowing(_)
            | Phase::Connecting
            | Phase::Greeting { .. }
            | Phase::Closing
            | Phase::Finished => {}
        }
    }

    fn end_flush(&mut self, now: Moment) {
        match &self.phase {
            Phase::Greeting { .. } | Phase::Flowing(_) => self.close(Cause::Shutdown, now),
            Phase::Waiting { .. } | Phase::Connecting | Phase::Closing => {
                self.phase = Phase::Finished;
            }
            Phase::Finished => {}
        }
    }
}

/// This agent's version as the Hello carries it, cut to what the wire takes.
fn agent_version() -> heapless::String<VERSION_BYTES_MAX> {
    env!("CARGO_PKG_VERSION").chars().take(VERSION_BYTES_MAX).filter(char::is_ascii).collect()
}

/// The most bytes taken from the spool at once: four of the largest frames, a few hundred usual ones.
const READ_BYTES_MAX: usize = 16 * 1024 + FRAME_BYTES_MAX;
