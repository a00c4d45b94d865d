//! The media watch: from datagrams to calls, legs, intervals and totals.
//!
//! Sans-I/O: [`Watch::handle_datagram`] and [`Watch::handle_timeout`] feed it, [`Watch::poll_event`] drains it, [`Watch::poll_timeout`] says when it wants
//! to be woken. A call opens with its first proven stream and closes when none of its legs had a packet for the idle time; legs that overlap in time belong to one call.
//!
//! Limits: [`PATHS_MAX`] address pairs, [`leg::STREAMS_MAX`] streams each; what lies beyond is counted in [`Counters`] and forgotten. What it leaves out: RTCP in
//! the clear and the playout model come with the verdict.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use roomtone_protocol::call::{CallCloseReason, CallPurpose};
use roomtone_protocol::id::{CallId, LegNumber};
use roomtone_protocol::media::{Direction, Transport};

use crate::clock::Moment;
use crate::tap::Datagram;

pub mod clock_rate;
pub mod demux;
pub mod jitter;
pub mod leg;
pub mod local;
pub mod rtp;
pub mod rtt;
pub mod seq;
pub mod stream;
pub mod stun;
pub mod turn;

use demux::{Class, classify};
use leg::{IntervalReport, LegReport, Path};
use rtt::Transactions;
use stun::{MessageClass, StunHeader};

/// Address pairs watched at once, at most. At the limit the pair silent for longest that is no leg gives way; legs never do.
pub const PATHS_MAX: usize = 4_096;
/// A pair that is no leg is forgotten after this silence.
const PATH_IDLE: Duration = Duration::from_secs(30);
/// How often forgotten pairs and given-up transactions are looked for, while packets come.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// TURN inside TURN is nobody's network.
const WRAPPINGS_MAX: u8 = 2;

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
        /// Its first media packet.
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
        /// Its last packet.
        at: Moment,
        /// Why.
        reason: CallCloseReason,
        /// How many legs it had.
        legs: u16,
    },
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

/// The open call.
#[derive(Debug)]
struct Call {
    id: CallId,
    opened: Moment,
    legs: Vec<usize>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Watch {
    options: Options,
    paths: Vec<Path>,
    by_address: HashMap<PathKey, usize, foldhash::fast::RandomState>,
    transactions: Transactions<PathKey>,
    call: Option<Call>,
    events: VecDeque<Event>,
    counters: Counters,
    tap_dropped: u64,
    /// The earliest moment at which `handle_timeout` has something to do.
    due: Moment,
    housekeeping: Option<Moment>,
    ids: u64,
}

/// Both addresses, the local one first, in a form that hashes fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PathKey {
    local: u128,
    remote: u128,
    ports: u32,
}

impl PathKey {
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self {
            local: bits(local.ip()),
            remote: bits(remote.ip()),
            ports: u32::from(local.port()) << 16 | u32::from(remote.port()),
        }
    }
}

impl Watch {
    /// Makes a watch that has seen nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            ids: options.seed,
            options,
            paths: Vec::new(),
            by_address: HashMap::default(),
            transactions: Transactions::default(),
            call: None,
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
                Class::Rtcp | Class::Dtls => {
                    if let Some(&path) = self.by_address.get(&key) {
                        self.paths[path].touch(datagram.at);
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
        let Some(path) = self.path(key, addresses, now) else {
            return;
        };
        self.paths[path].touch(now);
        if let Some(first) = self.paths[path].handle_rtp(&header, direction, relayed, now) {
            self.open_call(path, first);
            self.open_leg(path, first);
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
                let Some(path) = self.path(key, addresses, now) else {
                    return;
                };
                self.paths[path].touch(now);
                if stun::is_rehearsal(bytes) {
                    self.paths[path].note_rehearsal();
                }
                if direction == Direction::Egress {
                    self.transactions.handle_request(header.transaction, header.method, key, now);
                }
            }
            (MessageClass::Success | MessageClass::Error, Direction::Ingress) => {
                if let Some(&path) = self.by_address.get(&key) {
                    self.paths[path].touch(now);
                }
                let answer =
                    self.transactions.handle_answer(header.transaction, header.method, now);
                if let Some((asked, rtt)) = answer
                    && let Some(&path) = self.by_address.get(&asked)
                {
                    self.paths[path].note_rtt(rtt);
                    if self.call.is_some() {
                        self.open_leg(path, now);
                    }
                }
            }
            (MessageClass::Success | MessageClass::Error, Direction::Egress)
            | (MessageClass::Indication, _) => {}
        }
    }

