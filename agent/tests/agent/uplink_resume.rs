//! The exchange against a model collector over a link that cuts anywhere: whatever breaks, each record arrives at least
//! once, is forgotten only after it was stored, and none leaves before a Welcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use roomtone_agent::clock::Moment;
use roomtone_agent::uplink::cause::Cause;
use roomtone_agent::uplink::exchange::{Event, Exchange, Held, Limits, Position};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed};
use roomtone_protocol::control::Control;
use roomtone_protocol::frame::{decode, encode_link, encode_record};
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

/// What happens next in the story.
#[derive(Debug, Clone)]
enum Action {
    /// The agent writes this many records.
    Append(u8),
    /// The spool begins a new epoch.
    NewEpoch,
    /// This many bytes go up.
    Up(u16),
    /// This many bytes come down.
    Down(u16),
    /// The collector commits all that it received, and acknowledges.
    Commit,
    /// The collector restarts: bytes under way are lost, and so is what it had not committed.
    Cut,
    /// The collector loses its whole store, as with a new disk.
    LoseStore,
    /// The collector says that it goes away.
    GoingAway,
    /// The collector refuses the next Hello.
    RefuseNext,
    /// Time goes by, in seconds.
    Wait(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1u8..40).prop_map(Action::Append),
        1 => Just(Action::NewEpoch),
        8 => (1u16..4000).prop_map(Action::Up),
        6 => (1u16..400).prop_map(Action::Down),
        5 => Just(Action::Commit),
        2 => Just(Action::Cut),
        1 => Just(Action::LoseStore),
        1 => Just(Action::GoingAway),
        1 => Just(Action::RefuseNext),
        3 => (1u8..70).prop_map(Action::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_record_arrives_and_is_forgotten_only_once_stored(
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.settle();
        }
        world.heal();
        prop_assert_eq!(world.backlog.held(), 0, "all acknowledged once the link is well");
        prop_assert!(world.delivered.is_superset(&world.backlog.written));
    }
}

struct World {
    now: Moment,
    exchange: Exchange,
    backlog: Backlog,
    /// `None` while there is no connection.
    wire: Option<Wire>,
    /// Bytes that the exchange gave out and the wire did not take yet.
    outbox: VecDeque<u8>,
    stored: BTreeSet<RecordId>,
    delivered: BTreeSet<RecordId>,
    refuse_next: bool,
}

/// One connection: bytes under way, and what the collector knows of it.
#[derive(Default)]
struct Wire {
    up: Vec<u8>,
    down: VecDeque<u8>,
    greeted: bool,
    /// The agent has the Welcome.
    welcomed: bool,
    received: BTreeSet<RecordId>,
    acked: BTreeMap<Epoch, Sequence>,
    /// The oldest record of the Hello's epoch: below it the agent has nothing to send.
    floor: Option<(Epoch, Sequence)>,
}

/// A spool in memory: epochs in order, each a run of numbers.
struct Backlog {
    epochs: Vec<(Epoch, u32, u32)>,
    written: BTreeSet<RecordId>,
}

impl Backlog {
    fn append(&mut self) {
        let (epoch, _, newest) = self.epochs.last_mut().unwrap();
        self.written.insert(RecordId { epoch: *epoch, sequence: Sequence(*newest) });
        *newest += 1;
    }

    fn new_epoch(&mut self) {
        // Descending on purpose: epochs are random, and nothing may rely on their order.
        let epoch = Epoch(u32::MAX - self.epochs.len() as u32);
        self.epochs.push((epoch, 0, 0));
    }

    fn held(&self) -> u32 {
        self.epochs.iter().map(|(_, oldest, newest)| newest - oldest).sum()
    }

    fn position(&self) -> Position {
        let (epoch, _, newest) = *self.epochs.last().unwrap();
        Position { epoch, sequence: Sequence(newest) }
    }

    fn oldest(&self) -> Position {
        self.epochs
            .iter()
            .find(|(_, oldest, newest)| oldest < newest)
            .map(|(epoch, oldest, _)| Position { epoch: *epoch, sequence: Sequence(*oldest) })
            .unwrap_or(self.position())
    }

    fn read(&self, from: Position, bytes_max: usize) -> (Vec<u8>, Position) {
        let mut bytes = Vec::new();
        let start = self.epochs.iter().position(|(epoch, ..)| *epoch == from.epoch).unwrap();
        let mut behind = from;
        for (epoch, oldest, newest) in &self.epochs[start..] {
            let first = if *epoch == from.epoch { from.sequence.0 } else { *oldest };
            behind = Position { epoch: *epoch, sequence: Sequence(first) };
            for number in first.max(*oldest)..*newest {
                let id = RecordId { epoch: *epoch, sequence: Sequence(number) };
                let frame = record(id);
                if bytes.len() + frame.len() > bytes_max {
                    return (bytes, behind);
                }
                bytes.extend(frame);
                behind.sequence = Sequence(number + 1);
            }
        }
        (bytes, behind)
    }

