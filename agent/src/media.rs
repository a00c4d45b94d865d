//! The media watch: from datagrams to calls, legs, intervals and totals.
//!
//! Sans-I/O: [`Watch::handle_datagram`] and [`Watch::handle_timeout`] feed it, [`Watch::poll_event`] drains it,
//! [`Watch::poll_timeout`] says when it wants to be woken. A call opens with its first proven stream and closes when
//! none of its legs had a packet for the idle time; legs that overlap in time belong to one call, unless the room
//! application says otherwise ([`Watch::handle_context`], by the rules in [`context`]).
//!
//! Limits: [`paths::PATHS_MAX`] address pairs, [`leg::STREAMS_MAX`] streams each; what lies beyond is counted in
//! [`Counters`] and forgotten.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::id::{CallId, LegNumber};
use roomtone_protocol::media::{Direction, Transport};

use crate::clock::Moment;
use crate::tap::Datagram;

pub mod burst;
pub mod call;
pub mod clock_rate;
pub mod codec;
pub mod context;
pub mod demux;
pub mod e_model;
pub mod heard;
pub mod jitter;
pub mod leg;
pub mod local;
pub mod marking;
pub mod paths;
pub mod playout;
pub mod reporter;
pub mod rtcp;
pub mod rtp;
pub mod rtt;
pub mod seq;
pub mod stream;
pub mod stun;
pub mod turn;

use call::Call;
use context::{ContextChange, ContextTaken};
use demux::{Class, classify};
use leg::{IntervalReport, LegReport, Path};
use paths::{PathKey, Paths};
use rtt::Transactions;
use stun::{MessageClass, StunHeader};

/// How often forgotten pairs and given-up transactions are looked for, while packets come.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// TURN inside TURN is nobody's network.
const WRAPPINGS_MAX: u8 = 2;
/// Changes of context that wait for the packets of before them, at most; a second of them is a handful.
const CHANGES_MAX: usize = 32;

/// What a watch needs to know beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The endpoint's own addresses; datagrams that have none of them are not looked at.
    pub local: Vec<IpAddr>,
    /// Silence on all legs after which a call is over.
    pub call_idle: Duration,
    /// Random bits from which call ids are drawn.
    pub seed: u64,
}

/// The default of [`Options::call_idle`] (design section 4.1).
pub const CALL_IDLE: Duration = Duration::from_secs(15);

/// What a watch has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A call began.
    CallOpened {
        /// The call.
        call: CallId,
        /// Its first media packet, or the room application's word.
        at: Moment,
        /// Meeting or rehearsal.
        purpose: CallPurpose,
    },
    /// A leg of the open call began.
    LegOpened {
        /// The call.
        call: CallId,
        /// Its number.
        leg: LegNumber,
        /// Its first media packet or answered check.
        at: Moment,
        /// The endpoint's own address.
        local: SocketAddr,
        /// The other address.
        remote: SocketAddr,
        /// Direct or relayed.
        transport: Transport,
    },
    /// Ten seconds of a leg are over.
    Interval {
        /// The call.
        call: CallId,
        /// The figures.
        report: IntervalReport,
    },
    /// A leg fell silent or its call closed. The last report of a leg wins.
    LegSummary {
        /// The call.
        call: CallId,
        /// The totals.
        report: LegReport,
    },
    /// The call is over.
    CallClosed {
        /// The call.
        call: CallId,
        /// Its last packet, or the end of its context where that is later.
        at: Moment,
        /// Why.
        reason: CallCloseReason,
        /// How many legs it had.
        legs: u16,
    },
    /// What the room application said has taken effect; what it did was told before.
    ContextTaken(ContextTaken),
}

/// What was not measured, and why. All cumulative, in datagrams unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Neither address is the endpoint's.
    pub foreign: u64,
    /// Begins like RTP and is none.
    pub rtp_malformed: u64,
    /// Begins like STUN and is none.
    pub stun_malformed: u64,
    /// Begins like TURN ChannelData and is none.
    pub turn_malformed: u64,
    /// Address pairs given up for room.
    pub paths_evicted: u64,
    /// Packets of address pairs that found every place taken by a leg.
    pub paths_refused: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Watch {
    options: Options,
    paths: Paths,
    transactions: Transactions<PathKey>,
    call: Option<Call>,
    /// What the room application said, until the packets of before are in.
    changes: VecDeque<(ContextChange, Moment)>,
    /// The latest moment that a timer was asked for.
    latest: Moment,
    events: VecDeque<Event>,
    counters: Counters,
    tap_dropped: u64,
    /// The earliest moment at which `handle_timeout` has something to do.
    due: Moment,
    housekeeping: Option<Moment>,
    ids: u64,
}