    fn path(
        &mut self,
        key: PathKey,
        (local, remote): (SocketAddr, SocketAddr),
        now: Moment,
    ) -> Option<usize> {
        if let Some(&known) = self.by_address.get(&key) {
            return Some(known);
        }
        if self.paths.len() >= PATHS_MAX {
            let idlest = (0..self.paths.len())
                .filter(|&n| !self.paths[n].is_leg())
                .min_by_key(|&n| self.paths[n].last_at());
            let Some(idlest) = idlest else {
                self.counters.paths_refused += 1;
                return None;
            };
            self.forget(idlest);
            self.counters.paths_evicted += 1;
        }
        self.paths.push(Path::new(local, remote, now));
        self.by_address.insert(key, self.paths.len() - 1);
        if self.housekeeping.is_none() {
            self.housekeeping = Some(now + HOUSEKEEPING);
            self.due = self.due.min(now + HOUSEKEEPING);
        }
        Some(self.paths.len() - 1)
    }

    /// Gives up a path that is no leg.
    fn forget(&mut self, path: usize) {
        let (local, remote) = self.paths[path].addresses();
        self.by_address.remove(&PathKey::new(local, remote));
        self.paths.swap_remove(path);
        let moved_from = self.paths.len();
        if let Some(moved) = self.paths.get(path) {
            let (local, remote) = moved.addresses();
            self.by_address.insert(PathKey::new(local, remote), path);
        }
        if let Some(call) = &mut self.call {
            for leg in call.legs.iter_mut().filter(|leg| **leg == moved_from) {
                *leg = path;
            }
        }
    }

    fn open_call(&mut self, path: usize, at: Moment) {
        if self.call.is_some() {
            return;
        }
        let id = self.next_id();
        let purpose = if self.paths[path].is_rehearsal() {
            CallPurpose::Rehearsal
        } else {
            CallPurpose::Meeting
        };
        self.call = Some(Call { id, opened: at, legs: Vec::new() });
        self.events.push_back(Event::CallOpened { call: id, at, purpose });
        self.open_leg(path, at);
        // Paths that were checked just before belong to the call too: relays, other candidates.
        let recent =
            |path: &Path| path.is_answered() && at.since(path.last_at()) < self.options.call_idle;
        let checked: Vec<_> = (0..self.paths.len()).filter(|&n| recent(&self.paths[n])).collect();
        for path in checked {
            self.open_leg(path, at);
        }
    }

    fn open_leg(&mut self, path: usize, at: Moment) {
        let Some(call) = &mut self.call else {
            return;
        };
        let place = &mut self.paths[path];
        if place.is_leg() {
            return;
        }
        let leg = LegNumber(u16::try_from(call.legs.len()).unwrap_or(u16::MAX));
        let at = at.max(call.opened);
        call.legs.push(path);
        place.open_leg(leg, at, self.tap_dropped);
        let (local, remote) = place.addresses();
        let transport = place.transport();
        let call = call.id;
        self.events.push_back(Event::LegOpened { call, leg, at, local, remote, transport });
        self.due = self.due.min(at + leg::INTERVAL);
    }

    /// SplitMix64: every id is drawn once from the seed's sequence.
    fn next_id(&mut self) -> CallId {
        self.ids = self.ids.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.ids;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        CallId(z ^ (z >> 31))
    }

    /// Does what is due at `now`: ends intervals, silent legs and the call, forgets idle paths.
    pub fn handle_timeout(&mut self, now: Moment) {
        if now < self.due {
            return;
        }
        if self.call_is_over(now) {
            self.close_call(CallCloseReason::Idle);
        } else {
            self.end_intervals(now);
            self.report_silent_legs(now);
        }
        if self.housekeeping.is_some_and(|at| now >= at) {
            self.keep_house(now);
        }
        self.due = self.next_due(now);
    }