    fn acknowledge(&mut self, ack: Ack, stored: &BTreeSet<RecordId>) {
        let (epoch, oldest, newest) =
            self.epochs.iter_mut().find(|(epoch, ..)| *epoch == ack.epoch).unwrap();
        assert!(ack.next.0 <= *newest, "acknowledged beyond what was written");
        for number in *oldest..ack.next.0 {
            let id = RecordId { epoch: *epoch, sequence: Sequence(number) };
            assert!(stored.contains(&id), "{id:?} would be forgotten and is not stored");
        }
        *oldest = (*oldest).max(ack.next.0);
    }
}

impl World {
    fn new() -> Self {
        let mut backlog = Backlog { epochs: Vec::new(), written: BTreeSet::new() };
        backlog.new_epoch();
        Self {
            now: Moment::ORIGIN,
            // A small window, so that it closes often.
            exchange: Exchange::new(
                EndpointId([1; 16]),
                Limits { window_bytes: FRAME_BYTES_MAX + 600, ..Limits::default() },
                Moment::ORIGIN,
            ),
            backlog,
            wire: None,
            outbox: VecDeque::new(),
            stored: BTreeSet::new(),
            delivered: BTreeSet::new(),
            refuse_next: false,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append(count) => {
                (0..count).for_each(|_| self.backlog.append());
                self.exchange.handle_appended();
            }
            Action::NewEpoch => self.backlog.new_epoch(),
            Action::Up(count) => self.up(usize::from(count)),
            Action::Down(count) => self.down(usize::from(count)),
            Action::Commit => self.commit(),
            Action::Cut => self.cut(),
            Action::LoseStore => {
                self.cut();
                self.stored.clear();
            }
            Action::GoingAway => self.tell(&Message::Control(Control::GoingAway)),
            Action::RefuseNext => self.refuse_next = true,
            Action::Wait(seconds) => self.now = self.now + Duration::from_secs(seconds.into()),
        }
    }

    /// Plays the shell until nothing moves without bytes or time.
    fn settle(&mut self) {
        loop {
            if self.exchange.poll_timeout().is_some_and(|(due, _)| due <= self.now) {
                self.exchange.handle_timeout(self.now);
            }
            let Some(event) = self.exchange.poll_event() else {
                if self.refill() { continue } else { break }
            };
            match event {
                Event::Connect => {
                    self.wire = Some(Wire::default());
                    let held =
                        Held { oldest: self.backlog.oldest(), newest: self.backlog.position() };
                    let stamp = Stamp { wall_us: 0, uptime_us: self.now.as_micros() };
                    self.exchange.handle_connected(held, stamp, self.now);
                }
                Event::Acknowledged(ack) => self.backlog.acknowledge(ack, &self.stored),
                Event::Close(cause) => {
                    assert!(
                        !matches!(cause, Cause::Violation(_) | Cause::CollectorAhead { .. }),
                        "{cause}"
                    );
                    self.cut();
                }
                Event::Welcomed { .. } => self.wire.as_mut().unwrap().welcomed = true,
                Event::CollectorBehind { .. } | Event::Requested(_) | Event::Configured(_) => {}
                Event::RenewFirst { .. } | Event::Renewed(_) => unreachable!("nobody renews here"),
            }
        }
    }

    /// Takes the next bytes to send; whether the exchange may have more to say.
    fn refill(&mut self) -> bool {
        if !self.outbox.is_empty() {
            return false;
        }
        if let Some(hello) = self.exchange.poll_transmit() {
            self.outbox.extend(hello);
            return false;
        }
        let Some(want) = self.exchange.poll_want() else { return false };
        assert!(self.wire.as_ref().unwrap().welcomed, "records are wanted before the Welcome");
        let (bytes, behind) = self.backlog.read(want.from, want.bytes_max);
        let length = self.exchange.handle_read(&bytes, behind, self.now);
        assert_eq!(length, bytes.len());
        self.outbox.extend(bytes);
        true
    }

    /// Lets all that is left come through: no more faults.
    fn heal(&mut self) {
        self.refuse_next = false;
        // Each round brings a window of at least 600 bytes; a record has 40. 4,800 records need 320 rounds, and
        // back-off and watchdogs a few more.
        for _ in 0..1000 {
            self.up(usize::MAX);
            self.commit();
            self.down(usize::MAX);
            self.settle();
            let idle = self.outbox.is_empty() && self.wire.as_ref().is_none_or(|w| w.up.is_empty());
            if let (true, Some((due, _))) = (idle, self.exchange.poll_timeout()) {
                self.now = self.now.max(due);
                self.settle();
            }
        }
    }