impl Watch {
    /// Makes a watch that has seen nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            ids: options.seed,
            options,
            paths: Paths::default(),
            transactions: Transactions::default(),
            call: None,
            changes: VecDeque::new(),
            latest: Moment::ORIGIN,
            events: VecDeque::new(),
            counters: Counters::default(),
            tap_dropped: 0,
            due: Moment::from_nanos(u64::MAX),
            housekeeping: None,
        }
    }

    /// Takes one datagram. Moments may repeat; where one lies before its predecessor, no timer fires.
    pub fn handle_datagram(&mut self, datagram: &Datagram<'_>) {
        if datagram.at >= self.due {
            self.handle_timeout(datagram.at);
        }
        let egress = self.is_local(datagram.source.ip());
        let ingress = self.is_local(datagram.destination.ip());
        if !egress && !ingress {
            self.counters.foreign += 1;
            return;
        }
        // Two programs on one endpoint: each side is a leg of its own.
        if egress {
            self.route(datagram, datagram.source, datagram.destination, Direction::Egress);
        }
        if ingress {
            self.route(datagram, datagram.destination, datagram.source, Direction::Ingress);
        }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.options.local.contains(&address)
    }

    fn route(
        &mut self,
        datagram: &Datagram<'_>,
        local: SocketAddr,
        remote: SocketAddr,
        direction: Direction,
    ) {
        let (mut bytes, mut wire_bytes) = (datagram.payload, datagram.wire_bytes);
        let key = PathKey::new(local, remote);
        let mut relayed = false;
        for _ in 0..=WRAPPINGS_MAX {
            let inner = match classify(bytes) {
                Class::Rtp => {
                    self.handle_rtp(
                        bytes,
                        wire_bytes,
                        datagram.dscp,
                        (local, remote),
                        key,
                        direction,
                        relayed,
                        datagram.at,
                    );
                    None
                }
                Class::Stun => match stun::parse(bytes, wire_bytes) {
                    Some(header) => {
                        // Checks that a relay carries measure another path than the one to the relay.
                        if !relayed {
                            self.handle_stun(
                                &header,
                                bytes,
                                (local, remote),
                                key,
                                direction,
                                datagram.at,
                            );
                        }
                        turn::unwrap_message(bytes, wire_bytes)
                    }
                    None => {
                        self.counters.stun_malformed += 1;
                        None
                    }
                },
                Class::ChannelData => {
                    let inner = turn::unwrap_channel_data(bytes, wire_bytes);
                    self.counters.turn_malformed += u64::from(inner.is_none());
                    inner
                }
                Class::Rtcp => {
                    self.handle_rtcp(bytes, wire_bytes, (local, remote), direction, datagram.at);
                    None
                }
                Class::Dtls => {
                    if let Some(path) = self.paths.get_mut(key) {
                        path.touch(datagram.at);
                    }
                    None
                }
                Class::Other => None,
            };
            match inner {
                Some(unwrapped) => (bytes, wire_bytes) = unwrapped,
                None => return,
            }
            relayed = true;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one packet, taken apart once")]
    fn handle_rtp(
        &mut self,
        bytes: &[u8],
        wire_bytes: u16,
        dscp: u8,
        addresses: (SocketAddr, SocketAddr),
        key: PathKey,
        direction: Direction,
        relayed: bool,
        now: Moment,
    ) {
        let Some(header) = rtp::parse(bytes, wire_bytes) else {
            self.counters.rtp_malformed += 1;
            return;
        };
        let Some(path) = self.paths.admit(key, addresses, now) else {
            return;
        };
        path.touch(now);
        let proven = path.handle_rtp(&header, dscp, direction, relayed, now);
        self.keep_house_from(now);
        if let Some(first) = proven {
            self.open(key, first);
        }
    }

    /// Reports travel with the media that they are about (RFC 5761), or on the ports above (RFC 3550 section 11).
    fn handle_rtcp(
        &mut self,
        bytes: &[u8],
        wire_bytes: u16,
        (local, remote): (SocketAddr, SocketAddr),
        direction: Direction,
        now: Moment,
    ) {
        if let Some(path) = self.paths.get_mut(PathKey::new(local, remote)) {
            path.touch(now);
            if path.has_streams() {
                path.handle_rtcp(bytes, wire_bytes, direction, now);
                return;
            }
        }
        let below = |address: SocketAddr| {
            Some(SocketAddr::new(address.ip(), address.port().checked_sub(1)?))
        };
        if let (Some(local), Some(remote)) = (below(local), below(remote))
            && let Some(path) = self.paths.get_mut(PathKey::new(local, remote))
        {
            path.handle_rtcp(bytes, wire_bytes, direction, now);
        }
    }

    fn handle_stun(
        &mut self,
        header: &StunHeader,
        bytes: &[u8],
        addresses: (SocketAddr, SocketAddr),
        key: PathKey,
        direction: Direction,
        now: Moment,
    ) {
        match (header.class, direction) {
            (MessageClass::Request, direction) => {
                let Some(path) = self.paths.admit(key, addresses, now) else {
                    return;
                };
                path.touch(now);
                if stun::is_rehearsal(bytes) {
                    path.note_rehearsal();
                }
                self.keep_house_from(now);
                if direction == Direction::Egress {
                    self.transactions.handle_request(header.transaction, header.method, key, now);
                }
            }
            (MessageClass::Success | MessageClass::Error, Direction::Ingress) => {
                if let Some(path) = self.paths.get_mut(key) {
                    path.touch(now);
                }
                let answer =
                    self.transactions.handle_answer(header.transaction, header.method, now);
                if let Some((asked, rtt)) = answer
                    && let Some(path) = self.paths.get_mut(asked)
                {
                    path.note_rtt(rtt);
                    if header.class == MessageClass::Success
                        && let Some(address) = stun::reflexive(bytes)
                    {
                        path.note_reflexive(address);
                    }
                    if self.call.as_ref().is_some_and(Call::takes_checked) {
                        self.open(asked, now);
                    }
                }
            }
            (MessageClass::Success | MessageClass::Error, Direction::Egress)
            | (MessageClass::Indication, _) => {}
        }
    }

    /// Takes what the room application said at a moment. It takes effect when a packet or a timer of that moment or
    /// later comes, so that each packet falls on its own side of it. Moments ascend.
    pub fn handle_context(&mut self, change: ContextChange, at: Moment) {
        if self.changes.len() >= CHANGES_MAX
            && let Some((change, at)) = self.changes.pop_front()
        {
            self.take(change, at);
        }
        self.changes.push_back((change, at));
        self.due = self.due.min(at);
    }

    fn take(&mut self, change: ContextChange, at: Moment) {
        match change {
            ContextChange::Began { context, purpose } => {
                if !self.call.as_ref().is_some_and(|call| call.is_free_for(purpose)) {
                    let free = self.call.as_ref().map_or(at, |call| call.ends_at(at, &self.paths));
                    self.close_call(CallCloseReason::Idle, at);
                    let id = next_id(&mut self.ids);
                    self.call = Some(Call::open(id, purpose, at.max(free), &mut self.events));
                }
                if let Some(call) = &mut self.call {
                    call.hold(context);
                }
            }
            ContextChange::Ended { context } => {
                if let Some(call) = &mut self.call {
                    call.release(context, at);
                }
                self.close_if_over(at);
            }
        }
        let call = self.call.as_ref().map(Call::id);
        self.events.push_back(Event::ContextTaken(ContextTaken { change, at, call }));
    }

    /// Makes a path a leg, of a new call where none is open.
    fn open(&mut self, path: PathKey, at: Moment) {
        let is_leg = self.paths.get(path).is_some_and(Path::is_leg);
        if !is_leg && self.call.as_ref().is_some_and(|call| call.ended_before(at)) {
            self.close_call(CallCloseReason::Idle, at);
        }
        let purpose = match self.paths.get(path) {
            Some(path) if path.is_rehearsal() => CallPurpose::Rehearsal,
            Some(_) | None => CallPurpose::Meeting,
        };
        let (ids, events, idle) = (&mut self.ids, &mut self.events, self.options.call_idle);
        let call =
            self.call.get_or_insert_with(|| Call::open(next_id(ids), purpose, at, &mut *events));
        call.open_leg(path, at, idle, &mut self.paths, self.tap_dropped, events);
        self.due = self.due.min(at + leg::INTERVAL.min(idle));
    }

    /// Looks for what may be forgotten, from the first packet on.
    fn keep_house_from(&mut self, now: Moment) {
        if self.housekeeping.is_none() {
            self.housekeeping = Some(now + HOUSEKEEPING);
            self.due = self.due.min(now + HOUSEKEEPING);
        }
    }

    /// Does what is due at `now`: takes what the room application said, ends intervals, silent legs and the call,
    /// forgets idle paths.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.latest = self.latest.max(now);
        if now < self.due {
            return;
        }
        while let Some((change, at)) = self.changes.pop_front_if(|(_, at)| *at <= now) {
            self.close_if_over(at);
            self.take(change, at);
        }
        if !self.close_if_over(now)
            && let Some(call) = &self.call
        {
            let idle = self.options.call_idle;
            call.handle_timeout(now, idle, &mut self.paths, self.tap_dropped, &mut self.events);
        }
        if self.housekeeping.is_some_and(|at| now >= at) {
            self.keep_house(now);
        }
        self.due = self.next_due(now);
    }

    /// Closes the call if nothing keeps it open at `now`; whether it did.
    fn close_if_over(&mut self, now: Moment) -> bool {
        let idle = self.options.call_idle;
        let is_over = self.call.as_ref().is_some_and(|call| call.is_over(now, idle, &self.paths));
        if is_over {
            self.close_call(CallCloseReason::Idle, now);
        }
        is_over
    }

    fn close_call(&mut self, reason: CallCloseReason, now: Moment) {
        if let Some(call) = self.call.take() {
            call.close(reason, now, &mut self.paths, self.tap_dropped, &mut self.events);
        }
    }

    fn keep_house(&mut self, now: Moment) {
        let paths = &mut self.paths;
        self.transactions.expire(now, |key| {
            if let Some(path) = paths.get_mut(key) {
                path.note_unanswered();
            }
        });
        self.paths.forget_idle(now);
        self.housekeeping = (!self.paths.is_empty()).then_some(now + HOUSEKEEPING);
    }

    fn next_due(&self, now: Moment) -> Moment {
        let never = Moment::from_nanos(u64::MAX);
        let call = self.call.as_ref();
        let call = call.and_then(|call| call.due(self.options.call_idle, &self.paths));
        let change = self.changes.front().map(|(_, at)| *at);
        [self.housekeeping, call, change].into_iter().flatten().min().unwrap_or(never).max(now)
    }

    /// When the watch wants `handle_timeout`, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let reason = match (&self.call, self.changes.is_empty()) {
            (_, false) => "word of the room application",
            (Some(_), true) => "interval or end of call",
            (None, true) => "housekeeping",
        };
        (self.due < Moment::from_nanos(u64::MAX)).then_some((self.due, reason))
    }

    /// What happened, in order; `None` when all was said.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Notes the packets of the interface that the tap has lost in all.
    pub fn note_tap_dropped(&mut self, total: u64) {
        self.tap_dropped = self.tap_dropped.max(total);
    }

    /// Ends what is open: the agent stops, or the capture is over. What the room application said of later than the
    /// latest timer has no effect any more.
    pub fn finish(&mut self) {
        self.changes.clear();
        self.close_call(CallCloseReason::AgentStopped, self.latest);
        self.due = self.next_due(Moment::ORIGIN);
    }

    /// Replaces the endpoint's own addresses, as when an interface came up.
    pub fn set_local(&mut self, local: Vec<IpAddr>) {
        self.options.local = local;
    }

    /// What was not measured, and why.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (paths_evicted, paths_refused) = (self.paths.evicted(), self.paths.refused());
        Counters { paths_evicted, paths_refused, ..self.counters }
    }
}

/// SplitMix64: every id is drawn once from the seed's sequence.
fn next_id(state: &mut u64) -> CallId {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    CallId(z ^ (z >> 31))
}
