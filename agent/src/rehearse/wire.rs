//! The sockets of a rehearsal: the desk that a talker sits at, and the relay between two of them.
//!
//! Every socket is connected, so that the kernel passes on datagrams of one peer only. Datagrams are
//! timed when they are read, by the clock that a live tap counts by; the process does little else
//! than wait for them.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use rustix::time::{ClockId, clock_gettime};
use tokio::net::UdpSocket;

use super::impair::Impairment;
use super::report::{Count, Injected, Kind, Party};
use super::talker::{Heard, Talker};
use super::{RehearseError, Side};
use crate::clock::Moment;
use crate::tap::Datagram;

/// Room for any datagram of a rehearsal; what is longer is foreign and may be cut.
pub(super) const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Datagrams read from one socket before the others have their turn.
const READ_MAX: usize = 64;

/// What is told each datagram that a side sent or received.
pub(super) type Observe<'a> = &'a mut dyn FnMut(Side, Datagram<'_>);

/// Reads the clock of live moments: since boot, suspend included.
pub(super) fn moment() -> Moment {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Wire {
    socket: UdpSocket,
    local: SocketAddr,
    remote: SocketAddr,
    /// Datagrams that the kernel would not take.
    unsent: u64,
}

impl Wire {
    /// Opens a socket that is not connected yet.
    pub(super) async fn bind(address: SocketAddr) -> Result<UdpSocket, RehearseError> {
        UdpSocket::bind(address).await.map_err(|source| RehearseError::Bind { address, source })
    }

    /// Connects it.
    pub(super) async fn connect(
        socket: UdpSocket,
        remote: SocketAddr,
    ) -> Result<Self, RehearseError> {
        let failed = |source| RehearseError::Connect { address: remote, source };
        socket.connect(remote).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        // Until the reactor has seen the socket writable once, sending without waiting is refused.
        socket.writable().await.map_err(failed)?;
        Ok(Self { socket, local, remote, unsent: 0 })
    }

    /// Whether a read may find something; wakes the task once it may.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> bool {
        matches!(self.socket.poll_recv_ready(context), Poll::Ready(_))
    }

    /// Reads one datagram; `None` where there is none.
    ///
    /// A refused port behind an earlier datagram is reported on a later read (RFC 1122 section
    /// 4.1.3.3): the other side is not there yet, or not any more, which silence tells just as well.
    fn receive(&self, into: &mut [u8]) -> Result<Option<usize>, RehearseError> {
        match self.socket.try_recv(into) {
            Ok(length) => Ok(Some(length)),
            Err(error) if is_nothing(&error) => Ok(None),
            Err(source) => Err(RehearseError::Receive { address: self.local, source }),
        }
    }

    /// Sends one datagram; a refusal is counted and the datagram is gone, as on any full link.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let is_sent = self.socket.try_send(bytes).is_ok();
        self.unsent += u64::from(!is_sent);
        is_sent
    }
}

/// One side of the call with its socket.
#[derive(Debug)]
pub(super) struct Desk {
    side: Side,
    talker: Talker,
    wire: Wire,
    /// What is done to datagrams before they leave, where no relay does it.
    line: Option<Impairment>,
    sent: Count,
    received: Count,
    foreign: u64,
    heard_at: Moment,
}

impl Desk {
    pub(super) fn new(side: Side, talker: Talker, wire: Wire, line: Option<Impairment>) -> Self {
        Self {
            side,
            talker,
            wire,
            line,
            sent: Count::default(),
            received: Count::default(),
            foreign: 0,
            heard_at: moment(),
        }
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The other side's address, as this side knows it.
    pub(super) fn remote(&self) -> SocketAddr {
        self.wire.remote
    }

    pub(super) fn talker(&self) -> &Talker {
        &self.talker
    }

    pub(super) fn hang_up(&mut self) {
        self.talker.hang_up();
    }

    pub(super) fn sent(&self) -> Count {
        self.sent
    }

    pub(super) fn received(&self) -> Count {
        self.received
    }

    /// When something of the rehearsal's came in last.
    pub(super) fn heard_at(&self) -> Moment {
        self.heard_at
    }

    /// Whether nothing waits to leave.
    pub(super) fn is_idle(&self) -> bool {
        self.line.as_ref().is_none_or(Impairment::is_empty)
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> bool {
        self.wire.poll_readable(context)
    }

    /// When [`Self::turn`] will have something to do, but for what comes in.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let line = self.line.as_ref().and_then(Impairment::poll_timeout);
        self.talker.poll_timeout().into_iter().chain(line).min()
    }

    /// Reads what came in, and sends what is due.
    pub(super) fn turn(&mut self, observe: Observe<'_>) -> Result<(), RehearseError> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..READ_MAX {
            let Some(length) = self.wire.receive(&mut buffer)? else { break };
            self.hear(&buffer[..length], moment(), observe);
        }
        while let Some(bytes) = self.talker.poll(moment()) {
            self.offer(&bytes, observe);
        }
        while let Some(released) = self.line.as_mut().and_then(|line| line.poll(moment())) {
            self.transmit(released.kind, &released.bytes, observe);
        }
        Ok(())
    }