    fn cut(&mut self) {
        self.wire = None;
        self.outbox.clear();
        // Three quarters of the span: every pause is seen, none is the whole.
        self.exchange.handle_disconnected(u64::MAX / 4 * 3, self.now);
    }

    fn up(&mut self, count: usize) {
        let Some(wire) = &mut self.wire else { return };
        let count = count.min(self.outbox.len());
        wire.up.extend(self.outbox.drain(..count));
        let mut replies = Vec::new();
        while let Ok((frame, length)) = decode(&wire.up) {
            wire.up.drain(..length);
            match frame.message.unwrap() {
                Message::Hello(hello) if self.refuse_next => {
                    assert!(!wire.greeted, "{hello:?} came twice");
                    self.refuse_next = false;
                    replies.push(Message::HelloReply(HelloReply::Refused {
                        reason: RefuseReason::Busy,
                        detail: heapless::String::new(),
                    }));
                }
                Message::Hello(hello) => {
                    assert!(!wire.greeted, "{hello:?} came twice");
                    wire.greeted = true;
                    wire.floor = Some((hello.epoch, hello.oldest));
                    let next = watermark(&self.stored, hello.epoch, Sequence(0));
                    replies.push(Message::HelloReply(HelloReply::Welcome {
                        wire: 1,
                        collector_version: heapless::String::new(),
                        next,
                        wall_us: 0,
                    }));
                }
                Message::Record(_) => {
                    assert!(wire.greeted, "a record before the Welcome");
                    self.delivered.insert(frame.header.id);
                    wire.received.insert(frame.header.id);
                }
                other @ (Message::HelloReply(_)
                | Message::Ack(_)
                | Message::Control(_)
                | Message::EnrollRequest(_)
                | Message::EnrollReply(_)
                | Message::RenewRequest(_)
                | Message::RenewReply(_)
                | Message::Configuration(_)
                | Message::EffectiveConfiguration(_)
                | Message::Health(_)) => {
                    panic!("the agent sent {other:?}")
                }
            }
        }
        for reply in replies {
            self.tell(&reply);
        }
    }

    fn down(&mut self, count: usize) {
        let Some(wire) = &mut self.wire else { return };
        let count = count.min(wire.down.len());
        let bytes: Vec<u8> = wire.down.drain(..count).collect();
        self.exchange.handle_bytes(&bytes, self.now);
    }

    fn commit(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        self.stored.extend(wire.received.iter().copied());
        let epochs: BTreeSet<Epoch> = wire.received.iter().map(|id| id.epoch).collect();
        let mut acks = Vec::new();
        for epoch in epochs {
            // What the agent does not hold any more will not come; below the Hello's oldest there is nothing to wait
            // for.
            let floor = wire.floor.filter(|(e, _)| *e == epoch).map_or(Sequence(0), |(_, s)| s);
            let next = watermark(&self.stored, epoch, floor);
            if wire.acked.insert(epoch, next) != Some(next) {
                acks.push(Message::Ack(Ack { epoch, next }));
            }
        }
        for ack in acks {
            self.tell(&ack);
        }
    }

    fn tell(&mut self, message: &Message) {
        if let Some(wire) = &mut self.wire
            && (wire.greeted || matches!(message, Message::HelloReply(_)))
        {
            let mut frame = [0; FRAME_BYTES_MAX];
            let length = encode_link(message, &mut frame).unwrap();
            wire.down.extend(&frame[..length]);
        }
    }
}

/// The first number from `floor` on that is not stored.
fn watermark(stored: &BTreeSet<RecordId>, epoch: Epoch, floor: Sequence) -> Sequence {
    let from = RecordId { epoch, sequence: floor };
    let run = stored
        .range(from..)
        .zip(floor.0..)
        .take_while(|(id, number)| id.epoch == epoch && id.sequence.0 == *number)
        .count();
    Sequence(floor.0 + run as u32)
}

fn record(id: RecordId) -> Vec<u8> {
    let record = Record::CallClosed(CallClosed {
        call: CallId(u64::from(id.sequence.0)),
        closed: Stamp { wall_us: 0, uptime_us: 0 },
        reason: CallCloseReason::Idle,
        legs: 0,
    });
    let mut frame = [0; FRAME_BYTES_MAX];
    let length = encode_record(id, record, &mut frame).unwrap();
    frame[..length].to_vec()
}