    fn call_is_over(&self, now: Moment) -> bool {
        self.last_of_call().is_some_and(|last| now.since(last) >= self.options.call_idle)
    }

    /// The latest packet on any leg with media of the open call.
    fn last_of_call(&self) -> Option<Moment> {
        let call = self.call.as_ref()?;
        let legs = call.legs.iter().map(|&leg| &self.paths[leg]);
        legs.filter(|path| path.has_streams()).map(Path::last_at).max().or(Some(call.opened))
    }

    fn end_intervals(&mut self, now: Moment) {
        let Some(call) = &self.call else {
            return;
        };
        for &leg in &call.legs {
            let path = &mut self.paths[leg];
            while let Some(end) = path.interval_ends().filter(|end| *end <= now) {
                if let Some(report) = path.take_interval(end, self.tap_dropped) {
                    self.events.push_back(Event::Interval { call: call.id, report });
                }
            }
        }
    }

    fn report_silent_legs(&mut self, now: Moment) {
        let Some(call) = &self.call else {
            return;
        };
        for &leg in &call.legs {
            let path = &mut self.paths[leg];
            if path.has_news()
                && now.since(path.last_at()) >= self.options.call_idle
                && let Some(report) = path.take_report(self.tap_dropped)
            {
                self.events.push_back(Event::LegSummary { call: call.id, report });
            }
        }
    }

    fn close_call(&mut self, reason: CallCloseReason) {
        let Some(at) = self.last_of_call() else {
            return;
        };
        // What is over by the call's own last packet is reported as whole intervals first.
        self.end_intervals(at);
        let Some(call) = self.call.take() else {
            return;
        };
        for &leg in &call.legs {
            let path = &mut self.paths[leg];
            if let Some(report) = path.take_interval(at, self.tap_dropped) {
                self.events.push_back(Event::Interval { call: call.id, report });
            }
            if path.has_news()
                && let Some(report) = path.take_report(self.tap_dropped)
            {
                self.events.push_back(Event::LegSummary { call: call.id, report });
            }
        }
        let legs = u16::try_from(call.legs.len()).unwrap_or(u16::MAX);
        self.events.push_back(Event::CallClosed { call: call.id, at, reason, legs });
        // A later packet on the same addresses opens another call with counts of its own.
        for &leg in &call.legs {
            let (local, remote) = self.paths[leg].addresses();
            self.paths[leg] = Path::new(local, remote, at);
        }
    }

    fn keep_house(&mut self, now: Moment) {
        let (paths, by_address) = (&mut self.paths, &self.by_address);
        self.transactions.expire(now, |key| {
            if let Some(&path) = by_address.get(&key) {
                paths[path].note_unanswered();
            }
        });
        let mut n = 0;
        while n < self.paths.len() {
            let path = &self.paths[n];
            if !path.is_leg() && now.since(path.last_at()) >= PATH_IDLE {
                self.forget(n);
            } else {
                n += 1;
            }
        }
        self.housekeeping = (!self.paths.is_empty()).then_some(now + HOUSEKEEPING);
    }

    fn next_due(&self, now: Moment) -> Moment {
        let mut due = self.housekeeping.unwrap_or(Moment::from_nanos(u64::MAX));
        if let Some(call) = &self.call {
            for &leg in &call.legs {
                if let Some(end) = self.paths[leg].interval_ends() {
                    due = due.min(end);
                }
            }
            if let Some(last) = self.last_of_call() {
                due = due.min(last + self.options.call_idle);
            }
        }
        due.max(now)
    }

    /// When the watch wants `handle_timeout`, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let reason = if self.call.is_some() { "interval or end of call" } else { "housekeeping" };
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

    /// Ends what is open: the agent stops, or the capture is over.
    pub fn finish(&mut self) {
        self.close_call(CallCloseReason::AgentStopped);
        self.due = self.next_due(Moment::ORIGIN);
    }

    /// Replaces the endpoint's own addresses, as when an interface came up.
    pub fn set_local(&mut self, local: Vec<IpAddr>) {
        self.options.local = local;
    }

    /// What was not measured, and why.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