    /// Takes in one datagram of the other side.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Moment, observe: Observe<'_>) {
        observe(self.side, datagram(self.wire.remote, self.wire.local, bytes, now));
        match self.talker.handle(bytes, self.wire.remote, now) {
            Heard::Taken(kind) => *self.received.of(kind) += 1,
            Heard::Check(answer) => {
                self.received.stun += 1;
                self.offer(&answer, observe);
            }
            Heard::Foreign => {
                self.foreign += 1;
                return;
            }
        }
        self.heard_at = now;
    }

    /// What this side did; `relay` says what was done behind it.
    pub(super) fn party(&self, relay: Option<Behind>) -> Party {
        let behind = relay.unwrap_or_else(|| Behind {
            injected: self.line.as_ref().map(Impairment::injected).unwrap_or_default(),
            unsent: 0,
            foreign: 0,
        });
        Party {
            side: self.side,
            local: self.wire.local,
            remote: self.wire.remote,
            ssrc: self.talker.ssrc(),
            sent: self.sent,
            received: self.received,
            injected: behind.injected,
            checks: self.talker.checks(),
            frames_skipped: self.talker.frames_skipped(),
            unsent: self.wire.unsent + behind.unsent,
            foreign: self.foreign + behind.foreign,
        }
    }

    fn offer(&mut self, bytes: &[u8], observe: Observe<'_>) {
        let Some(kind) = Kind::of(bytes) else { return };
        match &mut self.line {
            Some(line) => line.handle(kind, bytes, moment()),
            None => self.transmit(kind, bytes, observe),
        }
    }

    fn transmit(&mut self, kind: Kind, bytes: &[u8], observe: Observe<'_>) {
        let now = moment();
        if self.wire.send(bytes) {
            *self.sent.of(kind) += 1;
            self.talker.handle_sent(bytes, now);
            observe(self.side, datagram(self.wire.local, self.wire.remote, bytes, now));
        }
    }
}

/// What happened to the datagrams of one side at the relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behind {
    pub(super) injected: Injected,
    unsent: u64,
    foreign: u64,
}

/// The path between two desks: a socket towards each, an impairment in each direction.
#[derive(Debug)]
pub(super) struct Relay {
    /// Towards the caller, towards the callee.
    wires: [Wire; 2],
    /// From the caller, from the callee.
    lines: [Impairment; 2],
    foreign: [u64; 2],
}

impl Relay {
    /// A relay; `wires` lead to caller and callee, `lines` impair what comes from them.
    pub(super) fn new(wires: [Wire; 2], lines: [Impairment; 2]) -> Self {
        Self { wires, lines, foreign: [0; 2] }
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> bool {
        // Both are asked, so that both wake the task.
        let ready = [&self.wires[0], &self.wires[1]].map(|wire| wire.poll_readable(context));
        ready.contains(&true)
    }

    /// When [`Self::turn`] will have something to do, but for what comes in.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.lines.iter().filter_map(Impairment::poll_timeout).min()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.lines.iter().all(Impairment::is_empty)
    }

    /// Takes in what the sides sent, and lets out what is due.
    pub(super) fn turn(&mut self) -> Result<(), RehearseError> {
        for from in [0, 1] {
            self.take_in(from)?;
            while let Some(released) = self.lines[from].poll(moment()) {
                self.wires[1 - from].send(&released.bytes);
            }
        }
        Ok(())
    }

    /// How many datagrams of side 0, the caller, or 1, the callee, came in.
    pub(super) fn handled(&self, from: usize) -> u64 {
        self.lines[from].injected().handled.total()
    }

    /// How many datagrams of side 0, the caller, or 1, the callee, went out.
    pub(super) fn passed(&self, from: usize) -> u64 {
        self.lines[from].injected().released.total().saturating_sub(self.wires[1 - from].unsent)
    }

    /// What was done to the datagrams of side 0, the caller, or 1, the callee.
    pub(super) fn behind(&self, from: usize) -> Behind {
        Behind {
            injected: self.lines[from].injected(),
            unsent: self.wires[1 - from].unsent,
            foreign: self.foreign[from],
        }
    }

    fn take_in(&mut self, from: usize) -> Result<(), RehearseError> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..READ_MAX {
            let Some(length) = self.wires[from].receive(&mut buffer)? else { break };
            match Kind::of(&buffer[..length]) {
                Some(kind) => self.lines[from].handle(kind, &buffer[..length], moment()),
                None => self.foreign[from] += 1,
            }
        }
        Ok(())
    }
}

/// Whether a read found no datagram, and the next one may.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused)
}

fn datagram(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
    at: Moment,
) -> Datagram<'_> {
    let wire_bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    // What the network makes of a marking is not the watch's business here.
    Datagram { at, source, destination, dscp: 0, payload, wire_bytes }
}
